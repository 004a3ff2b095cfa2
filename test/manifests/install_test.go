package manifests_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	rbacv1 "k8s.io/api/rbac/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/file"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/resolve"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// What is there to be installed is installed: by the kustomization, or by the
// command that its first lines and the documentation give.
func TestKustomization(t *testing.T) {
	t.Parallel()
	text := read(t, "manifests", "kustomization.yaml")
	var k struct{ Resources []string }
	require.NoError(t, yaml.Unmarshal([]byte(text), &k))
	var apart []string
	for _, dir := range []string{"crds", "install"} {
		files, err := filepath.Glob(filepath.Join(root(t), "manifests", dir, "*.yaml"))
		require.NoError(t, err)
		require.NotEmpty(t, files)
		for _, path := range files {
			name := dir + "/" + filepath.Base(path)
			if !slices.Contains(k.Resources, name) {
				apart = append(apart, name)
			}
		}
	}
	require.Equal(t, []string{"install/edge.yaml", "install/gatewayclass.yaml", "install/sidecar.yaml"}, apart, "examples, and what needs the Gateway API's CRDs")
	for _, name := range k.Resources {
		require.FileExists(t, filepath.Join(root(t), "manifests", name))
	}
	const command = "kubectl apply --server-side -f manifests/install/gatewayclass.yaml"
	require.Contains(t, text, command)
	require.Contains(t, read(t, "docs", "kubernetes.md"), command)
	require.Contains(t, read(t, "manifests", "install", "gatewayclass.yaml"), command)
}

// The class that comes with the program is the one that it takes for its own.
func TestGatewayClass(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "class.yaml"), []byte(read(t, "manifests", "install", "gatewayclass.yaml")), 0o600))
	cat := catalog.New()
	loaded, err := file.Load(dir, cat)
	require.NoError(t, err)
	require.Empty(t, loaded.Problems)
	row, ok := catalog.Objects.Get(cat.Read(), "GatewayClass "+v1alpha1.GatewayClassName)
	require.True(t, ok)
	require.EqualValues(t, v1alpha1.ControllerName, row.Spec.(*gatewayv1.GatewayClass).Spec.ControllerName)
	for _, f := range resolve.Validate(cat.Read()) {
		require.NotEqual(t, policy.Error, f.Severity, "%s", f)
	}
}

// Nothing that is installed lets the control plane read Secrets in the whole
// cluster, and the bindings that the documentation shows are of what exists.
func TestSecretsAreBoundByNamespace(t *testing.T) {
	t.Parallel()
	roles := make(map[string][]rbacv1.PolicyRule)
	files, err := filepath.Glob(filepath.Join(root(t), "manifests", "install", "*.yaml"))
	require.NoError(t, err)
	for _, path := range files {
		text := read(t, "manifests", "install", filepath.Base(path))
		for document := range strings.SplitSeq(text, "\n---\n") {
			var o struct {
				Kind     string
				Metadata struct{ Name string }
				Rules    []rbacv1.PolicyRule
				RoleRef  rbacv1.RoleRef
			}
			require.NoError(t, yaml.Unmarshal([]byte(document), &o), path)
			switch o.Kind {
			case "ClusterRole":
				roles[o.Metadata.Name] = o.Rules
			case "ClusterRoleBinding", "RoleBinding":
				require.NotEqual(t, "causeway-gateway-secrets", o.RoleRef.Name, path)
			}
		}
	}
	require.Contains(t, roles, "causeway-gateway-secrets")

	doc := read(t, "docs", "kubernetes.md")
	bound := 0
	for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(doc, -1) {
		var binding rbacv1.RoleBinding
		var role rbacv1.Role
		require.NoError(t, yaml.Unmarshal([]byte(block[1]), &binding))
		require.NoError(t, yaml.Unmarshal([]byte(block[1]), &role))
		switch {
		case binding.Kind == "RoleBinding":
			bound++
			require.Contains(t, roles, binding.RoleRef.Name)
			require.Equal(t, []rbacv1.Subject{{Kind: "ServiceAccount", Name: "causeway", Namespace: "causeway-system"}}, binding.Subjects)
		case role.Kind == "Role":
			bound++
			require.Len(t, role.Rules, 1)
			require.Equal(t, roles["causeway-gateway-secrets"][0].Verbs, role.Rules[0].Verbs)
			require.NotEmpty(t, role.Rules[0].ResourceNames)
		}
	}
	require.Equal(t, 2, bound)
}
