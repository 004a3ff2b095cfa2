package compile_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/policy"
)

// These tests say what rules of routes mean, in the words of the real Envoy:
// what callers and backends get.

func TestEnvoyMatches(t *testing.T) {
	t.Parallel()
	matches := []struct {
		name  string
		match policy.Match
	}{
		{"exact", policy.Match{Path: policy.PathMatch{Kind: policy.PathExact, Value: "/exact"}}},
		{"regex", policy.Match{Path: policy.PathMatch{Kind: policy.PathRegex, Value: `/v\d+/items`}}},
		{"method", policy.Match{Path: prefix("/method").Path, Method: "DELETE"}},
		{"header", policy.Match{Path: prefix("/headers").Path, Headers: []policy.ValueMatch{
			{Name: "x-a", Value: "1"}, {Name: "x-b", Regex: true, Value: "b+"},
		}}},
		{"query", policy.Match{Path: prefix("/query").Path, Query: []policy.ValueMatch{
			{Name: "q", Value: "1"}, {Name: "r", Regex: true, Value: "[a-z]+"},
		}}},
		{"long", prefix("/a/b")},
		{"short", prefix("/a")},
	}
	var services []*policy.Service
	var rules []policy.Rule
	for _, tc := range matches {
		s := pods("to-"+tc.name, policy.HTTP1, zone(callerZone, startBackend(t, tc.name)))
		services = append(services, s)
		rules = append(rules, policy.Rule{Match: tc.match, Backends: []policy.Backend{to(s)}})
	}
	m := world{services: append(services, routed("php", rules...))}.start(t)
	for _, tc := range []struct {
		method, path, headers, want string
	}{
		{"GET", "/exact", "", "exact"},
		{"POST", "/exact?x=1", "", "exact"},
		{"GET", "/exact/", "", "404"},
		{"GET", "/Exact", "", "404"},
		{"GET", "/v12/items", "", "regex"},
		{"GET", "/v12/items/", "", "404"},
		{"GET", "/x/v12/items", "", "404"},
		{"DELETE", "/method", "", "method"},
		{"GET", "/method", "", "404"},
		{"GET", "/headers", "X-A: 1,X-B: bb", "header"},
		{"GET", "/headers", "X-A: 1", "404"},
		{"GET", "/headers", "X-A: 1,X-B: xbbx", "404"},
		{"GET", "/query?q=1&r=abc", "", "query"},
		{"GET", "/query?r=abc&q=1", "", "query"},
		{"GET", "/query?q=1&r=Abc", "", "404"},
		{"GET", "/query?q=1", "", "404"},
		{"GET", "/a", "", "short"},
		{"GET", "/a/", "", "short"},
		{"GET", "/a/c?x", "", "short"},
		{"GET", "/ab", "", "404"},
		{"GET", "/a/b", "", "long"},
		{"GET", "/a/b/c", "", "long"},
		{"GET", "/a/bc", "", "short"},
		{"GET", "/", "", "404"},
	} {
		var headers []string
		if tc.headers != "" {
			headers = strings.Split(tc.headers, ",")
		}
		require.Equal(t, map[string]int{tc.want: 1}, m.count(t, 1, tc.method, "php.web"+tc.path, headers...), "%v", tc)
	}
}

func TestEnvoyEditsHeaders(t *testing.T) {
	t.Parallel()
	b := startBackend(t, "b")
	b.answer(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Answer-Old", "old")
		w.Header().Set("X-Answer-Gone", "gone")
	})
	record := b.record()
	s := pods("b", policy.HTTP1, zone(callerZone, b))
	edits := func(p string) policy.HeaderEdits {
		return policy.HeaderEdits{
			Set:    []policy.Header{{Name: p + "-old", Value: "new"}, {Name: p + "-set", Value: "100%, %REQ(host)%"}},
			Add:    []policy.Header{{Name: p + "-add", Value: "2"}},
			Remove: []string{p + "-gone"},
		}
	}
	byBackend := to(s)
	byBackend.Filters = policy.Filters{Request: edits("x-request"), Response: edits("x-answer")}
	m := world{services: []*policy.Service{
		s,
		routed("rule", rule(s, func(r *policy.Rule) { r.Filters.Request, r.Filters.Response = edits("x-request"), edits("x-answer") })),
		routed("backend", policy.Rule{Backends: []policy.Backend{byBackend}}),
	}}.start(t)
	for _, host := range []string{"rule", "backend"} {
		a := m.send(t, http.MethodGet, host+".web/", "X-Request-Old: old", "X-Request-Add: 1", "X-Request-Gone: gone")
		seen := record.one(t).Header
		for name, want := range map[string][]string{
			"X-Request-Old": {"new"}, "X-Request-Set": {"100%, %REQ(host)%"}, "X-Request-Add": {"1", "2"}, "X-Request-Gone": nil,
		} {
			require.Equal(t, want, seen[name], "%s: %s", host, name)
		}
		for name, want := range map[string][]string{
			"X-Answer-Old": {"new"}, "X-Answer-Set": {"100%, %REQ(host)%"}, "X-Answer-Add": {"2"}, "X-Answer-Gone": nil,
		} {
			require.Equal(t, want, a.Header[name], "%s: %s", host, name)
		}
	}
}

