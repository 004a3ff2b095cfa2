package kubernetes

import (
	"context"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/rest"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/cluster"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/status"
	"github.com/causeway-mesh/causeway/policy/resolve"
	"github.com/causeway-mesh/causeway/test/harness/kubetest"
	"github.com/causeway-mesh/causeway/test/harness/meshtest"
)

// The API servers that the tests share, with and without the Gateway API.
var (
	servers = meshtest.Servers(2)
	plain   = meshtest.ServersWithoutGatewayAPI(1)
)

func TestMain(m *testing.M) { kubetest.Main(m, servers, plain) }

// newReplica returns a replica with exactly the manifests' rights.
func newReplica(t *testing.T, kube *kubetest.Kube, config *rest.Config) *meshtest.Replica {
	t.Helper()
	return meshtest.NewReplica(t, kube, config, nil, func(c *cluster.Client) catalog.Source { return NewSource(c) })
}

// writeStatus writes the statuses of objects, as the leader does.
func writeStatus(t *testing.T, r *meshtest.Replica) {
	t.Helper()
	of := func(r catalog.Reader) func(*discovery.Object) (discovery.Status, bool) {
		return resolve.NewStatuses(r).StatusOf
	}
	w := status.NewWriter(r.Client, of, nil, nil, prometheus.NewRegistry())
	meshtest.Run(t, func(ctx context.Context) error { return w.Run(ctx, r.Catalog) })
}
