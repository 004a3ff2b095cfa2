package compile_test

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/test/harness"
)

// These tests say what the compiled resources mean, in the only words that
// count: what the real Envoy does with them.

func TestEnvoySpreadsLoad(t *testing.T) {
	t.Parallel()
	a1, a2 := startBackend(t, "a1"), startBackend(t, "a2")
	b1, b2, b3 := startBackend(t, "b1"), startBackend(t, "b2"), startBackend(t, "b3")
	spot := policy.Zone{Name: callerZone, Endpoints: []policy.Endpoint{
		a1.endpoint(4, discovery.Healthy), a2.endpoint(1, discovery.Healthy),
	}}
	drains := policy.Zone{Name: callerZone, Endpoints: []policy.Endpoint{
		a1.endpoint(1, discovery.Draining), a2.endpoint(1, discovery.Healthy),
	}}
	m := startMesh(t, []*policy.Service{
		pods("even", policy.HTTP1, zone(callerZone, a1), zone("zone-b", b1)),
		pods("small", policy.HTTP1, zone(callerZone, a1), zone("zone-b", b1, b2, b3)),
		pods("spot", policy.HTTP1, spot),
		pods("drains", policy.HTTP1, drains),
		both("shift", policy.HTTP1, 250_000, zone(callerZone, a1), zone(callerZone, b1)),
		both("home", policy.HTTP1, 0, zone(callerZone, a1), zone(callerZone, b1)),
	})
	const n = 1000
	for _, tc := range []struct {
		service string
		want    map[string]float64
	}{
		{"even", map[string]float64{"a1": 1}},
		// A quarter of the capacity is here, so half of what the callers here ask stays.
		{"small", map[string]float64{"a1": .5, "b1": 1. / 6, "b2": 1. / 6, "b3": 1. / 6}},
		{"spot", map[string]float64{"a1": .8, "a2": .2}},
		{"drains", map[string]float64{"a2": 1}},
		{"shift", map[string]float64{"a1": .25, "b1": .75}},
		{"home", map[string]float64{"b1": 1}},
	} {
		t.Run(tc.service, func(t *testing.T) {
			got := m.ask(t, n, http.MethodGet, tc.service+".web")
			sum := 0
			for name, share := range tc.want {
				require.InDelta(t, share, float64(got[name])/n, .06, "answers: %v", got)
				sum += got[name]
			}
			require.InDelta(t, n, sum, 3, "answers: %v", got)
		})
	}
}

func TestEnvoyFailsOver(t *testing.T) {
	t.Parallel()
	pod, one, two := startBackend(t, "pod"), startBackend(t, "i-1"), startBackend(t, "i-2")
	instances := func(first, second discovery.Health) policy.Zone {
		return policy.Zone{Name: callerZone, Endpoints: []policy.Endpoint{one.endpoint(1, first), two.endpoint(1, second)}}
	}
	onInstances := func(z policy.Zone) *policy.Service {
		return both("php", policy.HTTP1, 0, zone(callerZone, pod), z)
	}
	alone := both("alone", policy.HTTP1, 0, zone(callerZone, pod), policy.Zone{})
	for i := range alone.Ports[0].Backings {
		alone.Ports[0].Backings[i].Failover = nil
	}
	m := startMesh(t, []*policy.Service{onInstances(instances(discovery.Healthy, discovery.Unhealthy)), alone})

	require.Equal(t, map[string]int{"i-1": 50}, m.ask(t, 50, http.MethodGet, "php.web"), "one usable instance keeps all traffic")
	require.Equal(t, map[string]int{"503": 5}, m.ask(t, 5, http.MethodGet, "alone.web"), "without failover there is nobody to answer")

	for _, step := range []struct {
		name      string
		instances policy.Zone
		want      string
	}{
		{"all unhealthy", instances(discovery.Unhealthy, discovery.Unhealthy), "pod"},
		{"one is back", instances(discovery.Unhealthy, discovery.Healthy), "i-2"},
		{"all draining", instances(discovery.Draining, discovery.Draining), "pod"},
		{"both moods", instances(discovery.Healthy, discovery.Draining), "i-1"},
		{"gone", policy.Zone{}, "pod"},
		{"launched again", instances(discovery.Healthy, discovery.Unhealthy), "i-1"},
	} {
		m.put(t, onInstances(step.instances))
		m.settles(t, "php.web", step.want)
		t.Log(step.name, "→", step.want)
	}

	// Nothing usable anywhere: trying beats refusing.
	nothing := onInstances(instances(discovery.Unhealthy, discovery.Unhealthy))
	nothing.Ports[0].Backings[0].Zones[0].Endpoints[0].Health = discovery.Unhealthy
	m.put(t, nothing)
	for answer := range m.ask(t, 50, http.MethodGet, "php.web") {
		require.Contains(t, []string{"pod", "i-1", "i-2"}, answer)
	}

	stats := m.Stats(t, "cluster.web/php/80/")
	require.Positive(t, stats["cluster.web/php/80/pods.upstream_rq_total"], "statistics are per backing")
	require.Positive(t, stats["cluster.web/php/80/instances.upstream_rq_total"])
}

