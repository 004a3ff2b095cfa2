package kubernetes

import (
	"path/filepath"
	"testing"

	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/kubetest"
)

// The API servers that the tests share, without and with the Gateway API.
var (
	plain      = &kubetest.Pool{Prepare: func(t harness.TB, k *kubetest.Kube) { install(t, k) }}
	withRoutes = &kubetest.Pool{Prepare: func(t harness.TB, k *kubetest.Kube) {
		install(t, k, filepath.Join("gateway-api", "experimental"))
	}}
)

func TestMain(m *testing.M) { kubetest.Main(m, plain, withRoutes) }

// install applies what the manifests install, and more folders of CRDs.
func install(t harness.TB, k *kubetest.Kube, more ...string) {
	t.Helper()
	root, err := harness.Root()
	if err != nil {
		t.Fatalf("%v", err)
	}
	for _, crds := range append([]string{"crds"}, more...) {
		k.ApplyCRDs(t, filepath.Join(root, "manifests", crds))
	}
	k.Namespace(t, "web")
	for _, file := range []string{"namespace.yaml", "rbac.yaml", "guard-deletion.yaml"} {
		k.Apply(t, filepath.Join(root, "manifests", "install", file))
	}
}
