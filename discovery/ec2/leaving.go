package ec2

import (
	"slices"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
)

// Leave takes what agents say of their hosts, all of them: these drain, and those that it named before and names no
// more do not for that reason. An agent is believed about instances of InstanceGroups in its own namespace.
func (s *Source) Leave(list []discovery.Leaving, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.catalog == nil {
		return // it is told again
	}
	saying := make(map[string]struct{}, len(list))
	_, err := s.catalog.Write(now, func(tx *catalog.Tx) error {
		for _, l := range list {
			if !holds(tx, l) {
				continue
			}
			saying[l.Instance] = struct{}{}
			reason := reasonAgent + ": " + l.Reason
			if s.signals.add(l.Instance, told, l.Heard, reason, now) {
				s.drain(tx, l.Instance, reason)
			}
		}
		return nil
	})
	if err != nil {
		s.log.Error("cannot drain what agents say", "error", err)
		return
	}
	ended := false
	for id, known := range s.signals.byID {
		if _, still := saying[id]; !still && known[told].valid(told, time.Time{}, now) {
			known[told] = signal{}
			ended = true
		}
	}
	if ended {
		for _, a := range s.accounts {
			a.poke()
		}
	}
}

// holds reports whether an InstanceGroup of the agent's namespace has the instance.
func holds(tx *catalog.Tx, l discovery.Leaving) bool {
	for set := range catalog.Instances.All(tx.Reader) {
		if set.Namespace == l.Namespace && slices.ContainsFunc(set.Endpoints, func(e discovery.Endpoint) bool { return e.ID == l.Instance }) {
			return true
		}
	}
	return false
}
