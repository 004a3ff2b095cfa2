package snapshot

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/xds/resource"
)

var (
	firstFreeze  = time.Unix(1_800_000_000, 0).UTC()
	secondFreeze = firstFreeze.Add(time.Second)
)

// routed are the resources of a unit with this route and these endpoints.
func routed(route, endpoints string) []resource.Resource {
	out := hosts(route)
	out[1] = res(resource.Endpoint, "c", endpoints)
	return out
}

func endpointsVersion(c *tester) string { return c.has[resource.Endpoint]["c"].Version }

func TestFreezeLetsOnlyEndpointsMove(t *testing.T) {
	s, outcomes := stagedStore(t)
	now := time.Unix(1000, 0)
	apply(s, "u", routed("one", "1")...)
	apply(s, "gone", res(resource.VirtualHost, "http/gone", "1"))
	a, b := newTester(t, s, "a", View{}), newTester(t, s, "b", View{})
	settleAll(t, now, a, b)
	require.Empty(t, s.Freeze(firstFreeze))
	require.Zero(t, s.Held())

	apply(s, "u", routed("two", "2")...)
	apply(s, "gone")
	apply(s, "new", res(resource.VirtualHost, "http/new", "1"))
	s.Apply(time.Time{}, []Update{{Unit: "listener", Resources: []resource.Resource{res(resource.Listener, "l", "1")}, Declared: true}})
	joined := newTester(t, s, "joined", View{})
	settleAll(t, now, a, b, joined)
	for _, c := range []*tester{a, b, joined} {
		require.Equal(t, version("one"), hostVersion(c), "%s: the route is as it was", c.name)
		require.Equal(t, version("2"), endpointsVersion(c), "%s: the endpoints are the newest", c.name)
		require.Contains(t, c.has[resource.VirtualHost], "http/gone", c.name)
		require.NotContains(t, c.has[resource.VirtualHost], "http/new", c.name)
		require.Contains(t, c.has[resource.Listener], "l", "%s: what a proxy declares comes", c.name)
	}
	require.Equal(t, 3, s.Held())
	require.Equal(t, []UnitState{{Changed: s.Units([]string{"u"})[0].Changed, Frozen: true}}, s.Units([]string{"u"}))
	require.Empty(t, s.Rejections())
	apply(s, "listener", res(resource.Listener, "l", "2"))
	require.Equal(t, 4, s.Held(), "what its Service makes of it does not")
	s.Apply(time.Time{}, []Update{{Unit: "listener", Declared: true}})
	require.Equal(t, 3, s.Held())
	settleAll(t, now, a)
	require.NotContains(t, a.has[resource.Listener], "l", "and goes")

	apply(s, "u", routed("one", "3")...)
	require.Equal(t, 2, s.Held(), "a change that is taken back needs no holding")
	apply(s, "u", routed("two", "4")...)
	settleAll(t, now, a, b)
	require.Equal(t, version("4"), endpointsVersion(b))
	require.Equal(t, version("one"), hostVersion(b))
	require.Equal(t, map[StageResult]int{StageAccepted: 1}, outcomes, "nothing was tried but the listener")

	require.Equal(t, []string{"gone", "new", "u"}, s.Freeze(time.Time{}))
	require.Empty(t, s.Pins())
	settleAll(t, now, a, b)
	require.Equal(t, version("one"), hostVersion(b), "until it is applied")
	apply(s, "u", routed("two", "4")...)
	b.round(t, now)
	require.Equal(t, version("one"), hostVersion(b), "it goes to a canary first, as any change")
	settleAll(t, now, a, b)
	require.Equal(t, version("two"), hostVersion(b))
	require.Equal(t, map[StageResult]int{StageAccepted: 2}, outcomes)
}

// Moving traffic by weights alone is configuration, too.
func TestFreezeHoldsWeights(t *testing.T) {
	s, _ := stagedStore(t)
	weighted := func(text string) []resource.Resource {
		out := routed(text, "1")
		out[2].Shape = 7
		return out
	}
	apply(s, "u", weighted("10")...)
	a := newTester(t, s, "a", View{})
	settleAll(t, time.Unix(1000, 0), a)
	s.Freeze(firstFreeze)
	apply(s, "u", weighted("20")...)
	settleAll(t, time.Unix(1000, 0), a)
	require.Equal(t, version("10"), hostVersion(a))
}

