package snapshot

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// Silence is how long a stage waits for its canaries before the change goes to
// everyone: a proxy that says nothing must not hold up the mesh.
const Silence = 500 * time.Millisecond

// stage is a changed unit that is tried with one proxy of each class before
// everyone gets it.
type stage struct {
	unit string
	// refs are the resources with something to try.
	refs []ref
	// canaries are the slots of those who get it first.
	canaries bitset
	// tried says of each trial whether the canary has accepted it.
	tried map[trial]bool
	open  int // trials without a verdict
	cause time.Time
	due   time.Time
}

// trial is a resource that a canary tries.
type trial struct {
	slot uint32
	ref  ref
}

// StageOutcome is how a stage ended.
type StageOutcome string

// How stages end.
const (
	StageAccepted StageOutcome = "accepted"
	StageSilent   StageOutcome = "silent"
	StageRejected StageOutcome = "rejected"
	// StageWithdrawn stages were overtaken by a way back.
	StageWithdrawn StageOutcome = "withdrawn"
)

// Pin is a unit that is held at its last good configuration, because a proxy
// rejected what it should become, or because of a freeze. It is stored, so that
// every replica and every restart serves the same.
type Pin struct {
	Unit string `json:"unit"`
	// Rejected are the resources that were refused.
	Rejected []Rejection `json:"rejected,omitempty"`
	// Frozen is when the freeze began that holds the unit, zero where none does.
	Frozen time.Time `json:"frozen,omitzero"`
	// Good is the configuration that holds instead. Its endpoints count only
	// where nothing newer is known of them.
	Good []resource.Resource `json:"good"`
}

// Rejection is a resource that a proxy refused.
type Rejection struct {
	Type resource.Type `json:"type"`
	Name string        `json:"name"`
	Unit string        `json:"unit"`
	// Versions of the refused content, and of its variants.
	Versions []string `json:"versions"`
	// Error is the proxy's own text, Node the proxy.
	Error string    `json:"error"`
	Node  string    `json:"node"`
	Since time.Time `json:"since"`
	// Provenance lists the objects, with the generations that were refused.
	Provenance []discovery.ObjectRef `json:"provenance"`
	// Pinned is true where the unit's last good configuration holds instead.
	// Otherwise there was none, and those who refuse it are without it.
	Pinned bool `json:"pinned"`
}

// Stage turns staging on: from now on a changed configuration goes to one proxy
// of each class (role and build, and namespace where that makes a difference) first,
// and on its acknowledgement, or after silence, to the rest. onPins is called
// after pins came or went, outcome for each stage that ended; neither may call
// back into the store.
func (s *Store) Stage(silence time.Duration, onPins func(), outcome func(StageOutcome)) {
	s.apply.Lock()
	defer s.apply.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silence, s.onPins, s.outcome = silence, onPins, outcome
	s.staged, s.suspects = make(map[*stage]struct{}), make(map[ref]Rejection)
}

// worthStaging reports whether a unit's changes must be tried first. mu must be held.
func (s *Store) worthStaging(p *plan) bool {
	if s.silence == 0 || len(p.changes)+len(p.removed) == 0 {
		return false
	}
	if u := s.units[p.unit]; u != nil && u.stage != nil {
		return true
	}
	for _, c := range p.changes {
		e := s.tables[c.t].entries[c.id]
		switch {
		case !c.t.Configuration():
		case e.frame != nil && e.unit != p.unit:
			return false // it moves here from another unit; the product's names do not
		case e.shape != 0 && e.shape == c.next.shape && e.visible == c.next.visible:
			// Only weights: moving traffic, and moving it back, must not wait.
		case e.before != nil && c.next.same(e.before):
			// The way back to what was good.
		default:
			return true
		}
	}
	return false
}

