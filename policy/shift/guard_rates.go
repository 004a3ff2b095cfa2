package shift

import (
	"fmt"
)

// sourceRequests returns the source's requests of the time for which the share
// has been what it is, as if all its failures had come in that time: a shared outage must
// not be put down to a target that had traffic during nothing else.
func (e *evaluation) sourceRequests(n, failed uint64) uint64 {
	if e.o.Stable >= e.o.Window {
		return n
	}
	return max(failed, uint64(float64(n)*float64(e.o.Stable)/float64(e.o.Window)))
}

// compare returns how probable it is that a target as good as its source looks so bad, 1
// if the difference is not notable.
func (e *evaluation) compare(k, n, k2, n2 uint64, excess float64) float64 {
	n2 = e.sourceRequests(n2, k2)
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
func (e *evaluation) enough(failed, n uint64) bool {
	return n >= e.minRequests || failed >= earlyFailures && binomialTail(failed, n, earlyRate) < e.alpha
}

// successRate tests the stated bound of the target's success rate.
func (e *evaluation) successRate() Verdict {
	const figure = "successRate"
	allowed, stated := e.allowed()
	if !stated {
		if e.guard.SuccessRate != nil {
			return hold(figure, "guard.successRate.atLeast %q is not a number", e.guard.SuccessRate.AtLeast)
		}
		return content
	}
	failed, n := e.target.Failed(), e.target.Requests
	if rate(failed, n) <= allowed {
		return content
	}
	reason := fmt.Sprintf("%s (bound %s %%): %s", e.answered(), e.guard.SuccessRate.AtLeast, e.causes())
	if !e.enough(failed, n) || binomialTail(failed, n, allowed) >= e.alpha {
		return hold(figure, "%s; not enough evidence to roll back", reason)
	}
	k2, n2 := e.peer.Failed(), e.peer.Requests
	if binomialTail(k2, n2, allowed) < suspicion && e.compare(failed, n, k2, n2, notableExcess) >= e.alpha {
		return hold(figure, "%s; %s answered only %s %% of theirs at the same time: going back would not help",
			reason, e.sourceName, successPercent(k2, n2))
	}
	return Verdict{Fail, figure, reason}
}

// errors compares the target's failures with the source's at the same time,
// whether or not a bound is stated.
func (e *evaluation) errors() Verdict {
	const figure = "errors"
	failed, n := e.target.Failed(), e.target.Requests
	k2, n2 := e.peer.Failed(), e.peer.Requests
	_, stated := e.allowed()
	p := e.compare(failed, n, k2, n2, notableExcess)
	reason := func() string {
		return fmt.Sprintf("%s, %s %s %% of theirs at the same time: %s", e.answered(), e.sourceName, successPercent(k2, n2), e.causes())
	}
	switch {
	case p < e.alpha && e.enough(failed, n):
		return Verdict{Fail, figure, reason()}
	case p < suspicion:
		return hold(figure, "%s; not enough evidence to roll back", reason())
	case stated || !e.enough(failed, n) || binomialTail(failed, n, outageRate) >= e.alpha:
		return content
	case n2 < e.minRequests && n2 < n && rate(k2, n2) < outageRate:
		return fail(figure, "%s (guard.successRate is not stated, and %s answered too few %s to be compared with): %s",
			e.answered(), e.sourceName, e.unit, e.causes())
	}
	return hold(figure, "%s; not worse than %s", reason(), e.sourceName)
}

// abandoned compares how many requests callers gave up: a target that hangs has no failures
// when its callers' patience ends before the route's timeout.
func (e *evaluation) abandoned() Verdict {
	const figure = "abandoned"
	gone, all := e.target.Abandoned, e.target.Abandoned+e.target.Requests
	gone2, all2 := e.source.Abandoned, e.source.Abandoned+e.source.Requests
	if !e.enough(gone, all) {
		return content
	}
	reason := func() string {
		return fmt.Sprintf("callers gave up %s %% of %s %s to %s before they were answered",
			percent(rate(gone, all)), thousands(all), e.unit, e.targetName)
	}
	if all2 < e.minRequests && all2 < all {
		if rate(gone2, all2) < .5 && binomialTail(gone, all, .5) < e.alpha {
			return Verdict{Fail, figure, reason()}
		}
		return content
	}
	if e.compare(gone, all, gone2, all2, notableAbandoned) < e.alpha {
		return fail(figure, "%s, and %s %% of those to %s", reason(), percent(rate(gone2, all2)), e.sourceName)
	}
	return content
}
