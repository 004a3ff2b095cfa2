package outcomes

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/policy/outcome"
	"github.com/causeway-mesh/causeway/xds/compile"
)

var php = discovery.Key{Namespace: "web", Name: "php"}

// clock is the time of a test's recorder.
type clock struct{ now time.Time }

func (c *clock) pass(d time.Duration) { c.now = c.now.Add(d) }

func newRecorder() (*Recorder, *clock) {
	c := &clock{now: time.Unix(1_800_000_000, 0)}
	return New(Options{
		Shifted: func(k discovery.Key) bool { return k.Namespace == "web" },
		Lookup: func(_ discovery.Key, _ uint16, a netip.AddrPort) (string, discovery.BackingName, bool) {
			return a.String(), discovery.Pods, true
		},
		Now: func() time.Time { return c.now },
	}), c
}

func entry(cluster, id string, status uint32) *accesslogv3.HTTPAccessLogEntry {
	return &accesslogv3.HTTPAccessLogEntry{
		CommonProperties: &accesslogv3.AccessLogCommon{
			CustomTags: map[string]string{clusterTag: cluster}, UpstreamCluster: cluster, RouteName: "default-safe-shadow",
			TimeToLastDownstreamTxByte: durationpb.New(10 * time.Millisecond),
			UpstreamRemoteAddress: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
				Address: "10.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 80},
			}}},
		},
		Request: &accesslogv3.HTTPRequestProperties{RequestId: id, RequestMethod: corev3.RequestMethod_GET},
		Response: &accesslogv3.HTTPResponseProperties{
			ResponseCode: wrapperspb.UInt32(status), ResponseCodeDetails: viaUpstream, ResponseBodyBytes: 1000,
		},
	}
}

func list[T any](v ...T) []T { return v }

// What this package reads is what package compile has proxies write.
func TestNames(t *testing.T) {
	require.Equal(t, compile.OutcomesLog, outcomesLog)
	require.Equal(t, compile.ShadowLog, shadowLog)
	require.Equal(t, compile.ClusterTag, clusterTag)
	require.Equal(t, compile.PortTag, portTag)
	for _, p := range []discovery.BackingName{discovery.Pods, discovery.Instances} {
		got, ok := parseCluster(naming.Cluster(php, 80, p))
		require.True(t, ok)
		require.Equal(t, target{Key: outcome.Key{Service: php, Port: 80, Platform: p}, chosen: true}, got)
	}
}

func TestParseCluster(t *testing.T) {
	t.Parallel()
	pods := outcome.Key{Service: php, Port: 80, Platform: discovery.Pods}
	instances := pods
	instances.Platform = discovery.Instances
	for name, want := range map[string]target{
		"web/php:80/pods":             {Key: pods, chosen: true},
		"web/php:80/pods+instances":   {Key: pods, chosen: true},
		"web/php:80/instances":        {Key: instances, chosen: true},
		"web/php:80/instances+pods":   {Key: instances, chosen: true},
		"web/php:80/shared":           {Key: outcome.Key{Service: php, Port: 80}},
		"shadow/web/php:80/pods":      {Key: pods, chosen: true, mirrored: true},
		"shadow/web/php:80/instances": {Key: instances, chosen: true, mirrored: true},
	} {
		got, ok := parseCluster(name)
		require.True(t, ok, name)
		require.Equal(t, want, got, name)
	}
	for _, name := range []string{
		"", "-", "causeway_xds", "invalid-backend", "web/php:80/instances/group", "external/web/php:80", "web/php:0/pods", "web/php:65536/pods",
		"web/php:x/pods", "web/php:80/", "web/php:80", "/php:80/pods", "web/:80/pods", "shadow/web/php:80/pods/listener", "shadow/web/php:80/shared",
	} {
		_, ok := parseCluster(name)
		require.False(t, ok, name)
	}
	// A namespace may be called shadow.
	got, ok := parseCluster("shadow/php:80/pods")
	require.True(t, ok)
	require.Equal(t, "shadow/php", got.Service.String())
	require.False(t, got.mirrored)
}

