package equivalence

import (
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/explain"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// generator draws cases from small vocabularies, so that rules overlap and
// requests hit their boundaries.
type generator struct{ *rand.Rand }

func pick[T any](g generator, from ...T) T { return from[g.IntN(len(from))] }

func (g generator) chance(percent int) bool { return g.IntN(100) < percent }

const requestsPerCase = 20

// newCase draws a case. The same seed and index give the same case.
func newCase(seed uint64, index int, f fixture) *routeCase {
	g := generator{rand.New(rand.NewPCG(seed, uint64(index)))} //nolint:gosec // not negative
	c := &routeCase{
		index: index, namespace: pick(g, "web", "web", "shop"), home: pick(g, "Pods", "Instances"), instances: g.chance(30), fixture: f,
		ports: []discovery.ServicePort{{Name: "http", Port: 80}},
	}
	if !c.instances {
		c.home = "Pods"
	}
	rpc := discovery.ServicePort{Name: "rpc", Port: 81, AppProtocol: "kubernetes.io/h2c"}
	switch g.IntN(8) {
	case 0:
		c.ports = append(c.ports, discovery.ServicePort{Name: "admin", Port: 8080})
	case 1:
		c.ports = []discovery.ServicePort{{Name: "admin", Port: 8080}, {Name: "other", Port: 9090}}
	case 2:
		c.ports = append(c.ports, rpc)
	case 3, 4: // GRPCRoutes attach to ports that speak HTTP/2 only
		c.ports = []discovery.ServicePort{rpc}
	}
	for i := range 1 + g.IntN(4) {
		meta := metav1.ObjectMeta{
			Name: string(rune('a' + i)), Namespace: pick(g, c.namespace, c.namespace, "web", "data"),
			CreationTimestamp: metav1.NewTime(time.Date(2026, 1, 1, 0, 0, g.IntN(3), 0, time.UTC)),
		}
		parents := gatewayv1.CommonRouteSpec{ParentRefs: []gatewayv1.ParentReference{g.parent(c, meta.Namespace)}}
		if g.chance(25) {
			r := &gatewayv1.GRPCRoute{ObjectMeta: meta, Spec: gatewayv1.GRPCRouteSpec{CommonRouteSpec: parents}}
			for range 1 + g.IntN(3) {
				r.Spec.Rules = append(r.Spec.Rules, g.grpcRule())
			}
			c.grpc = append(c.grpc, r)
			continue
		}
		r := &gatewayv1.HTTPRoute{ObjectMeta: meta, Spec: gatewayv1.HTTPRouteSpec{CommonRouteSpec: parents}}
		for i := range 1 + g.IntN(4) {
			rule := g.httpRule()
			if g.chance(50) {
				rule.Name = new(gatewayv1.SectionName(ruleNames[i]))
			}
			r.Spec.Rules = append(r.Spec.Rules, rule)
		}
		c.http = append(c.http, r)
	}
	for i := range pick(g, 0, 0, 0, 1, 2) {
		c.policies = append(c.policies, g.policy(c, i))
	}
	c.shift = g.shift(c)
	if c.shift != nil && g.chance(40) {
		c.http, c.grpc = nil, nil // everything goes to the Service itself
	}
	for range requestsPerCase {
		c.requests = append(c.requests, g.request(c))
	}
	c.local, c.distribution = g.chance(20), pick(g, "", "", "PreferClose", "PreferSameNode")
	c.node = pick(g, "", callerNode, callerNode, "node-b")
	return c
}

func (g generator) parent(c *routeCase, namespace string) gatewayv1.ParentReference {
	p := gatewayv1.ParentReference{Group: new(gatewayv1.Group("")), Kind: new(gatewayv1.Kind("Service"))}
	if namespace != c.namespace {
		p.Namespace = new(gatewayv1.Namespace(c.namespace))
	}
	port := c.ports[g.IntN(len(c.ports))]
	switch g.IntN(6) {
	case 0:
		p.Port = new(gatewayv1.PortNumber(port.Port))
	case 1:
		p.SectionName = new(gatewayv1.SectionName(port.Name))
	}
	return p
}

var ruleNames = []string{"first", "second", "third", "fourth"}

// policy draws a TrafficPolicy about the Service, or about a route of its namespace.
func (g generator) policy(c *routeCase, index int) *v1alpha1.TrafficPolicy {
	p := &v1alpha1.TrafficPolicy{ObjectMeta: metav1.ObjectMeta{
		Name: "p" + string(rune('a'+index)), Namespace: c.namespace,
		CreationTimestamp: metav1.NewTime(time.Date(2026, 1, 1, 0, 0, g.IntN(2), 0, time.UTC)),
	}}
	target := v1alpha1.TargetReference{Kind: "Service"}
	if len(c.http) > 0 && g.chance(70) {
		route := c.http[g.IntN(len(c.http))]
		p.Namespace = route.Namespace
		target = v1alpha1.TargetReference{Group: gatewayv1.GroupName, Kind: "HTTPRoute", Name: route.Name}
		if g.chance(40) {
			target.SectionName = pick(g, ruleNames...)
		}
	}
	p.Spec.TargetRefs = []v1alpha1.TargetReference{target}
	if g.chance(60) {
		p.Spec.Retry = &v1alpha1.Retry{Attempts: new(int32(g.IntN(3))), Methods: pick(g, nil, []string{"POST"}, []string{"GET", "PUT"})}
	}
	if g.chance(40) {
		p.Spec.Timeout = &v1alpha1.Timeout{Request: &metav1.Duration{Duration: 10 * time.Second}}
	}
	if g.chance(30) {
		abort := &v1alpha1.FaultAbort{Percent: pick[v1alpha1.Percent](g, "100", "0", "100.00")}
		if g.chance(70) {
			abort.Status = new(int32(418))
		} else {
			abort.GRPCStatus = new(int32(8))
		}
		p.Spec.Fault = &v1alpha1.Fault{Abort: abort}
	}
	return p
}

// What paths are made of. The expressions stand with paths that they match or nearly do.
var (
	elements    = []string{"a", "a", "b", "ab", "A", "a.b", "%61", "a%2Fb", "..", "a,b;c=1", "~x"}
	expressions = []struct {
		value string
		near  []string
	}{
		{`/a/.*`, []string{"/a/", "/a/b", "/a", "/a/b/"}},
		{`/a.*`, []string{"/a", "/ab", "/a/b"}},
		{`/[ab]+`, []string{"/a", "/ab", "/abc", "/ab/"}},
		{`/(a|ab)/?`, []string{"/a", "/ab/", "/ab", "/b"}},
		{`/a/[^/]+`, []string{"/a/b", "/a/b/c", "/a/"}},
		{`(?i)/A`, []string{"/a", "/A", "/a/"}},
		{`/a\.b`, []string{"/a.b", "/axb"}},
		{`^/a$`, []string{"/a", "/a/"}},
		{`/a|/b/.*`, []string{"/a", "/b/a", "/ab"}},
		{`.*`, []string{"/", "/b"}},
		{`/\d{2}`, []string{"/12", "/123"}},
	}
	headerNames  = []string{"version", "X-User", "x-empty", "Accept-Language"}
	headerValues = []string{"v1", "v2", "V1", "a,b", "a", "100%", "x y", `"q"`}
	headerRegex  = []string{`v[0-9]`, `.*`, `v1|v2`, `(?i)V1`, `^v1$`, `a.*`, `.+`}
	queryNames   = []string{"q", "Q", "flag", "q.r"}
	queryValues  = []string{"1", "a%20b", "x", "a+b", "1=2"}
	queryRegex   = []string{`[0-9]+`, `.*`, `.+`, `x|1`}
	methods      = []string{"GET", "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"}
)

func (g generator) path() string {
	var b strings.Builder
	for range g.IntN(4) {
		b.WriteString("/" + elements[g.IntN(len(elements))])
	}
	if b.Len() == 0 || g.chance(15) {
		b.WriteByte('/')
	}
	return b.String()
}

// routePath is a path that the schema lets a route compare with.
func (g generator) routePath() string {
	for {
		p := g.path()
		if !strings.Contains(p, "..") && !strings.Contains(p, "%2F") && !strings.Contains(p, "//") {
			return p
		}
	}
}

func (g generator) pathMatch() *gatewayv1.HTTPPathMatch {
	switch g.IntN(10) {
	case 0, 1, 2:
		return &gatewayv1.HTTPPathMatch{Type: new(gatewayv1.PathMatchExact), Value: new(g.routePath())}
	case 3, 4:
		return &gatewayv1.HTTPPathMatch{Type: new(gatewayv1.PathMatchRegularExpression), Value: new(expressions[g.IntN(len(expressions))].value)}
	}
	return &gatewayv1.HTTPPathMatch{Type: new(gatewayv1.PathMatchPathPrefix), Value: new(g.routePath())}
}

func (g generator) httpMatch() gatewayv1.HTTPRouteMatch {
	m := gatewayv1.HTTPRouteMatch{Path: g.pathMatch()}
	if g.chance(25) {
		m.Method = new(gatewayv1.HTTPMethod(pick(g, methods...)))
	}
	if g.chance(30) {
		for _, name := range g.some(headerNames) {
			h := gatewayv1.HTTPHeaderMatch{Name: gatewayv1.HTTPHeaderName(name), Type: new(gatewayv1.HeaderMatchExact), Value: pick(g, headerValues...)}
			if g.chance(40) {
				h.Type, h.Value = new(gatewayv1.HeaderMatchRegularExpression), pick(g, headerRegex...)
			}
			m.Headers = append(m.Headers, h)
			if g.chance(5) { // an equivalent name, which must be ignored
				m.Headers = append(m.Headers, gatewayv1.HTTPHeaderMatch{
					Name: gatewayv1.HTTPHeaderName(strings.ToUpper(name)), Type: new(gatewayv1.HeaderMatchExact), Value: "other",
				})
			}
		}
	}
	if g.chance(20) {
		for _, name := range g.some(queryNames) {
			q := gatewayv1.HTTPQueryParamMatch{Name: gatewayv1.HTTPHeaderName(name), Type: new(gatewayv1.QueryParamMatchExact), Value: pick(g, queryValues...)}
			if g.chance(40) {
				q.Type, q.Value = new(gatewayv1.QueryParamMatchRegularExpression), pick(g, queryRegex...)
			}
			m.QueryParams = append(m.QueryParams, q)
		}
	}
	return m
}

// some returns one or two of several, each once.
func (g generator) some(of []string) []string {
	i := g.Perm(len(of))[:1+g.IntN(2)]
	out := make([]string, len(i))
	for j := range i {
		out[j] = of[i[j]]
	}
	return out
}

func (g generator) httpRule() gatewayv1.HTTPRouteRule {
	var rule gatewayv1.HTTPRouteRule
	for range pick(g, 1, 1, 1, 2, 3) {
		rule.Matches = append(rule.Matches, g.httpMatch())
	}
	onePrefix := len(rule.Matches) == 1 && *rule.Matches[0].Path.Type == gatewayv1.PathMatchPathPrefix
	redirects := false
	switch g.IntN(10) {
	case 0, 1:
		redirects = true
		rule.Filters = append(rule.Filters, gatewayv1.HTTPRouteFilter{
			Type: gatewayv1.HTTPRouteFilterRequestRedirect, RequestRedirect: g.redirect(onePrefix),
		})
	case 2, 3, 4:
		rule.Filters = append(rule.Filters, gatewayv1.HTTPRouteFilter{Type: gatewayv1.HTTPRouteFilterURLRewrite, URLRewrite: g.rewrite(onePrefix)})
	}
	if g.chance(25) {
		rule.Filters = append(rule.Filters, gatewayv1.HTTPRouteFilter{
			Type: gatewayv1.HTTPRouteFilterRequestHeaderModifier, RequestHeaderModifier: g.headerEdits("version", "X-User", "x-new", "x-other"),
		})
	}
	if g.chance(20) {
		rule.Filters = append(rule.Filters, gatewayv1.HTTPRouteFilter{
			Type: gatewayv1.HTTPRouteFilterResponseHeaderModifier, ResponseHeaderModifier: g.headerEdits(baseHeader, "x-answer", "x-two"),
		})
	}
	if g.chance(8) && !redirects {
		rule.Filters = append(rule.Filters, gatewayv1.HTTPRouteFilter{
			Type: gatewayv1.HTTPRouteFilterRequestMirror, RequestMirror: &gatewayv1.HTTPRequestMirrorFilter{
				BackendRef: g.backendRef(), Percent: new(int32(g.IntN(101))), //nolint:gosec // small
			},
		})
	}
	if g.chance(8) {
		rule.Filters = append(rule.Filters, gatewayv1.HTTPRouteFilter{Type: gatewayv1.HTTPRouteFilterCORS, CORS: &gatewayv1.HTTPCORSFilter{
			AllowOrigins: []gatewayv1.CORSOrigin{gatewayv1.CORSOrigin(pick(g, origins[:4]...))}, MaxAge: 5,
			AllowMethods: []gatewayv1.HTTPMethodWithWildcard{"GET"},
		}})
	}
	if redirects {
		return rule
	}
	for range pick(g, 0, 1, 1, 1, 1, 1, 1, 2, 3) {
		ref := gatewayv1.HTTPBackendRef{BackendRef: gatewayv1.BackendRef{BackendObjectReference: g.backendRef(), Weight: new(pick[int32](g, 1, 1, 1, 0, 2, 9, 1_000_000))}}
		if g.chance(15) {
			ref.Filters = append(ref.Filters, gatewayv1.HTTPRouteFilter{
				Type: gatewayv1.HTTPRouteFilterRequestHeaderModifier, RequestHeaderModifier: g.headerEdits("version", "x-new", "x-backend"),
			})
		}
		if g.chance(10) {
			ref.Filters = append(ref.Filters, gatewayv1.HTTPRouteFilter{
				Type: gatewayv1.HTTPRouteFilterResponseHeaderModifier, ResponseHeaderModifier: g.headerEdits("x-from-backend", "x-answer", baseHeader),
			})
		}
		if g.chance(8) {
			ref.Filters = append(ref.Filters, gatewayv1.HTTPRouteFilter{
				Type: gatewayv1.HTTPRouteFilterURLRewrite, URLRewrite: pick(g,
					&gatewayv1.HTTPURLRewriteFilter{Hostname: new(gatewayv1.PreciseHostname("backend.example"))},
					&gatewayv1.HTTPURLRewriteFilter{Path: g.pathModifier(onePrefix)}),
			})
		}
		rule.BackendRefs = append(rule.BackendRefs, ref)
	}
	if g.chance(10) {
		rule.Timeouts = &gatewayv1.HTTPRouteTimeouts{Request: new(gatewayv1.Duration("10s")), BackendRequest: new(gatewayv1.Duration("5s"))}
	}
	if g.chance(10) {
		rule.Retry = &gatewayv1.HTTPRouteRetry{Attempts: new(g.IntN(3)), Codes: []gatewayv1.HTTPRouteRetryStatusCode{500, 503}}
	}
	return rule
}

// Values that mean something to Envoy's formatter, but nothing to HTTP.
var editValues = []string{"set", "100%", "%REQ(:path)%", "%%", "a, b", `"quoted" \ back`, "%DOWNSTREAM_REMOTE_ADDRESS%", "{x}"}

func (g generator) headerEdits(names ...string) *gatewayv1.HTTPHeaderFilter {
	f := &gatewayv1.HTTPHeaderFilter{}
	for _, i := range g.Perm(len(names))[:1+g.IntN(len(names))] {
		h := gatewayv1.HTTPHeader{Name: gatewayv1.HTTPHeaderName(names[i]), Value: pick(g, editValues...)}
		switch g.IntN(3) {
		case 0:
			f.Set = append(f.Set, h)
		case 1:
			f.Add = append(f.Add, h)
		case 2:
			f.Remove = append(f.Remove, names[i])
		}
	}
	return f
}

func (g generator) pathModifier(onePrefix bool) *gatewayv1.HTTPPathModifier {
	if onePrefix && g.chance(70) {
		return &gatewayv1.HTTPPathModifier{
			Type: gatewayv1.PrefixMatchHTTPPathModifier, ReplacePrefixMatch: new(pick(g, "/xyz", "/xyz/", "/", "", "/a", `/x\1`, "/a%20b", "/x/y")),
		}
	}
	return &gatewayv1.HTTPPathModifier{
		Type: gatewayv1.FullPathHTTPPathModifier, ReplaceFullPath: new(pick(g, "/full", "/", "/full/", `/f\1`, "/a%2Fb")),
	}
}

func (g generator) redirect(onePrefix bool) *gatewayv1.HTTPRequestRedirectFilter {
	f := &gatewayv1.HTTPRequestRedirectFilter{StatusCode: new(pick(g, 301, 302, 302, 303, 307, 308))}
	if g.chance(40) {
		f.Scheme = new(pick(g, "http", "https"))
	}
	if g.chance(50) {
		f.Hostname = new(gatewayv1.PreciseHostname(pick(g, "example.org", "api.web")))
	}
	if g.chance(30) {
		f.Port = new(gatewayv1.PortNumber(pick(g, 80, 443, 8080)))
	}
	if g.chance(50) {
		f.Path = g.pathModifier(onePrefix)
	}
	return f
}

func (g generator) rewrite(onePrefix bool) *gatewayv1.HTTPURLRewriteFilter {
	f := &gatewayv1.HTTPURLRewriteFilter{}
	if g.chance(50) {
		f.Hostname = new(gatewayv1.PreciseHostname("rewritten.example"))
	}
	if f.Hostname == nil || g.chance(60) {
		f.Path = g.pathModifier(onePrefix)
	}
	return f
}

// backendRef names something of the fixture, or something that is not there.
func (g generator) backendRef() gatewayv1.BackendObjectReference {
	ref := func(group, kind, namespace, name string, port int32) gatewayv1.BackendObjectReference {
		out := gatewayv1.BackendObjectReference{
			Group: new(gatewayv1.Group(group)), Kind: new(gatewayv1.Kind(kind)), Name: gatewayv1.ObjectName(name),
			Namespace: new(gatewayv1.Namespace(namespace)),
		}
		if port > 0 {
			out.Port = &port
		}
		return out
	}
	return pick(
		g,
		ref("", "Service", "web", "api", 80),
		ref("", "Service", "web", "api", 80),
		ref("", "Service", "web", "api", 81),
		ref("", "Service", "web", "php", 80),
		ref("", "Service", "web", "php", 80),
		ref("", "Service", "shop", "cart", 80),
		ref("", "Service", "shop", "secret", 80),
		ref("", "Service", "data", "rpc", 50051),
		ref("", "Service", "web", "empty", 80),
		ref("", "Service", "web", "sql", 3306),
		ref("", "Service", "web", "api", 9999),
		ref("", "Service", "web", "missing", 80),
		ref("", "Secret", "web", "api", 80),
		ref("mesh.causeway.dev", "InstanceGroup", "web", "php-ec2", 80),
		ref("mesh.causeway.dev", "InstanceGroup", "web", "missing", 80),
		ref("mesh.causeway.dev", "ExternalService", "web", "pay", 80),
	)
}

var (
	grpcServices = []string{"pkg.A", "pkg.B", "A"}
	grpcMethods  = []string{"Get", "Put", "get"}
)

func (g generator) grpcRule() gatewayv1.GRPCRouteRule {
	var rule gatewayv1.GRPCRouteRule
	for range g.IntN(3) {
		var m gatewayv1.GRPCRouteMatch
		if g.chance(85) {
			m.Method = &gatewayv1.GRPCMethodMatch{Type: new(gatewayv1.GRPCMethodMatchExact)}
			shape := g.IntN(4)
			if shape != 1 {
				m.Method.Service = new(pick(g, grpcServices...))
			}
			if shape != 0 {
				m.Method.Method = new(pick(g, grpcMethods...))
			}
			if g.chance(20) {
				m.Method.Type = new(gatewayv1.GRPCMethodMatchRegularExpression)
				if m.Method.Service != nil {
					m.Method.Service = new(pick(g, `pkg\..*`, `A|pkg.B`, `.*`))
				}
				if m.Method.Method != nil {
					m.Method.Method = new(pick(g, `(?i)get`, `G.*|Put`))
				}
			}
		}
		if g.chance(25) {
			for _, name := range g.some(headerNames) {
				m.Headers = append(m.Headers, gatewayv1.GRPCHeaderMatch{
					Type: new(gatewayv1.GRPCHeaderMatchExact), Name: gatewayv1.GRPCHeaderName(name), Value: pick(g, headerValues...),
				})
			}
		}
		rule.Matches = append(rule.Matches, m)
	}
	if g.chance(20) {
		rule.Filters = append(rule.Filters, gatewayv1.GRPCRouteFilter{
			Type: gatewayv1.GRPCRouteFilterRequestHeaderModifier, RequestHeaderModifier: g.headerEdits("version", "x-new"),
		})
	}
	for range pick(g, 0, 1, 1, 1, 1, 2) {
		rule.BackendRefs = append(rule.BackendRefs, gatewayv1.GRPCBackendRef{
			BackendRef: gatewayv1.BackendRef{BackendObjectReference: g.backendRef(), Weight: new(pick[int32](g, 1, 1, 0, 3))},
		})
	}
	return rule
}

var origins = []string{"https://a.example", "https://*.a.example", "*", "http://b.example:8080", "https://x.a.example", "https://evil.example", "http://b.example"}

func (g generator) request(c *routeCase) request {
	r := g.tidyRequest(c)
	g.untidy(&r, false)
	return r
}

// untidy has some requests name their hosts in ways of their own, or come by HTTP/2.
func (g generator) untidy(r *request, secure bool) {
	if g.chance(6) {
		g.hosts(r)
	}
	if g.chance(20) {
		g.http2(r, secure)
	}
}

// tidyRequest draws a request that names its host once: as a rule one that a match of the case wants, then
// changed a little.
func (g generator) tidyRequest(c *routeCase) request {
	r := request{Method: pick(g, methods...), Host: g.host(c), Path: g.path()}
	if len(c.http)+len(c.grpc) > 0 && g.chance(80) {
		g.aim(c, &r)
	}
	if g.chance(50) {
		g.user(&r)
	}
	if g.chance(25) {
		r.Headers = append(r.Headers, explain.Header{Name: g.spelled(pick(g, headerNames...)), Value: pick(g, append([]string{""}, headerValues...)...)})
	}
	if g.chance(15) {
		g.addQuery(&r, pick(g, queryNames...), pick(g, append([]string{""}, queryValues...)...))
	}
	if g.chance(40) {
		r.Path = g.bend(r.Path)
	}
	if g.chance(8) && len(r.Headers) > 0 { // repeat or drop a header
		i := g.IntN(len(r.Headers))
		if g.chance(50) {
			r.Headers = append(r.Headers, explain.Header{Name: r.Headers[i].Name, Value: pick(g, headerValues...)})
		} else {
			r.Headers = slices.Delete(r.Headers, i, i+1)
		}
	}
	if g.chance(8) {
		r.Method = pick(g, methods...)
	}
	if g.chance(40) {
		g.client(&r)
	}
	if g.chance(12) {
		r.Headers = append(r.Headers, explain.Header{Name: "Origin", Value: pick(g, origins...)})
		if g.chance(60) {
			r.Method = "OPTIONS"
			r.Headers = append(r.Headers, explain.Header{Name: "Access-Control-Request-Method", Value: "GET"})
		}
	}
	return r
}

func (g generator) host(c *routeCase) string {
	name := "$." + c.namespace
	switch g.IntN(12) {
	case 0:
		name = "$" // the caller's own namespace
	case 1, 2:
		name += ".svc"
	case 3, 4:
		name += ".svc.cluster.local"
	case 5:
		name = strings.ToUpper(name) + "."
	case 6:
		name = pick(g, "$.other", name+".cluster.local", name+".svc.", "nobody.example", name+"..")
	}
	switch port := c.ports[g.IntN(len(c.ports))].Port; g.IntN(12) {
	case 0, 1, 2, 3, 4:
		return name + ":" + itoa(port)
	case 5:
		return name + pick(g, ":80", ":8080", ":080", ":1")
	}
	return name
}

// aim makes a request what one of the case's matches wants.
func (g generator) aim(c *routeCase, r *request) {
	n := g.IntN(len(c.http) + len(c.grpc))
	if n >= len(c.http) {
		g.aimGRPC(c.grpc[n-len(c.http)], r)
		return
	}
	route := c.http[n]
	rule := route.Spec.Rules[g.IntN(len(route.Spec.Rules))]
	m := rule.Matches[g.IntN(len(rule.Matches))]
	r.Path = *m.Path.Value
	switch *m.Path.Type {
	case gatewayv1.PathMatchRegularExpression:
		for _, e := range expressions {
			if e.value == r.Path {
				r.Path = pick(g, e.near...)
			}
		}
	case gatewayv1.PathMatchPathPrefix:
		if g.chance(50) {
			r.Path = strings.TrimSuffix(r.Path, "/") + g.path()
		}
	case gatewayv1.PathMatchExact:
	}
	if m.Method != nil {
		r.Method = string(*m.Method)
	}
	for _, h := range m.Headers {
		r.Headers = append(r.Headers, explain.Header{Name: g.spelled(string(h.Name)), Value: g.value(string(*h.Type), h.Value)})
	}
	for _, q := range m.QueryParams {
		g.addQuery(r, string(q.Name), g.value(string(*q.Type), q.Value))
	}
}

// value returns what an exact value or an expression wants.
func (g generator) value(kind, value string) string {
	if kind == "Exact" {
		return value
	}
	return pick(g, "v1", "v2", "1", "12", "x", "a", "", "V1")
}

func (g generator) aimGRPC(route *gatewayv1.GRPCRoute, r *request) {
	service, method := pick(g, grpcServices...), pick(g, grpcMethods...)
	rule := route.Spec.Rules[g.IntN(len(route.Spec.Rules))]
	if len(rule.Matches) > 0 {
		m := rule.Matches[g.IntN(len(rule.Matches))]
		if m.Method != nil && *m.Method.Type == gatewayv1.GRPCMethodMatchExact {
			if m.Method.Service != nil {
				service = *m.Method.Service
			}
			if m.Method.Method != nil {
				method = *m.Method.Method
			}
		}
		for _, h := range m.Headers {
			r.Headers = append(r.Headers, explain.Header{Name: g.spelled(string(h.Name)), Value: h.Value})
		}
	}
	r.Path, r.Method = "/"+service+"/"+method, "POST"
	r.Headers = append(r.Headers, explain.Header{
		Name: "Content-Type", Value: pick(g, "application/grpc", "application/grpc", "application/grpc", "application/grpc+proto", "application/json", "application/grpc-web"),
	})
	if g.chance(10) {
		r.Path = pick(g, "/"+service, "/"+service+"/", r.Path+"/x", "/")
	}
}

// spelled changes the case of a header's name, which means nothing.
func (g generator) spelled(name string) string {
	return pick(g, name, strings.ToUpper(name), strings.ToLower(name))
}

func (g generator) addQuery(r *request, name, value string) {
	separator := "?"
	if strings.Contains(r.Path, "?") {
		separator = "&"
	}
	r.Path += separator + name
	if value != "" || g.chance(50) {
		r.Path += "=" + value
	}
}

// bend changes a path into one that is nearly the same.
func (g generator) bend(path string) string {
	path, query, _ := strings.Cut(path, "?")
	if query != "" {
		query = "?" + query
	}
	switch g.IntN(9) {
	case 0:
		path += "/"
	case 1:
		path = strings.TrimRight(path, "/")
		if path == "" {
			path = "/"
		}
	case 2:
		path = strings.Replace(path, "/", "//", 1)
	case 3:
		path += "x"
	case 4:
		path = strings.Replace(path, "a", "%61", 1)
	case 5:
		path = strings.Replace(path, "a", "A", 1)
	case 6:
		path += "//"
	case 7:
		path = strings.ReplaceAll(path, "%61", "a")
	case 8:
		query = pick(g, "?", "?q", "?q=", "?&&q=1", "?q=1&q=2", "?q=2&q=1", "?Q=1&flag", "?q=%31", "?a=/b/c?d", "?q=1;flag=x")
	}
	return path + query
}
