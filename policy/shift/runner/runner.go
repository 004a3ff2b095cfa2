// Package runner carries TrafficShifts out: it collects the outcomes of
// callers' requests, lets policy/shift decide, and writes the decision. It is
// the only part of a shift with effects, and it runs on the leader alone.
//
// A shift's past is in its status. The runner can lose everything else: then a
// step lasts longer.
package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/outcome"
	"github.com/causeway-mesh/causeway/policy/shift"
	"github.com/causeway-mesh/causeway/policy/shift/notify"
	"github.com/causeway-mesh/causeway/policy/upstream"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Store is where shifts are kept: Kubernetes, or the state directory.
type Store interface {
	// Save writes a status. It fails with discovery.ErrConflict if the object is no
	// longer of the version or UID that the status was computed from.
	Save(ctx context.Context, state *discovery.ShiftState) error
	// Protect puts the finalizer on a TrafficShift, Release takes it off.
	Protect(ctx context.Context, key discovery.Key) error
	Release(ctx context.Context, key discovery.Key) error
	// RecordHome records a Service's home durably before it returns.
	RecordHome(ctx context.Context, home discovery.Home) error
	// Event records something that happened to a TrafficShift.
	Event(ctx context.Context, event discovery.ShiftEvent) error
	// Credentials returns the keys of a reference.
	Credentials(ctx context.Context, namespace string, ref v1alpha1.CredentialsReference) (map[string][]byte, error)
	// Autoscaler returns a HorizontalPodAutoscaler, false if there is none.
	Autoscaler(ctx context.Context, namespace, name string) (discovery.Autoscaler, bool, error)
	// Terminating reports whether a namespace is being deleted.
	Terminating(ctx context.Context, namespace string) (bool, error)
	// ChangeFreeze records what a change makes of the freeze, nil for none, and returns it.
	ChangeFreeze(ctx context.Context, change func(*discovery.Freeze) (*discovery.Freeze, error)) (*discovery.Freeze, error)
}

// Outcomes is what callers got, by time. It knows nothing while this replica does
// not lead.
type Outcomes interface {
	// Window returns what happened to a Service in the window of this length that ends now.
	Window(service discovery.Key, length time.Duration) (outcome.Window, bool)
	// Spent returns how many requests to a Service have ended since this
	// replica leads, and how many of them failed.
	Spent(service discovery.Key) (outcome.Spent, bool)
}

// Asker asks other systems for a figure.
type Asker interface {
	// Ask also returns of when the figure is; a figure of the same time is the same one.
	Ask(ctx context.Context, m *v1alpha1.ShiftMetric, credentials map[string][]byte) (value float64, of time.Time, err error)
}

// Sender sends a notice to who wants it, without waiting for them.
type Sender interface {
	Send(n notify.Notice, to ...notify.Target)
}

// Options of a Runner.
type Options struct {
	Catalog  *catalog.Catalog
	Outcomes Outcomes
	Asker    Asker
	Sender   Sender
	Logger   *slog.Logger
	Registry prometheus.Registerer
	// Proxies returns the proxies that are known, for the preflight; nil for none.
	Proxies func() []shift.ProxyFacts
	Now     func() time.Time
}

// How often shifts are looked at, and how often a status is written in which
// only the figures are new: each write is a write to etcd.
const (
	every        = 500 * time.Millisecond
	figuresEvery = 5 * time.Second
	// lagging is how long a write may take to come back from the source
	// before the next decision no longer waits for it.
	lagging = 3 * time.Second
)

// Runner carries shifts out.
type Runner struct {
	opts    Options
	metrics *metrics
	answers *answers
	scalers *scalers

	store Store // of this term

	mu       sync.Mutex
	began    time.Time                                 // of this term, zero while another replica leads
	jumped   time.Time                                 // when the wall clock last did
	looked   time.Time                                 // last
	commands map[discovery.Key][]v1alpha1.ShiftCommand // in the order in which they came
	// known is what is remembered of each shift besides its status.
	known map[discovery.Key]*memory
}

// memory is what a term remembers of a shift.
type memory struct {
	uid string
	// percent of the target and since when it has been seen without a change.
	percent v1alpha1.Percent
	shadow  v1alpha1.Percent
	since   time.Time
	// copied is when requests were last copied, as far as is known.
	copied time.Time
	// first is when this term first saw the shift, and usable the sides that it has seen with a
	// usable endpoint.
	first  time.Time
	usable map[discovery.BackingName]bool
	// stoodIn is when one side was last seen to stand in for the other, zero for never, and by which one that was.
	stoodIn    time.Time
	stoodInBy  discovery.BackingName
	stoodInFor discovery.BackingName
	// written is the version that the last status was computed from, and when: until a newer one
	// is seen, a decision would be made of old news.
	written   string
	writtenAt time.Time
	figuresAt time.Time
	protected bool
	// spent are the requests that are in the error budget of the status, spending
	// those that will be once the next one is written.
	spent, spending spending
	complained      bool
	advice          []string
	open            shift.Open
	// opened is true once requests were seen that were open on the source.
	opened bool
	peaks  [24]peak // of the last hours
}