func TestResults(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		flags   *accesslogv3.ResponseFlags
		status  uint32
		details string
		grpc    string
		want    result
	}{
		{name: "answered", status: 200, details: viaUpstream},
		{name: "not found", status: 404, details: viaUpstream},
		{name: "server error", status: 500, details: viaUpstream, want: failure(outcome.ServerError)},
		{name: "last attempt was a 503", status: 503, details: viaUpstream, flags: &accesslogv3.ResponseFlags{UpstreamRetryLimitExceeded: true}, want: failure(outcome.ServerError)},
		{name: "the proxy's own error", status: 500, details: "ext_authz_error", want: failure(outcome.Other)},
		{name: "no answer", want: failure(outcome.Other)},
		{name: "broken off", status: 200, details: viaUpstream, flags: &accesslogv3.ResponseFlags{UpstreamConnectionTermination: true}, want: failure(outcome.Reset)},
		{name: "given up after a timeout", flags: &accesslogv3.ResponseFlags{DownstreamConnectionTermination: true, UpstreamRequestTimeout: true}, want: result{abandoned: true}},
		{name: "reset by the caller", flags: &accesslogv3.ResponseFlags{DownstreamRemoteReset: true}, want: result{abandoned: true}},
		{name: "max duration", flags: &accesslogv3.ResponseFlags{UpstreamMaxStreamDurationReached: true}, want: failure(outcome.Timeout)},
		{name: "idle", flags: &accesslogv3.ResponseFlags{StreamIdleTimeout: true}, want: failure(outcome.Timeout)},
		{name: "no cluster", status: 503, flags: &accesslogv3.ResponseFlags{NoClusterFound: true}, want: failure(outcome.NoHost)},
		{name: "fault of a policy", status: 503, flags: &accesslogv3.ResponseFlags{FaultInjected: true}, want: result{ignored: true}},
		{name: "gRPC", status: 200, details: viaUpstream, grpc: "0"},
		{name: "gRPC refuses", status: 200, details: viaUpstream, grpc: "7"},
		{name: "gRPC fails", status: 200, details: viaUpstream, grpc: "13", want: failure(outcome.ServerError)},
		{name: "gRPC times out", status: 200, details: viaUpstream, grpc: "4", want: failure(outcome.Timeout)},
		{name: "gRPC talks nonsense", status: 200, details: viaUpstream, grpc: "fine", want: failure(outcome.ServerError)},
	} {
		e := entry("web/php:80/pods", "1", tc.status)
		e.CommonProperties.ResponseFlags, e.Response.ResponseCodeDetails = tc.flags, tc.details
		if tc.grpc != "" {
			e.Response.ResponseTrailers = map[string]string{"grpc-status": tc.grpc}
		}
		require.Equal(t, tc.want, httpResult(e), tc.name)
	}
}

func TestClusterless(t *testing.T) {
	t.Parallel()
	r, _ := newRecorder()
	lost := func(status uint32) *accesslogv3.HTTPAccessLogEntry {
		e := entry("-", "1", status)
		e.CommonProperties.UpstreamCluster, e.CommonProperties.UpstreamRemoteAddress = "", nil
		e.CommonProperties.CustomTags[portTag] = "web/php:80"
		e.CommonProperties.ResponseFlags = &accesslogv3.ResponseFlags{NoClusterFound: true}
		return e
	}
	r.LogHTTP("n", outcomesLog, list(lost(500)))
	require.Empty(t, r.Snapshot().Totals.Outcomes, "the part of a backend that cannot be one is meant to fail")
	r.LogHTTP("n", outcomesLog, list(lost(503)))
	require.Len(t, r.Snapshot().Totals.Outcomes, 2)
	for _, c := range r.Snapshot().Totals.Outcomes {
		require.EqualValues(t, 1, c.Failures[outcome.NoHost])
	}
}

