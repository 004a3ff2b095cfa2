package convert

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"
	"sigs.k8s.io/yaml"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

func names(refs []discovery.ObjectName) []string {
	out := make([]string, len(refs))
	for i, r := range refs {
		out[i] = r.String()
	}
	return out
}

// Whatever an object names is a reference of its row, in whichever part of it
// the name stands, each once and with its namespace.
func TestReferences(t *testing.T) {
	mirror := func(name string) string {
		return "[{type: RequestMirror, requestMirror: {backendRef: {name: " + name + ", port: 80}}}]"
	}
	for _, c := range []struct {
		of   metav1.Object
		text string
		refs []string
	}{
		{
			&gatewayv1.HTTPRoute{},
			`{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: a, namespace: web}, spec: {
			parentRefs: [{name: gw, namespace: infra}, {group: "", kind: Service, name: p}, {group: "", kind: Service, name: p, sectionName: b, namespace: other}],
			rules: [
				{filters: ` + mirror("m1") + `, backendRefs: [
					{name: p, port: 80, filters: ` + mirror("m2") + `},
					{group: mesh.causeway.dev, kind: InstanceGroup, name: ig, namespace: x, port: 80},
					{group: mesh.causeway.dev, kind: ExternalService, name: ex, port: 80}]},
				{filters: [{type: ExternalAuth, externalAuth: {protocol: HTTP, http: {}, backendRef: {name: auth, namespace: sec, port: 80}}},
					{type: ExtensionRef, extensionRef: {group: example.com, kind: Script, name: s}}], backendRefs: [{name: p, port: 80}]}]}}`,
			[]string{
				"ExternalService web/ex", "Gateway infra/gw", "InstanceGroup x/ig", "Script web/s", "Service other/p",
				"Service sec/auth", "Service web/m1", "Service web/m2", "Service web/p",
			},
		},
		{
			&gatewayv1.GRPCRoute{},
			`{apiVersion: gateway.networking.k8s.io/v1, kind: GRPCRoute, metadata: {name: a, namespace: web}, spec: {
			parentRefs: [{group: "", kind: Service, name: p}],
			rules: [{filters: ` + mirror("m1") + `, backendRefs: [{name: b, namespace: c, port: 80, filters: ` + mirror("m2") + `}]}]}}`,
			[]string{"Service c/b", "Service web/m1", "Service web/m2", "Service web/p"},
		},
		{
			&gatewayv1.TCPRoute{},
			`{apiVersion: gateway.networking.k8s.io/v1, kind: TCPRoute, metadata: {name: a, namespace: web}, spec: {
			parentRefs: [{group: "", kind: Service, name: p}], rules: [{backendRefs: [{name: b, port: 80}]}]}}`,
			[]string{"Service web/b", "Service web/p"},
		},
		{
			&gatewayv1.TLSRoute{},
			`{apiVersion: gateway.networking.k8s.io/v1, kind: TLSRoute, metadata: {name: a, namespace: web}, spec: {
			parentRefs: [{group: "", kind: Service, name: p}], hostnames: [a.example.com], rules: [{backendRefs: [{name: b, port: 80}]}]}}`,
			[]string{"Service web/b", "Service web/p"},
		},
		{&gatewayv1beta1.ReferenceGrant{}, `{apiVersion: gateway.networking.k8s.io/v1beta1, kind: ReferenceGrant, metadata: {name: a, namespace: web}, spec: {
			from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}], to: [{group: "", kind: Service}]}}`, nil},
		{
			&gatewayv1.BackendTLSPolicy{},
			`{apiVersion: gateway.networking.k8s.io/v1, kind: BackendTLSPolicy, metadata: {name: a, namespace: web}, spec: {
			targetRefs: [{group: "", kind: Service, name: t}], validation: {hostname: a.example.com, caCertificateRefs: [{group: "", kind: ConfigMap, name: ca}]}}}`,
			[]string{"ConfigMap web/ca", "Service web/t"},
		},
		{
			&v1alpha1.TrafficPolicy{},
			`{apiVersion: mesh.causeway.dev/v1alpha1, kind: TrafficPolicy, metadata: {name: a, namespace: web}, spec: {
			targetRefs: [{kind: Service, name: t}, {kind: Service, name: t, sectionName: http}, {group: gateway.networking.k8s.io, kind: HTTPRoute, name: r}],
			tls: {sni: a.example.com, caCertificateRef: {name: ca}}}}`,
			[]string{"ConfigMap web/ca", "HTTPRoute web/r", "Service web/t"},
		},
		{
			&v1alpha1.ExternalService{},
			`{apiVersion: mesh.causeway.dev/v1alpha1, kind: ExternalService, metadata: {name: a, namespace: web}, spec: {
			hosts: [b.example.com, a.example.com], ports: [{number: 80, tls: {caCertificateRef: {name: ca}}}]}}`,
			[]string{"ConfigMap web/ca"},
		},
		{&v1alpha1.Mesh{}, `{apiVersion: mesh.causeway.dev/v1alpha1, kind: Mesh, metadata: {name: default}, spec: {}}`, nil},
		{&corev1.ConfigMap{}, `{apiVersion: v1, kind: ConfigMap, metadata: {name: ca, namespace: web}, data: {ca.crt: x, more: z}}`, nil},
	} {
		require.NoError(t, yaml.UnmarshalStrict([]byte(c.text), c.of), c.text)
		row := Object(c.of, "k")
		require.Equal(t, c.refs, nilIfEmpty(names(row.Refs)), c.text)
		if row.Kind == "ExternalService" {
			require.Equal(t, []string{"a.example.com", "b.example.com"}, row.Hosts)
		}
	}
}

