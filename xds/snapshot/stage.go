package snapshot

import (
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/causeway-mesh/causeway/xds/resource"
)

// Silence is how long a stage waits for its canaries. Then the change goes to
// everyone: a proxy that never answers must not hold up the mesh.
const Silence = 500 * time.Millisecond

// searchTime is the factor by which a stage waits longer for a canary that
// refuses a response, until it is known which resource is at fault.
const searchTime = 10

// stage is a changed unit that one proxy of each class tries before everyone
// gets it.
type stage struct {
	unit string
	// refs are the resources that have a new content to try.
	refs []ref
	// canaries are the slots of the proxies that get it first.
	canaries bitset
	// tried is the answer to each trial.
	tried map[trial]answer
	open  int // trials without an answer
	// lost are the classes whose canaries have gone.
	lost  map[Class]*loss
	cause time.Time
	due   time.Time
	last  time.Time // which due never passes
}

// answer is what a canary has answered to a trial.
type answer uint8

const (
	awaited answer = iota
	accepted
	refused
	unasked // no proxy answers a removal
)

// trial is a resource that a canary tries.
type trial struct {
	slot uint32
	ref  ref
}

// StageResult is how a stage ended.
type StageResult string

// How stages end.
const (
	StageAccepted StageResult = "accepted"
	StageSilent   StageResult = "silent"
	StageRejected StageResult = "rejected"
	// StageWithdrawn: a later change took back what the stage tried.
	StageWithdrawn StageResult = "withdrawn"
)

// Stage turns staging on. From now on a changed configuration goes to one proxy
// of each Class first, and to the other proxies of the class when that one
// acknowledges it or stays silent. If the canary refuses it, its class keeps the
// last good configuration (hold). The store calls onPins after pins came or went,
// and onStageEnd for each stage that ended; neither may call back into the store.
func (s *Store) Stage(silence time.Duration, onPins func(), onStageEnd func(StageResult)) {
	s.apply.Lock()
	defer s.apply.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silence, s.onPins, s.onStageEnd = silence, onPins, onStageEnd
	s.staged, s.complaints = make(map[*stage]struct{}), make(map[ref][]complaint)
}

// worthStaging reports whether canaries must try a unit's changes first. mu must be
// held.
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
		case c.next.standIn:
			// No proxy gets it that has what it replaces.
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
// Changed endpoints do not wait. Removed endpoints do: they go together with
// their cluster. mu must be held.
func (s *Store) try(cause time.Time, p *plan, wake *bitset) int {
	u := s.units[p.unit]
	if u == nil {
		u = &unit{}
		s.units[p.unit] = u
	}
	st, now := u.stage, time.Now()
	fresh := st == nil
	if fresh {
		st = &stage{
			unit: p.unit, tried: make(map[trial]answer), lost: make(map[Class]*loss), cause: cause, due: now.Add(s.silence), last: now.Add(searchTime * s.silence),
		}
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
			s.recruit(u, c.ref, e, nil)
			if st.clears(c.ref) { // what is tried instead has time of its own
				st.last = now.Add(searchTime * s.silence)
			}
		}
	}
	s.force(cause, direct, wake)
	st.cause = cause
	for _, r := range st.refs {
		s.begin(st, r, changed[r], wake)
	}
	// Where all canaries have gone in the meantime, the stage waits until it is due.
	if tried := len(st.tried) > 0; st.open == 0 && (len(st.refs) == 0 || !st.owes() && (tried || fresh)) {
		s.pass(st, wake)
		if tried || !fresh {
			s.onStageEnd(StageWithdrawn)
		}
	}
	return len(p.changes) + len(p.removed)
}

