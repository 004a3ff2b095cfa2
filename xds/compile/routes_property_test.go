package compile_test

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/compile"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// A randomRoute draws rules as policy may make them: everything that an
// object may say at all, with values at their bounds.
type randomRoute struct{ *rand.Rand }

func draw[T any](r randomRoute, from ...T) T { return from[r.IntN(len(from))] }

func (r randomRoute) chance(percent int) bool { return r.IntN(100) < percent }

// some returns a value, or nil.
func some[T any](r randomRoute, percent int, f func() T) *T {
	if !r.chance(percent) {
		return nil
	}
	v := f()
	return &v
}

func (r randomRoute) path() string {
	return draw(r, "/", "/a", "/a/b", "/%20", "/a.b+c(d)", `/\1`, "/$1", "/~!@&=;:,*'", "/a//b", "/%C3%A9")
}

func (r randomRoute) duration() time.Duration {
	return draw(r, 0, time.Millisecond, time.Second, 8784*time.Hour)
}

func (r randomRoute) edits() policy.HeaderEdits {
	var out policy.HeaderEdits
	value := func() string { return draw(r, "", "a", "100%", "%REQ(x)%", "%", "%%", `"\`, "a, b", "ü") }
	for _, to := range []*[]policy.Header{&out.Set, &out.Add} {
		for range r.IntN(3) {
			*to = append(*to, policy.Header{Name: draw(r, "x-a", "x-b", "!#$%&'*+-.^_`|~", "cookie", "content-type"), Value: value()})
		}
	}
	for range r.IntN(3) {
		out.Remove = append(out.Remove, draw(r, "x-c", "x-d", "accept", "!#$%&'*+-.^_`|~"))
	}
	return out
}

func (r randomRoute) pathEdit(match policy.PathKind) *policy.PathEdit {
	e := &policy.PathEdit{Value: draw(r, "/", "/new", "/new/", `/\1\0`, "/$&", "/a%2Fb")}
	if match == policy.PathPrefix && r.chance(50) {
		e.Prefix = true
		e.Value = draw(r, "", e.Value)
	}
	return e
}

func (r randomRoute) match() policy.Match {
	m := policy.Match{Method: draw(r, "", "", "GET", "POST", "CONNECT", "PATCH")}
	switch r.IntN(3) {
	case 0:
		m.Path = policy.PathMatch{Kind: policy.PathRegex, Value: draw(r, ".*", "/[a-z]+", `/v\d{1,3}/(a|b)`, "/(?i)x", "")}
	case 1:
		m.Path = policy.PathMatch{Kind: policy.PathExact, Value: r.path()}
	default:
		m.Path = policy.PathMatch{Kind: policy.PathPrefix, Value: r.path()}
	}
	for _, to := range []*[]policy.ValueMatch{&m.Headers, &m.Query} {
		for range r.IntN(3) {
			v := policy.ValueMatch{Name: draw(r, "x-a", "host", "cookie", "!#$%&'*+-.^_`|~"), Value: draw(r, "a", "", "%", "ü")}
			if v.Regex = r.chance(30); v.Regex {
				v.Value = draw(r, ".*", "a|b", "^x$")
			}
			*to = append(*to, v)
		}
	}
	return m
}

// backends draws backends with their parts of everything.
func (r randomRoute) backends(services []*policy.Service) []policy.Backend {
	var out []policy.Backend
	left := uint32(policy.ShareTotal)
	for i := range r.IntN(4) {
		b := to(services[r.IntN(len(services))])
		if r.chance(20) {
			b = invalid
		}
		b.Index = i
		b.Share = min(left, draw[uint32](r, 1, 333_333, policy.ShareTotal))
		left -= b.Share
		out = append(out, b)
	}
	if len(out) > 0 {
		out[len(out)-1].Share += left
	}
	for i := range out {
		b := &out[i]
		targets := make([]policy.Target, len(b.Targets))
		rest := b.Share
		for j := range targets {
			targets[j] = b.Targets[j]
			targets[j].Share = min(rest, draw(r, 0, 1, b.Share/2, b.Share))
			rest -= targets[j].Share
		}
		targets[len(targets)-1].Share += rest
		b.Targets = targets
		if r.chance(30) {
			b.Filters.Request, b.Filters.Response = r.edits(), r.edits()
			b.Filters.Host = draw(r, "", "backend.example")
			b.Filters.Path = draw(r, nil, &policy.PathEdit{Value: "/backend"}, &policy.PathEdit{Value: "/other"})
		}
	}
	return out
}

