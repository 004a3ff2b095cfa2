package explain_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/explain"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// world is a catalog that a test fills.
type world struct {
	t *testing.T
	*catalog.Catalog
}

func newWorld(t *testing.T) world {
	t.Helper()
	return world{t, catalog.New()}
}

func (w world) write(fn func(tx *catalog.Tx)) {
	w.t.Helper()
	_, err := w.Write(time.Time{}, func(tx *catalog.Tx) error { fn(tx); return nil })
	require.NoError(w.t, err)
}

// service adds a Service with port 80 unless others are given.
func (w world) service(namespace, name string, ports ...discovery.ServicePort) {
	w.t.Helper()
	if len(ports) == 0 {
		ports = []discovery.ServicePort{{Name: "http", Port: 80}}
	}
	w.write(func(tx *catalog.Tx) {
		catalog.Services.Put(tx, &discovery.Service{Key: discovery.Key{Namespace: namespace, Name: name}, Ports: ports, Home: "Pods"})
	})
}

// pods adds endpoints on port 8080 of a Service's first port, by zone.
func (w world) pods(namespace, name string, endpoints ...discovery.Endpoint) {
	w.t.Helper()
	w.write(func(tx *catalog.Tx) {
		key := discovery.Key{Namespace: namespace, Name: name}
		catalog.Endpoints.Put(tx, &discovery.EndpointSet{
			Key: key, Service: key, Platform: discovery.Pods, Ports: []discovery.EndpointPort{{Name: "http", Port: 8080}}, Endpoints: endpoints,
		})
	})
}

// route adds an HTTPRoute of namespace at Service web/php.
func (w world) route(namespace, name string, second int, rules ...gatewayv1.HTTPRouteRule) {
	w.t.Helper()
	parent := gatewayv1.ParentReference{
		Group: new(gatewayv1.Group("")), Kind: new(gatewayv1.Kind("Service")), Name: "php", Namespace: new(gatewayv1.Namespace("web")),
	}
	r := &gatewayv1.HTTPRoute{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       gatewayv1.HTTPRouteSpec{CommonRouteSpec: gatewayv1.CommonRouteSpec{ParentRefs: []gatewayv1.ParentReference{parent}}, Rules: rules},
	}
	w.write(func(tx *catalog.Tx) {
		catalog.Objects.Put(tx, &discovery.Object{
			Kind: "HTTPRoute", Key: discovery.Key{Namespace: namespace, Name: name}, Spec: r, Generation: 1,
			Created: time.Date(2026, 1, 1, 0, 0, second, 0, time.UTC),
			Refs:    []discovery.ObjectName{{Kind: "Service", Key: discovery.Key{Namespace: "web", Name: "php"}}},
		})
	})
}

func path(kind gatewayv1.PathMatchType, value string) gatewayv1.HTTPRouteMatch {
	return gatewayv1.HTTPRouteMatch{Path: &gatewayv1.HTTPPathMatch{Type: &kind, Value: &value}}
}

func prefix(value string) gatewayv1.HTTPRouteMatch { return path(gatewayv1.PathMatchPathPrefix, value) }

func to(name string) []gatewayv1.HTTPBackendRef {
	return []gatewayv1.HTTPBackendRef{{BackendRef: gatewayv1.BackendRef{
		BackendObjectReference: gatewayv1.BackendObjectReference{Name: gatewayv1.ObjectName(name), Port: new(gatewayv1.PortNumber(80))},
	}}}
}

func (w world) ask(method, url string, headers ...explain.Header) *explain.Explanation {
	w.t.Helper()
	req, err := explain.ParseRequest(explain.Workload{Namespace: "web", Zone: "a"}, method, url, headers)
	require.NoError(w.t, err)
	return explain.Evaluate(w.Read(), req)
}

