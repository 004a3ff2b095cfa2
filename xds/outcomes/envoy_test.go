package outcomes_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/outcome"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
)

// These tests say what the real Envoy's reports come to.

func failures(c outcome.Cause, n uint64) (out [outcome.Causes]uint64) {
	out[c] = n
	return out
}

func TestOutcomesOfRequests(t *testing.T) {
	t.Parallel()
	p := startPlane(t)
	inst := startBackend(t, "i-1")
	const wait = 250 * time.Millisecond
	inst.answer(func(w http.ResponseWriter, r *http.Request) {
		switch r.Header.Get("X-Do") {
		case "":
			_, _ = io.WriteString(w, "fine")
		case "404", "500", "503":
			w.WriteHeader(map[string]int{"404": 404, "500": 500, "503": 503}[r.Header.Get("X-Do")])
		case "break":
			panic(http.ErrAbortHandler)
		case "break off":
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "half of it")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case "wait":
			harness.TakeTime(wait)
		case "hang":
			<-r.Context().Done()
		}
	})
	one := []*backend{inst}
	for _, name := range []string{"fine", "missing", "fails", "busy", "breaks", "half", "waits", "impatient", "full", "leaves"} {
		p.add(t, name, nil, one)
	}
	p.add(t, "dead", nil, []*backend{refusing(t, "i-9")})
	p.add(t, "none", nil, nil)
	p.add(t, "away", []*backend{inst}, nil)
	p.write(t, func(tx *catalog.Tx) { catalog.Services.Put(tx, service("plain", "")) })
	p.put(t, "plain", discovery.Instances, inst)
	p.settings(t, "impatient", v1alpha1.TrafficSettings{Timeout: &v1alpha1.Timeout{Request: &metav1.Duration{Duration: 100 * time.Millisecond}}})
	p.settings(t, "full", v1alpha1.TrafficSettings{ConnectionPool: &v1alpha1.ConnectionPool{
		MaxConnections: new(int32(1)), MaxPendingRequests: new(int32(1)),
	}})
	c := p.startCaller(t, "", nil)
	p.ready(t, c, "fine", "missing", "fails", "busy", "breaks", "half", "waits", "impatient", "full", "leaves", "dead", "none", "away")

	do := func(name, what string, limit time.Duration) int {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+name+".web/", http.NoBody)
		require.NoError(t, err)
		if what != "" {
			r.Header.Set("X-Do", what)
		}
		answer, err := c.client.Do(r)
		if err != nil {
			return 0
		}
		defer answer.Body.Close()
		_, _ = io.Copy(io.Discard, answer.Body)
		return answer.StatusCode
	}
	const long = 20 * time.Second
	for _, tc := range []struct {
		name, do string
		limit    time.Duration
		status   int
		failures [outcome.Causes]uint64
		away     bool // abandoned
	}{
		{name: "fine", status: 200},
		{name: "missing", do: "404", status: 404},
		{name: "fails", do: "500", status: 500, failures: failures(outcome.ServerError, 3)},
		{name: "busy", do: "503", status: 503, failures: failures(outcome.ServerError, 3)},
		{name: "breaks", do: "break", status: 503, failures: failures(outcome.Reset, 3)},
		{name: "half", do: "break off", status: 200, failures: failures(outcome.Reset, 3)},
		{name: "waits", do: "wait", status: 200},
		{name: "impatient", do: "hang", status: 504, failures: failures(outcome.Timeout, 3)},
		{name: "dead", status: 503, failures: failures(outcome.ConnectFailure, 3)},
		{name: "none", status: 503, failures: failures(outcome.NoHost, 3)},
		{name: "away", status: 200},
		{name: "leaves", do: "hang", limit: 200 * time.Millisecond, away: true},
	} {
		for range 3 {
			limit := tc.limit
			if limit == 0 {
				limit = long
			}
			require.Equal(t, tc.status, do(tc.name, tc.do, limit), tc.name)
		}
		require.Equal(t, http.StatusOK, do("plain", "", long))
		got := p.counted(t, key(tc.name, discovery.Instances), 3)
		if tc.name == "away" {
			// Pods answered for instances: that says nothing about instances.
			require.EqualValues(t, 3, got.FailedOver)
			require.Zero(t, got.FailedOverFailures)
			require.Zero(t, got.Requests)
			require.Zero(t, got.Latency.Total())
			require.Empty(t, got.Endpoints)
			continue
		}
		require.Zero(t, got.FailedOver, tc.name)
		if tc.away {
			require.EqualValues(t, 3, got.Abandoned, tc.name)
			require.Zero(t, got.Requests, tc.name)
			require.Zero(t, got.Latency.Total(), tc.name)
			continue
		}
		require.Equal(t, tc.failures, got.Failures, tc.name)
		require.EqualValues(t, 3, got.Latency.Total(), tc.name)
		switch tc.name {
		case "none":
			require.Empty(t, got.Endpoints)
		case "dead":
			require.Equal(t, map[string]outcome.EndpointCounts{"i-9": {Requests: 3, Failures: 3}}, got.Endpoints)
		default:
			require.Equal(t, map[string]outcome.EndpointCounts{"i-1": {Requests: 3, Failures: got.Failed()}}, got.Endpoints, tc.name)
		}
		if tc.name == "waits" {
			require.InDelta(t, wait.Microseconds(), got.Latency.Quantile(0), float64(wait.Microseconds())/10)
		}
	}

	// Six at a time of which one is served and one waits.
	var wg sync.WaitGroup
	statuses := make(chan int, 6)
	for range cap(statuses) {
		wg.Go(func() { statuses <- do("full", "wait", long) })
	}
	wg.Wait()
	close(statuses)
	refused := uint64(0)
	for s := range statuses {
		if s != http.StatusOK {
			refused++
		}
	}
	require.Positive(t, refused)
	got := p.counted(t, key("full", discovery.Instances), uint64(cap(statuses)))
	require.Equal(t, failures(outcome.Overflow, refused), got.Failures)

	s := p.Snapshot()
	require.NotContains(t, s.Totals.Outcomes, key("plain", discovery.Instances), "a Service that nobody shifts")
	require.NotContains(t, s.Totals.Load, key("plain", discovery.Instances))
	p.mu.Lock()
	for _, e := range p.http["causeway.outcomes"] {
		require.NotContains(t, e.GetRequest().GetAuthority(), "plain")
	}
	p.mu.Unlock()
	require.Len(t, s.Nodes, 1)
	for _, r := range s.Nodes[0].Reports {
		require.False(t, r.Silent(), "%+v", r)
	}
}