// What the other backing answered is counted there, and says nothing about the one that
// it was meant for.
func TestFailedOver(t *testing.T) {
	t.Parallel()
	r, _ := newRecorder()
	other := func(id string, status uint32, flags *accesslogv3.ResponseFlags) *accesslogv3.HTTPAccessLogEntry {
		e := entry("web/php:80/instances+pods", id, status)
		e.CommonProperties.UpstreamCluster, e.CommonProperties.ResponseFlags = "web/php:80/pods", flags
		return e
	}
	r.LogHTTP("n", outcomesLog, list(
		other("1", 200, nil), other("2", 500, nil), other("3", 0, &accesslogv3.ResponseFlags{DownstreamConnectionTermination: true}),
		other("4", 503, &accesslogv3.ResponseFlags{UpstreamConnectionFailure: true}),
	))
	got := r.Snapshot().Totals.Outcomes
	require.Len(t, got, 1)
	c := got[outcome.Key{Service: php, Port: 80, Platform: discovery.Instances}]
	require.EqualValues(t, 3, c.FailedOver)
	require.EqualValues(t, 1, c.FailedOverFailures)
	require.EqualValues(t, 1, c.Requests, "nobody answered this one")
	require.EqualValues(t, 1, c.Failures[outcome.ConnectFailure])
	require.EqualValues(t, 1, c.Latency.Total())
	require.Zero(t, c.Abandoned)
	require.EqualValues(t, 4, c.Meant())

	// Pods stood in for instances: their answer and their own mirrored one are no pair.
	r.LogHTTP("n", shadowLog, list(entry("web/php:80/pods", "1", 200)))
	require.Empty(t, r.Snapshot().Totals.Pairs)
}

func TestPairs(t *testing.T) {
	t.Parallel()
	r, c := newRecorder()
	pairs := func() outcome.Pairs {
		if p := r.Snapshot().Totals.Pairs[outcome.Key{Service: php, Port: 80, Platform: discovery.Pods}]; p != nil {
			return *p
		}
		return outcome.Pairs{}
	}
	caller := func(node, id string) { r.LogHTTP(node, outcomesLog, list(entry("web/php:80/instances", id, 200))) }
	copied := func(node, id string) { r.LogHTTP(node, shadowLog, list(entry("web/php:80/pods", id, 200))) }
	caller("n", "1")
	copied("n", "1")
	copied("n", "2")
	caller("n", "2")
	require.EqualValues(t, 2, pairs().Compared, "either may come first")
	caller("n", "3")
	copied("other", "3")
	require.EqualValues(t, 2, pairs().Compared, "another proxy's request with the same id")
	caller("n", "")
	copied("n", "")
	require.EqualValues(t, 2, pairs().Compared, "no id")
	caller("n", "4")
	caller("n", "4")
	copied("n", "4")
	copied("n", "4")
	require.EqualValues(t, 2, pairs().Compared, "an id that two requests have")
	caller("n", "5")
	c.pass(maxWait + time.Second)
	copied("n", "5")
	require.EqualValues(t, 2, pairs().Compared, "too late")
	caller("n", "6")
	for i := range maxPending + 10 {
		caller("n", fmt.Sprint("many-", i))
	}
	copied("n", "6")
	require.EqualValues(t, 2, pairs().Compared, "too many came since")
	require.LessOrEqual(t, len(r.pending.answers), maxPending)
	require.LessOrEqual(t, len(r.pending.order), 2*maxPending+1)
}

func TestBounds(t *testing.T) {
	t.Parallel()
	r, _ := newRecorder()
	for i := range maxEndpoints + 50 {
		e := entry("web/php:80/pods", "1", 500)
		e.CommonProperties.UpstreamRemoteAddress.GetSocketAddress().PortSpecifier = &corev3.SocketAddress_PortValue{PortValue: uint32(i + 1)}
		r.LogHTTP("n", outcomesLog, list(e))
	}
	got := r.Snapshot().Totals.Outcomes[outcome.Key{Service: php, Port: 80, Platform: discovery.Pods}]
	require.EqualValues(t, maxEndpoints+50, got.Requests)
	require.EqualValues(t, maxEndpoints+50, got.Failed())
	require.Len(t, got.Endpoints, maxEndpoints)
	for i := range maxServices + 50 {
		r.LogHTTP("n", outcomesLog, list(entry(fmt.Sprintf("web/s%d:80/pods", i), "1", 200)))
	}
	require.Len(t, r.Snapshot().Totals.Outcomes, maxServices)
	r.LogHTTP("n", outcomesLog, list(entry("shop/php:80/pods", "1", 200)))
	require.NotContains(t, r.Snapshot().Totals.Outcomes, outcome.Key{Service: discovery.Key{Namespace: "shop", Name: "php"}, Port: 80})
	for i := range maxNodes + 10 {
		r.Connected(fmt.Sprint(i))
	}
	require.Len(t, r.Snapshot().Nodes, maxNodes)
}

