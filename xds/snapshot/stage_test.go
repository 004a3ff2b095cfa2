package snapshot

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/xds/resource"
)

// tester is a client that answers what it is sent.
type tester struct {
	*holder
	name string
	// bad says which contents the client refuses.
	bad     func(t resource.Type, name, version string) bool
	refused map[string]bool // names that it refused when they came last
	alone   [resource.Types]bool
}

func stagedStore(t *testing.T) (s *Store, outcomes map[StageResult]int) {
	t.Helper()
	s = New()
	outcomes = make(map[StageResult]int)
	s.Stage(Silence, func() {}, func(o StageResult) { outcomes[o]++ })
	return s, outcomes
}

func newTester(t *testing.T, s *Store, name string, v View) *tester {
	t.Helper()
	c := &tester{holder: &holder{view: v}, name: name, refused: make(map[string]bool)}
	for rt := range c.has {
		c.has[rt] = make(map[string]*Frame)
	}
	c.join(t, s)
	return c
}

// sent is a response that waits for its answer.
type sentBatch struct{ Batch }

// receive collects what is due without answering it.
func (c *tester) receive(now time.Time) []sentBatch {
	var out []sentBatch
	batches, _ := c.sub.Collect(Settled{Now: now, Routes: true})
	for _, b := range batches {
		// The server's search for what is at fault, cut short.
		for c.alone[b.Type] && len(b.IDs) > 1 {
			part := b
			part.Frames, part.IDs, part.Removed = b.Frames[:1], b.IDs[:1], nil
			out = append(out, sentBatch{part})
			b.Frames, b.IDs = b.Frames[1:], b.IDs[1:]
		}
		out = append(out, sentBatch{b})
	}
	return out
}

// answer takes or refuses a response as Envoy does: clusters and listeners one
// by one, the others as a whole.
func (c *tester) answer(t *testing.T, b sentBatch) {
	t.Helper()
	names := c.sub.Names(b.Type, b.IDs)
	require.Len(t, names, len(b.IDs))
	var refused []string
	for i, name := range names {
		if c.bad != nil && c.bad(b.Type, name, b.Frames[i].Version) {
			refused = append(refused, name)
		}
	}
	single := b.Type == resource.Cluster || b.Type == resource.Listener
	for i, name := range names {
		taken := len(refused) == 0 || (single && !slices.Contains(refused, name))
		if !taken || (b.Type == resource.Endpoint && c.has[resource.Cluster][name] == nil) {
			continue
		}
		if b.Type == resource.Cluster && c.has[b.Type][name] == nil {
			c.wanted = append(c.wanted, name)
		}
		c.has[b.Type][name] = b.Frames[i]
		delete(c.refused, b.Type.String()+name)
	}
	for _, name := range b.Removed {
		delete(c.has[b.Type], name)
		delete(c.refused, b.Type.String()+name)
		if b.Type == resource.Cluster {
			delete(c.has[resource.Endpoint], name)
			c.wanted = slices.DeleteFunc(c.wanted, func(w string) bool { return w == name })
			c.sub.Remove(resource.Endpoint, []string{name})
		}
	}
	if len(refused) == 0 {
		c.sub.Accept(b.Type, b.IDs, b.Frames)
		return
	}
	message := "no"
	if single {
		message = "Error adding/updating"
		for _, name := range refused {
			message += " " + name + ": no;"
		}
	}
	culprits := c.sub.Reject(b.Type, b.IDs, b.Frames, c.name, message)
	for _, name := range c.sub.Names(b.Type, culprits) {
		require.Contains(t, refused, name, "an innocent resource is blamed")
		c.refused[b.Type.String()+name] = true
	}
	c.alone[b.Type] = c.alone[b.Type] || len(culprits) == 0
}

func (c *tester) round(t *testing.T, now time.Time) {
	t.Helper()
	for _, b := range c.receive(now) {
		c.answer(t, b)
	}
	c.ask(t)
}

func hosts(text string) []resource.Resource {
	return []resource.Resource{
		res(resource.Cluster, "c", "1"), res(resource.Endpoint, "c", "1"), res(resource.VirtualHost, "http/h", text, "c"),
	}
}

func apply(s *Store, unit string, resources ...resource.Resource) {
	s.Apply(time.Time{}, []Update{{Unit: unit, Resources: resources}})
}

// settle lets every client receive and answer until nothing is left.
func settleAll(t *testing.T, now time.Time, clients ...*tester) {
	t.Helper()
	for range 6 {
		for _, c := range clients {
			c.round(t, now)
		}
	}
}