// begin has the canaries try a resource, once more if it has changed. mu must be
// held.
func (s *Store) begin(st *stage, r ref, changed bool, wake *bitset) {
	e := s.tables[r.t].entries[r.id]
	s.followers(r, e, e.visible, func(sub *Subscriber) {
		key := trial{sub.slot, r}
		old, tries := st.tried[key]
		if !st.canaries.has(sub.slot) || (tries && !changed) {
			return
		}
		if tries && old == awaited {
			st.open--
		}
		if st.tried[key] = unasked; e.next.frame != nil {
			st.tried[key] = awaited
			st.open++
		}
		sub.mark(r, st.cause)
		wake.set(sub.slot)
	})
}

// drop takes a resource out of a stage without telling anyone. mu must be held.
func (s *Store) drop(st *stage, r ref, e *entry) {
	e.next, e.stage = nil, nil
	st.clears(r)
	st.refs = slices.DeleteFunc(st.refs, func(o ref) bool { return o == r })
	for t := range st.tried {
		if t.ref == r {
			st.forget(t)
		}
	}
}

func (st *stage) forget(t trial) {
	if v, tries := st.tried[t]; tries && v == awaited {
		st.open--
	}
	delete(st.tried, t)
}

// record notes a canary's answer to a trial, and reports whether it is the
// first.
func (st *stage) record(t trial, v answer) (news bool) {
	if old, tries := st.tried[t]; !tries || old != awaited {
		return false
	}
	st.tried[t] = v
	st.open--
	return true
}

// withdraw ends the trial of a resource: its canaries get the content in force again. mu
// must be held.
func (s *Store) withdraw(st *stage, r ref, e *entry, wake *bitset) {
	for t := range st.tried {
		if t.ref == r {
			s.streams[t.slot].mark(r, st.cause)
			wake.set(t.slot)
		}
	}
	s.drop(st, r, e)
}

// recruit makes the first subscriber of each class that follows a resource a canary, unless the class has one.
// Where a resource has variants, it takes one subscriber for each variant that the class gets. A class with a
// hold on the unit tries later (retry), and so does a class whose canary has gone (succeed). only restricts it
// to one class, nil means all. A state-of-the-world stream is never a canary, because it acknowledges whole
// route configurations. mu must be held.
func (s *Store) recruit(u *unit, r ref, e *entry, only *class) {
	if e.next.frame == nil {
		return
	}
	type kind struct {
		class *class
		frame *Frame
	}
	st := u.stage
	first := make(map[kind]*Subscriber)
	s.followers(r, e, e.visible, func(sub *Subscriber) {
		if sub.mode.StateOfTheWorld || only != nil && sub.class != only || u.holds[sub.class] != nil ||
			st.vacant(sub.class.Class) || !sub.view.Sees(&e.next.visible) {
			return
		}
		k := kind{sub.class, e.next.frameFor(&sub.view)}
		have := first[k]
		if have == nil || (st.canaries.has(sub.slot) && !st.canaries.has(have.slot)) {
			first[k] = sub
		}
	})
	for _, sub := range first {
		st.canaries.set(sub.slot)
	}
}

// pass brings the contents of a stage into force for everyone. mu must be held.
func (s *Store) pass(st *stage, wake *bitset) {
	if len(st.refs) > 0 {
		s.index++
	}
	for _, r := range st.refs {
		e := s.tables[r.t].entries[r.id]
		before, next := e.visible, e.next
		e.next, e.stage = nil, nil
		s.replace(r.t, e, next)
		for t, v := range st.tried {
			if t.ref == r && v == accepted {
				e.accepted.set(s.streams[t.slot].class.id)
			}
		}
		s.markChanged(r, e, before, st.cause, wake, func(slot uint32) bool {
			// A canary has it, or is still marked for it.
			_, tries := st.tried[trial{slot, r}]
			return tries
		})
	}
	// A canary that has accepted it is sent nothing more. If another canary's
	// answer ended the stage, this one must be woken to learn that it is up to
	// date.
	for t := range st.tried {
		if s.streams[t.slot] != nil {
			wake.set(t.slot)
		}
	}
	u := s.units[st.unit]
	s.end(st)
	if u == nil {
		return
	}
	for _, h := range u.sortedHolds() {
		if h.wanting {
			s.retryChanged(h, slices.Values(st.refs), wake)
		}
	}
}

