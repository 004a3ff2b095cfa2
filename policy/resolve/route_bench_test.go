package resolve

import (
	"fmt"
	"testing"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
)

// What an endpoint's change costs at a Service with many rules: they are read again each time.
func BenchmarkBuildServiceWithRoutes(b *testing.B) {
	for _, n := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("rules=%d", n), func(b *testing.B) {
			in := &routeRows{rows: rows{services: []*discovery.Service{service(http80)}}}
			group, kind := gatewayv1.Group(""), gatewayv1.Kind("Service")
			port := gatewayv1.PortNumber(80)
			route := &gatewayv1.HTTPRoute{}
			route.Spec.ParentRefs = []gatewayv1.ParentReference{{Group: &group, Kind: &kind, Name: gatewayv1.ObjectName(web.Name)}}
			for i := range n {
				path := fmt.Sprintf("/path/%d", i)
				route.Spec.Rules = append(route.Spec.Rules, gatewayv1.HTTPRouteRule{
					Matches:     []gatewayv1.HTTPRouteMatch{{Path: &gatewayv1.HTTPPathMatch{Value: &path}}},
					BackendRefs: []gatewayv1.HTTPBackendRef{{BackendRef: gatewayv1.BackendRef{BackendObjectReference: gatewayv1.BackendObjectReference{Name: gatewayv1.ObjectName(web.Name), Port: &port}}}},
				})
			}
			o := &discovery.Object{Scope: "test", Kind: "HTTPRoute", Key: discovery.Key{Namespace: web.Namespace, Name: "r"}, Spec: route}
			o.Refs = routeRefs(o)
			in.objects = append(in.objects, o)
			r := in.reader(b)
			b.ReportAllocs()
			for b.Loop() {
				BuildService(r, web)
			}
		})
	}
}
