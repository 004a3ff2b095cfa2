package objects

import (
	"path"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"

	"github.com/causeway-mesh/causeway/discovery/convert"
	"github.com/causeway-mesh/causeway/manifests"
)

// The list of kinds says of each what its CRD says.
func TestKindsAreThoseOfTheCRDs(t *testing.T) {
	seen := make(map[string]bool)
	for _, dir := range []string{"crds", "gateway-api/experimental"} {
		files, err := manifests.CRDs.ReadDir(dir)
		require.NoError(t, err)
		for _, f := range files {
			text, err := manifests.CRDs.ReadFile(path.Join(dir, f.Name()))
			require.NoError(t, err)
			var crd apiextensionsv1.CustomResourceDefinition
			require.NoError(t, yaml.UnmarshalStrict(text, &crd))
			names := crd.Spec.Names
			kind, ok := Named(names.Kind)
			require.Truef(t, ok, "Kinds lacks %s of %s", names.Kind, f.Name())
			seen[kind.Name] = true
			require.Equal(t, names.Plural, kind.Resource, kind.Name)
			require.Equal(t, crd.Spec.Scope == apiextensionsv1.NamespaceScoped, kind.Namespaced, kind.Name)
			if len(names.ShortNames) == 0 {
				require.Empty(t, kind.Short, kind.Name)
			} else {
				require.Contains(t, names.ShortNames, kind.Short, kind.Name)
			}
			if kind.New == nil {
				continue // a row of another table
			}
			require.Equal(t, kind.Name, reflect.TypeOf(kind.New()).Elem().Name())
			row := convert.Object(kind.New(), "test")
			require.NotNil(t, row, kind.Name)
			require.Equal(t, kind.Name, row.Kind)
			require.IsType(t, kind.New(), row.Spec)
		}
	}
	for _, k := range Kinds() {
		require.Truef(t, seen[k.Name] || k.schema == nil, "there is no CRD of %s", k.Name)
	}
}
