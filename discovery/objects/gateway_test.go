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

	"github.com/causeway-mesh/causeway/discovery/convert"
)

// A Gateway says which of its fields the standard channel has dropped.
func TestPrunedGatewayFields(t *testing.T) {
	client := apiServer(t, standard).client
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
