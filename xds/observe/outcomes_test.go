package observe

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/outcome"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/observe/observev1"
)

var php = discovery.Key{Namespace: "web", Name: "php-web"}

// counts is what a replica of the tests has counted of requests to the pods of php-web.
type counts struct {
	requests, failed uint64
	proxies          int
	silent           []string
}

func (c *counts) report() outcome.Report {
	out := outcome.Report{Proxies: c.proxies}
	if c.requests > 0 {
		all := &outcome.Counts{Requests: c.requests, Endpoints: map[string]outcome.EndpointCounts{"pod-1": {Requests: c.requests, Failures: c.failed}}}
		all.Failures[outcome.Timeout] = c.failed
		all.Latency.Add(1000, c.requests)
		key := outcome.Key{Service: php, Port: 80, Platform: discovery.Pods}
		out.Totals = outcome.Totals{
			Outcomes: map[outcome.Key]*outcome.Counts{key: all}, Load: map[outcome.Key]uint64{key: c.requests},
			Pairs: map[outcome.Key]*outcome.Pairs{key: {Compared: c.requests}},
		}
	}
	if len(c.silent) > 0 {
		out.Silent = map[discovery.Key][]string{php: slices.Clone(c.silent)}
	}
	return out
}

// counted makes a replica's proxies report more requests, failures among them.
func (m *member) counted(requests, failed uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.counts.requests += requests
	m.counts.failed += failed
}

// until waits for a window of an hour.
func (m *member) until(what string, ok func(w outcome.Window) bool) {
	m.plane.t.Helper()
	harness.Eventually(m.plane.t, 30*time.Second, what, func() error {
		w, leads := m.Window(php, time.Hour)
		if c := w.Counts(discovery.Pods); !leads || !ok(w) {
			return fmt.Errorf("%v: %d requests; %+v", leads, c.Requests, w)
		}
		return nil
	})
}

func (m *member) covers() {
	m.plane.t.Helper()
	m.until("nothing is missing", func(w outcome.Window) bool { return w.Covered > 0 })
}

// totals waits for the sums since a replica leads.
func (m *member) totals(requests, failed uint64) {
	m.plane.t.Helper()
	m.until(fmt.Sprintf("%d requests", requests), func(w outcome.Window) bool {
		c := w.Counts(discovery.Pods)
		require.LessOrEqual(m.plane.t, c.Requests, requests)
		spent, _ := m.Spent(php)
		n, f := spent.Requests, spent.Failed
		return c.Requests == requests && c.Failures[outcome.Timeout] == failed && n == requests && f == failed &&
			c.Latency.Total() == requests && c.Endpoints["pod-1"].Requests == requests &&
			w.Issued(discovery.Pods) == requests && (requests == 0 || w.Mirrored(discovery.Pods).Compared == requests)
	})
}

// aged makes it long ago that the replicas began to count.
func (p *controlPlane) aged() {
	for _, m := range p.replicas {
		m.began = m.began.Add(-time.Hour)
	}
}

// What all replicas count is summed up by the leader, and by the next one, whose
// windows begin with what comes then.
func TestOutcomesReachTheLeader(t *testing.T) {
	p := newControlPlane(t, "a", "b", "c")
	p.aged()
	for i, name := range []string{"a", "b", "c"} {
		p.replicas[name].counted(1_000_000, 500_000)
		p.replicas[name].counts.proxies = i + 1
	}
	p.leases("a", "b", "c")
	a, b, c := p.elect("a"), p.replicas["b"], p.replicas["c"]
	_, leads := b.Window(php, time.Minute)
	require.False(t, leads)
	_, leads = b.Spent(php)
	require.False(t, leads)
	a.covers()
	a.totals(0, 0)
	a.counted(100, 1)
	b.counted(10, 2)
	c.counted(1, 0)
	a.totals(111, 3)
	b.mu.Lock()
	b.counts.silent = []string{"node-2", "node-1"}
	b.mu.Unlock()
	a.until("silent proxies are named", func(w outcome.Window) bool {
		return slices.Equal(w.Silent, []string{"node-1", "node-2"}) && w.Proxies == 6
	})

	// The leader is killed in the middle of a window; the others count on.
	a.kill()
	b.counted(20, 0)
	c.counted(2, 0)
	p.leases("b", "c")
	b = p.elect("b")
	b.covers()
	w, _ := b.Window(php, time.Hour)
	early := w.Counts(discovery.Pods)
	require.LessOrEqual(t, early.Requests, uint64(22), "no burst of what another leader has seen")
	require.Less(t, w.Covered, 30*time.Second)
	b.counted(40, 4)
	c.counted(4, 0)
	b.totals(early.Requests+44, 4)
}

