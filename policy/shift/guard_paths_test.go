package shift

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/outcome"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// answers are those of one side to a path, by status.
type answers map[outcome.Code]uint64

// answered adds answers to a path of the default rule to a side.
func (s *Side) answered(path string, codes answers) { s.answeredBy("default", path, codes) }

func (s *Side) answeredBy(rule, path string, codes answers) {
	if s.Paths == nil {
		s.Paths = make(map[outcome.Path]*outcome.PathCounts)
	}
	key := outcome.Path{Rule: rule, Group: path}
	c := s.Paths[key]
	if c == nil {
		c = &outcome.PathCounts{}
		s.Paths[key] = c
	}
	for code, n := range codes {
		c.Codes.Add(code, n)
		s.Codes.Add(code, n)
		c.Requests += n
		s.Requests += n
		s.Load += n
		s.Latency.Add(50_000, n)
		switch {
		case code == outcome.NoAnswer:
			c.Failures += n
			s.Failures[outcome.ConnectFailure] += n
		case code.Failure():
			c.Failures += n
			s.Failures[outcome.ServerError] += n
		}
		if !code.Good() {
			c.Endpoints.Add("web/php-1", n-n/3, outcome.MaxNames)
			c.Endpoints.Add("web/php-2", n/3, outcome.MaxNames)
			c.Callers.Add("i-caller", n, outcome.MaxNames)
		}
	}
}

