package shift

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/outcome"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// behaviour is how one side answers in one second.
type behaviour struct {
	// fail is the part of requests that fail with cause.
	fail  float64
	cause outcome.Cause
	// median latency in milliseconds, log-normal with a p99 of 3.2 times it; slow is
	// the part that takes slowMillis instead.
	median, slow, slowMillis float64
	// abandoned by callers, and answered by the other side.
	abandoned, failedOver float64
	// attempts that a request takes.
	attempts float64
	// badEndpoint fails half of its tenth of the requests.
	badEndpoint bool
	// silent loses all outcomes; idle gets no requests.
	silent, idle bool
}

var healthy = behaviour{fail: .0002, median: 50, attempts: 1}

// and returns a behaviour with a change.
func (b behaviour) and(change func(*behaviour)) behaviour {
	change(&b)
	return b
}

// second draws what callers got of a side in one second.
func (b behaviour) second(r *rand.Rand, requests float64, endpoint string) (c outcome.Counts, load uint64) {
	if b.idle {
		return c, 0
	}
	c.Endpoints = make(map[string]outcome.EndpointCounts)
	n := poisson(r, requests)
	for range n {
		sent := uint64(b.attempts)
		if r.Float64() < b.attempts-math.Floor(b.attempts) {
			sent++
		}
		load += sent
		if b.silent {
			continue
		}
		if r.Float64() < b.abandoned {
			c.Abandoned++
			continue
		}
		at := r.IntN(10)
		failed := r.Float64() < b.fail || b.badEndpoint && at == 5 && r.Float64() < .5
		if r.Float64() < b.failedOver {
			c.FailedOver++
			load -= sent // it is the other side's
			continue
		}
		c.Requests++
		id := fmt.Sprintf("%s-%d", endpoint, at)
		e := c.Endpoints[id]
		e.Requests++
		if failed {
			c.Failures[b.cause]++
			e.Failures++
		}
		c.Endpoints[id] = e
		millis := b.median * math.Exp(.5*r.NormFloat64())
		if r.Float64() < b.slow {
			millis = b.slowMillis
		}
		c.Latency.Add(uint64(1000*millis), 1)
	}
	return c, load
}

// window adds up seconds.
type window struct {
	seconds       []second
	whole, recent second
}

// second is what callers got in one second.
type second struct {
	pods, instances         outcome.Counts
	podsLoad, instancesLoad uint64
	pairs                   outcome.Pairs
}

// add counts another second, times 1 or, to take it back, -1.
func (s *second) add(o *second, times int) {
	sign := uint64(times)
	merge := (*outcome.Histogram).Merge
	if times < 0 {
		merge = (*outcome.Histogram).Sub
	}
	for _, side := range []struct{ to, from *outcome.Counts }{{&s.pods, &o.pods}, {&s.instances, &o.instances}} {
		to, from := side.to, side.from
		to.Requests += sign * from.Requests
		to.Abandoned += sign * from.Abandoned
		to.FailedOver += sign * from.FailedOver
		for i := range from.Failures {
			to.Failures[i] += sign * from.Failures[i]
		}
		merge(&to.Latency, from.Latency)
		if to.Endpoints == nil {
			to.Endpoints = make(map[string]outcome.EndpointCounts)
		}
		for id, e := range from.Endpoints {
			sum := to.Endpoints[id]
			sum.Requests += sign * e.Requests
			sum.Failures += sign * e.Failures
			to.Endpoints[id] = sum
		}
	}
	s.podsLoad += sign * o.podsLoad
	s.instancesLoad += sign * o.instancesLoad
	s.pairs.Compared += sign * o.pairs.Compared
	s.pairs.StatusDiffers += sign * o.pairs.StatusDiffers
	s.pairs.SizeDiffers += sign * o.pairs.SizeDiffers
	s.pairs.MirrorFailed += sign * o.pairs.MirrorFailed
	merge(&s.pairs.Answer, o.pairs.Answer)
	merge(&s.pairs.Mirror, o.pairs.Mirror)
}

