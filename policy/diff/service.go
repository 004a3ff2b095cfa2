package diff

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/phrase"
)

// serviceComparison compares what a Service means; nil where there is none.
type serviceComparison struct {
	*comparison
	before, after *policy.Service
	target        string
}

func (s *serviceComparison) compare() {
	s.facts(Change{Target: s.target}, identityFacts(s.before), identityFacts(s.after))
	if s.before != nil && s.after == nil {
		s.risk(Risk{Target: s.target, Code: ServiceRemoved, Message: "nothing answers to its names any more"})
	}
	if s.before != nil && s.after != nil && s.before.Home != s.after.Home {
		s.risk(Risk{Target: s.target, Code: HomeChanges, Message: fmt.Sprintf(
			"its home changes from %s to %s, and with it all traffic that no TrafficShift holds", s.before.Home, s.after.Home)})
	}
	numbers := make(map[uint16]bool)
	before, after := portsOf(s.before), portsOf(s.after)
	for n := range before {
		numbers[n] = true
	}
	for n := range after {
		numbers[n] = true
	}
	for _, n := range slices.Sorted(maps.Keys(numbers)) {
		s.port(n, before[n], after[n])
	}
}

func identityFacts(m *policy.Service) []fact {
	if m == nil {
		return nil
	}
	// The origin of the home is told with it, but a new origin of the same home is no change.
	out := []fact{
		{field: "home", value: m.Home.String()},
	}
	if len(m.ClusterIPs) > 0 {
		out = append(out, fact{field: "cluster IPs", value: strings.Join(m.ClusterIPs, ", ")})
	}
	if mode := nodesOf(m); mode != policy.AnyNode {
		out = append(out, fact{field: "callers' own node", value: nodeTexts[mode]})
	}
	return append(out, shiftFacts(m.Shift)...)
}

// nodeTexts say what a caller's own node means for which pods answer it.
var nodeTexts = map[policy.NodeMode]string{
	policy.OwnNodeOnly:  "only its pods answer (internalTrafficPolicy: Local); where there is none, 503 or failover",
	policy.OwnNodeFirst: "its pods answer first (trafficDistribution: PreferSameNode)",
}

// nodesOf returns what a Service says of its callers' nodes.
func nodesOf(m *policy.Service) policy.NodeMode {
	for i := range m.Ports {
		for _, b := range m.Ports[i].Backings {
			if b.Nodes != policy.AnyNode {
				return b.Nodes
			}
		}
	}
	return policy.AnyNode
}

// shiftFacts are what a shift that is under way says besides the shares.
func shiftFacts(s *policy.Shift) []fact {
	if s == nil {
		return nil
	}
	cohort := "none: every request on its own"
	if c := s.Cohort; c != nil {
		cohort = c.String()
		if c.TTL > 0 {
			cohort += ", set by the mesh for " + c.TTL.String()
		}
	}
	out := []fact{{field: "shares", value: "as " + s.Object.String() + " says"}, {field: "cohort", value: cohort}}
	if s.Shadow != nil {
		out = append(out, fact{
			field: "requests copied", value: fmt.Sprintf("%s of %s to the %s", phrase.Percent(s.Shadow.Share), strings.Join(s.Shadow.Methods, ", "), s.Shadow.To),
		})
	}
	return out
}

func portsOf(m *policy.Service) map[uint16]*policy.Port {
	if m == nil {
		return nil
	}
	out := make(map[uint16]*policy.Port, len(m.Ports))
	for i := range m.Ports {
		out[m.Ports[i].Number] = &m.Ports[i]
	}
	return out
}

func (s *serviceComparison) port(number uint16, before, after *policy.Port) {
	at := Change{Target: s.target, Port: number}
	s.facts(at, portFacts(before), portFacts(after))
	if before != nil && after == nil && s.after != nil {
		s.risk(Risk{Target: s.target, Port: number, Code: ServiceRemoved, Message: "nothing answers on the port any more"})
	}
	if before != nil && after != nil {
		s.portRisks(number, before, after)
	}
	for _, callers := range s.callers(before, after) {
		at.Callers = callers
		old, now := s.rules(s.before, before, callers), s.rules(s.after, after, callers)
		s.pairs(at, old, now)
		if before != nil && after != nil && before.Protocol != policy.TCP && after.Protocol != policy.TCP {
			s.requestRisks(at, httpRules(s.before, before, callers), httpRules(s.after, after, callers))
		}
	}
}

