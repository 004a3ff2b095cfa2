package policy

import (
	"cmp"
	"slices"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
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

// rankedRule is a rule of a route with what decides about its place.
type rankedRule struct {
	Rule
	rank   precedence
	object *discovery.Object
}

// httpPrecedence returns the place of an HTTPRoute's match.
func httpPrecedence(m *Match) precedence {
	p := precedence{rankPrefix, len(m.Path.Value), 0, len(m.Headers), len(m.Query)}
	switch m.Path.Kind {
	case PathExact:
		p[0] = rankExact
	case PathRegex:
		p[0] = rankRegex
	case PathPrefix:
	}
	if m.Method != "" {
		p[2] = 1
	}
	return p
}

// sortRules puts rules into the order in which they are tried. No two rules
// have the same place: a rule's route and its position in it are part of it.
func sortRules(rules []*rankedRule) {
	slices.SortFunc(rules, func(a, b *rankedRule) int {
		for i := range a.rank {
			if c := cmp.Compare(b.rank[i], a.rank[i]); c != 0 {
				return c
			}
		}
		return cmp.Or(compareAge(a.object, b.object), cmp.Compare(a.Index, b.Index), cmp.Compare(a.MatchIndex, b.MatchIndex), compareBool(a.Preflight, b.Preflight))
	})
}

// compareAge orders objects by who wins a tie: the oldest, then the first by
// "namespace/name" (Gateway API, "Conflict Resolution").
func compareAge(a, b *discovery.Object) int {
	return cmp.Or(compareCreated(a.Created, a.Key, b.Created, b.Key), cmp.Compare(a.Kind, b.Kind))
}

// compareCreated orders what was created at two times: the oldest, then the first by
// "namespace/name". That is not the order of the namespaces: "a-b/x" comes before "a/x".
func compareCreated(a time.Time, aKey discovery.Key, b time.Time, bKey discovery.Key) int {
	switch c := a.Compare(b); {
	case c != 0:
		return c
	case aKey.Namespace == bKey.Namespace:
		return cmp.Compare(aKey.Name, bKey.Name)
	}
	return cmp.Compare(aKey.String(), bKey.String())
}

// divide cuts a total into consecutive parts in proportion to weights: each
// boundary is rounded to the nearest unit, so that the parts sum to the total
// exactly and each is off by at most one. Without any weight all parts are 0.
func divide(total uint32, weights []uint32) []uint32 {
	out := make([]uint32, len(weights))
	var sum uint64
	for _, w := range weights {
		sum += uint64(w)
	}
	if sum == 0 {
		return out
	}
	var before, start uint64
	for i, w := range weights {
		before += uint64(w)
		end := (before*uint64(total)*2 + sum) / (2 * sum)
		out[i] = uint32(end - start)
		start = end
	}
	return out
}
