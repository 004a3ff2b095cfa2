package server

import (
	"context"
	"runtime/debug"
	"slices"
	"sync"
	"time"
)

// admission bounds how much is on its way to clients in large responses at a
// time: a herd that reconnects queues and nobody is refused. No connection and no identity may
// have all of it, and connections take turns, so that clients which take
// and never acknowledge keep nobody else waiting. When a herd is
// over it returns the memory that it took, which would otherwise stay with the
// process until the next forced garbage collection, two minutes later.
type admission struct {
	mu sync.Mutex
	// held is how much is on its way, in all and by connection and identity.
	held         int64
	byConnection map[string]int64
	byIdentity   map[string]int64
	// waiting are the responses that wait, by connection, and turns the connections
	// in the order in which it is their turn.
	waiting map[string][]*waiter
	turns   []string
	total   int64 // admitted since memory was returned
	quiet   *time.Timer
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

func newAdmission() *admission {
	return &admission{byConnection: make(map[string]int64), byIdentity: make(map[string]int64), waiting: make(map[string][]*waiter)}
}

// acquire waits until n bytes may be on their way to a party, and returns how many count.
func (a *admission) acquire(ctx context.Context, p party, n int64) (int64, error) {
	w := &waiter{party: p, bytes: min(n, admitPerConnection), admitted: make(chan struct{})}
	a.mu.Lock()
	if len(a.waiting[p.connection]) == 0 {
		a.turns = append(a.turns, p.connection)
	}
	a.waiting[p.connection] = append(a.waiting[p.connection], w)
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

// serve admits what may be, one response of each connection in turn. mu must be held.
func (a *admission) serve() {
	for passed := 0; passed < len(a.turns); {
		c := a.turns[0]
		w := a.waiting[c][0]
		full := a.byConnection[c]+w.bytes > admitPerConnection || a.byIdentity[w.identity]+w.bytes > admitPerIdentity
		if !full && a.held+w.bytes > admitBytes {
			return // it is the turn of this one as soon as there is room
		}
		a.turns = append(a.turns[1:], c)
		if full {
			passed++
			continue
		}
		passed = 0
		a.take(w)
		a.withdraw(w)
		close(w.admitted)
	}
}

func (a *admission) take(w *waiter) {
	a.held += w.bytes
	a.byConnection[w.connection] += w.bytes
	a.byIdentity[w.identity] += w.bytes
	a.total += w.bytes
	if a.quiet != nil {
		a.quiet.Stop()
	}
}

// withdraw takes a response out of those that wait. mu must be held.
func (a *admission) withdraw(w *waiter) {
	list := slices.DeleteFunc(a.waiting[w.connection], func(o *waiter) bool { return o == w })
	if a.waiting[w.connection] = list; len(list) > 0 {
		return
	}
	delete(a.waiting, w.connection)
	a.turns = slices.DeleteFunc(a.turns, func(c string) bool { return c == w.connection })
}

func (a *admission) release(p party, n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.giveBack(p, n)
}

func (a *admission) giveBack(p party, n int64) {
	a.held -= n
	if a.byConnection[p.connection] -= n; a.byConnection[p.connection] == 0 {
		delete(a.byConnection, p.connection)
	}
	if a.byIdentity[p.identity] -= n; a.byIdentity[p.identity] == 0 {
		delete(a.byIdentity, p.identity)
	}
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
