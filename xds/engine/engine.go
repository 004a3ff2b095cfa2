// Package engine joins the catalog and the snapshot: it follows the catalog's
// changes, compiles the units that they touch, and applies the result to the
// snapshot.
//
// A change recompiles the units that it concerns and nothing else. The only
// mistake possible here is to compile too few; the test oracle is a compile
// from scratch.
package engine

import (
	"cmp"
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
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/policy/resolve"
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
	pins     chan []snapshot.Pin

	mu       sync.Mutex
	revision uint64 // that is in the snapshot
	objects  map[discovery.ObjectName]*appliedObject
	advanced chan struct{} // closed when revision grows

	// Run's own.
	declared     map[string]int                      // how many connected proxies declare a listener
	byUnit       map[policy.Unit]map[string]struct{} // the declarations that lead to a unit
	freezing     freezing
	certificates certificates
	processed    catalog.Reader // the catalog that the snapshot was last made of

	// shapes are the shapes of units as routes of other Services read them.
	// fresh are the units whose shape has changed and whose referrers were not
	// compiled since.
	shapesMu sync.Mutex
	shapes   map[policy.Unit]string
	fresh    map[policy.Unit]bool
}

type metrics struct {
	compiles prometheus.Counter
	panics   prometheus.Counter
	pushes   prometheus.Counter
	duration prometheus.Histogram
	stages   *prometheus.CounterVec
	frozen   prometheus.Gauge
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
		requests: make(chan request), pins: make(chan []snapshot.Pin), advanced: make(chan struct{}),
		declared: make(map[string]int), byUnit: make(map[policy.Unit]map[string]struct{}),
		shapes: make(map[policy.Unit]string), fresh: make(map[policy.Unit]bool),
		objects: make(map[discovery.ObjectName]*appliedObject),
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
			stages: prometheus.NewCounterVec(prometheus.CounterOpts{
				Name: "causeway_stages_total",
				Help: "Changed configurations that were tried with one proxy of each class first, by outcome (accepted, silent, rejected, withdrawn).",
			}, []string{"outcome"}),
			frozen: prometheus.NewGauge(prometheus.GaugeOpts{
				Name: "causeway_config_frozen", Help: "1 while all configuration but endpoints is frozen.",
			}),
		},
	}
	held := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "causeway_config_held_units", Help: "Units of configuration that have changed and that a freeze holds back.",
	}, func() float64 { return float64(store.Held()) })
	reg.MustRegister(e.metrics.compiles, e.metrics.panics, e.metrics.pushes, e.metrics.duration, e.metrics.stages, e.metrics.frozen, held)
	return e
}

// Stage turns staging on (snapshot.Store.Stage). onPins is called after the
// pinned units changed and must not block.
func (e *Engine) Stage(silence time.Duration, onPins func()) {
	e.store.Stage(silence, onPins, func(o snapshot.StageResult) {
		e.metrics.stages.WithLabelValues(string(o)).Inc()
	})
}

// Pin takes over the pins of another replica.
func (e *Engine) Pin(ctx context.Context, pins []snapshot.Pin) {
	select {
	case <-ctx.Done():
	case e.pins <- pins:
	}
}

func (e *Engine) pin(pins []snapshot.Pin) {
	e.store.SetPins(pins)
	var units []policy.Unit
	for i := range pins {
		if u, ok := unitNamed(pins[i].Unit); ok && !slices.Contains(units, u) {
			units = append(units, u)
		}
	}
	e.apply(time.Now(), e.compileUnits(e.catalog.Read(), units))
}

