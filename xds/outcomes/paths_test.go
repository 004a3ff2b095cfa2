package outcomes

import (
	"fmt"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/outcome"
)

func TestGroupOf(t *testing.T) { //nolint:paralleltest // it counts allocations
	for path, want := range map[string]string{
		"": "/*", "*": "/*", "/": "/", "//": "/", "/checkout": "/checkout", "/checkout/": "/checkout", "/checkout?cart=7": "/checkout",
		"/checkout;jsessionid=AF01?x": "/checkout", "/orders/17": "/orders/*", "/orders/17/items/3": "/orders/*/items/**",
		"/a/b/c": "/a/b/c", "/a/b/c/d": "/a/b/c/**", "/api/v2/users": "/api/v2/users", "/oauth2/token": "/oauth2/token",
		"/users/8f14e45f-ceea-467f-a8d5-0123456789ab": "/users/*", "/img/8f14e45fceea.png": "/img/*.png", "/assets/app.3f9a1c2b.js": "/assets/*.js",
		"/blob/deadbee7": "/blob/*", "/blob/deadbeef": "/blob/deadbeef", "/2026-11-30": "/*", "/order-12345": "/*", "/page-2": "/page-2",
		"/caf%C3%A9": "/*", "/x/\xff": "/x/*", "/index.php/checkout": "/index.php/checkout", "/shop.Cart/AddItem": "/shop.Cart/AddItem",
		"/t/eyJhbGciOiJIUzI1NiIsInR5": "/t/*", "/a-very-long-slug-about-shoes-that-never-comes-to-an-end": "/*", "http://host/x": "/*",
	} {
		require.Equal(t, want, groupOf(path), "%q", path)
	}
	path := "/api/v2/users?id=1"
	require.Zero(t, testing.AllocsPerRun(100, func() { groupOf(path) }))
}

// A method that changes something has groups of its own, which give way to "*" as others do.
func TestGroupFor(t *testing.T) {
	t.Parallel()
	for method, want := range map[corev3.RequestMethod]string{
		corev3.RequestMethod_GET: "/cart", corev3.RequestMethod_HEAD: "/cart", corev3.RequestMethod_OPTIONS: "/cart",
		corev3.RequestMethod_METHOD_UNSPECIFIED: "/cart", corev3.RequestMethod_POST: "POST /cart", corev3.RequestMethod_DELETE: "DELETE /cart",
	} {
		require.Equal(t, want, groupFor(&accesslogv3.HTTPRequestProperties{Path: "/cart?x", RequestMethod: method}))
	}
	for group, want := range map[string]string{"/": "", "/cart": "", "POST /cart": "", "/a/b": "/a/*", "POST /a/b": "POST /a/*"} {
		require.Equal(t, want, parentOf(group), group)
	}
}

func TestRuleOf(t *testing.T) {
	t.Parallel()
	for route, want := range map[string]string{
		"default": "default", "default-safe-shadow-keyless": "default", "HTTPRoute/web/shop/0/3-safe": "HTTPRoute/web/shop/0",
		"HTTPRoute/web/shop/0/3": "HTTPRoute/web/shop/0", "": "",
		"default-safe-upgrade": "default", "HTTPRoute/web/shop/0/3-shadow-keyless-upgrade": "HTTPRoute/web/shop/0",
	} {
		require.Equal(t, want, ruleOf(route), route)
	}
}

func asked(path, cluster string, status uint32) *accesslogv3.HTTPAccessLogEntry {
	e := entry(cluster, "", status)
	e.Request.Path, e.CommonProperties.RouteName = path, "default"
	return e
}

// What is counted of paths says who answered how to whom; what the other backing
// answered says nothing about either.
func TestPaths(t *testing.T) {
	t.Parallel()
	r, _ := newRecorder()
	defer r.Connected("caller")()
	elsewhere := asked("/checkout", "web/php:80/pods+instances", 200)
	elsewhere.CommonProperties.UpstreamCluster = "web/php:80/instances"
	refused := asked("/checkout", "web/php:80/pods", 403)
	refused.Response.ResponseCodeDetails = "rbac_access_denied_matched_policy[none]"
	reset := asked("/checkout", "web/php:80/pods", 503)
	reset.Response.ResponseCodeDetails = "upstream_reset_before_response_started"
	reset.CommonProperties.ResponseFlags = &accesslogv3.ResponseFlags{UpstreamConnectionTermination: true}
	rewritten := asked("/v2/checkout", "web/php:80/pods", 404)
	rewritten.Request.OriginalPath = "/checkout?a=b"
	r.LogHTTP("caller", outcomesLog, list(
		asked("/checkout", "web/php:80/pods", 200), asked("/checkout", "web/php:80/pods", 500), rewritten, reset, elsewhere, refused,
		asked("/", "web/php:80/instances", 302),
	))
	got := r.Snapshot().Totals
	path := func(p discovery.BackingName, group string) outcome.PathKey {
		return outcome.PathKey{Service: php, Platform: p, Path: outcome.Path{Rule: "default", Group: group}}
	}
	require.Equal(t, map[outcome.PathKey]*outcome.PathCounts{
		path(discovery.Pods, "/checkout"): {
			Requests: 4, Failures: 2, Codes: outcome.Codes{{Code: 0, N: 1}, {Code: 200, N: 1}, {Code: 404, N: 1}, {Code: 500, N: 1}},
			Endpoints: outcome.Names{{Name: "10.0.0.1:80", N: 3}}, Callers: outcome.Names{{Name: "caller", N: 3}},
		},
		path(discovery.Instances, "/"): {
			Requests: 1, Codes: outcome.Codes{{Code: 302, N: 1}},
			Endpoints: outcome.Names{{Name: "10.0.0.1:80", N: 1}}, Callers: outcome.Names{{Name: "caller", N: 1}},
		},
	}, got.Paths)
	require.Equal(t, outcome.Codes{{Code: 0, N: 1}, {Code: 200, N: 1}, {Code: 404, N: 1}, {Code: 500, N: 1}}, got.Outcomes[outcome.Key{Service: php, Port: 80, Platform: discovery.Pods}].Codes)
}