// observe counts one more second and returns what was seen in the last ones.
func (w *window) observe(length int, sec second, o *Observation) {
	w.seconds = append(w.seconds, sec)
	for _, span := range []struct {
		sum    *second
		length int
	}{{&w.whole, length}, {&w.recent, length / 4}} {
		span.sum.add(&sec, 1)
		if gone := len(w.seconds) - 1 - span.length; gone >= 0 {
			span.sum.add(&w.seconds[gone], -1)
		}
	}
	o.Window, o.Recent = seconds(length), seconds(length/4)
	o.Target.Counts, o.Target.Recent, o.Target.Load = w.whole.pods, w.recent.pods, w.whole.podsLoad
	o.Source.Counts, o.Source.Recent, o.Source.Load = w.whole.instances, w.recent.instances, w.whole.instancesLoad
}

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }

// fullGuard is that of the README's example.
func fullGuard() *v1alpha1.ShiftGuard {
	return &v1alpha1.ShiftGuard{
		SuccessRate: &v1alpha1.ShiftSuccessRate{AtLeast: "99.9"},
		Latency:     &v1alpha1.ShiftLatency{Quantile: "0.99", AtMost: &metav1.Duration{Duration: 300 * time.Millisecond}, MaxIncrease: "20"},
		MinRequests: 500, Window: metav1.Duration{Duration: 2 * time.Minute},
	}
}

// observation is what a guard passes: 10 % of the traffic on pods, all well.
func observation() *Observation {
	o := &Observation{
		Window: 2 * time.Minute, Covered: 2 * time.Minute, Stable: 2 * time.Minute, Share: 100_000, Proxies: 3,
		From: discovery.Instances, To: discovery.Pods,
		Target: Side{Counts: outcome.Counts{Requests: 1000}, Load: 1000}, Source: Side{Counts: outcome.Counts{Requests: 9000}, Load: 9000},
	}
	o.Target.Latency.Add(50_000, 1000)
	o.Source.Latency.Add(50_000, 9000)
	return o
}

