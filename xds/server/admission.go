package server

import (
	"context"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// admission bounds how much is on its way to clients in large responses at a
// time: a herd that reconnects queues and nobody is refused. When a herd is
// over it returns the memory that it took, which would otherwise stay with the
// process until the next forced garbage collection, two minutes later.
type admission struct {
	sem *semaphore.Weighted

	mu    sync.Mutex
	held  int64
	total int64 // admitted since memory was returned
	quiet *time.Timer
}

const (
	// trimAfter is how long nothing large must have been on its way, trimFrom
	// how much must have been before.
	trimAfter = 500 * time.Millisecond
	trimFrom  = 32 << 20
)

func newAdmission() *admission { return &admission{sem: semaphore.NewWeighted(admitBytes)} }

// acquire waits until n bytes, at most admitBytes, may be on their way.
func (a *admission) acquire(ctx context.Context, n int64) error {
	if err := a.sem.Acquire(ctx, n); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.held += n
	a.total += n
	if a.quiet != nil {
		a.quiet.Stop()
	}
	return nil
}

func (a *admission) release(n int64) {
	a.sem.Release(n)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.held -= n
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
