package policy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
)

// validateRoutes returns every finding about routes at Services: what their
// conditions say, rules that no request can reach, and backends without endpoints.
func validateRoutes(r catalog.Reader) []Finding {
	v := routeValidator{r: r, services: make(map[discovery.Key]*Service), told: make(map[Finding]bool)}
	// A directory of configuration has no endpoints; that says nothing of the live state.
	for range catalog.Endpoints.All(r) {
		v.live = true
		break
	}
	parents := make(map[discovery.Key]bool)
	for _, kind := range routeKinds {
		for o := range catalog.Objects.By(r, catalog.ByKind, kind) {
			for _, verdict := range judge(r, o) {
				parents[verdict.parent] = true
				for _, f := range verdict.all() {
					v.tell(f)
				}
				v.endpoints(o, verdict.meaning)
			}
		}
	}
	for key := range parents {
		if m := v.service(key); m != nil {
			v.shadowed(m)
		}
	}
	return v.out
}

// routeValidator gathers findings, each once, although a route may have several parents.
type routeValidator struct {
	r        catalog.Reader
	live     bool
	services map[discovery.Key]*Service
	told     map[Finding]bool
	out      []Finding
}

func (v *routeValidator) tell(f Finding) {
	if !v.told[f] {
		v.told[f] = true
		v.out = append(v.out, f)
	}
}

func (v *routeValidator) service(key discovery.Key) *Service {
	m, ok := v.services[key]
	if !ok {
		m = BuildService(v.r, key)
		v.services[key] = m
	}
	return m
}

// endpoints tells of backends that exist and have no usable endpoint.
func (v *routeValidator) endpoints(o *discovery.Object, m *meaning) {
	if !v.live {
		return
	}
	tell := func(rule int, backends []Backend) {
		for i := range backends {
			b := &backends[i]
			what, usable := v.usable(b)
			if usable {
				continue
			}
			v.tell(Finding{
				Severity: Warning, Object: o.Ref(), Field: fmt.Sprintf("%s.backendRefs[%d]", ruleField(rule), b.Index),
				Condition: string(gatewayv1.RouteConditionResolvedRefs), Reason: ReasonNoEndpoints,
				Message: fmt.Sprintf("port %d of %s has no usable endpoint, so what is sent there fails", b.Port, what),
				Remedy:  "bring its endpoints up, or set the weight to 0",
			})
		}
	}
	for i := range m.http {
		tell(m.http[i].Index, m.http[i].Backends)
	}
	for i := range m.tcp {
		tell(m.tcp[i].Index, m.tcp[i].Backends)
	}
}

// usable reports whether a backend has an endpoint that gets requests, as far as that is known, and what the backend is.
func (v *routeValidator) usable(b *Backend) (string, bool) {
	if b.Kind != ServiceBackend && b.Kind != InstanceGroupBackend {
		return "", true
	}
	m := v.service(b.Key)
	if m == nil {
		return "", true
	}
	i := slices.IndexFunc(m.Ports, func(p Port) bool { return p.Number == b.Port })
	if i < 0 {
		return "", true
	}
	p := &m.Ports[i]
	if b.Kind == InstanceGroupBackend {
		g := slices.IndexFunc(p.Groups, func(g Group) bool { return g.Name == b.Group })
		return "InstanceGroup " + b.Namespace + "/" + b.Group,
			g < 0 || !known(v.r, b.Key, discovery.Instances) || (&Backing{Zones: p.Groups[g].Zones}).Usable()
	}
	for j := range p.Backings {
		if p.Backings[j].Usable() || !known(v.r, b.Key, p.Backings[j].Platform) {
			return "", true
		}
	}
	return "Service " + b.Key.String(), false
}