// The comparison of statuses and of paths: what a success rate does not tell.
func TestEvaluateStatusesAndPaths(t *testing.T) {
	t.Parallel()
	codes := func(failures, fine []v1alpha1.ShiftStatusCode) func(*v1alpha1.ShiftGuard, *Observation) {
		return func(g *v1alpha1.ShiftGuard, _ *Observation) {
			g.StatusCodes = &v1alpha1.ShiftStatusCodes{Failures: failures, Fine: fine}
		}
	}
	notFound, refused := outcome.GRPCCode(5), outcome.GRPCCode(16)
	for _, c := range []struct {
		name            string
		pods, instances map[string]answers
		change          func(*v1alpha1.ShiftGuard, *Observation)
		want            Result
		figure, reason  string
	}{
		{name: "the same mix", pods: map[string]answers{"/": {200: 880, 404: 60, 302: 60}}, instances: map[string]answers{"/": {200: 8000, 404: 500, 302: 500}}, want: Pass, figure: "successRate"},
		{
			name: "404 to everything", pods: map[string]answers{"/": {404: 600}, "/cart": {404: 281}}, instances: map[string]answers{"/": {200: 6000}, "/cart": {200: 2900, 404: 8}},
			want: Fail, figure: "statusCodes", reason: "404 is 100 % of the 881 answers of pods, and 0.09 % of the 8,908 of instances; " +
				"on paths / (600), /cart (281): 404 (881) by pods web/php-1 (588), web/php-2 (293) for caller i-caller (881)",
		},
		{name: "a login loop", pods: map[string]answers{"/": {302: 900}}, instances: map[string]answers{"/": {200: 8000, 302: 900}}, want: Fail, figure: "statusCodes", reason: "302 is 100 %"},
		{name: "401 to a third", pods: map[string]answers{"/": {200: 600, 401: 300}}, instances: map[string]answers{"/": {200: 8900, 401: 20}}, want: Fail, figure: "statusCodes"},
		{name: "empty answers", pods: map[string]answers{"/": {204: 900}}, instances: map[string]answers{"/": {200: 8900}}, want: Fail, figure: "statusCodes", reason: "204 is 100 % of the 900 good answers of pods"},
		{name: "browsers have it already", pods: map[string]answers{"/": {200: 900}}, instances: map[string]answers{"/": {200: 6000, 304: 2900, 206: 50}}, want: Pass, figure: "successRate"},
		{
			name: "gRPC refuses", pods: map[string]answers{"/shop.Cart/Add": {outcome.GRPCCode(0): 100, refused: 800}}, instances: map[string]answers{"/shop.Cart/Add": {outcome.GRPCCode(0): 8900, notFound: 10}},
			want: Fail, figure: "statusCodes", reason: "UNAUTHENTICATED is",
		},
		{
			name: "pods let everybody in", pods: map[string]answers{"/": {200: 900}}, instances: map[string]answers{"/": {200: 7000, 401: 1900}}, want: Hold,
			figure: "statusCodes", reason: "let in whom they should not",
		},
		{name: "instances answer 404, pods do not", pods: map[string]answers{"/": {200: 900}}, instances: map[string]answers{"/": {200: 4000, 404: 4900}}, want: Pass, figure: "successRate"},
		{name: "few of them", pods: map[string]answers{"/": {200: 990, 404: 14}}, instances: map[string]answers{"/": {200: 8990, 404: 20}}, want: Hold, figure: "statusCodes", reason: "not enough evidence"},
		{name: "404 is fine", change: codes(nil, []v1alpha1.ShiftStatusCode{"4xx"}), pods: map[string]answers{"/": {404: 900}}, instances: map[string]answers{"/": {200: 8900}}, want: Pass, figure: "successRate"},
		{
			name: "404 is a failure", change: codes([]v1alpha1.ShiftStatusCode{"404"}, []v1alpha1.ShiftStatusCode{"4xx"}), pods: map[string]answers{"/": {404: 90, 200: 800}},
			instances: map[string]answers{"/": {200: 8900}}, want: Fail, figure: "successRate", reason: "pods answered 89.8 % of 890 requests (bound 99.9 %): 90 server errors; on path / (90): 404 (90)",
		},
		{name: "503 is fine", change: codes(nil, []v1alpha1.ShiftStatusCode{"503"}), pods: map[string]answers{"/": {503: 90, 200: 800}}, instances: map[string]answers{"/": {200: 8900}}, want: Pass, figure: "successRate"},
		{
			name: "the comparison is off", change: func(g *v1alpha1.ShiftGuard, _ *Observation) {
				g.StatusCodes = &v1alpha1.ShiftStatusCodes{Comparison: v1alpha1.ComparisonDisabled}
			}, pods: map[string]answers{"/": {404: 900}}, instances: map[string]answers{"/": {200: 8900}}, want: Pass, figure: "successRate",
		},
		{
			name: "the comparison is bounded", change: func(g *v1alpha1.ShiftGuard, _ *Observation) {
				g.StatusCodes = &v1alpha1.ShiftStatusCodes{MaxIncrease: "20"}
			}, pods: map[string]answers{"/": {200: 800, 404: 100}}, instances: map[string]answers{"/": {200: 8900}}, want: Pass, figure: "successRate",
		},
		{
			name: "replicas of an earlier release tell no statuses", change: func(_ *v1alpha1.ShiftGuard, o *Observation) {
				for _, s := range []*Side{&o.Target, &o.Source} {
					s.Codes, s.Paths = nil, nil
					s.Callers = map[string]outcome.CallerCounts{"a": {Requests: s.Requests}, "b": {Requests: 1}, "c": {Requests: 1}}
				}
			},
			pods: map[string]answers{"/": {200: 900}}, instances: map[string]answers{"/": {200: 8900}}, want: Pass, figure: "successRate",
		},
		{
			name: "one path fails", change: func(g *v1alpha1.ShiftGuard, _ *Observation) { g.SuccessRate.AtLeast = "99" },
			pods: map[string]answers{"/": {200: 120_000}, "/checkout": {500: 84}}, instances: map[string]answers{"/": {200: 1_080_000}, "/checkout": {200: 756}},
			want: Fail, figure: "paths", reason: "pods answered 0 % of 84 requests to /checkout, instances 100 % of 756: 500 (84) by pods web/php-1 (56), web/php-2 (28) for caller i-caller (84)",
		},
		{
			name: "one path is ignored", change: func(g *v1alpha1.ShiftGuard, _ *Observation) {
				g.SuccessRate.AtLeast, g.Paths = "99", &v1alpha1.ShiftPaths{Ignored: []v1alpha1.ShiftPath{"/checkout/*"}}
			}, pods: map[string]answers{"/": {200: 120_000}, "/checkout": {500: 84}}, instances: map[string]answers{"/": {200: 1_080_000}, "/checkout": {200: 756}},
			want: Pass, figure: "successRate",
		},
		{
			name: "one path answers 404", pods: map[string]answers{"/": {200: 11916}, "/checkout": {404: 84}}, instances: map[string]answers{"/": {200: 107_000}, "/checkout": {200: 756}},
			want: Fail, figure: "paths", reason: "404 is 100 % of the 84 answers of pods to /checkout, and 0 % of the 756 of instances",
		},
		{
			name: "one path fails on both sides", change: func(g *v1alpha1.ShiftGuard, _ *Observation) { g.SuccessRate.AtLeast = "99" },
			pods: map[string]answers{"/": {200: 11916}, "/broken": {500: 84}}, instances: map[string]answers{"/": {200: 107_000}, "/broken": {500: 756}}, want: Pass, figure: "successRate",
		},
		{
			name: "a path that only the new release has", pods: map[string]answers{"/": {200: 9000}, "/new": {200: 300, 302: 40}}, instances: map[string]answers{"/": {200: 81_000}},
			want: Pass, figure: "successRate",
		},
		{
			name: "a path that only the new release has, and fails", change: func(g *v1alpha1.ShiftGuard, _ *Observation) { g.SuccessRate.AtLeast = "90" },
			pods: map[string]answers{"/": {200: 9000}, "/new": {500: 300}}, instances: map[string]answers{"/": {200: 81_000}},
			want: Fail, figure: "errors", reason: "on path /new (300)",
		},
		{
			name: "a path that only the new release has, and is not there", pods: map[string]answers{"/": {200: 60_000}, "/new": {404: 300}}, instances: map[string]answers{"/": {200: 540_000}},
			want: Hold, figure: "paths", reason: "nobody asks them for this path",
		},
		{
			name: "at 95 % a path that fails on both sides", change: func(g *v1alpha1.ShiftGuard, o *Observation) { g.SuccessRate.AtLeast, o.Share = "90", 950_000 },
			pods: map[string]answers{"/": {200: 95_000}, "/broken": {500: 200}}, instances: map[string]answers{"/": {200: 5000}, "/broken": {500: 10}}, want: Pass, figure: "successRate",
		},
		{
			name: "at 100 % a path fails", change: func(g *v1alpha1.ShiftGuard, o *Observation) { g.SuccessRate.AtLeast, o.Share = "90", 1_000_000 },
			pods: map[string]answers{"/": {200: 95_000}, "/checkout": {500: 200}}, want: Hold, figure: "paths", reason: `state guard.paths.ignored: ["/checkout"]`,
		},
		{
			name: "one user's doing", change: func(_ *v1alpha1.ShiftGuard, o *Observation) { o.Cohort = true },
			pods: map[string]answers{"/": {200: 20_000}, "/cart": {200: 150, 404: 50}}, instances: map[string]answers{"/": {200: 180_000}, "/cart": {200: 1800}}, want: Hold, figure: "paths", reason: "not enough evidence",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			v := evaluateAnswers(c.pods, c.instances, c.change)
			require.Equal(t, c.want, v.Result, "%+v", v)
			require.Equal(t, c.figure, v.Figure, "%+v", v)
			require.Contains(t, v.Reason, c.reason)
			t.Log(v.Reason)
		})
	}
}

