package shift

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/outcome"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// scenario is one row of the guard correctness table. A step begins at second
// 0; before it instances had all traffic, for two minutes.
type scenario struct {
	name string
	// percent of the pods, 10 by default, and demand in requests per second, 400 by default.
	percent float64
	demand  func(t int) float64
	guard   func(*v1alpha1.ShiftGuard)
	// pods and instances at a second, healthy by default.
	pods, instances func(t int) behaviour
	// shadow draws pairs instead of moving traffic.
	shadow func(r *rand.Rand, p *outcome.Pairs)
	// observe changes what is observed, by what the figures do not tell.
	observe func(t int, o *Observation)
	// budget that is left of the period when the step begins.
	budget float64
	// from is when the trouble begins.
	from int
	// want is the verdict. A Fail must come within seconds of from and not before it; for all
	// others no look at all may fail, and the verdict at second at is the wanted one.
	want   Result
	figure string
	within int
	at     int
	// says is a part of the reason.
	says string
	// after is the verdict at the end, two and a half minutes after at, "" for the same.
	after Result
}

func always(b behaviour) func(int) behaviour { return func(int) behaviour { return b } }

// during returns a behaviour that lasts from one second to another.
func during(from, to int, b behaviour) func(int) behaviour {
	return func(t int) behaviour {
		if t >= from && t < to {
			return b
		}
		return healthy
	}
}

func failing(part float64, cause outcome.Cause) behaviour {
	return healthy.and(func(b *behaviour) { b.fail, b.cause = part, cause })
}

func withBudget(g *v1alpha1.ShiftGuard) {
	g.ErrorBudget = &v1alpha1.ShiftErrorBudget{Objective: "99.9", MaxBurnRate: "2"}
}

func withMetric(g *v1alpha1.ShiftGuard) {
	g.Metrics = []v1alpha1.ShiftMetric{{Name: "checkout-errors", AtMost: "0.01"}}
}

func noBounds(g *v1alpha1.ShiftGuard) { g.SuccessRate, g.Latency = nil, nil }

