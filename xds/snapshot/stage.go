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

// Silence is how long a stage waits for its canaries before the change goes to
// everyone: a proxy that says nothing must not hold up the mesh.
const Silence = 500 * time.Millisecond

// searchTime is how many times as long a stage waits at most for a canary that
// refuses, until it is known what.
const searchTime = 10

// stage is a changed unit that is tried with one proxy of each class before
// everyone gets it.
type stage struct {
	unit string
	// refs are the resources with something to try.
	refs []ref
	// canaries are the slots of those who get it first.
	canaries bitset
	// tried says of each trial what the canary has made of it.
	tried map[trial]finding
	open  int // trials without a verdict
	// lost are the classes whose canaries have gone.
	lost  map[Class]*loss
	cause time.Time
	due   time.Time
	last  time.Time // which due never passes
}

// finding is what a canary has made of a trial.
type finding uint8

const (
	untold finding = iota
	accepted
	refused
	unasked // an end is not judged
)

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

// Stage turns staging on: from now on a changed configuration goes to one proxy
// of each Class first, and on its acknowledgement, or after silence, to the rest.
// A class whose canary refuses it is held at what it had (hold). onPins is called
// after pins came or went, outcome for each stage that ended; neither may call
// back into the store.
func (s *Store) Stage(silence time.Duration, onPins func(), outcome func(StageOutcome)) {
	s.apply.Lock()
	defer s.apply.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silence, s.onPins, s.outcome = silence, onPins, outcome
	s.staged, s.complaints = make(map[*stage]struct{}), make(map[ref][]complaint)
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
		case c.next.standIn:
			// It is sent to nobody who could judge what it replaces.
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
	st, now := u.stage, time.Now()
	fresh := st == nil
	if fresh {
		st = &stage{
			unit: p.unit, tried: make(map[trial]finding), lost: make(map[Class]*loss), cause: cause, due: now.Add(s.silence), last: now.Add(searchTime * s.silence),
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
			s.outcome(StageWithdrawn)
		}
	}
	return len(p.changes) + len(p.removed)
}

// begin has the canaries try a resource, again if it has changed. mu must be held.
func (s *Store) begin(st *stage, r ref, changed bool, wake *bitset) {
	e := s.tables[r.t].entries[r.id]
	s.followers(r, e, e.visible, func(sub *Subscriber) {
		key := trial{sub.slot, r}
		old, tries := st.tried[key]
		if !st.canaries.has(sub.slot) || (tries && !changed) {
			return
		}
		if tries && old == untold {
			st.open--
		}
		if st.tried[key] = unasked; e.next.frame != nil {
			st.tried[key] = untold
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
	if v, tries := st.tried[t]; tries && v == untold {
		st.open--
	}
	delete(st.tried, t)
}

// judged notes what a canary has made of a trial.
func (st *stage) judged(t trial, v finding) (news bool) {
	if old, tries := st.tried[t]; !tries || old != untold {
		return false
	}
	st.tried[t] = v
	st.open--
	return true
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

// recruit makes the first subscriber of each class that follows a resource a
// canary, unless one of the class is; where a resource has variants, the first of each
// that the class gets. A class for which the unit is held tries
// later (retry), and so does one whose canary has gone (succeed). only is the class that it is done for, nil for
// all. A state-of-the-world stream is no canary: it judges whole route configurations. mu must be held.
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
			st.vacant(sub.class.Class) || !sub.view.Sees(e.next.visible) {
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
	// A canary that has accepted it is sent nothing more, and would not learn that
	// it has everything up to now, if another canary's word ended the stage.
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

// end forgets a stage. mu must be held.
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

// discard forgets a unit that is nothing any more. mu must be held.
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

// Expire gives what canaries have not judged in time to everyone, and ends the
// say of those who have left for good.
func (s *Store) Expire(now time.Time) {
	s.apply.Lock()
	defer s.apply.Unlock()
	s.mu.Lock()
	var wake bitset
	for st := range maps.Clone(s.staged) {
		if !now.Before(st.due) && !s.succeed(st, now, &wake) {
			s.pass(st, &wake)
			s.outcome(StageSilent)
		}
	}
	s.expireHolds(now, &wake)
	subs := s.at(wake)
	s.mu.Unlock()
	wakeAll(subs)
}

// leave takes a subscriber that is gone out of all stages and trials, which then wait until they are
// due: a configuration that ends a proxy must not reach the next one any sooner. mu must be held.
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
	if t == resource.Endpoint || !sub.verdictMatters(t, ids) {
		return
	}
	s.apply.Lock()
	defer s.apply.Unlock()
	s.mu.Lock()
	var wake bitset
	judged := make(map[*stage]struct{})
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
		if e.stage.judged(trial{sub.slot, r}, accepted) {
			e.stage.answered(sub, r, e.next, frames[i])
			judged[e.stage] = struct{}{}
		}
	}
	for st := range judged {
		if st.open == 0 && !st.owes() {
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
		if e := s.tables[t].entries[id]; e != nil && (e.next != nil || e.held != nil || !e.accepted.has(sub.class.id)) {
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
// What is at fault is held at its last good content, together with the rest of
// its unit, for the subscriber's class and for nobody else; unless another proxy
// of the class has accepted it: then it is this proxy's matter. Where there is
// nothing good to go back to, only who refuses it is without it, and it is sent to its
// class alone, so that no other resource is refused with it.
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
	says := verdict{node, Brief(message)}
	for i, id := range ids {
		if s.silence == 0 || !guilty.has(id) {
			continue
		}
		switch e := s.tables[t].entries[id]; {
		case e == nil:
		case t == resource.Secret:
			// Who refuses a certificate goes on with the one that it had.
			if e.frame != nil && e.frameFor(&sub.view) == frames[i] {
				s.complain(sub, ref{t, id}, &e.content, says)
			}
		case t.Configuration():
			s.refuse(sub, ref{t, id}, frames[i], says, &wake)
		}
	}
	if len(culprits) == 0 {
		for _, id := range ids {
			// A stage must not take the time of a search for silence.
			if e := s.tables[t].entries[id]; e != nil && e.next != nil && e.stage.canaries.has(sub.slot) {
				if due := time.Now().Add(s.silence); due.Before(e.stage.last) {
					e.stage.due = due
				}
			}
		}
	}
	for _, id := range ids {
		// The others were refused with it, or may have been.
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

// verdict is what a proxy says of what it refuses.
type verdict struct{ node, message string }

// A rejection's text is the client's. It is read up to textRead for the resources that it
// names, which is far more than an Envoy's on ten thousand of them, and kept up to textKept.
const (
	textRead = 2 << 20
	textKept = 2 << 10
)

// Brief returns what is kept of a rejection's text and shown to people: its beginning, without
// what a terminal would take for commands.
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