// callers returns "" and the namespaces that have routes of their own on either side.
func (s *serviceComparison) callers(ports ...*policy.Port) []string {
	all := map[string]bool{"": true}
	for _, p := range ports {
		if p == nil {
			continue
		}
		for namespace := range p.ConsumerHTTP {
			all[namespace] = true
		}
		for namespace := range p.ConsumerTCP {
			all[namespace] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// ruleView is one match of one rule of any kind of route.
type ruleView struct {
	route discovery.ObjectRef
	// name is "rules[0].matches[1]", and key pairs rules of one route on both sides.
	name, key string
	facts     []fact
	backends  []policy.Backend
	times     policy.Timeouts
	// rule is nil for one of connections.
	rule *policy.Rule
}

// whole is the rule in one line.
func (v *ruleView) whole() string {
	parts := make([]string, 0, len(v.facts))
	for i, f := range v.facts {
		if i == 0 {
			continue // the match stands before
		}
		parts = append(parts, f.field+" "+f.value)
	}
	return v.facts[0].value + " -> " + strings.Join(parts, "; ")
}

// httpRules returns the rules that hold for callers of a namespace. Where no
// route is attached it is the one that sends everything to the Service itself.
func httpRules(m *policy.Service, p *policy.Port, callers string) []policy.Rule {
	routes := p.HTTP
	if r, ok := p.ConsumerHTTP[callers]; ok {
		routes = r
	}
	if routes != nil {
		return routes.Rules
	}
	rule := m.DefaultRule(p)
	rule.Route = discovery.ObjectRef{Kind: discovery.KindService, Key: m.Key}
	rule.Backends[0].Targets = nil // the shares are facts of the port
	return []policy.Rule{rule}
}

func tcpRules(m *policy.Service, p *policy.Port, callers string) []policy.TCPRule {
	routes := p.TCP
	if r, ok := p.ConsumerTCP[callers]; ok {
		routes = r
	}
	if routes != nil {
		return routes.Rules
	}
	rule := m.DefaultTCPRule(p)
	rule.Route = discovery.ObjectRef{Kind: discovery.KindService, Key: m.Key}
	rule.Backends[0].Targets = nil // the shares are facts of the port
	return []policy.TCPRule{rule}
}

func (s *serviceComparison) rules(m *policy.Service, p *policy.Port, callers string) []ruleView {
	if p == nil {
		return nil
	}
	if p.Protocol == policy.TCP {
		return tcpViews(tcpRules(m, p, callers))
	}
	return httpViews(httpRules(m, p, callers))
}

// viewer makes views, whose keys tell those apart that match the same.
type viewer struct {
	out   []ruleView
	times map[string]int
}

func (v *viewer) add(view ruleView) {
	if v.times == nil {
		v.times = make(map[string]int)
	}
	key := view.route.String() + " " + view.facts[0].value
	v.times[key]++
	view.key = fmt.Sprintf("%s %d", key, v.times[key])
	v.out = append(v.out, view)
}

func tcpViews(rules []policy.TCPRule) []ruleView {
	var v viewer
	for i := range rules {
		r := &rules[i]
		v.add(ruleView{
			route: r.Route, name: ruleName(r.Route, r.Index, -1, r.Name), facts: tcpRuleFacts(r), backends: r.Backends, times: r.Settings.Timeouts(),
		})
	}
	return v.out
}

func httpViews(rules []policy.Rule) []ruleView {
	var v viewer
	for i := range rules {
		r := &rules[i]
		v.add(ruleView{
			route: r.Route, name: ruleName(r.Route, r.Index, r.MatchIndex, r.Name), facts: ruleFacts(r), backends: r.Backends,
			times: r.Timeouts(), rule: r,
		})
	}
	return v.out
}

func ruleName(route discovery.ObjectRef, index, match int, name string) string {
	if route.Kind == discovery.KindService {
		return "no route is attached"
	}
	s := fmt.Sprintf("rules[%d]", index)
	if match >= 0 {
		s += fmt.Sprintf(".matches[%d]", match)
	}
	if name != "" {
		s += " (" + name + ")"
	}
	return s
}

// pairs compares rules: first those of a route that match the same, so that
// inserting a rule changes only itself, then what is left by its place.
func (s *serviceComparison) pairs(at Change, before, after []ruleView) {
	partner := make(map[int]int, len(after)) // index in after to index in before
	taken := make(map[int]bool, len(before))
	pair := func(same func(b, a *ruleView) bool) {
		for i := range after {
			if _, ok := partner[i]; ok {
				continue
			}
			for j := range before {
				if !taken[j] && same(&before[j], &after[i]) {
					partner[i], taken[j] = j, true
					break
				}
			}
		}
	}
	pair(func(b, a *ruleView) bool { return b.key == a.key })
	pair(func(b, a *ruleView) bool {
		return b.route.Kind == a.route.Kind && b.route.Key == a.route.Key && b.name == a.name
	})
	last, moved := -1, false
	for i := range after {
		a := &after[i]
		change := at
		change.Object, change.Rule = a.route.String(), a.name
		j, ok := partner[i]
		if !ok {
			change.Action, change.After = Added, a.whole()
			s.d.Changes = append(s.d.Changes, change)
			s.emptyBackends(change, nil, a.backends)
			continue
		}
		moved = moved || j < last
		last = max(last, j)
		s.facts(change, before[j].facts, a.facts)
		s.ruleRisks(change, &before[j], a)
		s.weightRisks(change, before[j].backends, a.backends)
		s.emptyBackends(change, before[j].backends, a.backends)
	}
	for j := range before {
		if taken[j] {
			continue
		}
		change := at
		change.Action, change.Object, change.Rule, change.Before = Removed, before[j].route.String(), before[j].name, before[j].whole()
		s.d.Changes = append(s.d.Changes, change)
	}
	if moved {
		change := at
		change.Action, change.Field = Changed, "order of the rules"
		change.Before, change.After = order(before), order(after)
		s.d.Changes = append(s.d.Changes, change)
	}
}

func order(rules []ruleView) string {
	out := make([]string, len(rules))
	for i := range rules {
		out[i] = rules[i].route.String() + " " + rules[i].name
	}
	return strings.Join(out, ", ")
}
