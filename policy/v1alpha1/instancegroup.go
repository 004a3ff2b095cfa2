package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// InstanceGroup is a set of EC2 instances that back a Service.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=ig,categories=causeway
// +kubebuilder:printcolumn:name="Service",type=string,JSONPath=`.spec.serviceRef.name`
// +kubebuilder:printcolumn:name="Desired",type=integer,JSONPath=`.status.instances.desired`
// +kubebuilder:printcolumn:name="Ready",type=integer,JSONPath=`.status.instances.ready`
// +kubebuilder:printcolumn:name="Draining",type=integer,JSONPath=`.status.instances.draining`
// +kubebuilder:printcolumn:name="Fresh",type=string,JSONPath=`.status.conditions[?(@.type=="Fresh")].status`
// +kubebuilder:printcolumn:name="Guard",type=string,JSONPath=`.status.conditions[?(@.type=="GuardEngaged")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="size(self.metadata.name) <= 50",message="metadata.name has more than 50 characters, and labels and the names of EndpointSlices are made of it: shorten it"
type InstanceGroup struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   InstanceGroupSpec   `json:"spec"`
	Status InstanceGroupStatus `json:"status,omitempty"`
}

// InstanceGroupList is a list of InstanceGroups.
//
// +kubebuilder:object:root=true
type InstanceGroupList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []InstanceGroup `json:"items"`
}

// InstanceGroupSpec says which instances back which Service and how callers reach them.
type InstanceGroupSpec struct {
	// ServiceRef names the Service, in the same namespace, that these instances answer for.
	ServiceRef ServiceReference `json:"serviceRef"`

	// Region is the AWS region of the instances, for example ap-northeast-1.
	// +kubebuilder:validation:Pattern=`^[a-z0-9]+(-[a-z0-9]+)+$`
	Region string `json:"region"`

	// RoleARN is the IAM role to assume to see the instances, for those of
	// another account. Without it Causeway uses its own credentials.
	// +optional
	// +kubebuilder:validation:Pattern=`^arn:aws[a-z-]*:iam::\d{12}:role/.+$`
	RoleARN string `json:"roleARN,omitempty"`

	// Selector says which instances belong. Every given field must match.
	Selector InstanceSelector `json:"selector"`

	// Address says which of an instance's addresses callers use.
	// +optional
	// +kubebuilder:default=PrivateIPv4
	Address AddressKind `json:"address,omitempty"`

	// Ports maps the Service's ports to ports on the instances.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +listType=map
	// +listMapKey=name
	Ports []InstancePort `json:"ports"`

	// HealthCheck probes the instances, because they run no agent that would
	// know better. Without it EC2's and the auto scaling group's word counts.
	// +optional
	HealthCheck *HealthCheck `json:"healthCheck,omitempty"`

	// RemovalGuard holds back an answer of the EC2 API that would remove
	// too many instances at once.
	// +optional
	// +kubebuilder:default={}
	RemovalGuard RemovalGuard `json:"removalGuard,omitempty"`

	// Spot weighs Spot instances against the others within a zone:
	// Prefer 4:1, Same 1:1, Avoid 1:4.
	// +optional
	// +kubebuilder:default=Same
	Spot SpotPreference `json:"spot,omitempty"`
}

// ServiceReference names a Service in the namespace of the object that refers to it.
type ServiceReference struct {
	// Name of the Service.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`
}

// InstanceSelector selects EC2 instances.
//
// +kubebuilder:validation:XValidation:rule="(has(self.autoScalingGroups) && size(self.autoScalingGroups) > 0) || (has(self.tags) && size(self.tags) > 0)",message="it is empty and would take every instance of the account: give autoScalingGroups, tags or both"
type InstanceSelector struct {
	// AutoScalingGroups lists names of auto scaling groups; an instance
	// matches that is in any of them.
	// +optional
	// +kubebuilder:validation:MaxItems=32
	// +listType=set
	AutoScalingGroups []string `json:"autoScalingGroups,omitempty"`

	// Tags must all be on the instance with exactly these values.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	Tags map[string]string `json:"tags,omitempty"`
}

// AddressKind is one of an instance's addresses.
//
// +kubebuilder:validation:Enum=PrivateIPv4;IPv6
type AddressKind string