// A replica that restarts counts from 0 and is counted from there; what it had
// said stays.
func TestRestartedReplicasOutcomes(t *testing.T) {
	p := newControlPlane(t, "a", "b")
	p.aged()
	p.replicas["b"].counted(500, 5)
	p.leases("a", "b")
	a := p.elect("a")
	a.covers()
	p.replicas["b"].counted(10, 1)
	a.totals(10, 1)
	for i := range uint64(2) {
		p.replicas["b"].kill()
		b := p.start("b")
		b.counted(7, 2) // before it has a Lease
		p.leases("a", "b")
		a.totals(10+7*(i+1), 1+2*(i+1))
	}
	// Its Lease is gone for a moment: the same life goes on.
	p.leases("a")
	p.replicas["b"].counted(3, 0)
	p.leases("a", "b")
	a.totals(27, 5)
}

// A leader that cannot be reached, or hears nothing, knows that; what was counted
// meanwhile comes, once, and is not part of what is covered.
func TestSilentReplicasOutcomes(t *testing.T) {
	p := newControlPlane(t, "a", "b")
	p.leases("a", "b")
	a, b := p.elect("a"), p.replicas["b"]
	a.covers()
	b.counted(10, 0)
	a.totals(10, 0)
	requests := uint64(10)
	for _, fault := range []func(){a.link.Cut, a.link.Hang} {
		fault()
		b.counted(5, 0)
		p.skew.Add(int64(10 * time.Second))
		a.until("b is missing", func(w outcome.Window) bool { return slices.Equal(w.Missing, []string{"b"}) && w.Covered == 0 })
		a.link.Restore(t)
		requests += 5
		a.totals(requests, 0)
		a.covers()
		w, _ := a.Window(php, time.Hour)
		w, _ = a.Window(php, w.Covered)
		c := w.Counts(discovery.Pods)
		require.Zero(t, c.Requests, "the burst is outside of what is covered")
	}
}

// A replica that tells nothing of outcomes, because it is older, leaves a gap.
func TestReplicaWithoutOutcomes(t *testing.T) {
	p := newControlPlane(t, "a", "b")
	p.replicas["b"].Observer.opts.Outcomes = nil
	p.leases("a", "b")
	a := p.elect("a")
	harness.Eventually(t, 15*time.Second, "b reports", func() error {
		for _, r := range a.View().Replicas {
			if r.State != replicaReporting {
				return fmt.Errorf("%+v", r)
			}
		}
		return nil
	})
	a.until("b is missing", func(w outcome.Window) bool { return slices.Equal(w.Missing, []string{"b"}) && w.Covered == 0 })
}

// Without other replicas, as in standalone mode, the leader's own are all.
func TestOutcomesOfOneReplica(t *testing.T) {
	p := newControlPlane(t, "")
	a := p.elect("")
	a.covers()
	a.counted(10, 1)
	a.totals(10, 1)
}

