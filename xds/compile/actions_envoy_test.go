package compile_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
)

// These tests say what becomes of requests that a rule sends on.

func TestEnvoyEndsSlowRequests(t *testing.T) {
	t.Parallel()
	const wait = 1500 * time.Millisecond
	slow := startBackend(t, "slow")
	slow.answer(func(w http.ResponseWriter, _ *http.Request) {
		harness.TakeTime(wait)
		_, _ = io.WriteString(w, "slow")
	})
	second := startBackend(t, "second")
	second.answer(func(w http.ResponseWriter, _ *http.Request) {
		if second.hits.Load() == 1 {
			harness.TakeTime(wait)
		}
		_, _ = io.WriteString(w, "second")
	})
	trickle := startBackend(t, "trickle")
	trickle.answer(func(w http.ResponseWriter, _ *http.Request) {
		for range 5 {
			_, _ = io.WriteString(w, ".")
			_ = http.NewResponseController(w).Flush()
			harness.TakeTime(wait / 5)
		}
	})
	s, retried, steady := pods("b", policy.HTTP1, zone(callerZone, slow)), pods("second", policy.HTTP1, zone(callerZone, second)), pods("steady", policy.HTTP1, zone(callerZone, trickle))
	timeouts := func(to v1alpha1.Timeout) policy.Settings { return settings(v1alpha1.TrafficSettings{Timeout: &to}) }
	const brief = 400 * time.Millisecond
	m := world{services: []*policy.Service{
		s, retried, steady,
		routed("none", only(s)),
		routed("request", rule(s, func(r *policy.Rule) { r.Own.Request = new(brief) })),
		routed("policy", rule(s, func(r *policy.Rule) { r.Settings = timeouts(v1alpha1.Timeout{Request: duration(brief)}) })),
		routed("zero", rule(s, func(r *policy.Rule) {
			r.Own.Request, r.Settings = new(time.Duration(0)), timeouts(v1alpha1.Timeout{Request: duration(brief)})
		})),
		routed("backend", rule(s, func(r *policy.Rule) {
			r.Own.BackendRequest, r.Own.Retry = new(brief), &policy.RouteRetry{}
		})),
		routed("per-try", rule(retried, func(r *policy.Rule) { r.Own.BackendRequest = new(brief) })),
		routed("idle", rule(s, func(r *policy.Rule) { r.Settings = timeouts(v1alpha1.Timeout{Idle: duration(brief)}) })),
		routed("not-idle", rule(steady, func(r *policy.Rule) { r.Settings = timeouts(v1alpha1.Timeout{Idle: duration(2 * brief)}) })),
	}}.start(t)
	for _, tc := range []struct {
		host, want string
		fast       bool
	}{
		{"none", "slow", false},
		{"request", "504", true},
		{"policy", "504", true},
		{"zero", "slow", false},
		{"backend", "504", true},
		{"per-try", "second", true},
		{"idle", "504", true},
		{"not-idle", ".....", false},
	} {
		begun := time.Now()
		require.Equal(t, map[string]int{tc.want: 1}, m.count(t, 1, http.MethodGet, tc.host+".web/"), tc.host)
		if tc.fast {
			require.Less(t, time.Since(begun), wait, tc.host)
		}
	}
	require.EqualValues(t, 2, second.hits.Load(), "a request that took too long is sent again")
}

