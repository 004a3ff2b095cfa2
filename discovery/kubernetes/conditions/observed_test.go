package conditions

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/objects"
)

// The row of every kind is of the scope of the source that reads the kind: that one replaces it.
func TestObserved(t *testing.T) {
	for _, k := range objects.Kinds() {
		if k.New == nil {
			continue
		}
		o := k.New()
		o.SetNamespace("web")
		o.SetName("a")
		o.SetUID("u")
		o.SetResourceVersion("7")
		row := Observed(k, o)
		require.Equal(t, k.Source()+"|web/a", row.ID(), k.Name)
		require.Equal(t, discovery.ObjectName{Kind: k.Name, Key: discovery.Key{Namespace: "web", Name: "a"}}, row.Name)
		require.Equal(t, "u 7", row.UID+" "+row.Version)
		if source := discovery.KubernetesSource(k.Name); source != "" {
			require.Equal(t, source, row.Scope)
		}
	}
}
