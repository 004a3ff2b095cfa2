package compile_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/compile"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// edgeKey is the Gateway of the tests here.
var edgeKey = discovery.Key{Namespace: "web", Name: "edge"}

// edge is an Envoy of a Gateway.
type edge struct {
	*harness.Envoy
	// at is where the Gateway's ports are.
	at map[uint16]string
}

// startGateway starts an Envoy that is all there is of a Gateway.
func startGateway(t *testing.T, m *policy.Gateway, services ...*policy.Service) *edge {
	t.Helper()
	e := &edge{at: make(map[uint16]string)}
	c := compile.New()
	var resources []resource.Resource
	for _, s := range services {
		resources = append(resources, c.Service(s)...)
	}
	resources = append(resources, c.Gateway(m)...)
	resources = append(resources, c.Certificates(m)...)
	for i := range m.Ports {
		number := m.Ports[i].Number
		e.at[number] = harness.FreeAddress(t)
		d, err := naming.ParseDeclaration(fmt.Sprintf("gateway/%s=%s:%d", e.at[number], m.Key, number))
		require.NoError(t, err)
		resources = append(resources, c.GatewayListeners(d, m)...)
	}
	requireNeedsMet(t, resources)
	e.Envoy = harness.StartEnvoy(t, static(t, resources, "web", callerZone, t.TempDir()), harness.EnvoyOptions{})
	return e
}

func gateway(ports ...policy.GatewayPort) *policy.Gateway {
	return &policy.Gateway{
		Key: edgeKey, Ports: ports,
		Provenance: []discovery.ObjectRef{{Kind: "Gateway", Key: edgeKey}},
	}
}

// plain is a port for HTTP with one listener for any host.
func plain(number uint16, s v1alpha1.GatewaySettings, hosts ...policy.GatewayHost) policy.GatewayPort {
	return policy.GatewayPort{
		Number: number, Protocol: policy.ListenHTTP, Settings: policy.GatewaySettings{GatewaySettings: s},
		Listeners: []policy.GatewayListener{{Name: fmt.Sprintf("http-%d", number), IsHTTP: true, Hosts: hosts}},
	}
}

// answers is what a Gateway does with requests to a domain.
func answers(domain string, rules ...policy.Rule) policy.GatewayHost {
	return policy.GatewayHost{Domain: domain, HTTPRoutes: *routes(edgeKey, rules...)}
}

// ask sends what is written to a port and returns all that comes back until
// the other side closes, which it does after a request that says so, and after one that is wrong.
func (e *edge) say(t *testing.T, port uint16, text string) string {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", e.at[port])
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	_, _ = io.WriteString(conn, text) // it may be closed before all is written
	out, _ := io.ReadAll(conn)        // a reset is a connection that is closed
	return string(out)
}

// statusOf is the status of what came back; "closed" for nothing.
func statusOf(answer string) string {
	if line, _, ok := strings.Cut(answer, "\r\n"); ok {
		if fields := strings.Fields(line); len(fields) > 1 {
			return fields[1]
		}
	}
	return "closed"
}

// request sends a request with headers, given as "Name: value", to a port.
func (e *edge) request(t *testing.T, port uint16, host, path string, headers ...string) answer {
	t.Helper()
	return e.ask(t, port, nil, host, path, headers...)
}

func (e *edge) ask(t *testing.T, port uint16, secure *tls.Config, host, path string, headers ...string) answer {
	t.Helper()
	out, err := e.tryAsk(t, port, secure, host, path, headers...)
	require.NoError(t, err)
	return out
}

func (e *edge) tryAsk(t *testing.T, port uint16, secure *tls.Config, host, path string, headers ...string) (answer, error) {
	t.Helper()
	transport := &http.Transport{
		DisableKeepAlives: true, ForceAttemptHTTP2: secure != nil && len(secure.NextProtos) == 0, TLSClientConfig: secure,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", e.at[port])
		},
	}
	defer transport.CloseIdleConnections()
	scheme := "http"
	if secure != nil {
		scheme = "https"
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+host+path, http.NoBody)
	require.NoError(t, err)
	for _, h := range headers {
		name, value, ok := strings.Cut(h, ": ")
		require.True(t, ok, h)
		r.Header.Add(name, value)
	}
	res, err := transport.RoundTrip(r)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return answer{res, string(body)}, err
}

