package explain

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
)

// mismatch returns the first reason why a rule does not match a request, "" if it does.
func mismatch(rule *policy.Rule, req *Request) string {
	m := &rule.Match
	path := req.pathOnly()
	if !pathMatches(&m.Path, path) {
		return fmt.Sprintf("path %q %s", path, not(&m.Path))
	}
	if m.Method != "" && m.Method != req.Method {
		return fmt.Sprintf("method %s is not %s", req.Method, m.Method)
	}
	for i := range m.Headers {
		if why := headerMismatch(&m.Headers[i], req.values(m.Headers[i].Name)); why != "" {
			return "header " + why
		}
	}
	for i := range m.Query {
		value, ok := req.query(m.Query[i].Name)
		if why := valueMismatch(&m.Query[i], value, ok); why != "" {
			return "query parameter " + why
		}
	}
	return ""
}

// pathMatches compares bytes: case counts, nothing is decoded and no slashes
// are merged.
func pathMatches(m *policy.PathMatch, path string) bool {
	switch m.Kind {
	case policy.PathExact:
		return path == m.Value
	case policy.PathPrefix:
		rest, ok := strings.CutPrefix(path, strings.TrimSuffix(m.Value, "/"))
		return ok && strings.HasPrefix(path, "/") && (rest == "" || rest[0] == '/')
	case policy.PathRegex:
		return wholeMatches(m.Value, path)
	}
	return false
}

func not(m *policy.PathMatch) string {
	switch m.Kind {
	case policy.PathExact:
		return fmt.Sprintf("is not %q", m.Value)
	case policy.PathPrefix:
		return fmt.Sprintf("is not %q or below it", m.Value)
	case policy.PathRegex:
	}
	return fmt.Sprintf("does not match the expression %q", m.Value)
}

// headerMismatch compares the lines of a header: one that is as wanted is enough.
func headerMismatch(m *policy.ValueMatch, lines []string) string {
	why := valueMismatch(m, "", false)
	for _, line := range lines {
		if why = valueMismatch(m, line, true); why == "" {
			return ""
		}
	}
	return why
}

func valueMismatch(m *policy.ValueMatch, value string, ok bool) string {
	switch {
	case !ok:
		return fmt.Sprintf("%q is not there", m.Name)
	case m.Regex && !wholeMatches(m.Value, value):
		return fmt.Sprintf("%q: %q does not match the expression %q", m.Name, value, m.Value)
	case !m.Regex && value != m.Value:
		return fmt.Sprintf("%q: %q is not %q", m.Name, value, m.Value)
	}
	return ""
}

// wholeMatches reports whether an RE2 expression matches the whole of s. An
// expression that is none matches nothing.
func wholeMatches(expression, s string) bool {
	re, err := regexp.Compile(`\A(?:` + expression + `)\z`)
	return err == nil && re.MatchString(s)
}

// matchText says what a match demands.
func matchText(r *policy.Rule) string {
	m := &r.Match
	var parts []string
	if m.Method != "" && !r.GRPC {
		parts = append(parts, m.Method)
	}
	switch m.Path.Kind {
	case policy.PathExact:
		parts = append(parts, "path = "+m.Path.Value)
	case policy.PathPrefix:
		parts = append(parts, "path under "+m.Path.Value)
	case policy.PathRegex:
		parts = append(parts, "path ~ "+m.Path.Value)
	}
	add := func(what string, values []policy.ValueMatch) {
		for _, v := range values {
			op := "="
			if v.Regex {
				op = "~"
			}
			parts = append(parts, fmt.Sprintf("%s %s %s %s", what, v.Name, op, v.Value))
		}
	}
	add("header", m.Headers)
	add("query", m.Query)
	return strings.Join(parts, ", ")
}

// precedence returns the criterion of the Gateway API by which one match goes
// before another that holds too.
func (e *evaluation) precedence(winner, loser *policy.Rule) string {
	w, l := &winner.Match, &loser.Match
	if w.Path.Kind != l.Path.Kind {
		return fmt.Sprintf("%s goes before %s", kindText(w.Path.Kind), kindText(l.Path.Kind))
	}
	if len(w.Path.Value) > len(l.Path.Value) && w.Path.Kind == policy.PathPrefix {
		return fmt.Sprintf("the longer prefix %s goes before %s", w.Path.Value, l.Path.Value)
	}
	if len(w.Path.Value) > len(l.Path.Value) && w.Path.Kind == policy.PathRegex {
		return fmt.Sprintf("the longer expression %s goes before %s", w.Path.Value, l.Path.Value)
	}
	if w.Method != "" && l.Method == "" {
		return "a match that names a method goes before one that does not"
	}
	if len(w.Headers) > len(l.Headers) {
		return fmt.Sprintf("%d header matches go before %d", len(w.Headers), len(l.Headers))
	}
	if len(w.Query) > len(l.Query) {
		return fmt.Sprintf("%d query parameter matches go before %d", len(w.Query), len(l.Query))
	}
	if winner.Route.Kind == loser.Route.Kind && winner.Route.Key == loser.Route.Key {
		if winner.Index != loser.Index {
			return "it stands later in the same route"
		}
		return "it is a later match of the same rule"
	}
	wo, wok := catalog.Objects.Get(e.reader, objectName(winner))
	lo, lok := catalog.Objects.Get(e.reader, objectName(loser))
	if wok && lok && !wo.Created.Equal(lo.Created) {
		return fmt.Sprintf("%s is older (%s) than %s (%s)", wo.Name(), stamp(wo), lo.Name(), stamp(lo))
	}
	return fmt.Sprintf("%s/%s comes before it by name", winner.Route.Namespace, winner.Route.Name)
}

func objectName(r *policy.Rule) string {
	return discovery.ObjectName{Kind: r.Route.Kind, Key: r.Route.Key}.String()
}

func stamp(o *discovery.Object) string { return o.Created.UTC().Format("2006-01-02 15:04:05") }

func kindText(k policy.PathKind) string {
	switch k {
	case policy.PathExact:
		return "an exact path"
	case policy.PathPrefix:
		return "a path prefix"
	case policy.PathRegex:
	}
	return "a regular expression"
}
