package explain

import (
	"slices"
	"time"

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
	out := &Retry{Attempts: in.Attempts.Value, From: in.From.String(), Backoff: durationText(in.Backoff.Value)}
	if t := r.Timeouts().Attempt; !t.From.Default() {
		out.PerTry = durationText(t.Value)
	}
	if out.Attempts == 0 {
		out.Because, out.Backoff = "retries are off", ""
		return out
	}
	safe := slices.Contains(in.Methods.Value, e.req.Method)
	for _, c := range in.On.Value {
		if safe || policy.Unsent(c) {
			out.On = append(out.On, string(c))
		}
	}
	out.Because = e.req.Method + " is sent again only where nothing reached the target"
	if safe {
		out.Because = e.req.Method + " may be sent again although the target may have begun to act on it"
	}
	if slices.Contains(out.On, "RetriableStatusCodes") {
		out.StatusCodes = in.StatusCodes.Value
	}
	return out
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
