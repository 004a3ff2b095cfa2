package diff

import (
	"fmt"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/policy/resolve"
	"github.com/causeway-mesh/causeway/policy/upstream"
)

// Risk is a change that a person should look at before they go on.
type Risk struct {
	// Target, Port, Callers and Host as in Change.
	Target  string   `json:"target"`
	Port    uint16   `json:"port,omitempty"`
	Callers string   `json:"callers,omitempty"`
	Host    string   `json:"host,omitempty"`
	Code    RiskCode `json:"code"`
	Message string   `json:"message"`
}

// RiskCode is a risk in a word that stays the same over releases.
type RiskCode string

// The risks that are looked for.
const (
	// Answers404 and Answers500: requests that were sent to a backend are answered by the mesh.
	Answers404 RiskCode = "Answers404"
	Answers500 RiskCode = "Answers500"
	// DefaultRouteLost: there was a route for every request and there is not any more.
	DefaultRouteLost RiskCode = "DefaultRouteLost"
	// WeightJump: a backend's part of the requests changes by more than half of them.
	WeightJump  RiskCode = "WeightJump"
	HomeChanges RiskCode = "HomeChanges"
	// NoEndpoints: what has no usable endpoint gets requests, or more of them.
	NoEndpoints    RiskCode = "NoEndpoints"
	TimeoutShrinks RiskCode = "TimeoutShrinks"
	// GroupCarriesTraffic: an InstanceGroup that gets requests is deleted, or its serviceRef names another Service.
	GroupCarriesTraffic RiskCode = "GroupCarriesTraffic"
	// ShiftDeleted: a TrafficShift is deleted before it has completed.
	ShiftDeleted           RiskCode = "ShiftDeleted"
	RewriteLost            RiskCode = "RewriteLost"
	SessionPersistenceLost RiskCode = "SessionPersistenceLost"
	HostLost               RiskCode = "HostLost"
	// ServiceRemoved: a Service or one of its ports that answered is gone.
	ServiceRemoved RiskCode = "ServiceRemoved"
	ObjectInvalid  RiskCode = "ObjectInvalid"
	// ListenerRemoved: a listener of a Gateway that answered is gone, moves to another port or becomes invalid.
	ListenerRemoved RiskCode = "ListenerRemoved"
	// ClientAddress: another address is taken for that of a Gateway's clients.
	ClientAddress RiskCode = "ClientAddress"
	// ConnectionsClose: a port's listener is replaced, so connections that are open on it end.
	ConnectionsClose RiskCode = "ConnectionsClose"
)

func (c *comparison) risk(r Risk) { c.d.Risks = append(c.d.Risks, r) }

// riskAt is a risk at a rule of a route.
func riskAt(at Change, code RiskCode, format string, args ...any) Risk {
	where := at.Object
	if at.Rule != "" {
		where += " " + at.Rule
	}
	return Risk{Target: at.Target, Port: at.Port, Callers: at.Callers, Host: at.Host, Code: code, Message: where + ": " + fmt.Sprintf(format, args...)}
}

const half = policy.ShareTotal / 2

func jumps(before, after uint32) bool { return max(before, after)-min(before, after) > half }

func (s *serviceComparison) portRisks(number uint16, before, after *policy.Port) {
	shares, backings := make(map[discovery.BackingName]uint32), make(map[discovery.BackingName]*policy.Backing)
	for i := range before.Backings {
		b := &before.Backings[i]
		shares[b.Platform], backings[b.Platform] = before.Shares[i], b
	}
	at := Change{Target: s.target, Port: number, Object: s.target}
	for i := range after.Backings {
		b := &after.Backings[i]
		old := shares[b.Platform]
		if jumps(old, after.Shares[i]) {
			s.risk(Risk{Target: s.target, Port: number, Code: WeightJump, Message: fmt.Sprintf(
				"the share of the %s goes from %s to %s at once", b.Platform, phrase.Percent(old), phrase.Percent(after.Shares[i]))})
		}
		if after.Shares[i] > old && !b.Usable() && s.live(s.after.Key, b.Platform) {
			s.risk(Risk{Target: s.target, Port: number, Code: NoEndpoints, Message: fmt.Sprintf(
				"the %s get %s and have no usable endpoint", b.Platform, phrase.Percent(after.Shares[i]))})
		}
		if was := backings[b.Platform]; was != nil {
			s.clusterRisks(at, "cluster of the "+b.Platform.String()+": ", &was.Settings, &b.Settings)
		}
	}
}

