package edges

import (
	"testing"

	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/kubernetes"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/cluster"
	"github.com/causeway-mesh/causeway/test/harness/kubetest"
	"github.com/causeway-mesh/causeway/test/harness/meshtest"
)

// The API servers that the tests share.
var servers = meshtest.Servers(2)

func TestMain(m *testing.M) { kubetest.Main(m, servers) }

// newReplica returns a replica with exactly the manifests' rights.
func newReplica(t *testing.T, kube *kubetest.Kube) *meshtest.Replica {
	t.Helper()
	return meshtest.NewReplica(t, kube, nil, nil, func(c *cluster.Client) catalog.Source { return kubernetes.NewSource(c) })
}
