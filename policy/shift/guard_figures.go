package shift

import (
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// metrics checks the figures of other systems.
func (e *evaluation) metrics() Verdict {
	worst := content
	for i := range e.guard.Metrics {
		m := &e.guard.Metrics[i]
		switch v := e.metric(m); {
		case v.Result == Fail:
			return v
		case v.Result == Hold && worst.Result == Pass:
			worst = v
		}
	}
	return worst
}

// FailureThreshold returns how many samples of a metric in a row must be out of bounds for a failure.
func FailureThreshold(m *v1alpha1.ShiftMetric) int {
	if m.FailureThreshold > 0 {
		return int(m.FailureThreshold)
	}
	return defaultFailureThreshold
}

// defaultFailureThreshold lets one odd sample, as any system has them, pass by.
const defaultFailureThreshold = 2

// metric returns the answer of a metric, nil for none yet.
func (o *Observation) metric(name string) *Metric {
	at := slices.IndexFunc(o.Metrics, func(answer Metric) bool { return answer.Name == name })
	if at < 0 {
		return nil
	}
	return &o.Metrics[at]
}

// isFigure reports whether a value can be judged: a quotient of two nothings cannot.
func isFigure(value float64) bool { return !math.IsNaN(value) && !math.IsInf(value, 0) }

// metricText is the value of a metric with six figures.
func metricText(value float64) string { return strconv.FormatFloat(value, 'g', 6, 64) }

// metric checks a figure by several samples in a row.
func (e *evaluation) metric(m *v1alpha1.ShiftMetric) Verdict {
	figure := "metrics/" + m.Name
	answer := e.o.metric(m.Name)
	switch {
	case answer == nil:
		return hold(figure, "metric %s has no answer yet", m.Name)
	case answer.Error != "":
		return hold(figure, "metric %s has no answer: %s", m.Name, answer.Error)
	}
	value := answer.Value
	if !isFigure(value) {
		return hold(figure, "metric %s is %v, which is no figure to judge by", m.Name, value)
	}
	for _, bound := range []struct {
		field string
		text  v1alpha1.SignedDecimal
		out   func(value, bound float64) bool
	}{
		{"atLeast", m.AtLeast, func(value, bound float64) bool { return value < bound }},
		{"atMost", m.AtMost, func(value, bound float64) bool { return value > bound }},
	} {
		if bound.text == "" {
			continue
		}
		limit, ok := number(bound.text)
		switch {
		case !ok:
			return hold(figure, "%s %q of metric %s is not a number", bound.field, bound.text, m.Name)
		case !bound.out(value, limit):
			continue
		}
		inARow := 1
		for _, before := range answer.Before {
			if !bound.out(before, limit) {
				break
			}
			inARow++
		}
		reason := fmt.Sprintf("metric %s is %s (%s %s)", m.Name, metricText(value), bound.field, bound.text)
		if needed := FailureThreshold(m); inARow < needed {
			return hold(figure, "%s in %d of the %d samples in a row that it takes to fail (failureThreshold)", reason, inARow, needed)
		}
		if inARow > 1 {
			reason += fmt.Sprintf(" in %d samples in a row", inARow)
		}
		return Verdict{Fail, figure, reason}
	}
	return content
}

// errorBudget holds once the budget is spent, and while it burns too fast. It
// fails if it is the target that burns it.
func (e *evaluation) errorBudget() Verdict {
	const figure = "errorBudget"
	b := e.budget
	if b == nil {
		if e.guard.ErrorBudget != nil {
			return hold(figure, "the error budget is not known")
		}
		return content
	}
	for _, burn := range b.Burns {
		if !burn.over(b) {
			continue
		}
		reason := fmt.Sprintf("the error budget burns at %s times the rate that the objective of %s %% allows over %s, and %s over %s (bound %s)",
			burnText(burn.LongRate), trimFloat(100*b.Objective), hours(burn.Long), burnText(burn.ShortRate), hours(burn.Short), trimFloat(b.MaxBurnRate))
		if !burn.sure(b) {
			return hold(figure, "%s; not enough evidence to roll back", reason)
		}
		failed, n := e.target.Failed(), e.target.Requests
		k2, n2 := e.peer.Failed(), e.peer.Requests
		if e.share > 0 && failed >= earlyFailures && rate(failed, n) > notableRatio*rate(k2, e.sourceRequests(n2, k2)) {
			return fail(figure, "%s: %s, %s", reason, e.answered(), e.causes())
		}
		return hold(figure, "%s; it is not %s that burn it", reason, e.targetName)
	}
	if b.Remaining <= 0 {
		return hold(figure, "the error budget of %s is spent (%s %% left of what the objective of %s %% allows)",
			hours(b.Period), remainingText(b.Remaining), trimFloat(100*b.Objective))
	}
	return content
}
