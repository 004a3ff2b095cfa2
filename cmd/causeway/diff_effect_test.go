package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// An edit that changes nothing says so and is no change to a job; one that acts
// later, such as of a guard, is a change.
func TestDiffOfEditsWithoutEffect(t *testing.T) {
	const route = `---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: php, namespace: web}
spec:
  parentRefs: [{group: "", kind: Service, name: php}]
  rules:
  - backendRefs: [{name: php, port: 80, weight: 50}, {name: new, port: 80, weight: 50}]
`
	const shift = `---
apiVersion: mesh.causeway.dev/v1alpha1
kind: TrafficShift
metadata: {name: php, namespace: web}
spec:
  serviceRef: {name: php}
  steps: [{percent: "50", hold: 10m}, {percent: "100", hold: 10m}]
  guard: {successRate: {atLeast: "99"}, minRequests: 500}
`
	service := func(name string) string {
		return "---\napiVersion: v1\nkind: Service\nmetadata: {name: " + name + ", namespace: web, annotations: {mesh.causeway.dev/home: Pods}}\nspec: {ports: [{name: http, port: 80}]}\n"
	}
	before, after := t.TempDir(), t.TempDir()
	write := func(dir, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "web.yaml"), []byte(text), 0o600))
	}
	services := service("php") + service("new")
	write(before, services+route+shift)
	edited := func(old, replacement string) {
		text := services + route + shift
		require.Contains(t, text, old)
		write(after, strings.ReplaceAll(text, old, replacement))
	}
	edited("weight: 50", "weight: 1")
	out, err := execute(t, "diff", after, "--against", before)
	require.NoError(t, err, out)
	require.Contains(t, out, "~ HTTPRoute web/php")
	require.Contains(t, out, "no change: the mesh does the same with these edits")
	require.NotContains(t, out, "cluster IPs")

	edited(`minRequests: 500`, `minRequests: 900`)
	out, err = execute(t, "diff", after, "--against", before)
	require.ErrorIs(t, err, errChanges, out)
	require.Contains(t, out, "~ TrafficShift web/php")
	require.Contains(t, out, "nothing changes in Envoy; the edits act later")
}