var scenarios = []scenario{
	{name: "good", want: Pass, at: 120, figure: "successRate"},
	{name: "good, no bounds stated", guard: noBounds, want: Pass, at: 120, figure: "successRate"},
	{name: "outage of pods", from: 200, pods: during(200, 999, failing(1, outcome.ServerError)), want: Fail, within: 5, figure: "successRate", says: "server errors"},
	{name: "5 % errors", pods: always(failing(.05, outcome.ServerError)), want: Fail, within: 60, figure: "successRate"},
	{name: "5 % errors, no bounds stated", guard: noBounds, pods: always(failing(.05, outcome.ServerError)), want: Fail, within: 60, figure: "errors"},
	{name: "slowly bad: 1 % more errors in 10 minutes", from: 150, pods: func(t int) behaviour {
		return failing(max(.0002, min(.01, float64(t-150)/60_000)), outcome.ServerError)
	}, want: Fail, within: 360, figure: "errors"},
	{
		name: "a little over the bound, a little worse than instances", pods: always(failing(.0015, outcome.ServerError)),
		instances: always(failing(.0009, outcome.ServerError)), want: Hold, at: 200, figure: "successRate",
	},
	{name: "only p99 bad", pods: always(healthy.and(func(b *behaviour) { b.slow, b.slowMillis = .03, 900 })), want: Fail, within: 90, figure: "latency"},
	{
		name: "within the bound, but 60 % slower than instances", pods: always(healthy.and(func(b *behaviour) { b.median = 80 })),
		want: Fail, within: 125, figure: "latencyIncrease",
	},
	{
		name: "bad on both sides", pods: always(failing(.2, outcome.ServerError)), instances: always(failing(.2, outcome.ServerError)),
		want: Hold, at: 120, figure: "successRate", says: "going back would not help",
	},
	{
		name: "shared database down for a minute", from: 200, pods: during(200, 260, failing(1, outcome.Timeout)),
		instances: during(200, 260, failing(1, outcome.Timeout)), want: Hold, at: 230, figure: "successRate", after: Pass,
	},
	{
		name: "shared database down right after the step", from: 5, pods: during(5, 35, failing(1, outcome.ServerError)),
		instances: during(5, 35, failing(1, outcome.ServerError)), want: Hold, at: 60, figure: "successRate", after: Pass,
	},
	{
		name: "shared database slow", from: 200, pods: during(200, 999, healthy.and(func(b *behaviour) { b.median = 300 })),
		instances: during(200, 999, healthy.and(func(b *behaviour) { b.median = 300 })), want: Hold, at: 320, figure: "latency",
	},
	{
		name: "one pod of ten bad", pods: always(healthy.and(func(b *behaviour) { b.badEndpoint = true })),
		want: Fail, within: 60, figure: "successRate", says: "most on pod web/php-5",
	},
	{name: "low traffic", demand: func(int) float64 { return 2 }, want: Hold, at: 300, figure: "minRequests"},
	{name: "spike: ten times the traffic for a minute", from: 150, demand: func(t int) float64 {
		if t >= 150 && t < 210 {
			return 1500
		}
		return 150
	}, want: Pass, at: 180, figure: "successRate"},
	{name: "one reporter lost", from: 150, observe: func(t int, o *Observation) {
		if t >= 150 {
			o.Silent = []string{"web/php-web-7"}
		}
	}, want: Hold, at: 160, figure: "reporters", says: "web/php-web-7"},
	{
		name: "all reporters lost", from: 150, pods: during(150, 999, healthy.and(func(b *behaviour) { b.silent = true })),
		instances: during(150, 999, healthy.and(func(b *behaviour) { b.silent = true })), want: Fail, within: 120, figure: "silence",
	},
	{
		name: "EC2 side bad, pods good", from: 150, instances: during(150, 999, failing(.3, outcome.ServerError)),
		want: Pass, at: 200, figure: "successRate",
	},
	{
		name: "EC2 side bad, pods a little", instances: always(failing(.3, outcome.ServerError)), pods: always(failing(.02, outcome.ServerError)),
		want: Hold, at: 130, figure: "successRate", says: "going back would not help",
	},
	{
		name: "EC2 side bad, pods worse", instances: always(failing(.05, outcome.ServerError)), pods: always(failing(.5, outcome.ServerError)),
		want: Fail, within: 30, figure: "successRate",
	},
	{name: "100 % reset", pods: always(failing(1, outcome.Reset)), want: Fail, within: 5, figure: "successRate", says: "resets"},
	{name: "10 % timeouts", pods: always(failing(.1, outcome.Timeout)), want: Fail, within: 30, figure: "successRate", says: "timeouts"},
	{
		name: "pods scaled to zero, instances answer", from: 150, pods: during(150, 999, healthy.and(func(b *behaviour) { b.failedOver = 1 })),
		want: Fail, within: 80, figure: "failover",
	},
	{
		name: "pods gone for three seconds of a rollout", from: 150, pods: during(150, 153, healthy.and(func(b *behaviour) { b.failedOver = 1 })),
		want: Hold, at: 160, figure: "failover", after: Pass,
	},
	{
		name: "pods gone, no failover", from: 150, pods: during(150, 999, failing(1, outcome.NoHost)), want: Fail, within: 5,
		figure: "successRate", says: "with no host",
	},
	{name: "silent target: asked, never answers", pods: always(healthy.and(func(b *behaviour) { b.silent = true })), want: Fail, within: 10, figure: "silence"},
	{name: "silent target: nobody asks it", pods: always(healthy.and(func(b *behaviour) { b.idle = true })), want: Fail, within: 121, figure: "silence"},
	{name: "pods hang, callers give up", pods: always(healthy.and(func(b *behaviour) { b.abandoned = .6 })), want: Fail, within: 30, figure: "abandoned"},
	{
		name: "cold start: slow for the first 20 s", pods: during(0, 20, healthy.and(func(b *behaviour) { b.median = 900 })),
		want: Hold, at: 100, figure: "latency", after: Pass,
	},
	{name: "two seconds of nothing but errors", from: 150, pods: during(150, 152, failing(1, outcome.ServerError)), want: Fail, within: 5, figure: "successRate"},
	{name: "0.1 %, few requests", percent: .1, want: Hold, at: 200, figure: "minRequests"},
	{name: "0.1 %, few requests, all failing", percent: .1, pods: always(failing(1, outcome.ServerError)), want: Fail, within: 60, figure: "successRate"},
	{name: "budget nearly spent", guard: withBudget, budget: .02, want: Pass, at: 120, figure: "successRate"},
	{name: "budget spent", guard: withBudget, budget: -.1, want: Hold, at: 150, figure: "errorBudget", says: "is spent"},
	{
		name: "budget burnt by pods, within the other bounds", percent: 50, guard: func(g *v1alpha1.ShiftGuard) { noBounds(g); withBudget(g) }, budget: .9,
		pods: always(failing(.0045, outcome.ServerError)), instances: always(failing(.0024, outcome.ServerError)),
		want: Fail, within: 240, figure: "errorBudget",
	},
	{
		name: "budget burnt by instances", guard: withBudget, budget: .9, instances: always(failing(.03, outcome.ServerError)),
		want: Hold, at: 150, figure: "errorBudget", says: "it is not pods that burn it",
	},
	{name: "metric provider down", guard: withMetric, observe: func(_ int, o *Observation) {
		o.Metrics = []Metric{{Name: "checkout-errors", Error: "Get http://prometheus.monitoring:9090: connection refused"}}
	}, want: Hold, at: 150, figure: "metrics/checkout-errors", says: "connection refused"},
	{name: "metric out of bound for two samples", from: 145, guard: withMetric, observe: func(t int, o *Observation) {
		o.Metrics = []Metric{{Name: "checkout-errors", Value: .001, Before: []float64{.001}}}
		if t >= 130 {
			o.Metrics[0].Value = .02
		}
		if t >= 145 {
			o.Metrics[0].Before[0] = .02
		}
	}, want: Fail, within: 1, figure: "metrics/checkout-errors", says: "is 0.02 (atMost 0.01) in 2 samples in a row"},
	{name: "shadow good", shadow: pairs(0, 0, 0, 50), want: Pass, at: 120, figure: "shadow"},
	{name: "shadow: 3 % mirrored answers are 5xx", shadow: pairs(.03, .03, 0, 50), want: Fail, within: 60, figure: "shadow"},
	{name: "shadow: logins redirect", shadow: pairs(0, .1, 0, 50), want: Fail, within: 60, figure: "shadowStatus"},
	{name: "shadow slower", shadow: pairs(0, 0, 0, 100), want: Hold, at: 150, figure: "shadowLatency"},
	{name: "shadow: a fifth of bodies of another size", shadow: pairs(0, 0, .2, 50), want: Hold, at: 150, figure: "shadowSize"},
	{name: "retries hide errors", pods: always(healthy.and(func(b *behaviour) { b.attempts = 1.4 })), want: Hold, at: 150, figure: "retries"},
	{name: "TCP good", observe: func(_ int, o *Observation) { o.TCP = true }, want: Pass, at: 120, figure: "successRate"},
	{
		name: "TCP connect failures", observe: func(_ int, o *Observation) { o.TCP = true }, pods: always(failing(.2, outcome.ConnectFailure)),
		want: Fail, within: 20, figure: "successRate", says: "connect failures",
	},
	{name: "100 %, soaking", percent: 100, want: Pass, at: 120, figure: "successRate"},
	{
		name: "100 %, no bounds stated, a fifth fails", percent: 100, from: 150, guard: noBounds,
		pods: during(150, 999, failing(.2, outcome.ServerError)), want: Fail, within: 60, figure: "errors",
	},
	{
		name: "new leader", observe: func(t int, o *Observation) { o.Covered = min(o.Window, seconds(max(0, t-150))) },
		want: Hold, at: 200, figure: "window", after: Pass,
	},
	{
		name: "new leader, pods bad", from: 150, pods: during(150, 999, failing(1, outcome.ServerError)),
		observe: func(t int, o *Observation) { o.Covered = min(o.Window, seconds(max(0, t-150))) }, want: Fail, within: 5, figure: "successRate",
	},
}

