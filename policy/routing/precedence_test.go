package routing

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
)

// The order of matches as the specification words it, without the code's own encoding.
func before(a, b *RankedRule) bool {
	if (a.Match.Path.Kind == policy.PathExact) != (b.Match.Path.Kind == policy.PathExact) {
		return a.Match.Path.Kind == policy.PathExact
	}
	if (a.Match.Path.Kind == policy.PathRegex) != (b.Match.Path.Kind == policy.PathRegex) {
		return a.Match.Path.Kind == policy.PathRegex
	}
	for _, of := range []func(*RankedRule) int{
		func(r *RankedRule) int { return len(r.Match.Path.Value) },
		func(r *RankedRule) int { return min(len(r.Match.Method), 1) },
		func(r *RankedRule) int { return len(r.Match.Headers) },
		func(r *RankedRule) int { return len(r.Match.Query) },
	} {
		if of(a) != of(b) {
			return of(a) > of(b)
		}
	}
	if !a.object.Created.Equal(b.object.Created) {
		return a.object.Created.Before(b.object.Created)
	}
	if a.object.Key != b.object.Key {
		return a.object.Key.String() < b.object.Key.String()
	}
	if a.Index != b.Index {
		return a.Index < b.Index
	}
	return a.MatchIndex < b.MatchIndex
}

func TestPrecedenceIsATotalOrder(t *testing.T) {
	rnd := rand.New(rand.NewPCG(2, 2))
	for range 300 {
		var rules []*RankedRule
		for n := range 3 {
			o := &discovery.Object{Kind: "HTTPRoute", Key: discovery.Key{Namespace: []string{"web", "we", "we-b"}[rnd.IntN(3)], Name: string(rune('a' + n))}, Created: time.Unix(int64(rnd.IntN(2)), 0)}
			for i := range 3 {
				for j := range 3 {
					m := randomMatch(rnd)
					rules = append(rules, &RankedRule{Rule: policy.Rule{Route: o.Ref(), Index: i, MatchIndex: j, Match: m}, rank: httpPrecedence(&m), object: o})
				}
			}
		}
		SortRules(rules)
		for i := range rules {
			for j := i + 1; j < len(rules); j++ {
				require.True(t, before(rules[i], rules[j]), "%+v\n%+v", rules[i].Rule, rules[j].Rule)
				require.False(t, before(rules[j], rules[i]))
			}
		}
		want := slices.Clone(rules)
		rnd.Shuffle(len(rules), func(i, j int) { rules[i], rules[j] = rules[j], rules[i] })
		SortRules(rules)
		require.Equal(t, want, rules)
	}
}

func randomMatch(rnd *rand.Rand) policy.Match {
	paths := []policy.PathMatch{
		{Kind: policy.PathPrefix, Value: "/"},
		{Kind: policy.PathPrefix, Value: "/a"},
		{Kind: policy.PathPrefix, Value: "/a/b"},
		{Kind: policy.PathPrefix, Value: "/ab"},
		{Kind: policy.PathExact, Value: "/a"},
		{Kind: policy.PathExact, Value: "/a/b"},
		{Kind: policy.PathRegex, Value: "/a.*"},
		{Kind: policy.PathRegex, Value: "/[a-z]+"},
		{Kind: policy.PathRegex, Value: "/a/b|/a"},
	}
	m := policy.Match{Path: paths[rnd.IntN(len(paths))], Method: []string{"", "", "GET", "POST"}[rnd.IntN(4)]}
	values := func() []policy.ValueMatch {
		var out []policy.ValueMatch
		for _, name := range []string{"a", "b"} {
			switch rnd.IntN(4) {
			case 0:
				out = append(out, policy.ValueMatch{Name: name, Value: []string{"1", "2"}[rnd.IntN(2)]})
			case 1:
				out = append(out, policy.ValueMatch{Name: name, Regex: true, Value: []string{"[0-9]", "1|3", ".*"}[rnd.IntN(3)]})
			}
		}
		return out
	}
	m.Headers, m.Query = values(), values()
	return m
}
