package shift

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"github.com/causeway-mesh/causeway/policy/outcome"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// pathsShown is how many paths stand in a status.
const pathsShown = 5

// pathFigures returns what callers got of single paths: of those first that differ most
// between the two sides, and then of those that are asked for most.
func pathFigures(o *Observation) []v1alpha1.ShiftPathFigures {
	type row struct {
		outcome.Path
		source, target *outcome.PathCounts
		// apart is by how many standard errors the two sides differ.
		apart float64
	}
	rows := make(map[outcome.Path]*row)
	of := func(p outcome.Path) *row {
		r := rows[p]
		if r == nil {
			r = &row{Path: p, source: &outcome.PathCounts{}, target: &outcome.PathCounts{}}
			rows[p] = r
		}
		return r
	}
	for p, c := range o.Source.Paths {
		of(p).source = c
	}
	for p, c := range o.Target.Paths {
		of(p).target = c
	}
	for _, r := range rows {
		n, n2 := float64(r.source.Requests), float64(r.target.Requests)
		if n*n2 == 0 {
			continue
		}
		a, b := bad(r.source), bad(r.target)
		all := (a + b) / (n + n2)
		if spread := math.Sqrt(all * (1 - all) * (1/n + 1/n2)); spread > 0 {
			if r.apart = math.Abs(a/n-b/n2) / spread; r.apart < 3 {
				r.apart = 0 // chance
			}
		}
	}
	sorted := slices.SortedFunc(maps.Values(rows), func(a, b *row) int {
		return cmp.Or(cmp.Compare(b.apart, a.apart), cmp.Compare(b.source.Requests+b.target.Requests, a.source.Requests+a.target.Requests),
			cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Group, b.Group))
	})
	var out []v1alpha1.ShiftPathFigures
	for _, r := range sorted[:min(len(sorted), pathsShown)] {
		f := v1alpha1.ShiftPathFigures{Path: cmp.Or(r.Group, "other"), Rule: r.Rule}
		setFigures(&f.Pods, &f.Instances, o, figuresOfPath(r.source), figuresOfPath(r.target))
		out = append(out, f)
	}
	return out
}

// bad returns how many answers failed, or had another status than a good one.
func bad(c *outcome.PathCounts) float64 {
	n := uint64(0)
	for _, code := range c.Codes {
		if !code.Code.Good() {
			n += code.N
		}
	}
	return float64(max(n, c.Failures))
}

func figuresOfPath(c *outcome.PathCounts) *v1alpha1.ShiftFigures {
	f := &v1alpha1.ShiftFigures{Requests: int64(c.Requests)} //nolint:gosec // counts of an hour
	if c.Requests > 0 {
		f.SuccessRate, f.Statuses = successPercent(c.Failures, c.Requests), statusParts(c.Codes)
	}
	return f
}
