package shift

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/outcome"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// The guard's defaults.
const (
	defaultMinRequests = 500
	defaultQuantile    = 0.99
	// notableRatio and notableExcess are what makes a difference between the two
	// sides one that matters, besides being significant: with millions of
	// requests 0.010 % and 0.011 % differ significantly, and nobody cares.
	notableRatio  = 1.5
	notableExcess = 0.001
	// notableAbandoned is the same for requests that callers gave up, which
	// people do for reasons of their own.
	notableAbandoned = 0.01
	// suspicion is the p-value below which a notable difference holds a step
	// that is not significant enough to fail.
	suspicion = 0.01
	// outageRate is the failure rate with which no step is passed even where
	// no success rate is stated, and which fails a target once its source has too few
	// requests to be compared with.
	outageRate = 0.05
	// earlyFailures and earlyRate are what it takes to fail before minRequests: a pod that
	// restarts takes some requests with it, and that is no evidence about the rest.
	earlyFailures = 10
	earlyRate     = 0.1
	// silentTail is the probability below which too few requests are silence.
	silentTail = 1e-6
	// bunch is how many requests are taken for one when silence is measured by the source's
	// demand: requests of one user come together, and a cohort moves whole users.
	bunch = 20
	// amplification is how many more attempts a request may take than at the source.
	amplification = 1.2
	// loadWindow is the shortest window for which requests and load reports can
	// be set off against each other: load reports come every few seconds.
	loadWindow = time.Minute
)

// Evaluate returns whether the target's answers to callers over the window are good
// enough to go on (Pass), too bad to stay (Fail), or neither (Hold).
//
//   - A bound fails only when its violation is significant (significance), so that
//     looking twice a second for a day does not find by chance what is not there. A bound that is
//     violated as measured, but not significantly, holds.
//   - Rates are tested by the exact binomial test against a bound and by
//     Fisher's exact test against the source. A quantile is tested
//     by how many values lie above its bound, which is a rate again: two measured quantiles
//     are both noisy, and their difference has no simple distribution.
//   - Answers that are no failures are compared by their status, and single paths
//     by both: a target that answers 404 to all, or fails one path wholly, is
//     within any bound of the success rate.
//   - Fewer than minRequests hold, unless the evidence is overwhelming.
//   - The verdict is about the target. Where the source is as bad, as in an outage of a database
//     that both use, going back would help nobody: it holds. Where the source
//     alone is bad, the target passes: the next step brings callers to
//     where they are answered, and going back never would.
//   - Silence where there is demand is a failure, not low traffic: of the whole target it
//     fails. Single proxies that do not report hold: that is a part of
//     the evidence that is missing, not a target that is bad.
//   - One proxy of several neither fails nor passes a step alone (weigh).
//   - Slow answers fail only while they go on: a target that is slow until it is warm would be
//     so after every rollback, and no shift would ever come through.
//   - A pass needs a whole window at the present share.
//   - Answers of one side in the other's place are not compared: they are left out,
//     and a whole window without them must follow.
//
// b is the error budget, nil if the spec has none. While the target gets neither
// traffic nor mirrored requests there are no figures about it: then metrics
// and budget can hold, and the Figure of a Pass is FigureIdle.
func Evaluate(g *v1alpha1.ShiftGuard, o *Observation, b *Budget) Verdict {
	e := newEvaluation(g, o, b)
	checks := []func() Verdict{e.metrics, e.errorBudget}
	if o.Shadow != nil {
		checks = append([]func() Verdict{
			e.standIn, e.mirrorFailures, e.mirrorStatus, e.mirrorLatency, e.mirrorSize, e.reporters, e.mirrorRequests,
		}, checks...)
	}
	if e.share > 0 {
		checks = append([]func() Verdict{
			e.silence, e.failover, e.standIn, e.successRate, e.errors, e.statuses, e.paths, e.abandoned, e.latency, e.latencyIncrease,
			e.reporters, e.whole, e.requests, e.retries,
		}, checks...)
	}
	worst := Verdict{Result: Pass}
	for _, check := range checks {
		switch v := check(); {
		case v.Result == Fail && (e.share > 0 || o.Shadow != nil):
			if v = e.weigh(v); v.Result != Hold {
				return v
			}
			worst = v
		case v.Result != Pass && worst.Result == Pass:
			v.Result = Hold
			worst = v
		}
	}
	if worst.Result == Pass {
		worst.Figure, worst.Reason = e.summary()
		worst = e.weigh(worst)
	}
	return worst
}

// FigureIdle is the Figure of a verdict about a target that gets nothing.
const FigureIdle = "idle"

// evaluation is the input of the checks.
type evaluation struct {
	guard  *v1alpha1.ShiftGuard
	budget *Budget
	o      *Observation
	// target and source, and what their endpoints are called.
	target, source *Side
	// peer is the source without what it alone is asked for (alike).
	peer                   *Side
	targetName, sourceName string
	endpoint               string
	// share of the target in millionths.
	share       uint32
	minRequests uint64
	// alpha is the level of significance.
	alpha float64
	// unit is what is counted.
	unit string
}

