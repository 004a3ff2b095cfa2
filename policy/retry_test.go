package policy

import (
	"testing"
	"time"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

func TestRetryAfter(t *testing.T) {
	get, post := Exchange{Again: true}, Exchange{}
	call := Exchange{HTTP2: true, GRPC: true}
	calls := Exchange{Again: true, HTTP2: true, GRPC: true}
	type on = []v1alpha1.RetryCondition
	for name, c := range map[string]struct {
		retry v1alpha1.Retry
		x     Exchange
		want  on
	}{
		"the default, GET":              {v1alpha1.Retry{}, get, on{"ConnectFailure", "ResetBeforeRequest", "Reset", "RetriableStatusCodes"}},
		"the default, POST":             {v1alpha1.Retry{}, post, on{"ConnectFailure", "ResetBeforeRequest"}},
		"the default, gRPC":             {v1alpha1.Retry{}, call, on{"ConnectFailure", "RefusedStream", "ResetBeforeRequest"}},
		"nothing that POST may meet":    {v1alpha1.Retry{RetryOn: on{"Reset", "GatewayError"}}, post, nil},
		"statuses of gRPC, HTTP":        {v1alpha1.Retry{RetryOn: on{"GRPCUnavailable"}}, Exchange{Again: true, HTTP2: true}, nil},
		"statuses of gRPC, not POST":    {v1alpha1.Retry{RetryOn: on{"GRPCUnavailable"}}, call, nil},
		"statuses of gRPC":              {v1alpha1.Retry{RetryOn: on{"GRPCUnavailable"}}, calls, on{"GRPCUnavailable"}},
		"refused streams over HTTP/1.1": {v1alpha1.Retry{RetryOn: on{"RefusedStream"}}, get, nil},
		"each once":                     {v1alpha1.Retry{RetryOn: on{"Reset", "Reset"}}, get, on{"Reset"}},
		"off":                           {v1alpha1.Retry{Attempts: new(int32(0)), RetryOn: on{"Reset"}}, get, nil},
	} {
		t.Run(name, func(t *testing.T) {
			retry := ruleUnder(v1alpha1.TrafficSettings{Retry: &c.retry}, RuleSettings{}).Retry()
			equal(t, c.want, retry.After(c.x))
		})
	}
	none := ruleUnder(v1alpha1.TrafficSettings{Retry: &v1alpha1.Retry{RetryOn: on{"RetriableStatusCodes"}}}, RuleSettings{Retry: &RouteRetry{Attempts: 1}}).Retry()
	empty(t, none.After(get), "a rule that states no codes means none")
}

func TestReplaced(t *testing.T) {
	stated := v1alpha1.TrafficSettings{
		Timeout: &v1alpha1.Timeout{Request: ms(2000), Idle: ms(9)},
		Retry:   &v1alpha1.Retry{Attempts: new(int32(9)), StatusCodes: []int32{502}, Backoff: ms(5)},
	}
	var got []string
	for _, f := range ruleUnder(stated, RuleSettings{Retry: &RouteRetry{Attempts: 1}, Request: new(time.Second)}).Replaced() {
		got = append(got, f.Path+" "+f.Value+": "+f.From.String())
	}
	equal(t, 3, len(got))
	contains(t, got[0], "retry.attempts 9: ")
	contains(t, got[1], "retry.statusCodes [502]: ")
	contains(t, got[2], "timeout.request 2s: ")
	contains(t, got[2], "timeouts.request")
	empty(t, ruleUnder(stated, RuleSettings{}).Replaced())
}
