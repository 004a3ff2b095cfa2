package snapshot

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// Pin is a unit that is held at its last good configuration, because a proxy
// refused the newer one or because of a freeze. It is stored, so that every
// replica serves the same, also after a restart.
type Pin struct {
	Unit string `json:"unit"`
	// Class has the proxies that are held there, because one of them refused it. It
	// is nil for everyone: for a freeze, and in pins that an older version has
	// stored.
	Class *Class `json:"class,omitempty"`
	// Rejected are the resources that were refused.
	Rejected []Rejection `json:"rejected,omitempty"`
	// Frozen is when the freeze began that holds the unit, zero where none does.
	Frozen time.Time `json:"frozen,omitzero"`
	// Good is the configuration in force for them. Its endpoints count only if
	// there are no newer ones.
	Good []resource.Resource `json:"good"`
}

// Rejection is a resource that a proxy refused.
type Rejection struct {
	Type resource.Type `json:"type"`
	Name string        `json:"name"`
	Unit string        `json:"unit"`
	// Versions of the refused content, and of its variants.
	Versions []string `json:"versions"`
	// Error is the proxy's own text, Node its name, and Class the class that it
	// belongs to.
	Error string    `json:"error"`
	Node  string    `json:"node"`
	Class *Class    `json:"class,omitempty"`
	Since time.Time `json:"since"`
	// Provenance lists the objects, with the generations that were refused.
	Provenance []discovery.ObjectRef `json:"provenance"`
	// Pinned is true if the unit's last good configuration is in force for the proxies of
	// Class. Otherwise there is none, and the proxies that refuse the resource are without
	// it.
	Pinned bool `json:"pinned"`
	// Lost is how many proxies' connections ended before they answered, 0 if Node has refused it itself.
	Lost int `json:"lost,omitempty"`
}

// rejection notes that a subscriber refused a content.
func rejection(t resource.Type, name string, bad *content, sub *Subscriber, v nack) Rejection {
	class := sub.class.Class
	return Rejection{
		Type: t, Name: name, Unit: bad.unit, Versions: bad.versions(), Error: v.message, Node: v.node, Class: &class,
		Since: time.Now().UTC(), Provenance: bad.provenance,
	}
}

// maxRejections bounds how many refused contents of a unit are remembered.
const maxRejections = 8

func (c *content) versions() []string {
	var out []string
	for f := range c.frames {
		out = append(out, f.Version)
	}
	return out
}

// resource is the inverse of nextContent.
func (c *content) resource(t resource.Type, name string) resource.Resource {
	r := resource.Resource{
		Type: t, Name: name, Body: c.frame.body(), Shape: c.shape, Visible: c.visible, Needs: c.needs.names(), EDS: c.eds,
		Provenance: c.provenance, StandIn: c.standIn,
	}
	c.bodies(&r)
	return r
}

// pinned returns the resources that an update gives to a unit. If they contain refused
// content or are frozen, these are the last good ones with the update's endpoints. apply
// must be held.
func (s *Store) pinned(up *Update) []resource.Resource {
	s.mu.RLock()
	had := s.pins[up.Unit]
	s.mu.RUnlock()
	p := s.hold(had, up)
	if p != had {
		s.mu.Lock()
		if p == nil {
			delete(s.pins, up.Unit)
		} else {
			s.pins[up.Unit] = p
		}
		s.mu.Unlock()
		s.pinsChanged()
	}
	if p == nil {
		return up.Resources
	}
	return s.goodWith(p, up)
}

func (s *Store) pinsChanged() {
	if s.onPins != nil {
		s.onPins()
	}
}

// goodWith returns a pin's resources with an update's endpoints.
func (s *Store) goodWith(p *Pin, up *Update) []resource.Resource {
	var out []resource.Resource
	clusters := make(map[string]resource.Visibility)
	for i := range p.Good {
		g := &p.Good[i]
		if g.Type != resource.Endpoint {
			out = append(out, *g)
		}
		if g.Type == resource.Cluster && g.EDS {
			clusters[g.Name] = g.Visible
		}
	}
	known := make(map[string]bool)
	for i := range up.Resources {
		r := up.Resources[i]
		if visible, ok := clusters[r.Name]; ok && r.Type == resource.Endpoint {
			r.Visible = visible
			out = append(out, r)
			known[r.Name] = true
		}
	}
	// A cluster that the update no longer has keeps its endpoints.
	for i := range p.Good {
		g := &p.Good[i]
		if g.Type != resource.Endpoint || known[g.Name] {
			continue
		}
		if e := s.lookup(resource.Endpoint, g.Name); e != nil && e.frame != nil {
			out = append(out, e.content.resource(resource.Endpoint, g.Name))
		} else {
			out = append(out, *g)
		}
	}
	return out
}

