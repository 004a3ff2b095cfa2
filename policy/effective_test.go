package policy

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// ruleUnder is a rule of a route with what a policy says of it.
func ruleUnder(s v1alpha1.TrafficSettings, own RuleSettings) *Rule {
	ref := discovery.ObjectRef{Kind: discovery.KindTrafficPolicy, Key: discovery.Key{Namespace: "web", Name: "shop"}}
	out := &Rule{
		Route: discovery.ObjectRef{Kind: "HTTPRoute", Key: discovery.Key{Namespace: "web", Name: "shop"}}, Index: 1, Own: own,
		Settings: Settings{Stated: s, From: map[string]discovery.ObjectRef{}},
	}
	for i := range SectionDefs {
		if SectionDefs[i].Has(&s) {
			out.Settings.From[SectionDefs[i].Name] = ref
		}
	}
	return out
}

const (
	fromPolicy = "TrafficPolicy web/shop"
	fromRule   = "HTTPRoute web/shop rules[1]."
)

// Every field of a retry is the rule's own, else the policy's, else the default, and says which.
func day(n int) time.Time { return time.Date(2026, time.November, n, 0, 0, 0, 0, time.UTC) }

func ms(n int) *metav1.Duration {
	return &metav1.Duration{Duration: time.Duration(n) * time.Millisecond}
}

func TestEffectiveRetry(t *testing.T) {
	stated := v1alpha1.TrafficSettings{Retry: &v1alpha1.Retry{
		Attempts: new(int32(9)), StatusCodes: []int32{502}, Methods: []string{"PUT", "GET", "PUT"}, Backoff: ms(10), PerTry: ms(700),
		RetryOn: []v1alpha1.RetryCondition{"GatewayError"}, AvoidPreviousHosts: new(false),
	}}
	none := (&Rule{}).Retry()
	equal(t, uint32(DefaultAttempts), none.Attempts.Value)
	equal(t, []uint32{503}, none.StatusCodes.Value)
	equal(t, []string{"GET", "HEAD", "OPTIONS"}, none.Methods.Value)
	equal(t, "default", none.From.String())
	equal(t, "default", none.Backoff.From.String())

	r := ruleUnder(stated, RuleSettings{}).Retry()
	equal(t, uint32(9), r.Attempts.Value)
	equal(t, []uint32{502}, r.StatusCodes.Value)
	equal(t, []string{"GET", "PUT"}, r.Methods.Value)
	equal(t, 10*time.Millisecond, r.Backoff.Value)
	equal(t, false, r.AvoidPreviousHosts.Value)
	equal(t, fromPolicy, r.Attempts.From.String())

	r = ruleUnder(stated, RuleSettings{Retry: &RouteRetry{Attempts: 1, Codes: []uint32{500}}}).Retry()
	equal(t, uint32(1), r.Attempts.Value)
	equal(t, []uint32{500}, r.StatusCodes.Value)
	equal(t, fromRule+"retry", r.Attempts.From.String())
	equal(t, fromRule+"retry", r.From.String())
	equal(t, fromPolicy, r.Backoff.From.String(), "the rule states none")
	equal(t, []v1alpha1.RetryCondition{"GatewayError"}, r.On.Value)
}

// Times of a rule beat those of a policy, each on its own.
func TestEffectiveTimeouts(t *testing.T) {
	stated := v1alpha1.TrafficSettings{Timeout: &v1alpha1.Timeout{Request: ms(2), Idle: ms(3)}, Retry: &v1alpha1.Retry{PerTry: ms(1)}}
	got := (&Rule{}).Timeouts()
	equal(t, Timeouts{Idle: Setting[time.Duration]{Value: DefaultIdle}}, got)
	got = ruleUnder(stated, RuleSettings{Request: new(9 * time.Millisecond)}).Timeouts()
	equal(t, 9*time.Millisecond, got.Request.Value)
	equal(t, fromRule+"timeouts.request", got.Request.From.String())
	equal(t, time.Millisecond, got.Attempt.Value)
	equal(t, fromPolicy, got.Attempt.From.String())
	equal(t, 3*time.Millisecond, got.Idle.Value)
	got = ruleUnder(stated, RuleSettings{BackendRequest: new(time.Duration(0))}).Timeouts()
	equal(t, 0, got.Attempt.Value, "none, as the rule says")
	equal(t, fromRule+"timeouts.backendRequest", got.Attempt.From.String())
}

// Fields are what is stated and in force, each with the object that states it.
func TestEffectiveFields(t *testing.T) {
	stated := v1alpha1.TrafficSettings{
		Timeout: &v1alpha1.Timeout{Request: ms(2000)}, Retry: &v1alpha1.Retry{Attempts: new(int32(9)), StatusCodes: []int32{502}},
		SessionPersistence: &gatewayv1.SessionPersistence{Type: new(gatewayv1.HeaderBasedSessionPersistence)},
	}
	got := make(map[string]string)
	for _, f := range ruleUnder(stated, RuleSettings{Retry: &RouteRetry{Attempts: 1}, BackendRequest: new(time.Second)}).Fields() {
		got[f.Path] = f.Value + " of " + f.From.String()
	}
	equal(t, map[string]string{
		"timeout.request":         "2s of " + fromPolicy,
		"retry.attempts":          "1 of " + fromRule + "retry",
		"retry.perTry":            "1s of " + fromRule + "timeouts.backendRequest",
		"sessionPersistence.type": "Header of " + fromPolicy,
	}, got)
}

// Of objects of one age the first by "namespace/name" wins, for whatever they are in competition.
func TestTiesByName(t *testing.T) {
	object := func(namespace, name string) *discovery.Object {
		return &discovery.Object{Kind: discovery.KindTrafficPolicy, Key: discovery.Key{Namespace: namespace, Name: name}, Created: day(1)}
	}
	equal(t, true, CompareAge(object("a-b", "x"), object("a", "x")) < 0, `"a-b/x" is before "a/x"`)
	equal(t, true, CompareAge(object("a", "x"), object("a", "y")) < 0)
	younger := object("a", "a")
	younger.Created = day(2)
	equal(t, true, CompareAge(object("b", "b"), younger) < 0)
}

// Load reports count each attempt, so the guard has to know how many there may be.
func TestAttempts(t *testing.T) {
	m := &Service{Ports: []Port{{}, {Protocol: TCP}}}
	equal(t, uint32(DefaultAttempts+1), m.Attempts())
	m.Ports[0].HTTP = &HTTPRoutes{Rules: []Rule{{}, *ruleUnder(v1alpha1.TrafficSettings{}, RuleSettings{Retry: &RouteRetry{Attempts: 40}})}}
	equal(t, uint32(41), m.Attempts())
	equal(t, uint32(1), (&Service{Ports: []Port{{Protocol: TCP}}}).Attempts())
}
