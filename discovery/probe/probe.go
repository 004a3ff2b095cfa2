// Package probe checks the health of instances that run no agent, for groups with
// spec.healthCheck, and writes the results to the catalog's table Checks.
//
// There is one checker, the control plane's leader. If every caller's Envoy had
// its own active checks, a thousand callers would send each php-fpm a thousand
// probes per interval, and its workers would answer little else. The price: one
// place cannot see every path. If the network is broken between one caller and an
// instance, but not here, the caller's own outlier detection finds out, which
// works on real requests.
//
// One checker must not be trusted too far either. An instance that answers badly,
// or refuses, is unhealthy for sure. A silent instance may be well and only out
// of this checker's reach (a security group, a broken route). If that counted for
// all of them at once, the checker's own trouble would take down every instance.
// So silence counts only if some instance of the same account and region has
// answered since it began. Otherwise the health stays as it was, and callers'
// outlier detection alone decides.
package probe

import (
	"container/heap"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Scope of the rows that the prober writes.
const Scope = "probe"

// maxConcurrent bounds the checks under way. At a timeout of 1 s and an
// interval of 5 s it is enough for 2,500 instances that never answer.
const maxConcurrent = 512

// writeGap is the least time between two writes. A single result is written at
// once; those of a large group that fails together are few writes.
const writeGap = 100 * time.Millisecond

// Prober checks instances. It is made by New.
type Prober struct {
	log   *slog.Logger
	check func(context.Context, *check) result
}

// New returns a prober that does nothing until it is run.
func New(log *slog.Logger) *Prober {
	return &Prober{log: log.With("source", Scope), check: newChecker().do}
}

var _ catalog.Source = (*Prober)(nil)

// Required implements catalog.Source: nobody waits for checks.
func (p *Prober) Required() []string { return nil }

// Run checks instances until the context ends, and returns its error. An
// unchecked instance counts as healthy, unless it is new among others
// (discovery.PublishInstances) or published as unhealthy already: then the
// result of the last leader counts until a check passes.
func (p *Prober) Run(ctx context.Context, c *catalog.Catalog) error {
	r := &run{
		Prober: p, catalog: c, groups: make(map[discovery.Key]*group), heard: make(map[network]time.Time),
		results: make(chan finished), dirty: make(map[discovery.Key]struct{}),
	}
	return r.loop(ctx)
}

// network is the extent within which instances are taken to be as reachable as each other.
type network struct{ roleARN, region string }

// run is the state of a running prober. Only its loop touches it.
type run struct {
	*Prober
	catalog *catalog.Catalog
	groups  map[discovery.Key]*group
	queue   targets
	// heard is when an instance of the network last said anything.
	heard    map[network]time.Time
	underWay int
	results  chan finished
	// dirty groups have results that are not written yet.
	dirty map[discovery.Key]struct{}
}

type group struct {
	network network
	check   v1alpha1.HealthCheck
	host    string
	port    uint16
	targets map[string]*target // by instance id
}

// target is an instance that is checked.
type target struct {
	group   discovery.Key
	id      string
	check   check
	due     time.Time
	index   int // in the queue, -1 while the check is under way
	removed bool

	streak
	checked bool // there is a result
	health  discovery.CheckedHealth
}

type finished struct {
	target  *target
	started time.Time
	result  result
}

func (r *run) loop(ctx context.Context) error {
	feed := r.catalog.Subscribe()
	defer feed.Close()
	defer func() {
		for ; r.underWay > 0; r.underWay-- { // they end with the context
			<-r.results
		}
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var written time.Time
	for {
		if b, ok := feed.Take(); ok {
			r.follow(b)
		}
		now := time.Now()
		for len(r.queue) > 0 && r.underWay < maxConcurrent && !r.queue[0].due.After(now) {
			r.begin(ctx, heap.Pop(&r.queue).(*target), now)
		}
		next := now.Add(time.Hour)
		if len(r.queue) > 0 && r.underWay < maxConcurrent {
			next = r.queue[0].due
		}
		if len(r.dirty) > 0 {
			if now.Sub(written) >= writeGap {
				if err := r.write(); err != nil {
					return err
				}
				written = now
			} else if at := written.Add(writeGap); at.Before(next) {
				next = at
			}
		}
		timer.Reset(time.Until(next))
		// A check is due, one has ended, instances or groups have changed, or
		// results have waited long enough for others.
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-feed.Wake():
		case <-timer.C:
		case f := <-r.results:
			r.end(f, time.Now())
		}
	}
}

func (r *run) begin(ctx context.Context, t *target, now time.Time) {
	r.underWay++
	work := t.check // the target may change meanwhile
	go func() {
		res := result{silent: true, reason: "the check crashed"}
		defer func() {
			if p := recover(); p != nil {
				r.log.Error("a check crashed", "address", work.address, "panic", p)
			}
			r.results <- finished{t, now, res}
		}()
		res = r.check(ctx, &work)
	}()
}

func (r *run) end(f finished, now time.Time) {
	r.underWay--
	t := f.target
	g := r.groups[t.group]
	if t.removed || g == nil {
		return
	}
	t.due = now.Add(jitter(g.check.Interval.Duration))
	heap.Push(&r.queue, t)
	if !f.result.silent {
		r.heard[g.network] = now
	}
	v, changed := t.streak.add(f.result, f.started, r.heard[g.network], t.checked, t.health, &g.check)
	if !changed {
		return
	}
	if v.Healthy != t.health.Healthy || !t.checked {
		r.log.Info("checked", "group", t.group.String(), "instance", t.id, "healthy", v.Healthy, "reason", v.Reason)
	}
	t.health, t.checked = v, true
	r.dirty[t.group] = struct{}{}
}

// jitter keeps checks of many instances from falling into step: a tenth up or down.
func jitter(d time.Duration) time.Duration {
	return d*9/10 + rand.N(d/5+1) //nolint:gosec // nothing secret
}

// follow takes over what changed in the catalog.
func (r *run) follow(b catalog.Batch) {
	changed := make(map[discovery.Key]struct{})
	for _, ch := range b.Changes {
		for _, row := range []any{ch.Before, ch.After} {
			switch row := row.(type) {
			case *discovery.Object:
				if row.Kind == discovery.KindInstanceGroup {
					changed[row.Key] = struct{}{}
				}
			case *discovery.InstanceSet:
				changed[row.Key] = struct{}{}
			}
		}
	}
	for key := range changed {
		r.update(b.Reader, key)
	}
}

func (r *run) update(reader catalog.Reader, key discovery.Key) {
	row, ok := catalog.InstanceGroups.Get(reader, key.String())
	set, found := catalog.Instances.Get(reader, key.String())
	old := r.groups[key]
	if !ok || row.Object.Spec.HealthCheck == nil || len(row.Object.Spec.Ports) == 0 {
		if old != nil {
			for _, t := range old.targets {
				r.remove(t)
			}
			delete(r.groups, key)
		}
		r.dirty[key] = struct{}{}
		return
	}
	spec := &row.Object.Spec
	g := &group{
		network: network{spec.RoleARN, spec.Region}, check: checkOf(spec.HealthCheck),
		host: spec.ServiceRef.Name, port: uint16(spec.Ports[0].Port), targets: make(map[string]*target), //nolint:gosec // the API limits it
	}
	if g.check.Port > 0 {
		g.port = uint16(g.check.Port) //nolint:gosec // the API limits it
	}
	if h := g.check.HTTP; h != nil && h.Host != "" {
		g.host = h.Host
	}
	r.groups[key] = g
	if found {
		r.retarget(reader, key, g, old, set.Endpoints)
	}
	if old == nil {
		r.dirty[key] = struct{}{} // a row of an earlier run is over
		return
	}
	for id, t := range old.targets {
		if g.targets[id] != t {
			r.remove(t)
			r.dirty[key] = struct{}{}
		}
	}
}

// retarget makes a target of every instance that may get requests, and keeps
// what is known of those that were targets before.
func (r *run) retarget(reader catalog.Reader, key discovery.Key, g, old *group, endpoints []discovery.Endpoint) {
	var published map[string]discovery.Endpoint
	for i := range endpoints {
		e := &endpoints[i]
		work := check{address: e.Address, port: g.port, host: g.host, timeout: g.check.Timeout.Duration}
		if g.check.HTTP != nil {
			work.path = g.check.HTTP.Path
		}
		if old != nil {
			if t := old.targets[e.ID]; t != nil && t.check.address == work.address {
				if t.check != work {
					t.check, t.streak = work, streak{}
				}
				g.targets[e.ID] = t
				continue
			}
		}
		if published == nil {
			published = publishedUnhealthy(reader, key)
		}
		t := &target{group: key, id: e.ID, check: work, due: time.Now()}
		if old == nil || len(old.targets) == 0 { // a newcomer waits for its first check, the others do not
			t.due = t.due.Add(rand.N(g.check.Interval.Duration)) //nolint:gosec // nothing secret
		}
		if p, ok := published[e.ID]; ok && p.Address == e.Address {
			t.checked, t.health = true, discovery.CheckedHealth{Reason: p.Reason}
		}
		g.targets[e.ID] = t
		heap.Push(&r.queue, t)
	}
}

// reasonPrefix begins the reason of every failed check.
const reasonPrefix = "Check"

// publishedUnhealthy returns the endpoints of a group that are published as
// unhealthy because of a check.
func publishedUnhealthy(reader catalog.Reader, key discovery.Key) map[string]discovery.Endpoint {
	out := make(map[string]discovery.Endpoint)
	row, ok := catalog.InstanceGroups.Get(reader, key.String())
	if !ok {
		return out
	}
	service := discovery.Key{Namespace: key.Namespace, Name: row.Object.Spec.ServiceRef.Name}
	for set := range catalog.Endpoints.By(reader, catalog.ByService, service.String()) {
		if set.Platform != discovery.Instances || set.Group != key.Name {
			continue
		}
		for _, e := range set.Endpoints {
			if e.Health == discovery.Unhealthy && strings.HasPrefix(e.Reason, reasonPrefix) && !strings.HasPrefix(e.Reason, discovery.CheckPending) {
				out[e.ID] = e
			}
		}
	}
	return out
}

func (r *run) remove(t *target) {
	t.removed = true
	if t.index >= 0 {
		heap.Remove(&r.queue, t.index)
	}
}

// checkOf returns the check with the CRD's defaults where a source left fields empty.
func checkOf(h *v1alpha1.HealthCheck) v1alpha1.HealthCheck {
	c := *h
	if c.Interval.Duration <= 0 {
		c.Interval.Duration = v1alpha1.DefaultInterval
	}
	if c.Timeout.Duration <= 0 {
		c.Timeout.Duration = v1alpha1.DefaultTimeout
	}
	if c.UnhealthyThreshold < 1 {
		c.UnhealthyThreshold = v1alpha1.DefaultThreshold
	}
	if c.HealthyThreshold < 1 {
		c.HealthyThreshold = v1alpha1.DefaultThreshold
	}
	return c
}

// write writes the results of the groups in which one has changed.
func (r *run) write() error {
	if len(r.dirty) == 0 {
		return nil
	}
	_, err := r.catalog.Write(time.Time{}, func(tx *catalog.Tx) error {
		for key := range r.dirty {
			g := r.groups[key]
			if g == nil {
				catalog.Checks.Delete(tx, key.String())
				continue
			}
			set := &discovery.HealthSet{Scope: Scope, Key: key, ByID: make(map[string]discovery.CheckedHealth)}
			for id, t := range g.targets {
				if t.checked {
					set.ByID[id] = t.health
				}
			}
			catalog.Checks.Put(tx, set)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("checks: %w", err)
	}
	clear(r.dirty)
	return nil
}

// targets is a heap of targets by when their next check is due.
type targets []*target

func (q targets) Len() int           { return len(q) }
func (q targets) Less(i, j int) bool { return q[i].due.Before(q[j].due) }

func (q targets) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

// Push implements heap.Interface.
func (q *targets) Push(x any) {
	t := x.(*target)
	t.index = len(*q)
	*q = append(*q, t)
}

// Pop implements heap.Interface.
func (q *targets) Pop() any {
	last := len(*q) - 1
	t := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	t.index = -1
	return t
}
