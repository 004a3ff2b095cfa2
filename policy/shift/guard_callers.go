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
func (j *judge) weigh(v Verdict) Verdict {
	if v.Result == Fail && v.Figure != "successRate" && v.Figure != "errors" {
		return v
	}
	id := j.outlier(v.Result)
	if id == "" {
		return v
	}
	rest := *j
	rest.target, rest.source = without(j.target, id), without(j.source, id)
	own, others := j.target.Callers[id], rest.failures()
	failed, n := rest.target.Failed(), rest.target.Requests
	switch {
	case v.Result == Fail && others.Result != Fail && fisherTail(own.Failures, own.Requests, failed, n) < j.alpha:
		return hold("callers", "proxy %s reports %s of %s %s to %s as failed, and %d others %s of %s: see what is wrong with that proxy",
			id, thousands(own.Failures), thousands(own.Requests), j.unit, j.targetName, len(rest.target.Callers), thousands(failed), thousands(n))
	case v.Result == Pass && others.Result == Fail:
		return hold("callers", "without proxy %s, which reports %s of the %s %s, the guard fails: %s",
			id, thousands(own.Requests), thousands(j.target.Requests), j.unit, others.Reason)
	}
	return v
}

// failures is what the guard says of failed requests alone.
func (j *judge) failures() Verdict {
	for _, check := range []func() Verdict{j.successRate, j.errors} {
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
	failed := s.Failed()
	left := failed - min(own.Failures, failed)
	for c := range out.Failures {
		out.Failures[c] = 0
		if failed > 0 {
			out.Failures[c] = s.Failures[c] * left / failed
		}
	}
	if rounded := out.Failed(); rounded < left {
		out.Failures[outcome.Other] += left - rounded
	}
	out.Callers = maps.Clone(s.Callers)
	delete(out.Callers, id)
	return &out
}
