package shift

import (
	"fmt"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/policy"
)

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
	// What the target answered in the source's stead has reached it too.
	seen, heard := j.target.Requests+j.source.FailedOver, j.target.meant()
	if j.source.Abandoned > j.source.Requests {
		seen += j.target.Abandoned // here callers always leave before the end
	}
	if sent := float64(j.target.Load) / float64(max(j.o.Attempts, 1)); float64(seen) < sent/bunch && poissonLowerTail(seen, sent) < silentTail {
		return fail(figure, "load reports count %s %s to %s, of which %s answered", thousands(j.target.Load), j.unit, j.targetName, none(seen))
	}
	others := float64(policy.ShareTotal - j.share)
	if others == 0 || j.o.Stable < j.o.Window {
		return content
	}
	expected := float64(j.source.meant()-min(j.source.Requests-j.peer.Requests, j.source.meant())) * float64(j.share) / others
	if poissonLowerTail(heard, expected/bunch) < silentTail && j.o.CohortKey != "" {
		return hold(figure, "%s got %s of the %s %s that their share stands for: by the %s nobody, or almost nobody, is in it; let it have more percent, or a cohort of more values",
			j.targetName, thousands(heard), thousands(uint64(expected)), j.unit, j.o.CohortKey)
	}
	if poissonLowerTail(heard, expected/bunch) < silentTail {
		return fail(figure, "%s %s were expected at %s by their share of what %s get, of which %s seen: no proxy sends them",
			thousands(uint64(expected)), j.unit, j.targetName, j.sourceName, none(heard))
	}
	return content
}

// failover judges requests that were meant for the target and that the source
// had to answer because the target had no usable endpoint.
func (j *judge) failover() Verdict {
	const figure = "failover"
	n, gone := j.target.meant(), j.target.FailedOver
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

// standIn holds until one side has stood in for the other in no part of the window.
func (j *judge) standIn() Verdict {
	s := j.o.StandIn
	if s == nil {
		return content
	}
	text := leftOutText(j.o)
	if text != "" {
		text += "; "
	}
	if s.Now {
		return hold("standIn", "%s%s stand in for %s now, which is no comparison", text, s.By, s.For)
	}
	return hold("standIn", "%sa whole window of %s without that is needed", text, hours(j.o.Window))
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
func (j *judge) reporters() Verdict {
	if len(j.o.Silent) == 0 {
		return content
	}
	return hold("reporters", "access logs and load reports of %s do not fit: not all requests are told of, or more than were sent", strings.Join(j.o.Silent, ", "))
}

// whole holds until a whole window was seen at the present share.
func (j *judge) whole() Verdict {
	switch {
	case j.o.Covered < j.o.Window:
		return hold("window", "what callers got is known without a gap for %s of the window of %s", j.o.Covered.Truncate(time.Second), hours(j.o.Window))
	case j.o.Stable < j.o.Window:
		return hold("window", "the share is younger than the window of %s", hours(j.o.Window))
	}
	return content
}

// requests holds until the target answered enough of them.
func (j *judge) requests() Verdict {
	n := j.target.Requests
	if n >= j.minRequests {
		return content
	}
	remedy := moreTraffic
	if n == 0 && j.source.Requests == 0 && j.source.Abandoned+j.target.Abandoned+j.source.FailedOver+j.target.FailedOver == 0 {
		remedy = noTraffic
	}
	return hold("minRequests", "%s answered %s of the %s %s in %s that a verdict needs%s",
		j.targetName, thousands(n), thousands(j.minRequests), j.unit, hours(j.o.Window), remedy)
}

// noTraffic is said where neither side has a request: more percent of nothing is nothing.
const noTraffic = ", and the other side none: nobody calls the Service, or the callers' proxies are connected to another control plane: causeway proxies"

// moreTraffic is what helps where a window has too few requests: it would hold for ever without a word.
const moreTraffic = "; with no more traffic it stays so: let the step have more percent, lower guard.minRequests, or widen guard.window"

// retries holds where retries hide failures: callers get what they want, but
// the target carries a load that it would not have, and has no reserve left.
func (j *judge) retries() Verdict {
	if j.o.Window < loadWindow {
		return content
	}
	perRequest := func(s, other *Side) float64 {
		return float64(s.Load) / float64(max(1, s.Requests+s.Abandoned+other.FailedOver))
	}
	most := amplification
	if j.source.Requests >= j.minRequests {
		most = max(most, amplification*perRequest(j.source, j.target))
	}
	if got := perRequest(j.target, j.source); got > most {
		return hold("retries", "%s take %.1f attempts for each request (at most %.1f): retries hide failures", j.targetName, got, most)
	}
	return content
}
