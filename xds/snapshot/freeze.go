package snapshot

import (
	"slices"
	"time"

	"github.com/causeway-mesh/causeway/xds/resource"
)

// freeze says whether configuration is frozen.
type freeze struct {
	// known is false until the first Freeze: then what an earlier run has held
	// back stays so, because the freeze may still be on.
	known bool
	// since is when the freeze began, which tells one from the next; zero for none.
	since time.Time
}

// Freeze holds the configuration of every unit as it is from now on: only
// endpoints move, and what proxies declare themselves (Update.Declared) comes
// and goes. A unit that is new stays out, one that is gone stays.
//
// Each unit that an update would have changed becomes a Pin, so that another
// replica, or this one after a restart, holds it at the same; one that is
// updated back to what it was stops to be. since tells this freeze from others,
// whose pins end. The zero time ends the freeze.
//
// Freeze returns the units that are no longer held, sorted: they are to be
// applied anew.
func (s *Store) Freeze(since time.Time) (released []string) {
	s.apply.Lock()
	defer s.apply.Unlock()
	s.mu.Lock()
	s.freeze = freeze{known: true, since: since}
	for name, p := range s.pins {
		if p.Frozen.IsZero() || p.Frozen.Equal(since) {
			continue
		}
		released = append(released, name)
		if len(p.Rejected) == 0 {
			delete(s.pins, name)
			continue
		}
		refused := *p
		refused.Frozen = time.Time{}
		s.pins[name] = &refused
	}
	s.mu.Unlock()
	if len(released) > 0 {
		s.pinsChanged()
	}
	slices.Sort(released)
	return released
}

// Held returns how many units the freeze holds at something else than what
// they would be.
func (s *Store) Held() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	n := 0
	for _, p := range s.pins {
		if !p.Frozen.IsZero() {
			n++
		}
	}
	return n
}

// hold returns the pin that decides what an update makes of its unit: p, which
// the unit has, another one, or nil. apply must be held.
func (s *Store) hold(p *Pin, up *Update) *Pin {
	refused := p != nil && p.refuses(up.Resources)
	frozen := time.Time{}
	switch {
	case up.Declared && len(up.Resources) == 0:
	case up.Declared, !s.freeze.known:
		// What another replica or an earlier run holds back.
		if p != nil {
			frozen = p.Frozen
		}
	case !s.freeze.since.IsZero():
		good := s.goodOf(p, up.Unit)
		if sameConfiguration(good, up.Resources) {
			break
		}
		frozen = s.freeze.since
		if p == nil {
			return &Pin{Unit: up.Unit, Frozen: frozen, Good: good}
		}
	}
	switch {
	case !refused && frozen.IsZero():
		return nil
	case frozen.Equal(p.Frozen):
		return p
	}
	next := *p
	next.Frozen = frozen
	return &next
}

// goodOf returns what a unit is to be held at.
func (s *Store) goodOf(p *Pin, unit string) []resource.Resource {
	if p != nil {
		return p.Good
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	u := s.units[unit]
	if u == nil {
		return nil
	}
	var out []resource.Resource
	for _, r := range u.refs {
		e := s.tables[r.t].entries[r.id]
		// What canaries try was on its way before.
		if c := e.newest(); c.frame != nil && c.unit == unit {
			out = append(out, c.resource(r.t, e.name))
		}
	}
	return out
}

// sameConfiguration reports whether two lists of a unit's resources are the
// same to every proxy, but for what is no configuration.
func sameConfiguration(a, b []resource.Resource) bool {
	type key struct {
		t    resource.Type
		name string
	}
	find := func(list []resource.Resource) map[key]*resource.Resource {
		out := make(map[key]*resource.Resource, len(list))
		for i := range list {
			if list[i].Type.Configuration() {
				out[key{list[i].Type, list[i].Name}] = &list[i]
			}
		}
		return out
	}
	of, with := find(a), find(b)
	if len(of) != len(with) {
		return false
	}
	for k, x := range of {
		y, ok := with[k]
		if !ok || x.Visible != y.Visible || x.EDS != y.EDS || len(x.ByNamespace) != len(y.ByNamespace) ||
			!slices.Equal(x.Needs, y.Needs) || !slices.Equal(resourceVersions(x), resourceVersions(y)) {
			return false
		}
	}
	return true
}
