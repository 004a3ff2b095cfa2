package policy

import (
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// Reasons of the conditions of policies, in Gateway API's words.
const (
	ReasonConflicted              = string(gatewayv1.PolicyReasonConflicted)
	ReasonTargetNotFound          = string(gatewayv1.PolicyReasonTargetNotFound)
	ReasonNoValidCACertificate    = string(gatewayv1.BackendTLSPolicyReasonNoValidCACertificate)
	ReasonInvalidCACertificateRef = string(gatewayv1.BackendTLSPolicyReasonInvalidCACertificateRef)
	ReasonInvalidKind             = string(gatewayv1.BackendTLSPolicyReasonInvalidKind)
)

// Reasons of conditions that findings cause. Accepted, ResolvedRefs and their
// reasons are Gateway API's words where it has one.
const (
	ReasonAccepted        = "Accepted"
	ReasonResolvedRefs    = "ResolvedRefs"
	ReasonBackendNotFound = "BackendNotFound"
	ReasonInvalid         = "Invalid"
	ReasonUnsupported     = "UnsupportedValue"
	ReasonHomeIsPods      = "HomeIsPods"
	ReasonUnknownHome     = "UnknownHome"
	ReasonServing         = "Serving"
	// ReasonUnread: an object that decides is there and cannot be read.
	ReasonUnread          = "Unread"
	ReasonServiceNotFound = "ServiceNotFound"
	ReasonFailedOver      = "FailedOver"
	ReasonOverlap         = "Overlapping"
	ReasonShadowed        = "Shadowed"
	ReasonNoEndpoints     = "NoEndpoints"
	// ReasonNotServed: a listener that no connection is taken on.
	ReasonNotServed = "NotServed"
	// ReasonNoRoutes: a listener that no route is attached to.
	ReasonNoRoutes = "NoRoutes"
	// ReasonTimeoutOrder: who sends requests keeps idle connections for longer than who gets them.
	ReasonTimeoutOrder = "TimeoutOrder"
	// ReasonLoop: a redirect that leads back to itself.
	ReasonLoop = "RedirectLoop"
	// ReasonSuperseded: a home annotation that a completed TrafficShift has overtaken.
	ReasonSuperseded = "Superseded"
	// ReasonShifted: a TrafficShift says what part of the traffic there is.
	ReasonShifted = "Shifted"
	// ReasonNoFailover: the backings of a port do not stand in for each other.
	ReasonNoFailover = "NoFailover"
	// ReasonPortHeld: a port that nothing maps any more still counts as it did.
	ReasonPortHeld = "LastKnownGood"
	// ReasonPortByPosition: a port has another name than the Service's only one, and means that.
	ReasonPortByPosition = "OnlyPort"
)

// ConditionFailedOver is True on a Service whose traffic is answered by the
// backing that is not its home, because the home has no usable endpoint.
const ConditionFailedOver = "FailedOver"