func (r randomRoute) settings() policy.Settings {
	var s v1alpha1.TrafficSettings
	span := func() metav1.Duration { return metav1.Duration{Duration: r.duration()} }
	if r.chance(30) {
		s.Timeout = &v1alpha1.Timeout{Request: some(r, 50, span), Idle: some(r, 50, span)}
	}
	if r.chance(30) {
		s.Retry = &v1alpha1.Retry{
			Attempts: some(r, 50, func() int32 { return draw[int32](r, 0, 1, 10) }), PerTry: some(r, 50, span),
			RetryOn: draw(r, nil, []v1alpha1.RetryCondition{"GatewayError", "GRPCUnavailable"}, []v1alpha1.RetryCondition{"RetriableStatusCodes"}),
			Methods: draw(r, nil, []string{"POST"}), StatusCodes: draw(r, nil, []int32{400, 599}),
			Backoff: some(r, 50, func() metav1.Duration { return metav1.Duration{Duration: draw(r, time.Millisecond, time.Hour)} }),
		}
	}
	if r.chance(30) {
		s.Fault = &v1alpha1.Fault{Abort: &v1alpha1.FaultAbort{Percent: draw[v1alpha1.Percent](r, "0", "0.01", "12.3", "100", "100.00")}}
		if r.chance(50) {
			s.Fault.Abort.Status = new(draw[int32](r, 200, 599))
		} else {
			s.Fault.Abort.GRPCStatus = new(draw[int32](r, 0, 16))
		}
		if r.chance(50) {
			s.Fault.Delay = &v1alpha1.FaultDelay{Duration: metav1.Duration{Duration: draw(r, time.Millisecond, time.Hour)}, Percent: "50"}
		}
	}
	if r.chance(30) {
		h := &v1alpha1.HashKey{}
		switch r.IntN(3) {
		case 0:
			h.Header = "x-user"
		case 1:
			h.Cookie = &v1alpha1.HashCookie{Name: "user", TTL: some(r, 50, span), Path: draw(r, "", "/app")}
		default:
			h.Source = new(true)
		}
		s.LoadBalancer = &v1alpha1.LoadBalancer{Algorithm: v1alpha1.Maglev, Hash: h}
	}
	return settings(s)
}

func (r randomRoute) session() gatewayv1.SessionPersistence {
	if r.chance(50) {
		return gatewayv1.SessionPersistence{Type: new(gatewayv1.HeaderBasedSessionPersistence)}
	}
	return gatewayv1.SessionPersistence{
		AbsoluteTimeout: some(r, 50, func() gatewayv1.Duration { return draw[gatewayv1.Duration](r, "1s", "99999h") }),
		Cookie: some(r, 50, func() gatewayv1.CookieConfig {
			return gatewayv1.CookieConfig{LifetimeType: new(gatewayv1.PermanentCookieLifetimeType)}
		}),
	}
}

