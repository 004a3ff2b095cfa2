package shift

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/policy/outcome"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// report is what a proxy tells of its requests to pods.
type report struct {
	answers, slow, abandoned, failedOver, issued uint64
}

// tell adds what proxies tell to an observation, each answer by its time of 50 ms, or of 900 ms.
func tell(o *Observation, reports map[string]report) {
	s := &o.Target
	s.Callers, s.Requests, s.Load, s.Latency = make(map[string]outcome.CallerCounts), 0, 0, outcome.Histogram{}
	for id, r := range reports {
		c := outcome.CallerCounts{Requests: r.answers + r.slow, Abandoned: r.abandoned, FailedOver: r.failedOver}
		for range r.answers {
			c.Latency.AddCoarse(50_000)
		}
		for range r.slow {
			c.Latency.AddCoarse(900_000)
		}
		s.Latency.Add(50_000, r.answers)
		s.Latency.Add(900_000, r.slow)
		s.Callers[id] = c
		s.Requests += c.Requests
		s.Abandoned += c.Abandoned
		s.FailedOver += c.FailedOver
		issued := max(r.issued, c.Requests+c.Abandoned)
		s.Load += issued
		s.Issuers.Add(id, issued, outcome.MaxNames)
	}
	s.Recent = s.Counts
	o.Recent = o.Window / 4
}

// What one proxy of several reports decides no figure alone, in neither direction, and what all report does.
func TestEvaluateBoundsOneProxy(t *testing.T) {
	t.Parallel()
	increase := func(g *v1alpha1.ShiftGuard) { g.Latency.AtMost = nil }
	limit := func(g *v1alpha1.ShiftGuard) { g.Latency.MaxIncrease = "" }
	for _, c := range []struct {
		name           string
		reports        map[string]report
		guard          func(*v1alpha1.ShiftGuard)
		source         uint64 // that one proxy reports of the source
		want           Result
		figure, reason string
	}{
		{
			name: "slow answers of one", guard: limit, want: Hold, figure: "callers",
			reports: map[string]report{"a": {answers: 400}, "b": {answers: 400}, "c": {answers: 400}, "liar": {slow: 200}},
			reason:  "proxy liar reports 200 of 200 requests to pods as slower than 300ms, and 3 others 0 of 1,200: see what is wrong with that proxy",
		},
		{
			name: "slow answers of one, compared", guard: increase, want: Hold, figure: "callers",
			reports: map[string]report{"a": {answers: 400}, "b": {answers: 400}, "c": {answers: 400}, "liar": {slow: 200}},
			reason:  "proxy liar reports 200 of 200 requests to pods as slower than",
		},
		{
			name: "slow answers of all", guard: limit, want: Fail, figure: "latency",
			reports: map[string]report{"a": {answers: 360, slow: 40}, "b": {answers: 360, slow: 40}, "c": {answers: 300, slow: 100}},
		},
		{
			name: "slow answers of all, compared", guard: increase, want: Fail, figure: "latencyIncrease",
			reports: map[string]report{"a": {answers: 360, slow: 40}, "b": {answers: 360, slow: 40}, "c": {answers: 300, slow: 100}},
		},
		{
			name: "slow answers of the one gateway that has the traffic", guard: limit, want: Fail, figure: "latency",
			reports: map[string]report{"edge": {answers: 800, slow: 200}, "b": {answers: 3}, "c": {answers: 3}},
		},
		{
			name: "slow answers that one hides", guard: limit, want: Hold, figure: "callers",
			reports: map[string]report{"a": {answers: 300, slow: 100}, "b": {answers: 300, slow: 100}, "liar": {answers: 100_000}},
			reason:  "without proxy liar, which reports 100,000 of the 100,800 requests, the guard fails: p99 of pods is",
		},
		{
			name: "requests that callers of one gave up", want: Hold, figure: "callers",
			reports: map[string]report{"a": {answers: 400}, "b": {answers: 400}, "c": {answers: 400}, "liar": {abandoned: 400}},
			reason:  "proxy liar reports 400 of 400 requests to pods as given up, and 3 others 0 of 1,200",
		},
		{
			name: "requests that callers of all gave up", want: Fail, figure: "abandoned",
			reports: map[string]report{"a": {answers: 400, abandoned: 100}, "b": {answers: 400, abandoned: 100}, "c": {answers: 400, abandoned: 90}},
		},
		{
			name: "requests of one that the other side answered", want: Hold, figure: "callers",
			reports: map[string]report{"a": {answers: 100}, "b": {answers: 100}, "c": {answers: 100}, "lost": {failedOver: 900}},
			reason:  "proxy lost reports 900 of 900 requests to pods as answered by instances, and 3 others 0 of 300",
		},
		{
			name: "requests of all that the other side answered", want: Fail, figure: "failover",
			reports: map[string]report{"a": {answers: 100, failedOver: 900}, "b": {answers: 100, failedOver: 900}, "c": {answers: 100, failedOver: 900}},
		},
		{
			name: "load reports of one of requests that nobody saw", want: Hold, figure: "callers",
			reports: map[string]report{"a": {answers: 400}, "b": {answers: 400}, "c": {answers: 400}, "liar": {issued: 10_000_000}},
			reason:  "load reports of proxy liar count 10,000,000 of the 10,001,200 requests to pods",
		},
		{
			name: "load reports of all", want: Fail, figure: "silence",
			reports: map[string]report{"a": {answers: 1, issued: 4000}, "b": {issued: 4000}, "c": {issued: 4000}},
		},
		{
			name: "requests to the source that one alone reports", source: 1_000_000, want: Hold, figure: "callers",
			reports: map[string]report{"a": {answers: 200}, "b": {answers: 200}, "c": {answers: 200}, "liar": {}},
			reason:  "proxy liar reports 1,000,000 of the 1,009,000 requests of instances, and 0 of those to pods",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g, o := fullGuard(), observation()
			g.SuccessRate.AtLeast = "99"
			if c.guard != nil {
				c.guard(g)
			}
			tell(o, c.reports)
			o.Source.Callers = map[string]outcome.CallerCounts{"a": {Requests: 3000}, "b": {Requests: 3000}, "c": {Requests: 3000}}
			if c.source > 0 {
				o.Source.Callers["liar"] = outcome.CallerCounts{Requests: c.source}
				o.Source.Requests += c.source
			}
			v := Evaluate(g, o, nil)
			require.Equal(t, c.want, v.Result, "%+v", v)
			require.Equal(t, c.figure, v.Figure, "%+v", v)
			require.Contains(t, v.Reason, c.reason)
		})
	}
}
