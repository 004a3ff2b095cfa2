package manifests_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/file"
	"github.com/causeway-mesh/causeway/policy/resolve"
)

// routing is the folder of the examples that share services.yaml.
const routing = "manifests/examples/routing"

// flawless asserts that a directory has neither a mistake nor a finding.
func flawless(t *testing.T, dir string) catalog.Reader {
	t.Helper()
	cat := catalog.New()
	loaded, err := file.Load(dir, cat)
	require.NoError(t, err)
	require.Empty(t, loaded.Problems)
	require.Empty(t, resolve.Validate(cat.Read()))
	return cat.Read()
}

// Each example is right on its own beside the Services, and all are together.
func TestRoutingExamples(t *testing.T) {
	dir := filepath.Join(root(t), routing)
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	require.NoError(t, err)
	require.Len(t, files, 22)
	services := read(t, routing, "services.yaml")
	for _, path := range files {
		name := filepath.Base(path)
		t.Run(strings.TrimSuffix(name, ".yaml"), func(t *testing.T) {
			t.Parallel()
			text := read(t, routing, name)
			require.True(t, strings.HasPrefix(text, "# "), "it says what it is for")
			require.Contains(t, read(t, "manifests", "examples", "README.md"), "](routing/"+name+")")
			alone := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(alone, "services.yaml"), []byte(services), 0o600))
			require.NoError(t, os.WriteFile(filepath.Join(alone, name), []byte(text), 0o600))
			flawless(t, alone)
		})
	}
	flawless(t, dir)
}

// A cluster with the CRDs takes every example.
func TestExamplesApply(t *testing.T) {
	kube := withRoutes.Take(t)
	kube.Apply(t, filepath.Join(root(t), "manifests", "install", "gatewayclass.yaml"))
	kube.Apply(t, filepath.Join(root(t), "manifests", "install", "edge.yaml"))
	examples, err := os.ReadDir(filepath.Join(root(t), "manifests", "examples"))
	require.NoError(t, err)
	for _, e := range examples {
		// The first steps answer on loopback, which the API refuses; TestUpgradeKeepsWhatIsTheUsers applies the installation.
		if e.IsDir() && e.Name() != "first-steps" && e.Name() != "install" {
			for _, o := range kube.Apply(t, filepath.Join(root(t), "manifests", "examples", e.Name())) {
				require.NotEmpty(t, o.GetUID())
			}
		}
	}
}

// kubectl apply -k installs every CRD of ours.
func TestEveryCRDIsInstalled(t *testing.T) {
	crds, err := filepath.Glob(filepath.Join(root(t), "manifests", "crds", "*.yaml"))
	require.NoError(t, err)
	require.Len(t, crds, 7)
	kustomization := read(t, "manifests", "kustomization.yaml")
	for _, crd := range crds {
		require.Equal(t, 1, strings.Count(kustomization, "- crds/"+filepath.Base(crd)+"\n"), "kustomize takes a resource once: %s", crd)
	}
}

// Every field of every kind says what it means.
func TestReferenceIsComplete(t *testing.T) {
	for line := range strings.Lines(read(t, "docs", "reference.md")) {
		if strings.HasPrefix(line, "| `") {
			require.NotContains(t, line, "|  |\n", "a field without a comment")
		}
	}
}