// However often a request is sent again it has one outcome, and each endpoint
// its own.
func TestOutcomesOfRetriesAndShares(t *testing.T) {
	t.Parallel()
	p := startPlane(t)
	pods := []*backend{startBackend(t, "web/pod-1"), startBackend(t, "web/pod-2")}
	instances := []*backend{startBackend(t, "i-1"), refusing(t, "i-9")}
	p.add(t, "php", pods, instances)
	p.shift(t, "php", shifting("50"))
	pods[1].answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	c := p.startCaller(t, "", nil)
	p.ready(t, c, "php")
	const n = 300
	bad := uint64(0)
	for range n / 2 {
		code, _ := c.ask(t, http.MethodGet, "php.web", "")
		require.Equal(t, http.StatusOK, code, "a safe method is sent again on 503")
		if code, _ = c.ask(t, http.MethodPost, "php.web", "a=b"); code != http.StatusOK {
			bad++
		}
	}
	var all [2]outcome.Counts
	harness.Eventually(t, 20*time.Second, "all outcomes", func() error {
		sum := uint64(0)
		for i, platform := range []discovery.BackingName{discovery.Pods, discovery.Instances} {
			if k := p.Snapshot().Totals.Outcomes[key("php", platform)]; k != nil {
				all[i] = *k
				sum += k.Requests
			}
		}
		if sum < n {
			return fmt.Errorf("%d of %d", sum, n)
		}
		return nil
	})
	require.EqualValues(t, n, all[0].Requests+all[1].Requests)
	require.InDelta(t, n/2, all[0].Requests, 60, "half of the requests was for pods")
	require.Equal(t, failures(outcome.ServerError, bad), all[0].Failures)
	require.Zero(t, all[1].Failed(), "an instance that refuses connections costs attempts, no request")
	require.Positive(t, all[0].Endpoints["web/pod-2"].Requests)
	require.Equal(t, bad, all[0].Endpoints["web/pod-2"].Failures)
	require.Zero(t, all[0].Endpoints["web/pod-1"].Failures)
	require.NotContains(t, all[1].Endpoints, "i-9")
	// Load of the time before its stream began is not reported.
	harness.Eventually(t, 30*time.Second, "load reports", func() error {
		_, _ = c.ask(t, http.MethodGet, "php.web", "")
		load := p.Snapshot().Totals.Load
		return unless(load[key("php", discovery.Pods)] == 0 || load[key("php", discovery.Instances)] == 0)
	})
}

