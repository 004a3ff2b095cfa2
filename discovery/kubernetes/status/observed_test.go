package status

import (
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/conditions"
	"github.com/causeway-mesh/causeway/discovery/objects"
)

// What a writer was answered is noted of objects that are there alone.
func TestObserve(t *testing.T) {
	t.Parallel()
	cat := catalog.New()
	kind, _ := objects.Named(discovery.KindTrafficPolicy)
	w := &term{Writer: &Writer{}, cat: cat}
	decoded := func(version string) metav1.Object {
		o := kind.New()
		o.SetNamespace("web")
		o.SetName("a")
		o.SetUID("u")
		o.SetResourceVersion(version)
		return o
	}
	version := func() string {
		row, ok := catalog.ObservedStatuses.Get(cat.Read(), "kubernetes/trafficpolicies|web/a")
		if !ok {
			return ""
		}
		return row.Version
	}
	require.Equal(t, "9", w.observe(kind, decoded("9")).Version)
	require.Empty(t, version(), "it is gone, or the watch tells of it")
	_, err := cat.Write(metav1.Now().Time, func(tx *catalog.Tx) error {
		catalog.ObservedStatuses.Put(tx, conditions.Observed(kind, decoded("9")))
		return nil
	})
	require.NoError(t, err)
	w.observe(kind, decoded("10"))
	require.Equal(t, "10", version())
	w.observe(kind, decoded("9"))
	require.Equal(t, "10", version())
}
