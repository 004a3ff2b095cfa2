package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/causeway-mesh/causeway/xds/resource"
)

// Limits that the design sets to the ratio to the floor.
const (
	changeRatio = 1.5
	herdRatio   = 1.3
)

// Goals of the design for 1,000 Services of 10 endpoints and 1,000 clients.
const (
	goalServices, goalEndpoints, goalClients = 1000, 10, 1000

	goalChangeP50      = 40   // ms
	goalChangeP99      = 80   // ms
	goalChangeOne      = 8    // ms
	goalChangeCPU      = 0.08 // ms for each client
	goalHerdLast       = 5    // s
	goalHerdCPU        = 4    // s
	goalHerdRSS        = 180  // MB
	goalHerdPeak       = 350  // MB
	goalReconnectBytes = 1024 // for each client
	goalRouteRatio     = 2    // times an endpoint change
	goalBurstConverged = 1000 // ms
	goalBurstBehind    = 1    // pushes
	goalZones          = 1.3  // times the bytes of one zone
	goalGrowServices   = 1.2  // times, for 10 times the Services
	goalGrowClients    = 11   // times, for 10 times the clients
	goalIdle           = 40   // KB for each stream
	goalColdSeconds    = 5
	goalColdRSS        = 600 // MB
)

// bench drives the server under test.
type bench struct {
	source  source
	mesh    mesh
	server  *controlPlane
	fleet   *child
	floor   *child
	report  *report
	world   bool
	changes int // how many changes are timed
	next    int // number of the next changed address
}

// goal sets a goal if the run is of the size that it is for.
func (b *bench) goal(w *row, clients int, goal float64) *row {
	if b.mesh.services == goalServices && b.mesh.endpoints == goalEndpoints && clients == goalClients {
		w.withGoal(goal)
	}
	return w
}

// ratio compares with the floor, and limits the ratio if the run is of the size
// for which the limit is: with few clients the way from the source is most of it.
func (b *bench) ratio(w *row, clients int, floor, limit float64) {
	if clients < goalClients {
		limit = 0
	}
	w.withFloor(floor, limit)
}

// zones that clients are in, at least one.
func (b *bench) zones() int { return max(b.mesh.zones, 1) }

func (b *bench) connect(address string, clients int, scope Scope, expect *Counts) (ConnectReply, error) {
	var r ConnectReply
	err := b.fleet.call("Connect", ConnectArgs{
		Address: address, Clients: clients, Zones: b.zones(), World: b.world, Scope: scope, Expect: expect, Timeout: 2 * time.Minute,
	}, &r)
	if err == nil && (r.Failed > 0 || len(r.Synced) < clients) {
		err = fmt.Errorf("%d of %d clients are synced, %d failed: %s", len(r.Synced), clients, r.Failed, r.Failure)
	}
	return r, err
}

// probe returns what one client gets.
func (b *bench) probe(address string, scope Scope) (*Counts, error) {
	r, err := b.connect(address, 1, scope, nil)
	if err != nil {
		return nil, fmt.Errorf("one client: %w", err)
	}
	return &r.Counts, nil
}

// herdResult is what it takes to connect everyone at once.
type herdResult struct {
	half, last, cpu float64 // seconds
	after           usage
	clients         ConnectReply
}

// herd connects clients at once to a server, which they stay with.
func (b *bench) herd(address string, pid, clients int) (herdResult, error) {
	var h herdResult
	expect, err := b.probe(address, Scope{})
	if err != nil {
		return h, err
	}
	before, err := usageOf(pid)
	if err != nil {
		return h, err
	}
	if h.clients, err = b.connect(address, clients, Scope{}, expect); err != nil {
		return h, err
	}
	time.Sleep(2 * time.Second) // the last acknowledgements
	if h.after, err = usageOf(pid); err != nil {
		return h, err
	}
	h.half = float64(h.clients.Synced[clients/2]-h.clients.Start) / 1e9
	h.last = float64(h.clients.Synced[clients-1]-h.clients.Start) / 1e9
	h.cpu = (h.after.cpu - before.cpu).Seconds()
	return h, nil
}

