package explain

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
)

// Effects returns the effects of an object on a unit, a sentence for each: rules that come from it,
// backends that it is, sections that are in force because of it.
func Effects(r catalog.Reader, m policy.Model, ref discovery.ObjectRef) []string {
	switch m := m.(type) {
	case *policy.Service:
		return serviceEffects(m, ref)
	case *policy.External:
		return externalEffects(m, ref)
	case *policy.Gateway:
		return gatewayEffects(r, m, ref)
	}
	return nil
}

// serviceEffects returns the effects of an object on a Service: rules that come
// from it, backends that it is, and sections that are in force because of it.
func serviceEffects(m *policy.Service, ref discovery.ObjectRef) []string {
	var out []string
	if isShift(m.Shift, ref) {
		out = append(out, shiftEffects(m)...)
	}
	for i := range m.Ports {
		p := &m.Ports[i]
		at := fmt.Sprintf("Service %s port %d", m.Key, p.Number)
		if p.HTTP != nil {
			out = append(out, routeEffects(at, p.HTTP.Rules, ref)...)
		}
		for _, ns := range slices.Sorted(maps.Keys(p.ConsumerHTTP)) {
			out = append(out, routeEffects(at+", callers of namespace "+ns, p.ConsumerHTTP[ns].Rules, ref)...)
		}
		if p.TCP != nil {
			out = append(out, tcpEffects(at, p.TCP.Rules, ref)...)
		}
		for _, ns := range slices.Sorted(maps.Keys(p.ConsumerTCP)) {
			out = append(out, tcpEffects(at+", callers of namespace "+ns, p.ConsumerTCP[ns].Rules, ref)...)
		}
		out = append(out, settingsEffects(at+", requests without a route", p.Settings.From, ref)...)
		for j := range p.Backings {
			b := &p.Backings[j]
			out = append(out, settingsEffects(fmt.Sprintf("%s, cluster of the %s", at, b.Platform), b.Settings.From, ref)...)
			if ref.Kind == discovery.KindService && ref.Key == m.Key || isShift(m.Shift, ref) {
				out = append(out, fmt.Sprintf("%s: the %s get %s", at, b.Platform, Percent(percentOf(p.Shares[j]))))
			}
		}
		for j := range p.Groups {
			g := &p.Groups[j]
			where := fmt.Sprintf("%s, cluster of InstanceGroup %s", at, g.Name)
			out = append(out, settingsEffects(where, g.Settings.From, ref)...)
			if ref.Kind == discovery.KindInstanceGroup && ref.Key == (discovery.Key{Namespace: m.Namespace, Name: g.Name}) {
				out = append(out, where+": routes send requests to it by name")
			}
		}
	}
	return out
}

func isShift(s *policy.Shift, ref discovery.ObjectRef) bool {
	return s != nil && s.Object.Kind == ref.Kind && s.Object.Key == ref.Key
}

// shiftEffects says who moves together and what is copied.
func shiftEffects(m *policy.Service) []string {
	out := []string{fmt.Sprintf("Service %s: every request is on its own", m.Key)}
	if c := m.Shift.Cohort; c != nil {
		out[0] = fmt.Sprintf("Service %s: requests with the same %s stay on their side", m.Key, c)
		if c.TTL > 0 {
			out[0] += fmt.Sprintf(", which the mesh sets for %s on the first answer to who has none", c.TTL)
		}
	}
	if s := m.Shift.Shadow; s != nil {
		out = append(out, fmt.Sprintf("Service %s: %s of the requests with %s are copied to the %s",
			m.Key, Percent(percentOf(s.Share)), strings.Join(s.Methods, ", "), s.To))
	}
	return out
}

func routeEffects(at string, rules []policy.Rule, ref discovery.ObjectRef) []string {
	var out []string
	for i := range rules {
		r := &rules[i]
		name := fmt.Sprintf("%s rules[%d].matches[%d]", r.Route, r.Index, r.MatchIndex)
		if r.Name != "" {
			name += " (" + r.Name + ")"
		}
		if r.Route.Kind == ref.Kind && r.Route.Key == ref.Key {
			out = append(out, fmt.Sprintf("%s: %s is match %d of %d", at, name, i+1, len(rules)))
		}
		for j := range r.Backends {
			if b := &r.Backends[j]; isBackend(b, ref) {
				out = append(out, fmt.Sprintf("%s: %s sends it %s", at, name, Percent(percentOf(b.Share))))
			}
		}
		for j := range r.Filters.Mirrors {
			if isBackend(&r.Filters.Mirrors[j].To, ref) {
				out = append(out, fmt.Sprintf("%s: %s sends it copies", at, name))
			}
		}
		out = append(out, ruleEffects(at+", "+name, r, ref)...)
	}
	return out
}

func tcpEffects(at string, rules []policy.TCPRule, ref discovery.ObjectRef) []string {
	var out []string
	for i := range rules {
		r := &rules[i]
		name := fmt.Sprintf("%s rules[%d]", r.Route, r.Index)
		if r.Route.Kind == ref.Kind && r.Route.Key == ref.Key {
			takes := "every connection"
			if len(r.ServerNames) > 0 {
				takes = "connections to " + strings.Join(r.ServerNames, ", ")
			}
			out = append(out, fmt.Sprintf("%s: %s takes %s", at, name, takes))
		}
		for j := range r.Backends {
			if b := &r.Backends[j]; isBackend(b, ref) {
				out = append(out, fmt.Sprintf("%s: %s sends it %s", at, name, Percent(percentOf(b.Share))))
			}
		}
		out = append(out, settingsEffects(at+", "+name, r.Settings.From, ref)...)
	}
	return out
}

func isBackend(b *policy.Backend, ref discovery.ObjectRef) bool {
	switch b.Kind {
	case policy.ServiceBackend:
		return ref.Kind == discovery.KindService && ref.Key == b.Key
	case policy.ExternalBackend:
		return ref.Kind == discovery.KindExternalService && ref.Key == b.Key
	case policy.InstanceGroupBackend:
		return ref.Kind == discovery.KindInstanceGroup && ref.Key == discovery.Key{Namespace: b.Namespace, Name: b.Group}
	case policy.InvalidBackend:
	}
	return false
}

// settingsEffects names the sections that are effective because of an object.
func settingsEffects(at string, from map[string]discovery.ObjectRef, ref discovery.ObjectRef) []string {
	var sections []string
	for section, source := range from {
		if source.Kind == ref.Kind && source.Key == ref.Key {
			sections = append(sections, section)
		}
	}
	if len(sections) == 0 {
		return nil
	}
	slices.Sort(sections)
	return []string{at + ": its " + strings.Join(sections, ", ") + " holds"}
}

func externalEffects(m *policy.External, ref discovery.ObjectRef) []string {
	var out []string
	if ref.Kind == discovery.KindExternalService && ref.Key == m.Key {
		for i := range m.Ports {
			out = append(out, fmt.Sprintf("hosts %s are reachable on port %d", strings.Join(m.Hosts, ", "), m.Ports[i].Number))
		}
	}
	for i := range m.Ports {
		p := &m.Ports[i]
		out = append(out, settingsEffects(fmt.Sprintf("ExternalService %s port %d", m.Key, p.Number), p.Settings.From, ref)...)
	}
	return out
}
