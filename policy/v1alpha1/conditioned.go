package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Conditioned is a kind whose status has conditions.
//
// +kubebuilder:object:generate=false
type Conditioned interface {
	metav1.Object
	// StatusConditions returns the conditions of the status, which must not be changed.
	StatusConditions() []metav1.Condition
}

// Referrer is a kind whose objects name others of their namespace.
//
// +kubebuilder:object:generate=false
type Referrer interface {
	// Refer calls to with the kind and the name of each.
	Refer(to func(kind, name string))
}
