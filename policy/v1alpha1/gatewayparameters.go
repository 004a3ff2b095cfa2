package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// GatewayParameters says how a Gateway gets its proxies in Kubernetes. A
// GatewayClass names one in spec.parametersRef, for all its Gateways, and a Gateway one
// of its namespace in spec.infrastructure.parametersRef.
//
// Fields of spec are effective one by one: what the Gateway's says comes before what
// its class' says. Without `managed: true` at one of them nothing is made.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=gatewayparameters,shortName=gwparams,categories=causeway
// +kubebuilder:printcolumn:name="Managed",type=boolean,JSONPath=`.spec.managed`
// +kubebuilder:printcolumn:name="Workload",type=string,JSONPath=`.spec.workload`,priority=1
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].reason`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type GatewayParameters struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   GatewayParametersSpec `json:"spec"`
	Status PolicyStatus          `json:"status,omitempty"`
}

// GatewayParametersList is a list of GatewayParameters.
//
// +kubebuilder:object:root=true
type GatewayParametersList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []GatewayParameters `json:"items"`
}

// GatewayParametersSpec says how a Gateway gets its proxies. An absent field says nothing.
//
// +kubebuilder:validation:XValidation:rule="!has(self.autoscaling) || !has(self.replicas)",message="both replicas and autoscaling say how many proxies there are: remove one"
// +kubebuilder:validation:XValidation:rule="!has(self.workload) || self.workload != 'DaemonSet' || (!has(self.autoscaling) && !has(self.replicas))",message="a DaemonSet has one proxy on each node: remove replicas and autoscaling, or workload"
type GatewayParametersSpec struct {
	// Managed is true if Gateways with these parameters get their proxies by
	// themselves: a workload, a Service, a service account, a disruption budget and an
	// autoscaler, which go with the Gateway. The annotation mesh.causeway.dev/managed:
	// "false" of a Gateway comes before it. What was made stays when it becomes false.
	// Default: false, so that proxies that somebody else runs stay the only ones.
	// +optional
	Managed *bool `json:"managed,omitempty"`
	// Image has the agent and Envoy (make image-agent). Required at the Gateway or its class.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:Pattern=`^[a-zA-Z0-9][!-~]*$`
	Image string `json:"image,omitempty"`
	// ImagePullPolicy says when a node pulls the image. Default: Kubernetes' own.
	// +optional
	// +kubebuilder:validation:Enum=Always;IfNotPresent;Never
	ImagePullPolicy corev1.PullPolicy `json:"imagePullPolicy,omitempty"`
	// ImagePullSecrets name Secrets of the Gateway's namespace with the registry's credentials.
	// +optional
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:MaxLength=253
	// +listType=set
	ImagePullSecrets []string `json:"imagePullSecrets,omitempty"`
	// Workload is the kind of what runs the proxies. Another one is made before the
	// former one goes. Default: Deployment.
	// +optional
	Workload GatewayWorkload `json:"workload,omitempty"`
	// Replicas is how many proxies a Deployment has. Default: 2, without autoscaling.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	Replicas *int32 `json:"replicas,omitempty"`
	// Autoscaling has a HorizontalPodAutoscaler say how many proxies a Deployment has.
	// +optional
	Autoscaling *GatewayAutoscaling `json:"autoscaling,omitempty"`
	// Resources of a proxy. Default: 500m CPU and 256Mi memory are requested, and memory is limited to 1Gi.
	// +optional
	Resources *GatewayResources `json:"resources,omitempty"`
	// Service is about the Service in front of the proxies.
	// +optional
	Service *GatewayService `json:"service,omitempty"`
	// Scheduling says on which nodes proxies run.
	// +optional
	Scheduling *GatewayScheduling `json:"scheduling,omitempty"`
	// Drain says how a proxy ends.
	// +optional
	Drain *GatewayDrain `json:"drain,omitempty"`
	// TLSSecret is the name of a Secret of the Gateway's namespace with tls.crt, tls.key
	// and ca.crt: the proxies' identity, which a client rule has to let be a gateway
	// of the namespace. Default: none. Then the proxies prove themselves by the token of
	// the service account that is made for them, and need no rule.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	TLSSecret string `json:"tlsSecret,omitempty"`
}

// GatewayWorkload is a kind of workload.
//
// +kubebuilder:validation:Enum=Deployment;DaemonSet
type GatewayWorkload string

// The kinds of workloads.
const (
	GatewayDeployment GatewayWorkload = "Deployment"
	GatewayDaemonSet  GatewayWorkload = "DaemonSet"
)

// GatewayAutoscaling bounds how many proxies there are.
//
// +kubebuilder:validation:XValidation:rule="self.minReplicas <= self.maxReplicas",message="minReplicas is more than maxReplicas: correct one of them"
type GatewayAutoscaling struct {
	// MinReplicas is the least number of proxies.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	MinReplicas int32 `json:"minReplicas"`
	// MaxReplicas is the most.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	MaxReplicas int32 `json:"maxReplicas"`
	// CPUUtilization is the use of the requested CPU, in percent, that is aimed at. Default: 70.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	CPUUtilization *int32 `json:"cpuUtilization,omitempty"`
}

// GatewayResources are the resources of a proxy.
type GatewayResources struct {
	// Requests are what a node keeps for it.
	// +optional
	Requests corev1.ResourceList `json:"requests,omitempty"`
	// Limits are the most that it may use.
	// +optional
	Limits corev1.ResourceList `json:"limits,omitempty"`
}

// GatewayService is about the Service in front of the proxies. Its ports are those of the Gateway's listeners.
//
// +kubebuilder:validation:XValidation:rule="!has(self.loadBalancerClass) || !has(self.type) || self.type == 'LoadBalancer'",message="only a Service of the type LoadBalancer has a loadBalancerClass: remove it, or correct type"
// +kubebuilder:validation:XValidation:rule="!has(self.externalTrafficPolicy) || !has(self.type) || self.type != 'ClusterIP'",message="a Service of the type ClusterIP has no externalTrafficPolicy: remove it, or correct type"
type GatewayService struct {
	// Type of the Service. The status of the Gateway has the addresses of the load
	// balancer, or else the cluster IPs. Default: LoadBalancer.
	// +optional
	// +kubebuilder:validation:Enum=LoadBalancer;NodePort;ClusterIP
	Type corev1.ServiceType `json:"type,omitempty"`
	// Annotations of the Service, by which controllers of load balancers are configured.
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	Annotations map[string]string `json:"annotations,omitempty"`
	// LoadBalancerClass names who makes the load balancer. It holds for a new Service
	// alone: Kubernetes lets nobody change it. Default: the cluster's own.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	LoadBalancerClass *string `json:"loadBalancerClass,omitempty"`
	// ExternalTrafficPolicy Local has a node send to its own proxies alone, which then see
	// the client's address. Default: Cluster.
	// +optional
	// +kubebuilder:validation:Enum=Cluster;Local
	ExternalTrafficPolicy corev1.ServiceExternalTrafficPolicy `json:"externalTrafficPolicy,omitempty"`
	// SourceRanges are the ranges (CIDR) from which the load balancer takes connections. Default: all.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	// +listType=set
	// +kubebuilder:validation:items:MaxLength=43
	// +kubebuilder:validation:items:XValidation:rule="isCIDR(self)",message="it is not a CIDR range: write, for example, 10.0.0.0/16"
	SourceRanges []string `json:"sourceRanges,omitempty"`
}

// GatewayScheduling says on which nodes proxies run.
type GatewayScheduling struct {
	// NodeSelector has the labels of nodes that proxies may run on. Default: any.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`
	// Tolerations are taints of nodes that do not keep proxies away.
	// +optional
	// +kubebuilder:validation:MaxItems=32
	// +listType=atomic
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`
	// Zones says what becomes of a proxy of a Deployment that cannot be in the zone with
	// the fewest: ScheduleAnyway has it run elsewhere, DoNotSchedule has it wait. Default: ScheduleAnyway.
	// +optional
	Zones GatewaySpread `json:"zones,omitempty"`
	// Nodes says the same of nodes. Default: ScheduleAnyway.
	// +optional
	Nodes GatewaySpread `json:"nodes,omitempty"`
	// PriorityClassName is the pods' priority class. Default: the cluster's own.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	PriorityClassName string `json:"priorityClassName,omitempty"`
}

// GatewaySpread says how strictly proxies are spread.
//
// +kubebuilder:validation:Enum=ScheduleAnyway;DoNotSchedule
type GatewaySpread string

// GatewayDrain says how a proxy ends. Its pod has as long as both together, and 10 s more.
type GatewayDrain struct {
	// HealthWait is how long load balancers need to see that the health check fails:
	// the unhealthy threshold times the interval, and some more. Default: 20s.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('1h')",message="it is not from 0s to 1h: write, for example, 20s"
	HealthWait *metav1.Duration `json:"healthWait,omitempty"`
	// Timeout is how long connections have to end after that. Default: 60s.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('24h')",message="it is not from 0s to 24h: write, for example, 60s"
	Timeout *metav1.Duration `json:"timeout,omitempty"`
}

var _ = kind(&GatewayParameters{}, &GatewayParametersList{})

// StatusConditions implements Conditioned.
func (g *GatewayParameters) StatusConditions() []metav1.Condition { return g.Status.Conditions }