func TestEvaluate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		change  func(*v1alpha1.ShiftGuard, *Observation)
		want    Result
		figure  string
		reason  string
		without bool // no bounds stated
		budget  *Budget
	}{
		{name: "good", want: Pass, figure: "successRate", reason: "pods answered 100 % of 1,000 requests (bound 99.9 %), p99 50.2ms (bound 300ms)"},
		{
			name: "reason with figure, bound, causes and pod", want: Fail, figure: "successRate",
			reason: "pods answered 97.2 % of 1,204 requests (bound 99.9 %): 31 server errors, 2 timeouts; most on pod web/php-5",
			change: func(_ *v1alpha1.ShiftGuard, o *Observation) {
				o.Target.Requests, o.Target.Load = 1204, 1204
				o.Target.Failures[outcome.ServerError], o.Target.Failures[outcome.Timeout] = 31, 2
				o.Target.Endpoints = map[string]outcome.EndpointCounts{"web/php-5": {Requests: 120, Failures: 30}, "web/php-1": {Requests: 1084, Failures: 3}}
			},
		},
		{name: "three of three say nothing", want: Hold, figure: "successRate", change: func(_ *v1alpha1.ShiftGuard, o *Observation) {
			o.Share = 300
			o.Target.Requests, o.Target.Load, o.Target.Failures[outcome.Reset] = 3, 3, 3
		}},
		{
			name: "thirty of thirty are overwhelming", want: Fail, figure: "successRate",
			reason: "pods answered 0 % of 30 requests (bound 99.9 %): 30 connect failures",
			change: func(_ *v1alpha1.ShiftGuard, o *Observation) {
				o.Target.Requests, o.Target.Load, o.Target.Failures[outcome.ConnectFailure] = 30, 30, 30
			},
		},
		{
			name: "nothing stated, worse than the source", want: Fail, figure: "errors", without: true,
			reason: "pods answered 95 % of 1,000 requests, instances 99.9 % of theirs at the same time: 50 server errors",
			change: func(_ *v1alpha1.ShiftGuard, o *Observation) {
				o.Target.Failures[outcome.ServerError], o.Source.Failures[outcome.ServerError] = 50, 9
			},
		},
		{
			name: "nothing stated, nothing to compare with", want: Fail, figure: "errors", without: true,
			change: func(_ *v1alpha1.ShiftGuard, o *Observation) {
				o.Share, o.Source = policy.ShareTotal, Side{}
				o.Target.Failures[outcome.ServerError] = 200
			},
		},
		{
			name: "as bad as the source", want: Hold, figure: "successRate",
			reason: "pods answered 80 % of 1,000 requests (bound 99.9 %): 200 server errors; instances answered only 81 % of theirs " +
				"at the same time: going back would not help",
			change: func(_ *v1alpha1.ShiftGuard, o *Observation) {
				o.Target.Failures[outcome.ServerError], o.Source.Failures[outcome.ServerError] = 200, 1710
			},
		},
		{name: "a shared outage since the step", want: Hold, figure: "successRate", change: func(_ *v1alpha1.ShiftGuard, o *Observation) {
			// Pods have had their share for 20 seconds, and everything failed for 10 of them.
			o.Stable = 20 * time.Second
			o.Target.Requests, o.Target.Failures[outcome.Timeout] = 1000, 500
			o.Source.Requests, o.Source.Failures[outcome.Timeout] = 54_000, 4500
		}},
		{name: "a bound of 100 allows none", want: Fail, figure: "successRate", change: func(g *v1alpha1.ShiftGuard, o *Observation) {
			g.SuccessRate.AtLeast, o.Target.Failures[outcome.ServerError] = "100", 1
		}},
		{name: "constant latency just below the bound", want: Pass, figure: "successRate", change: func(_ *v1alpha1.ShiftGuard, o *Observation) {
			o.Target.Latency, o.Source.Latency = outcome.Histogram{}, outcome.Histogram{}
			o.Target.Latency.Add(299_000, 1000)
			o.Source.Latency.Add(299_000, 9000)
		}},
		{name: "no failure but the source answers", want: Hold, figure: "failover", change: func(_ *v1alpha1.ShiftGuard, o *Observation) {
			o.Target.FailedOver = 100
		}},
		{
			name: "seen too short", want: Hold, figure: "window", reason: "what callers got is known without a gap for 40s of the window of 2m",
			change: func(_ *v1alpha1.ShiftGuard, o *Observation) { o.Covered, o.Stable = 40*time.Second, 40*time.Second },
		},
		{
			name: "too few", want: Hold, figure: "minRequests", reason: "pods answered 499 of the 500 requests in 2m that a verdict needs" + moreTraffic,
			change: func(_ *v1alpha1.ShiftGuard, o *Observation) { o.Target.Requests, o.Target.Load = 499, 499 },
		},
		{
			name: "none at all", want: Hold, figure: "minRequests",
			reason: "pods answered 0 of the 500 requests in 2m that a verdict needs, and the other side none: nobody calls the Service, " +
				"or the callers' proxies are connected to another control plane: causeway proxies",
			change: func(_ *v1alpha1.ShiftGuard, o *Observation) { o.Target, o.Source = Side{}, Side{} },
		},
		{name: "the default of minRequests", want: Hold, figure: "minRequests", change: func(g *v1alpha1.ShiftGuard, o *Observation) {
			g.MinRequests, o.Target.Requests, o.Target.Load = 0, 499, 499
		}},
		{
			name: "no answer of a metric", want: Hold, figure: "metrics/checkout", reason: "metric checkout has no answer yet",
			change: func(g *v1alpha1.ShiftGuard, _ *Observation) {
				g.Metrics = []v1alpha1.ShiftMetric{{Name: "checkout", AtMost: "0.01"}}
			},
		},
		{name: "a metric that is no number", want: Hold, figure: "metrics/checkout", change: func(g *v1alpha1.ShiftGuard, o *Observation) {
			g.Metrics = []v1alpha1.ShiftMetric{{Name: "checkout", AtMost: "0.01"}}
			o.Metrics = []Metric{{Name: "checkout", Value: math.NaN()}}
		}},
		{
			name: "a failing metric beats one without an answer", want: Fail, figure: "metrics/orders", reason: "metric orders is -3.5 (atLeast -2) in 2 samples in a row",
			change: func(g *v1alpha1.ShiftGuard, o *Observation) {
				g.Metrics = []v1alpha1.ShiftMetric{{Name: "checkout", AtMost: "0.01"}, {Name: "orders", AtLeast: "-2"}}
				o.Metrics = []Metric{{Name: "checkout", Error: "connection refused"}, {Name: "orders", Value: -3.5, Before: []float64{-2.5}}}
			},
		},
		{
			name: "one odd sample of a metric", want: Hold, figure: "metrics/orders",
			reason: "metric orders is -3.5 (atLeast -2) in 1 of the 2 samples in a row that it takes to fail (failureThreshold)",
			change: func(g *v1alpha1.ShiftGuard, o *Observation) {
				g.Metrics = []v1alpha1.ShiftMetric{{Name: "orders", AtLeast: "-2"}}
				o.Metrics = []Metric{{Name: "orders", Value: -3.5, Before: []float64{4, -3, -3}}}
			},
		},
		{
			name: "two odd samples of three that are wanted", want: Hold, figure: "metrics/orders",
			reason: "metric orders is 9 (atMost 2) in 2 of the 3 samples in a row that it takes to fail (failureThreshold)",
			change: func(g *v1alpha1.ShiftGuard, o *Observation) {
				g.Metrics = []v1alpha1.ShiftMetric{{Name: "orders", AtLeast: "-2", AtMost: "2", FailureThreshold: 3}}
				o.Metrics = []Metric{{Name: "orders", Value: 9, Before: []float64{8, -9, 9}}}
			},
		},
		{name: "one sample is enough where one is stated", want: Fail, figure: "metrics/orders", reason: "metric orders is 9 (atMost 2)", change: func(g *v1alpha1.ShiftGuard, o *Observation) {
			g.Metrics = []v1alpha1.ShiftMetric{{Name: "orders", AtMost: "2", FailureThreshold: 1}}
			o.Metrics = []Metric{{Name: "orders", Value: 9}}
		}},
		{
			name: "failures that one proxy of four reports", want: Hold, figure: "callers",
			reason: "proxy web/liar reports 200 of 200 requests to pods as failed, and 3 others 0 of 1,000: see what is wrong with that proxy",
			change: func(_ *v1alpha1.ShiftGuard, o *Observation) {
				o.Target.Requests, o.Target.Failures[outcome.ServerError] = 1200, 200
				o.Target.Callers = map[string]outcome.CallerCounts{"web/a": {Requests: 300}, "web/b": {Requests: 300}, "web/c": {Requests: 400}, "web/liar": {Requests: 200, Failures: 200}}
			},
		},
		{
			name: "failures that one proxy of four reports do not burn the budget either", want: Hold, figure: "callers", without: true,
			budget: &Budget{Objective: .999, MaxBurnRate: 2, Remaining: .9, Burns: []Burn{
				{Long: time.Hour, Short: 5 * time.Minute, LongRate: 20, ShortRate: 20, Requests: 10_200, Failed: 200},
			}},
			change: func(_ *v1alpha1.ShiftGuard, o *Observation) {
				o.Target.Requests, o.Target.Failures[outcome.ServerError] = 1200, 200
				o.Target.Callers = map[string]outcome.CallerCounts{"web/a": {Requests: 300}, "web/b": {Requests: 300}, "web/c": {Requests: 400}, "web/liar": {Requests: 200, Failures: 200}}
			},
		},
		{
			name: "failures of the one gateway that has the traffic", want: Fail, figure: "successRate",
			change: func(_ *v1alpha1.ShiftGuard, o *Observation) {
				o.Target.Failures[outcome.ServerError] = 200
				o.Target.Callers = map[string]outcome.CallerCounts{"web/edge": {Requests: 994, Failures: 200}, "web/b": {Requests: 3}, "web/c": {Requests: 3}}
			},
		},
		{
			name: "failures that all report, one most of them", want: Fail, figure: "successRate",
			change: func(_ *v1alpha1.ShiftGuard, o *Observation) {
				o.Target.Failures[outcome.ServerError] = 300
				o.Target.Callers = map[string]outcome.CallerCounts{"web/a": {Requests: 500, Failures: 200}, "web/b": {Requests: 250, Failures: 50}, "web/c": {Requests: 250, Failures: 50}}
			},
		},
		{
			name: "a bad release that one proxy praises", want: Hold, figure: "callers",
			reason: "without proxy web/liar, which reports 100,000 of the 101,000 requests, the guard fails: pods answered 91 % of 1,000 requests (bound 99.9 %): 90 server errors",
			change: func(_ *v1alpha1.ShiftGuard, o *Observation) {
				o.Target.Requests, o.Target.Load, o.Target.Failures[outcome.ServerError] = 101_000, 101_000, 90
				o.Target.Callers = map[string]outcome.CallerCounts{"web/a": {Requests: 500, Failures: 50}, "web/b": {Requests: 500, Failures: 40}, "web/liar": {Requests: 100_000}}
			},
		},
		{
			name: "a cohort of few values has nobody in the share", want: Hold, figure: "silence",
			reason: "pods got 0 of the 3,157 requests that their share stands for: by the header X-Tenant nobody, or almost nobody, is in it; " +
				"let it have more percent, or a cohort of more values",
			change: func(_ *v1alpha1.ShiftGuard, o *Observation) {
				o.Share, o.CohortKey, o.Target = 50_000, "header X-Tenant", Side{}
				o.Source.Requests, o.Source.Load = 60_000, 60_000
			},
		},
		{
			name: "without a cohort that is silence", want: Fail, figure: "silence",
			reason: "3,157 requests were expected at pods by their share of what instances get, of which none was seen: no proxy sends them",
			change: func(_ *v1alpha1.ShiftGuard, o *Observation) {
				o.Share, o.Target = 50_000, Side{}
				o.Source.Requests, o.Source.Load = 60_000, 60_000
			},
		},
		{
			name: "requests that are sent as often as a rule says are no silence", want: Pass, figure: "successRate",
			reason: "pods answered 100 % of 1,000 requests (bound 99.9 %), p99 50.2ms (bound 300ms)",
			change: func(_ *v1alpha1.ShiftGuard, o *Observation) {
				o.Attempts, o.Target.Load, o.Source.Load = 101, 101*o.Target.Requests, 101*o.Source.Requests
			},
		},
		{
			name: "a source with too few requests to tell its quantile", want: Hold, figure: "latencyIncrease",
			reason: "instances answered 499 of the 500 requests in 2m that it takes to tell their p99 (latency.maxIncrease); " +
				"with no more traffic it stays so: widen guard.window, or state a lower latency.quantile",
			change: func(_ *v1alpha1.ShiftGuard, o *Observation) {
				o.Share, o.Source.Requests, o.Source.Load = 500_000, 499, 499
				o.Source.Latency = outcome.Histogram{}
				o.Source.Latency.Add(50_000, 499)
			},
		},
		{name: "idle", want: Pass, figure: FigureIdle, change: func(_ *v1alpha1.ShiftGuard, o *Observation) { o.Share, o.Target = 0, Side{} }},
		{name: "idle with a metric out of bound", want: Hold, figure: "metrics/checkout", change: func(g *v1alpha1.ShiftGuard, o *Observation) {
			o.Share, o.Target = 0, Side{}
			g.Metrics = []v1alpha1.ShiftMetric{{Name: "checkout", AtMost: "0.01"}}
			o.Metrics = []Metric{{Name: "checkout", Value: 1}}
		}},
		{name: "budget that is not known", want: Hold, figure: "errorBudget", change: func(g *v1alpha1.ShiftGuard, _ *Observation) {
			g.ErrorBudget = &v1alpha1.ShiftErrorBudget{Objective: "99.9"}
		}},
		{
			name: "little traffic does not burn for sure", want: Hold, figure: "errorBudget",
			reason: "the error budget burns at 10.0 times the rate that the objective of 99.9 % allows over 1h, and 20.0 over 5m (bound 2); " +
				"not enough evidence to roll back",
			budget: &Budget{Objective: .999, MaxBurnRate: 2, Remaining: 1, Burns: []Burn{
				{Long: time.Hour, Short: 5 * time.Minute, LongRate: 10, ShortRate: 20, Requests: 100, Failed: 1},
			}},
		},
		{
			name: "a mirrored answer failed", want: Fail, figure: "shadow", reason: "100 of 1,000 mirrored answers of pods failed where the caller's answer did not; 0.1 % may",
			change: func(_ *v1alpha1.ShiftGuard, o *Observation) {
				o.Share, o.Target = 0, Side{Load: 1000}
				o.Shadow = &outcome.Pairs{Compared: 1000, MirrorFailed: 100, StatusDiffers: 100}
			},
		},
		{name: "mirrored redirects instead of pages", want: Fail, figure: "shadowStatus", change: func(_ *v1alpha1.ShiftGuard, o *Observation) {
			o.Share, o.Target = 0, Side{Load: 1000}
			o.Shadow = &outcome.Pairs{Compared: 1000, StatusDiffers: 100}
		}},
		{
			name: "no mirrored answer", want: Hold, figure: "minRequests", reason: "0 of the 500 mirrored requests in 2m that a verdict needs could be compared" + moreTraffic,
			change: func(_ *v1alpha1.ShiftGuard, o *Observation) {
				o.Share, o.Target, o.Shadow = 0, Side{}, &outcome.Pairs{}
			},
		},
		{name: "shadowing for too short", want: Hold, figure: "minRequests", change: func(_ *v1alpha1.ShiftGuard, o *Observation) {
			o.Share, o.Target, o.Shadow = 0, Side{Load: 20}, &outcome.Pairs{Compared: 20}
		}},
		{name: "a bound that is not a number", want: Hold, figure: "successRate", change: func(g *v1alpha1.ShiftGuard, _ *Observation) { g.SuccessRate.AtLeast = "high" }},
		{name: "what the source answered is no evidence", want: Hold, figure: "minRequests", change: func(g *v1alpha1.ShiftGuard, o *Observation) {
			g.SuccessRate.AtLeast = "90"
			o.Target.Requests, o.Target.Load, o.Target.FailedOver = 490, 490, 20
		}},
		{
			name: "what pods answered for dead instances is no silence of pods", want: Hold, figure: "standIn",
			reason: "882 requests left out: pods stood in for instances; pods stand in for instances now, which is no comparison",
			change: func(_ *v1alpha1.ShiftGuard, o *Observation) {
				o.Share, o.StandIn, o.LeftOut = 1000, &StandIn{By: discovery.Pods, For: discovery.Instances, Now: true}, 882
				o.Target, o.Source = Side{Load: 882}, Side{Counts: outcome.Counts{FailedOver: 882}}
			},
		},
		{
			name: "nor is it before anybody has noticed", want: Hold, figure: "minRequests",
			reason: "pods answered 0 of the 500 requests in 2m that a verdict needs" + moreTraffic,
			change: func(_ *v1alpha1.ShiftGuard, o *Observation) {
				o.Share = 1000
				o.Target, o.Source = Side{Load: 882}, Side{Counts: outcome.Counts{FailedOver: 882}}
			},
		},
		{
			name: "a whole window without it must follow", want: Hold, figure: "standIn",
			reason: "1,200 requests left out: pods stood in for instances; a whole window of 2m without that is needed",
			change: func(_ *v1alpha1.ShiftGuard, o *Observation) {
				o.StandIn, o.LeftOut, o.Covered = &StandIn{By: discovery.Pods, For: discovery.Instances}, 1200, time.Minute
			},
		},
		{
			name: "pods compared with pods while instances are gone", want: Hold, figure: "standIn",
			reason: "5,000 requests left out: pods stood in for instances; pods stand in for instances now, which is no comparison",
			change: func(_ *v1alpha1.ShiftGuard, o *Observation) {
				o.Share, o.StandIn, o.LeftOut = 0, &StandIn{By: discovery.Pods, For: discovery.Instances, Now: true}, 5000
				o.Target, o.Source, o.Shadow = Side{}, Side{Counts: outcome.Counts{FailedOver: 5000}}, &outcome.Pairs{Compared: 1000}
			},
		},
		{
			name: "a few that one proxy sent to the other side are left out", want: Pass, figure: "successRate",
			reason: "pods answered 100 % of 1,000 requests (bound 99.9 %), p99 50.2ms (bound 300ms)",
			change: func(_ *v1alpha1.ShiftGuard, o *Observation) { o.Source.FailedOver, o.LeftOut = 20, 20 },
		},
		{
			name: "slower since the step, which the source was not long enough to be", want: Hold, figure: "latencyIncrease",
			reason: "p99 of pods is 241ms, of instances 50.2ms (bound 20 % more); judged after a whole window at this share",
			change: func(_ *v1alpha1.ShiftGuard, o *Observation) {
				o.Stable = 100 * time.Second
				o.Target.Latency.Add(240_000, 200)
			},
		},
		{name: "no failure by few mirrored answers", want: Hold, figure: "shadow", change: func(_ *v1alpha1.ShiftGuard, o *Observation) {
			o.Share, o.Target, o.Shadow = 0, Side{}, &outcome.Pairs{Compared: 100, MirrorFailed: 40}
		}},
		{
			name: "a budget that both sides burn alike", want: Hold, figure: "errorBudget", without: true,
			reason: "the error budget burns at 20.0 times the rate that the objective of 99.9 % allows over 1h, and 20.0 over 5m (bound 2); " +
				"it is not pods that burn it",
			budget: &Budget{Objective: .999, MaxBurnRate: 2, Remaining: .9, Burns: []Burn{
				{Long: time.Hour, Short: 5 * time.Minute, LongRate: 20, ShortRate: 20, Requests: 100_000, Failed: 2000},
			}},
			change: func(_ *v1alpha1.ShiftGuard, o *Observation) {
				o.Target.Failures[outcome.Timeout], o.Source.Failures[outcome.Timeout] = 20, 180
			},
		},
		{name: "load that a new leader did not see the end of", want: Hold, figure: "window", change: func(_ *v1alpha1.ShiftGuard, o *Observation) {
			o.Covered, o.Target = time.Second, Side{Load: 500}
		}},
		{name: "a stream that goes on is not silence", want: Hold, figure: "minRequests", change: func(_ *v1alpha1.ShiftGuard, o *Observation) {
			o.Target = Side{Load: 5000}
			o.Source.Latency = outcome.Histogram{}
			o.Source.Latency.Add(600_000_000, 9000)
		}},
		{
			name: "nothing stated, as bad as the source", want: Hold, figure: "errors", without: true,
			reason: "pods answered 80 % of 1,000 requests, instances 81 % of theirs at the same time: 200 timeouts; not worse than instances",
			change: func(_ *v1alpha1.ShiftGuard, o *Observation) {
				o.Target.Failures[outcome.Timeout], o.Source.Failures[outcome.Timeout] = 200, 1710
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g, o := fullGuard(), observation()
			if c.without {
				g.SuccessRate, g.Latency = nil, nil
			}
			if c.change != nil {
				c.change(g, o)
			}
			v := Evaluate(g, o, c.budget)
			require.Equal(t, c.want, v.Result, v.Reason)
			require.Equal(t, c.figure, v.Figure, v.Reason)
			require.NotEmpty(t, v.Reason)
			if c.reason != "" {
				require.Equal(t, c.reason, v.Reason)
			}
		})
	}
}

