// Package snapshot holds every resource once, marshalled once and versioned by
// its content, and tells each stream exactly which of the resources that it
// follows have changed. Nothing is copied per proxy: a subscriber's state is a
// few bits per resource.
package snapshot

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// Store is the set of all resources. Its methods may be called concurrently.
type Store struct {
	apply sync.Mutex // serializes Apply, so that what it looked up stays true until it writes

	mu      sync.RWMutex
	index   uint64 // counts the Applies that changed something
	tables  [resource.Types]table
	units   map[string][]ref
	streams []*Subscriber // by slot; nil where free
	free    []uint32      // free slots
	// wildcard holds, per type, the slots of those who follow the whole type
	// or, for virtual hosts, whole route configurations.
	wildcard [resource.Types]bitset
	counters Counters
}

// Counters count the work of Apply since the store was made.
type Counters struct {
	// Encoded is how many frames were encoded.
	Encoded uint64
	// Changed is how many resources were added or changed, Removed how many removed.
	Changed, Removed uint64
}

type ref struct {
	t  resource.Type
	id uint32
}

// table is all resources of one type. Ids are dense and reused.
type table struct {
	ids     map[string]uint32
	entries []*entry
	free    []uint32
	dead    int // entries without a resource
}

// entry is a name that is a resource or that somebody asked for.
type entry struct {
	name string
	unit string
	// frame is nil for a name that is no resource (now).
	frame  *Frame
	byZone map[string]*Frame
	// last is the frame that a removed resource had: a state-of-the-world
	// stream that must not lose it yet needs it in every response.
	last       *Frame
	visible    resource.Visibility
	needs      []string
	eds        bool
	provenance []discovery.ObjectRef
	// followers are the slots of the subscribers that asked for the name.
	followers bitset
}

func (e *entry) frameFor(zone string) *Frame {
	if f, ok := e.byZone[zone]; ok {
		return f
	}
	return e.frame
}

// New returns an empty store.
func New() *Store {
	s := &Store{units: make(map[string][]ref)}
	for t := range s.tables {
		s.tables[t].ids = make(map[string]uint32)
	}
	return s
}

// Update says what the resources of a unit are from now on. What the unit had
// and Resources lacks is removed.
type Update struct {
	// Unit is a stable name of what was compiled together, for example "service/web/php-web".
	Unit      string
	Resources []resource.Resource
}

// Apply makes the updates visible, all at the same moment, and wakes the
// subscribers that they concern. cause is when the change happened at its
// source. It returns how many resources were added, changed or removed, and how
// many subscribers that concerns.
func (s *Store) Apply(cause time.Time, updates []Update) (changed, woken int) {
	s.apply.Lock()
	defer s.apply.Unlock()

	// Encoding is the work; it happens before anyone is kept waiting.
	type change struct {
		ref
		next *entry // nil: removed
	}
	type renewal struct {
		entry      *entry
		provenance []discovery.ObjectRef
	}
	var changes, removed []change
	var renewed []renewal
	unitRefs := make([][]ref, len(updates))
	var encoded uint64
	for u, up := range updates {
		had := s.units[up.Unit]
		refs := make([]ref, 0, len(up.Resources))
		for i := range up.Resources {
			r := &up.Resources[i]
			id, old := s.lookup(r.Type, r.Name)
			next, fresh := nextEntry(old, up.Unit, r)
			encoded += fresh
			if old == nil {
				id = s.intern(r.Type, r.Name)
			}
			refs = append(refs, ref{r.Type, id})
			if next != nil {
				changes = append(changes, change{ref{r.Type, id}, next})
			} else {
				// A new generation of an object may mean the same bytes.
				renewed = append(renewed, renewal{old, r.Provenance})
			}
		}
		s.mu.RLock()
		for _, old := range had {
			if !slices.Contains(refs, old) && s.tables[old.t].entries[old.id].unit == up.Unit {
				removed = append(removed, change{ref: old})
			}
		}
		s.mu.RUnlock()
		unitRefs[u] = refs
	}
	// Removals first: a resource may move from one unit to another, whichever is named first.
	changes = append(removed, changes...)

	s.mu.Lock()
	for u, up := range updates {
		if len(unitRefs[u]) == 0 {
			delete(s.units, up.Unit)
		} else {
			s.units[up.Unit] = unitRefs[u]
		}
	}
	for _, r := range renewed {
		r.entry.provenance = r.provenance
	}
	s.counters.Encoded += encoded
	if len(changes) == 0 {
		s.mu.Unlock()
		return 0, 0
	}
	s.index++
	var wake bitset
	for _, c := range changes {
		t := &s.tables[c.t]
		e := t.entries[c.id]
		old := e.visible
		if c.next == nil {
			s.counters.Removed++
			e.last, e.frame, e.byZone, e.unit, e.needs = e.frame, nil, nil, "", nil
			t.dead++
		} else {
			s.counters.Changed++
			if e.frame == nil {
				t.dead--
			}
			c.next.followers = e.followers
			*e = *c.next
		}
		s.markChanged(c.ref, e, old, cause, &wake)
	}
	s.collect()
	var concerned []*Subscriber
	for slot := range wake.all() {
		concerned = append(concerned, s.streams[slot])
	}
	s.mu.Unlock()

	for _, sub := range concerned {
		sub.Wake()
	}
	return len(changes), len(concerned)
}

