package shift

import (
	"maps"
	"slices"

	"github.com/causeway-mesh/causeway/policy/outcome"
)

const (
	// fewCallers is with how many other proxies that report the word of one can be doubted.
	fewCallers = 2
	// majority is the part of what is reported from which on one proxy's word outweighs all others'.
	majority = .5
)

// weigh bounds the share of one proxy in a verdict: what only one of several reports, and what
// only one of several hides, neither goes back nor on. A host with a broken network is such a proxy, and so is one
// that lies.
//
// Its statuses and single paths are weighed where they are checked (alone).
func (e *evaluation) weigh(v Verdict) Verdict {
	switch {
	case e.share == 0 || v.Result == Hold:
		return v
	case v.Result == Pass:
		return e.praised(v)
	case v.Figure == "silence":
		return e.unsent(v)
	}
	found, ok := e.evidence(v.Figure)
	if !ok {
		return v
	}
	id := found.most(e.target.Callers)
	if id == "" {
		return v
	}
	rest := e.without(id)
	bad, all := found.of(e.target.Callers[id])
	otherBad, others := found.bad-min(bad, found.bad), found.all-min(all, found.all)
	switch {
	case found.failures && e.onlyBy(all, e.badEndpoints(bad, all)):
		return v
	case found.check(rest).Result != Fail && fisherTail(bad, all, otherBad, others) < e.alpha:
		return hold("callers", "proxy %s reports %s of %s %s to %s as %s, and %d others %s of %s: see what is wrong with that proxy",
			id, thousands(bad), thousands(all), e.unit, e.targetName, found.what, len(rest.target.Callers), thousands(otherBad), thousands(others))
	}
	return v
}

// evidence is what proxies report of a figure that fails.
type evidence struct {
	what string
	// of returns how many bad ones one proxy reports, of how many.
	of       func(outcome.CallerCounts) (bad, all uint64)
	bad, all uint64
	check    func(*evaluation) Verdict
	// failures is true where it is known of single endpoints too.
	failures bool
}

// evidence returns the counts that decide a figure, false if single proxies are not weighed
// for it.
func (e *evaluation) evidence(figure string) (evidence, bool) {
	t := e.target
	switch figure {
	case "successRate", "errors", "errorBudget":
		return evidence{
			"failed", func(c outcome.CallerCounts) (uint64, uint64) { return c.Failures, c.Requests },
			t.Failed(), t.Requests, (*evaluation).failures, true,
		}, true
	case "abandoned":
		return evidence{
			"given up", func(c outcome.CallerCounts) (uint64, uint64) { return c.Abandoned, c.Abandoned + c.Requests },
			t.Abandoned, t.Abandoned + t.Requests, (*evaluation).abandoned, false,
		}, true
	case "failover":
		return evidence{
			"answered by " + e.sourceName,
			func(c outcome.CallerCounts) (uint64, uint64) {
				return c.FailedOver, c.FailedOver + c.Abandoned + c.Requests
			},
			t.FailedOver, t.meant(), (*evaluation).failover, false,
		}, true
	case "latency", "latencyIncrease":
		bound, check := float64(0), (*evaluation).latency
		if figure == "latency" {
			bound = float64(e.guard.Latency.AtMost.Microseconds())
		} else {
			bound, _ = e.increased()
			check = (*evaluation).latencyIncrease
		}
		return evidence{
			"slower than " + latency(bound),
			func(c outcome.CallerCounts) (uint64, uint64) { return above(&c.Latency, bound), c.Latency.Total() },
			above(&t.Latency, bound), t.Latency.Total(), check, false,
		}, true
	}
	return evidence{}, false
}

// most returns the proxy that reports most of what is bad, "" where no single one outweighs
// all others, or too few report.
func (e *evidence) most(callers map[string]outcome.CallerCounts) string {
	if len(callers) <= fewCallers {
		return ""
	}
	worst, id := uint64(0), ""
	for _, name := range slices.Sorted(maps.Keys(callers)) {
		if bad, _ := e.of(callers[name]); bad > worst {
			worst, id = bad, name
		}
	}
	if float64(worst) <= majority*float64(e.bad) {
		return ""
	}
	return id
}

