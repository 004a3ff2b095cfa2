package shift

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/policy/outcome"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// What nobody who looks would pass, however good the success rate is, and what a healthy target
// must not be blamed for, however bad its source is.
func TestEvaluateWhatAPersonWouldSay(t *testing.T) {
	t.Parallel()
	type paths = map[string]answers
	at := func(share uint32) func(*v1alpha1.ShiftGuard, *Observation) {
		return func(_ *v1alpha1.ShiftGuard, o *Observation) { o.Share = share }
	}
	loose := func(g *v1alpha1.ShiftGuard, _ *Observation) { g.SuccessRate.AtLeast = "90" }
	latencyOf := func(micros uint64) func(*v1alpha1.ShiftGuard, *Observation) {
		return func(_ *v1alpha1.ShiftGuard, o *Observation) {
			o.Source.Latency = outcome.Histogram{}
			o.Source.Latency.Add(micros, o.Source.Requests)
		}
	}
	for _, c := range []struct {
		name            string
		pods, instances paths
		change          func(*v1alpha1.ShiftGuard, *Observation)
		want            Result
		figure, reason  string
	}{
		// The target is bad.
		{
			name: "only POST is gone", pods: paths{"/": {200: 9000}, "/cart": {200: 970}, "POST /cart": {404: 30}},
			instances: paths{"/": {200: 81_000}, "/cart": {200: 8730}, "POST /cart": {302: 270}},
			want:      Fail, figure: "paths", reason: "404 is 100 % of the 30 answers of pods to POST /cart, and 0 % of the 270 of instances",
		},
		{
			name: "POST fails at 100 %", pods: paths{"/": {200: 95_000}, "POST /cart": {500: 200}}, want: Hold, figure: "paths", reason: `state guard.paths.ignored: ["/cart"]`,
			change: func(g *v1alpha1.ShiftGuard, o *Observation) { g.SuccessRate.AtLeast, o.Share = "90", 1_000_000 },
		},
		{
			name: "POST fails where its path is ignored", pods: paths{"/": {200: 95_000}, "POST /cart": {500: 200}}, want: Pass, figure: "successRate",
			change: func(g *v1alpha1.ShiftGuard, o *Observation) {
				g.SuccessRate.AtLeast, o.Share, g.Paths = "90", 1_000_000, &v1alpha1.ShiftPaths{Ignored: []v1alpha1.ShiftPath{"/cart"}}
			},
		},
		{
			name: "a login loop where the login is a page that redirects", pods: paths{"/": {302: 400}, "/login": {302: 500}},
			instances: paths{"/": {200: 3600}, "/login": {302: 90}}, want: Fail, figure: "statusCodes", reason: "302 is 100 %",
		},
		{
			name: "the health path is well and nothing else", pods: paths{"/healthz": {200: 9900}, "/": {503: 60}, "/cart": {503: 40}}, change: loose,
			instances: paths{"/healthz": {200: 89_100}, "/": {200: 540}, "/cart": {200: 360}}, want: Fail, figure: "errors", reason: "503",
		},
		{
			name: "gRPC refuses one method", pods: paths{"POST /shop.Cart/Add": {outcome.GRPCCode(12): 60}, "POST /shop.Cart/Get": {outcome.GRPCCode(0): 9940}},
			instances: paths{"POST /shop.Cart/Add": {outcome.GRPCCode(0): 540}, "POST /shop.Cart/Get": {outcome.GRPCCode(0): 89_460}},
			want:      Fail, figure: "paths", reason: "UNIMPLEMENTED is 100 %",
		},
		{
			name: "pods reset a path", pods: paths{"/": {200: 9900}, "/upload": {outcome.NoAnswer: 60, 200: 10}}, change: loose,
			instances: paths{"/": {200: 89_100}, "/upload": {200: 630}}, want: Fail, figure: "errors", reason: "connect failures",
		},
		{
			name: "404 to everything at 100 %", pods: paths{"/": {404: 9000}, "/cart": {404: 1000}}, change: at(1_000_000),
			want: Hold, figure: "statusCodes", reason: `404 is 100 % of the 10,000 answers of pods, and instances get too few requests for it to be compared with`,
		},
		{
			name: "a login loop at 100 %", pods: paths{"/": {302: 9000, 200: 1000}}, change: at(1_000_000), want: Hold, figure: "statusCodes", reason: "302 is 90 %",
		},
		{
			name: "404 to everything while instances answer nothing well", pods: paths{"/": {404: 1000}}, instances: paths{"/": {503: 9000}},
			want: Hold, figure: "statusCodes", reason: "404 is 100 % of the 1,000 answers of pods, and instances answer nothing well that it could be compared with",
		},
		// The target is well.
		{name: "instances are dead", pods: paths{"/": {200: 940, 404: 60}}, instances: paths{"/": {503: 9000}}, want: Pass, figure: "successRate"},
		{
			name: "instances fail where they would have said 404", pods: paths{"/": {200: 920}, "/old": {404: 80}},
			instances: paths{"/": {200: 8280}, "/old": {500: 720}}, want: Pass, figure: "successRate",
		},
		{
			name: "instances fail all pages, and beacons are well", pods: paths{"/": {200: 900}, "/beacon": {204: 100}},
			instances: paths{"/": {500: 8100}, "/beacon": {204: 900}}, want: Pass, figure: "successRate",
		},
		{
			name: "instances are being deployed", pods: paths{"/": {200: 900, 404: 40}}, instances: paths{"/": {200: 5000, 404: 220, outcome.NoAnswer: 2000, 502: 900}},
			want: Pass, figure: "successRate",
		},
		{
			name: "instances are overloaded and refuse at once", pods: paths{"/": {200: 1000}}, instances: paths{"/": {503: 8950, 200: 50}},
			change: latencyOf(900), want: Pass, figure: "successRate",
		},
		{
			name: "instances answer 404 at once to all", pods: paths{"/": {200: 1000}}, instances: paths{"/": {404: 9000}},
			change: latencyOf(900), want: Pass, figure: "successRate",
		},
		{
			name: "a prober that asks instances alone", pods: paths{"/": {200: 920, 404: 80}}, instances: paths{"/": {200: 8280, 404: 720}, "/healthz": {200: 90_000}},
			want: Pass, figure: "successRate",
		},
		{
			name: "a prober that asks instances alone, and errors of both", change: loose, pods: paths{"/": {200: 9800, 500: 100}},
			instances: paths{"/": {200: 88_200, 500: 900}, "/healthz": {200: 900_000}}, want: Pass, figure: "successRate",
		},
		{
			name: "a prober that asks instances alone, at once", pods: paths{"/": {200: 1000}}, instances: paths{"/": {200: 9000}, "/healthz": {200: 900_000}},
			change: latencyOf(900), want: Hold, figure: "latencyIncrease", reason: "instances get requests that pods do not, most of them to /healthz: no comparison",
		},
		{
			name: "a scanner that has come to pods alone", pods: paths{"/": {200: 9600}, "/wp-admin": {404: 400}}, instances: paths{"/": {200: 86_400}},
			want: Hold, figure: "paths", reason: "nobody asks them for this path",
		},
		{
			name: "instances hang but for their health path, a path fails on both sides", change: loose, pods: paths{"/": {200: 9500}, "/broken": {500: 200}, "/healthz": {200: 10}},
			instances: paths{"/healthz": {200: 90}}, want: Hold, figure: "paths", reason: "too few requests for it to be compared with",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			v := evaluateAnswers(c.pods, c.instances, c.change)
			require.Equal(t, c.want, v.Result, "%+v", v)
			require.Equal(t, c.figure, v.Figure, "%+v", v)
			require.Contains(t, v.Reason, c.reason)
		})
	}
}