func TestEnvoyRedirects(t *testing.T) {
	t.Parallel()
	full := func(path string) *policy.PathEdit { return &policy.PathEdit{Value: path} }
	start := func(path string) *policy.PathEdit { return &policy.PathEdit{Prefix: true, Value: path} }
	cases := []struct {
		redirect policy.Redirect
		url      string // without host, below the case's prefix
		status   int
		want     string
	}{
		{policy.Redirect{Host: "other.example", Status: 302}, "/x?q=1", 302, "http://other.example/PREFIX/x?q=1"},
		{policy.Redirect{Scheme: "https", Status: 301}, "/x", 301, "https://HOST/PREFIX/x"},
		{policy.Redirect{Scheme: "https", Port: 443, Status: 301}, "/x", 301, "https://HOST/PREFIX/x"},
		{policy.Redirect{Scheme: "https", Port: 8443, Status: 308}, "/x", 308, "https://HOST:8443/PREFIX/x"},
		{policy.Redirect{Port: 8080, Status: 303}, "/x", 303, "http://HOST:8080/PREFIX/x"},
		{policy.Redirect{Scheme: "http", Host: "other.example", Port: 80, Status: 307}, "/x", 307, "http://other.example/PREFIX/x"},
		{policy.Redirect{Path: full("/new?"), Status: 302}, "/x?q=1", 302, "http://HOST/new?"},
		{policy.Redirect{Path: full("/new"), Status: 302}, "/x?q=1", 302, "http://HOST/new?q=1"},
		{policy.Redirect{Path: start("/new"), Status: 302}, "/x?q=1", 302, "http://HOST/new/x?q=1"},
		{policy.Redirect{Path: start("/new/"), Status: 302}, "/x", 302, "http://HOST/new/x"},
		{policy.Redirect{Path: start("/new"), Status: 302}, "", 302, "http://HOST/new"},
		{policy.Redirect{Path: start("/"), Status: 302}, "/x?q=1", 302, "http://HOST/x?q=1"},
		{policy.Redirect{Path: start("/"), Status: 302}, "", 302, "http://HOST/"},
		{policy.Redirect{Path: start(""), Status: 302}, "/x", 302, "http://HOST/x"},
	}
	var rules []policy.Rule
	for i := range cases {
		rules = append(rules, policy.Rule{Match: prefix(fmt.Sprintf("/p%d", i)), Filters: policy.Filters{Redirect: &cases[i].redirect}})
	}
	other := routed("other", policy.Rule{Match: prefix("/p"), Filters: policy.Filters{Redirect: &policy.Redirect{Scheme: "https", Status: 301}}})
	other.Ports[0].Number, other.Ports[0].DefaultHTTP = 8080, false
	m := world{services: []*policy.Service{routed("php", rules...), other}}.start(t)
	for i, tc := range cases {
		if strings.HasSuffix(tc.want, "?") {
			continue // Envoy has no way to remove a query string, and policy refuses such a path
		}
		name := fmt.Sprintf("p%d", i)
		a := m.send(t, http.MethodGet, "php.web/"+name+tc.url)
		require.Equal(t, tc.status, a.StatusCode, tc.want)
		require.Equal(t, strings.NewReplacer("HOST", "php.web", "PREFIX", name).Replace(tc.want), a.Header.Get("Location"))
	}
	a := m.send(t, http.MethodGet, "other.web:8080/p")
	require.Equal(t, "https://other.web:443/p", a.Header.Get("Location"), "of a port that is not the scheme's own, the scheme's counts")
}

