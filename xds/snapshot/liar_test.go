package snapshot

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/xds/resource"
)

func refuseAll(resource.Type, string, string) bool { return true }

func refuseBad(rt resource.Type, _, v string) bool {
	return rt == resource.VirtualHost && v == version("bad")
}

// stagedStoreAt is a staged store with hosts "one" in force, and a moment.
func stagedStoreAt(t *testing.T) (s *Store, now time.Time) {
	t.Helper()
	s, _ = stagedStore(t)
	apply(s, "u", hosts("one")...)
	return s, time.Unix(1000, 0)
}

// sidecar is a proxy that the tests can tell from others.
func sidecar(t *testing.T, s *Store, name, build, namespace string) *tester {
	t.Helper()
	return newTester(t, s, name, View{Role: "sidecar", Build: build, Namespace: namespace, Node: name})
}

// What a proxy refuses that claims a build, a namespace or an identity of its own
// reaches everyone else, whether there was something before or not, while it is
// there and when it has left.
func TestLiarMattersToNobody(t *testing.T) {
	for name, view := range map[string]View{
		"build":     {Role: "sidecar", Build: "9.9", Namespace: "web"},
		"namespace": {Role: "sidecar", Build: "1.40", Namespace: "other"},
		"identity":  {Role: "sidecar", Build: "1.40", Namespace: "web", Identity: "spiffe://x/y"},
		"role":      {Role: "gateway", Build: "1.40", Namespace: "web"},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := stagedStore(t)
			now := time.Unix(1000, 0)
			apply(s, "u", hosts("one")...)
			view.Node = "liar"
			liar := newTester(t, s, "liar", view) // its slot is the first
			a, b := sidecar(t, s, "a", "1.40", "web"), sidecar(t, s, "b", "1.40", "web")
			settleAll(t, now, liar, a, b)
			liar.bad = refuseAll
			apply(s, "u", hosts("two")...)
			apply(s, "new", res(resource.VirtualHost, "http/new", "1"))
			for range 3 {
				settleAll(t, now, liar, a, b)
			}
			require.Empty(t, s.staged)
			for _, c := range []*tester{a, b} {
				require.Equal(t, version("two"), hostVersion(c))
				require.Contains(t, c.has[resource.VirtualHost], "http/new")
				require.Empty(t, c.sub.Held())
			}
			require.Equal(t, version("one"), hostVersion(liar), "it keeps what it had")
			require.Equal(t, []string{"u"}, liar.sub.Held())
			require.Equal(t, []Class{view.Class()}, s.Units([]string{"u"})[0].HeldFor)
			require.False(t, s.Units([]string{"u"})[0].Pinned)
			liar.sub.Close()
			c := sidecar(t, s, "c", "1.40", "web")
			settleAll(t, now, c)
			require.Equal(t, version("two"), hostVersion(c))
			require.Contains(t, c.has[resource.VirtualHost], "http/new")
		})
	}
}

// What is really bad meets one proxy of each class, and the others of the class keep
// what is good, also those that come later.
func TestBadMeetsOneOfEachClass(t *testing.T) {
	s, now := stagedStoreAt(t)
	var clients []*tester
	met := make(map[Class]map[string]bool)
	add := func(name, build, namespace string) *tester {
		c := sidecar(t, s, name, build, namespace)
		class := c.view.Class()
		c.bad = func(rt resource.Type, name, v string) bool {
			if !refuseBad(rt, name, v) {
				return false
			}
			if met[class] == nil {
				met[class] = make(map[string]bool)
			}
			met[class][c.name] = true
			return true
		}
		clients = append(clients, c)
		return c
	}
	for i := range 12 {
		add(fmt.Sprint("c", i), fmt.Sprint("1.", i%2), fmt.Sprint("ns", i%3))
	}
	settleAll(t, now, clients...)
	apply(s, "u", hosts("bad")...)
	settleAll(t, now, clients...)
	add("later", "1.0", "ns0")
	settleAll(t, now, clients...)
	require.Len(t, met, 6)
	for class, who := range met {
		require.Len(t, who, 1, "%s", class)
	}
	for _, c := range clients {
		require.Equal(t, version("one"), hostVersion(c), c.name)
	}
	// A class that nobody knew meets it, and goes back to what was good.
	settleAll(t, now, add("stranger", "1.2", "ns9"))
	require.Equal(t, version("one"), hostVersion(clients[len(clients)-1]))

	apply(s, "u", hosts("good")...)
	for _, c := range clients[:3] {
		c.round(t, now)
	}
	require.Equal(t, version("one"), hostVersion(clients[11]), "a fix is tried by one first as well")
	settleAll(t, now, clients...)
	for _, c := range clients {
		require.Equal(t, version("good"), hostVersion(c), c.name)
	}
	require.Empty(t, s.Pins())
	require.Empty(t, s.holds)
}

