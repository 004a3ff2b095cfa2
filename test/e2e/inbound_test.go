package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/test/harness"
)

// get asks inside of the pod.
func (p *podnet) get(address, path string) (string, error) {
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: p.Dial, DisableKeepAlives: true}}
	answer, err := client.Get("http://" + address + path) //nolint:noctx // a limit of its own
	body, err := harness.ReadBody(answer, err)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", answer.Status, body)
	}
	return string(body), err
}

// stat returns a statistic of the pod's Envoy.
func (p *podnet) stat(t *testing.T, name string) int {
	t.Helper()
	text, err := p.get("127.0.0.1:15000", "/stats?filter=^"+name+"$")
	require.NoError(t, err)
	_, value, found := strings.Cut(strings.TrimSpace(text), name+": ")
	if !found {
		return 0
	}
	n, err := strconv.Atoi(value)
	require.NoError(t, err)
	return n
}

// inboundMesh has a Service of which the pod is the only endpoint.
const inboundMesh = `apiVersion: v1
kind: Service
metadata: {name: app, namespace: web}
spec:
  clusterIPs: [10.96.0.10]
  ports: [{name: http, port: 80}, {name: grpc, port: 90}, {name: tcp, port: 25}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: app-1, namespace: web, labels: {kubernetes.io/service-name: app}}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: grpc, port: 9090}, {name: tcp, port: 2525}]
endpoints:
- {addresses: [%s], conditions: {ready: true}, targetRef: {kind: Pod, name: app, namespace: web}}
---
apiVersion: mesh.causeway.dev/v1alpha1
kind: Mesh
metadata: {name: default}
spec: {egress: {mode: AllowAny}}
`

// startInboundPlane starts a control plane that the pod reaches.
func startInboundPlane(t *testing.T, p *podnet, mesh string) (server string) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, harness.WriteFile(filepath.Join(dir, "mesh.yaml"), []byte(mesh)))
	server = net.JoinHostPort(p.Node, strconv.Itoa(harness.FreePort(t)))
	plane := startReplica(t, "causeway", nil, "--config", dir, "--xds-listen", server, "--xds-insecure")
	plane.waitReady()
	return server
}

// raw accepts connections, reads a request's head on each, tells it, and answers.
func raw(l net.Listener, heads chan<- string, answer string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			in := bufio.NewReader(c)
			var head strings.Builder
			for {
				line, err := in.ReadString('\n')
				if err != nil {
					return
				}
				head.WriteString(line)
				if line == "\r\n" {
					break
				}
			}
			heads <- head.String()
			_, _ = io.WriteString(c, answer)
		}()
	}
}

