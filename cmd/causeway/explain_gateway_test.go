package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/file"
	"github.com/causeway-mesh/causeway/policy/diff"
	"github.com/causeway-mesh/causeway/policy/explain"
	"github.com/causeway-mesh/causeway/policy/resolve"
	"github.com/causeway-mesh/causeway/xds/engine"
	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/server"
)

const edgeObjects = `
apiVersion: v1
kind: Service
metadata: {name: php-web, namespace: web}
spec:
  ports: [{name: http, port: 80}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: php-web-1, namespace: web, labels: {kubernetes.io/service-name: php-web}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [10.0.0.1], zone: a, targetRef: {kind: Pod, name: php-web-1, namespace: web}}
- {addresses: [10.0.0.2], zone: b, targetRef: {kind: Pod, name: php-web-2, namespace: web}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: public, namespace: edge}
spec:
  gatewayClassName: causeway
  listeners:
  - name: http
    port: 80
    protocol: HTTP
    allowedRoutes: {namespaces: {from: All}}
  - name: shop
    port: 443
    protocol: HTTPS
    hostname: shop.example.com
    tls: {certificateRefs: [{name: shop}]}
    allowedRoutes: {namespaces: {from: All}}
  - name: any
    port: 443
    protocol: HTTPS
    hostname: "*.example.com"
    tls: {certificateRefs: [{name: shop}]}
    allowedRoutes: {namespaces: {from: All}}
---
apiVersion: mesh.causeway.dev/v1alpha1
kind: GatewayPolicy
metadata: {name: aws, namespace: edge}
spec:
  targetRefs: [{name: public}]
  inFront: [{kind: CloudFront}, {kind: ALB, idleTimeout: 60s}]
  timeout: {idle: 75s}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: to-https, namespace: edge}
spec:
  parentRefs: [{name: public, sectionName: http}]
  rules:
  - filters: [{type: RequestRedirect, requestRedirect: {scheme: https, statusCode: 301}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop, namespace: web}
spec:
  parentRefs: [{name: public, namespace: edge, port: 443}]
  hostnames: [shop.example.com]
  rules:
  - name: cart
    matches: [{path: {type: PathPrefix, value: /cart}}]
    backendRefs: [{name: php-web, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /}, method: GET}]
    backendRefs: [{name: php-web, port: 80}]
`

// pair is a certificate and its key in PEM.
type pair struct{ chain, key []byte }

func newPair(t *testing.T, names ...string) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return pair{
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	}
}

func (p *pair) fingerprint() string {
	block, _ := pem.Decode(p.chain)
	sum := sha256.Sum256(block.Bytes)
	return hex.EncodeToString(sum[:])
}

func edgeDir(t *testing.T, p pair) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "edge.yaml"), []byte(edgeObjects), 0o600))
	writePair(t, dir, p)
	return dir
}

func writePair(t *testing.T, dir string, p pair) {
	t.Helper()
	text := fmt.Sprintf("apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata: {name: shop, namespace: edge}\ndata:\n  tls.crt: %s\n  tls.key: %s\n",
		base64.StdEncoding.EncodeToString(p.chain), base64.StdEncoding.EncodeToString(p.key))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "secret.yaml"), []byte(text), 0o600))
}

