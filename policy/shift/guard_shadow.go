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
func (e *evaluation) mirrorFailures() Verdict {
	allowed, stated := e.allowed()
	if !stated {
		allowed = mirrorFailureRate
	}
	return e.pairs("shadow", "failed where the caller's answer did not", e.o.Shadow.MirrorFailed, allowed, Fail)
}

// mirrorStatus tests how many mirrored answers had another class of status.
func (e *evaluation) mirrorStatus() Verdict {
	return e.pairs("shadowStatus", "had another class of status than the caller's answer", e.o.Shadow.StatusDiffers, statusRate, Fail)
}

// mirrorSize tests how many mirrored answers had another size.
func (e *evaluation) mirrorSize() Verdict {
	return e.pairs("shadowSize", "had a body of another size than the caller's answer", e.o.Shadow.SizeDiffers, sizeRate, Hold)
}

// pairs tests the rate of pairs that differ against what is allowed. Nobody is harmed by a
// mirrored answer, so there is no failure before minRequests.
func (e *evaluation) pairs(figure, how string, differ uint64, allowed float64, result Result) Verdict {
	n := e.o.Shadow.Compared
	if rate(differ, n) <= allowed {
		return content
	}
	reason := fmt.Sprintf("%s of %s mirrored answers of %s %s; %s may", thousands(differ), thousands(n), e.targetName, how, percentText(allowed))
	if n < e.minRequests || binomialTail(differ, n, allowed) >= e.alpha {
		return hold(figure, "%s; not enough evidence to roll back", reason)
	}
	return Verdict{result, figure, reason}
}

// mirrorLatency holds while mirrored answers are slower than the spec's bounds.
// The answers to the callers are to the same requests, so the two are a fair
// comparison. It never fails: no caller waits for them, and whoever
// makes the target faster wants to see it here.
func (e *evaluation) mirrorLatency() Verdict {
	l, pairs := e.guard.Latency, e.o.Shadow
	if l == nil || e.o.TCP {
		return content
	}
	q := e.quantile()
	slower := func(bound float64, format string, args ...any) Verdict {
		if n := pairs.Mirror.Total(); rate(above(&pairs.Mirror, bound), n) <= 1-q {
			return content
		}
		return hold("shadowLatency", "%s of mirrored answers of %s is %s (bound %s)", e.quantileName(), e.targetName,
			latency(pairs.Mirror.Quantile(q)), fmt.Sprintf(format, args...))
	}
	if l.AtMost != nil {
		if v := slower(float64(l.AtMost.Microseconds()), "%s", l.AtMost.Duration); v.Result != Pass {
			return v
		}
	}
	if increase, ok := number(l.MaxIncrease); ok {
		theirs := pairs.Answer.Quantile(q)
		return slower(theirs*(1+increase/100), "%s %% more than the %s of %s", l.MaxIncrease, latency(theirs), e.sourceName)
	}
	return content
}

// mirrorRequests holds until a whole window was seen and enough answers could
// be compared. Mirrored requests that are never answered are no pairs, so silence holds here.
func (e *evaluation) mirrorRequests() Verdict {
	switch n := e.o.Shadow.Compared; {
	case e.share > 0:
		return content
	case e.o.Covered < e.o.Window:
		return e.whole()
	case n < e.minRequests:
		return hold("minRequests", "%s of the %s mirrored requests in %s that a verdict needs could be compared%s",
			thousands(n), thousands(e.minRequests), hours(e.o.Window), moreTraffic)
	}
	return content
}