// Which methods are sent again, how often and after what.
func TestEnvoyRetriesAsRulesSay(t *testing.T) {
	t.Parallel()
	failing := func(code int) (*policy.Service, *backend) {
		b := startBackend(t, fmt.Sprint(code))
		b.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
		return pods(fmt.Sprintf("f%d", code), policy.HTTP1, zone(callerZone, b)), b
	}
	cut := startBackend(t, "cut")
	cut.answer(func(w http.ResponseWriter, _ *http.Request) {
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_ = conn.Close()
		}
	})
	s500, b500 := failing(500)
	s503, b503 := failing(503)
	sCut := pods("cut", policy.HTTP1, zone(callerZone, cut))
	retry := func(p v1alpha1.Retry) func(*policy.Rule) {
		return func(r *policy.Rule) { r.Settings = settings(v1alpha1.TrafficSettings{Retry: &p}) }
	}
	route := func(p policy.RouteRetry) func(*policy.Rule) { return func(r *policy.Rule) { r.Own.Retry = &p } }
	cases := []struct {
		name     string
		to       *policy.Service
		b        *backend
		f        func(*policy.Rule)
		attempts map[string]int64 // by method
	}{
		{"default", s503, b503, func(*policy.Rule) {}, map[string]int64{"GET": 5, "HEAD": 5, "OPTIONS": 5, "POST": 1, "PUT": 1, "DELETE": 1}},
		{"default-500", s500, b500, func(*policy.Rule) {}, map[string]int64{"GET": 1, "POST": 1}},
		{"default-cut", sCut, cut, func(*policy.Rule) {}, map[string]int64{"GET": 5, "POST": 1}},
		{"never", s503, b503, retry(v1alpha1.Retry{Attempts: new(int32(0))}), map[string]int64{"GET": 1}},
		{"once", s503, b503, retry(v1alpha1.Retry{Attempts: new(int32(1))}), map[string]int64{"GET": 2, "POST": 1}},
		{"methods", s503, b503, retry(v1alpha1.Retry{Methods: []string{"PUT", "POST", "PUT"}}), map[string]int64{"GET": 1, "POST": 5, "PUT": 5}},
		{"codes", s500, b500, retry(v1alpha1.Retry{StatusCodes: []int32{500}}), map[string]int64{"GET": 5, "POST": 1}},
		{"on", s500, b500, retry(v1alpha1.Retry{RetryOn: []v1alpha1.RetryCondition{"ServerError"}, Attempts: new(int32(2))}), map[string]int64{"GET": 3, "POST": 1}},
		{"on-nothing-else", s503, b503, retry(v1alpha1.Retry{RetryOn: []v1alpha1.RetryCondition{"ConnectFailure"}}), map[string]int64{"GET": 1}},
		{"same-host", s503, b503, retry(v1alpha1.Retry{AvoidPreviousHosts: new(false)}), map[string]int64{"GET": 5}},
		{"rule", s500, b500, route(policy.RouteRetry{Codes: []uint32{500}, Attempts: 2}), map[string]int64{"GET": 3, "POST": 1}},
		{"rule-codes", s503, b503, route(policy.RouteRetry{Codes: []uint32{500}, Attempts: 2}), map[string]int64{"GET": 1}},
		{"rule-no-codes", s503, b503, route(policy.RouteRetry{Attempts: 2}), map[string]int64{"GET": 1}},
		{"rule-first", s500, b500, func(r *policy.Rule) {
			retry(v1alpha1.Retry{Attempts: new(int32(9)), StatusCodes: []int32{503}, Methods: []string{"POST"}})(r)
			route(policy.RouteRetry{Codes: []uint32{500}, Attempts: 1})(r)
		}, map[string]int64{"GET": 1, "POST": 2}},
		{"of-a-method", s503, b503, func(r *policy.Rule) { r.Match.Method = "POST" }, map[string]int64{"POST": 1}},
		{"of-a-safe-method", s503, b503, func(r *policy.Rule) { r.Match.Method = "GET" }, map[string]int64{"GET": 5}},
	}
	services := []*policy.Service{s500, s503, sCut}
	for _, tc := range cases {
		services = append(services, routed(tc.name, rule(tc.to, tc.f)))
	}
	dead := pods("dead", policy.HTTP1, policy.Zone{Name: callerZone, Endpoints: []policy.Endpoint{refusing(t, "dead"), startBackend(t, "alive").endpoint(1, discovery.Healthy)}})
	services = append(services, dead, routed("connect", only(dead)),
		routed("patient", rule(s503, func(r *policy.Rule) {
			r.Own.Retry = &policy.RouteRetry{Codes: []uint32{503}, Attempts: 5, Backoff: 300 * time.Millisecond}
		})))
	m := world{services: services}.start(t)
	for _, tc := range cases {
		for method, want := range tc.attempts {
			before := tc.b.hits.Load()
			m.send(t, method, tc.name+".web/")
			require.Equal(t, want, tc.b.hits.Load()-before, "%s: %s", tc.name, method)
		}
	}
	require.Equal(t, map[string]int{"alive": 20}, m.count(t, 20, http.MethodPost, "connect.web/"), "nothing was sent, so every method is sent again")
	begun := time.Now()
	m.send(t, http.MethodGet, "patient.web/")
	require.Greater(t, time.Since(begun), 300*time.Millisecond)
}

