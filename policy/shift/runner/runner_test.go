package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/outcome"
	"github.com/causeway-mesh/causeway/policy/resolve"
	"github.com/causeway-mesh/causeway/policy/shift"
	"github.com/causeway-mesh/causeway/policy/shift/notify"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
)

// book is a store that writes into the catalog, as the real ones do in the end.
type book struct {
	catalog *catalog.Catalog

	mu       sync.Mutex
	calls    []string
	conflict bool
	version  int
}

func (b *book) note(what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls = append(b.calls, what)
}

func (b *book) noted() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.calls...)
}

func (b *book) Save(_ context.Context, s *discovery.ShiftState) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.conflict {
		return discovery.ErrConflict
	}
	b.version++
	b.calls = append(b.calls, "save "+string(s.Status.Phase)+" "+string(s.Status.Percent))
	next := *s
	next.Scope, next.Version, next.Status = "test", time.Duration(b.version).String(), s.Status.DeepCopy()
	_, err := b.catalog.Write(time.Now(), func(tx *catalog.Tx) error {
		catalog.ShiftStates.Put(tx, &next)
		return nil
	})
	return err
}

// Protect puts the finalizer where the runner sees it.
func (b *book) Protect(_ context.Context, key discovery.Key) error {
	b.note("protect")
	_, err := b.catalog.Write(time.Now(), func(tx *catalog.Tx) error {
		row, _ := catalog.Objects.Get(tx.Reader, discovery.ObjectName{Kind: discovery.KindTrafficShift, Key: key}.String())
		next := *row
		object := row.Spec.(*v1alpha1.TrafficShift).DeepCopy()
		object.Finalizers = []string{v1alpha1.ShiftFinalizer}
		next.Spec = object
		catalog.Objects.Put(tx, &next)
		return nil
	})
	return err
}
func (b *book) Release(context.Context, discovery.Key) error { b.note("release"); return nil }
func (b *book) RecordHome(_ context.Context, h discovery.Home) error {
	b.note("home " + h.Platform.String() + " supersedes " + h.Supersedes)
	_, err := b.catalog.Write(time.Now(), func(tx *catalog.Tx) error {
		h.Scope = "test"
		catalog.Homes.Put(tx, &h)
		return nil
	})
	return err
}

func (b *book) Event(_ context.Context, e discovery.ShiftEvent) error {
	b.note("event " + e.Reason)
	return nil
}

func (b *book) Credentials(context.Context, string, v1alpha1.CredentialsReference) (map[string][]byte, error) {
	return nil, errors.New("there are none")
}

func (b *book) Autoscaler(context.Context, string, string) (discovery.Autoscaler, bool, error) {
	return discovery.Autoscaler{}, false, nil
}
func (b *book) Terminating(context.Context, string) (bool, error) { return false, nil }
func (b *book) ChangeFreeze(context.Context, func(*discovery.Freeze) (*discovery.Freeze, error)) (*discovery.Freeze, error) {
	return nil, nil //nolint:nilnil // no freeze is no error
}
func (b *book) Send(notify.Notice, ...notify.Target) { b.note("sent") }
func (b *book) Ask(context.Context, *v1alpha1.ShiftMetric, map[string][]byte) (float64, time.Time, error) {
	return 0, time.Now(), nil
}

// callers get good answers from both sides, by the share of the target.
type callers struct {
	good bool
	// shared says whether the target has a share.
	shared func() bool
}

func (c *callers) Window(service discovery.Key, length time.Duration) (outcome.Window, bool) {
	w := outcome.Window{Totals: outcome.Totals{Outcomes: make(map[outcome.Key]*outcome.Counts)}, Covered: length, Proxies: 1}
	for _, p := range []discovery.BackingName{discovery.Pods, discovery.Instances} {
		if p == discovery.Pods && !c.shared() {
			continue
		}
		counts := &outcome.Counts{Requests: 1000}
		counts.Latency.Add(10_000, 1000)
		if !c.good && p == discovery.Pods {
			counts.Failures[outcome.ServerError] = 400
		}
		w.Outcomes[outcome.Key{Service: service, Port: 80, Platform: p}] = counts
	}
	return w, true
}

func (c *callers) Spent(discovery.Key) (outcome.Spent, bool) {
	return outcome.Spent{Requests: 2000, Failed: 3, Codes: outcome.Codes{{Code: 200, N: 1990}, {Code: 404, N: 7}, {Code: 500, N: 3}}}, true
}