func TestEnvoyRewrites(t *testing.T) {
	t.Parallel()
	b := startBackend(t, "b")
	record := b.record()
	s := pods("b", policy.HTTP1, zone(callerZone, b))
	// The table of the specification (HTTPPathModifier.replacePrefixMatch), and full paths.
	cases := []struct{ from, by, path, want string }{
		{"/foo", "/xyz", "/foo/bar", "/xyz/bar"},
		{"/foo", "/xyz/", "/foo/bar", "/xyz/bar"},
		{"/foo", "/xyz", "/foo", "/xyz"},
		{"/foo", "/xyz", "/foo/", "/xyz/"},
		{"/foo", "/", "/foo/bar", "/bar"},
		{"/foo", "", "/foo/bar", "/bar"},
		{"/foo", "", "/foo", "/"},
		{"/foo", "/", "/foo", "/"},
		{"/foo", "", "/foo/", "/"},
		{"/foo", "/", "/foo/", "/"},
		{"/foo", "/", "/foo?q=/foo", "/?q=/foo"},
		{"/foo", "/xyz", "/foo?q=1", "/xyz?q=1"},
		{"/", "/xyz", "/bar", "/xyz/bar"},
		{"/", "/", "/bar", "/bar"},
		{"/f.o", "", "/f.o/bar", "/bar"},
		{"/foo", `/\1%41$`, "/foo/bar", `/\1%41$/bar`},
	}
	var services []*policy.Service
	for i, tc := range cases {
		services = append(services, routed(fmt.Sprintf("r%d", i), policy.Rule{
			Match: prefix(tc.from), Backends: []policy.Backend{to(s)},
			Filters: policy.Filters{Path: &policy.PathEdit{Prefix: true, Value: tc.by}},
		}))
	}
	byBackend, edited, plain := to(s), to(s), to(s)
	byBackend.Filters.Host = "backend.example"
	edited.Filters.Path = &policy.PathEdit{Prefix: true, Value: "/backend"}
	plain.Index = 1
	split := func(first, second uint32) []policy.Backend {
		a, b := edited, plain
		a.Share, b.Share = first, second
		a.Targets, b.Targets = slices.Clone(a.Targets), slices.Clone(b.Targets)
		a.Targets[0].Share, b.Targets[0].Share = first, second
		return []policy.Backend{a, b}
	}
	m := world{services: append(services, s,
		routed("full", rule(s, func(r *policy.Rule) { r.Filters.Path = &policy.PathEdit{Value: `/new/\1`} })),
		routed("host", rule(s, func(r *policy.Rule) { r.Filters.Host = "rewritten.example" })),
		routed("backend", policy.Rule{Backends: []policy.Backend{byBackend}}),
		routed("backend-path", policy.Rule{Match: prefix("/foo"), Backends: []policy.Backend{edited}, Filters: policy.Filters{Path: &policy.PathEdit{Value: "/rule"}}}),
		routed("some", policy.Rule{Match: prefix("/foo"), Backends: split(policy.ShareTotal/4, 3*policy.ShareTotal/4), Filters: policy.Filters{Path: &policy.PathEdit{Value: "/rule"}}}),
	)}.start(t)
	for i, tc := range cases {
		m.send(t, http.MethodGet, fmt.Sprintf("r%d.web%s", i, tc.path))
		require.Equal(t, tc.want, record.one(t).RequestURI, "%v", tc)
	}
	m.send(t, http.MethodGet, "backend-path.web/foo/bar?q=1")
	require.Equal(t, "/backend/bar?q=1", record.one(t).RequestURI, "the backend's own counts, on the path that was matched")
	paths := make(map[string]int)
	const n = 1000
	for range n {
		m.send(t, http.MethodGet, "some.web/foo/bar")
		paths[record.one(t).RequestURI]++
	}
	require.InDelta(t, n/4, paths["/backend/bar"], .05*n, "%v", paths)
	require.Equal(t, n, paths["/backend/bar"]+paths["/rule"], "%v", paths)
	m.send(t, http.MethodGet, "full.web/a/b?q=1")
	require.Equal(t, `/new/\1?q=1`, record.one(t).RequestURI)
	for host, want := range map[string]string{"full": "full.web", "host": "rewritten.example", "backend": "backend.example"} {
		m.send(t, http.MethodGet, host+".web/")
		require.Equal(t, want, record.one(t).Host)
	}
}

