package ec2

import (
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
)

// Reasons of a draining endpoint that stem from an event. They begin the
// Reason, so that a new leader finds the signal again in what is published.
const (
	reasonSpot        = "SpotInterruption"
	reasonReservation = "CapacityReservationInterruption"
	reasonRebalance   = "RebalanceRecommendation"
	reasonLeaving     = "Leaving"
	reasonAgent       = "AgentDraining"
)

// signalKind is what an event says about an instance's end.
type signalKind uint8

const (
	// spotInterruption: EC2 takes the instance back in two minutes.
	spotInterruption signalKind = iota
	// rebalance: the instance is at elevated risk of that.
	rebalance
	// leaving: the instance stops, or its auto scaling group lets it go.
	leaving
	// told: the agent on the instance says that it is to get nothing new.
	told
	signalKinds
)

// A signal is true until the instance is gone. If the instance is still there
// after this long, the signal was not: a Spot reclaim comes within two minutes, a
// sweep sees a stop or a termination within seconds, and a recommendation that
// nothing followed is history.
func (k signalKind) lifetime() time.Duration {
	switch k {
	case spotInterruption:
		return 10 * time.Minute
	case rebalance:
		return time.Hour
	case told:
		return discovery.LeavingFor
	}
	return 2 * time.Minute
}

// maxSignals bounds what a flood of events about instances of others can occupy.
const maxSignals = 20_000

type signal struct {
	at     time.Time // zero: none
	reason string
}

// valid reports whether the signal speaks of this run of the instance: an
// event from before it was started (again) came late. Events tell whole seconds.
func (s *signal) valid(k signalKind, launched, now time.Time) bool {
	return !s.at.IsZero() && now.Sub(s.at) < k.lifetime() && !s.at.Before(launched.Truncate(time.Second))
}

// signals remembers the newest signal of each kind, by instance id.
type signals struct {
	byID map[string]*[signalKinds]signal
}

func newSignals() *signals { return &signals{byID: make(map[string]*[signalKinds]signal)} }

// add notes a signal, false for one that is too old to mean anything. Duplicates and older ones change nothing.
func (s *signals) add(id string, k signalKind, at time.Time, reason string, now time.Time) bool {
	if at.After(now) {
		at = now // clocks differ
	}
	if now.Sub(at) >= k.lifetime() {
		return false
	}
	known := s.byID[id]
	if known == nil {
		if len(s.byID) >= maxSignals {
			return false
		}
		known = new([signalKinds]signal)
		s.byID[id] = known
	}
	if at.After(known[k].at) {
		known[k] = signal{at, reason}
	}
	return true
}

// started notes that the instance runs since at, which ends an older stop.
func (s *signals) started(id string, at time.Time) {
	if known := s.byID[id]; known != nil && known[leaving].at.Before(at) {
		known[leaving] = signal{}
	}
}

// drain returns the reason to drain an instance that was launched then.
func (s *signals) drain(id string, launched, now time.Time) (reason string, ok bool) {
	known := s.byID[id]
	if known == nil {
		return "", false
	}
	for _, k := range []signalKind{spotInterruption, leaving, told} {
		if known[k].valid(k, launched, now) {
			return known[k].reason, true
		}
	}
	return "", false
}

// rebalance returns when rebalancing was recommended.
func (s *signals) rebalance(id string, launched, now time.Time) (at time.Time, ok bool) {
	known := s.byID[id]
	if known == nil || !known[rebalance].valid(rebalance, launched, now) {
		return time.Time{}, false
	}
	return known[rebalance].at, true
}

// restore finds the signals again that made these endpoints drain.
func (s *signals) restore(endpoints []discovery.Endpoint, now time.Time) {
	for i := range endpoints {
		e := &endpoints[i]
		if e.Health != discovery.Draining {
			continue
		}
		for prefix, k := range map[string]signalKind{
			reasonSpot: spotInterruption, reasonReservation: spotInterruption, reasonRebalance: rebalance, reasonLeaving: leaving, reasonAgent: told,
		} {
			if strings.HasPrefix(e.Reason, prefix) {
				s.add(e.ID, k, now, e.Reason, now)
			}
		}
	}
}

// prune forgets what is over: signals past their time, and instances that an
// answer says are gone.
func (s *signals) prune(a *answer, now time.Time) {
	for id, known := range s.byID {
		if i, ok := a.instances[id]; ok && gone(i.state) {
			delete(s.byID, id)
			continue
		}
		alive := false
		for k := range known {
			if known[k].valid(signalKind(k), time.Time{}, now) {
				alive = true
			}
		}
		if !alive {
			delete(s.byID, id)
		}
	}
}
