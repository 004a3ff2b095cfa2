package shift

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/outcome"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

func TestFigures(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		failed, n uint64
		want      string
	}{
		{0, 100, "100"},
		{0, 0, "100"},
		{1, 1, "0"},
		{1, 2, "50"},
		{1, 100, "99"},
		{28, 1000, "97.2"},
		{34, 1204, "97.1"},
		{12, 10_000, "99.88"},
		{1, 10_000, "99.99"},
		{1, 1_000_000, "99.9999"},
		{1, 1 << 50, "99.999999"},
		{999, 1000, "0.1"},
	} {
		require.Equal(t, c.want, successPercent(c.failed, c.n), "%d of %d", c.failed, c.n)
	}
	for micros, want := range map[float64]string{
		0: "0µs", 1: "1µs", 850: "850µs", 8412: "8.41ms", 84_120: "84.1ms", 212_345: "212ms", 999_400: "999ms", 999_600: "1s",
		1_240_000: "1.24s", 15_000_000: "15s", 90_000_000: "90s",
	} {
		require.Equal(t, want, latency(micros))
	}
	for n, want := range map[uint64]string{0: "0", 999: "999", 1204: "1,204", 1234567: "1,234,567"} {
		require.Equal(t, want, thousands(n))
	}
	for rate, want := range map[float64]string{0: "0", .001: "0.1", .0123: "1.2", .5: "50", 1: "100", .00001: "0.001"} {
		require.Equal(t, want, percent(rate))
	}
	for rate, want := range map[float64]string{0: "0", .04: "0.04", 3.456: "3.5", 42.4: "42", 640: "640", 1234: "1200"} {
		require.Equal(t, want, perSecond(rate))
	}
	for d, want := range map[time.Duration]string{time.Hour: "1h", 5 * time.Minute: "5m", 24 * time.Hour: "24h", 720 * time.Hour: "30d", 90 * time.Second: "1m30s"} {
		require.Equal(t, want, hours(d))
	}
}

func TestAnalyze(t *testing.T) {
	t.Parallel()
	o := observation()
	o.Target.Failures[outcome.Reset] = 12
	o.Shadow = &outcome.Pairs{Compared: 10, StatusDiffers: 2, SizeDiffers: 3}
	o.Shadow.Answer.Add(40_000, 10)
	o.Shadow.Mirror.Add(80_000, 10)
	first := Analyze(&v1alpha1.ShiftGuard{}, o, Verdict{Hold, "successRate", "because"}, monday, nil)
	require.Equal(t, &v1alpha1.ShiftAnalysis{
		Time:      &metav1.Time{Time: monday},
		Instances: &v1alpha1.ShiftFigures{Requests: 9000, SuccessRate: "100", P50: "49.7ms", P99: "50.2ms"},
		Pods:      &v1alpha1.ShiftFigures{Requests: 1000, SuccessRate: "98.8", P50: "49.7ms", P99: "50.2ms"},
		Shadow:    &v1alpha1.ShiftComparison{Compared: 10, StatusDiffers: 2, SizeDiffers: 3, P99: "40.9ms", ShadowP99: "81.9ms"},
		Verdict:   "Hold", Reason: "because",
	}, first)

	o.Target.Requests++
	require.Same(t, first, Analyze(&v1alpha1.ShiftGuard{}, o, Verdict{Hold, "latency", "another"}, monday.Add(9*time.Second), first), "a status is not written at each look")
	require.Equal(t, "another", Analyze(&v1alpha1.ShiftGuard{}, o, Verdict{Hold, "latency", "another"}, monday.Add(10*time.Second), first).Reason)
	require.Equal(t, "Fail", Analyze(&v1alpha1.ShiftGuard{}, o, Verdict{Fail, "latency", "bad"}, monday.Add(time.Second), first).Verdict, "but at once when it matters")
	require.NotSame(t, first, Analyze(&v1alpha1.ShiftGuard{}, o, Verdict{Hold, "latency", "another"}, monday.Add(-time.Hour), first), "nor does a clock that was set back stop it")

	guard := &v1alpha1.ShiftGuard{
		Latency: &v1alpha1.ShiftLatency{Quantile: "0.5"}, Metrics: []v1alpha1.ShiftMetric{{Name: "carts"}, {Name: "logins"}, {Name: "queue"}, {Name: "ratio"}, {Name: "rate"}},
	}
	o.Metrics = []Metric{{Name: "queue", Error: strings.Repeat("é", 600)}, {Name: "carts", Value: 1.0 / 3}, {Name: "ratio", Value: math.NaN()}, {Name: "rate", Value: math.Inf(1)}}
	more := Analyze(guard, o, Verdict{Result: Pass}, monday, nil)
	require.Equal(t, []string{"49.7ms", "49.7ms"}, []string{more.Pods.Quantile, more.Instances.Quantile})
	require.Equal(t, []v1alpha1.ShiftMetricFigure{
		{Name: "carts", Value: "0.333333"},
		{Name: "logins", Error: "no answer yet"},
		{Name: "queue", Error: strings.Repeat("é", 512)},
		{Name: "ratio", Error: "it is NaN, which is no figure to judge by"},
		{Name: "rate", Error: "it is +Inf, which is no figure to judge by"},
	}, more.Metrics)
	guard.Latency.Quantile = "0.99"
	require.Empty(t, Analyze(guard, o, Verdict{Result: Pass}, monday, nil).Pods.Quantile, "p99 has it")

	o.TCP = true
	guard.Latency.Quantile = "0.5"
	require.Empty(t, Analyze(guard, o, Verdict{Result: Pass}, monday, nil).Pods.Quantile, "nor any quantile")
	require.Empty(t, Analyze(&v1alpha1.ShiftGuard{}, o, Verdict{Result: Pass}, monday, nil).Pods.P99, "connections have no latency")
	require.Equal(t, &v1alpha1.ShiftFigures{}, Analyze(&v1alpha1.ShiftGuard{}, &Observation{From: discovery.Instances, To: discovery.Pods}, Verdict{Result: Pass}, monday, nil).Pods)
}