func TestHosts(t *testing.T) {
	w := newWorld(t)
	w.service("web", "php")
	w.service("shop", "cart", discovery.ServicePort{Name: "admin", Port: 8080}, discovery.ServicePort{Name: "mysql", Port: 3306})
	w.write(func(tx *catalog.Tx) {
		catalog.Services.Put(tx, &discovery.Service{
			Key: discovery.Key{Namespace: "web", Name: "six"}, ClusterIPs: []string{"fd00::6", "10.0.0.6"}, Ports: []discovery.ServicePort{{Port: 80}},
		})
	})
	for url, want := range map[string]string{
		"http://php/":                              "http/php.web:80+short",
		"http://php:80/":                           "http/php.web:80+short",
		"http://php.web/":                          "http/php.web:80",
		"http://PHP.Web.svc./":                     "http/php.web:80",
		"http://php.web.svc.cluster.local:80/":     "http/php.web:80",
		"http://cart.shop/":                        "http/cart.shop:8080",
		"http://cart.shop:8080/":                   "http/cart.shop:8080",
		"http://10.0.0.6/":                         "http/six.web:80",
		"http://[fd00::6]:80/":                     "http/six.web:80",
		"http://[FD00::6]/":                        "http/six.web:80",
		"http://[fd00:0::6]/":                      "",
		"http://10.0.0.7/":                         "",
		"http://cart/":                             "",
		"http://php.web:8080/":                     "",
		"http://php.web:080/":                      "",
		"http://cart.shop:3306/":                   "",
		"http://php.web.cluster.local/":            "",
		"http://php.web.svc.cluster.local.other/":  "",
		"http://a.php.web/":                        "",
		"http://php.elsewhere/":                    "",
		"http://php.web..:80/":                     "",
		"http://php.web.svc.cluster.local.:0/":     "",
		"http://nobody.example.com:80/index.html#": "",
	} {
		e := w.ask("GET", url)
		require.Equal(t, want, e.Envoy.VirtualHost, "%s: %s", url, e.VirtualHost.Because)
		if want == "" {
			require.Equal(t, 404, e.Answer.Status, url)
		}
		require.NotEmpty(t, e.VirtualHost.Because, url)
	}
	require.Contains(t, w.ask("GET", "http://cart.shop:3306/").Answer.Because, "not HTTP")
	require.Contains(t, w.ask("GET", "http://cart/").Answer.Because, "the caller's own: did you mean cart.shop?")
	for url, want := range map[string]string{
		"http://phpp/":         "did you mean php.web?",
		"http://phpp.web/":     "no Service and no ExternalService answers to phpp.web: did you mean php.web?",
		"http://crat.shop:81/": "did you mean cart.shop?",
		"http://php.wbe.svc/":  "did you mean php.web?",
	} {
		require.Contains(t, w.ask("GET", url).Answer.Because, want, url)
	}
	require.NotContains(t, w.ask("GET", "http://billing.example.com/").Answer.Because, "did you mean")

	w.write(func(tx *catalog.Tx) {
		catalog.Objects.Put(tx, &discovery.Object{
			Kind: "Mesh", Key: discovery.Key{Name: "default"},
			Spec: &v1alpha1.Mesh{Spec: v1alpha1.MeshSpec{Egress: v1alpha1.Egress{Mode: v1alpha1.AllowAny}}},
		})
	})
	e := w.ask("GET", "http://nobody.example.com/")
	require.Nil(t, e.Answer)
	require.Equal(t, "http/any", e.Envoy.VirtualHost)
	require.Equal(t, "Host", e.Backends[0].Kind)
	require.Equal(t, []string{"egress"}, e.Envoy.Clusters)
}

