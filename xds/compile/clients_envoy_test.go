package compile_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2/hpack"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// What clients of all ages send, which servers answer as if it was not there.
func TestEdgeTakesWhatClientsSend(t *testing.T) {
	t.Parallel()
	b := startBackend(t, "php")
	seen := b.record()
	php := pods("php", policy.HTTP1, zone(callerZone, b))
	front := func(hops ...v1alpha1.Hop) v1alpha1.GatewaySettings { return v1alpha1.GatewaySettings{InFront: hops} }
	alb, proxy := v1alpha1.Hop{Kind: v1alpha1.HopALB}, v1alpha1.Hop{Kind: v1alpha1.HopProxy}
	nlb := v1alpha1.Hop{Kind: v1alpha1.HopNLB, ProxyProtocol: true}
	old := rule(php, func(r *policy.Rule) {
		r.Match = prefix("/old")
		r.Filters.Redirect, r.Backends = &policy.Redirect{Status: 301, Path: &policy.PathEdit{Value: "/new"}}, nil
	})
	host := answers("*", old, only(php))
	e := startGateway(t, gateway(plain(80, front(), host), plain(81, front(proxy), host), plain(82, front(alb), host), plain(83, front(nlb), host)), php)
	get := func(headers string) string {
		return "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n" + headers + "\r\n"
	}
	// Upgrades that are not known are ignored.
	for _, upgrade := range []string{"TLS/1.2", "HTTP/2.0", "h2c", "websockets", "websocke", "Xebsocket"} {
		got := e.say(t, 80, "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade, close\r\nUpgrade: "+upgrade+"\r\n\r\n")
		require.Equal(t, "200", statusOf(got), "%s: %s", upgrade, got)
		require.Empty(t, seen.one(t).Header.Get("Upgrade"), upgrade)
	}
	// A header whose name has an underscore is taken out, in both protocols.
	require.Equal(t, "200", statusOf(e.say(t, 80, get("X_User: admin\r\nX-Ok: 1\r\n"))))
	require.Equal(t, "200", e.stream(t, 80, request2(hpack.HeaderField{Name: "x_user", Value: "admin"}, hpack.HeaderField{Name: "x-ok", Value: "1"}), nil))
	for _, r := range seen.take() {
		require.Equal(t, "1", r.Header.Get("X-Ok"))
		for name := range r.Header {
			require.NotContains(t, name, "_")
		}
	}
	// Browsers send each cookie of HTTP/2 as a header.
	var cookies []hpack.HeaderField
	for i := range 180 {
		cookies = append(cookies, hpack.HeaderField{Name: "cookie", Value: fmt.Sprintf("c%d=v", i)})
	}
	require.Equal(t, "200", e.stream(t, 80, request2(cookies...), nil))
	require.Len(t, seen.one(t).Cookies(), 180)
	// nginx speaks HTTP/1.0 to what is behind it; an ALB does not.
	ancient := "GET / HTTP/1.0\r\nHost: a.test\r\n\r\n"
	require.Equal(t, "200", statusOf(e.say(t, 80, ancient)))
	require.Equal(t, "200", statusOf(e.say(t, 81, ancient)))
	require.Equal(t, "426", statusOf(e.say(t, 82, ancient)))
	// An NLB that has ended TLS tells by the port that the client has connected to.
	moved := "GET /old HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"
	require.Contains(t, e.say(t, 83, proxyV1To("203.0.113.9", 443)+moved), "Location: https://a.test/new\r\n")
	require.Contains(t, e.say(t, 83, proxyV1To("203.0.113.9", 80)+moved), "Location: http://a.test/new\r\n")
}

// request2 is a request of HTTP/2.
func request2(more ...hpack.HeaderField) []hpack.HeaderField {
	return append([]hpack.HeaderField{
		{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: "a.test"}, {Name: ":path", Value: "/"},
	}, more...)
}

// startBothProtocols starts a backend that speaks HTTP/1.1 and HTTP/2 in the clear.
func startBothProtocols(t *testing.T, name string, answer http.HandlerFunc) *backend {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Handler: answer, Protocols: protocols, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return &backend{name: name, listener: listener}
}