// A backing that dies before anybody has noticed loses no request, whatever the method.
func TestEnvoySurvivesDeadBacking(t *testing.T) {
	t.Parallel()
	pod := startBackend(t, "pod")
	dead := policy.Zone{Name: callerZone, Endpoints: []policy.Endpoint{
		refusing(t, "i-1"), refusing(t, "i-2"), refusing(t, "i-3"),
	}}
	m := startMesh(t, []*policy.Service{both("php", policy.HTTP1, 0, zone(callerZone, pod), dead)})
	for range 20 {
		require.Equal(t, map[string]int{"pod": 5}, m.ask(t, 5, http.MethodGet, "php.web"))
		require.Equal(t, map[string]int{"pod": 5}, m.ask(t, 5, http.MethodPost, "php.web"))
	}
	// Once its endpoints are ejected, nobody is sent there any more.
	const failed = "cluster.web/php/80/instances.upstream_cx_connect_fail"
	before := m.Stats(t, failed)
	require.LessOrEqual(t, before[failed], uint64(3*3+3), "an ejection must reach the workers at once")
	require.Equal(t, map[string]int{"pod": 50}, m.ask(t, 50, http.MethodGet, "php.web"))
	require.Equal(t, before, m.Stats(t, failed))
}

// together sends n requests at the same time and counts the answers.
func (m *mesh) together(t *testing.T, n int, method, host string) map[string]int {
	t.Helper()
	var wg sync.WaitGroup
	answers := make(chan string, n)
	for range n {
		wg.Go(func() {
			r, err := http.NewRequestWithContext(t.Context(), method, "http://"+host+"/", http.NoBody)
			if err != nil {
				answers <- err.Error()
				return
			}
			answer, err := m.client.Do(r)
			if err != nil {
				answers <- err.Error()
				return
			}
			_ = answer.Body.Close()
			answers <- answer.Status
		})
	}
	wg.Wait()
	close(answers)
	out := make(map[string]int)
	for a := range answers {
		out[a]++
	}
	return out
}

