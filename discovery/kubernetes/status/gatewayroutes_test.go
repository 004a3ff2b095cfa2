package status

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/meshtest"
)

const gatewayRoute = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop, namespace: shop}
spec:
  parentRefs: [{name: edge, namespace: web}]
  rules: [{backendRefs: [{name: php-web, namespace: web, port: 80}]}]
`

// A Gateway and the routes at it speak of each other: whether a route may attach
// hangs on the labels of its namespace, and how many do is told by the listener.
// When all is said nothing is written any more.
func TestRoutesAtAGateway(t *testing.T) {
	t.Parallel()
	kube := servers.Take(t)
	kube.Namespace(t, "shop")
	kube.ApplyYAML(t, meshtest.Service)
	kube.ApplyYAML(t, statusClass)
	kube.ApplyYAML(t, `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: web, annotations: {mesh.causeway.dev/addresses: edge.example.com}}
spec:
  gatewayClassName: causeway
  listeners:
  - {name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {edge: public}}}}}
`)
	kube.ApplyYAML(t, gatewayRoute)
	r := newReplica(t, kube, nil)
	w := startPolicyStatus(t, r, func(ref discovery.ObjectRef) (metav1.Condition, bool) {
		return metav1.Condition{Type: "Programmed", Status: metav1.ConditionTrue, Reason: "Programmed", ObservedGeneration: ref.Generation}, true
	})
	meshtest.WaitCondition(t, kube, "HTTPRoute", "shop", "shop", "Accepted", metav1.ConditionFalse, "NotAllowedByListeners")
	meshtest.WaitCondition(t, kube, "GatewayClass", "", "causeway", "Accepted", metav1.ConditionTrue, "Accepted")
	require.NotEmpty(t, gatewayIn[gatewayv1.GatewayClass](t, kube, "GatewayClass", "", "causeway").Status.SupportedFeatures)
	attached := func(n int32) {
		t.Helper()
		harness.Eventually(t, 30*time.Second, fmt.Sprintf("%d routes are attached", n), func() error {
			g := gatewayIn[gatewayv1.Gateway](t, kube, "Gateway", "web", "edge")
			if len(g.Status.Listeners) != 1 || g.Status.Listeners[0].AttachedRoutes != n || says(g.Status.Listeners[0].Conditions, "Programmed") != "True/Programmed@1" {
				return fmt.Errorf("%+v", g.Status)
			}
			return nil
		})
	}
	attached(0)

	kube.ApplyYAML(t, "{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {edge: public}}}")
	meshtest.WaitCondition(t, kube, "HTTPRoute", "shop", "shop", "Accepted", metav1.ConditionTrue, "Accepted")
	meshtest.WaitCondition(t, kube, "HTTPRoute", "shop", "shop", "ResolvedRefs", metav1.ConditionFalse, "RefNotPermitted")
	attached(1)
	kube.ApplyYAML(t, `
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {name: shop, namespace: web}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}]
  to: [{group: "", kind: Service}]
`)
	meshtest.WaitCondition(t, kube, "HTTPRoute", "shop", "shop", "ResolvedRefs", metav1.ConditionTrue, "ResolvedRefs")
	meshtest.WaitCondition(t, kube, "HTTPRoute", "shop", "shop", "Programmed", metav1.ConditionTrue, "Programmed")
	meta, parents, _ := meshtest.StatusOf(t, kube, "HTTPRoute", "shop", "shop")
	require.Len(t, parents, 1)
	require.EqualValues(t, "edge", parents[0].ParentRef.Name)
	require.EqualValues(t, "web", *parents[0].ParentRef.Namespace)

	harness.Eventually(t, 30*time.Second, "nothing is left to write", func() error {
		if w.count(t, "causeway_status_pending", "") != 0 {
			return errors.New("not yet")
		}
		return nil
	})
	edge := gatewayIn[gatewayv1.Gateway](t, kube, "Gateway", "web", "edge")
	before := w.count(t, "causeway_status_writes_total", "")
	harness.Throughout(t, 3*computeEvery, "that no status is written", func() error {
		if n := w.count(t, "causeway_status_writes_total", ""); n != before {
			return fmt.Errorf("there are %d", n)
		}
		return nil
	})
	require.LessOrEqual(t, w.count(t, "causeway_status_writes_total", resultWritten), 12)
	again, _, _ := meshtest.StatusOf(t, kube, "HTTPRoute", "shop", "shop")
	require.Equal(t, meta.ResourceVersion, again.ResourceVersion)
	require.Equal(t, edge.ResourceVersion, gatewayIn[gatewayv1.Gateway](t, kube, "Gateway", "web", "edge").ResourceVersion)
	require.Equal(t, "edge.example.com", edge.Status.Addresses[0].Value)

	kube.ApplyYAML(t, strings.Replace(gatewayRoute, "name: edge,", "name: nobody,", 1))
	attached(0)
	harness.Eventually(t, 30*time.Second, "of a Gateway that is not ours nothing is said", func() error {
		if _, parents, _ := meshtest.StatusOf(t, kube, "HTTPRoute", "shop", "shop"); len(parents) > 0 {
			return fmt.Errorf("%+v", parents)
		}
		return nil
	})
}
