package engine

import (
	"slices"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// Applied is the progress of an object's newest generation in the snapshot.
type Applied struct {
	Object     discovery.ObjectName
	Generation int64
	// Index is the snapshot's index at which all effects of the generation were
	// in force for everyone. It is 0 while canaries try it (Staged), or while
	// it is held back because of a rejection (Pinned) or a freeze (Frozen). A
	// proxy that has acknowledged Index has the generation.
	Index                  uint64
	Staged, Pinned, Frozen bool
	// HeldFor are the classes for which it is held back, because a proxy of them
	// refused it. For the others it is in force at Index.
	HeldFor []snapshot.Class
	// Units of the snapshot that the object has a part in.
	Units []string
	// Since is when the generation was compiled.
	Since time.Time
}

// appliedObject is what is known of an object's newest generation.
type appliedObject struct {
	name       discovery.ObjectName
	generation int64
	deleted    bool
	units      []string
	floor      uint64 // index when it was compiled: it cannot be in force before
	index      uint64
	since      time.Time
}

// objectOf returns the object that a change of the catalog gives a new
// generation, if there is one.
func (e *Engine) objectOf(c catalog.Change, units []policy.Unit) []appliedObject {
	ref := func(row any) (r discovery.ObjectRef, ok bool) {
		o, ok := row.(*discovery.Object)
		if !ok || o == nil {
			return r, false
		}
		return o.Ref(), true
	}
	if after, ok := ref(c.After); ok {
		var names []string
		for _, u := range units {
			names = append(names, e.updateNames(u)...)
		}
		return []appliedObject{{
			name: discovery.ObjectName{Kind: after.Kind, Key: after.Key}, generation: after.Generation,
			units: names, since: time.Now(),
		}}
	}
	if before, ok := ref(c.Before); ok {
		return []appliedObject{{name: discovery.ObjectName{Kind: before.Kind, Key: before.Key}, deleted: true}}
	}
	return nil
}

// noteObjects remembers what was just compiled. mu must be held.
func (e *Engine) noteObjects(objects []appliedObject) {
	if len(objects) == 0 {
		return
	}
	index := e.store.Index()
	for i := range objects {
		o := &objects[i]
		if o.deleted {
			delete(e.objects, o.name)
			continue
		}
		if old := e.objects[o.name]; old != nil && old.generation == o.generation {
			continue // its annotations, say: the proxies' answers stand
		}
		o.floor = index
		e.objects[o.name] = o
	}
}

// Applied returns how far each object's newest generation has come, in no order.
func (e *Engine) Applied() []Applied {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make([]Applied, 0, len(e.objects))
	for _, o := range e.objects {
		a := Applied{Units: o.units, Object: o.name, Generation: o.generation, Since: o.since}
		states := e.store.Units(o.units)
		for _, u := range states {
			a.Staged, a.Pinned, a.Frozen = a.Staged || u.Staged, a.Pinned || u.Pinned, a.Frozen || u.Frozen
			for _, class := range u.HeldFor {
				if !slices.Contains(a.HeldFor, class) {
					a.HeldFor = append(a.HeldFor, class)
				}
			}
		}
		if a.Pinned || a.Frozen {
			o.index = 0 // what mends it must reach the proxies anew
		}
		if o.index == 0 && !a.Staged && !a.Pinned && !a.Frozen {
			o.index = settledAt(o.floor, states)
		}
		a.Index = o.index
		if len(a.HeldFor) > 0 {
			o.index = 0 // what mends it must reach those proxies anew
		}
		out = append(out, a)
	}
	return out
}

// settledAt is the index at which the last of an object's units changed.
func settledAt(floor uint64, units []snapshot.UnitState) uint64 {
	index := floor
	for _, u := range units {
		index = max(index, u.Changed)
	}
	return index
}
