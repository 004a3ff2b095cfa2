package explain

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
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

// ruleEffects says which sections of an object hold for a rule's requests, and
// which parts of them the rule states itself. at says where the rule is.
func ruleEffects(at string, r *policy.Rule, ref discovery.ObjectRef) []string {
	var hold []string
	var out []string
	for _, p := range policiesOfRule(r) {
		from := r.Settings.From[p.Section]
		if from.Kind != ref.Kind || from.Key != ref.Key {
			continue
		}
		if p.Void {
			out = append(out, fmt.Sprintf("%s: nothing of its %s holds, because %s is there instead", at, p.Section, p.Replaced[0].By))
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
	out := Setting{Name: name, Value: durationText(s.Value), From: s.From.String()}
	if s.Value == 0 && s.From.Default() {
		out.Value = "none"
	}
	return out
}

// timeoutsOf returns what bounds a request of a rule.
func timeoutsOf(r *policy.Rule) []Setting {
	t := r.Timeouts()
	return []Setting{times("request", t.Request), times("idle", t.Idle), times("attempt", t.Attempt)}
}

// takesSafeHalf reports whether the request takes the half of its route that
// methods take which may be sent again although the target may have begun to act on them.
func (e *evaluation) takesSafeHalf(r *policy.Rule) bool {
	if r.Filters.Redirect != nil || r.Filters.Failed != "" || len(r.Backends) == 0 {
		return false
	}
	return slices.Contains(r.Retry().Methods.Value, e.req.Method)
}

// retryOf returns when the request is sent again.
func (e *evaluation) retryOf(r *policy.Rule) *Retry {
	in := r.Retry()
	out := &Retry{From: in.From.String(), MethodsFrom: in.Methods.From.String()}
	if t := r.Timeouts().Attempt; !t.From.Default() {
		out.PerTry, out.PerTryFrom = durationText(t.Value), t.From.String()
	}
	if in.Attempts.Value == 0 {
		out.Because, out.MethodsFrom = "retries are off", ""
		return out
	}
	safe := slices.Contains(in.Methods.Value, e.req.Method)
	on := in.After(policy.Exchange{Again: safe, HTTP2: overHTTP2(r), GRPC: isGRPC(&e.req)})
	out.OnFrom = in.On.From.String()
	if len(on) == 0 {
		out.Because = e.neverAgain(&in, safe)
		return out
	}
	for _, c := range on {
		out.On = append(out.On, string(c))
	}
	out.Attempts = in.Attempts.Value
	out.Backoff, out.BackoffFrom = durationText(in.Backoff.Value), in.Backoff.From.String()
	out.Because = e.req.Method + " is sent again only where nothing reached the target"
	if safe {
		out.Because = e.req.Method + " may be sent again although the target may have begun to act on it"
	}
	if slices.Contains(on, "RetriableStatusCodes") {
		out.StatusCodes, out.StatusCodesFrom = in.StatusCodes.Value, in.StatusCodes.From.String()
	}
	return out
}

// overHTTP2 reports whether a rule's requests may reach an endpoint over HTTP/2.
func overHTTP2(r *policy.Rule) bool {
	return slices.ContainsFunc(r.Backends, func(b policy.Backend) bool { return b.Protocol == policy.HTTP2 })
}

// neverAgain says why nothing that can befall the request is listed in retryOn.
func (e *evaluation) neverAgain(in *policy.Retry, safe bool) string {
	what := "an HTTP/1.1 request"
	switch {
	case !safe && slices.ContainsFunc(in.On.Value, func(c v1alpha1.RetryCondition) bool { return !policy.Unsent(c) }):
		return e.req.Method + " is sent again only where nothing reached the target, and retryOn lists no such failure: add ConnectFailure, or " + e.req.Method + " to methods"
	case isGRPC(&e.req):
		what = "this request"
	}
	return "retryOn lists nothing that " + what + " can meet: add ConnectFailure"
}

// persistence says what keeps the client at its endpoint, and whether it is at one already.
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

// fault takes note of the effective fault section and returns the answer if
// every request gets it.
func (e *evaluation) fault(r *policy.Rule) *Answer {
	f := r.Settings.Fault()
	if f == nil || (f.Abort != nil && f.Abort.GRPCStatus != nil && !isGRPC(&e.req)) {
		return nil
	}
	v := &Fault{From: f.From.String()}
	if f.Delay != nil {
		v.Delay, v.DelayPercent = f.Delay.Duration.String(), float64(f.Delay.Part)/100
	}
	if f.Abort != nil {
		v.AbortPercent, v.AbortStatus = float64(f.Abort.Part)/100, int(f.Abort.Status)
		if code := f.Abort.GRPCStatus; code != nil {
			v.AbortGRPC = new(int(*code))
		}
	}
	e.out.Fault = v
	if v.AbortPercent < 100 {
		return nil
	}
	because := "the fault section of " + v.From + " aborts every request"
	if v.AbortGRPC != nil {
		return &Answer{Status: 200, GRPCStatus: v.AbortGRPC, Because: because}
	}
	return e.answer(v.AbortStatus, because)
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