// live reports whether it is known what a Service has on a platform: a
// directory alone has no endpoints, and that says nothing.
func (c *comparison) live(service discovery.Key, p discovery.BackingName) bool {
	for e := range catalog.Endpoints.All(c.after) {
		if p == discovery.Pods || e.Platform == p && e.Service == service {
			return true
		}
	}
	return false
}

func (s *serviceComparison) weightRisks(at Change, before, after []policy.Backend) {
	old, now := shares(before), shares(after)
	for name, share := range now {
		if jumps(old[name], share) {
			s.risk(riskAt(at, WeightJump, "%s goes from %s to %s at once", name, phrase.Percent(old[name]), phrase.Percent(share)))
		}
	}
	for name, share := range old {
		if _, still := now[name]; !still && jumps(share, 0) {
			s.risk(riskAt(at, WeightJump, "%s goes from %s to nothing at once", name, phrase.Percent(share)))
		}
	}
}

func shares(backends []policy.Backend) map[string]uint32 {
	out := make(map[string]uint32, len(backends))
	for i := range backends {
		out[backendName(&backends[i])] += backends[i].Share
	}
	return out
}

// emptyBackends tells of backends that get more requests and cannot answer one.
func (s *serviceComparison) emptyBackends(at Change, before, after []policy.Backend) {
	old := shares(before)
	now := shares(after)
	for i := range after {
		b := &after[i]
		name := backendName(b)
		if now[name] <= old[name] || s.usable(b) {
			continue
		}
		s.risk(riskAt(at, NoEndpoints, "%s gets %s and has no usable endpoint", name, phrase.Percent(now[name])))
	}
}

func (s *serviceComparison) usable(b *policy.Backend) bool {
	if b.Kind != policy.ServiceBackend && b.Kind != policy.InstanceGroupBackend {
		return true
	}
	m := resolve.BuildService(s.comparison.after, b.Key)
	p := portsOf(m)[b.Port]
	if p == nil {
		return true // the backend is invalid then, which is told as such
	}
	if b.Kind == policy.InstanceGroupBackend {
		for i := range p.Groups {
			if p.Groups[i].Name == b.Group {
				return !s.live(b.Key, discovery.Instances) || (&policy.Backing{Zones: p.Groups[i].Zones}).Usable()
			}
		}
		return true
	}
	for i := range p.Backings {
		if p.Backings[i].Usable() || !s.live(b.Key, p.Backings[i].Platform) {
			return true
		}
	}
	return false
}

// ruleRisks tells of times that shrink, of sessions that end and of rewrites that are gone.
func (s *serviceComparison) ruleRisks(at Change, before, after *ruleView) {
	s.timeRisks(at, "", before.times, after.times)
	if before.rule == nil || after.rule == nil {
		return
	}
	if before.rule.Session().Value != nil && after.rule.Session().Value == nil {
		s.risk(riskAt(at, SessionPersistenceLost, "sessions do not stay at their backend any more"))
	}
	was, is := &before.rule.Filters, &after.rule.Filters
	for _, part := range []struct {
		name string
		lost bool
	}{{"host", was.Host != "" && is.Host == ""}, {"path", was.Path != nil && is.Path == nil}} {
		if part.lost {
			s.risk(riskAt(at, RewriteLost, "rewrite of the %s is gone, so backends see another one than before", part.name))
		}
	}
}

