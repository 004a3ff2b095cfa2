package compile

import (
	"slices"
	"strings"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	previoushostsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	prioritiesv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/priority/previous_priorities/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Retries. Where nothing of the request reached a host, sending it again is
// safe for every method. A 503, or a connection that ends before the answer
// begins, may come from a host that did begin, so only methods that are safe by
// definition (RFC 9110, section 9.2.1) are sent again; nginx does the same
// (proxy_next_upstream). A 502 or 504 says that the application failed or was
// too slow, which a second time makes worse.
//
// The first retry goes to another host of the same backing, the others may go
// to the other backing: a backing that dies all at once loses no request until
// callers have noticed.
const (
	retries         = 4
	backingAttempts = 2
	// hostReselections is how often Envoy draws again when it drew a host that
	// has just failed. With two hosts, 5 draws still gave it back in 1 of 60.
	hostReselections = 16
	// backoffGrowth is how much longer than the first the longest pause between attempts is.
	backoffGrowth = 10
)

// retryTerms are the conditions of a TrafficPolicy in Envoy's words
// (config.route.v3.RetryPolicy.retry_on). Those of unsent leave nothing at the
// target.
func retryTerm(c v1alpha1.RetryCondition) (term string, unsent bool) {
	switch c {
	case "ConnectFailure":
		return "connect-failure", true
	case "RefusedStream":
		return "refused-stream", true
	case "ResetBeforeRequest":
		return "reset-before-request", true
	case "Reset":
		return "reset", false
	case "GatewayError":
		return "gateway-error", false
	case "ServerError":
		return "5xx", false
	case "RetriableStatusCodes":
		return "retriable-status-codes", false
	case "GRPCCancelled":
		return "cancelled", false
	case "GRPCDeadlineExceeded":
		return "deadline-exceeded", false
	case "GRPCInternal":
		return "internal", false
	case "GRPCResourceExhausted":
		return "resource-exhausted", false
	case "GRPCUnavailable":
		return "unavailable", false
	}
	return "", false
}

func defaultRetryOn() []v1alpha1.RetryCondition {
	return []v1alpha1.RetryCondition{"ConnectFailure", "RefusedStream", "ResetBeforeRequest", "Reset", "RetriableStatusCodes"}
}

// retryMethods returns the methods that may be sent again although a target
// may have begun to act on them.
func retryMethods(r *policy.Rule) []string {
	if t := r.Settings.Retry; t != nil && len(t.Methods) > 0 {
		methods := slices.Clone(t.Methods)
		slices.Sort(methods)
		return slices.Compact(methods)
	}
	return []string{"GET", "HEAD", "OPTIONS"}
}

// retryPolicy returns when a request is sent again. What the rule itself states
// (GEP-1731) beats a TrafficPolicy, field by field. Its codes count for the
// methods that may be sent again; a failure to connect is retried for all.
func (c *Compiler) retryPolicy(r *policy.Rule, again bool) *routev3.RetryPolicy {
	attempts, on, codes, avoid := uint32(retries), defaultRetryOn(), []uint32{503}, true
	var backoff time.Duration
	if t := r.Settings.Retry; t != nil {
		if t.Attempts != nil {
			attempts = uint32(*t.Attempts)
		}
		if len(t.RetryOn) > 0 {
			on = t.RetryOn
		}
		if len(t.StatusCodes) > 0 {
			codes = nil
			for _, code := range t.StatusCodes {
				codes = append(codes, uint32(code))
			}
		}
		if t.Backoff != nil {
			backoff = t.Backoff.Duration
		}
		avoid = t.AvoidPreviousHosts == nil || *t.AvoidPreviousHosts
	}
	if t := r.Retry; t != nil {
		attempts, codes = t.Attempts, t.Codes
		if t.Backoff > 0 {
			backoff = t.Backoff
		}
	}
	var terms []string
	for _, condition := range on {
		term, unsent := retryTerm(condition)
		if term != "" && (unsent || again) && !slices.Contains(terms, term) {
			terms = append(terms, term)
		}
	}
	out := &routev3.RetryPolicy{RetryOn: strings.Join(terms, ","), NumRetries: wrapperspb.UInt32(attempts)}
	if slices.Contains(terms, "retriable-status-codes") {
		out.RetriableStatusCodes = codes
	}
	if backoff > 0 {
		out.RetryBackOff = &routev3.RetryPolicy_RetryBackOff{
			BaseInterval: durationpb.New(backoff), MaxInterval: durationpb.New(backoffGrowth * backoff),
		}
	}
	if attempts == 0 {
		return out
	}
	if avoid {
		out.RetryHostPredicate, out.HostSelectionRetryMaxAttempts = c.otherHost, hostReselections
	}
	if slices.ContainsFunc(r.Backends, func(b policy.Backend) bool { return b.Failover && len(b.Targets) == 2 }) {
		out.RetryPriority = c.otherBacking
	}
	return out
}

func otherHost() []*routev3.RetryPolicy_RetryHostPredicate {
	return []*routev3.RetryPolicy_RetryHostPredicate{{
		Name:       "envoy.retry_host_predicates.previous_hosts",
		ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{TypedConfig: toAny(&previoushostsv3.PreviousHostsPredicate{})},
	}}
}

func otherBacking() *routev3.RetryPolicy_RetryPriority {
	return &routev3.RetryPolicy_RetryPriority{
		Name: "envoy.retry_priorities.previous_priorities",
		ConfigType: &routev3.RetryPolicy_RetryPriority_TypedConfig{
			TypedConfig: toAny(&prioritiesv3.PreviousPrioritiesConfig{UpdateFrequency: backingAttempts}),
		},
	}
}
