package compile_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/test/harness"
)

// startElsewhere starts a server of another host than the proxy's.
func startElsewhere(t *testing.T) netip.AddrPort {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", netip.AddrPortFrom(harness.Addresses(t, 1)[0], 0).String())
	require.NoError(t, err)
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "elsewhere "+r.Host)
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return netip.MustParseAddrPort(listener.Addr().String())
}

// tunnel asks for a tunnel and returns the status, and if it is open the
// answer to a request through it.
func (m *mesh) tunnel(t *testing.T, host string) (status int, body string) {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", m.http)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	_, err = fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", host, host)
	require.NoError(t, err)
	r := bufio.NewReader(conn)
	answer, err := http.ReadResponse(r, &http.Request{Method: http.MethodConnect})
	require.NoError(t, err)
	if answer.StatusCode != http.StatusOK {
		return answer.StatusCode, ""
	}
	_, err = fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: inside\r\nConnection: close\r\n\r\n")
	require.NoError(t, err)
	inner, err := http.ReadResponse(r, nil)
	require.NoError(t, err)
	text, err := io.ReadAll(inner.Body)
	require.NoError(t, err)
	require.NoError(t, inner.Body.Close())
	return answer.StatusCode, string(text)
}

func TestEnvoyGoesAnywhere(t *testing.T) {
	t.Parallel()
	outside := startElsewhere(t).String()
	own := startBackend(t, "own")
	s := pods("php", policy.HTTP1, zone(callerZone, own))
	m := world{services: []*policy.Service{s}, mesh: policy.Mesh{AllowAny: true}}.start(t)
	require.Equal(t, map[string]int{"elsewhere " + outside: 3}, m.count(t, 3, http.MethodGet, outside+"/"))
	require.Equal(t, map[string]int{"own": 3}, m.count(t, 3, http.MethodGet, "php.web/"), "Services are where they were")
	code, body := m.tunnel(t, outside)
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, "elsewhere inside", body)
	require.Equal(t, map[string]int{"503": 1}, m.count(t, 1, http.MethodGet, "nowhere.invalid/"))

	// The proxy's own host is not elsewhere, by whatever name: not what others
	// serve to it, not the proxy's admin interface, not its own listener.
	port := own.port()
	admin := netip.MustParseAddrPort(m.AdminAddress()).Port()
	listener := netip.MustParseAddrPort(m.http).Port()
	before := own.hits.Load()
	for _, p := range []uint16{port, admin, listener} {
		for _, host := range []string{"127.0.0.1", "127.9.9.9", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "localhost", "any.localhost"} {
			at := fmt.Sprintf("%s:%d", host, p)
			require.Contains(t, []int{http.StatusForbidden, http.StatusServiceUnavailable}, m.send(t, http.MethodGet, at+"/").StatusCode, at)
			code, _ := m.tunnel(t, at)
			require.Contains(t, []int{http.StatusForbidden, http.StatusServiceUnavailable}, code, at)
		}
	}
	require.Equal(t, before, own.hits.Load())
	require.Equal(t, http.StatusForbidden, m.send(t, http.MethodGet, fmt.Sprintf("localhost:%d/stats", admin)).StatusCode)
}

func TestEnvoyGoesWhereDeclaredOnly(t *testing.T) {
	t.Parallel()
	outside := startElsewhere(t).String()
	m := world{services: []*policy.Service{pods("php", policy.HTTP1, zone(callerZone, startBackend(t, "own")))}}.start(t)
	a := m.send(t, http.MethodGet, outside+"/")
	require.Equal(t, http.StatusNotFound, a.StatusCode)
	require.Contains(t, a.body, outside)
	for _, host := range []string{outside, "php.web:80"} {
		code, _ := m.tunnel(t, host)
		require.Equal(t, http.StatusNotFound, code, "there are no tunnels to %s", host)
	}
}