// pushResult is what changes took that were made one at a time.
type pushResult struct {
	p50, p99, last float64 // ms from before the change; last is the median of the last clients
	cpu            float64 // ms for each change
	bytes          float64 // of responses, for each change and client
	messages       float64 // responses, for each change and client
	compiles       float64 // for each change
}

// push times changes. change makes the n-th, of which every client gets the
// marker that it returns.
func (b *bench) push(pid, clients, n int, marker func(i int) string, change func(i int) error) (pushResult, error) {
	var r pushResult
	var all, lasts []float64
	for warm := range warmUp {
		if _, err := b.one(clients, marker(warm), func() error { return change(warm) }); err != nil {
			return r, err
		}
	}
	compiles := b.server.metric("causeway_compiles_total")
	var before, after Totals
	if err := b.fleet.call("Count", struct{}{}, &before); err != nil {
		return r, err
	}
	used, err := usageOf(pid)
	if err != nil {
		return r, err
	}
	for i := range n {
		times, err := b.one(clients, marker(warmUp+i), func() error { return change(warmUp + i) })
		if err != nil {
			return r, fmt.Errorf("change %d: %w", i, err)
		}
		all = append(all, times...)
		lasts = append(lasts, times[len(times)-1])
	}
	now, err := usageOf(pid)
	if err != nil {
		return r, err
	}
	if err := b.fleet.call("Count", struct{}{}, &after); err != nil {
		return r, err
	}
	slices.Sort(all)
	slices.Sort(lasts)
	each := float64(n * clients)
	r.p50, r.p99, r.last = quantile(all, .5), quantile(all, .99), quantile(lasts, .5)
	r.cpu = float64(now.cpu-used.cpu) / 1e6 / float64(n)
	r.bytes, r.messages = float64(after.Payload-before.Payload)/each, float64(after.Messages-before.Messages)/each
	r.compiles = (b.server.metric("causeway_compiles_total") - compiles) / float64(n)
	return r, nil
}

// warmUp is how many changes are not timed: the first finds what the clients'
// arrival left behind.
const warmUp = 3

// reserve returns the first of n numbers of addresses that nothing has.
func (b *bench) reserve(n int) int {
	first := b.next
	b.next += n
	return first
}

// between is the time from one change to the next: longer than the window in
// which changes are gathered.
const between = 150 * time.Millisecond

// one makes one change and returns how many ms after its beginning each client
// had it, sorted.
func (b *bench) one(clients int, marker string, change func() error) ([]float64, error) {
	if err := b.fleet.call("Arm", ArmArgs{Marker: marker, Need: 1}, &struct{}{}); err != nil {
		return nil, err
	}
	time.Sleep(between)
	start := monotonic()
	if err := change(); err != nil {
		return nil, err
	}
	var r AwaitReply
	if err := b.fleet.call("Await", 20*time.Second, &r); err != nil {
		return nil, err
	}
	if r.Missing > 0 {
		return nil, fmt.Errorf("%d of %d clients did not get the change to %s", r.Missing, clients, marker)
	}
	out := make([]float64, len(r.Times))
	for i, at := range r.Times {
		out[i] = float64(at-start) / 1e6
	}
	return out, nil
}