// Slow pages do not take endpoints out of use, however many are asked for at once.
func TestEnvoyKeepsEndpointsThatAreSlow(t *testing.T) {
	t.Parallel()
	const brief = 300 * time.Millisecond
	for _, protocol := range []policy.Protocol{policy.HTTP1, policy.HTTP2} {
		t.Run(fmt.Sprint(protocol), func(t *testing.T) {
			t.Parallel()
			release := make(chan struct{})
			slow := startBothProtocols(t, "slow", func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/slow" {
					select {
					case <-release:
					case <-r.Context().Done():
					}
				}
				_, _ = io.WriteString(w, "slow")
			})
			s := pods("slow", protocol, zone(callerZone, slow))
			m := world{services: []*policy.Service{
				s,
				routed("request", rule(s, func(r *policy.Rule) { r.Own.Request = new(brief) })),
				routed("attempt", rule(s, func(r *policy.Rule) { r.Own.BackendRequest, r.Own.Retry = new(brief), &policy.RouteRetry{} })),
			}}.start(t)
			t.Cleanup(func() { close(release) })
			for _, host := range []string{"request", "attempt"} {
				for _, method := range []string{http.MethodGet, http.MethodPost} {
					var all sync.WaitGroup
					for range 8 {
						all.Go(func() {
							got, err := m.try(t, method, host+".web/slow")
							if err != nil || got.StatusCode != http.StatusGatewayTimeout {
								t.Errorf("%s %s: %v %v", method, host, got.Response, err)
							}
						})
					}
					all.Wait()
				}
			}
			require.Zero(t, m.stat(t, "cluster.web/slow/80/pods.outlier_detection.ejections_enforced_total"))
			require.Equal(t, map[string]int{"slow": 1}, m.count(t, 1, http.MethodGet, "slow.web/"))
		})
	}
}

// A websocket lasts, though its rule bounds the time of requests.
func TestEnvoyTimesNoWebSocket(t *testing.T) {
	t.Parallel()
	const brief = 300 * time.Millisecond
	echo := startRaw(t, "echo", func(conn net.Conn) {
		buffer := make([]byte, 4096)
		if _, err := conn.Read(buffer); err != nil {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = io.Copy(conn, conn)
	})
	s := pods("echo", policy.HTTP1, zone(callerZone, echo))
	m := world{services: []*policy.Service{s, routed("timed", rule(s, func(r *policy.Rule) {
		r.Own.Request, r.Own.BackendRequest = new(brief), new(brief)
	}))}}.start(t)
	head, conn, rest := m.raw(t, "GET / HTTP/1.1\r\nHost: timed.web\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n")
	require.Contains(t, head, " 101 ")
	for end := time.Now().Add(3 * brief); time.Now().Before(end); {
		_, err := io.WriteString(conn, "x")
		require.NoError(t, err)
		_, err = rest.ReadByte()
		require.NoError(t, err, "it was closed")
	}
}

// An answer with many headers is one, and is not asked for again.
func TestEnvoyPassesManyHeaders(t *testing.T) {
	t.Parallel()
	b := startBackend(t, "b")
	b.answer(func(w http.ResponseWriter, _ *http.Request) {
		for i := range 300 {
			w.Header().Set(fmt.Sprintf("X-%d", i), "v")
		}
	})
	s := pods("b", policy.HTTP1, zone(callerZone, b))
	m := world{services: []*policy.Service{s}}.start(t)
	head, _, _ := m.raw(t, "GET / HTTP/1.1\r\nHost: b.web\r\nConnection: close\r\n\r\n")
	require.Contains(t, head, " 200 ")
	require.GreaterOrEqual(t, strings.Count(head, "\n"), 300)
	require.EqualValues(t, 1, b.hits.Load())
}

// An answer that has a length and chunks is read by its chunks. One that Envoy cannot
// read is to Envoy a connection that ended: what is safe to repeat is sent as
// often as attempts allow, and not at all again where a policy leaves Reset
// out; what is not safe to repeat is sent once. All are answered 502 then.
func TestEnvoySendsNothingAgainThatWasAnswered(t *testing.T) {
	t.Parallel()
	answered := map[string]string{
		"/both":   "200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n",
		"/twice":  "200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
		"/length": "200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n",
		"/204":    "204 No Content\r\nTransfer-Encoding: chunked\r\n",
	}
	var asked atomic.Int64
	b := startRaw(t, "odd", func(conn net.Conn) {
		// It stays open after an answer: a request that follows would meet its end, and not the backend.
		for from := bufio.NewReader(conn); ; {
			r, err := http.ReadRequest(from)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, r.Body)
			// Whoever closes the connection before it answers is asked for the first time only.
			if n := asked.Add(1); r.URL.Path == "/dies" && n == 1 {
				return
			}
			head, ok := answered[r.URL.Path]
			if !ok {
				head = "200 OK\r\nTransfer-Encoding: chunked\r\n"
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 "+head+"\r\n3\r\nhey\r\n0\r\n\r\n")
		}
	})
	s := pods("odd", policy.HTTP1, zone(callerZone, b))
	retry := func(name string, r v1alpha1.Retry) *policy.Service {
		return routed(name, rule(s, func(to *policy.Rule) { to.Settings = settings(v1alpha1.TrafficSettings{Retry: &r}) }))
	}
	m := world{services: []*policy.Service{
		s,
		retry("once", v1alpha1.Retry{Attempts: new(int32(1))}),
		retry("unsent", v1alpha1.Retry{RetryOn: []v1alpha1.RetryCondition{"ConnectFailure", "RefusedStream", "ResetBeforeRequest", "RetriableStatusCodes"}}),
	}}.start(t)
	for _, tc := range []struct {
		methods, hosts, paths string
		sent, status          int
	}{
		{"GET POST", "odd once unsent", "/both", 1, http.StatusOK},
		{"POST PUT PATCH DELETE", "odd once unsent", "/twice /length /204", 1, http.StatusBadGateway},
		{"GET OPTIONS", "odd", "/twice /length /204", 5, http.StatusBadGateway},
		{"GET OPTIONS", "once", "/twice /length /204", 2, http.StatusBadGateway},
		{"GET OPTIONS", "unsent", "/twice /length /204", 1, http.StatusBadGateway},
		// For this it is that Reset is there: an instance that is taken away loses no GET.
		{"GET", "odd once", "/dies", 2, http.StatusOK},
		{"GET", "unsent", "/dies", 1, http.StatusServiceUnavailable},
	} {
		for method := range strings.FieldsSeq(tc.methods) {
			for host := range strings.FieldsSeq(tc.hosts) {
				for path := range strings.FieldsSeq(tc.paths) {
					got, err := m.try(t, method, host+".web"+path)
					require.NoError(t, err)
					require.Equal(t, tc.status, got.StatusCode, "%s %s%s", method, host, path)
					require.EqualValues(t, tc.sent, asked.Swap(0), "%s %s%s", method, host, path)
				}
			}
		}
	}
}

// Requests that each crash the program that answers them take no endpoint out of
// use, as long as connections to it come about.
func TestEnvoyKeepsEndpointsThatCrash(t *testing.T) {
	t.Parallel()
	b := startRaw(t, "crash", func(conn net.Conn) {
		_, _ = http.ReadRequest(bufio.NewReader(conn))
	})
	m := world{services: []*policy.Service{pods("crash", policy.HTTP1, zone(callerZone, b))}}.start(t)
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodGet, http.MethodPost, http.MethodPost, http.MethodPost} {
		got, err := m.try(t, method, "crash.web/")
		require.NoError(t, err)
		require.GreaterOrEqual(t, got.StatusCode, 502)
	}
	require.Zero(t, m.stat(t, "cluster.web/crash/80/pods.outlier_detection.ejections_enforced_total"))
}