// What an application and its clients see of each other is what they would see without the mesh.
func TestInboundChangesNothing(t *testing.T) {
	beside(t, 0.4, 10*time.Second)
	p := newPodnet(t, 0)
	server := startInboundPlane(t, p, fmt.Sprintf(inboundMesh, p.Address))
	p.join(t, server, []string{
		"--captured-listen", "127.0.0.1:15002=10.96.0.0/16", "--inbound-listen", "0.0.0.0:15006=8080/http,7000",
	}, []string{"--inbound-ports", "8080,7000"})
	heads := make(chan string, 1)
	exchange := func(port int, request string) (seen, answer string) {
		t.Helper()
		c, err := net.DialTimeout("tcp", net.JoinHostPort(p.Address, strconv.Itoa(port)), 5*time.Second) //nolint:noctx // a limit of its own
		require.NoError(t, err)
		defer c.Close()
		require.NoError(t, c.SetDeadline(time.Now().Add(10*time.Second)))
		_, err = io.WriteString(c, request)
		require.NoError(t, err)
		text, err := http.ReadResponse(bufio.NewReader(c), nil)
		require.NoError(t, err, "port %d: %s", port, request)
		defer text.Body.Close()
		var out bytes.Buffer
		fmt.Fprintf(&out, "%s\n", text.Status)
		require.NoError(t, text.Header.Write(&out))
		body, err := io.ReadAll(text.Body)
		require.NoError(t, err)
		out.Write(body)
		select {
		case seen = <-heads:
		case <-time.After(5 * time.Second):
			t.Fatalf("the application sees nothing of %s and answers %s", request, out.String())
		}
		return seen, out.String()
	}
	const answer = "HTTP/1.1 201 Made It\r\nServer: app/1\r\nDate: Mon, 30 Nov 2026 20:14:08 GMT\r\nX-Own: 1\r\nX-Envoy-Own: 2\r\nSet-Cookie: a=b\r\nContent-Length: 2\r\n\r\nok"
	for _, port := range []int{8080, 7000, 8081} { // the last one is not captured
		go raw(p.listen(t, port), heads, answer)
	}
	for _, request := range []string{
		"GET / HTTP/1.1\r\nHost: app.example\r\n\r\n",
		"GET /a//b/../c%2Fd?x=%20&y HTTP/1.1\r\nHost: App.Example:8080\r\nX-CamelCase: Yes\r\nx_under_score: 1\r\nAccept: */*\r\n\r\n",
		"OPTIONS / HTTP/1.1\r\nHost: app.example\r\nContent-Length: 0\r\n\r\n",
		"BAN /x HTTP/1.1\r\nHost: app.example\r\nContent-Length: 0\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.7, 10.0.0.1\r\nX-Forwarded-Proto: https\r\nX-Real-IP: 203.0.113.7\r\nForwarded: for=203.0.113.7\r\nX-Request-Id: 1\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Client-Cert: By=x\r\nX-Envoy-External-Address: 203.0.113.7\r\nTraceparent: 00-1-1-01\r\nUser-Agent: u\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nCookie: " + strings.Repeat("c", 100_000) + "\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X-Many: 1\r\n", 300) + "\r\n",
	} {
		want, answered := exchange(8081, request)
		for _, port := range []int{8080, 7000} {
			seen, got := exchange(port, request)
			require.Equal(t, want, seen, "port %d", port)
			require.Equal(t, answered, got, "port %d: %s", port, request)
		}
	}
	require.Equal(t, 18, p.stat(t, "http.inbound_http.downstream_rq_total"), "they went through Envoy")
	seen, _ := exchange(8080, "GET / HTTP/1.0\r\n\r\n")
	require.Equal(t, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", seen)
}

