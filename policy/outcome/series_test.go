package outcome

import (
	"fmt"
	"maps"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
)

// fillSeries tells a Book for an hour and more of one port with a number of endpoints and callers on each platform.
func fillSeries(endpoints, callers int) *Book {
	begin := time.Unix(0, 0)
	b := NewBook(begin)
	b.Expect("replica", begin)
	counts := func(p discovery.BackingName, rounds uint64) *Counts {
		// The ids of each message are strings of its own, as from a connection.
		c := &Counts{Requests: rounds * uint64(callers) * 10, Endpoints: make(map[string]EndpointCounts), Callers: make(map[string]CallerCounts)}
		for i := range endpoints {
			c.Endpoints[fmt.Sprintf("%s-of-a-commonly-long-name-%d", p, i)] = EndpointCounts{Requests: 10 * rounds}
		}
		for i := range callers {
			one := CallerCounts{Requests: 10 * rounds}
			for n := range uint64(10) {
				one.Latency.Add(bucketMiddle(2000<<(n%5)+n*77), rounds)
			}
			c.Callers[fmt.Sprintf("sidecar~web~php-web~i-0123456789-%d", i)] = one
			c.Latency.Merge(one.Latency)
		}
		for i := range uint64(150) {
			c.Latency.Add(1000+i*300, rounds)
		}
		for code := range uint32(16) {
			c.Codes.Add(HTTPCode(200+17*code), 10*rounds)
		}
		return c
	}
	for second, rounds := 0, uint64(1); second < 3700; second++ {
		// Of what is older one second is as good as all of a slot.
		if second < 2600 && second%60 != 0 || second < 3500 && second%10 != 0 {
			continue
		}
		t := NewTotals()
		for _, p := range []discovery.BackingName{discovery.Pods, discovery.Instances} {
			t.Outcomes[Key{Service: discovery.Key{Namespace: "web", Name: "php"}, Port: 80, Platform: p}] = counts(p, rounds)
		}
		b.Add("replica", &Message{Session: 1, Sequence: rounds, Report: Report{Totals: t}}, begin.Add(time.Duration(second)*time.Second))
		rounds++
	}
	return b
}

func bucketMiddle(v uint64) uint64 {
	low, _ := bounds(bucketOf(v) &^ (1<<coarseBits - 1))
	return uint64(low)
}

// What a series takes is known, whatever it is told.
func TestSeriesIsBounded(t *testing.T) {
	size := func(endpoints, callers int) float64 {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		b := fillSeries(endpoints, callers)
		maps.DeleteFunc(b.reporters, func(string, *reporter) bool { return true })
		runtime.GC()
		runtime.ReadMemStats(&after)
		runtime.KeepAlive(b)
		return (float64(after.HeapAlloc) - float64(before.HeapAlloc)) / (1 << 20)
	}
	common, worst := size(30, 30), size(1000, 1000)
	t.Logf("30 endpoints and callers of each backing: %.1f MiB; 1000: %.1f MiB", common, worst)
	require.Less(t, common, 5.)
	require.Less(t, worst, 20.)
}