// A request from outside is told from the listener on: who took it and why, who
// the client is, and what of that the backend hears.
func TestExplainRequestAtGateway(t *testing.T) {
	dir := edgeDir(t, newPair(t, "shop.example.com", "*.example.com"))
	ask := func(args ...string) (string, error) {
		return execute(t, append([]string{"explain", "request", "--config", dir, "--gateway", "edge/public"}, args...)...)
	}
	out, err := ask("GET", "https://shop.example.com/cart?id=1", "--client", "10.0.1.7", "-H", "X-Forwarded-For: 203.0.113.9, 130.176.0.1", "-H", "X-Forwarded-Proto: https")
	require.NoError(t, err, out)
	t.Log("\n" + out)
	for _, want := range []string{
		"Gateway edge/public, port 443, server name shop.example.com", "shop, HTTPS on port 443 for shop.example.com",
		"203.0.113.9", "X-Forwarded-For: 203.0.113.9, 130.176.0.1,10.0.1.7", "HTTPRoute web/shop rules[0].matches[0] (cart)",
		"any, HTTPS on port 443 for *.example.com", "shop.example.com is more specific than *.example.com", "http, HTTP on port 80", "it is on port 80",
		"certificate/edge/public/edge/shop", "web/php-web:80/pods", "10.0.0.1:8080", "(GatewayPolicy edge/aws)", "the longer prefix /cart goes before /",
	} {
		require.Contains(t, out, want)
	}

	out, err = ask("GET", "http://shop.example.com/cart")
	require.NoError(t, err, out)
	require.Contains(t, out, "301 with location https://shop.example.com/cart")

	out, err = ask("GET", "https://www.example.com/", "-o", "json")
	require.Equal(t, exitAnswered, exitCode(err), out)
	var e explain.Explanation
	require.NoError(t, json.Unmarshal([]byte(out), &e))
	require.Equal(t, "any", e.Gateway.Listener.Name)
	require.Equal(t, 404, e.Answer.Status)

	out, err = ask("GET", "https://www.example.com/", "-H", "Host: shop.example.com", "-o", "json")
	require.Equal(t, exitAnswered, exitCode(err), out)
	require.NoError(t, json.Unmarshal([]byte(out), &e))
	require.Equal(t, 421, e.Answer.Status, "a name of another listener of the port")

	for url, want := range map[string]string{
		"https://other.net/":              `no listener of port 443 has the server name "other.net"`,
		"http://shop.example.com:443/":    "speaks TLS",
		"https://shop.example.com:80/":    "without TLS",
		"http://shop.example.com:8080/":   "no valid listener on port 8080 (its ports: 80, 443)",
		"https://shop.example.com/a%2Fb":  "307 with location /a/b",
		"https://shop.example.com/a//b":   "/a/b",
		"https://shop.example.com/../%61": "GET /a",
	} {
		out, _ := ask("GET", url)
		require.Contains(t, out, want, url)
	}
	out, err = ask("POST", "https://shop.example.com/", "--sni", "shop.example.com")
	require.Equal(t, exitAnswered, exitCode(err))
	require.Contains(t, out, "none of the 2 matches of the routes for shop.example.com at listener shop of Gateway edge/public matches the request")

	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"two callers":       {[]string{"GET", "https://a/", "--from", "web/php-web"}, "give one of them"},
		"no such Gateway":   {[]string{"GET", "https://a/", "--gateway", "edge/other"}, "there is no Gateway edge/other: the mesh knows edge/public"},
		"not a Gateway":     {[]string{"GET", "https://a/", "--gateway", "other"}, "is not NAMESPACE/NAME"},
		"SNI without TLS":   {[]string{"GET", "http://a/", "--sni", "a"}, "only https has a server name"},
		"not an address":    {[]string{"GET", "https://a/", "--client", "a"}, "is not an address"},
		"not a URL":         {[]string{"GET", "ftp://a/"}, "write http://HOST[:PORT]/PATH"},
		"not a port":        {[]string{"GET", "http://a:99999/"}, "is not a port"},
		"SNI of a workload": {[]string{"GET", "http://a/", "--gateway", "", "--from", "web/php-web", "--sni", "a"}, "with --gateway only"},
	} {
		_, err := ask(c.args...)
		require.ErrorContains(t, err, c.want, name)
		require.Equal(t, exitError, exitCode(err), name)
	}
}

// What an object causes at Gateways is told with whose proxies get it.
func TestExplainObjectAtGateway(t *testing.T) {
	p := newPair(t, "shop.example.com")
	dir := edgeDir(t, p)
	for object, want := range map[string][]string{
		"gateway/public -n edge": {
			"Gateway edge/public port 443, listener shop: takes requests for shop.example.com", "certificate edge/shop (sha256 " + p.fingerprint() + ") at listener",
			"every proxy of Gateway edge/public",
		},
		"gwp/aws -n edge":        {"Gateway edge/public port 80: its inFront, timeout holds"},
		"httproute/shop -n web":  {"Gateway edge/public port 443, listener shop, host shop.example.com: HTTPRoute web/shop", "every proxy of Gateway edge/public"},
		"svc/php-web -n web":     {"(cart) sends it 100%"},
		"secret/shop -n edge":    {"sha256 " + p.fingerprint()},
		"gatewayclass/causeway ": nil,
	} {
		out, err := execute(t, append([]string{"explain", "object", "--config", dir}, strings.Fields(object)...)...)
		if want == nil {
			require.ErrorContains(t, err, "there is no GatewayClass causeway")
			continue
		}
		require.NoError(t, err)
		for _, text := range want {
			require.Contains(t, out, text, object)
		}
		noKey(t, object, []byte(out), p)
	}
}