// Every protocol comes to the application, from outside and from the application itself by its own Service.
func TestInbound(t *testing.T) {
	beside(t, 0.5, 15*time.Second)
	p := newPodnet(t, 1)
	server := startInboundPlane(t, p, fmt.Sprintf(inboundMesh, p.Address))
	p.join(t, server, []string{
		"--captured-listen", "127.0.0.1:15002=10.96.0.0/16", "--inbound-listen", "0.0.0.0:15006=8080/http,9090/grpc,2525/tcp,3306,7000,7001,8443",
		"--inbound-listen", "[::]:15006=8080/http",
	}, []string{"--inbound-ports", "8080,9090,2525,3306,7000,7001,8443,7999"})
	var both http.Protocols
	both.SetHTTP1(true)
	both.SetUnencryptedHTTP2(true)
	serve := func(port int) {
		s := &http.Server{ReadHeaderTimeout: time.Minute, Protocols: &both, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n, _ := io.Copy(io.Discard, r.Body)
			w.Header().Set("Trailer", "X-Sum")
			fmt.Fprintf(w, "%s %d from %s", r.Proto, n, r.RemoteAddr[:strings.LastIndex(r.RemoteAddr, ":")])
			w.Header().Set("X-Sum", strconv.FormatInt(n, 10))
		})}
		go func() { _ = s.Serve(p.listen(t, port)) }()
		t.Cleanup(func() { _ = s.Close() })
	}
	serve(8080)
	serve(7000)
	serve(7999) // captured, and not declared
	greeter := func(port int) { go greetOn(p.listen(t, port)) }
	greeter(2525)
	greeter(3306)
	greeter(7001)
	g := grpc.NewServer()
	healthv1.RegisterHealthServer(g, health.NewServer())
	go func() { _ = g.Serve(p.listen(t, 9090)) }()
	t.Cleanup(g.Stop)

	type dialer = func(ctx context.Context, network, address string) (net.Conn, error)
	outside := (&net.Dialer{}).DialContext
	ask := func(dial dialer, address string, http2 bool, body io.Reader) string {
		t.Helper()
		var protocols http.Protocols
		protocols.SetHTTP1(!http2)
		protocols.SetUnencryptedHTTP2(http2)
		client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DialContext: dial, Protocols: &protocols}}
		defer client.CloseIdleConnections()
		answer, err := client.Post("http://"+address+"/", "", body) //nolint:noctx // a limit of its own
		text, err := harness.ReadBody(answer, err)
		require.NoError(t, err)
		return string(text)
	}
	own := " from " + p.Address
	at := func(port int) string { return net.JoinHostPort(p.Address, strconv.Itoa(port)) }
	for _, from := range []struct {
		name            string
		dial            dialer
		web, rpc, greet string
	}{
		{"from outside", outside, at(8080), at(9090), at(2525)},
		{"from the application to its own Service", p.Dial, "10.96.0.10:80", "10.96.0.10:90", "10.96.0.10:25"},
		{"from the application to its own address", p.Dial, at(8080), at(9090), at(2525)},
	} {
		before := p.stat(t, "http.inbound_http.downstream_rq_total")
		require.Equal(t, "HTTP/1.1 3"+own, ask(from.dial, from.web, false, strings.NewReader("abc")), from.name)
		require.Equal(t, before+1, p.stat(t, "http.inbound_http.downstream_rq_total"), "%s: it is inbound once", from.name)
		c, err := grpc.NewClient("passthrough:///"+from.rpc, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, a string) (net.Conn, error) { return from.dial(ctx, "tcp", a) }))
		require.NoError(t, err)
		answer, err := healthv1.NewHealthClient(c).Check(t.Context(), &healthv1.HealthCheckRequest{})
		require.NoError(t, err, from.name)
		require.Equal(t, healthv1.HealthCheckResponse_SERVING, answer.GetStatus())
		require.NoError(t, c.Close())
		greeted(t, from.dial, from.greet, time.Second)
	}
	require.Equal(t, "HTTP/1.1 3 from ["+p.Address6+"]", ask(outside, "["+p.Address6+"]:8080", false, strings.NewReader("abc")), "over IPv6")
	require.Equal(t, "HTTP/2.0 3"+own, ask(outside, at(8080), true, strings.NewReader("abc")), "by prior knowledge")
	require.Equal(t, "HTTP/2.0 3"+own, ask(outside, at(7000), true, strings.NewReader("abc")), "by prior knowledge, found out")
	require.Equal(t, "HTTP/1.1 3"+own, ask(outside, at(7000), false, strings.NewReader("abc")))
	require.Equal(t, "HTTP/1.1 67108864"+own, ask(outside, at(8080), false, io.LimitReader(zeros{}, 64<<20)), "a large upload")
	require.Equal(t, "HTTP/1.1 3"+own, ask(outside, at(7999), false, strings.NewReader("abc")), "a port that is not declared")
	greeted(t, outside, at(3306), 40*time.Millisecond)
	greeted(t, outside, at(7001), time.Second)

	// Nobody gets in a circle.
	c, err := outside(t.Context(), "tcp", at(naming.InboundPort))
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(5*time.Second)))
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	n, err := c.Read(make([]byte, 100))
	require.Zero(t, n)
	require.Error(t, err)
	require.NotErrorIs(t, err, context.DeadlineExceeded)
	// Nobody listens there.
	_, err = p.get(at(9091), "/")
	require.Error(t, err)
}

// zeros has no end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// greeted waits for a server that speaks first, for so long at most, and has it repeat something.
func greeted(t *testing.T, dial func(context.Context, string, string) (net.Conn, error), address string, within time.Duration) {
	t.Helper()
	began := time.Now()
	c, err := dial(t.Context(), "tcp", address)
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(10*time.Second)))
	buffer := make([]byte, 64)
	n, err := c.Read(buffer)
	require.NoError(t, err, address)
	require.Equal(t, "hello\n", string(buffer[:n]))
	require.Less(t, time.Since(began), within, address)
	_, err = io.WriteString(c, "PROXY TCP4")
	require.NoError(t, err)
	n, err = c.Read(buffer)
	require.NoError(t, err)
	require.Equal(t, "PROXY TCP4", string(buffer[:n]))
}