// shadowed tells of rules of which no match can be reached, because for each
// there is one before it that takes all its requests. It sees single matches
// that cover others, not several that do so together.
func (v *routeValidator) shadowed(m *Service) {
	for i := range m.Ports {
		p := &m.Ports[i]
		sides := []*HTTPRoutes{p.HTTP}
		namespaces := make([]string, 0, len(p.ConsumerHTTP))
		for namespace := range p.ConsumerHTTP {
			namespaces = append(namespaces, namespace)
		}
		slices.Sort(namespaces)
		for _, namespace := range namespaces {
			sides = append(sides, p.ConsumerHTTP[namespace])
		}
		for _, routes := range sides {
			if routes != nil {
				v.shadowedIn(m.Key, p.Number, routes.Rules)
			}
		}
	}
}

func (v *routeValidator) shadowedIn(parent discovery.Key, port uint16, rules []Rule) {
	type id struct {
		route discovery.ObjectName
		index int
	}
	by := make(map[id]*Rule)
	reached := make(map[id]bool)
	var order []id
	c := covering{compiled: make(map[string]*regexp.Regexp)}
	for i := range rules {
		rule := id{discovery.ObjectName{Kind: rules[i].Route.Kind, Key: rules[i].Route.Key}, rules[i].Index}
		if _, ok := by[rule]; !ok && !reached[rule] {
			order = append(order, rule)
		}
		earlier := slices.IndexFunc(rules[:i], func(r Rule) bool { return c.covers(&r.Match, &rules[i].Match) })
		if earlier < 0 {
			reached[rule] = true
		} else if by[rule] == nil {
			by[rule] = &rules[earlier]
		}
	}
	for _, rule := range order {
		winner := by[rule]
		if reached[rule] || winner == nil {
			continue
		}
		where := fmt.Sprintf("%s of %s", ruleField(winner.Index), winner.Route)
		if winner.Route.Kind == rule.route.Kind && winner.Route.Key == rule.route.Key {
			where = ruleField(winner.Index)
		}
		v.tell(Finding{
			Severity: Warning, Object: rules[slices.IndexFunc(rules, func(r Rule) bool {
				return r.Route.Kind == rule.route.Kind && r.Route.Key == rule.route.Key
			})].Route,
			Field: ruleField(rule.index), Condition: string(gatewayv1.RouteConditionAccepted), Reason: ReasonShadowed,
			Message: fmt.Sprintf("no request to port %d of Service %s reaches the rule, because %s takes all that it matches", port, parent, where),
			Remedy:  "remove one of the two, or make its matches more specific",
		})
	}
}

// covering compares matches, compiling each expression once.
type covering struct{ compiled map[string]*regexp.Regexp }

// covers reports whether every request that b matches is matched by a too. It
// may say no where the answer is yes, never the reverse.
func (c *covering) covers(a, b *Match) bool {
	return (a.Method == "" || a.Method == b.Method) &&
		c.coversPath(a.Path, b.Path) && c.coversValues(a.Headers, b.Headers) && c.coversValues(a.Query, b.Query)
}

func (c *covering) coversPath(a, b PathMatch) bool {
	switch a.Kind {
	case PathPrefix:
		if b.Kind == PathRegex {
			return a.Value == "/"
		}
		return a.Value == "/" || b.Value == a.Value || strings.HasPrefix(b.Value, a.Value+"/")
	case PathExact:
		return a == b
	case PathRegex:
	}
	return a == b || b.Kind == PathExact && c.matches(a.Value, b.Value)
}

func (c *covering) coversValues(a, b []ValueMatch) bool {
	for _, want := range a {
		i := slices.IndexFunc(b, func(v ValueMatch) bool { return v.Name == want.Name })
		if i < 0 {
			return false
		}
		if have := b[i]; want != have && !(want.Regex && !have.Regex && c.matches(want.Value, have.Value)) {
			return false
		}
	}
	return true
}

func (c *covering) matches(pattern, value string) bool {
	re, ok := c.compiled[pattern]
	if !ok {
		re, _ = CompileRegex(pattern)
		c.compiled[pattern] = re
	}
	return re != nil && re.MatchString(value)
}