// evaluateAnswers says what the full guard, changed, makes of answers by their paths.
func evaluateAnswers(pods, instances map[string]answers, change func(*v1alpha1.ShiftGuard, *Observation)) Verdict {
	o := observation()
	o.Target, o.Source = Side{}, Side{}
	for path, a := range pods {
		o.Target.answered(path, a)
	}
	for path, a := range instances {
		o.Source.answered(path, a)
	}
	g := fullGuard()
	if change != nil {
		change(g, o)
	}
	o.Apply(g)
	return Evaluate(g, o, nil)
}

// A rule that fails wholly is named where its paths are too many to be.
func TestEvaluateRule(t *testing.T) {
	t.Parallel()
	o := observation()
	o.Target, o.Source = Side{}, Side{}
	o.Target.answered("/", answers{200: 50_000})
	o.Source.answered("/", answers{200: 450_000})
	for i := range 10 {
		path := "/" + string(rune('a'+i))
		o.Target.answeredBy("HTTPRoute/web/shop/1", path, answers{500: 4})
		o.Source.answeredBy("HTTPRoute/web/shop/1", path, answers{200: 36})
	}
	v := Evaluate(fullGuard(), o, nil)
	require.Equal(t, Fail, v.Result, "%+v", v)
	require.Contains(t, v.Reason, "pods answered 0 % of 40 requests to all paths of rule HTTPRoute/web/shop/1, instances 100 % of 360")
}