// pairs draws the pairs of one second.
func pairs(failed, status, size, median float64) func(*rand.Rand, *outcome.Pairs) {
	mirror := healthy.and(func(b *behaviour) { b.median = median })
	return func(r *rand.Rand, p *outcome.Pairs) {
		m, _ := mirror.second(r, 20, "")
		p.Mirror = m.Latency
		p.Compared = m.Requests
		for range m.Requests {
			x := r.Float64()
			if x < failed {
				p.MirrorFailed++
			}
			if x < status {
				p.StatusDiffers++
			}
			if r.Float64() < size {
				p.SizeDiffers++
			}
		}
		a, _ := healthy.second(r, float64(m.Requests), "")
		p.Answer = a.Latency
	}
}

// run returns the verdict at each second from the step on, until one fails.
func (s *scenario) run(seed uint64) []Verdict {
	r := rand.New(rand.NewPCG(seed, 11))
	const length = 120
	g := fullGuard()
	if s.guard != nil {
		s.guard(g)
	}
	part := s.percent / 100
	if s.percent == 0 {
		part = .1
	}
	demand := func(int) float64 { return 400 }
	if s.demand != nil {
		demand = s.demand
	}
	pods, instances := always(healthy), always(healthy)
	if s.pods != nil {
		pods = s.pods
	}
	if s.instances != nil {
		instances = s.instances
	}
	if s.shadow != nil {
		part = 0
	}

	start := time.Date(2026, 11, 23, 1, 0, 0, 0, time.UTC)
	var budget *Budget
	var kept *v1alpha1.ShiftBudget
	if g.ErrorBudget != nil {
		// A month of a quarter of today's traffic, with as many failures as leave what is stated.
		const month = 30 * 24 * 3600 * 100
		for day := range 30 {
			_, kept, _ = Spend(g.ErrorBudget, kept, start.AddDate(0, 0, day-30), month/30, uint64((1-s.budget)*month/30/1000))
		}
	}
	var w window
	var out []Verdict
	for t := -length; t < max(s.at+150, s.from+s.within+1); t++ {
		var sec second
		share := part
		if t < 0 {
			share = 0
		}
		sec.pods, sec.podsLoad = pods(t).second(r, demand(t)*share, "web/php")
		sec.instances, sec.instancesLoad = instances(t).second(r, demand(t)*(1-share), "i")
		if s.shadow != nil && t >= 0 {
			s.shadow(r, &sec.pairs)
			sec.podsLoad = sec.pairs.Compared
		}
		o := &Observation{From: discovery.Instances, To: discovery.Pods, Share: uint32(1e6 * part), Covered: seconds(length), Stable: seconds(min(t, length)), Proxies: 5}
		w.observe(length, sec, o)
		if t < 0 {
			continue
		}
		if s.shadow != nil {
			o.Shadow = &w.whole.pairs
		}
		if s.observe != nil {
			s.observe(t, o)
		}
		if g.ErrorBudget != nil {
			var err error
			budget, kept, err = Spend(g.ErrorBudget, kept, start.Add(seconds(t)), sec.pods.Requests+sec.instances.Requests, sec.pods.Failed()+sec.instances.Failed())
			if err != nil {
				panic(err)
			}
		}
		v := Evaluate(g, o, budget)
		out = append(out, v)
		if v.Result == Fail {
			break
		}
	}
	return out
}

