package resolve

import (
	"fmt"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/upstream"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// validateBackendTLS returns the findings about a BackendTLSPolicy, each once.
func validateBackendTLS(r catalog.Reader, o *discovery.Object) []policy.Finding {
	var out []policy.Finding
	for _, t := range upstream.BackendTLSTargets(r, o) {
		for _, f := range t.Findings {
			if !slices.Contains(out, f) {
				out = append(out, f)
			}
		}
	}
	return out
}

// tlsStated reports whether a policy says how TLS is spoken to a port of a Service: then it is known well enough what it is.
func tlsStated(m *policy.Service, port uint16) bool {
	if m == nil {
		return false
	}
	return slices.ContainsFunc(m.Ports, func(p policy.Port) bool {
		return p.Number == port && slices.ContainsFunc(p.Backings, func(b policy.Backing) bool { return b.TLS != nil && !b.TLS.Unknown })
	})
}

// missingTLS says to which endpoints of a Service nothing can be sent, because policies say how TLS is spoken to its other
// backings only.
func missingTLS(obj discovery.ObjectRef, m *policy.Service) []policy.Finding {
	var out []policy.Finding
	for i := range m.Ports {
		p := &m.Ports[i]
		for j := range p.Backings {
			b := &p.Backings[j]
			_, stated := b.Settings.From["tls"]
			if !p.InTLS() || stated || b.TLS == nil || b.TLS.Unknown || len(b.Zones) == 0 && p.Shares[j] == 0 {
				continue
			}
			out = append(out, policy.Finding{
				Severity: policy.Error, Object: obj, Field: "spec.ports",
				Condition: v1alpha1.ConditionAccepted, Reason: policy.ReasonInvalid,
				Message: fmt.Sprintf("port %d speaks TLS, and no policy says how it is spoken to the %s, so requests to them fail", p.Number, b.Platform),
				Remedy:  "create a BackendTLSPolicy about the Service, or state tls in a TrafficPolicy about it",
			})
		}
	}
	return out
}

// maxAncestors is how many ancestors a policy's status has room for.
const maxAncestors = 16

// backendTLSAncestors returns the status of a BackendTLSPolicy for each Gateway
// of ours through which its Services are reached, and for each Service itself:
// in a mesh that is what callers go to, as a Gateway is elsewhere.
func (s *Statuses) backendTLSAncestors(o *discovery.Object) []gatewayv1.PolicyAncestorStatus {
	targets := upstream.BackendTLSTargets(s.r, o)
	var out []gatewayv1.PolicyAncestorStatus
	add := func(group, kind string, key discovery.Key, section string, findings []policy.Finding) {
		if len(out) == maxAncestors {
			return
		}
		ref := gatewayv1.ParentReference{
			Group: new(gatewayv1.Group(group)), Kind: new(gatewayv1.Kind(kind)),
			Namespace: new(gatewayv1.Namespace(key.Namespace)), Name: gatewayv1.ObjectName(key.Name),
		}
		if section != "" {
			ref.SectionName = new(gatewayv1.SectionName(section))
		}
		a := gatewayv1.PolicyAncestorStatus{
			ControllerName: v1alpha1.ControllerName, AncestorRef: ref,
			Conditions: []metav1.Condition{
				condition(v1alpha1.ConditionAccepted, policy.ReasonAccepted, "callers speak TLS to the target as the policy says", findings),
				condition(v1alpha1.ConditionResolvedRefs, policy.ReasonResolvedRefs, "the CA certificates exist", findings),
			},
		}
		for i := range a.Conditions {
			a.Conditions[i].ObservedGeneration = o.Generation
		}
		out = append(out, a)
	}
	through := make(map[discovery.Key][]policy.Finding)
	for _, t := range targets {
		if t.Group != "" {
			continue
		}
		for _, gateway := range s.gatewaysTo(t.Service) {
			for _, f := range t.Findings {
				if !slices.Contains(through[gateway], f) {
					through[gateway] = append(through[gateway], f)
				}
			}
			if through[gateway] == nil {
				through[gateway] = []policy.Finding{}
			}
		}
	}
	for _, gateway := range slices.SortedFunc(maps.Keys(through), upstream.CompareKeys) {
		add(gatewayv1.GroupName, discovery.KindGateway, gateway, "", through[gateway])
	}
	for _, t := range targets {
		add(t.Group, t.Kind, t.Service, t.Section, t.Findings)
	}
	return out
}

// gatewaysTo returns the Gateways of ours with a route that sends to a Service.
func (s *Statuses) gatewaysTo(service discovery.Key) []discovery.Key {
	var out []discovery.Key
	name := discovery.ObjectName{Kind: discovery.KindService, Key: service}
	for route := range catalog.Objects.By(s.r, catalog.ByRef, name.String()) {
		spec := commonSpec(route)
		if spec == nil || !slices.ContainsFunc(upstream.BackendRefs(route), func(ref *gatewayv1.BackendObjectReference) bool { return upstream.BackendName(route, ref) == name }) {
			continue
		}
		for i := range spec.ParentRefs {
			key, ok := parentGateway(route, &spec.ParentRefs[i])
			if !ok || slices.Contains(out, key) {
				continue
			}
			g := s.gateway(key)
			if g == nil {
				continue
			}
			if at, ok := g.at[route.Name()]; ok && slices.ContainsFunc(g.listeners, func(l *listenerMeaning) bool { return len(g.routes[at].at(l)) > 0 }) {
				out = append(out, key)
			}
		}
	}
	return out
}
