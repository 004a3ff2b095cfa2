package explain

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
)

// policiesOf lists effective sections by name.
func policiesOf(s *policy.Settings) []Policy {
	var out []Policy
	for _, section := range s.Sections() {
		out = append(out, Policy{Section: section.Name, From: section.From.String(), Value: section.Value})
	}
	return out
}

// policiesOfRule lists the sections of objects by name, with what the rule states in their place.
func policiesOfRule(r *policy.Rule) []Policy {
	out := policiesOf(&r.Settings)
	stated := r.Settings.Fields()
	for _, f := range r.Replaced() {
		// A field that acts on another side than the rest of its section is a section of its own: of two the longer is it.
		var of *Policy
		for i := range out {
			if p := &out[i]; (f.Path == p.Section || strings.HasPrefix(f.Path, p.Section+".")) && (of == nil || len(p.Section) > len(of.Section)) {
				of = p
			}
		}
		if of == nil {
			continue
		}
		of.Replaced = append(of.Replaced, Replaced{f.Path, f.From.String()})
		of.Void = len(of.Replaced) == len(slices.DeleteFunc(slices.Clone(stated), func(f policy.Field) bool {
			return !strings.HasPrefix(f.Path+".", of.Section+".") || f.From.String() != of.From
		}))
	}
	return out
}

// nothingOf is the effect of a section whose fields a rule states all itself.
const nothingOf = ": nothing of its "

// Void reports whether nothing of what an object states holds, its effects being these: rules state all of it themselves.
func Void(effects []string) bool {
	return len(effects) > 0 && !slices.ContainsFunc(effects, func(e string) bool { return !strings.Contains(e, nothingOf) })
}

// ruleEffects returns the sections of an object that are in force for a rule's
// requests, and the parts of them that the rule states itself. at names the
// rule.
func ruleEffects(at string, r *policy.Rule, ref discovery.ObjectRef) []string {
	var hold []string
	var out []string
	for _, p := range policiesOfRule(r) {
		from := r.Settings.From[p.Section]
		if from.Kind != ref.Kind || from.Key != ref.Key {
			continue
		}
		if p.Void {
			out = append(out, fmt.Sprintf("%s%s%s holds: %s is there instead", at, nothingOf, p.Section, p.Replaced[0].By))
			continue
		}
		name := p.Section
		if len(p.Replaced) > 0 {
			var fields []string
			for _, f := range p.Replaced {
				fields = append(fields, f.Field)
			}
			name += fmt.Sprintf(" (but %s, which %s states)", strings.Join(fields, ", "), p.Replaced[0].By)
		}
		hold = append(hold, name)
	}
	switch len(hold) {
	case 0:
	case 1:
		out = append(out, at+": its "+hold[0]+" holds")
	default:
		out = append(out, at+": its "+strings.Join(hold, ", ")+" hold")
	}
	return out
}

// times returns a bound of time, which is none for 0.
func times(name string, s policy.Setting[time.Duration]) Setting {
	return Setting{Name: name, Value: bound(s.Value), From: s.From.String()}
}

// timeoutsOf returns what bounds a request of a rule.
func timeoutsOf(r *policy.Rule) []Setting {
	t := r.Timeouts()
	return []Setting{times("request", t.Request), times("idle", t.Idle), times("attempt", t.Attempt)}
}

// persistence returns the setting that keeps the client at its endpoint, and whether it is
// at one already.
func (e *evaluation) persistence(r *policy.Rule) *Setting {
	session := r.Session()
	p := session.Value
	if p == nil {
		return nil
	}
	name := r.SessionName()
	text, has := "Cookie "+name, hasCookie(e.req.values("cookie"), name)
	if r.SessionHeader() {
		text, has = "Header "+name, e.req.header(name) != ""
	} else {
		text += ", SameSite=Lax"
		if e.secure {
			text += "; Secure"
		}
	}
	if p.AbsoluteTimeout != nil {
		text += ", absolute timeout " + string(*p.AbsoluteTimeout)
	}
	if c := p.Cookie; c != nil && c.LifetimeType != nil {
		text += ", lifetime " + string(*c.LifetimeType)
	}
	if has {
		text += ": the request has it and goes to the endpoint that it names, as long as that one is in use"
	} else {
		text += ": the request has none, so any endpoint takes it, and the answer names that one"
	}
	return &Setting{Name: "sessionPersistence", Value: text, From: session.From.String()}
}

// cors takes note of what a CORS filter says of the request's origin and
// returns the answer to a preflight request (Fetch standard).
func (e *evaluation) cors(c *policy.CORS) *Answer {
	origin := e.req.header("origin")
	e.out.CORS = &CORS{AllowOrigins: c.AllowOrigins, Allowed: allows(c.AllowOrigins, origin)}
	if e.req.Method != methodOptions || origin == "" || e.req.header("access-control-request-method") == "" {
		return nil
	}
	if e.out.CORS.Allowed {
		return &Answer{Status: 200, Because: "it is a CORS preflight request from an origin that the rule's CORS filter allows"}
	}
	return &Answer{Status: 200, Because: "it is a CORS preflight request from an origin that the rule's CORS filter does not allow: the answer says so by saying nothing"}
}

// allows reports whether one of a CORS filter's origins is an origin. "*" stands for anything on its left.
func allows(origins []string, origin string) bool {
	for _, o := range origins {
		before, after, wild := cutWildcard(o)
		if o == origin || (wild && len(origin) >= len(before)+len(after) &&
			origin[:len(before)] == before && origin[len(origin)-len(after):] == after) {
			return true
		}
	}
	return false
}

func cutWildcard(s string) (before, after string, found bool) {
	for i := range len(s) {
		if s[i] == '*' {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}