// namesMesh is a Service php whose backend tells the requests it gets, and rules
// by which a proxy answers itself (/old) and adds headers (/more).
func namesMesh(t *testing.T) (php *policy.Service, rules []policy.Rule, asked <-chan string) {
	t.Helper()
	heads := make(chan string, 1)
	b := startRaw(t, "php", func(conn net.Conn) {
		var head strings.Builder
		in := bufio.NewReader(conn)
		for line := ""; line != "\r\n"; head.WriteString(line) {
			var err error
			if line, err = in.ReadString('\n'); err != nil {
				return
			}
		}
		heads <- head.String()
		_, _ = io.WriteString(conn, "HTTP/1.1 299 Quite Fine\r\nETag: \"a\"\r\nX-CSRF-Token: t\r\nx-low: l\r\nContent-Length: 0\r\n\r\n")
	})
	php = pods("php", policy.HTTP1, zone(callerZone, b))
	old := rule(php, func(r *policy.Rule) {
		r.Match = prefix("/old")
		r.Filters.Redirect, r.Backends = &policy.Redirect{Status: 301, Path: &policy.PathEdit{Value: "/new"}}, nil
	})
	more := rule(php, func(r *policy.Rule) {
		r.Match = prefix("/more")
		r.Filters.Request.Set = []policy.Header{{Name: "x-from-rule", Value: "1"}}
		r.Filters.Response.Set = []policy.Header{{Name: "x-by-rule", Value: "1"}}
		r.Own.Session = &gatewayv1.SessionPersistence{}
	})
	return php, []policy.Rule{old, more, only(php)}, heads
}

const (
	oddNames   = "X-CSRF-Token: t\r\nx-low: l\r\nAUTHORIZATION: a\r\n"
	namesOfPHP = "HTTP/1.1 299 Quite Fine\r\n|\r\nETag: |\r\nX-CSRF-Token: |\r\nx-low: "
)

