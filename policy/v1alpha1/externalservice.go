package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ExternalService is hosts outside the mesh that workloads may call. A
// TrafficPolicy treats it like a Service, and routes may name it as a backend.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=xs,categories=causeway
// +kubebuilder:printcolumn:name="Host",type=string,JSONPath=`.spec.hosts[0]`
// +kubebuilder:printcolumn:name="Resolution",type=string,JSONPath=`.spec.resolution`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].reason`,priority=1
// +kubebuilder:printcolumn:name="Programmed",type=string,JSONPath=`.status.conditions[?(@.type=="Programmed")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ExternalService struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ExternalServiceSpec `json:"spec"`
	Status PolicyStatus        `json:"status,omitempty"`
}

// ExternalServiceList is a list of ExternalServices.
//
// +kubebuilder:object:root=true
type ExternalServiceList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ExternalService `json:"items"`
}

// ExternalServiceSpec says which hosts, and how proxies find and reach them.
//
// +kubebuilder:validation:XValidation:rule="self.resolution != 'Static' || (has(self.endpoints) && size(self.endpoints) > 0)",message="resolution Static has no addresses: give endpoints"
// +kubebuilder:validation:XValidation:rule="self.resolution != 'DNS' || !has(self.endpoints) || size(self.endpoints) == 0",message="endpoints have no effect with resolution DNS: set resolution to Static"
// +kubebuilder:validation:XValidation:rule="self.ports.all(p, !has(p.name) || self.ports.exists_one(q, has(q.name) && q.name == p.name))",message="two ports have the same name: give each its own"
type ExternalServiceSpec struct {
	// Hosts that workloads write, for example api.example.com. No two
	// ExternalServices may have the same, and none may be a Service's name.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +listType=set
	// +kubebuilder:validation:items:MaxLength=253
	// +kubebuilder:validation:items:XValidation:rule="!self.endsWith('.svc.cluster.local') && !self.endsWith('.svc')",message="it is the name of a Service: route to the Service itself"
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)+$`
	Hosts []string `json:"hosts"`
	// Ports that workloads call.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +listType=map
	// +listMapKey=number
	Ports []ExternalPort `json:"ports"`
	// Resolution of the hosts: DNS asks for the first host's addresses, Static
	// takes Endpoints. The addresses of DNS are one endpoint, which each new
	// connection reaches at the newest address, unless a TrafficPolicy has a
	// section about single ones (loadBalancer, outlierDetection, healthCheck):
	// then each is an endpoint of its own.
	// +optional
	// +kubebuilder:default=DNS
	Resolution Resolution `json:"resolution,omitempty"`
	// Endpoints of resolution Static, as IP addresses.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	// +listType=map
	// +listMapKey=address
	Endpoints []ExternalEndpoint `json:"endpoints,omitempty"`
}

// Resolution is how the addresses of hosts are found.
//
// +kubebuilder:validation:Enum=DNS;Static
type Resolution string

// The ways of resolution.
const (
	ResolveDNS    Resolution = "DNS"
	ResolveStatic Resolution = "Static"
)

// ExternalPort is one port of the hosts.
type ExternalPort struct {
	// Number that workloads write.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Number int32 `json:"number"`
	// Name by which a TrafficPolicy's sectionName may mean the port.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name,omitempty"`
	// Protocol that workloads speak on the port.
	// +optional
	// +kubebuilder:default=HTTP
	Protocol ExternalProtocol `json:"protocol,omitempty"`
	// TLS has the proxies speak TLS to the host although workloads do not.
	// +optional
	TLS *UpstreamTLS `json:"tls,omitempty"`
	// TargetPort is the host's port. Default: number.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	TargetPort int32 `json:"targetPort,omitempty"`
}

// ExternalProtocol is what is spoken on a port.
//
// +kubebuilder:validation:Enum=HTTP;HTTP2;TCP
type ExternalProtocol string

// The protocols of an ExternalService's ports.
const (
	ExternalHTTP  ExternalProtocol = "HTTP"
	ExternalHTTP2 ExternalProtocol = "HTTP2"
	ExternalTCP   ExternalProtocol = "TCP"
)

// ExternalEndpoint is where the hosts answer.
type ExternalEndpoint struct {
	// Address is an IP address, v4 or v6.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="isIP(self)",message="it is not an IP address: write one, or use resolution DNS"
	Address string `json:"address"`
	// Zone is the availability zone, if it has one, for example ap-northeast-1a.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Zone string `json:"zone,omitempty"`
}

var _ = kind(&ExternalService{}, &ExternalServiceList{})

// StatusConditions implements Conditioned.
func (e *ExternalService) StatusConditions() []metav1.Condition { return e.Status.Conditions }
