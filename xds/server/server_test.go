package server_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/server"
	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// rig is a real server over loopback.
type rig struct {
	store   *snapshot.Store
	server  *server.Server
	address string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{store: snapshot.New()}
	r.server = server.New(r.store, server.Options{
		Logger: slog.New(slog.DiscardHandler), Metrics: server.NewMetrics(prometheus.NewRegistry()),
		Identify: func(n *corev3.Node) (server.Node, error) {
			if n.GetId() == "" {
				return server.Node{}, fmt.Errorf("no id")
			}
			return server.Node{
				ID: n.GetId(), Role: resource.Sidecar, Namespace: "a", Zone: n.GetLocality().GetZone(),
				Envoy: n.GetUserAgentName() == "envoy",
			}, nil
		},
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r.address = l.Addr().String()
	done := make(chan error, 1)
	go func() { done <- r.server.Serve(l) }()
	t.Cleanup(func() {
		r.server.Stop()
		require.NoError(t, <-done)
	})
	return r
}

// put makes the unit's resources these.
func (r *rig) put(unit string, resources ...resource.Resource) {
	r.store.Apply(time.Now(), []snapshot.Update{{Unit: unit, Resources: resources}})
}

func cluster(name, content string, needs ...string) resource.Resource {
	body, err := proto.Marshal(&clusterv3.Cluster{Name: name, AltStatName: content})
	if err != nil {
		panic(err)
	}
	return resource.Resource{Type: resource.Cluster, Name: name, Body: resource.Parts{body}, EDS: len(needs) == 0, Needs: needs}
}

func simple(t resource.Type, name, content string, needs ...string) resource.Resource {
	return resource.Resource{Type: t, Name: name, Body: resource.Parts{[]byte{0x0a, byte(len(content))}, []byte(content)}, Needs: needs}
}

// client speaks raw incremental ADS.
type client struct {
	t      *testing.T
	stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	node   *corev3.Node
	got    chan *discoveryv3.DeltaDiscoveryResponse
}

func (r *rig) connect(t *testing.T) *client {
	t.Helper()
	conn, err := grpc.NewClient(r.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	require.NoError(t, err)
	c := &client{
		t: t, stream: stream, got: make(chan *discoveryv3.DeltaDiscoveryResponse, 1000),
		node: &corev3.Node{Id: "sidecar~a~w~1", UserAgentName: "envoy"},
	}
	go func() {
		defer close(c.got)
		for {
			m, err := stream.Recv()
			if err != nil {
				return
			}
			c.got <- m
		}
	}()
	return c
}

func (c *client) send(r *discoveryv3.DeltaDiscoveryRequest) {
	c.t.Helper()
	r.Node, c.node = c.node, nil
	require.NoError(c.t, c.stream.Send(r))
}

func (c *client) subscribe(t resource.Type, names ...string) {
	c.t.Helper()
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: t.URL(), ResourceNamesSubscribe: names})
}

// next waits for a response and does not acknowledge it.
func (c *client) next() *discoveryv3.DeltaDiscoveryResponse {
	c.t.Helper()
	select {
	case m, ok := <-c.got:
		require.True(c.t, ok, "the stream ended")
		return m
	case <-time.After(5 * time.Second):
		require.Fail(c.t, "waited 5 s for a response")
		return nil
	}
}

// expect waits for a response of a type with these resources and acknowledges it.
func (c *client) expect(t resource.Type, added, removed []string) *discoveryv3.DeltaDiscoveryResponse {
	c.t.Helper()
	m := c.next()
	require.Equal(c.t, t.URL(), m.GetTypeUrl())
	require.Equal(c.t, added, names(m))
	require.Equal(c.t, removed, m.GetRemovedResources())
	c.ack(m)
	return m
}

func names(m *discoveryv3.DeltaDiscoveryResponse) []string {
	var out []string
	for _, r := range m.GetResources() {
		out = append(out, r.GetName())
	}
	slices.Sort(out)
	return out
}

func (c *client) ack(m *discoveryv3.DeltaDiscoveryResponse) {
	c.t.Helper()
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: m.GetTypeUrl(), ResponseNonce: m.GetNonce()})
}

func (c *client) nack(m *discoveryv3.DeltaDiscoveryResponse, text string) {
	c.t.Helper()
	c.send(&discoveryv3.DeltaDiscoveryRequest{
		TypeUrl: m.GetTypeUrl(), ResponseNonce: m.GetNonce(), ErrorDetail: &rpcstatus.Status{Code: 3, Message: text},
	})
}

