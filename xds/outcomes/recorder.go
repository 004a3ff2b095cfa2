// Package outcomes counts the proxies' reports about requests to Services.
// Access logs tell how requests to those with a TrafficShift ended, load reports
// how many there were to each.
package outcomes

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/policy/outcome"
)

// Names of the access logs (package compile).
const (
	outcomesLog = "causeway.outcomes"
	shadowLog   = "causeway.shadow"
)

// Bounds of what a recorder keeps, whatever proxies say.
const (
	maxServices  = 1000
	maxKeys      = 8 * maxServices
	maxEndpoints = 200 // of a key
	maxCallers   = 500 // of a key
	maxNodes     = 20_000
	// forgetAfter is how long a Service is remembered after its shift: longer
	// than any window, and longer than it takes to report it.
	forgetAfter = 30 * time.Minute
)

// shiftGap: if nobody has reported about a Service for this long, its shift
// counts as a new one.
const shiftGap = 2 * time.Minute

// Options of a Recorder. All functions are called often, by many goroutines.
type Options struct {
	// Shifted reports whether a Service has a TrafficShift, under way or over.
	Shifted func(discovery.Key) bool
	// Backings returns the backings of a Service's port, none if they are not known; nil is for those of all sources.
	Backings func(service discovery.Key, port uint16) []discovery.BackingName
	// Lookup returns the id and the backing of the endpoint of a Service's
	// port at an address, false if it is not known.
	Lookup func(service discovery.Key, port uint16, address netip.AddrPort) (id string, platform discovery.BackingName, ok bool)
	// StreamAge returns how long streams to a Service's port may last by timeout.streamAge, 0 for any time;
	// nil is for any time.
	StreamAge func(service discovery.Key, port uint16) time.Duration
	// Exists reports whether there is a Service; nil is for all. It is asked when metrics are read.
	Exists func(discovery.Key) bool
	// Registerer takes the metrics; nil for none.
	Registerer prometheus.Registerer
	// LoadsHere is true if a proxy sends its load reports and its logs to the same replica. Then its log
	// entries wait for its first load report, which confirms that it sends requests.
	LoadsHere bool
	// Now is the time, time.Now if nil.
	Now func() time.Time
}

// Bounds of what a proxy may log beyond the requests of its load reports.
const (
	// spare is how many entries need no load report: a request that found no endpoint is in none.
	spare = 20
	// slack is by how many entries logs may be ahead of load reports, whose interval is rounded.
	slack = 100
	// maxHeld is how many entries wait for a proxy's first load report. maxHeldOfAll is that for all
	// proxies together, which all come back at once when this replica starts.
	maxHeld      = 2000
	maxHeldOfAll = 20_000
)

// Recorder counts. It is what xds/server hands reports to.
type Recorder struct {
	opts Options

	mu      sync.Mutex
	totals  outcome.Totals
	nodes   map[string]*node
	pending *pending
	// paths are the groups that were learned of each Service's paths.
	paths map[discovery.Key]*paths
	// seats decide which ids have counts of their own where not all can have
	// them.
	seats map[seatsKey]*seats
	// shifts are the Services that were reported about while they were shifted.
	shifts map[discovery.Key]period
	// held counts the entries that wait for load reports.
	held int
	// traffic of every Service, shifted or not.
	traffic map[backingKey]*traffic
	// calls are who calls whom of late.
	calls calls
	// swept is when forgotten Services were last looked for.
	swept time.Time
}

// period is since when a Service is known to be shifted, and when it last was.
type period struct{ since, last time.Time }

// node is what is known of a proxy.
type node struct {
	streams  int
	lastLog  time.Time
	lastLoad time.Time
	services map[discovery.Key]*Report
	// open are the requests that were under way when it last reported loads.
	open map[outcome.Key]uint64
}

// New returns a recorder that has counted nothing.
func New(o Options) *Recorder {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Backings == nil {
		o.Backings = func(discovery.Key, uint16) []discovery.BackingName { return discovery.Backings() }
	}
	if o.StreamAge == nil {
		o.StreamAge = func(discovery.Key, uint16) time.Duration { return 0 }
	}
	if o.Exists == nil {
		o.Exists = func(discovery.Key) bool { return true }
	}
	r := &Recorder{
		opts: o, traffic: make(map[backingKey]*traffic),
		totals: outcome.NewTotals(),
		nodes:  make(map[string]*node), pending: newPending(), paths: make(map[discovery.Key]*paths),
		seats:  make(map[seatsKey]*seats),
		shifts: make(map[discovery.Key]period), swept: o.Now(),
	}
	r.calls.at(o.Now())
	if o.Registerer != nil {
		o.Registerer.MustRegister(r)
	}
	return r
}