// TestGuardScenarios is the guard correctness table (-v prints it): what the
// guard says of streams of observations, second by second, and how long it takes.
func TestGuardScenarios(t *testing.T) {
	t.Parallel()
	require.GreaterOrEqual(t, len(scenarios), 30)
	rows := make([]string, len(scenarios))
	t.Run("scenario", func(t *testing.T) {
		for i, s := range scenarios {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				verdicts := s.run(uint64(i) + 1001)
				last := verdicts[len(verdicts)-1]
				second := len(verdicts) - 1
				if s.want == Fail {
					require.Equal(t, Fail, last.Result, "%+v", last)
					require.GreaterOrEqual(t, second, s.from, "%+v", last)
					require.LessOrEqual(t, second-s.from, s.within, "%+v", last)
				} else {
					require.NotEqual(t, Fail, last.Result, "at second %d: %+v", second, last)
					after := s.after
					if after == "" {
						after = s.want
					}
					require.Equal(t, after, last.Result, "in the end: %+v", last)
					last = verdicts[s.at]
					require.Equal(t, s.want, last.Result, "%+v", last)
					for second = s.at; second > s.from && verdicts[second-1].Result == s.want && verdicts[second-1].Figure == last.Figure; {
						second--
					}
				}
				require.Equal(t, s.figure, last.Figure, last.Reason)
				require.Contains(t, last.Reason, s.says)
				then := ""
				if s.after != "" {
					then = ", then " + string(s.after)
				}
				rows[i] = fmt.Sprintf("%d\t%s\t%s%s\t%d s\t%s\t", i+1, s.name, last.Result, then, second-s.from, last.Reason)
			})
		}
	})
	var out bytes.Buffer
	table := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "#\tscenario (window 2m, 400 requests/s, 10 % on pods)\tverdict\tafter\treason\t")
	fmt.Fprintln(table, strings.Join(rows, "\n"))
	require.NoError(t, table.Flush())
	t.Logf("\n%s", out.String())
}

