package status

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/convert"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/cluster"
	"github.com/causeway-mesh/causeway/discovery/objects"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// BenchmarkStatusOfOneService computes the status of 500 routes at one Service.
func BenchmarkStatusOfOneService(b *testing.B) {
	benchmarkStatuses(b, 1, 500, 0)
}

// BenchmarkStatuses computes the status of 5,000 objects. Of these
// each Service has three routes and two policies. It also finds the due ones.
func BenchmarkStatuses(b *testing.B) {
	benchmarkStatuses(b, 1000, 3, 2)
}

func benchmarkStatuses(b *testing.B, services, routes, policies int) {
	b.Helper()
	cat := catalog.New()
	_, err := cat.Write(time.Time{}, func(tx *catalog.Tx) error {
		for i := range services {
			name := fmt.Sprintf("s%04d", i)
			catalog.Services.Put(tx, &discovery.Service{
				Scope: cluster.ScopeServices, Key: discovery.Key{Namespace: "web", Name: name}, Ports: []discovery.ServicePort{{Name: "http", Port: 80}},
			})
			group, kind := gatewayv1.Group(""), gatewayv1.Kind("Service")
			port := gatewayv1.PortNumber(80)
			for j := range routes {
				route := &gatewayv1.HTTPRoute{ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: fmt.Sprint(name, "-", j), Generation: 1}}
				path := fmt.Sprint("/", j)
				route.Spec.ParentRefs = []gatewayv1.ParentReference{{Group: &group, Kind: &kind, Name: gatewayv1.ObjectName(name)}}
				route.Spec.Rules = []gatewayv1.HTTPRouteRule{{
					Matches: []gatewayv1.HTTPRouteMatch{{Path: &gatewayv1.HTTPPathMatch{Value: &path}}},
					BackendRefs: []gatewayv1.HTTPBackendRef{{BackendRef: gatewayv1.BackendRef{
						BackendObjectReference: gatewayv1.BackendObjectReference{Name: gatewayv1.ObjectName(name), Port: &port},
					}}},
				}}
				catalog.Objects.Put(tx, convert.Object(route, "kubernetes/httproutes"))
			}
			for j := range policies {
				p := &v1alpha1.TrafficPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: fmt.Sprint(name, "-", j), Generation: 1}}
				p.Spec.TargetRefs = []v1alpha1.TargetReference{{Kind: "Service", Name: name}}
				catalog.Objects.Put(tx, convert.Object(p, "kubernetes/trafficpolicies"))
			}
		}
		return nil
	})
	require.NoError(b, err)
	t := &term{
		Writer: NewWriter(&cluster.Client{}, policyStatus, nil, nil, prometheus.NewRegistry()), cat: cat,
		kinds: make(map[string]objects.Kind), objects: make(map[discovery.ObjectName]*statement), work: make(chan struct{}, 1),
	}
	for _, k := range cluster.Kinds() {
		t.kinds[k.Name] = k
	}
	b.Run("renew", func(b *testing.B) {
		for b.Loop() {
			t.renew(cat.Read())
		}
	})
	require.Len(b, t.objects, services*(routes+policies))
	_, err = cat.Write(time.Time{}, func(tx *catalog.Tx) error {
		for name, s := range t.objects {
			catalog.ObservedStatuses.Put(tx, &discovery.ObservedStatus{Scope: "kubernetes/" + name.Kind, Name: name, Said: s.said})
		}
		return nil
	})
	require.NoError(b, err)
	b.Run("compare", func(b *testing.B) {
		for b.Loop() {
			t.compare(time.Now())
		}
	})
	b.Run("compare after a change", func(b *testing.B) {
		for b.Loop() {
			t.looked = 0
			t.compare(time.Now())
		}
	})
}
