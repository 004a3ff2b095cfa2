package compile_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/compile"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// These tests say what policies about clusters mean, in the words of the real
// Envoy: what it does with real backends.

func duration(d time.Duration) *metav1.Duration { return &metav1.Duration{Duration: d} }

// under returns a Service whose requests and clusters have settings.
func under(s v1alpha1.TrafficSettings, m *policy.Service) *policy.Service {
	for i := range m.Ports {
		m.Ports[i].Settings = settings(s)
		for j := range m.Ports[i].Backings {
			m.Ports[i].Backings[j].Settings = settings(s)
		}
	}
	return m
}

func settings(s v1alpha1.TrafficSettings) policy.Settings {
	out := policy.Settings{Stated: s, From: make(map[string]discovery.ObjectRef)}
	for _, section := range []string{
		"timeout", "timeout.connect", "timeout.streamAge", "retry", "retry.budgetPercent", "connectionPool", "outlierDetection",
		"healthCheck", "loadBalancer", "loadBalancer.hash", "locality", "sessionPersistence", "fault", "proxyProtocol", "tls",
	} {
		out.From[section] = discovery.ObjectRef{Kind: "TrafficPolicy"}
	}
	return out
}

// policyMesh is an Envoy with Services and ExternalServices under policies.
type policyMesh struct {
	services  []*policy.Service
	externals []*policy.External
	declared  []string
	allowAny  bool
	// systemCAs are the CAs of the proxy's host, in PEM.
	systemCAs []byte
	// edit changes resources before Envoy gets them.
	edit func(resource.Resource) resource.Resource
}

func (o policyMesh) start(t *testing.T) *mesh {
	t.Helper()
	m := &mesh{
		dir: t.TempDir(), compiler: compile.New(), endpoints: make(map[string]string), http: harness.FreeAddress(t),
	}
	resources := m.compiler.Mesh(&policy.Mesh{AllowAny: o.allowAny})
	byKey := make(map[discovery.Key]*policy.Service)
	for _, s := range o.services {
		byKey[s.Key] = s
		resources = append(resources, m.compiler.Service(s)...)
	}
	for _, e := range o.externals {
		resources = append(resources, m.compiler.External(e)...)
	}
	for _, text := range append(o.declared, "http/"+m.http) {
		d, err := naming.ParseDeclaration(text)
		require.NoError(t, err)
		resources = append(resources, m.compiler.Listener(d, byKey[d.Service])...)
	}
	for i, r := range resources {
		if o.edit != nil {
			resources[i] = o.edit(r)
		}
		if r.Type == resource.Endpoint {
			m.endpoints[r.Name] = string(inZone(r, callerZone).Bytes())
		}
	}
	bootstrap := withSystemCAs(t, static(t, resources, "web", callerZone, m.dir), o.systemCAs)
	m.Envoy = harness.StartEnvoy(t, bootstrap, harness.EnvoyOptions{})
	m.client = &http.Client{
		Timeout: 20 * time.Second,
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", m.http)
		}},
	}
	t.Cleanup(m.client.CloseIdleConnections)
	return m
}

// withSystemCAs gives a bootstrap the secret that proxies have of their hosts.
func withSystemCAs(t *testing.T, bootstrap, cas []byte) []byte {
	t.Helper()
	if cas == nil {
		return bootstrap
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(file, cas, 0o600))
	var config map[string]any
	require.NoError(t, json.Unmarshal(bootstrap, &config))
	static := config["staticResources"].(map[string]any)
	secrets, _ := static["secrets"].([]any)
	static["secrets"] = append(secrets, map[string]any{
		"name": compile.SystemCAs, "validationContext": map[string]any{"trustedCa": map[string]any{"filename": file}},
	})
	out, err := json.Marshal(config)
	require.NoError(t, err)
	return out
}

// get sends one request and returns its answer and body.
func (m *mesh) get(t *testing.T, host, path string, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+host+path, http.NoBody)
	require.NoError(t, err)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := m.client.Do(r)
	require.NoError(t, err)
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	return answer, string(body)
}