// TestEvaluateTheOtherDirection evaluates instances by the same figures as pods.
func TestEvaluateTheOtherDirection(t *testing.T) {
	t.Parallel()
	o := observation()
	o.From, o.To = discovery.Pods, discovery.Instances
	o.Target.Failures[outcome.Reset] = 50
	o.Target.Endpoints = map[string]outcome.EndpointCounts{"i-1": {Requests: 100, Failures: 49}, "i-2": {Requests: 900, Failures: 1}}
	v := Evaluate(fullGuard(), o, nil)
	require.Equal(t, Verdict{Fail, "successRate", "instances answered 95 % of 1,000 requests (bound 99.9 %): 50 resets; most on instance i-1"}, v)
	o.Source, o.Target = o.Target, o.Source
	o.From, o.To, o.Share = o.To, o.From, 900_000
	require.Equal(t, Pass, Evaluate(fullGuard(), o, nil).Result, "the verdict is not about the source")
}

// TestEvaluateIsPure gives the same verdict in the same words each time, and changes nothing.
func TestEvaluateIsPure(t *testing.T) {
	t.Parallel()
	o := observation()
	o.Target.Failures = [outcome.Causes]uint64{5, 5, 5, 5, 5, 5, 5}
	o.Target.Endpoints = map[string]outcome.EndpointCounts{}
	for i := range 20 {
		o.Target.Endpoints[fmt.Sprint("pod-", i)] = outcome.EndpointCounts{Requests: 50, Failures: 1}
	}
	first := Evaluate(fullGuard(), o, nil)
	for range 50 {
		require.Equal(t, first, Evaluate(fullGuard(), o, nil))
	}
}

