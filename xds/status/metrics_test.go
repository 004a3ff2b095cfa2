package status

import (
	"runtime"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/test/rows"
	"github.com/causeway-mesh/causeway/xds/server"
	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// Where each Service is at home and who has its traffic is told, shifted or not; a guess is not.
func TestDivisionsAreTold(t *testing.T) {
	t.Parallel()
	cat := rows.Parse(t, `apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: php, namespace: web, annotations: {mesh.causeway.dev/home: Instances}}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: pinned, namespace: web, annotations: {mesh.causeway.dev/home: Instances}}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: mesh.causeway.dev/v1alpha1
kind: TrafficShift
metadata: {name: pinned, namespace: web}
spec: {serviceRef: {name: pinned}, pin: "12.5", direction: InstancesToPods, steps: [{percent: "100", hold: 1m}]}
`).Catalog(t)
	store := snapshot.New()
	c := NewCollector("v1.2.3", cat, store, server.New(store, server.Options{Metrics: server.NewMetrics(prometheus.NewRegistry())}))
	require.NoError(t, testutil.CollectAndCompare(c, strings.NewReader(`
# HELP causeway_build_info 1, by the control plane's version and that of Go.
# TYPE causeway_build_info gauge
causeway_build_info{goversion="`+runtime.Version()+`",version="v1.2.3"} 1
# HELP causeway_service_home 1 for the backing that is a Service's home, 0 for others; none while the home is not known.
# TYPE causeway_service_home gauge
causeway_service_home{backing="instances",namespace="shop",service="cart"} 0
causeway_service_home{backing="instances",namespace="web",service="php"} 1
causeway_service_home{backing="instances",namespace="web",service="pinned"} 1
causeway_service_home{backing="pods",namespace="shop",service="cart"} 1
causeway_service_home{backing="pods",namespace="web",service="php"} 0
causeway_service_home{backing="pods",namespace="web",service="pinned"} 0
# HELP causeway_service_share_ratio Part of a Service's traffic that a backing is to have, 0 to 1; none while it is not known.
# TYPE causeway_service_share_ratio gauge
causeway_service_share_ratio{backing="instances",namespace="shop",service="cart"} 0
causeway_service_share_ratio{backing="instances",namespace="web",service="php"} 1
causeway_service_share_ratio{backing="instances",namespace="web",service="pinned"} 0.875
causeway_service_share_ratio{backing="pods",namespace="shop",service="cart"} 1
causeway_service_share_ratio{backing="pods",namespace="web",service="php"} 0
causeway_service_share_ratio{backing="pods",namespace="web",service="pinned"} 0.125
# HELP causeway_services Services of the mesh.
# TYPE causeway_services gauge
causeway_services 3
`), "causeway_build_info", "causeway_service_home", "causeway_service_share_ratio", "causeway_services"))
}
