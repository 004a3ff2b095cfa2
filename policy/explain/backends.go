package explain

import (
	"fmt"
	"net"
	"slices"
	"strconv"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/upstream"
)

// forward says where a rule sends the request.
func (e *evaluation) forward(rule *policy.Rule) {
	out := e.out
	e.deadline(rule)
	begin, invalid, silent := uint32(0), 0, 0
	for i := range rule.Backends {
		b := e.backend(rule, &rule.Backends[i], begin)
		begin = b.Interval.End
		if b.Answer != nil {
			invalid++
		} else if !slices.ContainsFunc(b.Targets, func(t Target) bool { return t.Percent > 0 && t.Answer == nil }) {
			silent++
		}
		out.Backends = append(out.Backends, b)
	}
	unknown := slices.IndexFunc(rule.Backends, func(b policy.Backend) bool { return b.Unknown != "" })
	switch {
	case len(rule.Backends) == invalid && unknown >= 0 && !slices.ContainsFunc(rule.Backends, func(b policy.Backend) bool { return b.Kind == policy.InvalidBackend }):
		out.Answer = out.Backends[unknown].Answer
	case len(rule.Backends) == invalid:
		out.Answer = e.failed(rule, "none of the rule's backends can be one: "+rule.Backends[0].Reason)
	case len(rule.Backends) == silent:
		out.Answer = e.answer(503, "no backend of the rule has an endpoint")
		if why := elsewhere(out.Backends); why != "" {
			out.Answer.Because = why
		}
	}
	for i := range rule.Filters.Mirrors {
		m := &rule.Filters.Mirrors[i]
		part := 0.0
		if m.Denominator > 0 {
			part = float64(m.Numerator) / float64(m.Denominator) * 100
		}
		out.Mirrors = append(out.Mirrors, Mirror{Backend: e.backend(rule, &m.To, 0), Percent: part})
	}
	e.cohort(rule)
	e.shadow(rule)
	slices.Sort(out.Envoy.Clusters)
	out.Envoy.Clusters = slices.Compact(out.Envoy.Clusters)
}

// elsewhere says why a backend that has endpoints has none for the caller, "" where there is none.
func elsewhere(backends []Backend) string {
	for i := range backends {
		for _, t := range backends[i].Targets {
			if t.Answer != nil && t.Nodes != "" && t.Percent > 0 {
				return t.Answer.Because
			}
		}
	}
	return ""
}

// backend describes one backend, whose interval begins at begin.
func (e *evaluation) backend(rule *policy.Rule, b *policy.Backend, begin uint32) Backend {
	filters := rule.Filters
	if b.Filters.Path != nil {
		filters.Path = nil // the backend's own counts, and acts on the path as it was matched
	}
	out := Backend{
		Index: b.Index, Kind: discovery.KindService, Name: b.Key.String(), Port: b.Port, Weight: b.Weight,
		Percent: percentOf(b.Share), Interval: Interval{begin, begin + b.Share},
		// The Gateway API leaves the order open. Proxies apply the filters of the
		// backend first and those of the rule to the result, to answers too.
		Forwarded: rewrite(rewrite(e.message(), &b.Filters, &rule.Match.Path), &filters, &rule.Match.Path),
	}
	if b.Shift != nil {
		out.Shift = b.Shift.Object.Key.String()
	}
	if !b.Filters.Response.Empty() {
		v := editsOf(&b.Filters.Response)
		out.ResponseHeaders = &v
	}
	switch b.Kind {
	case policy.InvalidBackend:
		out.Kind = "Invalid"
		out.Answer = e.failed(rule, b.Reason)
		return out
	case policy.InstanceGroupBackend:
		out.Kind, out.Name = discovery.KindInstanceGroup, discovery.Key{Namespace: b.Namespace, Name: b.Group}.String()
	case policy.ExternalBackend:
		out.Kind = discovery.KindExternalService
	case policy.ServiceBackend:
	}
	if b.Unknown != "" {
		what := "who has the traffic of " + b.Key.String()
		if b.Key == (discovery.Key{}) {
			what = "which rules hold"
		}
		out.Answer = e.answer(503, what+" is not known; proxies that had the routes before keep them: "+b.Unknown)
		return out
	}
	if b.Filters.Failed != "" {
		out.Answer = e.failed(rule, "a filter of the backend cannot be applied and must not be skipped: "+b.Filters.Failed)
		return out
	}
	for _, t := range b.Targets {
		target := e.target(b, t)
		target.Interval = Interval{begin, begin + t.Share}
		begin += t.Share
		out.Targets = append(out.Targets, target)
	}
	return out
}

