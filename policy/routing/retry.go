package routing

import (
	"fmt"
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/policy"
)

func (b *routeBuilder) retry(field string, in *gatewayv1.HTTPRouteRetry) *policy.RouteRetry {
	if in == nil {
		return nil
	}
	out := &policy.RouteRetry{Attempts: 1}
	if in.Attempts != nil {
		if *in.Attempts < 0 || *in.Attempts > policy.MaxAttempts {
			b.invalid(policy.ReasonUnsupported, field+".attempts", fmt.Sprintf("%d is not from 0 to %d", *in.Attempts, policy.MaxAttempts), "correct it")
		} else {
			out.Attempts = uint32(*in.Attempts)
		}
	}
	for i, code := range in.Codes {
		if code < 400 || code > 599 {
			b.invalid(policy.ReasonUnsupported, fmt.Sprintf("%s.codes[%d]", field, i), fmt.Sprintf("%d is not from 400 to 599", code), "correct it")
			continue
		}
		out.Codes = append(out.Codes, uint32(code))
	}
	slices.Sort(out.Codes)
	out.Codes = slices.Compact(out.Codes)
	if d := b.duration(field+".backoff", in.Backoff); d != nil {
		out.Backoff = *d
		if *d == 0 {
			b.invalid(policy.ReasonUnsupported, field+".backoff", "a pause of nothing cannot grow", "give at least 1ms, or leave it out")
		}
	}
	return out
}
