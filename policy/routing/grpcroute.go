package routing

import (
	"fmt"
	"regexp"
	"strings"

	"k8s.io/utils/ptr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/policy"
)

func (b *routeBuilder) grpcRoute(s *gatewayv1.GRPCRouteSpec) {
	b.hostnames(s.Hostnames)
	b.countRequestRules(len(s.Rules))
	for i := range s.Rules {
		b.grpcRule(i, &s.Rules[i])
	}
}

func (b *routeBuilder) grpcRule(index int, in *gatewayv1.GRPCRouteRule) {
	field := RuleField(index)
	rule := policy.Rule{Route: b.route.Ref(), Index: index, Name: b.ruleName(index, in.Name), GRPC: true}
	matches := in.Matches
	if len(matches) == 0 {
		matches = []gatewayv1.GRPCRouteMatch{{}}
	}
	ranked := make([]RankedRule, len(matches))
	for i := range matches {
		ranked[i] = b.grpcMatch(fmt.Sprintf("%s.matches[%d]", field, i), &matches[i])
	}
	rule.Filters = b.filters(field+".filters", httpFilters(in.Filters), onRule)
	named := make([]namedBackend, len(in.BackendRefs))
	for i := range in.BackendRefs {
		named[i] = namedBackend{fmt.Sprintf("%s.backendRefs[%d]", field, i), &in.BackendRefs[i].BackendRef, httpFilters(in.BackendRefs[i].Filters)}
	}
	rule.Backends = b.backends(named, onBackendWithoutPrefix)
	rule.Own.Session = b.sessionPersistence(field+".sessionPersistence", in.SessionPersistence) //nolint:staticcheck // deprecated for a kind that is experimental itself
	b.endRequestRule(&rule)
	for i := range ranked {
		match := ranked[i].Match
		ranked[i].Rule = rule
		ranked[i].MatchIndex, ranked[i].Match = i, match
		ranked[i].object = b.route
		b.HTTP = append(b.HTTP, ranked[i])
	}
}

// grpcMatch returns a match as one of HTTP: a method of gRPC is the path
// "/<service>/<method>". Only Match and rank of the result are set.
func (b *routeBuilder) grpcMatch(field string, in *gatewayv1.GRPCRouteMatch) RankedRule {
	var out RankedRule
	out.Match.Path, out.rank = b.grpcMethod(field+".method", in.Method)
	for i, h := range in.Headers {
		out.Match.Headers = b.valueMatch(out.Match.Headers, fmt.Sprintf("%s.headers[%d]", field, i), valueMatch{
			name: strings.ToLower(string(h.Name)), value: h.Value, kind: string(ptr.Deref(h.Type, gatewayv1.GRPCHeaderMatchExact)),
		})
	}
	sortValues(out.Match.Headers)
	out.rank[3] = len(out.Match.Headers)
	return out
}

// grpcUnderstood returns a match if it could be understood, else one of all
// methods, or of those of a service that could.
func (b *routeBuilder) grpcUnderstood(match policy.PathMatch, service string) policy.PathMatch {
	switch {
	case b.wrong == "":
		return match
	case service != "" && isGRPCName(service, true):
		return policy.PathMatch{Kind: policy.PathPrefix, Value: "/" + service}
	}
	return policy.PathMatch{Kind: policy.PathPrefix, Value: "/"}
}

// grpcName is what one element of the path is compared with where nothing is said of it.
const grpcName = "[^/]+"

var grpcFields = [2]string{"service", "method"}

func (b *routeBuilder) grpcMethod(field string, in *gatewayv1.GRPCMethodMatch) (policy.PathMatch, precedence) {
	everything := policy.PathMatch{Kind: policy.PathPrefix, Value: "/"}
	if in == nil {
		return everything, precedence{}
	}
	service, method := ptr.Deref(in.Service, ""), ptr.Deref(in.Method, "")
	if service == "" && method == "" {
		return everything, precedence{}
	}
	rank := precedence{rankExact, len(service), len(method)}
	switch kind := ptr.Deref(in.Type, gatewayv1.GRPCMethodMatchExact); kind {
	case gatewayv1.GRPCMethodMatchExact:
		for i, value := range [2]string{service, method} {
			if name := grpcFields[i]; value != "" && !isGRPCName(value, i == 0) {
				b.invalid(policy.ReasonUnsupported, field+"."+name, fmt.Sprintf("%q is not the name of a %s", value, name), "write it as in the .proto file")
			}
		}
		switch {
		case method == "":
			return b.grpcUnderstood(policy.PathMatch{Kind: policy.PathPrefix, Value: "/" + service}, service), rank
		case service == "":
			return b.grpcUnderstood(policy.PathMatch{Kind: policy.PathRegex, Value: "/" + grpcName + "/" + regexp.QuoteMeta(method)}, ""), rank
		}
		return b.grpcUnderstood(policy.PathMatch{Kind: policy.PathExact, Value: "/" + service + "/" + method}, service), rank
	case gatewayv1.GRPCMethodMatchRegularExpression:
		rank[0] = rankRegex
		for i, value := range [2]string{service, method} {
			if value != "" {
				b.regex(field+"."+grpcFields[i], value)
			}
		}
		pattern := "/" + grpcElement(service) + "/" + grpcElement(method)
		if problem := policy.CheckRegex(pattern); problem != "" && b.wrong == "" {
			b.invalid(policy.ReasonUnsupported, field, "service and method together: "+problem, "make them shorter")
		}
		return b.grpcUnderstood(policy.PathMatch{Kind: policy.PathRegex, Value: pattern}, ""), rank
	default:
		b.invalid(policy.ReasonUnsupported, field+".type", fmt.Sprintf("%q is not a way to compare a method", kind), "give Exact or RegularExpression")
		return everything, precedence{}
	}
}

// grpcElement returns an expression for one element of the path, which is not to end inside a larger one.
func grpcElement(pattern string) string {
	if pattern == "" {
		return grpcName
	}
	return "(?:" + pattern + ")"
}

// isGRPCName reports whether a string is an identifier of protobuf, or, for a
// service, several with dots between, and perhaps one before.
func isGRPCName(s string, service bool) bool {
	parts := []string{s}
	if service {
		parts = strings.Split(strings.TrimPrefix(s, "."), ".")
	}
	for _, part := range parts {
		for i := range len(part) {
			if c := part[i]; c != '_' && (!isAlphanumeric(c) || i == 0 && c >= '0' && c <= '9') {
				return false
			}
		}
		if part == "" {
			return false
		}
	}
	return len(s) <= maxPath
}
