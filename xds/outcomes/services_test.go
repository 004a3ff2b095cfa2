package outcomes_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/test/rows"
	"github.com/causeway-mesh/causeway/xds/outcomes"
)

// What a new endpoint answers first is known to be its: by that a bad release is told.
func TestNewEndpointIsKnownAtOnce(t *testing.T) {
	t.Parallel()
	const shift = `apiVersion: v1
kind: Service
metadata: {name: php, namespace: web}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: mesh.causeway.dev/v1alpha1
kind: TrafficShift
metadata: {name: php, namespace: web}
spec: {serviceRef: {name: php}, steps: [{percent: "100", hold: 1m}]}
`
	slice := func(address, pod string) string {
		return `---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: php, namespace: web, labels: {kubernetes.io/service-name: php}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [` + address + `], targetRef: {kind: Pod, namespace: web, name: ` + pod + `}}]
`
	}
	cat := rows.Parse(t, shift+slice("192.0.2.1", "old")).Catalog(t)
	now, key := time.Unix(1000, 0), discovery.Key{Namespace: "web", Name: "php"}
	services := outcomes.NewServices(cat, func() time.Time { return now })
	known := func(address string) string {
		id, _, _ := services.Lookup(key, 80, netip.MustParseAddrPort(address+":8080"))
		return id
	}
	require.Equal(t, "web/old", known("192.0.2.1"))

	_, err := cat.Write(now, func(tx *catalog.Tx) error {
		for _, set := range rows.Parse(t, shift+slice("192.0.2.2", "new")).Endpoints {
			catalog.Endpoints.Put(tx, set)
		}
		return nil
	})
	require.NoError(t, err)
	now = now.Add(20 * time.Millisecond)
	require.Equal(t, "web/new", known("192.0.2.2"))
	require.Equal(t, "web/old", known("192.0.2.1"), "its last answers are reported after it has left")
	require.Empty(t, known("192.0.2.3"))
}