// health answers gRPC health checks with the status that the request asks for.
type health struct {
	healthv1.UnimplementedHealthServer
}

func (health) Check(_ context.Context, r *healthv1.HealthCheckRequest) (*healthv1.HealthCheckResponse, error) {
	var code codes.Code
	if r.GetService() != "" {
		if err := code.UnmarshalJSON([]byte(`"` + r.GetService() + `"`)); err != nil {
			return nil, err
		}
	}
	return &healthv1.HealthCheckResponse{}, status.Error(code, "as asked")
}

func TestOutcomesOfGRPC(t *testing.T) {
	t.Parallel()
	p := startPlane(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := grpc.NewServer()
	healthv1.RegisterHealthServer(s, health{})
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	p.write(t, func(tx *catalog.Tx) { catalog.Services.Put(tx, service("api", "kubernetes.io/h2c")) })
	p.put(t, "api", discovery.Instances, &backend{id: "i-1", address: l.Addr().(*net.TCPAddr).AddrPort()})
	p.shift(t, "api", shifting("0"))
	c := p.startCaller(t, "", nil)
	p.ready(t, c, "api")
	conn, err := grpc.NewClient("passthrough:///"+c.http, grpc.WithAuthority("api.web"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	client := healthv1.NewHealthClient(conn)
	want := map[string]codes.Code{
		"": codes.OK, "NOT_FOUND": codes.NotFound, "PERMISSION_DENIED": codes.PermissionDenied, "UNAVAILABLE": codes.Unavailable,
		"INTERNAL": codes.Internal, "UNKNOWN": codes.Unknown, "DATA_LOSS": codes.DataLoss, "DEADLINE_EXCEEDED": codes.DeadlineExceeded,
	}
	for text, code := range want {
		_, err := client.Check(t.Context(), &healthv1.HealthCheckRequest{Service: text})
		require.Equal(t, code, status.Code(err), "%v", err)
	}
	got := p.counted(t, key("api", discovery.Instances), uint64(len(want)))
	require.EqualValues(t, 4, got.Failures[outcome.ServerError])
	require.EqualValues(t, 1, got.Failures[outcome.Timeout])
	require.EqualValues(t, 5, got.Failed())
	require.Equal(t, map[string]outcome.EndpointCounts{"i-1": {Requests: 8, Failures: 5}}, got.Endpoints)
}

// A connection counts once, when it is made, and is not touched by a shift that
// begins or ends.
func TestOutcomesOfConnections(t *testing.T) {
	t.Parallel()
	p := startPlane(t)
	echo := func(id string) *backend {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go func() { defer conn.Close(); _, _ = io.Copy(conn, conn) }()
			}
		}()
		return &backend{id: id, address: l.Addr().(*net.TCPAddr).AddrPort()}
	}
	p.write(t, func(tx *catalog.Tx) { catalog.Services.Put(tx, service("db", "tcp")) })
	p.put(t, "db", discovery.Instances, echo("i-1"))
	p.put(t, "db", discovery.Pods, echo("web/db-0"))
	c := p.startCaller(t, "web/db:80", nil)
	listener := func() string { return c.Listener(t, 10*time.Second, "tcp/"+c.tcp+"=web/db:80") }
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", listener())
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	speak := func(conn net.Conn) {
		require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
		_, err := io.WriteString(conn, "ping\n")
		require.NoError(t, err)
		line, err := bufio.NewReader(conn).ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "ping\n", line)
	}
	before := dial()
	speak(before)
	changes := c.Stats(t, "listener_manager.listener_modified")["listener_manager.listener_modified"]

	marked := func(is bool) {
		harness.Eventually(t, 10*time.Second, "the cluster to say whether it is shifted", func() error {
			if got := strings.Contains(string(c.Admin(t, "/config_dump?resource=dynamic_active_clusters")), "causeway.shift"); got != is {
				return fmt.Errorf("it says %v", got)
			}
			return nil
		})
	}
	p.shift(t, "db", shifting("0"))
	marked(true)
	during := dial()
	speak(during)
	speak(before)
	got := p.counted(t, key("db", discovery.Instances), 1)
	require.Zero(t, got.Failed())
	require.Equal(t, map[string]outcome.EndpointCounts{"i-1": {Requests: 1}}, got.Endpoints)

	p.shift(t, "db", shifting("100"))
	harness.Eventually(t, 30*time.Second, "pods to take over", func() error {
		conn := dial()
		speak(conn)
		return unless(p.Snapshot().Totals.Outcomes[key("db", discovery.Pods)] == nil)
	})
	p.put(t, "db", discovery.Pods, refusing(t, "web/db-1"))
	p.put(t, "db", discovery.Instances)
	harness.Eventually(t, 20*time.Second, "connections to fail", func() error {
		conn, err := net.Dial("tcp", listener())
		require.NoError(t, err)
		defer conn.Close()
		require.NoError(t, conn.SetDeadline(time.Now().Add(100*time.Millisecond)))
		_, _ = io.ReadAll(conn)
		k := p.Snapshot().Totals.Outcomes[key("db", discovery.Pods)]
		return unless(k == nil || k.Failures[outcome.ConnectFailure] == 0)
	})
	p.put(t, "db", discovery.Pods)
	harness.Eventually(t, 20*time.Second, "connections to find nobody", func() error {
		conn, err := net.Dial("tcp", listener())
		require.NoError(t, err)
		defer conn.Close()
		require.NoError(t, conn.SetDeadline(time.Now().Add(100*time.Millisecond)))
		_, _ = io.ReadAll(conn)
		s := p.Snapshot().Totals.Outcomes
		return unless(s[key("db", discovery.Pods)].Failures[outcome.NoHost] == 0 || s[key("db", discovery.Instances)].Failures[outcome.NoHost] == 0)
	})
	p.write(t, func(tx *catalog.Tx) { catalog.Objects.Delete(tx, "TrafficShift web/db") })
	marked(false)
	speak(before)
	speak(during)
	require.Equal(t, changes, c.Stats(t, "listener_manager.listener_modified")["listener_manager.listener_modified"], "no listener changed")
}

