package snapshot

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/xds/resource"
)

// forShop is a listener that only proxies of one other namespace see.
func forShop(text string) resource.Resource {
	r := res(resource.Listener, "shop", text)
	r.Visible.Namespace = "shop"
	return r
}

// A class goes on trying what its proxies died of while something else of the unit changes, and what others say of that
// passes it to nobody.
func TestLossOutlivesOtherChanges(t *testing.T) {
	s, now := stagedStoreAt(t)
	left := fleet(t, s, now, 8)
	other := sidecar(t, s, "other", "1.40", "shop")
	settleAll(t, now, other)
	apply(s, "u", append(hosts("crash"), forShop("0"))...)
	for i := range mostLost {
		left = die(t, now, "crash", left...)
		require.Len(t, left, 7-i)
		apply(s, "u", append(hosts("crash"), forShop(fmt.Sprint(i+1)))...)
		settleAll(t, now, other)
		require.NotEmpty(t, s.staged, "the class has not answered it")
		left = die(t, now, "crash", left...)
		require.Len(t, left, 7-i, "one at a time")
		s.Expire(s.Due())
	}
	for range 3 {
		left = die(t, now, "crash", left...)
	}
	require.Len(t, left, 8-mostLost)
	require.Equal(t, version("one"), hostVersion(left[0]))
	require.Len(t, s.holds, 1)
}

// What ends proxies and becomes something else that does so gets the time that a new change has.
func TestChangeOfWhatEndsProxiesHasItsTime(t *testing.T) {
	s, now := stagedStoreAt(t)
	left := fleet(t, s, now, 8)
	apply(s, "u", hosts("crash")...)
	for i := range 2 {
		left = die(t, now, "crash", left...)
		require.Len(t, left, 7-i)
		s.Expire(s.Due())
	}
	for st := range s.staged {
		st.last = time.Now()
	}
	apply(s, "u", hosts("worse")...)
	for i := range mostLost {
		left = die(t, now, "worse", left...)
		require.Len(t, left, 5-i)
		s.Expire(s.Due())
	}
	left = die(t, now, "worse", left...)
	require.Len(t, left, 8-2-mostLost)
	require.Equal(t, version("one"), hostVersion(left[0]))
}

// Also where the class itself is to try the other change: it does so when the next one is due.
func TestLossIsFollowedOneAtATime(t *testing.T) {
	s, now := stagedStoreAt(t)
	left := fleet(t, s, now, 8)
	for i := range mostLost {
		apply(s, "u", append(hosts("crash"), res(resource.Cluster, "d", fmt.Sprint(i)))...)
		left = die(t, now, "crash", left...)
		apply(s, "u", append(hosts("crash"), res(resource.Cluster, "d", fmt.Sprint("more", i)))...)
		left = die(t, now, "crash", left...)
		require.Len(t, left, 7-i)
		s.Expire(s.Due())
	}
	require.Len(t, s.holds, 1)
}

// The same while a class that is held tries something else, which another class has tried first or none has.
func TestLossOfAHeldClassOutlivesOtherChanges(t *testing.T) {
	for _, others := range []int{0, 1} {
		s, now := stagedStoreAt(t)
		left := fleet(t, s, now, 8)
		for _, c := range left {
			c.bad = refuseBad
		}
		var other []*tester
		for range others {
			other = append(other, sidecar(t, s, "other", "1.40", "shop"))
		}
		change := func(text, d string) {
			apply(s, "u", append(hosts(text), res(resource.Cluster, "d", d))...)
			settleAll(t, now, other...)
			require.Empty(t, s.staged)
		}
		settleAll(t, now, other...)
		apply(s, "u", hosts("bad")...)
		settleAll(t, now, append(left, other...)...)
		require.Len(t, s.holds, 1)
		for i := range mostLost {
			change("crash", fmt.Sprint(i))
			left = die(t, now, "crash", left...)
			change("crash", fmt.Sprint("more", i))
			left = die(t, now, "crash", left...)
			require.Len(t, left, 7-i, "one at a time")
			s.Expire(s.Due())
		}
		for range 3 {
			left = die(t, now, "crash", left...)
		}
		require.Len(t, left, 8-mostLost)
		require.Equal(t, version("one"), hostVersion(left[0]))
	}
}