// end removes a stage. mu must be held.
func (s *Store) end(st *stage) {
	delete(s.staged, st)
	u := s.units[st.unit]
	if u == nil {
		return
	}
	u.stage, u.changed = nil, s.index
	u.refs = slices.DeleteFunc(u.refs, func(r ref) bool { return s.tables[r.t].entries[r.id].frame == nil })
	s.discard(st.unit, u)
}

// discard removes a unit that has no resources, stage or holds any more. mu
// must be held.
func (s *Store) discard(name string, u *unit) {
	if len(u.refs) == 0 && u.stage == nil && len(u.holds) == 0 {
		delete(s.units, name)
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
	for h := range s.holds {
		if at := h.next(); !at.IsZero() && (due.IsZero() || at.Before(due)) {
			due = at
		}
	}
	for _, list := range s.complaints {
		for i := range list {
			if at := list[i].ends(); !at.IsZero() && (due.IsZero() || at.Before(due)) {
				due = at
			}
		}
	}
	return due
}

// Expire ends the stages whose canaries have not answered in time, and the
// complaints of proxies that have left for good.
func (s *Store) Expire(now time.Time) {
	s.apply.Lock()
	defer s.apply.Unlock()
	s.mu.Lock()
	var wake bitset
	for st := range maps.Clone(s.staged) {
		if !now.Before(st.due) && !s.succeed(st, now, &wake) {
			s.pass(st, &wake)
			s.onStageEnd(StageSilent)
		}
	}
	s.expireHolds(now, &wake)
	subs := s.at(wake)
	s.mu.Unlock()
	wakeAll(subs)
}

// leave takes a subscriber that is gone out of all stages and trials. These then wait until they are
// due: a configuration that crashes proxies must not reach the next one any sooner. mu must be held.
func (s *Store) leave(sub *Subscriber) {
	for st := range s.staged {
		st.lose(sub)
	}
	for h := range s.holds {
		h.lose(sub)
	}
}

// Accept notes that a client acknowledged a response with these resources.
func (sub *Subscriber) Accept(t resource.Type, ids []uint32, frames []*Frame) {
	s := sub.store
	if t == resource.Endpoint || !sub.ackMatters(t, ids) {
		return
	}
	s.apply.Lock()
	defer s.apply.Unlock()
	s.mu.Lock()
	var wake bitset
	answered := make(map[*stage]struct{})
	for i, id := range ids {
		e, r := s.tables[t].entries[id], ref{t, id}
		if e == nil {
			continue
		}
		if e.frame != nil && e.at(sub) == &e.content && e.frameFor(&sub.view) == frames[i] {
			e.accepted.set(sub.class.id)
			s.settleComplaints(r, sub.class)
			if h := e.held[sub.class]; h != nil {
				s.retried(h.hold, r, &wake)
			}
		}
		if e.next == nil || e.next.frame == nil || e.next.frameFor(&sub.view) != frames[i] {
			continue
		}
		if e.stage.record(trial{sub.slot, r}, accepted) {
			e.stage.answered(sub, r, e.next, frames[i])
			answered[e.stage] = struct{}{}
		}
	}
	for st := range answered {
		if st.open == 0 && !st.owes() {
			s.pass(st, &wake)
			s.onStageEnd(StageAccepted)
		}
	}
	subs := s.at(wake)
	s.mu.Unlock()
	wakeAll(subs)
}

// ackMatters reports whether an acknowledgement can change anything. Most
// cannot.
func (sub *Subscriber) ackMatters(t resource.Type, ids []uint32) bool {
	s := sub.store
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.silence == 0 {
		return false
	}
	for _, id := range ids {
		if e := s.tables[t].entries[id]; e != nil && (e.next != nil || e.held != nil || !e.accepted.has(sub.class.id)) {
			return true
		}
	}
	return false
}

// Reject notes that a client refused a response with these resources, and its error
// text. It returns the ids of the resources that are at fault, none if that is not
// known yet: then the stream sends the resources again in smaller responses. The store
// holds the unit of such a resource at its last good configuration, for the
// subscriber's class alone. If another proxy of the class has accepted the resource,
// nothing is held: the refusal concerns this proxy only. If there is no last good
// configuration, the proxies that refuse the resource are without it, and the class
// gets it in a response of its own, so that it causes no refusal of others.
func (sub *Subscriber) Reject(t resource.Type, ids []uint32, frames []*Frame, node, message string) (culprits []uint32) {
	s := sub.store
	var named map[string]struct{}
	if len(ids) > 1 {
		named = namesIn(message)
	}
	s.apply.Lock()
	defer s.apply.Unlock()
	s.mu.Lock()
	culprits = sub.culprits(t, ids, named)
	var wake, guilty bitset
	for _, id := range culprits {
		guilty.set(id)
	}
	says := nack{node, Brief(message)}
	for i, id := range ids {
		if s.silence == 0 || !guilty.has(id) {
			continue
		}
		switch e := s.tables[t].entries[id]; {
		case e == nil:
		case t == resource.Secret:
			// A proxy that refuses a certificate keeps the one that it has.
			if e.frame != nil && e.frameFor(&sub.view) == frames[i] {
				s.complain(sub, ref{t, id}, &e.content, says)
			}
		case t.Configuration():
			s.refuse(sub, ref{t, id}, frames[i], says, &wake)
		}
	}
	if len(culprits) == 0 {
		for _, id := range ids {
			// The search for the culprit takes time, which must not count as
			// silence.
			if e := s.tables[t].entries[id]; e != nil && e.next != nil && e.stage.canaries.has(sub.slot) {
				if due := time.Now().Add(s.silence); due.Before(e.stage.last) {
					e.stage.due = due
				}
			}
		}
	}
	for _, id := range ids {
		// The other resources were refused together with it, or may have been.
		if !guilty.has(id) && sub.sent[t].has(id) {
			sub.dirty[t].set(id)
			wake.set(sub.slot)
		}
	}
	subs := s.at(wake)
	s.mu.Unlock()
	wakeAll(subs)
	return culprits
}

// nack is a refusal in a proxy's own words.
type nack struct{ node, message string }

// A rejection's text is the client's. It is read up to textRead for the resources that it
// names, which is far more than an Envoy's on ten thousand of them, and kept up to textKept.
const (
	textRead = 2 << 20
	textKept = 2 << 10
)

// Brief returns the beginning of a rejection's text, without characters that a terminal would
// take for commands. The store keeps this much, and people see it.
func Brief(message string) string {
	short := len(message) > textKept
	if short {
		message = message[:textKept]
	}
	message = strings.Map(func(r rune) rune {
		if r == '\n' || unicode.IsPrint(r) && r != utf8.RuneError {
			return r
		}
		return ' '
	}, message)
	if short {
		message += "…"
	}
	return message
}

// namesIn returns what may be names of resources in a rejection's text, as Envoy names them
// (" name: reason"). It takes one pass, however many there are: everyone waits meanwhile.
func namesIn(message string) map[string]struct{} {
	out := make(map[string]struct{})
	message = message[:min(len(message), textRead)]
	for {
		before, after, found := strings.Cut(message, ": ")
		if !found {
			return out
		}
		if i := strings.LastIndexByte(before, ' '); i >= 0 && len(before)-i <= MaxNameLength {
			out[before[i+1:]] = struct{}{}
		}
		message = after
	}
}

// culprits finds the resources that a rejection is about: the only one, or
// those that it names. mu must be held.
func (sub *Subscriber) culprits(t resource.Type, ids []uint32, named map[string]struct{}) []uint32 {
	if len(ids) == 1 {
		return ids
	}
	var out []uint32
	for _, id := range ids {
		if e := sub.store.tables[t].entries[id]; e != nil {
			if _, is := named[e.name]; is {
				out = append(out, id)
			}
		}
	}
	return out
}