// Connected counts a stream of reports of a node; the function that it returns
// ends it. With its last stream a node is forgotten, while what it has
// reported stays counted.
func (r *Recorder) Connected(id string) (disconnected func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.nodes[id]
	if n == nil {
		if len(r.nodes) >= maxNodes {
			return func() {}
		}
		n = &node{services: make(map[discovery.Key]*Report)}
		r.nodes[id] = n
	}
	n.streams++
	return sync.OnceFunc(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if n.streams--; n.streams == 0 {
			delete(r.nodes, id)
			for _, s := range n.services {
				r.unhold(s)
			}
		}
	})
}

// LogHTTP counts how requests ended.
func (r *Recorder) LogHTTP(id, log string, entries []*accesslogv3.HTTPAccessLogEntry) {
	if log != outcomesLog && log != shadowLog {
		return
	}
	b := r.begin(id)
	defer b.end()
	for _, e := range entries {
		if !ended(e.GetCommonProperties().GetAccessLogType()) {
			continue
		}
		t, ok := targetOf(e.GetCommonProperties())
		if !ok {
			t, ok = clusterless(e)
		}
		switch {
		case !ok || t.mirrored || !b.shifted(t.Service) || !b.has(t):
		case log == outcomesLog:
			if now, waits := b.weigh(t.Service); now {
				b.request(t, e)
			} else if waits {
				e := keptHTTP(e)
				b.hold(t.Service, func(b *batch) { b.request(t, e) })
			}
		case t.chosen:
			b.mirrored(t, e)
		}
	}
}

// LogTCP counts how connections were made. One that was made is logged when it
// was, and once more when it ends.
func (r *Recorder) LogTCP(id, log string, entries []*accesslogv3.TCPAccessLogEntry) {
	if log != outcomesLog {
		return
	}
	b := r.begin(id)
	defer b.end()
	for _, e := range entries {
		if t, ok := targetOf(e.GetCommonProperties()); ok && !t.mirrored && b.shifted(t.Service) && b.has(t) {
			if now, waits := b.weigh(t.Service); now {
				b.connection(t, e)
			} else if waits {
				e := &accesslogv3.TCPAccessLogEntry{CommonProperties: keptCommon(e.GetCommonProperties())}
				b.hold(t.Service, func(b *batch) { b.connection(t, e) })
			}
		}
	}
}

// Load counts what was sent to the endpoints of Services: for metrics of all of them, for guards of those that are
// being shifted.
func (r *Recorder) Load(id string, interval time.Duration, clusters []*endpointv3.ClusterStats) {
	b := r.begin(id)
	defer b.end()
	defer b.confirm(interval)
	b.calls.at(b.now)
	from, known := callerOf(id)
	b.node.open = nil // each report names all clusters where anything is under way
	for _, c := range clusters {
		b.sent(c, from, known)
		t, ok := parseCluster(c.GetClusterName())
		if !ok || t.mirrored || naming.FailsOver(c.GetClusterName()) || !b.shifted(t.Service) || !b.has(t) {
			continue
		}
		for _, zone := range c.GetUpstreamLocalityStats() {
			key := t.Key
			if !t.chosen { // each locality of the cluster is of one backing
				key.Platform = discovery.BackingName(zone.GetLocality().GetSubZone())
				if !b.has(target{Key: key, chosen: true}) {
					continue
				}
			}
			b.opened(key, zone.GetTotalRequestsInProgress())
			issued := zone.GetTotalIssuedRequests()
			done := zone.GetTotalSuccessfulRequests() + zone.GetTotalErrorRequests()
			if !t.chosen {
				done = issued // connections are neither successes nor errors here
			}
			if issued > 0 {
				b.load(key, issued)
			}
			if s := b.report(t.Service); s != nil && (issued > 0 || done > 0) {
				s.Issued += issued
				s.sent[0] += issued
				s.LastIssued = b.now
				due := b.now.Add(-interval - reportSlack)
				if s.LastLogged.Before(due) && b.shifts[t.Service].since.Before(due) {
					s.unlogged += done
				}
			}
		}
	}
}

