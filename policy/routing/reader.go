package routing

import (
	"fmt"
	"strconv"
	"time"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/upstream"
)

// Meaning is the meaning of a route at one of its parents, with its mistakes.
//
// A rule with a match, filter or value that is not understood must not be skipped:
// its requests would go by a later rule, which may admit callers that this rule keeps
// out. The rule stays in its place and answers its requests with 500 (spec of
// HTTPRouteFilter). If the match itself is not understood, it takes all requests that
// it may have meant. Connections are closed. The other rules work, and the condition
// PartiallyInvalid names the failing ones (spec of RouteConditionPartiallyInvalid).
type Meaning struct {
	// http has the rules of an HTTPRoute or a GRPCRoute, tcp those of the other kinds.
	HTTP []RankedRule
	TCP  []policy.TCPRule
	// rules is how many the route has; failing are the indexes of those that
	// answer 500, or close connections.
	rules   int
	Failing []int
	// empty is true for a route about requests that has no rules, as it may:
	// it matches nothing, so what reaches it is not found.
	empty    bool
	Findings []policy.Finding
	// used are the objects that the rules refer to.
	Used []discovery.ObjectRef
}

// Holds reports whether the route has anything to say.
func (m *Meaning) Holds() bool { return m.empty || len(m.HTTP)+len(m.TCP) > 0 }

// Works reports whether at least one rule does what it says.
func (m *Meaning) Works() bool { return m.empty || len(m.Failing) < m.rules }

// routeBuilder reads a route for one of its parents. It notes mistakes and goes on.
type routeBuilder struct {
	Meaning
	r      catalog.Reader
	route  *discovery.Object
	parent discovery.ObjectName
	// shapes of the Services that rules refer to.
	shapes map[discovery.Key]upstream.Shape
	// names of the rules so far.
	names map[string]bool
	// wrong says of the rule that is being read why it cannot be applied, "" if
	// it can. fails is true where a filter of it says so already.
	wrong string
	fails bool
}

// Read returns what a route says at one of the Services that it names as its parents.
func Read(r catalog.Reader, o *discovery.Object, parent discovery.Key) *Meaning {
	return ReadAt(r, o, discovery.ObjectName{Kind: discovery.KindService, Key: parent})
}

// ReadAt returns what a route says at one of its parents: a Service or a Gateway.
func ReadAt(r catalog.Reader, o *discovery.Object, parent discovery.ObjectName) *Meaning {
	return ReadWith(r, o, parent, make(map[discovery.Key]upstream.Shape))
}

// ReadWith is ReadAt with the shapes of Services that are read
// already: the routes of a Gateway mostly send to the same ones.
func ReadWith(r catalog.Reader, o *discovery.Object, parent discovery.ObjectName, shapes map[discovery.Key]upstream.Shape) *Meaning {
	b := &routeBuilder{r: r, route: o, parent: parent, shapes: shapes}
	switch s := o.Spec.(type) {
	case *gatewayv1.HTTPRoute:
		b.httpRoute(&s.Spec)
	case *gatewayv1.GRPCRoute:
		b.grpcRoute(&s.Spec)
	case *gatewayv1.TCPRoute:
		b.tcpRoute(&s.Spec)
	case *gatewayv1.TLSRoute:
		b.tlsRoute(&s.Spec)
	}
	for _, field := range o.Pruned {
		b.find(policy.Warning, string(gatewayv1.RouteConditionAccepted), policy.ReasonUnsupported, field,
			"the API server dropped this field, because the installed CRD does not have it",
			"install the Gateway API's experimental channel, or remove the field")
	}
	return &b.Meaning
}

// endRule notes how the reading of a rule ended, and returns why it cannot be
// applied, "" if it can.
func (b *routeBuilder) endRule(index int) string {
	wrong, fails := b.wrong, b.fails
	b.wrong, b.fails = "", false
	if wrong != "" || fails {
		b.Failing = append(b.Failing, index)
	}
	return wrong
}

// endRequestRule is endRule for a rule about requests: one that cannot be
// applied keeps nothing but its place and its answer.
func (b *routeBuilder) endRequestRule(rule *policy.Rule) {
	if wrong := b.endRule(rule.Index); wrong != "" {
		*rule = policy.Rule{Route: rule.Route, Index: rule.Index, Name: rule.Name, GRPC: rule.GRPC, Filters: policy.Filters{Failed: wrong}}
	}
}