func (m *mesh) stat(t *testing.T, name string) uint64 {
	t.Helper()
	return m.Stats(t, name)[name]
}

func TestEnvoyLimitsConcurrency(t *testing.T) {
	t.Parallel()
	instances := startBackend(t, "i-1")
	pool := func(p v1alpha1.ConnectionPool, m *policy.Service) *policy.Service {
		return under(v1alpha1.TrafficSettings{ConnectionPool: &p}, m)
	}
	slow := make(map[string]*backend)
	release := make(map[string]chan struct{})
	for _, host := range []string{"connections", "requests", "aggregate"} {
		b, end := startBackend(t, host), make(chan struct{})
		b.answer(func(http.ResponseWriter, *http.Request) { <-end })
		slow[host], release[host] = b, end
	}
	two := v1alpha1.ConnectionPool{MaxConnections: new(int32(2)), MaxPendingRequests: new(int32(1))}
	m := policyMesh{services: []*policy.Service{
		pool(two, pods("connections", policy.HTTP1, zone(callerZone, slow["connections"]))),
		pool(v1alpha1.ConnectionPool{MaxRequests: new(int32(2))}, pods("requests", policy.HTTP1, zone(callerZone, slow["requests"]))),
		// The limit holds behind an aggregate cluster too, and is no reason to fail over.
		pool(two, both("aggregate", policy.HTTP1, policy.ShareTotal, zone(callerZone, slow["aggregate"]), zone(callerZone, instances))),
	}}.start(t)
	for host, b := range slow {
		var wg sync.WaitGroup
		answers := make(chan int, 3)
		send := func() {
			wg.Go(func() {
				answer, _ := m.get(t, host+".web", "/")
				answers <- answer.StatusCode
			})
		}
		want := 0
		for range 2 {
			send()
			want++
			harness.Eventually(t, 5*time.Second, "the backend to be busy", func() error {
				if n := b.hits.Load(); n < int64(want) {
					return fmt.Errorf("it has %d requests", n)
				}
				return nil
			})
		}
		if host != "requests" {
			send()
			want++
			m.WaitStat(t, 5*time.Second, "cluster.web/"+host+"/80/pods.upstream_rq_pending_active", 1)
		}
		answer, _ := m.get(t, host+".web", "/")
		require.Equal(t, http.StatusServiceUnavailable, answer.StatusCode, host)
		require.Equal(t, "true", answer.Header.Get("X-Envoy-Overloaded"), host)
		require.Zero(t, m.stat(t, "cluster.web/"+host+"/80/pods.upstream_rq_retry"), "%s: it is not tried again", host)
		close(release[host])
		wg.Wait()
		for range want {
			require.Equal(t, http.StatusOK, <-answers, host)
		}
	}
	require.Zero(t, instances.hits.Load())
}

// unanswered returns an endpoint to which connections are neither made nor
// refused: its queue is full.
func unanswered(t *testing.T, id string) policy.Endpoint {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = syscall.Close(fd) })
	require.NoError(t, syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	require.NoError(t, syscall.Listen(fd, 0))
	name, err := syscall.Getsockname(fd)
	require.NoError(t, err)
	port := name.(*syscall.SockaddrInet4).Port
	for {
		conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), 200*time.Millisecond)
		if err != nil {
			break
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	return policy.Endpoint{ID: id, Address: "127.0.0.1", Port: uint16(port), Weight: 1} //nolint:gosec // a port
}

func TestEnvoyGivesUpConnecting(t *testing.T) {
	t.Parallel()
	full := policy.Zone{Name: callerZone, Endpoints: []policy.Endpoint{unanswered(t, "full")}}
	m := policyMesh{services: []*policy.Service{
		under(v1alpha1.TrafficSettings{Timeout: &v1alpha1.Timeout{Connect: duration(100 * time.Millisecond)}}, pods("brief", policy.HTTP1, full)),
	}}.start(t)
	begun := time.Now()
	answer, body := m.get(t, "brief.web", "/")
	require.Equal(t, http.StatusServiceUnavailable, answer.StatusCode, body)
	require.Less(t, time.Since(begun), 1900*time.Millisecond, "the default of 2s would be longer for one attempt of four")
	require.Positive(t, m.stat(t, "cluster.web/brief/80/pods.upstream_cx_connect_timeout"))
}

