package compile_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
)

// How an Envoy speaks to endpoints: TLS, and the PROXY protocol.

// speaking returns a Service to whose endpoints callers speak TLS.
func speaking(t *policy.TLS, m *policy.Service) *policy.Service {
	for i := range m.Ports {
		m.Ports[i].TLS = t
		for j := range m.Ports[i].Backings {
			m.Ports[i].Backings[j].TLS = t
		}
	}
	return m
}

// startRaw starts a server that hands each connection to serve.
func startRaw(t *testing.T, name string, serve func(net.Conn)) *backend {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(time.Minute))
				serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		wg.Wait()
	})
	return &backend{name: name, listener: listener}
}

func TestEnvoySendsProxyProtocol(t *testing.T) {
	t.Parallel()
	ca := harness.NewAuthority(t, "ca")
	certificate := ca.Issue(t, harness.CertificateOptions{Name: "b", Hosts: []string{"b.example"}}).TLS(t)
	headers := make(chan string, 10)
	answer := func(conn net.Conn, r *bufio.Reader) {
		request, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(request.Host), request.Host)
	}
	v1 := startRaw(t, "v1", func(conn net.Conn) {
		r := bufio.NewReader(conn)
		line, _ := r.ReadString('\n')
		headers <- line
		answer(conn, r)
	})
	v2 := startRaw(t, "v2", func(conn net.Conn) {
		head := make([]byte, 16)
		_, _ = io.ReadFull(conn, head)
		addresses := make([]byte, int(head[14])<<8|int(head[15]))
		_, _ = io.ReadFull(conn, addresses)
		headers <- fmt.Sprintf("%x %d %s", head[:14], len(addresses), net.IP(addresses[:min(4, len(addresses))]))
		answer(conn, bufio.NewReader(conn))
	})
	secure := startRaw(t, "tls", func(conn net.Conn) {
		var line []byte
		for one := make([]byte, 1); !bytes.HasSuffix(line, []byte("\n")); line = append(line, one...) {
			if _, err := conn.Read(one); err != nil {
				break
			}
		}
		headers <- string(line)
		conn = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12})
		answer(conn, bufio.NewReader(conn))
	})
	spoken := startRaw(t, "tcp", func(conn net.Conn) {
		line, _ := bufio.NewReader(conn).ReadString('\n')
		headers <- line
		_, _ = io.WriteString(conn, "hello")
	})
	with := func(v v1alpha1.ProxyProtocolVersion, m *policy.Service) *policy.Service {
		return under(v1alpha1.TrafficSettings{ProxyProtocol: v}, m)
	}
	address := harness.FreeAddress(t)
	m := policyMesh{
		services: []*policy.Service{
			with(v1alpha1.ProxyProtocolV1, pods("v1", policy.HTTP1, zone(callerZone, v1))),
			with(v1alpha1.ProxyProtocolV2, pods("v2", policy.HTTP1, zone(callerZone, v2))),
			with(v1alpha1.ProxyProtocolV1, speaking(&policy.TLS{SNI: "b.example", Names: []policy.SubjectAltName{{Value: "b.example"}}, CAs: string(ca.CertPEM)},
				pods("tls", policy.HTTP1, zone(callerZone, secure)))),
			with(v1alpha1.ProxyProtocolV1, pods("tcp", policy.TCP, zone(callerZone, spoken))),
		},
		declared: []string{"tcp/" + address + "=web/tcp:80"},
	}.start(t)
	for host, want := range map[string]string{
		"v1.web":  `^PROXY TCP4 127\.0\.0\.1 127\.0\.0\.1 \d+ \d+\r\n$`,
		"v2.web":  `^0d0a0d0a000d0a515549540a2111 12 127\.0\.0\.1$`,
		"tls.web": `^PROXY TCP4 127\.0\.0\.1 127\.0\.0\.1 \d+ \d+\r\n$`,
	} {
		answer, body := m.get(t, host, "/")
		require.Equal(t, http.StatusOK, answer.StatusCode, "%s: %s", host, body)
		require.Equal(t, host, body)
		require.Regexp(t, want, <-headers, host)
	}
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	require.NoError(t, err)
	text, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	require.Equal(t, "hello", string(text))
	require.Regexp(t, `^PROXY TCP4 127\.0\.0\.1 127\.0\.0\.1 \d+ \d+\r\n$`, <-headers)
}