// noKey fails if anything of a private key stands in a text: its PEM or any
// line of it, also in base64, as Secrets have it.
func noKey(t *testing.T, where string, text []byte, p pair) {
	t.Helper()
	block, _ := pem.Decode(p.key)
	secrets := []string{
		base64.StdEncoding.EncodeToString(p.key), base64.StdEncoding.EncodeToString(block.Bytes), string(block.Bytes),
		hex.EncodeToString(block.Bytes[len(block.Bytes)-64:]),
	}
	for line := range strings.Lines(string(p.key)) {
		if line = strings.TrimSpace(line); len(line) > 16 && !strings.HasPrefix(line, "-----") {
			secrets = append(secrets, line)
		}
	}
	// Of a longer text that is base64 once more, a part of it can stand in the middle.
	secrets = append(secrets, secrets[0][40:80], secrets[1][40:80])
	for _, s := range secrets {
		require.NotContains(t, string(text), s, where)
	}
	require.NotContains(t, string(text), "PRIVATE KEY", where)
}

// Nothing that the control plane tells has a private key in it, whoever asks
// for what: every address of the admin API and of the health server.
func TestAdminTellsNoKey(t *testing.T) {
	p := newPair(t, "shop.example.com")
	dir := edgeDir(t, p)
	s, err := newServe(&serveOptions{config: dir, xdsListen: defaultXDSListen, adminListen: defaultAdminListen, logLevel: "error"})
	require.NoError(t, err)
	require.NoError(t, s.newObserver("", nil))
	_, err = file.Load(dir, s.catalog)
	require.NoError(t, err)
	secret, ok := catalog.Objects.Get(s.catalog.Read(), "Secret edge/shop")
	require.True(t, ok)
	text, err := json.Marshal(secret)
	require.NoError(t, err)
	require.Contains(t, string(text), base64.StdEncoding.EncodeToString(p.key), "the test looks for what is there")
	ctx := t.Context()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.engine.Run(ctx)
	}()
	t.Cleanup(func() { <-done })
	require.NoError(t, s.engine.Await(ctx, s.catalog.Read().Revision()))
	admin, health := httptest.NewServer(s.adminHandler()), httptest.NewServer(s.healthHandler())
	t.Cleanup(admin.Close)
	t.Cleanup(health.Close)

	request := "/explain?" + url.Values{"gateway": {"edge/public"}, "method": {"GET"}, "url": {"https://shop.example.com/"}}.Encode()
	view := url.Values{"role": {"gateway"}, "namespace": {"edge"}, "workload": {"public"}, "authenticated": {"true"}}.Encode()
	paths := []string{
		"/v1/state", "/v1/sources", "/v1/groups", "/v1/resources", "/v1/resources?" + view, "/v1/rejections",
		"/api/v1/overview", "/api/v1/status", "/api/v1/proxies", "/api/v1/proxystatuses", "/api/v1/members", "/api/v1/changes", "/api/v1/shifts", "/api/v1/endpoints",
		"/api/v1/objects", "/api/v1/objects/Secret/edge/shop", "/api/v1/objects/Gateway/edge/public", "/api/v1/objects/HTTPRoute/web/shop", "/api/v1" + request,
		"/", "/big", "/proxies", "/changes", "/objects/Secret/edge/shop", "/objects/Gateway/edge/public", request,
	}
	// A new address must be looked at here too. One with a name that there is not here has no answer.
	nothing := []string{"v1/", "api/v1/", "api/v1/services/{namespace}/{name}", "api/v1/shifts/{namespace}/{name}", "api/v1/proxies/{id}"}
	for file, prefix := range map[string][2]string{"admin.go": {`"GET /`, ""}, "api.go": {`get("/`, "api/v1/"}} {
		source, err := os.ReadFile("../../xds/api/" + file)
		require.NoError(t, err)
		for part := range strings.SplitSeq(string(source), prefix[0]) {
			pattern, _, _ := strings.Cut(part, `"`)
			pattern = prefix[1] + pattern
			if !strings.HasPrefix(pattern, "v1/") && !strings.HasPrefix(pattern, "api/v1/") || strings.ContainsAny(pattern, " \n") || slices.Contains(nothing, pattern) {
				continue
			}
			pattern, _, _ = strings.Cut(pattern, "{")
			covered := slices.ContainsFunc(paths, func(path string) bool { return strings.HasPrefix(path, "/"+pattern) })
			require.True(t, covered, "GET /%s is not looked at", pattern)
		}
	}
	get := func(server *httptest.Server, path string) []byte {
		answer, err := server.Client().Get(server.URL + path)
		require.NoError(t, err)
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, answer.StatusCode, "%s: %s", path, body)
		return body
	}
	for _, path := range paths {
		noKey(t, path, get(admin, path), p)
	}
	noKey(t, "/metrics", get(health, "/metrics"), p)
	require.Contains(t, string(get(admin, "/v1/state")), base64.StdEncoding.EncodeToString(p.chain), "the chain is public")

	out, err := execute(t, "diff", dir, "--admin", strings.TrimPrefix(admin.URL, "http://"))
	require.NoError(t, err, out)
	require.Contains(t, out, "no change")
}

