package manifests_test

import (
	"path/filepath"
	"testing"

	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/kubetest"
)

// withRoutes are API servers with our CRDs and those of the Gateway API, and
// withShifts those that have what is installed about TrafficShifts.
var (
	withRoutes = &kubetest.Pool{Prepare: func(t harness.TB, k *kubetest.Kube) {
		k.ApplyCRDs(t, manifest(t, "crds"))
		k.ApplyCRDs(t, manifest(t, "gateway-api", "standard"))
		for _, namespace := range []string{"web", "shop", "pay", "data", "batch"} {
			k.Namespace(t, namespace)
		}
	}}
	withShifts = &kubetest.Pool{Prepare: func(t harness.TB, k *kubetest.Kube) {
		k.ApplyCRDs(t, manifest(t, "crds"))
		k.Namespace(t, "causeway-system")
		k.Namespace(t, "web")
		k.Apply(t, manifest(t, "install", "rbac.yaml"))
		k.Apply(t, manifest(t, "install", "shift-commands.yaml"))
	}}
)

func manifest(t harness.TB, path ...string) string {
	t.Helper()
	root, err := harness.Root()
	if err != nil {
		t.Fatalf("%v", err)
	}
	return filepath.Join(append([]string{root, "manifests"}, path...)...)
}

func TestMain(m *testing.M) { kubetest.Main(m, withRoutes, withShifts) }
