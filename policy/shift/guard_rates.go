package shift

import (
	"fmt"
)

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
	k2, n2 := j.peer.Failed(), j.peer.Requests
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
	k2, n2 := j.peer.Failed(), j.peer.Requests
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