// randomReport is a report with everything in it.
func randomReport(r *rand.Rand, services int) outcome.Report {
	out := outcome.Report{
		Totals:  outcome.NewTotals(),
		Proxies: r.IntN(10), Silent: make(map[discovery.Key][]string),
	}
	histogram := func() (h outcome.Histogram) {
		for range r.IntN(40) {
			h.Add(r.Uint64()>>r.IntN(64), 1+r.Uint64N(100))
		}
		if h.Buckets == nil {
			h.Buckets = []outcome.Bucket{}
		}
		return h
	}
	codes := func() (c outcome.Codes) {
		for _, code := range []outcome.Code{0, 200, 404, 503, outcome.GRPCCode(5)} {
			c.Add(code, 1+r.Uint64N(99))
		}
		return c
	}
	for i := range services {
		key := outcome.Key{Service: discovery.Key{Namespace: "web", Name: fmt.Sprint("s", i)}, Port: uint16(r.IntN(3)), Platform: discovery.Backings()[r.IntN(2)]}
		c := &outcome.Counts{Requests: r.Uint64N(1000), Abandoned: r.Uint64N(9), FailedOver: 9 + r.Uint64N(9), FailedOverFailures: r.Uint64N(9), Latency: histogram(), Endpoints: make(map[string]outcome.EndpointCounts)}
		for f := range c.Failures {
			c.Failures[f] = r.Uint64N(5)
		}
		for e := range 1 + r.IntN(30) {
			c.Endpoints[fmt.Sprint("i-", e)] = outcome.EndpointCounts{Requests: r.Uint64N(99), Failures: r.Uint64N(9)}
		}
		c.Codes = codes()
		if i%2 == 0 {
			c.Callers = map[string]outcome.CallerCounts{"sidecar~web": {Requests: 9, Failures: 8, Abandoned: 7, FailedOver: 6, Latency: histogram()}}
			out.Issuers[key] = outcome.Names{{Name: "sidecar~web", N: 1 + r.Uint64N(99)}}
		}
		out.Outcomes[key] = c
		for _, group := range []string{"", "/checkout", "/orders/*"} {
			out.Paths[outcome.PathKey{Service: key.Service, Platform: key.Platform, Path: outcome.Path{Rule: "default", Group: group}}] = &outcome.PathCounts{
				Requests: 1 + r.Uint64N(1000), Failures: r.Uint64N(9), Codes: codes(),
				Endpoints: outcome.Names{{Name: "i-1", N: 1}, {Name: "i-2", N: 2}}, Callers: outcome.Names{{Name: "sidecar~web", N: 3}},
			}
		}
		out.Pairs[key] = &outcome.Pairs{Compared: r.Uint64N(9), StatusDiffers: 1, SizeDiffers: 2, MirrorFailed: 3, Answer: histogram(), Mirror: histogram()}
		out.Load[key] = r.Uint64N(1000)
		if i%5 == 0 {
			out.Silent[key.Service] = []string{"x", "y"}
		}
	}
	return out
}

// collected is what a leader makes of messages.
func collected(t *testing.T, messages []*observev1.Outcomes) *outcome.Message {
	t.Helper()
	var out *outcome.Message
	for i, m := range messages {
		require.Equal(t, i < len(messages)-1, m.GetMore())
		require.Less(t, proto.Size(m), 2*chunk)
		data, err := proto.Marshal(m)
		require.NoError(t, err)
		var read observev1.Outcomes
		require.NoError(t, proto.Unmarshal(data, &read))
		out, err = collect(out, &read)
		require.NoError(t, err)
	}
	return out
}

// What a replica has counted arrives as it is, in messages of bounded size.
func TestOutcomesRoundTrip(t *testing.T) {
	for seed := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, 1))
		services := 300 // take several messages already
		if seed == 0 {
			services = 1500
		}
		now := randomReport(r, services)
		messages := outcomeMessages(nil, &now)
		require.Greater(t, len(messages), 1)
		m := collected(t, messages)
		require.True(t, m.Full)
		require.Equal(t, now, m.Report, "seed %d", seed)
	}
}

// Only what is new is told, and nothing if nothing is.
func TestOutcomesTellWhatIsNew(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	before := randomReport(r, 50)
	now := before
	require.Nil(t, outcomeMessages(&before, &now))
	keys := slices.SortedFunc(maps.Keys(now.Outcomes), compareBackings)
	now.Outcomes = maps.Clone(now.Outcomes)
	more := *now.Outcomes[keys[3]]
	more.Requests++
	now.Outcomes[keys[3]] = &more
	m := collected(t, outcomeMessages(&before, &now))
	require.False(t, m.Full)
	require.Equal(t, map[outcome.Key]*outcome.Counts{keys[3]: &more}, m.Outcomes)
	require.Empty(t, m.Pairs)
	require.Empty(t, m.Load)
	require.Equal(t, now.Silent, m.Silent)

	now = before
	now.Silent = nil
	require.Empty(t, collected(t, outcomeMessages(&before, &now)).Silent)
	now = before
	now.Load = maps.Clone(now.Load)
	delete(now.Load, keys[0])
	m = collected(t, outcomeMessages(&before, &now))
	require.True(t, m.Full, "something is not counted any more")
	require.Len(t, m.Outcomes, len(before.Outcomes))
	empty := outcome.Report{}
	require.Len(t, outcomeMessages(nil, &empty), 1, "that there is nothing is news too")
}