// nextEntry returns the entry that r makes of old, nil if nothing changes, and
// how many frames it encoded for that.
func nextEntry(old *entry, unit string, r *resource.Resource) (next *entry, encoded uint64) {
	next = &entry{
		name: r.Name, unit: unit, visible: r.Visible, needs: r.Needs, eds: r.EDS, provenance: r.Provenance,
	}
	same := old != nil && old.frame != nil && old.unit == unit && old.visible == r.Visible &&
		old.eds == r.EDS && len(old.byZone) == len(r.ByZone) && slices.Equal(old.needs, r.Needs)
	frame := func(have *Frame, body resource.Parts) *Frame {
		version := contentVersion(body)
		if have != nil && have.Version == version {
			return have
		}
		same = false
		encoded++
		return newFrame(r.Type, r.Name, version, body)
	}
	var oldFrame *Frame
	var oldZones map[string]*Frame
	if old != nil {
		oldFrame, oldZones = old.frame, old.byZone
	}
	next.frame = frame(oldFrame, r.Body)
	if len(r.ByZone) > 0 {
		next.byZone = make(map[string]*Frame, len(r.ByZone))
		for zone, body := range r.ByZone {
			next.byZone[zone] = frame(oldZones[zone], body)
		}
	}
	if same {
		return nil, encoded
	}
	return next, encoded
}

// lookup returns a name's id and entry, nil if the name is not known. A
// subscriber may be making others known at the same time.
func (s *Store) lookup(t resource.Type, name string) (uint32, *entry) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	id, ok := s.tables[t].ids[name]
	if !ok {
		return 0, nil
	}
	return id, s.tables[t].entries[id]
}

// intern returns the id of a name, which it makes if need be. apply must be
// held; mu is taken for the moment in which tables grow.
func (s *Store) intern(t resource.Type, name string) uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.internLocked(t, name)
}

func (s *Store) internLocked(rt resource.Type, name string) uint32 {
	t := &s.tables[rt]
	if id, ok := t.ids[name]; ok {
		return id
	}
	name = strings.Clone(name) // not a part of somebody's request
	t.dead++
	e := &entry{name: name}
	var id uint32
	if n := len(t.free); n > 0 {
		id = t.free[n-1]
		t.free = t.free[:n-1]
		t.entries[id] = e
	} else {
		id = uint32(len(t.entries)) //nolint:gosec // far below 2^32
		t.entries = append(t.entries, e)
	}
	t.ids[name] = id
	return id
}

