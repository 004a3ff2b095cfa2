package diff

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/objects"
)

// requirePartition fails for a kind that is in neither list or in both: whoever adds a kind says what it is here.
func requirePartition(t *testing.T, some, others []string) {
	t.Helper()
	for _, k := range objects.Kinds() {
		require.NotEqual(t, slices.Contains(some, k.Name), slices.Contains(others, k.Name), k.Name)
	}
	require.Len(t, objects.Kinds(), len(some)+len(others))
}

// An edit of these acts later, or elsewhere than at proxies.
func TestKindsThatActOnProxies(t *testing.T) {
	t.Parallel()
	requirePartition(t, actsOnProxies, []string{
		discovery.KindConfigMap, discovery.KindGateway, discovery.KindGatewayClass, discovery.KindGatewayParameters, discovery.KindInstanceGroup, discovery.KindMesh,
		discovery.KindNamespace, discovery.KindSecret, discovery.KindTrafficShift,
	})
}

// A directory that lacks one of these says that it should be gone.
func TestKindsOfOthers(t *testing.T) {
	t.Parallel()
	requirePartition(t, ofOthers, append([]string{
		discovery.KindBackendTLSPolicy, discovery.KindExternalService, discovery.KindGateway, discovery.KindGatewayParameters, discovery.KindGatewayPolicy,
		discovery.KindInstanceGroup, discovery.KindMesh, discovery.KindReferenceGrant, discovery.KindTrafficPolicy, discovery.KindTrafficShift,
	}, discovery.RouteKinds()...))
}