func TestEnvoyMirrors(t *testing.T) {
	t.Parallel()
	b, copied, pod, instance := startBackend(t, "b"), startBackend(t, "copy"), startBackend(t, "pod"), startBackend(t, "i-1")
	s := pods("b", policy.HTTP1, zone(callerZone, b))
	shadow := pods("shadow", policy.HTTP1, zone(callerZone, copied))
	dead := pods("dead", policy.HTTP1, policy.Zone{Name: callerZone, Endpoints: []policy.Endpoint{refusing(t, "dead")}})
	shared := both("shared", policy.HTTP1, policy.ShareTotal/4, zone(callerZone, pod), zone(callerZone, instance))
	mirror := func(name string, to policy.Backend, numerator, denominator uint32) *policy.Service {
		return routed(name, rule(s, func(r *policy.Rule) {
			r.Filters.Mirrors = []policy.Mirror{{To: to, Numerator: numerator, Denominator: denominator}}
		}))
	}
	m := world{services: []*policy.Service{
		s, shadow, dead, shared,
		mirror("all", to(shadow), 100, 100), mirror("third", to(shadow), 1, 3), mirror("none", to(shadow), 0, 100),
		mirror("dead-mirror", to(dead), 100, 100), mirror("shared-mirror", to(shared), 1, 1),
	}}.start(t)

	slow := make(chan struct{})
	copied.answer(func(w http.ResponseWriter, _ *http.Request) {
		<-slow
		w.WriteHeader(http.StatusInternalServerError)
	})
	record := copied.record()
	begun := time.Now()
	a := m.send(t, http.MethodPost, "all.web/x?q=1", "X-User: 7")
	require.Equal(t, "b", a.body, "callers get the answer of the backend")
	require.Less(t, time.Since(begun), 5*time.Second, "callers do not wait for the copy")
	require.Eventually(t, func() bool { return copied.hits.Load() == 1 }, 10*time.Second, time.Millisecond)
	got := record.one(t)
	require.Equal(t, "POST all.web /x?q=1 7", fmt.Sprintf("%s %s %s %s", got.Method, got.Host, got.RequestURI, got.Header.Get("X-User")))
	close(slow)
	require.Equal(t, map[string]int{"b": 20}, m.count(t, 20, http.MethodGet, "all.web/"), "failures of the copy are not the caller's")
	require.Equal(t, map[string]int{"b": 20}, m.count(t, 20, http.MethodPost, "dead-mirror.web/"))

	settled := func(of ...*backend) int64 {
		before := int64(-1)
		require.Eventually(t, func() bool {
			now := int64(0)
			for _, b := range of {
				now += b.hits.Load()
			}
			same := now == before
			before = now
			return same
		}, 10*time.Second, 200*time.Millisecond)
		return before
	}
	const n = 600
	before := settled(copied)
	m.count(t, n, http.MethodGet, "third.web/")
	require.InDelta(t, 1./3, float64(settled(copied)-before)/n, .1)
	before = settled(copied)
	m.count(t, 50, http.MethodGet, "none.web/")
	require.Equal(t, before, settled(copied))
	m.count(t, n, http.MethodGet, "shared-mirror.web/")
	require.InDelta(t, n, settled(pod, instance), n*.1, "a copy of each request, whichever backing gets it")
	require.InDelta(t, .25, float64(settled(pod))/n, .1)
}

