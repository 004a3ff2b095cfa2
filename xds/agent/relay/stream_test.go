package relay

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/causeway-mesh/causeway/xds/resource"
)

// world is a relay between a control plane of the test's and an Envoy of the test's.
type world struct {
	*Relay
	t       *testing.T
	envoy   discoveryv3.AggregatedDiscoveryServiceClient
	streams sync.WaitGroup // that the relay serves
}

type deltaStream = discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient

// mute is a control plane that accepts streams and says nothing.
func mute(s grpc.ServerStream) error {
	<-s.Context().Done()
	return nil
}

func between(t *testing.T, wait time.Duration, plane func(grpc.ServerStream) error) *world {
	t.Helper()
	serve := func(handle func(any, grpc.ServerStream) error) string {
		l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // of this test
		require.NoError(t, err)
		server := grpc.NewServer(grpc.ForceServerCodecV2(codec{}), grpc.UnknownServiceHandler(handle))
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = server.Serve(l)
		}()
		t.Cleanup(func() {
			server.Stop()
			<-done
		})
		return l.Addr().String()
	}
	w := &world{t: t}
	address := serve(func(_ any, s grpc.ServerStream) error { return plane(s) })
	r, err := New(Options{
		Servers: []string{address}, Credentials: insecure.NewCredentials(), Wait: wait,
		File: filepath.Join(t.TempDir(), "last-good"), Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.conn.Close()) })
	w.Relay = r
	own := serve(func(srv any, s grpc.ServerStream) error {
		w.streams.Add(1)
		defer w.streams.Done()
		return r.handle(srv, s)
	})
	conn, err := grpc.NewClient(own, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	w.envoy = discoveryv3.NewAggregatedDiscoveryServiceClient(conn)
	return w
}

// ask opens a stream with a request for all of a type.
func (w *world) ask(ctx context.Context, t resource.Type, has map[string]string) deltaStream {
	w.t.Helper()
	s, err := w.envoy.DeltaAggregatedResources(ctx)
	require.NoError(w.t, err)
	require.NoError(w.t, s.Send(&discoveryv3.DeltaDiscoveryRequest{Node: node("1.40.0"), TypeUrl: t.URL(), InitialResourceVersions: has}))
	return s
}

// A stream that Envoy ends, ends: nothing of it stays.
func TestStreamsEnd(t *testing.T) {
	t.Parallel()
	opened := make(chan struct{})
	w := between(t, time.Minute, func(s grpc.ServerStream) error {
		opened <- struct{}{}
		return mute(s)
	})
	for range 30 {
		ctx, cancel := context.WithCancel(t.Context())
		w.ask(ctx, resource.Cluster, nil)
		<-opened
		cancel()
	}
	ended := make(chan struct{})
	go func() {
		w.streams.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("streams whose Envoy has gone are still served")
	}
	require.False(t, w.State().Connected)
}

// A control plane that refuses every stream is none, as one that cannot be reached is.
func TestMemoryWhereStreamsAreRefused(t *testing.T) {
	t.Parallel()
	w := between(t, 2*time.Second, func(grpc.ServerStream) error {
		return status.Error(codes.PermissionDenied, "the certificate is too old")
	})
	w.kept = filled()
	for end := time.Now().Add(20 * time.Second); ; {
		answer, err := w.ask(t.Context(), resource.Cluster, nil).Recv()
		if err == nil {
			require.Equal(t, []string{"a", "b"}, names(answer.GetResources()))
			return
		}
		require.Equal(t, codes.PermissionDenied, status.Code(err), "Envoy is told why")
		require.True(t, time.Now().Before(end), "it waits for ever: %v", err)
	}
}

// An Envoy that has clusters and no listeners is not left alone with a control plane that says nothing.
func TestMemoryUntilEnvoyServes(t *testing.T) {
	t.Parallel()
	const wait = 2 * time.Second
	w := between(t, wait, mute)
	w.kept = filled()
	s := w.ask(t.Context(), resource.Cluster, nil)
	_, err := s.Recv()
	require.NoError(t, err)
	got := time.Now()
	_, err = s.Recv() // it warms its clusters and asks nothing
	require.Equal(t, codes.Unavailable, status.Code(err))
	require.GreaterOrEqual(t, time.Since(got), wait-100*time.Millisecond)

	s = w.ask(t.Context(), resource.Cluster, map[string]string{"a": "v-a", "b": "v-b"})
	_, err = s.Recv()
	require.NoError(t, err)
	require.NoError(t, s.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: resource.Listener.URL()}))
	answer, err := s.Recv()
	require.NoError(t, err)
	require.Equal(t, []string{"http"}, names(answer.GetResources()))
	require.NoError(t, s.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: resource.Listener.URL(), ResponseNonce: answer.GetNonce()}))
	_, err = s.Recv()
	require.ErrorContains(t, err, "a control plane is back")
	require.Zero(t, w.patience(false, time.Now()), "it serves, and can wait for ever")
	require.NotZero(t, w.patience(true, time.Now()), "another Envoy cannot")
}