// Every match that holds says why it is not the one, by the criterion of the
// Gateway API that decides; every other one says what it lacks.
func TestPrecedenceIsExplained(t *testing.T) {
	w := newWorld(t)
	w.service("web", "php")
	w.service("web", "api")
	header := func(m gatewayv1.HTTPRouteMatch, names ...string) gatewayv1.HTTPRouteMatch {
		for _, n := range names {
			m.Headers = append(m.Headers, gatewayv1.HTTPHeaderMatch{Name: gatewayv1.HTTPHeaderName(n), Value: "1"})
		}
		return m
	}
	method := func(m gatewayv1.HTTPRouteMatch, name string) gatewayv1.HTTPRouteMatch {
		m.Method = new(gatewayv1.HTTPMethod(name))
		return m
	}
	query := func(m gatewayv1.HTTPRouteMatch, name string) gatewayv1.HTTPRouteMatch {
		m.QueryParams = append(m.QueryParams, gatewayv1.HTTPQueryParamMatch{Name: gatewayv1.HTTPHeaderName(name), Value: "1"})
		return m
	}
	w.route(
		"web", "a", 0,
		gatewayv1.HTTPRouteRule{Name: new(gatewayv1.SectionName("all")), BackendRefs: to("api"), Matches: []gatewayv1.HTTPRouteMatch{
			prefix("/"), prefix("/a"), path(gatewayv1.PathMatchExact, "/a/b"), path(gatewayv1.PathMatchRegularExpression, "/a.*"),
			method(prefix("/a/b"), "GET"), header(prefix("/a/b"), "x", "y"), header(prefix("/a/b"), "x"), query(prefix("/a/b"), "q"), prefix("/a/b"), prefix("/a/b"),
		}},
		gatewayv1.HTTPRouteRule{BackendRefs: to("api"), Matches: []gatewayv1.HTTPRouteMatch{
			prefix("/a/b"), path(gatewayv1.PathMatchExact, "/A/b"), method(prefix("/a"), "POST"), header(prefix("/a"), "z"), query(prefix("/a"), "z"),
		}},
	)
	w.route("web", "b", 0, gatewayv1.HTTPRouteRule{BackendRefs: to("api"), Matches: []gatewayv1.HTTPRouteMatch{prefix("/a/b")}})
	w.route("web", "c", 1, gatewayv1.HTTPRouteRule{BackendRefs: to("api"), Matches: []gatewayv1.HTTPRouteMatch{prefix("/a/b")}})

	e := w.ask("GET", "http://php/a/b?q=1", explain.Header{Name: "X", Value: "1"}, explain.Header{Name: "y", Value: "1"})
	require.Equal(t, "HTTPRoute web/a rules[0].matches[2] (all)", e.Rule.String())
	require.Equal(t, []string{"HTTPRoute/web/a/0/2-safe"}, e.Envoy.Routes)
	for i := range e.Lost {
		require.Contains(t, e.Lost[i].Because, "an exact path goes before", "%s", e.Lost[i].String())
	}
	require.Len(t, e.Lost, 12)

	// Without the exact path, each of the others wins in turn as the request loses what the one before it wants.
	why := func(e *explain.Explanation) map[string]string {
		out := map[string]string{"chosen": e.Rule.String()}
		for i := range e.Lost {
			out[e.Lost[i].String()] = e.Lost[i].Because
		}
		return out
	}
	got := why(w.ask("POST", "http://php/x/../a/b"))
	require.Equal(t, map[string]string{"chosen": "HTTPRoute web/a rules[0].matches[0] (all)"}, got)

	w2 := newWorld(t)
	w2.service("web", "php")
	w2.service("web", "api")
	rule := func(m ...gatewayv1.HTTPRouteMatch) gatewayv1.HTTPRouteRule {
		return gatewayv1.HTTPRouteRule{BackendRefs: to("api"), Matches: m}
	}
	w2.route("web", "a", 1, rule(method(prefix("/a"), "GET"), header(prefix("/a"), "x", "y")), rule(header(prefix("/a"), "x")), rule(query(prefix("/a"), "q")), rule(prefix("/a"), prefix("/a")), rule(prefix("/a")), rule(prefix("/")))
	w2.route("web", "b", 1, rule(prefix("/a")))
	w2.route("web", "c", 2, rule(prefix("/a")))
	x, y := explain.Header{Name: "x", Value: "1"}, explain.Header{Name: "y", Value: "1"}
	require.Equal(t, map[string]string{
		"chosen":                              "HTTPRoute web/a rules[0].matches[0]",
		"HTTPRoute web/a rules[0].matches[1]": "a match that names a method goes before one that does not",
		"HTTPRoute web/a rules[1].matches[0]": "a match that names a method goes before one that does not",
		"HTTPRoute web/a rules[2].matches[0]": "a match that names a method goes before one that does not",
		"HTTPRoute web/a rules[3].matches[0]": "a match that names a method goes before one that does not",
		"HTTPRoute web/a rules[3].matches[1]": "a match that names a method goes before one that does not",
		"HTTPRoute web/a rules[4].matches[0]": "a match that names a method goes before one that does not",
		"HTTPRoute web/a rules[5].matches[0]": "the longer prefix /a goes before /",
		"HTTPRoute web/b rules[0].matches[0]": "a match that names a method goes before one that does not",
		"HTTPRoute web/c rules[0].matches[0]": "a match that names a method goes before one that does not",
	}, why(w2.ask("GET", "http://php/a?q=1", x, y)))
	got = why(w2.ask("POST", "http://php/a?q=1", x, y))
	require.Equal(t, "HTTPRoute web/a rules[0].matches[1]", got["chosen"])
	require.Equal(t, "2 header matches go before 1", got["HTTPRoute web/a rules[1].matches[0]"])
	got = why(w2.ask("POST", "http://php/a?q=1"))
	require.Equal(t, "HTTPRoute web/a rules[2].matches[0]", got["chosen"])
	require.Equal(t, "1 query parameter matches go before 0", got["HTTPRoute web/a rules[3].matches[0]"])
	got = why(w2.ask("POST", "http://php/a"))
	require.Equal(t, "HTTPRoute web/a rules[3].matches[0]", got["chosen"])
	require.Equal(t, "it is a later match of the same rule", got["HTTPRoute web/a rules[3].matches[1]"])
	require.Equal(t, "it stands later in the same route", got["HTTPRoute web/a rules[4].matches[0]"])
	require.Equal(t, "web/a comes before it by name", got["HTTPRoute web/b rules[0].matches[0]"])
	require.Equal(t, "HTTPRoute web/a is older (2026-01-01 00:00:01) than HTTPRoute web/c (2026-01-01 00:00:02)", got["HTTPRoute web/c rules[0].matches[0]"])

	lacks := make(map[string]string)
	for _, u := range w2.ask("POST", "http://php/ab?q=2", x).Unmatched {
		lacks[u.String()] = u.Because
	}
	require.Equal(t, `path "/ab" is not "/a" or below it`, lacks["HTTPRoute web/a rules[0].matches[0]"])
	for _, u := range w2.ask("POST", "http://php/a?q=2", x).Unmatched {
		lacks[u.String()] = u.Because
	}
	require.Equal(t, "method POST is not GET", lacks["HTTPRoute web/a rules[0].matches[0]"])
	require.Equal(t, `header "y" is not there`, lacks["HTTPRoute web/a rules[0].matches[1]"])
	require.Equal(t, `query parameter "q": "2" is not "1"`, lacks["HTTPRoute web/a rules[2].matches[0]"])
}