// A refusal counts for as long as one is there who refuses: when all have left
// for good, another proxy of the class tries it.
func TestVetoEndsWithItsAuthor(t *testing.T) {
	s, now := stagedStoreAt(t)
	a, b := sidecar(t, s, "a", "1.40", "web"), sidecar(t, s, "b", "1.40", "web")
	a.bad = refuseBad
	settleAll(t, now, a, b)
	apply(s, "u", hosts("bad")...)
	settleAll(t, now, a, b)
	require.Len(t, s.Rejections(), 1)
	require.True(t, s.Due().IsZero())

	a.sub.Close()
	s.Expire(time.Now())
	settleAll(t, now, b)
	require.Equal(t, version("one"), hostVersion(b), "it may come back")
	a.join(t, s)
	require.True(t, s.Due().IsZero())
	s.Expire(time.Now().Add(2 * AuthorGrace))
	settleAll(t, now, a, b)
	require.Equal(t, version("one"), hostVersion(b), "it has come back")

	a.sub.Close()
	require.False(t, s.Due().IsZero())
	s.Expire(time.Now().Add(AuthorGrace))
	settleAll(t, now, b)
	require.Equal(t, version("bad"), hostVersion(b), "b takes it")
	require.Empty(t, s.Rejections())
	require.Empty(t, s.Pins())
	require.Empty(t, s.holds)
}

// Where nobody of a class is left, the first that comes tries what was refused,
// with what was good to go back to.
func TestClassThatLeftComesBack(t *testing.T) {
	s, now := stagedStoreAt(t)
	a, other := sidecar(t, s, "a", "1.40", "web"), sidecar(t, s, "other", "1.40", "shop")
	a.bad = refuseBad
	settleAll(t, now, a, other)
	apply(s, "u", hosts("bad")...)
	settleAll(t, now, a, other)
	require.Equal(t, version("bad"), hostVersion(other))
	a.sub.Close()
	for h := range s.holds {
		h.absent = time.Now().Add(-AuthorGrace)
	}
	require.Empty(t, s.Rejections(), "a veto of nobody is none")
	require.Empty(t, s.Units([]string{"u"})[0].HeldFor)
	b, c := sidecar(t, s, "b", "1.40", "web"), sidecar(t, s, "c", "1.40", "web")
	b.bad = refuseBad
	settleAll(t, now, b, c)
	require.Equal(t, version("one"), hostVersion(b), "it refuses and goes back")
	require.Equal(t, version("one"), hostVersion(c))
	require.Equal(t, "b", s.Rejections()[len(s.Rejections())-1].Node)
}

// A class that said nothing while it tried, and refuses later, goes back.
func TestLateRefusalOfWhatWasTriedAgain(t *testing.T) {
	s, now := stagedStoreAt(t)
	a, other := sidecar(t, s, "a", "1.40", "web"), sidecar(t, s, "other", "1.40", "shop")
	a.bad = func(rt resource.Type, _, v string) bool { return rt == resource.VirtualHost && v != version("one") }
	settleAll(t, now, a, other)
	apply(s, "u", hosts("two")...)
	settleAll(t, now, a, other)
	apply(s, "u", hosts("three")...)
	settleAll(t, now, other)
	silent := a.receive(now)
	require.NotEmpty(t, silent)
	s.Expire(s.Due())
	for _, b := range silent {
		a.answer(t, b)
	}
	settleAll(t, now, a, other)
	require.Equal(t, version("one"), hostVersion(a))
	require.Equal(t, version("three"), hostVersion(other))
	require.Equal(t, []string{"u"}, a.sub.Held())
}

// A client that never says what it refuses cannot hold up the others for longer
// than the search for it may take.
func TestSearchDoesNotHoldUpOthers(t *testing.T) {
	s, _ := stagedStore(t)
	now := time.Unix(1000, 0)
	more := func(text string) []resource.Resource {
		return append(hosts(text), res(resource.VirtualHost, "http/i", text), res(resource.VirtualHost, "http/j", text))
	}
	apply(s, "u", more("one")...)
	liar, a := sidecar(t, s, "liar", "9", "x"), sidecar(t, s, "a", "1.40", "web")
	settleAll(t, now, liar, a)
	apply(s, "u", more("two")...)
	latest := time.Now().Add(searchTime * Silence)
	for _, b := range liar.receive(now) {
		for range 50 {
			liar.sub.Reject(b.Type, b.IDs, b.Frames, "liar", "no")
		}
	}
	require.True(t, s.Due().Before(latest))
	s.Expire(latest)
	settleAll(t, now, a)
	require.Equal(t, version("two"), hostVersion(a))
}

