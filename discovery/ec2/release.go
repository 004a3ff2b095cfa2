package ec2

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Release sets free, at once, the endpoints of a group that the never-empty
// guard holds. It does not concern later ones.
func (s *Source) Release(key discovery.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.groups[key]
	if s.catalog == nil || known == nil {
		return
	}
	known.released = time.Now()
	_, err := s.catalog.Write(time.Time{}, func(tx *catalog.Tx) error {
		if g, ok := catalog.InstanceGroups.Get(tx.Reader, key.String()); ok {
			s.release(tx, g, known.released)
		}
		return nil
	})
	if err != nil {
		s.log.Error("cannot release", "group", key.String(), "error", err)
	}
}

// releaseAnnotated releases what the group's annotation says.
func (s *Source) releaseAnnotated(tx *catalog.Tx, g *discovery.InstanceGroup, now time.Time) {
	if until := annotatedRelease(g, now); !until.IsZero() {
		s.release(tx, g, until)
	}
}

// release removes the endpoints that are held since until or before.
func (s *Source) release(tx *catalog.Tx, g *discovery.InstanceGroup, until time.Time) {
	known := s.groups[g.Key]
	set, ok := catalog.Instances.Get(tx.Reader, g.Key.String())
	if known == nil || !ok {
		return
	}
	if !known.foreign.IsZero() && !known.foreign.After(until) {
		// A release also confirms that the other account's answer is meant.
		out := *set
		out.Account, known.meant = "", known.stranger
		catalog.Instances.Put(tx, &out)
		set = &out
	}
	next := guard{removed: known.guard.removed, held: make(map[string]time.Time)}
	for id, since := range known.guard.held {
		if since.After(until) {
			next.held[id] = since
		}
	}
	if len(next.held) == len(known.guard.held) {
		return
	}
	out := *set
	out.Endpoints = slices.DeleteFunc(slices.Clone(set.Endpoints), func(e discovery.Endpoint) bool {
		_, was := known.guard.held[e.ID]
		_, is := next.held[e.ID]
		return was && !is
	})
	catalog.Instances.Put(tx, &out)
	s.putStatus(tx, g.Key, func(st *discovery.GroupStatus) {
		if st.GuardHeld = len(next.held); st.GuardHeld == 0 {
			st.GuardReason = ""
		}
	})
	s.log.Info("released what the never-empty guard held", "group", g.Key.String(), "instances", len(set.Endpoints)-len(out.Endpoints))
	s.metrics.held.WithLabelValues(g.Key.String()).Set(float64(len(next.held)))
	known.guard = next
	if len(next.held) == 0 {
		known.account, known.selector = keyOf(g), &g.Object.Spec.Selector
	}
}

// annotatedRelease returns until when the group's annotation releases, zero if it does not.
func annotatedRelease(g *discovery.InstanceGroup, now time.Time) time.Time {
	until, err := parseRelease(g.Object.Annotations[v1alpha1.GuardReleaseAnnotation], now)
	if err != nil {
		return time.Time{}
	}
	return until
}

var errFuture = errors.New("it lies in the future, and would release what nobody has looked at")

// parseRelease reads the annotation's value. A value in whole seconds means
// that second as a whole. Clocks may differ by a minute.
func parseRelease(value string, now time.Time) (time.Time, error) {
	until, err := time.Parse(time.RFC3339, value)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is not a time like 2006-01-02T15:04:05Z", value)
	}
	if until.After(now.Add(time.Minute)) {
		return time.Time{}, errFuture
	}
	if until.Nanosecond() == 0 {
		until = until.Add(time.Second - 1)
	}
	return until, nil
}