// startTLS starts a backend that speaks TLS and answers with its name and the
// server name that it was asked for.
func startTLS(t *testing.T, name string, certificate tls.Certificate, protocols ...string) *backend {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	config := &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12, NextProtos: protocols}
	b := &backend{name: name, listener: listener}
	server := &http.Server{
		ReadHeaderTimeout: time.Minute, TLSConfig: config,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b.hits.Add(1)
			_, _ = fmt.Fprintf(w, "%s %s %s", name, r.TLS.ServerName, r.Proto)
		}),
		ErrorLog: log.New(io.Discard, "", 0), // callers that do not trust it are what is tested
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.ServeTLS(listener, "", "")
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return b
}

func TestEnvoyOriginatesTLS(t *testing.T) {
	t.Parallel()
	ca, other := harness.NewAuthority(t, "ca"), harness.NewAuthority(t, "other")
	certificate := ca.Issue(t, harness.CertificateOptions{
		Name: "b", Hosts: []string{"b.example", "127.0.0.9"}, URIs: []string{"spiffe://example.com/b"},
	}).TLS(t)
	secure := startTLS(t, "b", certificate, "http/1.1")
	modern := startTLS(t, "m", certificate, "h2")
	plain := startBackend(t, "plain")
	name := func(values ...string) []policy.SubjectAltName {
		var out []policy.SubjectAltName
		for _, v := range values {
			out = append(out, policy.SubjectAltName{Value: v, URI: strings.Contains(v, "://")})
		}
		return out
	}
	cas, others := string(ca.CertPEM), string(other.CertPEM)
	cases := []struct {
		host string
		tls  *policy.TLS
		to   *backend
		want string
	}{
		{"right", &policy.TLS{SNI: "b.example", Names: name("b.example"), CAs: cas}, secure, "b b.example HTTP/1.1"},
		{"one-of", &policy.TLS{SNI: "b.example", Names: name("a.example", "b.example"), CAs: others + cas}, secure, "b b.example HTTP/1.1"},
		{"uri", &policy.TLS{SNI: "front.example", Names: name("spiffe://example.com/b"), CAs: cas}, secure, "b front.example HTTP/1.1"},
		{"address", &policy.TLS{SNI: "127.0.0.9", Names: name("127.0.0.9"), CAs: cas}, secure, "b  HTTP/1.1"},
		{"system", &policy.TLS{SNI: "b.example", Names: name("b.example")}, secure, "b b.example HTTP/1.1"},
		{"wrong-ca", &policy.TLS{SNI: "b.example", Names: name("b.example"), CAs: others}, secure, "503"},
		{"wrong-name", &policy.TLS{SNI: "b.example", Names: name("a.example"), CAs: cas}, secure, "503"},
		{"wrong-uri", &policy.TLS{SNI: "b.example", Names: name("spiffe://example.com/a"), CAs: cas}, secure, "503"},
		{"failed", &policy.TLS{SNI: "b.example", Names: name("b.example"), Failed: "there is no ConfigMap"}, plain, "503"},
		{"unknown", &policy.TLS{Failed: "it cannot be read", Unknown: true}, plain, "503"},
		{"no-tls-there", &policy.TLS{SNI: "b.example", Names: name("b.example"), CAs: cas}, plain, "503"},
	}
	var services []*policy.Service
	for _, tc := range cases {
		services = append(services, speaking(tc.tls, pods(tc.host, policy.HTTP1, zone(callerZone, tc.to))))
	}
	right := cases[0].tls
	services = append(services,
		speaking(right, pods("h2", policy.HTTP2, zone(callerZone, modern))),
		speaking(right, both("both", policy.HTTP1, 0, zone(callerZone, secure), zone(callerZone, plain))),
		under(v1alpha1.TrafficSettings{HealthCheck: &v1alpha1.ActiveHealthCheck{HTTP: &v1alpha1.HTTPHealthCheck{Path: "/"}, UnhealthyThreshold: new(int32(1))}},
			speaking(right, pods("checked", policy.HTTP1, zone(callerZone, secure)))),
		pods("plain", policy.HTTP1, zone(callerZone, secure)),
	)
	m := policyMesh{services: services, systemCAs: ca.CertPEM}.start(t)
	for _, tc := range cases {
		answer, body := m.get(t, tc.host+".web", "/")
		if tc.want == "503" {
			require.Equal(t, http.StatusServiceUnavailable, answer.StatusCode, "%s: %s", tc.host, body)
		} else {
			require.Equal(t, tc.want, body, tc.host)
		}
	}
	require.Zero(t, plain.hits.Load(), "nothing may go in the clear")
	_, body := m.get(t, "h2.web", "/")
	require.Equal(t, "m b.example HTTP/2.0", body)
	_, body = m.get(t, "both.web", "/")
	require.Equal(t, "b b.example HTTP/1.1", body, "instances that speak no TLS hand over to pods that do")
	_, body = m.get(t, "checked.web", "/")
	require.Equal(t, "b b.example HTTP/1.1", body)
	require.Positive(t, m.stat(t, "cluster.web/checked/80/pods.health_check.success"))
	_, body = m.get(t, "plain.web", "/")
	require.NotContains(t, body, "b.example")
}