// world is a catalog with a Service on both platforms and a shift of it.
func world(t *testing.T, good bool) (*Runner, *book, *catalog.Catalog) {
	t.Helper()
	c := catalog.New()
	key := discovery.Key{Namespace: "web", Name: "php"}
	object := &v1alpha1.TrafficShift{
		ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "php", UID: "u", Generation: 1},
		Spec: v1alpha1.TrafficShiftSpec{
			ServiceRef: v1alpha1.ServiceReference{Name: "php"}, Direction: v1alpha1.InstancesToPods,
			Steps:     []v1alpha1.ShiftStep{{Percent: "50", Hold: &metav1.Duration{Duration: time.Second}}, {Percent: "100", Hold: &metav1.Duration{Duration: time.Second}}},
			Guard:     v1alpha1.ShiftGuard{MinRequests: 1, Window: metav1.Duration{Duration: time.Second}, SuccessRate: &v1alpha1.ShiftSuccessRate{AtLeast: "99"}},
			OnFailure: v1alpha1.RollBack,
		},
	}
	set := func(name string, p discovery.BackingName) *discovery.EndpointSet {
		return &discovery.EndpointSet{
			Scope: "test", Key: discovery.Key{Namespace: "web", Name: name}, Service: key, Platform: p,
			Ports: []discovery.EndpointPort{{Name: "http", Port: 8080}}, Endpoints: []discovery.Endpoint{{ID: name, Address: "10.0.0.1"}},
		}
	}
	_, err := c.Write(time.Now(), func(tx *catalog.Tx) error {
		catalog.Services.Put(tx, &discovery.Service{Scope: "test", Key: key, Home: "Instances", Ports: []discovery.ServicePort{{Name: "http", Port: 80}}})
		catalog.Endpoints.Put(tx, set("i-1", discovery.Instances))
		catalog.Endpoints.Put(tx, set("pod", discovery.Pods))
		catalog.Objects.Put(tx, &discovery.Object{
			Scope: "test", Kind: discovery.KindTrafficShift, Key: key, Generation: 1, Spec: object, Refs: []discovery.ObjectName{{Kind: "Service", Key: key}},
		})
		catalog.ShiftStates.Put(tx, &discovery.ShiftState{Scope: "test", Key: key, UID: "u", Version: "0", Status: &v1alpha1.TrafficShiftStatus{}})
		return nil
	})
	require.NoError(t, err)
	b := &book{catalog: c}
	shared := func() bool {
		s, ok := catalog.ShiftStates.Get(c.Read(), key.String())
		return ok && s.Status.Percent != "" && s.Status.Percent != "0"
	}
	return New(Options{
		Catalog: c, Outcomes: &callers{good, shared}, Asker: b, Sender: b, Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
	}), b, c
}

// until runs the runner until its shift is in a phase.
func until(t *testing.T, r *Runner, b *book, c *catalog.Catalog, phase v1alpha1.ShiftPhase) *v1alpha1.TrafficShiftStatus {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx, b) }()
	defer func() {
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
	}()
	var status *v1alpha1.TrafficShiftStatus
	harness.Eventually(t, time.Minute, fmt.Sprintf("the shift to be %s", phase), func() error {
		s, ok := catalog.ShiftStates.Get(c.Read(), "web/php")
		if !ok || s.Status.Phase != phase {
			return fmt.Errorf("it is not: %v", b.noted())
		}
		status = s.Status
		return nil
	})
	return status
}

// A shift that is content goes from its first step to its end: the finalizer
// comes before the first status, and the home before the last.
func TestRunnerCompletes(t *testing.T) {
	t.Parallel()
	r, b, c := world(t, true)
	status := until(t, r, b, c, v1alpha1.ShiftCompleted)
	require.Equal(t, v1alpha1.Percent("100"), status.Percent)
	calls := b.noted()
	require.Equal(t, "protect", calls[0], "%v", calls)
	home, completed := -1, -1
	for i, call := range calls {
		switch call {
		case "home pods supersedes Instances":
			home = i
		case "save Completed 100":
			completed = i
		}
	}
	require.Positive(t, home, "%v", calls)
	require.Greater(t, completed, home, "%v", calls)
	require.Contains(t, calls, "event Completed")
	require.Contains(t, calls, "sent")
}

// bugged panics when it is asked for the first few times.
type bugged struct {
	callers
	left atomic.Int64
}

func (b *bugged) Window(service discovery.Key, length time.Duration) (outcome.Window, bool) {
	if b.left.Add(-1) >= 0 {
		panic("a bug")
	}
	return b.callers.Window(service, length)
}

// A bug that one look brings to light ends neither the runner nor the shift.
func TestRunnerOutlivesABug(t *testing.T) {
	t.Parallel()
	r, b, c := world(t, true)
	was, ok := r.opts.Outcomes.(*callers)
	require.True(t, ok)
	outcomes := &bugged{callers: *was}
	outcomes.left.Store(3)
	r.opts.Outcomes = outcomes
	until(t, r, b, c, v1alpha1.ShiftCompleted)
	require.Negative(t, outcomes.left.Load(), "it was asked again")
}