// The addresses of an instance that callers may use.
const (
	PrivateIPv4 AddressKind = "PrivateIPv4"
	IPv6        AddressKind = "IPv6"
)

// InstancePort maps a port of the Service to a port on the instances.
type InstancePort struct {
	// Name is the Service port's name; empty for the only port of a Service that names none.
	// +optional
	// +kubebuilder:default=""
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`
	// Port is where the instances listen.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`
}

// HealthCheck is an active check of each instance.
type HealthCheck struct {
	// HTTP asks for a path and takes any 2xx or 3xx as healthy. Without it the check is a TCP connect.
	// +optional
	HTTP *HTTPHealthCheck `json:"http,omitempty"`
	// Port is the port to check. Default: the first of the group's ports.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port,omitempty"`
	// Interval between two checks of an instance.
	// +optional
	// +kubebuilder:default="5s"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('5m')",message="it is out of bounds: write 1s to 5m"
	Interval metav1.Duration `json:"interval,omitempty"`
	// Timeout of one check.
	// +optional
	// +kubebuilder:default="1s"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('10ms') && duration(self) <= duration('1m')",message="it is out of bounds: write 10ms to 1m"
	Timeout metav1.Duration `json:"timeout,omitempty"`
	// UnhealthyThreshold is how many failed checks in a row make an instance unhealthy.
	// +optional
	// +kubebuilder:default=2
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10
	UnhealthyThreshold int32 `json:"unhealthyThreshold,omitempty"`
	// HealthyThreshold is how many passed checks in a row make an unhealthy instance healthy again.
	// +optional
	// +kubebuilder:default=2
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10
	HealthyThreshold int32 `json:"healthyThreshold,omitempty"`
}

// HTTPHealthCheck is the request of an HTTP health check.
type HTTPHealthCheck struct {
	// Path to ask for, for example /healthz.
	// +kubebuilder:validation:Pattern=`^/[!-~]*$`
	// +kubebuilder:validation:MaxLength=1024
	Path string `json:"path"`
	// Host header to send. Default: the Service's name.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[!-~]*$`
	Host string `json:"host,omitempty"`
}

// RemovalGuard is the never-empty guard's setting.
type RemovalGuard struct {
	// MaxPercent of the group's instances, but at least one, may disappear
	// within five minutes without a second source that agrees.
	// +optional
	// +kubebuilder:default=30
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	MaxPercent *int32 `json:"maxPercent,omitempty"`
}

// SpotPreference weighs Spot instances against the others.
//
// +kubebuilder:validation:Enum=Prefer;Same;Avoid
type SpotPreference string

// The preferences for Spot instances: weights 4:1, 1:1 and 1:4 within a zone.
const (
	SpotPrefer SpotPreference = "Prefer"
	SpotSame   SpotPreference = "Same"
	SpotAvoid  SpotPreference = "Avoid"
)

// InstanceGroupStatus is what Causeway observed of the group.
type InstanceGroupStatus struct {
	// +optional
	Instances InstanceCounts `json:"instances,omitempty"`
	// LastSync is when the EC2 API last gave a whole answer about this group.
	// It is written at most once a minute.
	// +optional
	LastSync *metav1.Time `json:"lastSync,omitempty"`
	// Account is the number of the AWS account that the instances are of, as the EC2 API said. A
	// new leader starts from it: an answer of another account is an error.
	// +optional
	Account string `json:"account,omitempty"`
	// Conditions are Accepted, ResolvedRefs, Serving, Fresh and GuardEngaged.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// InstanceCounts counts the instances of a group.
type InstanceCounts struct {
	// Desired capacity of the group's auto scaling groups in instances, also where these count by
	// weights, or the number of instances found where there is no group.
	Desired int32 `json:"desired"`
	// Ready instances get requests.
	Ready int32 `json:"ready"`
	// Draining instances finish what they have and get nothing new.
	Draining int32 `json:"draining"`
	// Spot instances among all that were found.
	Spot int32 `json:"spot"`
}

// Condition types and reasons of an InstanceGroup.
const (
	ConditionAccepted     = "Accepted"
	ConditionResolvedRefs = "ResolvedRefs"
	ConditionServing      = "Serving"
	ConditionFresh        = "Fresh"
	ConditionGuardEngaged = "GuardEngaged"
)

var _ = kind(&InstanceGroup{}, &InstanceGroupList{})