// try gives a unit's changes to canaries, or to everyone if there are none.
// Endpoints do not wait, except for their end, which goes with their cluster's.
// mu must be held.
func (s *Store) try(cause time.Time, p *plan, wake *bitset) int {
	u := s.units[p.unit]
	if u == nil {
		u = &unit{}
		s.units[p.unit] = u
	}
	st := u.stage
	fresh := st == nil
	if fresh {
		st = &stage{unit: p.unit, tried: make(map[trial]bool), cause: cause, due: time.Now().Add(s.silence)}
		u.stage = st
		s.staged[st] = struct{}{}
	}
	var direct []change
	changed := make(map[ref]bool)
	for _, c := range slices.Concat(p.removed, p.changes) {
		e := s.tables[c.t].entries[c.id]
		switch {
		case !c.t.Configuration() && c.next.frame != nil:
			s.drop(st, c.ref, e)
			direct = append(direct, c)
		case c.next.same(&e.content), c.next.frame == nil && e.frame == nil:
			s.withdraw(st, c.ref, e, wake)
		default:
			e.next, e.stage = c.next, st
			changed[c.ref] = true
			if !slices.Contains(st.refs, c.ref) {
				st.refs = append(st.refs, c.ref)
			}
			s.recruit(st, c.ref, e)
		}
	}
	s.force(cause, direct, wake)
	for _, r := range st.refs {
		e := s.tables[r.t].entries[r.id]
		s.followers(r, e, e.visible, func(sub *Subscriber) {
			key := trial{sub.slot, r}
			old, tries := st.tried[key]
			if !st.canaries.has(sub.slot) || (tries && !changed[r]) {
				return
			}
			if tries && !old {
				st.open--
			}
			// An end is not judged.
			if st.tried[key] = e.next.frame == nil; !st.tried[key] {
				st.open++
			}
			sub.mark(r, cause)
			wake.set(sub.slot)
		})
	}
	// Where all canaries have gone in the meantime, the stage waits until it is due.
	if tried := len(st.tried) > 0; st.open == 0 && (tried || fresh || len(st.refs) == 0) {
		s.pass(st, wake)
		if tried || !fresh {
			s.outcome(StageWithdrawn)
		}
	}
	return len(p.changes) + len(p.removed)
}

// drop takes a resource out of a stage without telling anyone. mu must be held.
func (s *Store) drop(st *stage, r ref, e *entry) {
	e.next, e.stage = nil, nil
	st.refs = slices.DeleteFunc(st.refs, func(o ref) bool { return o == r })
	for t := range st.tried {
		if t.ref == r {
			st.forget(t)
		}
	}
}

func (st *stage) forget(t trial) {
	if !st.tried[t] {
		st.open--
	}
	delete(st.tried, t)
}

// withdraw ends the trial of a resource: its canaries get what is in force. mu must be held.
func (s *Store) withdraw(st *stage, r ref, e *entry, wake *bitset) {
	for t := range st.tried {
		if t.ref == r {
			s.streams[t.slot].mark(r, st.cause)
			wake.set(t.slot)
		}
	}
	s.drop(st, r, e)
}

// class is what proxies have in common that judge a configuration alike.
type class struct {
	role  resource.Role
	build string
	frame *Frame
}

// recruit makes the first subscriber of each class that follows a resource a
// canary, unless one of the class is. A state-of-the-world stream is none: it
// judges whole route configurations. mu must be held.
func (s *Store) recruit(st *stage, r ref, e *entry) {
	if e.next.frame == nil {
		return
	}
	first := make(map[class]*Subscriber)
	s.followers(r, e, e.visible, func(sub *Subscriber) {
		if sub.mode.StateOfTheWorld || !sub.view.sees(e.next.visible) {
			return
		}
		c := class{sub.view.Role, sub.view.Build, e.next.frameFor(&sub.view)}
		have := first[c]
		if have == nil || (st.canaries.has(sub.slot) && !st.canaries.has(have.slot)) {
			first[c] = sub
		}
	})
	for _, sub := range first {
		st.canaries.set(sub.slot)
	}
}

// pass brings what a stage tried into force for everyone. mu must be held.
func (s *Store) pass(st *stage, wake *bitset) {
	if len(st.refs) > 0 {
		s.index++
	}
	for _, r := range st.refs {
		e := s.tables[r.t].entries[r.id]
		before, next := e.visible, e.next
		e.next, e.stage = nil, nil
		s.replace(r.t, e, next)
		for t, accepted := range st.tried {
			e.accepted = e.accepted || (t.ref == r && accepted)
		}
		s.markChanged(r, e, before, st.cause, wake, func(slot uint32) bool {
			// A canary has it, or is still marked for it.
			_, tries := st.tried[trial{slot, r}]
			return tries
		})
	}
	s.end(st)
}