// markChanged tells the followers of a resource. before is how visible the
// resource was until now: those who lose sight of it must hear of it as well.
func (s *Store) markChanged(r ref, e *entry, before resource.Visibility, cause time.Time, wake *bitset) {
	tell := func(slot uint32) {
		sub := s.streams[slot]
		if !sub.view.sees(e.visible) && !sub.view.sees(before) && !sub.sent[r.t].has(r.id) {
			return
		}
		if !sub.follows(r.t, r.id, e) && !sub.sent[r.t].has(r.id) {
			return
		}
		sub.dirty[r.t].set(r.id)
		if sub.cause[r.t].IsZero() {
			sub.cause[r.t] = cause
		}
		wake.set(slot)
	}
	for slot := range s.wildcard[r.t].all() {
		tell(slot)
	}
	for slot := range e.followers.all() {
		if !s.wildcard[r.t].has(slot) {
			tell(slot)
		}
	}
}

// collect frees the names that are no resources, that no subscriber has or
// follows and that none still has to be told about. It looks only once enough
// of them have come together to be worth the pass.
func (s *Store) collect() {
	for t := range s.tables {
		tb := &s.tables[t]
		if tb.dead < 1024 || tb.dead < len(tb.entries)/4 {
			continue
		}
		var used bitset
		for _, sub := range s.streams {
			if sub == nil {
				continue
			}
			used.or(sub.sent[t])
			used.or(sub.dirty[t])
			used.or(sub.held[t])
		}
		for id, e := range tb.entries {
			if e == nil || e.frame != nil || used.has(uint32(id)) || !e.followers.empty() { //nolint:gosec // an id
				continue
			}
			delete(tb.ids, e.name)
			tb.entries[id] = nil
			tb.free = append(tb.free, uint32(id)) //nolint:gosec // an id
			tb.dead--
		}
	}
}

// Index counts the Applies that changed something.
func (s *Store) Index() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.index
}

// Counters returns what Apply has done so far.
func (s *Store) Counters() Counters {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.counters
}

// Info describes a stored resource.
type Info struct {
	Type       resource.Type
	Name       string
	Version    string
	Size       int
	Provenance []discovery.ObjectRef
}

// Resources lists what a proxy with this view sees, by type and name.
func (s *Store) Resources(v View) []Info {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []Info
	for t := range s.tables {
		for _, e := range s.tables[t].entries {
			if e == nil || e.frame == nil || !v.sees(e.visible) {
				continue
			}
			f := e.frameFor(v.Zone)
			out = append(out, Info{resource.Type(t), e.name, f.Version, f.Size, e.provenance}) //nolint:gosec // t < Types
		}
	}
	slices.SortFunc(out, func(a, b Info) int {
		if a.Type != b.Type {
			return int(a.Type) - int(b.Type)
		}
		return strings.Compare(a.Name, b.Name)
	})
	return out
}

// Totals counts the stored resources of each type and their bytes, all zones'
// variants together, parts that variants share counted once.
func (s *Store) Totals() (count, bytes [resource.Types]int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for t := range s.tables {
		for _, e := range s.tables[t].entries {
			if e == nil || e.frame == nil {
				continue
			}
			count[t]++
			shared := make(map[*byte]struct{})
			for _, f := range append([]*Frame{e.frame}, mapValues(e.byZone)...) {
				for _, b := range f.delta {
					data := b.ReadOnlyData()
					if len(data) == 0 {
						continue
					}
					if _, ok := shared[&data[0]]; !ok {
						shared[&data[0]] = struct{}{}
						bytes[t] += len(data)
					}
				}
			}
		}
	}
	return count, bytes
}

func mapValues(m map[string]*Frame) []*Frame {
	out := make([]*Frame, 0, len(m))
	for _, f := range m {
		out = append(out, f)
	}
	return out
}
