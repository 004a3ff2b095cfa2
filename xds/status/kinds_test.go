package status

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/objects"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// What makes configuration of its own is followed until proxies acknowledge it. Whoever adds a kind with no
// conditions says here which it is.
func TestKindsThatAreNeverProgrammed(t *testing.T) {
	t.Parallel()
	for _, k := range objects.Kinds() {
		programmed := slices.Contains(discovery.RouteKinds(), k.Name)
		if k.New != nil {
			switch k.New().(type) {
			case v1alpha1.Conditioned, *v1alpha1.InstanceGroup, *gatewayv1.Gateway, *gatewayv1.BackendTLSPolicy:
				programmed = true
			}
		}
		require.NotEqual(t, programmed, slices.Contains(neverProgrammed, k.Name), k.Name)
	}
}
