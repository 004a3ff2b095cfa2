package effective

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/objects"
)

// A TrafficPolicy's targets have the groups of the list of kinds. Whoever adds a kind says here whether it can be one.
func TestTargetGroups(t *testing.T) {
	t.Parallel()
	noTarget := map[string]bool{
		discovery.KindBackendTLSPolicy: true, discovery.KindConfigMap: true, discovery.KindEndpointSlice: true, discovery.KindGatewayClass: true,
		discovery.KindGatewayParameters: true, discovery.KindGatewayPolicy: true, discovery.KindMesh: true, discovery.KindNamespace: true, discovery.KindReferenceGrant: true,
		discovery.KindSecret: true, discovery.KindTCPRoute: true, discovery.KindTLSRoute: true, discovery.KindTrafficPolicy: true,
		discovery.KindTrafficShift: true,
	}
	for _, k := range objects.Kinds() {
		group, target := TargetGroups[k.Name]
		require.NotEqual(t, target, noTarget[k.Name], k.Name)
		if target {
			require.Equal(t, k.Group(), group, k.Name)
		}
	}
}
