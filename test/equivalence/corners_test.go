package equivalence

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/explain"
)

// Requests at corners that are hard to meet by chance.
func TestCorners(t *testing.T) {
	m := startMesh(t)
	f := writeFixture(t, m)
	header := func(name, value string) explain.Header { return explain.Header{Name: name, Value: value} }
	match := func(kind gatewayv1.HeaderMatchType, name, value string) gatewayv1.HTTPRouteMatch {
		return gatewayv1.HTTPRouteMatch{
			Path:    &gatewayv1.HTTPPathMatch{Type: new(gatewayv1.PathMatchPathPrefix), Value: new("/")},
			Headers: []gatewayv1.HTTPHeaderMatch{{Type: &kind, Name: gatewayv1.HTTPHeaderName(name), Value: value}},
		}
	}
	query := func(kind gatewayv1.QueryParamMatchType, name, value string) gatewayv1.HTTPRouteMatch {
		return gatewayv1.HTTPRouteMatch{
			Path:        &gatewayv1.HTTPPathMatch{Type: new(gatewayv1.PathMatchPathPrefix), Value: new("/")},
			QueryParams: []gatewayv1.HTTPQueryParamMatch{{Type: &kind, Name: gatewayv1.HTTPHeaderName(name), Value: value}},
		}
	}
	exact, regex := gatewayv1.HeaderMatchExact, gatewayv1.HeaderMatchRegularExpression
	get := func(path string, headers ...explain.Header) request {
		return request{Method: "GET", Host: "$.web", Path: path, Headers: headers}
	}
	type corner struct {
		match    gatewayv1.HTTPRouteMatch
		requests []request
	}
	corners := map[string]corner{
		"a header of several lines": {match(exact, "x", "a,b"), []request{
			get("/", header("x", "a,b")), get("/", header("x", "a"), header("X", "b")), get("/", header("x", "a, b")), get("/", header("x", "c"), header("x", "a,b")),
		}},
		"an expression and several lines": {match(regex, "x", "a.*"), []request{
			get("/", header("x", "b"), header("x", "ab")), get("/", header("x", "ba"), header("x", "b")), get("/", header("x", "a"), header("x", "")),
		}},
		"an expression that nothing satisfies": {match(regex, "x", ".*"), []request{get("/"), get("/", header("x", "")), get("/", header("x", "a"))}},
		"the host as a header":                 {match(exact, "Host", "php.example"), []request{get("/"), {Method: "GET", Host: "php.example", Path: "/"}}},
		"the host as an expression": {match(regex, "Host", `.*\.web(:\d+)?`), []request{
			get("/"), {Method: "GET", Host: "$.web:80", Path: "/"}, {Method: "GET", Host: "$.WEB", Path: "/"}, {Method: "GET", Host: "$.web.", Path: "/"},
		}},
		"cookies": {match(exact, "cookie", "a=1; b=2"), []request{
			get("/", header("cookie", "a=1; b=2")), get("/", header("cookie", "a=1"), header("cookie", "b=2")), get("/", header("cookie", "b=2")),
		}},
		"a parameter twice":         {query(gatewayv1.QueryParamMatchExact, "q", "1"), []request{get("/?q=1&q=2"), get("/?q=2&q=1"), get("/?Q=1"), get("/?q=1;r=2"), get("/?&&q=1"), get("/?q=%31")}},
		"a parameter without value": {query(gatewayv1.QueryParamMatchRegularExpression, "q", ".*"), []request{get("/?q"), get("/?q="), get("/?"), get("/"), get("/?r=1"), get("/?=q"), get("/?q?=1"), get("/?r=1?q=2")}},
		"paths that are not normal": {gatewayv1.HTTPRouteMatch{Path: &gatewayv1.HTTPPathMatch{Type: new(gatewayv1.PathMatchPathPrefix), Value: new("/a/b")}}, []request{
			get("/a/b"), get("/a//b"), get("//a/b"), get("/a/./b"), get("/a/x/../b"), get("/a/%62"), get("/a%2fb"), get("/a%2Fb/c"), get("/a/b%2Fc"), get("/a/b;x=1"), get("/a/b/../../c"), get(`/a\b`), get("/A/b"),
		}},
	}
	for _, name := range []string{
		"accept", "accept-encoding", "accept-language", "access-control-request-headers", "access-control-request-method",
		"authorization", "cache-control", "content-type", "cookie", "etag", "expect", "forwarded", "grpc-timeout", "if-modified-since",
		"if-none-match", "origin", "pragma", "priority", "range", "referer", "traceparent", "tracestate", "user-agent", "via",
		"x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-request-id", "x-b3-traceid", "x-user",
	} {
		lines := []request{
			get("/", header(name, "a"), header(name, "b")), get("/", header(name, ""), header(name, "a")), get("/", header(name, "a"), header(name, "")),
			get("/", header(name, "a,b")), get("/", header(name, "b"), header(name, "a")),
		}
		corners["lines of "+name] = corner{match(exact, name, "a"), lines}
		corners["joined lines of "+name] = corner{match(exact, name, "a,b"), lines}
	}
	for name, c := range corners {
		t.Run(name, func(t *testing.T) {
			c := &routeCase{
				namespace: "web", home: "Pods", ports: []discovery.ServicePort{{Name: "http", Port: 80}}, fixture: f, requests: c.requests,
				http: []*gatewayv1.HTTPRoute{{ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "r"}, Spec: gatewayv1.HTTPRouteSpec{
					CommonRouteSpec: gatewayv1.CommonRouteSpec{ParentRefs: []gatewayv1.ParentReference{{Group: new(gatewayv1.Group("")), Kind: new(gatewayv1.Kind("Service"))}}},
					Rules: []gatewayv1.HTTPRouteRule{{Matches: []gatewayv1.HTTPRouteMatch{c.match}, BackendRefs: []gatewayv1.HTTPBackendRef{{BackendRef: gatewayv1.BackendRef{
						BackendObjectReference: gatewayv1.BackendObjectReference{Name: "api", Namespace: new(gatewayv1.Namespace("web")), Port: new(gatewayv1.PortNumber(80))},
					}}}}},
				}}},
			}
			require.NoError(t, m.put(c))
			for _, r := range c.requests {
				if why, _ := m.check(c, r); why != "" {
					t.Errorf("%s\n%q", why, c.sent(r).String())
				}
			}
		})
	}
}

