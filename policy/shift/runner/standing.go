package runner

import (
	"cmp"
	"fmt"
	"math"
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
	gone map[discovery.Platform]string
	// unread is what is not known yet.
	unread string
	now    bool
	by     discovery.Platform
	// since is for how long no side has stood in for the other.
	since time.Duration
}

// in returns what is left of it in a window, nil for nothing.
func (s *standing) in(window time.Duration) *shift.StandIn {
	if s.since >= window && !s.now {
		return nil
	}
	return &shift.StandIn{By: s.by, Now: s.now}
}

// standing finds out who answers: by the endpoints that there are, and by what callers' proxies
// say, who may find dead what EC2 or Kubernetes call alive.
func (r *Runner) standing(reader catalog.Reader, object *v1alpha1.TrafficShift, model *policy.Service, m *memory, now time.Time) *standing {
	s := &standing{gone: make(map[discovery.Platform]string), since: math.MaxInt64}
	ports, both, mapped := make(map[discovery.Platform][]string), true, make(map[uint16]bool)
	var alone []string
	for i := range model.Ports {
		p := &model.Ports[i]
		if mapped[p.Number] = resolve.MapsPort(reader, model, p); !mapped[p.Number] {
			continue
		}
		for j := range p.Backings {
			platform := p.Backings[j].Platform
			switch {
			case p.Backings[j].Usable():
				m.usable[platform] = true
			case !upstream.Known(reader, model.Key, platform):
				s.unread = fmt.Sprintf("the %s of the Service are not read yet", platform)
			default:
				both = both && !otherUsable(p, platform)
				s.gone[platform] = fmt.Sprintf("the %s have no usable endpoint", platform)
				switch {
				case p.Shares[j] == 0:
				case !p.Failover:
					alone = append(alone, fmt.Sprintf("the %s have a share and no usable endpoint on port %d, and there is no failover: what is meant for them fails; see `causeway endpoints %s`",
						platform, p.Number, model.Key))
				default:
					ports[platform] = append(ports[platform], fmt.Sprint(p.Number))
				}
			}
		}
	}
	for _, platform := range []discovery.Platform{discovery.Pods, discovery.Instances} {
		numbers := ports[platform]
		if len(numbers) == 0 {
			continue
		}
		if m.arriving(object, platform, now) {
			s.unread = cmp.Or(s.unread, fmt.Sprintf("the %s of the Service have no usable endpoint yet", platform))
			continue
		}
		s.now, s.by = true, platform.Other()
		s.text = standsText(object, model.Key, platform, strings.Join(numbers, ", "), both)
	}
	if s.text == "" && len(alone) > 0 && s.unread == "" {
		s.text = strings.Join(alone, "; ")
	}
	if w, ok := r.opts.Outcomes.Window(model.Key, lately); ok && s.text == "" {
		for _, platform := range []discovery.Platform{discovery.Pods, discovery.Instances} {
			failed, meant := uint64(0), uint64(0)
			for key, c := range w.Outcomes {
				if key.Platform == platform && mapped[key.Port] {
					failed, meant = failed+c.FailedOver, meant+c.Meant()
				}
			}
			if failed >= fewest && 2*failed > meant {
				s.now, s.by = true, platform.Other()
				s.gone[platform] = fmt.Sprintf("callers' proxies find no usable endpoint of the %s", platform)
				s.text = fmt.Sprintf("callers' proxies find no usable endpoint of the %s, so the %s answer for them: see `causeway endpoints %s`",
					platform, platform.Other(), model.Key)
			}
		}
	}
	if s.now {
		m.stoodIn, m.stoodInBy = now, s.by
	}
	if !m.stoodIn.IsZero() {
		s.since, s.by = now.Sub(m.stoodIn), m.stoodInBy
	}
	return s
}

// arriving reports whether a side that has no usable endpoint has just not come yet: the objects of a
// Service that are applied together are not read together.
func (m *memory) arriving(object *v1alpha1.TrafficShift, platform discovery.Platform, now time.Time) bool {
	c := meta.FindStatusCondition(object.Status.Conditions, v1alpha1.ConditionProgressing)
	return !m.usable[platform] && now.Sub(m.first) < arrival && (c == nil || c.Reason != string(v1alpha1.EventFailedOver))
}

// standsText says who answers now, and why.
func standsText(object *v1alpha1.TrafficShift, service discovery.Key, gone discovery.Platform, ports string, both bool) string {
	look := fmt.Sprintf("see `causeway endpoints %s`", service)
	if both {
		return fmt.Sprintf("neither side has a usable endpoint on port %s: nobody answers; %s", ports, look)
	}
	text := fmt.Sprintf("the %s have no usable endpoint on port %s: the %s answer for them; %s", gone, ports, gone.Other(), look)
	if gone == targetOf(object).Other() {
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

// otherUsable reports whether a port has endpoints of another platform.
func otherUsable(p *policy.Port, platform discovery.Platform) bool {
	for i := range p.Backings {
		if p.Backings[i].Platform != platform && p.Backings[i].Usable() {
			return true
		}
	}
	return false
}
