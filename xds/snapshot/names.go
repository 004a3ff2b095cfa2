package snapshot

import (
	"strings"
	"sync/atomic"

	"github.com/causeway-mesh/causeway/xds/resource"
)

// entry returns a name's entry, nil if the name is not known. mu must be held, for reading at least.
func (t *table) entry(name string) *entry {
	id, ok := t.ids[name]
	if !ok {
		return nil
	}
	return t.entries[id]
}

// internLocked returns the id of a name, which it makes if need be. mu must be held.
func (s *Store) internLocked(rt resource.Type, name string) uint32 {
	t := &s.tables[rt]
	if id, ok := t.ids[name]; ok {
		return id
	}
	e := &entry{name: strings.Clone(name)} // not a part of somebody's request
	t.dead++
	if n := len(t.free); n > 0 {
		e.id = t.free[n-1]
		t.free = t.free[:n-1]
		t.entries[e.id] = e
	} else {
		e.id = uint32(len(t.entries)) //nolint:gosec // far below 2^32
		t.entries = append(t.entries, e)
	}
	t.ids[e.name] = e.id
	t.named++
	switch rt {
	case resource.Cluster:
		s.join(e, resource.Endpoint)
	case resource.Endpoint:
		s.join(e, resource.Cluster)
	case resource.VirtualHost:
		e.config, _, _ = strings.Cut(e.name, "/")
		hosts := t.hosts[e.config]
		hosts.set(e.id)
		t.hosts[e.config] = hosts
	}
	return e.id
}

// join makes an entry and the one of another type with its name each other's twin.
func (s *Store) join(e *entry, other resource.Type) {
	if e.twin = s.tables[other].entry(e.name); e.twin != nil {
		e.twin.twin = e
	}
}

// forget frees a name and its id. mu must be held.
func (s *Store) forget(rt resource.Type, e *entry) {
	t := &s.tables[rt]
	delete(t.ids, e.name)
	t.entries[e.id] = nil
	t.free = append(t.free, e.id)
	t.dead--
	t.named++
	if e.twin != nil {
		e.twin.twin = nil
	}
	if rt == resource.VirtualHost {
		hosts := t.hosts[e.config]
		hosts.clear(e.id)
		if hosts.empty() {
			delete(t.hosts, e.config)
		}
	}
}

// needs are the clusters that a resource names. A thousand subscribers ask for their
// entries in the same moment, so the look-up of one serves all.
type needs struct {
	clusters []string
	found    atomic.Pointer[found]
}

// found are entries that were looked up when the table had seen so many names come and go.
type found struct {
	named   uint64
	entries []*entry
}

// needsOf returns nil for none.
func needsOf(clusters []string) *needs {
	if len(clusters) == 0 {
		return nil
	}
	return &needs{clusters: clusters}
}

// names of the clusters. n may be nil.
func (n *needs) names() []string {
	if n == nil {
		return nil
	}
	return n.clusters
}

// in returns the entries of those clusters that the table knows. n may be nil. mu must
// be held, for reading at least.
func (n *needs) in(clusters *table) []*entry {
	if n == nil {
		return nil
	}
	if f := n.found.Load(); f != nil && f.named == clusters.named {
		return f.entries
	}
	f := &found{named: clusters.named, entries: make([]*entry, 0, len(n.clusters))}
	for _, name := range n.clusters {
		if e := clusters.entry(name); e != nil {
			f.entries = append(f.entries, e)
		}
	}
	n.found.Store(f)
	return f.entries
}