// quiet asserts that nothing more comes: a marker that is sent after all else
// is the next thing to arrive.
func (c *client) quiet(r *rig) {
	c.t.Helper()
	marker := fmt.Sprintf("marker-%d", time.Now().UnixNano())
	r.put(marker, simple(resource.Listener, marker, "x"))
	m := c.next()
	require.Equal(c.t, resource.Listener.URL(), m.GetTypeUrl(), "%v", m)
	require.Equal(c.t, []string{marker}, names(m))
	c.ack(m)
}

// joined returns a client that follows everything, with one Service's resources.
func joined(t *testing.T) (*rig, *client) {
	t.Helper()
	r := newRig(t)
	r.put("s", cluster("c1", "v1"), simple(resource.Endpoint, "c1", "e1"), simple(resource.Route, "http", "r"),
		simple(resource.VirtualHost, "http/h1", "h1", "c1"))
	c := r.connect(t)
	c.subscribe(resource.Cluster)
	c.expect(resource.Cluster, []string{"c1"}, nil)
	c.subscribe(resource.Endpoint, "c1")
	c.expect(resource.Endpoint, []string{"c1"}, nil)
	c.subscribe(resource.Listener)
	c.expect(resource.Listener, nil, nil)
	c.subscribe(resource.Route, "http")
	c.expect(resource.Route, []string{"http"}, nil)
	c.subscribe(resource.VirtualHost)
	c.expect(resource.VirtualHost, []string{"http/h1"}, nil)
	return r, c
}

// What is sent is a valid DeltaDiscoveryResponse whose resources decode to what was stored.
func TestFramesDecode(t *testing.T) {
	r := newRig(t)
	r.put("s", cluster("c1", "hello"))
	c := r.connect(t)
	c.subscribe(resource.Cluster)
	m := c.expect(resource.Cluster, []string{"c1"}, nil)
	var got clusterv3.Cluster
	require.NoError(t, m.GetResources()[0].GetResource().UnmarshalTo(&got))
	require.Equal(t, "hello", got.GetAltStatName())
	require.NotEmpty(t, m.GetResources()[0].GetVersion())
	require.NotEmpty(t, m.GetNonce())
}

func TestOnlyTheChangedResourceIsSent(t *testing.T) {
	r, c := joined(t)
	r.put("s2", cluster("c2", "v1"), simple(resource.Endpoint, "c2", "e"))
	c.expect(resource.Cluster, []string{"c2"}, nil)
	c.subscribe(resource.Endpoint, "c2")
	c.expect(resource.Endpoint, []string{"c2"}, nil)
	r.put("s2", cluster("c2", "v1"), simple(resource.Endpoint, "c2", "changed"))
	c.expect(resource.Endpoint, []string{"c2"}, nil)
	c.quiet(r)
}

// envoy#13009, go-control-plane#245: an updated cluster warms for ever unless
// its endpoints are sent again, though they did not change and though Envoy
// does not ask for them.
func TestUpdatedClusterGetsItsEndpointsAgain(t *testing.T) {
	r, c := joined(t)
	r.put("s", cluster("c1", "v2"), simple(resource.Endpoint, "c1", "e1"), simple(resource.Route, "http", "r"),
		simple(resource.VirtualHost, "http/h1", "h1", "c1"))
	c.expect(resource.Cluster, []string{"c1"}, nil)
	c.expect(resource.Endpoint, []string{"c1"}, nil)
	c.quiet(r)
}

// Make before break: a route waits for its cluster and the cluster's endpoints.
func TestRouteWaitsForClusterAndEndpoints(t *testing.T) {
	r, c := joined(t)
	r.put("s2", cluster("c2", "v1"), simple(resource.Endpoint, "c2", "e"), simple(resource.VirtualHost, "http/h2", "x", "c2"))
	c.expect(resource.Cluster, []string{"c2"}, nil)
	c.quiet(r) // the virtual host does not come before the endpoints are asked for
	c.subscribe(resource.Endpoint, "c2")
	c.expect(resource.Endpoint, []string{"c2"}, nil)
	c.expect(resource.VirtualHost, []string{"http/h2"}, nil)
}

