package equivalence

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/policy/explain"
)

// How many cases of Gateways there are.
const (
	gatewayCasesInCI   = 200
	gatewayCasesInSoak = 4000
)

// Listeners and routes drawn at random are pushed to an Envoy at the edge, and
// requests with server names and hosts that aim at their boundaries are sent to
// it. Of each the evaluator must have said which listener takes it, which rule,
// who answers, what the backend gets and what the client.
func TestEvaluatorIsEnvoyAtGateways(t *testing.T) {
	seed, first, last := drawn(t, gatewayCasesInCI, gatewayCasesInSoak)
	e := startEdge(t)
	writeFixture(t, &e.mesh)
	total := last - first
	seen := make(map[string]int)
	var pushing time.Duration
	begin := time.Now()
	for first < last {
		var cases []*gatewayCase
		for ; first < last && len(cases) < casesPerGateway; first++ {
			cases = append(cases, newGatewayCase(seed, first))
		}
		start := time.Now()
		if err := e.put(cases...); err != nil {
			rejectGateways(t, e, seed, cases, err)
		}
		pushing += time.Since(start)
		for _, c := range cases {
			for _, r := range c.requests {
				why, outcome := e.check(c, r)
				if why != "" {
					reportGateway(t, e, seed, c, r, why)
				}
				seen[outcome]++
			}
		}
	}
	t.Logf("%s in all, %s of it for pushes, %s to evaluate; requests by outcome: %v",
		time.Since(begin).Round(time.Millisecond), pushing.Round(time.Millisecond), e.evaluating.Round(time.Millisecond), seen)
	if total > 100 {
		for _, outcome := range []string{"backend", "redirect", "404", "421", "500", "closed"} {
			require.NotZero(t, seen[outcome], "no request ended as %s", outcome)
		}
	}
}

// reportGateway fails the test with the smallest case that shows the difference.
func reportGateway(t *testing.T, e *edge, seed uint64, c *gatewayCase, r gatewayRequest, why string) {
	t.Helper()
	fails := func(c *gatewayCase, r gatewayRequest) bool {
		if e.put(c) != nil {
			return false
		}
		for range tries {
			if again, _ := e.check(c, r); again != "" {
				return true
			}
		}
		return false
	}
	if fails(c, r) {
		c, r = shrink(c, r, smallerGateways, fails)
	} else {
		why += " (it does not show again)"
	}
	require.NoError(t, e.put(c))
	for range tries {
		if again, _ := e.check(c, r); again != "" {
			why = again
			break
		}
	}
	said, err := json.MarshalIndent(explain.EvaluateGateway(e.catalog.Read(), e.asked(c, r)), "", "  ")
	require.NoError(t, err)
	seen, err := e.clientTo(c.port(r), r.Secure, r.ServerName).do(r.request)
	t.Fatalf("CAUSEWAY_SEED=%d CAUSEWAY_CASE=%d\n%s\n%s\nthe evaluator says: %s\nEnvoy did: %+v %v\necho: %+v",
		seed, c.index, why, c.text(r), said, seen, err, seen.Echo)
}

// rejectGateways fails the test with the smallest case that Envoy does not take.
func rejectGateways(t *testing.T, e *edge, seed uint64, cases []*gatewayCase, err error) {
	t.Helper()
	for _, c := range cases {
		if e.put(c) == nil {
			continue
		}
		small, _ := shrink(c, c.requests[0], smallerGateways, func(c *gatewayCase, _ gatewayRequest) bool { return e.put(c) != nil })
		t.Fatalf("CAUSEWAY_SEED=%d CAUSEWAY_CASE=%d: %v\n%s", seed, c.index, e.put(small), small.text(small.requests[0]))
	}
	t.Fatalf("CAUSEWAY_SEED=%d: cases %d to %d together: %v", seed, cases[0].index, cases[len(cases)-1].index, err)
}

// smallerGateways returns what is one step smaller. Listeners and hosts go here, rules as those of Services do.
func smallerGateways(c *gatewayCase, r gatewayRequest) []candidate[*gatewayCase, gatewayRequest] {
	var out []candidate[*gatewayCase, gatewayRequest]
	add := func(change func(*gatewayCase)) {
		copied := c.clone()
		change(copied)
		out = append(out, candidate[*gatewayCase, gatewayRequest]{copied, r})
	}
	for i := range c.policies {
		add(func(c *gatewayCase) { c.policies = slices.Delete(c.policies, i, i+1) })
	}
	for i := range c.listeners {
		add(func(c *gatewayCase) { c.listeners = slices.Delete(c.listeners, i, i+1) })
	}
	for i, route := range c.routes {
		for j := range route.Spec.Hostnames {
			add(func(c *gatewayCase) { c.routes[i].Spec.Hostnames = slices.Delete(c.routes[i].Spec.Hostnames, j, j+1) })
		}
		if len(route.Spec.ParentRefs) > 1 {
			for j := range route.Spec.ParentRefs {
				add(func(c *gatewayCase) { c.routes[i].Spec.ParentRefs = slices.Delete(c.routes[i].Spec.ParentRefs, j, j+1) })
			}
		}
	}
	for _, s := range smaller(&routeCase{http: c.routes}, r.request) {
		copied := *c
		copied.routes = s.c.http
		again := r
		again.request = s.r
		out = append(out, candidate[*gatewayCase, gatewayRequest]{&copied, again})
	}
	return out
}

func (c *gatewayCase) clone() *gatewayCase {
	out := *c
	out.listeners, out.routes, out.policies = nil, nil, slices.Clone(c.policies)
	for i := range c.listeners {
		out.listeners = append(out.listeners, *c.listeners[i].DeepCopy())
	}
	for _, r := range c.routes {
		out.routes = append(out.routes, r.DeepCopy())
	}
	return &out
}