func newEvaluation(g *v1alpha1.ShiftGuard, o *Observation, b *Budget) *evaluation {
	e := &evaluation{
		guard: g, budget: b, o: o, target: &o.Target, source: &o.Source,
		targetName: o.To.String(), sourceName: o.From.String(), endpoint: endpointOf(o.To),
		share: o.Share, minRequests: uint64(max(g.MinRequests, 0)), alpha: significance(o.Window), unit: "requests",
	}
	e.peer = e.alike(e.source)
	if e.minRequests == 0 {
		e.minRequests = defaultMinRequests
	}
	if o.TCP {
		e.unit = "connections"
	}
	return e
}

// endpointOf returns what one of a backing's endpoints is called.
func endpointOf(backing discovery.BackingName) string {
	switch backing {
	case discovery.Pods:
		return "pod"
	case discovery.Instances:
		return "instance"
	}
	return "endpoint"
}

func fail(figure, format string, args ...any) Verdict {
	return Verdict{Fail, figure, fmt.Sprintf(format, args...)}
}

func hold(figure, format string, args ...any) Verdict {
	return Verdict{Hold, figure, fmt.Sprintf(format, args...)}
}

var content = Verdict{Result: Pass}

// number reads a decimal number of the spec. Specs are validated before they
// are in charge; one that is not a number holds rather than being ignored.
func number[T ~string](s T) (float64, bool) {
	f, err := strconv.ParseFloat(string(s), 64)
	return f, err == nil && !math.IsNaN(f) && !math.IsInf(f, 0)
}

// allowed returns the failure rate that successRate.atLeast allows.
func (e *evaluation) allowed() (rate float64, stated bool) {
	if e.guard.SuccessRate == nil {
		return 0, false
	}
	bound, ok := number(e.guard.SuccessRate.AtLeast)
	return (100 - bound) / 100, ok
}

// answered says how many requests the target answered.
func (e *evaluation) answered() string {
	return fmt.Sprintf("%s answered %s %% of %s %s", e.targetName,
		successPercent(e.target.Failed(), e.target.Requests), thousands(e.target.Requests), e.unit)
}

// causes says why the target's requests failed, the most frequent cause first,
// and where if it is one endpoint above all.
func (e *evaluation) causes() string {
	causes := make([]outcome.Cause, 0, outcome.Causes)
	for c := range outcome.Causes {
		if e.target.Failures[c] > 0 {
			causes = append(causes, c)
		}
	}
	slices.SortStableFunc(causes, func(a, b outcome.Cause) int { return cmp.Compare(e.target.Failures[b], e.target.Failures[a]) })
	parts := make([]string, len(causes))
	for i, c := range causes {
		parts[i] = causeText(c, e.target.Failures[c])
	}
	text := strings.Join(parts, ", ")
	if id := e.culprit(); id != "" {
		text += "; most on " + e.endpoint + " " + id
	}
	m := meaningOf(e.guard)
	return text + e.where(e.target.Paths, func(c outcome.Code) bool { failure, _ := m.of(c); return failure })
}

// culprit returns the endpoint that has most of the failures and more of them
// than its part of the requests explains, "" for none.
func (e *evaluation) culprit() string {
	t := e.target
	worst, id := outcome.EndpointCounts{}, ""
	for name, e := range t.Endpoints {
		if e.Failures > worst.Failures || e.Failures == worst.Failures && id != "" && name < id {
			worst, id = e, name
		}
	}
	if 2*worst.Failures <= t.Failed() || rate(worst.Failures, t.Failed()) < notableRatio*rate(worst.Requests, t.Requests) {
		return ""
	}
	return id
}

// summary says what a target passed with.
func (e *evaluation) summary() (figure, reason string) {
	if o := e.o; e.share == 0 {
		if o.Shadow == nil {
			return FigureIdle, e.targetName + " get no traffic: there is nothing to judge them by yet"
		}
		return "shadow", fmt.Sprintf("%s answered %s %% of %s mirrored requests as well as %s did", e.targetName,
			successPercent(o.Shadow.MirrorFailed, o.Shadow.Compared), thousands(o.Shadow.Compared), e.sourceName)
	}
	text := e.answered()
	if s := e.guard.SuccessRate; s != nil {
		text += fmt.Sprintf(" (bound %s %%)", s.AtLeast)
	}
	if l := e.guard.Latency; l != nil && !e.o.TCP {
		text += fmt.Sprintf(", %s %s", e.quantileName(), latency(e.target.Latency.Quantile(e.quantile())))
		if l.AtMost != nil {
			text += fmt.Sprintf(" (bound %s)", l.AtMost.Duration)
		}
	}
	if mix := mixText(e.target.Codes); mix != "" && !e.o.TCP {
		text += fmt.Sprintf("; statuses %s", mix)
		if theirs := mixText(e.source.Codes); theirs != "" {
			text += fmt.Sprintf(" (%s: %s)", e.sourceName, theirs)
		}
	}
	return "successRate", text
}