// The table of the Gateway API's conformance test HTTPRouteCORS, and what the
// specification says besides.
func TestEnvoyAnswersCORS(t *testing.T) {
	t.Parallel()
	b := startBackend(t, "b")
	s := pods("b", policy.HTTP1, zone(callerZone, b))
	cors := func(name string, c policy.CORS) *policy.Service {
		return routed(name, rule(s, func(r *policy.Rule) { r.Filters.CORS = &c }))
	}
	m := world{services: []*policy.Service{
		s,
		cors("lists", policy.CORS{
			AllowOrigins: []string{"https://www.foo.com", "https://*.bar.com"}, AllowMethods: []string{"GET", "OPTIONS"},
			AllowHeaders: []string{"x-header-1", "x-header-2"}, ExposeHeaders: []string{"x-header-3", "x-header-4"},
			AllowCredentials: true, MaxAge: 3600,
		}),
		cors("methods", policy.CORS{AllowOrigins: []string{"https://www.foo.com"}, AllowMethods: []string{"*"}, MaxAge: 5}),
		cors("origin", policy.CORS{AllowOrigins: []string{"*"}, AllowMethods: []string{"PUT"}, MaxAge: 5}),
		cors("credentials", policy.CORS{
			AllowOrigins: []string{"*"}, AllowMethods: []string{"*"}, AllowHeaders: []string{"*"}, ExposeHeaders: []string{"*"}, AllowCredentials: true, MaxAge: 5,
		}),
		cors("anonymous", policy.CORS{AllowOrigins: []string{"*"}, AllowMethods: []string{"*"}, AllowHeaders: []string{"*"}, ExposeHeaders: []string{"*"}, MaxAge: 5}),
	}}.start(t)
	const absent = "-"
	for _, tc := range []struct {
		name, method, host, origin, asks, askHeaders string
		want                                         map[string]string // of Access-Control-
	}{
		{"exact", "OPTIONS", "lists", "https://www.foo.com", "GET", "x-header-1, x-header-2", map[string]string{
			"Allow-Origin": "https://www.foo.com", "Allow-Methods": "GET, OPTIONS", "Allow-Headers": "x-header-1, x-header-2",
			"Expose-Headers": "x-header-3, x-header-4", "Max-Age": "3600", "Allow-Credentials": "true",
		}},
		{"wildcard", "OPTIONS", "lists", "https://xpto.www.bar.com", "GET", "x-header-1", map[string]string{
			"Allow-Origin": "https://xpto.www.bar.com", "Allow-Methods": "GET, OPTIONS", "Allow-Credentials": "true",
		}},
		{"port", "OPTIONS", "lists", "https://www.bar.com:8443", "GET", "", map[string]string{"Allow-Origin": absent}},
		{"other origin", "OPTIONS", "lists", "https://foobar.com", "GET", "", map[string]string{"Allow-Origin": absent}},
		{"other scheme", "OPTIONS", "lists", "http://www.foo.com", "GET", "", map[string]string{"Allow-Origin": absent}},
		{"request", "GET", "lists", "https://www.foo.com", "", "", map[string]string{
			"Allow-Origin": "https://www.foo.com", "Expose-Headers": "x-header-3, x-header-4", "Allow-Credentials": "true",
		}},
		{"request from elsewhere", "GET", "lists", "https://foobar.com", "", "", map[string]string{"Allow-Origin": absent, "Allow-Credentials": absent}},
		{"any method", "OPTIONS", "methods", "https://www.foo.com", "POST", "", map[string]string{
			"Allow-Origin": "https://www.foo.com", "Allow-Methods": "POST", "Allow-Credentials": absent, "Max-Age": "5",
		}},
		{"any origin", "OPTIONS", "origin", "https://foobar.com:12345", "PUT", "", map[string]string{
			"Allow-Origin": "https://foobar.com:12345", "Allow-Methods": "PUT", "Allow-Credentials": absent,
		}},
		{"request from any origin", "PUT", "origin", "https://foobar.com:12345", "", "", map[string]string{"Allow-Origin": "https://foobar.com:12345", "Allow-Credentials": absent}},
		{"credentials", "OPTIONS", "credentials", "https://other.foo.com", "PUT", "x-header-1, x-header-2", map[string]string{
			"Allow-Origin": "https://other.foo.com", "Allow-Methods": "PUT", "Allow-Headers": "x-header-1, x-header-2", "Allow-Credentials": "true",
		}},
		{"credentials without headers", "OPTIONS", "credentials", "https://other.foo.com", "PUT", "", map[string]string{
			"Allow-Methods": "PUT", "Allow-Headers": "",
		}},
		{"request with credentials", "GET", "credentials", "https://other.foo.com", "", "", map[string]string{
			"Allow-Origin": "https://other.foo.com", "Allow-Credentials": "true", "Expose-Headers": absent,
		}},
		{"anonymous", "OPTIONS", "anonymous", "https://other.foo.com", "PUT", "x-header-1", map[string]string{
			"Allow-Origin": "https://other.foo.com", "Allow-Methods": "PUT", "Allow-Headers": "x-header-1", "Allow-Credentials": absent,
		}},
		{"anonymous request", "GET", "anonymous", "https://other.foo.com", "", "", map[string]string{
			"Allow-Origin": "https://other.foo.com", "Allow-Credentials": absent, "Expose-Headers": "*",
		}},
	} {
		headers := []string{"Origin: " + tc.origin}
		if tc.asks != "" {
			headers = append(headers, "Access-Control-Request-Method: "+tc.asks)
		}
		if tc.askHeaders != "" {
			headers = append(headers, "Access-Control-Request-Headers: "+tc.askHeaders)
		}
		before := b.hits.Load()
		a := m.send(t, tc.method, tc.host+".web/", headers...)
		require.Equal(t, http.StatusOK, a.StatusCode, tc.name)
		require.Equal(t, tc.method != http.MethodOptions, b.hits.Load() > before, "%s: preflights are answered by the mesh", tc.name)
		for name, want := range tc.want {
			got := strings.Join(a.Header.Values("Access-Control-"+name), "|")
			if a.Header.Values("Access-Control-"+name) == nil {
				got = absent
			}
			require.Equal(t, want, got, "%s: %s: %v", tc.name, name, a.Header)
		}
	}
	// An OPTIONS request that is no preflight is the application's.
	require.Equal(t, map[string]int{"b": 1}, m.count(t, 1, http.MethodOptions, "lists.web/", "Origin: https://www.foo.com"))
}
