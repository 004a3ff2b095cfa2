// Package snapshot holds every resource once, marshalled once and versioned by
// its content, and tells each stream exactly which of the resources that it
// follows have changed. Nothing is copied per proxy: a subscriber's state is a
// few bits per resource.
package snapshot

import (
	"maps"
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
	units   map[string]*unit
	streams []*Subscriber // by slot; nil where free
	free    []uint32      // free slots
	// wildcard holds, per type, the slots of those who follow the whole type
	// or, for virtual hosts, whole route configurations.
	wildcard [resource.Types]bitset
	counters Counters

	// silence is how long a stage waits for its canaries, 0 for no staging.
	silence time.Duration
	staged  map[*stage]struct{}
	// complaints are about resources that a proxy refused, that no proxy of its
	// class accepted, and that have no last good content.
	complaints map[ref][]complaint
	complained int // how many they are
	holds      map[*hold]struct{}
	holdsOf    map[owner]int // how many of them, by whose they are
	classes    map[Class]*class
	// ids of classes: the next one, those to be used again, and those that will be.
	nextClass            uint32
	freeClasses, retired []uint32
	pins                 map[string]*Pin // of everyone, by unit
	freeze               freeze          // written with apply held
	onPins               func()
	onStageEnd           func(StageResult)
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
	// named counts the names that came or went: an id or an entry that was looked up
	// before it changed may be another's now.
	named uint64
	// hosts are the virtual hosts of each route configuration, for that type alone.
	hosts map[string]bitset
}

// content is the meaning of a name: a resource, or none if frame is nil.
type content struct {
	unit  string
	frame *Frame
	// variants for proxies in a zone or, if byNamespace, in a namespace.
	variants    map[string]*Frame
	byNamespace bool
	// nodes are variants for proxies that say their Kubernetes node, nil for none.
	nodes      *nodeFrames
	shape      uint64
	visible    resource.Visibility
	needs      *needs
	eds        bool
	provenance []discovery.ObjectRef
	// standIn is resource.Resource.StandIn.
	standIn bool
	// disputed is true once a proxy has refused it.
	disputed bool
}

// same reports whether two contents are the same to every proxy.
func (c *content) same(o *content) bool {
	return c.frame == o.frame && c.unit == o.unit && c.visible == o.visible && c.eds == o.eds && c.standIn == o.standIn &&
		c.byNamespace == o.byNamespace && maps.Equal(c.variants, o.variants) && c.nodes.same(o.nodes) && slices.Equal(c.needs.names(), o.needs.names())
}

// entry is a name that is a resource or that somebody asked for.
type entry struct {
	name string
	id   uint32
	// twin is the entry of a cluster's endpoints, or of the cluster of endpoints, nil if nobody knows one.
	twin *entry
	// config is a virtual host's route configuration.
	config string
	// content is the content in force, and changed the index at which it came
	// into force.
	content
	changed uint64
	// last is the frame that a removed resource had: a state-of-the-world
	// stream that must not lose it yet needs it in every response.
	last *Frame
	// before is the content that was in force before, for the way back. It is
	// nil if there was none, and for types that are not configuration.
	before *content
	// accepted are the classes in which a proxy has acknowledged the content in force.
	accepted bitset
	// held are the contents of the classes that refused the one in force.
	held map[*class]*heldContent
	// next is the content that a stage tries with its canaries, nil while there
	// is no stage.
	next  *content
	stage *stage
	// followers are the slots of the subscribers that asked for the name.
	followers bitset
}

// newest returns the content that is tried, else the one in force.
func (e *entry) newest() *content {
	if e.next != nil {
		return e.next
	}
	return &e.content
}

// at returns the content that a subscriber gets.
func (e *entry) at(sub *Subscriber) *content {
	if e.held != nil { // a thousand clients ask for thousands of entries, and few are held
		if h := e.held[sub.class]; h != nil && !h.hold.frees(sub) {
			return h.content
		}
	}
	if e.next != nil && e.stage.canaries.has(sub.slot) {
		return e.next
	}
	return &e.content
}

// forClass returns the content that a class's proxies get, its canaries excepted.
func (e *entry) forClass(c *class) *content {
	if h := e.held[c]; h != nil && h.hold.phase != freed {
		return h.content
	}
	return &e.content
}

