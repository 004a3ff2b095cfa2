output "server" {
  description = "Where hosts reach xDS: server of /etc/causeway/agent.yaml."
  value       = "${var.zone_id == "" ? aws_lb.xds.dns_name : var.xds_name}:${var.xds_port}"
}

output "target_group_arn" {
  description = "For a TargetGroupBinding, or for attachments of instances."
  value       = aws_lb_target_group.xds.arn
}

output "queue_url" {
  description = "For --ec2-queue of the control plane."
  value       = aws_sqs_queue.events.url
}

output "policy_arn" {
  description = "Attach it to the control plane's role."
  value       = aws_iam_policy.control_plane.arn
}

output "security_group_id" {
  description = "Of the NLB: let it reach the control plane's ports."
  value       = aws_security_group.xds.id
}