func TestEnvoyDividesRequests(t *testing.T) {
	t.Parallel()
	a, b, pod, instance := startBackend(t, "a"), startBackend(t, "b"), startBackend(t, "pod"), startBackend(t, "i-1")
	sa, sb := pods("a", policy.HTTP1, zone(callerZone, a)), pods("b", policy.HTTP1, zone(callerZone, b))
	shifted := both("shifted", policy.HTTP1, policy.ShareTotal/4, zone(callerZone, pod), zone(callerZone, instance))
	failed := pods("php", policy.HTTP1).Ports[0].Backings // nobody there
	require.Empty(t, failed[0].Zones)
	m := world{services: []*policy.Service{
		sa, sb, shifted,
		routed("split", policy.Rule{Backends: []policy.Backend{part(to(sa), 50), part(to(sb), 30), part(invalid, 20)}}),
		routed("multiplied", policy.Rule{Backends: []policy.Backend{part(to(shifted), 60), part(to(sa), 40)}}),
		routed("wrong", policy.Rule{Backends: []policy.Backend{invalid}}),
		routed("nothing", policy.Rule{}),
		routed("failed", rule(sa, func(r *policy.Rule) { r.Filters.Failed = "filter Nonsense x is not known" })),
		routed("unmatched", policy.Rule{Match: prefix("/only"), Backends: []policy.Backend{to(sa)}}),
		routed("edited", policy.Rule{Backends: []policy.Backend{part(invalid, 100)}, Filters: policy.Filters{
			Path: &policy.PathEdit{Value: "/x"}, Host: "x.example",
			CORS: &policy.CORS{AllowOrigins: []string{"*"}},
		}}),
	}}.start(t)
	const n = 1000
	requireShares(t, map[string]float64{"a": .5, "b": .3, "500": .2}, m.count(t, n, http.MethodGet, "split.web/"))
	requireShares(t, map[string]float64{"pod": .15, "i-1": .45, "a": .4}, m.count(t, n, http.MethodPost, "multiplied.web/"))
	for host, want := range map[string]string{"wrong": "500", "nothing": "500", "failed": "500", "unmatched": "404", "edited": "500"} {
		require.Equal(t, map[string]int{want: 5}, m.count(t, 5, http.MethodGet, host+".web/"), host)
	}
	require.Contains(t, m.send(t, http.MethodGet, "failed.web/").body, "filter Nonsense x is not known")
	require.Contains(t, m.send(t, http.MethodGet, "nothing.web/").body, "HTTPRoute web/nothing")
	require.Positive(t, m.stat(t, "http.egress_http.no_cluster"), "they are counted")
}

// Consumer routes replace those of the Service's own namespace, for callers of
// theirs only.
func TestEnvoyFollowsConsumers(t *testing.T) {
	t.Parallel()
	a, b := startBackend(t, "a"), startBackend(t, "b")
	sa, sb := pods("a", policy.HTTP1, zone(callerZone, a)), pods("b", policy.HTTP1, zone(callerZone, b))
	s := routed("php", policy.Rule{Match: prefix("/a"), Backends: []policy.Backend{to(sa)}})
	shop := discovery.Key{Namespace: "shop", Name: "php"}
	s.Ports[0].ConsumerHTTP = map[string]*policy.HTTPRoutes{
		"shop":  routes(shop, policy.Rule{Match: prefix("/b"), Backends: []policy.Backend{to(sb)}}),
		"empty": routes(discovery.Key{Namespace: "empty", Name: "php"}),
	}
	for namespace, want := range map[string][2]string{"web": {"a", "404"}, "shop": {"404", "b"}, "empty": {"404", "404"}, "other": {"a", "404"}} {
		m := world{services: []*policy.Service{sa, sb, s}, namespace: namespace}.start(t)
		for i, path := range []string{"/a", "/b"} {
			require.Equal(t, map[string]int{want[i]: 1}, m.count(t, 1, http.MethodGet, "php.web"+path), "%s %s", namespace, path)
		}
	}
}

