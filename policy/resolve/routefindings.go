package resolve

import (
	"fmt"
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/routing"
	"github.com/causeway-mesh/causeway/policy/upstream"
)

// validateRoutes returns every finding about routes: what their
// conditions say, rules that no request can reach, and backends without endpoints.
func validateRoutes(r catalog.Reader) []policy.Finding {
	v := routeValidator{r: r, statuses: NewStatuses(r), services: make(map[discovery.Key]*policy.Service), told: make(map[policy.Finding]bool)}
	// A directory of configuration has no endpoints; that says nothing of the live state.
	for range catalog.Endpoints.All(r) {
		v.live = true
		break
	}
	parents := make(map[discovery.ObjectName]bool)
	for _, kind := range discovery.RouteKinds() {
		for o := range catalog.Objects.By(r, catalog.ByKind, kind) {
			v.missingGateways(o)
			for _, at := range v.statuses.routeAtParents(o) {
				parents[at.parent] = true
				for _, f := range at.all() {
					v.tell(f)
				}
				v.endpoints(o, at.Meaning)
			}
		}
	}
	for parent := range parents {
		if parent.Kind == discovery.KindGateway {
			v.unreachableAtGateway(parent.Key)
		} else if m := v.service(parent.Key); m != nil {
			v.unreachable(m)
		}
	}
	return v.out
}

// routeValidator gathers findings, each once, although a route may have several parents.
type routeValidator struct {
	r        catalog.Reader
	statuses *Statuses
	live     bool
	services map[discovery.Key]*policy.Service
	told     map[policy.Finding]bool
	out      []policy.Finding
}

func (v *routeValidator) tell(f policy.Finding) {
	if !v.told[f] {
		v.told[f] = true
		v.out = append(v.out, f)
	}
}

func (v *routeValidator) service(key discovery.Key) *policy.Service {
	m, ok := v.services[key]
	if !ok {
		m = BuildService(v.r, key)
		v.services[key] = m
	}
	return m
}

// endpoints tells of backends that exist and have no usable endpoint.
func (v *routeValidator) endpoints(o *discovery.Object, m *routing.Meaning) {
	if !v.live {
		return
	}
	tell := func(rule int, backends []policy.Backend) {
		for i := range backends {
			b := &backends[i]
			what, usable := v.usable(b)
			if usable {
				continue
			}
			v.tell(policy.Finding{
				Severity: policy.Warning, Object: o.Ref(), Field: fmt.Sprintf("%s.backendRefs[%d]", routing.RuleField(rule), b.Index),
				Condition: string(gatewayv1.RouteConditionResolvedRefs), Reason: policy.ReasonNoEndpoints,
				Message: fmt.Sprintf("port %d of %s has no usable endpoint, so what is sent there fails", b.Port, what),
				Remedy:  "bring its endpoints up, or set the weight to 0",
			})
		}
	}
	for i := range m.HTTP {
		tell(m.HTTP[i].Index, m.HTTP[i].Backends)
	}
	for i := range m.TCP {
		tell(m.TCP[i].Index, m.TCP[i].Backends)
	}
}

// usable reports whether a backend has an endpoint that gets requests, as far as that is known, and what the backend is.
func (v *routeValidator) usable(b *policy.Backend) (string, bool) {
	if b.Kind != policy.ServiceBackend && b.Kind != policy.InstanceGroupBackend {
		return "", true
	}
	m := v.service(b.Key)
	if m == nil {
		return "", true
	}
	i := slices.IndexFunc(m.Ports, func(p policy.Port) bool { return p.Number == b.Port })
	if i < 0 {
		return "", true
	}
	p := &m.Ports[i]
	if b.Kind == policy.InstanceGroupBackend {
		g := slices.IndexFunc(p.Groups, func(g policy.Group) bool { return g.Name == b.Group })
		return "InstanceGroup " + b.Namespace + "/" + b.Group,
			g < 0 || !upstream.Known(v.r, b.Key, discovery.Instances) || (&policy.Backing{Zones: p.Groups[g].Zones}).Usable()
	}
	for j := range p.Backings {
		if p.Backings[j].Usable() || !upstream.Known(v.r, b.Key, p.Backings[j].Platform) {
			return "", true
		}
	}
	return "Service " + b.Key.String(), false
}

