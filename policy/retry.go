package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

var (
	retryBudgetSection = SectionDef{
		"retry.budgetPercent", "retry", ClusterLayer, true,
		func(s *settings) bool { return s.Retry != nil && s.Retry.BudgetPercent != nil },
		func(to, from *settings) { edit(&to.Retry).BudgetPercent = from.Retry.BudgetPercent },
	}
	retrySection = SectionDef{
		"retry", "retry", RequestLayer, true,
		func(s *settings) bool { return s.Retry != nil && !onlyBudget(s.Retry) },
		func(to, from *settings) {
			budget := edit(&to.Retry).BudgetPercent
			*to.Retry = *from.Retry
			to.Retry.BudgetPercent = budget
		},
	}
)

func onlyBudget(r *v1alpha1.Retry) bool {
	return r.BudgetPercent != nil && r.Attempts == nil && r.PerTry == nil && r.Backoff == nil && len(r.RetryOn) == 0 &&
		len(r.StatusCodes) == 0 && len(r.Methods) == 0 && r.AvoidPreviousHosts == nil
}

var retryConditions = []string{
	"ConnectFailure", "RefusedStream", "ResetBeforeRequest", "Reset", "GatewayError", "ServerError", "RetriableStatusCodes",
	"GRPCCancelled", "GRPCDeadlineExceeded", "GRPCInternal", "GRPCResourceExhausted", "GRPCUnavailable",
}

func checkRetry(c *Checker, s *settings) {
	r := s.Retry
	if r == nil {
		return
	}
	c.number("retry.attempts", r.Attempts, 0, 10)
	c.duration("retry.perTry", r.PerTry, time.Millisecond, longest, true)
	c.duration("retry.backoff", r.Backoff, time.Millisecond, time.Hour, false)
	for i, on := range r.RetryOn {
		c.oneOf(fmt.Sprintf("retry.retryOn[%d]", i), string(on), retryConditions...)
	}
	for i := range r.StatusCodes {
		c.number(fmt.Sprintf("retry.statusCodes[%d]", i), &r.StatusCodes[i], 400, 599)
	}
	for i, m := range r.Methods {
		if !methodPattern.MatchString(m) {
			c.bad(fmt.Sprintf("retry.methods[%d]", i), fmt.Sprintf("%q is not a method", m), "write it in capitals, like GET")
		}
	}
	c.number("retry.budgetPercent", r.BudgetPercent, 1, 100)
}

// Defaults of Retry.
const (
	// DefaultAttempts is how often a request is sent again at most.
	DefaultAttempts = 4
	// DefaultBackoff is Envoy's (config.route.v3.RetryPolicy.RetryBackOff).
	DefaultBackoff = 25 * time.Millisecond
)

// Retry says when a request is sent again.
//
// Where nothing of the request reached a host, sending it again is safe for
// every method. A 503, or a connection that ends before the answer begins, may
// come from a host that did begin, so only methods that are safe by definition
// (RFC 9110, section 9.2.1) are sent again; nginx does the same
// (proxy_next_upstream). A 502 or 504 says that the application failed or was
// too slow, which a second time makes worse.
type Retry struct {
	// Attempts after the first, 0 for never.
	Attempts Setting[uint32]
	// On lists the failures after which a request is sent again.
	On Setting[[]v1alpha1.RetryCondition]
	// StatusCodes that RetriableStatusCodes means.
	StatusCodes Setting[[]uint32]
	// Methods, sorted, that may be sent again although the target may have begun to act on them.
	Methods Setting[[]string]
	// Backoff is the base of the exponential pause between attempts.
	Backoff Setting[time.Duration]
	// AvoidPreviousHosts has a retry go to another endpoint.
	AvoidPreviousHosts Setting[bool]
	// From is what states Attempts, or the section that they are the default of: the rule itself, else a policy.
	From Origin
}

// Unsent reports whether a failure leaves nothing at the target, so that every
// method may be sent again.
func Unsent(c v1alpha1.RetryCondition) bool {
	return c == "ConnectFailure" || c == "RefusedStream" || c == "ResetBeforeRequest"
}

