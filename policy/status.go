package policy

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
)

// Status is what an object's status says of it, without transition times and
// without Programmed, which proxies decide.
type Status struct {
	// Conditions of our own kinds.
	Conditions []metav1.Condition
	// Parents of a route: those that are ours to judge.
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

// StatusOf returns what a row's status must say, and whether it has any.
func StatusOf(r catalog.Reader, o *discovery.Object) (Status, bool) {
	switch o.Kind {
	case "HTTPRoute", "GRPCRoute", "TCPRoute", "TLSRoute":
		return Status{Parents: routeParents(r, o)}, true
	case "BackendTLSPolicy":
		return Status{Ancestors: backendTLSAncestors(r, o)}, true
	case kindTrafficShift:
		return Status{Conditions: shiftConditions(r, o)}, true
	case "TrafficPolicy", "ExternalService", "Mesh":
		return Status{Conditions: objectConditions(r, o)}, true
	}
	return Status{}, false
}