// What was handed out does not change, and what nobody shifts any more is forgotten.
func TestSnapshotAndSweep(t *testing.T) {
	t.Parallel()
	r, c := newRecorder()
	gone := r.Connected("n")
	again := r.Connected("n")
	log := func() { r.LogHTTP("n", outcomesLog, list(entry("web/php:80/pods", "1", 200))) }
	log()
	first := r.Snapshot()
	log()
	key := outcome.Key{Service: php, Port: 80, Platform: discovery.Pods}
	require.EqualValues(t, 1, first.Totals.Outcomes[key].Requests)
	require.EqualValues(t, 1, first.Totals.Outcomes[key].Latency.Total())
	require.EqualValues(t, 1, first.Totals.Outcomes[key].Endpoints["10.0.0.1:80"].Requests)
	require.EqualValues(t, 1, first.Totals.Outcomes[key].Callers["n"].Requests)
	caller := first.Totals.Outcomes[key].Callers["n"]
	require.EqualValues(t, 1, caller.Latency.Total())
	require.EqualValues(t, 2, r.Snapshot().Totals.Outcomes[key].Requests)
	gone()
	gone()
	require.Len(t, r.Snapshot().Nodes, 1, "it has another stream")
	again()
	require.Empty(t, r.Snapshot().Nodes)
	require.EqualValues(t, 2, r.Snapshot().Totals.Outcomes[key].Requests, "what it has reported stays counted")
	c.pass(forgetAfter + time.Minute)
	r.LogHTTP("n", outcomesLog, list(entry("web/other:80/pods", "1", 200)))
	require.NotContains(t, r.Snapshot().Totals.Outcomes, key)
}

func TestSilence(t *testing.T) {
	t.Parallel()
	const interval = 10 * time.Second
	r, c := newRecorder()
	r.Connected("n")
	load := func(done uint64) {
		c.pass(interval)
		r.Load("n", interval, list(&endpointv3.ClusterStats{
			ClusterName:           "web/php:80/instances",
			UpstreamLocalityStats: list(&endpointv3.UpstreamLocalityStats{TotalIssuedRequests: 5, TotalSuccessfulRequests: done}),
		}))
	}
	silent := func() bool { return r.Snapshot().Nodes[0].Reports[0].Silent() }
	load(5)
	require.False(t, silent(), "it may not know yet that the Service is shifted")
	load(5)
	require.False(t, silent())
	load(0)
	require.False(t, silent(), "no request has ended")
	load(5)
	require.True(t, silent())
	r.LogHTTP("n", outcomesLog, list(entry("web/php:80/instances", "1", 200)))
	require.False(t, silent(), "it reports")
	load(5)
	require.False(t, silent())
	got := r.Snapshot()
	require.EqualValues(t, 25, got.Totals.Load[outcome.Key{Service: php, Port: 80, Platform: discovery.Instances}])
	require.EqualValues(t, 1, got.Nodes[0].Reports[0].Logged)
	require.EqualValues(t, 25, got.Nodes[0].Reports[0].Issued)
}