// target describes one backing, or group, or an ExternalService.
func (e *evaluation) target(b *policy.Backend, t policy.Target) Target {
	named, own, standby := clusterName(b, t)
	out := Target{Percent: percentOf(t.Share), Cluster: named, AnsweredBy: own}
	if len(standby) > 0 {
		out.Standby = standby[0]
	}
	e.out.Envoy.Clusters = append(append(e.out.Envoy.Clusters, named, own), standby...)
	if b.Kind == policy.ExternalBackend {
		e.external(b, &out)
		return out
	}
	out.Platform = t.Platform.String()
	m := e.service(b.Key)
	port := portOf(m, b.Port)
	if port == nil {
		out.Answer = e.answer(503, fmt.Sprintf("Service %s has no port %d", b.Key, b.Port))
		return out
	}
	if b.Kind == policy.InstanceGroupBackend {
		for i := range port.Groups {
			if g := &port.Groups[i]; g.Name == b.Group {
				e.endpoints(&out, &policy.Backing{Platform: discovery.Instances, Zones: g.Zones, Settings: g.Settings, TLS: g.TLS})
				return out
			}
		}
		out.Answer = e.answer(503, fmt.Sprintf("InstanceGroup %s has no endpoint", b.Group))
		return out
	}
	first := port.Backing(t.Platform)
	out.Nodes = e.nodesText(first)
	for i := 0; i < len(standby) && !e.reaches(first); i++ {
		if next := port.Backing(t.Failover[i]); e.reaches(next) {
			out.AnsweredBy, first = standby[i], next
		}
	}
	if first == nil {
		out.Answer = e.answer(503, fmt.Sprintf("Service %s has no %s", b.Key, t.Platform))
		return out
	}
	here := first.From(e.req.From.Node)
	e.endpoints(&out, here)
	if out.Answer != nil && len(here.Zones) == 0 && len(first.Zones) > 0 {
		out.Answer.Because = e.noneHere(b.Key, first)
	}
	return out
}

// reaches reports whether the caller can reach a usable endpoint of a backing, which may be nil.
func (e *evaluation) reaches(b *policy.Backing) bool {
	return b != nil && b.From(e.req.From.Node).Usable()
}

// endpoints fills in the zones and what holds for connections to them.
func (e *evaluation) endpoints(out *Target, b *policy.Backing) {
	out.TLS = tlsText(b.TLS)
	if out.Answer = e.unspoken(b.TLS); out.Answer != nil {
		return
	}
	out.Policies = policiesOf(&b.Settings)
	out.Timeouts = []Setting{times("connect", b.Settings.Connect())}
	out.Zones = e.zonesOfBacking(b)
	if len(out.Zones) == 0 {
		out.Answer = e.answer(503, "it has no endpoint")
	}
}

// external fills in how an ExternalService is reached.
func (e *evaluation) external(b *policy.Backend, out *Target) {
	x := upstream.BuildExternal(e.reader, b.Key)
	if x == nil {
		out.Answer = e.answer(503, fmt.Sprintf("there is no ExternalService %s", b.Key))
		return
	}
	for i := range x.Ports {
		p := &x.Ports[i]
		if p.Number != b.Port {
			continue
		}
		out.Policies, out.TLS = policiesOf(&p.Settings), tlsText(p.TLS)
		out.Timeouts = []Setting{times("connect", p.Settings.Connect())}
		if out.Answer = e.unspoken(p.TLS); out.Answer != nil {
			return
		}
		if x.DNS != "" {
			out.Resolves = net.JoinHostPort(x.DNS, strconv.Itoa(int(p.TargetPort)))
			return
		}
		byZone := map[string][]policy.Endpoint{}
		var names []string
		for _, a := range x.Endpoints {
			if _, ok := byZone[a.Zone]; !ok {
				names = append(names, a.Zone)
			}
			byZone[a.Zone] = append(byZone[a.Zone], policy.Endpoint{ID: a.Address, Address: a.Address, Port: p.TargetPort, Weight: 1})
		}
		slices.Sort(names)
		var zones []policy.Zone
		for _, name := range names {
			zones = append(zones, policy.Zone{Name: name, Endpoints: byZone[name]})
		}
		out.Zones = zonesOf(zones, e.req.From.Zone, p.Settings.Locality())
		return
	}
	out.Answer = e.answer(503, fmt.Sprintf("ExternalService %s has no port %d", b.Key, b.Port))
}

// unspoken is the answer where nothing may be sent because of TLS, nil where something may.
func (e *evaluation) unspoken(t *policy.TLS) *Answer {
	switch {
	case t == nil || t.Failed == "":
		return nil
	case t.Unknown:
		return e.answer(503, "it is not known whether TLS is demanded; proxies that had the cluster before go on as they did: "+t.Failed)
	}
	return e.answer(503, "nothing may be sent where TLS is demanded and cannot be spoken: "+t.Failed)
}

func tlsText(t *policy.TLS) string {
	switch {
	case t == nil:
		return ""
	case t.Unknown:
		return "not known: " + t.Failed
	case t.Failed != "":
		return "cannot be spoken: " + t.Failed
	}
	s := "TLS to " + t.SNI
	if t.CAs == "" {
		s += ", checked against the CAs of the proxy's host"
	}
	return s
}

func portOf(m *policy.Service, number uint16) *policy.Port {
	if m == nil {
		return nil
	}
	for i := range m.Ports {
		if m.Ports[i].Number == number {
			return &m.Ports[i]
		}
	}
	return nil
}
