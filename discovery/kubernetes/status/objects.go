// Package status writes the statuses of objects, and Events about what turned. Only the leader
// runs it. What a status says now it has from the catalog; what it must say it is told.
package status

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/cluster"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/conditions"
	"github.com/causeway-mesh/causeway/discovery/objects"
)

// Limits of the cost of the status of routes and policies. Computing all of it
// takes at most a tenth of a core, and the API server gets at most so many
// writes a second, however many objects a change concerns. Up to editedMost
// objects that were just edited are computed at once.
const (
	computeEvery = time.Second
	computeShare = 10
	editedMost   = 50
	writeRate    = 50
	writeBurst   = 50
	writeWithin  = 10 * time.Second
)

// How a write is tried again, and how long a status is left alone that another
// writer changed: twice as long each time, until it has been quiet.
const (
	conflictTries = 3
	retryFirst    = time.Second
	retryMost     = 5 * time.Minute
	quarrelOver   = 10 * time.Minute
	complainEvery = time.Minute
	eventAction   = "Observe"
	// awayMost is how long nothing is written at most while the API server does not answer.
	awayMost = 30 * time.Second
)

// Results of writes, as metrics name them.
const (
	resultWritten   = "written"
	resultUnchanged = "unchanged"
	resultConflict  = "conflict"
	resultGone      = "gone"
	resultError     = "error"
)

// Writer writes the status of routes, policies, Gateways and
// GatewayClasses, and Events about conditions that became False.
type Writer struct {
	client     *cluster.Client
	of         func(catalog.Reader) func(*discovery.Object) (discovery.Status, bool)
	programmed func(discovery.ObjectRef) (metav1.Condition, bool)
	unheard    func(gateway discovery.Key, port uint16) (string, bool)
	rate       float32

	writes    *prometheus.CounterVec
	pending   prometheus.Gauge
	rewrites  *prometheus.CounterVec
	computing prometheus.Histogram
}

// NewWriter returns a writer of status.
//
// of returns a function for a snapshot. It gives the status of a row without times and
// Programmed, and reports whether its kind has one. programmed returns the condition
// Programmed of an object, or false while nothing is known: then the present condition stays.
// It is called for every object once a second, and may be nil.
//
// unheard returns why nothing can be in force on a port of a Gateway while no proxy listens
// there. It returns false if a proxy does, or if that is not known. It may be nil.
func NewWriter(c *cluster.Client, of func(catalog.Reader) func(*discovery.Object) (discovery.Status, bool),
	programmed func(discovery.ObjectRef) (metav1.Condition, bool), unheard func(gateway discovery.Key, port uint16) (string, bool), reg prometheus.Registerer,
) *Writer {
	if programmed == nil {
		programmed = func(discovery.ObjectRef) (metav1.Condition, bool) { return metav1.Condition{}, false }
	}
	p := &Writer{
		client: c, of: of, programmed: programmed, unheard: unheard, rate: writeRate,
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "causeway_status_writes_total",
			Help: "Attempts to write the status of a route or policy, by kind and result: written, unchanged, conflict, gone or error.",
		}, []string{"kind", "result"}),
		rewrites: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "causeway_status_rewrites_total",
			Help: "Times that another writer changed what this control plane says in a status, by kind.",
		}, []string{"kind"}),
		pending: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "causeway_status_pending", Help: "Routes and policies whose status waits to be written.",
		}),
		computing: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "causeway_status_judge_seconds", Help: "Time to find out what the status of all routes and policies must be.",
			Buckets: []float64{.001, .01, .05, .1, .25, .5, 1, 2.5, 5},
		}),
	}
	reg.MustRegister(p.writes, p.rewrites, p.pending, p.computing)
	return p
}

// Run keeps the status of routes and policies true until the context ends.
// Only the leader runs it.
func (p *Writer) Run(ctx context.Context, cat *catalog.Catalog) error {
	recorder, shutdown, err := p.client.NewRecorder(ctx)
	if err != nil {
		return err
	}
	defer shutdown()
	defer p.pending.Set(0)
	t := &term{
		Writer: p, cat: cat, recorder: recorder,
		limiter: flowcontrol.NewTokenBucketRateLimiter(p.rate, writeBurst),
		kinds:   make(map[string]objects.Kind), objects: make(map[discovery.ObjectName]*statement),
		work: make(chan struct{}, 1), complained: make(map[string]time.Time),
	}
	defer t.limiter.Stop()
	for _, k := range cluster.Kinds() {
		if k.Name != discovery.KindInstanceGroup { // WriteGroups tells more of them than conditions
			t.kinds[k.Name] = k
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return t.compute(ctx) })
	g.Go(func() error { return t.write(ctx) })
	return g.Wait()
}

