variable "name" {
  description = "What the resources are called."
  type        = string
  default     = "causeway"
}

variable "vpc_id" {
  description = "The VPC of the NLB."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets of the NLB, one in each zone that has hosts."
  type        = list(string)
}

variable "clients" {
  description = "CIDRs of the hosts that may reach the xDS port. Which certificate may be which proxy is said by the client rules."
  type        = list(string)
}

variable "target_type" {
  description = "ip for pods behind a TargetGroupBinding of the AWS Load Balancer Controller, instance for a control plane on EC2."
  type        = string
  default     = "ip"
  validation {
    condition     = contains(["ip", "instance"], var.target_type)
    error_message = "Write ip or instance."
  }
}

variable "xds_port" {
  description = "The port of xDS, --xds-listen of the control plane."
  type        = number
  default     = 18000
}

variable "health_port" {
  description = "The port of /readyz, --http-listen of the control plane."
  type        = number
  default     = 8080
}

variable "zone_id" {
  description = "Private Route 53 zone for xds_name; empty for no record."
  type        = string
  default     = ""
}

variable "xds_name" {
  description = "DNS name by which hosts reach xDS. The control plane's certificate has to have it."
  type        = string
  default     = "causeway.internal"
}

variable "queue_retention_seconds" {
  description = "For how long an event is kept. Older ones mean nothing: sweeps know."
  type        = number
  default     = 600
}
