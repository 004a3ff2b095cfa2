package kubetest_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/kubetest"
)

// tests is a package's tests, as testing.M has them.
type tests func() int

func (run tests) Run() int { return run() }

// A server that cannot be started fails the test that takes it, and no other: the pool goes on.
func TestTakeFailsItsTest(t *testing.T) {
	prepared, kept := 0, false
	pool := &kubetest.Pool{Prepare: func(t harness.TB, k *kubetest.Kube) {
		if prepared++; prepared == 1 {
			t.Fatalf("%s cannot be prepared", k.Host())
		}
	}}
	var first, second error
	var server *harness.Process
	code := kubetest.Run(tests(func() int {
		take := func() error {
			return harness.Run(t.Context(), "test", t.Logf, func(_ context.Context, t harness.TB) { server = pool.Take(t).Server() })
		}
		first, second = take(), take()
		kept = server.Running()
		return 7
	}), pool)
	require.ErrorContains(t, first, "cannot be prepared")
	require.NoError(t, second)
	require.Equal(t, 7, code)
	require.True(t, kept, "it is the pool's")
	require.False(t, server.Running())
}
