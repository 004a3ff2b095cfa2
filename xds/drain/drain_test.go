package drain

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// envoyAdmin is what this package needs of an Envoy's admin interface, with
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

func run(t *testing.T, a *envoyAdmin, timeout time.Duration) (string, error) {
	t.Helper()
	s := httptest.NewServer(a)
	defer s.Close()
	var out strings.Builder
	err := Run(t.Context(), strings.TrimPrefix(s.URL, "http://"), &out, time.Millisecond, timeout)
	return out.String(), err
}

func TestDrain(t *testing.T) {
	a := &envoyAdmin{open: 2, ends: true}
	out, err := run(t, a, time.Minute)
	require.NoError(t, err)
	require.Equal(t, []string{"POST /healthcheck/fail", "POST /drain_listeners?graceful&skip_exit"}, a.asked)
	require.Contains(t, out, "2 connections are open\n1 connections are open\ndrained")
}

func TestDrainTellsOfConnectionsThatStay(t *testing.T) {
	_, err := run(t, &envoyAdmin{open: 3}, 300*time.Millisecond)
	require.ErrorContains(t, err, "3 connections are still open 300ms after")
}

func TestDrainWithoutAnEnvoy(t *testing.T) {
	err := Run(t.Context(), "127.0.0.1:1", &strings.Builder{}, 0, time.Second)
	require.ErrorContains(t, err, "--admin: no Envoy answers at 127.0.0.1:1")
}

// Those who call the applications are told to go, and nobody else.
func TestInbound(t *testing.T) {
	a := &envoyAdmin{}
	s := httptest.NewServer(a)
	defer s.Close()
	require.NoError(t, Inbound(t.Context(), strings.TrimPrefix(s.URL, "http://")))
	require.Equal(t, []string{"POST /drain_listeners?inboundonly&graceful&skip_exit"}, a.asked)
}
