package shift

import (
	"fmt"
	"math"
	"time"

	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/outcome"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// above returns how many values of a histogram, in microseconds, are above a
// bound for certain: those of the bound's own bucket, 3 % wide, may be below it.
func above(h *outcome.Histogram, bound float64) uint64 {
	return uint64(h.Above(uint64(bound*33/32) + 1))
}

// quantile returns the quantile that the guard checks.
func (e *evaluation) quantile() float64 { return quantileOf(e.guard) }

// quantileOf returns the quantile that a guard checks.
func quantileOf(g *v1alpha1.ShiftGuard) float64 {
	if l := g.Latency; l != nil {
		if q, ok := number(l.Quantile); ok && q > 0 && q < 1 {
			return q
		}
	}
	return defaultQuantile
}

// latency tests the stated bound of the target's quantile: no more than 1-q of
// the values may be above it.
func (e *evaluation) latency() Verdict {
	const figure = "latency"
	if e.guard.Latency == nil || e.guard.Latency.AtMost == nil || e.o.TCP {
		return content
	}
	bound := e.guard.Latency.AtMost.Duration
	micros, allowed := float64(bound.Microseconds()), 1-e.quantile()
	h := &e.target.Latency
	n, slow := h.Total(), above(h, micros)
	if rate(slow, n) <= allowed {
		return content
	}
	reason := fmt.Sprintf("%s of %s is %s (bound %s): %s of %s answers took longer, %s may", e.quantileName(), e.targetName,
		latency(h.Quantile(1-allowed)), bound, thousands(slow), thousands(n), percentText(allowed))
	if v := e.slowness(figure, reason, n, func(recent *Side) bool {
		return rate(above(&recent.Recent.Latency, micros), recent.Recent.Latency.Total()) > allowed
	}); v.Result != Pass {
		return v
	}
	if binomialTail(slow, n, allowed) >= e.alpha {
		return hold(figure, "%s; not enough evidence to roll back", reason)
	}
	k2, n2 := above(&e.source.Latency, micros), e.source.Latency.Total()
	if binomialTail(k2, n2, allowed) < suspicion && e.compare(slow, n, k2, n2, notableExcess) >= e.alpha {
		return hold(figure, "%s; that of %s is %s at the same time: going back would not help",
			reason, e.sourceName, latency(e.source.Latency.Quantile(1-allowed)))
	}
	return Verdict{Fail, figure, reason}
}

// leastForQuantile returns how many values it takes to tell where a quantile is: five above it.
func leastForQuantile(q float64) uint64 { return uint64(math.Ceil(5/(1-q) - 1e-6)) }

// increased returns the bound that the source's quantile stands for, and that quantile.
func (e *evaluation) increased() (bound, theirs float64) {
	increase, _ := number(e.guard.Latency.MaxIncrease)
	theirs = e.source.Latency.Quantile(e.quantile())
	return theirs * (1 + increase/100), theirs
}

// latencyIncrease compares the quantile with the source's at the same time: of
// the target's values no larger part may be above the increased quantile of
// the source than of the source's values are above its quantile.
func (e *evaluation) latencyIncrease() Verdict {
	const figure = "latencyIncrease"
	if e.guard.Latency == nil || e.guard.Latency.MaxIncrease == "" || e.o.TCP {
		return content
	}
	if _, ok := number(e.guard.Latency.MaxIncrease); !ok {
		return hold(figure, "guard.latency.maxIncrease %q is not a number", e.guard.Latency.MaxIncrease)
	}
	q := e.quantile()
	h, h2 := &e.target.Latency, &e.source.Latency
	n, n2 := h.Total(), h2.Total()
	if needed := leastForQuantile(q); n2 < needed {
		// Beyond half of the traffic the source has few requests because of the
		// share, and the comparison was made at the steps before.
		if e.share > policy.ShareTotal/2 || n < e.minRequests {
			return content
		}
		return hold(figure, "%s answered %s of the %s requests in %s that it takes to tell their %s (latency.maxIncrease); with no more traffic it stays so: widen guard.window, or state a lower latency.quantile",
			e.sourceName, thousands(n2), thousands(needed), hours(e.o.Window), e.quantileName())
	}
	bound, theirs := e.increased()
	slow := above(h, bound)
	if rate(slow, n) <= 1-q {
		return content
	}
	reason := fmt.Sprintf("%s of %s is %s, of %s %s (bound %s %% more)", e.quantileName(), e.targetName, latency(h.Quantile(q)),
		e.sourceName, latency(theirs), e.guard.Latency.MaxIncrease)
	switch only := e.onlyThere(); {
	case e.worse():
		return content // who answers nothing well may do so at once
	case only != "":
		return hold(figure, "%s; but %s get requests that %s do not, most of them to %s: no comparison. State guard.latency.atMost instead",
			reason, e.sourceName, e.targetName, only)
	case e.o.Stable < e.o.Window:
		return hold(figure, "%s; judged after a whole window at this share", reason)
	}
	if v := e.slowness(figure, reason, n, func(recent *Side) bool {
		return rate(above(&recent.Recent.Latency, bound), recent.Recent.Latency.Total()) > 1-q
	}); v.Result != Pass {
		return v
	}
	if fisherTail(slow, n, uint64(math.Ceil((1-q)*float64(n2))), n2) >= e.alpha {
		return hold(figure, "%s; not enough evidence to roll back", reason)
	}
	return Verdict{Fail, figure, reason}
}

// worse reports whether the source has far fewer good answers than the target.
func (e *evaluation) worse() bool {
	k, n := e.target.Requests-min(e.good(e.target), e.target.Requests), e.target.Requests
	k2, n2 := e.peer.Requests-min(e.good(e.peer), e.peer.Requests), e.peer.Requests
	return rate(k2, n2) > rate(k, n)+outageRate && fisherTail(k2, n2, k, n) < suspicion
}

// good returns how many good answers a side gave, as far as statuses tell.
func (e *evaluation) good(s *Side) uint64 {
	if len(s.Codes) == 0 {
		return s.Requests - min(s.Failed(), s.Requests)
	}
	return goodAnswers(s.Codes)
}

// slowness holds slow answers that may not be there to stay: of too few
// requests, right after a step, or that are over.
func (e *evaluation) slowness(figure, reason string, n uint64, goesOn func(*Side) bool) Verdict {
	switch {
	case n < e.minRequests:
		return hold(figure, "%s; not enough evidence to roll back", reason)
	case e.o.Stable < e.o.Window/2:
		return hold(figure, "%s; %s has %s to warm up after a step", reason, e.targetName, (e.o.Window/2 - e.o.Stable).Round(time.Second))
	case e.o.Recent > 0 && !goesOn(e.target):
		return hold(figure, "%s; over for %s", reason, e.o.Recent)
	}
	return content
}

func (e *evaluation) quantileName() string { return QuantileName(e.guard) }

// QuantileName names the quantile of a guard as SREs do: p99.
func QuantileName(g *v1alpha1.ShiftGuard) string { return "p" + trimFloat(100*quantileOf(g)) }
