package snapshot

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"
)

// Bounds of how many proxies of a class try what nobody has answered for.
const (
	// mostLost is after how many canaries in a row, whose connections ended without an answer to what they were sent,
	// a class keeps what it has: a proxy that ends of its configuration gives no answer, and is the worst refusal.
	mostLost = 3
	// fewLost is the same where nobody of the class is left to try it. One connection ends for many reasons.
	fewLost = 2
	// maxDoubts bounds how often the time is doubled after which a class tries again what ended connections: from AuthorGrace
	// to an hour.
	maxDoubts = 6
)

// loss is how often the canaries of a class have gone before they answered.
type loss struct {
	// n counts the rounds in which one went that had been sent what it tried, and counted is whether this round is one of them:
	// connections that end together may have ended for the same other reason.
	n       int
	counted bool
	// vacant is true while nobody tries it in their place.
	vacant bool
	// last is the subscriber that went last, and of what it had been sent refs is what it may have died of.
	last *Subscriber
	refs map[ref]struct{}
}

// add notes that a subscriber has gone that had been sent refs and has not answered to them.
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

// clears takes back that a resource may have ended proxies: it has become another one, or a proxy has answered to it.
// It reports whether nothing is left that may have.
func (l *loss) clears(r ref) bool {
	if delete(l.refs, r); l.n == 0 || len(l.refs) > 0 {
		return false
	}
	l.n, l.counted, l.last = 0, false, nil
	return true
}

// clears does so for all classes.
func (st *stage) clears(r ref) (doubted bool) {
	for _, l := range st.lost {
		doubted = l.clears(r) || doubted
	}
	return doubted
}

// answered takes it back for a subscriber's class: it has answered to a frame of what is tried.
func (st *stage) answered(sub *Subscriber, r ref, tried *content, frame *Frame) {
	if l := st.lost[sub.class.Class]; l != nil && l.n > 0 && tried.frameFor(&l.last.view) == frame {
		l.clears(r)
	}
}

// hadBeenSent reports whether a subscriber has collected the newest of a resource. mu must be held.
func (sub *Subscriber) hadBeenSent(r ref) bool {
	return sub.sent[r.t].has(r.id) && !sub.dirty[r.t].has(r.id) && !sub.held[r.t].has(r.id)
}

// verdict says of a connection that ended what a rejection says of a refusal.
func (l *loss) verdict() verdict {
	return verdict{l.last.view.Node, fmt.Sprintf("the connections of %d proxies ended before they answered to it, the last that of this one: they may have crashed", l.n)}
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
		if v == untold {
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

// owes reports whether a class has lost a canary that nobody has replaced.
func (st *stage) owes() bool {
	for c := range st.lost {
		if st.vacant(c) {
			return true
		}
	}
	return false
}

// vacant reports whether nobody of a class tries it in place of one that has gone.
func (st *stage) vacant(c Class) bool {
	l := st.lost[c]
	return l != nil && l.vacant
}

// waits reports whether a canary of a class has not answered yet. mu must be held.
func (s *Store) waits(st *stage, c *class) bool {
	for t, v := range st.tried {
		if v == untold && s.streams[t.slot].class == c {
			return true
		}
	}
	return false
}

// succeed has another proxy of each class that lost its canary try in its place, one at a time, and holds a class that has lost too
// many. Silence passes nothing where one was lost: a proxy that writes its core keeps its connection meanwhile. It reports whether the
// stage goes on, which it does not after st.last, whatever a class does. mu must be held, and apply.
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
		// Those who try in the place of others have their own time, and each class has few of them.
		st.due = s.nextLook(now, st.last)
	}
	return goesOn
}

// nextLook is when to look again at those who have not answered.
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

// blame holds a class at what it has, or without what is new, because proxies of it were lost by what is tried. mu must be held, and apply.
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
	why := rejection(r.t, e.name, e.next, &sub, l.verdict())
	why.Lost = l.n
	h := s.holdTried(st, &sub, why, true, wake)
	if h == nil {
		s.complain(&sub, r, e.next, l.verdict())
		return
	}
	e.next.disputed = true
	if !s.present(sub.class, why.Node) {
		h.absent = time.Now()
	}
	s.outcome(StageRejected)
}

// lose notes that the proxy has gone that tries what is in force. mu must be held.
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

// tryOn ends a hold's trial that took too long: who is silent takes it, whose connection ended is followed by
// another one of the class, and after too many of them the class keeps what it has. Where a connection has ended, now or the last
// time, silence passes nothing before h.last; after that nobody else is asked. mu must be held, and apply.
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
		s.outcome(StageSilent)
	default:
		s.resumeLost(h, l, wake)
	}
}

// resumeLost goes on holding, because proxies were lost. mu must be held, and apply.
func (s *Store) resumeLost(h *hold, l loss, wake *bitset) {
	for _, r := range sortedRefs(l.refs) {
		e := s.tables[r.t].entries[r.id]
		if e == nil || e.frame == nil {
			continue
		}
		sub := *l.last
		sub.class = h.class
		s.resume(&sub, h, r, e, l.verdict(), wake)
		h.pin.Rejected[len(h.pin.Rejected)-1].Lost = l.n
		if !s.present(h.class, l.last.view.Node) {
			h.absent = time.Now()
		}
		return
	}
	s.goBack(h, wake)
}

// retryChanged is retry after these resources have changed. What else ended proxies in this trial counts on, and where one has just gone
// of that, the next one tries it when it is due. mu must be held.
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

// doubts returns the rejections since the last one that a proxy spoke: of those whose connections ended.
func (p *Pin) doubts() []Rejection {
	at := len(p.Rejected)
	for at > 0 && p.Rejected[at-1].Lost > 0 {
		at--
	}
	return p.Rejected[at:]
}

// again is when a class tries once more what ended connections, zero where a proxy has refused it. It is not known that it was
// the configuration that ended them, so nobody needs to be gone for that; each time it takes twice as long.
func (h *hold) again() time.Time {
	doubts := h.pin.doubts()
	if len(doubts) == 0 {
		return time.Time{}
	}
	return doubts[len(doubts)-1].Since.Add(AuthorGrace << min(len(doubts)-1, maxDoubts))
}
