package server

import (
	"context"
	"runtime/debug"
	"slices"
	"sync"
	"time"
)

// admission bounds how much is on its way to clients in large responses at a
// time: a herd that reconnects queues and nobody is refused. No connection and no
// identity may have all of it. Identities take turns, and so do the connections of
// each, so that clients which take and never acknowledge keep nobody else waiting.
// When a herd is over it returns the memory that it took, which would otherwise stay
// with the process until the next forced garbage collection, two minutes later.
type admission struct {
	mu sync.Mutex
	// held is how much is on its way, in all.
	held int64
	// shares are those of identities that have or want something, and turns those
	// of them that wait, in the order in which it is their turn. One that may not
	// have more leaves turns until something of it is given back.
	shares map[string]*share
	turns  []*share
	total  int64 // admitted since memory was returned
	quiet  *time.Timer
}

// share is what an identity has and wants.
type share struct {
	held   int64
	queued bool // in admission.turns
	// lines are by connection; turns are as admission.turns.
	lines map[string]*line
	turns []*line
}

// line is what a connection has and wants.
type line struct {
	held    int64
	queued  bool // in share.turns
	waiting []*waiter
}

// waiter is a response that waits for its admission.
type waiter struct {
	party
	bytes    int64
	admitted chan struct{} // closed when it is
}

const (
	// admitPerConnection and admitPerIdentity are how much of admitBytes one of them may
	// have. The largest response is admitted with the first alone.
	admitPerConnection = admitBytes / 8
	admitPerIdentity   = admitBytes / 4 * 3
	// trimAfter is how long nothing large must have been on its way, trimFrom
	// how much must have been before.
	trimAfter = 500 * time.Millisecond
	trimFrom  = 32 << 20
)

func newAdmission() *admission { return &admission{shares: make(map[string]*share)} }

// acquire waits until n bytes may be on their way to a party, and returns how many count.
func (a *admission) acquire(ctx context.Context, p party, n int64) (int64, error) {
	w := &waiter{party: p, bytes: min(n, admitPerConnection), admitted: make(chan struct{})}
	a.mu.Lock()
	s, l := a.of(p)
	l.waiting = append(l.waiting, w)
	a.queue(s, l)
	a.serve()
	a.mu.Unlock()
	select {
	case <-w.admitted:
		return w.bytes, nil
	case <-ctx.Done():
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	select {
	case <-w.admitted:
		a.giveBack(p, w.bytes)
	default:
		a.withdraw(w)
		a.serve() // it may have been the one that others waited behind
	}
	return 0, ctx.Err()
}

// of returns a party's share and line, which it makes if need be. mu must be held.
func (a *admission) of(p party) (*share, *line) {
	s := a.shares[p.identity]
	if s == nil {
		s = &share{lines: make(map[string]*line)}
		a.shares[p.identity] = s
	}
	l := s.lines[p.connection]
	if l == nil {
		l = &line{}
		s.lines[p.connection] = l
	}
	return s, l
}

// tidy forgets a party that neither has nor wants anything. mu must be held.
func (a *admission) tidy(p party, s *share, l *line) {
	if l.held == 0 && len(l.waiting) == 0 {
		delete(s.lines, p.connection)
	}
	if len(s.lines) == 0 {
		delete(a.shares, p.identity)
	}
}

// queue gives a line that waits its turn. mu must be held.
func (a *admission) queue(s *share, l *line) {
	if !l.queued && len(l.waiting) > 0 {
		l.queued = true
		s.turns = append(s.turns, l)
	}
	if !s.queued && len(s.turns) > 0 {
		s.queued = true
		a.turns = append(a.turns, s)
	}
}

// next returns the line of a share whose turn it is, nil if none may have more.
func (s *share) next() *line {
	for len(s.turns) > 0 {
		l := s.turns[0]
		if len(l.waiting) > 0 && l.held+l.waiting[0].bytes <= admitPerConnection {
			if s.held+l.waiting[0].bytes > admitPerIdentity {
				return nil
			}
			return l
		}
		s.turns, l.queued = s.turns[1:], false
	}
	return nil
}

// serve admits what may be: identities take turns, and so do the connections of each.
// Its work does not grow with how many wait. mu must be held.
func (a *admission) serve() {
	for len(a.turns) > 0 {
		s := a.turns[0]
		l := s.next()
		if l != nil && a.held+l.waiting[0].bytes > admitBytes {
			return // it is the turn of this one as soon as there is room
		}
		a.turns, s.queued = a.turns[1:], false
		if l == nil {
			continue
		}
		w := l.waiting[0]
		l.waiting = l.waiting[1:]
		s.turns, l.queued = s.turns[1:], false
		a.held += w.bytes
		a.total += w.bytes
		s.held += w.bytes
		l.held += w.bytes
		if a.quiet != nil {
			a.quiet.Stop()
		}
		a.queue(s, l)
		close(w.admitted)
	}
}

// withdraw takes a response out of those that wait. mu must be held.
func (a *admission) withdraw(w *waiter) {
	s, l := a.of(w.party)
	l.waiting = slices.DeleteFunc(l.waiting, func(o *waiter) bool { return o == w })
	a.queue(s, l) // the next one of it may be smaller
	a.tidy(w.party, s, l)
}

func (a *admission) release(p party, n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.giveBack(p, n)
}

// giveBack ends the admission of n bytes. mu must be held.
func (a *admission) giveBack(p party, n int64) {
	s, l := a.of(p)
	a.held -= n
	s.held -= n
	l.held -= n
	a.queue(s, l)
	a.tidy(p, s, l)
	a.serve()
	if a.held == 0 && a.total >= trimFrom {
		a.quiet = time.AfterFunc(trimAfter, a.trim)
	}
}

func (a *admission) trim() {
	a.mu.Lock()
	over := a.held == 0
	if over {
		a.total = 0
	}
	a.mu.Unlock()
	if over {
		debug.FreeOSMemory()
	}
}
