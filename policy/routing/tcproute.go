package routing

import (
	"fmt"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/policy"
)

func (b *routeBuilder) tcpRoute(s *gatewayv1.TCPRouteSpec) {
	b.countConnectionRules(len(s.Rules))
	for i := range s.Rules {
		rule := &s.Rules[i]
		b.connectionRule(i, rule.Name, rule.BackendRefs, nil)
	}
}

// connectionRule adds a rule about connections.
func (b *routeBuilder) connectionRule(index int, name *gatewayv1.SectionName, refs []gatewayv1.BackendRef, serverNames []string) {
	field := RuleField(index)
	named := make([]namedBackend, len(refs))
	for i := range refs {
		named[i] = namedBackend{field: fmt.Sprintf("%s.backendRefs[%d]", field, i), ref: &refs[i]}
	}
	rule := policy.TCPRule{Route: b.route.Ref(), Index: index, Name: b.ruleName(index, name), ServerNames: serverNames, Backends: b.backends(named, onBackendWithoutPrefix)}
	if b.endRule(index) != "" {
		rule.Backends = nil // its connections are closed
	}
	b.TCP = append(b.TCP, rule)
}

// countConnectionRules notes how many rules a route about connections has: one.
func (b *routeBuilder) countConnectionRules(n int) {
	b.rules = n
	if n != 1 {
		b.find(policy.Error, string(gatewayv1.RouteConditionAccepted), policy.ReasonUnsupported, "spec.rules",
			fmt.Sprintf("it has %d rules, of which nothing tells connections apart", n), "give exactly one")
	}
}