func version(text string) string { return contentVersion(resource.Parts{[]byte(text)}) }

func hostVersion(c *tester) string {
	if f := c.has[resource.VirtualHost]["http/h"]; f != nil {
		return f.Version
	}
	return ""
}

func TestStageGoesToOneProxyOfEachClassFirst(t *testing.T) {
	s, outcomes := stagedStore(t)
	now := time.Unix(1000, 0)
	apply(s, "u", hosts("one")...)
	a := newTester(t, s, "a", View{Role: "sidecar", Build: "1.40"})
	b := newTester(t, s, "b", View{Role: "sidecar", Build: "1.40"})
	old := newTester(t, s, "old", View{Role: "sidecar", Build: "1.39"})
	settleAll(t, now, a, b, old)
	require.Equal(t, version("one"), hostVersion(b))

	apply(s, "u", hosts("two")...)
	b.round(t, now)
	require.Equal(t, version("one"), hostVersion(b), "it is not b's turn")
	a.round(t, now)
	require.Equal(t, version("two"), hostVersion(a))
	b.round(t, now)
	require.Equal(t, version("one"), hostVersion(b), "the other build has not answered yet")
	old.round(t, now)
	b.round(t, now)
	require.Equal(t, version("two"), hostVersion(b))
	require.Equal(t, map[StageResult]int{StageAccepted: 1}, outcomes)
	require.Empty(t, a.receive(now), "what a canary has is not sent again")
	joined := newTester(t, s, "new", View{Role: "sidecar", Build: "1.40"})
	joined.round(t, now)
	joined.round(t, now)
	require.Equal(t, version("two"), hostVersion(joined))
}

func TestStageEndpointsAndWeightsDoNotWait(t *testing.T) {
	s, outcomes := stagedStore(t)
	now := time.Unix(1000, 0)
	weighted := func(text, endpoints string, shape uint64) []resource.Resource {
		out := hosts(text)
		out[1] = res(resource.Endpoint, "c", endpoints)
		out[2].Shape = shape
		return out
	}
	apply(s, "u", weighted("10", "1", 7)...)
	a, b := newTester(t, s, "a", View{}), newTester(t, s, "b", View{})
	settleAll(t, now, a, b)
	apply(s, "u", weighted("20", "1", 7)...)
	b.round(t, now)
	require.Equal(t, version("20"), hostVersion(b), "weights go to everyone at once")
	apply(s, "u", weighted("x", "2", 8)...)
	b.round(t, now)
	require.Equal(t, version("2"), b.has[resource.Endpoint]["c"].Version, "endpoints do not wait for a stage")
	require.Equal(t, version("20"), hostVersion(b))
	apply(s, "u", weighted("x", "3", 8)...)
	b.round(t, now)
	require.Equal(t, version("3"), b.has[resource.Endpoint]["c"].Version, "nor while one is open")
	settleAll(t, now, a, b)
	require.Equal(t, version("x"), hostVersion(b))
	apply(s, "u", weighted("20", "3", 7)...)
	b.round(t, now)
	require.Equal(t, version("20"), hostVersion(b), "the way back does not wait either")
	require.Equal(t, map[StageResult]int{StageAccepted: 1}, outcomes)
}

func TestStageSilence(t *testing.T) {
	s, outcomes := stagedStore(t)
	now := time.Unix(1000, 0)
	apply(s, "u", hosts("one")...)
	a, b := newTester(t, s, "a", View{}), newTester(t, s, "b", View{})
	settleAll(t, now, a, b)
	require.True(t, s.Due().IsZero())
	apply(s, "u", hosts("two")...)
	late := a.receive(now)
	require.Len(t, late, 1)
	due := s.Due()
	require.WithinDuration(t, time.Now().Add(Silence), due, Silence)
	s.Expire(due.Add(-time.Millisecond))
	b.round(t, now)
	require.Equal(t, version("one"), hostVersion(b))
	s.Expire(due)
	b.round(t, now)
	require.Equal(t, version("two"), hostVersion(b))
	require.Equal(t, map[StageResult]int{StageSilent: 1}, outcomes)
	a.answer(t, late[0])
	require.Empty(t, a.receive(now))
}

