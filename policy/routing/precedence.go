package routing

import (
	"cmp"
	"slices"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
)

// precedence is where a match stands among those of all routes of a port
// (specs of HTTPRouteRule.matches and GRPCRouteRule.matches). Its parts are
// compared one after the other, the larger first:
//
//	HTTPRoute  how the path is compared, its length, method, headers, query parameters
//	GRPCRoute  how the method is compared, length of the service's name, of the method's, headers
//
// The specs leave regular expressions to the implementation. Here they stand
// below exact and above prefix matches, as in nginx: who writes an expression
// wants it to count although a prefix, of which "/" is one, matches too. Among
// themselves the longer one counts first.
type precedence [5]int

// The ways to compare a path, by precedence.
const (
	rankPrefix = iota
	rankRegex
	rankExact
)

// RankedRule is a rule of a route with what decides about its place.
type RankedRule struct {
	policy.Rule
	rank   precedence
	object *discovery.Object
}

// httpPrecedence returns the place of an HTTPRoute's match.
func httpPrecedence(m *policy.Match) precedence {
	p := precedence{rankPrefix, len(m.Path.Value), 0, len(m.Headers), len(m.Query)}
	switch m.Path.Kind {
	case policy.PathExact:
		p[0] = rankExact
	case policy.PathRegex:
		p[0] = rankRegex
	case policy.PathPrefix:
	}
	if m.Method != "" {
		p[2] = 1
	}
	return p
}

// SortRules puts rules into the order in which they are tried. No two rules
// have the same place: a rule's route and its position in it are part of it.
func SortRules(rules []*RankedRule) {
	slices.SortFunc(rules, func(a, b *RankedRule) int {
		for i := range a.rank {
			if c := cmp.Compare(b.rank[i], a.rank[i]); c != 0 {
				return c
			}
		}
		return cmp.Or(policy.CompareAge(a.object, b.object), cmp.Compare(a.Index, b.Index), cmp.Compare(a.MatchIndex, b.MatchIndex), policy.CompareBool(a.Preflight, b.Preflight))
	})
}