// What an edge proxy refuses before it looks for a route has the headers of the rule to which
// it leads, if X-Forwarded-Proto comes with it.
func TestCornersAtGateways(t *testing.T) {
	e := startEdge(t)
	writeFixture(t, &e.mesh)
	all := &gatewayv1.AllowedRoutes{Namespaces: &gatewayv1.RouteNamespaces{From: new(gatewayv1.NamespacesFromAll)}}
	redirect := func(path string) gatewayv1.HTTPRouteRule {
		return gatewayv1.HTTPRouteRule{
			Matches: []gatewayv1.HTTPRouteMatch{{Path: &gatewayv1.HTTPPathMatch{Type: new(gatewayv1.PathMatchExact), Value: &path}}},
			Filters: []gatewayv1.HTTPRouteFilter{{Type: gatewayv1.HTTPRouteFilterRequestRedirect, RequestRedirect: &gatewayv1.HTTPRequestRedirectFilter{StatusCode: new(302)}}},
		}
	}
	catchAll := gatewayv1.HTTPRouteRule{
		Matches: []gatewayv1.HTTPRouteMatch{{Path: &gatewayv1.HTTPPathMatch{Type: new(gatewayv1.PathMatchRegularExpression), Value: new(".*")}}},
		Filters: []gatewayv1.HTTPRouteFilter{{Type: gatewayv1.HTTPRouteFilterResponseHeaderModifier, ResponseHeaderModifier: &gatewayv1.HTTPHeaderFilter{
			Add: []gatewayv1.HTTPHeader{{Name: "x-answer", Value: "100%"}}, Set: []gatewayv1.HTTPHeader{{Name: "x-two", Value: "100%"}},
		}}},
		BackendRefs: []gatewayv1.HTTPBackendRef{{BackendRef: gatewayv1.BackendRef{BackendObjectReference: gatewayv1.BackendObjectReference{
			Name: "api", Namespace: new(gatewayv1.Namespace("web")), Port: new(gatewayv1.PortNumber(80)),
		}}}},
	}
	route := &gatewayv1.HTTPRoute{ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "r"}}
	for _, port := range []gatewayv1.PortNumber{80, 443} {
		route.Spec.ParentRefs = append(route.Spec.ParentRefs, gatewayv1.ParentReference{
			Group: new(gatewayv1.Group(gatewayv1.GroupName)), Kind: new(gatewayv1.Kind("Gateway")),
			Namespace: new(gatewayv1.Namespace(gatewayNamespace)), Name: gatewayName, Port: new(port),
		})
	}
	route.Spec.Rules = []gatewayv1.HTTPRouteRule{redirect("/away"), catchAll}
	c := &gatewayCase{
		listeners: []gatewayv1.Listener{
			{Name: "http", Protocol: gatewayv1.HTTPProtocolType, AllowedRoutes: all}, {Name: "https", Protocol: gatewayv1.HTTPSProtocolType, AllowedRoutes: all},
		},
		routes: []*gatewayv1.HTTPRoute{route},
	}
	require.NoError(t, e.put(c))
	header := func(name, value string) explain.Header { return explain.Header{Name: name, Value: value} }
	const host = "shop.example.com"
	requests := map[string]request{
		"the server as a whole":      {Method: "OPTIONS", Host: host, Path: "*"},
		"a question of no kind":      {Method: "QUERY", Host: host, Path: "/a"},
		"the same, of a redirect":    {Method: "QUERY", Host: host, Path: "/away"},
		"the same, by gRPC":          {Method: "QUERY", Host: host, Path: "/a", Headers: []explain.Header{header("content-type", "application/grpc")}},
		"a fragment":                 {Method: "GET", Host: host, Path: "/a#b"},
		"a URL without path":         {Method: "GET", Host: host, Path: "?a=1", Absolute: true},
		"a host that is none":        {Method: "GET", Host: "<a>", Path: "/a"},
		"the same by gRPC":           {Method: "POST", Host: "<a>", Path: "/a", Headers: []explain.Header{header("content-type", "application/grpc")}},
		"the same by HTTP/1.0":       {Method: "GET", Host: "<a>", Path: "/a", Version: http10},
		"a host with a dot":          {Method: "GET", Host: host + ".", Path: "/a%2Fb"},
		"HTTP/1.0":                   {Method: "GET", Host: host, Path: "/a", Version: http10},
		"HTTP/1.0, of a redirect":    {Method: "GET", Host: host, Path: "/away", Version: http10},
		"an escaped slash":           {Method: "GET", Host: host, Path: "/a%2Fb"},
		"one, of a redirect":         {Method: "GET", Host: host, Path: "/away%2F"},
		"a whole URL":                {Method: "GET", Host: host, Path: "/a", Absolute: true},
		"one of a redirect":          {Method: "GET", Host: host, Path: "/away", Absolute: true},
		"one with a port":            {Method: "GET", Host: host + ":443", Path: "/away", Absolute: true},
		"one with another port":      {Method: "GET", Host: host + ":80", Path: "/away", Absolute: true},
		"a fragment of a redirect":   {Method: "GET", Host: host, Path: "/away#b"},
		"one that leads elsewhere":   {Method: "GET", Host: host, Path: "/x%2F..%2Faway"},
		"one by gRPC":                {Method: "POST", Host: host, Path: "/a%2Fb", Headers: []explain.Header{header("content-type", "application/grpc")}},
		"an escaped NUL":             {Method: "GET", Host: host, Path: "/a%00"},
		"a byte that no path has":    {Method: "GET", Host: host, Path: "/\xe9"},
		"a nominated header":         {Method: "GET", Host: host, Path: "/", Headers: []explain.Header{header("Connection", "X-Forwarded-For")}},
		"two websockets":             {Method: "GET", Host: host, Path: "/", Headers: []explain.Header{header("Connection", "Upgrade"), header("Upgrade", "websocket, websocket")}},
		"two websockets, redirected": {Method: "GET", Host: host, Path: "/away", Headers: []explain.Header{header("Connection", "Upgrade"), header("Upgrade", "websocket, websocket")}},
	}
	for name, r := range requests {
		for _, told := range []bool{false, true} {
			if told {
				r.Headers = append(slices.Clone(r.Headers), header("X-Forwarded-Proto", "https"))
			}
			for _, secure := range []bool{false, true} {
				r := gatewayRequest{request: r, Secure: secure, ServerName: nameIf(secure, host)}
				if why, outcome := e.check(c, r); why != "" {
					t.Errorf("%s, X-Forwarded-Proto %t, TLS %t: %s: %s", name, told, secure, outcome, why)
				}
			}
		}
	}
}