func TestEnvoyHoldsSessions(t *testing.T) {
	t.Parallel()
	var members, others []*backend
	for i := range 5 {
		members, others = append(members, startBackend(t, fmt.Sprintf("pod-%d", i))), append(others, startBackend(t, fmt.Sprintf("i-%d", i)))
	}
	s := pods("b", policy.HTTP1, zone(callerZone, members...))
	// On two platforms, of which one has the traffic.
	home := both("home", policy.HTTP1, 0, zone(callerZone, members...), zone(callerZone, others...))
	session := func(p gatewayv1.SessionPersistence) func(*policy.Rule) {
		return func(r *policy.Rule) { r.Own.Session = &p }
	}
	header := gatewayv1.SessionPersistence{Type: new(gatewayv1.HeaderBasedSessionPersistence)}
	m := world{services: []*policy.Service{
		s,
		routed("cookie", rule(s, session(gatewayv1.SessionPersistence{}))),
		under(v1alpha1.TrafficSettings{SessionPersistence: &gatewayv1.SessionPersistence{}}, home),
		routed("header", rule(s, session(header))),
		routed("policy", rule(s, func(r *policy.Rule) {
			r.Settings = settings(v1alpha1.TrafficSettings{SessionPersistence: &gatewayv1.SessionPersistence{}})
		})),
		routed("none", only(s)),
	}}.start(t)
	for _, host := range []string{"cookie", "home", "policy"} {
		visited := make(map[string]bool)
		for range 20 {
			first := m.send(t, http.MethodGet, host+".web/")
			require.Len(t, first.Cookies(), 1, host)
			visited[first.body] = true
			c := first.Cookies()[0]
			require.Zero(t, c.MaxAge, "it ends with the browser's session")
			require.Equal(t, "/", c.Path)
			require.Equal(t, http.SameSiteLaxMode, c.SameSite)
			require.False(t, c.Secure, "it would not come back over HTTP")
			require.Equal(t, map[string]int{first.body: 10}, m.count(t, 10, http.MethodGet, host+".web/", "Cookie: "+c.Name+"="+c.Value), host)
		}
		require.Greater(t, len(visited), 1, "new clients are spread")
	}
	first := m.send(t, http.MethodGet, "header.web/")
	value := first.Header.Get("x-session-endpoint")
	require.NotEmpty(t, value, "%v", first.Header)
	require.Equal(t, map[string]int{first.body: 20}, m.count(t, 20, http.MethodGet, "header.web/", "x-session-endpoint: "+value))
	require.Greater(t, len(m.count(t, 40, http.MethodGet, "none.web/")), 1)

	// A session whose endpoint is gone goes on at another.
	before := m.send(t, http.MethodGet, "cookie.web/")
	c := before.Cookies()[0]
	rest := slices.DeleteFunc(slices.Clone(members), func(b *backend) bool { return b.name == before.body })
	m.put(t, pods("b", policy.HTTP1, zone(callerZone, rest...)))
	after := m.send(t, http.MethodGet, "cookie.web/", "Cookie: "+c.Name+"="+c.Value)
	require.Equal(t, http.StatusOK, after.StatusCode)
	require.NotEqual(t, before.body, after.body)
	require.Len(t, after.Cookies(), 1, "it gets a new cookie")
}

func TestEnvoyFailsOnPurpose(t *testing.T) {
	t.Parallel()
	b := startBackend(t, "b")
	s := pods("b", policy.HTTP1, zone(callerZone, b))
	faulty := func(name string, f v1alpha1.Fault) *policy.Service {
		return routed(name, rule(s, func(r *policy.Rule) { r.Settings = settings(v1alpha1.TrafficSettings{Fault: &f}) }))
	}
	m := world{services: []*policy.Service{
		s,
		faulty("all", v1alpha1.Fault{Abort: &v1alpha1.FaultAbort{Status: new(int32(418)), Percent: "100"}}),
		faulty("some", v1alpha1.Fault{Abort: &v1alpha1.FaultAbort{Status: new(int32(503)), Percent: "25.5"}}),
		faulty("none", v1alpha1.Fault{Abort: &v1alpha1.FaultAbort{Status: new(int32(503)), Percent: "0"}}),
		faulty("slow", v1alpha1.Fault{Delay: &v1alpha1.FaultDelay{Duration: metav1.Duration{Duration: 300 * time.Millisecond}, Percent: "100.00"}}),
		routed("well", only(s)),
	}}.start(t)
	require.Equal(t, map[string]int{"418": 10}, m.count(t, 10, http.MethodGet, "all.web/"))
	require.Zero(t, b.hits.Load(), "the target is not asked")
	requireShares(t, map[string]float64{"503": .255, "b": .745}, m.count(t, 1000, http.MethodGet, "some.web/"))
	require.Equal(t, map[string]int{"b": 50}, m.count(t, 50, http.MethodGet, "none.web/"))
	require.Equal(t, map[string]int{"b": 50}, m.count(t, 50, http.MethodGet, "well.web/"))
	begun := time.Now()
	require.Equal(t, map[string]int{"b": 1}, m.count(t, 1, http.MethodGet, "slow.web/"))
	require.Greater(t, time.Since(begun), 250*time.Millisecond)
}