// end forgets a stage. mu must be held.
func (s *Store) end(st *stage) {
	delete(s.staged, st)
	u := s.units[st.unit]
	if u == nil {
		return
	}
	u.stage, u.changed = nil, s.index
	u.refs = slices.DeleteFunc(u.refs, func(r ref) bool { return s.tables[r.t].entries[r.id].frame == nil })
	if len(u.refs) == 0 {
		delete(s.units, st.unit)
	}
}

// Due returns when Expire has something to do, the zero time for never.
func (s *Store) Due() time.Time {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var due time.Time
	for st := range s.staged {
		if due.IsZero() || st.due.Before(due) {
			due = st.due
		}
	}
	return due
}

// Expire gives what canaries have not judged in time to everyone.
func (s *Store) Expire(now time.Time) {
	s.apply.Lock()
	defer s.apply.Unlock()
	s.mu.Lock()
	var wake bitset
	for st := range maps.Clone(s.staged) {
		if !now.Before(st.due) {
			s.pass(st, &wake)
			s.outcome(StageSilent)
		}
	}
	subs := s.at(wake)
	s.mu.Unlock()
	wakeAll(subs)
}

// leave takes a subscriber that is gone out of all stages, which then wait for
// the others, or until they are due: a configuration that ends a proxy must not
// reach the next one any sooner. mu must be held.
func (s *Store) leave(slot uint32) {
	for st := range s.staged {
		st.canaries.clear(slot)
		for t := range st.tried {
			if t.slot == slot {
				st.forget(t)
			}
		}
	}
}

// Accept notes that a client acknowledged a response with these resources.
func (sub *Subscriber) Accept(t resource.Type, ids []uint32, frames []*Frame) {
	s := sub.store
	if t == resource.Endpoint || !sub.verdictMatters(t, ids) {
		return
	}
	s.apply.Lock()
	defer s.apply.Unlock()
	s.mu.Lock()
	var wake bitset
	judged := make(map[*stage]struct{})
	for i, id := range ids {
		e := s.tables[t].entries[id]
		if e == nil {
			continue
		}
		if e.frame != nil && e.frameFor(&sub.view) == frames[i] {
			e.accepted = true
			delete(s.suspects, ref{t, id})
		}
		key := trial{sub.slot, ref{t, id}}
		if e.next == nil || e.next.frame == nil || e.next.frameFor(&sub.view) != frames[i] {
			continue
		}
		if accepted, tries := e.stage.tried[key]; tries && !accepted {
			e.stage.tried[key] = true
			e.stage.open--
			judged[e.stage] = struct{}{}
		}
	}
	for st := range judged {
		if st.open == 0 {
			s.pass(st, &wake)
			s.outcome(StageAccepted)
		}
	}
	subs := s.at(wake)
	s.mu.Unlock()
	wakeAll(subs)
}

// verdictMatters reports whether an acknowledgement may change anything, which
// most of a herd's do not.
func (sub *Subscriber) verdictMatters(t resource.Type, ids []uint32) bool {
	s := sub.store
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.silence == 0 {
		return false
	}
	for _, id := range ids {
		if e := s.tables[t].entries[id]; e != nil && (e.next != nil || !e.accepted) {
			return true
		}
	}
	return false
}