// A path that is ignored does not count by its rule either.
func TestEvaluateRuleWithoutIgnoredPaths(t *testing.T) {
	t.Parallel()
	const rule, legacy = "HTTPRoute/web/shop/1", "/legacy/*"
	o := observation()
	o.Target, o.Source = Side{}, Side{}
	o.Target.answered("/", answers{200: 50_000})
	o.Source.answered("/", answers{200: 450_000})
	o.Target.answeredBy(rule, legacy, answers{500: 40})
	o.Source.answeredBy(rule, legacy, answers{200: 360})
	g := fullGuard()
	g.SuccessRate.AtLeast = "99"
	require.Equal(t, Fail, Evaluate(g, o, nil).Result)
	g.Paths = &v1alpha1.ShiftPaths{Ignored: []v1alpha1.ShiftPath{legacy}}
	v := Evaluate(g, o, nil)
	require.Equal(t, Pass, v.Result, "%+v", v)
}

// What a spec is told to state is what it can state.
func TestPathRemedy(t *testing.T) {
	t.Parallel()
	require.Equal(t, `guard.paths.ignored: ["/cart"]`, (&pathPair{Path: outcome.Path{Rule: "default", Group: "POST /cart"}}).remedy())
	for _, p := range []*pathPair{{Path: outcome.Path{Rule: "default"}}, {Path: outcome.Path{Rule: "web"}, whole: true}, {}} {
		require.Equal(t, "guard.paths.comparison: Disabled", p.remedy())
	}
}

// A status that is fine already is no remedy.
func TestUnlikelyNamesNoFineStatus(t *testing.T) {
	t.Parallel()
	o := observation()
	o.Target, o.Source, o.Share = Side{}, Side{}, 1_000_000
	o.Target.answered("/", answers{404: 400, 302: 350, 401: 340})
	g := fullGuard()
	g.StatusCodes = &v1alpha1.ShiftStatusCodes{Fine: []v1alpha1.ShiftStatusCode{"404"}}
	v := Evaluate(g, o, nil)
	require.Equal(t, Hold, v.Result, "%+v", v)
	require.Contains(t, v.Reason, `302 is 32 % of the 1,090 answers of pods`)
	require.Contains(t, v.Reason, `state guard.statusCodes.fine: ["302"]`)
}

// A status that the guard calls a failure is one that a proxy reports too, so it cannot fail a
// target on its own word; one that it calls fine is none.
func TestEvaluateOneProxyAloneOfStatedFailures(t *testing.T) {
	t.Parallel()
	observe := func(code outcome.Code, forged, honest uint64) *Observation {
		o := observation()
		o.Target, o.Source = Side{}, Side{}
		o.Target.answered("/", answers{200: 9000, code: forged + honest})
		o.Target.Paths[outcome.Path{Rule: "default", Group: "/"}].Callers = outcome.Names{{Name: "a", N: honest}, {Name: "liar", N: forged}}
		failed := func(n uint64) uint64 {
			if code.Failure() {
				return n
			}
			return 0
		}
		o.Target.Callers = map[string]outcome.CallerCounts{
			"a": {Requests: 3000 + honest, Failures: failed(honest)}, "b": {Requests: 3000}, "c": {Requests: 3000},
			"liar": {Requests: forged, Failures: failed(forged)},
		}
		o.Source.answered("/", answers{200: 90_000})
		return o
	}
	g := fullGuard()
	g.StatusCodes = &v1alpha1.ShiftStatusCodes{Comparison: v1alpha1.ComparisonDisabled, Failures: []v1alpha1.ShiftStatusCode{"404"}, Fine: []v1alpha1.ShiftStatusCode{"503"}}
	g.Paths = &v1alpha1.ShiftPaths{Comparison: v1alpha1.ComparisonDisabled}
	evaluate := func(o *Observation) Verdict {
		o.Apply(g)
		return Evaluate(g, o, nil)
	}
	v := evaluate(observe(404, 900, 0))
	require.Equal(t, Hold, v.Result, "%+v", v)
	require.Contains(t, v.Reason, "proxy liar reports 900 of 900 requests to pods as failed")
	v = evaluate(observe(404, 30, 900))
	require.Equal(t, Fail, v.Result, "%+v", v)
	o := observe(503, 900, 0)
	v = evaluate(o)
	require.Equal(t, Pass, v.Result, "%+v", v)
	require.Zero(t, o.Target.Callers["liar"].Failures)
}