// What a proxy cannot read ends alone: other requests on its connection of HTTP/2 go on. By
// default Envoy closes the connection.
func TestMalformedStreams(t *testing.T) {
	m := startMesh(t)
	f := writeFixture(t, m)
	c := &routeCase{namespace: "web", home: "Pods", ports: []discovery.ServicePort{{Name: "http", Port: 80}}, fixture: f}
	require.NoError(t, m.put(c))
	good := c.sent(request{Method: "GET", Host: "$.web", Path: "/a", Version: http2nd, Scheme: "http"})
	for name, change := range map[string]func(*request){
		"a name in capitals": func(r *request) { r.Headers = []explain.Header{{Name: "X-Upper", Value: "1"}} },
		"a connection":       func(r *request) { r.Headers = []explain.Header{{Name: "connection", Value: "close"}} },
		"no host":            func(r *request) { r.NoHost = true },
		"two hosts":          func(r *request) { r.NoHost, r.Hosts = true, []string{r.Host, r.Host} },
		"a path of no kind":  func(r *request) { r.Path = "a b" },
		"a websocket":        func(r *request) { r.Method, r.Protocol = "CONNECT", "websocket" },
	} {
		t.Run(name, func(t *testing.T) {
			bad := good
			change(&bad)
			m.client.close()
			require.NoError(t, m.client.dial())
			s, err := m.client.session()
			require.NoError(t, err)
			_, err = s.do(bad)
			require.ErrorIs(t, err, errReset)
			said := explain.Evaluate(m.catalog.Read(), c.asked(bad))
			require.NotNil(t, said.Answer)
			require.Zero(t, said.Answer.Status)
			seen, err := s.do(good)
			require.NoError(t, err, "the connection has ended too")
			require.Equal(t, 200, seen.Status)
		})
	}
}

func nameIf(secure bool, name string) string {
	if secure {
		return name
	}
	return ""
}