// withoutRewrites leaves out a write that repeats the phase and the share of the write before it:
// only its figures are new, and when those are written depends on the clock.
func withoutRewrites(calls []string) []string {
	last := ""
	return slices.DeleteFunc(calls, func(call string) bool {
		if !strings.HasPrefix(call, "save ") {
			return false
		}
		again := call == last
		last = call
		return again
	})
}

// What fails is taken back, and stays so for another leader.
func TestRunnerRollsBack(t *testing.T) {
	t.Parallel()
	r, b, c := world(t, false)
	status := until(t, r, b, c, v1alpha1.ShiftRolledBack)
	require.Equal(t, v1alpha1.Percent("0"), status.Percent)
	require.Equal(t, "guard", status.History[0].Actor)
	said := withoutRewrites(b.noted())
	until(t, r, b, c, v1alpha1.ShiftRolledBack)
	require.Equal(t, said, withoutRewrites(b.noted()), "another term has nothing to say")
}

// What a Service has answered is counted whether or not the guard keeps an error
// budget, by what the guard takes for a failure.
func TestRunnerCountsWithoutErrorBudget(t *testing.T) {
	t.Parallel()
	r, b, c := world(t, true)
	until(t, r, b, c, v1alpha1.ShiftCompleted)
	object := &v1alpha1.TrafficShift{Spec: v1alpha1.TrafficShiftSpec{ServiceRef: v1alpha1.ServiceReference{Name: "php"}}}
	require.Equal(t, spending{2000, 3}, r.spentOf(object))
	object.Spec.Guard.StatusCodes = &v1alpha1.ShiftStatusCodes{Failures: []v1alpha1.ShiftStatusCode{"404"}}
	require.Equal(t, spending{2000, 10}, r.spentOf(object))
}

// Who lost a race neither tells nor acts.
func TestRunnerYieldsToOthers(t *testing.T) {
	t.Parallel()
	r, b, c := world(t, true)
	b.conflict = true
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	require.ErrorIs(t, r.Run(ctx, b), context.DeadlineExceeded)
	for _, call := range b.noted() {
		require.Equal(t, "protect", call, "%v", b.noted())
	}
	s, _ := catalog.ShiftStates.Get(c.Read(), "web/php")
	require.Empty(t, s.Status.Phase)
}

// Commands are taken by who leads, of shifts that there are.
func TestRunnerTakesCommands(t *testing.T) {
	t.Parallel()
	r, b, c := world(t, true)
	key := discovery.Key{Namespace: "web", Name: "php"}
	require.ErrorIs(t, r.Command(key, v1alpha1.ShiftCommand{}), ErrNotLeading)
	require.ErrorContains(t, r.Command(discovery.Key{Namespace: "web", Name: "other"}, v1alpha1.ShiftCommand{}), "there is no TrafficShift web/other")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx, b) }()
	defer func() {
		cancel()
		<-done
	}()
	require.Eventually(t, func() bool {
		return r.Command(key, v1alpha1.ShiftCommand{ID: "1", Action: v1alpha1.ActionPause, Actor: "ann"}) == nil
	}, 10*time.Second, 10*time.Millisecond)
	require.Eventually(t, func() bool {
		s, _ := catalog.ShiftStates.Get(c.Read(), "web/php")
		return s.Status.Command == "1" && s.Status.Phase == v1alpha1.ShiftPaused
	}, 20*time.Second, 20*time.Millisecond)
}

// Figures and advice after the end are about pods that have all traffic.
func TestRunnerSeesTheEnd(t *testing.T) {
	t.Parallel()
	r, b, c := world(t, true)
	until(t, r, b, c, v1alpha1.ShiftCompleted)
	reader := c.Read()
	key := discovery.Key{Namespace: "web", Name: "php"}
	row, ok := catalog.Objects.Get(reader, discovery.ObjectName{Kind: discovery.KindTrafficShift, Key: key}.String())
	require.True(t, ok)
	object, _ := ObjectOf(reader, row)
	require.Equal(t, v1alpha1.ShiftCompleted, object.Status.Phase)
	model := resolve.BuildService(reader, key)
	require.Nil(t, model.Shift)
	require.True(t, model.Reported, "proxies still report, until the TrafficShift is deleted")
	in := r.input(t.Context(), reader, object, r.remember(row, object, time.Now()), time.Now())
	require.NotEqual(t, shift.FigureIdle, in.Verdict.Figure, in.Verdict.Reason)
	require.NotContains(t, in.Analysis.Reason, "no traffic")
	require.Positive(t, in.Analysis.Pods.Requests)
}