// refuses reports whether a proxy refused any of the resources. While one is only a
// stand-in, nobody knows whether the refused content is gone.
func (p *Pin) refuses(resources []resource.Resource) bool {
	for i := range resources {
		r := &resources[i]
		if r.StandIn && len(p.Rejected) > 0 {
			return true
		}
		for j := range p.Rejected {
			bad := &p.Rejected[j]
			if bad.Type != r.Type || bad.Name != r.Name {
				continue
			}
			if slices.Equal(bad.Versions, resourceVersions(r)) {
				return true
			}
		}
	}
	return false
}

// resourceVersions returns the versions that a resource's content would have.
func resourceVersions(r *resource.Resource) []string {
	out := []string{contentVersion(r.Body)}
	for body := range r.Variants {
		out = append(out, contentVersion(body))
	}
	return out
}

// Pins returns the units that are held at their last good configuration, by
// name and class.
func (s *Store) Pins() []Pin {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]Pin, 0, len(s.pins))
	for _, p := range s.pins {
		out = append(out, *p)
	}
	for h := range s.holds {
		if h.phase != freed {
			out = append(out, *h.pin)
		}
	}
	slices.SortFunc(out, func(a, b Pin) int { return cmp.Compare(a.Key(), b.Key()) })
	return out
}

// Key tells a pin from all others.
func (p *Pin) Key() string {
	if p.Class == nil {
		return p.Unit
	}
	return strings.Join([]string{p.Unit, string(p.Class.Role), p.Class.Build, p.Class.Namespace, p.Class.Identity}, "\x00")
}

// Rejections returns the refused resources that are not mended yet, by type and
// name. A resource that was refused only by proxies that have left for good is
// not among them.
func (s *Store) Rejections() []Rejection {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []Rejection
	pinned := func(p *Pin) {
		for _, r := range p.Rejected {
			r.Pinned = true
			out = append(out, r)
		}
	}
	for _, p := range s.pins {
		pinned(p)
	}
	for h := range s.holds {
		if h.phase != freed && !h.orphan(time.Now()) {
			pinned(h.pin)
		}
	}
	for _, list := range s.complaints {
		for i := range list {
			// One of each class is enough.
			if !slices.ContainsFunc(list[:i], func(c complaint) bool { return c.class == list[i].class }) {
				out = append(out, list[i].Rejection)
			}
		}
	}
	slices.SortFunc(out, func(a, b Rejection) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name), a.Since.Compare(b.Since), cmp.Compare(a.Node, b.Node))
	})
	return out
}

// SetPins adds pins that another replica or an earlier run has stored. They
// hold from the next Apply of their units on. Those of a freeze that is over
// are left out.
func (s *Store) SetPins(pins []Pin) {
	s.apply.Lock()
	defer s.apply.Unlock()
	s.mu.Lock()
	var wake bitset
	for i := range pins {
		if pins[i].Class != nil {
			s.restore(&pins[i], &wake)
			continue
		}
		if f := pins[i].Frozen; !f.IsZero() && s.freeze.known && !f.Equal(s.freeze.since) {
			if len(pins[i].Rejected) == 0 {
				continue
			}
			pins[i].Frozen = time.Time{}
		}
		if s.pins[pins[i].Unit] == nil {
			s.pins[pins[i].Unit] = &pins[i]
		}
	}
	subs := s.at(wake)
	s.mu.Unlock()
	wakeAll(subs)
}

// UnitState is the progress of a unit's newest content.
type UnitState struct {
	// Changed is the index at which it last changed for everyone.
	Changed uint64
	// Staged is true while canaries try it. Pinned is true while it is held
	// back for everyone because a proxy refused it, Frozen while a freeze holds
	// it back.
	Staged, Pinned, Frozen bool
	// HeldFor are the classes for which it is held back, because a proxy of them
	// refused it.
	HeldFor []Class
}

// Units returns the state of units.
func (s *Store) Units(names []string) []UnitState {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]UnitState, len(names))
	for i, name := range names {
		if u := s.units[name]; u != nil {
			out[i] = UnitState{Changed: u.changed, Staged: u.stage != nil}
			for class, h := range u.holds {
				if h.phase != freed && !h.orphan(time.Now()) {
					out[i].HeldFor = append(out[i].HeldFor, class.Class)
				}
			}
			slices.SortFunc(out[i].HeldFor, Class.compare)
		}
		if p := s.pins[name]; p != nil {
			out[i].Pinned, out[i].Frozen = len(p.Rejected) > 0, !p.Frozen.IsZero()
		}
	}
	return out
}