func unless(not bool) error {
	if not {
		return fmt.Errorf("not yet")
	}
	return nil
}

// A proxy without the control plane serves as ever, and reports again once it is
// back. What it would have reported meanwhile is lost but for what a buffer
// holds: with one that takes connections and says nothing, entries were dropped
// after its connection's buffer was full (Envoy: logs_dropped).
func TestOutcomesWithoutControlPlane(t *testing.T) {
	t.Parallel()
	p := startPlane(t)
	p.add(t, "php", nil, []*backend{startBackend(t, "i-1")})
	c := p.startCaller(t, "", nil)
	p.ready(t, c, "php")
	ask := func(n int) {
		for range n {
			code, _ := c.ask(t, http.MethodGet, "php.web", "")
			require.Equal(t, http.StatusOK, code)
		}
	}
	ask(10)
	p.counted(t, key("php", discovery.Instances), 10)
	p.stop()
	harness.Eventually(t, 10*time.Second, "the node to be forgotten", func() error { return unless(len(p.Snapshot().Nodes) > 0) })
	const away = 500
	ask(away)
	p.serve(t)
	harness.Eventually(t, 30*time.Second, "outcomes to come again", func() error {
		ask(1)
		return unless(p.Snapshot().Totals.Outcomes[key("php", discovery.Instances)].Requests == 10)
	})
	harness.Eventually(t, 30*time.Second, "the node", func() error { return unless(len(p.Snapshot().Nodes) != 1) })
	got := p.Snapshot().Totals.Outcomes[key("php", discovery.Instances)]
	t.Logf("of %d outcomes without a control plane some are lost: %d came in all", away, got.Requests)
	require.Zero(t, got.Failed())
}

// A proxy whose bootstrap names the control plane otherwise takes the listener, serves, and reports nothing.
func TestProxyWithoutControlPlaneCluster(t *testing.T) {
	t.Parallel()
	p := startPlane(t)
	p.add(t, "php", nil, []*backend{startBackend(t, "i-1")})
	c := p.startCaller(t, "", func(config []byte) []byte {
		return []byte(strings.ReplaceAll(string(config), "causeway_xds", "elsewhere"))
	})
	p.ready(t, c, "php")
	for range 20 {
		code, _ := c.ask(t, http.MethodGet, "php.web", "")
		require.Equal(t, http.StatusOK, code)
	}
	// Its load reports say that there were requests.
	p.hops.Store(int64(time.Minute))
	harness.Eventually(t, 20*time.Second, "the proxy to be called silent", func() error {
		code, _ := c.ask(t, http.MethodGet, "php.web", "")
		require.Equal(t, http.StatusOK, code)
		s := p.Snapshot()
		require.Empty(t, s.Totals.Outcomes)
		return unless(len(s.Nodes) != 1 || len(s.Nodes[0].Reports) != 1 || !s.Nodes[0].Reports[0].Silent())
	})
}