// A class whose canaries go before they read anything puts a change off for a bounded time, whether it is tried by everyone or by
// that class alone.
func TestCanariesThatNeverReadAreBounded(t *testing.T) {
	for _, held := range []bool{false, true} {
		s, now := stagedStoreAt(t)
		mine, honest := sidecar(t, s, "mine", "1.40", "mine"), sidecar(t, s, "honest", "1.40", "web")
		mine.bad = refuseBad
		settleAll(t, now, mine, honest)
		if held {
			apply(s, "u", hosts("bad")...)
			settleAll(t, now, mine, honest)
			require.Len(t, s.holds, 1)
		}
		apply(s, "u", hosts("two")...)
		settleAll(t, now, honest)
		start, at := time.Now(), time.Now()
		for i := 0; (len(s.staged) > 0 || len(s.holds) > 0 && !freedAll(s)) && i < 100; i++ {
			next := sidecar(t, s, fmt.Sprint("mine", i), "1.40", "mine")
			mine.sub.Close()
			mine = next
			at = s.Due()
			s.Expire(at)
		}
		require.Empty(t, s.staged)
		require.True(t, freedAll(s), "held for ever")
		require.LessOrEqual(t, at.Sub(start), (searchTime+2)*Silence)
		settleAll(t, now, honest)
		require.Equal(t, version("two"), hostVersion(honest))
	}
}

func freedAll(s *Store) bool {
	for h := range s.holds {
		if h.phase != freed {
			return false
		}
	}
	return true
}

// What was taken back and forgotten is blamed for nothing.
func TestLossOfWhatWasTakenBack(t *testing.T) {
	s, now := stagedStoreAt(t)
	left := fleet(t, s, now, 3)
	x := res(resource.Cluster, "x", "crash")
	apply(s, "u", append(hosts("two"), x)...)
	for i := range fewLost {
		left = die(t, now, "crash", left...)
		if i == 0 {
			s.Expire(s.Due())
		}
	}
	require.Len(t, left, 1)
	left[0].sub.Close()
	apply(s, "u", hosts("two")...)
	require.NotEmpty(t, s.staged)
	clusters := &s.tables[resource.Cluster]
	id := clusters.ids["x"]
	clusters.dead += 1024 // enough to be worth the pass
	s.collect()
	clusters.dead -= 1024
	require.Nil(t, clusters.entries[id])
	s.Expire(s.Due())
	require.Empty(t, s.staged)
	for _, r := range s.Rejections() {
		require.NotEqual(t, "x", r.Name)
	}
}

// Those who were lost to what was taken back do not count for what is tried next.
func TestLossEndsWithWhatWasTakenBack(t *testing.T) {
	s, now := stagedStoreAt(t)
	left := fleet(t, s, now, 5)
	settleAll(t, now, sidecar(t, s, "silent", "1.40", "shop"))
	apply(s, "u", append(hosts("one"), forShop("0"), res(resource.Cluster, "x", "crash"))...)
	for i := range fewLost {
		left = die(t, now, "crash", left...)
		require.Len(t, left, 4-i)
		s.Expire(s.Due())
	}
	apply(s, "u", append(hosts("one"), forShop("0"), res(resource.Cluster, "y", "crash"))...)
	left = die(t, now, "crash", left...)
	require.Len(t, left, 4-fewLost)
	s.Expire(s.Due())
	require.Empty(t, s.holds)
	require.NotEmpty(t, s.staged)
}

// byZone is a host of which zones have variants, so that a class has a canary in each.
func byZone(text string, zones ...string) []resource.Resource {
	out := hosts(text)
	out[2].ByZone = make(map[string]resource.Parts)
	for _, z := range zones {
		out[2].ByZone[z] = resource.Parts{[]byte(text + " in " + z)}
	}
	return out
}

func inZones(t *testing.T, s *Store, now time.Time, zones ...string) (out []*tester) {
	t.Helper()
	for i, z := range zones {
		out = append(out, newTester(t, s, fmt.Sprint("z", i), View{Role: "sidecar", Build: "1.40", Namespace: "web", Zone: z, Node: fmt.Sprint("z", i)}))
	}
	settleAll(t, now, out...)
	return out
}

// A class whose canary refuses after others have died is held once.
func TestClassThatDiesAndRefusesIsHeldOnce(t *testing.T) {
	s, now := stagedStoreAt(t)
	all := inZones(t, s, now, "x", "x", "y")
	apply(s, "u", byZone("bad", "x", "y")...)
	for i := range fewLost {
		require.NotEmpty(t, all[i].receive(now))
		all[i].sub.Close()
		if i == 0 {
			s.Expire(s.Due())
		}
	}
	all[2].bad = func(rt resource.Type, _, v string) bool { return rt == resource.VirtualHost && v != version("one") }
	settleAll(t, now, all[2])
	for len(s.staged) > 0 {
		s.Expire(s.Due())
	}
	require.Len(t, s.holds, 1)
	require.Equal(t, 1, s.holdsOf[all[2].sub.class.owner()])
	require.Len(t, all[2].sub.class.holds, 1)
	apply(s, "u", hosts("two")...)
	all[2].bad = nil
	settleAll(t, now, all[2])
	require.Equal(t, version("two"), hostVersion(all[2]))
	require.Empty(t, s.holds)
	require.Empty(t, s.holdsOf)
}