func TestEnvoyLimitsTCPConnections(t *testing.T) {
	t.Parallel()
	echo := startRaw(t, "echo", func(conn net.Conn) { _, _ = io.Copy(conn, conn) })
	address := harness.FreeAddress(t)
	policyMesh{
		services: []*policy.Service{
			under(v1alpha1.TrafficSettings{ConnectionPool: &v1alpha1.ConnectionPool{MaxConnections: new(int32(1))}}, pods("db", policy.TCP, zone(callerZone, echo))),
		},
		declared: []string{"tcp/" + address + "=web/db:80"},
	}.start(t)
	say := func() (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		require.NoError(t, conn.SetDeadline(time.Now().Add(5*time.Second)))
		_, _ = io.WriteString(conn, "hi")
		_, err = io.ReadFull(conn, make([]byte, 2))
		return conn, err
	}
	first, err := say()
	require.NoError(t, err)
	_, err = say()
	require.Error(t, err, "a second connection is closed")
	require.NoError(t, first.Close())
	harness.Eventually(t, 5*time.Second, "room for another connection", func() error {
		_, err := say()
		return err
	})
}

func TestEnvoyLimitsRetries(t *testing.T) {
	t.Parallel()
	b := startBackend(t, "overloaded")
	b.answer(func(w http.ResponseWriter, _ *http.Request) {
		harness.TakeTime(200 * time.Millisecond)
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	m := policyMesh{services: []*policy.Service{
		under(v1alpha1.TrafficSettings{Retry: &v1alpha1.Retry{BudgetPercent: new(int32(10))}}, pods("budget", policy.HTTP1, zone(callerZone, b))),
		pods("default", policy.HTTP1, zone(callerZone, b)),
		under(v1alpha1.TrafficSettings{Retry: &v1alpha1.Retry{BudgetPercent: new(int32(10))}},
			both("aggregate", policy.HTTP1, policy.ShareTotal, zone(callerZone, b), zone(callerZone, b))),
	}}.start(t)
	for _, host := range []string{"budget", "default", "aggregate"} {
		m.together(t, 40, http.MethodGet, host+".web")
	}
	const name = ".upstream_rq_retry_overflow"
	require.Positive(t, m.stat(t, "cluster.web/budget/80/pods"+name))
	require.Positive(t, m.stat(t, "cluster.web/aggregate/80/pods+instances"+name))
	require.Zero(t, m.stat(t, "cluster.web/default/80/pods"+name))
}

func TestEnvoyClosesConnections(t *testing.T) {
	t.Parallel()
	b := startBackend(t, "b")
	var mu sync.Mutex
	remotes := make(map[string]map[string]bool) // by host, the connections that requests came over
	b.answer(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if remotes[r.Host] == nil {
			remotes[r.Host] = make(map[string]bool)
		}
		remotes[r.Host][r.RemoteAddr] = true
	})
	used := func(host string) int {
		mu.Lock()
		defer mu.Unlock()
		return len(remotes[host])
	}
	pool := func(name string, p v1alpha1.ConnectionPool) *policy.Service {
		return under(v1alpha1.TrafficSettings{ConnectionPool: &p}, pods(name, policy.HTTP1, zone(callerZone, b)))
	}
	m := policyMesh{services: []*policy.Service{
		pool("three", v1alpha1.ConnectionPool{MaxRequestsPerConnection: new(int32(3))}),
		pool("idle", v1alpha1.ConnectionPool{IdleTimeout: duration(300 * time.Millisecond)}),
		pool("age", v1alpha1.ConnectionPool{MaxConnectionAge: duration(300 * time.Millisecond)}),
		pods("default", policy.HTTP1, zone(callerZone, b)),
	}}.start(t)
	for range 9 {
		m.get(t, "three.web", "/")
		m.get(t, "default.web", "/")
	}
	require.Equal(t, 3, used("three.web"))
	require.Equal(t, 1, used("default.web"))
	m.get(t, "idle.web", "/")
	m.get(t, "age.web", "/")
	// Less than the default of 4s for idle connections.
	m.WaitStat(t, 2*time.Second, "cluster.web/idle/80/pods.upstream_cx_idle_timeout", 1)
	m.WaitStat(t, 2*time.Second, "cluster.web/age/80/pods.upstream_cx_max_duration_reached", 1)
	m.get(t, "idle.web", "/")
	m.get(t, "age.web", "/")
	require.Equal(t, 2, used("idle.web"))
	require.Equal(t, 2, used("age.web"))
}

// timeout.streamAge ends a websocket that is busy, at its backing alone, whatever the route says of requests.
func TestEnvoyEndsOldStreams(t *testing.T) {
	t.Parallel()
	b := startBackend(t, "ws")
	b.answer(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			return
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
		_, _ = io.Copy(conn, rw)
	})
	service := func(name string, timeout v1alpha1.Timeout) *policy.Service {
		return under(v1alpha1.TrafficSettings{Timeout: &timeout}, pods(name, policy.HTTP1, zone(callerZone, b)))
	}
	m := policyMesh{services: []*policy.Service{
		service("aged", v1alpha1.Timeout{StreamAge: duration(time.Second)}),
		service("both", v1alpha1.Timeout{StreamAge: duration(time.Second), Request: duration(300 * time.Millisecond)}),
		service("free", v1alpha1.Timeout{StreamAge: duration(0)}),
	}}.start(t)
	open := func(name string) (conn io.Writer, rest io.Reader) {
		head, c, r := m.raw(t, "GET /chat HTTP/1.1\r\nHost: "+name+".web\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
		require.Contains(t, head, "101 Switching Protocols")
		return c, r
	}
	echo := func(w io.Writer, r io.Reader) error {
		if _, err := io.WriteString(w, "ping"); err != nil {
			return err
		}
		_, err := io.ReadFull(r, make([]byte, 4))
		return err
	}
	freeW, freeR := open("free")
	for _, name := range []string{"aged", "both"} {
		w, r := open(name)
		began := time.Now()
		var err error
		for err == nil && time.Since(began) < 8*time.Second {
			err = echo(w, r)
		}
		require.Error(t, err, "%s ends although it is busy", name)
		require.Greater(t, time.Since(began), 800*time.Millisecond, name)
		m.WaitStat(t, 5*time.Second, "cluster.web/"+name+"/80/pods.upstream_rq_max_duration_reached", 1)
		m.get(t, name+".web", "/")
	}
	require.NoError(t, echo(freeW, freeR), "0s is no bound")
}

func TestEnvoyEjects(t *testing.T) {
	t.Parallel()
	good := startBackend(t, "good")
	broken := func(name string, status int) *backend {
		b := startBackend(t, name)
		b.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
		return b
	}
	bad500, bad502, plain500 := broken("500", 500), broken("502", 502), broken("plain", 500)
	brief := broken("brief", 500)
	eject := func(name string, o v1alpha1.OutlierDetection, bad ...*backend) *policy.Service {
		o.Interval = duration(100 * time.Millisecond)
		return under(v1alpha1.TrafficSettings{
			OutlierDetection: &o, LoadBalancer: &v1alpha1.LoadBalancer{Algorithm: v1alpha1.RoundRobin},
		}, pods(name, policy.HTTP1, zone(callerZone, append(bad, good)...)))
	}
	m := policyMesh{services: []*policy.Service{
		eject("fives", v1alpha1.OutlierDetection{Consecutive5xx: new(int32(3))}, bad500),
		eject("gateways", v1alpha1.OutlierDetection{ConsecutiveGatewayErrors: new(int32(2))}, bad502, plain500),
		eject("brief", v1alpha1.OutlierDetection{Consecutive5xx: new(int32(2)), BaseEjectionTime: duration(3 * time.Second)}, brief),
		eject("half", v1alpha1.OutlierDetection{Consecutive5xx: new(int32(1)), MaxEjectionPercent: new(int32(40))}, bad500, broken("other", 500), broken("third", 500)),
	}}.start(t)

	// An ejection takes Envoy's main thread, so it may come some requests later. Once it is there, no request
	// goes to the endpoint.
	ejected := func(service, status string, n int) {
		t.Helper()
		got := 0
		harness.Eventually(t, 20*time.Second, "an ejection from "+service, func() error {
			got += m.ask(t, 4, http.MethodGet, service+".web")[status]
			if m.stat(t, "cluster.web/"+service+"/80/pods.outlier_detection.ejections_active") == 0 {
				return fmt.Errorf("%d times %s", got, status)
			}
			return nil
		})
		require.GreaterOrEqual(t, got, n)
		require.Less(t, got, n+15)
		require.Zero(t, m.ask(t, 20, http.MethodGet, service+".web")[status])
	}
	ejected("fives", "500", 3)
	ejected("gateways", "502", 2)
	require.InDelta(t, 30, m.ask(t, 60, http.MethodGet, "gateways.web")["500"], 5, "an application's own errors do not eject")

	ejected("brief", "500", 2)
	before := brief.hits.Load()
	harness.Eventually(t, 8*time.Second, "the endpoint to be back before the default of 10s", func() error {
		m.ask(t, 4, http.MethodGet, "brief.web")
		if brief.hits.Load() == before {
			return fmt.Errorf("it had %d requests", before)
		}
		return nil
	})

	m.ask(t, 40, http.MethodGet, "half.web")
	require.Equal(t, uint64(1), m.stat(t, "cluster.web/half/80/pods.outlier_detection.ejections_active"), "40 %% of four is one")
}

func TestEnvoyChecksHealth(t *testing.T) {
	t.Parallel()
	good, bad := startBackend(t, "good"), startBackend(t, "bad")
	hosts := make(chan string, 100)
	bad.answer(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" {
			select {
			case hosts <- r.Host:
			default:
			}
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_, _ = io.WriteString(w, "bad")
	})
	check := func(h v1alpha1.ActiveHealthCheck) v1alpha1.TrafficSettings {
		h.Interval, h.UnhealthyThreshold, h.HealthyThreshold = duration(time.Second), new(int32(1)), new(int32(1))
		return v1alpha1.TrafficSettings{HealthCheck: &h}
	}
	serving := func(name string, status healthv1.HealthCheckResponse_ServingStatus) *backend {
		listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		require.NoError(t, err)
		server, h := grpc.NewServer(), health.NewServer()
		h.SetServingStatus("shop", status)
		healthv1.RegisterHealthServer(server, h)
		go func() { _ = server.Serve(listener) }()
		t.Cleanup(server.Stop)
		return &backend{name: name, listener: listener}
	}
	up, down := serving("up", healthv1.HealthCheckResponse_SERVING), serving("down", healthv1.HealthCheckResponse_NOT_SERVING)
	dead := zone(callerZone, good)
	dead.Endpoints = append(dead.Endpoints, refusing(t, "dead"))
	http1 := v1alpha1.ActiveHealthCheck{HTTP: &v1alpha1.HTTPHealthCheck{Path: "/healthz"}}
	m := policyMesh{services: []*policy.Service{
		under(check(http1), pods("http", policy.HTTP1, zone(callerZone, good, bad))),
		under(check(http1), both("home", policy.HTTP1, policy.ShareTotal, zone(callerZone, bad), zone(callerZone, good))),
		under(check(v1alpha1.ActiveHealthCheck{}), pods("tcp", policy.HTTP1, dead)),
		under(check(v1alpha1.ActiveHealthCheck{GRPC: &v1alpha1.GRPCHealthCheck{Service: "shop"}}), pods("grpc", policy.HTTP2, zone(callerZone, up, down))),
	}}.start(t)
	require.Equal(t, map[string]int{"good": 30}, m.ask(t, 30, http.MethodGet, "http.web"))
	require.Contains(t, []string{"http", "home"}, <-hosts, "the Service's name is asked for")
	require.Equal(t, map[string]int{"good": 30}, m.ask(t, 30, http.MethodGet, "home.web"), "a backing that fails its checks hands over")
	for cluster, wrong := range map[string]int{"tcp": int(dead.Endpoints[1].Port), "grpc": int(down.port())} {
		harness.Eventually(t, 5*time.Second, "checks of "+cluster, func() error {
			hosts := m.Hosts(t, "web/"+cluster+":80/pods")
			if got := hosts[fmt.Sprintf("127.0.0.1:%d", wrong)]; got != "/failed_active_hc" || len(hosts) != 2 {
				return fmt.Errorf("hosts: %v", hosts)
			}
			return nil
		})
	}

	// An endpoint that recovers gets requests again.
	bad.answer(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "bad") })
	harness.Eventually(t, 10*time.Second, "the endpoint to be back", func() error {
		if got := m.ask(t, 10, http.MethodGet, "http.web"); got["bad"] == 0 {
			return fmt.Errorf("answers: %v", got)
		}
		return nil
	})
}