func (r randomRoute) rule(services []*policy.Service) policy.Rule {
	rule := policy.Rule{
		Match: r.match(), GRPC: r.chance(10), Backends: r.backends(services), Settings: r.settings(),
		Own: policy.RuleSettings{
			Request: some(r, 20, r.duration), BackendRequest: some(r, 20, r.duration), Session: some(r, 20, r.session),
			Retry: some(r, 20, func() policy.RouteRetry {
				return policy.RouteRetry{Codes: draw(r, nil, []uint32{500, 599}), Attempts: draw[uint32](r, 0, 1, 1000), Backoff: r.duration()}
			}),
		},
	}
	f := &rule.Filters
	f.Request, f.Response = r.edits(), r.edits()
	switch r.IntN(6) {
	case 0:
		f.Redirect = &policy.Redirect{
			Scheme: draw(r, "", "http", "https"), Host: draw(r, "", "new.example"), Port: draw[uint16](r, 0, 80, 443, 65535),
			Status: draw[uint16](r, 301, 302, 303, 307, 308),
		}
		if r.chance(50) {
			f.Redirect.Path = r.pathEdit(rule.Match.Path.Kind)
		}
	case 1:
		f.Failed = draw(r, "100%", "a\nb")
	case 2:
		f.Host = draw(r, "", "new.example")
		f.Path = r.pathEdit(rule.Match.Path.Kind)
	case 3:
		for range 1 + r.IntN(2) {
			f.Mirrors = append(f.Mirrors, policy.Mirror{To: to(services[r.IntN(len(services))]), Numerator: draw[uint32](r, 0, 1, 7), Denominator: draw[uint32](r, 7, 1000, 1<<31-1)})
		}
	case 4:
		f.CORS = &policy.CORS{
			AllowOrigins: draw(r, nil, []string{"*"}, []string{"https://*", "http://*.a.example:8080"}), AllowMethods: draw(r, nil, []string{"*"}, []string{"GET", "PUT"}),
			AllowHeaders: draw(r, nil, []string{"*"}, []string{"x-a", "x-b"}), ExposeHeaders: draw(r, nil, []string{"*"}), AllowCredentials: r.chance(50),
			MaxAge: draw[int32](r, 0, 1, 1<<31-1),
		}
	}
	return rule
}

// connections draws rules of TCPRoutes or TLSRoutes as policy merges them.
func (r randomRoute) connections(services []*policy.Service) *policy.TCPRoutes {
	if r.chance(50) {
		return &policy.TCPRoutes{Rules: []policy.TCPRule{{Backends: r.backends(services), Settings: r.settings()}}}
	}
	out := &policy.TCPRoutes{}
	for i := range r.IntN(4) {
		names := []string{fmt.Sprintf("n%d.example.com", i), fmt.Sprintf("*.n%d.example.com", i)}[:1+r.IntN(2)]
		out.Rules = append(out.Rules, policy.TCPRule{ServerNames: names, Backends: r.backends(services), Settings: r.settings()})
	}
	return out
}

// shift draws what a TrafficShift may make of a Service.
func (r randomRoute) shift(s *policy.Service) {
	name := draw(r, "causeway", "!#$%&'*+.^_|~-", "a.b", "x%y")
	shifted(s, draw(r, nil, &policy.Cohort{Header: "x-user"}, &policy.Cohort{Cookie: name}, &policy.Cohort{Cookie: name, TTL: draw(r, time.Second, 720*time.Hour)}))
	if r.chance(50) {
		s.Shift.Shadow = &policy.Shadow{
			To: draw(r, discovery.Pods, discovery.Instances), Share: draw[uint32](r, 1, 50_000, policy.ShareTotal),
			Methods: draw(r, []string{"GET"}, []string{"GET", "HEAD", "OPTIONS"}, []string{"POST", "PUT"}, []string{"DELETE", "GET"}),
		}
	}
}

// world draws a mesh: Services on one platform and on two, HTTP and TCP, with routes between them.
func (r randomRoute) world(n int) []*policy.Service {
	var web, tcp []*policy.Service
	for i := range n {
		protocol := draw(r, policy.HTTP1, policy.HTTP2, policy.TCP)
		s := pods(fmt.Sprintf("s%d", i), protocol)
		if r.chance(50) {
			s = both(fmt.Sprintf("s%d", i), protocol, draw[uint32](r, 0, 250_000, policy.ShareTotal), policy.Zone{}, policy.Zone{})
			if r.chance(60) {
				r.shift(s)
			}
		}
		if protocol == policy.TCP {
			tcp = append(tcp, s)
		} else {
			web = append(web, s)
		}
	}
	rules := func(s *policy.Service, namespace string) *policy.HTTPRoutes {
		var out []policy.Rule
		for range r.IntN(5) {
			out = append(out, r.rule(web))
		}
		return routes(discovery.Key{Namespace: namespace, Name: s.Name}, out...)
	}
	for _, s := range web {
		p := &s.Ports[0]
		p.Settings = r.settings()
		if r.chance(80) {
			p.HTTP = rules(s, "web")
		}
		if r.chance(30) {
			p.ConsumerHTTP = map[string]*policy.HTTPRoutes{"shop": rules(s, "shop")}
		}
	}
	for _, s := range tcp {
		if r.chance(80) {
			s.Ports[0].TCP = r.connections(tcp)
		}
		if r.chance(30) {
			s.Ports[0].ConsumerTCP = map[string]*policy.TCPRoutes{"shop": r.connections(tcp)}
		}
	}
	return append(web, tcp...)
}

