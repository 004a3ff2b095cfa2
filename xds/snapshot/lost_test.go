package snapshot

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/xds/resource"
)

// die has each client collect what is due for it, and closes the connections of those that get a content of this version
// before they answer. It returns who is left.
func die(t *testing.T, now time.Time, content string, clients ...*tester) (left []*tester) {
	t.Helper()
	for _, c := range clients {
		dead := false
		for _, b := range c.receive(now) {
			for _, f := range b.Frames {
				dead = dead || f.Version == version(content)
			}
			if !dead {
				c.answer(t, b)
			}
		}
		if dead {
			c.sub.Close()
			continue
		}
		c.ask(t)
		left = append(left, c)
	}
	return left
}

func fleet(t *testing.T, s *Store, now time.Time, n int) []*tester {
	t.Helper()
	var out []*tester
	for i := range n {
		out = append(out, sidecar(t, s, fmt.Sprint("p", i), "1.40", "web"))
	}
	settleAll(t, now, out...)
	return out
}

// A configuration that ends proxies ends a few of each class, one after the other, and the rest keep what is good. It is tried again
// later and later, and what mends it is for everyone.
func TestConfigurationThatEndsProxies(t *testing.T) {
	for _, unit := range []string{"u", "new"} {
		t.Run(unit, func(t *testing.T) {
			s, now := stagedStoreAt(t)
			left := fleet(t, s, now, 8)
			crash := hosts("crash")
			if unit == "new" {
				crash = []resource.Resource{res(resource.VirtualHost, "http/new", "crash")}
			}
			apply(s, unit, crash...)
			for i := range mostLost {
				left = die(t, now, "crash", left...)
				require.Len(t, left, 7-i, "one at a time")
				s.Expire(s.Due())
			}
			for range 3 {
				left = die(t, now, "crash", left...)
				require.Len(t, left, 8-mostLost)
			}
			require.Equal(t, version("one"), hostVersion(left[0]))
			found := s.Rejections()
			require.Len(t, found, 1)
			require.Equal(t, mostLost, found[0].Lost)
			require.Contains(t, found[0].Error, "the connections of 3 proxies ended before they answered")
			require.Len(t, s.Pins(), 1)

			// It may have been something else: it is tried again, later each time.
			for i := range 2 {
				due := s.Due()
				require.WithinDuration(t, time.Now().Add(AuthorGrace<<i), due, 10*time.Second)
				s.Expire(due)
				for range mostLost {
					before := len(left)
					left = die(t, now, "crash", left...)
					require.GreaterOrEqual(t, len(left), before-1)
					s.Expire(s.Due())
				}
				left = append(left, sidecar(t, s, fmt.Sprint("again", i), "1.40", "web"), sidecar(t, s, fmt.Sprint("more", i), "1.40", "web"))
				left = append(left, sidecar(t, s, fmt.Sprint("most", i), "1.40", "web"))
				for range 4 {
					left = die(t, now, "crash", left...)
				}
			}
			require.NotEmpty(t, left)
			require.Equal(t, version("one"), hostVersion(left[0]))
			if unit == "u" {
				apply(s, unit, hosts("mended")...)
			} else {
				apply(s, unit, res(resource.VirtualHost, "http/new", "mended"))
			}
			for range 3 {
				left = die(t, now, "crash", left...)
			}
			require.Empty(t, s.holds)
			require.Empty(t, s.Rejections())
			require.NotEmpty(t, left[0].has[resource.VirtualHost])
		})
	}
}

// What is good is late by one look at most for a canary that went for another reason, and a proxy that is alone in its class
// gets it whatever became of its connection.
func TestCanaryThatGoesForAnotherReason(t *testing.T) {
	s, now := stagedStoreAt(t)
	all := fleet(t, s, now, 4)
	apply(s, "u", hosts("two")...)
	all[0].receive(now)
	all[0].sub.Close()
	for range 2 {
		settleAll(t, now, all[1:]...)
	}
	require.Equal(t, version("one"), hostVersion(all[1]), "it waits for a successor")
	s.Expire(s.Due())
	settleAll(t, now, all[1:]...)
	settleAll(t, now, all[1:]...)
	for _, c := range all[1:] {
		require.Equal(t, version("two"), hostVersion(c))
	}
	require.Empty(t, s.staged)
	require.Empty(t, s.Rejections())

	for i, close := range []bool{true, false} {
		content := fmt.Sprint("alone-", i)
		s, now := stagedStoreAt(t)
		a := sidecar(t, s, "a", "1.40", "web")
		settleAll(t, now, a)
		apply(s, "u", hosts(content)...)
		if close {
			a.receive(now)
		}
		a.sub.Close()
		s.Expire(s.Due())
		require.Empty(t, s.staged)
		again := sidecar(t, s, "a", "1.40", "web")
		settleAll(t, now, again)
		require.Equal(t, version(content), hostVersion(again))
		require.Empty(t, s.holds)
	}
}

// Where what was refused becomes something that ends proxies, the class keeps what is good; where it becomes good, and the one that
// tries it goes, another one does.
func TestHoldWhoseCanaryDies(t *testing.T) {
	s, now := stagedStoreAt(t)
	left := fleet(t, s, now, 8)
	for _, c := range left {
		c.bad = refuseBad
	}
	apply(s, "u", hosts("bad")...)
	settleAll(t, now, left...)
	require.Len(t, s.holds, 1)
	apply(s, "u", hosts("crash")...)
	for i := range mostLost {
		left = die(t, now, "crash", left...)
		require.Len(t, left, 7-i)
		s.Expire(s.Due())
	}
	for range 3 {
		left = die(t, now, "crash", left...)
	}
	require.Len(t, left, 8-mostLost)
	require.Equal(t, version("one"), hostVersion(left[0]))
	apply(s, "u", hosts("two")...)
	first := -1
	for i, c := range left {
		if len(c.receive(now)) > 0 {
			first = i
			c.sub.Close()
		}
	}
	require.GreaterOrEqual(t, first, 0)
	left = append(left[:first:first], left[first+1:]...)
	settleAll(t, now, left...)
	require.Equal(t, version("one"), hostVersion(left[0]))
	s.Expire(s.Due())
	settleAll(t, now, left...)
	settleAll(t, now, left...)
	for _, c := range left {
		require.Equal(t, version("two"), hostVersion(c))
	}
	require.Empty(t, s.holds)
}
