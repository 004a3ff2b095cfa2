package runner

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/outcome"
	"github.com/causeway-mesh/causeway/policy/resolve"
	"github.com/causeway-mesh/causeway/policy/shift"
	"github.com/causeway-mesh/causeway/policy/upstream"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

const (
	// lately is the end of the window by which proxies are asked who answers now: they log every
	// second, and so do replicas report.
	lately = 3 * time.Second
	// fewest requests that the other side answered are more than a blink of one proxy.
	fewest = 3
	// arrival is how long what belongs to a Service may take to be read after its TrafficShift.
	arrival = 15 * time.Second
)

// standing says which side stands in for which.
type standing struct {
	// text says so in words while it goes on, "" if it does not.
	text string
	// gone says of a side that it has no usable endpoint.
	gone map[discovery.BackingName]string
	// unread is what is not known yet.
	unread string
	now    bool
	// by is the side that answers, of the one whose requests they are.
	by, of discovery.BackingName
	// since is for how long no side has stood in for the other.
	since time.Duration
}

// in returns what is left of it in a window, nil for nothing.
func (s *standing) in(window time.Duration) *shift.StandIn {
	if s.since >= window && !s.now {
		return nil
	}
	return &shift.StandIn{By: s.by, For: s.of, Now: s.now}
}

// standing finds out which backings can answer: from the endpoints, and from the callers'
// proxies, which may find an endpoint dead that EC2 or Kubernetes calls alive.
func (r *Runner) standing(reader catalog.Reader, object *v1alpha1.TrafficShift, model *policy.Service, m *memory, now time.Time) *standing {
	s := &standing{gone: make(map[discovery.BackingName]string), since: math.MaxInt64}
	gaps, mapped := make(map[discovery.BackingName]*gap), make(map[uint16]bool)
	var alone []string
	for i := range model.Ports {
		p := &model.Ports[i]
		if mapped[p.Number] = resolve.MapsPort(reader, model, p); !mapped[p.Number] {
			continue
		}
		for j := range p.Backings {
			backing := p.Backings[j].Platform
			switch {
			case p.Backings[j].Usable():
				m.usable[backing] = true
			case !upstream.Known(reader, model.Key, backing):
				s.unread = fmt.Sprintf("the %s of the Service are not read yet", backing)
			default:
				s.gone[backing] = fmt.Sprintf("the %s have no usable endpoint", backing)
				switch {
				case p.Shares[j] == 0:
				case len(p.Backings[j].Failover) == 0:
					alone = append(alone, fmt.Sprintf("the %s have a share and no usable endpoint on port %d, and there is no failover: what is meant for them fails; see `causeway endpoints %s`",
						backing, p.Number, model.Key))
				default:
					if gaps[backing] == nil {
						gaps[backing] = &gap{}
					}
					gaps[backing].add(p, &p.Backings[j])
				}
			}
		}
	}
	standIns := standIns(model, mapped)
	for _, gone := range slices.SortedFunc(maps.Keys(standIns), discovery.CompareBackings) {
		g := gaps[gone]
		if g == nil {
			continue
		}
		if m.arriving(object, gone, now) {
			s.unread = cmp.Or(s.unread, fmt.Sprintf("the %s of the Service have no usable endpoint yet", gone))
			continue
		}
		s.now, s.by, s.of = true, g.by, gone
		s.text = g.text(object, model.Key, gone)
	}
	if s.text == "" && len(alone) > 0 && s.unread == "" {
		s.text = strings.Join(alone, "; ")
	}
	if w, ok := r.opts.Outcomes.Window(model.Key, lately); ok && s.text == "" {
		for _, gone := range slices.SortedFunc(maps.Keys(standIns), discovery.CompareBackings) {
			failed, meant := uint64(0), uint64(0)
			for key, c := range w.Outcomes {
				if key.Platform == gone && mapped[key.Port] {
					failed, meant = failed+c.FailedOver, meant+c.Meant()
				}
			}
			if failed >= fewest && 2*failed > meant {
				s.now, s.by, s.of = true, standIns[gone], gone
				s.gone[gone] = fmt.Sprintf("callers' proxies find no usable endpoint of the %s", gone)
				s.text = fmt.Sprintf("callers' proxies find no usable endpoint of the %s, so the %s answer for them: see `causeway endpoints %s`",
					gone, s.by, model.Key)
			}
		}
	}
	if s.now {
		m.stoodIn, m.stoodInBy, m.stoodInFor = now, s.by, s.of
	}
	if !m.stoodIn.IsZero() {
		s.since, s.by, s.of = now.Sub(m.stoodIn), m.stoodInBy, m.stoodInFor
	}
	return s
}

// arriving reports whether a side that has no usable endpoint has just not come yet: the objects of a
// Service that are applied together are not read together.
func (m *memory) arriving(object *v1alpha1.TrafficShift, platform discovery.BackingName, now time.Time) bool {
	c := meta.FindStatusCondition(object.Status.Conditions, v1alpha1.ConditionProgressing)
	return !m.usable[platform] && now.Sub(m.first) < arrival && (c == nil || c.Reason != string(v1alpha1.EventFailedOver))
}

// gap is where a backing that has a share has no usable endpoint.
type gap struct {
	ports []string
	// by is the backing that answers instead, and answers whether it has any endpoint that can.
	by      discovery.BackingName
	answers bool
}

// add counts a port. Who answers is who is the first in the order of failover that can.
func (g *gap) add(p *policy.Port, gone *policy.Backing) {
	if len(g.ports) == 0 {
		g.by = gone.Failover[0]
	}
	g.ports = append(g.ports, strconv.Itoa(int(p.Number)))
	if by := p.StandIn(gone); by != nil && !g.answers {
		g.by, g.answers = by.Platform, true
	}
}

// standIns returns who is the first to answer for each backing of the ports that can be compared.
func standIns(model *policy.Service, mapped map[uint16]bool) map[discovery.BackingName]discovery.BackingName {
	out := make(map[discovery.BackingName]discovery.BackingName)
	for i := range model.Ports {
		p := &model.Ports[i]
		for j := range p.Backings {
			b := &p.Backings[j]
			if _, ok := out[b.Platform]; !ok && mapped[p.Number] && len(b.Failover) > 0 {
				out[b.Platform] = b.Failover[0]
			}
		}
	}
	return out
}

// text says who answers now, and why.
func (g *gap) text(object *v1alpha1.TrafficShift, service discovery.Key, gone discovery.BackingName) string {
	look, ports := fmt.Sprintf("see `causeway endpoints %s`", service), strings.Join(g.ports, ", ")
	if !g.answers {
		return fmt.Sprintf("neither side has a usable endpoint on port %s: nobody answers; %s", ports, look)
	}
	text := fmt.Sprintf("the %s have no usable endpoint on port %s: the %s answer for them; %s", gone, ports, g.by, look)
	if from, _ := policy.FromTo(shift.DirectionOf(object)); gone == from {
		text += ", bring them back, or, if they are gone for good, set spec.pin: \"100\""
	}
	return text
}

// comparable returns the part of a window in which each side answered its own requests.
func (r *Runner) comparable(service discovery.Key, s *standing, whole *outcome.Window, window time.Duration) *outcome.Window {
	if s.since >= window {
		return whole
	}
	w, _ := r.opts.Outcomes.Window(service, s.since)
	if s.now {
		w = outcome.Window{}
	}
	w.Covered = min(w.Covered, s.since)
	return &w
}
