package runner

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

func TestMetrics(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	m := newMetrics(registry)
	web, other := discovery.Key{Namespace: "web", Name: "php-web"}, discovery.Key{Namespace: "web", Name: "other"}
	status := &v1alpha1.TrafficShiftStatus{
		Phase: v1alpha1.ShiftShifting, Percent: "0.1", Step: 1,
		Analysis: &v1alpha1.ShiftAnalysis{
			Verdict: "Pass",
			Pods:    &v1alpha1.ShiftFigures{Requests: 1200, SuccessRate: "99.95", P50: "8.4ms", P99: "850µs"},
		},
		Budget: &v1alpha1.ShiftBudget{Objective: "99.9", Remaining: "-12.5", BurnRate: "1.5"},
	}
	m.set(web, status)
	m.set(other, &v1alpha1.TrafficShiftStatus{Phase: v1alpha1.ShiftPending, Step: -1})
	require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP causeway_shift_share Part of the traffic that the target of a shift has, 0 to 1.
# TYPE causeway_shift_share gauge
causeway_shift_share{name="other",namespace="web"} 0
causeway_shift_share{name="php-web",namespace="web"} 0.001
# HELP causeway_shift_step Position of the step that is under way, from 0; -1 before the first and after a rollback.
# TYPE causeway_shift_step gauge
causeway_shift_step{name="other",namespace="web"} -1
causeway_shift_step{name="php-web",namespace="web"} 1
# HELP causeway_shift_verdict 1 for what the guard says (Pass, Hold, Fail).
# TYPE causeway_shift_verdict gauge
causeway_shift_verdict{name="other",namespace="web",verdict="Fail"} 0
causeway_shift_verdict{name="other",namespace="web",verdict="Hold"} 0
causeway_shift_verdict{name="other",namespace="web",verdict="Pass"} 0
causeway_shift_verdict{name="php-web",namespace="web",verdict="Fail"} 0
causeway_shift_verdict{name="php-web",namespace="web",verdict="Hold"} 0
causeway_shift_verdict{name="php-web",namespace="web",verdict="Pass"} 1
# HELP causeway_shift_burn_rate How many times faster than the objective allows failures come.
# TYPE causeway_shift_burn_rate gauge
causeway_shift_burn_rate{name="php-web",namespace="web"} 1.5
# HELP causeway_shift_budget_remaining_ratio Part of the error budget that is left, 1 at most; below 0 it is overdrawn.
# TYPE causeway_shift_budget_remaining_ratio gauge
causeway_shift_budget_remaining_ratio{name="php-web",namespace="web"} -0.125
# HELP causeway_shift_latency_seconds Latency over the guard's window, by platform and quantile (0.5, 0.99).
# TYPE causeway_shift_latency_seconds gauge
causeway_shift_latency_seconds{name="php-web",namespace="web",platform="pods",quantile="0.5"} 0.0084
causeway_shift_latency_seconds{name="php-web",namespace="web",platform="pods",quantile="0.99"} 0.00085
# HELP causeway_shift_success_ratio Part of the requests that succeeded over the guard's window, by platform (pods, instances).
# TYPE causeway_shift_success_ratio gauge
causeway_shift_success_ratio{name="php-web",namespace="web",platform="pods"} 0.9995
`), "causeway_shift_share", "causeway_shift_step", "causeway_shift_verdict", "causeway_shift_burn_rate",
		"causeway_shift_budget_remaining_ratio", "causeway_shift_latency_seconds", "causeway_shift_success_ratio"))
	phase := func(p v1alpha1.ShiftPhase) float64 {
		return testutil.ToFloat64(m.phase.WithLabelValues("web", "php-web", string(p)))
	}
	require.InDelta(t, 1, phase(v1alpha1.ShiftShifting), 0)
	require.InDelta(t, 0, phase(v1alpha1.ShiftRolledBack), 0)

	// What a status no longer says has no series.
	m.set(web, &v1alpha1.TrafficShiftStatus{Phase: v1alpha1.ShiftRolledBack, Percent: "0", Step: -1})
	require.InDelta(t, 0, phase(v1alpha1.ShiftShifting), 0)
	require.InDelta(t, 1, phase(v1alpha1.ShiftRolledBack), 0)
	require.Zero(t, testutil.CollectAndCount(m.latency))
	require.Zero(t, testutil.CollectAndCount(m.budget))

	m.happened(web, v1alpha1.EventRollBack)
	require.InDelta(t, 1, testutil.ToFloat64(m.events.WithLabelValues("web", "php-web", "RollBack")), 0)
	require.Equal(t, len(events()), testutil.CollectAndCount(m.events))

	for _, c := range []struct{ requests, failed uint64 }{{100, 1}, {150, 1}, {20, 2} /* the book began anew */, {30, 2}} {
		m.spent(web, c.requests, c.failed)
	}
	require.InDelta(t, 180, testutil.ToFloat64(m.requests.WithLabelValues("web", "php-web")), 0)
	require.InDelta(t, 3, testutil.ToFloat64(m.failures.WithLabelValues("web", "php-web")), 0)

	m.forget(web)
	m.forget(other)
	require.Empty(t, m.counted)
	families, err := registry.Gather()
	require.NoError(t, err)
	require.Empty(t, families, "nothing stays of shifts that are gone")
}