// praised holds a target that passes only by the word of the one proxy that reports most of its requests.
func (e *evaluation) praised(v Verdict) Verdict {
	requests := evidence{of: func(c outcome.CallerCounts) (uint64, uint64) { return c.Requests, c.Requests }, bad: e.target.Requests}
	id := requests.most(e.target.Callers)
	if id == "" {
		return v
	}
	rest := e.without(id)
	for _, check := range []func(*evaluation) Verdict{
		(*evaluation).failures, (*evaluation).abandoned, (*evaluation).failover, (*evaluation).latency, (*evaluation).latencyIncrease,
	} {
		if others := check(rest); others.Result == Fail {
			return hold("callers", "without proxy %s, which reports %s of the %s %s, the guard fails: %s",
				id, thousands(e.target.Callers[id].Requests), thousands(e.target.Requests), e.unit, others.Reason)
		}
	}
	return v
}

// unsent doubts a silence that only one proxy reports: one with load reports of requests that nobody answered, or with
// most of the source's requests.
func (e *evaluation) unsent(v Verdict) Verdict {
	reporters := make(map[string]bool)
	for id := range e.source.Callers {
		reporters[id] = true
	}
	for id := range e.target.Callers {
		reporters[id] = true
	}
	for _, issuer := range e.target.Issuers {
		reporters[issuer.Name] = true
	}
	if len(reporters) <= fewCallers {
		return v
	}
	issued := e.target.Issuers.Commonest()
	if len(issued) > 0 && float64(issued[0].N) > majority*float64(e.target.Load) && e.without(issued[0].Name).silence().Result != Fail {
		return hold("callers", "load reports of proxy %s count %s of the %s %s to %s, of which %s answered; without it nothing is amiss: see what is wrong with that proxy",
			issued[0].Name, thousands(issued[0].N), thousands(e.target.Load), e.unit, e.targetName, none(e.target.Requests))
	}
	requests := evidence{of: func(c outcome.CallerCounts) (uint64, uint64) { return c.Requests, c.Requests }, bad: e.source.Requests}
	if id := requests.most(e.source.Callers); id != "" && e.without(id).silence().Result != Fail {
		return hold("callers", "proxy %s reports %s of the %s %s of %s, and %s of those to %s; without it nothing is amiss: see what is wrong with that proxy",
			id, thousands(e.source.Callers[id].Requests), thousands(e.source.Requests), e.unit, e.sourceName,
			thousands(e.target.Callers[id].Requests), e.targetName)
	}
	return v
}

// without returns the evaluation without one proxy.
func (e *evaluation) without(id string) *evaluation {
	rest := *e
	rest.target, rest.source = without(e.target, id), without(e.source, id)
	rest.peer = rest.alike(rest.source)
	return &rest
}

// onlyBy reports whether some endpoints have answered nobody but a proxy of so many requests: as far as is known, it
// alone has seen them. Where traffic stays in its zone, such are those of a zone with one caller.
func (e *evaluation) onlyBy(requests uint64, endpoints []string) bool {
	n := uint64(0)
	for _, id := range endpoints {
		n += e.target.Endpoints[id].Requests
	}
	return n > 0 && n <= requests
}

// badEndpoints returns the endpoints that fail for all at least half as often as they do for one proxy.
func (e *evaluation) badEndpoints(bad, all uint64) []string {
	var out []string
	for id, endpoint := range e.target.Endpoints {
		if endpoint.Failures > 0 && 2*rate(endpoint.Failures, endpoint.Requests) >= rate(bad, all) {
			out = append(out, id)
		}
	}
	return out
}

// failures returns the verdict about failed requests, statuses and the budget that failures spend.
func (e *evaluation) failures() Verdict {
	for _, check := range []func() Verdict{e.successRate, e.errors, e.statuses, e.errorBudget} {
		if v := check(); v.Result == Fail {
			return v
		}
	}
	return content
}

// without returns the counts of all proxies but one. The causes of failures are not kept by proxy, so their
// parts stay as they are.
func without(s *Side, id string) *Side {
	own, out := s.Callers[id], *s
	out.Counts = lessCaller(&s.Counts, id)
	out.Recent = lessCaller(&s.Recent, id)
	if s.Meant > 0 {
		out.Meant -= min(own.Requests+own.Abandoned+own.FailedOver, out.Meant)
	}
	for _, issuer := range s.Issuers {
		if issuer.Name == id {
			out.Load -= min(issuer.N, out.Load)
		}
	}
	out.Issuers = slices.DeleteFunc(slices.Clone(s.Issuers), func(n outcome.NameCount) bool { return n.Name == id })
	bad := namedBy(s.Paths, id)
	out.Codes = withoutAnswers(s.Codes, bad, own.Requests-min(bad, own.Requests))
	return &out
}

