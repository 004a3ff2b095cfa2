// Package engine joins the pure middle to the stores at its ends: it follows
// the catalog's changes, compiles the Services that they touch, and applies
// the result to the snapshot.
//
// A change recompiles the Services that it concerns and nothing else. Which
// ones these are is the only thing that could be got wrong; the test oracle is
// a compile from scratch.
package engine

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/xds/compile"
	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// A change goes out at once. Those that follow it are gathered for settle,
// which doubles up to settleMost while they keep coming, so that a storm costs
// one push per window. A push that concerns many proxies takes sendTime for
// each; the next one waits until they may all have it, so that no proxy falls
// behind by more than a push.
const (
	settle     = 10 * time.Millisecond
	settleMost = 100 * time.Millisecond
	sendTime   = 60 * time.Microsecond
)

// parallelFrom is how many Services must be compiled at once for it to be
// worth using every core, as at the start.
const parallelFrom = 64

// Engine keeps a snapshot up to date with a catalog.
type Engine struct {
	catalog  *catalog.Catalog
	store    *snapshot.Store
	compiler *compile.Compiler
	log      *slog.Logger
	metrics  metrics

	requests chan request

	mu       sync.Mutex
	revision uint64        // that is in the snapshot
	advanced chan struct{} // closed when revision grows

	// Run's own.
	declared  map[string]int // how many connected proxies declare a listener
	byService map[discovery.Key]map[string]struct{}
}

type metrics struct {
	compiles prometheus.Counter
	panics   prometheus.Counter
	pushes   prometheus.Counter
	duration prometheus.Histogram
}

// request adds a proxy's declared listeners or takes them back.
type request struct {
	declarations []string
	delta        int
	done         chan struct{}
}

// New returns an engine that Run starts.
func New(cat *catalog.Catalog, store *snapshot.Store, log *slog.Logger, reg prometheus.Registerer) *Engine {
	e := &Engine{
		catalog: cat, store: store, compiler: compile.New(), log: log,
		requests: make(chan request), advanced: make(chan struct{}),
		declared: make(map[string]int), byService: make(map[discovery.Key]map[string]struct{}),
		metrics: metrics{
			compiles: prometheus.NewCounter(prometheus.CounterOpts{
				Name: "causeway_compiles_total", Help: "Compilations of one Service or declared listener.",
			}),
			panics: prometheus.NewCounter(prometheus.CounterOpts{
				Name: "causeway_compile_failures_total",
				Help: "Compilations that failed by a bug; the last good configuration keeps serving.",
			}),
			pushes: prometheus.NewCounter(prometheus.CounterOpts{
				Name: "causeway_pushes_total", Help: "Changes of the snapshot that were pushed.",
			}),
			duration: prometheus.NewHistogram(prometheus.HistogramOpts{
				Name: "causeway_compile_duration_seconds", Help: "Time to compile and apply one batch of changes.",
				Buckets: prometheus.ExponentialBuckets(.0001, 4, 9),
			}),
		},
	}
	reg.MustRegister(e.metrics.compiles, e.metrics.panics, e.metrics.pushes, e.metrics.duration)
	return e
}

// Run follows the catalog until the context ends; its only error is the context's.
func (e *Engine) Run(ctx context.Context) error {
	feed := e.catalog.Subscribe()
	defer feed.Close()
	e.apply(time.Now(), []snapshot.Update{{Unit: "mesh", Resources: e.compiler.Routes()}})
	window, quiet := settle, time.Time{}
	timer := time.NewTimer(0)
	<-timer.C
	for {
		// What can happen: rows changed, a proxy declares listeners or takes
		// them back, the end.
		select {
		case <-ctx.Done():
			return ctx.Err()
		case r := <-e.requests:
			e.declare(r)
			continue
		case <-feed.Wake():
		}
		if wait := time.Until(quiet); wait > 0 {
			window = min(2*window, settleMost)
			timer.Reset(wait)
			if err := e.settle(ctx, timer.C); err != nil {
				return err
			}
		} else {
			window = settle
		}
		var concerned int
		if b, ok := feed.Take(); ok {
			concerned = e.process(b)
		}
		quiet = time.Now().Add(max(window, min(time.Duration(concerned)*sendTime, settleMost)))
	}
}

// settle waits for the end of a window; proxies that connect are not kept waiting.
func (e *Engine) settle(ctx context.Context, end <-chan time.Time) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case r := <-e.requests:
			e.declare(r)
		case <-end:
			return nil
		}
	}
}

// Await returns once everything up to a catalog revision is in the snapshot.
func (e *Engine) Await(ctx context.Context, revision uint64) error {
	for {
		e.mu.Lock()
		reached, advanced := e.revision >= revision, e.advanced
		e.mu.Unlock()
		if reached {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-advanced:
		}
	}
}

// Declare makes a proxy's listeners (compile.Declaration) and returns once
// they are in the snapshot. release takes them back.
func (e *Engine) Declare(ctx context.Context, declarations []string) (release func(), err error) {
	if err := e.request(ctx, declarations, 1); err != nil {
		return nil, err
	}
	var once sync.Once
	return func() {
		once.Do(func() {
			// The engine may have ended before its last stream.
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			_ = e.request(ctx, declarations, -1)
		})
	}, nil
}