// TestGuardHealthyForADay looks every second at a target that is as good as its
// source, and both just as bad as their bounds allow, for a whole day. It may not
// fail: TestLooksPerWindow measures how improbable that is.
func TestGuardHealthyForADay(t *testing.T) {
	t.Parallel()
	for name, latency := range map[string]func(*rand.Rand) float64{
		// The p99 of both is the bound of 300 ms.
		"latency with a long tail": func(r *rand.Rand) float64 { return 300_000 * math.Exp(r.NormFloat64()-2.3263) },
		"fast or slow, nothing between": func(r *rand.Rand) float64 {
			if r.Float64() < .01 {
				return 400_000
			}
			return 50_000
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const length, day = 120, 24 * 60 * 60
			g := fullGuard()
			g.Latency.MaxIncrease = "0"
			r := rand.New(rand.NewPCG(21, 22))
			o := &Observation{From: discovery.Instances, To: discovery.Pods, Window: seconds(length), Covered: seconds(length), Stable: seconds(length), Share: 500_000}
			draw := func() (c outcome.Counts) {
				c.Requests = poisson(r, 6)
				for range c.Requests {
					if r.Float64() < .001 {
						c.Failures[outcome.ServerError]++
					}
					c.Latency.Add(uint64(latency(r)), 1)
				}
				return c
			}
			var ring [length][2]outcome.Counts
			results := make(map[Result]int)
			for second := range day {
				for i, side := range []*Side{&o.Target, &o.Source} {
					now, old := draw(), &ring[second%length][i]
					side.Requests += now.Requests - old.Requests
					side.Failures[outcome.ServerError] += now.Failures[outcome.ServerError] - old.Failures[outcome.ServerError]
					side.Latency.Merge(now.Latency)
					side.Latency.Sub(old.Latency)
					side.Load = side.Requests
					*old = now
				}
				if second < length {
					continue
				}
				v := Evaluate(g, o, nil)
				require.NotEqual(t, Fail, v.Result, "at second %d: %s", second, v.Reason)
				results[v.Result]++
			}
			t.Logf("%v", results)
			require.Greater(t, results[Pass], day/100, "%v", results)
		})
	}
}

// TestGuardFindsFivePercent fails a target with 5 % errors within a window, whatever the draw.
func TestGuardFindsFivePercent(t *testing.T) {
	t.Parallel()
	slowest := 0
	for seed := range uint64(15) {
		s := scenario{pods: always(failing(.05, outcome.ServerError)), percent: 10, within: 150, demand: func(int) float64 { return 50 }}
		verdicts := s.run(seed)
		require.Equal(t, Fail, verdicts[len(verdicts)-1].Result)
		slowest = max(slowest, len(verdicts)-1)
	}
	t.Logf("5 requests per second, 5 %% errors, found after at most %d s", slowest)
	require.LessOrEqual(t, slowest, 120)
}

// TestGuardHealthyScenariosNeverFail draws the good scenarios anew.
func TestGuardHealthyScenariosNeverFail(t *testing.T) {
	t.Parallel()
	for _, s := range scenarios {
		if s.want != Pass {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			verdicts := s.run(100)
			require.NotEqual(t, Fail, verdicts[len(verdicts)-1].Result, verdicts[len(verdicts)-1].Reason)
		})
	}
}

// TestGuardWindowOfSeconds uses the accelerated windows of the demo too.
func TestGuardWindowOfSeconds(t *testing.T) {
	t.Parallel()
	g := fullGuard()
	g.Window, g.MinRequests = metav1.Duration{Duration: 5 * time.Second}, 20
	o := observation()
	o.Window, o.Covered, o.Stable = 5*time.Second, 5*time.Second, 5*time.Second
	o.Target.Requests, o.Target.Load, o.Target.Failures[outcome.ServerError] = 40, 40, 30
	o.Source.Requests, o.Source.Load = 400, 400
	require.Equal(t, Fail, Evaluate(g, o, nil).Result)
	o.Target.Failures[outcome.ServerError] = 0
	require.Equal(t, Pass, Evaluate(g, o, nil).Result)
}
