package objects

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/convert"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness/kubetest"
)

// offline returns what files make of an object: its kind, its row if it is
// right, and its mistakes.
func offline(t *testing.T, text string) (Kind, *discovery.Object, []string) {
	t.Helper()
	data, err := yaml.YAMLToJSON([]byte(text))
	require.NoError(t, err)
	var meta metav1.TypeMeta
	require.NoError(t, json.Unmarshal(data, &meta))
	i := slices.IndexFunc(Kinds(), func(k Kind) bool { return k.Has(meta.APIVersion, meta.Kind) })
	require.GreaterOrEqual(t, i, 0, text)
	kind := Kinds()[i]
	var rows Rows
	var mistakes []string
	for _, e := range kind.Decode(data, "file", &rows) {
		mistakes = append(mistakes, e.Error())
	}
	if len(mistakes) > 0 {
		require.Equal(t, Rows{}, rows)
		return kind, nil, mistakes
	}
	require.Len(t, rows.Objects, 1)
	return kind, rows.Objects[0], nil
}

// Every mistake has its field, its message and its remedy.
func TestSpecCases(t *testing.T) {
	for _, v := range specCases() {
		t.Run(v.name, func(t *testing.T) {
			_, row, mistakes := offline(t, v.text)
			if v.mistake == "" {
				require.Empty(t, mistakes, "%s", v)
				require.NotNil(t, row)
				return
			}
			require.True(t, slices.ContainsFunc(mistakes, func(m string) bool { return strings.Contains(m, v.mistake) }),
				"%s\nwant: %s\nhave: %s", v, v.mistake, strings.Join(mistakes, "\n      "))
		})
	}
}

// resource returns the client of a kind's objects in a namespace.
func resource(t *testing.T, client dynamic.Interface, k Kind, apiVersion, namespace string) dynamic.ResourceInterface {
	t.Helper()
	gv, err := schema.ParseGroupVersion(apiVersion)
	require.NoError(t, err)
	all := client.Resource(gv.WithResource(k.Resource))
	if k.Namespaced {
		return all.Namespace(namespace)
	}
	return all
}

// typed returns an object of the API server as the Kubernetes source gets it.
func typed(t *testing.T, u *unstructured.Unstructured) metav1.Object {
	t.Helper()
	into := map[string]metav1.Object{
		"HTTPRoute": &gatewayv1.HTTPRoute{}, "GRPCRoute": &gatewayv1.GRPCRoute{}, "TCPRoute": &gatewayv1.TCPRoute{},
		"TLSRoute": &gatewayv1.TLSRoute{}, "ReferenceGrant": &gatewayv1.ReferenceGrant{}, "BackendTLSPolicy": &gatewayv1.BackendTLSPolicy{},
		"GatewayClass": &gatewayv1.GatewayClass{}, "Gateway": &gatewayv1.Gateway{}, "Secret": &corev1.Secret{}, "Namespace": &corev1.Namespace{}, "GatewayPolicy": &v1alpha1.GatewayPolicy{},
		"TrafficShift": &v1alpha1.TrafficShift{}, "TrafficPolicy": &v1alpha1.TrafficPolicy{}, "ExternalService": &v1alpha1.ExternalService{}, "Mesh": &v1alpha1.Mesh{},
	}[u.GetKind()]
	require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, into))
	return into
}

// realServer is a real API server with our CRDs and a channel of the Gateway API.
type realServer struct{ client dynamic.Interface }

func apiServer(t *testing.T, channel *kubetest.Pool) *realServer {
	t.Helper()
	client, err := dynamic.NewForConfig(channel.Take(t).Config())
	require.NoError(t, err)
	return &realServer{client}
}

// compare asserts that an object is accepted or refused alike in a file and at the
// API server, and means the same if it is right, which it returns.
func (s *realServer) compare(t *testing.T, v specCase) bool {
	t.Helper()
	kind, row, mistakes := offline(t, v.text)
	var u unstructured.Unstructured
	require.NoError(t, yaml.Unmarshal([]byte(v.text), &u.Object))
	stored, err := resource(t, s.client, kind, u.GetAPIVersion(), "web").Create(t.Context(), &u, metav1.CreateOptions{
		DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict,
	})
	if err != nil {
		require.True(t, apierrors.IsInvalid(err) || apierrors.IsBadRequest(err), "%s\n%v", v, err)
	}
	require.Equal(t, err == nil, len(mistakes) == 0, "%s\nthe API server: %v\nfiles: %v", v, err, mistakes)
	if err != nil {
		return false
	}
	fromServer := convert.Object(typed(t, stored), "file")
	fromServer.Created, fromServer.Generation, fromServer.Editor = row.Created, row.Generation, row.Editor // of which a file has none
	require.Equal(t, spec(t, fromServer.Spec), spec(t, row.Spec), "%s", v)
	fromServer.Spec, row.Spec = nil, nil
	require.Equal(t, fromServer, row, "%s", v)
	return true
}