// batch is the counting of one message.
type batch struct {
	*Recorder

	now  time.Time
	id   string
	node *node
	// last answers of Shifted, which most entries of a message have in common.
	service discovery.Key
	is      bool
	asked   bool
}

func (r *Recorder) begin(id string) *batch {
	r.mu.Lock()
	b := &batch{Recorder: r, now: r.opts.Now(), id: id, node: r.nodes[id]}
	if b.node == nil {
		b.node = &node{services: make(map[discovery.Key]*Report)} // its stream has ended meanwhile
	}
	if b.now.Sub(r.swept) > forgetAfter/10 {
		r.sweep(b.now)
	}
	return b
}

func (b *batch) end() { b.mu.Unlock() }

func (b *batch) shifted(service discovery.Key) bool {
	if b.asked && b.service == service {
		return b.is
	}
	b.service, b.asked = service, true
	b.is = b.opts.Shifted(service)
	if !b.is {
		return false
	}
	p, known := b.shifts[service]
	switch {
	case !known && len(b.shifts) >= maxServices:
		b.is = false
		return false
	case b.now.Sub(p.last) > shiftGap:
		p.since = b.now
	}
	p.last = b.now
	b.shifts[service] = p
	return true
}

// has reports whether a Service may have the backing that a proxy names. Proxies must not make up backings: each one
// takes memory.
func (b *batch) has(t target) bool {
	if _, known := discovery.ParseBacking(t.Platform.String()); known || !t.chosen {
		return true
	}
	return slices.Contains(b.opts.Backings(t.Service, t.Port), t.Platform)
}

// counts returns the counts of a key, nil if there are too many keys.
func (b *batch) counts(key outcome.Key) *outcome.Counts {
	c := b.totals.Outcomes[key]
	if c == nil && len(b.totals.Outcomes) < maxKeys {
		c = &outcome.Counts{Endpoints: make(map[string]outcome.EndpointCounts), Callers: make(map[string]outcome.CallerCounts)}
		b.totals.Outcomes[key] = c
	}
	return c
}

func (b *batch) load(key outcome.Key, issued uint64) {
	if _, known := b.totals.Load[key]; known || len(b.totals.Load) < maxKeys {
		b.totals.Load[key] += issued
		names := b.totals.Issuers[key]
		b.name(seatsOf(issuers, key), &names, b.id, issued)
		b.totals.Issuers[key] = names
	}
}

// opened adds requests that are under way.
func (b *batch) opened(key outcome.Key, n uint64) {
	if _, known := b.node.open[key]; n == 0 || !known && len(b.node.open) >= maxServices {
		return
	}
	if b.node.open == nil {
		b.node.open = make(map[outcome.Key]uint64)
	}
	b.node.open[key] += n
}

// report returns what is known of a node and a Service.
func (b *batch) report(service discovery.Key) *Report {
	s := b.node.services[service]
	if s == nil && len(b.node.services) < maxServices {
		s = &Report{Service: service}
		b.node.services[service] = s
	}
	return s
}

// weigh reports whether an entry of a proxy counts now, because its logs fit its load reports, or waits, because
// the proxy has not sent a load report yet.
func (b *batch) weigh(service discovery.Key) (now, waits bool) {
	s := b.report(service)
	switch {
	case s == nil:
		return true, false
	case s.doubted:
		s.answered++
		return false, false
	case b.opts.LoadsHere && s.Issued == 0:
		return false, len(s.held) < maxHeld && b.held < maxHeldOfAll && b.nodes[b.id] == b.node
	}
	return true, false
}

// hold keeps an entry until the proxy's next load report.
func (b *batch) hold(service discovery.Key, count func(*batch)) {
	s := b.report(service)
	s.held = append(s.held, count)
	b.held++
}

// unhold returns the entries that waited.
func (r *Recorder) unhold(s *Report) []func(*batch) {
	held := s.held
	s.held = nil
	r.held -= len(held)
	return held
}