// quantile returns a quantile of sorted values.
func quantile(sorted []float64, q float64) float64 {
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// endpointChange times changes of one address in one EndpointSlice.
func (b *bench) endpointChange(ctx context.Context, clients int) (pushResult, error) {
	first := b.reserve(b.changes + warmUp)
	return b.push(b.server.PID(), clients, b.changes,
		func(i int) string { return address(first + i) },
		func(i int) error { return b.source.setAddress(ctx, i%min(b.mesh.services, scoped), address(first+i)) })
}

// routeChange times edits of one Service that change its virtual host.
func (b *bench) routeChange(ctx context.Context, clients, n int) (pushResult, error) {
	return b.push(b.server.PID(), clients, n,
		func(int) string { return routedHost },
		func(i int) error { return b.source.editRoute(ctx, i+1) })
}

// routeEdit times edits of an HTTPRoute, which one client tries before the others get them.
func (b *bench) routeEdit(ctx context.Context, clients, n int) (pushResult, error) {
	return b.push(b.server.PID(), clients, n,
		func(int) string { return editedHost },
		func(i int) error { return b.source.editHTTPRoute(ctx, i+1) })
}

// floorChange times the same push from the floor.
func (b *bench) floorChange(clients int) (pushResult, error) {
	first := b.reserve(b.changes + warmUp)
	return b.push(b.floor.PID(), clients, b.changes,
		func(i int) string { return address(first + i) },
		func(i int) error { return b.floor.call("Push", address(first+i), &struct{}{}) })
}

// sourceDelay measures how long a change takes to be seen by a bare watch of the
// source: what no control plane can be faster than.
func (b *bench) sourceDelay(ctx context.Context) error {
	w, ok := b.source.(watcher)
	if !ok {
		return nil
	}
	var times []float64
	for range b.changes {
		d, err := w.delay(ctx, 0, address(b.reserve(1)))
		if err != nil {
			return err
		}
		times = append(times, float64(d)/1e6)
		time.Sleep(between / 3)
	}
	slices.Sort(times)
	p := params{"services": b.mesh.services}
	b.report.add("source_delay_p50", p, quantile(times, .5), "ms")
	b.report.add("source_delay_p99", p, quantile(times, .99), "ms")
	return nil
}

// floorResult is what the floor takes; zero where there is none.
type floorResult struct {
	herd      herdResult
	many, one pushResult
}

// measureFloor measures the floor before the server under test, whose clients
// would cost it memory and time. There is none for state-of-the-world clients.
func (b *bench) measureFloor(clients int) (f floorResult, err error) {
	if b.world {
		return f, nil
	}
	if err := b.floor.call("Record", ConnectArgs{Address: b.server.xds, Zones: b.zones()}, &struct{}{}); err != nil {
		return f, err
	}
	if f.herd, err = b.herd(b.floor.address, b.floor.PID(), clients); err != nil {
		return f, err
	}
	if f.many, err = b.floorChange(clients); err != nil {
		return f, err
	}
	if _, err := b.connect(b.floor.address, 1, Scope{}, &Counts{}); err != nil {
		return f, err
	}
	f.one, err = b.floorChange(1)
	return f, err
}

// core measures everything that a mesh of one size shows.
func (b *bench) core(ctx context.Context, clients, viewers int) error {
	size := func(n int) params {
		return params{"services": b.mesh.services, "endpoints": b.mesh.endpoints, "clients": n}
	}
	f, err := b.measureFloor(clients)
	if err != nil {
		return fmt.Errorf("floor: %w", err)
	}
	if err := b.sourceDelay(ctx); err != nil {
		return fmt.Errorf("source: %w", err)
	}
	herd, err := b.herd(b.server.xds, b.server.PID(), clients)
	if err != nil {
		return fmt.Errorf("all at once: %w", err)
	}
	b.report.add("first_sync_p50", size(clients), herd.half, "s").withFloor(f.herd.half, 0)
	b.ratio(b.goal(b.report.add("first_sync_last", size(clients), herd.last, "s"), clients, goalHerdLast), clients, f.herd.last, herdRatio)
	b.goal(b.report.add("first_sync_cpu", size(clients), herd.cpu, "s"), clients, goalHerdCPU).withFloor(f.herd.cpu, 0)
	b.goal(b.report.add("first_sync_rss_after", size(clients), herd.after.rss, "MB"), clients, goalHerdRSS).withFloor(f.herd.after.rss, 0)
	b.goal(b.report.add("first_sync_rss_peak", size(clients), herd.after.peak, "MB"), clients, goalHerdPeak).withFloor(f.herd.after.peak, 0)
	b.report.add("first_sync_refused", size(clients), float64(herd.clients.Failed), "streams").withGoal(0)
	b.report.add("first_sync_bytes", size(clients), float64(herd.clients.Totals.Payload)/float64(clients), "B/client").
		withFloor(float64(f.herd.clients.Totals.Payload)/float64(clients), 0)

	if err := b.rest(); err != nil {
		return err
	}
	if err := b.views(size(clients)); err != nil {
		return fmt.Errorf("page: %w", err)
	}
	if viewers > 0 {
		p := size(clients)
		p["viewers"] = viewers
		stop, err := b.look(ctx, viewers, p)
		defer stop()
		if err != nil {
			return fmt.Errorf("page: %w", err)
		}
	}
	many, err := b.endpointChange(ctx, clients)
	if err != nil {
		return fmt.Errorf("endpoint change: %w", err)
	}
	b.ratio(b.goal(b.report.add("endpoint_change_p50", size(clients), many.p50, "ms"), clients, goalChangeP50), clients, f.many.p50, changeRatio)
	b.ratio(b.goal(b.report.add("endpoint_change_p99", size(clients), many.p99, "ms"), clients, goalChangeP99), clients, f.many.p99, changeRatio)
	b.report.add("endpoint_change_last", size(clients), many.last, "ms").withFloor(f.many.last, 0)
	b.goal(b.report.add("endpoint_change_cpu", size(clients), many.cpu/float64(clients), "ms/client"), clients, goalChangeCPU).
		withFloor(f.many.cpu/float64(clients), 0)
	b.report.add("endpoint_change_bytes", size(clients), many.bytes, "B/client").withFloor(f.many.bytes, 0)
	b.report.add("endpoint_change_compiles", size(clients), many.compiles, "compiles").withGoal(1)

	if !b.world { // state-of-the-world sends all routes in one resource
		for _, edit := range []struct {
			name string
			time func(ctx context.Context, clients, n int) (pushResult, error)
		}{{"route_change", b.routeChange}, {"route_edit", b.routeEdit}} {
			route, err := edit.time(ctx, clients, max(b.changes/3, 4))
			if err != nil {
				return fmt.Errorf("%s: %w", edit.name, err)
			}
			b.report.add(edit.name+"_p50", size(clients), route.p50, "ms")
			b.goal(b.report.add(edit.name+"_p99", size(clients), route.p99, "ms"), clients, goalRouteRatio*goalChangeP99)
			b.report.add(edit.name+"_cpu", size(clients), route.cpu/float64(clients), "ms/client").withGoal(goalRouteRatio * many.cpu / float64(clients))
			b.report.add(edit.name+"_bytes", size(clients), route.bytes, "B/client").withGoal(goalRouteRatio * many.bytes)
			b.report.add(edit.name+"_compiles", size(clients), route.compiles, "compiles").withGoal(goalRouteRatio)
		}
	}

	if err := b.burst(ctx, clients); err != nil {
		return fmt.Errorf("burst: %w", err)
	}
	if err := b.reconnect(ctx, clients); err != nil {
		return fmt.Errorf("reconnect: %w", err)
	}

	expect, err := b.probe(b.server.xds, Scope{})
	if err != nil {
		return err
	}
	if _, err := b.connect(b.server.xds, 1, Scope{}, expect); err != nil {
		return err
	}
	one, err := b.endpointChange(ctx, 1)
	if err != nil {
		return fmt.Errorf("endpoint change, one client: %w", err)
	}
	b.report.add("endpoint_change_p50", size(1), one.p50, "ms").withGoal(goalChangeOne).withFloor(f.one.p50, 0)
	b.report.add("endpoint_change_p99", size(1), one.p99, "ms").withFloor(f.one.p99, 0)
	b.report.add("endpoint_change_cpu", size(1), one.cpu, "ms/client").withFloor(f.one.cpu, 0)
	return b.fleet.call("Disconnect", struct{}{}, &struct{}{})
}

// A burst changes so many Services, one after the other, in burstTime.
const (
	burstChanges = 1000
	burstTime    = 10 * time.Second
)

// burst makes many changes in a short time, each of another Service.
func (b *bench) burst(ctx context.Context, clients int) error {
	n := min(burstChanges, b.mesh.services)
	took := burstTime * time.Duration(n) / burstChanges
	var before, after Totals
	if err := b.fleet.call("Count", struct{}{}, &before); err != nil {
		return err
	}
	used, err := usageOf(b.server.PID())
	if err != nil {
		return err
	}
	pushes := b.server.metric("causeway_pushes_total")
	if err := b.fleet.call("Arm", ArmArgs{Marker: burstPrefix, Need: n}, &struct{}{}); err != nil {
		return err
	}
	spread := make(chan error, 1)
	var behind uint64
	go func() { spread <- b.fleet.call("Spread", took, &behind) }()
	pace := rate.NewLimiter(rate.Every(took/time.Duration(n)), 1)
	var g errgroup.Group
	g.SetLimit(16)
	for i := range n {
		if err := pace.Wait(ctx); err != nil {
			return err
		}
		g.Go(func() error { return b.source.setAddress(ctx, i, address(firstBurst+i)) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	last := monotonic()
	var r AwaitReply
	if err := b.fleet.call("Await", 30*time.Second, &r); err != nil {
		return err
	}
	if err := <-spread; err != nil {
		return err
	}
	if r.Missing > 0 {
		return fmt.Errorf("%d of %d clients do not have all changes", r.Missing, clients)
	}
	now, err := usageOf(b.server.PID())
	if err != nil {
		return err
	}
	if err := b.fleet.call("Count", struct{}{}, &after); err != nil {
		return err
	}
	p := params{"services": b.mesh.services, "endpoints": b.mesh.endpoints, "clients": clients, "changes": n, "seconds": took.Seconds()}
	b.report.add("burst_converged", p, float64(r.Times[len(r.Times)-1]-last)/1e6, "ms").withGoal(goalBurstConverged)
	if !b.world {
		b.report.add("burst_behind", p, float64(behind), "pushes").withGoal(goalBurstBehind)
	}
	b.report.add("burst_pushes", p, b.server.metric("causeway_pushes_total")-pushes, "pushes")
	b.report.add("burst_messages", p, float64(after.Messages-before.Messages)/float64(clients), "responses/client")
	b.report.add("burst_bytes", p, float64(after.Payload-before.Payload)/float64(clients), "B/client")
	b.report.add("burst_cpu", p, (now.cpu - used.cpu).Seconds(), "s")
	return nil
}

// reconnect kills the server, starts it again, and lets all clients come back
// at once with what they have.
func (b *bench) reconnect(ctx context.Context, clients int) error {
	if !b.world {
		// What clients know must be what they have: they are connected anew after the
		// changes so far.
		expect, err := b.probe(b.server.xds, Scope{})
		if err != nil {
			return err
		}
		if _, err := b.connect(b.server.xds, clients, Scope{}, expect); err != nil {
			return err
		}
	}
	b.server.Kill()
	ready := b.server.start()
	used, err := usageOf(b.server.PID())
	if err != nil {
		return err
	}
	var r ReconnectReply
	if err := b.fleet.call("Reconnect", ReconnectArgs{Address: b.server.xds, Quiet: 2 * time.Second, Timeout: time.Minute}, &r); err != nil {
		return err
	}
	if r.Failed > 0 {
		return fmt.Errorf("%d clients failed", r.Failed)
	}
	now, err := usageOf(b.server.PID())
	if err != nil {
		return err
	}
	// That nothing was sent must not be because nobody was served.
	if open := b.server.metric("causeway_xds_connected_proxies"); open != float64(clients) {
		return fmt.Errorf("%g of %d clients are connected", open, clients)
	}
	fresh := address(b.reserve(1))
	if _, err := b.one(clients, fresh, func() error { return b.source.setAddress(ctx, 0, fresh) }); err != nil {
		return fmt.Errorf("a change after it: %w", err)
	}
	p := params{"services": b.mesh.services, "endpoints": b.mesh.endpoints, "clients": clients}
	b.report.add("restart_ready", p, ready.Seconds(), "s")
	b.report.add("reconnect_bytes", p, float64(r.Totals.In)/float64(clients), "B/client").withGoal(goalReconnectBytes)
	b.report.add("reconnect_bytes_most", p, float64(r.Totals.MostIn), "B").withGoal(goalReconnectBytes)
	b.report.add("reconnect_resources", p, float64(r.Totals.Resources), "resources")
	b.report.add("reconnect_last", p, r.Took.Seconds(), "s")
	b.report.add("reconnect_cpu", p, (now.cpu - used.cpu).Seconds(), "s")
	b.report.add("reconnect_rss_peak", p, now.peak, "MB")
	return nil
}

// zoneBytes compares what the snapshot holds with the endpoints in one zone and
// in b.mesh.zones.
func (b *bench) zoneBytes(ctx context.Context) error {
	if b.mesh.zones == 1 {
		return nil
	}
	stored := func(zones int) (float64, error) {
		before := b.server.metric("causeway_xds_resource_bytes")
		m := b.mesh
		m.zones = zones
		if err := b.source.rezone(ctx, m); err != nil {
			return 0, err
		}
		// Everything has come through when the metric has moved and stands still.
		last, still := before, 0
		for deadline := time.Now().Add(time.Minute); last == before || still < 10; {
			if time.Now().After(deadline) {
				return 0, fmt.Errorf("endpoints in %d zones did not change what is stored", zones)
			}
			time.Sleep(200 * time.Millisecond)
			now := b.server.metric("causeway_xds_resource_bytes")
			if now == last {
				still++
			} else {
				last, still = now, 0
			}
		}
		return last, nil
	}
	one, err := stored(1)
	if err != nil {
		return err
	}
	many, err := stored(b.mesh.zones)
	if err != nil {
		return err
	}
	p := params{"services": b.mesh.services, "endpoints": b.mesh.endpoints, "zones": b.mesh.zones}
	w := b.report.add("zones_bytes", p, many/one, "x of one zone")
	if b.mesh.zones == 3 {
		w.withGoal(goalZones)
	}
	return nil
}

// scoped is how many Services a client follows that does not follow all.
const scoped = 100

// scopedChange connects clients that follow few Services and times endpoint changes.
func (b *bench) scopedChange(ctx context.Context, clients int) (pushResult, error) {
	scope := Scope{Services: min(scoped, b.mesh.services)}
	expect, err := b.probe(b.server.xds, scope)
	if err != nil {
		return pushResult{}, err
	}
	if _, err := b.connect(b.server.xds, clients, scope, expect); err != nil {
		return pushResult{}, err
	}
	return b.endpointChange(ctx, clients)
}

// growClients measures how the cost of a change grows from few clients to ten
// times as many, who follow everything.
func (b *bench) growClients(ctx context.Context, few int) error {
	var results [2]pushResult
	for i, n := range []int{few, 10 * few} {
		expect, err := b.probe(b.server.xds, Scope{})
		if err != nil {
			return err
		}
		if _, err := b.connect(b.server.xds, n, Scope{}, expect); err != nil {
			return err
		}
		if results[i], err = b.endpointChange(ctx, n); err != nil {
			return err
		}
		p := params{"services": b.mesh.services, "endpoints": b.mesh.endpoints, "clients": n}
		b.report.add("growth_clients_change_cpu", p, results[i].cpu, "ms/change")
		b.report.add("growth_clients_change_p50", p, results[i].p50, "ms")
		b.report.add("growth_clients_change_p99", p, results[i].p99, "ms")
	}
	p := params{"services": b.mesh.services, "from": few, "to": 10 * few}
	b.report.add("growth_clients_cpu", p, results[1].cpu/results[0].cpu, "x").withGoal(goalGrowClients)
	b.report.add("growth_clients_p99", p, results[1].p99/results[0].p99, "x").withGoal(goalGrowClients)
	return nil
}

// growServices measures how the cost of a change grows with the mesh, for
// clients that follow the same part of it.
func (b *bench) growServices(ctx context.Context, services, clients int) error {
	var results [2]pushResult
	small := b.mesh.services
	for i, n := range []int{small, services} {
		if n != b.mesh.services {
			if err := b.restartWith(ctx, n); err != nil {
				return err
			}
		}
		var err error
		if results[i], err = b.scopedChange(ctx, clients); err != nil {
			return err
		}
		p := params{"services": n, "endpoints": b.mesh.endpoints, "clients": clients, "scope": scoped}
		b.report.add("growth_services_change_cpu", p, results[i].cpu, "ms/change")
		b.report.add("growth_services_change_p50", p, results[i].p50, "ms")
		b.report.add("growth_services_change_p99", p, results[i].p99, "ms")
	}
	p := params{"from": small, "to": services, "clients": clients, "scope": scoped}
	b.report.add("growth_services_cpu", p, results[1].cpu/results[0].cpu, "x").withGoal(goalGrowServices)
	b.report.add("growth_services_p50", p, results[1].p50/results[0].p50, "x").withGoal(goalGrowServices)
	return nil
}

// restartWith makes the mesh larger and measures a start of the server on it.
func (b *bench) restartWith(ctx context.Context, services int) error {
	if err := b.fleet.call("Disconnect", struct{}{}, &struct{}{}); err != nil {
		return err
	}
	b.server.Stop()
	b.mesh.services = services
	if err := b.source.load(ctx, b.mesh); err != nil {
		return err
	}
	if err := b.coldStart(); err != nil {
		return err
	}
	return b.rest()
}

// rest waits until the server has done what it does after a start, such as
// recording the homes of new Services, or after many clients came, such as
// giving back the memory that it took.
func (b *bench) rest() error {
	last := time.Duration(-1)
	for range 60 {
		u, err := usageOf(b.server.PID())
		if err != nil {
			return err
		}
		if last >= 0 && u.cpu-last < 50*time.Millisecond {
			return nil
		}
		last = u.cpu
		time.Sleep(time.Second)
	}
	return errors.New("the server does not come to rest")
}

// coldStart starts the server on what the source has.
func (b *bench) coldStart() error {
	ready := b.server.start()
	u, err := usageOf(b.server.PID())
	if err != nil {
		return err
	}
	p := params{"services": b.mesh.services, "endpoints": b.mesh.endpoints}
	// The goals are for ten thousand Services; a smaller mesh has to meet them too.
	b.report.add("cold_start_ready", p, ready.Seconds(), "s").withGoal(goalColdSeconds)
	b.report.add("cold_start_cpu", p, u.cpu.Seconds(), "s")
	b.report.add("cold_start_rss", p, u.rss, "MB").withGoal(goalColdRSS)
	b.report.add("cold_start_rss_peak", p, u.peak, "MB").withGoal(goalColdRSS)
	b.report.add("snapshot_bytes", p, b.server.metric("causeway_xds_resource_bytes"), "B")
	return nil
}

// idle measures what a stream costs on which nothing happens.
func (b *bench) idle(streams int) error {
	before, err := usageOf(b.server.PID())
	if err != nil {
		return err
	}
	scope := Scope{Services: 10, Idle: true}
	expect := &Counts{}
	expect[resource.Cluster], expect[resource.Listener] = scope.Services, 1
	if _, err := b.connect(b.server.xds, streams, scope, expect); err != nil {
		return err
	}
	time.Sleep(5 * time.Second)
	after, err := usageOf(b.server.PID())
	if err != nil {
		return err
	}
	p := params{"services": b.mesh.services, "clients": streams}
	b.report.add("idle_stream", p, (after.rss-before.rss)*1e6/1024/float64(streams), "KB/stream").withGoal(goalIdle)
	b.report.add("idle_rss", p, after.rss, "MB")
	return b.fleet.call("Disconnect", struct{}{}, &struct{}{})
}
