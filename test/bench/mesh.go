package main

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// namespace holds the Services of the benchmark.
const namespace = "bench"

// routeService is one more Service, whose virtual host is what a route-affecting
// change changes.
const routeService = "routed"

// editedService is another one, to which an HTTPRoute is attached.
const editedService = "edited"

// Addresses are numbered, and all have the same length, so that a change of an
// address changes no size. Endpoints have the numbers from 0 (of Services) and
// from firstChanged (of changes, one after the other); those of a burst share a
// prefix that no other has.
const (
	firstChanged = 500_000
	firstBurst   = 900_000
	burstPrefix  = "10.190."
	lastBurst    = 910_000
)

// address returns the address with a number below 1,000,000.
func address(n int) string {
	return fmt.Sprintf("10.%d.%d.%d", 100+n/10_000, 100+n/100%100, 100+n%100)
}

// mesh is the size of a catalog.
type mesh struct {
	services  int
	endpoints int // of each Service
	zones     int
}

func serviceName(i int) string { return fmt.Sprintf("svc-%05d", i) }

// Names of what the compiler makes of Service i (see package compile).
func clusterName(i int) string { return namespace + "/" + serviceName(i) + ":80/pods" }
func hostName(i int) string    { return "http/" + serviceName(i) + "." + namespace + ":80" }

// routedHost is the virtual host that a route-affecting change changes.
const routedHost = "http/" + routeService + "." + namespace + ":80"

// editedHost is the virtual host that an edit of the HTTPRoute changes.
const editedHost = "http/" + editedService + "." + namespace + ":80"

// httpRoute returns the HTTPRoute of editedService as the n-th edit leaves it.
func httpRoute(n int) *gatewayv1.HTTPRoute {
	prefix, path := gatewayv1.PathMatchPathPrefix, "/"
	return &gatewayv1.HTTPRoute{
		TypeMeta:   metav1.TypeMeta{APIVersion: gatewayv1.GroupVersion.String(), Kind: "HTTPRoute"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: editedService},
		Spec: gatewayv1.HTTPRouteSpec{
			CommonRouteSpec: gatewayv1.CommonRouteSpec{ParentRefs: []gatewayv1.ParentReference{{
				Group: new(gatewayv1.Group("")), Kind: new(gatewayv1.Kind("Service")), Name: editedService,
			}}},
			Rules: []gatewayv1.HTTPRouteRule{{
				Matches: []gatewayv1.HTTPRouteMatch{{Path: &gatewayv1.HTTPPathMatch{Type: &prefix, Value: &path}}},
				Filters: []gatewayv1.HTTPRouteFilter{{
					Type: gatewayv1.HTTPRouteFilterRequestHeaderModifier,
					RequestHeaderModifier: &gatewayv1.HTTPHeaderFilter{
						Set: []gatewayv1.HTTPHeader{{Name: "x-edit", Value: fmt.Sprintf("%06d", n)}},
					},
				}},
				BackendRefs: []gatewayv1.HTTPBackendRef{{BackendRef: gatewayv1.BackendRef{
					BackendObjectReference: gatewayv1.BackendObjectReference{Name: editedService, Port: new(gatewayv1.PortNumber(80))},
				}}},
			}},
		},
	}
}

func zoneName(i int) string { return "zone-" + string(rune('a'+i)) }

func (m mesh) service(name string) *corev1.Service {
	return &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}}},
	}
}

// slice returns the EndpointSlice of a Service whose endpoints are numbered from first.
func (m mesh) slice(service string, first int) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		TypeMeta: metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: service,
			Labels: map[string]string{discoveryv1.LabelServiceName: service},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080)), Protocol: new(corev1.ProtocolTCP)}},
	}
	for i := range m.endpoints {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{address(first + i)},
			Conditions: discoveryv1.EndpointConditions{Ready: new(true), Serving: new(true), Terminating: new(false)},
			Zone:       new(zoneName(i % m.zones)),
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: namespace, Name: fmt.Sprintf("%s-%04d", service, i)},
		})
	}
	return s
}

// instances returns the EndpointSlice that a Causeway leader would publish for
// the instances of routeService.
func (m mesh) instances() *discoveryv1.EndpointSlice {
	s := m.slice(routeService, firstChanged-1000)
	s.Name = routeService + "-instances"
	s.Labels = map[string]string{
		discoveryv1.LabelManagedBy:  v1alpha1.ManagedBy,
		v1alpha1.ServiceLabel:       routeService,
		v1alpha1.InstanceGroupLabel: routeService,
	}
	return s
}

// objects returns the objects of Service i.
func (m mesh) objects(i int) (*corev1.Service, *discoveryv1.EndpointSlice) {
	return m.service(serviceName(i)), m.slice(serviceName(i), i*m.endpoints)
}