func nilIfEmpty(s []string) []string {
	if len(s) == 0 {
		return nil
	}
	return s
}

// What the mesh does not read is no part of a row, so that a status, a label or
// an annotation that somebody writes changes nothing.
func TestRowsHoldWhatIsRead(t *testing.T) {
	meta := metav1.ObjectMeta{
		Namespace: "web", Name: "a", UID: "u", Generation: 3, CreationTimestamp: metav1.NewTime(time.Unix(1e9, 0)), ResourceVersion: "1",
	}
	noisy := meta
	noisy.ResourceVersion, noisy.Labels, noisy.Annotations, noisy.Finalizers = "2", map[string]string{"a": "b"}, map[string]string{"a": "b"}, []string{"a/b"}
	noisy.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl"}}
	for _, pair := range [][2]metav1.Object{
		{&gatewayv1.HTTPRoute{ObjectMeta: meta}, &gatewayv1.HTTPRoute{TypeMeta: metav1.TypeMeta{Kind: "HTTPRoute"}, ObjectMeta: noisy, Status: gatewayv1.HTTPRouteStatus{RouteStatus: gatewayv1.RouteStatus{Parents: []gatewayv1.RouteParentStatus{{}}}}}},
		{&gatewayv1.GRPCRoute{ObjectMeta: meta}, &gatewayv1.GRPCRoute{ObjectMeta: noisy}},
		{&gatewayv1.TCPRoute{ObjectMeta: meta}, &gatewayv1.TCPRoute{ObjectMeta: noisy}},
		{&gatewayv1.TLSRoute{ObjectMeta: meta}, &gatewayv1.TLSRoute{ObjectMeta: noisy}},
		{&gatewayv1.ReferenceGrant{ObjectMeta: meta}, &gatewayv1beta1.ReferenceGrant{ObjectMeta: noisy}},
		{&gatewayv1.BackendTLSPolicy{ObjectMeta: meta}, &gatewayv1.BackendTLSPolicy{ObjectMeta: noisy, Status: gatewayv1.PolicyStatus{Ancestors: []gatewayv1.PolicyAncestorStatus{{}}}}},
		{&v1alpha1.TrafficPolicy{ObjectMeta: meta}, &v1alpha1.TrafficPolicy{ObjectMeta: noisy, Status: v1alpha1.PolicyStatus{Conditions: []metav1.Condition{{}}}}},
		{&v1alpha1.ExternalService{ObjectMeta: meta}, &v1alpha1.ExternalService{ObjectMeta: noisy}},
		{&v1alpha1.Mesh{ObjectMeta: meta}, &v1alpha1.Mesh{ObjectMeta: noisy}},
		{&corev1.ConfigMap{ObjectMeta: meta, Data: map[string]string{"ca.crt": "x"}}, &corev1.ConfigMap{ObjectMeta: noisy, Data: map[string]string{"ca.crt": "x", "b": "y"}}},
	} {
		row := Object(pair[0], "k")
		require.NotEmpty(t, row.Kind)
		require.Equal(t, "web/a", row.Key.String())
		require.Equal(t, int64(3), row.Generation)
		require.Equal(t, time.Unix(1e9, 0), row.Created)
		require.Equal(t, row, Object(pair[1], "k"))
	}
	require.Nil(t, Object(&corev1.ConfigMap{Data: map[string]string{"tls.crt": "x"}}, "k"))
	require.Nil(t, Object(&corev1.Secret{}, "k"))
}

