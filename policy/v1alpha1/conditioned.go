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

// StatusConditions implements Conditioned.
func (t *TrafficShift) StatusConditions() []metav1.Condition { return t.Status.Conditions }

// StatusConditions implements Conditioned.
func (t *TrafficPolicy) StatusConditions() []metav1.Condition { return t.Status.Conditions }

// StatusConditions implements Conditioned.
func (g *GatewayPolicy) StatusConditions() []metav1.Condition { return g.Status.Conditions }

// StatusConditions implements Conditioned.
func (e *ExternalService) StatusConditions() []metav1.Condition { return e.Status.Conditions }

// StatusConditions implements Conditioned.
func (m *Mesh) StatusConditions() []metav1.Condition { return m.Status.Conditions }
