package health

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/fcgi"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestURLs(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"http://127.0.0.1/healthz", "https://a:1", "tcp://127.0.0.1:3306", "tcp://[::1]:1/", "fastcgi://127.0.0.1:9000/ping", "fastcgi:///run/a.sock", "fastcgi:///run/a.sock?/p"} {
		_, err := New(good, nil)
		require.NoError(t, err, good)
	}
	for _, bad := range []string{"", "x", "127.0.0.1:80", "http:///a", "tcp://127.0.0.1", "tcp://127.0.0.1:1/a", "fastcgi://127.0.0.1:9000", "fastcgi://127.0.0.1/ping", "fastcgi://", "udp://a:1", "http://a b/"} {
		_, err := New(bad, nil)
		require.ErrorContains(t, err, "--application-health: ", bad)
	}
}

// The first good result counts at once, and after that two of a kind in a row.
func TestThresholds(t *testing.T) {
	t.Parallel()
	bad := errors.New("bad")
	for _, c := range []struct {
		results []error
		want    State
	}{
		{nil, State{}},
		{[]error{nil}, State{Known: true, Healthy: true}},
		{[]error{bad}, State{}},
		{[]error{bad, nil}, State{Known: true, Healthy: true}},
		{[]error{bad, bad}, State{Known: true, Reason: "bad"}},
		{[]error{nil, bad}, State{Known: true, Healthy: true}},
		{[]error{nil, bad, nil, bad}, State{Known: true, Healthy: true}},
		{[]error{nil, bad, bad}, State{Known: true, Reason: "bad"}},
		{[]error{bad, bad, nil}, State{Known: true, Reason: "bad"}},
		{[]error{bad, bad, nil, nil}, State{Known: true, Healthy: true}},
	} {
		k := &Checker{}
		for _, r := range c.results {
			k.add(r)
		}
		require.Equal(t, c.want, k.State(), "%v", c.results)
	}
}

func check(t *testing.T, u string) error {
	t.Helper()
	c, err := New(u, nil)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	return c.check(ctx)
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	answer := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(answer) }))
	require.NoError(t, check(t, server.URL))
	require.NoError(t, check(t, "tcp://"+server.Listener.Addr().String()))
	answer = http.StatusFound
	require.NoError(t, check(t, server.URL))
	answer = http.StatusServiceUnavailable
	require.EqualError(t, check(t, server.URL), "it answered 503")
	server.Close()
	require.ErrorContains(t, check(t, server.URL), "connection refused")
	require.ErrorContains(t, check(t, "tcp://"+server.Listener.Addr().String()), "connection refused")
}

// A FastCGI server, Go's, over TCP and a Unix socket.
func TestFastCGI(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "fpm.sock")
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	unix, err := net.Listen("unix", socket)
	require.NoError(t, err)
	for _, l := range []net.Listener{tcp, unix} {
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = fcgi.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/ping" {
					http.NotFound(w, r)
					return
				}
				fmt.Fprint(w, "pong")
			}))
		}()
		t.Cleanup(func() {
			_ = l.Close()
			<-done
		})
	}
	require.NoError(t, check(t, "fastcgi://"+tcp.Addr().String()+"/ping"))
	require.NoError(t, check(t, "fastcgi://"+socket))
	require.NoError(t, check(t, "fastcgi://"+socket+"?/ping"))
	require.ErrorContains(t, check(t, "fastcgi://"+tcp.Addr().String()+"/other"), "it answered 404 Not Found to /other; in php-fpm's pool")

	other, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer other.Close()
	go func() {
		conn, err := other.Accept()
		if err == nil {
			_, _ = conn.Read(make([]byte, 1024))
			_, _ = conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			_ = conn.Close()
		}
	}()
	require.ErrorContains(t, check(t, "fastcgi://"+other.Addr().String()+"/ping"), "it does not speak FastCGI")
}

// An application that says nothing is not healthy, and does not hold up its checker.
func TestSilence(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	for _, u := range []string{"http://%s/", "fastcgi://%s/ping"} {
		began := time.Now()
		require.Error(t, check(t, fmt.Sprintf(u, l.Addr())))
		require.Less(t, time.Since(began), 10*timeout)
	}
}

func FuzzFastCGI(f *testing.F) {
	f.Add(record(record(nil, fcgiStdout, []byte("Status: 404 x\r\n\r\n")), fcgiEnd, make([]byte, 8)))
	f.Add(record(nil, fcgiStdout, bytes.Repeat([]byte("x"), 1000)))
	f.Fuzz(func(t *testing.T, data []byte) {
		out, err := readAnswer(io.LimitReader(bytes.NewReader(data), 1<<20))
		if err == nil && len(out) > maxPong {
			t.Fatal("too long")
		}
		_ = checkPong(out, "/ping")
	})
}
