package objects

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/convert"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

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
	row := convert.Object(in, "k")
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
		require.Nil(t, convert.Object(in, "k"))
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
		}},
		Status: gatewayv1.GatewayStatus{Conditions: []metav1.Condition{{Type: "Accepted"}}},
	}
	row := convert.Object(in, "k")
	require.Equal(t, []string{"GatewayClass causeway", "Secret certs/a", "Secret web/b"}, names(row.Refs), "what can hold no certificate is no Secret")
	gateway := row.Spec.(*gatewayv1.Gateway)
	require.Equal(t, map[string]string{v1alpha1.AddressesAnnotation: "a.example.com"}, gateway.Annotations)
	require.Empty(t, gateway.Labels)
	require.Empty(t, gateway.Status)
	delete(in.Annotations, v1alpha1.AddressesAnnotation)
	require.Nil(t, convert.Object(in, "k").Spec.(*gatewayv1.Gateway).Annotations)

	policy := &v1alpha1.GatewayPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "a"}}
	policy.Spec.TargetRefs = []v1alpha1.GatewayTarget{{Name: "edge", SectionName: "a"}, {Name: "edge"}, {Group: gatewayv1.GroupName, Kind: "Gateway", Name: "b"}}
	require.Equal(t, []string{"Gateway web/b", "Gateway web/edge"}, names(convert.Object(policy, "k").Refs))
}

// A Gateway says which of its fields the standard channel has dropped.
func TestPrunedGatewayFields(t *testing.T) {
	client := startAPIServer(t, "standard").client
	const text = `{"apiVersion":"gateway.networking.k8s.io/v1","kind":"Gateway","metadata":{"name":"a","namespace":"web"},"spec":{
		"gatewayClassName":"causeway","defaultScope":"All","listeners":[{"name":"http","port":80,"protocol":"HTTP"}]}}`
	var u unstructured.Unstructured
	require.NoError(t, json.Unmarshal([]byte(text), &u.Object))
	u.SetAnnotations(map[string]string{corev1.LastAppliedConfigAnnotation: text})
	all := client.Resource(schema.GroupVersionResource{Group: gatewayv1.GroupName, Version: "v1", Resource: "gateways"}).Namespace("web")
	stored, err := all.Create(t.Context(), &u, metav1.CreateOptions{FieldValidation: metav1.FieldValidationIgnore, FieldManager: "kubectl-client-side-apply"})
	require.NoError(t, err)
	require.Equal(t, []string{"spec.defaultScope"}, convert.Object(typed(t, stored), "k").Pruned)
}
