package harness_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/test/harness"
)

func TestBalancerFollowsHealth(t *testing.T) {
	t.Parallel()
	a, b := goWorkload(t, "a"), goWorkload(t, "b")
	var targets []harness.BalancerTarget
	for _, w := range []*harness.Workload{a, b} {
		targets = append(targets, harness.BalancerTarget{Name: w.ID(), Address: w.Address(), Health: "http://" + w.Address() + "/healthz"})
	}
	balancer := harness.StartBalancer(t, harness.BalancerOptions{Interval: 20 * time.Millisecond}, targets...)
	healthy := func(name string, want bool) {
		t.Helper()
		harness.Eventually(t, 10*time.Second, fmt.Sprintf("%s is healthy: %t", name, want), func() error {
			if balancer.Healthy(name) != want {
				return fmt.Errorf("it is %t", !want)
			}
			return nil
		})
	}
	ask := func() map[string]int64 {
		r := harness.StartLoad(t, harness.LoadOptions{URL: "http://" + balancer.Address(), Limit: 20, NewConnections: true}).Wait()
		r.RequireNoFailures(t)
		return r.IDs()
	}
	healthy("a", true)
	healthy("b", true)
	require.Equal(t, map[string]int64{"a": 10, "b": 10}, ask())

	// One that is unhealthy keeps the connections that it has.
	l := harness.StartLoad(t, harness.LoadOptions{URL: "http://" + balancer.Address(), Workers: 2, Rate: 100})
	l.WaitAnswers(t, 20, 10*time.Second)
	a.SetHealthy(t, false)
	healthy("a", false)
	before := l.Report()
	l.WaitAnswers(t, 20, 10*time.Second)
	require.Positive(t, l.Stop().Since(before).IDs()["a"])
	require.Equal(t, map[string]int64{"b": 20}, ask())

	b.SetHealthy(t, false)
	healthy("b", false)
	_, err := http.Get("http://" + balancer.Address()) //nolint:noctx,bodyclose // it is reset at once
	require.Error(t, err)
}