// What one proxy of several alone reports of statuses and paths neither fails a target nor passes it.
func TestEvaluateOneProxyAlone(t *testing.T) {
	t.Parallel()
	const cart = "/cart"
	observe := func(pods map[string]answers, callers map[string]outcome.CallerCounts, bad map[string]outcome.Names) *Observation {
		o := observation()
		o.Target, o.Source = Side{}, Side{}
		for path, a := range pods {
			o.Target.answered(path, a)
			o.Target.Paths[outcome.Path{Rule: "default", Group: path}].Callers = bad[path]
		}
		o.Target.Callers = callers
		o.Source.answered("/", answers{200: 81_000})
		o.Source.answered(cart, answers{200: 9000})
		return o
	}
	names := func(name string, n uint64) outcome.Names { return outcome.Names{{Name: name, N: n}} }
	for _, c := range []struct {
		name    string
		pods    map[string]answers
		callers map[string]outcome.CallerCounts
		bad     map[string]outcome.Names
		// zone is what pods web/php-1 and web/php-2, which give all bad answers, have answered.
		zone   uint64
		want   Result
		reason string
	}{
		{
			name: "a bad pod of a zone with one caller", pods: map[string]answers{"/": {200: 6000, 404: 1000}, cart: {200: 600, 404: 100}},
			callers: map[string]outcome.CallerCounts{"a": {Requests: 3300}, "b": {Requests: 3300}, "c": {Requests: 1100}},
			bad:     map[string]outcome.Names{"/": names("c", 1000), cart: names("c", 100)},
			zone:    1100, want: Fail, reason: "404 is 14 % of the 7,700 answers of pods",
		},
		{
			name: "a pod of a zone with one caller that fails", pods: map[string]answers{"/": {200: 6000, 500: 1000}, cart: {200: 600, 500: 100}},
			callers: map[string]outcome.CallerCounts{"a": {Requests: 3300}, "b": {Requests: 3300}, "c": {Requests: 1100, Failures: 1100}},
			bad:     map[string]outcome.Names{"/": names("c", 1000), cart: names("c", 100)},
			zone:    1100, want: Fail, reason: "pods answered 85.7 % of 7,700 requests, instances 100 % of theirs at the same time: 1,100 server errors; most on pod web/php-1",
		},
		{
			name: "a proxy that reports failures of pods that others use", pods: map[string]answers{"/": {200: 6000, 500: 1000}, cart: {200: 600, 500: 100}},
			callers: map[string]outcome.CallerCounts{"a": {Requests: 3300}, "b": {Requests: 3300}, "c": {Requests: 1100, Failures: 1100}},
			bad:     map[string]outcome.Names{"/": names("c", 1000), cart: names("c", 100)},
			zone:    7700, want: Hold, reason: "proxy c reports 1,100 of 1,100 requests to pods as failed",
		},
		{
			name: "a proxy with a broken network", pods: map[string]answers{"/": {200: 9000, outcome.NoAnswer: 300}, cart: {200: 900, outcome.NoAnswer: 30}},
			callers: map[string]outcome.CallerCounts{"a": {Requests: 3300}, "b": {Requests: 3300}, "c": {Requests: 3300}, "broken": {Requests: 330, Failures: 330}},
			bad:     map[string]outcome.Names{"/": names("broken", 300), cart: names("broken", 30)},
			want:    Hold, reason: "proxy broken reports 330 of 330 requests to pods as failed",
		},
		{
			name: "a proxy that forges 500 for a path", pods: map[string]answers{"/": {200: 90_000}, cart: {200: 900, 500: 80}},
			callers: map[string]outcome.CallerCounts{"a": {Requests: 30_300}, "b": {Requests: 30_300}, "c": {Requests: 30_300}, "liar": {Requests: 80, Failures: 80}},
			bad:     map[string]outcome.Names{cart: names("liar", 80)},
			want:    Hold, reason: "proxy liar reports 80 of the 80 bad answers of pods to /cart, and all others 0 bad ones of 900: see what is wrong with that proxy",
		},
		{
			name: "a proxy that forges 404 for a path", pods: map[string]answers{"/": {200: 90_000}, cart: {200: 900, 404: 200}},
			callers: map[string]outcome.CallerCounts{"a": {Requests: 30_300}, "b": {Requests: 30_300}, "c": {Requests: 30_300}, "liar": {Requests: 200}},
			bad:     map[string]outcome.Names{cart: names("liar", 200)},
			want:    Hold, reason: "proxy liar reports 200 of the 200 bad answers of pods to /cart",
		},
		{
			name: "a proxy that forges 404 for everything", pods: map[string]answers{"/": {200: 9000, 404: 1000}, cart: {200: 900, 404: 100}},
			callers: map[string]outcome.CallerCounts{"a": {Requests: 3300}, "b": {Requests: 3300}, "c": {Requests: 3300}, "liar": {Requests: 1100}},
			bad:     map[string]outcome.Names{"/": names("liar", 1000), cart: names("liar", 100)},
			want:    Hold, reason: "proxy liar reports 1,100 of the 1,100 bad answers of pods, and all others 0 bad ones of 9,900",
		},
		{
			name: "a path for which one proxy alone asks", pods: map[string]answers{"/": {200: 9000}, cart: {200: 300, 500: 200}},
			callers: map[string]outcome.CallerCounts{"a": {Requests: 3000}, "b": {Requests: 3000}, "shop": {Requests: 3500, Failures: 200}},
			bad:     map[string]outcome.Names{cart: names("shop", 200)},
			want:    Fail, reason: "500 (200) by pods web/php-1 (134), web/php-2 (66) for caller shop (200)",
		},
		{
			name: "404 to all, one proxy has most of the traffic", pods: map[string]answers{"/": {404: 900}, cart: {404: 100}},
			callers: map[string]outcome.CallerCounts{"a": {Requests: 100}, "b": {Requests: 100}, "edge": {Requests: 800}},
			bad: map[string]outcome.Names{
				"/": {{Name: "a", N: 100}, {Name: "b", N: 100}, {Name: "edge", N: 700}}, cart: names("edge", 100),
			},
			want: Fail, reason: "404 is 100 % of the 1,000 answers of pods",
		},
		{
			name: "a bad release that one proxy praises", pods: map[string]answers{"/": {200: 100_500, 404: 400}, cart: {200: 100}},
			callers: map[string]outcome.CallerCounts{"a": {Requests: 500}, "b": {Requests: 500}, "liar": {Requests: 100_000}},
			bad:     map[string]outcome.Names{"/": {{Name: "a", N: 200}, {Name: "b", N: 200}}},
			want:    Hold, reason: "without proxy liar, which reports 100,000 of the 101,000 requests, the guard fails: 404 is",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := fullGuard()
			g.SuccessRate.AtLeast = "50"
			o := observe(c.pods, c.callers, c.bad)
			if c.zone > 0 {
				failed := o.Target.Failed()
				o.Target.Endpoints = map[string]outcome.EndpointCounts{
					"web/php-1": {Requests: c.zone - c.zone/3, Failures: failed - failed/3}, "web/php-2": {Requests: c.zone / 3, Failures: failed / 3},
				}
			}
			v := Evaluate(g, o, nil)
			require.Equal(t, c.want, v.Result, "%+v", v)
			require.Contains(t, v.Reason, c.reason)
		})
	}
}

