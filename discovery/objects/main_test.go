package objects

import (
	"path/filepath"
	"testing"

	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/kubetest"
)

// The servers have our CRDs and those of a channel of the Gateway API.
var experimental, standard = servers("experimental"), servers("standard")

func servers(channel string) *kubetest.Pool {
	return &kubetest.Pool{Prepare: func(t harness.TB, k *kubetest.Kube) {
		root, err := harness.Root()
		if err != nil {
			t.Fatalf("%v", err)
		}
		k.ApplyCRDs(t, filepath.Join(root, "manifests", "crds"))
		k.ApplyCRDs(t, filepath.Join(root, "manifests", "gateway-api", channel))
		k.Namespace(t, "web")
	}}
}

func TestMain(m *testing.M) { kubetest.Main(m, experimental, standard) }