// confirm compares a proxy's log with the load report that has just come. What the proxy had logged between the two
// reports before must have been sent by now. After a gap in load reports there is nothing to compare.
func (b *batch) confirm(interval time.Duration) {
	gap := b.now.Sub(b.node.lastLoad) > 2*interval
	b.node.lastLoad = b.now
	for _, s := range b.node.services {
		s.doubted = !gap && s.answeredBefore > s.sent[0]+s.sent[1]+s.sent[2]+slack
		s.answeredBefore, s.answered = s.answered, 0
		if gap {
			s.answeredBefore = 0
		}
		s.sent = [3]uint64{0, s.sent[0], s.sent[1]}
		held := b.unhold(s)
		for _, count := range held[:min(uint64(len(held)), s.Issued+spare)] {
			count(b)
		}
	}
}

func (b *batch) logged(service discovery.Key) {
	b.node.lastLog = b.now
	if s := b.report(service); s != nil {
		s.Logged++
		s.LastLogged, s.unlogged = b.now, 0
	}
}

func (b *batch) request(t target, e *accesslogv3.HTTPAccessLogEntry) {
	v := httpResult(e)
	b.logged(t.Service)
	if v.ignored {
		return
	}
	took, timed := latency(e.GetCommonProperties())
	v = b.aged(t, v, took)
	if e.GetResponse().GetResponseCode().GetValue() == switchingProtocols {
		timed = false // how long a tunnel lasted is not how long an answer took
	}
	if !t.chosen {
		b.all(t, v, e.GetCommonProperties())
		return
	}
	b.answered(t.Service, v)
	b.count(t, v, e.GetCommonProperties(), took, timed)
	b.path(t, v, e)
	if !v.abandoned && copied(e.GetCommonProperties().GetRouteName()) && !failedOver(t, e.GetCommonProperties(), v) {
		// The mirror's answer to its own requests is no comparison.
		b.pair(t, e, v, took)
	}
}

// aged classifies an answer that was cut: it is a failure unless it lasted, in microseconds, as long as streams
// may.
func (b *batch) aged(t target, v result, took uint64) result {
	if !v.cut {
		return v
	}
	if age := b.opts.StreamAge(t.Service, t.Port); age > 0 && took >= uint64(age.Microseconds()) {
		return result{}
	}
	return failure(outcome.Timeout)
}

const switchingProtocols = 101

// answered counts an entry that proves that a request was sent.
func (b *batch) answered(service discovery.Key, v result) {
	if s := b.report(service); s != nil && (!v.failed || v.cause == outcome.ServerError) && !v.abandoned {
		s.answered++
	}
}

// count adds an outcome to a key, and to the endpoint that it came from.
func (b *batch) count(t target, v result, common *accesslogv3.AccessLogCommon, took uint64, timed bool) {
	c := b.counts(t.Key)
	if c == nil {
		return
	}
	if failedOver(t, common, v) {
		// The other backing answered it: this one only could not.
		c.FailedOver++
		if v.failed {
			c.FailedOverFailures++
		}
		b.caller(t.Key, c, true, func(own *outcome.CallerCounts) { own.FailedOver++ })
		return
	}
	if v.abandoned {
		c.Abandoned++
		b.caller(t.Key, c, true, func(own *outcome.CallerCounts) { own.Abandoned++ })
		return
	}
	c.Requests++
	if v.failed {
		c.Failures[v.cause]++
	}
	if timed {
		c.Latency.Add(took, 1)
	}
	b.caller(t.Key, c, v.failed, func(own *outcome.CallerCounts) {
		own.Requests++
		if v.failed {
			own.Failures++
		}
		if timed {
			own.Latency.AddCoarse(took)
		}
	})
	if address, ok := addressOf(common.GetUpstreamRemoteAddress()); ok {
		if id, _, ok := b.opts.Lookup(t.Service, t.Port, address); ok {
			b.endpoint(t.Key, c, id, v)
		}
	}
}

// caller counts what this proxy reports of a key.
func (b *batch) caller(key outcome.Key, c *outcome.Counts, bad bool, add func(*outcome.CallerCounts)) {
	own, known := c.Callers[b.id]
	if !sits(b, seatsOf(callers, key), c.Callers, b.id, known, maxCallers, weightOf(bad)) {
		return
	}
	add(&own)
	c.Callers[b.id] = own
}

// endpoint counts an outcome of one.
func (b *batch) endpoint(key outcome.Key, c *outcome.Counts, id string, v result) {
	e, known := c.Endpoints[id]
	if !sits(b, seatsOf(endpoints, key), c.Endpoints, id, known, maxEndpoints, weightOf(v.failed)) {
		return
	}
	e.Requests++
	if v.failed {
		e.Failures++
	}
	c.Endpoints[id] = e
}

