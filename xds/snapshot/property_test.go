package snapshot

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/xds/resource"
)

func res(t resource.Type, name, content string, needs ...string) resource.Resource {
	return resource.Resource{
		Type: t, Name: name, Body: resource.Parts{[]byte(content)}, Needs: needs, EDS: t == resource.Cluster,
	}
}

// A new name may be asked for while Apply looks names up: run with -race.
func TestApplyWhileNamesAreAdded(t *testing.T) {
	s := New()
	var wg sync.WaitGroup
	for c := range 4 {
		wg.Go(func() {
			for i := range 300 {
				sub := s.Subscribe(View{}, Mode{})
				_ = sub.Add(resource.Endpoint, []string{fmt.Sprintf("n%d-%d", c, i)}, nil)
				sub.Collect(Settled{})
				sub.Close()
			}
		})
	}
	var resources []resource.Resource
	for i := range 300 {
		resources = append(resources, res(resource.Endpoint, fmt.Sprintf("n0-%d", i), "x"))
	}
	for range 100 { // after the first, it only looks them up
		s.Apply(time.Time{}, []Update{{Unit: "u", Resources: resources}})
	}
	wg.Wait()
}

// A resource that moves to another unit stays, whichever unit is named first.
func TestResourceMovesBetweenUnits(t *testing.T) {
	for _, order := range [][2]string{{"a", "b"}, {"b", "a"}} {
		s := New()
		x := []resource.Resource{res(resource.Cluster, "x", "1")}
		s.Apply(time.Time{}, []Update{{Unit: "a", Resources: x}})
		var updates []Update
		for _, u := range order {
			up := Update{Unit: u}
			if u == "b" {
				up.Resources = x
			}
			updates = append(updates, up)
		}
		s.Apply(time.Time{}, updates)
		require.Len(t, s.Resources(View{}), 1, "%v", order)
	}
}

// The grace of a removed cluster begins with the acknowledgement of the routes
// that no longer name it, not when they are sent.
func TestGraceBeginsWithTheAcknowledgement(t *testing.T) {
	s := New()
	s.Apply(time.Time{}, []Update{{Unit: "s", Resources: []resource.Resource{
		res(resource.Cluster, "c", "1"), res(resource.Endpoint, "c", "1"), res(resource.VirtualHost, "http/h", "1", "c"),
	}}})
	sub := s.Subscribe(View{}, Mode{Ordered: true})
	for _, rt := range []resource.Type{resource.Cluster, resource.Endpoint, resource.VirtualHost} {
		require.NoError(t, sub.Add(rt, []string{"*"}, nil))
	}
	now := time.Unix(1000, 0)
	sub.Collect(Settled{Now: now, Routes: true})
	s.Apply(time.Time{}, []Update{{Unit: "s"}})
	batches, _ := sub.Collect(Settled{Now: now, Routes: true})
	require.Len(t, batches, 1)
	acknowledged := now.Add(ClusterGrace - time.Millisecond)
	batches, again := sub.Collect(Settled{Now: acknowledged, Routes: true})
	require.Empty(t, batches)
	require.Equal(t, acknowledged.Add(ClusterGrace), again)
	batches, _ = sub.Collect(Settled{Now: again, Routes: true})
	require.Equal(t, []string{"c"}, batches[0].Removed)
}

// A client may not make every change compare with any number of prefixes.
func TestRoutesFollowedAreLimited(t *testing.T) {
	names := make([]string, MaxRoutes+1)
	for i := range names {
		names[i] = fmt.Sprint("r", i)
	}
	s := New()
	require.ErrorIs(t, s.Subscribe(View{}, Mode{}).Add(resource.VirtualHost, names, nil), ErrTooManyRoutes)
	require.ErrorIs(t, s.Subscribe(View{}, Mode{StateOfTheWorld: true}).Add(resource.Route, names, nil), ErrTooManyRoutes)
}