func TestStageCanaryLeaves(t *testing.T) {
	s, _ := stagedStore(t)
	now := time.Unix(1000, 0)
	apply(s, "u", hosts("one")...)
	a, b := newTester(t, s, "a", View{}), newTester(t, s, "b", View{})
	settleAll(t, now, a, b)
	apply(s, "u", hosts("two")...)
	a.sub.Close()
	c := newTester(t, s, "c", View{}) // it gets a's slot
	c.round(t, now)
	c.round(t, now)
	require.Equal(t, version("one"), hostVersion(c), "a successor in the slot is no canary")
	b.round(t, now)
	require.Equal(t, version("one"), hostVersion(b), "what may have ended a proxy waits")
	s.Expire(s.Due())
	settleAll(t, now, b, c)
	require.Equal(t, version("two"), hostVersion(b))
	require.Equal(t, version("two"), hostVersion(c))
}

func TestRejectionPinsTheWholeUnit(t *testing.T) {
	s, outcomes := stagedStore(t)
	now := time.Unix(1000, 0)
	refuse := func(rt resource.Type, _, v string) bool { return rt == resource.VirtualHost && v == version("bad") }
	apply(s, "u", hosts("one")...)
	a, b := newTester(t, s, "a", View{}), newTester(t, s, "b", View{})
	a.bad, b.bad = refuse, refuse
	settleAll(t, now, a, b)
	changed := func(text, endpoints string) []resource.Resource {
		return []resource.Resource{
			res(resource.Cluster, "d", "new"), res(resource.Endpoint, "d", endpoints), res(resource.VirtualHost, "http/h", text, "d"),
		}
	}
	apply(s, "u", changed("bad", "1")...)
	settleAll(t, now, a, b)
	later := now.Add(3 * ClusterGrace)
	settleAll(t, now, a, b)
	settleAll(t, later, a, b)
	for _, c := range []*tester{a, b} {
		require.Equal(t, version("one"), hostVersion(c))
		require.Contains(t, c.has[resource.Cluster], "c", "the pinned route needs its cluster")
		require.Contains(t, c.has[resource.Endpoint], "c")
		require.NotContains(t, b.has[resource.Cluster], "d")
	}
	require.Equal(t, map[StageResult]int{StageRejected: 1}, outcomes)
	pins := s.Pins()
	require.Len(t, pins, 1)
	require.Equal(t, "http/h", pins[0].Rejected[0].Name)
	require.Equal(t, "a", pins[0].Rejected[0].Node)
	require.Equal(t, "no", pins[0].Rejected[0].Error)

	// The same again, with other endpoints, changes nothing and is not tried again.
	apply(s, "u", changed("bad", "2")...)
	settleAll(t, later, a, b)
	require.Equal(t, version("one"), hostVersion(a))
	require.Equal(t, map[StageResult]int{StageRejected: 1}, outcomes)

	// Another process with the stored pin compiles the same.
	data, err := json.Marshal(pins)
	require.NoError(t, err)
	var stored []Pin
	require.NoError(t, json.Unmarshal(data, &stored))
	fresh, _ := stagedStore(t)
	fresh.SetPins(stored)
	apply(fresh, "u", changed("bad", "2")...)
	c := newTester(t, fresh, "c", View{})
	settleAll(t, now, c)
	require.Equal(t, version("one"), hostVersion(c))
	require.Contains(t, c.has[resource.Cluster], "c")

	// A fix is tried like any change.
	apply(s, "u", changed("good", "2")...)
	settleAll(t, later, a, b)
	settleAll(t, later.Add(3*ClusterGrace), a, b)
	settleAll(t, later.Add(6*ClusterGrace), a, b)
	require.Equal(t, version("good"), hostVersion(a))
	require.Equal(t, version("good"), hostVersion(b))
	require.NotContains(t, b.has[resource.Cluster], "c")
	require.Empty(t, s.Pins())
	require.Equal(t, 1, outcomes[StageAccepted])
}

// What came into force because its canary said nothing goes back as well.
func TestLateRejection(t *testing.T) {
	s, _ := stagedStore(t)
	now := time.Unix(1000, 0)
	refuse := func(rt resource.Type, _, v string) bool { return rt == resource.VirtualHost && v == version("bad") }
	apply(s, "u", hosts("one")...)
	a, b := newTester(t, s, "a", View{}), newTester(t, s, "b", View{})
	a.bad, b.bad = refuse, refuse
	settleAll(t, now, a, b)
	apply(s, "u", hosts("bad")...)
	s.Expire(s.Due())
	settleAll(t, now, b, a)
	require.Len(t, s.Pins(), 1)
	require.Equal(t, version("one"), hostVersion(a))
	require.Equal(t, version("one"), hostVersion(b))
}

