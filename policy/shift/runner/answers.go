package runner

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/shift"
	"github.com/causeway-mesh/causeway/policy/shift/notify"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// How often other systems are asked: at most twice in a window. Their own data is some seconds old,
// and samples that are closer together are one and the same odd sample.
const (
	askMost  = 15 * time.Second
	askLeast = time.Second
	// stale is how many pauses old an answer may be.
	stale = 4
	// forgotten is after how long without a question older samples are in no row with newer ones.
	forgotten = 5 * time.Minute
)

// answers are the last answers of other systems about shifts. They are asked in
// the background: a slow system must not keep a shift from being rolled back.
type answers struct {
	runner *Runner

	mu      sync.Mutex
	answers map[question]answer
}

// question is a metric of a shift.
type question struct {
	shift discovery.Key
	name  string
}

type answer struct {
	metric v1alpha1.ShiftMetric // that was asked
	// samples, the newest first. The same figure asked for twice is one sample.
	samples []sample
	err     error
	at      time.Time
	asking  bool
}

// sample is a figure and of when it is.
type sample struct {
	value float64
	of    time.Time
}

// maxSamples is how many samples can matter (failureThreshold).
const maxSamples = 10

func newAnswers(r *Runner) *answers { return &answers{runner: r, answers: make(map[question]answer)} }

// pauseOf returns how often a shift's metrics are asked for.
func pauseOf(object *v1alpha1.TrafficShift) time.Duration {
	return min(max(object.Spec.Guard.Window.Duration/2, askLeast), askMost)
}

// of returns the answers to a shift's metrics, in their order.
func (a *answers) of(object *v1alpha1.TrafficShift) []shift.Metric {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.runner.opts.Now()
	var out []shift.Metric
	for i := range object.Spec.Guard.Metrics {
		m := &object.Spec.Guard.Metrics[i]
		got, ok := a.answers[question{discovery.Key{Namespace: object.Namespace, Name: object.Name}, m.Name}]
		result := shift.Metric{Name: m.Name}
		for i, s := range got.samples {
			if i == 0 {
				result.Value = s.value
			} else {
				result.Before = append(result.Before, s.value)
			}
		}
		switch {
		case !ok || got.at.IsZero() || !sameMetric(&got.metric, m):
			result.Error = "it was not asked for yet"
		case got.err != nil:
			result.Error = got.err.Error()
		case now.Sub(got.at) > stale*pauseOf(object)+m.Timeout.Duration:
			result.Error = fmt.Sprintf("the last answer is %s old", now.Sub(got.at).Round(time.Second))
		}
		out = append(out, result)
	}
	return out
}

// sameMetric reports whether two metrics ask the same.
func sameMetric(a, b *v1alpha1.ShiftMetric) bool { return equality.Semantic.DeepEqual(a, b) }

// run asks until the context ends, and returns when nobody is being asked any more.
func (a *answers) run(ctx context.Context) {
	var asking sync.WaitGroup
	defer asking.Wait()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		due := a.due()
		for i := range due {
			asking.Go(func() { a.ask(ctx, &due[i]) })
		}
	}
}

// asked is a question that is due.
type asked struct {
	question
	metric v1alpha1.ShiftMetric
}

// due returns the questions to ask now, and forgets those that are no longer needed.
func (a *answers) due() []asked {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.runner.opts.Now()
	var out []asked
	wanted := make(map[question]bool)
	for o := range catalog.Objects.By(a.runner.opts.Catalog.Read(), catalog.ByKind, discovery.KindTrafficShift) {
		object := o.Spec.(*v1alpha1.TrafficShift)
		for i := range object.Spec.Guard.Metrics {
			m := object.Spec.Guard.Metrics[i]
			q := question{o.Key, m.Name}
			wanted[q] = true
			last := a.answers[q]
			if last.asking || sameMetric(&last.metric, &m) && now.Sub(last.at) < pauseOf(object) {
				continue
			}
			last.asking = true
			a.answers[q] = last
			out = append(out, asked{q, m})
		}
	}
	for q, last := range a.answers {
		if !wanted[q] && !last.asking {
			delete(a.answers, q)
		}
	}
	return out
}

func (a *answers) ask(ctx context.Context, q *asked) {
	got := answer{metric: q.metric}
	var s sample
	if ref := credentialsOf(&q.metric); ref != nil {
		var credentials map[string][]byte
		if credentials, got.err = a.runner.store.Credentials(ctx, q.shift.Namespace, *ref); got.err == nil {
			s.value, s.of, got.err = a.runner.opts.Asker.Ask(ctx, &q.metric, credentials)
		}
	} else {
		s.value, s.of, got.err = a.runner.opts.Asker.Ask(ctx, &q.metric, nil)
	}
	got.at = a.runner.opts.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if last := a.answers[q.question]; sameMetric(&last.metric, &q.metric) && got.at.Sub(last.at) < forgotten {
		got.samples = last.samples // an answer that is missing does not make odd samples even
	}
	switch {
	case got.err != nil:
	case len(got.samples) > 0 && got.samples[0].of.Equal(s.of):
		got.samples = append([]sample{s}, got.samples[1:]...)
	default:
		got.samples = append([]sample{s}, got.samples[:min(len(got.samples), maxSamples-1)]...)
	}
	a.answers[q.question] = got
}

func credentialsOf(m *v1alpha1.ShiftMetric) *v1alpha1.CredentialsReference {
	switch {
	case m.Prometheus != nil:
		return m.Prometheus.Credentials
	case m.Datadog != nil:
		return &m.Datadog.Credentials
	case m.NewRelic != nil:
		return &m.NewRelic.Credentials
	}
	return nil
}

// targets returns who wants to hear of an event.
func (r *Runner) targets(ctx context.Context, object *v1alpha1.TrafficShift, e v1alpha1.ShiftEvent) []notify.Target {
	var out []notify.Target
	for i := range object.Spec.Notifications {
		n := &object.Spec.Notifications[i]
		if len(n.Events) > 0 && !slices.Contains(n.Events, e) {
			continue
		}
		t := notify.Target{Notification: n}
		if n.Credentials != nil {
			var err error
			if t.Credentials, err = r.store.Credentials(ctx, object.Namespace, *n.Credentials); err != nil {
				r.opts.Logger.Warn("a notification cannot be sent: its credentials cannot be read",
					"shift", object.Namespace+"/"+object.Name, "notification", n.Name, "error", err)
				continue
			}
		}
		out = append(out, t)
	}
	return out
}