// term is one term of leading. One goroutine computes what every status
// must say, another one writes those that say something else.
type term struct {
	*Writer
	cat      *catalog.Catalog
	recorder events.EventRecorder
	limiter  flowcontrol.RateLimiter
	kinds    map[string]objects.Kind
	// work has a value when something may be due.
	work chan struct{}

	mu      sync.Mutex
	objects map[discovery.ObjectName]*statement
	// edits counts edits of objects, due those that became due.
	edits, due uint64
	// looked is at how many commits of the catalog statements were given what
	// their objects say, 0 if some were not.
	looked uint64

	complained map[string]time.Time // of write alone
}

// statement is what the status of an object must say. Its first fields change
// under the term's lock, its last ones belong to who writes.
type statement struct {
	row    *discovery.Object
	status discovery.Status
	said   uint64
	// have is what the object's status says as of the last look, nil if there is none.
	have *discovery.ObservedStatus
	// edit is when the object was last edited in this term, 0 if it was not:
	// who has just edited one waits for the answer, and goes first.
	edit uint64
	// due is its place in the queue, 0 if it is in none; busy is true while it is written.
	due  uint64
	busy bool
	// notBefore is when it may be written again.
	notBefore time.Time
	// settled is what was found not to need a write, whatever digests say.
	settled settlement

	failures int
	// wrote is the digest that was last written, to which object of the name, and when
	// it first had to be written again because of another writer.
	wrote     uint64
	wroteTo   types.UID
	rewrites  int
	rewritten time.Time
}

// settlement is a version of an object that needs no write to say something.
type settlement struct {
	version          string
	said, programmed uint64
}

// compute keeps the wanted statuses current, and finds those that differ from
// the present ones.
func (t *term) compute(ctx context.Context) error {
	feed := t.cat.Subscribe()
	defer feed.Close()
	ticker := time.NewTicker(computeEvery)
	defer ticker.Stop()
	first, stale := true, false
	edited := make(map[discovery.ObjectName]struct{}) // and not computed since
	var next time.Time
	for {
		// Events: rows changed, it is time to compute, the end.
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-feed.Wake():
			if b, ok := feed.Take(); ok {
				stale = t.note(b, first, edited) || stale
				first = false
			}
			continue
		case <-ticker.C:
		}
		switch {
		case stale && !time.Now().Before(next):
			stale = false
			start := time.Now()
			t.renew(t.cat.Read())
			took := time.Since(start)
			t.computing.Observe(took.Seconds())
			next = time.Now().Add(computeShare * took)
			clear(edited)
		case len(edited) <= editedMost:
			// The person who edited these waits for the answer; the effects on
			// others may come later.
			r := t.cat.Read()
			of := t.of(r)
			for name := range edited {
				if o, ok := catalog.Objects.Get(r, name.String()); ok {
					t.renewOne(of, o)
				}
			}
			clear(edited)
		}
		t.compare(time.Now())
	}
}

// note notes which objects were edited, and reports whether a batch may change
// any status: endpoints do not.
func (t *term) note(b catalog.Batch, first bool, edited map[discovery.ObjectName]struct{}) (concerns bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, ch := range b.Changes {
		switch ch.Table {
		case catalog.Objects.Name():
			concerns = true
			o, ok := ch.After.(*discovery.Object)
			if !ok || first {
				continue
			}
			before, _ := ch.Before.(*discovery.Object)
			if before == nil || before.Generation != o.Generation {
				t.edits++
				t.statement(o).edit = t.edits
				edited[o.Name()] = struct{}{}
			}
		case catalog.Services.Name(), catalog.Homes.Name(), catalog.EdgeStatuses.Name():
			concerns = true
		}
	}
	return concerns
}

// statement returns the statement about an object. mu must be held.
func (t *term) statement(o *discovery.Object) *statement {
	s := t.objects[o.Name()]
	if s == nil {
		s = &statement{}
		t.objects[o.Name()] = s
		t.looked = 0
	}
	return s
}