// State of the world: the route configuration is sent with each virtual host's
// newest content, so it waits for what that names.
func TestInlinedHostWaitsForItsCluster(t *testing.T) {
	s := New()
	vhds := string([]byte{fieldVhds<<3 | 2, 0})
	h1 := []resource.Resource{
		res(resource.Cluster, "c1", "1"), res(resource.Endpoint, "c1", "1"), res(resource.Route, "http", vhds),
		res(resource.VirtualHost, "http/h1", "1", "c1"),
	}
	s.Apply(time.Time{}, []Update{{Unit: "s", Resources: h1}})
	sub := s.Subscribe(View{}, Mode{Ordered: true, StateOfTheWorld: true})
	require.NoError(t, sub.Add(resource.Cluster, []string{"*"}, nil))
	require.NoError(t, sub.Add(resource.Endpoint, []string{"c1"}, nil))
	require.NoError(t, sub.Add(resource.Route, []string{"http"}, nil))
	sub.Collect(Settled{})
	h1[3] = res(resource.VirtualHost, "http/h1", "2", "c2")
	s.Apply(time.Time{}, []Update{{Unit: "s", Resources: append(h1, res(resource.Cluster, "c2", "1"), res(resource.Endpoint, "c2", "1"))}})
	s.Apply(time.Time{}, []Update{{Unit: "s2", Resources: []resource.Resource{res(resource.VirtualHost, "http/h2", "1")}}})
	batches, _ := sub.Collect(Settled{})
	for _, b := range batches {
		require.NotEqual(t, resource.Route, b.Type, "sent before the endpoints of c2 were asked for")
	}
	require.NoError(t, sub.Add(resource.Endpoint, []string{"c2"}, nil))
	batches, _ = sub.Collect(Settled{})
	require.Equal(t, resource.Route, batches[len(batches)-1].Type)
}

// holder is the model of a client: what it was sent and not told to drop.
type holder struct {
	sub  *Subscriber
	view View
	has  [resource.Types]map[string]*Frame
	// unacked is true until the client acknowledges the routes that it was sent.
	unacked bool
	// wanted are the clusters whose endpoints the client has not asked for yet.
	wanted []string
}

func (h *holder) join(t *testing.T, s *Store) {
	t.Helper()
	h.sub = s.Subscribe(h.view, Mode{Ordered: true})
	for rt := range resource.Type(resource.Types) {
		var known []Known
		for name, f := range h.has[rt] {
			known = append(known, Known{[]byte(name), []byte(f.Version)})
		}
		names := []string{"*"}
		if rt == resource.Endpoint { // by name, as Envoy does
			names = slices.Sorted(maps.Keys(h.has[resource.Cluster]))
		}
		require.NoError(t, h.sub.Add(rt, names, known))
	}
	h.unacked, h.wanted = false, nil
}

// ask subscribes to the endpoints of the clusters that came.
func (h *holder) ask(t *testing.T) {
	t.Helper()
	require.NoError(t, h.sub.Add(resource.Endpoint, h.wanted, nil))
	h.wanted = nil
}

func (h *holder) collect(t *testing.T, s *Store, now time.Time) {
	t.Helper()
	batches, _ := h.sub.Collect(Settled{Now: now, Routes: !h.unacked})
	for _, b := range batches {
		for i, name := range h.sub.Names(b.Type, b.IDs) {
			if b.Type == resource.Cluster && h.has[b.Type][name] == nil {
				h.wanted = append(h.wanted, name)
			}
			h.has[b.Type][name] = b.Frames[i]
			if b.Type < resource.Listener {
				continue
			}
			id := s.tables[b.Type].ids[name]
			for _, need := range s.tables[b.Type].entries[id].needs.names() {
				c, ok := s.tables[resource.Cluster].ids[need]
				if !ok || s.tables[resource.Cluster].entries[c].frame == nil || !h.view.Sees(&s.tables[resource.Cluster].entries[c].visible) {
					continue
				}
				require.Contains(t, h.has[resource.Cluster], need, "%s before its cluster", name)
				require.Contains(t, h.has[resource.Endpoint], need, "%s before its endpoints", name)
			}
		}
		for _, name := range b.Removed {
			if b.Type == resource.Cluster && h.has[b.Type][name] != nil {
				require.False(t, h.unacked, "cluster %s removed before the routes were acknowledged", name)
			}
			delete(h.has[b.Type], name)
			if b.Type == resource.Cluster {
				delete(h.has[resource.Endpoint], name)
				h.wanted = slices.DeleteFunc(h.wanted, func(w string) bool { return w == name })
				h.sub.Remove(resource.Endpoint, []string{name})
			}
		}
		h.unacked = h.unacked || b.Type >= resource.Listener
	}
}