// The editor is who changed the spec or the data last, and nobody who wrote something else.
func TestEditor(t *testing.T) {
	at := func(second int64, manager, subresource, fields string) metav1.ManagedFieldsEntry {
		return metav1.ManagedFieldsEntry{
			Manager: manager, Subresource: subresource, Time: &metav1.Time{Time: time.Unix(second, 0)}, FieldsV1: metav1.NewFieldsV1(fields),
		}
	}
	o := &gatewayv1.HTTPRoute{ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "a", ManagedFields: []metav1.ManagedFieldsEntry{
		at(1, "kubectl-create", "", `{"f:spec":{"f:rules":{}}}`),
		at(3, "argocd-controller", "", `{"f:metadata":{"f:labels":{}},"f:spec":{"f:hostnames":{}}}`),
		at(2, "helm", "", `{"f:spec":{"f:parentRefs":{}}}`),
		at(4, "kubectl-label", "", `{"f:metadata":{"f:labels":{"f:a":{}}}}`),
		at(5, "causeway", "status", `{"f:status":{}}`),
		{Manager: "odd", FieldsV1: metav1.NewFieldsV1(`{"f:spec":{}}`)},
		{Manager: "odd", Time: &metav1.Time{Time: time.Unix(6, 0)}},
	}}}
	require.Equal(t, "argocd-controller", Object(o, "k").Editor)
	o.ManagedFields = nil
	require.Empty(t, Object(o, "k").Editor)
	ca := &corev1.ConfigMap{Data: map[string]string{"ca.crt": "x"}}
	ca.ManagedFields = []metav1.ManagedFieldsEntry{at(1, "cert-manager", "", `{"f:data":{"f:ca.crt":{}}}`)}
	require.Equal(t, "cert-manager", Object(ca, "k").Editor)
}

// Of a Secret the row has the chain and the key, as copies, and nothing else;
// one of another type is no row at all.
func TestSecretRow(t *testing.T) {
	in := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "web", Name: "tls", UID: "u", ResourceVersion: "7", Labels: map[string]string{"a": "b"},
			Annotations:   map[string]string{corev1.LastAppliedConfigAnnotation: `{"stringData":{"password":"key-bytes"}}`},
			ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubectl"}},
		},
		Type:       corev1.SecretTypeTLS,
		Data:       map[string][]byte{"tls.crt": []byte("chain"), "tls.key": []byte("key"), "ca.crt": []byte("ca"), "password": []byte("key-bytes")},
		StringData: map[string]string{"password": "key-bytes"},
	}
	row := Object(in, "k")
	require.Equal(t, &discovery.Object{
		Scope: "k", Kind: "Secret", Key: discovery.Key{Namespace: "web", Name: "tls"},
		Spec: &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "tls", UID: "u"}, Type: corev1.SecretTypeTLS,
			Data: map[string][]byte{"tls.crt": []byte("chain"), "tls.key": []byte("key")},
		},
	}, row)
	clear(in.Data["tls.key"])
	require.Equal(t, "key", string(row.Spec.(*corev1.Secret).Data["tls.key"]))
	for _, kind := range []corev1.SecretType{"", corev1.SecretTypeOpaque, corev1.SecretTypeDockerConfigJson, corev1.SecretTypeServiceAccountToken} {
		in.Type = kind
		require.Nil(t, Object(in, "k"))
	}
}

