package compile_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/compile"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// What is too large is refused with the status that says so, and no backend sees it.
func TestEdgeLimitsRequests(t *testing.T) {
	t.Parallel()
	b := startBackend(t, "php")
	php := pods("php", policy.HTTP1, zone(callerZone, b))
	limits := func(l v1alpha1.ClientLimits) v1alpha1.GatewaySettings { return v1alpha1.GatewaySettings{Limits: &l} }
	host := answers("*", only(php))
	e := startGateway(t, gateway(
		plain(80, v1alpha1.GatewaySettings{}, host),
		plain(81, limits(v1alpha1.ClientLimits{HeaderBytes: new(int32(2048)), Headers: new(int32(20)), BodyBytes: new(int32(1000))}), host),
		plain(82, limits(v1alpha1.ClientLimits{BodyBytes: new(int32(1 << 20))}), host),
	), php)
	headers := func(n, size int) string {
		var out strings.Builder
		for i := range n {
			fmt.Fprintf(&out, "X-%d: %s\r\n", i, strings.Repeat("x", size))
		}
		return out.String()
	}
	get := func(headers string) string {
		return "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n" + headers + "\r\n"
	}
	post := func(size int) string {
		return fmt.Sprintf("POST / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size))
	}
	chunks := func(n, size int) string {
		chunk := fmt.Sprintf("%x\r\n%s\r\n", size, strings.Repeat("x", size))
		return "POST / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat(chunk, n) + "0\r\n\r\n"
	}
	for _, tc := range []struct {
		name, want string
		port       uint16
		text       string
	}{
		{"290 headers", "200", 80, get(headers(290, 10))},
		{"310 headers", "431", 80, get(headers(310, 10))},
		{"50 KiB of headers", "200", 80, get(headers(5, 10<<10))},
		{"70 KiB of headers", "431", 80, get(headers(7, 10<<10))},
		{"one header of 70 KiB", "431", 80, get(headers(1, 70<<10))},
		{"a path of 70 KiB", "431", 80, "GET /" + strings.Repeat("x", 70<<10) + " HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"},
		{"15 headers", "200", 81, get(headers(15, 10))},
		{"25 headers", "431", 81, get(headers(25, 10))},
		{"1 KiB of headers", "200", 81, get(headers(1, 1<<10))},
		{"3 KiB of headers", "431", 81, get(headers(1, 3<<10))},
		{"a body of the limit", "200", 81, post(1000)},
		{"a body beyond the limit", "413", 81, post(1001)},
		{"a large body", "413", 81, post(1 << 20)},
		{"chunks within the limit", "200", 81, chunks(10, 100)},
		{"chunks beyond the limit", "413", 81, chunks(11, 100)},
		{"many chunks beyond the limit", "413", 81, chunks(1000, 1000)},
		{"a body beyond a connection's buffer", "200", 82, post(1 << 20)},
		{"a body beyond a large limit", "413", 82, post(1<<20 + 1)},
		{"any body without a limit", "200", 80, post(4 << 20)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := b.hits.Load()
			got := e.say(t, tc.port, tc.text)
			require.Equal(t, tc.want, statusOf(got), "%.300s", got)
			require.Equal(t, tc.want == "200", b.hits.Load() > before)
		})
	}
	// In HTTP/2 as well.
	request := func(n, size int) []hpack.HeaderField {
		out := []hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: "a.test"}, {Name: ":path", Value: "/"}}
		for i := range n {
			out = append(out, hpack.HeaderField{Name: fmt.Sprintf("x-%d", i), Value: strings.Repeat("x", size)})
		}
		return out
	}
	before := b.hits.Load()
	require.Equal(t, "200", e.stream(t, 80, request(90, 10), nil))
	require.Contains(t, []string{"431", "closed"}, e.stream(t, 80, request(310, 10), nil))
	require.Contains(t, []string{"431", "closed"}, e.stream(t, 80, request(7, 10<<10), nil))
	large := append(request(0, 0), hpack.HeaderField{Name: "x-a", Value: "b"})
	large[0].Value = "POST"
	require.Equal(t, "413", e.stream(t, 81, large, make([]byte, 40<<10)))
	require.Equal(t, before+1, b.hits.Load())
}

// An edit of how large bodies may be changes no listener, whose connections would close for it.
func TestBodyLimitReplacesNoListener(t *testing.T) {
	t.Parallel()
	php := pods("php", policy.HTTP1, zone(callerZone))
	d, err := naming.ParseDeclaration("gateway/127.0.0.1=" + edgeKey.String())
	require.NoError(t, err)
	compiled := func(l *v1alpha1.ClientLimits) (listener, hosts string) {
		m := gateway(plain(80, v1alpha1.GatewaySettings{Limits: l}, answers("*", only(php))))
		for _, r := range compile.New().GatewayListeners(d, m) {
			listener += string(r.Body.Bytes())
		}
		for _, r := range compile.New().Gateway(m) {
			if r.Type == resource.VirtualHost {
				hosts += string(r.Body.Bytes())
			}
		}
		require.NotEmpty(t, listener)
		return listener, hosts
	}
	none, streams := compiled(nil)
	small, held := compiled(&v1alpha1.ClientLimits{BodyBytes: new(int32(1000))})
	large, more := compiled(&v1alpha1.ClientLimits{BodyBytes: new(int32(2000))})
	require.Equal(t, none, small)
	require.Equal(t, none, large)
	require.NotEqual(t, streams, held)
	require.NotEqual(t, held, more)
}