// Load from outside and from the mesh, while the application closes connections that are idle: no request fails.
func TestInboundUnderLoad(t *testing.T) {
	beside(t, 1, 20*time.Second)
	p := newPodnet(t, 2)
	server := startInboundPlane(t, p, fmt.Sprintf(inboundMesh, p.Address))
	p.join(t, server, []string{
		"--captured-listen", "127.0.0.1:15002=10.96.0.0/16", "--inbound-listen", "0.0.0.0:15006=8080/http,7000",
	}, []string{"--inbound-ports", "8080,7000"})
	for _, port := range []int{8080, 7000} {
		s := &http.Server{ReadHeaderTimeout: time.Minute, IdleTimeout: 2 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			fmt.Fprint(w, "ok")
		})}
		go func() { _ = s.Serve(p.listen(t, port)) }()
		t.Cleanup(func() { _ = s.Close() })
	}
	var loads []*harness.Load
	for _, port := range []int{8080, 7000} {
		for _, rate := range []float64{2, 200} {
			loads = append(loads, harness.StartLoad(t, harness.LoadOptions{
				URL: fmt.Sprintf("http://%s:%d/", p.Address, port), Method: http.MethodPost, Body: []byte("x"), Rate: rate, Workers: 16,
			}))
		}
	}
	loads[0].WaitAnswers(t, 10, 30*time.Second)
	loads[2].WaitAnswers(t, 10, 30*time.Second)
	for _, l := range loads {
		l.Stop().RequireNoFailures(t)
	}
}

// On SIGTERM clients are told to go elsewhere, and nothing breaks: neither connections that are open nor what the
// application itself sends.
func TestInboundDrains(t *testing.T) {
	beside(t, 0.3, 10*time.Second)
	p := newPodnet(t, 3)
	mesh := fmt.Sprintf(inboundMesh, p.Address)
	server := startInboundPlane(t, p, mesh)
	p.join(t, server, []string{
		"--captured-listen", "127.0.0.1:15002=10.96.0.0/16", "--inbound-listen", "0.0.0.0:15006=8080/http,2525/tcp",
	}, []string{"--inbound-ports", "8080,2525"})
	s := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })}
	go func() { _ = s.Serve(p.listen(t, 8080)) }()
	t.Cleanup(func() { _ = s.Close() })
	go greetOn(p.listen(t, 2525))

	conversation, err := net.Dial("tcp", net.JoinHostPort(p.Address, "2525")) //nolint:noctx // closed below
	require.NoError(t, err)
	defer conversation.Close()
	require.NoError(t, conversation.SetDeadline(time.Now().Add(30*time.Second)))
	buffer := make([]byte, 64)
	_, err = conversation.Read(buffer)
	require.NoError(t, err)

	closes := func(dial func(context.Context, string, string) (net.Conn, error), address string) bool {
		t.Helper()
		client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DialContext: dial}}
		defer client.CloseIdleConnections()
		answer, err := client.Get("http://" + address) //nolint:noctx // a limit of its own
		_, err = harness.ReadBody(answer, err)
		require.NoError(t, err)
		return answer.Close
	}
	outside := (&net.Dialer{}).DialContext
	inbound := net.JoinHostPort(p.Address, "8080")
	require.False(t, closes(outside, inbound))
	p.agent.Signal(syscall.SIGTERM)
	p.agent.Await(t, 5*time.Second, "clients to be told to go", func() error {
		if !closes(outside, inbound) {
			return errors.New("they may stay")
		}
		return nil
	})
	require.False(t, closes(p.Dial, "10.96.0.10:80"), "what goes out is left alone")
	_, err = io.WriteString(conversation, "still there")
	require.NoError(t, err)
	n, err := conversation.Read(buffer)
	require.NoError(t, err)
	require.Equal(t, "still there", string(buffer[:n]))
	select {
	case <-p.agent.Exited():
		t.Fatal("the agent did not wait for the connection")
	default:
	}
	require.NoError(t, conversation.Close())
	<-p.agent.Exited()
	require.NoError(t, p.agent.Err())
}