// Break after make: a cluster goes only once no route that this proxy has
// accepted names it.
func TestClusterIsRemovedAfterItsRoutes(t *testing.T) {
	r, c := joined(t)
	r.put("s")
	m := c.next()
	require.Equal(t, resource.Route.URL(), m.GetTypeUrl())
	c.ack(m)
	m = c.next()
	require.Equal(t, resource.VirtualHost.URL(), m.GetTypeUrl())
	require.Equal(t, []string{"http/h1"}, m.GetRemovedResources())
	select {
	case early := <-c.got:
		require.Fail(t, "sent before the routes were acknowledged", "%v", early)
	case <-time.After(200 * time.Millisecond):
	}
	c.ack(m)
	acknowledged := time.Now()
	select {
	case m = <-c.got:
	case <-time.After(snapshot.ClusterGrace + 5*time.Second):
		require.Fail(t, "the cluster never went")
	}
	require.Equal(t, resource.Cluster.URL(), m.GetTypeUrl())
	require.Equal(t, []string{"c1"}, m.GetRemovedResources())
	require.GreaterOrEqual(t, time.Since(acknowledged), snapshot.ClusterGrace-100*time.Millisecond)
	c.ack(m)
	c.expect(resource.Endpoint, nil, []string{"c1"})
}

// A client that reconnects and says what it has is sent what differs: nothing.
func TestReconnectResendsNothing(t *testing.T) {
	r, first := joined(t)
	versions := make(map[resource.Type]map[string]string)
	for _, i := range r.store.Resources(snapshot.View{Role: resource.Sidecar, Namespace: "a"}) {
		if versions[i.Type] == nil {
			versions[i.Type] = make(map[string]string)
		}
		versions[i.Type][i.Name] = i.Version
	}
	require.NoError(t, first.stream.CloseSend())
	c := r.connect(t)
	again := func(t resource.Type, names ...string) {
		c.send(&discoveryv3.DeltaDiscoveryRequest{
			TypeUrl: t.URL(), ResourceNamesSubscribe: names, InitialResourceVersions: versions[t],
		})
	}
	again(resource.Cluster)
	again(resource.Endpoint, "c1")
	again(resource.Route, "http")
	again(resource.VirtualHost)
	c.subscribe(resource.Listener)
	c.expect(resource.Listener, nil, nil)
	c.quiet(r)
}

// After a reconnect as well, a cluster that changed meanwhile gets its
// endpoints though the client has them (envoy#33607).
func TestReconnectWithChangedClusterResendsItsEndpoints(t *testing.T) {
	r, _ := joined(t)
	var eds string
	for _, i := range r.store.Resources(snapshot.View{Role: resource.Sidecar, Namespace: "a"}) {
		if i.Type == resource.Endpoint {
			eds = i.Version
		}
	}
	c := r.connect(t)
	c.send(&discoveryv3.DeltaDiscoveryRequest{
		TypeUrl: resource.Cluster.URL(), InitialResourceVersions: map[string]string{"c1": "old", "gone": "x"},
	})
	c.expect(resource.Cluster, []string{"c1"}, nil)
	c.send(&discoveryv3.DeltaDiscoveryRequest{
		TypeUrl: resource.Endpoint.URL(), ResourceNamesSubscribe: []string{"c1"}, InitialResourceVersions: map[string]string{"c1": eds},
	})
	c.expect(resource.Endpoint, []string{"c1"}, nil)
}

// envoy#9934: what exists is answered, and what does not is named.
func TestUnknownNamesDoNotWithholdTheAnswer(t *testing.T) {
	r := newRig(t)
	r.put("s", simple(resource.Endpoint, "known", "e"))
	c := r.connect(t)
	c.subscribe(resource.Endpoint, "known", "unknown")
	c.expect(resource.Endpoint, []string{"known"}, []string{"unknown"})
	r.put("s2", simple(resource.Endpoint, "unknown", "e"))
	c.expect(resource.Endpoint, []string{"unknown"}, nil)
}

// The first request for everything is answered even when there is nothing.
func TestEmptyMeshIsAnswered(t *testing.T) {
	r := newRig(t)
	c := r.connect(t)
	c.subscribe(resource.Cluster)
	c.expect(resource.Cluster, nil, nil)
	c.subscribe(resource.Listener, "*")
	c.expect(resource.Listener, nil, nil)
	r.put("mesh", simple(resource.Route, "http", "r"))
	c.subscribe(resource.Route, "http")
	c.expect(resource.Route, []string{"http"}, nil)
	c.subscribe(resource.VirtualHost)
	// Envoy 1.40 takes a response without any name for no answer at all.
	c.expect(resource.VirtualHost, nil, []string{"http/none"})
}

