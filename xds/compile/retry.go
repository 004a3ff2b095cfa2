package compile

import (
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	previoushostsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	prioritiesv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/priority/previous_priorities/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// The first retry goes to another host of the same backing, the others may go
// to the other backing: a backing that dies all at once loses no request until
// callers have noticed.
const (
	backingAttempts = 2
	// hostReselections is how often Envoy draws again when it drew a host that
	// has just failed. With two hosts, 5 draws still gave it back in 1 of 60.
	hostReselections = 16
	// backoffGrowth is how much longer than the first the longest pause between attempts is.
	backoffGrowth = 10
	// budgetPercent of a caller's active requests to a target may be retries, where no policy says
	// how many, and minRetries of them whatever their part of all.
	budgetPercent = 50
	minRetries    = 200
)

// retryTerm is a condition of a TrafficPolicy in Envoy's words
// (config.route.v3.RetryPolicy.retry_on).
func retryTerm(c v1alpha1.RetryCondition) string {
	switch c {
	case "ConnectFailure":
		return "connect-failure"
	case "RefusedStream":
		return "refused-stream"
	case "ResetBeforeRequest":
		return "reset-before-request"
	case "Reset":
		return "reset"
	case "GatewayError":
		return "gateway-error"
	case "ServerError":
		return "5xx"
	case "RetriableStatusCodes":
		return "retriable-status-codes"
	case "GRPCCancelled":
		return "cancelled"
	case "GRPCDeadlineExceeded":
		return "deadline-exceeded"
	case "GRPCInternal":
		return "internal"
	case "GRPCResourceExhausted":
		return "resource-exhausted"
	case "GRPCUnavailable":
		return "unavailable"
	}
	return ""
}

// retryPolicy returns when a request is sent again; again is true for those that may be although
// a target may have begun to act on them. Codes count for these; a failure to connect is retried for all.
func (c *Compiler) retryPolicy(r *policy.Rule, again bool) *routev3.RetryPolicy {
	retry := r.Retry()
	var terms []string
	for _, condition := range retry.After(policy.Exchange{Again: again, HTTP2: true, GRPC: true}) {
		if term := retryTerm(condition); term != "" {
			terms = append(terms, term)
		}
	}
	out := &routev3.RetryPolicy{RetryOn: strings.Join(terms, ","), NumRetries: wrapperspb.UInt32(retry.Attempts.Value)}
	if slices.Contains(terms, "retriable-status-codes") {
		out.RetriableStatusCodes = retry.StatusCodes.Value
	}
	if slices.Contains(terms, "connect-failure") {
		// The proxy beside the application has taken the connection, and the application has not.
		out.RetryOn += ",retriable-headers"
		out.RetriableHeaders = c.unreached
	}
	if backoff := retry.Backoff; !backoff.From.Default() && backoff.Value > 0 {
		out.RetryBackOff = &routev3.RetryPolicy_RetryBackOff{
			BaseInterval: durationpb.New(backoff.Value), MaxInterval: durationpb.New(backoffGrowth * backoff.Value),
		}
	}
	if retry.Attempts.Value == 0 {
		return out
	}
	if retry.AvoidPreviousHosts.Value {
		out.RetryHostPredicate, out.HostSelectionRetryMaxAttempts = c.otherHost, hostReselections
	}
	if slices.ContainsFunc(r.Backends, func(b policy.Backend) bool { return b.FailsOver() }) {
		out.RetryPriority = c.otherBacking
	}
	return out
}

// retryBudget bounds what retries add to an overloaded Service. Envoy counts a
// retried request for as long as it runs, those too whose first attempt found
// nobody there: when a backing dies, every request of that moment is one. So
// the bound is loose where there are few requests, and half of them elsewhere.
// Where a percentage is stated, that is what holds, down to Envoy's own least.
func retryBudget(s *policy.Settings) *clusterv3.CircuitBreakers_Thresholds_RetryBudget {
	if stated := s.RetryBudget(); !stated.From.Default() {
		return &clusterv3.CircuitBreakers_Thresholds_RetryBudget{BudgetPercent: &typev3.Percent{Value: float64(stated.Value)}}
	}
	return &clusterv3.CircuitBreakers_Thresholds_RetryBudget{
		BudgetPercent: &typev3.Percent{Value: budgetPercent}, MinRetryConcurrency: wrapperspb.UInt32(minRetries),
	}
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