// Names that are too long and too many are cut, so that no message is too large.
func TestOutcomesAreBounded(t *testing.T) {
	c := &outcome.Counts{Requests: 1, Endpoints: make(map[string]outcome.EndpointCounts)}
	for i := range 3 * maxEndpoints {
		c.Endpoints[fmt.Sprintf("%06d%s", i, strings.Repeat("x", 10*maxNode))] = outcome.EndpointCounts{Requests: math.MaxUint64, Failures: math.MaxUint64}
	}
	for i := range 64 {
		for j := range uint64(64) {
			c.Latency.Add((1<<i)+(1<<i)/64*j, math.MaxUint64/64)
		}
	}
	now := outcome.Report{
		Totals: outcome.Totals{Outcomes: map[outcome.Key]*outcome.Counts{{Service: php}: c}},
		Silent: map[discovery.Key][]string{php: slices.Repeat([]string{strings.Repeat("y", 10*maxNode)}, 100)},
	}
	for _, m := range outcomeMessages(nil, &now) {
		require.Less(t, proto.Size(m), maxMessage/2)
		read, err := collect(nil, m)
		require.NoError(t, err)
		for _, c := range read.Outcomes {
			require.Len(t, c.Endpoints, maxEndpoints)
		}
		for _, nodes := range read.Silent {
			require.Len(t, nodes, maxNames)
			require.LessOrEqual(t, len(nodes[0]), maxNode)
		}
	}
	b := newInbox(1, at(0))
	b.live([]Replica{{Name: "b", Certificate: "c"}}, at(0))
	require.NoError(t, b.open("b", "c", 1, func() {}))
	for i := uint64(0); ; i++ {
		o := &observev1.Outcomes{Full: true, More: true}
		for n := range 1000 {
			o.Counts = append(o.Counts, countsTo(outcome.Key{Service: discovery.Key{Name: fmt.Sprint(i, "-", n)}, Platform: discovery.Pods}, &outcome.Counts{}))
		}
		if _, err := b.apply("b", 1, outcomesMessage(1, 2+i, o), at(1)); err != nil {
			require.ErrorIs(t, err, errTooManyBackings)
			require.EqualValues(t, maxBackings/1000, i)
			return
		}
	}
}

func outcomesMessage(epoch, sequence uint64, o *observev1.Outcomes) *observev1.ReportRequest {
	return &observev1.ReportRequest{Epoch: epoch, Sequence: sequence, Content: &observev1.ReportRequest_Outcomes{Outcomes: o}}
}

