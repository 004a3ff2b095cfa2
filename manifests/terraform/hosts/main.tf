data "aws_region" "current" {}
data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}

locals {
  arn_prefix = "${data.aws_region.current.name}:${data.aws_caller_identity.current.account_id}"
}

data "aws_iam_policy_document" "trust" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "host" {
  name               = "${var.name}-host"
  assume_role_policy = data.aws_iam_policy_document.trust.json
}

# What a host may: read its certificate, fetch its programs, and say that it has drained.
data "aws_iam_policy_document" "host" {
  statement {
    sid       = "SayThatItHasDrained"
    actions   = ["autoscaling:CompleteLifecycleAction", "autoscaling:RecordLifecycleActionHeartbeat"]
    resources = ["arn:${data.aws_partition.current.partition}:autoscaling:${local.arn_prefix}:autoScalingGroup:*:autoScalingGroupName/${var.auto_scaling_group}"]
  }
  statement {
    sid       = "ReadCertificate"
    actions   = ["ssm:GetParameter"]
    resources = ["arn:${data.aws_partition.current.partition}:ssm:${local.arn_prefix}:parameter${var.tls_parameter_prefix}/*"]
  }
  dynamic "statement" {
    for_each = var.tls_kms_key_arn == "" ? [] : [var.tls_kms_key_arn]
    content {
      sid       = "DecryptCertificate"
      actions   = ["kms:Decrypt"]
      resources = [statement.value]
    }
  }
  dynamic "statement" {
    for_each = length(var.artifact_bucket_arns) == 0 ? [] : [var.artifact_bucket_arns]
    content {
      sid       = "FetchPrograms"
      actions   = ["s3:GetObject"]
      resources = [for arn in statement.value : "${arn}/*"]
    }
  }
}

resource "aws_iam_role_policy" "host" {
  name   = "causeway"
  role   = aws_iam_role.host.id
  policy = data.aws_iam_policy_document.host.json
}

resource "aws_iam_role_policy_attachment" "more" {
  for_each   = toset(var.policy_arns)
  role       = aws_iam_role.host.name
  policy_arn = each.value
}

resource "aws_iam_instance_profile" "host" {
  name = "${var.name}-host"
  role = aws_iam_role.host.name
}

resource "aws_security_group" "host" {
  name        = "${var.name}-host"
  description = "A member of the mesh"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "callers" {
  for_each                     = toset(var.caller_security_groups)
  security_group_id            = aws_security_group.host.id
  description                  = "Callers in the mesh"
  ip_protocol                  = "tcp"
  from_port                    = var.application_port
  to_port                      = var.application_port
  referenced_security_group_id = each.value
}

# Envoy calls pods and instances at their own addresses, and the host fetches its programs.
resource "aws_vpc_security_group_egress_rule" "all" {
  security_group_id = aws_security_group.host.id
  description       = "The mesh, and all that the host calls"
  ip_protocol       = "-1"
  cidr_ipv4         = "0.0.0.0/0"
}

resource "aws_launch_template" "host" {
  name                   = var.name
  image_id               = var.image_id
  instance_type          = var.instance_type == "" ? null : var.instance_type
  update_default_version = true
  vpc_security_group_ids = concat([aws_security_group.host.id], var.security_groups)
  iam_instance_profile {
    arn = aws_iam_instance_profile.host.arn
  }
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required" # version 2 alone, as the agent asks it
    http_put_response_hop_limit = 1          # 2 if containers on the host ask too
    instance_metadata_tags      = "enabled"  # so that the agent knows its auto scaling group
  }
  user_data = base64encode(templatefile("${path.module}/cloud-init.yaml.tftpl", {
    namespace       = var.namespace
    workload        = var.workload
    server          = var.server
    tls_server_name = var.tls_server_name
    tls_prefix      = var.tls_parameter_prefix
    hook            = var.lifecycle_hook
    drain           = var.drain_timeout_seconds
    package_url     = var.package_url
    package_sha256  = var.package_sha256
    envoy_url       = var.envoy_url
    envoy_sha256    = var.envoy_sha256
  }))
}

resource "aws_autoscaling_lifecycle_hook" "drain" {
  name                   = var.lifecycle_hook
  autoscaling_group_name = var.auto_scaling_group
  lifecycle_transition   = "autoscaling:EC2_INSTANCE_TERMINATING"
  heartbeat_timeout      = var.drain_timeout_seconds + 60
  default_result         = "CONTINUE"
}