// One proxy's rejection of what another has accepted is its own matter.
func TestRejectionOfWhatOthersAccepted(t *testing.T) {
	s, _ := stagedStore(t)
	now := time.Unix(1000, 0)
	apply(s, "u", hosts("one")...)
	a := newTester(t, s, "a", View{})
	settleAll(t, now, a)
	apply(s, "u", hosts("two")...)
	settleAll(t, now, a)
	odd := newTester(t, s, "odd", View{})
	odd.bad = func(rt resource.Type, _, _ string) bool { return rt == resource.VirtualHost }
	settleAll(t, now, odd, a)
	require.Empty(t, s.Pins())
	require.Equal(t, version("two"), hostVersion(a))
	require.Empty(t, hostVersion(odd))
}

// Where nothing good is known, what is refused stays, alone, and everything else works.
func TestRejectionWithoutPast(t *testing.T) {
	s, _ := stagedStore(t)
	now := time.Unix(1000, 0)
	for i := range 9 {
		apply(s, fmt.Sprint("u", i), res(resource.VirtualHost, fmt.Sprint("http/h", i), fmt.Sprint(i)))
	}
	refuse := func(_ resource.Type, _, v string) bool { return v == version("4") }
	for i := range 3 {
		c := newTester(t, s, fmt.Sprint("c", i), View{})
		c.bad = refuse
		settleAll(t, now, c)
		require.Len(t, c.has[resource.VirtualHost], 8)
	}
	require.Len(t, s.Rejections(), 1)
	require.False(t, s.Rejections()[0].Pinned)
	apply(s, "u4", res(resource.VirtualHost, "http/h4", "mended"))
	require.NotEmpty(t, s.Rejections(), "not before somebody took it")
	c := newTester(t, s, "c", View{})
	settleAll(t, now, c)
	require.Len(t, c.has[resource.VirtualHost], 9)
}

// history is a random one of a store with staging and its clients.
type history struct {
	seed    uint64
	rnd     *rand.Rand
	s       *Store
	now     time.Time
	clients []*tester
	open    [][]sentBatch // what each client has received and not answered
	last    map[string]Update
}

func newHistory(t *testing.T, seed, salt uint64) *history {
	t.Helper()
	s, _ := stagedStore(t)
	return &history{seed: seed, rnd: rand.New(rand.NewPCG(seed, salt)), s: s, now: time.Unix(1000, 0), last: make(map[string]Update)}
}

func (h *history) join(c *tester) {
	h.clients, h.open = append(h.clients, c), append(h.open, nil)
}

// step lets something happen; other has what happens now and then to one of the clients.
func (h *history) step(t *testing.T, other func(i int)) {
	t.Helper()
	i := h.rnd.IntN(len(h.clients))
	switch h.rnd.IntN(9) {
	case 0, 1, 2:
		u := randomUnit(h.rnd)
		for i := range u.Resources { // who sees a cluster sees its endpoints, before and after
			u.Resources[i].Visible = resource.Visibility{Namespace: map[string]string{"c1": "a", "c2": "b"}[u.Unit]}
		}
		h.last[u.Unit] = u
		h.s.Apply(h.now, []Update{u})
	case 3, 4, 5:
		h.open[i] = append(h.open[i], h.clients[i].receive(h.now)...)
	case 6, 7:
		h.answer(t, i)
	case 8:
		other(i)
		h.now = h.now.Add(time.Duration(h.rnd.IntN(4)) * time.Second)
	}
}

func (h *history) answer(t *testing.T, i int) {
	t.Helper()
	for _, b := range h.open[i] {
		h.clients[i].answer(t, b)
	}
	h.open[i] = nil
	h.clients[i].ask(t)
}

// leave breaks a client's connection.
func (h *history) leave(i int) {
	h.clients[i].sub.Close()
	h.open[i] = nil
}

// end lets everything come to rest; expire lets time pass for stages.
func (h *history) end(t *testing.T, rounds int, expire func()) {
	t.Helper()
	for i := range h.clients {
		h.answer(t, i)
	}
	for range rounds {
		h.now = h.now.Add(ClusterGrace)
		settleAll(t, h.now, h.clients...)
		expire()
	}
	require.Empty(t, h.s.staged, "seed %d", h.seed)
}

// sameAsNew demands that a client has what a new one of its view gets.
func (h *history) sameAsNew(t *testing.T, i int) {
	t.Helper()
	c := h.clients[i]
	fresh := newTester(t, h.s, "fresh", c.view)
	fresh.bad = c.bad
	settleAll(t, h.now, fresh)
	for rt := range c.has {
		for name := range c.has[rt] {
			// Who refuses the newest keeps what it had, if it had any.
			if fresh.refused[resource.Type(rt).String()+name] { //nolint:gosec // a type
				delete(c.has[rt], name)
			}
		}
		require.Equal(t, versionsOf(fresh.has[rt]), versionsOf(c.has[rt]), "seed %d client %d %s", h.seed, i, resource.Type(rt)) //nolint:gosec // a type
	}
	fresh.sub.Close()
}

