package kubernetes

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
)

// A home that this version does not know is not known: it is neither pods nor instances.
func TestHomesOfOtherVersions(t *testing.T) {
	t.Parallel()
	homes := make(map[string]*discovery.Home)
	for _, h := range homesOf(&corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "causeway", Name: "causeway-homes-1"},
		Data:       map[string]string{"web": `{"a":{"home":"pods"},"b":{"home":"instances"},"c":{"home":"pods.other-cluster"},"d":{}}`},
	}) {
		homes[h.Name] = h
	}
	require.Len(t, homes, 4)
	require.Equal(t, discovery.Pods, homes["a"].Platform)
	require.Equal(t, discovery.Instances, homes["b"].Platform)
	require.Empty(t, homes["a"].Unknown)
	require.Empty(t, homes["b"].Unknown)
	for _, name := range []string{"c", "d"} {
		require.Empty(t, homes[name].Platform)
		require.NotEmpty(t, homes[name].Unknown)
	}
	require.Contains(t, homes["c"].Unknown, `ConfigMap causeway/causeway-homes-1: "pods.other-cluster" is no backing of this version`)
}
