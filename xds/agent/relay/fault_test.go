package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// watched runs a Relay's watch until the test ends.
func watched(t *testing.T, r *Relay) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var watching sync.WaitGroup
	watching.Go(func() { r.watch(ctx) })
	t.Cleanup(func() {
		cancel()
		watching.Wait()
		require.NoError(t, r.conn.Close())
	})
}

// While no connection comes about, the reason is in the state, and once in the log.
func TestWhyNoConnection(t *testing.T) {
	t.Parallel()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	require.NoError(t, l.Close())
	log := &harness.Log{}
	r, err := New(Options{
		Servers: []string{address}, Credentials: insecure.NewCredentials(), Wait: time.Minute,
		File: filepath.Join(t.TempDir(), "last-good"), Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	require.NoError(t, err)
	watched(t, r)
	r.conn.Connect()
	harness.Eventually(t, 10*time.Second, "the reason", func() error {
		if e := r.State().Error; !strings.Contains(e, "connection refused") || !strings.Contains(e, address) {
			return fmt.Errorf("it says %q", e)
		}
		return nil
	})
	r.failed(status.Error(codes.Unavailable, r.State().Error), true)
	require.Equal(t, 1, strings.Count(log.String(), "no control plane answers"), log.String())

	again, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
	require.NoError(t, err)
	server := grpc.NewServer()
	defer server.Stop()
	go func() { _ = server.Serve(again) }()
	r.conn.ResetConnectBackoff()
	harness.Eventually(t, 10*time.Second, "the end of the reason", func() error {
		if e := r.State().Error; e != "" {
			return errors.New(e)
		}
		return nil
	})
}

// What is wrong with this end's credentials is said first, also where nobody is reached.
func TestWhyNoCredentials(t *testing.T) {
	t.Parallel()
	var wrong atomic.Pointer[error]
	missing := errors.New("--tls-cert: no such file")
	wrong.Store(&missing)
	log := &harness.Log{}
	r, err := New(Options{
		Servers: []string{harness.FreeAddress(t)}, Credentials: insecure.NewCredentials(), Wait: time.Minute,
		Usable: func() error { return *wrong.Load() },
		File:   filepath.Join(t.TempDir(), "last-good"), Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	require.NoError(t, err)
	watched(t, r)
	await := func(want string) {
		t.Helper()
		harness.Eventually(t, 20*time.Second, want, func() error {
			if e := r.State().Error; !strings.Contains(e, want) {
				return fmt.Errorf("it says %q", e)
			}
			return nil
		})
	}
	await("--tls-cert: no such file") // before anybody has tried to connect
	r.conn.Connect()
	require.NotContains(t, log.String(), "connection refused")
	fine := error(nil)
	wrong.Store(&fine)
	await("connection refused")
	require.Equal(t, 1, strings.Count(log.String(), "--tls-cert: no such file"))
}

// A control plane that refuses the proxy says why, and the reason stays until it answers.
func TestWhyNoConfiguration(t *testing.T) {
	t.Parallel()
	w := between(t, time.Minute, func(grpc.ServerStream) error { return status.Error(codes.PermissionDenied, "no client rule admits it") })
	s := w.ask(t.Context(), resource.Cluster, nil)
	_, err := s.Recv()
	require.Equal(t, codes.PermissionDenied, status.Code(err))
	harness.Eventually(t, 10*time.Second, "the reason", func() error {
		if e := w.State().Error; e != "no client rule admits it" {
			return fmt.Errorf("it says %q", e)
		}
		return nil
	})
	w.answered(true)
	require.NotEmpty(t, w.State().Error, "a connection is no answer")
	w.answered(false)
	require.Empty(t, w.State().Error)
}

// What people read is the reason itself.
func TestPlain(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:1: connect: connection refused"`: "dial tcp 127.0.0.1:1: connect: connection refused",
		`connection error: desc = "transport: authentication handshake failed: tls: no certificates"`:                  "authentication handshake failed: tls: no certificates",
		"no client rule admits it": "no client rule admits it",
	} {
		require.Equal(t, want, plain(text))
	}
}

// Reasons that differ in a port of this host's are one.
func TestOwnPort(t *testing.T) {
	t.Parallel()
	log := &harness.Log{}
	r := &Relay{opts: Options{Logger: slog.New(slog.NewTextHandler(log, nil))}}
	for _, port := range []int{40001, 40002} {
		r.failed(status.Errorf(codes.Unavailable, "read tcp 127.0.0.1:%d->127.0.0.1:18000: connection reset by peer", port), true)
	}
	require.Equal(t, 1, strings.Count(log.String(), "no control plane answers"), log.String())
}
