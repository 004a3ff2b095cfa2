package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/test/harness"
)

// witness is a server that remembers what it was asked for.
type witness struct {
	address string

	mu   sync.Mutex
	seen []string
}

func startWitness(t *testing.T) *witness {
	t.Helper()
	ip := harness.Addresses(t, 1)[0]
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", net.JoinHostPort(ip.String(), fmt.Sprint(instancePort)))
	require.NoError(t, err)
	w := &witness{address: ip.String()}
	s := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.seen = append(w.seen, r.RequestURI)
		if r.Header.Get("X-Smuggled") != "" {
			w.seen = append(w.seen, "X-Smuggled")
		}
		_, _ = io.WriteString(out, "seen")
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	t.Cleanup(func() {
		_ = s.Close()
		<-done
	})
	return w
}

// take returns what was asked for since the last time.
func (w *witness) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.seen
	w.seen = nil
	return out
}

// edgeNamed is a port for one host name.
const edgeNamed = 8082

const hostileGateway = `---
apiVersion: v1
kind: Service
metadata: {name: php, namespace: web}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: web}
spec:
  gatewayClassName: causeway
  listeners: [{name: http, port: 8080, protocol: HTTP}, {name: small, port: 8081, protocol: HTTP}, {name: named, port: 8082, protocol: HTTP, hostname: shop.example.com}]
---
apiVersion: mesh.causeway.dev/v1alpha1
kind: GatewayPolicy
metadata: {name: small, namespace: web}
spec:
  targetRefs: [{name: edge, sectionName: small}]
  limits: {headerBytes: 4096, headers: 20, bodyBytes: 10000}
  timeout: {requestHeaders: 1s}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: edge, namespace: web}
spec:
  parentRefs: [{name: edge}]
  rules:
  - matches: [{path: {value: /private}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: login.example.com, statusCode: 302}}]
  - backendRefs: [{name: php, port: 80}]
`

// What is hidden in a request reaches nobody, what is too large is refused with
// the status that says so, and what stands behind a rule is not reached round it.
func TestEdgeHostile(t *testing.T) {
	beside(t, 0.1, 20*time.Second)
	p := startPlane(t)
	w := startWitness(t)
	p.put(t, hostileGateway)
	key := discovery.Key{Namespace: "web", Name: "php"}
	p.write(t, func(tx *catalog.Tx) {
		catalog.Endpoints.Put(tx, &discovery.EndpointSet{
			Scope: "test", Key: key, Service: key, Platform: discovery.Pods, Ports: []discovery.EndpointPort{{Name: "http", Port: instancePort}},
			Endpoints: []discovery.Endpoint{{ID: "witness", Address: w.address}},
		})
	})
	e := startEdge(t, edgeOptions{namespace: "web", gateway: "edge", id: "i-a", zone: "a", servers: []string{p.address}})
	for _, port := range []int{edgePlain, edgeBare} {
		question{address: e.at(port), host: "shop.example.com", path: "/"}.wait(t, "the edge answers", isOK)
	}
	w.take()
	t.Run("smuggling", func(t *testing.T) { e.refusesToSmuggle(t, w) })
	t.Run("sizes", func(t *testing.T) { e.refusesWhatIsTooLarge(t, w) })
	t.Run("paths", func(t *testing.T) { e.leadsNobodyRound(t, w) })
}

// exchange writes bytes as they are, and returns the statuses that come back
// until the other side has nothing more to say.
func exchange(t *testing.T, address, raw string) []int {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(edgeTimeout)))
	_, _ = io.WriteString(conn, raw) // it may be closed meanwhile
	var out []int
	for in := bufio.NewReader(conn); ; {
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(edgeTimeout)))
		if len(out) > 0 {
			// Another answer would come at once.
			require.NoError(t, conn.SetReadDeadline(time.Now().Add(300*time.Millisecond)))
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return out
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		out = append(out, resp.StatusCode)
	}
}

