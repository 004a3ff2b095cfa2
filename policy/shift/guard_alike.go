package shift

import (
	"cmp"
	"maps"
	"slices"

	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/outcome"
)

// unlike: if a side gets this many times as many requests of a path as its share explains, the path belongs to that
// side alone. uncommon: if such paths are this part of a side's requests, the sides are not alike as a whole.
const (
	unlike   = 3.
	uncommon = .1
)

// alike returns the source without the requests that it gets of some paths beyond what its share explains: those of a
// prober that asks it alone say nothing about a target that nobody asks so. How long they took is not known
// apart.
func (e *evaluation) alike(s *Side) *Side {
	out := *s
	cloned := false
	for path, c := range s.Paths {
		most := uint64(unlike * e.explained(e.requestsOf(path)))
		if c.Requests < newPath || c.Requests <= most {
			continue
		}
		gone := rate(c.Requests-most, c.Requests)
		less := func(n uint64) uint64 { return uint64(gone * float64(n)) }
		out.Requests -= min(less(c.Requests), out.Requests)
		lessFailures(&out.Counts, less(c.Failures))
		if !cloned {
			out.Codes, cloned = slices.Clone(out.Codes), true
		}
		for i := range out.Codes {
			out.Codes[i].N -= min(less(c.Codes.Of(out.Codes[i].Code)), out.Codes[i].N)
		}
	}
	return &out
}

// lessFailures takes failures away, of each cause its part.
func lessFailures(s *outcome.Counts, n uint64) {
	failed := s.Failed()
	left := failed - min(n, failed)
	for c := range s.Failures {
		if failed > 0 {
			s.Failures[c] = s.Failures[c] * left / failed
		}
	}
	if rounded := s.Failed(); rounded < left {
		s.Failures[outcome.Other] += left - rounded
	}
}

// requestsOf returns how many requests of a path the target has had.
func (e *evaluation) requestsOf(path outcome.Path) uint64 {
	if c := e.target.Paths[path]; c != nil {
		return c.Requests
	}
	return 0
}

// explained returns how many requests the source should have, by its share, for so many of the target.
func (e *evaluation) explained(n uint64) float64 {
	if e.share == 0 {
		return float64(n)
	}
	return float64(n) * float64(policy.ShareTotal-e.share) / float64(e.share)
}

// onlyThere names the path that the source is asked for most beyond what its share explains, "" if such
// requests are few.
func (e *evaluation) onlyThere() string {
	if rate(e.source.Requests-e.peer.Requests, e.source.Requests) < uncommon {
		return ""
	}
	excess := func(p outcome.Path) float64 {
		return float64(e.source.Paths[p].Requests) - e.explained(e.requestsOf(p))
	}
	paths := slices.SortedFunc(maps.Keys(e.source.Paths), func(a, b outcome.Path) int {
		return cmp.Or(cmp.Compare(excess(b), excess(a)), cmp.Compare(a.Group, b.Group))
	})
	if len(paths) == 0 {
		return ""
	}
	return (&pathPair{Path: paths[0]}).name()
}

// alive reports whether the source has about as many requests as its share explains: one that hangs, or that nobody
// asks, has no paths that could be new on the target.
func (e *evaluation) alive() bool {
	return 2*float64(e.peer.Requests) >= e.explained(e.target.Requests)
}

// known returns the target's codes without those of paths that are new there: each of these counts on its own.
func (e *evaluation) known() outcome.Codes {
	out, cloned := e.target.Codes, false
	for path, c := range e.target.Paths {
		theirs := uint64(0)
		if s := e.source.Paths[path]; s != nil {
			theirs = s.Requests
		}
		// Paths are not known without a single proxy (without).
		if path.Group == "" || c.Requests > e.target.Requests || !e.absent(c.Requests, theirs) {
			continue
		}
		if !cloned {
			out, cloned = slices.Clone(out), true
		}
		for i := range out {
			out[i].N -= min(c.Codes.Of(out[i].Code), out[i].N)
		}
	}
	return out
}