func TestEnvoyBalances(t *testing.T) {
	t.Parallel()
	all := []*backend{startBackend(t, "a"), startBackend(t, "b"), startBackend(t, "c"), startBackend(t, "d")}
	balance := func(name string, l v1alpha1.LoadBalancer, zones ...policy.Zone) *policy.Service {
		return under(v1alpha1.TrafficSettings{LoadBalancer: &l}, pods(name, policy.HTTP1, zones...))
	}
	z := zone(callerZone, all...)
	ring := v1alpha1.LoadBalancer{Algorithm: v1alpha1.RingHash, Hash: &v1alpha1.HashKey{Header: "x-user"}}
	maglev := v1alpha1.LoadBalancer{Algorithm: v1alpha1.Maglev, Hash: &v1alpha1.HashKey{Header: "x-user"}}
	m := policyMesh{services: []*policy.Service{
		balance("turns", v1alpha1.LoadBalancer{Algorithm: v1alpha1.RoundRobin}, z),
		balance("least", v1alpha1.LoadBalancer{Algorithm: v1alpha1.LeastRequest}, z),
		balance("random", v1alpha1.LoadBalancer{Algorithm: v1alpha1.Random}, z),
		balance("ring", ring, z),
		balance("maglev", maglev, z),
		// A hash keeps to its endpoint also where zones have very different weights.
		balance("zones", ring, zone(callerZone, all[:2]...), zone("zone-b", all[2:]...)),
		under(v1alpha1.TrafficSettings{LoadBalancer: &maglev}, both("both", policy.HTTP1, policy.ShareTotal, z, zone(callerZone, all[0]))),
	}}.start(t)
	require.Equal(t, map[string]int{"a": 10, "b": 10, "c": 10, "d": 10}, m.ask(t, 40, http.MethodGet, "turns.web"))
	for _, host := range []string{"random.web", "least.web"} {
		for name, n := range m.ask(t, 400, http.MethodGet, host) {
			require.InDelta(t, 100, n, 50, "%s: %s", host, name)
		}
	}
	for _, host := range []string{"ring.web", "maglev.web", "zones.web", "both.web"} {
		users := make(map[string]bool)
		for user := range 40 {
			first := ""
			for range 4 {
				answer, body := m.get(t, host, "/", "x-user", fmt.Sprint("user-", user))
				require.Equal(t, http.StatusOK, answer.StatusCode)
				if first == "" {
					first = body
				}
				require.Equal(t, first, body, "%s: user %d moved", host, user)
			}
			users[first] = true
		}
		require.GreaterOrEqual(t, len(users), 2, "%s: all users at one endpoint", host)
	}
}

