package resolve

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/objects"
	"github.com/causeway-mesh/causeway/policy"
	testrows "github.com/causeway-mesh/causeway/test/rows"
)

// routeKinds are the kinds of routes in the order in which tests print them.
var routeKinds = []string{discovery.KindHTTPRoute, discovery.KindGRPCRoute, discovery.KindTCPRoute, discovery.KindTLSRoute}

// Every kind of route that is read is in the list of them, is read as one, and no other is.
func TestRouteKinds(t *testing.T) {
	t.Parallel()
	var routes []string
	for _, k := range objects.Kinds() {
		if strings.HasSuffix(k.Name, "Route") {
			routes = append(routes, k.Name)
		}
		if k.New != nil {
			spec := commonSpec(&discovery.Object{Kind: k.Name, Spec: k.New()})
			require.Equal(t, slices.Contains(discovery.RouteKinds(), k.Name), spec != nil, k.Name)
		}
	}
	require.ElementsMatch(t, routes, discovery.RouteKinds())
	require.ElementsMatch(t, routes, routeKinds)
	for _, kind := range requestRoutes {
		require.Contains(t, discovery.RouteKinds(), kind)
	}
}

// What is a unit has a meaning, and what means something is a unit.
func TestUnitKinds(t *testing.T) {
	t.Parallel()
	require.True(t, slices.IsSorted(policy.UnitKinds()))
	r := testrows.Parse(t, `{apiVersion: v1, kind: Service, metadata: {name: a, namespace: web}, spec: {ports: [{port: 80}]}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: causeway}, spec: {controllerName: mesh.causeway.dev/controller}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: a, namespace: web}, spec: {gatewayClassName: causeway, listeners: [{name: http, port: 80, protocol: HTTP}]}}
---
{apiVersion: mesh.causeway.dev/v1alpha1, kind: ExternalService, metadata: {name: a, namespace: web}, spec: {hosts: [a.example], ports: [{number: 80}]}}
`).Catalog(t).Read()
	units := Units(r)
	require.Len(t, units, len(policy.UnitKinds()))
	for _, k := range objects.Kinds() {
		i := slices.IndexFunc(units, func(u policy.Unit) bool { return u.Kind == k.Name })
		require.Equal(t, slices.Contains(policy.UnitKinds(), k.Name), i >= 0, k.Name)
		key := discovery.Key{Namespace: "web", Name: "a"}
		if i >= 0 {
			key = units[i].Key
		}
		require.Equal(t, i >= 0, Build(r, policy.Unit{Kind: k.Name, Key: key}) != nil, k.Name)
	}
}