// An endpoint chooses the version of HTTP where nobody has declared it: gRPC reaches those that speak HTTP/2, websockets
// and old servers those that do not, and health checks both.
func TestEnvoyNegotiatesHTTP(t *testing.T) {
	t.Parallel()
	ca := harness.NewAuthority(t, "ca")
	certificate := ca.Issue(t, harness.CertificateOptions{Name: "b", Hosts: []string{"b.example"}}).TLS(t)
	right := &policy.TLS{SNI: "b.example", Names: []policy.SubjectAltName{{Value: "b.example"}}, CAs: string(ca.CertPEM)}
	old, modern := startTLS(t, "old", certificate, "http/1.1"), startTLS(t, "modern", certificate, "h2", "http/1.1")
	silent := startRaw(t, "silent", func(conn net.Conn) { // it knows nothing of ALPN
		conn = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12})
		if r, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(r.Proto), r.Proto)
		}
	})
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&certificate)))
	healthv1.RegisterHealthServer(server, health.NewServer())
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	api := &backend{name: "api", listener: listener}
	chat := startRaw(t, "chat", func(conn net.Conn) {
		conn = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}})
		r := bufio.NewReader(conn)
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
		_, _ = io.CopyN(conn, r, 4)
	})
	proxied := startRaw(t, "proxied", func(conn net.Conn) {
		var line []byte
		for one := make([]byte, 1); !bytes.HasSuffix(line, []byte("\n")); line = append(line, one...) {
			if _, err := conn.Read(one); err != nil {
				return
			}
		}
		conn = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}})
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(line), line)
		}
	})
	either := func(name string, to ...*backend) *policy.Service {
		return speaking(right, pods(name, policy.Negotiated, zone(callerZone, to...)))
	}
	checked := func(h v1alpha1.ActiveHealthCheck, m *policy.Service) *policy.Service {
		h.UnhealthyThreshold = new(int32(1))
		return under(v1alpha1.TrafficSettings{HealthCheck: &h}, m)
	}
	http1 := v1alpha1.ActiveHealthCheck{HTTP: &v1alpha1.HTTPHealthCheck{Path: "/"}}
	failing := speaking(&policy.TLS{Failed: "there is no ConfigMap"}, pods("failing", policy.Negotiated, zone(callerZone, old)))
	m := policyMesh{services: []*policy.Service{
		either("old", old), either("modern", modern), either("silent", silent), either("api", api), either("chat", chat),
		checked(http1, either("checked", modern)), checked(v1alpha1.ActiveHealthCheck{GRPC: &v1alpha1.GRPCHealthCheck{}}, either("grpc-checked", api)),
		under(v1alpha1.TrafficSettings{ProxyProtocol: v1alpha1.ProxyProtocolV1}, either("proxied", proxied)), failing,
	}}.start(t)
	for host, want := range map[string]string{
		"old": "old b.example HTTP/1.1", "modern": "modern b.example HTTP/2.0", "silent": "HTTP/1.1", "checked": "modern b.example HTTP/2.0",
	} {
		_, body := m.get(t, host+".web", "/")
		require.Equal(t, want, body, host)
	}
	_, body := m.get(t, "proxied.web", "/")
	require.Contains(t, body, "PROXY TCP4 127.0.0.1")
	answer, _ := m.get(t, "failing.web", "/")
	require.Equal(t, http.StatusServiceUnavailable, answer.StatusCode)
	for _, name := range []string{"api", "grpc-checked"} {
		conn, err := grpc.NewClient("passthrough:///"+m.http, grpc.WithAuthority(name+".web:80"), grpc.WithTransportCredentials(insecure.NewCredentials()))
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		answer, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{})
		require.NoError(t, err, name)
		require.Equal(t, healthv1.HealthCheckResponse_SERVING, answer.GetStatus())
	}
	for _, name := range []string{"checked", "grpc-checked"} {
		require.Positive(t, m.stat(t, "cluster.web/"+name+"/80/pods.health_check.success"), name)
		require.Zero(t, m.stat(t, "cluster.web/"+name+"/80/pods.health_check.failure"), name)
	}
	head, conn, rest := m.raw(t, "GET /chat HTTP/1.1\r\nHost: chat.web\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
	require.Contains(t, head, "101 Switching Protocols")
	_, err = io.WriteString(conn, "ping")
	require.NoError(t, err)
	echo := make([]byte, 4)
	_, err = io.ReadFull(rest, echo)
	require.NoError(t, err)
	require.Equal(t, "ping", string(echo))
}