// Run follows the catalog until the context ends; its only error is the context's.
func (e *Engine) Run(ctx context.Context) error {
	feed := e.catalog.Subscribe()
	defer feed.Close()
	e.apply(time.Now(), e.compileUnits(e.catalog.Read(), []policy.Unit{policy.MeshUnit()}))
	window, quiet := settle, time.Time{}
	timer, stages := time.NewTimer(0), time.NewTimer(lookAgain)
	<-timer.C
	for {
		// Events: rows changed, a proxy declares listeners or takes them back,
		// canaries have been silent for too long, the end.
		select {
		case <-ctx.Done():
			return ctx.Err()
		case r := <-e.requests:
			e.declare(r)
			continue
		case pins := <-e.pins:
			e.pin(pins)
			continue
		case <-stages.C:
			e.expire(stages)
			continue
		case <-feed.Wake():
		}
		if wait := time.Until(quiet); wait > 0 {
			window = min(2*window, settleMost)
			timer.Reset(wait)
			if err := e.settle(ctx, timer.C, stages); err != nil {
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
		e.expire(stages)
	}
}

// lookAgain is the longest time between two looks at what is due: proxies come,
// go and answer without the engine.
const lookAgain = 15 * time.Second

// expire ends the stages that are due and sets the timer for the next.
func (e *Engine) expire(stages *time.Timer) {
	due := e.store.Due()
	if now := time.Now(); !due.IsZero() && !now.Before(due) {
		e.store.Expire(now)
		due = e.store.Due()
	}
	wait := lookAgain
	if !due.IsZero() {
		wait = min(wait, time.Until(due))
	}
	stages.Reset(wait)
}

// settle waits for the end of a window. Proxies that connect need not wait for it.
func (e *Engine) settle(ctx context.Context, end <-chan time.Time, stages *time.Timer) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case r := <-e.requests:
			e.declare(r)
		case <-stages.C:
			e.expire(stages)
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

// Declare makes a proxy's listeners (naming.Declaration) and returns once
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
	reader := e.declarationReader()
	for _, text := range r.declarations {
		d, err := naming.ParseDeclaration(text)
		if err != nil {
			continue // the node was checked before; there is nothing to listen to
		}
		before := e.declared[text]
		e.declared[text] += r.delta
		switch after := e.declared[text]; {
		case before == 0 && after > 0:
			if to, ok := leadsTo(d); ok {
				if e.byUnit[to] == nil {
					e.byUnit[to] = make(map[string]struct{})
				}
				e.byUnit[to][text] = struct{}{}
			}
			if u, ok := e.compileListener(reader, text, nil); ok {
				u.Declared = true
				updates = append(updates, u)
			}
		case after <= 0:
			delete(e.declared, text)
			if to, ok := leadsTo(d); ok {
				delete(e.byUnit[to], text)
				if len(e.byUnit[to]) == 0 {
					delete(e.byUnit, to)
				}
			}
			updates = append(updates, snapshot.Update{Unit: listenerUnit(text), Declared: true})
		}
	}
	e.apply(time.Now(), updates)
}

// process compiles what a batch of changes touches and returns how many
// proxies that concerns.
func (e *Engine) process(b catalog.Batch) (concerned int) {
	start := time.Now()
	dirty := make(map[policy.Unit]struct{})
	if e.freezing.known {
		for _, u := range e.followFreeze(b.Reader, e.processed) {
			dirty[u] = struct{}{}
		}
	}
	var objects []appliedObject
	for _, c := range b.Changes {
		var units []policy.Unit
		resolve.Touched(b.Reader, c.Before, c.After, func(u policy.Unit) {
			dirty[u] = struct{}{}
			units = append(units, u)
		})
		objects = append(objects, e.objectOf(c, units)...)
	}
	if len(dirty) > 0 {
		updates := e.compileUnits(b.Reader, sortedUnits(dirty))
		// Routes of other Services name clusters of these units. They are
		// compiled again if the shape of a unit has changed. Endpoints do not
		// change it.
		more := make(map[policy.Unit]struct{})
		for u := range dirty {
			if e.reshaped(u) {
				resolve.Referrers(b.Reader, u, func(r policy.Unit) {
					if _, done := dirty[r]; !done {
						more[r] = struct{}{}
					}
				})
			}
		}
		updates = append(updates, e.compileUnits(b.Reader, sortedUnits(more))...)
		concerned = e.apply(b.Cause, updates)
		e.metrics.duration.Observe(time.Since(start).Seconds())
	}
	e.processed = b.Reader
	if f := &e.freezing; f.complete != nil && !f.known && f.complete(b.Reader) {
		e.apply(b.Cause, e.compileUnits(b.Reader, e.followFreeze(b.Reader, b.Reader)))
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.noteObjects(objects)
	e.revision = b.Reader.Revision()
	close(e.advanced)
	e.advanced = make(chan struct{})
	return concerned
}

func sortedUnits(units map[policy.Unit]struct{}) []policy.Unit {
	return slices.SortedFunc(maps.Keys(units), func(a, b policy.Unit) int {
		return cmp.Or(strings.Compare(a.Kind, b.Kind), strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Key.Name, b.Key.Name))
	})
}

// reshaped reports whether the last compilation of a unit changed its shape,
// and remembers the new one.
func (e *Engine) reshaped(u policy.Unit) bool {
	e.shapesMu.Lock()
	defer e.shapesMu.Unlock()
	if !e.fresh[u] {
		return false
	}
	delete(e.fresh, u)
	return true
}

// shaped notes what routes of other Services read of a unit.
func (e *Engine) shaped(u policy.Unit, shape string) {
	e.shapesMu.Lock()
	defer e.shapesMu.Unlock()
	if e.shapes[u] == shape {
		return
	}
	e.fresh[u] = true
	if shape == "" {
		delete(e.shapes, u)
		return
	}
	e.shapes[u] = shape
}

func (e *Engine) compileUnits(r catalog.Reader, units []policy.Unit) []snapshot.Update {
	results := make([][]snapshot.Update, len(units))
	if len(units) < parallelFrom {
		for i, u := range units {
			results[i] = e.compileUnit(r, u)
		}
		return slices.Concat(results...)
	}
	var wg sync.WaitGroup
	var next atomic.Int64
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(units) {
					return
				}
				results[i] = e.compileUnit(r, units[i])
			}
		})
	}
	wg.Wait()
	return slices.Concat(results...)
}