func (e *Engine) request(ctx context.Context, declarations []string, delta int) error {
	r := request{declarations: declarations, delta: delta, done: make(chan struct{})}
	select {
	case <-ctx.Done():
		return fmt.Errorf("declare listeners: %w", ctx.Err())
	case e.requests <- r:
	}
	<-r.done
	return nil
}

func (e *Engine) declare(r request) {
	defer close(r.done)
	var updates []snapshot.Update
	reader := e.catalog.Read()
	for _, text := range r.declarations {
		d, err := compile.ParseDeclaration(text)
		if err != nil {
			continue // the node was checked before; there is nothing to listen to
		}
		before := e.declared[text]
		e.declared[text] += r.delta
		switch after := e.declared[text]; {
		case before == 0 && after > 0:
			if d.IsTCP() {
				if e.byService[d.Service] == nil {
					e.byService[d.Service] = make(map[string]struct{})
				}
				e.byService[d.Service][text] = struct{}{}
			}
			if u, ok := e.compileListener(reader, text); ok {
				updates = append(updates, u)
			}
		case after <= 0:
			delete(e.declared, text)
			delete(e.byService[d.Service], text)
			if len(e.byService[d.Service]) == 0 {
				delete(e.byService, d.Service)
			}
			updates = append(updates, snapshot.Update{Unit: listenerUnit(text)})
		}
	}
	e.apply(time.Now(), updates)
}

// process compiles what a batch of changes touches and returns how many
// proxies that concerns.
func (e *Engine) process(b catalog.Batch) (concerned int) {
	start := time.Now()
	dirty := make(map[discovery.Key]struct{})
	for _, c := range b.Changes {
		for _, row := range [2]any{c.Before, c.After} {
			if key, ok := serviceOf(row); ok {
				dirty[key] = struct{}{}
			}
		}
	}
	if len(dirty) > 0 {
		keys := slices.SortedFunc(maps.Keys(dirty), func(a, b discovery.Key) int {
			return strings.Compare(a.String(), b.String())
		})
		concerned = e.apply(b.Cause, e.compileServices(b.Reader, keys))
		e.metrics.duration.Observe(time.Since(start).Seconds())
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.revision = b.Reader.Revision()
	close(e.advanced)
	e.advanced = make(chan struct{})
	return concerned
}

// serviceOf maps a changed row to the Service whose compilation reads it. It
// must name every table that policy.BuildService reads.
func serviceOf(row any) (discovery.Key, bool) {
	switch r := row.(type) {
	case *discovery.Service:
		return r.Key, r != nil
	case *discovery.EndpointSet:
		return r.Service, r != nil
	case *discovery.InstanceGroup:
		return discovery.Key{Namespace: r.Namespace, Name: r.Object.Spec.ServiceRef.Name}, r != nil
	case *discovery.Home:
		return r.Key, r != nil
	}
	return discovery.Key{}, false
}

func (e *Engine) compileServices(r catalog.Reader, keys []discovery.Key) []snapshot.Update {
	results := make([][]snapshot.Update, len(keys))
	if len(keys) < parallelFrom {
		for i, k := range keys {
			results[i] = e.compileService(r, k)
		}
		return slices.Concat(results...)
	}
	var wg sync.WaitGroup
	var next atomic.Int64
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(keys) {
					return
				}
				results[i] = e.compileService(r, keys[i])
			}
		})
	}
	wg.Wait()
	return slices.Concat(results...)
}

func serviceUnit(k discovery.Key) string { return "service/" + k.String() }

func listenerUnit(declaration string) string { return "listener/" + declaration }

// compileService compiles a Service and the listeners that lead to it. What
// fails keeps its last good resources.
func (e *Engine) compileService(r catalog.Reader, key discovery.Key) []snapshot.Update {
	var out []snapshot.Update
	ok := e.guard("Service "+key.String(), func() {
		var resources []resource.Resource
		if m := policy.BuildService(r, key); m != nil {
			resources = e.compiler.Service(m)
		}
		out = append(out, snapshot.Update{Unit: serviceUnit(key), Resources: resources})
	})
	if !ok {
		return nil
	}
	for _, text := range slices.Sorted(maps.Keys(e.byService[key])) {
		if u, ok := e.compileListener(r, text); ok {
			out = append(out, u)
		}
	}
	return out
}

func (e *Engine) compileListener(r catalog.Reader, declaration string) (u snapshot.Update, ok bool) {
	u.Unit = listenerUnit(declaration)
	ok = e.guard("listener "+declaration, func() {
		d, err := compile.ParseDeclaration(declaration)
		if err != nil {
			return
		}
		var m *policy.Service
		if d.IsTCP() {
			m = policy.BuildService(r, d.Service)
		}
		u.Resources = e.compiler.Listener(d, m)
	})
	return u, ok
}

// guard keeps a bug that one object brings to light from stopping the mesh.
func (e *Engine) guard(what string, f func()) (ok bool) {
	defer func() {
		if p := recover(); p != nil {
			e.metrics.panics.Inc()
			e.log.Error("a compilation failed: its last good configuration keeps serving; please report this as a bug",
				"object", what, "panic", p)
			ok = false
		}
	}()
	e.metrics.compiles.Inc()
	f()
	return true
}

func (e *Engine) apply(cause time.Time, updates []snapshot.Update) (concerned int) {
	if len(updates) == 0 {
		return 0
	}
	changed, concerned := e.store.Apply(cause, updates)
	if changed > 0 {
		e.metrics.pushes.Inc()
	}
	return concerned
}
