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
	"github.com/causeway-mesh/causeway/policy"
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
	// attempts is how many times a request is sent at most, as far as silence
	// is judged by load reports, which count each attempt.
	attempts = 5
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
//   - Fewer than minRequests hold, unless the evidence is overwhelming.
//   - The guard judges the target. Where the source is as bad, as in an outage of a database
//     that both use, going back would help nobody: it holds. Where the source
//     alone is bad, the target passes: the next step brings callers to
//     where they are answered, and going back never would.
//   - Silence where there is demand is a failure, not low traffic: of the whole target it
//     fails. Single proxies that do not report hold: that is a part of
//     the evidence that is missing, not a target that is bad.
//   - Slow answers fail only while they go on: a target that is slow until it is warm would be
//     so after every rollback, and no shift would ever come through.
//   - A pass needs a whole window at the present share.
//
// b is the error budget, nil if the spec has none. While the target gets neither
// traffic nor mirrored requests there is nothing to judge it by: then metrics
// and budget can hold, and the Figure of a Pass is FigureIdle.
func Judge(g *v1alpha1.ShiftGuard, target discovery.Platform, o *Observation, b *Budget) Verdict {
	j := newJudge(g, target, o, b)
	checks := []func() Verdict{j.metrics, j.errorBudget}
	if o.Shadow != nil {
		checks = append([]func() Verdict{
			j.mirrorFailures, j.mirrorStatus, j.mirrorLatency, j.mirrorSize, j.reporters, j.mirrorRequests,
		}, checks...)
	}
	if j.share > 0 {
		checks = append([]func() Verdict{
			j.silence, j.failover, j.successRate, j.errors, j.abandoned, j.latency, j.latencyIncrease,
			j.reporters, j.whole, j.requests, j.retries,
		}, checks...)
	}
	worst := Verdict{Result: Pass}
	for _, check := range checks {
		switch v := check(); {
		case v.Result == Fail && (j.share > 0 || o.Shadow != nil):
			return v
		case v.Result != Pass && worst.Result == Pass:
			v.Result = Hold
			worst = v
		}
	}
	if worst.Result == Pass {
		worst.Figure, worst.Reason = j.summary()
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
	target, source         *Side
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

func newJudge(g *v1alpha1.ShiftGuard, target discovery.Platform, o *Observation, b *Budget) *judge {
	j := &judge{
		guard: g, budget: b, o: o, target: &o.Pods, source: &o.Instances, endpoint: "pod",
		share: o.SharePods, minRequests: uint64(max(g.MinRequests, 0)), alpha: significance(o.Window), unit: "requests",
	}
	if target == discovery.Instances {
		j.target, j.source, j.share, j.endpoint = j.source, j.target, policy.ShareTotal-o.SharePods, "instance"
	}
	j.targetName, j.sourceName = backingName(target), backingName(target.Other())
	if j.minRequests == 0 {
		j.minRequests = defaultMinRequests
	}
	if o.TCP {
		j.unit = "connections"
	}
	return j
}

func backingName(p discovery.Platform) string {
	if p == discovery.Pods {
		return "pods"
	}
	return "instances"
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

// sourceRequests returns the source's requests of the time for which the share
// has been what it is, as if all its failures had come in that time: a shared outage must
// not be put down to a target that had traffic during nothing else.
func (j *judge) sourceRequests(n, failed uint64) uint64 {
	if j.o.Stable >= j.o.Window {
		return n
	}
	return max(failed, uint64(float64(n)*float64(j.o.Stable)/float64(j.o.Window)))
}

// compare returns how probable it is that a target as good as its source looks so bad, 1
// if the difference is not notable.
func (j *judge) compare(k, n, k2, n2 uint64, excess float64) float64 {
	n2 = j.sourceRequests(n2, k2)
	if n == 0 || n2 == 0 || rate(k, n) < notableRatio*rate(k2, n2)+excess {
		return 1
	}
	return fisherTail(k, n, k2, n2)
}

func rate(k, n uint64) float64 {
	if n == 0 {
		return 0
	}
	return float64(k) / float64(n)
}

// enough reports whether there are enough requests for a failure: minRequests,
// or evidence that is overwhelming before.
func (j *judge) enough(failed, n uint64) bool {
	return n >= j.minRequests || failed >= earlyFailures && binomialTail(failed, n, earlyRate) < j.alpha
}

// successRate tests the stated bound of the target's success rate.
func (j *judge) successRate() Verdict {
	const figure = "successRate"
	allowed, stated := j.allowed()
	if !stated {
		if j.guard.SuccessRate != nil {
			return hold(figure, "guard.successRate.atLeast %q is not a number", j.guard.SuccessRate.AtLeast)
		}
		return content
	}
	failed, n := j.target.Failed(), j.target.Requests
	if rate(failed, n) <= allowed {
		return content
	}
	reason := fmt.Sprintf("%s (bound %s %%): %s", j.answered(), j.guard.SuccessRate.AtLeast, j.causes())
	if !j.enough(failed, n) || binomialTail(failed, n, allowed) >= j.alpha {
		return hold(figure, "%s; not enough evidence to roll back", reason)
	}
	k2, n2 := j.source.Failed(), j.source.Requests
	if binomialTail(k2, n2, allowed) < suspicion && j.compare(failed, n, k2, n2, notableExcess) >= j.alpha {
		return hold(figure, "%s; %s answered only %s %% of theirs at the same time: going back would not help",
			reason, j.sourceName, successPercent(k2, n2))
	}
	return Verdict{Fail, figure, reason}
}

// errors compares the target's failures with the source's at the same time,
// whether or not a bound is stated.
func (j *judge) errors() Verdict {
	const figure = "errors"
	failed, n := j.target.Failed(), j.target.Requests
	k2, n2 := j.source.Failed(), j.source.Requests
	_, stated := j.allowed()
	p := j.compare(failed, n, k2, n2, notableExcess)
	reason := func() string {
		return fmt.Sprintf("%s, %s %s %% of theirs at the same time: %s", j.answered(), j.sourceName, successPercent(k2, n2), j.causes())
	}
	switch {
	case p < j.alpha && j.enough(failed, n):
		return Verdict{Fail, figure, reason()}
	case p < suspicion:
		return hold(figure, "%s; not enough evidence to roll back", reason())
	case stated || !j.enough(failed, n) || binomialTail(failed, n, outageRate) >= j.alpha:
		return content
	case n2 < j.minRequests && n2 < n && rate(k2, n2) < outageRate:
		return fail(figure, "%s (guard.successRate is not stated, and %s answered too few %s to be compared with): %s",
			j.answered(), j.sourceName, j.unit, j.causes())
	}
	return hold(figure, "%s; not worse than %s", reason(), j.sourceName)
}

// abandoned compares how many requests callers gave up: a target that hangs has no failures
// when its callers' patience ends before the route's timeout.
func (j *judge) abandoned() Verdict {
	const figure = "abandoned"
	gone, all := j.target.Abandoned, j.target.Abandoned+j.target.Requests
	gone2, all2 := j.source.Abandoned, j.source.Abandoned+j.source.Requests
	if !j.enough(gone, all) {
		return content
	}
	reason := func() string {
		return fmt.Sprintf("callers gave up %s %% of %s %s to %s before they were answered",
			percent(rate(gone, all)), thousands(all), j.unit, j.targetName)
	}
	if all2 < j.minRequests && all2 < all {
		if rate(gone2, all2) < .5 && binomialTail(gone, all, .5) < j.alpha {
			return Verdict{Fail, figure, reason()}
		}
		return content
	}
	if j.compare(gone, all, gone2, all2, notableAbandoned) < j.alpha {
		return fail(figure, "%s, and %s %% of those to %s", reason(), percent(rate(gone2, all2)), j.sourceName)
	}
	return content
}

// silence fails a target that is not heard of although it is asked.
//
// It does not judge where answers last so long that they cannot have come yet,
// as streams do: a request is counted when it has ended. Nor does it before a whole
// window is covered: a load report is about the seconds before it, so a new leader
// hears of requests whose ends it did not see.
func (j *judge) silence() Verdict {
	const figure = "silence"
	if answer := j.source.Latency.Quantile(.5); answer > float64(j.o.Stable.Microseconds())/4 || j.o.Covered < j.o.Window {
		return content
	}
	seen, heard := j.target.Requests, j.target.Requests+j.target.Abandoned
	if j.source.Abandoned > j.source.Requests {
		seen = heard // here callers always leave before the end
	}
	if sent := float64(j.target.Load) / attempts; float64(seen) < sent/bunch && poissonLowerTail(seen, sent) < silentTail {
		return fail(figure, "load reports count %s %s to %s, of which %s answered", thousands(j.target.Load), j.unit, j.targetName, none(seen))
	}
	others := float64(policy.ShareTotal - j.share)
	if others == 0 || j.o.Stable < j.o.Window {
		return content
	}
	expected := float64(j.source.Requests) * float64(j.share) / others
	if poissonLowerTail(heard, expected/bunch) < silentTail {
		return fail(figure, "%s %s were expected at %s by their share of what %s get, of which %s seen: "+
			"either no proxy sends them or no user of the cohort is there",
			thousands(uint64(expected)), j.unit, j.targetName, j.sourceName, none(heard))
	}
	return content
}

// failover judges requests that were meant for the target and that the source
// had to answer because the target had no usable endpoint.
func (j *judge) failover() Verdict {
	const figure = "failover"
	n, gone := j.target.Requests, j.target.FailedOver
	reason := fmt.Sprintf("%s had to answer %s of %s %s meant for %s, which had no usable endpoint",
		j.sourceName, thousands(gone), thousands(n), j.unit, j.targetName)
	switch allowed, _ := j.allowed(); {
	case gone >= earlyFailures && binomialTail(gone, n, .5) < j.alpha:
		return Verdict{Fail, figure, reason}
	case rate(gone, n) > max(allowed, notableExcess):
		return Verdict{Hold, figure, reason}
	}
	return content
}

// above returns how many values of a histogram, in microseconds, are above a
// bound for certain: those of the bound's own bucket, 3 % wide, may be below it.
func above(h *outcome.Histogram, bound float64) uint64 {
	return uint64(h.Above(uint64(bound*33/32) + 1))
}

// quantile returns the quantile that the guard judges.
func (j *judge) quantile() float64 {
	if l := j.guard.Latency; l != nil {
		if q, ok := number(l.Quantile); ok && q > 0 && q < 1 {
			return q
		}
	}
	return defaultQuantile
}

// latency tests the stated bound of the target's quantile: no more than 1-q of
// the values may be above it.
func (j *judge) latency() Verdict {
	const figure = "latency"
	if j.guard.Latency == nil || j.guard.Latency.AtMost == nil || j.o.TCP {
		return content
	}
	bound := j.guard.Latency.AtMost.Duration
	micros, allowed := float64(bound.Microseconds()), 1-j.quantile()
	h := &j.target.Latency
	n, slow := h.Total(), above(h, micros)
	if rate(slow, n) <= allowed {
		return content
	}
	reason := fmt.Sprintf("%s of %s is %s (bound %s): %s of %s answers took longer, %s may", j.quantileName(), j.targetName,
		latency(h.Quantile(1-allowed)), bound, thousands(slow), thousands(n), percentText(allowed))
	if v := j.slowness(figure, reason, n, func(recent *Side) bool {
		return rate(above(&recent.Recent.Latency, micros), recent.Recent.Latency.Total()) > allowed
	}); v.Result != Pass {
		return v
	}
	if binomialTail(slow, n, allowed) >= j.alpha {
		return hold(figure, "%s; not enough evidence to roll back", reason)
	}
	k2, n2 := above(&j.source.Latency, micros), j.source.Latency.Total()
	if binomialTail(k2, n2, allowed) < suspicion && j.compare(slow, n, k2, n2, notableExcess) >= j.alpha {
		return hold(figure, "%s; that of %s is %s at the same time: going back would not help",
			reason, j.sourceName, latency(j.source.Latency.Quantile(1-allowed)))
	}
	return Verdict{Fail, figure, reason}
}

// latencyIncrease compares the quantile with the source's at the same time: of
// the target's values no larger part may be above the increased quantile of
// the source than of the source's values are above its quantile.
func (j *judge) latencyIncrease() Verdict {
	const figure = "latencyIncrease"
	if j.guard.Latency == nil || j.guard.Latency.MaxIncrease == "" || j.o.TCP {
		return content
	}
	increase, ok := number(j.guard.Latency.MaxIncrease)
	if !ok {
		return hold(figure, "guard.latency.maxIncrease %q is not a number", j.guard.Latency.MaxIncrease)
	}
	q := j.quantile()
	h, h2 := &j.target.Latency, &j.source.Latency
	n, n2 := h.Total(), h2.Total()
	// Five values above the quantile are the least that tells where it is.
	if float64(n2)*(1-q) < 5 {
		// Beyond half of the traffic the source has few requests because of the
		// share, and the comparison was made at the steps before.
		if j.share > policy.ShareTotal/2 || n < j.minRequests {
			return content
		}
		return hold(figure, "%s answered %s requests, too few to tell their %s", j.sourceName, thousands(n2), j.quantileName())
	}
	theirs := h2.Quantile(q)
	bound := theirs * (1 + increase/100)
	slow := above(h, bound)
	if rate(slow, n) <= 1-q {
		return content
	}
	reason := fmt.Sprintf("%s of %s is %s, of %s %s (bound %s %% more)", j.quantileName(), j.targetName, latency(h.Quantile(q)),
		j.sourceName, latency(theirs), j.guard.Latency.MaxIncrease)
	if j.o.Stable < j.o.Window {
		return hold(figure, "%s; judged after a whole window at this share", reason)
	}
	if v := j.slowness(figure, reason, n, func(recent *Side) bool {
		return rate(above(&recent.Recent.Latency, bound), recent.Recent.Latency.Total()) > 1-q
	}); v.Result != Pass {
		return v
	}
	if fisherTail(slow, n, uint64(math.Ceil((1-q)*float64(n2))), n2) >= j.alpha {
		return hold(figure, "%s; not enough evidence to roll back", reason)
	}
	return Verdict{Fail, figure, reason}
}

// slowness holds slow answers that may not be there to stay: of too few
// requests, right after a step, or that are over.
func (j *judge) slowness(figure, reason string, n uint64, goesOn func(*Side) bool) Verdict {
	switch {
	case n < j.minRequests:
		return hold(figure, "%s; not enough evidence to roll back", reason)
	case j.o.Stable < j.o.Window/2:
		return hold(figure, "%s; %s has %s to warm up after a step", reason, j.targetName, (j.o.Window/2 - j.o.Stable).Round(time.Second))
	case j.o.Recent > 0 && !goesOn(j.target):
		return hold(figure, "%s; over for %s", reason, j.o.Recent)
	}
	return content
}

// reporters holds while proxies are known to ask but do not say what they got.
func (j *judge) reporters() Verdict {
	if len(j.o.Silent) == 0 {
		return content
	}
	return hold("reporters", "load reports of %s count requests, but what became of them is not reported", strings.Join(j.o.Silent, ", "))
}

// whole holds until a whole window was seen at the present share.
func (j *judge) whole() Verdict {
	switch {
	case j.o.Covered < j.o.Window:
		return hold("window", "what callers got is known without a gap for %s of the window of %s", j.o.Covered.Truncate(time.Second), hours(j.o.Window))
	case j.o.Stable < j.o.Window:
		return hold("window", "the share is %s old, the window is %s", j.o.Stable.Truncate(time.Second), hours(j.o.Window))
	}
	return content
}

// requests holds until the target answered enough of them.
func (j *judge) requests() Verdict {
	n := j.target.Requests - min(j.target.FailedOver, j.target.Requests)
	if n >= j.minRequests {
		return content
	}
	return hold("minRequests", "%s answered %s of the %s %s in %s that a verdict needs",
		j.targetName, thousands(n), thousands(j.minRequests), j.unit, hours(j.o.Window))
}

// retries holds where retries hide failures: callers get what they want, but
// the target carries a load that it would not have, and has no reserve left.
func (j *judge) retries() Verdict {
	if j.o.Window < loadWindow {
		return content
	}
	perRequest := func(s *Side) float64 { return float64(s.Load) / float64(max(1, s.Requests+s.Abandoned)) }
	most := amplification
	if j.source.Requests >= j.minRequests {
		most = max(most, amplification*perRequest(j.source))
	}
	if got := perRequest(j.target); got > most {
		return hold("retries", "%s take %.1f attempts for each request (at most %.1f): retries hide failures", j.targetName, got, most)
	}
	return content
}

// metrics judges what other systems say.
func (j *judge) metrics() Verdict {
	worst := content
	for i := range j.guard.Metrics {
		m := &j.guard.Metrics[i]
		switch v := j.metric(m); {
		case v.Result == Fail:
			return v
		case v.Result == Hold && worst.Result == Pass:
			worst = v
		}
	}
	return worst
}

func (j *judge) metric(m *v1alpha1.ShiftMetric) Verdict {
	figure := "metrics/" + m.Name
	at := slices.IndexFunc(j.o.Metrics, func(answer Metric) bool { return answer.Name == m.Name })
	switch {
	case at < 0:
		return hold(figure, "metric %s has no answer yet", m.Name)
	case j.o.Metrics[at].Error != "":
		return hold(figure, "metric %s has no answer: %s", m.Name, j.o.Metrics[at].Error)
	}
	value := j.o.Metrics[at].Value
	if math.IsNaN(value) || math.IsInf(value, 0) {
		return hold(figure, "metric %s is %v, which is no figure to judge by", m.Name, value)
	}
	for _, bound := range []struct {
		field string
		text  v1alpha1.SignedDecimal
		out   func(bound float64) bool
	}{
		{"atLeast", m.AtLeast, func(bound float64) bool { return value < bound }},
		{"atMost", m.AtMost, func(bound float64) bool { return value > bound }},
	} {
		if bound.text == "" {
			continue
		}
		limit, ok := number(bound.text)
		switch {
		case !ok:
			return hold(figure, "%s %q of metric %s is not a number", bound.field, bound.text, m.Name)
		case bound.out(limit):
			return fail(figure, "metric %s is %s (%s %s)", m.Name, strconv.FormatFloat(value, 'g', 6, 64), bound.field, bound.text)
		}
	}
	return content
}

// errorBudget holds once the budget is spent, and while it burns too fast. It
// fails if it is the target that burns it.
func (j *judge) errorBudget() Verdict {
	const figure = "errorBudget"
	b := j.budget
	if b == nil {
		if j.guard.ErrorBudget != nil {
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
		failed, n := j.target.Failed(), j.target.Requests
		k2, n2 := j.source.Failed(), j.source.Requests
		if j.share > 0 && failed >= earlyFailures && rate(failed, n) > notableRatio*rate(k2, j.sourceRequests(n2, k2)) {
			return fail(figure, "%s: %s, %s", reason, j.answered(), j.causes())
		}
		return hold(figure, "%s; it is not %s that burn it", reason, j.targetName)
	}
	if b.Remaining <= 0 {
		return hold(figure, "the error budget of %s is spent (%s %% left of what the objective of %s %% allows)",
			hours(b.Period), remainingText(b.Remaining), trimFloat(100*b.Objective))
	}
	return content
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
	return text
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
	return "successRate", text
}

// quantileName names the quantile as SREs do: p99.
func (j *judge) quantileName() string { return "p" + trimFloat(100*j.quantile()) }
