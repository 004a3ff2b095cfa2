package compile

import (
	"strconv"
	"time"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	headermutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Timeouts. Envoy's router counts a request that met the route's timeout, or an
// attempt that met its own, as a failure of the endpoint's connection, and a few
// slow pages asked for at once would take every endpoint out of use. So the
// time of a request is bounded by how long its stream may last, and that of an attempt
// by how long the stream to the endpoint may, neither of which bears
// on the endpoint. The streams of websockets last for as long as they are used:
// requests for an upgrade take a route that bounds neither.

// streamDuration returns how long a request may take. Callers' grpc-timeout is
// honoured as far as that allows.
func streamDuration(d time.Duration, v *variant) *routev3.RouteAction_MaxStreamDuration {
	if v.upgrade {
		d = 0
	}
	out := &routev3.RouteAction_MaxStreamDuration{GrpcTimeoutHeaderMax: durationpb.New(d)}
	if d > 0 {
		out.MaxStreamDuration = durationpb.New(d)
	}
	return out
}

// attemptHeader tells Envoy's router how many milliseconds a stream to an endpoint may last.
const attemptHeader = "x-envoy-upstream-stream-duration-ms"

// boundAttempts has each attempt of a route's requests end after a time.
func boundAttempts(r *routev3.Route, d time.Duration) {
	if r.TypedPerFilterConfig == nil {
		r.TypedPerFilterConfig = make(map[string]*anypb.Any)
	}
	r.TypedPerFilterConfig[attemptFilter] = toAny(&headermutationv3.HeaderMutationPerRoute{Mutations: &headermutationv3.Mutations{
		RequestMutations: []*mutationv3.HeaderMutation{{Action: &mutationv3.HeaderMutation_Append{Append: &corev3.HeaderValueOption{
			Header:       &corev3.HeaderValue{Key: attemptHeader, Value: strconv.FormatInt(max(d.Milliseconds(), 1), 10)},
			AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		}}}},
	}})
}

// upgrades matches requests that ask for a websocket.
func upgrades() *routev3.HeaderMatcher {
	return headerMatcher("upgrade", &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: websocket}, IgnoreCase: true})
}
