package resolve

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
)

// kind is the meaning of the objects of a kind, apart from the units that they
// touch.
type kind struct {
	// findings about an object. nil for a kind that has none, or, of a route, whose
	// findings are those of the units that it is attached to.
	findings func(r catalog.Reader, o *discovery.Object) []policy.Finding
	// status is what an object's status must say, nil for a kind without one.
	status func(j *Statuses, o *discovery.Object) discovery.Status
	// touches yields the units whose meaning an object may change.
	touches func(r catalog.Reader, o *discovery.Object, yield func(policy.Unit))
}

// kindOf is the list of what kinds mean. A kind that it lacks means nothing. It is
// a function, because some kinds touch what others of the list do.
func kindOf(name string) (kind, bool) {
	switch name {
	case discovery.KindHTTPRoute, discovery.KindGRPCRoute, discovery.KindTCPRoute, discovery.KindTLSRoute:
		return kind{nil, parentsStatus, touchedByRefs}, true
	case discovery.KindGateway:
		return kind{validateGateway, gatewayStatusOf, touchedAsUnit}, true
	case discovery.KindGatewayClass:
		return kind{
			validateGatewayClass, classStatusOf, gatewaysThatName,
		}, true
	case discovery.KindGatewayPolicy:
		return kind{validateGatewayPolicy, conditionsBy(gatewayPolicyConditions), touchedByRefs}, true
	case discovery.KindGatewayParameters:
		return kind{validateGatewayParameters, conditionsBy(gatewayParametersConditions), touchesNothing}, true
	case discovery.KindBackendTLSPolicy:
		return kind{validateBackendTLS, backendTLSStatus, touchedByRefs}, true
	case discovery.KindInstanceGroup:
		return kind{groupFindings, conditionsBy(groupConditions), touchedByGroup}, true
	case discovery.KindTrafficShift:
		return kind{validateTrafficShift, conditionsBy(shiftConditions), touchedByRefs}, true
	case discovery.KindTrafficPolicy:
		return kind{validateTrafficPolicy, conditionsBy(objectConditions), touchedByRefs}, true
	case discovery.KindExternalService:
		return kind{validateExternal, conditionsBy(objectConditions), touchedByExternal}, true
	case discovery.KindMesh:
		return kind{
			func(_ catalog.Reader, o *discovery.Object) []policy.Finding { return validateMesh(o) },
			conditionsBy(objectConditions), touchedByMesh,
		}, true
	case discovery.KindReferenceGrant:
		return kind{nil, nil, touchedByGrant}, true
	case discovery.KindNamespace:
		return kind{nil, nil, touchedByNamespace}, true
	case discovery.KindSecret:
		return kind{nil, nil, gatewaysThatName}, true
	case discovery.KindConfigMap:
		return kind{nil, nil, touchedByConfigMap}, true
	}
	return kind{}, false
}

// conditionsBy is the status of one of our own kinds: conditions, and nothing else.
func conditionsBy(of func(catalog.Reader, *discovery.Object) []metav1.Condition) func(*Statuses, *discovery.Object) discovery.Status {
	return func(j *Statuses, o *discovery.Object) discovery.Status {
		return discovery.Status{Conditions: of(j.r, o)}
	}
}

func parentsStatus(j *Statuses, o *discovery.Object) discovery.Status {
	return discovery.Status{Parents: j.routeParents(o)}
}

func backendTLSStatus(j *Statuses, o *discovery.Object) discovery.Status {
	return discovery.Status{Ancestors: j.backendTLSAncestors(o)}
}

func gatewayStatusOf(j *Statuses, o *discovery.Object) discovery.Status {
	return discovery.Status{Gateway: j.gatewayStatus(o)}
}

func classStatusOf(j *Statuses, o *discovery.Object) discovery.Status {
	return discovery.Status{Class: gatewayClassStatus(j.r, o)}
}

func groupFindings(r catalog.Reader, o *discovery.Object) []policy.Finding {
	g, _ := discovery.GroupOf(o)
	return validateGroup(r, g)
}

func groupConditions(r catalog.Reader, o *discovery.Object) []metav1.Condition {
	return InstanceGroupConditions(r, o.Key)
}