// Routes of the caller's own namespace hold there instead of the producer's.
func TestConsumerRoutes(t *testing.T) {
	w := newWorld(t)
	w.service("web", "php")
	w.service("web", "api")
	w.service("shop", "cart")
	w.route("web", "producer", 0, gatewayv1.HTTPRouteRule{BackendRefs: to("api")})
	w.route("shop", "consumer", 0, gatewayv1.HTTPRouteRule{Matches: []gatewayv1.HTTPRouteMatch{prefix("/only")}, BackendRefs: to("cart")})
	req, err := explain.ParseRequest(explain.Workload{Namespace: "shop"}, "GET", "http://php.web/", nil)
	require.NoError(t, err)
	e := explain.Evaluate(w.Read(), req)
	require.Equal(t, "consumer", e.VirtualHost.Routes)
	require.Equal(t, 404, e.Answer.Status)
	req.Path = "/only/this"
	require.Equal(t, "consumer", explain.Evaluate(w.Read(), req).Rule.Object)
	req.From.Namespace = "data"
	e = explain.Evaluate(w.Read(), req)
	require.Equal(t, "producer", e.VirtualHost.Routes)
	require.Equal(t, "producer", e.Rule.Object)
}

// The table of HTTPPathModifier.replacePrefixMatch, and what it leaves open.
func TestPathEdits(t *testing.T) {
	for _, c := range []struct{ path, prefix, replace, want string }{
		{"/foo/bar", "/foo", "/xyz", "/xyz/bar"},
		{"/foo/bar", "/foo", "/xyz/", "/xyz/bar"},
		{"/foo/bar", "/foo/", "/xyz", "/xyz/bar"},
		{"/foo/bar", "/foo/", "/xyz/", "/xyz/bar"},
		{"/foo", "/foo", "/xyz", "/xyz"},
		{"/foo/", "/foo", "/xyz", "/xyz/"},
		{"/foo/bar", "/foo", "", "/bar"},
		{"/foo/", "/foo", "", "/"},
		{"/foo", "/foo", "", "/"},
		{"/foo/", "/foo", "/", "/"},
		{"/foo", "/foo", "/", "/"},
		{"/foo?a=/foo", "/foo", "/xyz", "/xyz?a=/foo"},
		{"/foo?", "/foo", "/xyz", "/xyz?"},
		{"/bar", "/", "/xyz", "/xyz/bar"},
		{"/", "/", "/xyz", "/xyz/"},
	} {
		w := newWorld(t)
		w.service("web", "php")
		w.service("web", "api")
		w.pods("web", "api", discovery.Endpoint{ID: "1", Address: "10.0.0.1"})
		edit := &gatewayv1.HTTPPathModifier{Type: gatewayv1.PrefixMatchHTTPPathModifier, ReplacePrefixMatch: &c.replace}
		w.route("web", "r", 0, gatewayv1.HTTPRouteRule{
			Matches: []gatewayv1.HTTPRouteMatch{prefix(c.prefix)}, BackendRefs: to("api"),
			Filters: []gatewayv1.HTTPRouteFilter{{Type: gatewayv1.HTTPRouteFilterURLRewrite, URLRewrite: &gatewayv1.HTTPURLRewriteFilter{Path: edit}}},
		})
		e := w.ask("GET", "http://php"+c.path)
		require.Equal(t, c.want, e.Backends[0].Forwarded.Path, "%+v", c)
	}
}