// A status says which paths differ most, and with which statuses.
func TestPathFigures(t *testing.T) {
	t.Parallel()
	o := &Observation{From: discovery.Instances, To: discovery.Pods}
	for _, path := range []string{"/a", "/b", "/c", "/d", "/e", "/f"} {
		o.Target.answered(path, answers{200: 900, 404: 10})
		o.Source.answered(path, answers{200: 9000, 404: 100})
	}
	o.Target.answered("/checkout", answers{404: 20, 500: 10})
	o.Source.answered("/checkout", answers{200: 300})
	a := Analyze(&v1alpha1.ShiftGuard{}, o, Verdict{Result: Fail, Reason: "x"}, time.Unix(1_800_000_000, 0), nil)
	require.Len(t, a.Paths, pathsShown)
	require.Equal(t, v1alpha1.ShiftPathFigures{
		Path: "/checkout", Rule: "default",
		Pods:      &v1alpha1.ShiftFigures{Requests: 30, SuccessRate: "66.6", Statuses: []v1alpha1.ShiftStatusPart{{Code: "404", Percent: "67"}, {Code: "500", Percent: "33"}}},
		Instances: &v1alpha1.ShiftFigures{Requests: 300, SuccessRate: "100", Statuses: []v1alpha1.ShiftStatusPart{{Code: "200", Percent: "100"}}},
	}, a.Paths[0])
	require.Equal(t, []v1alpha1.ShiftStatusPart{{Code: "200", Percent: "98"}, {Code: "404", Percent: "1.5"}, {Code: "500", Percent: "0.18"}}, a.Pods.Statuses)
}

