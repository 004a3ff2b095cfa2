package engine

import (
	"fmt"
	"math/rand/v2"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/convert"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// mutateObject makes one random change to the routes, policies and grants: they
// come, change, go, and refer to what is and what is not there.
func mutateObject(r *rand.Rand, tx *catalog.Tx) {
	namespaces := []string{"a", "b"}
	kind := pick(r, "HTTPRoute", "HTTPRoute", "HTTPRoute", "HTTPRoute", "HTTPRoute", "GRPCRoute", "TCPRoute", "TLSRoute", "ReferenceGrant",
		"GRPCRoute", "TrafficPolicy", "TrafficPolicy", "BackendTLSPolicy", "ExternalService", "Mesh", "ConfigMap")
	if r.IntN(3) == 0 { // what there is to refer to
		key := discovery.Key{Namespace: pick(r, namespaces...), Name: fmt.Sprintf("s%d", r.IntN(2))}
		catalog.Services.Put(tx, &discovery.Service{
			Scope: "test", Key: key, Generation: r.Int64N(3),
			Ports: []discovery.ServicePort{{Name: "http", Port: 80}, {Name: "grpc", Port: 9000}, {Name: "mysql", Port: 3306}, {Name: pick(r, "https", "btls"), Port: 443}}[:1+r.IntN(4)],
		})
		return
	}
	meta := metav1.ObjectMeta{
		Namespace: pick(r, namespaces...), Name: fmt.Sprintf("%c%d", kind[0], r.IntN(2)), Generation: r.Int64N(3),
		CreationTimestamp: metav1.NewTime(time.Unix(r.Int64N(3), 0)),
	}
	if kind == "Mesh" {
		meta.Namespace, meta.Name = "", v1alpha1.MeshName
	}
	if r.IntN(5) == 0 {
		catalog.Objects.Delete(tx, discovery.ObjectName{Kind: kind, Key: discovery.Key{Namespace: meta.Namespace, Name: meta.Name}}.String())
		return
	}
	if row := convert.Object(randomObject(r, kind, meta), "test"); row != nil {
		catalog.Objects.Put(tx, row)
	}
}

func randomObject(r *rand.Rand, kind string, meta metav1.ObjectMeta) metav1.Object {
	service := func() string { return fmt.Sprintf("s%d", r.IntN(2)) }
	namespace := func() *gatewayv1.Namespace { return new(gatewayv1.Namespace(pick(r, "a", "b"))) }
	parents := gatewayv1.CommonRouteSpec{}
	if r.IntN(3) > 0 {
		parents.ParentRefs = append(parents.ParentRefs, gatewayv1.ParentReference{
			Group: new(gatewayv1.Group("")), Kind: new(gatewayv1.Kind("Service")), Namespace: namespace(), Name: gatewayv1.ObjectName(service()),
			Port: pick(r, nil, nil, new(gatewayv1.PortNumber(80)), new(gatewayv1.PortNumber(3306))),
		})
	}
	if r.IntN(3) > 0 {
		parents.ParentRefs = append(parents.ParentRefs, gatewayv1.ParentReference{
			Group: new(gatewayv1.Group(gatewayv1.GroupName)), Kind: new(gatewayv1.Kind("Gateway")), Namespace: namespace(),
			Name: gatewayv1.ObjectName(fmt.Sprintf("g%d", r.IntN(2))), SectionName: pick(r, nil, nil, new(gatewayv1.SectionName("l0"))),
			Port: pick(r, nil, nil, new(gatewayv1.PortNumber(443))),
		})
	}
	names := pick(r, nil, nil, []gatewayv1.Hostname{"shop.example.com"}, []gatewayv1.Hostname{"*.example.com", "other.example.com"})
	backend := func() gatewayv1.BackendRef {
		ref := gatewayv1.BackendRef{Weight: new(r.Int32N(4))}
		ref.Namespace, ref.Port = namespace(), new(pick(r, gatewayv1.PortNumber(80), 443, 9000, 3306))
		switch r.IntN(4) {
		case 0:
			ref.Group, ref.Kind = new(gatewayv1.Group(v1alpha1.Group)), new(gatewayv1.Kind("InstanceGroup"))
			ref.Name = gatewayv1.ObjectName(service() + "-ec2")
		case 1:
			ref.Group, ref.Kind = new(gatewayv1.Group(v1alpha1.Group)), new(gatewayv1.Kind("ExternalService"))
			ref.Name = gatewayv1.ObjectName(fmt.Sprintf("E%d", r.IntN(2)))
		default:
			ref.Group, ref.Kind, ref.Name = new(gatewayv1.Group("")), new(gatewayv1.Kind("Service")), gatewayv1.ObjectName(service())
		}
		return ref
	}
	var backends []gatewayv1.BackendRef
	for range 1 + r.IntN(2) {
		backends = append(backends, backend())
	}
	settings := v1alpha1.TrafficSettings{
		Timeout: &v1alpha1.Timeout{Connect: &metav1.Duration{Duration: time.Duration(1+r.IntN(3)) * time.Second}},
		Retry:   &v1alpha1.Retry{Attempts: new(r.Int32N(4))},
	}
	if r.IntN(3) == 0 {
		settings.TLS = &v1alpha1.UpstreamTLS{SNI: "db.example.com"}
	}
	switch kind {
	case "HTTPRoute":
		rule := gatewayv1.HTTPRouteRule{Name: new(gatewayv1.SectionName("rule"))}
		for _, b := range backends {
			rule.BackendRefs = append(rule.BackendRefs, gatewayv1.HTTPBackendRef{BackendRef: b})
		}
		if r.IntN(3) == 0 {
			rule.Filters = []gatewayv1.HTTPRouteFilter{{
				Type: gatewayv1.HTTPRouteFilterRequestMirror, RequestMirror: &gatewayv1.HTTPRequestMirrorFilter{BackendRef: backend().BackendObjectReference},
			}}
		}
		return &gatewayv1.HTTPRoute{ObjectMeta: meta, Spec: gatewayv1.HTTPRouteSpec{CommonRouteSpec: parents, Hostnames: names, Rules: []gatewayv1.HTTPRouteRule{rule}}}
	case "GRPCRoute":
		rule := gatewayv1.GRPCRouteRule{}
		for _, b := range backends {
			rule.BackendRefs = append(rule.BackendRefs, gatewayv1.GRPCBackendRef{BackendRef: b})
		}
		return &gatewayv1.GRPCRoute{ObjectMeta: meta, Spec: gatewayv1.GRPCRouteSpec{CommonRouteSpec: parents, Hostnames: names, Rules: []gatewayv1.GRPCRouteRule{rule}}}
	case "TCPRoute":
		return &gatewayv1.TCPRoute{ObjectMeta: meta, Spec: gatewayv1.TCPRouteSpec{
			CommonRouteSpec: parents, Rules: []gatewayv1.TCPRouteRule{{BackendRefs: backends}},
		}}
	case "TLSRoute":
		return &gatewayv1.TLSRoute{ObjectMeta: meta, Spec: gatewayv1.TLSRouteSpec{
			CommonRouteSpec: parents, Hostnames: []gatewayv1.Hostname{"db.example.com"}, Rules: []gatewayv1.TLSRouteRule{{BackendRefs: backends}},
		}}
	case "ReferenceGrant":
		return &gatewayv1.ReferenceGrant{ObjectMeta: meta, Spec: gatewayv1.ReferenceGrantSpec{
			From: []gatewayv1.ReferenceGrantFrom{{Group: gatewayv1.GroupName, Kind: pick(r, gatewayv1.Kind("HTTPRoute"), "GRPCRoute", "TCPRoute", "Gateway"), Namespace: *namespace()}},
			To:   []gatewayv1.ReferenceGrantTo{{Group: pick(r, gatewayv1.Group(""), v1alpha1.Group), Kind: pick(r, gatewayv1.Kind("Service"), "InstanceGroup", "ExternalService", "Secret")}},
		}}
	case "TrafficPolicy":
		target := pick(r, v1alpha1.TargetReference{Kind: "Service", Name: service()},
			v1alpha1.TargetReference{Group: v1alpha1.Group, Kind: "InstanceGroup", Name: service() + "-ec2"},
			v1alpha1.TargetReference{Group: v1alpha1.Group, Kind: "ExternalService", Name: fmt.Sprintf("E%d", r.IntN(2))},
			v1alpha1.TargetReference{Group: gatewayv1.GroupName, Kind: "HTTPRoute", Name: fmt.Sprintf("H%d", r.IntN(2)), SectionName: pick(r, "", "rule")},
			v1alpha1.TargetReference{Group: gatewayv1.GroupName, Kind: "Gateway", Name: fmt.Sprintf("g%d", r.IntN(2)), SectionName: pick(r, "", "l0")})
		return &v1alpha1.TrafficPolicy{ObjectMeta: meta, Spec: v1alpha1.TrafficPolicySpec{
			TargetRefs: []v1alpha1.TargetReference{target}, TrafficSettings: settings,
		}}
	case "BackendTLSPolicy":
		p := &gatewayv1.BackendTLSPolicy{ObjectMeta: meta}
		p.Spec.TargetRefs = []gatewayv1.LocalPolicyTargetReferenceWithSectionName{{
			LocalPolicyTargetReference: gatewayv1.LocalPolicyTargetReference{Kind: "Service", Name: gatewayv1.ObjectName(service())},
		}}
		p.Spec.Validation = gatewayv1.BackendTLSPolicyValidation{
			Hostname:          "db.example.com",
			CACertificateRefs: []gatewayv1.LocalObjectReference{{Kind: "ConfigMap", Name: gatewayv1.ObjectName(fmt.Sprintf("C%d", r.IntN(2)))}},
		}
		return p
	case "ExternalService":
		host := pick(r, "api.example.com", "s1.a", "pay.example.com")
		return &v1alpha1.ExternalService{ObjectMeta: meta, Spec: v1alpha1.ExternalServiceSpec{
			Hosts: []string{host}, Resolution: v1alpha1.ResolveDNS,
			Ports: []v1alpha1.ExternalPort{{Number: pick(r, int32(80), 443), Protocol: pick(r, v1alpha1.ExternalHTTP, v1alpha1.ExternalTCP)}},
		}}
	case "Mesh":
		return &v1alpha1.Mesh{ObjectMeta: meta, Spec: v1alpha1.MeshSpec{
			Egress: v1alpha1.Egress{Mode: pick(r, v1alpha1.AllowAny, v1alpha1.RegistryOnly)}, Defaults: pick(r, nil, &settings),
		}}
	}
	return &corev1.ConfigMap{ObjectMeta: meta, Data: map[string]string{"ca.crt": testCA}}
}

// testCA is a certificate that nobody has the key of.
const testCA = `-----BEGIN CERTIFICATE-----
MIIBdDCCARqgAwIBAgIUfM1+4pY8gq5rGkTqJ0b8mMqg0VwwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAgFw0yNjAxMDEwMDAwMDBaGA8yMTI2MDEwMTAwMDAw
MFowDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABFG2
-----END CERTIFICATE-----
`