// A missing message is asked for; a snapshot that is not whole is no snapshot.
func TestInboxAppliesOutcomes(t *testing.T) {
	b := newInbox(42, at(0))
	b.live([]Replica{{Name: "b", Certificate: "c"}}, at(1))
	end := func() {}
	require.NoError(t, b.open("b", "c", 5, end))
	tell := func(session, sequence, snapshot, requests uint64, full, more bool, now float64) result {
		o := &observev1.Outcomes{Snapshot: snapshot, Full: full, More: more, AgeMilliseconds: 500}
		o.Counts = append(o.Counts, countsTo(outcome.Key{Service: php, Port: uint16(sequence), Platform: discovery.Pods}, &outcome.Counts{Requests: requests}))
		if !more {
			o.Counts[0].Backing.Port = 80
		}
		r, err := b.apply("b", session, outcomesMessage(42, sequence, o), at(now))
		require.NoError(t, err)
		return r
	}
	requests := func() uint64 {
		return b.outcomes.Spent(php).Requests
	}
	require.Equal(t, missing, tell(5, 2, 1, 10, false, false, 2), "it begins with everything")
	require.Equal(t, accepted, tell(5, 3, 2, 10, true, true, 2))
	require.Zero(t, requests(), "it is not complete")
	require.Equal(t, accepted, tell(5, 4, 2, 10, true, false, 2))
	require.EqualValues(t, 20, requests())
	require.Equal(t, accepted, tell(5, 5, 3, 15, false, false, 3))
	require.EqualValues(t, 25, requests())
	require.Equal(t, duplicate, tell(5, 5, 4, 99, false, false, 3))
	require.Equal(t, accepted, tell(5, 6, 5, 1, false, true, 3))
	require.Equal(t, missing, tell(5, 8, 5, 50, false, false, 3), "a message is lost")
	require.Equal(t, accepted, tell(5, 9, 6, 16, true, false, 3))
	require.EqualValues(t, 26, requests())
	// Another stream of the same replica, and one that is over.
	require.NoError(t, b.open("b", "c", 6, end))
	require.Equal(t, stale, tell(5, 10, 7, 100, true, false, 3))
	require.Equal(t, missing, tell(6, 2, 7, 17, false, false, 3))
	require.Equal(t, accepted, tell(6, 3, 8, 17, true, false, 3))
	require.EqualValues(t, 27, requests())
	// Its Lease is gone for a while: its reports are not for this inbox. Then it is
	// back, and later another process has its name.
	b.live(nil, at(4))
	require.Equal(t, stale, tell(6, 4, 9, 100, true, false, 4))
	b.live([]Replica{{Name: "b", Certificate: "c"}}, at(5))
	require.NoError(t, b.open("b", "c", 7, end))
	require.Equal(t, accepted, tell(7, 2, 10, 20, true, false, 5))
	require.EqualValues(t, 30, requests())
	b.live([]Replica{{Name: "b", Certificate: "new"}}, at(6))
	require.NoError(t, b.open("b", "new", 1, end))
	require.Equal(t, accepted, tell(1, 2, 1, 5, true, false, 7))
	require.EqualValues(t, 35, requests())

	mixed := func(sequence, snapshot uint64) error {
		_, err := b.apply("b", 1, outcomesMessage(42, sequence, &observev1.Outcomes{Snapshot: snapshot, More: true}), at(8))
		return err
	}
	require.NoError(t, mixed(3, 2))
	require.ErrorIs(t, mixed(4, 3), errSnapshot)

	b.live(nil, at(9))
	require.Len(t, b.lives, 1)
	b.live(nil, at(9).Add(remembered+time.Second))
	require.Empty(t, b.lives)
}

// A leader whose protocol has no outcomes sees a message without content, which
// it takes for a sign of life.
func TestOlderLeadersIgnoreOutcomes(t *testing.T) {
	file := protodesc.ToFileDescriptorProto(observev1.File_observev1_observe_proto)
	request := file.GetMessageType()[slices.IndexFunc(file.GetMessageType(), func(m *descriptorpb.DescriptorProto) bool { return m.GetName() == "ReportRequest" })]
	request.Field = slices.DeleteFunc(request.GetField(), func(f *descriptorpb.FieldDescriptorProto) bool { return f.GetName() == "outcomes" })
	old, err := protodesc.NewFile(file, nil)
	require.NoError(t, err)
	now := randomReport(rand.New(rand.NewPCG(1, 1)), 3)
	data, err := proto.Marshal(outcomesMessage(42, 7, outcomeMessages(nil, &now)[0]))
	require.NoError(t, err)
	m := dynamicpb.NewMessage(old.Messages().ByName("ReportRequest"))
	require.NoError(t, proto.Unmarshal(data, m))
	require.Nil(t, m.WhichOneof(m.Descriptor().Oneofs().ByName("content")))
	require.EqualValues(t, 7, m.Get(m.Descriptor().Fields().ByName("sequence")).Uint())

	// And so does this one with what comes after it.
	data, err = proto.Marshal(&observev1.ReportRequest{Epoch: 42, Sequence: 2})
	require.NoError(t, err)
	data = append(data, 0xfa, 0x01, 0x02, 0x08, 0x01) // field 31, a message
	var next observev1.ReportRequest
	require.NoError(t, proto.Unmarshal(data, &next))
	require.NotEmpty(t, next.ProtoReflect().GetUnknown())
	b := newInbox(42, at(0))
	b.live([]Replica{{Name: "b", Certificate: "c"}}, at(0))
	require.NoError(t, b.open("b", "c", 1, func() {}))
	r, err := b.apply("b", 1, &next, at(1))
	require.NoError(t, err)
	require.Equal(t, accepted, r)
}

