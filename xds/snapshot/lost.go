package snapshot

import (
	"fmt"
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
	// n counts those who had been sent what they tried, and vacant is true while nobody tries it in their place.
	n      int
	vacant bool
	// last is the subscriber that went last, with what it had been sent.
	last *Subscriber
	ref  ref
}

// hadBeenSent reports whether a subscriber has collected the newest of a resource. mu must be held.
func (sub *Subscriber) hadBeenSent(r ref) bool {
	return sub.sent[r.t].has(r.id) && !sub.dirty[r.t].has(r.id)
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
	asked, sent := false, false
	var at ref
	for t, v := range st.tried {
		if t.slot != sub.slot {
			continue
		}
		if v == untold {
			asked = true
			if sub.hadBeenSent(t.ref) && (!sent || t.ref.t < at.t || t.ref.t == at.t && t.ref.id < at.id) {
				sent, at = true, t.ref
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
	if sent {
		l.n++
		l.last, l.ref = sub, at
	}
}

// owes reports whether a class has lost a canary that nobody has replaced.
func (st *stage) owes() bool {
	for _, l := range st.lost {
		if l.vacant {
			return true
		}
	}
	return false
}

// succeed has another proxy of each class that lost its canary try in its place, one at a time, and holds a class that has lost too
// many. It reports whether the stage goes on. mu must be held, and apply.
func (s *Store) succeed(st *stage, wake *bitset) bool {
	goesOn := false
	for c, l := range st.lost {
		if !l.vacant {
			continue
		}
		l.vacant = false
		known := s.classes[c]
		if l.n < mostLost && known != nil && s.replaceCanary(st, known, wake) {
			goesOn = true
			continue
		}
		if l.n >= fewLost {
			s.blame(st, l, wake)
		}
	}
	if goesOn {
		// Those who try in the place of others have their own time, and each class has few of them.
		st.due = time.Now().Add(s.silence)
	}
	return goesOn
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
	e := s.tables[l.ref.t].entries[l.ref.id]
	if e.next == nil || e.next.frame == nil || e.stage != st {
		return // it was taken back meanwhile
	}
	sub := *l.last
	sub.class = s.classOf(sub.class.Class)
	why := rejection(l.ref.t, e.name, e.next, &sub, l.verdict())
	why.Lost = l.n
	h := s.holdTried(st, &sub, why, true, wake)
	if h == nil {
		s.complain(&sub, l.ref, e.next, l.verdict())
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
	for _, r := range sortedRefs(h.open) {
		if sub.hadBeenSent(r) {
			h.lost.n++
			h.lost.last, h.lost.ref = sub, r
			return
		}
	}
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
// another one of the class, and after too many of them the class keeps what it has. mu must be held, and apply.
func (s *Store) tryOn(h *hold, wake *bitset) {
	if h.canary != nobody {
		s.letGo(h, wake)
		s.pinsChanged()
		s.outcome(StageSilent)
		return
	}
	l := h.lost
	var e *entry
	if l.n > 0 {
		e = s.tables[l.ref.t].entries[l.ref.id]
	}
	switch alone := h.class.streams == 0; {
	case l.n < mostLost && !alone, l.n < fewLost && len(h.pin.doubts()) == 0:
		s.retry(h, wake)
		if h.phase == trying {
			h.lost = l
		}
	case e == nil || e.frame == nil:
		s.goBack(h, wake)
	default:
		sub := *l.last
		sub.class = h.class
		s.resume(&sub, h, l.ref, e, l.verdict(), wake)
		h.pin.Rejected[len(h.pin.Rejected)-1].Lost = l.n
		if !s.present(h.class, l.last.view.Node) {
			h.absent = time.Now()
		}
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