// Of a Gateway's metadata the row has what the mesh reads, so that nobody else's
// annotation or label is a change of it.
func TestGatewayRow(t *testing.T) {
	other := gatewayv1.Group("example.com")
	configMap, certs := gatewayv1.Kind("ConfigMap"), gatewayv1.Namespace("certs")
	in := &gatewayv1.Gateway{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "web", Name: "edge", Generation: 3, Labels: map[string]string{"a": "b"},
			Annotations: map[string]string{v1alpha1.AddressesAnnotation: "a.example.com", "b": "c"},
		},
		Spec: gatewayv1.GatewaySpec{GatewayClassName: "causeway", Listeners: []gatewayv1.Listener{
			{Name: "a", TLS: &gatewayv1.ListenerTLSConfig{CertificateRefs: []gatewayv1.SecretObjectReference{{Name: "b"}, {Name: "a", Namespace: &certs}}}},
			{Name: "b", TLS: &gatewayv1.ListenerTLSConfig{CertificateRefs: []gatewayv1.SecretObjectReference{{Name: "b"}, {Name: "c", Group: &other}, {Name: "d", Kind: &configMap}}}},
			{Name: "c"},
		}, TLS: &gatewayv1.GatewayTLSConfig{Frontend: &gatewayv1.FrontendTLSConfig{
			Default: gatewayv1.TLSConfig{Validation: &gatewayv1.FrontendTLSValidation{CACertificateRefs: []gatewayv1.ObjectReference{
				{Kind: "ConfigMap", Name: "ca"}, {Kind: "Service", Name: "ca"}, {Group: "certificates.k8s.io", Kind: "ConfigMap", Name: "other"},
			}}},
			PerPort: []gatewayv1.TLSPortConfig{{Port: 1}, {Port: 443, TLS: gatewayv1.TLSConfig{Validation: &gatewayv1.FrontendTLSValidation{
				CACertificateRefs: []gatewayv1.ObjectReference{{Kind: "ConfigMap", Name: "ca", Namespace: &certs}},
			}}}},
		}}},
		Status: gatewayv1.GatewayStatus{Conditions: []metav1.Condition{{Type: "Accepted"}}},
	}
	row := Object(in, "k")
	require.Equal(t, []string{"ConfigMap certs/ca", "ConfigMap web/ca", "GatewayClass causeway", "Secret certs/a", "Secret web/b"}, names(row.Refs), "what can hold no certificate is no Secret")
	gateway := row.Spec.(*gatewayv1.Gateway)
	require.Equal(t, map[string]string{v1alpha1.AddressesAnnotation: "a.example.com"}, gateway.Annotations)
	require.Empty(t, gateway.Labels)
	require.Empty(t, gateway.Status)
	delete(in.Annotations, v1alpha1.AddressesAnnotation)
	require.Nil(t, Object(in, "k").Spec.(*gatewayv1.Gateway).Annotations)

	policy := &v1alpha1.GatewayPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "a"}}
	policy.Spec.TargetRefs = []v1alpha1.GatewayTarget{{Name: "edge", SectionName: "a"}, {Name: "edge"}, {Group: gatewayv1.GroupName, Kind: "Gateway", Name: "b"}}
	require.Equal(t, []string{"Gateway web/b", "Gateway web/edge"}, names(Object(policy, "k").Refs))
}