func TestEnvoyStartsSlowly(t *testing.T) {
	t.Parallel()
	old, fresh := startBackend(t, "old"), startBackend(t, "fresh")
	const window = 4 * time.Second
	for _, algorithm := range []v1alpha1.LoadBalancerAlgorithm{v1alpha1.RoundRobin, v1alpha1.LeastRequest} {
		t.Run(string(algorithm), func(t *testing.T) {
			t.Parallel()
			service := func(zones ...policy.Zone) *policy.Service {
				return under(v1alpha1.TrafficSettings{LoadBalancer: &v1alpha1.LoadBalancer{
					Algorithm: algorithm, SlowStart: duration(window),
				}}, pods("slow", policy.HTTP1, zones...))
			}
			m := policyMesh{services: []*policy.Service{service(zone(callerZone, old))}}.start(t)
			begun := time.Now()
			m.ask(t, 1, http.MethodGet, "slow.web")
			harness.Eventually(t, 2*window, "the first endpoint to be warm", func() error {
				if d := time.Since(begun); d < window+500*time.Millisecond {
					return fmt.Errorf("%s have passed", d)
				}
				return nil
			})
			m.put(t, service(zone(callerZone, old, fresh)))
			got := m.ask(t, 60, http.MethodGet, "slow.web")
			require.Positive(t, got["fresh"], "%v", got)
			require.Less(t, got["fresh"], 22, "a new endpoint gets little: %v", got)
			harness.Eventually(t, 3*window, "the new endpoint to be warm", func() error {
				if got := m.ask(t, 60, http.MethodGet, "slow.web"); got["fresh"] < 25 {
					return fmt.Errorf("answers: %v", got)
				}
				return nil
			})
		})
	}
}

