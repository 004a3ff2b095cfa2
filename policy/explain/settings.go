package explain

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// fromDefault is the source of what nobody has said.
const fromDefault = "default"

// Defaults that hold where no object says otherwise.
const (
	defaultConnect  = 2 * time.Second
	defaultIdle     = time.Hour
	defaultAttempts = 4
	defaultBackoff  = 25 * time.Millisecond
)

// from names the object that a section comes from.
func from(s *policy.Settings, section string) string {
	if ref, ok := s.From[section]; ok {
		return ref.String()
	}
	return fromDefault
}

// policiesOf lists effective sections by name.
func policiesOf(s *policy.Settings) []Policy {
	values := map[string]any{
		"timeout": s.Timeout, "retry": s.Retry, "connectionPool": s.ConnectionPool, "outlierDetection": s.OutlierDetection,
		"healthCheck": s.HealthCheck, "loadBalancer": s.LoadBalancer, "locality": s.Locality,
		"sessionPersistence": s.SessionPersistence, "fault": s.Fault, "proxyProtocol": s.ProxyProtocol, "tls": s.TLS,
	}
	var out []Policy
	for section, ref := range s.From {
		out = append(out, Policy{Section: section, From: ref.String(), Value: values[section]})
	}
	slices.SortFunc(out, func(a, b Policy) int { return compare(a.Section, b.Section) })
	return out
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// own names a field of the rule itself.
func own(r *policy.Rule, field string) string {
	return fmt.Sprintf("%s rules[%d].%s", r.Route, r.Index, field)
}

// timeoutsOf returns what bounds a request of a rule. What the rule states
// itself beats TrafficPolicies.
func timeoutsOf(r *policy.Rule) []Setting {
	request := Setting{Name: "request", Value: "none", From: fromDefault}
	idle := Setting{Name: "idle", Value: durationText(defaultIdle), From: fromDefault}
	if t := r.Settings.Timeout; t != nil {
		set(&request, t.Request, from(&r.Settings, "timeout"))
		set(&idle, t.Idle, from(&r.Settings, "timeout"))
	}
	if r.Request != nil {
		request.Value, request.From = durationText(*r.Request), own(r, "timeouts.request")
	}
	out := []Setting{request, idle}
	attempt := Setting{Name: "attempt", Value: "none", From: fromDefault}
	if t := r.Settings.Retry; t != nil {
		set(&attempt, t.PerTry, from(&r.Settings, "retry"))
	}
	if r.BackendRequest != nil {
		attempt.Value, attempt.From = durationText(*r.BackendRequest), own(r, "timeouts.backendRequest")
	}
	return append(out, attempt)
}

func set(s *Setting, d *metav1.Duration, from string) {
	if d != nil {
		s.Value, s.From = durationText(d.Duration), from
	}
}

// Failures after which a request is sent again, in TrafficPolicy's words. The first three
// leave nothing at the target, so every method may be sent again.
var (
	unsent      = []string{"ConnectFailure", "RefusedStream", "ResetBeforeRequest"}
	safeFailure = []string{"Reset", "RetriableStatusCodes"}
)

var safeMethods = []string{"GET", "HEAD", "OPTIONS"}

// methodsOf returns the methods that may be sent again although the target may
// have begun to act on them.
func methodsOf(r *policy.Rule) []string {
	if t := r.Settings.Retry; t != nil && len(t.Methods) > 0 {
		return t.Methods
	}
	return safeMethods
}

// takesSafeHalf reports whether the request takes the half of its route that
// methods of methodsOf take.
func (e *evaluation) takesSafeHalf(r *policy.Rule) bool {
	if r.Filters.Redirect != nil || r.Filters.Failed != "" || len(r.Backends) == 0 {
		return false
	}
	return slices.Contains(methodsOf(r), e.req.Method)
}

// retryOf returns when the request is sent again.
func (e *evaluation) retryOf(r *policy.Rule) *Retry {
	out := &Retry{Attempts: defaultAttempts, From: fromDefault, Backoff: durationText(defaultBackoff)}
	on, codes := append(slices.Clone(unsent), safeFailure...), []uint32{503}
	if t := r.Settings.Retry; t != nil {
		out.From = from(&r.Settings, "retry")
		if t.Attempts != nil {
			out.Attempts = uint32(*t.Attempts)
		}
		if t.Backoff != nil {
			out.Backoff = durationText(t.Backoff.Duration)
		}
		if t.PerTry != nil {
			out.PerTry = durationText(t.PerTry.Duration)
		}
		if len(t.RetryOn) > 0 {
			on = nil
			for _, c := range t.RetryOn {
				on = append(on, string(c))
			}
		}
		if len(t.StatusCodes) > 0 {
			codes = nil
			for _, c := range t.StatusCodes {
				codes = append(codes, uint32(c))
			}
		}
	}
	if t := r.Retry; t != nil {
		out.From, out.Attempts = own(r, "retry"), t.Attempts
		if t.Backoff != 0 {
			out.Backoff = durationText(t.Backoff)
		}
		codes = t.Codes
	}
	if r.BackendRequest != nil {
		out.PerTry = durationText(*r.BackendRequest)
	}
	if out.Attempts == 0 {
		out.Because, out.Backoff = "retries are off", ""
		return out
	}
	if slices.Contains(methodsOf(r), e.req.Method) {
		out.On = on
		out.Because = e.req.Method + " may be sent again although the target may have begun to act on it"
	} else {
		for _, c := range on {
			if slices.Contains(unsent, c) {
				out.On = append(out.On, c)
			}
		}
		out.Because = e.req.Method + " is sent again only where nothing reached the target"
	}
	if slices.Contains(out.On, "RetriableStatusCodes") {
		out.StatusCodes = codes
	}
	return out
}

// persistence says what keeps the client at its endpoint, and whether it is at one already.
func (e *evaluation) persistence(r *policy.Rule) *Setting {
	p := r.Sessions()
	if p == nil {
		return nil
	}
	source := own(r, "sessionPersistence")
	if r.SessionPersistence == nil {
		source = from(&r.Settings, "sessionPersistence")
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
	return &Setting{Name: "sessionPersistence", Value: text, From: source}
}

// fault takes note of the effective fault section and returns the answer if
// every request gets it.
func (e *evaluation) fault(r *policy.Rule) *Answer {
	f := r.Settings.Fault
	if f == nil || (f.Abort != nil && f.Abort.GRPCStatus != nil && !isGRPC(&e.req)) {
		return nil
	}
	v := &Fault{From: from(&r.Settings, "fault")}
	if f.Delay != nil {
		v.Delay, v.DelayPercent = f.Delay.Duration.Duration.String(), percent(f.Delay.Percent)
	}
	if f.Abort != nil {
		v.AbortPercent = percent(f.Abort.Percent)
		if f.Abort.Status != nil {
			v.AbortStatus = int(*f.Abort.Status)
		}
		if f.Abort.GRPCStatus != nil {
			code := int(*f.Abort.GRPCStatus)
			v.AbortGRPC = &code
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

func percent(p v1alpha1.Percent) float64 {
	v, err := strconv.ParseFloat(string(p), 64)
	if err != nil {
		return 0 // the schema admits nothing else than a number
	}
	return v
}

// cors takes note of what a CORS filter says of the request's origin and
// returns the answer to a preflight request (Fetch standard).
func (e *evaluation) cors(c *policy.CORS) *Answer {
	origin := e.req.header("origin")
	e.out.CORS = &CORS{AllowOrigins: c.AllowOrigins, Allowed: allows(c.AllowOrigins, origin)}
	if e.req.Method != http.MethodOptions || origin == "" || e.req.header("access-control-request-method") == "" {
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
