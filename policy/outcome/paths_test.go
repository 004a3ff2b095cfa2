package outcome

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
)

func TestCodes(t *testing.T) {
	t.Parallel()
	var c Codes
	for code := range uint32(700) {
		c.Add(HTTPCode(code), 1)
	}
	c.Add(GRPCCode(5), 3)
	c.Add(GRPCCode(99), 2)
	require.LessOrEqual(t, len(c), maxCodes+6+17)
	require.EqualValues(t, 705, c.Total())
	require.EqualValues(t, 3, c.Of(GRPCCode(5)))
	require.Equal(t, "NOT_FOUND", GRPCCode(5).String())
	require.Equal(t, "UNKNOWN", GRPCCode(99).String())
	require.Equal(t, "other 2xx", c.Commonest()[1].Code.String())
	for text, want := range map[string]Code{"404": 404, "NOT_FOUND": GRPCCode(5), "OK": GRPCCode(0)} {
		got, ok := ParseCode(text)
		require.True(t, ok, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "4xx", "99", "600", "4040", "not_found"} {
		_, ok := ParseCode(text)
		require.False(t, ok, text)
	}
	before := Codes{{200, 5}, {404, 2}}
	require.Equal(t, Codes{{200, 4}, {500, 1}}, Codes{{200, 9}, {404, 2}, {500, 1}}.Since(before))
}

// What is told of paths is summed up by time, as the rest is: what was counted before is no burst, what
// a reporter forgets begins anew, and another one's counts are added.
func TestPathsOfWindow(t *testing.T) {
	t.Parallel()
	b := NewBook(at(0))
	checkout := PathKey{Service: php, Platform: discovery.Pods, Path: Path{"default", "/checkout"}}
	sequence := uint64(0)
	tell := func(name string, seconds float64, full bool, n uint64) {
		sequence++
		m := &Message{Session: 1, Sequence: sequence, Full: full, Age: time.Duration(seconds*float64(time.Second)) - 500*time.Millisecond, Report: Report{Totals: NewTotals()}}
		if n > 0 {
			m.Paths[checkout] = &PathCounts{
				Requests: n, Failures: n / 2, Codes: Codes{{200, n - n/2}, {500, n / 2}}, Endpoints: Names{{"pod-1", n / 2}}, Callers: Names{{name, n / 2}},
			}
		}
		b.Add(name, m, at(seconds))
	}
	window := func(from, to float64) *PathCounts {
		w := b.Window(php, at(from), at(to))
		if c := w.PathsOf(discovery.Pods)[checkout.Path]; c != nil {
			return c
		}
		return &PathCounts{}
	}
	tell("a", 1, true, 10)
	tell("a", 2, false, 30)
	tell("b", 3, true, 100)
	require.Equal(t, &PathCounts{
		Requests: 130, Failures: 65, Codes: Codes{{200, 65}, {500, 65}}, Endpoints: Names{{"pod-1", 65}}, Callers: Names{{"a", 15}, {"b", 50}},
	}, window(0, 4))
	require.EqualValues(t, 20, window(2, 2.5).Requests)
	tell("a", 5, true, 0)
	tell("a", 6, false, 40)
	require.EqualValues(t, 40, window(5, 6).Requests)
	// Older ones are kept less precisely, and are never told before they were there.
	for s := 10.; s < 3000; s += 5 {
		tell("a", s, false, 40+uint64(s))
	}
	require.InDelta(t, 120, float64(window(2880, 3000).Requests), 11)
	require.InDelta(t, 2900, float64(window(100, 3000).Requests), 60)
	tell("a", 9000, true, 1)
	require.Zero(t, window(2000, 8000).Requests)
}

// A Service's paths take a bounded memory, however many there are, and all fail.
func TestPathsAreBounded(t *testing.T) {
	now := 0
	fill := func(paths, codes, names int) *pathSeries {
		s := &pathSeries{}
		// What is older is kept by ten seconds at least: one of them is as good as all.
		for second := range 3700 {
			if now = second; second < 3600 && second%10 != 0 {
				continue
			}
			for i := range paths {
				c := &PathCounts{Requests: 1000}
				for code := range codes {
					c.Codes.Add(HTTPCode(uint32(200+17*code)), 10)
				}
				for n := range names {
					c.Endpoints.Add(fmt.Sprint("pod-", n), 1, MaxNames)
					c.Callers.Add(fmt.Sprint("caller-", n), 1, MaxNames)
				}
				for _, p := range []discovery.BackingName{discovery.Pods, discovery.Instances} {
					s.add(int64(second), p, Path{"default", fmt.Sprint("/p", i)}, c)
				}
			}
		}
		return s
	}
	size := func(paths, codes, names int) float64 {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		s := fill(paths, codes, names)
		runtime.GC()
		runtime.ReadMemStats(&after)
		require.LessOrEqual(t, len(s.known), MaxPaths)
		runtime.KeepAlive(s)
		return (float64(after.HeapAlloc) - float64(before.HeapAlloc)) / (1 << 20)
	}
	worst, common := size(MaxPaths+20, 16, MaxNames), size(30, 3, 0)
	t.Logf("%d paths that all fail: %.1f MiB; 30 paths that are well: %.1f MiB; after %d s", MaxPaths, worst, common, now)
	require.Less(t, worst, 16.)
	require.Less(t, common, 3.)
}

// A path that has the traffic is kept apart even where somebody who tried many came first; what fails goes before what is well;
// nothing is counted twice or lost, and no more is kept than before.
func TestPathsThatMatterAreKept(t *testing.T) {
	t.Parallel()
	s := &pathSeries{}
	requests := uint64(0)
	add := func(second int64, path string, n, failed uint64) {
		requests += n
		s.add(second, discovery.Pods, Path{"default", path}, &PathCounts{Requests: n, Failures: failed})
	}
	for i := range 2 * MaxPaths {
		add(1, fmt.Sprint("/scanned-", i), 3, 0)
	}
	for second := range int64(300) {
		add(2+second, "/checkout", 40, 0)
		if second%20 == 0 {
			add(2+second, "/broken", 1, 1)
		}
		for i := range 5 {
			add(2+second, fmt.Sprint("/shop-", i), 10, 0)
		}
		require.LessOrEqual(t, len(s.known), MaxPaths)
		require.LessOrEqual(t, len(s.waiting), MaxPaths)
	}
	out := make(map[PathKey]*PathCounts)
	s.sum(php, 0, time.Hour, out)
	got := func(path string) uint64 {
		if c := out[PathKey{Service: php, Platform: discovery.Pods, Path: Path{"default", path}}]; c != nil {
			return c.Requests
		}
		return 0
	}
	require.Greater(t, got("/checkout"), uint64(11_000))
	require.NotZero(t, got("/broken"))
	require.NotZero(t, got("/shop-4"))
	sum := uint64(0)
	for _, c := range out {
		sum += c.Requests
	}
	require.Equal(t, requests, sum)
	require.LessOrEqual(t, len(out), MaxPaths+1)
}
