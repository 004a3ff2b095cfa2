package outcome

import (
	"cmp"
	"slices"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
)

// Bounds of what is kept of a Service's paths, by whoever keeps it.
const (
	// MaxPaths is how many groups of paths a Service has at most, besides the one
	// of all others.
	MaxPaths = 64
	// MaxNames is how many endpoints and how many callers of a group are told.
	MaxNames = 16
)

// Path is a group of paths within a rule of a route.
type Path struct {
	// Rule is the name of the proxies' route (naming.RuleOf), "" for those of all
	// rules that are too many.
	Rule string
	// Group is a path whose variable parts are "*", after the method and a blank if that changes
	// something ("POST /cart"), "" for all paths of the rule
	// that have no group of their own.
	Group string
}

// PathKey names what is counted of a path: all ports of the Service together.
type PathKey struct {
	Service  discovery.Key
	Platform discovery.BackingName
	Path
}

// PathCounts is how the requests of a group of paths ended. Those that were
// abandoned, or answered by the other backing, are not counted.
type PathCounts struct {
	// Requests that ended, Failures among them.
	Requests, Failures uint64
	Codes              Codes
	// Endpoints by which, and Callers (proxies) by whom, requests were answered that failed
	// or had another status than a good one.
	Endpoints, Callers Names
}

// Changed reports whether anything was counted since before, nil for nothing.
func (p *PathCounts) Changed(before *PathCounts) bool {
	return before == nil || p.Requests != before.Requests
}

// Clone returns a copy that shares nothing.
func (p *PathCounts) Clone() *PathCounts {
	out := *p
	out.Codes, out.Endpoints, out.Callers = slices.Clone(p.Codes), slices.Clone(p.Endpoints), slices.Clone(p.Callers)
	return &out
}

// Merge adds all that another one has counted, with at most so many names.
func (p *PathCounts) Merge(other *PathCounts, names int) {
	p.Requests, p.Failures = plus(p.Requests, other.Requests), plus(p.Failures, other.Failures)
	p.Codes.Merge(other.Codes)
	p.Endpoints = p.Endpoints.merge(other.Endpoints, names)
	p.Callers = p.Callers.merge(other.Callers, names)
}

// since returns what was counted since before; nil is nothing.
func (p *PathCounts) since(before *PathCounts) *PathCounts {
	if before == nil || p.Requests < before.Requests {
		before = &PathCounts{}
	}
	return &PathCounts{
		Requests: since(p.Requests, before.Requests), Failures: since(p.Failures, before.Failures), Codes: p.Codes.Since(before.Codes),
		Endpoints: p.Endpoints.since(before.Endpoints), Callers: p.Callers.since(before.Callers),
	}
}

// NameCount is how often something was counted of a name.
type NameCount struct {
	Name string
	N    uint64
}

// Names counts by name; it is sorted by name.
type Names []NameCount

func compareName(a NameCount, name string) int { return strings.Compare(a.Name, name) }

// Add counts a name n times, unless it is one more than most.
func (c *Names) Add(name string, n uint64, most int) {
	i, found := c.Find(name)
	switch {
	case found:
		(*c)[i].N = plus((*c)[i].N, n)
	case len(*c) < most && n > 0:
		*c = slices.Insert(*c, i, NameCount{name, n})
	}
}

// Find returns where a name is, or would be.
func (c Names) Find(name string) (at int, found bool) {
	return slices.BinarySearchFunc(c, name, compareName)
}

func (c Names) of(name string) uint64 {
	if i, found := c.Find(name); found {
		return c[i].N
	}
	return 0
}

func (c Names) since(before Names) Names {
	var out Names
	for _, o := range c {
		if n := since(o.N, before.of(o.Name)); n > 0 {
			out = append(out, NameCount{o.Name, n})
		}
	}
	return out
}

// merge returns the sum of both, of which the most frequent ones stay.
func (c Names) merge(other Names, most int) Names {
	if len(other) == 0 {
		return c
	}
	out := slices.Clone(c)
	for _, o := range other {
		out.Add(o.Name, o.N, len(c)+len(other))
	}
	if len(out) > most {
		out = out.Commonest()[:most]
		slices.SortFunc(out, func(a, b NameCount) int { return strings.Compare(a.Name, b.Name) })
	}
	return slices.Clip(out)
}

// Sum returns the sum of both.
func (c Names) Sum(other Names) Names { return c.merge(other, len(c)+len(other)) }

// Commonest returns the counts, the greatest first.
func (c Names) Commonest() []NameCount {
	out := slices.Clone(c)
	slices.SortStableFunc(out, func(a, b NameCount) int { return cmp.Compare(b.N, a.N) })
	return out
}
