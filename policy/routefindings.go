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

// validateRoutes returns every finding about routes: what their
// conditions say, rules that no request can reach, and backends without endpoints.
func validateRoutes(r catalog.Reader) []Finding {
	v := routeValidator{r: r, judge: NewJudge(r), services: make(map[discovery.Key]*Service), told: make(map[Finding]bool)}
	// A directory of configuration has no endpoints; that says nothing of the live state.
	for range catalog.Endpoints.All(r) {
		v.live = true
		break
	}
	parents := make(map[discovery.ObjectName]bool)
	for _, kind := range routeKinds {
		for o := range catalog.Objects.By(r, catalog.ByKind, kind) {
			v.missingGateways(o)
			for _, verdict := range v.judge.judge(o) {
				parents[verdict.parent] = true
				for _, f := range verdict.all() {
					v.tell(f)
				}
				v.endpoints(o, verdict.meaning)
			}
		}
	}
	for parent := range parents {
		if parent.Kind == discovery.KindGateway {
			v.shadowedAtGateway(parent.Key)
		} else if m := v.service(parent.Key); m != nil {
			v.shadowed(m)
		}
	}
	return v.out
}

// routeValidator gathers findings, each once, although a route may have several parents.
type routeValidator struct {
	r        catalog.Reader
	judge    *Judge
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
			g < 0 || !Known(v.r, b.Key, discovery.Instances) || (&Backing{Zones: p.Groups[g].Zones}).Usable()
	}
	for j := range p.Backings {
		if p.Backings[j].Usable() || !Known(v.r, b.Key, p.Backings[j].Platform) {
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
				shadows := newShadows()
				shadows.add(routes.Rules)
				v.tellShadowed(shadows, fmt.Sprintf("port %d of Service %s", p.Number, m.Key))
			}
		}
	}
}

// shadowedAtGateway tells of rules that no request to a Gateway can reach at
// any of its hosts. A rule may stand at several.
func (v *routeValidator) shadowedAtGateway(key discovery.Key) {
	m := BuildGateway(v.r, key)
	if m == nil {
		return
	}
	shadows := newShadows()
	for i := range m.Ports {
		for j := range m.Ports[i].Listeners {
			hosts := m.Ports[i].Listeners[j].Hosts
			for k := range hosts {
				shadows.add(hosts[k].Rules)
			}
		}
	}
	v.tellShadowed(shadows, "Gateway "+key.String())
}

// missingGateways warns of parents that do not exist: the route waits for them,
// and no status tells.
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
			v.tell(Finding{
				Severity: Warning, Object: o.Ref(), Field: fmt.Sprintf("spec.parentRefs[%d].name", i),
				Condition: string(gatewayv1.RouteConditionAccepted), Reason: string(gatewayv1.RouteReasonNoMatchingParent),
				Message: fmt.Sprintf("there is no Gateway %s, so nothing comes in by it", key), Remedy: "create it or correct the name",
			})
		}
	}
}

// ruleID is a rule of a route.
type ruleID struct {
	route discovery.ObjectName
	index int
}

// shadows finds rules that are reached in none of the lists that they stand in.
type shadows struct {
	covering covering
	// by is the first rule that takes all that a match of the rule matches.
	by      map[ruleID]*Rule
	ref     map[ruleID]discovery.ObjectRef
	reached map[ruleID]bool
	order   []ruleID
}

func newShadows() *shadows {
	return &shadows{
		covering: covering{compiled: make(map[string]*regexp.Regexp)},
		by:       make(map[ruleID]*Rule), ref: make(map[ruleID]discovery.ObjectRef), reached: make(map[ruleID]bool),
	}
}

// add looks at rules that are tried one after the other.
func (s *shadows) add(rules []Rule) {
	for i := range rules {
		rule := ruleID{discovery.ObjectName{Kind: rules[i].Route.Kind, Key: rules[i].Route.Key}, rules[i].Index}
		if s.reached[rule] || rules[i].Preflight {
			continue
		}
		if _, ok := s.ref[rule]; !ok {
			s.ref[rule] = rules[i].Route
			s.order = append(s.order, rule)
		}
		earlier := slices.IndexFunc(rules[:i], func(r Rule) bool { return s.covering.covers(&r.Match, &rules[i].Match) })
		if earlier < 0 {
			s.reached[rule] = true
		} else if s.by[rule] == nil {
			s.by[rule] = &rules[earlier]
		}
	}
}

// tellShadowed tells of the rules that no request to a place reaches.
func (v *routeValidator) tellShadowed(s *shadows, place string) {
	for _, rule := range s.order {
		winner := s.by[rule]
		if s.reached[rule] || winner == nil {
			continue
		}
		where := fmt.Sprintf("%s of %s", ruleField(winner.Index), winner.Route)
		if winner.Route.Kind == rule.route.Kind && winner.Route.Key == rule.route.Key {
			where = ruleField(winner.Index)
		}
		v.tell(Finding{
			Severity: Warning, Object: s.ref[rule],
			Field: ruleField(rule.index), Condition: string(gatewayv1.RouteConditionAccepted), Reason: ReasonShadowed,
			Message: fmt.Sprintf("no request to %s reaches the rule, because %s takes all that it matches", place, where),
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