// A replica whose protocol knows of no statuses, paths, callers and open requests still counts for what it tells.
func TestOlderReplicasTellLess(t *testing.T) {
	t.Parallel()
	now := randomReport(rand.New(rand.NewPCG(3, 4)), 5)
	require.NotEmpty(t, now.Paths)
	messages := outcomeMessages(nil, &now)
	for _, m := range messages {
		m.Paths, m.Open = nil, nil
		for _, c := range m.GetCounts() {
			c.Codes, c.Callers, c.FailedOverFailures = nil, nil, 0
		}
	}
	got := collected(t, messages)
	require.Empty(t, got.Paths)
	require.Empty(t, got.Open)
	require.Len(t, got.Outcomes, len(now.Outcomes))
	for key, c := range now.Outcomes {
		g := got.Outcomes[key]
		require.Empty(t, g.Codes)
		require.Empty(t, g.Callers)
		require.Equal(t, []any{c.Requests, c.Failures, c.FailedOver, c.Latency}, []any{g.Requests, g.Failures, g.FailedOver, g.Latency})
	}
}

// Whatever a replica says it has counted, the leader's windows stay windows:
// sorted, without overflow, and sums only grow.
func FuzzOutcomes(f *testing.F) {
	seed := func(o *observev1.Outcomes) {
		data, err := proto.Marshal(o)
		require.NoError(f, err)
		f.Add(data, data)
	}
	now := randomReport(rand.New(rand.NewPCG(1, 1)), 2)
	seed(outcomeMessages(nil, &now)[0])
	backing := backingTo(outcome.Key{Service: php, Port: 80, Platform: discovery.Pods})
	seed(&observev1.Outcomes{Full: true, Snapshot: math.MaxUint64, AgeMilliseconds: math.MaxUint64, Proxies: math.MaxUint32, Counts: []*observev1.Counts{{
		Backing: backing, Requests: math.MaxUint64, Failures: slices.Repeat([]uint64{math.MaxUint64}, 20),
		Latency:   &observev1.Histogram{Indexes: []uint32{9, 3, 3, math.MaxUint32, 1<<16 - 1, 65536 + 3}, Counts: []uint64{1, math.MaxUint64, math.MaxUint64, 1, 1}},
		Endpoints: []*observev1.EndpointCounts{{Id: "\x00"}, {Id: "a", Requests: math.MaxUint64}, {Id: "a"}},
	}}, Pairs: []*observev1.Pairs{{Backing: backing, Compared: math.MaxUint64}}, Loads: []*observev1.Load{{Backing: backing, Issued: math.MaxUint64}, {Backing: &observev1.Backing{Port: 65536, Platform: 9}}}})
	f.Fuzz(func(t *testing.T, one, two []byte) {
		b := newInbox(1, at(0))
		b.live([]Replica{{Name: "b", Certificate: "c"}}, at(0))
		require.NoError(t, b.open("b", "c", 1, func() {}))
		services := map[discovery.Key]uint64{php: 0}
		for i, data := range [][]byte{one, two, one, two} {
			var o observev1.Outcomes
			if proto.Unmarshal(data, &o) != nil {
				continue
			}
			o.Snapshot, o.Full, o.More = uint64(i), true, false
			if _, err := b.apply("b", 1, outcomesMessage(1, uint64(2+i), &o), at(float64(i))); err != nil {
				return
			}
			for _, c := range o.GetCounts() {
				key, _ := backingFrom(c.GetBacking())
				services[key.Service] = max(services[key.Service], 0)
			}
			for service, before := range services {
				n := b.outcomes.Spent(service).Requests
				require.GreaterOrEqual(t, n, before)
				services[service] = n
				w := b.outcomes.Window(service, at(-10), at(10))
				require.LessOrEqual(t, w.Covered, 20*time.Second)
				for _, p := range []discovery.BackingName{discovery.Pods, discovery.Instances} {
					c := w.Counts(p)
					require.True(t, slices.IsSortedFunc(c.Latency.Buckets, func(a, b outcome.Bucket) int { return int(a.Index) - int(b.Index) }))
					require.False(t, math.IsNaN(c.Latency.Quantile(.99)) || math.IsInf(c.Latency.Quantile(.99), 0))
				}
			}
		}
	})
}
