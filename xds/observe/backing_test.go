package observe

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/outcome"
	"github.com/causeway-mesh/causeway/xds/observe/observev1"
)

// Replicas of adjacent versions understand each other: pods and instances are told as ever, and what has no number by its name.
func TestBackings(t *testing.T) {
	t.Parallel()
	for name, want := range map[discovery.BackingName]*observev1.Backing{
		discovery.Pods:       {Namespace: "web", Service: "php", Port: 80, Platform: observev1.Platform_PLATFORM_PODS},
		discovery.Instances:  {Namespace: "web", Service: "php", Port: 80, Platform: observev1.Platform_PLATFORM_INSTANCES},
		"pods.other-cluster": {Namespace: "web", Service: "php", Port: 80, Name: "pods.other-cluster"},
	} {
		key := outcome.Key{Service: discovery.Key{Namespace: "web", Name: "php"}, Port: 80, Platform: name}
		to := backingTo(key)
		require.Equal(t, want.String(), to.String())
		from, ok := backingFrom(to)
		require.True(t, ok)
		require.Equal(t, key, from)
	}
	for _, name := range []string{"", "Pods", "a/b", "a+b"} {
		_, ok := backingFrom(&observev1.Backing{Namespace: "web", Service: "php", Port: 80, Name: name})
		require.False(t, ok, name)
	}
}
