package explain

import (
	"slices"

	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Retry says when the request is sent again.
type Retry struct {
	// Attempts after the first, 0 for never.
	Attempts uint32 `json:"attempts"`
	// From is the origin of Attempts; the other fields of this kind are the origins
	// of those beside them.
	From string `json:"from"`
	// On lists the failures that the request can meet, in TrafficPolicy's words. OnFrom says what lists them.
	On              []string `json:"on,omitempty"`
	OnFrom          string   `json:"onFrom,omitempty"`
	StatusCodes     []uint32 `json:"statusCodes,omitempty"`
	StatusCodesFrom string   `json:"statusCodesFrom,omitempty"`
	PerTry          string   `json:"perTry,omitempty"`
	PerTryFrom      string   `json:"perTryFrom,omitempty"`
	// Backoff is the first pause before the request is sent again.
	Backoff     string `json:"backoff,omitempty"`
	BackoffFrom string `json:"backoffFrom,omitempty"`
	// Because tells what the request's method and protocol allow. MethodsFrom is the object
	// that lists the methods which may be sent again although the target may have begun to act
	// on them.
	Because     string `json:"because"`
	MethodsFrom string `json:"methodsFrom,omitempty"`
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
		out.PerTry, out.PerTryFrom = bound(t.Value), t.From.String()
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
	out.Backoff, out.BackoffFrom = bound(in.Backoff.Value), in.Backoff.From.String()
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
	return slices.ContainsFunc(r.Backends, func(b policy.Backend) bool { return b.Protocol.CarriesGRPC() })
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