// compileServices returns what a proxy gets that declares every TCP port.
func compileServices(t *testing.T, services []*policy.Service) []resource.Resource {
	t.Helper()
	c := compile.New()
	out := c.Mesh(&policy.Mesh{AllowAny: true})
	for i, s := range services {
		out = append(out, c.Service(s)...)
		declaration := fmt.Sprintf("http/127.0.0.1:%d", 20000+i)
		if s.Ports[0].Protocol == policy.TCP {
			declaration = fmt.Sprintf("tcp/127.0.0.1:%d=%s:80", 20000+i, s.Key)
		} else if i > 0 {
			continue
		}
		d, err := naming.ParseDeclaration(declaration)
		require.NoError(t, err)
		out = append(out, c.Listener(d, s)...)
	}
	return out
}

// Whatever rules there are: Envoy takes what they are compiled to, weights sum
// up, and two compilers agree to the byte.
func TestEnvoyTakesEveryRoute(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		services := randomRoute{rand.New(rand.NewPCG(seed, 11))}.world(60) //nolint:gosec // a repeatable draw is the point
		resources := compileServices(t, services)
		require.Equal(t, resources, compileServices(t, services), "seed %d", seed)
		requireNeedsMet(t, resources)
		for _, r := range resources {
			for _, body := range append([]resource.Parts{r.Body}, variants(r)...) {
				switch r.Type {
				case resource.VirtualHost:
					m := &routev3.VirtualHost{}
					unmarshal(t, body, m)
					require.NoError(t, m.ValidateAll(), "seed %d: %s", seed, r.Name)
					requireTotals(t, m)
				case resource.Listener:
					m := &listenerv3.Listener{}
					unmarshal(t, body, m)
					require.NoError(t, m.ValidateAll(), "seed %d: %s", seed, r.Name)
				case resource.Cluster, resource.Endpoint, resource.Route:
				}
			}
		}
		for _, namespace := range []string{"web", "shop"} {
			require.NoError(t, harness.CheckEnvoyConfig(static(t, resources, namespace, "", "")), "seed %d, callers of %s", seed, namespace)
		}
	}
}

var (
	fuzzedPath = regexp.MustCompile(`^(/[A-Za-z0-9._~!$&'()*+,;=:@-]+)+$`)
	fuzzedName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")
)

// Whatever rules there are: no panic, and messages that Envoy's own rules accept.
func FuzzRoutes(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(seed, "/a", "x-a", "100%")
	}
	f.Fuzz(func(t *testing.T, seed uint64, path, name, value string) {
		services := randomRoute{rand.New(rand.NewPCG(seed, 12))}.world(6) //nolint:gosec // a repeatable draw is the point
		if !fuzzedPath.MatchString(path) || !fuzzedName.MatchString(name) || !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl) {
			t.Skip("policy lets none of this through")
		}
		services = append(services, routed("fuzzed", policy.Rule{
			Match: prefix(path), Backends: []policy.Backend{invalid},
			Filters: policy.Filters{
				Path:    &policy.PathEdit{Prefix: true, Value: path},
				Request: policy.HeaderEdits{Set: []policy.Header{{Name: name, Value: value}}, Remove: []string{name}},
			},
		}))
		for _, r := range compileServices(t, services) {
			if r.Type != resource.VirtualHost {
				continue
			}
			for _, body := range append([]resource.Parts{r.Body}, variants(r)...) {
				m := &routev3.VirtualHost{}
				unmarshal(t, body, m)
				require.NoError(t, m.ValidateAll(), r.Name)
				requireTotals(t, m)
			}
		}
	})
}

func variants(r resource.Resource) (out []resource.Parts) {
	for _, v := range r.ByNamespace {
		out = append(out, v)
	}
	return out
}