// What canaries try when the freeze begins was on its way, and goes on or comes back.
func TestFreezeDuringAStage(t *testing.T) {
	for _, refused := range []bool{false, true} {
		s, _ := stagedStore(t)
		now := time.Unix(1000, 0)
		apply(s, "u", routed("one", "1")...)
		a, b := newTester(t, s, "a", View{}), newTester(t, s, "b", View{})
		a.bad = func(rt resource.Type, _, v string) bool {
			return refused && rt == resource.VirtualHost && v == version("two")
		}
		settleAll(t, now, a, b)
		apply(s, "u", routed("two", "1")...)
		s.Freeze(firstFreeze)
		apply(s, "u", routed("three", "2")...)
		settleAll(t, now, a, b)
		want := version("two")
		if refused {
			want = version("one")
		}
		require.Equal(t, want, hostVersion(b), "refused: %t", refused)
		require.Equal(t, version("2"), endpointsVersion(b))
		require.Equal(t, 1, s.Held(), "refused: %t", refused)
		apply(s, "u", routed("three", "3")...)
		settleAll(t, now, a, b)
		require.Equal(t, want, hostVersion(b), "refused: %t", refused)
		require.Equal(t, version("3"), endpointsVersion(b))
		require.Equal(t, []string{"u"}, s.Freeze(time.Time{}))
		apply(s, "u", routed("three", "3")...)
		settleAll(t, now, a, b)
		require.Equal(t, version("three"), hostVersion(b))
		require.Empty(t, s.Pins(), "refused: %t", refused)
	}
}

// A unit that is pinned because it was refused stays so, and what mends it
// waits for the end of the freeze.
func TestFreezeOfARefusedUnit(t *testing.T) {
	s, _ := stagedStore(t)
	now := time.Unix(1000, 0)
	apply(s, "u", routed("one", "1")...)
	a := newTester(t, s, "a", View{})
	a.bad = func(rt resource.Type, _, v string) bool { return rt == resource.VirtualHost && v == version("bad") }
	settleAll(t, now, a)
	apply(s, "u", routed("bad", "1")...)
	settleAll(t, now, a)
	require.Len(t, s.Rejections(), 1)
	s.Freeze(firstFreeze)
	apply(s, "u", routed("good", "2")...)
	settleAll(t, now, a)
	require.Equal(t, version("one"), hostVersion(a))
	require.Equal(t, version("2"), endpointsVersion(a))
	require.Len(t, s.Rejections(), 1)
	require.Equal(t, 1, s.Held())
	require.Equal(t, []string{"u"}, s.Freeze(time.Time{}))
	require.Len(t, s.Rejections(), 1, "still refused, as far as is known")
	apply(s, "u", routed("bad", "3")...)
	settleAll(t, now, a)
	require.Equal(t, version("one"), hostVersion(a))
	apply(s, "u", routed("good", "4")...)
	settleAll(t, now, a)
	require.Equal(t, version("good"), hostVersion(a))
	require.Empty(t, s.Pins())
}

// What one process holds, another one with its pins holds alike, for as long as
// the freeze is the same.
func TestFreezeSurvivesARestart(t *testing.T) {
	s := New()
	apply(s, "u", routed("one", "1")...)
	s.Freeze(firstFreeze)
	apply(s, "u", routed("two", "1")...)
	apply(s, "new", res(resource.VirtualHost, "http/new", "1"))
	data, err := json.Marshal(s.Pins())
	require.NoError(t, err)

	restart := func() (*Store, *tester) {
		var stored []Pin
		require.NoError(t, json.Unmarshal(data, &stored))
		require.Len(t, stored, 2)
		s, _ := stagedStore(t)
		s.SetPins(stored)
		apply(s, "u", routed("two", "2")...)
		apply(s, "new", res(resource.VirtualHost, "http/new", "1"))
		c := newTester(t, s, "c", View{})
		settleAll(t, time.Unix(1000, 0), c)
		require.Equal(t, version("one"), hostVersion(c), "held before it is known whether the freeze is on")
		require.Equal(t, version("2"), endpointsVersion(c))
		require.NotContains(t, c.has[resource.VirtualHost], "http/new")
		return s, c
	}
	on, c := restart()
	require.Empty(t, on.Freeze(firstFreeze))
	apply(on, "u", routed("three", "3")...)
	settleAll(t, time.Unix(1000, 0), c)
	require.Equal(t, version("one"), hostVersion(c))
	require.Equal(t, version("3"), endpointsVersion(c))

	for _, since := range []time.Time{{}, secondFreeze} {
		over, _ := restart()
		require.Equal(t, []string{"new", "u"}, over.Freeze(since))
		require.Empty(t, over.Pins())
		var stale []Pin
		require.NoError(t, json.Unmarshal(data, &stale))
		over.SetPins(stale) // of a replica that has not heard yet
		require.Empty(t, over.Pins())
	}
}
