package observe

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/outcome"
	"github.com/causeway-mesh/causeway/xds/observe/observev1"
)

// The size for which memory, messages and time are bounded.
const (
	manyObjects = 5000
	manyProxies = 1000
)

// largeMesh is what a replica sees of 5,000 objects and 1,000 proxies, of which
// every tenth is behind the newest hundred objects.
func largeMesh() Local {
	out := Local{Index: manyObjects}
	for i := range manyObjects {
		out.Objects = append(out.Objects, Object{
			Name: discovery.ObjectName{Kind: "HTTPRoute", Key: discovery.Key{
				Namespace: fmt.Sprintf("team-%03d", i%200), Name: fmt.Sprintf("checkout-frontend-route-%04d", i),
			}}, Generation: 3, Index: uint64(i + 1), Since: at(0), //nolint:gosec // small
		})
	}
	for i := range manyProxies {
		p := Proxy{
			Node:         fmt.Sprintf("sidecar~team-%03d~checkout-frontend~8f14e45f-ceea-467f-a8d5-%012d", i%200, i),
			Acknowledged: manyObjects, Connected: at(0),
		}
		if i%10 == 0 {
			p.Acknowledged -= 100
		}
		out.Proxies = append(out.Proxies, p)
	}
	return out
}

func BenchmarkSummarize(b *testing.B) {
	in := largeMesh()
	b.ReportAllocs()
	for b.Loop() {
		Summarize(in)
	}
}

func BenchmarkFullReport(b *testing.B) {
	s := Summarize(largeMesh())
	b.ReportAllocs()
	size := 0
	for b.Loop() {
		size = 0
		for _, m := range messages(nil, &s) {
			size += proto.Size(m)
		}
	}
	b.ReportMetric(float64(size), "bytes/report")
}

func BenchmarkUnchangedReport(b *testing.B) {
	in := largeMesh()
	before := Summarize(in)
	b.ReportAllocs()
	for b.Loop() {
		now := Summarize(in)
		if messages(&before, &now) != nil {
			b.Fatal("nothing has changed")
		}
	}
}

// BenchmarkProgrammed is one look of a leader of three replicas at everything.
func BenchmarkProgrammed(b *testing.B) {
	in := largeMesh()
	s := Summarize(in)
	reports := []Report{
		{Replica: "a", Known: true, Heard: at(0), Summary: s},
		{Replica: "b", Known: true, Heard: at(0), Summary: s},
		{Replica: "c", Known: true, Heard: at(0), Summary: s},
	}
	targets := make([]Target, len(in.Objects))
	for i, o := range in.Objects {
		targets[i] = Target{Name: o.Name, Generation: o.Generation, Since: o.Since}
	}
	v := newConditions(at(0), make(chan struct{}, 1))
	b.ReportAllocs()
	for b.Loop() {
		v.update(targets, reports, at(1))
	}
}

// What a large mesh costs on the wire is bounded: everything when a stream
// begins, what has changed from then on, in messages of a bounded size.
func TestLargeMeshIsBounded(t *testing.T) {
	in := largeMesh()
	all := Summarize(in)
	size := func(list []*observev1.Summary) (total, most int) {
		for _, m := range list {
			total += proto.Size(m)
			most = max(most, proto.Size(m))
		}
		return total, most
	}
	total, most := size(messages(nil, &all))
	require.Less(t, total, 700<<10, "5,000 objects, a hundred of them pending")
	require.Less(t, most, maxMessage/4)

	// The worst case: everything is refused at length.
	for i := range in.Objects {
		o := &in.Objects[i]
		in.Rejections = append(in.Rejections, Rejection{
			Resource: "CDS x", Node: in.Proxies[0].Node, Error: fmt.Sprintf("%04096d", i), Since: at(1),
			Objects: []discovery.ObjectRef{{Kind: o.Name.Kind, Key: o.Name.Key, Generation: o.Generation}},
		})
	}
	worst := Summarize(in)
	total, most = size(messages(nil, &worst))
	require.Less(t, total, 8<<20)
	require.Less(t, most, maxMessage/4)
	in.Rejections = nil

	// One edit that all proxies must acknowledge.
	in.Objects[7].Generation, in.Objects[7].Index, in.Objects[7].Since = 4, manyObjects+1, at(2)
	edited := Summarize(in)
	total, _ = size(messages(&all, &edited))
	require.Less(t, total, 1<<10)

	// A proxy that comes or goes is no news of 5,000 objects.
	in.Proxies = append(in.Proxies, Proxy{Node: "new", Joined: manyObjects + 1, Connected: at(3)})
	came := Summarize(in)
	total, _ = size(messages(&edited, &came))
	require.Less(t, total, 100)
}

// Fifty Services with thirty endpoints on each platform are shifted at once.
func BenchmarkOutcomes(b *testing.B) {
	report := func(n uint64) outcome.Report {
		out := outcome.Report{Totals: outcome.Totals{Outcomes: make(map[outcome.Key]*outcome.Counts), Load: make(map[outcome.Key]uint64)}}
		for s := range 50 {
			for _, platform := range []discovery.BackingName{discovery.Pods, discovery.Instances} {
				key := outcome.Key{Service: discovery.Key{Namespace: "checkout", Name: fmt.Sprint("checkout-frontend-", s)}, Port: 80, Platform: platform}
				c := &outcome.Counts{Requests: 30 * n, Endpoints: make(map[string]outcome.EndpointCounts)}
				for e := range uint64(30) {
					c.Endpoints[fmt.Sprintf("i-0123456789abcde%02d", e)] = outcome.EndpointCounts{Requests: n}
					c.Latency.Add(1000+500*e, n)
				}
				out.Outcomes[key], out.Load[key] = c, 30*n
			}
		}
		return out
	}
	before, now := report(1000), report(2000)
	b.ReportAllocs()
	size := 0
	for b.Loop() {
		size = 0
		for _, m := range outcomeMessages(&before, &now) {
			size += proto.Size(m)
		}
	}
	b.ReportMetric(float64(size), "B/report")
}