// Whatever is applied, refused and accepted in whatever order: in the end every
// client has what a new one gets, nothing that a client refuses is in force for
// long, and what nobody refuses is.
func TestStageRandomHistories(t *testing.T) {
	for seed := range uint64(200) {
		h := newHistory(t, seed, 9)
		bad := func(rt resource.Type, _, v string) bool { return rt >= resource.Listener && v == version("2") }
		for i := range 4 {
			c := newTester(t, h.s, fmt.Sprint("c", i), View{
				Namespace: string(rune('a' + i%2)), Zone: string(rune('x' + i/2)), NodeName: []string{"", "n1", "n2"}[i%3], Build: fmt.Sprint(i / 3),
			})
			c.bad = bad
			h.join(c)
		}
		expire := func() {
			if due := h.s.Due(); !due.IsZero() {
				h.s.Expire(due)
			}
		}
		for range 100 {
			h.step(t, func(i int) {
				if h.rnd.IntN(3) == 0 {
					expire()
				}
				if h.rnd.IntN(4) == 0 {
					h.leave(i)
					h.clients[i].join(t, h.s)
				}
			})
		}
		h.end(t, 12, expire)
		for i := range h.clients {
			h.sameAsNew(t, i)
		}
		for name, u := range h.last {
			if (&Pin{Unit: name}).refuses(u.Resources) || slices.ContainsFunc(u.Resources, func(r resource.Resource) bool {
				return r.Type == resource.VirtualHost && contentVersion(r.Body) == version("2")
			}) {
				continue
			}
			for _, r := range u.Resources {
				id, ok := h.s.tables[r.Type].ids[r.Name]
				require.True(t, ok)
				require.Equal(t, contentVersion(r.Body), h.s.tables[r.Type].entries[id].frame.Version, "seed %d: %s %s is not in force", seed, r.Type, r.Name)
			}
		}
	}
}

// A canary that has accepted what it tried is woken when another canary's word ends the
// stage: only then does it learn that it has everything, and does not count as behind.
func TestEveryCanaryLearnsThatItsStageHasPassed(t *testing.T) {
	for _, ends := range []string{"by a word", "by silence"} {
		s, _ := stagedStore(t)
		now := time.Unix(1000, 0)
		apply(s, "u", hosts("one")...)
		first, last := sidecar(t, s, "first", "1.40", "web"), sidecar(t, s, "last", "1.40", "shop")
		settleAll(t, now, first, last)
		apply(s, "u", hosts("two")...)
		settleAll(t, now, first)
		require.Equal(t, version("two"), hostVersion(first))
		select { // what it was woken for until now
		case <-first.sub.C():
		default:
		}
		if ends == "by silence" {
			s.Expire(s.Due())
		} else {
			last.round(t, now)
		}
		require.Empty(t, s.staged)
		select {
		case <-first.sub.C():
		default:
			t.Fatalf("the canary that was first is not woken when its stage ends %s", ends)
		}
		require.Empty(t, first.receive(now), "what a canary has is not sent again")
		_, through := first.sub.Progress()
		require.Equal(t, s.Index(), through, "it counts as behind")
	}
}

// A canary drops the hosts of a route configuration that it has not asked for
// yet, and accepts them all the same: when it asks, they must come again, also
// while they are on trial.
func TestHostsOnTrialComeAgainWithTheirRoute(t *testing.T) {
	s, _ := stagedStore(t)
	now := time.Unix(1000, 0)
	apply(s, "u", hosts("one")...)
	a := newTester(t, s, "a", View{})
	require.NoError(t, a.sub.Add(resource.VirtualHost, []string{"*"}, nil))
	settleAll(t, now, a)
	apply(s, "edge", res(resource.Listener, "l", "1"), res(resource.Route, "edge", "1"), res(resource.VirtualHost, "edge/h", "1"))
	first := a.receive(now)
	require.NotEmpty(t, first)
	require.NoError(t, a.sub.Add(resource.Route, []string{"edge"}, nil))
	var order []string
	for _, b := range a.receive(now) {
		for _, name := range a.sub.Names(b.Type, b.IDs) {
			order = append(order, b.Type.String()+" "+name)
		}
	}
	require.Equal(t, []string{"RDS edge", "VHDS edge/h"}, order)
}
