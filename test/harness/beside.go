package harness

import (
	"cmp"
	"flag"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Parallel lets so many tests of a package run side by side, because they mostly
// wait, unless -parallel says how many. TestMain calls it before the tests run.
func Parallel(tests int) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if f := flag.Lookup("test.parallel"); f != nil && !given {
		_ = f.Value.Set(strconv.Itoa(max(tests, runtime.GOMAXPROCS(0))))
	}
}

// Cores are shared by tests that run side by side. Each says how many it takes
// and for how long. The longest begins first, and each begins as soon as there
// is room for it: the machine has enough to do, and what a test measures is not
// how busy the others keep it.
type Cores struct {
	// Total is how many cores all tests take together at most.
	Total float64

	mu      sync.Mutex
	taken   float64
	running int
	waiting []*turn
}

// turn is what a test waits for.
type turn struct {
	cores float64
	takes time.Duration
	come  chan struct{}
}

// gather is how long a test waits for longer ones: parallel tests come at the
// same moment, in no order.
const gather = 100 * time.Millisecond

// Take returns when there is room for a test that takes so many cores for about
// that long. They are free again when it has ended. A test calls it after
// t.Parallel and before it starts anything.
func (c *Cores) Take(t TB, cores float64, takes time.Duration) {
	own := &turn{cores, takes, make(chan struct{})}
	c.mu.Lock()
	c.waiting = append(c.waiting, own)
	slices.SortStableFunc(c.waiting, func(a, b *turn) int { return cmp.Compare(b.takes, a.takes) })
	c.mu.Unlock()
	time.AfterFunc(gather, func() { c.admit(0, 0) })
	<-own.come
	t.Cleanup(func() { c.admit(1, own.cores) })
}

// admit frees what tests took that have ended, and lets others begin.
func (c *Cores) admit(ended int, free float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running, c.taken = c.running-ended, c.taken-free
	c.waiting = slices.DeleteFunc(c.waiting, func(w *turn) bool {
		// One that takes more than there is runs alone.
		if c.running > 0 && c.taken+w.cores > c.Total+1e-9 {
			return false
		}
		c.running, c.taken = c.running+1, c.taken+w.cores
		close(w.come)
		return true
	})
}