// What a proxy logs counts as far as its load reports bear it out.
func TestLogsAreBoundedByLoad(t *testing.T) {
	t.Parallel()
	const interval = 10 * time.Second
	r, c := newRecorder()
	r.opts.LoadsHere = true
	r.Connected("n")
	key := outcome.Key{Service: php, Port: 80, Platform: discovery.Pods}
	log := func(entries int) {
		for range entries {
			r.LogHTTP("n", outcomesLog, list(entry("web/php:80/pods", "1", 500)))
		}
	}
	load := func(issued uint64) {
		c.pass(interval)
		r.Load("n", interval, list(&endpointv3.ClusterStats{
			ClusterName: "web/php:80/pods", UpstreamLocalityStats: list(&endpointv3.UpstreamLocalityStats{TotalIssuedRequests: issued, TotalSuccessfulRequests: issued}),
		}))
	}
	counted := func() uint64 {
		if got := r.Snapshot().Totals.Outcomes[key]; got != nil {
			return got.Requests
		}
		return 0
	}
	silent := func() bool { return len(r.Report(1).Silent) > 0 }
	log(200)
	require.Zero(t, counted(), "it has not said that it sends anything")
	load(50)
	require.EqualValues(t, 50+spare, counted(), "no more than it has sent, and a few that found nobody")
	log(30)
	require.EqualValues(t, 80+spare, counted(), "what goes on is counted at once")
	load(30)
	require.False(t, silent())
	// It logs a thousand that it never sends.
	log(1000)
	load(10)
	load(10)
	require.True(t, silent(), "it is named")
	at := counted()
	log(500)
	require.Equal(t, at, counted(), "and counts for nothing")
	load(2000)
	load(10)
	log(5)
	require.Equal(t, at+5, counted())
	require.False(t, silent())
}

// Whatever a proxy says, nothing breaks and nothing is counted twice.
func FuzzEntries(f *testing.F) {
	for _, e := range []*accesslogv3.HTTPAccessLogEntry{entry("web/php:80/pods", "1", 200), entry("shadow/web/php:80/pods", "1", 503), {}} {
		b, err := proto.Marshal(e)
		require.NoError(f, err)
		f.Add(b, true)
	}
	f.Fuzz(func(t *testing.T, data []byte, shadow bool) {
		r, _ := newRecorder()
		log := outcomesLog
		if shadow {
			log = shadowLog
		}
		e, connection := &accesslogv3.HTTPAccessLogEntry{}, &accesslogv3.TCPAccessLogEntry{}
		n := uint64(0)
		if proto.Unmarshal(data, e) == nil {
			r.LogHTTP("n", log, list(e, nil))
			n++
		}
		if proto.Unmarshal(data, connection) == nil {
			r.LogTCP("n", log, list(connection, nil))
			n++
		}
		for k, c := range r.Snapshot().Totals.Outcomes {
			require.Equal(t, "web", k.Service.Namespace)
			require.LessOrEqual(t, c.Meant(), n)
			require.LessOrEqual(t, c.FailedOverFailures, c.FailedOver)
			require.LessOrEqual(t, c.Failed(), c.Requests)
			require.LessOrEqual(t, c.Latency.Total(), c.Requests)
		}
	})
}

// A proxy that makes up names of backings takes no memory by it; those that a port has count by their name.
func TestBackingsThatNobodyHas(t *testing.T) {
	t.Parallel()
	const elsewhere = "pods.other-cluster"
	for name, backings := range map[string][]discovery.BackingName{"nobody has it": nil, "the port has it": {discovery.Pods, elsewhere}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, _ := newRecorder()
			r.opts.Backings = func(discovery.Key, uint16) []discovery.BackingName { return backings }
			want := min(len(backings), 1)
			const cluster = "web/php:80/" + elsewhere
			r.LogHTTP("n", outcomesLog, list(entry(cluster, "1", 200), entry(cluster, "2", 503), entry("web/php:80/pods", "3", 200)))
			r.LogHTTP("n", shadowLog, list(entry(cluster, "3", 200)))
			r.LogTCP("n", outcomesLog, list(&accesslogv3.TCPAccessLogEntry{CommonProperties: &accesslogv3.AccessLogCommon{
				UpstreamCluster: "web/php:81/" + elsewhere, AccessLogType: accesslogv3.AccessLogType_TcpUpstreamConnected,
			}}))
			r.Load("n", time.Second, list(
				&endpointv3.ClusterStats{ClusterName: cluster, UpstreamLocalityStats: list(&endpointv3.UpstreamLocalityStats{TotalIssuedRequests: 1})},
				&endpointv3.ClusterStats{ClusterName: "web/php:3306/shared", UpstreamLocalityStats: list(
					&endpointv3.UpstreamLocalityStats{TotalIssuedRequests: 1, Locality: &corev3.Locality{SubZone: elsewhere}},
					&endpointv3.UpstreamLocalityStats{TotalIssuedRequests: 1, Locality: &corev3.Locality{SubZone: discovery.Instances.String()}},
				)},
			))
			totals := r.totals
			require.Len(t, totals.Outcomes, 1+2*want)
			require.Len(t, totals.Load, 1+2*want)
			require.Len(t, totals.Pairs, want)
			for key := range totals.Paths {
				require.True(t, key.Platform == discovery.Pods || want > 0 && key.Platform == elsewhere, key.Platform)
			}
		})
	}
}