// Neither does it lose those that are sent at the same moment and take a
// while, nor does the death of a zone, or of the caller's only neighbour.
func TestEnvoySurvivesDeadHostsUnderLoad(t *testing.T) {
	t.Parallel()
	good := []*backend{startBackend(t, "b1"), startBackend(t, "b2"), startBackend(t, "c1"), startBackend(t, "c2")}
	for _, b := range good {
		b.answer(func(http.ResponseWriter, *http.Request) { harness.TakeTime(300 * time.Millisecond) })
	}
	dead := func(name string, n int) policy.Zone {
		z := policy.Zone{Name: name}
		for i := range n {
			z.Endpoints = append(z.Endpoints, refusing(t, fmt.Sprintf("dead-%d", i)))
		}
		return z
	}
	m := startMesh(t, []*policy.Service{
		both("backing", policy.HTTP1, 0, zone("zone-b", good...), dead("zone-b", 6)),
		pods("thirds", policy.HTTP1, zone("zone-b", good[:2]...), zone("zone-c", good[2:]...), dead("zone-d", 2)),
		pods("neighbour", policy.HTTP1, dead(callerZone, 1), zone("zone-b", good...)),
	})
	for _, host := range []string{"backing.web", "thirds.web", "neighbour.web"} {
		for _, method := range []string{http.MethodPost, http.MethodGet} {
			require.Equal(t, map[string]int{"200 OK": 100}, m.together(t, 100, method, host), "%s %s", method, host)
		}
	}
	require.Zero(t, m.Stats(t, "cluster.web/thirds/80/pods.upstream_rq_retry_overflow")["cluster.web/thirds/80/pods.upstream_rq_retry_overflow"])
}

// A zone of one that dies is left before the retries are used up.
func TestEnvoyLeavesDeadZone(t *testing.T) {
	t.Parallel()
	m := startMesh(t, []*policy.Service{
		pods("php", policy.HTTP1, policy.Zone{Name: callerZone, Endpoints: []policy.Endpoint{refusing(t, "dead")}}, zone("zone-b", startBackend(t, "b1"))),
	})
	require.Equal(t, map[string]int{"b1": 20}, m.ask(t, 20, http.MethodPost, "php.web"))
}

func TestEnvoyRetries(t *testing.T) {
	t.Parallel()
	good, bad := startBackend(t, "good"), startBackend(t, "bad")
	m := startMesh(t, []*policy.Service{pods("php", policy.HTTP1, zone(callerZone, good, bad))})
	const n = 60
	for _, tc := range []struct {
		name   string
		answer http.HandlerFunc
		retry  bool // of safe methods
		status string
	}{
		{"overloaded", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }, true, "503"},
		{"dies", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, true, "503"},
		{"fails", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, false, "500"},
		{"has no worker", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }, false, "502"},
		{"is slow", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGatewayTimeout) }, false, "504"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bad.answer(tc.answer)
			for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
				before := good.hits.Load() + bad.hits.Load()
				got := m.ask(t, n, method, "php.web")
				sent := good.hits.Load() + bad.hits.Load() - before
				if tc.retry && method == http.MethodGet {
					require.Equal(t, map[string]int{"good": n}, got)
					require.Greater(t, sent, int64(n))
					continue
				}
				require.Positive(t, got[tc.status], "%s: %v", method, got)
				require.Equal(t, n, got["good"]+got[tc.status], "%s: %v", method, got)
				require.Equal(t, int64(n), sent, "%s was sent again", method)
			}
		})
	}
	// However often an application fails, its host stays: all hosts run the same bugs.
	require.Equal(t, uint64(0), m.Stats(t, "cluster.web/php/80/pods.outlier_detection.ejections_active")["cluster.web/php/80/pods.outlier_detection.ejections_active"])
}

// An upload survives a dead endpoint up to the size that PHP takes by default,
// and passes at any size.
func TestEnvoyCarriesUploads(t *testing.T) {
	t.Parallel()
	good := startBackend(t, "good")
	patchy := zone(callerZone, good)
	patchy.Endpoints = append(patchy.Endpoints, refusing(t, "dead"))
	m := startMesh(t, []*policy.Service{
		pods("patchy", policy.HTTP1, patchy), pods("sound", policy.HTTP1, zone(callerZone, good)),
	})
	upload := func(host string, size int) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+host+"/", bytes.NewReader(make([]byte, size)))
		require.NoError(t, err)
		answer, err := m.client.Do(r)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		require.Equal(t, http.StatusOK, answer.StatusCode)
	}
	for range 12 {
		upload("patchy.web", 8<<20)
	}
	upload("sound.web", 40<<20)
}

