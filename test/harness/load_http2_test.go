package harness_test

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/test/harness"
)

// secured is a server that speaks HTTP/2 and HTTP/1.1 over TLS, and the
// configuration of its clients.
func secured(t *testing.T, handler http.Handler) (*httptest.Server, *tls.Config) {
	t.Helper()
	ca := harness.NewAuthority(t, "ca")
	s := httptest.NewUnstartedServer(handler)
	s.EnableHTTP2 = true
	s.TLS = &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{ca.Issue(t, harness.CertificateOptions{Hosts: []string{"php.example.com"}}).TLS(t)},
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s, &tls.Config{RootCAs: ca.Pool(), MinVersion: tls.VersionTLS12}
}

func TestLoadOverTLS(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]harness.LoadOptions{
		"HTTP/1.1":             {},
		"HTTP/1.1, always new": {NewConnections: true},
		"HTTP/2":               {HTTP2: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var requests, connections, http2 atomic.Int64
			w := goWorkload(t, "pod")
			s, client := secured(t, http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
				if requests.Add(1); r.ProtoMajor == 2 {
					http2.Add(1)
				}
				w.ServeHTTP(out, r)
			}))
			client.VerifyConnection = func(tls.ConnectionState) error { connections.Add(1); return nil }
			o.URL, o.Host, o.TLS, o.Limit, o.Workers = s.URL, "php.example.com", client, 200, 4
			o.Next = func(n int64) harness.LoadRequest {
				if n%2 == 0 {
					return harness.LoadRequest{}
				}
				return harness.LoadRequest{Method: http.MethodPost, Path: "/post?n=1", Body: []byte("body")}
			}
			r := harness.StartLoad(t, o).Wait()
			r.RequireNoFailures(t)
			require.Equal(t, map[string]int64{"pod": 200}, r.IDs())
			require.EqualValues(t, 200, requests.Load())
			want := int64(4)
			if o.NewConnections {
				want = 200
			}
			require.Equal(t, want, connections.Load())
			require.Equal(t, o.HTTP2, http2.Load() == 200)
		})
	}
}

func TestLoadFailsOnAnotherAuthority(t *testing.T) {
	t.Parallel()
	s, client := secured(t, goWorkload(t, "pod"))
	client.RootCAs = harness.NewAuthority(t, "other").Pool()
	for _, http2 := range []bool{false, true} {
		r := harness.StartLoad(t, harness.LoadOptions{URL: s.URL, Host: "php.example.com", TLS: client, HTTP2: http2, Limit: 2}).Wait()
		require.EqualValues(t, 2, r.Failed, "%s", r)
		require.Contains(t, r.Failures[0].Cause, "connecting")
	}
}

// A server that is about to end sends GOAWAY; no request is lost by it.
func TestLoadFollowsGOAWAY(t *testing.T) {
	t.Parallel()
	w := goWorkload(t, "pod")
	var requests atomic.Int64
	s, client := secured(t, http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		if requests.Add(1)%10 == 0 {
			out.Header().Set("Connection", "close") // net/http makes a GOAWAY of it
		}
		w.ServeHTTP(out, r)
	}))
	r := harness.StartLoad(t, harness.LoadOptions{URL: s.URL, Host: "php.example.com", TLS: client, HTTP2: true, Limit: 200, Workers: 1}).Wait()
	r.RequireNoFailures(t)
	require.Positive(t, r.Reconnects)
}

func TestWebsocket(t *testing.T) {
	t.Parallel()
	w := harness.StartWorkload(t, harness.WorkloadOptions{Kind: harness.GoProcess, ID: "pod"})
	c, err := harness.DialWebsocket(w.Address(), "php.example.com", nil, 10*time.Second)
	require.NoError(t, err)
	defer c.Close()
	require.Equal(t, "pod", c.ID)
	for _, message := range []string{"hello", "again"} {
		answer, err := c.Echo(message)
		require.NoError(t, err)
		require.Equal(t, message, answer)
	}
}