// spending is how many requests were spent.
type spending struct{ requests, failed uint64 }

// New returns a runner.
func New(o Options) *Runner {
	if o.Now == nil {
		o.Now = time.Now
	}
	r := &Runner{
		opts: o, metrics: newMetrics(o.Registry),
		commands: make(map[discovery.Key][]v1alpha1.ShiftCommand), known: make(map[discovery.Key]*memory),
	}
	r.answers, r.scalers = newAnswers(r), newScalers(r)
	return r
}

// Run carries the shifts of a store out until the context ends; its only error is the context's.
func (r *Runner) Run(ctx context.Context, store Store) error {
	r.mu.Lock()
	r.store = store
	r.began = r.opts.Now()
	r.jumped, r.looked = r.began, r.began
	r.known = make(map[discovery.Key]*memory)
	r.mu.Unlock()
	var queries sync.WaitGroup
	defer func() {
		r.mu.Lock()
		r.began = time.Time{}
		r.mu.Unlock()
		queries.Wait()
		for key := range r.known {
			r.metrics.forget(key) // the next leader has them
		}
	}()
	queries.Go(func() { r.answers.run(ctx) })
	queries.Go(func() { r.scalers.run(ctx) })
	feed := r.opts.Catalog.Subscribe()
	defer feed.Close()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		r.look(ctx)
		// Events: it is time to look, a shift or a freeze changed, the end.
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-ticker.C:
				waiting = false
			case <-feed.Wake():
				if b, ok := feed.Take(); ok {
					waiting = !concerns(b)
				}
			}
		}
	}
}

// concerns reports whether a batch has something that a shift should see at
// once; all else it sees with the next tick.
func concerns(b catalog.Batch) bool {
	for _, c := range b.Changes {
		switch c.Table {
		case catalog.ShiftStates.Name(), catalog.Freezes.Name():
			return true
		case catalog.Objects.Name():
			if c.Concerns(discovery.KindTrafficShift) {
				return true
			}
		}
	}
	return false
}

// look goes through all shifts once.
func (r *Runner) look(ctx context.Context) {
	reader := r.opts.Catalog.Read()
	r.notice(r.opts.Now())
	seen := make(map[discovery.Key]bool)
	for o := range catalog.Objects.By(reader, catalog.ByKind, discovery.KindTrafficShift) {
		if ctx.Err() != nil {
			return
		}
		seen[o.Key] = true
		if err := r.carry(ctx, reader, o); err != nil && ctx.Err() == nil && !errors.Is(err, discovery.ErrConflict) {
			r.opts.Logger.Warn("cannot carry a shift on; trying again", "shift", o.Key.String(), "error", err)
		}
	}
	for s := range catalog.ShiftStates.All(reader) {
		if !seen[s.Key] {
			r.forget(ctx, s)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.commands, func(key discovery.Key, _ []v1alpha1.ShiftCommand) bool { return !seen[key] })
	for _, key := range slices.Collect(maps.Keys(r.known)) {
		if !seen[key] {
			delete(r.known, key)
			r.metrics.forget(key)
		}
	}
}

// forget removes the state of a shift whose object is gone, without Kubernetes,
// where nothing keeps an object until its end has been seen.
func (r *Runner) forget(ctx context.Context, s *discovery.ShiftState) {
	if s.Unknown != "" {
		return // there is nothing that could be forgotten
	}
	if s.UID != "" {
		return // the API server deletes the status with the object
	}
	if s.Status.Phase != v1alpha1.ShiftCompleted && s.Status.Percent != "0" && s.Status.Percent != "" {
		r.opts.Logger.Warn("an unfinished shift was deleted: the traffic is back at the Service's home",
			"shift", s.Key.String(), "percent", string(s.Status.Percent))
	}
	if err := r.store.Release(ctx, s.Key); err != nil && ctx.Err() == nil {
		r.opts.Logger.Warn("cannot forget a shift that was deleted; trying again", "shift", s.Key.String(), "error", err)
	}
}

// carry takes a step, and keeps a bug that one shift brings to light from
// stopping the others, and the mesh: that shift stands where it is.
func (r *Runner) carry(ctx context.Context, reader catalog.Reader, o *discovery.Object) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it stands still; please report this as a bug: %v\n%s", p, debug.Stack())
		}
	}()
	return r.step(ctx, reader, o)
}