func TestEnvoyCarriesGRPC(t *testing.T) {
	t.Parallel()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := grpc.NewServer()
	healthv1.RegisterHealthServer(server, health.NewServer())
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	b := &backend{name: "grpc", listener: listener}
	m := startMesh(t, []*policy.Service{pods("api", policy.HTTP2, zone(callerZone, b))})

	conn, err := grpc.NewClient("passthrough:///"+m.http, grpc.WithAuthority("api.web:80"),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	client := healthv1.NewHealthClient(conn)
	answer, err := client.Check(t.Context(), &healthv1.HealthCheckRequest{})
	require.NoError(t, err)
	require.Equal(t, healthv1.HealthCheckResponse_SERVING, answer.GetStatus())
	_, err = client.Check(t.Context(), &healthv1.HealthCheckRequest{Service: "none"})
	require.ErrorContains(t, err, "unknown service", "trailers pass")
	stream, err := client.Watch(t.Context(), &healthv1.HealthCheckRequest{})
	require.NoError(t, err)
	_, err = stream.Recv()
	require.NoError(t, err, "streams pass")
}

func TestEnvoyCarriesWebSocket(t *testing.T) {
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
	m := startMesh(t, []*policy.Service{pods("ws", policy.HTTP1, zone(callerZone, b))})
	head, conn, rest := m.raw(t, "GET /chat HTTP/1.1\r\nHost: ws.web\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
	require.Contains(t, head, "101 Switching Protocols")
	_, err := io.WriteString(conn, "ping")
	require.NoError(t, err)
	echo := make([]byte, 4)
	_, err = io.ReadFull(rest, echo)
	require.NoError(t, err)
	require.Equal(t, "ping", string(echo))
}

func TestEnvoyCarriesTCP(t *testing.T) {
	t.Parallel()
	speak := func(name string) *backend {
		listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		require.NoError(t, err)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(conn, name+"\n") // the server speaks first, as MySQL does
				_ = conn.Close()
			}
		}()
		t.Cleanup(func() {
			_ = listener.Close()
			<-done
		})
		return &backend{name: name, listener: listener}
	}
	pod, instance := speak("pod"), speak("i-1")
	home := func(z policy.Zone) *policy.Service { return both("home", policy.TCP, 0, zone(callerZone, pod), z) }
	shift := both("shift", policy.TCP, policy.ShareTotal/2, zone(callerZone, pod), zone(callerZone, instance))
	// Two dead ones in three: connects are tried again.
	patchy := zone(callerZone, instance)
	patchy.Endpoints = append(patchy.Endpoints, refusing(t, "i-2"))
	addresses := []string{harness.FreeAddress(t), harness.FreeAddress(t)}
	m := startMesh(t, []*policy.Service{home(patchy), shift},
		"tcp/"+addresses[0]+"=web/home:80", "tcp/"+addresses[1]+"=web/shift:80")
	dial := func(address string, n int) map[string]int {
		out := make(map[string]int)
		for range n {
			conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
			require.NoError(t, err)
			text, err := io.ReadAll(conn)
			require.NoError(t, err)
			require.NoError(t, conn.Close())
			out[strings.TrimSpace(string(text))]++
		}
		return out
	}
	got := dial(addresses[0], 100)
	require.Zero(t, got[""], "connections that nobody answered: %v", got)
	require.Greater(t, got["i-1"], 80, "%v", got)
	got = dial(addresses[1], 200)
	require.InDelta(t, 100, got["pod"], 40, "%v", got)
	require.Equal(t, 200, got["pod"]+got["i-1"], "%v", got)

	m.put(t, home(policy.Zone{}))
	harness.Eventually(t, time.Second, "pods to take over", func() error {
		if got := dial(addresses[0], 5); got["pod"] != 5 {
			return fmt.Errorf("answers: %v", got)
		}
		return nil
	})
}