// Streams of gRPC are never whole: a limit for bodies must not hold them.
func TestEdgeCarriesGRPC(t *testing.T) {
	t.Parallel()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		for {
			in := &healthv1.HealthCheckRequest{}
			if err := stream.RecvMsg(in); err != nil {
				return err
			}
			if err := stream.SendMsg(in); err != nil {
				return err
			}
		}
	}))
	healthv1.RegisterHealthServer(server, health.NewServer())
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	api := pods("api", policy.HTTP2, zone(callerZone, &backend{name: "grpc", listener: listener}))
	r := only(api)
	r.GRPC, r.Route.Kind = true, "GRPCRoute"
	s := v1alpha1.GatewaySettings{Limits: &v1alpha1.ClientLimits{BodyBytes: new(int32(1000))}}
	e := startGateway(t, gateway(plain(80, s, answers("*", r))), api)
	conn, err := grpc.NewClient("passthrough:///"+e.at[80], grpc.WithAuthority("api.test"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	client := healthv1.NewHealthClient(conn)
	_, err = client.Check(t.Context(), &healthv1.HealthCheckRequest{})
	require.NoError(t, err)
	_, err = client.Check(t.Context(), &healthv1.HealthCheckRequest{Service: "none"})
	require.ErrorContains(t, err, "unknown service")
	// A stream whose sender goes on.
	stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/test.Echo/Echo")
	require.NoError(t, err)
	for range 3 {
		said, heard := &healthv1.HealthCheckRequest{Service: strings.Repeat("x", 600)}, &healthv1.HealthCheckRequest{}
		require.NoError(t, stream.SendMsg(said))
		require.NoError(t, stream.RecvMsg(heard))
		require.Equal(t, said.GetService(), heard.GetService())
	}
}

func TestEdgeTakesItsTime(t *testing.T) {
	t.Parallel()
	b := startBackend(t, "php")
	php := pods("php", policy.HTTP1, zone(callerZone, b))
	b.answer(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			harness.TakeTime(time.Second)
		}
	})
	timeout := func(c v1alpha1.ClientTimeout) v1alpha1.GatewaySettings { return v1alpha1.GatewaySettings{Timeout: &c} }
	const short = 300 * time.Millisecond
	host := answers("*", only(php))
	e := startGateway(t, gateway(
		plain(80, timeout(v1alpha1.ClientTimeout{RequestHeaders: duration(short)}), host),
		plain(81, timeout(v1alpha1.ClientTimeout{Request: duration(short)}), host),
		plain(82, timeout(v1alpha1.ClientTimeout{Idle: duration(short)}), host),
		plain(83, timeout(v1alpha1.ClientTimeout{StreamIdle: duration(short)}), host),
		plain(84, timeout(v1alpha1.ClientTimeout{RequestHeaders: duration(0), Request: duration(0), Idle: duration(0), StreamIdle: duration(0)}), host),
	), php)
	const head, unfinished = "POST / HTTP/1.1\r\nHost: a.test\r\n", "Content-Length: 5\r\n\r\nx"
	for _, tc := range []struct {
		name, want string
		port       uint16
		text       string
	}{
		{"headers that do not end", "408", 80, head},
		{"a body that does not end", "408", 81, head + unfinished},
		{"a connection without a request", "closed", 82, ""},
		{"a request that stands still", "408", 83, head + unfinished},
		{"an answer that stands still", "504", 83, "GET /slow HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			require.Equal(t, tc.want, statusOf(e.say(t, tc.port, tc.text)))
		})
	}
	require.Equal(t, "200", statusOf(e.say(t, 81, "GET /slow HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")), "the answer takes as long as it takes")
	// 0s is no limit.
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", e.at[84])
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	for _, part := range []string{head, "Connection: close\r\nContent-Length: 2\r\n", "\r\nx", "x"} {
		harness.TakeTime(2 * short)
		_, err = io.WriteString(conn, part)
		require.NoError(t, err)
	}
	got, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Equal(t, "200", statusOf(string(got)))
}

