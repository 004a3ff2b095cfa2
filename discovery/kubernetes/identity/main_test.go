package identity

import (
	"path/filepath"
	"testing"

	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/kubetest"
)

var pool = &kubetest.Pool{Prepare: func(t harness.TB, k *kubetest.Kube) {
	root, err := harness.Root()
	if err != nil {
		t.Fatalf("%v", err)
	}
	for _, file := range []string{"install/namespace.yaml", "install/rbac.yaml"} {
		k.Apply(t, filepath.Join(root, "manifests", file))
	}
}}

func TestMain(m *testing.M) { kubetest.Main(m, pool) }