// Reject notes that a client refused a response with these resources, with its
// own words. It returns the ids that are at fault,
// or none while that cannot be told; then the rest is to be sent again in smaller
// responses.
//
// What is at fault is pinned at its last good content for everyone, together
// with the rest of its unit; unless another proxy has accepted it: then it is
// this proxy's matter. Where there is nothing good to go back to it stays, and
// is sent alone, so that no other resource is refused with it.
func (sub *Subscriber) Reject(t resource.Type, ids []uint32, frames []*Frame, node, message string) (culprits []uint32) {
	s := sub.store
	s.apply.Lock()
	defer s.apply.Unlock()
	s.mu.Lock()
	culprits = sub.culprits(t, ids, message)
	var wake bitset
	pinned := false
	if s.silence > 0 && t == resource.Secret {
		s.complain(t, culprits, frames, ids, &sub.view, node, message)
	}
	if s.silence > 0 && t.Configuration() {
		for i, id := range ids {
			if slices.Contains(culprits, id) {
				pinned = s.quarantine(sub, ref{t, id}, frames[i], node, message, &wake) || pinned
			}
		}
		for _, id := range ids {
			// A stage must not take the time of a search for silence.
			if e := s.tables[t].entries[id]; e != nil && e.next != nil {
				e.stage.due = time.Now().Add(s.silence)
			}
		}
	}
	for _, id := range ids {
		// The others were refused with it, or may have been.
		if !slices.Contains(culprits, id) && sub.sent[t].has(id) {
			sub.dirty[t].set(id)
			wake.set(sub.slot)
		}
	}
	subs := s.at(wake)
	s.mu.Unlock()
	wakeAll(subs)
	if pinned {
		s.onPins()
	}
	return culprits
}

// complain notes certificates that a proxy refused: it goes on with those that
// it had, and nothing that others get depends on it. mu must be held.
func (s *Store) complain(t resource.Type, culprits []uint32, frames []*Frame, ids []uint32, v *View, node, message string) {
	for i, id := range ids {
		if e := s.tables[t].entries[id]; e != nil && slices.Contains(culprits, id) && e.frame != nil && e.frameFor(v) == frames[i] {
			s.suspects[ref{t, id}] = rejection(t, e.name, &e.content, node, message)
		}
	}
}

// culprits finds the resources that a rejection is about: the only one, or
// those that Envoy names ("name: reason"). mu must be held.
func (sub *Subscriber) culprits(t resource.Type, ids []uint32, message string) []uint32 {
	if len(ids) == 1 {
		return ids
	}
	var out []uint32
	for _, id := range ids {
		if e := sub.store.tables[t].entries[id]; e != nil && strings.Contains(message, " "+e.name+": ") {
			out = append(out, id)
		}
	}
	return out
}

// quarantine pins a unit because of one of its resources. mu must be held.
func (s *Store) quarantine(sub *Subscriber, r ref, refused *Frame, node, message string, wake *bitset) bool {
	e := s.tables[r.t].entries[r.id]
	if e == nil {
		return false
	}
	if e.next != nil && e.next.frame != nil && e.next.frameFor(&sub.view) == refused {
		st := e.stage
		s.pin(st.unit, r, e.next, node, message, func(e *entry) *content { return &e.content })
		for _, r := range slices.Clone(st.refs) {
			s.withdraw(st, r, s.tables[r.t].entries[r.id], wake)
		}
		s.end(st)
		s.outcome(StageRejected)
		return true
	}
	if e.frame == nil || e.accepted || e.next != nil || e.frameFor(&sub.view) != refused {
		return false
	}
	// It came into force without a canary that judges like this proxy.
	since, bad := e.changed, e.content
	u := s.units[bad.unit]
	if e.before == nil || u == nil || slices.Equal(e.before.versions(), bad.versions()) {
		s.suspects[r] = rejection(r.t, e.name, &bad, node, message)
		return false
	}
	former := func(e *entry) *content {
		if e.changed != since {
			return &e.content
		}
		return e.before // nil: there was nothing
	}
	s.pin(bad.unit, r, &bad, node, message, former)
	s.index++
	for _, r := range slices.Clone(u.refs) {
		e := s.tables[r.t].entries[r.id]
		if !r.t.Configuration() || e.changed != since {
			continue
		}
		next := former(e)
		if next == nil {
			next = &content{visible: e.visible}
		}
		s.force(time.Now(), []change{{r, next}}, wake)
		e.before = nil // what was refused is no way back
	}
	u.refs = slices.DeleteFunc(u.refs, func(r ref) bool { return s.tables[r.t].entries[r.id].gone() })
	u.changed = s.index
	s.outcome(StageRejected)
	return true
}

