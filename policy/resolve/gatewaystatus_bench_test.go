package resolve

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	testrows "github.com/causeway-mesh/causeway/test/rows"
)

// All statuses are computed anew after every change of an object, so that of a
// thousand routes at one Gateway must not cost a thousand readings of it.
func BenchmarkStatusesOfAGateway(b *testing.B) {
	const routes = 1000
	docs := []string{
		"apiVersion: v1\nkind: Service\nmetadata: {name: shop, namespace: web}\nspec:\n  ports: [{name: http, port: 80}]",
		"apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: edge, namespace: web}\nspec:\n  gatewayClassName: causeway\n  listeners: [{name: http, port: 80, protocol: HTTP}]",
	}
	for i := range routes {
		docs = append(docs, fmt.Sprintf(`apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r%d, namespace: web}
spec:
  parentRefs: [{name: edge}]
  hostnames: [h%d.example.com]
  rules: [{backendRefs: [{name: shop, port: 80}]}]`, i, i))
	}
	r := testrows.Parse(b, strings.Join(docs, "\n---\n")).Catalog(b).Read()
	for b.Loop() {
		statuses := NewStatuses(r)
		for _, kind := range []string{discovery.KindGateway, "HTTPRoute"} {
			for o := range catalog.Objects.By(r, catalog.ByKind, kind) {
				_, ok := statuses.StatusOf(o)
				require.True(b, ok)
			}
		}
	}
}
