package server

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
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

// Clients that take large responses and never acknowledge them keep no other
// connection and no other identity waiting.
func TestAdmissionIsFair(t *testing.T) {
	a := newAdmission()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	flood := func(identity string, connections, responses int) {
		for c := range connections {
			p := party{connection: fmt.Sprint(identity, c), identity: identity}
			for range responses {
				queued := make(chan struct{})
				go func() {
					close(queued)
					_, _ = a.acquire(ctx, p, maxResponse) // never released
				}()
				<-queued
			}
		}
	}
	at := func(p party) int64 {
		within, stop := context.WithTimeout(ctx, 10*time.Second)
		defer stop()
		n, err := a.acquire(within, p, maxResponse)
		require.NoError(t, err, "%v waits", p)
		return n
	}
	flood("one", 1, 4000)
	for i := range 8 { // of the same identity, but not that connection
		p := party{connection: fmt.Sprint("new", i), identity: "one"}
		a.release(p, at(p))
	}
	flood("one", 50, 20)
	p := party{connection: "new", identity: "other"}
	a.release(p, at(p))
	a.mu.Lock()
	require.LessOrEqual(t, a.byIdentity["one"], int64(admitPerIdentity))
	require.LessOrEqual(t, a.byConnection["one0"], int64(admitPerConnection))
	a.mu.Unlock()
	flood("two", 50, 20)
	require.Eventually(t, func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.waiting) >= 51+40
	}, 10*time.Second, time.Millisecond)
	cancel()
	require.Eventually(t, func() bool { // those that waited are gone
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.waiting) == 0 && len(a.turns) == 0
	}, 10*time.Second, time.Millisecond)
}

// A released response admits the next in turn, whoever has waited with how many.
func TestAdmissionTakesTurns(t *testing.T) {
	a := newAdmission()
	full := party{connection: "full", identity: "full"}
	var held int64
	for i := range 8 {
		p := party{connection: fmt.Sprint("full", i), identity: fmt.Sprint("full", i)}
		n, err := a.acquire(t.Context(), p, admitBytes)
		require.NoError(t, err)
		held += n
		full = p
	}
	require.Equal(t, int64(admitBytes), held)
	order := make(chan string, 100)
	wait := func(name string) {
		before := func() int {
			a.mu.Lock()
			defer a.mu.Unlock()
			return len(a.waiting[name])
		}
		n := before()
		go func() {
			p := party{connection: name, identity: name}
			got, err := a.acquire(t.Context(), p, admitPerConnection)
			if err == nil {
				order <- name
				a.release(p, got)
			}
		}()
		require.Eventually(t, func() bool { return before() > n }, 10*time.Second, time.Millisecond)
	}
	for range 5 {
		wait("greedy")
	}
	wait("modest")
	a.release(full, admitPerConnection)
	require.Equal(t, "greedy", <-order)
	require.Equal(t, "modest", <-order)
	for range 4 {
		require.Equal(t, "greedy", <-order)
	}
}

// limited serves with limits of its own.
func limited(t *testing.T, l Limits) (s *Server, dial func() discoveryv3.AggregatedDiscoveryServiceClient) {
	t.Helper()
	s = New(snapshot.New(), Options{
		Logger: slog.New(slog.DiscardHandler), Metrics: NewMetrics(prometheus.NewRegistry()), Limits: l,
		Identify: func(n *corev3.Node) (Node, error) { return Node{ID: n.GetId(), Role: resource.Sidecar}, nil },
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it does not wait
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- s.Serve(listener) }()
	t.Cleanup(func() {
		s.Stop()
		require.NoError(t, <-done)
	})
	return s, func() discoveryv3.AggregatedDiscoveryServiceClient {
		conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		return discoveryv3.NewAggregatedDiscoveryServiceClient(conn)
	}
}

func TestStreamsPerIdentity(t *testing.T) {
	s, dial := limited(t, Limits{StreamsPerIdentity: 2})
	open := func() (cancel func(), err error) {
		ctx, cancel := context.WithCancel(t.Context())
		t.Cleanup(cancel)
		stream, err := dial().DeltaAggregatedResources(ctx)
		require.NoError(t, err)
		require.NoError(t, stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: "x"}, TypeUrl: resource.Cluster.URL()}))
		_, err = stream.Recv()
		return cancel, err
	}
	leave, err := open()
	require.NoError(t, err)
	_, err = open()
	require.NoError(t, err)
	_, err = open()
	require.Equal(t, codes.ResourceExhausted, status.Code(err))
	require.ErrorContains(t, err, "address 127.0.0.1 has 2 streams already")
	leave()
	require.Eventually(t, func() bool { return s.Connected() == 1 }, 10*time.Second, time.Millisecond)
	require.Eventually(t, func() bool { _, err := open(); return err == nil }, 10*time.Second, 10*time.Millisecond)
}

// Names cost a stream, a connection and all together no more than their parts,
// and what is over gives its part back.
func TestNamesAreBounded(t *testing.T) {
	s, dial := limited(t, Limits{NameBytesPerStream: 1 << 20, NameBytesPerConnection: 3 << 19, NameBytes: 2 << 20})
	// ask follows a number of names of one KiB each.
	ask := func(c discoveryv3.AggregatedDiscoveryServiceClient, from, n int) (cancel func(), err error) {
		ctx, cancel := context.WithCancel(t.Context())
		t.Cleanup(cancel)
		stream, err := c.DeltaAggregatedResources(ctx)
		require.NoError(t, err)
		names := make([]string, n)
		for i := range names {
			names[i] = fmt.Sprintf("%d-%s", from+i, strings.Repeat("x", 850))
		}
		require.NoError(t, stream.Send(&discoveryv3.DeltaDiscoveryRequest{
			Node: &corev3.Node{Id: "x"}, TypeUrl: resource.Endpoint.URL(), ResourceNamesSubscribe: names,
		}))
		_, err = stream.Recv()
		return cancel, err
	}
	refused := func(err error) {
		t.Helper()
		require.Equal(t, codes.ResourceExhausted, status.Code(err), "%v", err)
	}
	first, second := dial(), dial()
	_, err := ask(first, 0, 1100)
	refused(err)
	leave, err := ask(first, 2000, 900)
	require.NoError(t, err)
	_, err = ask(first, 4000, 900)
	refused(err) // the connection's part
	_, err = ask(second, 6000, 900)
	require.NoError(t, err)
	_, err = ask(dial(), 8000, 900)
	refused(err) // all together
	leave()
	require.Eventually(t, func() bool { return s.Connected() == 1 }, 10*time.Second, time.Millisecond)
	_, err = ask(dial(), 8000, 900)
	require.NoError(t, err)
}