// TestEvaluateNeverPassesWithout holds random observations against what a pass must never be without.
func TestEvaluateNeverPassesWithout(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(7, 8))
	results := make(map[Result]int)
	for range 20_000 {
		o := observation()
		if r.IntN(3) == 0 {
			o.Target.Requests = uint64(r.IntN(2000))
		}
		if r.IntN(3) == 0 {
			o.Target.Failures[r.IntN(int(outcome.Causes))] = uint64(r.IntN(int(o.Target.Requests)/50 + 1))
		}
		if r.IntN(4) == 0 {
			o.Source.Failures[outcome.Reset] = uint64(r.IntN(9000))
		}
		if r.IntN(6) == 0 {
			o.Target.Latency.Add(uint64(r.IntN(1_000_000)), uint64(r.IntN(100)))
		}
		if r.IntN(6) == 0 {
			o.Covered = time.Duration(r.Int64N(int64(o.Window)))
		}
		if r.IntN(6) == 0 {
			o.Stable = time.Duration(r.Int64N(int64(o.Window)))
		}
		if r.IntN(8) == 0 {
			o.Silent = []string{"web/caller-1"}
		}
		if r.IntN(8) == 0 {
			o.Target.FailedOver = o.Target.Requests / 2
		}
		g := fullGuard()
		if r.IntN(4) == 0 {
			g.Metrics = []v1alpha1.ShiftMetric{{Name: "m", AtMost: "1"}}
			o.Metrics = []Metric{{Name: "m", Value: 2 * r.Float64(), Error: []string{"", "timeout"}[r.IntN(2)]}}
		}
		v := Evaluate(g, o, nil)
		results[v.Result]++
		require.NotEmpty(t, v.Reason)
		require.NotEmpty(t, v.Figure)
		if v.Result == Pass {
			require.GreaterOrEqual(t, o.Target.Requests, uint64(500))
			require.LessOrEqual(t, rate(o.Target.Failed(), o.Target.Requests), .001)
			require.Equal(t, o.Window, o.Covered)
			require.Equal(t, o.Window, o.Stable)
			require.Empty(t, o.Silent)
			for _, m := range o.Metrics {
				require.Empty(t, m.Error)
				require.LessOrEqual(t, m.Value, 1.)
			}
		}
		if v.Result == Fail && v.Figure == "successRate" {
			require.False(t, o.Source.Failed()*2 > o.Source.Requests && o.Target.Failed()*3 < o.Target.Requests, "never back to a worse side")
		}
	}
	for _, result := range []Result{Pass, Hold, Fail} {
		require.Greater(t, results[result], 1000, "%v", results)
	}
}
