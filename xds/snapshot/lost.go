package snapshot

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"
)

// Bounds of how many proxies of a class try a configuration that no proxy has
// answered.
const (
	// mostLost is the number of canaries in a row whose connections end before they answer, after which the class
	// keeps what it has. A proxy that crashes because of its configuration cannot refuse it: this is the worst
	// refusal.
	mostLost = 3
	// fewLost is that number where no other proxy of the class is left to try. One connection ends for many
	// reasons.
	fewLost = 2
	// maxDoubts bounds how often the waiting time doubles before a class tries again the configuration that ended
	// connections: from AuthorGrace to an hour.
	maxDoubts = 6
)

// loss counts the canaries of a class that went away before they answered.
type loss struct {
	// n counts the rounds in which a canary went away after it had been sent the change. counted is true once this round is
	// counted: connections that end together may have ended for another common reason.
	n       int
	counted bool
	// vacant is true while no other proxy tries it in their place.
	vacant bool
	// last is the canary that went last. refs are the resources that it had been sent: one of them may have
	// ended it.
	last *Subscriber
	refs map[ref]struct{}
}

// add notes that a subscriber has gone which had been sent refs and has not answered them.
func (l *loss) add(sub *Subscriber, refs map[ref]struct{}) {
	if len(refs) == 0 {
		return
	}
	if !l.counted {
		l.n++
		l.counted, l.refs = true, make(map[ref]struct{})
	}
	l.last = sub
	maps.Copy(l.refs, refs)
}

// clears removes a resource from those that may have ended proxies: it has changed, or a proxy has answered it. It
// reports whether none is left.
func (l *loss) clears(r ref) bool {
	if delete(l.refs, r); l.n == 0 || len(l.refs) > 0 {
		return false
	}
	l.n, l.counted, l.last = 0, false, nil
	return true
}

// clears does the same for all classes.
func (st *stage) clears(r ref) (doubted bool) {
	for _, l := range st.lost {
		doubted = l.clears(r) || doubted
	}
	return doubted
}

// answered does so for a subscriber's class, whose proxy has answered a frame of the trial.
func (st *stage) answered(sub *Subscriber, r ref, tried *content, frame *Frame) {
	if l := st.lost[sub.class.Class]; l != nil && l.n > 0 && tried.frameFor(&l.last.view) == frame {
		l.clears(r)
	}
}

// hadBeenSent reports whether a subscriber has collected the newest version of a resource. mu must
// be held.
func (sub *Subscriber) hadBeenSent(r ref) bool {
	return sub.sent[r.t].has(r.id) && !sub.dirty[r.t].has(r.id) && !sub.held[r.t].has(r.id)
}

// nack returns a lost connection in the form of a refusal.
func (l *loss) nack() nack {
	return nack{l.last.view.Node, fmt.Sprintf("the connections of %d proxies ended before they answered to it, the last that of this one: they may have crashed", l.n)}
}

// lose notes that a canary of a stage has gone. mu must be held.
func (st *stage) lose(sub *Subscriber) {
	if !st.canaries.has(sub.slot) {
		return
	}
	st.canaries.clear(sub.slot)
	asked, sent := false, make(map[ref]struct{})
	for t, v := range st.tried {
		if t.slot != sub.slot {
			continue
		}
		if v == awaited {
			asked = true
			if sub.hadBeenSent(t.ref) {
				sent[t.ref] = struct{}{}
			}
		}
		st.forget(t)
	}
	if !asked {
		return
	}
	l := st.lost[sub.class.Class]
	if l == nil {
		l = &loss{}
		st.lost[sub.class.Class] = l
	}
	l.vacant = true
	l.add(sub, sent)
}

// owes reports whether a class has lost a canary and no other proxy tries in
// its place.
func (st *stage) owes() bool {
	for c := range st.lost {
		if st.vacant(c) {
			return true
		}
	}
	return false
}

// vacant reports whether a canary of the class has gone and no other proxy tries
// in its place.
func (st *stage) vacant(c Class) bool {
	l := st.lost[c]
	return l != nil && l.vacant
}

// waits reports whether a canary of a class has not answered yet. mu must be held.
func (s *Store) waits(st *stage, c *class) bool {
	for t, v := range st.tried {
		if v == awaited && s.streams[t.slot].class == c {
			return true
		}
	}
	return false
}

// succeed replaces lost canaries: another proxy of the class tries the change, one at a time. It holds a class that has lost too many.
// A stage with a lost canary does not pass by silence: a proxy that writes a core dump keeps its connection meanwhile. It reports
// whether the stage goes on; after st.last it never does. mu must be held, and apply.
func (s *Store) succeed(st *stage, now time.Time, wake *bitset) bool {
	goesOn, late := false, !now.Before(st.last)
	for c, l := range st.lost {
		vacant, known := l.vacant, s.classes[c]
		l.vacant, l.counted = false, false
		waits := known != nil && s.waits(st, known)
		switch {
		case known != nil && !late && l.n < mostLost && (vacant && s.replaceCanary(st, known, wake) || waits && l.n > 0):
			goesOn = true
		case l.n >= fewLost && (vacant || waits):
			delete(st.lost, c)
			s.blame(st, l, wake)
		}
	}
	if goesOn {
		// A replacement has a time of its own, and each class has few of them.
		st.due = s.nextLook(now, st.last)
	}
	return goesOn
}

