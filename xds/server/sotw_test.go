package server_test

import (
	"context"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/causeway-mesh/causeway/xds/resource"
)

type worldClient struct {
	t      *testing.T
	stream discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesClient
}

func (r *rig) connectWorld(t *testing.T) worldClient {
	t.Helper()
	conn, err := grpc.NewClient(r.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	t.Cleanup(cancel)
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(ctx)
	require.NoError(t, err)
	return worldClient{t, stream}
}

func (c worldClient) ask(t resource.Type, nonce string, names ...string) {
	c.t.Helper()
	require.NoError(c.t, c.stream.Send(&discoveryv3.DiscoveryRequest{
		Node: &corev3.Node{Id: "sidecar~a~w~2", UserAgentName: "envoy"}, TypeUrl: t.URL(), ResponseNonce: nonce, ResourceNames: names,
	}))
}

func (c worldClient) expect(t resource.Type, n int) *discoveryv3.DiscoveryResponse {
	c.t.Helper()
	m, err := c.stream.Recv()
	require.NoError(c.t, err)
	require.Equal(c.t, t.URL(), m.GetTypeUrl())
	require.Len(c.t, m.GetResources(), n)
	return m
}

// A client whose first names do not exist has no response and so no nonce to
// name: its next request is not stale.
func TestWorldNamesChangeBeforeTheFirstResponse(t *testing.T) {
	r := newRig(t)
	r.put("s", simple(resource.Endpoint, "known", "e"))
	c := r.connectWorld(t)
	c.ask(resource.Endpoint, "", "unknown")
	c.ask(resource.Endpoint, "", "known", "unknown")
	c.expect(resource.Endpoint, 1)
}

// Clusters are always all of them, endpoints only what changed, and a stale
// nonce changes nothing.
func TestWorldFullAndPartial(t *testing.T) {
	r := newRig(t)
	put := func(second string) {
		r.put("s", cluster("c1", "1"), cluster("c2", second), simple(resource.Endpoint, "c1", "e"), simple(resource.Endpoint, "c2", "e"+second))
	}
	put("1")
	c := r.connectWorld(t)
	c.ask(resource.Cluster, "")
	m := c.expect(resource.Cluster, 2)
	c.ask(resource.Cluster, m.GetNonce())
	c.ask(resource.Endpoint, "", "c1", "c2")
	m = c.expect(resource.Endpoint, 2)
	c.ask(resource.Endpoint, "999")
	c.ask(resource.Endpoint, m.GetNonce(), "c1", "c2")
	put("2")
	c.expect(resource.Cluster, 2)
	c.expect(resource.Endpoint, 1)
}