// What a class holds survives a restart, and nobody else is held by it.
func TestHoldSurvivesARestart(t *testing.T) {
	s, _ := stagedStore(t)
	now := time.Unix(1000, 0)
	changed := func(text, endpoints string) []resource.Resource {
		return []resource.Resource{
			res(resource.Cluster, "d", "new"), res(resource.Endpoint, "d", endpoints), res(resource.VirtualHost, "http/h", text, "d"),
		}
	}
	apply(s, "u", hosts("one")...)
	a, other := sidecar(t, s, "a", "1.40", "web"), sidecar(t, s, "other", "1.40", "shop")
	a.bad = refuseBad
	settleAll(t, now, a, other)
	apply(s, "u", changed("bad", "1")...)
	for range 4 {
		now = now.Add(2 * ClusterGrace)
		settleAll(t, now, a, other)
	}
	require.Contains(t, a.has[resource.Endpoint], "c", "the cluster that is held has its last endpoints")
	require.NotContains(t, other.has[resource.Cluster], "c")
	data, err := json.Marshal(s.Pins())
	require.NoError(t, err)

	for _, applied := range []bool{false, true} { // before its units, or as another replica's
		var stored []Pin
		require.NoError(t, json.Unmarshal(data, &stored))
		fresh, _ := stagedStore(t)
		if applied {
			apply(fresh, "u", changed("bad", "2")...)
		}
		fresh.SetPins(stored)
		if !applied {
			apply(fresh, "u", changed("bad", "2")...)
		}
		b, c := sidecar(t, fresh, "a", "1.40", "web"), sidecar(t, fresh, "c", "1.40", "shop")
		b.bad = refuseBad
		settleAll(t, now, b, c)
		require.Equal(t, version("one"), hostVersion(b))
		require.Contains(t, b.has[resource.Cluster], "c")
		require.Contains(t, b.has[resource.Endpoint], "c")
		require.Empty(t, b.refused)
		require.Equal(t, version("bad"), hostVersion(c))
		require.Len(t, fresh.Rejections(), 1)
		require.Len(t, fresh.Pins(), 1)
	}
}

// Classes come and go without number and leave nothing behind.
func TestClassesLeaveNothingBehind(t *testing.T) {
	s, now := stagedStoreAt(t)
	for i := range 10 * retireMost {
		c := sidecar(t, s, "liar", fmt.Sprint(i), "web")
		settleAll(t, now, c)
		c.sub.Close()
	}
	require.Empty(t, s.classes)
	require.LessOrEqual(t, s.nextClass, uint32(2*retireMost))
	for rt := range s.tables {
		for _, e := range s.tables[rt].entries {
			require.LessOrEqual(t, len(e.accepted), 4)
		}
	}
}

// One that claims one class after the other holds no more than a few of each unit.
func TestHoldsAreBounded(t *testing.T) {
	s, now := stagedStoreAt(t)
	var liars []*tester
	for i := range 3 * maxHoldsOfUnit {
		c := sidecar(t, s, fmt.Sprint("liar", i), fmt.Sprint(i), "web")
		liars = append(liars, c)
	}
	settleAll(t, now, liars...)
	for _, c := range liars {
		c.bad = refuseAll
	}
	apply(s, "u", hosts("two")...)
	settleAll(t, now, liars...)
	require.Len(t, s.Pins(), maxHoldsOfUnit)
	honest := sidecar(t, s, "honest", "1.40", "web")
	settleAll(t, now, honest)
	require.Equal(t, version("two"), hostVersion(honest))
	require.LessOrEqual(t, len(s.Rejections()), maxHoldsOfUnit+2*maxComplaints)
}

// One client cannot use up all holds: those of another identity are still held.
func TestHoldsOfOneOwnerAreBounded(t *testing.T) {
	s, now := stagedStoreAt(t)
	liar, honest := sidecar(t, s, "liar", "9", "web"), sidecar(t, s, "honest", "1.40", "web")
	honest.sub.Close()
	honest.view.Identity = "spiffe://honest"
	honest.join(t, s)
	settleAll(t, now, liar, honest)
	s.mu.Lock()
	s.holdsOf[liar.sub.class.owner()] = maxHoldsOfOwner // as if it had refused so many before
	s.mu.Unlock()
	liar.bad, honest.bad = refuseAll, refuseAll
	apply(s, "u", hosts("two")...)
	settleAll(t, now, liar, honest)
	require.Len(t, s.Pins(), 1)
	require.Equal(t, "spiffe://honest", s.Pins()[0].Class.Identity)
}