// gone reports whether the name is not and will not be a resource.
func (e *entry) gone() bool { return e.frame == nil && e.next == nil && e.held == nil }

// unit is the state of resources that were compiled together.
type unit struct {
	// refs are the resources that are in force or tried.
	refs []ref
	// changed is the index at which any of them last changed for all.
	changed uint64
	stage   *stage
	// holds are those of the classes that refuse the configuration in force.
	holds map[*class]*hold
}

// New returns an empty store.
func New() *Store {
	s := &Store{
		units: make(map[string]*unit), pins: make(map[string]*Pin), classes: make(map[Class]*class),
		holds: make(map[*hold]struct{}), holdsOf: make(map[owner]int), complaints: make(map[ref][]complaint),
	}
	for t := range s.tables {
		s.tables[t].ids = make(map[string]uint32)
	}
	s.tables[resource.VirtualHost].hosts = make(map[string]bitset)
	return s
}

// Update has the resources of a unit. A resource that the unit had and that
// Resources lacks is removed.
type Update struct {
	// Unit is a stable name of what was compiled together, for example "service/web/php-web".
	Unit      string
	Resources []resource.Resource
	// Declared is true where a proxy declares the unit, or takes that back: a
	// freeze, which is of configuration, does not keep it from coming or going.
	Declared bool
}

// change is the next content of a name; next.frame is nil if it is removed.
type change struct {
	ref
	next *content
}

// plan is the effect of an update on a unit.
type plan struct {
	unit string
	// refs are all resources that the unit has from now on.
	refs             []ref
	resources        []resource.Resource
	changes, removed []change
	staged           bool
}

// Apply makes the updates visible, all at the same moment, and wakes the
// subscribers that they concern. cause is when the change happened at its
// source. It returns how many resources were added, changed or removed, and how
// many subscribers that concerns.
//
// Where staging is on (Stage), a unit whose configuration changes is tried with
// a few subscribers first; its endpoints are not, nor is what only moves traffic.
func (s *Store) Apply(cause time.Time, updates []Update) (changed, woken int) {
	s.apply.Lock()
	defer s.apply.Unlock()

	// Encoding is the work; it happens before anyone is kept waiting.
	plans := make([]plan, len(updates))
	var renewed []renewal
	var encoded uint64
	for i := range updates {
		p, more, n := s.plan(updates[i].Unit, s.pinned(&updates[i]))
		plans[i] = p
		renewed = append(renewed, more...)
		encoded += n
	}

	s.mu.Lock()
	for _, r := range renewed {
		r.content.provenance = r.provenance
	}
	s.counters.Encoded += encoded
	s.index++
	index := s.index
	var wake bitset
	// Removals first: a resource may move from one unit to another, whichever is named first.
	for i := range plans {
		p := &plans[i]
		s.settleFreed(p, &wake)
		if p.staged = s.worthStaging(p); !p.staged {
			changed += s.force(cause, p.removed, &wake)
		}
	}
	for i := range plans {
		p := &plans[i]
		if p.staged {
			changed += s.try(cause, p, &wake)
		} else {
			changed += s.force(cause, p.changes, &wake)
		}
		s.note(p)
		s.renew(p, &wake)
	}
	concerned := s.at(wake)
	if changed == 0 {
		if s.index == index {
			s.index--
		}
		s.mu.Unlock()
		wakeAll(concerned)
		return 0, len(concerned)
	}
	s.collect()
	s.mu.Unlock()
	wakeAll(concerned)
	return changed, len(concerned)
}

// renewal is new provenance of a content whose bytes are as they were.
type renewal struct {
	content    *content
	provenance []discovery.ObjectRef
}

