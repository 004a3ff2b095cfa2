package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// follow opens a stream that asks for all clusters of a server, of two megabytes each.
func follow(t *testing.T, o Options) (s *Server, stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient) {
	t.Helper()
	store := snapshot.New()
	var clusters []resource.Resource // each is a response of its own
	for _, name := range []string{"a", "b", "c"} {
		clusters = append(clusters, resource.Resource{Type: resource.Cluster, Name: name, Body: resource.Parts{[]byte(strings.Repeat("x", 2<<20))}})
	}
	store.Apply(time.Time{}, []snapshot.Update{{Unit: "u", Resources: clusters}})
	o.Logger, o.Metrics = slog.New(slog.DiscardHandler), NewMetrics(prometheus.NewRegistry())
	o.Identify = func(n *corev3.Node) (Node, error) { return Node{ID: n.GetId(), Role: resource.Sidecar}, nil }
	connect := o.Connect
	o.Connect = func(ctx context.Context, n *Node) (func(), error) {
		if connect != nil {
			return connect(ctx, n)
		}
		return func() {}, nil
	}
	s = New(store, o)
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it does not wait
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- s.Serve(listener) }()
	t.Cleanup(func() {
		s.Stop()
		require.NoError(t, <-done)
	})
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	stream, err = discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(t.Context())
	require.NoError(t, err)
	require.NoError(t, stream.Send(&discoveryv3.DeltaDiscoveryRequest{
		Node: &corev3.Node{Id: "a"}, TypeUrl: resource.Cluster.URL(), ResourceNamesSubscribe: []string{"*"},
	}))
	return s, stream
}

// A client that reads nothing is cut off all the same.
func TestReauthorizeWhoDoesNotRead(t *testing.T) {
	t.Parallel()
	var left atomic.Bool
	gone := make(chan struct{})
	s, _ := follow(t, Options{
		Authorize: func(context.Context, *Node) error {
			if left.Load() {
				return errors.New("no rule allows it")
			}
			return nil
		},
		Connect: func(context.Context, *Node) (func(), error) { return func() { close(gone) }, nil },
	})
	require.Eventually(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, st := range s.streams {
			st.mu.Lock()
			defer st.mu.Unlock()
			return time.Since(st.sending) < time.Minute && time.Since(st.sending) > 100*time.Millisecond // it is stuck
		}
		return false
	}, 10*time.Second, time.Millisecond)
	left.Store(true)
	s.Reauthorize()
	select {
	case <-gone:
	case <-time.After(10 * time.Second):
		t.Fatal("the stream stays for as long as its client reads nothing")
	}
	require.Eventually(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.streams)+len(s.identities)+len(s.connections) == 0
	}, 10*time.Second, time.Millisecond)
}

// Rules that change while a proxy is let in count for it too.
func TestReauthorizeWhoIsComing(t *testing.T) {
	t.Parallel()
	var s *Server
	var left atomic.Bool
	serving := make(chan struct{})
	s, stream := follow(t, Options{
		Authorize: func(context.Context, *Node) error {
			if left.Load() {
				return errors.New("no rule allows it")
			}
			return nil
		},
		Connect: func(context.Context, *Node) (func(), error) {
			<-serving
			left.Store(true)
			s.Reauthorize()
			return func() {}, nil
		},
	})
	close(serving)
	for {
		_, err := stream.Recv()
		if err == nil {
			continue
		}
		require.Equal(t, codes.PermissionDenied, status.Code(err), err)
		break
	}
}