// timeRisks tells of times that shrink. prefix names what they are times of.
func (s *serviceComparison) timeRisks(at Change, prefix string, before, after policy.Timeouts) {
	s.timeRisk(at, prefix+"timeout.request", before.Request.Value, after.Request.Value)
	s.timeRisk(at, prefix+"timeout.idle", before.Idle.Value, after.Idle.Value)
	s.timeRisk(at, prefix+"timeout.connectionAge", before.ConnectionAge.Value, after.ConnectionAge.Value)
	s.timeRisk(at, prefix+"retry.perTry", before.Attempt.Value, after.Attempt.Value)
}

// timeRisk tells of a time that shrinks; 0 is without a bound.
func (s *serviceComparison) timeRisk(at Change, name string, was, is time.Duration) {
	switch {
	case is == 0 || is >= was && was != 0:
	case was != 0:
		s.risk(riskAt(at, TimeoutShrinks, "%s shrinks from %s to %s", name, was, is))
	default:
		s.risk(riskAt(at, TimeoutShrinks, "%s had no bound and gets %s", name, is))
	}
}

// clusterRisks tells of times of a backing's cluster that shrink.
func (s *serviceComparison) clusterRisks(at Change, prefix string, before, after *policy.Settings) {
	s.timeRisk(at, prefix+"timeout.connect", before.Connect().Value, after.Connect().Value)
	s.timeRisk(at, prefix+"timeout.streamAge", before.StreamAge().Value, after.StreamAge().Value)
}

// groupsTakenAway tells of InstanceGroups that are deleted, or given to another
// Service, while requests go to them.
func (c *comparison) groupsTakenAway() {
	for g := range catalog.InstanceGroups.All(c.before) {
		what := "it is deleted"
		now, still := catalog.InstanceGroups.Get(c.after, g.Key.String())
		if still {
			if now.Object.Spec.ServiceRef == g.Object.Spec.ServiceRef {
				continue
			}
			what = "spec.serviceRef gives it to Service " + now.Object.Spec.ServiceRef.Name
		}
		m := resolve.BuildService(c.before, discovery.Key{Namespace: g.Namespace, Name: g.Object.Spec.ServiceRef.Name})
		if m == nil {
			continue
		}
		why := ""
		for i := range m.Ports {
			p := &m.Ports[i]
			for j := range p.Backings {
				if p.Backings[j].Platform == discovery.Instances && p.Shares[j] > 0 {
					why = fmt.Sprintf("the instances get %s of Service %s", phrase.Percent(p.Shares[j]), m.Key)
				}
			}
			for j := range p.Groups {
				if p.Groups[j].Name == g.Name && !still {
					why = "a route sends requests to it by name"
				}
			}
		}
		if why != "" {
			c.risk(Risk{Target: "InstanceGroup " + g.Key.String(), Code: GroupCarriesTraffic, Message: what + " while it carries traffic: " + why})
		}
	}
}

// shiftsDeleted tells of TrafficShifts that are deleted while they are in charge
// and under way: the traffic goes back to where it came from.
func (c *comparison) shiftsDeleted() {
	for o := range catalog.Objects.By(c.before, catalog.ByKind, discovery.KindTrafficShift) {
		if _, still := catalog.Objects.Get(c.after, o.Name().String()); still {
			continue
		}
		for _, service := range o.Refs {
			if service.Kind != discovery.KindService {
				continue
			}
			object, shift := upstream.ShiftOf(c.before, service.Key)
			if shift == nil || object.Key != o.Key {
				continue
			}
			message := fmt.Sprintf("it is deleted before it has completed: all traffic of Service %s", service.Key)
			if m := resolve.BuildService(c.after, service.Key); m != nil && m.Shift == nil {
				message += fmt.Sprintf(" returns to its home, the %s", m.Home)
			} else {
				message += " goes where the next TrafficShift says"
			}
			c.risk(Risk{Target: o.Name().String(), Code: ShiftDeleted, Message: fmt.Sprintf("%s (the pods have %s now)", message, phrase.Percent(shift.ShareOf(discovery.Pods)))})
		}
	}
}