// Names of headers at an edge: a backend's are as it has written them, and what the edge
// adds to its answers or answers itself is capitalized. Those of requests are in lower case.
func TestEdgeWritesNamesOfHeaders(t *testing.T) {
	t.Parallel()
	php, rules, asked := namesMesh(t)
	e := startGateway(t, gateway(plain(80, v1alpha1.GatewaySettings{}, answers("a.test", rules...))), php)
	get := func(host, path string) string {
		return e.say(t, 80, "GET "+path+" HTTP/1.1\r\nHost: "+host+"\r\n"+oddNames+"Connection: close\r\n\r\n")
	}
	requireNames(t, get("a.test", "/"), namesOfPHP)
	requireNames(t, <-asked, "\r\nx-csrf-token: |\r\nx-low: |\r\nauthorization: ")
	requireNames(t, get("a.test", "/more"), namesOfPHP+"|\r\nX-By-Rule: |\r\nSet-Cookie: causeway-")
	<-asked
	requireNames(t, get("a.test", "/old"), "\r\nLocation: http://a.test/new\r\n")
	requireNames(t, get("b.test", "/"), "\r\nContent-Type: text/plain\r\n")
}

// At a sidecar those of requests are as the caller has written them, too, and what the
// proxy adds is capitalized; only answers of its own are in lower case.
func TestEnvoyWritesNamesOfHeaders(t *testing.T) {
	t.Parallel()
	php, rules, asked := namesMesh(t)
	m := world{services: []*policy.Service{php, routed("a", rules...)}}.start(t)
	get := func(host, path string) string {
		head, _, _ := m.raw(t, "GET "+path+" HTTP/1.1\r\nHost: "+host+"\r\n"+oddNames+"Connection: close\r\n\r\n")
		return head
	}
	const names = "\r\nX-CSRF-Token: |\r\nx-low: |\r\nAUTHORIZATION: |\r\nX-Forwarded-Proto: |\r\nX-Request-Id: "
	requireNames(t, get("a.web", "/"), namesOfPHP)
	requireNames(t, <-asked, names)
	requireNames(t, get("a.web", "/more"), namesOfPHP+"|\r\nX-By-Rule: |\r\nSet-Cookie: causeway-")
	requireNames(t, <-asked, names+"|\r\nX-From-Rule: ")
	requireNames(t, get("a.web", "/old"), "\r\nlocation: http://a.web/new\r\n")
	requireNames(t, get("b.web", "/"), "\r\ncontent-type: text/plain\r\n")
}

// requireNames requires that text has all that want lists between bars.
func requireNames(t *testing.T, text, want string) {
	t.Helper()
	for w := range strings.SplitSeq(want, "|") {
		require.Contains(t, text, w)
	}
}

// An upload that fits into what the proxy keeps finds the endpoint that lives.
func TestEnvoySendsUploadsToWhoLives(t *testing.T) {
	t.Parallel()
	b := startBackend(t, "alive")
	// It counts failures of 1000 in a row, so that the dead one stays in use.
	s := pods("up", policy.HTTP1, policy.Zone{Name: callerZone, Endpoints: []policy.Endpoint{refusing(t, "dead"), b.endpoint(1, discovery.Healthy)}})
	s.Ports[0].Backings[0].Settings = settings(v1alpha1.TrafficSettings{OutlierDetection: &v1alpha1.OutlierDetection{ConsecutiveConnectFailures: new(int32(1000))}})
	m := world{services: []*policy.Service{s}}.start(t)
	const size = 7_000_000
	for range 6 {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://up.web/", strings.NewReader(strings.Repeat("x", size)))
		require.NoError(t, err)
		got, err := m.client.Do(r)
		require.NoError(t, err)
		require.NoError(t, got.Body.Close())
		require.Equal(t, http.StatusOK, got.StatusCode)
	}
}

// What the documentation says of seldom requests and answers.
func TestEnvoyWithSeldomRequests(t *testing.T) {
	t.Parallel()
	b := startRaw(t, "hints", func(conn net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			_, _ = io.WriteString(conn, "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	m := world{services: []*policy.Service{pods("hints", policy.HTTP1, zone(callerZone, b))}}.start(t)
	head, _, _ := m.raw(t, "GET / HTTP/1.1\r\nHost: hints.web\r\nConnection: close\r\n\r\n")
	require.Contains(t, head, " 200 ", "hints are dropped")
	head, _, _ = m.raw(t, "OPTIONS * HTTP/1.1\r\nHost: hints.web\r\nConnection: close\r\n\r\n")
	require.Contains(t, head, " 404 ")
}
