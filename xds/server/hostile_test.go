package server_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	lrsv3 "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/server"
	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// refusal sends one request on a new stream and returns the code that it ends with.
func refusal(t *testing.T, r *rig, request *discoveryv3.DeltaDiscoveryRequest) codes.Code {
	t.Helper()
	conn, err := grpc.NewClient(r.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.Send(request))
	for {
		if _, err := s.Recv(); err != nil {
			return status.Code(err)
		}
	}
}

func TestRefusedClients(t *testing.T) {
	r, other := joined(t)
	many := make([]string, snapshot.MaxNames+1)
	for i := range many {
		many[i] = fmt.Sprint(i)
	}
	node := &corev3.Node{Id: "x"}
	for name, c := range map[string]struct {
		request *discoveryv3.DeltaDiscoveryRequest
		code    codes.Code
	}{
		"no node":        {&discoveryv3.DeltaDiscoveryRequest{TypeUrl: resource.Cluster.URL()}, codes.InvalidArgument},
		"invalid node":   {&discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{}, TypeUrl: resource.Cluster.URL()}, codes.InvalidArgument},
		"too many names": {&discoveryv3.DeltaDiscoveryRequest{Node: node, TypeUrl: resource.Endpoint.URL(), ResourceNamesSubscribe: many}, codes.ResourceExhausted},
		"a name too long": {&discoveryv3.DeltaDiscoveryRequest{
			Node: node, TypeUrl: resource.Endpoint.URL(), ResourceNamesSubscribe: []string{strings.Repeat("x", snapshot.MaxNameLength+1)},
		}, codes.ResourceExhausted},
		"a request too large": {&discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: strings.Repeat("x", 17<<20)}}, codes.ResourceExhausted},
	} {
		require.Equal(t, c.code, refusal(t, r, c.request), name)
	}
	other.quiet(r)
}

// An unknown type, nonces that nobody gave and changes of mind disturb nothing.
func TestOddRequests(t *testing.T) {
	r, c := joined(t)
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: "type.googleapis.com/envoy.service.runtime.v3.Runtime"})
	for _, nonce := range []string{"garbage", "999999", "-1", "18446744073709551616", strings.Repeat("9", 1000)} {
		c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: resource.Cluster.URL(), ResponseNonce: nonce})
	}
	for range 1000 {
		c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: resource.Endpoint.URL(), ResourceNamesSubscribe: []string{"never"}})
		c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: resource.Endpoint.URL(), ResourceNamesUnsubscribe: []string{"never"}})
	}
	c.subscribe(resource.Endpoint, "c1")
	for {
		m := c.next()
		c.ack(m)
		if len(m.GetResources()) == 1 && m.GetResources()[0].GetName() == "c1" {
			break
		}
		require.Equal(t, []string{"never"}, m.GetRemovedResources())
	}
	c.quiet(r)
}

// One that reads and never acknowledges is served on and remembered within bounds.
func TestClientThatNeverAcknowledges(t *testing.T) {
	r := newRig(t)
	c := r.connect(t)
	c.subscribe(resource.Endpoint, "*")
	for i := range 600 {
		r.put("s", simple(resource.Endpoint, "e", fmt.Sprint(i)))
		c.next()
	}
	require.False(t, r.server.Proxies()[0].InSync)
}

// Idle streams cost little, and their memory comes back.
func TestIdleStreams(t *testing.T) {
	const streams = 300
	r := newRig(t)
	r.put("s", cluster("c1", "v"))
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapInuse + m.StackInuse) //nolint:gosec // far below
	}
	before := heap()
	var conns []*grpc.ClientConn
	for i := range streams {
		if i%server.DefaultStreamsPerConnection == 0 {
			conn, err := grpc.NewClient(r.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
			require.NoError(t, err)
			conns = append(conns, conn)
		}
		conn := conns[len(conns)-1]
		s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(t.Context())
		require.NoError(t, err)
		require.NoError(t, s.Send(&discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: fmt.Sprint(i)}, TypeUrl: resource.Cluster.URL()}))
		_, err = s.Recv()
		require.NoError(t, err)
	}
	require.Equal(t, streams, r.server.Connected())
	each := (heap() - before) / streams
	require.Less(t, each, int64(120<<10), "bytes for both ends of a stream") // the race detector doubles it
	for _, conn := range conns {
		require.NoError(t, conn.Close())
	}
	require.Eventually(t, func() bool { return r.server.Connected() == 0 }, 10*time.Second, 10*time.Millisecond)
}

// Load reports are taken from nodes that say who they are.
func TestLoadReports(t *testing.T) {
	r := newRig(t)
	conn, err := grpc.NewClient(r.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	s, err := lrsv3.NewLoadReportingServiceClient(conn).StreamLoadStats(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.Send(&lrsv3.LoadStatsRequest{Node: &corev3.Node{Id: "x"}}))
	m, err := s.Recv()
	require.NoError(t, err)
	require.True(t, m.GetSendAllClusters())
	s, err = lrsv3.NewLoadReportingServiceClient(conn).StreamLoadStats(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.Send(&lrsv3.LoadStatsRequest{}))
	_, err = s.Recv()
	require.Equal(t, codes.InvalidArgument, status.Code(err))
}