func (e *edge) refusesToSmuggle(t *testing.T, w *witness) {
	t.Helper()
	const hidden = "GET /smuggled HTTP/1.1\r\nHost: shop.example.com\r\n\r\n"
	post := func(headers, body string) string {
		return "POST /form HTTP/1.1\r\nHost: shop.example.com\r\n" + headers + "\r\n" + body
	}
	get := func(headers string) string {
		return "GET /page HTTP/1.1\r\nHost: shop.example.com\r\n" + headers + "\r\n"
	}
	for name, raw := range map[string]string{
		"length and chunks":                post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"+hidden),
		"chunks and length":                post("Transfer-Encoding: chunked\r\nContent-Length: 60\r\n", "0\r\n\r\n"+hidden),
		"an unknown transfer encoding":     post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"+hidden),
		"chunked is not the last":          post("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"+hidden),
		"chunked twice":                    post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n"+hidden),
		"a space before the colon":         post("Transfer-Encoding : chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"+hidden),
		"a tab before the value's end":     post("Transfer-Encoding:\tchunked\x0b\r\nContent-Length: 5\r\n", "0\r\n\r\n"+hidden),
		"two lengths":                      post("Content-Length: 5\r\nContent-Length: 0\r\n", "12345"+hidden),
		"a length with a sign":             post("Content-Length: +0\r\n", hidden),
		"a negative length":                post("Content-Length: -1\r\n", hidden),
		"a length that is no number":       post("Content-Length: 0x0\r\n", hidden),
		"a length beyond 64 bits":          post("Content-Length: 18446744073709551616\r\n", hidden),
		"a zero byte in a value":           get("X-A: b\x00c\r\n"),
		"a header without a colon":         get("X-A\r\n"),
		"a header without a name":          get(": b\r\n"),
		"a name with a space":              get("X A: b\r\n"),
		"a chunk's size that is no number": post("Transfer-Encoding: chunked\r\n", "zz\r\n"+hidden),
		"a chunk's size beyond 64 bits":    post("Transfer-Encoding: chunked\r\n", "10000000000000005\r\nhello\r\n0\r\n\r\n"+hidden),
		"no host":                          "GET /page HTTP/1.1\r\n\r\n",
		"a host that is none":              "GET /page HTTP/1.1\r\nHost: shop.example.com/../\r\n\r\n",
		"spaces in the path":               "GET /a b HTTP/1.1\r\nHost: shop.example.com\r\n\r\n",
		"a tunnel":                         "CONNECT shop.example.com:80 HTTP/1.1\r\nHost: shop.example.com:80\r\n\r\n" + hidden,
	} {
		statuses := exchange(t, e.at(edgePlain), raw)
		require.LessOrEqual(t, len(statuses), 1, "%s: answers %v", name, statuses)
		for _, s := range statuses {
			require.Contains(t, []int{http.StatusBadRequest, http.StatusNotFound, http.StatusNotImplemented, http.StatusUpgradeRequired, http.StatusHTTPVersionNotSupported}, s, name)
		}
		for _, uri := range w.take() {
			require.NotContains(t, uri, "smuggled", name)
			require.NotEqual(t, "/page", uri, name)
		}
	}
	// A carriage return alone, and a line that goes on in the next, are spaces
	// (RFC 9112, sections 2.2 and 5.2): they make no header of their own.
	for _, headers := range []string{"X-A: b\rX-Smuggled: c\r\n", "X-A: b\r\n X-Smuggled: c\r\n"} {
		require.Equal(t, []int{200}, exchange(t, e.at(edgePlain), get(headers+"Connection: close\r\n")))
		require.Equal(t, []string{"/page"}, w.take())
	}
	// Two hosts are one that no listener and no route names.
	twice := exchange(t, e.at(edgeNamed), "GET /page HTTP/1.1\r\nHost: shop.example.com\r\nHost: other.example.com\r\n\r\n")
	require.Equal(t, []int{http.StatusNotFound}, twice)
	require.Empty(t, w.take())
	// Two requests on one connection are two requests.
	require.Equal(t, []int{200, 200}, exchange(t, e.at(edgePlain), post("Content-Length: 5\r\n", "hello")+hidden))
	require.Equal(t, []string{"/form", "/smuggled"}, w.take())
	// Where Envoy is lenient about a chunk's end, the backend gets chunks that it
	// has written anew: both see the same two requests.
	require.Equal(t, []int{200, 200}, exchange(t, e.at(edgePlain), post("Transfer-Encoding: chunked\r\n", "1\r\nabc\r\n0\r\n\r\n"+hidden)))
	require.Equal(t, []string{"/form", "/smuggled"}, w.take())
}