// step decides once about a shift and writes what was decided.
func (r *Runner) step(ctx context.Context, reader catalog.Reader, o *discovery.Object) error {
	now := r.opts.Now()
	object, state := ObjectOf(reader, o)
	if state.Unknown != "" {
		return nil // a status could not be stored, and no step be taken
	}
	m := r.remember(o, object, now)
	if m.written != "" {
		if m.written == state.Version && now.Sub(m.writtenAt) < lagging {
			return nil // what was written has not come back yet
		}
		m.written = ""
	}
	in := r.input(ctx, reader, object, m, now)
	out := shift.Next(in, now)
	out.Status.Advice = m.advice
	out.Status.Preflight = r.preflight(object, &out.Status, m)
	if out.Home {
		if err := r.recordHome(ctx, reader, object, in.To, now); err != nil {
			return err
		}
	}
	if !out.Release && !m.protected {
		if err := r.store.Protect(ctx, o.Key); err != nil {
			return fmt.Errorf("protect: %w", err)
		}
		m.protected = true
	}
	if r.worthWriting(m, &object.Status, &out.Status, now) {
		next := &discovery.ShiftState{Key: o.Key, UID: state.UID, Version: state.Version, Status: &out.Status}
		if err := r.store.Save(ctx, next); err != nil {
			return fmt.Errorf("write the status: %w", err)
		}
		m.written, m.writtenAt, m.figuresAt, m.spent = state.Version, now, now, m.spending
		r.tell(ctx, object, &out)
	}
	r.metrics.set(o.Key, &out.Status)
	r.metrics.spent(o.Key, m.spending.requests, m.spending.failed)
	if out.Release {
		if err := r.store.Release(ctx, o.Key); err != nil {
			return fmt.Errorf("release: %w", err)
		}
	}
	return nil
}

// preflight returns what should be known before traffic moves, until it has.
func (r *Runner) preflight(object *v1alpha1.TrafficShift, status *v1alpha1.TrafficShiftStatus, m *memory) []string {
	switch status.Phase {
	case v1alpha1.ShiftSoaking, v1alpha1.ShiftCompleted:
		return nil
	case v1alpha1.ShiftPending, v1alpha1.ShiftShadowing, v1alpha1.ShiftShifting, v1alpha1.ShiftAwaitingApproval,
		v1alpha1.ShiftRollingBack, v1alpha1.ShiftRolledBack, v1alpha1.ShiftPaused:
	}
	facts := shift.Facts{PHP: strings.Contains(object.Spec.ServiceRef.Name, "php"), BypassesUnknown: true}
	if r.opts.Proxies != nil {
		facts.Proxies = r.opts.Proxies()
	}
	// One that comes and goes with each short request would be written each time.
	m.opened = m.opened || m.open.Requests > 0
	open := m.open
	if m.opened {
		open.Requests = max(open.Requests, 1)
	}
	return append(shift.Preflight(&object.Spec, &facts), open.Preflight(object.Spec.ServiceRef.Name)...)
}

// ObjectOf returns a TrafficShift with its status, and the row of that. A status
// of another object of the same name is none.
func ObjectOf(reader catalog.Reader, o *discovery.Object) (*v1alpha1.TrafficShift, *discovery.ShiftState) {
	object := o.Spec.(*v1alpha1.TrafficShift).DeepCopy()
	state, ok := catalog.ShiftStates.Get(reader, o.Key.String())
	if !ok || state.UID != string(object.UID) {
		return object, &discovery.ShiftState{Key: o.Key, UID: string(object.UID)}
	}
	if state.Status != nil {
		object.Status = *state.Status.DeepCopy()
	}
	return object, state
}

// remember returns what this term knows of a shift and notes the share that it has now.
func (r *Runner) remember(o *discovery.Object, object *v1alpha1.TrafficShift, now time.Time) *memory {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.known[o.Key]
	if m == nil || m.uid != string(object.UID) {
		m = &memory{uid: string(object.UID), since: now, copied: now, first: now, usable: make(map[discovery.BackingName]bool), percent: object.Status.Percent, shadow: object.Status.ShadowPercent}
		// Counts from before belong to the former leader.
		m.spent = r.spentOf(object)
		r.known[o.Key] = m
	}
	if m.percent != object.Status.Percent || m.shadow != object.Status.ShadowPercent {
		m.percent, m.shadow, m.since = object.Status.Percent, object.Status.ShadowPercent, now
	}
	if object.Status.ShadowPercent != "" {
		m.copied = now
	}
	m.protected = slices.Contains(object.Finalizers, v1alpha1.ShiftFinalizer)
	return m
}

// worthWriting reports whether a status must be written: at once if it says
// something new, after a while if only its figures do.
func (r *Runner) worthWriting(m *memory, before, after *v1alpha1.TrafficShiftStatus, now time.Time) bool {
	if !equalButFigures(before, after) {
		return true
	}
	return now.Sub(m.figuresAt) >= figuresEvery && !equal(before, after)
}

