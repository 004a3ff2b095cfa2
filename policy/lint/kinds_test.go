package lint

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/objects"
)

// The groups of kinds are those of the list of kinds. Whoever adds a kind says here whether others refer to it.
func TestGroupsOfKinds(t *testing.T) {
	t.Parallel()
	unnamed := []string{
		discovery.KindEndpointSlice, discovery.KindGatewayClass, discovery.KindGatewayPolicy, discovery.KindMesh,
		discovery.KindReferenceGrant, discovery.KindTrafficShift,
	}
	for _, k := range objects.Kinds() {
		group, named := groups[k.Name]
		require.NotEqual(t, named, slices.Contains(unnamed, k.Name), k.Name)
		if named {
			require.Equal(t, k.Group(), group, k.Name)
		}
	}
}

// A grant may list every kind of route.
func TestKindsThatRefer(t *testing.T) {
	t.Parallel()
	require.ElementsMatch(t, append([]string{discovery.KindGateway}, discovery.RouteKinds()...), referring)
}
