package harness

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// guest is a test that takes cores until it is told to end.
type guest struct {
	TB
	leave func()
}

func (g *guest) Cleanup(f func()) { g.leave = f }

func TestCores(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &Cores{Total: 2}
		var mu sync.Mutex
		in := make(map[string]*guest)
		come := func(name string, cores float64, takes time.Duration) {
			go func() {
				g := &guest{TB: t}
				c.Take(g, cores, takes)
				mu.Lock()
				defer mu.Unlock()
				in[name] = g
			}()
		}
		running := func() []string {
			TakeTime(2 * gather)
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			names := make([]string, 0, len(in))
			for name := range in {
				names = append(names, name)
			}
			return names
		}
		leave := func(name string) {
			mu.Lock()
			defer mu.Unlock()
			in[name].leave()
			delete(in, name)
		}
		come("short", .5, time.Second)
		come("long", 1.5, time.Minute)
		come("middle", 1, 30*time.Second)
		require.ElementsMatch(t, []string{"long", "short"}, running(), "the longest first, then what has room beside it")
		leave("short")
		require.ElementsMatch(t, []string{"long"}, running())
		leave("long")
		come("whole", 4, time.Hour)
		require.ElementsMatch(t, []string{"middle"}, running(), "who takes more than there is runs alone")
		leave("middle")
		require.ElementsMatch(t, []string{"whole"}, running())
		come("last", 0, 0)
		leave("whole")
		require.ElementsMatch(t, []string{"last"}, running())
	})
}
