package snapshot

import (
	"cmp"
	"fmt"

	"github.com/causeway-mesh/causeway/xds/resource"
)

// Class identifies proxies that accept and refuse the same configurations: the
// answer of one counts for the others of its class, and for nobody else.
// Namespace and Identity are part of it because role and build are the proxy's
// own claims: a proxy that claims a build of its own must not affect any other.
type Class struct {
	Role      resource.Role `json:"role,omitempty"`
	Build     string        `json:"build,omitempty"`
	Namespace string        `json:"namespace,omitempty"`
	Identity  string        `json:"identity,omitempty"`
}

// owner is the part of a class that a proxy cannot choose where it has to prove who it is.
type owner struct{ namespace, identity string }

func (c Class) owner() owner { return owner{c.Namespace, c.Identity} }

// String describes the class for people, for example "sidecars 1.40.0 of namespace web".
func (c Class) String() string {
	out := "proxies"
	if c.Role != "" {
		out = string(c.Role) + "s"
	}
	if c.Build != "" {
		out += " " + c.Build
	}
	if c.Namespace != "" {
		out += " of namespace " + c.Namespace
	}
	if c.Identity != "" {
		out += fmt.Sprintf(" (%s)", c.Identity)
	}
	return out
}

func (c Class) compare(o Class) int {
	return cmp.Or(cmp.Compare(c.Role, o.Role), cmp.Compare(c.Namespace, o.Namespace), cmp.Compare(c.Identity, o.Identity),
		cmp.Compare(c.Build, o.Build))
}

// Class returns what the proxy is one of.
func (v *View) Class() Class {
	return Class{Role: v.Role, Build: v.Build, Namespace: v.Namespace, Identity: v.Identity}
}

// class is a Class that has subscribers or a hold.
type class struct {
	Class
	// id is the class's place in entry.accepted.
	id      uint32
	streams int
	holds   map[*hold]struct{}
}

// retireMost is how many unused class ids wait before they are removed from all
// entries and used again.
const retireMost = 64

// classOf returns a class, which it makes if need be. mu must be held.
func (s *Store) classOf(c Class) *class {
	if known := s.classes[c]; known != nil {
		return known
	}
	made := &class{Class: c, holds: make(map[*hold]struct{})}
	if n := len(s.freeClasses); n > 0 {
		made.id = s.freeClasses[n-1]
		s.freeClasses = s.freeClasses[:n-1]
	} else {
		made.id = s.nextClass
		s.nextClass++
	}
	s.classes[c] = made
	return made
}

// dismiss forgets a class without subscribers and holds. mu must be held.
func (s *Store) dismiss(c *class) {
	if c.streams > 0 || len(c.holds) > 0 || s.classes[c.Class] != c {
		return
	}
	delete(s.classes, c.Class)
	s.retired = append(s.retired, c.id)
	if len(s.retired) < retireMost {
		return
	}
	for t := range s.tables {
		for _, e := range s.tables[t].entries {
			if e == nil || e.accepted == nil {
				continue
			}
			for _, id := range s.retired {
				e.accepted.clear(id)
			}
		}
	}
	s.freeClasses = append(s.freeClasses, s.retired...)
	s.retired = nil
}

// present reports whether a proxy has a stream. mu must be held.
func (s *Store) present(c *class, node string) bool {
	if c.streams == 0 {
		return false
	}
	for _, sub := range s.streams {
		if sub != nil && sub.class == c && sub.view.Node == node {
			return true
		}
	}
	return false
}
