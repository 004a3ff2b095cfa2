package shift

import (
	"cmp"
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

// weigh bounds the share of one proxy in a verdict about failures: what only one of several reports, and what
// only one of several hides, neither goes back nor on. A host with a broken network is such a proxy, and so is one
// that lies.
//
// What it reports of statuses and of single paths is weighed where it is judged (alone).
func (j *judge) weigh(v Verdict) Verdict {
	if v.Result == Fail && v.Figure != "successRate" && v.Figure != "errors" && v.Figure != "errorBudget" {
		return v
	}
	id := j.outlier(v.Result)
	if id == "" {
		return v
	}
	rest := *j
	rest.target, rest.source = without(j.target, id), without(j.source, id)
	rest.peer = rest.alike(rest.source)
	own, others := j.target.Callers[id], rest.failures()
	failed, n := rest.target.Failed(), rest.target.Requests
	switch {
	case v.Result == Fail && j.onlyBy(own.Requests, j.badEndpoints(own)):
		return v
	case v.Result == Fail && others.Result != Fail && fisherTail(own.Failures, own.Requests, failed, n) < j.alpha:
		return hold("callers", "proxy %s reports %s of %s %s to %s as failed, and %d others %s of %s: see what is wrong with that proxy",
			id, thousands(own.Failures), thousands(own.Requests), j.unit, j.targetName, len(rest.target.Callers), thousands(failed), thousands(n))
	case v.Result == Pass && others.Result == Fail:
		return hold("callers", "without proxy %s, which reports %s of the %s %s, the guard fails: %s",
			id, thousands(own.Requests), thousands(j.target.Requests), j.unit, others.Reason)
	}
	return v
}

// onlyBy reports whether some endpoints have answered nobody but a proxy of so many requests: as far as is known, it
// alone has seen them. Where traffic stays in its zone, such are those of a zone with one caller.
func (j *judge) onlyBy(requests uint64, endpoints []string) bool {
	n := uint64(0)
	for _, id := range endpoints {
		n += j.target.Endpoints[id].Requests
	}
	return n > 0 && n <= requests
}

// badEndpoints returns the endpoints that fail for all at least half as often as they do for one proxy.
func (j *judge) badEndpoints(own outcome.EndpointCounts) []string {
	var out []string
	for id, e := range j.target.Endpoints {
		if e.Failures > 0 && 2*rate(e.Failures, e.Requests) >= rate(own.Failures, own.Requests) {
			out = append(out, id)
		}
	}
	return out
}

// failures is what the guard says of failed requests, of statuses and of the budget that failures spend.
func (j *judge) failures() Verdict {
	for _, check := range []func() Verdict{j.successRate, j.errors, j.statuses, j.errorBudget} {
		if v := check(); v.Result == Fail {
			return v
		}
	}
	return content
}

// outlier returns the proxy whose word decides: the one that reports most failures where the guard fails, or
// most requests where it passes; "" where no single one outweighs the others, or too few report.
func (j *judge) outlier(r Result) string {
	if j.share == 0 || len(j.target.Callers) <= fewCallers || r == Hold {
		return ""
	}
	weight := func(e outcome.EndpointCounts) uint64 { return e.Requests }
	all := j.target.Requests
	if r == Fail {
		weight, all = func(e outcome.EndpointCounts) uint64 { return e.Failures }, j.target.Failed()
	}
	ids := slices.Sorted(maps.Keys(j.target.Callers))
	id := slices.MaxFunc(ids, func(a, b string) int { return cmp.Compare(weight(j.target.Callers[a]), weight(j.target.Callers[b])) })
	if float64(weight(j.target.Callers[id])) <= majority*float64(all) {
		return ""
	}
	return id
}

// without returns what all others but one proxy report of failures. How long answers took, and why requests
// failed, is not kept by proxy: the parts of those stay what they are.
func without(s *Side, id string) *Side {
	own, out := s.Callers[id], *s
	out.Requests -= min(own.Requests, out.Requests)
	out.lessFailures(own.Failures)
	out.Callers = maps.Clone(s.Callers)
	delete(out.Callers, id)
	bad := namedBy(s.Paths, id)
	out.Codes = withoutAnswers(s.Codes, bad, own.Requests-min(bad, own.Requests))
	return &out
}

// namedBy returns how many answers of a side that failed, or had another status than a good one, a proxy
// reports. It is known of the commonest proxies of each path.
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

// loner is a proxy that alone reports most of what is bad in some answers, and what is left of them without it.
type loner struct {
	id string
	// its bad answers, and the others' of all of theirs.
	bad, othersBad, others uint64
	rest                   *outcome.PathCounts
}

// alone returns the proxy without whose word some answers would be no worse, if what it reports cannot be
// the target's: the others, with the same target, get significantly better ones. As many of the good answers as it has had
// in all may have been its own: that one proxy alone asks for a path, which is bad, is no reason to doubt it.
func (j *judge) alone(c *outcome.PathCounts, level float64) *loner {
	if j.share == 0 || len(j.target.Callers) <= fewCallers || len(c.Callers) == 0 {
		return nil
	}
	top := c.Callers.Commonest()[0]
	good := goodAnswers(c.Codes)
	bad := c.Requests - min(good, c.Requests)
	if float64(top.N) <= majority*float64(bad) {
		return nil
	}
	all := j.target.Callers[top.Name].Requests
	endpoints := make([]string, len(c.Endpoints))
	for i, e := range c.Endpoints {
		endpoints[i] = e.Name
	}
	if j.onlyBy(all, endpoints) {
		return nil
	}
	own := min(good, all-min(namedBy(j.target.Paths, top.Name), all))
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
func (j *judge) doubt(l *loner, path string) Verdict {
	if path != "" {
		path = " to " + path
	}
	return hold("callers", "proxy %s reports %s of the %s bad answers of %s%s, and all others %s bad ones of %s: see what is wrong with that proxy",
		l.id, thousands(l.bad), thousands(l.bad+l.othersBad), j.targetName, path, thousands(l.othersBad), thousands(l.others))
}
