package shift

import (
	"fmt"

	"github.com/causeway-mesh/causeway/policy/outcome"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

const (
	// commonestCodes is how many statuses are tested on their own.
	commonestCodes = 8
	// notableStatus is by which part of all answers a status may be more frequent on the target where the
	// spec does not say it, and notablePathStatus the same for a single path.
	notableStatus     = 0.01
	notablePathStatus = 0.05
	// statusBunch is how many answers count as one where users stay on one side: a few of
	// them can have a status that others do not get.
	statusBunch = 5
)

// difference is how the statuses of the two sides differ.
type difference struct {
	what           string
	k, n, k2, n2   uint64
	p              float64
	in             func(outcome.Code) bool
	letsIn, within bool
}

// statusExcess returns by which part of all answers a status may be more frequent on the target.
func (e *evaluation) statusExcess(least float64) (float64, bool) {
	s := e.guard.StatusCodes
	switch {
	case s == nil:
		return least, true
	case s.Comparison == v1alpha1.ComparisonDisabled:
		return 0, false
	case s.MaxIncrease == "":
		return least, true
	}
	percent, ok := number(s.MaxIncrease)
	return max(percent/100, 0), ok
}

// differs returns the least probable one of the notable differences between the statuses of
// both sides, of a target that is like its source; nil if there is none.
func (e *evaluation) differs(target, source outcome.Codes, excess float64) *difference {
	m := meaningOf(e.guard)
	a, b := m.mixOf(target), m.mixOf(source)
	var least *difference
	// The source's failures might have had any status: if a side answers few requests well, nobody
	// knows how it answers when it is well.
	failed := source.Total() - min(b.n, source.Total())
	try := func(d difference) {
		d.k2, d.n2 = d.k2+failed, d.n2+failed
		if d.p = e.compareBunched(d.k, d.n, d.k2, d.n2, excess); d.p < 1 && (least == nil || d.p <= least.p) {
			d.k2, d.n2 = d.k2-failed, d.n2-failed // as it is told
			least = &d
		}
	}
	for c := 1; c <= 4; c++ {
		if c == 2 {
			continue // its lack is the excess of another one
		}
		in := func(code outcome.Code) bool { return class(code) == c }
		try(difference{what: fmt.Sprintf("%dxx", c), k: a.count(m, in), n: a.n, k2: b.count(m, in), n2: b.n, in: in})
	}
	good := func(code outcome.Code) bool { return class(code) == 2 }
	n, n2 := a.count(m, good), b.count(m, good)
	for _, code := range commonest(&a, &b) {
		in := func(c outcome.Code) bool { return c == code }
		d := difference{what: code.String(), k: a.count(m, in), n: a.n, k2: b.count(m, in), n2: b.n, in: in}
		if good(code) {
			// More of them may be better: which one of the good ones is another question.
			d.n, d.n2, d.within = n, n2, true
		}
		try(d)
	}
	if least == nil {
		return e.letsIn(m, &a, &b, excess)
	}
	return least
}

// letsIn looks for answers of the source that tell callers to log in, or that they may not,
// where the target has good ones.
func (e *evaluation) letsIn(m meaning, a, b *mix, excess float64) *difference {
	denied := func(c outcome.Code) bool {
		return c == 401 || c == 403 || c.String() == "UNAUTHENTICATED" || c.String() == "PERMISSION_DENIED"
	}
	k, k2 := a.count(m, denied), b.count(m, denied)
	if a.n == 0 || b.n == 0 || e.o.Stable < e.o.Window || rate(k2, b.n) < notableRatio*rate(k, a.n)+excess {
		return nil
	}
	by := e.bunch()
	return &difference{what: "401 or 403", k: k, n: a.n, k2: k2, n2: b.n, p: fisherTail(k2/by, b.n/by, k/by, a.n/by), in: denied, letsIn: true}
}

// bunch is how many answers count as one.
func (e *evaluation) bunch() uint64 {
	if e.o.Cohort {
		return statusBunch
	}
	return 1
}

// compareBunched is compare for what users may have in common.
func (e *evaluation) compareBunched(k, n, k2, n2 uint64, excess float64) float64 {
	if e.compare(k, n, k2, n2, excess) == 1 {
		return 1
	}
	by := e.bunch()
	return e.compare(k/by, n/by, k2/by, n2/by, 0)
}

// statuses compares how often both sides answer with each status at the same time, among
// answers that are no failures: pods that answer 404 where instances answer 200 have a
// success rate of 100 %.
func (e *evaluation) statuses() Verdict {
	const figure = "statusCodes"
	excess, ok := e.statusExcess(notableStatus)
	if !ok || e.o.TCP {
		return content
	}
	d := e.differs(e.known(), e.peer.Codes, excess)
	if d == nil {
		return e.unlikely()
	}
	level := e.alpha / statusTests
	reason := e.statusReason(d, "") + e.where(e.target.Paths, d.in)
	switch {
	case d.letsIn:
		if d.p < level {
			return hold(figure, "%s. Look whether %s let in whom they should not; if all is well, state guard.statusCodes.fine: [\"401\", \"403\"]",
				reason, e.targetName)
		}
	case d.p < level && e.enough(d.k, d.n):
		all := &outcome.PathCounts{Requests: e.target.Codes.Total(), Codes: e.target.Codes}
		for _, c := range e.target.Paths {
			all.Callers, all.Endpoints = all.Callers.Sum(c.Callers), all.Endpoints.Sum(c.Endpoints)
		}
		if l := e.alone(all, level); l != nil {
			if others := e.differs(l.rest.Codes, e.peer.Codes, excess); others == nil || others.letsIn || others.p >= level || !e.enough(others.k, others.n) {
				return e.doubt(l, "")
			}
		}
		return Verdict{Fail, figure, reason}
	case d.p < suspicion/statusTests:
		return hold(figure, "%s; not enough evidence to roll back", reason)
	}
	return content
}

// unlikely holds where most answers of a target are no good ones although no failures, and the source has too few that they
// could be compared with: nobody would call that well.
func (e *evaluation) unlikely() Verdict {
	m := meaningOf(e.guard)
	a, b := m.mixOf(e.target.Codes), m.mixOf(e.peer.Codes)
	if b.n >= e.comparable() {
		return content
	}
	odd := func(c outcome.Code) bool {
		_, fine := m.of(c)
		return !fine && (class(c) == 3 || class(c) == 4)
	}
	n := a.count(m, odd)
	if n < earlyFailures || rate(n, a.n) <= .5 || binomialTail(n, a.n, .5) >= e.alpha {
		return content
	}
	var most outcome.CodeCount
	for _, c := range a.codes.Commonest() {
		if odd(c.Code) && c.N > most.N {
			most = c
		}
	}
	why := "get too few requests for it to be compared with"
	if e.peer.Requests > b.n && e.peer.Requests >= e.comparable() {
		why = "answer nothing well that it could be compared with"
	}
	return hold("statusCodes", "%s is %s %% of the %s answers of %s, and %s %s%s. If it is as it should be, state guard.statusCodes.fine: [%q]",
		most.Code, percent(rate(most.N, a.n)), thousands(a.n), e.targetName, e.sourceName, why, e.where(e.target.Paths, odd), most.Code)
}

// statusReason says a difference, the figure first.
func (e *evaluation) statusReason(d *difference, path string) string {
	if path != "" {
		path = " to " + path
	}
	answers := "answers"
	if d.within {
		answers = "good answers"
	}
	return fmt.Sprintf("%s is %s %% of the %s %s of %s%s, and %s %% of the %s of %s", d.what, percent(rate(d.k, d.n)), thousands(d.n), answers,
		e.targetName, path, percent(rate(d.k2, d.n2)), thousands(d.n2), e.sourceName)
}
