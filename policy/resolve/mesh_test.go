package resolve_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/resolve"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Who uses http_proxy has asked for the mesh and reaches what it knows. Who is captured has not, and
// reaches all that he did, unless the Mesh says RegistryOnly.
func TestEgress(t *testing.T) {
	for mode, want := range map[string][2]bool{
		"none": {false, true}, "": {false, true}, "AllowAny": {true, true}, "RegistryOnly": {false, false},
	} {
		c := catalog.New()
		_, err := c.Write(time.Now(), func(tx *catalog.Tx) error {
			if mode != "none" {
				catalog.Objects.Put(tx, &discovery.Object{
					Scope: "test", Kind: discovery.KindMesh, Key: discovery.Key{Name: v1alpha1.MeshName},
					Spec: &v1alpha1.Mesh{Spec: v1alpha1.MeshSpec{Egress: v1alpha1.Egress{Mode: v1alpha1.EgressMode(mode)}}},
				})
			}
			return nil
		})
		require.NoError(t, err)
		m := resolve.BuildMesh(c.Read())
		require.Equal(t, want, [2]bool{m.AllowAny, m.CapturedAny}, "%q", mode)
	}
}