// plan computes the effect of an update on a unit. Only apply needs to be held.
func (s *Store) plan(name string, resources []resource.Resource) (p plan, renewed []renewal, encoded uint64) {
	p = plan{unit: name, refs: make([]ref, 0, len(resources)), resources: resources}
	for i := range resources {
		r := &resources[i]
		old := s.lookup(r.Type, r.Name)
		next, fresh := nextContent(old, name, r)
		encoded += fresh
		var id uint32
		if old != nil {
			id = old.id
		} else {
			id = s.intern(r.Type, r.Name)
		}
		p.refs = append(p.refs, ref{r.Type, id})
		if old != nil && next.same(old.newest()) && old.newest().frame != nil {
			// A new generation of an object may mean the same bytes.
			renewed = append(renewed, renewal{old.newest(), r.Provenance})
			continue
		}
		p.changes = append(p.changes, change{ref{r.Type, id}, next})
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if had := s.units[name]; had != nil {
		for _, old := range had.refs {
			e := s.tables[old.t].entries[old.id]
			if now := e.newest(); now.frame != nil && now.unit == name && !slices.Contains(p.refs, old) {
				p.removed = append(p.removed, change{old, &content{visible: e.visible}})
			}
		}
	}
	return p, renewed, encoded
}

// note remembers what a unit has. mu must be held.
func (s *Store) note(p *plan) {
	u := s.units[p.unit]
	if u == nil {
		u = &unit{}
		s.units[p.unit] = u
	}
	if u.stage == nil && len(p.changes)+len(p.removed) > 0 {
		u.changed = s.index
	}
	if u.stage != nil {
		// What is to be removed is still in force.
		for _, r := range u.refs {
			if !slices.Contains(p.refs, r) && !s.tables[r.t].entries[r.id].gone() {
				p.refs = append(p.refs, r)
			}
		}
	}
	u.refs = p.refs
	s.discard(p.unit, u)
}

// at returns the subscribers in slots. mu must be held.
func (s *Store) at(slots bitset) []*Subscriber {
	var out []*Subscriber
	for slot := range slots.all() {
		if sub := s.streams[slot]; sub != nil {
			out = append(out, sub)
		}
	}
	return out
}

func wakeAll(subs []*Subscriber) {
	for _, sub := range subs {
		sub.Wake()
	}
}

// force brings changes into force at once. mu must be held.
func (s *Store) force(cause time.Time, changes []change, wake *bitset) int {
	for _, c := range changes {
		e := s.tables[c.t].entries[c.id]
		was, held := e.content, e.held != nil
		s.replace(c.t, e, c.next)
		s.markChanged(c.ref, e, was.visible, cause, wake, s.spared(c.ref, e, &was, held, wake))
	}
	return len(changes)
}

// replace brings a content into force. mu must be held.
func (s *Store) replace(t resource.Type, e *entry, next *content) {
	was := e.content
	switch {
	case !t.Configuration(), was.frame == nil, next.standIn:
		// A stand-in replaces a former content that was a guess, or none.
		e.before = nil
	case !was.disputed, !e.accepted.empty():
		e.before = &was
	default:
		// A content that was refused and that no class took is no way back; the
		// one before it is.
	}
	e.changed, e.accepted = s.index, nil
	if len(s.complaints) > 0 {
		s.keepComplaints(ref{t, e.id}, func(c *complaint) bool { return next.frame != nil && slices.Equal(c.Versions, next.versions()) })
	}
	if t == resource.Endpoint {
		defer func() { s.holdEndpoints(e, &was) }()
	}
	if next.frame == nil {
		s.counters.Removed++
		s.tables[t].dead++
		e.last = was.frame
		// The proxies that saw the resource must be told that it is gone.
		e.content = content{visible: was.visible, eds: was.eds, provenance: was.provenance}
		return
	}
	s.counters.Changed++
	if was.frame == nil {
		s.tables[t].dead--
	}
	e.content = *next
}

// nextContent returns the content that r gives to a name. It reuses frames that
// have the same bytes, and returns how many it encoded.
func nextContent(old *entry, unit string, r *resource.Resource) (next *content, encoded uint64) {
	next = &content{
		unit: unit, visible: r.Visible, needs: needsOf(r.Needs), eds: r.EDS, provenance: r.Provenance, shape: r.Shape,
		standIn: r.StandIn,
	}
	var have []*content
	if old != nil {
		for _, c := range []*content{old.next, &old.content, old.before} {
			if c != nil && c.frame != nil {
				have = append(have, c)
			}
		}
	}
	frame := func(of func(*content) *Frame, body resource.Parts) *Frame {
		version := contentVersion(body)
		for _, c := range have {
			if f := of(c); f != nil && f.Version == version {
				return f
			}
		}
		encoded++
		return newFrame(r.Type, r.Name, version, body)
	}
	next.frame = frame(func(c *content) *Frame { return c.frame }, r.Body)
	next.setVariants(r, frame)
	return next, encoded
}

// lookup returns a name's entry, nil if the name is not known. A subscriber may
// be making others known at the same time.
func (s *Store) lookup(t resource.Type, name string) *entry {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.tables[t].entry(name)
}

// intern returns the id of a name, which it makes if need be. apply must be
// held; mu is taken for the moment in which tables grow.
func (s *Store) intern(t resource.Type, name string) uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.internLocked(t, name)
}

