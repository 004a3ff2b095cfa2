package discovery

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// Status is what the status of an object says. Every kind has one of its parts.
//
// As policy computes it, it is without transition times and without Programmed,
// which proxies decide. Only a Gateway and its listeners have that condition
// then nevertheless, where it is False whatever proxies answer.
type Status struct {
	// Conditions of our own kinds.
	Conditions []metav1.Condition
	// Parents of a route: Services, and Gateways of ours.
	Parents []gatewayv1.RouteParentStatus
	// Ancestors of a BackendTLSPolicy.
	Ancestors []gatewayv1.PolicyAncestorStatus
	// Gateway is the status of a Gateway: addresses, conditions and listeners,
	// nil for what is no Gateway of ours.
	Gateway *gatewayv1.GatewayStatus
	// Class is the status of a GatewayClass: conditions and supported features,
	// nil for what is no class of ours.
	Class *gatewayv1.GatewayClassStatus
}

// ObservedStatus is our part of an object's status as it was last read or
// written, as far as that is needed to decide whether it must be written. Every
// replica has it, in little memory, so that a new leader need not read every
// object, and writes only what differs.
type ObservedStatus struct {
	Scope string
	Name  ObjectName
	// UID and Version tell of which object it is, and of which of its versions.
	UID, Version string
	// Said is a digest of our part without the condition Programmed, and
	// Programmed one of that condition; 0 where there is none.
	Said, Programmed uint64
	// Gateway is the whole status of a Gateway, nil for other kinds: Programmed
	// occurs in it many times, and there are few Gateways.
	Gateway *gatewayv1.GatewayStatus
}

// ID is the row's id: the scope, "|" and the object's key.
func (s *ObservedStatus) ID() string { return s.Scope + "|" + s.Name.Key.String() }

// NewerStatus returns the newer of two observations of an object's status, next
// if they are of different objects: the answer to a write may come before the
// watch's event of an earlier one.
func NewerStatus(before, next *ObservedStatus) *ObservedStatus {
	if before.UID != next.UID {
		return next
	}
	if order, err := resourceversion.CompareResourceVersion(before.Version, next.Version); err == nil && order > 0 {
		return before
	}
	return next
}
