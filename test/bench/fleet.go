package main

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/xds/bootstrap"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// egress is the listener that every client declares.
var egress = netip.MustParseAddrPort(bootstrap.DefaultHTTPListen)

// Scope says what the clients of a fleet subscribe to.
type Scope struct {
	// Services limits subscriptions to the first of them, by name; 0 is all.
	Services int
	// Idle clients follow the Services' clusters and their listener only.
	Idle bool
}

// Counts are resources by type.
type Counts [resource.Types]int

// fleet is the process of simulated Envoys. It is an RPC service to the process
// that measures: its exported methods are what net/rpc calls.
type fleet struct {
	names names

	mu      sync.Mutex
	clients []*client
	cancel  context.CancelFunc
	done    sync.WaitGroup

	knownMu sync.Mutex
	known   map[string]*[resource.Types]map[string]string // by zone: versions by name

	// Set while no client runs.
	world        bool
	scope        Scope
	zones        int
	expect       Counts
	reconnecting bool

	watch    atomic.Pointer[watch]
	ready    atomic.Int64
	failures atomic.Int64
	failure  atomic.Pointer[string]
}

// names keeps one copy of equal names.
type names struct {
	mu  sync.RWMutex
	all map[string]string
}

func (n *names) intern(b []byte) string {
	n.mu.RLock()
	s, ok := n.all[string(b)]
	n.mu.RUnlock()
	if ok {
		return s
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.all == nil {
		n.all = make(map[string]string)
	}
	s = string(b)
	n.all[s] = s
	return s
}

// watch waits for bytes to reach every client.
type watch struct {
	marker []byte
	need   int64
	times  []int64 // when, by client; 0 for not yet
	left   atomic.Int64
	done   chan struct{}
}

func (w *watch) see(c *client, body []byte) {
	if c.id >= len(w.times) || !bytes.Contains(body, w.marker) {
		return
	}
	if c.matched.Add(1) != w.need {
		return
	}
	atomic.StoreInt64(&w.times[c.id], monotonic())
	if w.left.Add(-1) == 0 {
		close(w.done)
	}
}

// monotonic returns nanoseconds of a clock that all processes of a machine share.
func monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err) // Linux has it
	}
	return ts.Nano()
}

func (f *fleet) scopeOf(t resource.Type) []string {
	if t == resource.Route {
		return []string{naming.RouteConfig}
	}
	if f.scope.Services == 0 || (t != resource.Cluster && t != resource.VirtualHost) {
		return nil
	}
	out := make([]string, f.scope.Services)
	for i := range out {
		out[i] = clusterName(i)
		if t == resource.VirtualHost {
			out[i] = hostName(i)
		}
	}
	return out
}

// records says whether a client notes the versions that it gets: the first of
// each zone does, for all of the zone.
func (f *fleet) records(c *client) bool { return !f.reconnecting && c.id < f.zones }

func (f *fleet) record(zone string, t resource.Type, name, version string) {
	f.knownMu.Lock()
	defer f.knownMu.Unlock()
	if f.known[zone] == nil {
		f.known[zone] = new([resource.Types]map[string]string)
	}
	if f.known[zone][t] == nil {
		f.known[zone][t] = make(map[string]string)
	}
	f.known[zone][t][name] = version
}

func (f *fleet) knownOf(zone string, t resource.Type) map[string]string {
	if f.known[zone] == nil {
		return nil
	}
	return f.known[zone][t] // nobody records while clients reconnect
}

