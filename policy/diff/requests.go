package diff

import (
	"regexp"
	"slices"
	"strings"

	"github.com/causeway-mesh/causeway/policy"
)

// request is a sample of the requests that a match takes.
type request struct {
	method, path   string
	headers, query map[string]string
	text           string
}

// samples returns a request for each rule, and one that only a route for
// everything takes. For an expression the sample is its literal prefix if that
// matches, else there is none.
func samples(rules []policy.Rule) []request {
	out := []request{{method: "GET", path: "/", text: "GET /"}, {method: "GET", path: "/~/~", text: "GET /~/~ (a path that no rule names)"}}
	for i := range rules {
		if s, ok := sample(&rules[i].Match); ok {
			out = append(out, s)
		}
	}
	return out
}

func sample(m *policy.Match) (request, bool) {
	r := request{method: m.Method, path: m.Path.Value, headers: make(map[string]string), query: make(map[string]string), text: matchText(m)}
	if r.method == "" {
		r.method = "GET"
	}
	if m.Path.Kind == policy.PathRegex {
		var ok bool
		if r.path, ok = literal(m.Path.Value); !ok {
			return r, false
		}
	}
	fill := func(in []policy.ValueMatch, into map[string]string) bool {
		for _, v := range in {
			value := v.Value
			if v.Regex {
				var ok bool
				if value, ok = literal(v.Value); !ok {
					return false
				}
			}
			into[v.Name] = value
		}
		return true
	}
	return r, fill(m.Headers, r.headers) && fill(m.Query, r.query)
}

// literal returns a text that an expression matches, if its beginning is one.
func literal(pattern string) (string, bool) {
	re, err := policy.CompileRegex(pattern)
	if err != nil {
		return "", false
	}
	bare, err := regexp.Compile(pattern)
	if err != nil {
		return "", false
	}
	text, _ := bare.LiteralPrefix()
	for _, candidate := range []string{text, text + "a", text + "1"} {
		if re.MatchString(candidate) {
			return candidate, true
		}
	}
	return "", false
}

// taken returns the first rule that matches a request, nil for none.
func taken(rules []policy.Rule, r *request) *policy.Rule {
	i := slices.IndexFunc(rules, func(rule policy.Rule) bool { return matches(&rule.Match, r) })
	if i < 0 {
		return nil
	}
	return &rules[i]
}

func matches(m *policy.Match, r *request) bool {
	if m.Method != "" && m.Method != r.method {
		return false
	}
	switch m.Path.Kind {
	case policy.PathPrefix:
		if p := m.Path.Value; p != "/" && r.path != p && !strings.HasPrefix(r.path, p+"/") {
			return false
		}
	case policy.PathExact:
		if m.Path.Value != r.path {
			return false
		}
	case policy.PathRegex:
		if !holds(m.Path.Value, r.path) {
			return false
		}
	}
	values := func(in []policy.ValueMatch, have map[string]string) bool {
		for _, v := range in {
			got, ok := have[v.Name]
			if !ok || v.Regex && !holds(v.Value, got) || !v.Regex && v.Value != got {
				return false
			}
		}
		return true
	}
	return values(m.Headers, r.headers) && values(m.Query, r.query)
}

func holds(pattern, value string) bool {
	re, err := policy.CompileRegex(pattern)
	return err == nil && re.MatchString(value)
}

// answer is the code that the mesh itself answers some of a rule's requests with, 0 for none.
func answer(r *policy.Rule) int {
	switch {
	case r == nil:
		return 404
	case r.Filters.Failed != "":
		return 500
	case r.Filters.Redirect != nil:
		return 0
	case len(r.Backends) == 0:
		return 500
	}
	for i := range r.Backends {
		if b := &r.Backends[i]; b.Kind == policy.InvalidBackend || b.Filters.Failed != "" {
			return 500
		}
	}
	return 0
}

// requestRisks sends samples through the rules of both sides.
func (s *serviceComparison) requestRisks(at Change, before, after []policy.Rule) {
	for _, r := range samples(before) {
		was, is := taken(before, &r), taken(after, &r)
		if answer(was) != 0 {
			continue
		}
		at.Object, at.Rule = was.Route.String(), ruleName(was.Route, was.Index, was.MatchIndex, was.Name)
		switch answer(is) {
		case 404:
			s.risk(riskAt(at, Answers404, "requests like %s are answered 404, because no rule takes them any more", r.text))
		case 500:
			s.risk(riskAt(at, Answers500, "requests like %s are answered 500, all or a part of them, by %s %s",
				r.text, is.Route, ruleName(is.Route, is.Index, is.MatchIndex, is.Name)))
		default:
			rewrote := was.Filters.Path != nil || was.Filters.Host != ""
			if rewrote && is.Filters.Path == nil && is.Filters.Host == "" && is.Filters.Redirect == nil {
				s.risk(riskAt(at, RewriteLost, "requests like %s are not rewritten any more", r.text))
			}
		}
	}
	if catchesAll(before) && !catchesAll(after) {
		s.risk(Risk{
			Target: at.Target, Port: at.Port, Callers: at.Callers, Host: at.Host, Code: DefaultRouteLost,
			Message: "every request had a route; now those that no rule takes are answered 404",
		})
	}
}

// catchesAll reports whether a rule takes whatever the others leave.
func catchesAll(rules []policy.Rule) bool {
	return slices.ContainsFunc(rules, func(r policy.Rule) bool {
		m := &r.Match
		return m.Path.Kind == policy.PathPrefix && m.Path.Value == "/" && m.Method == "" && len(m.Headers) == 0 && len(m.Query) == 0
	})
}