func BenchmarkLogHTTP(b *testing.B) {
	r, _ := newRecorder()
	entries := make([]*accesslogv3.HTTPAccessLogEntry, 100)
	for i := range entries {
		entries[i] = entry("web/php:80/pods+instances", fmt.Sprint(i), 200)
		entries[i].CommonProperties.RouteName = "default-safe"
	}
	b.ReportAllocs()
	for b.Loop() {
		r.LogHTTP("n", outcomesLog, entries)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(entries)), "ns/entry")
}

// What is under way is what each proxy said last: a report without a cluster means none there, and
// what a proxy had goes with its stream.
func TestOpenRequests(t *testing.T) {
	t.Parallel()
	r := New(Options{
		Shifted: func(discovery.Key) bool { return true },
		Lookup: func(discovery.Key, uint16, netip.AddrPort) (string, discovery.BackingName, bool) {
			return "", "", false
		},
	})
	report := func(id string, cluster string, open ...uint64) {
		s := &endpointv3.ClusterStats{ClusterName: cluster}
		for _, n := range open {
			s.UpstreamLocalityStats = append(s.UpstreamLocalityStats, &endpointv3.UpstreamLocalityStats{TotalRequestsInProgress: n})
		}
		r.Load(id, time.Second, []*endpointv3.ClusterStats{s})
	}
	key := outcome.Key{Service: discovery.Key{Namespace: "web", Name: "php"}, Port: 80, Platform: discovery.Instances}
	gone := r.Connected("a")
	defer r.Connected("b")()
	report("a", "web/php:80/instances", 2, 1)
	report("b", "web/php:80/instances", 4)
	require.Equal(t, map[outcome.Key]uint64{key: 7}, r.Report(2).Open)
	report("a", "web/php:80/pods", 5)
	pods := key
	pods.Platform = discovery.Pods
	require.Equal(t, map[outcome.Key]uint64{key: 4, pods: 5}, r.Report(2).Open)
	gone()
	require.Equal(t, map[outcome.Key]uint64{key: 4}, r.Report(1).Open)
	r.Load("b", time.Second, nil)
	require.Empty(t, r.Report(1).Open)
}

// timeout.streamAge ends streams that had begun well: that is no failure of a backing. The bound of an attempt has
// the same flag, and an answer that stalls is one.
func TestStreamAgeIsNoFailure(t *testing.T) {
	t.Parallel()
	entry := func(code uint32) *accesslogv3.HTTPAccessLogEntry {
		return &accesslogv3.HTTPAccessLogEntry{
			CommonProperties: &accesslogv3.AccessLogCommon{ResponseFlags: &accesslogv3.ResponseFlags{UpstreamMaxStreamDurationReached: true}},
			Response:         &accesslogv3.HTTPResponseProperties{ResponseCode: wrapperspb.UInt32(code)},
		}
	}
	for code, want := range map[uint32]result{101: {cut: true}, 200: {cut: true}, 0: failure(outcome.Timeout), 408: failure(outcome.Timeout)} {
		require.Equal(t, want, httpResult(entry(code)), "%d", code)
	}
	for age, want := range map[time.Duration]result{
		0: failure(outcome.Timeout), time.Second: {}, 2 * time.Second: {}, time.Hour: failure(outcome.Timeout),
	} {
		r := New(Options{StreamAge: func(discovery.Key, uint16) time.Duration { return age }})
		b := &batch{Recorder: r}
		require.Equal(t, want, b.aged(target{}, result{cut: true}, uint64((2*time.Second).Microseconds())), "%s", age)
		require.Equal(t, result{}, b.aged(target{}, result{}, 1))
	}
}