func (f *fleet) knownNames(zone string, t resource.Type) []string {
	known := f.knownOf(zone, t)
	out := make([]string, 0, len(known))
	for name := range known {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func (f *fleet) complete(c *client) bool {
	for t, n := range f.expect {
		if c.counts[t] < n {
			return false
		}
	}
	return true
}

func (f *fleet) progress() { f.ready.Add(1) }

// start runs the clients. f.mu is held.
func (f *fleet) start(address string) {
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	f.ready.Store(0)
	f.failures.Store(0)
	for _, c := range f.clients {
		c.reset()
		f.done.Go(func() {
			if err := c.run(ctx, address); err != nil && ctx.Err() == nil {
				f.failures.Add(1)
				text := fmt.Sprintf("client %d: %v", c.id, err)
				f.failure.CompareAndSwap(nil, &text)
			}
		})
	}
}

// stop ends the clients' connections.
func (f *fleet) stop() {
	if f.cancel != nil {
		f.cancel()
		f.done.Wait()
		f.cancel = nil
	}
}

// ConnectArgs say who connects.
type ConnectArgs struct {
	Address string
	Clients int
	Zones   int
	World   bool
	Scope   Scope
	// Expect is what a client must get before it is synced; nil means that
	// whatever comes until nothing more does is all.
	Expect  *Counts
	Timeout time.Duration
}

// ConnectReply is how it went.
type ConnectReply struct {
	// Start and the times in Synced are of the clock that all processes share.
	Start  int64
	Synced []int64 // sorted
	// Failed counts clients whose stream ended, Failure is what the first was told.
	Failed  int64
	Failure string
	Totals  Totals
	Counts  Counts // what the first client has, by name
}

// Totals are sums over all clients since they connected.
type Totals struct {
	In, Out, Payload, Messages, Resources int64
	MostIn                                int64 // of one client
}

func (f *fleet) totals() (t Totals) {
	for _, c := range f.clients {
		t.In += c.in.Load()
		t.Out += c.out.Load()
		t.Payload += c.payload.Load()
		t.Messages += c.messages.Load()
		t.Resources += c.resources.Load()
		t.MostIn = max(t.MostIn, c.in.Load())
	}
	return t
}

// Connect connects clients, all at once, and returns when they are synced.
func (f *fleet) Connect(a ConnectArgs, r *ConnectReply) error {
	f.mu.Lock()
	f.stop()
	f.clients, f.known = nil, make(map[string]*[resource.Types]map[string]string)
	f.world, f.scope, f.zones, f.reconnecting = a.World, a.Scope, a.Zones, false
	f.expect = Counts{}
	f.expect[resource.Cluster] = 1 << 30 // never
	if a.Expect != nil {
		f.expect = *a.Expect
	}
	for i := range a.Clients {
		f.clients = append(f.clients, &client{fleet: f, id: i, zone: zoneName(i % a.Zones)})
	}
	f.failure.Store(nil)
	r.Start = monotonic()
	f.start(a.Address)
	f.mu.Unlock()

	deadline := time.Now().Add(a.Timeout)
	for time.Now().Before(deadline) {
		if f.ready.Load()+f.failures.Load() >= int64(a.Clients) {
			break
		}
		if a.Expect == nil && f.quietFor(time.Second) {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	for _, c := range f.clients {
		at := c.synced.Load()
		if a.Expect == nil {
			at = c.last.Load()
		}
		if at > 0 {
			r.Synced = append(r.Synced, at)
		}
	}
	slices.Sort(r.Synced)
	r.Failed = f.failures.Load()
	if text := f.failure.Load(); text != nil {
		r.Failure = *text
	}
	r.Totals = f.totals()
	if a.Expect == nil {
		f.mu.Lock()
		f.stop()
		for t := range r.Counts {
			// By name: what changed meanwhile came twice.
			r.Counts[t] = len(f.knownOf(f.clients[0].zone, resource.Type(t))) //nolint:gosec // t < Types
		}
		f.mu.Unlock()
	}
	return nil
}

// quietFor says whether every client has had something and none had anything for d.
func (f *fleet) quietFor(d time.Duration) bool {
	before := monotonic() - int64(d)
	for _, c := range f.clients {
		if last := c.last.Load(); last == 0 || last > before {
			return false
		}
	}
	return true
}

// ReconnectArgs say where to.
type ReconnectArgs struct {
	Address string
	Quiet   time.Duration // how long nothing must happen for it to be over
	Timeout time.Duration
}

// ReconnectReply is what it took.
type ReconnectReply struct {
	Failed int64
	Totals Totals
	// Took is from the start to the last byte that any client sent or got.
	Took time.Duration
}

// Reconnect connects the same clients anew, all at once, with the versions of
// what they have, and returns when nothing more comes.
func (f *fleet) Reconnect(a ReconnectArgs, r *ReconnectReply) error {
	f.mu.Lock()
	f.stop()
	f.reconnecting = true
	start := monotonic()
	f.start(a.Address)
	f.mu.Unlock()
	deadline := time.Now().Add(a.Timeout)
	var last Totals
	changed := start
	for time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
		connected := 0
		for _, c := range f.clients {
			if c.in.Load() > 0 {
				connected++
			}
		}
		now := f.totals()
		if now != last {
			last, changed = now, monotonic()
		}
		if connected+int(f.failures.Load()) >= len(f.clients) && monotonic()-changed > int64(a.Quiet) {
			break
		}
	}
	r.Failed, r.Totals, r.Took = f.failures.Load(), last, time.Duration(changed-start)
	return nil
}

// ArmArgs say what to wait for: Need resources that contain Marker.
type ArmArgs struct {
	Marker string
	Need   int
}

// Arm starts to look for bytes in what clients get.
func (f *fleet) Arm(a ArmArgs, _ *struct{}) error {
	w := &watch{marker: []byte(a.Marker), need: int64(a.Need), times: make([]int64, len(f.clients)), done: make(chan struct{})}
	w.left.Store(int64(len(f.clients)))
	for _, c := range f.clients {
		c.matched.Store(0)
	}
	f.watch.Store(w)
	return nil
}

// AwaitReply says when each client had what was waited for.
type AwaitReply struct {
	Times   []int64 // sorted; of those that have it
	Missing int
}

// Await waits until every client has what Arm looks for.
func (f *fleet) Await(timeout time.Duration, r *AwaitReply) error {
	w := f.watch.Load()
	select {
	case <-w.done:
	case <-time.After(timeout):
	}
	f.watch.Store(nil)
	for i := range w.times {
		if at := atomic.LoadInt64(&w.times[i]); at > 0 {
			r.Times = append(r.Times, at)
		} else {
			r.Missing++
		}
	}
	slices.Sort(r.Times)
	return nil
}

// Spread watches for d how far clients are apart, in pushes of the server, and
// returns the most that one was behind the foremost.
func (f *fleet) Spread(d time.Duration, behind *uint64) error {
	end := time.Now().Add(d)
	for time.Now().Before(end) {
		least, most := ^uint64(0), uint64(0)
		for _, c := range f.clients {
			i := c.index.Load()
			least, most = min(least, i), max(most, i)
		}
		if most > least {
			*behind = max(*behind, most-least)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return nil
}

// Count returns the totals so far.
func (f *fleet) Count(_ struct{}, r *Totals) error {
	*r = f.totals()
	return nil
}

// Open returns how many clients' streams are open.
func (f *fleet) Open(_ struct{}, n *int) error {
	*n = len(f.clients) - int(f.failures.Load())
	return nil
}

// Disconnect ends all clients.
func (f *fleet) Disconnect(_ struct{}, _ *struct{}) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stop()
	f.clients = nil
	return nil
}
