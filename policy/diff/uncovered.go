package diff

import (
	"fmt"
	"maps"
	"slices"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/resolve"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// ReasonUncovered is the reason of Uncovered's findings.
const ReasonUncovered = "RequestsUncovered"

// Uncovered warns of ports whose routes leave requests over: they worked before
// a route was attached, and are answered 404 since. The finding is about the
// first route of the port.
func Uncovered(r catalog.Reader) []policy.Finding {
	var out []policy.Finding
	for svc := range catalog.Services.All(r) {
		m := resolve.BuildService(r, svc.Key)
		if m == nil {
			continue
		}
		for i := range m.Ports {
			p := &m.Ports[i]
			if p.Protocol == policy.TCP {
				continue
			}
			out = append(out, uncovered(m, p, "", p.HTTP)...)
			for _, callers := range slices.Sorted(maps.Keys(p.ConsumerHTTP)) {
				out = append(out, uncovered(m, p, callers, p.ConsumerHTTP[callers])...)
			}
		}
	}
	return out
}

func uncovered(m *policy.Service, p *policy.Port, callers string, routes *policy.HTTPRoutes) []policy.Finding {
	if routes == nil || len(routes.Rules) == 0 || catchesAll(routes.Rules) {
		return nil
	}
	// gRPC callers name a service, and one that no rule names has no backend that could know it.
	if !slices.ContainsFunc(routes.Rules, func(r policy.Rule) bool { return !r.GRPC }) {
		return nil
	}
	where := place(m.Key, p.Number, callers)
	return []policy.Finding{{
		Severity: policy.Warning, Object: first(routes.Rules), Field: "spec.rules",
		Condition: v1alpha1.ConditionAccepted, Reason: ReasonUncovered,
		Message: fmt.Sprintf("requests to %s that no rule takes are answered 404", where),
		Remedy:  "end the rules with one without matches that sends the rest to the Service itself, if that is not meant",
	}}
}

// first returns the route that is first by name, so that the finding stays at one object.
func first(rules []policy.Rule) discovery.ObjectRef {
	out := rules[0].Route
	for i := range rules {
		if rules[i].Route.String() < out.String() {
			out = rules[i].Route
		}
	}
	return out
}

func place(service discovery.Key, port uint16, callers string) string {
	s := fmt.Sprintf("port %d of Service %s", port, service)
	if callers != "" {
		s += " from callers of namespace " + callers
	}
	return s
}
