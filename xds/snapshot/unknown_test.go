package snapshot

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/causeway-mesh/causeway/xds/resource"
)

// A restarted control plane may not know the endpoints of a cluster. Proxies
// that have some keep them, those that come anew do not wait for them, and all
// get them once they are known.
func TestEndpointsThatAreNotKnown(t *testing.T) {
	now := time.Unix(1000, 0)
	before, _ := stagedStore(t)
	apply(before, "u", hosts("one")...)
	a := newTester(t, before, "a", View{})
	settleAll(t, now, a)
	require.Contains(t, a.has[resource.Endpoint], "c")

	s, _ := stagedStore(t)
	apply(s, "u", res(resource.Cluster, "c", "1"), res(resource.VirtualHost, "http/h", "one", "c"))
	a.join(t, s)
	b := newTester(t, s, "b", View{})
	settleAll(t, now, a, b)
	settleAll(t, now.Add(3*ClusterGrace), a, b)
	require.Contains(t, a.has[resource.Endpoint], "c", "not known is not empty")
	require.Equal(t, version("one"), hostVersion(a))
	require.Equal(t, version("one"), hostVersion(b), "a route does not wait for what nobody knows")
	require.NotContains(t, b.has[resource.Endpoint], "c")

	apply(s, "u", res(resource.Cluster, "c", "1"), res(resource.Endpoint, "c", "2"), res(resource.VirtualHost, "http/h", "one", "c"))
	settleAll(t, now.Add(4*ClusterGrace), a, b)
	for _, c := range []*tester{a, b} {
		require.Equal(t, version("2"), c.has[resource.Endpoint]["c"].Version)
	}
}

// standIn is what hosts becomes where it is not known who has the traffic.
func standIn(text string) []resource.Resource {
	out := hosts(text)
	out[2].Needs, out[2].StandIn = nil, true
	return out
}

// A restarted control plane may not know who has the traffic of a Service. Proxies that
// have its routes keep them, whatever else happens; those that come anew get what stands
// in; everyone gets the routes once they are known.
func TestWhatStandsInReplacesNothing(t *testing.T) {
	now := time.Unix(1000, 0)
	before, _ := stagedStore(t)
	apply(before, "u", hosts("one")...)
	apply(before, "other", res(resource.VirtualHost, "http/other", "1"))
	had := newTester(t, before, "had", View{})
	settleAll(t, now, had)

	s, outcomes := stagedStore(t)
	apply(s, "u", standIn("guess")...)
	apply(s, "other", res(resource.VirtualHost, "http/other", "2"))
	had.join(t, s)
	anew := newTester(t, s, "anew", View{})
	settleAll(t, now, had, anew)
	require.Equal(t, version("one"), hostVersion(had))
	require.Equal(t, version("guess"), hostVersion(anew))
	for _, c := range []*tester{had, anew} {
		require.Equal(t, version("2"), c.has[resource.VirtualHost]["http/other"].Version, "one unknown Service must not hold up others")
		require.Zero(t, c.sub.Lag())
	}

	apply(s, "u", standIn("another guess")...)
	settleAll(t, now.Add(3*ClusterGrace), had, anew)
	require.Equal(t, version("one"), hostVersion(had))
	had.sub.Close() // its connection breaks
	had.join(t, s)
	settleAll(t, now.Add(3*ClusterGrace), had, anew)
	require.Equal(t, version("one"), hostVersion(had))
	// Envoy drops the hosts of a route configuration that it drops, and asks anew.
	delete(had.has[resource.VirtualHost], "http/h")
	require.NoError(t, had.sub.Add(resource.Route, []string{"http"}, nil))
	settleAll(t, now.Add(3*ClusterGrace), had)
	require.Equal(t, version("another guess"), hostVersion(had))

	apply(s, "u", hosts("known")...)
	settleAll(t, now.Add(4*ClusterGrace), had, anew)
	for _, c := range []*tester{had, anew} {
		require.Equal(t, version("known"), hostVersion(c))
	}
	require.Zero(t, outcomes[StageRejected])
}

