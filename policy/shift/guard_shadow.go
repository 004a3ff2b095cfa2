package shift

import "fmt"

// Bounds of what mirrored answers may differ by where the spec states none.
const (
	// mirrorFailureRate of the pairs may have a mirrored answer that failed.
	mirrorFailureRate = 0.001
	// statusRate of the pairs may have another class of status: a mirrored
	// request meets other state than the one it is a copy of.
	statusRate = 0.01
	// sizeRate of the pairs may have bodies of another size. Pages with
	// something random in them are common, so this holds for a person to look
	// at, and never fails.
	sizeRate = 0.05
)

// mirrorFailures tests how many mirrored answers failed where the caller's did not.
func (j *judge) mirrorFailures() Verdict {
	allowed, stated := j.allowed()
	if !stated {
		allowed = mirrorFailureRate
	}
	return j.pairs("shadow", "failed where the caller's answer did not", j.o.Shadow.MirrorFailed, allowed, Fail)
}

// mirrorStatus tests how many mirrored answers had another class of status.
func (j *judge) mirrorStatus() Verdict {
	return j.pairs("shadowStatus", "had another class of status than the caller's answer", j.o.Shadow.StatusDiffers, statusRate, Fail)
}

// mirrorSize tests how many mirrored answers had another size.
func (j *judge) mirrorSize() Verdict {
	return j.pairs("shadowSize", "had a body of another size than the caller's answer", j.o.Shadow.SizeDiffers, sizeRate, Hold)
}

// pairs tests the rate of pairs that differ against what is allowed. Nobody is harmed by a
// mirrored answer, so there is no failure before minRequests.
func (j *judge) pairs(figure, how string, differ uint64, allowed float64, result Result) Verdict {
	n := j.o.Shadow.Compared
	if rate(differ, n) <= allowed {
		return content
	}
	reason := fmt.Sprintf("%s of %s mirrored answers of %s %s; %s may", thousands(differ), thousands(n), j.targetName, how, percentText(allowed))
	if n < j.minRequests || binomialTail(differ, n, allowed) >= j.alpha {
		return hold(figure, "%s; not enough evidence to roll back", reason)
	}
	return Verdict{result, figure, reason}
}

// mirrorLatency holds while mirrored answers are slower than the spec's bounds.
// The answers to the callers are to the same requests, so the two are a fair
// comparison. It never fails: no caller waits for them, and whoever
// makes the target faster wants to see it here.
func (j *judge) mirrorLatency() Verdict {
	l, pairs := j.guard.Latency, j.o.Shadow
	if l == nil || j.o.TCP {
		return content
	}
	q := j.quantile()
	slower := func(bound float64, format string, args ...any) Verdict {
		if n := pairs.Mirror.Total(); rate(above(&pairs.Mirror, bound), n) <= 1-q {
			return content
		}
		return hold("shadowLatency", "%s of mirrored answers of %s is %s (bound %s)", j.quantileName(), j.targetName,
			latency(pairs.Mirror.Quantile(q)), fmt.Sprintf(format, args...))
	}
	if l.AtMost != nil {
		if v := slower(float64(l.AtMost.Microseconds()), "%s", l.AtMost.Duration); v.Result != Pass {
			return v
		}
	}
	if increase, ok := number(l.MaxIncrease); ok {
		theirs := pairs.Answer.Quantile(q)
		return slower(theirs*(1+increase/100), "%s %% more than the %s of %s", l.MaxIncrease, latency(theirs), j.sourceName)
	}
	return content
}

// mirrorRequests holds until a whole window was seen and enough answers could
// be compared. Mirrored requests that are never answered are no pairs, so silence holds here.
func (j *judge) mirrorRequests() Verdict {
	switch n := j.o.Shadow.Compared; {
	case j.share > 0:
		return content
	case j.o.Covered < j.o.Window:
		return j.whole()
	case n < j.minRequests:
		return hold("minRequests", "%s of the %s mirrored requests in %s that a verdict needs could be compared%s",
			thousands(n), thousands(j.minRequests), hours(j.o.Window), moreTraffic)
	}
	return content
}