// requireTotals checks that every split of requests is one of a million.
func requireTotals(t *testing.T, m *routev3.VirtualHost) {
	t.Helper()
	before := uint32(0) // of the routes with the same match, for other paths
	for _, route := range m.GetRoutes() {
		part := policy.ShareTotal - before
		if f := route.GetMatch().GetRuntimeFraction().GetDefaultValue(); f != nil {
			require.Greater(t, f.GetNumerator(), before)
			part, before = f.GetNumerator()-before, f.GetNumerator()
		} else {
			before = 0
		}
		w := route.GetRoute().GetWeightedClusters()
		if w == nil {
			continue
		}
		sum := uint32(0)
		for _, c := range w.GetClusters() {
			sum += c.GetWeight().GetValue()
		}
		require.Equal(t, part, sum, "%s", route.GetName())
	}
}

// A change of shares leaves the shape as it was, and any other changes it.
func TestShapeIsAllButWeights(t *testing.T) {
	a := both("a", policy.HTTP1, 0, policy.Zone{}, policy.Zone{})
	b := pods("b", policy.HTTP1)
	build := func(change func(*policy.Rule)) uint64 {
		r := policy.Rule{Match: everything, Backends: []policy.Backend{part(to(a), 50), part(to(b), 50)}}
		r.Backends[0] = divided(r.Backends[0], 100_000, 400_000)
		r.Filters.Mirrors = []policy.Mirror{{To: to(a), Numerator: 1, Denominator: 100}}
		change(&r)
		for _, resource := range compile.New().Service(routed("php", r)) {
			if resource.Name == "http/php.web:80" {
				require.NotZero(t, resource.Shape)
				return resource.Shape
			}
		}
		t.Fatal("there is no virtual host")
		return 0
	}
	shift := func(pods uint32, shadow *policy.Shadow) func(*policy.Rule) {
		return func(r *policy.Rule) {
			b := to(a)
			b.Reported = true
			b.Shift = &policy.Shift{Object: discovery.ObjectName{Kind: "TrafficShift", Key: a.Key}, From: discovery.Instances, To: discovery.Pods, Share: pods, Cohort: &policy.Cohort{Cookie: "causeway", TTL: time.Hour}, Shadow: shadow}
			r.Backends, r.Filters.Mirrors = []policy.Backend{divided(b, pods, policy.ShareTotal-pods)}, nil
		}
	}
	under := build(shift(0, nil))
	for name, change := range map[string]func(*policy.Rule){
		"a step up": shift(100, nil), "the whole way": shift(policy.ShareTotal, nil),
		"a shadow":       shift(0, &policy.Shadow{Share: 50_000, Methods: []string{"GET"}}),
		"another shadow": shift(0, &policy.Shadow{Share: 10, Methods: []string{"POST", "PUT"}}),
	} {
		require.Equal(t, under, build(change), "%s of a shift under way, and the way back, are pushed at once", name)
	}
	as := build(func(*policy.Rule) {})
	require.NotEqual(t, as, under)
	for name, change := range map[string]func(*policy.Rule){
		"share": func(r *policy.Rule) {
			r.Backends[0].Targets[0].Share, r.Backends[0].Targets[1].Share = 250_000, 250_000
		},
		"none":    func(r *policy.Rule) { r.Backends[0].Targets[0].Share, r.Backends[0].Targets[1].Share = 0, 500_000 },
		"weights": func(r *policy.Rule) { r.Backends[0], r.Backends[1] = part(to(a), 90), part(to(b), 10) },
	} {
		require.Equal(t, as, build(change), name)
	}
	for name, change := range map[string]func(*policy.Rule){
		"order":   func(r *policy.Rule) { r.Backends[0], r.Backends[1] = r.Backends[1], r.Backends[0] },
		"backend": func(r *policy.Rule) { r.Backends = r.Backends[:1] },
		"timeout": func(r *policy.Rule) { r.Own.Request = new(time.Second) },
		"mirror":  func(r *policy.Rule) { r.Filters.Mirrors = nil },
		"match":   func(r *policy.Rule) { r.Match.Method = "GET" },
	} {
		require.NotEqual(t, as, build(change), name)
	}
}