// Errors of gRPC are statuses of gRPC.
func TestEnvoyRoutesGRPC(t *testing.T) {
	t.Parallel()
	serve := func(name string) *policy.Service {
		server := grpc.NewServer()
		healthv1.RegisterHealthServer(server, health.NewServer())
		b := startRawServer(t, name)
		go func() { _ = server.Serve(b.listener) }()
		t.Cleanup(server.Stop)
		return pods(name, policy.HTTP2, zone(callerZone, b))
	}
	s := serve("health")
	grpcRule := func(f func(*policy.Rule)) *policy.HTTPRoutes {
		r := rule(s, f)
		r.GRPC = true
		r.Route = discovery.ObjectRef{Kind: "GRPCRoute", Key: discovery.Key{Namespace: "web", Name: "r"}}
		return &policy.HTTPRoutes{Rules: []policy.Rule{r}}
	}
	host := func(name string, f func(*policy.Rule)) *policy.Service {
		m := pods(name, policy.HTTP2)
		m.Ports[0].HTTP = grpcRule(f)
		return m
	}
	m := world{services: []*policy.Service{
		s,
		host("check", func(r *policy.Rule) {
			r.Match.Path = policy.PathMatch{Kind: policy.PathExact, Value: "/grpc.health.v1.Health/Check"}
		}),
		host("list", func(r *policy.Rule) {
			r.Match.Path = policy.PathMatch{Kind: policy.PathPrefix, Value: "/grpc.other.v1.Health"}
		}),
		host("wrong", func(r *policy.Rule) { r.Backends = []policy.Backend{invalid} }),
		host("nothing", func(r *policy.Rule) { r.Backends = nil }),
		host("filter", func(r *policy.Rule) { r.Filters.Failed = "no such filter" }),
		host("fault", func(r *policy.Rule) {
			r.Settings = settings(v1alpha1.TrafficSettings{Fault: &v1alpha1.Fault{Abort: &v1alpha1.FaultAbort{GRPCStatus: new(int32(8)), Percent: "100"}}})
		}),
	}}.start(t)
	for name, want := range map[string]codes.Code{
		"check": codes.OK, "list": codes.Unimplemented, "wrong": codes.Unavailable, "nothing": codes.Unavailable, "filter": codes.Unavailable,
		"fault": codes.ResourceExhausted,
	} {
		conn, err := grpc.NewClient("passthrough:///"+m.http, grpc.WithAuthority(name+".web"), grpc.WithTransportCredentials(insecure.NewCredentials()))
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		_, err = healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{})
		cancel()
		require.Equal(t, want, status.Code(err), "%s: %v", name, err)
		require.NoError(t, conn.Close())
	}
}

// Routes are named so that a reader finds the rule.
func TestEnvoyNamesRoutes(t *testing.T) {
	t.Parallel()
	s := pods("b", policy.HTTP1, zone(callerZone, startBackend(t, "b")))
	m := world{services: []*policy.Service{s, routed("php", only(s))}}.start(t)
	dump := string(m.ConfigDump(t))
	for _, name := range []string{`"HTTPRoute/web/php/0/0"`, `"HTTPRoute/web/php/0/0-safe"`, `"default"`, `"default-safe"`} {
		require.Contains(t, strings.ReplaceAll(dump, " ", ""), `"name":`+name)
	}
}