// pin records a refused resource and what holds instead. good returns what
// each of the unit's entries is to be. mu must be held.
func (s *Store) pin(unit string, r ref, bad *content, node, message string, good func(*entry) *content) {
	p := &Pin{Unit: unit}
	if old := s.pins[unit]; old != nil {
		p.Rejected, p.Frozen = slices.Clone(old.Rejected), old.Frozen
	}
	p.Rejected = append(p.Rejected, rejection(r.t, s.tables[r.t].entries[r.id].name, bad, node, message))
	if len(p.Rejected) > maxRejections {
		p.Rejected = p.Rejected[1:]
	}
	for _, r := range s.units[unit].refs {
		e := s.tables[r.t].entries[r.id]
		c := &e.content
		if r.t.Configuration() {
			c = good(e)
		}
		if c != nil && c.frame != nil {
			p.Good = append(p.Good, c.resource(r.t, e.name))
		}
	}
	s.pins[unit] = p
}

func rejection(t resource.Type, name string, bad *content, node, message string) Rejection {
	return Rejection{
		Type: t, Name: name, Unit: bad.unit, Versions: bad.versions(), Error: message, Node: node,
		Since: time.Now().UTC(), Provenance: bad.provenance,
	}
}

// maxRejections bounds how many refused contents of a unit are remembered.
const maxRejections = 8

func (c *content) versions() []string {
	out := []string{c.frame.Version}
	for _, key := range slices.Sorted(maps.Keys(c.variants)) {
		out = append(out, c.variants[key].Version)
	}
	return out
}

// resource is the inverse of nextContent.
func (c *content) resource(t resource.Type, name string) resource.Resource {
	r := resource.Resource{
		Type: t, Name: name, Body: c.frame.body(), Shape: c.shape, Visible: c.visible, Needs: c.needs, EDS: c.eds,
		Provenance: c.provenance,
	}
	if len(c.variants) > 0 {
		variants := make(map[string]resource.Parts, len(c.variants))
		for key, f := range c.variants {
			variants[key] = f.body()
		}
		if c.byNamespace {
			r.ByNamespace = variants
		} else {
			r.ByZone = variants
		}
	}
	return r
}

// pinned returns what an update makes of a unit: its resources or, while they
// contain what was refused or are frozen, the last good ones with the update's endpoints.
// apply must be held.
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
		if _, e := s.lookup(resource.Endpoint, g.Name); e != nil && e.frame != nil {
			out = append(out, e.content.resource(resource.Endpoint, g.Name))
		} else {
			out = append(out, *g)
		}
	}
	return out
}

// refuses reports whether any of the resources was rejected.
func (p *Pin) refuses(resources []resource.Resource) bool {
	for i := range resources {
		r := &resources[i]
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
	variants := r.ByZone
	if len(r.ByNamespace) > 0 {
		variants = r.ByNamespace
	}
	for _, key := range slices.Sorted(maps.Keys(variants)) {
		out = append(out, contentVersion(variants[key]))
	}
	return out
}

// Pins returns the units that are held at their last good configuration, by name.
func (s *Store) Pins() []Pin {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]Pin, 0, len(s.pins))
	for _, p := range s.pins {
		out = append(out, *p)
	}
	slices.SortFunc(out, func(a, b Pin) int { return cmp.Compare(a.Unit, b.Unit) })
	return out
}

// Rejections returns what proxies refused and what is not mended since, by type and name.
func (s *Store) Rejections() []Rejection {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []Rejection
	for _, p := range s.pins {
		for _, r := range p.Rejected {
			r.Pinned = true
			out = append(out, r)
		}
	}
	for _, r := range s.suspects {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b Rejection) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name), a.Since.Compare(b.Since))
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
	defer s.mu.Unlock()
	for i := range pins {
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
}

// UnitState says how far a unit's newest content has come.
type UnitState struct {
	// Changed is the index at which it last changed for everyone.
	Changed uint64
	// Staged is true while canaries judge it, Pinned while it is held back
	// because a proxy refused it, Frozen while a freeze holds it back.
	Staged, Pinned, Frozen bool
}

// Units returns the state of units.
func (s *Store) Units(names []string) []UnitState {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]UnitState, len(names))
	for i, name := range names {
		if u := s.units[name]; u != nil {
			out[i] = UnitState{Changed: u.changed, Staged: u.stage != nil}
		}
		if p := s.pins[name]; p != nil {
			out[i].Pinned, out[i].Frozen = len(p.Rejected) > 0, !p.Frozen.IsZero()
		}
	}
	return out
}