func TestEdgeLimitsConnections(t *testing.T) {
	t.Parallel()
	b := startBackend(t, "php")
	php := pods("php", policy.HTTP1, zone(callerZone, b))
	s := v1alpha1.GatewaySettings{Limits: &v1alpha1.ClientLimits{Connections: new(int32(2))}}
	e := startGateway(t, gateway(plain(80, s, answers("*", only(php)))), php)
	open := func() (net.Conn, string) {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", e.at[80])
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
		answer := make([]byte, 12)
		n, _ := io.ReadFull(conn, answer)
		return conn, string(answer[:n])
	}
	const ok = "HTTP/1.1 200"
	first, got := open()
	require.Equal(t, ok, got)
	_, got = open()
	require.Equal(t, ok, got)
	_, got = open()
	require.Empty(t, got, "the third is closed at once")
	require.NoError(t, first.Close())
	harness.Eventually(t, 20*time.Second, "room for another connection", func() error {
		conn, got := open()
		if got != ok {
			_ = conn.Close()
			return fmt.Errorf("it is closed")
		}
		return nil
	})
}

// The health check is answered by the proxy itself, whatever the Host, and says
// when the proxy is to drain.
func TestEdgeAnswersHealthChecks(t *testing.T) {
	t.Parallel()
	b := startBackend(t, "php")
	php := pods("php", policy.HTTP1, zone(callerZone, b))
	s := v1alpha1.GatewaySettings{HealthCheck: &v1alpha1.GatewayHealthCheck{Path: "/healthz"}, Limits: &v1alpha1.ClientLimits{BodyBytes: new(int32(10))}}
	e := startGateway(t, gateway(plain(80, s, answers("shop.example.com", only(php)))), php)
	check := func(path string) answer {
		a := e.request(t, 80, "10.0.0.1", path)
		for name := range a.Header {
			require.NotContains(t, strings.ToLower(name), "x-envoy", "it tells of the inside")
		}
		return a
	}
	require.Equal(t, http.StatusOK, check("/healthz").StatusCode)
	require.Equal(t, http.StatusOK, e.request(t, 80, "shop.example.com", "/healthz").StatusCode)
	require.Equal(t, http.StatusNotFound, check("/healthz/x").StatusCode)
	require.Zero(t, b.hits.Load())
	e.AdminPost(t, "/healthcheck/fail")
	require.Equal(t, http.StatusServiceUnavailable, check("/healthz").StatusCode)
	require.Equal(t, http.StatusOK, e.request(t, 80, "shop.example.com", "/").StatusCode, "requests are served on")
	e.AdminPost(t, "/healthcheck/ok")
	require.Equal(t, http.StatusOK, check("/healthz").StatusCode)
}

// A path cannot reach another rule than the one for what the backend will see.
func TestEdgeNormalizesPaths(t *testing.T) {
	t.Parallel()
	b, secret := startBackend(t, "php"), startBackend(t, "admin")
	php, admin := pods("php", policy.HTTP1, zone(callerZone, b)), pods("admin", policy.HTTP1, zone(callerZone, secret))
	seen, guarded := b.record(), secret.record()
	e := startGateway(t, gateway(plain(80, v1alpha1.GatewaySettings{}, answers("*",
		policy.Rule{Match: prefix("/admin"), Backends: []policy.Backend{to(admin)}}, only(php),
	))), php, admin)
	for path, want := range map[string]string{
		"/admin": "/admin", "//admin": "/admin", "/./admin": "/admin", "/x/../admin": "/admin", "/%61dmin": "/admin", "/x/%2e%2e/admin": "/admin",
		"/x/.%2E/admin": "/admin", `/x\..\admin`: "/admin", "///admin//y": "/admin/y", "/../admin": "/admin", "/admin/../public": "/public",
		"/admin/./x":        "/admin/x", // Envoy reads a parameter of dots as dots, as Java servers do.
		"/public/..;/admin": "/admin",
		// An escaped slash: the client is sent to the path without.
		"/%2fadmin": "307 /admin", "/x%2f..%2fadmin": "307 /admin", "/%5cadmin": "307 /admin", "/admin%2Fx": "307 /admin/x", "/x/..%5c..%5cadmin": "307 /admin",
		"/%00admin": "400", "/admin%00": "400", "/admin#x": "400",
		// Twice escaped is not escaped: PHP sees what the rule saw.
		"/%252e%252e/admin": "/%252e%252e/admin", "/ADMIN": "/ADMIN", "/%41DMIN": "/ADMIN",
	} {
		t.Run(path, func(t *testing.T) {
			got := e.say(t, 80, "GET "+path+" HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
			public, private := seen.take(), guarded.take()
			if code, location, _ := strings.Cut(want, " "); !strings.HasPrefix(want, "/") {
				require.Equal(t, code, statusOf(got), got)
				require.Contains(t, got, location)
				require.Empty(t, public)
				require.Empty(t, private)
				return
			}
			require.Equal(t, "200", statusOf(got), got)
			if want == "/admin" || strings.HasPrefix(want, "/admin/") {
				require.Empty(t, public)
				require.Len(t, private, 1)
				require.Equal(t, want, private[0].RequestURI)
			} else {
				require.Empty(t, private)
				require.Len(t, public, 1)
				require.Equal(t, want, public[0].RequestURI)
			}
		})
	}
}
