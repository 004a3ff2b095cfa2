package compile

import (
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	commonfaultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/fault/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/causeway-mesh/causeway/policy"
)

func fault(in *policy.Fault) *faultv3.HTTPFault {
	out := &faultv3.HTTPFault{}
	if in.Abort != nil && in.Abort.GRPCStatus != nil {
		// Others would take the answer for an empty 200.
		out.Headers = []*routev3.HeaderMatcher{headerMatcher("content-type", &matcherv3.StringMatcher{
			MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: regex(`application/grpc(\+.*)?`)},
		})}
	}
	if d := in.Delay; d != nil {
		out.Delay = &commonfaultv3.FaultDelay{
			FaultDelaySecifier: &commonfaultv3.FaultDelay_FixedDelay{FixedDelay: durationpb.New(d.Duration)}, Percentage: fraction(d.Part),
		}
	}
	if a := in.Abort; a != nil {
		out.Abort = &faultv3.FaultAbort{Percentage: fraction(a.Part)}
		if a.GRPCStatus != nil {
			out.Abort.ErrorType = &faultv3.FaultAbort_GrpcStatus{GrpcStatus: *a.GRPCStatus}
		} else if a.Status != 0 {
			out.Abort.ErrorType = &faultv3.FaultAbort_HttpStatus{HttpStatus: a.Status}
		}
	}
	return out
}

const (
	faultFilter = "envoy.filters.http.fault"
)