func TestEnvoyKeepsToZones(t *testing.T) {
	t.Parallel()
	here, b1, b2, b3 := startBackend(t, "here"), startBackend(t, "b1"), startBackend(t, "b2"), startBackend(t, "b3")
	instance := startBackend(t, "i-1")
	mode := func(l v1alpha1.LocalityMode) v1alpha1.TrafficSettings { return v1alpha1.TrafficSettings{Locality: l} }
	elsewhere := zone("zone-b", b1, b2, b3)
	ill := func(z policy.Zone) policy.Zone {
		out := policy.Zone{Name: z.Name}
		for _, e := range z.Endpoints {
			e.Health = discovery.Unhealthy
			out.Endpoints = append(out.Endpoints, e)
		}
		return out
	}
	strict := func(own, other policy.Zone) *policy.Service {
		s := both("home", policy.HTTP1, policy.ShareTotal, policy.Zone{}, zone(callerZone, instance))
		s.Ports[0].Backings[0].Zones = []policy.Zone{own, other}
		return under(mode(v1alpha1.StrictLocality), s)
	}
	m := policyMesh{services: []*policy.Service{
		under(mode(v1alpha1.StrictLocality), pods("strict", policy.HTTP1, zone(callerZone, here), elsewhere)),
		under(mode(v1alpha1.PreferZone), pods("prefer", policy.HTTP1, zone(callerZone, here), elsewhere)),
		under(mode(v1alpha1.NoLocality), pods("none", policy.HTTP1, zone(callerZone, here), elsewhere)),
		// Nobody of the caller's zone: the others as if there were no zones.
		under(mode(v1alpha1.StrictLocality), pods("away", policy.HTTP1, elsewhere, zone("zone-c", here))),
		// The only endpoint of the zone is dead, and nobody knows it yet.
		under(mode(v1alpha1.StrictLocality), pods("dead", policy.HTTP1,
			policy.Zone{Name: callerZone, Endpoints: []policy.Endpoint{refusing(t, "dead")}}, elsewhere)),
		strict(zone(callerZone, here), elsewhere),
	}}.start(t)
	const n = 400
	for host, want := range map[string]float64{"strict": 1, "prefer": .5, "none": .25, "away": .25} {
		got := m.ask(t, n, http.MethodGet, host+".web")
		require.InDelta(t, want, float64(got["here"])/n, .08, "%s: %v", host, got)
	}
	require.Zero(t, m.ask(t, 20, http.MethodPost, "dead.web")["503"], "a dead zone loses no request")

	// A zone is left while it has nobody, and a backing only once none of its zones has.
	require.Equal(t, map[string]int{"here": 20}, m.ask(t, 20, http.MethodGet, "home.web"))
	m.put(t, strict(ill(zone(callerZone, here)), zone("zone-b", b1)))
	m.settles(t, "home.web", "b1")
	m.put(t, strict(ill(zone(callerZone, here)), ill(elsewhere)))
	m.settles(t, "home.web", "i-1")
	m.put(t, strict(zone(callerZone, here), ill(elsewhere)))
	m.settles(t, "home.web", "here")
}