// Weights become intervals, whose sum is all requests; what cannot be a backend answers 500 for its part.
func TestIntervals(t *testing.T) {
	w := newWorld(t)
	w.service("web", "php")
	w.service("web", "api")
	w.pods("web", "api", discovery.Endpoint{ID: "1", Address: "10.0.0.1", Zone: "a"}, discovery.Endpoint{ID: "2", Address: "10.0.0.2", Zone: "b"})
	refs := append(to("api"), to("missing")...)
	refs[0].Weight, refs[1].Weight = new(int32(2)), new(int32(1))
	w.route("web", "r", 0, gatewayv1.HTTPRouteRule{BackendRefs: refs})
	e := w.ask("POST", "http://php/")
	require.Nil(t, e.Answer)
	require.Equal(t, explain.Interval{End: 666_667}, e.Backends[0].Interval)
	require.Equal(t, explain.Interval{Begin: 666_667, End: policy.ShareTotal}, e.Backends[1].Interval)
	require.Equal(t, 500, e.Backends[1].Answer.Status)
	require.Equal(t, "web/api:80/pods", e.Backends[0].Targets[0].Cluster)
	require.Equal(t, []string{"HTTPRoute/web/r/0/0"}, e.Envoy.Routes)
	zones := e.Backends[0].Targets[0].Zones
	require.True(t, zones[0].Own)
	require.InDelta(t, 100, zones[0].Percent, 1e-9)
	require.Equal(t, "10.0.0.1:8080", zones[0].Endpoints[0].Address)
}

// gRPC callers get gRPC's own kind of error.
func TestGRPCAnswers(t *testing.T) {
	w := newWorld(t)
	grpc := explain.Header{Name: "Content-Type", Value: "application/grpc+proto"}
	e := w.ask("POST", "http://nobody/pkg.Svc/Get", grpc)
	require.Equal(t, 200, e.Answer.Status)
	require.Equal(t, 12, *e.Answer.GRPCStatus)
	require.True(t, e.Answer.Error())
	require.Nil(t, w.ask("POST", "http://nobody/pkg.Svc/Get", explain.Header{Name: "Content-Type", Value: "application/grpc-web"}).Answer.GRPCStatus)
}

func TestParseRequest(t *testing.T) {
	for _, c := range []struct {
		method, url string
		headers     []explain.Header
		want        string
	}{
		{"G T", "http://a/", nil, "is not a method"},
		{"", "http://a/", nil, "is not a method"},
		{"GET", "https://a/", nil, "TLS"},
		{"GET", "ftp://a/", nil, `scheme "ftp" is not http`},
		{"GET", "http:///x", nil, "names no host"},
		{"GET", "http://u:p@a/", nil, "Authorization"},
		{"GET", "http://a/b c", nil, "percent-encode"},
		{"GET", "http://a/", []explain.Header{{Name: "a b", Value: "x"}}, "not a header's name"},
		{"GET", "http://a/", []explain.Header{{Name: "a", Value: "x\r\ny: z"}}, "line break"},
	} {
		_, err := explain.ParseRequest(explain.Workload{}, c.method, c.url, c.headers)
		require.ErrorContains(t, err, c.want, "%+v", c)
	}
	for url, want := range map[string][2]string{
		"a.web":                   {"a.web", "/"},
		"http://a.web:80":         {"a.web:80", "/"},
		"HTTP://a.web?q=1":        {"a.web", "?q=1"},
		"http://a/b//c%2F?x=/?#f": {"a", "/b//c%2F?x=/?"},
		"http://[::1]:80/":        {"[::1]:80", "/"},
	} {
		req, err := explain.ParseRequest(explain.Workload{}, "GET", url, nil)
		require.NoError(t, err, url)
		require.Equal(t, want, [2]string{req.Host, req.Path}, url)
	}
	req, err := explain.ParseRequest(explain.Workload{}, "GET", "http://a/", []explain.Header{{Name: "HOST", Value: " b.web "}})
	require.NoError(t, err)
	require.Equal(t, "b.web", req.Host)
	_, err = explain.ParseHeader("no colon")
	require.Error(t, err)
	h, err := explain.ParseHeader("X-A:  b: c ")
	require.NoError(t, err)
	require.Equal(t, explain.Header{Name: "X-A", Value: "b: c"}, h)
}