// TestSameMixForADay looks every ten seconds at sixty paths that both sides answer with the
// same statuses, a tenth of them errors of the caller, for a whole day.
func TestSameMixForADay(t *testing.T) {
	t.Parallel()
	const length, step, day, paths = 120, 10, 24 * 60 * 60, 60
	r := rand.New(rand.NewPCG(31, 32))
	g := fullGuard()
	g.SuccessRate.AtLeast = "99"
	type second [2][paths]map[outcome.Code]uint64
	var ring [length / step]second
	codes := []struct {
		code outcome.Code
		part float64
	}{{200, .85}, {404, .08}, {302, .04}, {401, .02}, {500, .004}, {204, .006}}
	sum := func(c *outcome.Codes, code outcome.Code, n, gone uint64) {
		i := slices.IndexFunc(*c, func(o outcome.CodeCount) bool { return o.Code == code })
		if i < 0 {
			c.Add(code, n)
			return
		}
		(*c)[i].N += n - gone
	}
	o := observation()
	o.Share = 300_000
	o.Target, o.Source = Side{}, Side{}
	results := make(map[Result]int)
	for at := 0; at < day; at += step {
		slot := &ring[at/step%len(ring)]
		for side, s := range []*Side{&o.Target, &o.Source} {
			if s.Paths == nil {
				s.Paths = make(map[outcome.Path]*outcome.PathCounts)
			}
			share := []float64{.3, .7}[side]
			for path := range paths {
				key := outcome.Path{Rule: "default", Group: "/" + string(rune('0'+path))}
				c := s.Paths[key]
				if c == nil {
					c = &outcome.PathCounts{}
					s.Paths[key] = c
				}
				if slot[side][path] == nil {
					slot[side][path] = make(map[outcome.Code]uint64)
				}
				// Few paths are asked for much, and most are not.
				rate := 40 / float64(1+path) * share
				for _, code := range codes {
					n, gone := poisson(r, rate*code.part*step), slot[side][path][code.code]
					slot[side][path][code.code] = n
					if n == 0 && gone == 0 {
						continue
					}
					c.Requests += n - gone
					s.Requests += n - gone
					s.Load = s.Requests
					sum(&c.Codes, code.code, n, gone)
					sum(&s.Codes, code.code, n, gone)
					if code.code == 500 {
						c.Failures += n - gone
						s.Failures[outcome.ServerError] += n - gone
					}
				}
			}
		}
		if at < length {
			continue
		}
		v := Evaluate(g, o, nil)
		require.NotEqual(t, Fail, v.Result, "at second %d: %s", at, v.Reason)
		results[v.Result]++
	}
	t.Logf("%v", results)
	require.Greater(t, results[Pass], (day/step)*95/100, "%v", results)
}
