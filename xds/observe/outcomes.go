package observe

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/outcome"
	"github.com/causeway-mesh/causeway/xds/observe/observev1"
)

// Bounds of what is reported of outcomes, whatever replicas say.
const (
	// countEvery is how often outcomes are reported.
	countEvery = time.Second
	// maxBackings bounds what a leader keeps of one replica, and maxEndpoints
	// what is told of one backing.
	maxBackings  = 20_000
	maxEndpoints = 1000
	// maxPaths bounds what a leader keeps of one replica's paths: both backings of a
	// thousand Services, as many as a replica counts (xds/outcomes).
	maxPaths = 2 * 1000 * (outcome.MaxPaths + 1)
	// maxCount is more than anything counts in a replica's life.
	maxCount = 1 << 48
)

var errTooManyBackings = fmt.Errorf("a replica may report outcomes of at most %d backings and %d paths", maxBackings, maxPaths)

// outcomeMessages returns what a leader that was told before must be told now,
// in messages of bounded size: all of it if before is nil, nothing if nothing is
// new. What identifies the snapshot is for the caller to fill in.
func outcomeMessages(before, now *outcome.Report) []*observev1.Outcomes {
	full := before == nil || vanished(before.Outcomes, now.Outcomes) || vanished(before.Pairs, now.Pairs) || vanished(before.Load, now.Load) ||
		vanished(before.Paths, now.Paths)
	if full {
		before = &outcome.Report{}
	} else if before.Proxies == now.Proxies && maps.EqualFunc(before.Silent, now.Silent, slices.Equal[[]string]) &&
		maps.Equal(before.Open, now.Open) && !grew(before, now) {
		return nil
	}
	head := func() *observev1.Outcomes {
		return &observev1.Outcomes{Full: full, Proxies: uint32(now.Proxies)} //nolint:gosec // far below 2^32
	}
	out := []*observev1.Outcomes{head()}
	last := out[0]
	size := 0
	grow := func(m proto.Message) {
		if size += proto.Size(m); size > chunk {
			size = proto.Size(m)
			last.More = true
			last = head()
			out = append(out, last)
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(now.Outcomes), compareBackings) {
		if c := now.Outcomes[key]; c.Changed(before.Outcomes[key]) {
			m := countsTo(key, c)
			grow(m)
			last.Counts = append(last.Counts, m)
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(now.Pairs), compareBackings) {
		if p := now.Pairs[key]; p.Changed(before.Pairs[key]) {
			m := pairsTo(key, p)
			grow(m)
			last.Pairs = append(last.Pairs, m)
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(now.Paths), comparePaths) {
		if p := now.Paths[key]; p.Changed(before.Paths[key]) {
			m := pathTo(key, p)
			grow(m)
			last.Paths = append(last.Paths, m)
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(now.Load), compareBackings) {
		if n, ok := before.Load[key]; !ok || n != now.Load[key] {
			m := &observev1.Load{Backing: backingTo(key), Issued: now.Load[key], Issuers: namesTo(now.Issuers[key])}
			grow(m)
			last.Loads = append(last.Loads, m)
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(now.Silent), func(a, b discovery.Key) int { return cmp.Compare(a.String(), b.String()) }) {
		m := &observev1.Silence{Namespace: key.Namespace, Service: key.Name, Nodes: bounded(now.Silent[key])}
		grow(m)
		last.Silences = append(last.Silences, m)
	}
	for _, key := range slices.SortedFunc(maps.Keys(now.Open), compareBackings) {
		m := &observev1.Open{Backing: backingTo(key), Requests: now.Open[key]}
		grow(m)
		last.Open = append(last.Open, m)
	}
	return out
}

// vanished reports whether something is not counted any more.
func vanished[K comparable, V any](before, now map[K]V) bool {
	for key := range before {
		if _, ok := now[key]; !ok {
			return true
		}
	}
	return false
}

func grew(before, now *outcome.Report) bool {
	for key, c := range now.Outcomes {
		if c.Changed(before.Outcomes[key]) {
			return true
		}
	}
	for key, p := range now.Pairs {
		if p.Changed(before.Pairs[key]) {
			return true
		}
	}
	for key, p := range now.Paths {
		if p.Changed(before.Paths[key]) {
			return true
		}
	}
	return !maps.Equal(before.Load, now.Load)
}

func compareBackings(a, b outcome.Key) int {
	return cmp.Or(
		cmp.Compare(a.Service.Namespace, b.Service.Namespace), cmp.Compare(a.Service.Name, b.Service.Name),
		cmp.Compare(a.Port, b.Port), discovery.CompareBackings(a.Platform, b.Platform),
	)
}

// bounded returns a few names of nodes, which are not ours.
func bounded(nodes []string) []string {
	out := make([]string, 0, min(len(nodes), maxNames))
	for _, n := range nodes[:min(len(nodes), maxNames)] {
		out = append(out, truncate(n, maxNode))
	}
	return out
}

func backingTo(k outcome.Key) *observev1.Backing {
	out := &observev1.Backing{Namespace: k.Service.Namespace, Service: k.Service.Name, Port: uint32(k.Port)}
	switch k.Platform {
	case discovery.Pods:
		out.Platform = observev1.Platform_PLATFORM_PODS
	case discovery.Instances:
		out.Platform = observev1.Platform_PLATFORM_INSTANCES
	default:
		out.Name = k.Platform.String()
	}
	return out
}

// backingFrom is the inverse of backingTo, false for what says nothing of a backing.
func backingFrom(b *observev1.Backing) (k outcome.Key, ok bool) {
	k = outcome.Key{
		Service: discovery.Key{Namespace: b.GetNamespace(), Name: b.GetService()}, Port: uint16(b.GetPort()), //nolint:gosec // checked below
	}
	switch b.GetPlatform() {
	case observev1.Platform_PLATFORM_PODS:
		k.Platform = discovery.Pods
	case observev1.Platform_PLATFORM_INSTANCES:
		k.Platform = discovery.Instances
	default:
		k.Platform = discovery.BackingName(b.GetName())
	}
	return k, k.Platform.Valid() && b.GetPort() <= 65535
}

func histogramTo(h *outcome.Histogram) *observev1.Histogram {
	out := &observev1.Histogram{Indexes: make([]uint32, len(h.Buckets)), Counts: make([]uint64, len(h.Buckets))}
	for i, b := range h.Buckets {
		out.Indexes[i], out.Counts[i] = uint32(b.Index), b.Count
	}
	return out
}

func histogramFrom(h *observev1.Histogram) outcome.Histogram {
	buckets := make([]outcome.Bucket, 0, len(h.GetIndexes()))
	for i, index := range h.GetIndexes() {
		if i < len(h.GetCounts()) && index < 1<<16 {
			buckets = append(buckets, outcome.Bucket{Index: uint16(index), Count: clamp(h.GetCounts()[i])})
		}
	}
	return outcome.HistogramOf(buckets)
}

// clamp bounds what another one says it has counted.
func clamp(n uint64) uint64 { return min(n, maxCount) }

func countsTo(key outcome.Key, c *outcome.Counts) *observev1.Counts {
	out := &observev1.Counts{
		Backing: backingTo(key), Requests: c.Requests, Failures: slices.Clone(c.Failures[:]), Abandoned: c.Abandoned,
		FailedOver: c.FailedOver, FailedOverFailures: c.FailedOverFailures, Latency: histogramTo(&c.Latency), Codes: codesTo(c.Codes),
	}
	out.Endpoints, out.Callers = byIDTo(c.Endpoints), callersTo(c.Callers)
	return out
}

func byIDTo(counts map[string]outcome.EndpointCounts) []*observev1.EndpointCounts {
	out := make([]*observev1.EndpointCounts, 0, min(len(counts), maxEndpoints))
	for _, id := range slices.Sorted(maps.Keys(counts))[:min(len(counts), maxEndpoints)] {
		e := counts[id]
		out = append(out, &observev1.EndpointCounts{Id: truncate(id, maxNode), Requests: e.Requests, Failures: e.Failures})
	}
	return out
}

// byIDFrom is the inverse of byIDTo.
func byIDFrom(in []*observev1.EndpointCounts) map[string]outcome.EndpointCounts {
	in = in[:min(len(in), maxEndpoints)]
	if len(in) == 0 {
		return nil
	}
	out := make(map[string]outcome.EndpointCounts, len(in))
	for _, e := range in {
		out[truncate(e.GetId(), maxNode)] = outcome.EndpointCounts{Requests: clamp(e.GetRequests()), Failures: clamp(e.GetFailures())}
	}
	return out
}

func callersTo(counts map[string]outcome.CallerCounts) []*observev1.CallerCounts {
	out := make([]*observev1.CallerCounts, 0, min(len(counts), maxEndpoints))
	for _, id := range slices.Sorted(maps.Keys(counts))[:min(len(counts), maxEndpoints)] {
		c := counts[id]
		out = append(out, &observev1.CallerCounts{
			Id: truncate(id, maxNode), Requests: c.Requests, Failures: c.Failures, Abandoned: c.Abandoned, FailedOver: c.FailedOver,
			Latency: histogramTo(&c.Latency),
		})
	}
	return out
}

// callersFrom is the inverse of callersTo.
func callersFrom(in []*observev1.CallerCounts) map[string]outcome.CallerCounts {
	in = in[:min(len(in), maxEndpoints)]
	if len(in) == 0 {
		return nil
	}
	out := make(map[string]outcome.CallerCounts, len(in))
	for _, c := range in {
		out[truncate(c.GetId(), maxNode)] = outcome.CallerCounts{
			Requests: clamp(c.GetRequests()), Failures: clamp(c.GetFailures()), Abandoned: clamp(c.GetAbandoned()),
			FailedOver: clamp(c.GetFailedOver()), Latency: histogramFrom(c.GetLatency()),
		}
	}
	return out
}

// countsFrom is the inverse of countsTo. Causes that a newer replica may have
// are other ones.
func countsFrom(c *observev1.Counts) *outcome.Counts {
	out := &outcome.Counts{
		Requests: clamp(c.GetRequests()), Abandoned: clamp(c.GetAbandoned()), FailedOver: clamp(c.GetFailedOver()),
		FailedOverFailures: clamp(c.GetFailedOverFailures()), Latency: histogramFrom(c.GetLatency()), Codes: codesFrom(c.GetCodes()),
	}
	for i, n := range c.GetFailures() {
		if i < int(outcome.Causes) {
			out.Failures[i] = clamp(n)
		} else {
			out.Failures[outcome.Other] = clamp(out.Failures[outcome.Other] + clamp(n))
		}
	}
	out.Endpoints, out.Callers = byIDFrom(c.GetEndpoints()), callersFrom(c.GetCallers())
	return out
}

func pairsTo(key outcome.Key, p *outcome.Pairs) *observev1.Pairs {
	return &observev1.Pairs{
		Backing: backingTo(key), Compared: p.Compared, StatusDiffers: p.StatusDiffers, SizeDiffers: p.SizeDiffers,
		MirrorFailed: p.MirrorFailed, Answer: histogramTo(&p.Answer), Mirror: histogramTo(&p.Mirror),
	}
}

func pairsFrom(p *observev1.Pairs) *outcome.Pairs {
	return &outcome.Pairs{
		Compared: clamp(p.GetCompared()), StatusDiffers: clamp(p.GetStatusDiffers()), SizeDiffers: clamp(p.GetSizeDiffers()),
		MirrorFailed: clamp(p.GetMirrorFailed()), Answer: histogramFrom(p.GetAnswer()), Mirror: histogramFrom(p.GetMirror()),
	}
}

// errSnapshot is the error of messages of two snapshots that are mixed.
var errSnapshot = errors.New("outcomes of another snapshot before the last one's end")

// collect adds a message to those of the same snapshot that came before, nil if it is the first.
func collect(into *outcome.Message, o *observev1.Outcomes) (*outcome.Message, error) {
	if into == nil {
		into = &outcome.Message{
			Sequence: o.GetSnapshot(), Full: o.GetFull(), Age: age(o.GetAgeMilliseconds()),
			Report: outcome.Report{
				Totals:  outcome.NewTotals(),
				Proxies: int(o.GetProxies()), Silent: make(map[discovery.Key][]string),
			},
		}
	} else if into.Sequence != o.GetSnapshot() {
		return nil, errSnapshot
	}
	for _, c := range o.GetCounts() {
		if key, ok := backingFrom(c.GetBacking()); ok {
			into.Outcomes[key] = countsFrom(c)
		}
	}
	for _, p := range o.GetPairs() {
		if key, ok := backingFrom(p.GetBacking()); ok {
			into.Pairs[key] = pairsFrom(p)
		}
	}
	for _, l := range o.GetLoads() {
		if key, ok := backingFrom(l.GetBacking()); ok {
			into.Load[key] = clamp(l.GetIssued())
			if names := namesFrom(l.GetIssuers()); names != nil {
				into.Issuers[key] = names
			}
		}
	}
	for _, p := range o.GetPaths() {
		if key, ok := pathFrom(p); ok {
			into.Paths[key] = pathCountsFrom(p)
		}
	}
	for _, s := range o.GetSilences() {
		into.Silent[discovery.Key{Namespace: s.GetNamespace(), Name: s.GetService()}] = bounded(s.GetNodes())
	}
	for _, n := range o.GetOpen() {
		if key, ok := backingFrom(n.GetBacking()); ok {
			if into.Open == nil {
				into.Open = make(map[outcome.Key]uint64)
			}
			into.Open[key] = clamp(n.GetRequests())
		}
	}
	if max(len(into.Outcomes), len(into.Pairs), len(into.Load), len(into.Silent), len(into.Open)) > maxBackings || len(into.Paths) > maxPaths {
		return nil, errTooManyBackings
	}
	return into, nil
}

// age is a duration that another one says, at most a hundred years.
func age(milliseconds uint64) time.Duration {
	const most = 100 * 365 * 24 * time.Hour
	return time.Duration(min(milliseconds, uint64(most/time.Millisecond))) * time.Millisecond //nolint:gosec // bounded
}

// Window returns what callers got of a Service in the window of this length that
// ends now, by what all replicas have told. false while this replica does not lead.
func (o *Observer) Window(service discovery.Key, length time.Duration) (outcome.Window, bool) {
	t := o.current()
	if t == nil {
		return outcome.Window{}, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	now := o.opts.Now()
	return t.inbox.outcomes.Window(service, now.Add(-length), now), true
}

// Spent returns how many requests to a Service have ended since this replica
// leads, on both sides together, and how many of them failed. Both grow for as
// long as it leads, except that they begin anew with 0 when nobody has reported
// of the Service for an hour. ok is false while it does not lead.
func (o *Observer) Spent(service discovery.Key) (spent outcome.Spent, ok bool) {
	t := o.current()
	if t == nil {
		return outcome.Spent{}, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.inbox.outcomes.Spent(service), true
}

// count notes what this replica's own proxies have told.
func (o *Observer) count(t *term) {
	if o.opts.Outcomes == nil {
		return
	}
	m := &outcome.Message{Full: true, Report: o.opts.Outcomes()}
	m.Sequence, m.Age = o.nextSnapshot()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.inbox.outcomes.Add(o.opts.Replica, m, o.opts.Now())
}

// nextSnapshot returns the number of a snapshot of what this replica has counted
// and for how long it has.
func (o *Observer) nextSnapshot() (uint64, time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.snapshot++
	return o.snapshot, max(o.opts.Now().Sub(o.began), 0)
}

// reportOutcomes sends what the leader does not know of how requests ended.
func (r *reporter) reportOutcomes() error {
	o := r.observer
	if o.opts.Outcomes == nil || r.counted != nil && time.Since(r.countedAt) < countEvery-every/2 {
		return nil
	}
	r.countedAt = time.Now()
	now := o.opts.Outcomes()
	messages := outcomeMessages(r.counted, &now)
	snapshot, age := o.nextSnapshot()
	for _, m := range messages {
		m.Snapshot, m.AgeMilliseconds = snapshot, uint64(age.Milliseconds()) //nolint:gosec // not negative
		if err := r.send(&observev1.ReportRequest{Content: &observev1.ReportRequest_Outcomes{Outcomes: m}}); err != nil {
			return err
		}
	}
	r.counted = &now
	return nil
}

// applyOutcomes takes a message about outcomes of a replica's stream.
func (i *inbox) applyOutcomes(name string, p *sender, o *observev1.Outcomes, now time.Time) (result, error) {
	if !p.counted && !o.GetFull() {
		return missing, nil
	}
	m, err := collect(p.counts, o)
	if err != nil {
		return stale, err
	}
	p.counts = m
	if o.GetMore() {
		return accepted, nil
	}
	p.counts, p.counted = nil, true
	m.Session = p.life
	i.outcomes.Add(name, m, now)
	return accepted, nil
}