// invalid notes a mistake for which the rule cannot be applied.
func (b *routeBuilder) invalid(reason, field, message, remedy string) {
	if b.wrong == "" {
		b.wrong = field + ": " + message
	}
	b.find(policy.Error, string(gatewayv1.RouteConditionAccepted), reason, field, message, remedy)
}

func (b *routeBuilder) find(s policy.Severity, condition, reason, field, message, remedy string) {
	b.Findings = append(b.Findings, policy.Finding{
		Severity: s, Object: b.route.Ref(), Field: field, Condition: condition, Reason: reason,
		Message: message, Remedy: remedy,
	})
}

// uses notes an object that the rules refer to.
func (b *routeBuilder) uses(ref discovery.ObjectRef) { b.Used = append(b.Used, ref) }

// hostnames checks spec.hostnames of a route about requests. They mean nothing
// where the parent is a Service: a mesh must not infer anything from them
// (GEP-1294, "hostnames field").
func (b *routeBuilder) hostnames(names []gatewayv1.Hostname) {
	if b.parent.Kind == discovery.KindGateway {
		for i, name := range names {
			if !IsRouteHostname(string(name)) {
				b.find(policy.Error, string(gatewayv1.RouteConditionAccepted), policy.ReasonUnsupported, fmt.Sprintf("spec.hostnames[%d]", i),
					fmt.Sprintf("%q is not a host name", name), "write, for example, www.example.com or *.example.com")
			}
		}
		return
	}
	if len(names) > 0 {
		b.find(policy.Warning, string(gatewayv1.RouteConditionAccepted), policy.ReasonUnsupported, "spec.hostnames",
			"hostnames mean nothing where the parent is a Service, so the rules hold whatever the Host header says",
			"remove them, or match the header Host")
	}
}

// countRequestRules notes how many rules a route about requests has.
func (b *routeBuilder) countRequestRules(n int) {
	b.rules, b.empty = n, n == 0
	if b.empty {
		b.find(policy.Warning, string(gatewayv1.RouteConditionAccepted), policy.ReasonUnsupported, "spec.rules",
			"without rules no request matches, so that all of them fail", "add a rule, or remove the route")
	}
}

// RuleField returns the path of a route's rule.
func RuleField(index int) string { return "spec.rules[" + strconv.Itoa(index) + "]" }

// ruleName returns the name of a rule, "" for none. Policies name rules by it,
// so it must not stand twice; but requests go their way all the same.
func (b *routeBuilder) ruleName(index int, name *gatewayv1.SectionName) string {
	if name == nil || *name == "" {
		return ""
	}
	if b.names[string(*name)] {
		b.find(policy.Error, string(gatewayv1.RouteConditionAccepted), policy.ReasonUnsupported, RuleField(index)+".name",
			fmt.Sprintf("another rule is named %q too, so that a policy would be about both", *name), "rename one of the two")
	}
	if b.names == nil {
		b.names = make(map[string]bool)
	}
	b.names[string(*name)] = true
	return string(*name)
}

// duration returns a Gateway API duration (GEP-2257), nil for none.
func (b *routeBuilder) duration(field string, text *gatewayv1.Duration) *time.Duration {
	if text == nil {
		return nil
	}
	d, err := parseDuration(string(*text))
	if err != nil {
		b.invalid(policy.ReasonUnsupported, field, err.Error(), "write, for example, 1m30s or 500ms")
		return nil
	}
	return &d
}

// parseDuration reads a duration of GEP-2257: one to four times up to five
// digits and h, m, s or ms.
func parseDuration(s string) (time.Duration, error) {
	var total time.Duration
	rest := s
	for n := 0; rest != ""; n++ {
		digits := 0
		for digits < len(rest) && rest[digits] >= '0' && rest[digits] <= '9' {
			digits++
		}
		value, err := strconv.Atoi(rest[:digits])
		if err != nil || digits > 5 || n == 4 {
			return 0, fmt.Errorf("%q is not a duration", s)
		}
		rest = rest[digits:]
		length, unit := 1, time.Duration(0)
		switch {
		case len(rest) >= 2 && rest[:2] == "ms":
			length, unit = 2, time.Millisecond
		case rest == "":
		case rest[0] == 'h':
			unit = time.Hour
		case rest[0] == 'm':
			unit = time.Minute
		case rest[0] == 's':
			unit = time.Second
		}
		if unit == 0 {
			return 0, fmt.Errorf("%q is not a duration", s)
		}
		total += time.Duration(value) * unit
		rest = rest[length:]
	}
	if s == "" {
		return 0, fmt.Errorf("%q is not a duration", s)
	}
	return total, nil
}
