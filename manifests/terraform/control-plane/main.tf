data "aws_region" "current" {}

# Hosts reach xDS by TCP: TLS is between them and the control plane, whose certificate they check.
resource "aws_security_group" "xds" {
  name        = "${var.name}-xds"
  description = "xDS of Causeway"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "xds" {
  for_each          = toset(var.clients)
  security_group_id = aws_security_group.xds.id
  description       = "Envoys and agents"
  ip_protocol       = "tcp"
  from_port         = var.xds_port
  to_port           = var.xds_port
  cidr_ipv4         = each.value
}

resource "aws_vpc_security_group_egress_rule" "targets" {
  for_each          = toset([tostring(var.xds_port), tostring(var.health_port)])
  security_group_id = aws_security_group.xds.id
  description       = "Replicas of the control plane"
  ip_protocol       = "tcp"
  from_port         = tonumber(each.value)
  to_port           = tonumber(each.value)
  cidr_ipv4         = "0.0.0.0/0"
}

resource "aws_lb" "xds" {
  name                             = "${var.name}-xds"
  internal                         = true
  load_balancer_type               = "network"
  subnets                          = var.subnet_ids
  security_groups                  = [aws_security_group.xds.id]
  enable_cross_zone_load_balancing = true # a zone without a replica has its hosts served too
}

resource "aws_lb_target_group" "xds" {
  name        = "${var.name}-xds"
  vpc_id      = var.vpc_id
  port        = var.xds_port
  protocol    = "TCP"
  target_type = var.target_type
  # A replica that ends closes its streams itself, and agents connect to another one.
  deregistration_delay   = 30
  connection_termination = true
  preserve_client_ip     = false
  health_check {
    protocol            = "HTTP"
    path                = "/readyz"
    port                = var.health_port
    interval            = 10
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }
}

resource "aws_lb_listener" "xds" {
  load_balancer_arn = aws_lb.xds.arn
  port              = var.xds_port
  protocol          = "TCP"
  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.xds.arn
  }
}

resource "aws_route53_record" "xds" {
  count   = var.zone_id == "" ? 0 : 1
  zone_id = var.zone_id
  name    = var.xds_name
  type    = "A"
  alias {
    name                   = aws_lb.xds.dns_name
    zone_id                = aws_lb.xds.zone_id
    evaluate_target_health = false
  }
}

# Events about instances: seconds instead of a sweep's 15, and the only news of Spot for hosts without an agent.
resource "aws_sqs_queue" "events" {
  name                      = "${var.name}-events"
  message_retention_seconds = var.queue_retention_seconds
  sqs_managed_sse_enabled   = true
}

resource "aws_cloudwatch_event_rule" "events" {
  name          = "${var.name}-events"
  description   = "What Causeway reads about instances"
  event_pattern = file("${path.module}/../../iam/event-pattern.json")
}

resource "aws_cloudwatch_event_target" "events" {
  rule = aws_cloudwatch_event_rule.events.name
  arn  = aws_sqs_queue.events.arn
}

data "aws_iam_policy_document" "queue" {
  statement {
    sid       = "EventBridgeDelivers"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.events.arn]
    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com"]
    }
    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [aws_cloudwatch_event_rule.events.arn]
    }
  }
}

resource "aws_sqs_queue_policy" "events" {
  queue_url = aws_sqs_queue.events.url
  policy    = data.aws_iam_policy_document.queue.json
}

# For the control plane's own role: IRSA, EKS Pod Identity or an instance profile.
data "aws_iam_policy_document" "control_plane" {
  statement {
    sid       = "ReadInstances"
    actions   = ["ec2:DescribeInstances", "ec2:DescribeAvailabilityZones", "autoscaling:DescribeAutoScalingGroups"]
    resources = ["*"] # these actions know no resources
    condition {
      test     = "StringEquals"
      variable = "aws:RequestedRegion"
      values   = [data.aws_region.current.name]
    }
  }
  statement {
    sid       = "ReadEvents"
    actions   = ["sqs:ReceiveMessage", "sqs:DeleteMessage"]
    resources = [aws_sqs_queue.events.arn]
  }
}

resource "aws_iam_policy" "control_plane" {
  name        = var.name
  description = "What Causeway's control plane reads"
  policy      = data.aws_iam_policy_document.control_plane.json
}