// renew finds out what every status must say.
func (t *term) renew(r catalog.Reader) {
	there := make(map[discovery.ObjectName]struct{})
	of := t.of(r)
	for o := range catalog.Objects.All(r) {
		if t.renewOne(of, o) {
			there[o.Name()] = struct{}{}
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for name := range t.objects {
		if _, ok := there[name]; !ok {
			delete(t.objects, name)
		}
	}
}

// renewOne computes the status of one object, if it has any.
func (t *term) renewOne(of func(*discovery.Object) (discovery.Status, bool), o *discovery.Object) bool {
	want, ok := of(o)
	if _, known := t.kinds[o.Kind]; !ok || !known {
		return false
	}
	switch o.Kind {
	case discovery.KindGateway:
		ok = want.Gateway != nil // or else it is another controller's
	case discovery.KindGatewayClass:
		ok = want.Class != nil
	}
	if !ok {
		return false
	}
	said, _ := conditions.Digest(want)
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.statement(o)
	s.row, s.status, s.said = o, want, said
	return true
}

// compare makes due what the status of an object does not say yet.
func (t *term) compare(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.look(t.cat.Read())
	pending := 0
	for _, s := range t.objects {
		if s.row == nil {
			continue // computed the next time
		}
		if s.due == 0 && !s.busy && !now.Before(s.notBefore) && t.differs(s) {
			t.due++
			s.due = t.due
		}
		if s.due != 0 {
			pending++
		}
	}
	t.pending.Set(float64(pending))
	if pending > 0 {
		select {
		case t.work <- struct{}{}:
		default:
		}
	}
}

// look gives each statement the present status of its object, unless nothing has
// changed since the last look. mu must be held.
func (t *term) look(r catalog.Reader) {
	if t.looked == r.Commits() {
		return
	}
	t.looked = r.Commits()
	for _, s := range t.objects {
		s.have = nil
	}
	for have := range catalog.ObservedStatuses.All(r) {
		if s := t.objects[have.Name]; s != nil {
			s.have = have
		}
	}
}

// differs reports whether the status of an object differs from the wanted one.
func (t *term) differs(s *statement) bool {
	have := s.have
	if have == nil || have.UID != string(uidOf(s.row)) {
		return false // gone, or another one by now, of which a row will come
	}
	want := s.status
	want.Gateway = t.heard(s.row, want.Gateway)
	var c *metav1.Condition
	if known, ok := t.condition(s.row, want); ok {
		c = &known
	}
	programmed := conditions.DigestProgrammed(want, c, have.Programmed)
	if have.Gateway != nil && want.Gateway != nil {
		if conditions.SameGateway(have.Gateway, conditions.MergeGateway(have.Gateway, want.Gateway, c, metav1.Time{})) {
			return false
		}
	} else if have.Said == s.said && have.Programmed == programmed {
		return false
	}
	return s.settled != settlement{have.Version, s.said, programmed}
}

// condition returns the condition Programmed of an object, if it is known and
// there is an entry that it belongs to.
func (t *term) condition(row *discovery.Object, want discovery.Status) (metav1.Condition, bool) {
	if len(want.Conditions)+len(want.Parents)+len(want.Ancestors) == 0 && want.Gateway == nil {
		return metav1.Condition{}, false
	}
	return t.programmed(row.Ref())
}

func uidOf(o *discovery.Object) types.UID {
	if m, ok := o.Spec.(metav1.Object); ok {
		return m.GetUID()
	}
	return ""
}

// write writes the statuses that are due, one after the other, at no more than
// the rate.
func (t *term) write(ctx context.Context) error {
	failures := 0
	for {
		name, s, ok := t.next()
		if !ok {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-t.work:
			}
			continue
		}
		if err := t.limiter.Wait(ctx); err != nil {
			t.done(s)
			return err
		}
		result, err := t.apply(ctx, name, s)
		t.done(s)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		t.writes.WithLabelValues(name.Kind, result).Inc()
		if err == nil {
			failures = 0
			if result != resultGone {
				s.failures = 0
				continue
			}
			// Its deletion will be seen, or the API server serves another version of it.
			s.failures++
			t.postpone(s, delay(s.failures))
			continue
		}
		t.complain(name, err)
		if ofObject(err) {
			s.failures++
			t.postpone(s, delay(s.failures))
			continue
		}
		// The API server does not answer, so there is no use in asking it about the others.
		failures++
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(min(delay(failures), awayMost)):
		}
	}
}

