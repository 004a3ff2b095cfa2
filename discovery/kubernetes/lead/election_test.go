package lead

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/meshtest"
)

// One leads; when it goes another does, and at no time two.
func TestElection(t *testing.T) {
	t.Parallel()
	kube := servers.Take(t)
	var leading atomic.Int32
	start := func(name string) (e *Election, stop func()) {
		r := newReplica(t, kube, nil)
		e = NewElection(r.Client, name, prometheus.NewRegistry())
		stop = meshtest.Run(t, func(ctx context.Context) error {
			return e.Run(ctx, func(ctx context.Context) error {
				require.EqualValues(t, 1, leading.Add(1), "leaders")
				<-ctx.Done()
				leading.Add(-1)
				return ctx.Err()
			})
		})
		return e, stop
	}
	a, stopA := start("a")
	harness.Eventually(t, 20*time.Second, "a leads", func() error {
		if !a.Leading() {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	b, _ := start("b")
	stopA()
	harness.Eventually(t, 20*time.Second, "b leads", func() error {
		if !b.Leading() || b.Leader() != "b" {
			return fmt.Errorf("not yet")
		}
		return nil
	})
}
