package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// MeshName is the name of the only Mesh that counts.
const MeshName = "default"

// DefaultTrustDomain is the trust domain of a mesh that states none.
const DefaultTrustDomain = "cluster.local"

// Mesh is what holds for the whole mesh. There is one, named default; without
// it the defaults hold.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=meshes,scope=Cluster,categories=causeway
// +kubebuilder:printcolumn:name="Egress",type=string,JSONPath=`.spec.egress.mode`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Programmed",type=string,JSONPath=`.status.conditions[?(@.type=="Programmed")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name == 'default'",message="metadata.name is not that of the one Mesh: name it default"
type Mesh struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   MeshSpec     `json:"spec"`
	Status PolicyStatus `json:"status,omitempty"`
}

// MeshList is a list of Meshes.
//
// +kubebuilder:object:root=true
type MeshList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Mesh `json:"items"`
}

// MeshSpec is what holds for the whole mesh.
type MeshSpec struct {
	// Egress is about hosts that are neither Services nor ExternalServices.
	// +optional
	// +kubebuilder:default={}
	Egress Egress `json:"egress,omitempty"`
	// Defaults hold where no TrafficPolicy says otherwise, section by section.
	// +optional
	// +kubebuilder:validation:XValidation:rule="!has(self.tls)",message="tls cannot be a default, because every target has a certificate of its own name: state it in a TrafficPolicy or BackendTLSPolicy about each"
	Defaults *TrafficSettings `json:"defaults,omitempty"`
	// EC2 limits what InstanceGroups may name.
	// +optional
	EC2 *MeshEC2 `json:"ec2,omitempty"`
	// Trust is about the certificates by which workloads prove who they are.
	// +optional
	Trust *MeshTrust `json:"trust,omitempty"`
}

// MeshTrust is about the certificates by which workloads prove who they are.
type MeshTrust struct {
	// Domain is the trust domain, with which the SPIFFE id of every workload begins:
	// spiffe://DOMAIN/ns/NAMESPACE/sa/SERVICEACCOUNT. Without it it is cluster.local. State one of your
	// own before anything names these ids: workloads get the ids of another domain within 12 h.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$`
	Domain string `json:"domain,omitempty"`
}

// Egress is about hosts that are neither Services nor ExternalServices.
type Egress struct {
	// Mode RegistryOnly answers 404 for them, and closes captured connections to their
	// addresses; AllowAny sends requests there as the workload's own DNS resolver finds
	// them. Without a mode requests that programs send to the HTTP listener get 404, and
	// captured connections go where they were going, as if there were no mesh.
	// +optional
	Mode EgressMode `json:"mode,omitempty"`
}

// EgressMode says what happens to requests for unknown hosts.
//
// +kubebuilder:validation:Enum=AllowAny;RegistryOnly
type EgressMode string

// The egress modes.
const (
	AllowAny     EgressMode = "AllowAny"
	RegistryOnly EgressMode = "RegistryOnly"
)

// MeshEC2 limits what InstanceGroups may name. An absent list does not limit.
type MeshEC2 struct {
	// Regions that InstanceGroups may be in.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	// +listType=set
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9]+(-[a-z0-9]+)+$`
	Regions []string `json:"regions,omitempty"`
	// Accounts (12 digits) whose roles InstanceGroups may name.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	// +listType=set
	// +kubebuilder:validation:items:Pattern=`^\d{12}$`
	Accounts []string `json:"accounts,omitempty"`
}

var _ = kind(&Mesh{}, &MeshList{})

// StatusConditions implements Conditioned.
func (m *Mesh) StatusConditions() []metav1.Condition { return m.Status.Conditions }
