package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/policy/explain"
)

// behindNLB is what a Gateway needs to stand behind an NLB that ends TLS and speaks the PROXY protocol.
const behindNLB = `
apiVersion: v1
kind: Service
metadata: {name: php-web, namespace: web}
spec:
  ports: [{name: http, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: public, namespace: edge}
spec:
  gatewayClassName: causeway
  listeners: [{name: http, port: 8080, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}]
---
apiVersion: mesh.causeway.dev/v1alpha1
kind: GatewayPolicy
metadata: {name: aws, namespace: edge}
spec:
  targetRefs: [{name: public}]
  inFront: [HOP]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop, namespace: web}
spec:
  parentRefs: [{name: public, namespace: edge}]
  rules:
  - matches: [{path: {type: Exact, value: /away}}]
    filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplaceFullPath, replaceFullPath: /there}}}]
  - matches: [{path: {type: RegularExpression, value: ".*"}}]
    sessionPersistence: {type: Cookie, cookie: {name: SID, lifetimeType: Permanent}, absoluteTimeout: 1h}
    filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-rule, value: shop}]}}]
    backendRefs: [{name: php-web, port: 80}]
`

func writeBehind(t *testing.T, hop string) string {
	t.Helper()
	dir := t.TempDir()
	text := []byte(strings.Replace(behindNLB, "HOP", hop, 1))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "edge.yaml"), text, 0o600))
	return dir
}

func TestExplainRequestByCalledPort(t *testing.T) {
	dir := writeBehind(t, "{kind: NLB, proxyProtocol: true}")
	ask := func(args ...string) (string, error) {
		return execute(t, append([]string{"explain", "request", "--config", dir}, args...)...)
	}
	const url = "http://shop.example.com:8080/away"
	out, err := ask("--gateway", "edge/public", "GET", url, "--called-port", "443")
	require.NoError(t, err, out)
	require.Contains(t, out, "302 with location https://shop.example.com")
	require.Contains(t, out, "the client called port 443, at which the NLB has ended TLS")
	out, err = ask("--gateway", "edge/public", "GET", url)
	require.NoError(t, err, out)
	require.Contains(t, out, "302 with location http://shop.example.com")
	require.Contains(t, out, "--called-port 443 asks as one that it ends TLS for")

	for name, args := range map[string][]string{
		"is not a port":           {"--gateway", "edge/public", "GET", url, "--called-port", "0"},
		`"https" is not a port`:   {"--gateway", "edge/public", "GET", url, "--called-port", "https"},
		"with --gateway only":     {"--from", "web/php-web", "GET", "http://php-web/", "--called-port", "443"},
		"give a method and a URL": {"--gateway", "edge/public", "--called-port", "443"},
	} {
		_, err := ask(args...)
		require.ErrorContains(t, err, name)
		require.Equal(t, exitError, exitCode(err), name)
	}
}

func TestExplainRequestOfHTTP10(t *testing.T) {
	ask := func(hop string, args ...string) (string, error) {
		return execute(t, append([]string{"explain", "request", "--config", writeBehind(t, hop), "--gateway", "edge/public", "GET", "http://shop.example.com:8080/away"}, args...)...)
	}
	out, err := ask("{kind: ALB}", "--http1.0")
	require.Equal(t, exitAnswered, exitCode(err), out)
	require.Contains(t, out, "the mesh answers 426")
	require.Contains(t, out, "with a hop of kind Proxy in spec.inFront it is")
	out, err = ask("{kind: ALB}")
	require.NoError(t, err, out)
	out, err = ask("{kind: Proxy}", "--http1.0")
	require.NoError(t, err, out)
	require.Contains(t, out, "302 with location")
}

// A request of HTTP/2 that cannot be read has no answer, and of one version only is a request.
func TestExplainRequestOfHTTP2(t *testing.T) {
	ask := func(args ...string) (string, error) {
		return execute(t, append([]string{"explain", "request", "--config", writeBehind(t, "{kind: ALB}"), "--gateway", "edge/public", "GET", "http://shop.example.com:8080/away"}, args...)...)
	}
	out, err := ask("--http2")
	require.NoError(t, err, out)
	require.Contains(t, out, "302 with location")
	out, err = ask("--http2", "-H", "Connection: close")
	require.Equal(t, exitAnswered, exitCode(err), out)
	require.Contains(t, strings.Join(strings.Fields(out), " "), "the header Connection is not in lower case")
	out, err = ask("-H", "Host: shop.example.com:8080", "-H", "Host: other.example.com")
	require.NoError(t, err, out)
	require.Contains(t, strings.Join(strings.Fields(out), ""), "shop.example.com:8080,other.example.com")
	_, err = ask("--http2", "--http1.0")
	require.ErrorContains(t, err, "a request is of one version")
}

// What --http1.0 and --called-port say reaches a control plane that is asked.
func TestExplainFlagsReachTheControlPlane(t *testing.T) {
	asked := make(chan *http.Request, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r
		_ = json.NewEncoder(w).Encode(explain.Explanation{
			From: explain.Workload{Namespace: "edge"}, Answer: &explain.Answer{Status: http.StatusFound},
		})
	}))
	t.Cleanup(srv.Close)
	_, err := execute(t, "explain", "request", "--admin", strings.TrimPrefix(srv.URL, "http://"), "--gateway", "edge/public", "GET", "http://a/", "--http1.0", "--called-port", "443")
	require.NoError(t, err)
	q := (<-asked).URL.Query()
	require.Equal(t, "true", q.Get("http10"))
	require.Equal(t, "443", q.Get("calledPort"))
}

// The line about sessions says of what kind they are and whether the request has one.
func TestExplainSession(t *testing.T) {
	dir := writeBehind(t, "{kind: ALB}")
	ask := func(args ...string) string {
		out, _ := execute(t, append([]string{"explain", "request", "--config", dir, "--gateway", "edge/public", "GET", "http://shop.example.com:8080/"}, args...)...)
		return out
	}
	out := ask()
	require.Contains(t, out, "Cookie SID, SameSite=Lax, absolute timeout 1h, lifetime Permanent")
	require.Contains(t, out, "the request has none, so any endpoint takes it, and the answer names that one")
	require.Contains(t, ask("-H", "Cookie: SID=x"), "the request has it and goes to the endpoint that it names")
}

// A refusal may have the headers of a rule that does not take the request.
func TestExplainRefusalWithHeadersOfARule(t *testing.T) {
	dir := writeBehind(t, "{kind: ALB}")
	out, err := execute(t, "explain", "request", "--config", dir, "--gateway", "edge/public", "QUERY", "http://shop.example.com:8080/", "-H", "X-Forwarded-Proto: https")
	require.Equal(t, exitAnswered, exitCode(err), out)
	require.Contains(t, out, "the mesh answers 400")
	require.Contains(t, out, "of web/shop rule 1, which matches although it is not asked")
	out, _ = execute(t, "explain", "request", "--config", dir, "--gateway", "edge/public", "QUERY", "http://shop.example.com:8080/")
	require.NotContains(t, out, "web/shop rule 1")
}