func (e *edge) refusesWhatIsTooLarge(t *testing.T, w *witness) {
	t.Helper()
	ask := func(port int, headers, body string) []int {
		return exchange(t, e.at(port), "POST /form HTTP/1.1\r\nHost: shop.example.com\r\nConnection: close\r\n"+headers+"\r\n"+body)
	}
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "X-%d: v\r\n", i)
		}
		return b.String()
	}
	long := func(n int) string { return "X-Long: " + strings.Repeat("v", n) + "\r\n" }
	body := func(n int) (headers, body string) {
		return fmt.Sprintf("Content-Length: %d\r\n", n), strings.Repeat("b", n)
	}
	chunked := func(n int) string { return fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", n, strings.Repeat("b", n)) }
	require.Equal(t, []int{200}, ask(edgePlain, many(280), ""))
	require.Equal(t, []int{431}, ask(edgePlain, many(320), ""), "300 headers are the default")
	require.Equal(t, []int{200}, ask(edgePlain, long(40<<10), ""))
	require.Equal(t, []int{431}, ask(edgePlain, long(70<<10), ""), "60 KiB are the default")
	require.Equal(t, []int{431}, ask(edgeBare, many(25), ""))
	require.Equal(t, []int{431}, ask(edgeBare, long(5000), ""))
	h, b := body(9000)
	require.Equal(t, []int{200}, ask(edgeBare, h, b))
	h, b = body(11_000)
	require.Equal(t, []int{413}, ask(edgeBare, h, b))
	require.Equal(t, []int{200}, ask(edgeBare, "Transfer-Encoding: chunked\r\n", chunked(9000)))
	require.Equal(t, []int{413}, ask(edgeBare, "Transfer-Encoding: chunked\r\n", chunked(11_000)))
	require.Len(t, w.take(), 4)
	require.Equal(t, []int{408}, exchange(t, e.at(edgeBare), "GET /slow HTTP/1.1\r\nHost: shop.exa"), "who is slow to say what it wants")
	require.Empty(t, w.take())
}

// leadsNobodyRound asks for what a rule keeps from the backend in every other
// way of writing it.
func (e *edge) leadsNobodyRound(t *testing.T, w *witness) {
	t.Helper()
	for _, uri := range []string{
		"/private/a", "//private/a", "/./private/a", "/x/../private/a", "/x/%2e%2e/private/a", "/x/.%2e/private/a", "/%70rivate/a", "/private%2fa",
		"/x%2f..%2fprivate/a", "/x/..%2fprivate/a", "/x%5c..%5cprivate/a", "/x\\..\\private/a", "/private/../private/a", "/x//..//private/a", "/x/..;/private/a",
		"/x/%252e%252e/private/a", "/private;x=y/a", "/PRIVATE/../private/a", "/x/..%5cprivate/a", "/private/", "/private?a", "http://shop.example.com/x/../private/a",
	} {
		statuses := exchange(t, e.at(edgePlain), "GET "+uri+" HTTP/1.1\r\nHost: shop.example.com\r\nConnection: close\r\n\r\n")
		require.Len(t, statuses, 1, uri)
		for _, seen := range w.take() {
			u, err := url.ParseRequestURI(seen)
			require.NoError(t, err, uri)
			clean := path.Clean(strings.ReplaceAll(u.Path, "\\", "/"))
			require.False(t, clean == "/private" || strings.HasPrefix(clean, "/private/"), "%s: the backend was asked for %s", uri, seen)
		}
	}
}