// recordHome makes the target of a shift the home of its Service.
func (r *Runner) recordHome(ctx context.Context, reader catalog.Reader, object *v1alpha1.TrafficShift, target discovery.BackingName, now time.Time) error {
	key := discovery.Key{Namespace: object.Namespace, Name: object.Spec.ServiceRef.Name}
	home := discovery.Home{
		Key: key, Platform: target,
		Because: fmt.Sprintf("TrafficShift %s/%s was completed at %s", object.Namespace, object.Name, now.UTC().Format(time.RFC3339)),
	}
	if svc, ok := catalog.Services.Get(reader, key.String()); ok && svc.Home != upstream.HomeValue(target) {
		home.Supersedes = svc.Home
	}
	if rec, ok := catalog.Homes.Get(reader, key.String()); ok && rec.Platform == target && rec.Supersedes == home.Supersedes {
		return nil
	}
	if err := r.store.RecordHome(ctx, home); err != nil {
		return fmt.Errorf("record the home of Service %s: %w", key, err)
	}
	return nil
}

// tell makes what happened known, after it was written.
func (r *Runner) tell(ctx context.Context, object *v1alpha1.TrafficShift, out *shift.Output) {
	key := discovery.Key{Namespace: object.Namespace, Name: object.Name}
	for _, n := range out.Notices {
		r.opts.Logger.Info("a shift has news", "shift", key.String(), "event", string(n.Event), "from", string(n.From), "to", string(n.To),
			"step", n.Step, "actor", n.Actor, "reason", n.Reason)
		r.metrics.happened(key, n.Event)
		if err := r.store.Event(ctx, discovery.ShiftEvent{
			Key: key, UID: string(object.UID), Reason: string(n.Event), Message: message(&n), Warning: n.Warning,
		}); err != nil && ctx.Err() == nil {
			r.opts.Logger.Warn("cannot record an Event", "shift", key.String(), "error", err)
		}
		if r.opts.Sender != nil {
			r.opts.Sender.Send(notify.Notice{
				Notice: n, Shift: key, UID: string(object.UID), Service: object.Spec.ServiceRef.Name,
				Direction: shift.DirectionOf(object), Phase: out.Status.Phase, Time: timeOf(&n, &out.Status, r.opts.Now()),
			}, r.targets(ctx, object, n.Event)...)
		}
	}
}

// timeOf returns when something happened: as the history has it, so that
// another leader would say the same.
func timeOf(n *shift.Notice, status *v1alpha1.TrafficShiftStatus, now time.Time) time.Time {
	for i := range status.History {
		if h := &status.History[i]; h.Event == n.Event && h.From == n.From && h.To == n.To && h.Reason == n.Reason {
			return h.Time.Time
		}
	}
	return now
}

// message is a notice in a sentence.
func message(n *shift.Notice) string {
	if n.From == n.To {
		return fmt.Sprintf("%s (%s): %s", percentText(n.To), n.Actor, n.Reason)
	}
	return fmt.Sprintf("%s to %s (%s): %s", percentText(n.From), percentText(n.To), n.Actor, n.Reason)
}

func percentText(p v1alpha1.Percent) string {
	if p == "" {
		p = "0"
	}
	return string(p) + " %"
}

// ErrNotLeading is what commands get while another replica leads.
var ErrNotLeading = errors.New("this replica does not carry shifts out")

// maxCommands is how many commands of a shift may be on their way.
const maxCommands = 16

// Command gives a shift a command, without Kubernetes: there it is an annotation. It counts from now on.
func (r *Runner) Command(key discovery.Key, c v1alpha1.ShiftCommand) error {
	if _, ok := catalog.Objects.Get(r.opts.Catalog.Read(), discovery.ObjectName{Kind: discovery.KindTrafficShift, Key: key}.String()); !ok {
		return fmt.Errorf("there is no %s %s", discovery.KindTrafficShift, key)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.began.IsZero():
		return ErrNotLeading
	case c.ID == "":
		return errors.New("the command has no id")
	case len(r.commands[key]) >= maxCommands:
		return fmt.Errorf("%d commands to %s %s are on their way: try again in a moment", maxCommands, discovery.KindTrafficShift, key)
	}
	c.Time = metav1.NewTime(r.opts.Now()).Rfc3339Copy()
	r.commands[key] = append(r.commands[key], c)
	return nil
}

// Withdraw takes back a command that was not carried out yet.
func (r *Runner) Withdraw(key discovery.Key, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.commands[key] = slices.DeleteFunc(r.commands[key], func(c v1alpha1.ShiftCommand) bool { return c.ID == id })
}
