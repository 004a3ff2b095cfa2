package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/file"
	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/server"
	"github.com/causeway-mesh/causeway/xds/status"
)

const agentConfig = `apiVersion: v1
kind: Service
metadata: {name: agent, namespace: web}
spec:
  POLICY
  ports: [{name: http, port: 80}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: agent-1, namespace: web, labels: {kubernetes.io/service-name: agent}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [10.0.0.1], zone: a, nodeName: n1, targetRef: {kind: Pod, name: agent-1, namespace: web}}
- {addresses: [10.0.0.2], zone: a, nodeName: n2, targetRef: {kind: Pod, name: agent-2, namespace: web}}
`

func agentDir(t *testing.T, policy string) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "agent.yaml"), []byte(strings.ReplaceAll(agentConfig, "POLICY", policy)), 0o600))
	return dir
}

func callers() []server.ProxyStatus {
	proxy := func(id, node string) server.ProxyStatus {
		return server.ProxyStatus{
			ID: "sidecar~web~cron~" + id, Role: resource.Sidecar, Namespace: "web", Workload: "cron", Service: "web/cron", Zone: "a", NodeName: node,
		}
	}
	return []server.ProxyStatus{proxy("i-1", ""), proxy("p-1", "n1"), proxy("p-3", "n3")}
}

// A request is explained from the node of who asks, or from one that is named.
func TestExplainFromANode(t *testing.T) {
	dir := agentDir(t, "internalTrafficPolicy: Local")
	ask := func(args ...string) (string, error) {
		return execute(t, append([]string{"explain", "request", "--config", dir, "--from", "web/cron", "GET", "http://agent/"}, args...)...)
	}
	out, err := ask("--node", "n1")
	require.NoError(t, err)
	for _, want := range []string{"namespace web, node n1", "internalTrafficPolicy: Local: only pods of the caller's node n1 answer", "a (own node)", "10.0.0.1:8080"} {
		require.Contains(t, out, want)
	}
	require.NotContains(t, out, "10.0.0.2")
	out, err = ask("--node", "n3")
	require.ErrorIs(t, err, errMeshAnswers)
	require.Contains(t, out, "Service web/agent has internalTrafficPolicy: Local, and no pod on the caller's node n3; its pods are on n1, n2: run one there, or remove it from the Service")
	out, err = ask()
	require.NoError(t, err)
	require.Contains(t, out, "the caller says no node, so the pods of all nodes answer")
}

// endpoints says which nodes have pods, and how many callers gain nothing by it.
func TestEndpointsByNode(t *testing.T) {
	show := func(policy string) string {
		cat := catalog.New()
		_, err := file.Load(agentDir(t, policy), cat)
		require.NoError(t, err)
		text, err := json.Marshal(status.Services(cat.Read(), cat.Read(), callers(), "web/agent")) // as it comes over the admin API
		require.NoError(t, err)
		var views []status.Service
		require.NoError(t, json.Unmarshal(text, &views))
		out := &strings.Builder{}
		tab := phrase.NewTable(out)
		status.PrintService(tab, &views[0])
		require.NoError(t, tab.Flush())
		return out.String()
	}
	local := show("internalTrafficPolicy: Local")
	for _, want := range []string{
		"internalTrafficPolicy: Local: nodes with usable pods: n1, n2\n",
		"1 of 3 proxies are on a node without one and get none of the pods: run one on every node that has callers\n",
		"1 of 3 proxies say no node and reach all pods; in a pod, write the bootstrap with --node-name\n",
		"ZONE/NODE", "a/n1",
	} {
		require.Contains(t, local, want)
	}
	require.Contains(t, show("trafficDistribution: PreferSameNode"), "1 of 3 proxies are on a node without one and go by zone\n")
	plain := show("trafficDistribution: PreferClose")
	require.NotContains(t, plain, "node")
	require.NotContains(t, plain, "NODE")
}

// diff says what changes for callers, and counts the proxies that are sent something.
func TestDiffOfNodes(t *testing.T) {
	plain, local := agentDir(t, "type: ClusterIP"), agentDir(t, "internalTrafficPolicy: Local")
	live := adminOf(t, plain, callers()...)
	out, err := execute(t, "diff", local, "--admin", live)
	require.ErrorIs(t, err, errChanges)
	for _, want := range []string{"callers' own node", "only its pods answer (internalTrafficPolicy: Local)", "Proxies: 2 of 3 would be sent something", "2 sidecar of namespace web in a: 1 resources"} {
		require.Contains(t, out, want)
	}
	out, err = execute(t, "diff", local, "--admin", adminOf(t, local, callers()...))
	require.NoError(t, err, out)
	require.Contains(t, out, "no change")
}