// next takes the next status to write: of the object that was edited last, else
// the one that is due for longest.
func (t *term) next() (discovery.ObjectName, *statement, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var name discovery.ObjectName
	var best *statement
	for n, s := range t.objects {
		if s.due == 0 {
			continue
		}
		if best == nil || s.edit > best.edit || s.edit == best.edit && s.due < best.due {
			name, best = n, s
		}
	}
	if best == nil {
		return name, nil, false
	}
	best.due, best.busy = 0, true
	return name, best, true
}

func (t *term) done(s *statement) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.busy = false
}

func (t *term) postpone(s *statement, d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.notBefore = time.Now().Add(d)
}

// delay returns how long to wait after a number of failures in a row.
func delay(failures int) time.Duration {
	d := retryFirst
	for i := 1; i < failures && d < retryMost; i++ {
		d *= 2
	}
	return min(d, retryMost)
}

// ofObject reports whether an error is about one object, or one kind, rather
// than of the API server.
func ofObject(err error) bool {
	return apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) || apierrors.IsForbidden(err) || apierrors.IsConflict(err) ||
		apierrors.IsRequestEntityTooLargeError(err) || apierrors.IsMethodNotSupported(err)
}

// complain logs an error, for each kind once in a while.
func (t *term) complain(name discovery.ObjectName, err error) {
	if now := time.Now(); now.Sub(t.complained[name.Kind]) >= complainEvery {
		t.complained[name.Kind] = now
		t.client.Log.Warn("cannot write a status; trying again", "object", name.String(), "error", err)
	}
}

// apply writes the status of an object if it differs from the wanted one. If
// somebody else writes the object at the same time, it reads it again, so that
// the other change is not lost.
func (t *term) apply(ctx context.Context, name discovery.ObjectName, s *statement) (result string, err error) {
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	t.mu.Lock()
	row, want, said := s.row, s.status, s.said
	t.mu.Unlock()
	want.Gateway = t.heard(row, want.Gateway)
	for try := 1; ; try++ {
		result, err = t.tryApply(ctx, name, s, row, want, said)
		if apierrors.IsNotFound(err) {
			return resultGone, nil
		}
		if !apierrors.IsConflict(err) || try == conflictTries {
			return result, err
		}
	}
}

func (t *term) tryApply(ctx context.Context, name discovery.ObjectName, s *statement, row *discovery.Object, want discovery.Status, said uint64) (string, error) {
	kind := t.kinds[name.Kind]
	text, err := t.client.Statuses.Get().AbsPath(pathOf(kind, name.Key)...).Do(ctx).Raw()
	if err != nil {
		return resultError, fmt.Errorf("read: %w", err)
	}
	current, err := decode(kind, text)
	if err != nil {
		return resultError, err
	}
	have := conditions.Of(current)
	if current.GetUID() != uidOf(row) || conditions.Generation(conditions.Ours(have)) > row.Generation {
		// A new object of the same name, or a status that knows a newer
		// generation than we do: our row is old.
		t.observe(kind, current)
		return resultUnchanged, nil
	}
	var programmed *metav1.Condition
	if c, known := t.condition(row, want); known {
		programmed = &c
	}
	next := conditions.Merge(have, want, programmed, metav1.Now().Rfc3339Copy())
	if conditions.Same(have, next) {
		t.settle(kind, s, current, said, want, programmed)
		return resultUnchanged, nil
	}
	t.quarrel(name, s, current, said)
	text, err = applyStatus(ctx, t.client, kind, current, next)
	if apierrors.IsConflict(err) {
		return resultConflict, err
	}
	if err != nil {
		return resultError, fmt.Errorf("apply: %w", err)
	}
	written, err := decode(kind, text)
	if err != nil {
		return resultError, err
	}
	s.wrote, s.wroteTo = said, current.GetUID()
	t.settle(kind, s, written, said, want, programmed)
	t.announce(kind, current, have, next)
	return resultWritten, nil
}

// settle notes that a version of an object says what it must.
func (t *term) settle(kind objects.Kind, s *statement, o metav1.Object, said uint64, want discovery.Status, programmed *metav1.Condition) {
	now := t.observe(kind, o)
	done := settlement{now.Version, said, conditions.DigestProgrammed(want, programmed, now.Programmed)}
	t.mu.Lock()
	defer t.mu.Unlock()
	s.settled = done
}