// lessCaller returns what was counted without the part of one proxy, except for its codes.
func lessCaller(c *outcome.Counts, id string) outcome.Counts {
	own, out := c.Callers[id], *c
	out.Requests -= min(own.Requests, out.Requests)
	out.Abandoned -= min(own.Abandoned, out.Abandoned)
	out.FailedOver -= min(own.FailedOver, out.FailedOver)
	lessFailures(&out, own.Failures)
	out.Latency = c.Latency.Without(own.Latency)
	out.Callers = maps.Clone(c.Callers)
	delete(out.Callers, id)
	return out
}

// namedBy returns how many bad answers of a side a proxy reports: failures, and statuses that are not
// good ones. It is known for the commonest proxies of each path.
func namedBy(paths map[outcome.Path]*outcome.PathCounts, id string) uint64 {
	n := uint64(0)
	for _, c := range paths {
		for _, caller := range c.Callers {
			if caller.Name == id {
				n += caller.N
			}
		}
	}
	return n
}

// withoutAnswers returns codes without so many bad and so many good answers. Which of them
// a proxy had is not kept: each has its part.
func withoutAnswers(codes outcome.Codes, bad, good uint64) outcome.Codes {
	all := codes.Total()
	allGood := goodAnswers(codes)
	bad, good = min(bad, all-allGood), min(good, allGood)
	var out outcome.Codes
	for _, c := range codes {
		of, gone := all-allGood, bad
		if c.Code.Good() {
			of, gone = allGood, good
		}
		out.Add(c.Code, c.N-uint64(float64(c.N)*rate(gone, of)))
	}
	return out
}

func goodAnswers(codes outcome.Codes) uint64 {
	n := uint64(0)
	for _, c := range codes {
		if c.Code.Good() {
			n += c.N
		}
	}
	return n
}

// loner is a proxy that alone reports most of the bad answers, with the counts of the others without it.
type loner struct {
	id string
	// its bad answers, and the others' of all of theirs.
	bad, othersBad, others uint64
	rest                   *outcome.PathCounts
}

// alone returns the proxy without whose word some answers would be no worse, if what it reports cannot be
// the target's: the others, with the same target, get significantly better ones. As many of the good answers as it has had
// in all may have been its own: that one proxy alone asks for a path, which is bad, is no reason to doubt it.
func (e *evaluation) alone(c *outcome.PathCounts, level float64) *loner {
	if e.share == 0 || len(e.target.Callers) <= fewCallers || len(c.Callers) == 0 {
		return nil
	}
	top := c.Callers.Commonest()[0]
	good := goodAnswers(c.Codes)
	bad := c.Requests - min(good, c.Requests)
	if float64(top.N) <= majority*float64(bad) {
		return nil
	}
	all := e.target.Callers[top.Name].Requests
	endpoints := make([]string, len(c.Endpoints))
	for i, e := range c.Endpoints {
		endpoints[i] = e.Name
	}
	if e.onlyBy(all, endpoints) {
		return nil
	}
	own := min(good, all-min(namedBy(e.target.Paths, top.Name), all))
	l := &loner{id: top.Name, bad: top.N, othersBad: bad - min(top.N, bad), rest: &outcome.PathCounts{}}
	l.others = l.othersBad + good - own
	if fisherTail(l.bad, l.bad+own, l.othersBad, l.others) >= level {
		return nil
	}
	l.rest.Requests, l.rest.Codes = l.others, withoutAnswers(c.Codes, l.bad, own)
	l.rest.Failures = uint64(float64(c.Failures) * rate(l.othersBad, bad))
	return l
}

// doubt says which proxy alone reports what is bad.
func (e *evaluation) doubt(l *loner, path string) Verdict {
	if path != "" {
		path = " to " + path
	}
	return hold("callers", "proxy %s reports %s of the %s bad answers of %s%s, and all others %s bad ones of %s: see what is wrong with that proxy",
		l.id, thousands(l.bad), thousands(l.bad+l.othersBad), e.targetName, path, thousands(l.othersBad), thousands(l.others))
}
