variable "name" {
  description = "What the resources are called."
  type        = string
}

variable "vpc_id" {
  description = "The VPC of the hosts."
  type        = string
}

variable "image_id" {
  description = "AMI with cloud-init, the AWS CLI, and dpkg or rpm: Amazon Linux 2023, Ubuntu, Debian, RHEL 9."
  type        = string
}

variable "instance_type" {
  description = "Type of the instances; empty if the auto scaling group says it (mixed instances)."
  type        = string
  default     = ""
}

variable "namespace" {
  description = "Namespace of the workload in the mesh."
  type        = string
}

variable "workload" {
  description = "Name of the workload in the mesh."
  type        = string
}

variable "server" {
  description = "HOST:PORT of xDS: output server of the module control-plane."
  type        = string
}

variable "tls_server_name" {
  description = "DNS name in the control plane's certificate."
  type        = string
}

variable "tls_parameter_prefix" {
  description = "SSM parameters (SecureString) PREFIX/ca.crt, PREFIX/tls.crt and PREFIX/tls.key with the hosts' certificate."
  type        = string
  validation {
    condition     = startswith(var.tls_parameter_prefix, "/")
    error_message = "Write a path that begins with a slash, for example /causeway/web."
  }
}

variable "tls_kms_key_arn" {
  description = "KMS key of these parameters; empty for AWS' own key for SSM."
  type        = string
  default     = ""
}

variable "package_url" {
  description = "URL of the .deb or .rpm that make package has made, https:// or s3://."
  type        = string
}

variable "package_sha256" {
  description = "Its SHA-256, in hex."
  type        = string
}

variable "envoy_url" {
  description = "URL of Envoy 1.40, the program itself, https:// or s3://; empty if the image has it."
  type        = string
  default     = ""
}

variable "envoy_sha256" {
  description = "Its SHA-256, in hex."
  type        = string
  default     = ""
}

variable "artifact_bucket_arns" {
  description = "ARNs of S3 buckets that s3:// URLs are in."
  type        = list(string)
  default     = []
}

variable "auto_scaling_group" {
  description = "Name of the auto scaling group that uses the launch template, for its hook and the instance profile."
  type        = string
}

variable "lifecycle_hook" {
  description = "Name of the hook that waits until a host that is taken out has drained."
  type        = string
  default     = "causeway-drain"
}

variable "drain_timeout_seconds" {
  description = "How long a host has to drain. Auto Scaling waits a minute longer, for hosts that cannot say that they have."
  type        = number
  default     = 60
}

variable "application_port" {
  description = "Port of the application that callers in the mesh reach."
  type        = number
  default     = 80
}

variable "caller_security_groups" {
  description = "Security groups of callers, and of the control plane if it checks health."
  type        = list(string)
  default     = []
}

variable "security_groups" {
  description = "More security groups of the hosts."
  type        = list(string)
  default     = []
}

variable "policy_arns" {
  description = "More policies of the hosts' role, for what the application needs."
  type        = list(string)
  default     = []
}