// connection counts a connection when it is made, and a failed one when it
// ends.
func (b *batch) connection(t target, e *accesslogv3.TCPAccessLogEntry) {
	common := e.GetCommonProperties()
	v := tcpResult(e)
	switch common.GetAccessLogType() { //nolint:exhaustive // of the others none is asked for
	case accesslogv3.AccessLogType_TcpUpstreamConnected:
		v = result{}
	case accesslogv3.AccessLogType_TcpConnectionEnd:
		if !v.failed {
			return
		}
	default:
		return
	}
	b.logged(t.Service)
	if t.chosen {
		b.count(t, v, common, 0, false)
		return
	}
	if address, ok := addressOf(common.GetUpstreamRemoteAddress()); ok {
		if _, platform, ok := b.opts.Lookup(t.Service, t.Port, address); ok {
			t.Platform = platform
			b.count(t, v, common, 0, false)
		}
		return
	}
	b.all(t, v, common)
}

// all counts a failure for all backings: there was no endpoint, so nothing
// tells which backing it belongs to.
func (b *batch) all(t target, v result, common *accesslogv3.AccessLogCommon) {
	for _, t.Platform = range b.opts.Backings(t.Service, t.Port) {
		b.count(t, v, common, 0, false)
	}
}

// mirrored counts a copy of a request. It is no outcome, because no caller gets
// it.
func (b *batch) mirrored(t target, e *accesslogv3.HTTPAccessLogEntry) {
	b.node.lastLog = b.now
	v := httpResult(e)
	if v.abandoned {
		// Nobody waits for a copy; its proxy gave it up.
		v = failure(outcome.Other)
	}
	took, _ := latency(e.GetCommonProperties())
	v = b.aged(t, v, took)
	t.mirrored = true
	b.pair(t, e, v, took)
}

// pair compares an answer with its other half, if that is there. The key of a
// pair is the backing that is mirrored to.
func (b *batch) pair(t target, e *accesslogv3.HTTPAccessLogEntry, v result, took uint64) {
	id := pairID{
		node: b.id, requestID: e.GetRequest().GetRequestId(), method: int32(e.GetRequest().GetRequestMethod()),
		Key: outcome.Key{Service: t.Service, Port: t.Port},
	}
	if id.requestID == "" {
		return
	}
	a := &answer{
		mirror: t.mirrored, platform: t.Platform, failed: v.failed, latency: took, since: b.now,
		class: uint8(e.GetResponse().GetResponseCode().GetValue() / 100), size: e.GetResponse().GetResponseBodyBytes(),
	}
	other, ok := b.pending.meet(id, a)
	if !ok {
		return
	}
	key := id.Key
	key.Platform = a.platform
	if other.mirror {
		key.Platform = other.platform
	}
	p := b.totals.Pairs[key]
	if p == nil {
		if len(b.totals.Pairs) >= maxKeys {
			return
		}
		p = &outcome.Pairs{}
		b.totals.Pairs[key] = p
	}
	compare(p, a, other)
}

// sweep forgets Services that have not been shifted for a while.
func (r *Recorder) sweep(now time.Time) {
	r.swept = now
	gone := make(map[discovery.Key]bool)
	for service, p := range r.shifts {
		if now.Sub(p.last) > forgetAfter {
			gone[service] = true
		}
	}
	for service := range gone {
		delete(r.shifts, service)
		delete(r.paths, service)
		for _, n := range r.nodes {
			if s := n.services[service]; s != nil {
				r.unhold(s)
				delete(n.services, service)
			}
		}
	}
	maps.DeleteFunc(r.totals.Outcomes, func(k outcome.Key, _ *outcome.Counts) bool { return gone[k.Service] })
	maps.DeleteFunc(r.totals.Pairs, func(k outcome.Key, _ *outcome.Pairs) bool { return gone[k.Service] })
	maps.DeleteFunc(r.totals.Paths, func(k outcome.PathKey, _ *outcome.PathCounts) bool { return gone[k.Service] })
	maps.DeleteFunc(r.totals.Load, func(k outcome.Key, _ uint64) bool { return gone[k.Service] })
	maps.DeleteFunc(r.totals.Issuers, func(k outcome.Key, _ outcome.Names) bool { return gone[k.Service] })
	maps.DeleteFunc(r.seats, func(k seatsKey, _ *seats) bool { return gone[k.Service] })
}

