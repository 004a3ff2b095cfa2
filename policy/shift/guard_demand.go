package shift

import (
	"fmt"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/policy"
)

// silence fails a target that gives no answers although it gets requests.
//
// It does not decide where answers last so long that they cannot have ended yet, as
// streams do: a request is counted when it has ended. Nor does it before a whole
// window is covered: a load report is about the seconds before it, so a new leader
// hears of requests whose ends it did not see.
func (e *evaluation) silence() Verdict {
	const figure = "silence"
	if answer := e.source.Latency.Quantile(.5); answer > float64(e.o.Stable.Microseconds())/4 || e.o.Covered < e.o.Window {
		return content
	}
	// Answers of the target in the source's place have reached it too.
	seen, heard := e.target.Requests+e.source.FailedOver, e.target.meant()
	if e.source.Abandoned > e.source.Requests {
		seen += e.target.Abandoned // here callers always leave before the end
	}
	if sent := float64(e.target.Load) / float64(max(e.o.Attempts, 1)); float64(seen) < sent/bunch && poissonLowerTail(seen, sent) < silentTail {
		return fail(figure, "load reports count %s %s to %s, of which %s answered", thousands(e.target.Load), e.unit, e.targetName, none(seen))
	}
	others := float64(policy.ShareTotal - e.share)
	if others == 0 || e.o.Stable < e.o.Window {
		return content
	}
	expected := float64(e.source.meant()-min(e.source.Requests-e.peer.Requests, e.source.meant())) * float64(e.share) / others
	if poissonLowerTail(heard, expected/bunch) < silentTail && e.o.CohortKey != "" {
		return hold(figure, "%s got %s of the %s %s that their share stands for: by the %s nobody, or almost nobody, is in it; let it have more percent, or a cohort of more values",
			e.targetName, thousands(heard), thousands(uint64(expected)), e.unit, e.o.CohortKey)
	}
	if poissonLowerTail(heard, expected/bunch) < silentTail {
		return fail(figure, "%s %s were expected at %s by their share of what %s get, of which %s seen: no proxy sends them",
			thousands(uint64(expected)), e.unit, e.targetName, e.sourceName, none(heard))
	}
	return content
}

// failover checks requests that were meant for the target and that the source
// had to answer because the target had no usable endpoint.
func (e *evaluation) failover() Verdict {
	const figure = "failover"
	n, gone := e.target.meant(), e.target.FailedOver
	reason := fmt.Sprintf("%s had to answer %s of %s %s meant for %s, which had no usable endpoint",
		e.sourceName, thousands(gone), thousands(n), e.unit, e.targetName)
	switch allowed, _ := e.allowed(); {
	case gone >= earlyFailures && binomialTail(gone, n, .5) < e.alpha:
		return Verdict{Fail, figure, reason}
	case rate(gone, n) > max(allowed, notableExcess):
		return Verdict{Hold, figure, reason}
	}
	return content
}

// standIn holds until one side has stood in for the other in no part of the window.
func (e *evaluation) standIn() Verdict {
	s := e.o.StandIn
	if s == nil {
		return content
	}
	text := leftOutText(e.o)
	if text != "" {
		text += "; "
	}
	if s.Now {
		return hold("standIn", "%s%s stand in for %s now, which is no comparison", text, s.By, s.For)
	}
	return hold("standIn", "%sa whole window of %s without that is needed", text, hours(e.o.Window))
}

// leftOutText says how many requests of a window were left out of the comparison and why, "" for none.
func leftOutText(o *Observation) string {
	if o.LeftOut == 0 {
		return ""
	}
	by, gone := o.To, o.From
	switch {
	case o.StandIn != nil:
		by, gone = o.StandIn.By, o.StandIn.For
	case o.Target.FailedOver > o.Source.FailedOver:
		by, gone = o.From, o.To
	}
	unit := "request"
	if o.TCP {
		unit = "connection"
	}
	if o.LeftOut > 1 {
		unit += "s"
	}
	return fmt.Sprintf("%s %s left out: %s stood in for %s", thousands(o.LeftOut), unit, by, gone)
}

// reporters holds while proxies are known to ask but do not say what they got.
func (e *evaluation) reporters() Verdict {
	if len(e.o.Silent) == 0 {
		return content
	}
	return hold("reporters", "access logs and load reports of %s do not fit: not all requests are told of, or more than were sent", strings.Join(e.o.Silent, ", "))
}

// whole holds until a whole window was seen at the present share.
func (e *evaluation) whole() Verdict {
	switch {
	case e.o.Covered < e.o.Window:
		return hold("window", "what callers got is known without a gap for %s of the window of %s", e.o.Covered.Truncate(time.Second), hours(e.o.Window))
	case e.o.Stable < e.o.Window:
		return hold("window", "the share is younger than the window of %s", hours(e.o.Window))
	}
	return content
}

// requests holds until the target answered enough of them.
func (e *evaluation) requests() Verdict {
	n := e.target.Requests
	if n >= e.minRequests {
		return content
	}
	remedy := moreTraffic
	if n == 0 && e.source.Requests == 0 && e.source.Abandoned+e.target.Abandoned+e.source.FailedOver+e.target.FailedOver == 0 {
		remedy = noTraffic
	}
	return hold("minRequests", "%s answered %s of the %s %s in %s that a verdict needs%s",
		e.targetName, thousands(n), thousands(e.minRequests), e.unit, hours(e.o.Window), remedy)
}

// noTraffic is said where neither side has a request: more percent of nothing is nothing.
const noTraffic = ", and the other side none: nobody calls the Service, or the callers' proxies are connected to another control plane: causeway proxies"

// moreTraffic is what helps where a window has too few requests: it would hold for ever without a word.
const moreTraffic = "; with no more traffic it stays so: let the step have more percent, lower guard.minRequests, or widen guard.window"

// retries holds where retries hide failures: callers get what they want, but
// the target carries a load that it would not have, and has no reserve left.
func (e *evaluation) retries() Verdict {
	if e.o.Window < loadWindow {
		return content
	}
	perRequest := func(s, other *Side) float64 {
		return float64(s.Load) / float64(max(1, s.Requests+s.Abandoned+other.FailedOver))
	}
	most := amplification
	if e.source.Requests >= e.minRequests {
		most = max(most, amplification*perRequest(e.source, e.target))
	}
	if got := perRequest(e.target, e.source); got > most {
		return hold("retries", "%s take %.1f attempts for each request (at most %.1f): retries hide failures", e.targetName, got, most)
	}
	return content
}