// markChanged tells the followers of a resource, but not those in spare. before is how visible the
// resource was until now: those who lose sight of it must hear of it as well.
func (s *Store) markChanged(r ref, e *entry, before resource.Visibility, cause time.Time, wake *bitset, spare func(slot uint32) bool) {
	s.followers(r, e, before, func(sub *Subscriber) {
		if h := e.held[sub.class]; h != nil && r.t.Configuration() && !h.hold.frees(sub) {
			return // to its class nothing has changed
		}
		if spare == nil || !spare(sub.slot) {
			sub.mark(r, cause)
			wake.set(sub.slot)
		}
	})
}

// mark makes a resource due for a subscriber. mu must be held.
func (sub *Subscriber) mark(r ref, cause time.Time) {
	sub.dirty[r.t].set(r.id)
	if sub.cause[r.t].IsZero() {
		sub.cause[r.t] = cause
	}
}

// followers yields the subscribers that follow a resource and see it, or saw it before.
// mu must be held.
func (s *Store) followers(r ref, e *entry, before resource.Visibility, yield func(*Subscriber)) {
	visit := func(slot uint32) {
		sub := s.streams[slot]
		if !sub.view.Sees(&e.newest().visible) && !sub.view.Sees(&before) && !sub.sent[r.t].has(r.id) {
			return
		}
		if !sub.follows(r.t, r.id, e) && !sub.sent[r.t].has(r.id) {
			return
		}
		yield(sub)
	}
	for slot := range s.wildcard[r.t].all() {
		visit(slot)
	}
	for slot := range e.followers.all() {
		if !s.wildcard[r.t].has(slot) {
			visit(slot)
		}
	}
}

// collect frees the names that are no resources, if no subscriber has or
// follows them or must still be told that they are gone. It waits until there
// are enough of them to be worth the pass.
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
			if e == nil || !e.gone() || used.has(uint32(id)) || !e.followers.empty() { //nolint:gosec // an id
				continue
			}
			s.forget(resource.Type(t), e) //nolint:gosec // t < Types
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

// Resources lists the resources of a proxy with this view, by type and name,
// including those at which a hold keeps its class.
func (s *Store) Resources(v View) []Info {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []Info
	class := s.classes[v.Class()]
	for t := range s.tables {
		for _, e := range s.tables[t].entries {
			if e == nil {
				continue
			}
			c := e.forClass(class)
			if c.frame == nil || !v.Sees(&c.visible) {
				continue
			}
			f := c.frameFor(&v)
			out = append(out, Info{resource.Type(t), e.name, f.Version, f.Size, c.provenance}) //nolint:gosec // t < Types
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

// Sees reports whether a proxy with this view sees a resource.
func (s *Store) Sees(v View, t resource.Type, name string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	id, ok := s.tables[t].ids[name]
	if !ok {
		return false
	}
	e := s.tables[t].entries[id]
	return e != nil && e.frame != nil && v.Sees(&e.visible)
}

// Totals counts the stored resources of each type and their bytes, all
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
			for f := range e.frames {
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

// Content returns the message of a resource as a proxy with this view has it, false if it does not.
func (s *Store) Content(v View, t resource.Type, name string) (resource.Parts, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	id, ok := s.tables[t].ids[name]
	if !ok || s.tables[t].entries[id] == nil {
		return nil, false
	}
	c := s.tables[t].entries[id].forClass(s.classes[v.Class()])
	if c.frame == nil || !v.Sees(&c.visible) {
		return nil, false
	}
	return c.frameFor(&v).body(), true
}