// A plan for a Gateway says which listeners, hosts, shares and certificates
// change, and counts the proxies of that Gateway only.
func TestDiffGateway(t *testing.T) {
	before, after := newPair(t, "shop.example.com", "*.example.com"), newPair(t, "shop.example.com", "*.example.com")
	old, dir := edgeDir(t, before), edgeDir(t, after)
	edit(t, dir, "edge.yaml", "hostnames: [shop.example.com]", "hostnames: [www.example.com]")
	edit(t, dir, "edge.yaml", "{kind: CloudFront}, ", "")
	edit(t, dir, "edge.yaml", "idle: 75s", "idle: 70s")
	proxies := []server.ProxyStatus{
		{ID: "gateway~edge~public~i-1", Role: resource.Gateway, Namespace: "edge", Workload: "public", Authenticated: true, Zone: "a", Listeners: []string{"gateway/0.0.0.0=edge/public"}},
		{ID: "gateway~edge~other~i-1", Role: resource.Gateway, Namespace: "edge", Workload: "other", Authenticated: true, Zone: "a", Listeners: []string{"gateway/0.0.0.0=edge/other"}},
		{ID: "sidecar~web~cron~i-1", Role: resource.Sidecar, Namespace: "web", Workload: "cron", Zone: "a"},
		// It has not proven that it is of the Gateway, so it gets no certificate of it.
		{ID: "gateway~edge~public~i-2", Role: resource.Gateway, Namespace: "edge", Workload: "public", Zone: "a"},
	}
	for name, against := range map[string][]string{"a directory": {"--against", old}, "a control plane": {"--admin", adminOf(t, old, proxies...)}} {
		out, err := execute(t, append([]string{"diff", dir}, against...)...)
		require.ErrorIs(t, err, errChanges, out)
		t.Log(name + "\n" + out)
		for _, want := range []string{
			"Gateway edge/public", "~ certificate edge/shop: sha256 " + before.fingerprint() + " -> sha256 " + after.fingerprint(),
			"listener shop, host shop.example.com", "listener any, host www.example.com",
			"! ClientAddress: Gateway edge/public port 443: 1 entries of X-Forwarded-For are believed instead of 2",
			"! HostLost", "~ timeout.idle: 1m15s (GatewayPolicy edge/aws) -> 1m10s (GatewayPolicy edge/aws)",
			"SDS certificate/edge/public/edge/shop", "~ Secret edge/shop",
		} {
			require.Contains(t, out, want, name)
		}
		noKey(t, name, []byte(out), before)
		noKey(t, name, []byte(out), after)
		if name == "a control plane" {
			require.Contains(t, out, "Proxies: 2 of 4 would be sent something")
			require.Contains(t, out, "1 of Gateway edge/public in a: 5 resources")
			require.Contains(t, out, "1 of Gateway edge/public in a: 2 resources", "one that has not proven who it is")
			require.Contains(t, out, "LDS gateway/0.0.0.0=edge/public:443")
		}
	}
	edit(t, dir, "edge.yaml", "  - name: any\n    port: 443", "  - name: any\n    port: 8443")
	out, err := execute(t, "diff", dir, "--against", old)
	require.ErrorIs(t, err, errChanges, out)
	require.Contains(t, out, "! ListenerRemoved: Gateway edge/public port 443: listener any")
	require.Contains(t, out, "+ listener any: HTTPS, host name *.example.com, certificates edge/shop")
}

// What a Secret is in the state that a control plane tells has the same names
// and the fingerprint of the true one, and another key.
func TestStandIn(t *testing.T) {
	p := newPair(t, "shop.example.com")
	cat := catalog.New()
	_, err := file.Load(edgeDir(t, p), cat)
	require.NoError(t, err)
	text, err := json.Marshal(diff.NewState(cat.Read(), nil, nil))
	require.NoError(t, err)
	noKey(t, "state", text, p)
	var v diff.State
	require.NoError(t, json.Unmarshal(text, &v))
	again, err := v.Catalog()
	require.NoError(t, err)
	require.True(t, diff.Compare(cat.Read(), again.Read(), nil).Empty(), nil)
	require.Empty(t, engine.NewPreview(nil, nil).Changes(cat.Read(), again.Read()))
	require.Equal(t, "sha256 "+p.fingerprint(), certificateText(t, again.Read()))
}

func certificateText(t *testing.T, r catalog.Reader) string {
	t.Helper()
	m := resolve.BuildGateway(r, discovery.Key{Namespace: "edge", Name: "public"})
	require.NotNil(t, m)
	require.Len(t, m.Certificates, 1)
	return diff.CertificateText(r, &m.Certificates[0])
}
