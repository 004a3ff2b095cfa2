package main

import (
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/file"
	"github.com/causeway-mesh/causeway/policy/explain"
	"github.com/causeway-mesh/causeway/xds/status"
)

const explained = `
apiVersion: v1
kind: Service
metadata: {name: php-web, namespace: web}
spec:
  ports: [{name: http, port: 80}]
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: web}
spec:
  ports: [{name: http, port: 80}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: cart-1, namespace: web, labels: {kubernetes.io/service-name: cart}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [10.0.0.1], zone: a, targetRef: {kind: Pod, name: cart-1, namespace: web}}
- {addresses: [10.0.0.2], zone: b, targetRef: {kind: Pod, name: cart-2, namespace: web}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop, namespace: web}
spec:
  parentRefs: [{group: "", kind: Service, name: php-web}]
  rules:
  - name: cart
    matches:
    - path: {type: PathPrefix, value: /cart}
      headers: [{name: version, value: v2}]
    filters:
    - type: URLRewrite
      urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}
    timeouts: {request: 10s}
    backendRefs:
    - {name: cart, port: 80, weight: 9}
    - {name: missing, port: 80, weight: 1}
  - matches: [{path: {type: Exact, value: /old}}]
    filters:
    - type: RequestRedirect
      requestRedirect: {path: {type: ReplaceFullPath, replaceFullPath: /new}, statusCode: 301}
  - backendRefs: [{name: php-web, port: 80}]
---
apiVersion: mesh.causeway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: patience, namespace: web}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: shop, sectionName: cart}]
  retry: {attempts: 1, perTry: 2s}
`

func explainedDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "web.yaml"), []byte(explained), 0o600))
	return dir
}

// What becomes of a request is told with where each part comes from, and the
// exit status tells who answers.
func TestExplainRequest(t *testing.T) {
	dir := explainedDir(t)
	ask := func(args ...string) (string, error) {
		return execute(t, append([]string{"explain", "request", "--config", dir, "--from", "web/cart"}, args...)...)
	}
	out, err := ask("GET", "http://php-web/cart/items?x=1", "-H", "version: v2")
	require.NoError(t, err)
	require.Equal(t, exitOK, exitCode(err))
	for _, want := range []string{
		"HTTPRoute web/shop rules[0].matches[0] (cart)", "GET /items?x=1", "90%", "web/cart:80/pods", "BackendNotFound",
		"10.0.0.1:8080", "a (own)", "it is in b too", "HTTPRoute web/shop rules[0].timeouts.request", "TrafficPolicy web/patience",
		"the longer prefix /cart goes before /", `is not "/old"`, "HTTPRoute/web/shop/0/0-safe", "http/php-web.web:80+short",
	} {
		require.Contains(t, out, want)
	}

	out, err = ask("GET", "http://php-web.web/old")
	require.NoError(t, err)
	require.Contains(t, out, "301 with location http://php-web.web/new")

	out, err = ask("GET", "http://nobody/")
	require.ErrorIs(t, err, errMeshAnswers)
	require.Equal(t, exitAnswered, exitCode(err))
	require.Contains(t, out, "the mesh answers 404")

	out, err = ask("POST", "http://php-web/", "-o", "json", "--zone", "b")
	require.Equal(t, exitAnswered, exitCode(err), "no endpoint anywhere")
	var e explain.Explanation
	require.NoError(t, json.Unmarshal([]byte(out), &e))
	require.Equal(t, 503, e.Answer.Status)
	require.Equal(t, "b", e.From.Zone)
	require.Equal(t, []string{"HTTPRoute/web/shop/2/0"}, e.Envoy.Routes)

	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no URL":               {[]string{"GET"}, "give a method and a URL"},
		"not a method":         {[]string{"G T", "http://a/"}, "is not a method"},
		"TLS of the workload":  {[]string{"GET", "https://a/"}, "cannot look into TLS"},
		"not a header":         {[]string{"GET", "http://a/", "-H", "novalue"}, "write a header as"},
		"an unknown namespace": {[]string{"GET", "http://a/", "--from", "nowhere/x"}, "the mesh knows the namespaces web"},
		"not a workload":       {[]string{"GET", "http://a/", "--from", "cart"}, "is neither NAMESPACE/NAME nor a node id"},
		"not a node id":        {[]string{"GET", "http://a/", "--from", "a~b"}, "is not a node id"},
		"nobody":               {[]string{"GET", "http://a/", "--from", ""}, "say who asks"},
		"not a format":         {[]string{"GET", "http://a/", "-o", "xml"}, "is not table, wide, json or yaml"},
	} {
		_, err := ask(c.args...)
		require.ErrorContains(t, err, c.want, name)
		require.Equal(t, exitError, exitCode(err), name)
	}
}

