package outcomes

import (
	"fmt"
	"testing"
	"time"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/outcome"
	"github.com/causeway-mesh/causeway/policy/shift"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// forgery is what a proxy that lies tells of requests to pods, in a shift at 10 % whose source is alive.
type forgery struct {
	status         uint32
	entries        int
	issued         uint64 // by its load reports, 0 for none
	bad            bool   // whether pods fail every tenth request of honest proxies
	slow           bool
	want           shift.Result
	figure, reason string
}

// From the access log to the verdict: what one proxy forges neither takes a healthy shift back nor hides a bad release.
func TestForgedReports(t *testing.T) {
	for name, f := range map[string]forgery{
		"nobody lies":                   {want: shift.Pass, figure: "successRate"},
		"errors of nobody's requests":   {status: 500, entries: 200, want: shift.Pass, figure: "successRate"},
		"errors and load reports":       {status: 500, entries: 200, issued: 200, want: shift.Hold, figure: "callers", reason: "proxy liar reports 200 of 200 requests to pods as failed"},
		"slow answers and load reports": {status: 200, entries: 200, issued: 200, slow: true, want: shift.Hold, figure: "callers", reason: "proxy liar reports 200 of 200 requests to pods as slower than"},
		"load reports alone":            {issued: 1_000_000, want: shift.Hold, figure: "callers", reason: "load reports of proxy liar count"},
		"a bad release":                 {bad: true, want: shift.Fail, figure: "successRate"},
		"praise for a bad release":      {bad: true, status: 200, entries: 20_000, issued: 20_000, want: shift.Fail, figure: "errors", reason: "120 server errors"},
	} {
		t.Run(name, func(t *testing.T) {
			v := f.verdict(t)
			require.Equal(t, f.want, v.Result, "%+v", v)
			require.Equal(t, f.figure, v.Figure, "%+v", v)
			require.Contains(t, v.Reason, f.reason)
		})
	}
}

// verdict lets three honest proxies and the liar report, the leader count it, and the guard decide.
func (f *forgery) verdict(t *testing.T) shift.Verdict {
	t.Helper()
	const window = 2 * time.Minute
	r, c := newRecorder()
	r.opts.LoadsHere = true
	book := outcome.NewBook(c.now)
	tell := func(sequence uint64) {
		book.Add("replica", &outcome.Message{Session: 1, Sequence: sequence, Full: true, Report: r.Report(4)}, c.now)
	}
	load := func(id, cluster string, issued uint64) {
		r.Load(id, 10*time.Second, list(&endpointv3.ClusterStats{
			ClusterName: cluster, UpstreamLocalityStats: list(&endpointv3.UpstreamLocalityStats{TotalIssuedRequests: issued, TotalSuccessfulRequests: issued}),
		}))
	}
	log := func(id, cluster string, status uint32, n int) {
		for i := range n {
			e := entry(cluster, fmt.Sprint(id, i), status)
			e.CommonProperties.RouteName = "default"
			if id == "liar" && f.slow {
				e.CommonProperties.TimeToLastDownstreamTxByte.Seconds = 5
			}
			r.LogHTTP(id, outcomesLog, list(e))
		}
	}
	const pods, instances = "web/php:80/pods", "web/php:80/instances"
	for _, id := range []string{"a", "b", "c", "liar"} {
		r.Connected(id)
	}
	book.Expect("replica", c.now)
	c.pass(time.Second)
	tell(1)
	from := c.now
	for _, id := range []string{"a", "b", "c"} {
		failed := 0
		if f.bad {
			failed = 40
		}
		load(id, pods, 400)
		log(id, pods, 500, failed)
		log(id, pods, 200, 400-failed)
		load(id, instances, 3600)
		log(id, instances, 200, 3600)
	}
	if f.issued > 0 {
		load("liar", pods, f.issued)
	}
	log("liar", pods, f.status, f.entries)
	c.pass(time.Second)
	tell(2)
	w := book.Window(php, from, c.now)
	o := &shift.Observation{
		Window: window, Covered: window, Stable: window, From: discovery.Instances, To: discovery.Pods, Share: 100_000, Proxies: 4, Recent: window / 4, Attempts: 2,
		Target: shift.Side{Counts: w.Counts(discovery.Pods), Load: w.Issued(discovery.Pods), Issuers: w.IssuersOf(discovery.Pods), Paths: w.PathsOf(discovery.Pods)},
		Source: shift.Side{Counts: w.Counts(discovery.Instances), Load: w.Issued(discovery.Instances), Issuers: w.IssuersOf(discovery.Instances), Paths: w.PathsOf(discovery.Instances)},
	}
	o.Target.Recent, o.Source.Recent = o.Target.Counts, o.Source.Counts
	guard := &v1alpha1.ShiftGuard{
		SuccessRate: &v1alpha1.ShiftSuccessRate{AtLeast: "99"}, MinRequests: 500, Window: metav1.Duration{Duration: window},
		Latency: &v1alpha1.ShiftLatency{AtMost: &metav1.Duration{Duration: 300 * time.Millisecond}},
	}
	o.Apply(guard)
	return shift.Evaluate(guard, o, nil)
}