// observe writes what was read or answered just now of an object's status into
// the catalog, where the watch's event comes later. Of an object that the
// catalog does not have it writes nothing: it is gone, or its event comes.
func (t *term) observe(kind objects.Kind, o metav1.Object) *discovery.ObservedStatus {
	now := conditions.Observed(kind, o)
	_, err := t.cat.Write(time.Now(), func(tx *catalog.Tx) error {
		if _, ok := catalog.ObservedStatuses.Get(tx.Reader, now.ID()); ok {
			catalog.ObservedStatuses.Put(tx, now)
		}
		return nil
	})
	if err != nil {
		t.client.Log.Error("cannot take a status that was read", "object", now.Name.String(), "error", err)
	}
	return now
}

// quarrel notes whether another writer has changed what we wrote. We write it
// again, but less and less often: two writers that disagree must not keep the
// API server busy.
func (t *term) quarrel(name discovery.ObjectName, s *statement, current metav1.Object, said uint64) {
	if is, _ := conditions.Digest(conditions.Ours(conditions.Of(current))); s.wrote != said || is == said || s.wroteTo != current.GetUID() {
		return // it was deleted and made again, where the object is another one
	}
	now := time.Now()
	if now.Sub(s.rewritten) > quarrelOver {
		s.rewrites = 0
	}
	s.rewrites++
	s.rewritten = now
	t.rewrites.WithLabelValues(name.Kind).Inc()
	wait := delay(s.rewrites + 1)
	t.postpone(s, wait)
	t.client.Log.Warn("another writer changed what this control plane says in a status; it is put right, but not again at once",
		"object", name.String(), "writer", lastStatusWriter(current), "not again before", wait)
}

// lastStatusWriter returns the name of the last writer of an object's status.
func lastStatusWriter(o metav1.Object) string {
	writer, last := "", time.Time{}
	for _, f := range o.GetManagedFields() {
		if f.Subresource == "status" && f.Time != nil && f.Manager != fieldManager && !f.Time.Time.Before(last) {
			writer, last = f.Manager, f.Time.Time
		}
	}
	return writer
}

// applyStatus writes a status by server-side apply. The lists of the Gateway
// API are one field that all controllers share, so it holds only for the
// version of the object that was read.
func applyStatus(ctx context.Context, c *cluster.Client, kind objects.Kind, current metav1.Object, next discovery.Status) ([]byte, error) {
	body, err := json.Marshal(map[string]any{
		"apiVersion": kind.APIVersion, "kind": kind.Name,
		"metadata": map[string]string{
			"namespace": current.GetNamespace(), "name": current.GetName(), "resourceVersion": current.GetResourceVersion(),
		},
		"status": conditions.Body(current, next),
	})
	if err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	key := discovery.Key{Namespace: current.GetNamespace(), Name: current.GetName()}
	return c.Statuses.Patch(types.ApplyPatchType).AbsPath(append(pathOf(kind, key), "status")...).
		Param("fieldManager", fieldManager).Param("force", "true").Body(body).Do(ctx).Raw()
}

// announce writes Events about conditions that became False, with the remedy.
func (t *term) announce(kind objects.Kind, o metav1.Object, have, next discovery.Status) {
	about := &metav1.PartialObjectMetadata{}
	about.APIVersion, about.Kind = kind.APIVersion, kind.Name
	about.Namespace, about.Name, about.UID = o.GetNamespace(), o.GetName(), o.GetUID()
	about.ResourceVersion = o.GetResourceVersion()
	for _, c := range conditions.Turned(have, next) {
		t.recorder.Eventf(about, nil, corev1.EventTypeWarning, c.Type+c.Reason, eventAction, "%s", conditions.Clip(c.Message, cluster.EventNoteMost))
	}
}

// decode decodes an object of a policy kind.
func decode(kind objects.Kind, text []byte) (metav1.Object, error) {
	o, err := (&cluster.Object{Text: text}).Decode(kind)
	if err != nil {
		return nil, fmt.Errorf("decode: %w", err)
	}
	return o, nil
}

// pathOf returns the path of an object in the API.
func pathOf(kind objects.Kind, key discovery.Key) []string {
	gv, _ := schema.ParseGroupVersion(kind.APIVersion) // from the list of kinds
	path := []string{"/apis", gv.Group, gv.Version}
	if kind.Namespaced {
		path = append(path, "namespaces", key.Namespace)
	}
	return append(path, kind.Resource, key.Name)
}