// unitName is a unit's name in the snapshot.
func unitName(u policy.Unit) string { return strings.ToLower(u.Kind) + "/" + u.Key.String() }

func listenerUnit(declaration string) string { return "listener/" + declaration }

// certificatesUnit is another unit than its Gateway, because certificates wait
// for no canary and are stored nowhere.
func certificatesUnit(gateway discovery.Key) string { return "certificates/" + gateway.String() }

// leadsTo returns the unit that a declared listener leads to, false for a listener that leads
// to all.
func leadsTo(d naming.Declaration) (policy.Unit, bool) {
	switch {
	case d.IsTCP():
		return policy.Unit{Kind: discovery.KindService, Key: d.Service}, true
	case d.IsGateway():
		return policy.GatewayUnit(d.Gateway), true
	case d.IsCaptured():
		return policy.MeshUnit(), true
	}
	return policy.Unit{}, false
}

// updateNames returns the units in the snapshot that are made when a unit is compiled.
func (e *Engine) updateNames(u policy.Unit) []string {
	out := []string{unitName(u)}
	if u.Kind == discovery.KindGateway {
		out = append(out, certificatesUnit(u.Key))
	}
	for text := range e.byUnit[u] {
		out = append(out, listenerUnit(text))
	}
	return out
}

// build returns the model of a unit for proxies: with the shares from before a
// freeze, and with the last good certificates. It returns nil if there is no such
// unit.
func (e *Engine) build(r catalog.Reader, u policy.Unit) policy.Model {
	m := resolve.Build(r, u)
	switch m := m.(type) {
	case *policy.Service:
		e.freezing.holdShares(m)
	case *policy.Gateway:
		e.certificates.keep(m)
	case nil:
		if u.Kind == discovery.KindGateway {
			e.certificates.forget(u.Key)
		}
	}
	return m
}

// compileUnit compiles a unit and the listeners that lead to it. A unit or
// listener that fails keeps its last good resources.
func (e *Engine) compileUnit(r catalog.Reader, u policy.Unit) []snapshot.Update {
	var out []snapshot.Update
	var m policy.Model
	ok := e.guard(u.String(), func() {
		var resources []resource.Resource
		shape := ""
		if m = e.build(r, u); m != nil {
			resources, shape = e.compiler.Compile(m), m.Shape()
		}
		if u.Kind == discovery.KindGateway {
			certificates := snapshot.Update{Unit: certificatesUnit(u.Key)}
			if gateway, ok := m.(*policy.Gateway); ok {
				certificates.Resources = e.compiler.Certificates(gateway)
			}
			out = append(out, certificates)
		}
		e.shaped(u, shape)
		out = append(out, snapshot.Update{Unit: unitName(u), Resources: resources})
	})
	if !ok {
		return out
	}
	for _, text := range slices.Sorted(maps.Keys(e.byUnit[u])) {
		if u, ok := e.compileListener(r, text, m); ok {
			out = append(out, u)
		}
	}
	return out
}

// compileListener compiles a declared listener. m is the model of the unit that it
// leads to if that is built already, else nil.
func (e *Engine) compileListener(r catalog.Reader, declaration string, m policy.Model) (u snapshot.Update, ok bool) {
	u.Unit = listenerUnit(declaration)
	ok = e.guard("listener "+declaration, func() {
		d, err := naming.ParseDeclaration(declaration)
		if err != nil {
			return
		}
		if to, leads := leadsTo(d); leads && m == nil {
			m = e.build(r, to)
		}
		u.Resources = e.compiler.Declared(d, m)
	})
	return u, ok
}

// guard recovers from a panic, so that one object which triggers a bug does not
// stop the mesh.
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

// withoutPinned leaves out the pinned units while the catalog is being filled. A
// unit of a half-filled catalog differs from the refused one, and the pin would end
// because of that. These units are compiled once the catalog is filled; nothing is
// served before.
func (e *Engine) withoutPinned(updates []snapshot.Update) []snapshot.Update {
	if f := &e.freezing; f.complete == nil || f.known {
		return updates
	}
	pinned := make(map[string]struct{})
	for _, p := range e.store.Pins() {
		pinned[p.Unit] = struct{}{}
	}
	return slices.DeleteFunc(updates, func(u snapshot.Update) bool {
		_, is := pinned[u.Unit]
		return is
	})
}

func (e *Engine) apply(cause time.Time, updates []snapshot.Update) (concerned int) {
	updates = e.withoutPinned(updates)
	if len(updates) == 0 {
		return 0
	}
	changed, concerned := e.store.Apply(cause, updates)
	if changed > 0 {
		e.metrics.pushes.Inc()
	}
	return concerned
}
