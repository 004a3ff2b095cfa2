package compile_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
)

// How far a client may send ahead over HTTP/2 bounds how fast it uploads over a
// distance: with 64 KiB, 10 MB take nine seconds at 50 ms.
func TestEdgeLetsUploadsRunAhead(t *testing.T) {
	t.Parallel()
	const stream, connection = 1 << 20, 2 << 20
	php := pods("php", policy.HTTP1, zone(callerZone, startBackend(t, "php")))
	e := startGateway(t, gateway(plain(80, v1alpha1.GatewaySettings{}, answers("*", only(php)))), php)
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", e.at[80])
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = io.WriteString(conn, http2.ClientPreface)
	require.NoError(t, err)
	framer := http2.NewFramer(conn, conn)
	require.NoError(t, framer.WriteSettings())
	windows := map[uint32]uint32{0: 65535}
	for windows[0] < connection || windows[1] < stream {
		frame, err := framer.ReadFrame()
		require.NoError(t, err, "%v", windows)
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if size, ok := f.Value(http2.SettingInitialWindowSize); ok {
				windows[1] = size
			}
		case *http2.WindowUpdateFrame:
			windows[f.StreamID] += f.Increment
		}
	}
	require.Equal(t, map[uint32]uint32{0: connection, 1: stream}, windows)
}

// A session's cookie goes over HTTPS alone where it was given over HTTPS, and in no case to
// other sites' requests that are more than links.
func TestEdgeGivesCookiesOfSessions(t *testing.T) {
	t.Parallel()
	b := startBackend(t, "php")
	php := pods("php", policy.HTTP1, zone(callerZone, b))
	host := answers("shop.example.com", rule(php, func(r *policy.Rule) { r.Own.Session = &gatewayv1.SessionPersistence{} }))
	ca := harness.NewAuthority(t, "ca")
	m := gateway(plain(80, v1alpha1.GatewaySettings{}, host), policy.GatewayPort{
		Number: 443, Protocol: policy.ListenTLS, Listeners: []policy.GatewayListener{secure("shop", "shop.example.com", []string{"web/shop"}, host)},
	})
	m.Certificates = []policy.Certificate{certified("shop", ca.Issue(t, harness.CertificateOptions{Name: "shop", Hosts: []string{"shop.example.com"}}))}
	e := startGateway(t, m, php)
	for port, client := range map[uint16]*tls.Config{80: nil, 443: {RootCAs: ca.Pool(), ServerName: "shop.example.com"}} {
		cookies := e.ask(t, port, client, "shop.example.com", "/").Cookies()
		require.Len(t, cookies, 1, port)
		require.Equal(t, port == 443, cookies[0].Secure, cookies[0].Raw)
		require.Equal(t, http.SameSiteLaxMode, cookies[0].SameSite, cookies[0].Raw)
		require.True(t, cookies[0].HttpOnly, cookies[0].Raw)
	}
}

// What the documentation says of seldom requests and answers: gRPC-Web passes as it
// is, hints are dropped, and OPTIONS * meets no rule.
func TestEdgeWithSeldomRequests(t *testing.T) {
	t.Parallel()
	const kind, message = "application/grpc-web+proto", "\x00\x00\x00\x00\x02hi"
	web := startBothProtocols(t, "web", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", kind)
		w.Header().Set("X-Got", r.Proto+" "+r.Header.Get("Content-Type"))
		_, _ = w.Write(body)
	})
	hints := startRaw(t, "hints", func(conn net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			_, _ = io.WriteString(conn, "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	grpc, plainHTTP := pods("grpc", policy.HTTP2, zone(callerZone, web)), pods("web", policy.HTTP1, zone(callerZone, web))
	early := pods("hints", policy.HTTP1, zone(callerZone, hints))
	e := startGateway(t, gateway(plain(80, v1alpha1.GatewaySettings{},
		answers("grpc.test", only(grpc)), answers("web.test", only(plainHTTP)), answers("hints.test", only(early)))), grpc, plainHTTP, early)
	for host, proto := range map[string]string{"grpc.test": "HTTP/2.0", "web.test": "HTTP/1.1"} {
		got := e.say(t, 80, "POST /a.B/C HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\nContent-Type: "+kind+"\r\nContent-Length: 7\r\n\r\n"+message)
		head, body, _ := strings.Cut(got, "\r\n\r\n")
		require.Equal(t, "200", statusOf(got), got)
		require.Contains(t, strings.ToLower(head), "\r\ncontent-type: "+kind)
		require.Contains(t, head, ": "+proto+" "+kind, "what the backend has got")
		require.Contains(t, body, message)
		require.NotContains(t, body, "grpc-status", "no proxy adds the trailers of gRPC-Web")
	}
	got := e.say(t, 80, "GET / HTTP/1.1\r\nHost: hints.test\r\nConnection: close\r\n\r\n")
	require.Equal(t, "200", statusOf(got), got)
	require.NotContains(t, got, "a.css")
	require.Equal(t, "404", statusOf(e.say(t, 80, "OPTIONS * HTTP/1.1\r\nHost: web.test\r\nConnection: close\r\n\r\n")))
}