// Whatever is asked, there is an answer: something happens to every request.
func FuzzEvaluate(f *testing.F) {
	c := catalog.New()
	_, err := c.Write(time.Time{}, func(tx *catalog.Tx) error {
		key := discovery.Key{Namespace: "web", Name: "php"}
		catalog.Services.Put(tx, &discovery.Service{Key: key, ClusterIPs: []string{"10.0.0.1", "fd00::1"}, Ports: []discovery.ServicePort{{Port: 80}, {Name: "x", Port: 81}}})
		return nil
	})
	require.NoError(f, err)
	for _, s := range []string{"http://php/a?b#c", "php.web.:80", "http://[fd00::1]:81/%zz", "http://10.0.0.1.", "//", ":", "[]:"} {
		f.Add("GET", s, "x", "y")
	}
	f.Fuzz(func(t *testing.T, method, url, name, value string) {
		req, err := explain.ParseRequest(explain.Workload{Namespace: "web"}, method, url, []explain.Header{{Name: name, Value: value}})
		if err != nil {
			return
		}
		e := explain.Evaluate(c.Read(), req)
		if e.Answer == nil && len(e.Backends) == 0 {
			t.Fatalf("%q: nothing becomes of it", url)
		}
	})
}

// Requests that a proxy answers itself, or changes, before it looks for a route:
// what it was seen to do (test/equivalence compares the two at random).
func TestHeads(t *testing.T) {
	w := newWorld(t)
	w.service("web", "php")
	h := func(name, value string) explain.Header { return explain.Header{Name: name, Value: value} }
	for name, c := range map[string]struct {
		method, url string
		headers     []explain.Header
		answer      int
		path        string
	}{
		"a method of caches":             {method: "BAN", url: "http://php/", answer: 503, path: "/"},
		"a URL without path":             {url: "http://php?x=1", answer: 404, path: "?x=1"},
		"a URL with path and query":      {url: "http://php/?x=1", answer: 503, path: "/?x=1"},
		"a query with a path in it":      {url: "http://php?x=/?y", answer: 404, path: "?x=/?y"},
		"UTF-8 as it is":                 {url: "http://php/caf\u00e9", answer: 400, path: "/caf\u00e9"},
		"UTF-8 as it should be":          {url: "http://php/caf%C3%A9", answer: 503, path: "/caf%C3%A9"},
		"the whole server":               {method: "OPTIONS", url: "*", headers: []explain.Header{h("Host", "php")}, answer: 404, path: "*"},
		"another upgrade":                {url: "http://php/", headers: []explain.Header{h("Upgrade", "TLS/1.2"), h("Connection", "Upgrade")}, answer: 503, path: "/"},
		"a nominated header that counts": {url: "http://php/", headers: []explain.Header{h("Connection", "close, X-Forwarded-For")}, answer: 400, path: "/"},
		"a question of no kind":          {method: "QUERY", url: "http://php/", answer: 400, path: "/"},
		"two websockets":                 {url: "http://php/", headers: []explain.Header{h("Upgrade", "websocket"), h("Upgrade", "websocket"), h("Connection", "Upgrade")}, answer: 403, path: "/"},
		"two websockets of nobody":       {url: "http://nobody/", headers: []explain.Header{h("Upgrade", "websocket, websocket"), h("Connection", "Upgrade")}, answer: 404, path: "/"},
		"a host that is none":            {url: "http://php/", headers: []explain.Header{h("Host", "<php>")}, answer: 400, path: "/"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.method == "" {
				c.method = "GET"
			}
			req, err := explain.ParseRequest(explain.Workload{Namespace: "web"}, c.method, c.url, c.headers)
			require.NoError(t, err)
			require.Equal(t, c.path, req.Path)
			e := explain.Evaluate(w.Read(), req)
			require.NotNil(t, e.Answer)
			require.Equal(t, c.answer, e.Answer.Status, e.Answer.Because)
		})
	}
}

