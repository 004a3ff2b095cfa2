output "launch_template_id" {
  description = "For the auto scaling group."
  value       = aws_launch_template.host.id
}

output "launch_template_version" {
  description = "Its newest version: a change of it is what an instance refresh follows."
  value       = aws_launch_template.host.latest_version
}

output "security_group_id" {
  description = "Of the hosts."
  value       = aws_security_group.host.id
}

output "role_name" {
  description = "The hosts' role, for more policies."
  value       = aws_iam_role.host.name
}