// isGRPC reports whether a failure is a status of gRPC.
func isGRPC(c v1alpha1.RetryCondition) bool { return strings.HasPrefix(string(c), "GRPC") }

// Exchange is what there is to know of a request before it is sent.
type Exchange struct {
	// Again is true if its method may be sent again although the target may have begun to act on it.
	Again bool
	// HTTP2 is true if it may reach an endpoint over HTTP/2, and GRPC if it is gRPC.
	HTTP2, GRPC bool
}

// After returns the failures of a request after which it is sent again. Where
// there are none, it never is, whatever Attempts says.
func (r *Retry) After(x Exchange) []v1alpha1.RetryCondition {
	var out []v1alpha1.RetryCondition
	for _, c := range r.On.Value {
		if r.never(c, x) == "" && !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	if r.Attempts.Value == 0 {
		return nil
	}
	return out
}

// never says why a failure after which requests are sent again cannot be one of a request, "" if it can.
func (r *Retry) never(c v1alpha1.RetryCondition, x Exchange) string {
	switch {
	case c == "RefusedStream" && !x.HTTP2:
		return "only HTTP/2 refuses streams"
	case isGRPC(c) && !(x.GRPC && x.HTTP2):
		return "it is a status of gRPC"
	case !Unsent(c) && !x.Again:
		return "the target may have begun to act then"
	case c == "RetriableStatusCodes" && len(r.StatusCodes.Value) == 0:
		return "there are no status codes"
	}
	return ""
}

// Retry returns when a rule's requests are sent again. The rule's own fields
// beat a TrafficPolicy's, field by field.
func (r *Rule) Retry() Retry {
	out := Retry{
		Attempts:           Setting[uint32]{Value: DefaultAttempts},
		On:                 Setting[[]v1alpha1.RetryCondition]{Value: []v1alpha1.RetryCondition{"ConnectFailure", "RefusedStream", "ResetBeforeRequest", "Reset", "RetriableStatusCodes"}},
		StatusCodes:        Setting[[]uint32]{Value: []uint32{503}},
		Methods:            Setting[[]string]{Value: []string{"GET", "HEAD", "OPTIONS"}},
		Backoff:            Setting[time.Duration]{Value: DefaultBackoff},
		AvoidPreviousHosts: Setting[bool]{Value: true},
	}
	if s := r.inForce(); s.Stated.Retry != nil {
		out.take(s)
	}
	return out
}

// Attempts returns how many times a request to a Service is sent at most by the rules
// of its own ports: once, and as often again as they say.
func (m *Service) Attempts() uint32 {
	most := uint32(0)
	take := func(rules []Rule) {
		for i := range rules {
			most = max(most, rules[i].Retry().Attempts.Value)
		}
	}
	for i := range m.Ports {
		p := &m.Ports[i]
		switch {
		case p.Protocol == TCP:
		case p.HTTP == nil:
			take([]Rule{{Settings: p.Settings}})
		default:
			take(p.HTTP.Rules)
		}
		for _, routes := range p.ConsumerHTTP {
			take(routes.Rules)
		}
	}
	return most + 1
}

// take takes over what settings state.
func (r *Retry) take(s *Settings) {
	t := s.Stated.Retry
	from := func(field string) Origin { return s.origin("retry."+field, "retry") }
	r.From = from("attempts")
	if t.Attempts != nil {
		r.Attempts.state(uint32(*t.Attempts), from("attempts")) //nolint:gosec // at most maxAttempts
	}
	if len(t.RetryOn) > 0 {
		r.On.state(t.RetryOn, from("retryOn"))
	}
	// A rule that states a retry without codes means none, a policy the default.
	if _, own := s.FromRule["retry.statusCodes"]; own || len(t.StatusCodes) > 0 {
		var codes []uint32
		for _, code := range t.StatusCodes {
			codes = append(codes, uint32(code)) //nolint:gosec // 400 to 599
		}
		r.StatusCodes.state(codes, from("statusCodes"))
	}
	if len(t.Methods) > 0 {
		methods := slices.Clone(t.Methods)
		slices.Sort(methods)
		r.Methods.state(slices.Compact(methods), from("methods"))
	}
	stateDuration(&r.Backoff, t.Backoff, from("backoff"))
	if t.AvoidPreviousHosts != nil {
		r.AvoidPreviousHosts.state(*t.AvoidPreviousHosts, from("avoidPreviousHosts"))
	}
}

// RetryBudget returns how many percent of a caller's active requests to a target may
// be retries, 0 where none is stated and the default holds.
func (s *Settings) RetryBudget() Setting[uint32] {
	var out Setting[uint32]
	if t := s.Stated.Retry; t != nil && t.BudgetPercent != nil {
		out.state(uint32(*t.BudgetPercent), s.origin("retry.budgetPercent")) //nolint:gosec // 1 to 100
	}
	return out
}

// RouteRetry is a rule's retry stanza (GEP-1731).
type RouteRetry struct {
	// Codes of answers after which a request is sent again.
	Codes    []uint32
	Attempts uint32
	Backoff  time.Duration // 0: none is stated
}

// over replaces in a policy's section what the stanza states.
func (t *RouteRetry) over(to *v1alpha1.Retry) {
	to.Attempts, to.StatusCodes = new(int32(t.Attempts)), nil //nolint:gosec // at most maxAttempts
	for _, code := range t.Codes {
		to.StatusCodes = append(to.StatusCodes, int32(code)) //nolint:gosec // 400 to 599
	}
	if t.Backoff > 0 {
		to.Backoff = &metav1.Duration{Duration: t.Backoff}
	}
}

// MaxAttempts of a rule's retry stanza: beyond it a retry is a load test.
const MaxAttempts = 100

// ownRetry replaces the fields of policies by those that a rule states itself.
func (r *Rule) ownRetry(s *Settings) {
	if t := r.Own.Retry; t != nil {
		t.over(copied(&s.Stated.Retry))
		from := r.own("retry")
		s.FromRule["retry.attempts"], s.FromRule["retry.statusCodes"] = from, from
		if t.Backoff > 0 {
			s.FromRule["retry.backoff"] = from
		}
	}
	if d := r.Own.BackendRequest; d != nil {
		copied(&s.Stated.Retry).PerTry, s.FromRule["retry.perTry"] = &metav1.Duration{Duration: *d}, r.own("timeouts.backendRequest")
	}
}

// UnmetFailures warns of failures after which requests shall be sent again that requests to a target,
// which text names, cannot meet. of says what requests to it can be, given the methods
// that may be sent again, and false where the target speaks no HTTP.
func UnmetFailures(t *v1alpha1.Retry, text string, of func(methods []string) (Exchange, bool)) []Finding {
	if t == nil || len(t.RetryOn) == 0 || (t.Attempts != nil && *t.Attempts == 0) {
		return nil
	}
	rule := Rule{Settings: Settings{Stated: v1alpha1.TrafficSettings{Retry: t}}}
	retry := rule.Retry()
	x, speaks := of(retry.Methods.Value)
	if !speaks {
		return nil
	}
	all := ""
	if len(retry.After(x)) == 0 {
		all = ", and nothing else is listed, so no request is sent again"
	}
	var out []Finding
	for i, c := range t.RetryOn {
		because := retry.never(c, x)
		if because == "" {
			continue
		}
		remedy := "remove it, or name ConnectFailure"
		switch {
		case isGRPC(c) && x.HTTP2:
			because, remedy = "requests of gRPC are POST, which methods does not list", "write methods: [POST] if they may be sent again although the target may have begun to act"
		case !x.HTTP2:
			because, remedy = because+", and "+text+" speaks HTTP/1.1", "remove it, or name the port's protocol, for example appProtocol: grpc"
		}
		out = append(out, Finding{
			Severity: Warning, Field: fmt.Sprintf("spec.retry.retryOn[%d]", i), Condition: v1alpha1.ConditionAccepted, Reason: ReasonAccepted,
			Message: fmt.Sprintf("%s is never met: %s%s", c, because, all), Remedy: remedy,
		})
	}
	return out
}