// unreachable reports rules whose matches no request can reach, because for
// each there is an earlier one that takes all its requests. It compares single
// matches, not several that cover another one together.
func (v *routeValidator) unreachable(m *policy.Service) {
	for i := range m.Ports {
		p := &m.Ports[i]
		tables := []*policy.HTTPRoutes{p.HTTP}
		namespaces := make([]string, 0, len(p.ConsumerHTTP))
		for namespace := range p.ConsumerHTTP {
			namespaces = append(namespaces, namespace)
		}
		slices.Sort(namespaces)
		for _, namespace := range namespaces {
			tables = append(tables, p.ConsumerHTTP[namespace])
		}
		for _, routes := range tables {
			if routes != nil {
				reach := routing.NewReachability()
				reach.Add(routes.Rules)
				v.tellUnreachable(reach, fmt.Sprintf("port %d of Service %s", p.Number, m.Key))
			}
		}
	}
}

// unreachableAtGateway reports rules that no request to a Gateway can reach at
// any of its hosts. A rule may be at several.
func (v *routeValidator) unreachableAtGateway(key discovery.Key) {
	m := BuildGateway(v.r, key)
	if m == nil {
		return
	}
	reach := routing.NewReachability()
	for i := range m.Ports {
		for j := range m.Ports[i].Listeners {
			hosts := m.Ports[i].Listeners[j].Hosts
			for k := range hosts {
				reach.Add(hosts[k].Rules)
			}
		}
	}
	v.tellUnreachable(reach, "Gateway "+key.String())
}

// missingGateways warns of parents that do not exist: the route waits for them,
// and no status says so.
func (v *routeValidator) missingGateways(o *discovery.Object) {
	spec := commonSpec(o)
	if spec == nil {
		return
	}
	for i := range spec.ParentRefs {
		key, ok := parentGateway(o, &spec.ParentRefs[i])
		if !ok {
			continue
		}
		if _, ok := catalog.Objects.Get(v.r, discovery.ObjectName{Kind: discovery.KindGateway, Key: key}.String()); !ok {
			v.tell(policy.Finding{
				Severity: policy.Warning, Object: o.Ref(), Field: fmt.Sprintf("spec.parentRefs[%d].name", i),
				Condition: string(gatewayv1.RouteConditionAccepted), Reason: string(gatewayv1.RouteReasonNoMatchingParent),
				Message: fmt.Sprintf("there is no Gateway %s, so nothing comes in by it", key), Remedy: "create it or correct the name",
			})
		}
	}
}

// tellUnreachable reports the rules that no request to a place reaches.
func (v *routeValidator) tellUnreachable(s *routing.Reachability, place string) {
	for _, rule := range s.Order {
		winner := s.By[rule]
		if s.Reached[rule] || winner == nil {
			continue
		}
		where := fmt.Sprintf("%s of %s", routing.RuleField(winner.Index), winner.Route)
		if winner.Route.Kind == rule.Route.Kind && winner.Route.Key == rule.Route.Key {
			where = routing.RuleField(winner.Index)
		}
		v.tell(policy.Finding{
			Severity: policy.Warning, Object: s.Ref[rule],
			Field: routing.RuleField(rule.Index), Condition: string(gatewayv1.RouteConditionAccepted), Reason: policy.ReasonShadowed,
			Message: fmt.Sprintf("no request to %s reaches the rule, because %s takes all that it matches", place, where),
			Remedy:  "remove one of the two, or make its matches more specific",
		})
	}
}
