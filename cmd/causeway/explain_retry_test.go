package main

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

const retried = `apiVersion: v1
kind: Service
metadata: {name: php, namespace: web, annotations: {mesh.causeway.dev/home: Pods}}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: mesh.causeway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: tp, namespace: web}
spec:
  targetRefs: [{group: "", kind: Service, name: php}]
  timeout: {request: 3s}
  retry: {attempts: 5, statusCodes: [502], retryOn: [GRPCUnavailable, Reset, RetriableStatusCodes]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop, namespace: web}
spec:
  parentRefs: [{group: "", kind: Service, name: php}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /a}}]
    timeouts: {request: 1s}
    retry: {attempts: 2, codes: [503], backoff: 10ms}
    backendRefs: [{name: php, port: 80}]
  - backendRefs: [{name: php, port: 80}]
`

// Each part of what is said of a retry comes with what states it, and a request
// that no listed failure can befall is never sent again.
func TestExplainRetry(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "web.yaml"), []byte(retried), 0o600))
	columns := regexp.MustCompile(` {2,}`)
	ask := func(method, url string) string {
		out, err := execute(t, "explain", "request", "--config", dir, "--from", "web/php", method, url)
		require.Equal(t, exitAnswered, exitCode(err), "there is no endpoint")
		return columns.ReplaceAllString(out, "|")
	}
	out := ask("POST", "http://php/")
	require.Contains(t, out, "From:|web/php, namespace web\n")
	for _, want := range []string{
		"|Sent again:|never|(TrafficPolicy web/tp)\n",
		"|POST is sent again only where nothing reached the target, and retryOn lists no such failure: add ConnectFailure, or POST to methods\n",
		"|Section retry:|TrafficPolicy web/tp\n",
	} {
		require.Contains(t, out, want)
	}
	require.NotContains(t, out, "up to 5 times")

	out = ask("GET", "http://php/")
	for _, want := range []string{
		"|Sent again:|up to 5 times|(TrafficPolicy web/tp)\n", "|after:|Reset, RetriableStatusCodes|(TrafficPolicy web/tp)\n",
		"|of status:|502|(TrafficPolicy web/tp)\n", "|back-off:|25ms|(default)\n",
	} {
		require.Contains(t, out, want)
	}

	out = ask("GET", "http://php/a")
	for _, want := range []string{
		"|Sent again:|up to 2 times|(HTTPRoute web/shop rules[0].retry)\n", "|after:|Reset, RetriableStatusCodes|(TrafficPolicy web/tp)\n",
		"|of status:|503|(HTTPRoute web/shop rules[0].retry)\n", "|back-off:|10ms|(HTTPRoute web/shop rules[0].retry)\n",
		"|not its retry.attempts: HTTPRoute web/shop rules[0].retry replaces it\n", "|not its retry.statusCodes: HTTPRoute web/shop rules[0].retry replaces it\n",
		"|Section timeout:|TrafficPolicy web/tp\n|nothing of it holds: HTTPRoute web/shop rules[0].timeouts.request is there instead\n",
	} {
		require.Contains(t, out, want)
	}

	out, err := execute(t, "explain", "object", "tp/tp", "-n", "web", "--config", dir)
	require.NoError(t, err)
	for _, want := range []string{
		"rules[0].matches[0]: nothing of its timeout holds: HTTPRoute web/shop rules[0].timeouts.request is there instead",
		"rules[0].matches[0]: its retry (but retry.attempts, retry.statusCodes, which HTTPRoute web/shop rules[0].retry states) holds",
		"rules[1].matches[0]: its retry, timeout hold",
	} {
		require.Contains(t, out, want)
	}
}

// A policy all of which a rule states itself is accepted and does nothing, and is not said to be in force.
func TestExplainObjectOfWhichNothingHolds(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "web.yaml"), []byte(retried+`---
apiVersion: mesh.causeway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: idle, namespace: web}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: late}]
  timeout: {request: 20s}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: late, namespace: web}
spec:
  parentRefs: [{group: "", kind: Service, name: php}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /b}}]
    timeouts: {request: 1s}
    backendRefs: [{name: php, port: 80}]
`), 0o600))
	out, err := execute(t, "explain", "object", "tp/idle", "-n", "web", "--config", dir)
	require.NoError(t, err)
	require.Contains(t, out, "the object is valid, but nothing of it holds: see what it does\n")
	require.Contains(t, out, "rules[0].matches[0]: nothing of its timeout holds: HTTPRoute web/late rules[0].timeouts.request is there instead\n")
	require.NotContains(t, out, "in force")

	out, err = execute(t, "explain", "object", "tp/tp", "-n", "web", "--config", dir)
	require.NoError(t, err)
	require.Contains(t, out, "its retry holds")
	require.NotContains(t, out, "nothing of it holds")
}