// An application that ends and is started again loses no request of callers in the mesh, POST neither; and it has websockets.
func TestInboundRestart(t *testing.T) {
	beside(t, 0.6, 15*time.Second)
	p := newPodnet(t, 4)
	harness.StartWorkload(t, harness.WorkloadOptions{Kind: harness.Go, Address: netip.MustParseAddr(p.Node), Port: 8080, ID: "other", Platform: "pods"})
	server := startInboundPlane(t, p, fmt.Sprintf(inboundMesh, p.Address+`], conditions: {ready: true}, targetRef: {kind: Pod, name: other, namespace: web}}
- {addresses: [`+p.Node))
	p.join(t, server, []string{"--inbound-listen", "0.0.0.0:15006=8080/http"}, []string{"--inbound-ports", "8080"})
	caller := startHost(t, server)
	serve := func() *http.Server {
		mux := http.NewServeMux()
		mux.Handle("/websocket", websocket.Server{Handler: func(c *websocket.Conn) { _, _ = io.Copy(c, c) }})
		mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
		s := &http.Server{ReadHeaderTimeout: time.Minute, Handler: mux}
		l := p.listen(t, 8080)
		go func() { _ = s.Serve(l) }()
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	app := serve()
	caller.Await(t, 30*time.Second, "the caller to reach the application", func() error {
		status, body, err := caller.get(caller.http, "/", "app.web")
		if err != nil || status != http.StatusOK {
			return fmt.Errorf("%d: %s, %w", status, body, err)
		}
		return nil
	})
	config, err := websocket.NewConfig("ws://app.web/websocket", "http://app.web/")
	require.NoError(t, err)
	c, err := net.Dial("tcp", net.JoinHostPort(p.Address, "8080")) //nolint:noctx // closed below
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(10*time.Second)))
	socket, err := websocket.NewClient(config, c)
	require.NoError(t, err)
	require.NoError(t, websocket.Message.Send(socket, "hello"))
	var heard string
	require.NoError(t, websocket.Message.Receive(socket, &heard))
	require.Equal(t, "hello", heard)
	require.NoError(t, c.Close())

	// One that is ending takes nothing any more, before callers know of it: they ask the other one, POST too.
	load := func(method string) *harness.Load {
		return harness.StartLoad(t, harness.LoadOptions{URL: "http://" + caller.http + "/", Host: "app.web", Method: method, Rate: 100, Workers: 16})
	}
	get := load(http.MethodGet)
	for range 5 {
		get.WaitAnswers(t, 50, 30*time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		_ = app.Shutdown(ctx)
		cancel()
		post := load(http.MethodPost)
		post.WaitAnswers(t, 50, 30*time.Second)
		post.Stop().RequireNoFailures(t)
		app = serve()
	}
	get.WaitAnswers(t, 50, 30*time.Second)
	get.Stop().RequireNoFailures(t)
	require.Positive(t, p.stat(t, "http.inbound_http.downstream_rq_total"))
}

// The node's probes ask the application and not Envoy: one that checks for a connection fails while the application does
// not listen. Everybody else comes by Envoy.
func TestProbesAskTheApplication(t *testing.T) {
	beside(t, 0.2, 6*time.Second)
	p := newPodnet(t, 5)
	const peer = "203.0.113.9"
	harness.IP(t, nil, "address add "+peer+"/32 dev lo\n")
	t.Cleanup(func() { harness.IP(t, nil, "address delete "+peer+"/32 dev lo\n") })
	server := startInboundPlane(t, p, fmt.Sprintf(inboundMesh, p.Address))
	p.join(t, server, []string{"--inbound-listen", "0.0.0.0:15006=8080/http"}, []string{"--inbound-ports", "8080", "--exclude-inbound-cidrs", "gateways,198.51.100.7"})
	from := func(address string) error {
		dialer := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
		c, err := dialer.DialContext(t.Context(), "tcp", net.JoinHostPort(p.Address, "8080"))
		if err == nil {
			err = c.Close()
		}
		return err
	}
	require.ErrorIs(t, from(p.Node), syscall.ECONNREFUSED)
	require.NoError(t, from(peer), "Envoy takes it")
	_ = p.listen(t, 8080)
	require.NoError(t, from(p.Node))
}
