package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// envoyAdmin is what `causeway drain` needs of an Envoy's admin interface, with
// connections that end one by one as they are asked for.
type envoyAdmin struct {
	mu    sync.Mutex
	open  int
	ends  bool
	asked []string
}

func (a *envoyAdmin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch r.URL.Path {
	case "/listeners":
		_, _ = w.Write([]byte(`{"listener_statuses": [
			{"name": "gateway/::=web/edge:443", "local_address": {"socket_address": {"address": "::", "port_value": 443}}},
			{"name": "health", "local_address": {"socket_address": {"address": "0.0.0.0", "port_value": 8081}}},
			{"name": "shadow/web/php:80/pods", "local_address": {"envoy_internal_address": {}}}]}`))
	case "/stats":
		// A load balancer's own check does not count, nor does another port.
		_, _ = fmt.Fprintf(w, `{"stats": [{"name": "listener.[__]_443.downstream_cx_active", "value": %d},
			{"name": "listener.0.0.0.0_8081.downstream_cx_active", "value": 1}, {"name": "listener.admin.downstream_cx_active", "value": 1}]}`, a.open)
		if a.ends {
			a.open--
		}
	default:
		a.asked = append(a.asked, r.Method+" "+r.URL.RequestURI())
	}
}

func runDrain(t *testing.T, a *envoyAdmin, args ...string) (string, error) {
	t.Helper()
	s := httptest.NewServer(a)
	defer s.Close()
	var out strings.Builder
	c := drainCommand()
	c.SetOut(&out)
	c.SetErr(&out)
	c.SetArgs(append([]string{"--admin", strings.TrimPrefix(s.URL, "http://"), "--wait", "1ms"}, args...))
	err := c.ExecuteContext(t.Context())
	return out.String(), err
}

func TestDrain(t *testing.T) {
	a := &envoyAdmin{open: 2, ends: true}
	out, err := runDrain(t, a)
	require.NoError(t, err)
	require.Equal(t, []string{"POST /healthcheck/fail", "POST /drain_listeners?graceful&skip_exit"}, a.asked)
	require.Contains(t, out, "2 connections are open\n1 connections are open\ndrained")
}

func TestDrainTellsOfConnectionsThatStay(t *testing.T) {
	_, err := runDrain(t, &envoyAdmin{open: 3}, "--timeout", "300ms")
	require.ErrorContains(t, err, "3 connections are still open 300ms after")
}

func TestDrainTellsOfMistakes(t *testing.T) {
	_, err := runDrain(t, &envoyAdmin{}, "--wait", "-1s")
	require.ErrorContains(t, err, "--wait")
	c := drainCommand()
	c.SetArgs([]string{"--admin", "127.0.0.1:1"})
	require.ErrorContains(t, c.ExecuteContext(t.Context()), "--admin: no Envoy answers at 127.0.0.1:1")
}

// In a Pod the signal that ends the container begins the drain.
func TestDrainOnSignal(t *testing.T) {
	a := &envoyAdmin{open: 1, ends: true}
	s := httptest.NewServer(a)
	defer s.Close()
	ctx, signal := context.WithCancel(t.Context())
	c := drainCommand()
	c.SetOut(&strings.Builder{})
	c.SetArgs([]string{"--admin", strings.TrimPrefix(s.URL, "http://"), "--wait", "1ms", "--on-signal"})
	done := make(chan error, 1)
	go func() { done <- c.ExecuteContext(ctx) }()
	signal()
	require.NoError(t, <-done)
	require.Len(t, a.asked, 2)
}
