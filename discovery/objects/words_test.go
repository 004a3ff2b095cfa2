package objects

import (
	"encoding/json"
	"io/fs"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	"github.com/causeway-mesh/causeway/manifests"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// eachSchema calls f with every part of every schema that files are read by,
// and its path.
func eachSchema(t *testing.T, f func(path string, s *apiextensionsv1.JSONSchemaProps)) {
	t.Helper()
	var walk func(path string, s *apiextensionsv1.JSONSchemaProps)
	walk = func(path string, s *apiextensionsv1.JSONSchemaProps) {
		f(path, s)
		for name, p := range s.Properties {
			if name != "status" || strings.Contains(path, ".") {
				walk(path+"."+name, &p)
			}
		}
		if s.Items != nil && s.Items.Schema != nil {
			walk(path+"[]", s.Items.Schema)
		}
		if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
			walk(path+"{}", s.AdditionalProperties.Schema)
		}
	}
	err := fs.WalkDir(manifests.CRDs, ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || strings.Contains(path, "standard/") || !strings.HasSuffix(path, ".yaml") {
			return err
		}
		text, err := manifests.CRDs.ReadFile(path)
		require.NoError(t, err)
		var crd apiextensionsv1.CustomResourceDefinition
		require.NoError(t, yaml.Unmarshal(text, &crd))
		for _, v := range crd.Spec.Versions {
			if v.Name == "v1" || v.Name == v1alpha1.Version && crd.Spec.Group == v1alpha1.Group {
				walk(crd.Spec.Names.Kind, v.Schema.OpenAPIV3Schema)
			}
		}
		return nil
	})
	require.NoError(t, err)
}

// No regular expression is ever a remedy: each one of a schema has words.
func TestPatternsHaveWords(t *testing.T) {
	n := 0
	eachSchema(t, func(path string, s *apiextensionsv1.JSONSchemaProps) {
		if s.Pattern != "" {
			n++
			require.Contains(t, patterns, s.Pattern, "%s: say in words, with an example, what the pattern wants", path)
		}
	})
	require.Greater(t, n, 100)
}

// Every rule of a schema comes with what to do.
func TestRulesHaveRemedies(t *testing.T) {
	n := 0
	eachSchema(t, func(path string, s *apiextensionsv1.JSONSchemaProps) {
		for _, r := range s.XValidations {
			message := r.Message
			if strings.Contains(message, ": ") {
				continue
			}
			n++
			message, remedy := worded(message)
			require.NotEqual(t, "correct it", remedy, "%s: %s", path, message)
			require.NotContains(t, message+remedy, "^", path)
		}
	})
	require.Greater(t, n, 50)
}

func TestUnknownFields(t *testing.T) {
	for _, c := range []struct {
		of           any
		path, remedy string
	}{
		{corev1.Service{}, "spec.ports[0].prot", "did you mean port?"},
		{corev1.Service{}, "spec.port", "did you mean ports?"},
		{corev1.Service{}, "ports", "it belongs to spec: move it there"},
		{v1alpha1.TrafficShift{}, "spec.steps[0].percentage", "did you mean percent?"},
		{v1alpha1.TrafficShift{}, "spec.successRate", "it belongs to spec.guard: move it there"},
		{v1alpha1.TrafficShift{}, "spec.guard.latency.window", "it belongs to spec.guard: move it there"},
		{v1alpha1.TrafficPolicy{}, "spec.timeouts", "did you mean timeout?"},
		{gatewayv1.HTTPRoute{}, "spec.rules[1].matches[0].pathPrefix", "correct or remove it; the fields here are headers, method, path, queryParams"},
		{gatewayv1.HTTPRoute{}, "spec.backendRefs", "it belongs to spec.rules[]: move it there"},
		{v1alpha1.InstanceGroup{}, "spec.serviceRef.namespace", "correct or remove it; the fields here are name"},
	} {
		got := unknownFieldOf(c.path, reflect.TypeOf(c.of))
		require.Equal(t, c.remedy, got.Remedy, c.path)
		require.Equal(t, c.path, got.Field)
	}
}

// A host name in an address without a type is told as one, once.
func TestAddressesOfGateways(t *testing.T) {
	var rows Rows
	data, err := json.Marshal(map[string]any{
		"apiVersion": gatewayAPI, "kind": "Gateway", "metadata": map[string]any{"name": "g"},
		"spec": map[string]any{
			"gatewayClassName": "causeway", "addresses": []any{map[string]any{"value": "edge.example.com"}},
			"listeners": []any{map[string]any{"name": "http", "port": 80, "protocol": "HTTP"}},
		},
	})
	require.NoError(t, err)
	for _, k := range Kinds() {
		if k.Name == "Gateway" {
			require.Equal(t, []v1alpha1.FieldError{{
				Field: "spec.addresses[0].value", Message: `"edge.example.com" is not an IP address, which an address without a type is`,
				Remedy: "add type: Hostname if it is a host name, or write an address",
			}}, k.Decode(data, "test", &rows))
		}
	}
}