// Of more proxies than can be counted apart those have a count of their own that report most of late, and of a path that
// fails those for whom it does: who came first and is gone gives way.
func TestCallersThatMatterHaveSeats(t *testing.T) {
	t.Parallel()
	r, c := newRecorder()
	key := outcome.Key{Service: php, Port: 80, Platform: discovery.Pods}
	log := func(id string, code uint32, n int) {
		for range n {
			e := entry("web/php:80/pods", "1", code)
			r.LogHTTP(id, outcomesLog, list(e))
		}
	}
	for i := range maxCallers {
		log(fmt.Sprint("first-", i), 200, 3)
	}
	for i := range outcome.MaxNames {
		log(fmt.Sprint("first-", i), 500, 2)
	}
	log("late", 500, 30)
	got := r.Snapshot().Totals
	require.Len(t, got.Outcomes[key].Callers, maxCallers)
	require.NotZero(t, got.Outcomes[key].Callers["late"].Failures, "it fails most")
	for path, p := range got.Paths {
		require.LessOrEqual(t, len(p.Callers), outcome.MaxNames)
		require.Equal(t, "late", p.Callers.Commonest()[0].Name, path)
	}
	c.pass(10 * time.Minute)
	for i := range maxCallers {
		log(fmt.Sprint("next-", i), 200, 3)
	}
	callers := r.Snapshot().Totals.Outcomes[key].Callers
	require.Len(t, callers, maxCallers)
	next := 0
	for id := range callers {
		if strings.HasPrefix(id, "next-") {
			next++
		}
	}
	require.Greater(t, next, maxCallers*3/4, "who is gone gives way")
	require.Less(t, len(r.seats), 5)
	for _, s := range r.seats {
		require.LessOrEqual(t, len(s.recent)+len(s.waiting), 2*maxCallers)
	}
}

// The counts of each proxy that decide a verdict are kept: answers that are slow, given up or another one's, and what it says to send.
func TestCallersHaveAllThatDecides(t *testing.T) {
	t.Parallel()
	r, _ := newRecorder()
	r.Connected("n")
	slow := entry("web/php:80/pods", "1", 200)
	slow.CommonProperties.TimeToLastDownstreamTxByte = durationpb.New(time.Second)
	left := entry("web/php:80/pods", "1", 0)
	left.CommonProperties.ResponseFlags = &accesslogv3.ResponseFlags{DownstreamConnectionTermination: true}
	elsewhere := entry("web/php:80/pods", "1", 200)
	elsewhere.CommonProperties.UpstreamCluster = "web/php:80/instances"
	elsewhere.CommonProperties.CustomTags = map[string]string{clusterTag: "web/php:80/pods"}
	r.LogHTTP("n", outcomesLog, list(slow, left, elsewhere))
	r.Load("n", 10*time.Second, list(&endpointv3.ClusterStats{
		ClusterName: "web/php:80/pods", UpstreamLocalityStats: list(&endpointv3.UpstreamLocalityStats{TotalIssuedRequests: 12}),
	}))
	got := r.Snapshot().Totals
	key := outcome.Key{Service: php, Port: 80, Platform: discovery.Pods}
	own := got.Outcomes[key].Callers["n"]
	require.Equal(t, []uint64{1, 0, 1, 1}, []uint64{own.Requests, own.Failures, own.Abandoned, own.FailedOver})
	require.EqualValues(t, 1, own.Latency.Total())
	require.InEpsilon(t, 1e6, own.Latency.Quantile(.5), .15)
	require.Equal(t, outcome.Names{{Name: "n", N: 12}}, got.Issuers[key])
}