// Which pods answer may depend on the caller's node: explain says which, why none does, and what to do.
func TestNodes(t *testing.T) {
	w := newWorld(t)
	put := func(change func(s *discovery.Service)) {
		s := &discovery.Service{Key: discovery.Key{Namespace: "web", Name: "agent"}, Ports: []discovery.ServicePort{{Name: "http", Port: 80}}, Home: "Pods"}
		change(s)
		w.write(func(tx *catalog.Tx) { catalog.Services.Put(tx, s) })
	}
	pod := func(id, zone, node string, h discovery.Health) discovery.Endpoint {
		return discovery.Endpoint{ID: "web/" + id, Address: "10.0.0." + id, Zone: zone, Node: node, Health: h}
	}
	w.pods("web", "agent", pod("1", "a", "n1", discovery.Healthy), pod("2", "a", "n2", discovery.Healthy),
		pod("3", "b", "n3", discovery.Draining), pod("4", "b", "n4", discovery.Healthy), pod("5", "b", "n5", discovery.Healthy))
	ask := func(node string) *explain.Target {
		req, err := explain.ParseRequest(explain.Workload{Namespace: "web", Zone: "a", Node: node}, "GET", "http://agent/", nil)
		require.NoError(t, err)
		e := explain.Evaluate(w.Read(), req)
		target := &e.Backends[0].Targets[0]
		require.Equal(t, target.Answer, e.Answer, "one target is all")
		return target
	}
	// parts are "zone node? endpoints percent".
	parts := func(target *explain.Target) []string {
		var out []string
		for _, z := range target.Zones {
			s := z.Name
			if z.OwnNode {
				s += " own node"
			}
			for _, e := range z.Endpoints {
				s += " " + e.ID
			}
			out = append(out, fmt.Sprintf("%s %g%%", s, z.Percent))
		}
		return out
	}

	put(func(s *discovery.Service) { s.LocalTraffic = true })
	require.Equal(t, []string{"a own node web/1 100%"}, parts(ask("n1")))
	require.Equal(t, "internalTrafficPolicy: Local: only pods of the caller's node n1 answer", ask("n1").Nodes)
	require.Equal(t, []string{"b own node web/3 100%"}, parts(ask("n3")), "what drains is tried as the last resort, as with kube-proxy")
	none := ask("n9")
	require.Empty(t, none.Zones)
	require.Equal(t, 503, none.Answer.Status)
	require.Equal(t, "Service web/agent has internalTrafficPolicy: Local, and no pod on the caller's node n9; its pods are on n1, n2, n3 and 2 other nodes: "+
		"run one there, or remove it from the Service", none.Answer.Because)
	require.Len(t, parts(ask("")), 2)
	require.Equal(t, "internalTrafficPolicy: Local: the caller says no node, so the pods of all nodes answer", ask("").Nodes)

	put(func(s *discovery.Service) { s.Distribution = "PreferSameNode" })
	require.Equal(t, []string{"a own node web/1 100%", "a web/2 0%", "b web/3 web/4 web/5 0%"}, parts(ask("n1")))
	require.Equal(t, "trafficDistribution: PreferSameNode: pods of the caller's node n1 answer first", ask("n1").Nodes)
	require.Equal(t, []string{"b own node web/3 0%", "b web/4 web/5 100%", "a web/1 web/2 0%"}, parts(ask("n3")), "its own only drains")
	require.Equal(t, []string{"a web/1 web/2 100%", "b web/3 web/4 web/5 0%"}, parts(ask("n9")))
	require.Equal(t, "trafficDistribution: PreferSameNode: the caller's node n9 has none, so all answer by zone", ask("n9").Nodes)

	put(func(*discovery.Service) {})
	require.Empty(t, ask("n1").Nodes)
	require.Equal(t, parts(ask("")), parts(ask("n1")))
}
