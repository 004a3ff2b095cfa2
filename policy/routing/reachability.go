package routing

import (
	"regexp"
	"slices"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
)

// ruleID is a rule of a route.
type ruleID struct {
	Route discovery.ObjectName
	Index int
}

// Reachability finds rules that no request reaches in any of their lists.
type Reachability struct {
	covering covering
	// By is the first rule that takes all requests of one of the rule's
	// matches.
	By      map[ruleID]*policy.Rule
	Ref     map[ruleID]discovery.ObjectRef
	Reached map[ruleID]bool
	Order   []ruleID
}

// NewReachability returns a Reachability that has seen no rule.
func NewReachability() *Reachability {
	return &Reachability{
		covering: covering{compiled: make(map[string]*regexp.Regexp)},
		By:       make(map[ruleID]*policy.Rule), Ref: make(map[ruleID]discovery.ObjectRef), Reached: make(map[ruleID]bool),
	}
}

// Add adds a list of rules that are tried one after the other.
func (s *Reachability) Add(rules []policy.Rule) {
	for i := range rules {
		rule := ruleID{discovery.ObjectName{Kind: rules[i].Route.Kind, Key: rules[i].Route.Key}, rules[i].Index}
		if s.Reached[rule] || rules[i].Preflight {
			continue
		}
		if _, ok := s.Ref[rule]; !ok {
			s.Ref[rule] = rules[i].Route
			s.Order = append(s.Order, rule)
		}
		earlier := slices.IndexFunc(rules[:i], func(r policy.Rule) bool { return s.covering.covers(&r.Match, &rules[i].Match) })
		if earlier < 0 {
			s.Reached[rule] = true
		} else if s.By[rule] == nil {
			s.By[rule] = &rules[earlier]
		}
	}
}

// covering compares matches, compiling each expression once.
type covering struct{ compiled map[string]*regexp.Regexp }

// covers reports whether every request that b matches is matched by a too. It
// may say no where the answer is yes, never the reverse.
func (c *covering) covers(a, b *policy.Match) bool {
	return (a.Method == "" || a.Method == b.Method) &&
		c.coversPath(a.Path, b.Path) && c.coversValues(a.Headers, b.Headers) && c.coversValues(a.Query, b.Query)
}

func (c *covering) coversPath(a, b policy.PathMatch) bool {
	switch a.Kind {
	case policy.PathPrefix:
		if b.Kind == policy.PathRegex {
			return a.Value == "/"
		}
		return a.Value == "/" || b.Value == a.Value || strings.HasPrefix(b.Value, a.Value+"/")
	case policy.PathExact:
		return a == b
	case policy.PathRegex:
	}
	return a == b || b.Kind == policy.PathExact && c.matches(a.Value, b.Value)
}

func (c *covering) coversValues(a, b []policy.ValueMatch) bool {
	for _, want := range a {
		i := slices.IndexFunc(b, func(v policy.ValueMatch) bool { return v.Name == want.Name })
		if i < 0 {
			return false
		}
		if have := b[i]; want != have && !(want.Regex && !have.Regex && c.matches(want.Value, have.Value)) {
			return false
		}
	}
	return true
}

func (c *covering) matches(pattern, value string) bool {
	re, ok := c.compiled[pattern]
	if !ok {
		re, _ = policy.CompileRegex(pattern)
		c.compiled[pattern] = re
	}
	return re != nil && re.MatchString(value)
}