// groups counts the groups of paths of the pods, and returns the requests of one of them.
func groups(r *Recorder, group string) (n int, requests uint64) {
	s := r.Snapshot()
	for key, c := range s.Totals.Paths {
		n++
		if key.Group == group {
			requests += c.Requests
		}
	}
	return n, requests
}

// However many paths callers ask for, and whoever asks, a path that is asked for
// often gets a group of its own.
func TestPathsAreBounded(t *testing.T) {
	t.Parallel()
	r, clock := newRecorder()
	name := func(i int) string { return fmt.Sprintf("/%c%c%c", 'a'+i%26, 'a'+i/26%26, 'a'+i/676%26) }
	ask := func(node, path, route string, times int) {
		e := asked(path, "web/php:80/pods", 200)
		e.CommonProperties.RouteName = route
		for range times {
			r.LogHTTP(node, outcomesLog, list(e))
		}
	}
	for i := range 5000 {
		ask("scanner", name(i), "default", 1+i%20)
	}
	n, _ := groups(r, "")
	require.LessOrEqual(t, n, maxOwned+1, "one proxy does not fill the table")
	ask("shop", "/checkout", "default", 50)
	_, requests := groups(r, "/checkout")
	require.GreaterOrEqual(t, requests, uint64(40))

	// A table that is full makes room for what is asked for more.
	for i := range 5000 {
		ask(fmt.Sprint("node-", i%7), name(i), "default", 12)
	}
	n, _ = groups(r, "")
	require.LessOrEqual(t, n, outcome.MaxPaths+1)
	clock.pass(2 * time.Minute)
	ask("shop", "/checkout", "default", 1)
	for range 10 {
		clock.pass(time.Minute)
		ask("shop", "/late", "default", 100)
	}
	_, requests = groups(r, "/late")
	require.GreaterOrEqual(t, requests, uint64(900))

	// Rules are bounded as well, and so is what differs in its end only.
	for i := range 100 {
		ask(fmt.Sprint("node-", i%7), "/", fmt.Sprintf("HTTPRoute/web/r%d/0/0", i), 20)
	}
	n, _ = groups(r, "")
	require.LessOrEqual(t, n, outcome.MaxPaths+1)
}

// Names that follow a common path share a group once there are many.
func TestSiblingsShareAGroup(t *testing.T) {
	t.Parallel()
	r, _ := newRecorder()
	for i := range 100 {
		for range 20 {
			r.LogHTTP("shop", outcomesLog, list(asked("/products/shoe-"+string(rune('a'+i%26))+string(rune('a'+i/26)), "web/php:80/pods", 200)))
		}
	}
	n, requests := groups(r, "/products/*")
	require.LessOrEqual(t, n, maxSiblings+2)
	require.GreaterOrEqual(t, requests, uint64(1600))
}

// BenchmarkLogPaths is what an entry costs where callers ask for many paths.
func BenchmarkLogPaths(b *testing.B) {
	r, _ := newRecorder()
	defer r.Connected("caller")()
	var entries []*accesslogv3.HTTPAccessLogEntry
	for i := range 100 {
		entries = append(entries, asked(fmt.Sprintf("/shop/%c/%d?q=%d", 'a'+i%20, i, i), "web/php:80/pods", 200))
	}
	b.ReportAllocs()
	for b.Loop() {
		r.LogHTTP("caller", outcomesLog, entries)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(entries)), "ns/entry")
}

// Where one proxy has all the traffic, paths and rules that somebody tried give way to those that are asked for later.
func TestPathsOfOneProxyGiveWay(t *testing.T) {
	t.Parallel()
	p, now := newPaths(), time.Unix(1_800_000_000, 0)
	for i := range 100 {
		for range admittedAt {
			p.of("default", fmt.Sprintf("/scan%c%c", 'a'+i/26, 'a'+i%26), "edge", now)
		}
	}
	require.Len(t, p.groups, maxOwned)
	var path outcome.Path
	for range 40 {
		path, _ = p.of("default", "/checkout", "edge", now)
	}
	require.Equal(t, outcome.Path{Rule: "default", Group: "/checkout"}, path)
	require.Len(t, p.groups, maxOwned)

	for i := range maxRules {
		p.of(fmt.Sprint("HTTPRoute/web/old/", i), "/", "edge", now)
	}
	path, _ = p.of("HTTPRoute/web/new/0", "/", "edge", now)
	require.Equal(t, outcome.Path{}, path, "the others are in use")
	for range 4 {
		now = now.Add(time.Minute)
		p.of("default", "/checkout", "edge", now)
	}
	path, gone := p.of("HTTPRoute/web/new/0", "/", "edge", now)
	require.Equal(t, "HTTPRoute/web/new/0", path.Rule)
	require.NotEmpty(t, gone)
	require.NotContains(t, p.rules, gone[0].Rule)
	for key := range p.groups {
		require.Contains(t, p.rules, key.Rule)
	}
}