// Whatever a real API server takes or refuses, files take or refuse, and mean
// the same then.
func TestFilesAndTheAPIServerAgree(t *testing.T) {
	server := apiServer(t, experimental)
	accepted := 0
	for _, v := range specCases() {
		if server.compare(t, v) {
			accepted++
		}
	}
	require.Greater(t, accepted, 40)
	require.Greater(t, len(specCases())-accepted, 80)
}

// spec returns what of an object's row is compared: everything but what an API
// server alone knows.
func spec(t *testing.T, o any) any {
	t.Helper()
	u, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	require.NoError(t, err)
	for _, field := range []string{"uid", "generation", "creationTimestamp"} {
		unstructured.RemoveNestedField(u, "metadata", field)
	}
	return u
}

// An API server with the standard channel drops experimental fields of an
// object that is applied without validation, and the row says which.
func TestPrunedFields(t *testing.T) {
	client := apiServer(t, standard).client
	const text = `{"apiVersion":"gateway.networking.k8s.io/v1","kind":"HTTPRoute","metadata":{"name":"a","namespace":"web"},"spec":{
		"parentRefs":[{"group":"","kind":"Service","name":"a"}],"hostnames":[],
		"rules":[{"backendRefs":[{"name":"a","port":80}]},{"backendRefs":[{"name":"a","port":80}],"sessionPersistence":{"cookie":{"name":"s"}}}]}}`
	var u unstructured.Unstructured
	require.NoError(t, json.Unmarshal([]byte(text), &u.Object))
	u.SetAnnotations(map[string]string{corev1.LastAppliedConfigAnnotation: text})
	all := client.Resource(schema.GroupVersionResource{Group: gatewayv1.GroupName, Version: "v1", Resource: "httproutes"}).Namespace("web")
	_, err := all.Create(t.Context(), &u, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict})
	require.ErrorContains(t, err, `unknown field "spec.rules[1].sessionPersistence"`, "what kubectl apply is told")
	stored, err := all.Create(t.Context(), &u, metav1.CreateOptions{FieldValidation: metav1.FieldValidationIgnore, FieldManager: "kubectl-client-side-apply"})
	require.NoError(t, err)
	require.Equal(t, []string{"spec.rules[1].sessionPersistence"}, convert.Object(typed(t, stored), "k").Pruned)
	require.Equal(t, "kubectl-client-side-apply", convert.Object(typed(t, stored), "k").Editor)

	// Status is no edit of what was applied.
	withStatus := stored.DeepCopy()
	require.NoError(t, unstructured.SetNestedSlice(withStatus.Object, []any{}, "status", "parents"))
	stored, err = all.UpdateStatus(t.Context(), withStatus, metav1.UpdateOptions{FieldManager: "causeway"})
	require.NoError(t, err)
	require.NotEmpty(t, convert.Object(typed(t, stored), "k").Pruned)

	// Nobody else's edit may be taken for the API server's doing.
	entries := stored.GetManagedFields()
	later := metav1.NewTime(entries[0].Time.Add(1e9))
	stored.SetManagedFields(append(entries, metav1.ManagedFieldsEntry{Manager: "kubectl-edit", Operation: metav1.ManagedFieldsOperationUpdate, Time: &later}))
	require.Empty(t, convert.Object(typed(t, stored), "k").Pruned)
	stored.SetManagedFields(nil)
	require.Empty(t, convert.Object(typed(t, stored), "k").Pruned)
}

// Files that were written for the version before mean the same as now.
func TestOlderVersionsHaveTheSameSchema(t *testing.T) {
	for _, k := range Kinds() {
		for _, also := range k.Also {
			text, err := os.ReadFile(fmt.Sprintf("../../manifests/gateway-api/experimental/gateway.networking.k8s.io_%s.yaml", k.Resource))
			require.NoError(t, err)
			var crd struct {
				Spec struct {
					Versions []struct {
						Name   string
						Served bool
						Schema struct {
							OpenAPIV3Schema map[string]any `json:"openAPIV3Schema"`
						}
					}
				}
			}
			require.NoError(t, yaml.Unmarshal(text, &crd))
			schemas := make(map[string]any)
			for _, v := range crd.Spec.Versions {
				if v.Served {
					undescribed(v.Schema.OpenAPIV3Schema)
					schemas[gatewayv1.GroupName+"/"+v.Name] = v.Schema.OpenAPIV3Schema
				}
			}
			require.NotNil(t, schemas[also])
			require.Equal(t, schemas[k.APIVersion], schemas[also])
		}
	}
}

// undescribed removes the descriptions of a schema.
func undescribed(v any) {
	switch v := v.(type) {
	case map[string]any:
		if _, ok := v["description"].(string); ok {
			delete(v, "description")
		}
		for _, child := range v {
			undescribed(child)
		}
	case []any:
		for _, child := range v {
			undescribed(child)
		}
	}
}