// Hosts are told apart, the port in Host makes no difference, and answers tell
// nothing of what is inside.
func TestEdgeKnowsHosts(t *testing.T) {
	t.Parallel()
	b, other := startBackend(t, "shop"), startBackend(t, "other")
	shop, rest := pods("shop", policy.HTTP1, zone(callerZone, b)), pods("other", policy.HTTP1, zone(callerZone, other))
	b.answer(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "nginx/1.22.1")
		w.Header().Set("X-Envoy-Upstream-Service-Time", "7")
		_, _ = io.WriteString(w, "shop "+r.Host)
	})
	dead := pods("dead", policy.HTTP1, policy.Zone{Name: callerZone, Endpoints: []policy.Endpoint{refusing(t, "dead")}})
	e := startGateway(t, gateway(plain(80, v1alpha1.GatewaySettings{},
		answers("shop.example.com", only(shop)), answers("*.example.com", only(rest)), answers("dead.example.com", only(dead)),
		answers("broken.example.com", policy.Rule{Match: everything, Filters: policy.Filters{Failed: "secret words"}}),
		answers("*", policy.Rule{Match: prefix("/known"), Backends: []policy.Backend{to(rest)}}),
	)), shop, rest, dead)
	for host, want := range map[string]string{
		"shop.example.com": "shop shop.example.com", "shop.example.com:80": "shop shop.example.com:80", "SHOP.Example.com:8080": "shop SHOP.Example.com:8080",
		"shop.example.com.": "shop shop.example.com", "a.example.com": "other", "a.b.example.com": "other",
	} {
		require.Equal(t, want, e.request(t, 80, host, "/").body, host)
	}
	require.Equal(t, "other", e.request(t, 80, "elsewhere.test", "/known").body)
	a := e.request(t, 80, "elsewhere.test", "/unknown")
	require.Equal(t, http.StatusNotFound, a.StatusCode)
	require.Equal(t, "causeway: no route of the Gateway answers to the host \"elsewhere.test\", or no rule of its routes matches the request\n", a.body)
	for _, host := range []string{"shop.example.com", "a.example.com", "elsewhere.test", "dead.example.com", "broken.example.com"} {
		a := e.request(t, 80, host, "/")
		for name := range a.Header {
			require.NotContains(t, strings.ToLower(name), "x-envoy", host)
		}
		require.Equal(t, "causeway", a.Header.Get("Server"), host)
		require.Empty(t, a.Header.Get("Via"))
		if a.StatusCode >= 500 {
			require.Regexp(t, `^causeway: request [0-9a-f-]{36} could not be answered\n$`, a.body)
		}
	}
	require.Equal(t, http.StatusServiceUnavailable, e.request(t, 80, "dead.example.com", "/").StatusCode)
	require.Equal(t, http.StatusInternalServerError, e.request(t, 80, "broken.example.com", "/").StatusCode)
	// Who speaks HTTP/1.0 must name the host.
	require.Equal(t, "200", statusOf(e.say(t, 80, "GET / HTTP/1.0\r\nHost: shop.example.com\r\n\r\n")))
	require.Equal(t, "400", statusOf(e.say(t, 80, "GET / HTTP/1.0\r\n\r\n")))
}

func TestEdgeCarriesWebSocket(t *testing.T) {
	t.Parallel()
	b := startBackend(t, "ws")
	b.answer(func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
		_, _ = io.CopyN(conn, rw, 4)
	})
	ws := pods("ws", policy.HTTP1, zone(callerZone, b))
	// Even where requests are held until they are whole.
	s := v1alpha1.GatewaySettings{Limits: &v1alpha1.ClientLimits{BodyBytes: new(int32(2))}}
	e := startGateway(t, gateway(plain(80, s, answers("*", only(ws)))), ws)
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", e.at[80])
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = io.WriteString(conn, "GET /chat HTTP/1.1\r\nHost: ws.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
	require.NoError(t, err)
	in := bufio.NewReader(conn)
	res, err := http.ReadResponse(in, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, res.StatusCode)
	_, err = io.WriteString(conn, "ping")
	require.NoError(t, err)
	echo := make([]byte, 4)
	_, err = io.ReadFull(in, echo)
	require.NoError(t, err)
	require.Equal(t, "ping", string(echo))
}