// What a proxy refused stays refused while something stands in for it.
func TestWhatStandsInEndsNoPin(t *testing.T) {
	now := time.Unix(1000, 0)
	before, _ := stagedStore(t)
	apply(before, "u", hosts("good")...)
	a := newTester(t, before, "a", View{})
	a.bad = func(_ resource.Type, _, v string) bool { return v == version("bad") }
	settleAll(t, now, a)
	apply(before, "u", hosts("bad")...)
	settleAll(t, now, a)
	require.Equal(t, version("good"), hostVersion(a))
	pins := before.Pins()
	require.Len(t, pins, 1)
	everyones := pins[0]
	everyones.Class = nil // as an older version has stored it

	for name, pins := range map[string][]Pin{"of a class": pins, "of everyone": {everyones}} {
		s, _ := stagedStore(t)
		s.SetPins(pins)
		apply(s, "u", standIn("guess")...)
		a.join(t, s)
		settleAll(t, now, a)
		s.Expire(now.Add(time.Hour))
		settleAll(t, now, a)
		require.Equal(t, version("good"), hostVersion(a), name)
		apply(s, "u", hosts("bad")...)
		settleAll(t, now, a)
		require.Equal(t, version("good"), hostVersion(a), name)
		require.Len(t, s.Pins(), 1, name)
	}
}

// A state-of-the-world client does not say what it has, and a response lists everything. So it gets
// nothing of a type of which one part stands in, and loses nothing by it.
func TestWhatStandsInHoldsUpStateOfTheWorld(t *testing.T) {
	s, _ := stagedStore(t)
	route := res(resource.Route, "http", "x")
	route.Body = resource.Parts{protowire.AppendString(protowire.AppendTag(nil, fieldVhds, protowire.BytesType), "vhds")}
	listener, other := res(resource.Listener, "l", "1"), res(resource.Listener, "other", "1")
	listener.StandIn = true
	apply(s, "u", append(standIn("guess"), route, listener, other)...)
	sub := s.Subscribe(View{}, Mode{StateOfTheWorld: true, Ordered: true})
	defer sub.Close()
	require.NoError(t, sub.Add(resource.Cluster, []string{"*"}, nil))
	require.NoError(t, sub.Add(resource.Endpoint, []string{"c"}, nil))
	require.NoError(t, sub.Add(resource.Listener, []string{"*"}, nil))
	require.NoError(t, sub.Add(resource.Route, []string{"http"}, nil))
	types := func() (out []resource.Type) {
		for range 3 {
			batches, _ := sub.Collect(Settled{Now: time.Unix(1000, 0), Routes: true})
			for _, b := range batches {
				out = append(out, b.Type)
			}
		}
		return out
	}
	require.Equal(t, []resource.Type{resource.Cluster, resource.Endpoint}, types())
	listener.StandIn = false
	apply(s, "u", append(hosts("known"), route, listener, other)...)
	require.Equal(t, []resource.Type{resource.Listener, resource.Route}, types())
}

// A cluster that stands in takes no cluster from who has it, and tells them its endpoints; who comes anew gets it.
func TestClusterThatStandsIn(t *testing.T) {
	now := time.Unix(1000, 0)
	before, _ := stagedStore(t)
	apply(before, "u", hosts("one")...)
	had := newTester(t, before, "had", View{})
	settleAll(t, now, had)
	first := had.has[resource.Cluster]["c"].Version

	s, _ := stagedStore(t)
	cluster := res(resource.Cluster, "c", "none")
	cluster.StandIn, cluster.EDS = true, false
	apply(s, "u", cluster, res(resource.Endpoint, "c", "newer"), res(resource.VirtualHost, "http/h", "one", "c"))
	had.join(t, s)
	anew := newTester(t, s, "anew", View{})
	settleAll(t, now, had, anew)
	require.Equal(t, first, had.has[resource.Cluster]["c"].Version)
	require.Equal(t, version("newer"), had.has[resource.Endpoint]["c"].Version)
	require.NotEqual(t, first, anew.has[resource.Cluster]["c"].Version)
	require.Equal(t, version("one"), hostVersion(anew), "its requests are answered 503")

	apply(s, "u", hosts("one")...)
	settleAll(t, now.Add(3*ClusterGrace), had, anew)
	require.Equal(t, first, had.has[resource.Cluster]["c"].Version)
	require.Equal(t, first, anew.has[resource.Cluster]["c"].Version)

	world := s.Subscribe(View{}, Mode{StateOfTheWorld: true, Ordered: true})
	defer world.Close()
	apply(s, "u", cluster, res(resource.Endpoint, "c", "newer"), res(resource.VirtualHost, "http/h", "one", "c"))
	require.NoError(t, world.Add(resource.Cluster, []string{"*"}, nil))
	batches, _ := world.Collect(Settled{Now: now, Routes: true})
	require.Len(t, batches, 1, "it holds up no others")
}
