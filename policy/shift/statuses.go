package shift

import (
	"maps"
	"slices"
	"strings"

	"github.com/causeway-mesh/causeway/policy/outcome"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// meaning is what statuses mean by a spec.
type meaning struct{ failures, fine []v1alpha1.ShiftStatusCode }

func meaningOf(g *v1alpha1.ShiftGuard) meaning {
	if s := g.StatusCodes; s != nil {
		return meaning{s.Failures, s.Fine}
	}
	return meaning{}
}

// of says whether a status is a failure, and whether it is fine in any number. A
// single status goes before its class.
func (m meaning) of(c outcome.Code) (failure, fine bool) {
	if len(m.failures)+len(m.fine) == 0 {
		return c == outcome.NoAnswer || c.Failure(), false
	}
	names := []string{c.String()}
	if !c.GRPC() && c != outcome.NoAnswer {
		names = append(names, string('0'+byte(c/100))+"xx") //nolint:gosec // 1 to 5
	}
	for _, name := range names {
		switch {
		case slices.Contains(m.failures, v1alpha1.ShiftStatusCode(name)):
			return true, false
		case slices.Contains(m.fine, v1alpha1.ShiftStatusCode(name)):
			return false, true
		}
	}
	return c == outcome.NoAnswer || c.Failure(), false
}

// more returns by how much the failures differ from what proxies count as such.
func (m meaning) more(codes outcome.Codes) (more, less uint64) {
	for _, c := range codes {
		failure, _ := m.of(c.Code)
		switch was := c.Code == outcome.NoAnswer || c.Code.Failure(); {
		case failure && !was:
			more += c.N
		case was && !failure:
			less += c.N
		}
	}
	return more, less
}

// Failed returns how many of the requests that were spent failed, by what the guard takes for failures.
func Failed(g *v1alpha1.ShiftGuard, s outcome.Spent) uint64 {
	more, less := meaningOf(g).more(s.Codes)
	return s.Failed + more - min(less, s.Failed)
}

// Apply has an observation count as failures what the guard takes for some.
func (o *Observation) Apply(g *v1alpha1.ShiftGuard) {
	m := meaningOf(g)
	if len(m.failures)+len(m.fine) == 0 {
		return
	}
	for _, s := range []*Side{&o.Source, &o.Target} {
		m.attribute(s)
	}
	for _, c := range []*outcome.Counts{&o.Source.Counts, &o.Source.Recent, &o.Target.Counts, &o.Target.Recent} {
		more, less := m.more(c.Codes)
		c.Failures[outcome.ServerError] += more
		for _, cause := range []outcome.Cause{outcome.ServerError, outcome.Timeout} {
			n := min(less, c.Failures[cause]) // DEADLINE_EXCEEDED is a timeout
			c.Failures[cause] -= n
			less -= n
		}
	}
	for _, s := range []*Side{&o.Source, &o.Target} {
		for _, p := range s.Paths {
			more, less := m.more(p.Codes)
			p.Failures += more
			p.Failures -= min(less, p.Failures)
		}
	}
}

// attribute has the counts of single proxies and endpoints follow what a spec calls failures. Which status each of
// them had is not kept, but how many bad answers: each has its part.
func (m meaning) attribute(s *Side) {
	more, less := m.more(s.Codes)
	failed := s.Failed()
	odd := s.Codes.Total() - goodAnswers(s.Codes) // neither good nor, by the proxies, a failure
	odd -= min(odd, failed)
	follow := func(own, n, bad uint64) uint64 {
		f := own + uint64(float64(bad-min(own, bad))*min(rate(more, odd), 1))
		return min(f-uint64(float64(own)*min(rate(less, failed), 1)), n)
	}
	callers, endpoints := make(map[string]uint64), make(map[string]uint64)
	for _, p := range s.Paths {
		for _, name := range p.Callers {
			callers[name.Name] += name.N
		}
		for _, name := range p.Endpoints {
			endpoints[name.Name] += name.N
		}
	}
	s.Callers, s.Endpoints = maps.Clone(s.Callers), maps.Clone(s.Endpoints)
	for id, c := range s.Callers {
		c.Failures = follow(c.Failures, c.Requests, callers[id])
		s.Callers[id] = c
	}
	for id, e := range s.Endpoints {
		e.Failures = follow(e.Failures, e.Requests, endpoints[id])
		s.Endpoints[id] = e
	}
}

// mix is how often answers that are no failures had which status.
type mix struct {
	n     uint64
	codes outcome.Codes
}

// mixOf returns the mix of answers without failures, which the success rate is about. A
// 304 and a 206 say the same as a 200 to who asked for them: how many there are depends on what
// browsers have, and on tags that differ from server to server.
func (m meaning) mixOf(codes outcome.Codes) mix {
	var out mix
	for _, c := range codes {
		if failure, _ := m.of(c.Code); failure {
			continue
		}
		if c.Code == 304 || c.Code == 206 {
			c.Code = 200
		}
		out.codes.Add(c.Code, c.N)
		out.n += c.N
	}
	return out
}

// class returns the class of a status, 1 to 4 as in HTTP. For gRPC, OK is 2 and all codes that blame
// the caller are 4.
func class(c outcome.Code) int {
	switch {
	case c.Good():
		return 2
	case c.GRPC():
		return 4
	}
	return int(c / 100)
}

// count returns how many answers had a status that is in a set and not fine.
func (x *mix) count(m meaning, in func(outcome.Code) bool) uint64 {
	n := uint64(0)
	for _, c := range x.codes {
		if _, fine := m.of(c.Code); in(c.Code) && !fine {
			n += c.N
		}
	}
	return n
}

// commonest returns the statuses that are tested on their own: the commonest ones of both
// sides together. The tests are about how those divide between the sides, and so this choice does not
// favour any result.
func commonest(a, b *mix) []outcome.Code {
	all := slices.Clone(a.codes)
	all.Merge(b.codes)
	var out []outcome.Code
	for _, c := range all.Commonest() {
		if len(out) == commonestCodes {
			break
		}
		out = append(out, c.Code)
	}
	return out
}

// withoutMethod returns the path of a group of paths: "/cart" of "POST /cart".
func withoutMethod(group string) string { return group[max(strings.IndexByte(group, '/'), 0):] }

// ignores reports whether a path does not count on its own.
func ignores(p *v1alpha1.ShiftPaths, group string) bool {
	if p == nil {
		return false
	}
	group = withoutMethod(group)
	return slices.ContainsFunc(p.Ignored, func(pattern v1alpha1.ShiftPath) bool {
		text := string(pattern)
		if prefix, ok := strings.CutSuffix(text, "/*"); ok && (group == prefix || strings.HasPrefix(group, prefix+"/")) {
			return true
		}
		return text == group
	})
}