// An object says what it causes, also while its file has other mistakes.
func TestExplainObject(t *testing.T) {
	dir := explainedDir(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "broken.yaml"), []byte("kind: HTTPRoute\n"), 0o600))
	out, err := execute(t, "explain", "object", "httproute/shop", "-n", "web", "--config", dir)
	require.NoError(t, err)
	for _, want := range []string{
		"left out: broken.yaml:1", "HTTPRoute web/shop", "BackendNotFound", "rules[0].matches[0] (cart) is match 2 of 3",
		"VHDS", "http/php-web.web:80+short", "every sidecar of namespace web",
	} {
		require.Contains(t, out, want)
	}
	out, err = execute(t, "explain", "object", "tp/patience", "-n", "web", "--config", dir, "-o", "json")
	require.NoError(t, err)
	require.Contains(t, out, "its retry holds")
	out, err = execute(t, "explain", "object", "svc/cart", "-n", "web", "--config", dir)
	require.NoError(t, err)
	require.Contains(t, out, "(cart) sends it 90%")

	for name, c := range map[string]struct{ object, want string }{
		"not an object":       {"shop", "is not KIND/NAME"},
		"an unknown kind":     {"pod/shop", "is not a kind that the mesh reads: Service"},
		"another namespace's": {"httproute/shop", "there is one with -n web"},
		"nowhere":             {"httproute/nothing", "there is no HTTPRoute default/nothing"},
	} {
		_, err := execute(t, "explain", "object", c.object, "--config", dir)
		require.ErrorContains(t, err, c.want, name)
		require.Equal(t, exitError, exitCode(err), name)
	}
}

// A running control plane answers the same as its directory, and blames the
// asker for what the asker got wrong.
func TestExplainThroughAdmin(t *testing.T) {
	dir := explainedDir(t)
	s, err := newServe(&serveOptions{config: dir, xdsListen: defaultXDSListen, adminListen: defaultAdminListen, logLevel: "error"})
	require.NoError(t, err)
	_, err = file.Load(dir, s.catalog)
	require.NoError(t, err)
	admin := httptest.NewServer(s.adminHandler())
	t.Cleanup(admin.Close)
	address := strings.TrimPrefix(admin.URL, "http://")
	args := []string{"explain", "request", "--from", "web/cart", "GET", "http://php-web/cart?x=1&y", "-H", "version: v2", "-H", "x: a&b", "-o", "json"}
	offline, err := execute(t, append(args, "--config", dir)...)
	require.NoError(t, err)
	live, err := execute(t, append(args, "--admin", address)...)
	require.NoError(t, err)
	require.JSONEq(t, offline, live)

	_, err = execute(t, "explain", "request", "--from", "nowhere/x", "GET", "http://a/", "--admin", address)
	require.ErrorContains(t, err, "--from: there is no workload nowhere/x")
	require.Equal(t, exitError, exitCode(err))
	out, err := execute(t, "explain", "object", "httproute/shop", "-n", "web", "--admin", address)
	require.NoError(t, err)
	require.Contains(t, out, "none is connected that sees any of this")
	_, err = execute(t, "explain", "object", "httproute/other", "-n", "web", "--admin", address)
	require.ErrorContains(t, err, "there is no HTTPRoute web/other")
	require.Equal(t, exitError, exitCode(err))
	_, err = execute(t, "explain", "object", "httproute/shop", "--admin", "127.0.0.1:1")
	require.Equal(t, exitError, exitCode(err))
}

// Without a control plane a pinned share says where the traffic is.
const pinned = `
apiVersion: mesh.causeway.dev/v1alpha1
kind: TrafficShift
metadata: {name: cart, namespace: web}
spec:
  serviceRef: {name: cart}
  direction: PodsToInstances
  cohort: {cookie: {name: causeway, ttl: 720h}}
  steps: [{percent: "1", hold: 10m}, {percent: "100", hold: 1h}]
  pin: "30"
`

// explain says which side of a shift a user is on, and what the shift does.
func TestExplainShift(t *testing.T) {
	dir := explainedDir(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "shift.yaml"), []byte(pinned), 0o600))
	ask := func(args ...string) string {
		out, err := execute(t, append([]string{"explain", "request", "--config", dir, "--from", "web/cart", "GET", "http://cart/"}, args...)...)
		require.NoError(t, err)
		return out
	}
	for _, want := range []string{"TrafficShift web/cart", `cookie causeway = "user-1", place 666856 of 1,000,000: Service web/cart:80 on pods`, "70%", "30%"} {
		require.Contains(t, ask("-H", "Cookie: causeway=user-1"), want)
	}
	require.Contains(t, ask(), "the answer sets it to the request's id")
	require.Contains(t, ask(), "default-safe-keyless")

	out, err := execute(t, "explain", "object", "shift/cart", "-n", "web", "--config", dir)
	require.NoError(t, err)
	for _, want := range []string{
		"requests with the same cookie causeway stay on their side, which the mesh sets for 720h0m0s", "the pods get 70%", "the instances get 30%",
		"spec.pin: the instances have 30%", "http/cart.web:80",
	} {
		require.Contains(t, out, want)
	}

	cat := catalog.New()
	_, err = file.Load(dir, cat)
	require.NoError(t, err)
	views := status.Services(cat.Read(), cat.Read(), nil, "web/cart")
	require.Len(t, views, 1)
	require.Equal(t, "web/cart", views[0].Shift)
	require.Equal(t, "cookie causeway", views[0].Cohort)
	require.InDelta(t, 70, views[0].Endpoints[0].Share, 1e-9)
}