// Snapshot is what a recorder has counted, at one moment. It shares nothing with it.
type Snapshot struct {
	Totals outcome.Totals
	// Nodes that have a stream of reports open, sorted by id.
	Nodes []Node
	// Open is how many requests are under way through all of them.
	Open map[outcome.Key]uint64
}

// Node is a proxy that reports.
type Node struct {
	ID string
	// LastLog is when entries came last, zero if none did.
	LastLog time.Time
	// Reports by Service, sorted, of Services that are being shifted.
	Reports []Report
}

// Report compares a proxy's log entries about a Service with its load reports.
type Report struct {
	Service discovery.Key
	// Logged counts outcomes and Issued requests by load reports, retries and copies included.
	Logged, Issued uint64
	// LastLogged and LastIssued are when they last grew.
	LastLogged, LastIssued time.Time
	// unlogged counts requests that ended, by load reports, since the last log.
	unlogged uint64
	// answered counts log entries that prove a request, since the last load report, and answeredBefore
	// those before it. sent are the counts of the last load reports, the newest first.
	answered, answeredBefore uint64
	sent                     [3]uint64
	// doubted is true while a proxy has logged more requests than it has sent: its entries do not
	// count.
	doubted bool
	// held wait for the first load report.
	held []func(*batch)
}

// reportSlack is by how much a log may come later than the load report about
// the same requests.
const reportSlack = 10 * time.Second

// Silent reports whether outcomes are missing that should have come by now according to the proxy's
// load reports, or whether outcomes came of requests that were never sent.
func (r *Report) Silent() bool { return r.unlogged > 0 || r.doubted }

// Snapshot returns a copy of all that was counted.
func (r *Recorder) Snapshot() Snapshot {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := Snapshot{Totals: outcome.Totals{
		Outcomes: make(map[outcome.Key]*outcome.Counts, len(r.totals.Outcomes)),
		Pairs:    make(map[outcome.Key]*outcome.Pairs, len(r.totals.Pairs)),
		Load:     maps.Clone(r.totals.Load),
		Issuers:  make(map[outcome.Key]outcome.Names, len(r.totals.Issuers)),
		Paths:    make(map[outcome.PathKey]*outcome.PathCounts, len(r.totals.Paths)),
	}}
	for k, c := range r.totals.Paths {
		out.Totals.Paths[k] = c.Clone()
	}
	for k, names := range r.totals.Issuers {
		out.Totals.Issuers[k] = slices.Clone(names)
	}
	for k, c := range r.totals.Outcomes {
		own := *c
		own.Latency, own.Endpoints, own.Callers = c.Latency.Clone(), maps.Clone(c.Endpoints), maps.Clone(c.Callers)
		for id, caller := range own.Callers {
			caller.Latency = caller.Latency.Clone()
			own.Callers[id] = caller
		}
		own.Codes = slices.Clone(c.Codes)
		out.Totals.Outcomes[k] = &own
	}
	for k, p := range r.totals.Pairs {
		own := *p
		own.Answer, own.Mirror = p.Answer.Clone(), p.Mirror.Clone()
		out.Totals.Pairs[k] = &own
	}
	for id, n := range r.nodes {
		for k, open := range n.open {
			if out.Open == nil {
				out.Open = make(map[outcome.Key]uint64)
			}
			out.Open[k] += open
		}
		node := Node{ID: id, LastLog: n.lastLog}
		for _, s := range n.services {
			report := *s
			report.held = nil
			node.Reports = append(node.Reports, report)
		}
		slices.SortFunc(node.Reports, func(a, b Report) int { return cmp.Compare(a.Service.String(), b.Service.String()) })
		out.Nodes = append(out.Nodes, node)
	}
	slices.SortFunc(out.Nodes, func(a, b Node) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Report returns the counts in the form for the leader, with the number of
// connected proxies.
func (r *Recorder) Report(proxies int) outcome.Report {
	counted := r.Snapshot()
	out := outcome.Report{Totals: counted.Totals, Proxies: proxies, Silent: make(map[discovery.Key][]string), Open: counted.Open}
	for i := range counted.Nodes {
		n := &counted.Nodes[i]
		for j := range n.Reports {
			if s := &n.Reports[j]; s.Silent() {
				out.Silent[s.Service] = append(out.Silent[s.Service], n.ID)
			}
		}
	}
	return out
}