// Whatever liars refuse, claim and leave: those who tell the truth end with all that
// they take, and with what was good of the rest.
func TestLiarsInRandomHistories(t *testing.T) {
	for seed := range uint64(200) {
		h := newHistory(t, seed, 21)
		honestBad := func(rt resource.Type, _, v string) bool { return rt >= resource.Listener && v == version("2") }
		lie := func(salt uint64) func(resource.Type, string, string) bool {
			return func(rt resource.Type, name, v string) bool {
				h := fnv.New64a()
				fmt.Fprint(h, salt, rt, name, v)
				return rt != resource.Endpoint && h.Sum64()%3 > 0
			}
		}
		const honest = 4
		for i := range honest + 3 {
			c := sidecar(t, h.s, fmt.Sprint("c", i), fmt.Sprint(i/honest), string(rune('a'+i%2)))
			c.bad = honestBad
			if i >= honest { // the liars; one of them claims the others' namespace and an identity that it has
				c.sub.Close()
				c.view.Build, c.view.Identity = "1.40", fmt.Sprint("liar", i/6)
				c.bad = lie(seed + uint64(i))
				c.join(t, h.s)
			}
			h.join(c)
		}
		for range 140 {
			h.step(t, func(i int) {
				if h.rnd.IntN(3) == 0 {
					h.s.Expire(time.Now().Add(time.Duration(h.rnd.IntN(3)) * AuthorGrace))
				}
				if h.rnd.IntN(4) > 0 && i < honest {
					return
				}
				h.leave(i)
				if c := h.clients[i]; i >= honest { // it claims to be somebody else
					c.view.Node = fmt.Sprint("liar", h.rnd.IntN(5))
					c.view.Build = fmt.Sprint(h.rnd.IntN(5))
					for rt := range c.has {
						clear(c.has[rt])
					}
				}
				h.clients[i].join(t, h.s)
			})
		}
		h.end(t, 14, func() { h.s.Expire(time.Now().Add(searchTime * Silence)) })
		for i, c := range h.clients[:honest] {
			for name, u := range h.last {
				bad, seen := false, false
				for _, r := range u.Resources {
					bad = bad || honestBad(r.Type, r.Name, contentVersion(r.Body))
					seen = seen || c.view.Sees(&r.Visible)
				}
				if bad || !seen {
					continue
				}
				for _, r := range u.Resources {
					if !r.Type.Configuration() {
						continue
					}
					f := c.has[r.Type][r.Name]
					require.NotNil(t, f, "seed %d client %d: %s of %s is withheld", seed, i, r.Name, name)
					require.Equal(t, contentVersion(r.Body), f.Version, "seed %d client %d: %s of %s is not the newest", seed, i, r.Name, name)
				}
			}
			h.sameAsNew(t, i)
		}
	}
}

// What a client says of what it refuses may be of any length and hold anything: it costs one
// pass, little of it is kept, and no terminal takes it for commands.
func TestTextsOfRefusalsAreBounded(t *testing.T) {
	s, _ := stagedStore(t)
	now := time.Unix(1000, 0)
	const n = 4000
	many := func(text string) (out []resource.Resource) {
		for i := range n {
			out = append(out, res(resource.Cluster, fmt.Sprint("c", i), text))
		}
		return out
	}
	apply(s, "u", many("one")...)
	liar := sidecar(t, s, "liar", "9.9", "web")
	settleAll(t, now, liar)
	apply(s, "u", many("two")...)
	batches := liar.receive(now)
	require.Equal(t, resource.Cluster, batches[0].Type)
	for _, text := range []string{"\x1b[2J\u202e c7: no", strings.Repeat("no ", 1<<21) + " c7: no", strings.Repeat(" x: ", 1<<19) + " c7: no"} {
		start := time.Now()
		culprits := liar.sub.Reject(resource.Cluster, batches[0].IDs, batches[0].Frames, "liar", text)
		require.Less(t, time.Since(start), 5*time.Second, "everyone waits meanwhile")
		if len(text) < textRead {
			require.Equal(t, []string{"c7"}, liar.sub.Names(resource.Cluster, culprits))
		}
		for _, r := range s.Rejections() {
			require.LessOrEqual(t, len(r.Error), textKept+len("…"))
			require.NotContains(t, r.Error, "\x1b")
			require.NotContains(t, r.Error, "\u202e")
		}
	}
	require.NotEmpty(t, s.Rejections())
	require.Equal(t, map[string]struct{}{"a/b:80/pods": {}, "d": {}}, namesIn("Error adding/updating cluster(s) a/b:80/pods: no, d: why"))
	require.Equal(t, "a b", Brief("a\x00b"))
}
