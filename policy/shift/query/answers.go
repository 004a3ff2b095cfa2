package query

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	"github.com/causeway-mesh/causeway/policy/shift"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Ages of answers.
const (
	// freshest is how old an answer may be before it is asked for again, unless a
	// quarter of the guard's window is less.
	freshest = 10 * time.Second
	// forgotten is when an answer that nobody wants is given up.
	forgotten = 10 * time.Minute
)

// Question is a metric that is wanted.
type Question struct {
	Metric *v1alpha1.ShiftMetric
	// Credentials that the metric refers to, nil for none.
	Credentials map[string][]byte
	// Error is why they could not be read, "" if they could or there are none. It is the answer then.
	Error string
}

// identity tells questions apart by all that their answer depends on. The
// credentials are a part of it: a figure must not go to somebody who has others.
type identity [sha256.Size]byte

type answer struct {
	asked   bool // a query is under way
	began   time.Time
	ended   time.Time // zero before the first answer
	wanted  time.Time
	value   float64
	problem string
}

// Answers returns what is known of metrics, in their order, and asks in the
// background for what is older than a quarter of the guard's window or ten
// seconds. It never waits, so that a provider that hangs holds up one shift and
// no other. What is not known yet, or no longer, is an error, which holds the step.
//
// The context is that of the queries, not of the call: they end with it.
func (a *Asker) Answers(ctx context.Context, window time.Duration, questions []Question) []shift.Metric {
	now := a.now()
	out := make([]shift.Metric, len(questions))
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, known := range a.answers {
		if !known.asked && now.Sub(known.wanted) > forgotten {
			delete(a.answers, id)
		}
	}
	fresh := min(freshest, window/4)
	for i, q := range questions {
		out[i].Name = q.Metric.Name
		if q.Error != "" {
			out[i].Error = q.Error
			continue
		}
		id, err := identify(q)
		if err != nil {
			out[i].Error = err.Error()
			continue
		}
		known := a.answers[id]
		if known == nil {
			known = &answer{}
			a.answers[id] = known
		}
		known.wanted = now
		if !known.asked && (known.began.IsZero() || now.Sub(known.began) >= fresh) && ctx.Err() == nil {
			known.asked, known.began = true, now
			a.asking.Go(func() { a.renew(ctx, known, q) })
		}
		// Two rounds and a query's time: one slow answer is no gap.
		stale := 2*fresh + timeoutOf(q.Metric)
		switch age := now.Sub(known.ended); {
		case known.ended.IsZero():
			out[i].Error = "there is no answer yet"
		case known.problem != "":
			out[i].Error = known.problem
		case age > stale:
			out[i].Error = fmt.Sprintf("the last answer is %s old", age.Round(time.Second))
		default:
			out[i].Value = known.value
		}
	}
	return out
}

// Wait returns when no query is under way. Let the context of Answers end first.
func (a *Asker) Wait() { a.asking.Wait() }

func (a *Asker) renew(ctx context.Context, known *answer, q Question) {
	value, err := a.Ask(ctx, q.Metric, q.Credentials)
	a.mu.Lock()
	defer a.mu.Unlock()
	known.asked, known.ended, known.value, known.problem = false, a.now(), value, ""
	if err != nil {
		known.problem = err.Error()
	}
}

func identify(q Question) (identity, error) {
	// Bounds and the name do not change the answer, but two metrics that differ in nothing else are rare.
	data, err := json.Marshal(struct {
		Metric      *v1alpha1.ShiftMetric
		Credentials map[string][]byte
	}{q.Metric, q.Credentials})
	if err != nil {
		return identity{}, fmt.Errorf("metric %s cannot be written as JSON: %w", q.Metric.Name, err)
	}
	return sha256.Sum256(data), nil
}

func timeoutOf(m *v1alpha1.ShiftMetric) time.Duration {
	if m.Timeout.Duration > 0 {
		return m.Timeout.Duration
	}
	return defaultTimeout
}
