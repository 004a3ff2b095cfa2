package resolve

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/routing"
	testrows "github.com/causeway-mesh/causeway/test/rows"
)

// A route of namespace web at a Gateway and at a Service of namespace infra,
// which sends to Services of three namespaces.
const routeOfTwoParents = `apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: infra}
spec:
  gatewayClassName: causeway
  listeners: [{name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}]
---
apiVersion: v1
kind: Service
metadata: {name: s, namespace: infra}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: s, namespace: web}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: s, namespace: pay}
spec: {ports: [{port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: web}
spec:
  parentRefs: [{name: edge, namespace: infra}, {group: "", kind: Service, name: s, namespace: infra}]
  hostnames: [www.example.com]
  rules:
  - backendRefs: [{name: s, port: 80}, {name: s, namespace: infra, port: 80}, {name: s, namespace: pay, port: 80}]
`

const grantOfInfra = `
---
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {name: g, namespace: infra}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: web}]
  to: [{group: "", kind: Service}]
`

// Whoever calls a Service asked for one of its namespace; whoever calls a
// Gateway asked for a host name only, so that its namespace consents to nothing.
func TestGrantsAtGateways(t *testing.T) {
	kinds := func(backends []policy.Backend) []policy.BackendKind {
		var out []policy.BackendKind
		for i := range backends {
			out = append(out, backends[i].Kind)
		}
		return out
	}
	gateway, service := discovery.Key{Namespace: "infra", Name: "edge"}, discovery.Key{Namespace: "infra", Name: "s"}
	r := testrows.Parse(t, routeOfTwoParents).Catalog(t).Read()
	host := BuildGateway(r, gateway).Ports[0].Listeners[0].Hosts[1]
	require.Equal(t, "www.example.com", host.Domain)
	require.Equal(t, []policy.BackendKind{policy.ServiceBackend, policy.InvalidBackend, policy.InvalidBackend}, kinds(host.Rules[0].Backends))
	require.Equal(t, []policy.BackendKind{policy.ServiceBackend, policy.ServiceBackend, policy.InvalidBackend}, kinds(BuildService(r, service).Ports[0].ConsumerHTTP["web"].Rules[0].Backends))

	r = testrows.Parse(t, routeOfTwoParents+grantOfInfra).Catalog(t).Read()
	host = BuildGateway(r, gateway).Ports[0].Listeners[0].Hosts[1]
	require.Equal(t, []policy.BackendKind{policy.ServiceBackend, policy.ServiceBackend, policy.InvalidBackend}, kinds(host.Rules[0].Backends))
	require.Contains(t, host.Provenance, discovery.ObjectRef{Kind: "ReferenceGrant", Key: discovery.Key{Namespace: "infra", Name: "g"}})
}

// Host names mean something at a Gateway, and nothing at a Service.
func TestHostnamesOfARouteWithTwoParents(t *testing.T) {
	rows := testrows.Parse(t, routeOfTwoParents)
	route := rows.Objects[len(rows.Objects)-1]
	r := rows.Catalog(t).Read()
	about := func(parent discovery.ObjectName) int {
		n := 0
		for _, f := range routing.ReadAt(r, route, parent).Findings {
			if f.Field == "spec.hostnames" {
				n++
			}
		}
		return n
	}
	require.Zero(t, about(discovery.ObjectName{Kind: discovery.KindGateway, Key: discovery.Key{Namespace: "infra", Name: "edge"}}))
	require.Equal(t, 1, about(discovery.ObjectName{Kind: discovery.KindService, Key: discovery.Key{Namespace: "infra", Name: "s"}}))
}

func TestHostnamesInCommon(t *testing.T) {
	for _, c := range []struct{ a, b, want string }{
		{"", "", ""},
		{"", "a.com", "a.com"},
		{"*.a.com", "", "*.a.com"},
		{"*.a.com", "x.a.com", "x.a.com"},
		{"*.a.com", "x.y.a.com", "x.y.a.com"},
		{"*.a.com", "*.y.a.com", "*.y.a.com"},
		{"*.com", "*.com", "*.com"},
		{"*.a.com", "a.com", "none"},
		{"*.a.com", "xa.com", "none"},
		{"*.a.com", "*.b.com", "none"},
		{"*.a.com", "*.xa.com", "none"},
		{"a.com", "b.com", "none"},
		{"a.com", "*.com", "a.com"},
	} {
		for _, pair := range [2][2]string{{c.a, c.b}, {c.b, c.a}} {
			got, ok := intersect(pair[0], pair[1])
			if c.want == "none" {
				require.False(t, ok, "%v", pair)
				continue
			}
			require.True(t, ok, "%v", pair)
			require.Equal(t, c.want, got, "%v", pair)
		}
	}
	require.Equal(t, []string{"a.b.com", "*.b.com", "*.com", ""}, widening("a.b.com"))
	require.Equal(t, []string{"*.b.com", "*.com", ""}, widening("*.b.com"))
	require.Equal(t, []string{""}, widening(""))
	for name, want := range map[string]bool{
		"a.com": true, "*.a.com": true, "*.com": true, "localhost": true, "10.0.0.1": false, "1.2.3": false, "*.10": true,
		"*": false, "a.*.com": false, "*.*.com": false, "A.com": false, "": false, "*.": false, "a..b": false, "[::1]": false, "a.com.": false,
	} {
		require.Equal(t, want, routing.IsRouteHostname(name), name)
	}
}