// go-control-plane#1299, #1301, #1498: subscribing again after unsubscribing sends again.
func TestResubscribeResends(t *testing.T) {
	r, c := joined(t)
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: resource.Endpoint.URL(), ResourceNamesUnsubscribe: []string{"c1"}})
	c.subscribe(resource.Endpoint, "barrier") // requests are handled in order
	c.expect(resource.Endpoint, nil, []string{"barrier"})
	r.put("s", cluster("c1", "v1"), simple(resource.Endpoint, "c1", "e2"), simple(resource.Route, "http", "r"),
		simple(resource.VirtualHost, "http/h1", "h1", "c1"))
	c.quiet(r)
	c.subscribe(resource.Endpoint, "c1")
	c.expect(resource.Endpoint, []string{"c1"}, nil)
}

// go-control-plane#1323: leaving "*" keeps what was asked for by name.
func TestUnsubscribeFromAllKeepsNames(t *testing.T) {
	r := newRig(t)
	r.put("s", simple(resource.Endpoint, "e1", "1"), simple(resource.Endpoint, "e2", "1"))
	c := r.connect(t)
	c.subscribe(resource.Endpoint, "*", "e1")
	c.expect(resource.Endpoint, []string{"e1", "e2"}, nil)
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: resource.Endpoint.URL(), ResourceNamesUnsubscribe: []string{"*"}})
	c.subscribe(resource.Listener)
	c.expect(resource.Listener, nil, nil)
	r.put("s", simple(resource.Endpoint, "e1", "2"), simple(resource.Endpoint, "e2", "2"))
	c.expect(resource.Endpoint, []string{"e1"}, nil)
}

// A rejection is remembered with the proxy's text, is not retried until the
// resource changes, and ends with the next acceptance.
func TestRejection(t *testing.T) {
	r, c := joined(t)
	host := func(content string) {
		r.put("s", cluster("c1", "v1"), simple(resource.Endpoint, "c1", "e1"), simple(resource.Route, "http", "r"),
			simple(resource.VirtualHost, "http/h1", content, "c1"))
	}
	host("bad")
	m := c.next()
	c.nack(m, "no such thing")
	require.Eventually(t, func() bool {
		p := r.server.Proxies()[0]
		last := p.Types[len(p.Types)-1]
		return last.Error == "no such thing" && slices.Equal(last.Rejected, []string{"http/h1"}) && !p.InSync
	}, 5*time.Second, 5*time.Millisecond)
	c.quiet(r)
	host("good")
	c.expect(resource.VirtualHost, []string{"http/h1"}, nil)
	require.Eventually(t, func() bool { return r.server.Proxies()[0].InSync }, 5*time.Second, 5*time.Millisecond)
}

// A route that a proxy has rejected still serves its last good version, which
// may name a cluster: the cluster stays.
func TestRejectedRouteKeepsClusters(t *testing.T) {
	r, c := joined(t)
	r.put("s2", cluster("c2", "v1"), simple(resource.Endpoint, "c2", "e"))
	c.expect(resource.Cluster, []string{"c2"}, nil)
	c.subscribe(resource.Endpoint, "c2")
	c.expect(resource.Endpoint, []string{"c2"}, nil)
	r.put("s", simple(resource.Route, "http", "r"), simple(resource.VirtualHost, "http/h1", "bad", "c2"))
	m := c.next()
	require.Equal(t, []string{"http/h1"}, names(m))
	c.nack(m, "bad")
	select {
	case m := <-c.got:
		require.Fail(t, "sent while a route stands rejected", "%v", m)
	case <-time.After(snapshot.ClusterGrace + time.Second):
	}
}

// One that stops reading holds up nobody, and what it misses is merged.
func TestStalledClientHoldsUpNobody(t *testing.T) {
	r, c := joined(t)
	stalled, err := grpc.NewClient(r.address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithInitialWindowSize(1<<16), grpc.WithInitialConnWindowSize(1<<16))
	require.NoError(t, err)
	defer stalled.Close()
	s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(stalled).DeltaAggregatedResources(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.Send(&discoveryv3.DeltaDiscoveryRequest{
		Node: &corev3.Node{Id: "stalled"}, TypeUrl: resource.Endpoint.URL(), ResourceNamesSubscribe: []string{"*"},
	}))
	big := make([]byte, 100_000)
	for i := range 200 {
		big[0] = byte(i)
		r.put("big", resource.Resource{Type: resource.Endpoint, Name: "big", Body: resource.Parts{slices.Clone(big)}})
		if i%20 == 0 {
			c.quiet(r)
		}
	}
	c.quiet(r)
}