func TestEnvoyKnowsHosts(t *testing.T) {
	t.Parallel()
	web, admin := startBackend(t, "web"), startBackend(t, "admin")
	s := pods("php", policy.HTTP1, zone(callerZone, web))
	s.ClusterIPs = []string{"10.96.0.10", "fd00::a"}
	second := s.Ports[0]
	second.Number, second.DefaultHTTP = 8080, false
	second.Backings = []policy.Backing{{Platform: discovery.Pods, Zones: []policy.Zone{zone(callerZone, admin)}}}
	s.Ports = append(s.Ports, second)
	elsewhere := pods("other", policy.HTTP1, zone(callerZone, web))
	elsewhere.Namespace = "shop"
	m := startMesh(t, []*policy.Service{s, elsewhere})
	for _, name := range []string{
		"php", "php.web", "php.web.svc", "php.web.svc.cluster.local", "php.web.svc.cluster.local.", "10.96.0.10", "[fd00::a]", "PHP.Web",
	} {
		require.Equal(t, map[string]int{"web": 1}, m.ask(t, 1, http.MethodGet, name), name)
		require.Equal(t, map[string]int{"web": 1}, m.ask(t, 1, http.MethodGet, name+":80"), name)
		require.Equal(t, map[string]int{"admin": 1}, m.ask(t, 1, http.MethodGet, name+":8080"), name)
	}
	require.Equal(t, map[string]int{"web": 1}, m.ask(t, 1, http.MethodGet, "other.shop"))
	for _, name := range []string{"other", "php.shop", "example.com", "php.web:81"} {
		require.Equal(t, map[string]int{"404": 1}, m.ask(t, 1, http.MethodGet, name), name)
	}

	head, _, rest := m.raw(t, "GET / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n")
	body, err := io.ReadAll(rest)
	require.NoError(t, err)
	require.Contains(t, head, "404")
	require.Contains(t, string(body), `no Service of the mesh answers to the host "example.com"`)

	// As an ordinary forward proxy (http_proxy=), and for a client of the last century.
	head, _, _ = m.raw(t, "GET http://php.web/index.php HTTP/1.1\r\nHost: php.web\r\n\r\n")
	require.Contains(t, head, "200 OK")
	head, _, _ = m.raw(t, "GET / HTTP/1.0\r\nHost: php.web\r\n\r\n")
	require.Contains(t, head, "200 OK")
}

// What a PHP application and its callers say to each other passes as they wrote it.
func TestEnvoyChangesNothing(t *testing.T) {
	t.Parallel()
	b := startBackend(t, "php")
	seen := make(chan http.Header, 1)
	b.answer(func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Clone()
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 409 Already There\r\nServer: nginx\r\nX-POWERED-By: PHP/8.2\r\nLocation: /a//b/../c\r\nContent-Length: 0\r\n\r\n")
	})
	m := startMesh(t, []*policy.Service{pods("php", policy.HTTP1, zone(callerZone, b))})
	head, _, _ := m.raw(t, "POST /a//b/../c HTTP/1.1\r\nHost: php.web\r\nX-Forwarded-For: 203.0.113.7\r\nX-Request-Id: mine\r\nContent-Length: 0\r\n\r\n")
	for _, line := range []string{"HTTP/1.1 409 Already There\r\n", "Server: nginx\r\n", "X-POWERED-By: PHP/8.2\r\n", "Location: /a//b/../c\r\n"} {
		require.Contains(t, head, line)
	}
	got := <-seen
	require.Equal(t, []string{"203.0.113.7"}, got["X-Forwarded-For"])
	require.Equal(t, []string{"mine"}, got["X-Request-Id"])
	t.Log("headers of the upstream request:", slices.Sorted(maps.Keys(got)))
}
