package routing

import (
	"cmp"
	"fmt"
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/policy"
)

// tlsRoute reads a TLSRoute. Its hostnames are the names that clients ask for
// (SNI). GEP-1294 advises a mesh not to infer anything from hostnames; but a
// TLSRoute has nothing else to match, and has to give them, so that without
// them it would be a TCPRoute that says it is none.
func (b *routeBuilder) tlsRoute(s *gatewayv1.TLSRouteSpec) {
	b.countConnectionRules(len(s.Rules))
	var names []string
	for i, h := range s.Hostnames {
		if !IsRouteHostname(string(h)) {
			b.find(policy.Error, string(gatewayv1.RouteConditionAccepted), policy.ReasonUnsupported, fmt.Sprintf("spec.hostnames[%d]", i),
				fmt.Sprintf("%q is not a host name", h), "write, for example, db.example.com or *.example.com")
			continue
		}
		names = append(names, string(h))
	}
	slices.Sort(names)
	names = slices.Compact(names)
	nameless := len(names) == 0
	if nameless {
		names = []string{nobodysName}
	}
	for i := range s.Rules {
		if nameless {
			b.invalid(policy.ReasonUnsupported, "spec.hostnames", "no name is left that a client could ask for", "give at least one")
		}
		rule := &s.Rules[i]
		b.connectionRule(i, rule.Name, rule.BackendRefs, names)
	}
}

// nobodysName is for a route that no client's name fits: it holds its port, whose
// connections must not go where they went without it. No host has such a
// name (RFC 6761, section 6.4).
const nobodysName = "nobody.invalid"

// ServerNames are the names whose connections a rule of a TLSRoute takes.
type ServerNames struct {
	Rule  policy.TCPRule
	Names []string
	// specificity of the name that the route gives, where a listener narrows it.
	Specificity int
}

// MergeServerNames merges rules in the order of who wins a tie. A name that
// several have belongs to the first of them. The more specific names come
// first: exact before wildcards, long before short. So a rule whose names are not neighbours in this order stands several times.
func MergeServerNames(rules []ServerNames) []policy.TCPRule {
	type named struct {
		name string
		rule int
	}
	var names []named
	taken := make(map[string]bool)
	for i := range rules {
		for _, name := range rules[i].Names {
			if !taken[name] {
				taken[name] = true
				names = append(names, named{name, i})
			}
		}
	}
	slices.SortFunc(names, func(a, b named) int {
		return cmp.Or(CompareNames(a.name, b.name), cmp.Compare(a.name, b.name))
	})
	var out []policy.TCPRule
	for _, n := range names {
		if rule := rules[n.rule].Rule; len(out) == 0 || out[len(out)-1].Route != rule.Route {
			rule.ServerNames = nil
			out = append(out, rule)
		}
		rule := &out[len(out)-1]
		rule.ServerNames = append(rule.ServerNames, n.name)
	}
	return out
}

// CompareNames orders names that may begin with "*." by how specific they are.
func CompareNames(a, b string) int {
	if a[0] == '*' != (b[0] == '*') {
		return policy.CompareBool(a[0] == '*', b[0] == '*')
	}
	return cmp.Compare(len(b), len(a))
}
