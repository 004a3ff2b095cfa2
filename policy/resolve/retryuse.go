package resolve

import (
	"fmt"
	"slices"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// judgeRetry warns of failures after which requests shall be sent again that
// requests to the target cannot meet.
func (t *policyTarget) judgeRetry() {
	section := t.own.Settings.Retry
	if section == nil || len(section.RetryOn) == 0 || (section.Attempts != nil && *section.Attempts == 0) {
		return
	}
	rule := policy.Rule{Settings: policy.Settings{Stated: v1alpha1.TrafficSettings{Retry: section}}}
	retry := rule.Retry()
	x, speaks := t.exchange(retry.Methods.Value)
	if !speaks {
		return
	}
	all := ""
	if len(retry.After(x)) == 0 {
		all = ", and nothing else is listed, so no request is sent again"
	}
	for i, c := range section.RetryOn {
		because := retry.Never(c, x)
		if because == "" {
			continue
		}
		remedy := "remove it, or name ConnectFailure"
		switch {
		case policy.IsGRPC(c) && x.HTTP2:
			because, remedy = "requests of gRPC are POST, which methods does not list", "write methods: [POST] if they may be sent again although the target may have begun to act"
		case !x.HTTP2:
			because, remedy = because+", and "+t.text()+" speaks HTTP/1.1", "remove it, or name the port's protocol, for example appProtocol: grpc"
		}
		t.add(policy.Finding{
			Severity: policy.Warning, Field: fmt.Sprintf("spec.retry.retryOn[%d]", i), Condition: v1alpha1.ConditionAccepted, Reason: policy.ReasonAccepted,
			Message: fmt.Sprintf("%s is never met: %s%s", c, because, all), Remedy: remedy,
		})
	}
}

// exchange returns what requests to the target can be; methods are those that
// may be sent again. It returns false where the target speaks no HTTP.
func (t *policyTarget) exchange(methods []string) (policy.Exchange, bool) {
	post := slices.Contains(methods, "POST")
	protocols := t.protocols()
	if len(protocols) == 0 { // of a route, or not known
		return policy.Exchange{Again: post || t.ref.Kind != discovery.KindGRPCRoute, HTTP2: true, GRPC: post}, true
	}
	x := policy.Exchange{Again: true, HTTP2: slices.Contains(protocols, policy.HTTP2)}
	x.GRPC = x.HTTP2 && post
	return x, x.HTTP2 || slices.Contains(protocols, policy.HTTP1)
}