// Whatever happened, every client ends with what one that comes anew gets, and
// on the way no route was there before its clusters and endpoints.
func TestRandomHistories(t *testing.T) {
	for seed := range uint64(150) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		s := New()
		now := time.Unix(1000, 0)
		clients := make([]*holder, 4)
		for i := range clients {
			h := &holder{view: View{Namespace: string(rune('a' + i%2)), Zone: string(rune('x' + i/2)), NodeName: []string{"", "n1", "n2", "n3"}[i]}}
			for rt := range h.has {
				h.has[rt] = make(map[string]*Frame)
			}
			h.join(t, s)
			clients[i] = h
		}
		for range 120 {
			switch rnd.IntN(7) {
			case 0, 1, 2:
				s.Apply(now, []Update{randomUnit(rnd)})
			case 3:
				h := clients[rnd.IntN(len(clients))]
				if rnd.IntN(4) == 0 {
					h.sub.Close()
					h.join(t, s)
				}
				h.unacked = h.unacked && rnd.IntN(2) == 0
			case 4:
				now = now.Add(time.Duration(rnd.IntN(4)) * time.Second)
			}
			h := clients[rnd.IntN(len(clients))]
			h.collect(t, s, now)
			if rnd.IntN(2) == 0 {
				h.ask(t)
			}
		}
		for range 8 {
			now = now.Add(ClusterGrace)
			for _, h := range clients {
				h.unacked = false
				h.ask(t)
				h.collect(t, s, now)
			}
		}
		for i, h := range clients {
			fresh := &holder{view: h.view}
			for rt := range fresh.has {
				fresh.has[rt] = make(map[string]*Frame)
			}
			fresh.join(t, s)
			for range 3 {
				fresh.unacked = false
				fresh.collect(t, s, now)
				fresh.ask(t)
			}
			for rt := range h.has {
				require.Equal(t, versionsOf(fresh.has[rt]), versionsOf(h.has[rt]), "seed %d client %d %s", seed, i, resource.Type(rt))
			}
			require.Zero(t, h.sub.Lag(), "seed %d client %d", seed, i)
		}
	}
}

func versionsOf(m map[string]*Frame) map[string]string {
	out := make(map[string]string)
	for name, f := range maps.All(m) {
		out[name] = f.Version
	}
	return out
}

// randomUnit is a Service's resources, or their absence.
func randomUnit(rnd *rand.Rand) Update {
	name := fmt.Sprint("c", rnd.IntN(4))
	u := Update{Unit: name}
	if rnd.IntN(4) == 0 {
		return u
	}
	v := resource.Visibility{Namespace: []string{"", "a", "b"}[rnd.IntN(3)]}
	text := func() string { return fmt.Sprint(rnd.IntN(3)) }
	eds := res(resource.Endpoint, name, text())
	if rnd.IntN(2) == 0 {
		eds.ByZone = map[string]resource.Parts{"x": {[]byte(text())}}
	}
	for _, node := range []string{"n1", "n2"} {
		if rnd.IntN(2) == 0 {
			if eds.ByNode == nil {
				eds.ByNode = make(map[string]resource.Parts)
			}
			eds.ByNode[node] = resource.Parts{[]byte(text())}
		}
	}
	if rnd.IntN(2) == 0 {
		eds.OtherNodes = resource.Parts{[]byte(text())}
	}
	u.Resources = []resource.Resource{res(resource.Cluster, name, text()), eds}
	if rnd.IntN(3) > 0 {
		needs := []string{name}
		if other := fmt.Sprint("c", rnd.IntN(4)); other > name {
			needs = append(needs, other)
		}
		u.Resources = append(u.Resources, res(resource.VirtualHost, "http/"+name, text(), needs...))
	}
	for i := range u.Resources {
		u.Resources[i].Visible = v
	}
	return u
}
