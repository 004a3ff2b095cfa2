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

// What the guard judges by where the spec states nothing.
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
	// bunch is how many requests are taken for one when silence is judged by the source's
	// demand: requests of one user come together, and a cohort moves whole users.
	bunch = 20
	// amplification is how many more attempts a request may take than at the source.
	amplification = 1.2
	// loadWindow is the shortest window for which requests and load reports can
	// be set off against each other: load reports come every few seconds.
	loadWindow = time.Minute
)

// Judge says whether what callers got of the target over the window is good
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
//   - The guard judges the target. Where the source is as bad, as in an outage of a database
//     that both use, going back would help nobody: it holds. Where the source
//     alone is bad, the target passes: the next step brings callers to
//     where they are answered, and going back never would.
//   - Silence where there is demand is a failure, not low traffic: of the whole target it
//     fails. Single proxies that do not report hold: that is a part of
//     the evidence that is missing, not a target that is bad.
//   - What one proxy of several reports neither fails nor passes alone (weigh).
//   - Slow answers fail only while they go on: a target that is slow until it is warm would be
//     so after every rollback, and no shift would ever come through.
//   - A pass needs a whole window at the present share.
//   - What one side answers while it stands in for the other is no comparison: it is left out,
//     and a whole window without that must follow.
//
// b is the error budget, nil if the spec has none. While the target gets neither
// traffic nor mirrored requests there is nothing to judge it by: then metrics
// and budget can hold, and the Figure of a Pass is FigureIdle.
func Judge(g *v1alpha1.ShiftGuard, o *Observation, b *Budget) Verdict {
	j := newJudge(g, o, b)
	checks := []func() Verdict{j.metrics, j.errorBudget}
	if o.Shadow != nil {
		checks = append([]func() Verdict{
			j.standIn, j.mirrorFailures, j.mirrorStatus, j.mirrorLatency, j.mirrorSize, j.reporters, j.mirrorRequests,
		}, checks...)
	}
	if j.share > 0 {
		checks = append([]func() Verdict{
			j.silence, j.failover, j.standIn, j.successRate, j.errors, j.statuses, j.paths, j.abandoned, j.latency, j.latencyIncrease,
			j.reporters, j.whole, j.requests, j.retries,
		}, checks...)
	}
	worst := Verdict{Result: Pass}
	for _, check := range checks {
		switch v := check(); {
		case v.Result == Fail && (j.share > 0 || o.Shadow != nil):
			if v = j.weigh(v); v.Result != Hold {
				return v
			}
			worst = v
		case v.Result != Pass && worst.Result == Pass:
			v.Result = Hold
			worst = v
		}
	}
	if worst.Result == Pass {
		worst.Figure, worst.Reason = j.summary()
		worst = j.weigh(worst)
	}
	return worst
}

// FigureIdle is the Figure of a verdict about a target that gets nothing.
const FigureIdle = "idle"

// judge is what the checks look at.
type judge struct {
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

func newJudge(g *v1alpha1.ShiftGuard, o *Observation, b *Budget) *judge {
	j := &judge{
		guard: g, budget: b, o: o, target: &o.Target, source: &o.Source,
		targetName: o.To.String(), sourceName: o.From.String(), endpoint: endpointOf(o.To),
		share: o.Share, minRequests: uint64(max(g.MinRequests, 0)), alpha: significance(o.Window), unit: "requests",
	}
	j.peer = j.alike(j.source)
	if j.minRequests == 0 {
		j.minRequests = defaultMinRequests
	}
	if o.TCP {
		j.unit = "connections"
	}
	return j
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
func (j *judge) allowed() (rate float64, stated bool) {
	if j.guard.SuccessRate == nil {
		return 0, false
	}
	bound, ok := number(j.guard.SuccessRate.AtLeast)
	return (100 - bound) / 100, ok
}

// answered says how many requests the target answered.
func (j *judge) answered() string {
	return fmt.Sprintf("%s answered %s %% of %s %s", j.targetName,
		successPercent(j.target.Failed(), j.target.Requests), thousands(j.target.Requests), j.unit)
}

// causes says why the target's requests failed, the most frequent cause first,
// and where if it is one endpoint above all.
func (j *judge) causes() string {
	causes := make([]outcome.Cause, 0, outcome.Causes)
	for c := range outcome.Causes {
		if j.target.Failures[c] > 0 {
			causes = append(causes, c)
		}
	}
	slices.SortStableFunc(causes, func(a, b outcome.Cause) int { return cmp.Compare(j.target.Failures[b], j.target.Failures[a]) })
	parts := make([]string, len(causes))
	for i, c := range causes {
		parts[i] = causeText(c, j.target.Failures[c])
	}
	text := strings.Join(parts, ", ")
	if id := j.culprit(); id != "" {
		text += "; most on " + j.endpoint + " " + id
	}
	m := meaningOf(j.guard)
	return text + j.where(j.target.Paths, func(c outcome.Code) bool { failure, _ := m.of(c); return failure })
}

// culprit returns the endpoint that has most of the failures and more of them
// than its part of the requests explains, "" for none.
func (j *judge) culprit() string {
	t := j.target
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
func (j *judge) summary() (figure, reason string) {
	if o := j.o; j.share == 0 {
		if o.Shadow == nil {
			return FigureIdle, j.targetName + " get no traffic: there is nothing to judge them by yet"
		}
		return "shadow", fmt.Sprintf("%s answered %s %% of %s mirrored requests as well as %s did", j.targetName,
			successPercent(o.Shadow.MirrorFailed, o.Shadow.Compared), thousands(o.Shadow.Compared), j.sourceName)
	}
	text := j.answered()
	if s := j.guard.SuccessRate; s != nil {
		text += fmt.Sprintf(" (bound %s %%)", s.AtLeast)
	}
	if l := j.guard.Latency; l != nil && !j.o.TCP {
		text += fmt.Sprintf(", %s %s", j.quantileName(), latency(j.target.Latency.Quantile(j.quantile())))
		if l.AtMost != nil {
			text += fmt.Sprintf(" (bound %s)", l.AtMost.Duration)
		}
	}
	if mix := mixText(j.target.Codes); mix != "" && !j.o.TCP {
		text += fmt.Sprintf("; statuses %s", mix)
		if theirs := mixText(j.source.Codes); theirs != "" {
			text += fmt.Sprintf(" (%s: %s)", j.sourceName, theirs)
		}
	}
	return "successRate", text
}
