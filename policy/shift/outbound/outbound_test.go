package outbound

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	for address, refused := range map[string]bool{
		"10.1.2.3:9090":                   false,
		"172.16.0.1:80":                   false,
		"192.168.1.1:80":                  false,
		"100.64.0.1:443":                  false,
		"203.0.113.7:443":                 false,
		"[2001:db8::1]:443":               false,
		"[fd12:3456::1]:443":              false, // an IPv6 cluster's own
		"[64:ff9b::203.0.113.7]:443":      false,
		"127.0.0.1:80":                    true,
		"127.8.9.10:80":                   true,
		"[::1]:80":                        true,
		"[::ffff:127.0.0.1]:80":           true,
		"[64:ff9b::127.0.0.1]:80":         true,
		"0.0.0.0:80":                      true,
		"0.1.2.3:80":                      true,
		"[::]:80":                         true,
		"169.254.169.254:80":              true, // EC2 instance metadata
		"169.254.170.2:80":                true, // ECS task credentials
		"[::ffff:169.254.169.254]:80":     true,
		"[::ffff:0.1.2.3]:80":             true,
		"[::ffff:255.255.255.255]:80":     true,
		"[64:ff9b::169.254.169.254]:80":   true,
		"[64:ff9b:1::169.254.169.254]:80": true,
		"[fd00:ec2::254]:80":              true,
		"[fd00:ec2::23]:80":               true, // EKS Pod Identity
		"[fe80::1%eth0]:80":               true,
		"224.0.0.1:80":                    true,
		"255.255.255.255:80":              true,
		"[ff02::1]:80":                    true,
		"prometheus.monitoring:9090":      true, // not resolved: never seen by the guard
	} {
		err := check(address, Options{})
		require.Equal(t, refused, err != nil, "%s: %v", address, err)
		loopback := strings.Contains(address, "127.") || strings.HasPrefix(address, "[::1]")
		require.Equal(t, refused && !loopback, check(address, Options{AllowLoopback: true}) != nil, address)
	}
}

// A name that resolves to a refused address is refused like the address.
func TestRefusedWhenDialed(t *testing.T) {
	t.Parallel()
	reached := make(chan struct{}, 8)
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached <- struct{}{} }))
	defer server.Close()
	client := NewClient(Options{})
	for _, address := range []string{server.URL, strings.Replace(server.URL, "127.0.0.1", "localhost", 1), strings.Replace(server.URL, "127.0.0.1", "0x7f.1", 1)} {
		_, err := Do(client, request(t, t.Context(), address), 10)
		require.Error(t, err, address)
		require.NotContains(t, err.Error(), "http://")
	}
	_, err := Do(client, request(t, t.Context(), server.URL), 10)
	var refused *RefusedError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, "127.0.0.1 is an address of the control plane itself, which the control plane does not connect to: name a host of the network", refused.Error())
	require.Empty(t, reached)

	answer, err := Do(NewClient(Options{AllowLoopback: true}), request(t, t.Context(), server.URL), 10)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, answer.Status)
}

func TestDo(t *testing.T) {
	t.Parallel()
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	defer elsewhere.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/redirect":
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		case "/long":
			_, _ = io.WriteString(w, strings.Repeat("x", 2049))
		case "/short":
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "x")
		case "/hang":
			<-r.Context().Done()
		}
	}))
	defer server.Close()
	client := NewClient(Options{AllowLoopback: true})

	answer, err := Do(client, request(t, t.Context(), server.URL+"/redirect"), 2048)
	require.NoError(t, err)
	require.Equal(t, http.StatusTemporaryRedirect, answer.Status)
	_, err = Do(client, request(t, t.Context(), server.URL+"/long"), 2048)
	require.EqualError(t, err, "the answer is longer than 2 KiB")
	_, err = Do(client, request(t, t.Context(), server.URL+"/short"), 2048)
	require.ErrorContains(t, err, "the answer breaks off")

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = Do(client, request(t, ctx, server.URL+"/hang?secret"), 2048)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotContains(t, err.Error(), "secret")
}

// A certificate that nobody vouches for ends the connection before anything is said.
func TestCertificatesAreVerified(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request arrived") }))
	defer server.Close()
	server.Config.ErrorLog = nil
	_, err := Do(NewClient(Options{AllowLoopback: true}), request(t, t.Context(), server.URL), 10)
	require.ErrorContains(t, err, "certificate")
}

func request(t *testing.T, ctx context.Context, address string) *http.Request { //nolint:revive // t first, as in every test here
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	require.NoError(t, err)
	return r
}