// Connections that end together are one loss, and say little of a configuration.
func TestConnectionsThatEndTogetherCountOnce(t *testing.T) {
	s, now := stagedStoreAt(t)
	all := inZones(t, s, now, "x", "y", "z")
	apply(s, "u", byZone("two", "x", "y", "z")...)
	for _, c := range all {
		require.NotEmpty(t, c.receive(now))
		c.sub.Close()
	}
	s.Expire(s.Due())
	require.Empty(t, s.staged)
	require.Empty(t, s.Rejections())
	require.Empty(t, s.holds)
}

// A proxy that goes while what it tries waits for a cluster was not sent it.
func TestCanaryThatWaitedForAClusterIsNoLoss(t *testing.T) {
	s, now := stagedStoreAt(t)
	all := fleet(t, s, now, fewLost)
	apply(s, "u", append(hosts("one")[:2], res(resource.VirtualHost, "http/h", "two", "c", "d"),
		res(resource.Cluster, "d", "1"), res(resource.Endpoint, "d", "1"))...)
	for _, c := range all {
		for _, b := range c.receive(now) {
			if b.Type == resource.Cluster {
				c.sub.Accept(b.Type, b.IDs, b.Frames) // and does not ask for its endpoints
			}
			require.NotEqual(t, resource.VirtualHost, b.Type)
		}
		c.sub.Close()
		s.Expire(s.Due())
	}
	require.Empty(t, s.staged)
	require.Empty(t, s.Rejections())
	require.Empty(t, s.holds)
}

// Where a proxy of the class has answered to what others died of, they did not die of it.
func TestAnswerEndsTheDoubt(t *testing.T) {
	s, now := stagedStoreAt(t)
	all := inZones(t, s, now, "x", "x", "x", "y")
	apply(s, "u", byZone("two", "y")...)
	for i := range fewLost {
		require.NotEmpty(t, all[i].receive(now))
		all[i].sub.Close()
		if i == 0 {
			s.Expire(s.Due())
		}
	}
	s.Expire(s.Due())
	settleAll(t, now, all[2])
	require.Equal(t, version("two"), hostVersion(all[2]))
	require.NotEmpty(t, s.staged, "the other variant has no answer yet")
	require.NotEmpty(t, all[3].receive(now))
	all[3].sub.Close()
	s.Expire(s.Due())
	require.Empty(t, s.staged)
	require.Empty(t, s.holds)
}

// A proxy may keep its connection for seconds after it has crashed. Where one of its class has died already, silence lets a change
// pass later.
func TestSilenceAfterALoss(t *testing.T) {
	for _, ends := range []string{"dies", "answers", "stays silent"} {
		t.Run(ends, func(t *testing.T) {
			s, now := stagedStoreAt(t)
			all := fleet(t, s, now, 4)
			apply(s, "u", hosts("two")...)
			start := time.Now()
			require.NotEmpty(t, all[0].receive(now))
			all[0].sub.Close()
			s.Expire(s.Due())
			got := all[1].receive(now)
			require.NotEmpty(t, got)
			for range 3 {
				s.Expire(s.Due())
				require.NotEmpty(t, s.staged, "it may be writing its core")
				require.Empty(t, all[2].receive(now))
			}
			switch ends {
			case "dies":
				all[1].sub.Close()
				s.Expire(s.Due())
				require.Empty(t, all[3].receive(now))
				require.NotEmpty(t, all[2].receive(now))
				all[2].sub.Close()
				s.Expire(s.Due())
				require.Len(t, s.holds, 1)
			case "answers":
				for _, b := range got {
					all[1].answer(t, b)
				}
				require.Empty(t, s.staged)
			default:
				at := start
				for len(s.staged) > 0 {
					at = s.Due()
					s.Expire(at)
				}
				require.InDelta(t, searchTime*Silence.Seconds(), at.Sub(start).Seconds(), 0.2)
				require.Empty(t, s.holds, "one connection ends for many reasons")
			}
		})
	}
}

// The same where a class tries again what ended connections.
func TestSilenceOfAHeldClassAfterALoss(t *testing.T) {
	s, now := stagedStoreAt(t)
	left := fleet(t, s, now, 8)
	apply(s, "u", hosts("crash")...)
	for range mostLost {
		left = die(t, now, "crash", left...)
		s.Expire(s.Due())
	}
	require.Len(t, s.holds, 1)
	began := s.Due()
	s.Expire(began)
	require.NotEmpty(t, left[0].receive(now))
	for range 3 {
		s.Expire(time.Now().Add(Silence + time.Millisecond))
		require.Empty(t, left[1].receive(now), "it may be writing its core")
	}
	for range searchTime + 1 {
		if freedAll(s) {
			break
		}
		s.Expire(s.Due())
	}
	require.True(t, freedAll(s))
	require.NotEmpty(t, left[1].receive(now))
}