// nextLook is when to look again at canaries that have not answered.
func (s *Store) nextLook(now, last time.Time) time.Time {
	if next := now.Add(s.silence); next.Before(last) {
		return next
	}
	return last
}

// replaceCanary makes another proxy of a class a canary. mu must be held.
func (s *Store) replaceCanary(st *stage, c *class, wake *bitset) bool {
	for _, r := range st.refs {
		s.recruit(s.units[st.unit], r, s.tables[r.t].entries[r.id], c)
	}
	before := st.open
	for _, r := range st.refs {
		s.begin(st, r, false, wake)
	}
	return st.open > before
}

// blame holds a class at its present configuration, or without the new resources, because the change ended its canaries. mu must be held,
// and apply.
func (s *Store) blame(st *stage, l *loss, wake *bitset) {
	sub := *l.last
	sub.class = s.classOf(sub.class.Class)
	if s.units[st.unit].holds[sub.class] != nil {
		return // another one has refused it, or another replica holds it
	}
	r := sortedRefs(l.refs)[0]
	e := s.tables[r.t].entries[r.id]
	if e == nil || e.stage != st {
		return // it was taken back meanwhile
	}
	why := rejection(r.t, e.name, e.next, &sub, l.nack())
	why.Lost = l.n
	h := s.holdTried(st, &sub, why, true, wake)
	if h == nil {
		s.complain(&sub, r, e.next, l.nack())
		return
	}
	e.next.disputed = true
	if !s.present(sub.class, why.Node) {
		h.absent = time.Now()
	}
	s.onStageEnd(StageRejected)
}

// lose notes that the proxy has gone which tries the configuration in force. mu
// must be held.
func (h *hold) lose(sub *Subscriber) {
	if h.phase != trying || h.canary != sub.slot {
		return
	}
	h.canary = nobody
	sent := maps.Clone(h.open)
	maps.DeleteFunc(sent, func(r ref, _ struct{}) bool { return !sub.hadBeenSent(r) })
	h.lost.counted = false // nobody tries it beside it
	h.lost.add(sub, sent)
}

func sortedRefs(set map[ref]struct{}) []ref {
	out := make([]ref, 0, len(set))
	for r := range set {
		out = append(out, r)
	}
	slices.SortFunc(out, compareRefs)
	return out
}

// tryOn ends a hold's trial that took too long. If the proxy is silent, the class gets the configuration in force. If its
// connection ended, another proxy of the class tries it. If too many connections ended, the class keeps what it has. Once a
// connection has ended, silence ends no trial before h.last; after h.last no other proxy tries. mu must be held, and apply.
func (s *Store) tryOn(h *hold, now time.Time, wake *bitset) {
	l, doubts := h.lost, len(h.pin.doubts()) > 0
	gone, alone, late := h.canary == nobody, h.class.streams == 0, !now.Before(h.last)
	enough := l.n >= fewLost || l.n > 0 && doubts
	switch {
	case !gone && !late && (l.n > 0 || doubts):
		h.due = s.nextLook(now, h.last)
	case gone && !alone && !late && l.n < mostLost, alone && !enough && !doubts:
		last := h.last
		s.retry(h, wake)
		if h.phase == trying {
			h.lost, h.due, h.last = l, s.nextLook(now, last), last
		}
	case !alone && !enough:
		s.letGo(h, wake)
		s.pinsChanged()
		s.onStageEnd(StageSilent)
	default:
		s.resumeLost(h, l, wake)
	}
}

// resumeLost keeps a hold, because the trial ended connections. mu must be held, and
// apply.
func (s *Store) resumeLost(h *hold, l loss, wake *bitset) {
	for _, r := range sortedRefs(l.refs) {
		e := s.tables[r.t].entries[r.id]
		if e == nil || e.frame == nil {
			continue
		}
		sub := *l.last
		sub.class = h.class
		s.resume(&sub, h, r, e, l.nack(), wake)
		h.pin.Rejected[len(h.pin.Rejected)-1].Lost = l.n
		if !s.present(h.class, l.last.view.Node) {
			h.absent = time.Now()
		}
		return
	}
	s.goBack(h, wake)
}

// retryChanged is retry after these resources have changed. Lost connections that another resource may have caused still count. If the
// canary has just gone because of such a resource, the next one tries when the trial is due. mu must be held.
func (s *Store) retryChanged(h *hold, changed iter.Seq[ref], wake *bitset) {
	l := h.lost
	for r := range changed {
		l.clears(r)
	}
	if h.phase == trying && h.canary == nobody && l.n > 0 {
		h.lost, h.wanting = l, false
		return
	}
	s.retry(h, wake)
	if h.phase == trying {
		h.lost = l
	}
}

// doubts returns the rejections that stand for ended connections, back to the last one that a proxy sent
// itself.
func (p *Pin) doubts() []Rejection {
	at := len(p.Rejected)
	for at > 0 && p.Rejected[at-1].Lost > 0 {
		at--
	}
	return p.Rejected[at:]
}

// again is when a class tries once more the configuration that ended connections, zero if a proxy has refused it. Nobody knows
// whether the configuration ended them, so the class need not wait until a proxy is gone. The time doubles with each attempt.
func (h *hold) again() time.Time {
	doubts := h.pin.doubts()
	if len(doubts) == 0 {
		return time.Time{}
	}
	return doubts[len(doubts)-1].Since.Add(AuthorGrace << min(len(doubts)-1, maxDoubts))
}
