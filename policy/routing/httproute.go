package routing

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"k8s.io/utils/ptr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/policy"
)

func (b *routeBuilder) httpRoute(s *gatewayv1.HTTPRouteSpec) {
	b.hostnames(s.Hostnames)
	b.countRequestRules(len(s.Rules))
	for i := range s.Rules {
		b.httpRule(i, &s.Rules[i])
	}
}

func (b *routeBuilder) httpRule(index int, in *gatewayv1.HTTPRouteRule) {
	field := RuleField(index)
	rule := policy.Rule{Route: b.route.Ref(), Index: index, Name: b.ruleName(index, in.Name)}
	in = withMatch(in)
	matches := make([]policy.Match, len(in.Matches))
	for i := range in.Matches {
		matches[i] = b.httpMatch(fmt.Sprintf("%s.matches[%d]", field, i), &in.Matches[i])
	}
	prefixes := !slices.ContainsFunc(matches, func(m policy.Match) bool { return m.Path.Kind != policy.PathPrefix })
	on, onBackends := onRule, onBackend
	if !prefixes {
		on, onBackends = onRuleWithoutPrefix, onBackendWithoutPrefix
	}
	rule.Filters = b.filters(field+".filters", in.Filters, on)
	named := make([]namedBackend, len(in.BackendRefs))
	for i := range in.BackendRefs {
		named[i] = namedBackend{fmt.Sprintf("%s.backendRefs[%d]", field, i), &in.BackendRefs[i].BackendRef, in.BackendRefs[i].Filters}
	}
	if rule.Filters.Redirect != nil && len(named) > 0 {
		b.invalid(string(gatewayv1.RouteReasonIncompatibleFilters), field+".backendRefs",
			"a rule that redirects sends nothing to a backend", "remove the backendRefs or the filter RequestRedirect")
	}
	rule.Backends = b.backends(named, onBackends)
	b.timeouts(field+".timeouts", in.Timeouts, &rule)
	rule.Own.Retry = b.retry(field+".retry", in.Retry)
	rule.Own.Session = b.sessionPersistence(field+".sessionPersistence", in.SessionPersistence) //nolint:staticcheck // deprecated for a kind that is experimental itself
	b.endRequestRule(&rule)
	for i := range matches {
		rule.MatchIndex, rule.Match = i, matches[i]
		ranked := RankedRule{Rule: rule, rank: httpPrecedence(&matches[i]), object: b.route}
		b.HTTP = append(b.HTTP, ranked)
		if match := preflight(&rule); match != nil {
			ranked.Match, ranked.Preflight = *match, true
			b.HTTP = append(b.HTTP, ranked)
		}
	}
}

// preflight returns the match of the requests by which browsers ask for leave
// to send those of a rule (Fetch standard, section 3.2.2), nil where the rule's
// own match takes them: they have the method OPTIONS, and name the method and the headers
// of what is to come.
func preflight(rule *policy.Rule) *policy.Match {
	own := &rule.Match
	if rule.Filters.CORS == nil || rule.Filters.Redirect != nil || rule.Filters.Failed != "" || len(rule.Backends) == 0 ||
		own.Method == string(gatewayv1.HTTPMethodOptions) || own.Method == "" && len(own.Headers) == 0 {
		return nil
	}
	method := policy.ValueMatch{Name: "access-control-request-method", Value: own.Method}
	if own.Method == "" {
		method.Regex, method.Value = true, ".+"
	}
	out := &policy.Match{Path: own.Path, Method: string(gatewayv1.HTTPMethodOptions), Query: own.Query, Headers: []policy.ValueMatch{method}}
	for _, h := range own.Headers {
		if h.Name == "origin" || h.Name == "host" {
			out.Headers = append(out.Headers, h)
			continue
		}
		out.Headers = append(out.Headers, policy.ValueMatch{
			Name: "access-control-request-headers", Regex: true, Value: `(?i)(?:.*,)? *` + regexp.QuoteMeta(h.Name) + ` *(?:,.*)?`,
		})
	}
	sortValues(out.Headers)
	return out
}

// withMatch returns a rule that has a match: without any it matches every request.
func withMatch(in *gatewayv1.HTTPRouteRule) *gatewayv1.HTTPRouteRule {
	if len(in.Matches) > 0 {
		return in
	}
	out := *in
	out.Matches = []gatewayv1.HTTPRouteMatch{{}}
	return &out
}

func (b *routeBuilder) httpMatch(field string, in *gatewayv1.HTTPRouteMatch) policy.Match {
	out := policy.Match{Path: b.path(field+".path", in.Path)}
	if in.Method != nil {
		out.Method = string(*in.Method)
		switch *in.Method {
		case gatewayv1.HTTPMethodGet, gatewayv1.HTTPMethodHead, gatewayv1.HTTPMethodPost, gatewayv1.HTTPMethodPut,
			gatewayv1.HTTPMethodDelete, gatewayv1.HTTPMethodOptions, gatewayv1.HTTPMethodTrace, gatewayv1.HTTPMethodPatch:
		case gatewayv1.HTTPMethodConnect:
			b.invalid(policy.ReasonUnsupported, field+".method", "a CONNECT request has no path that a rule could match", "use a TCPRoute")
		default:
			b.invalid(policy.ReasonUnsupported, field+".method", fmt.Sprintf("%q is not a method", out.Method),
				"give one of GET, HEAD, POST, PUT, DELETE, OPTIONS, TRACE and PATCH")
			out.Method = ""
		}
	}
	for i, h := range in.Headers {
		out.Headers = b.valueMatch(out.Headers, fmt.Sprintf("%s.headers[%d]", field, i), valueMatch{
			name: strings.ToLower(string(h.Name)), value: h.Value, kind: string(ptr.Deref(h.Type, gatewayv1.HeaderMatchExact)),
		})
	}
	for i, q := range in.QueryParams {
		out.Query = b.valueMatch(out.Query, fmt.Sprintf("%s.queryParams[%d]", field, i), valueMatch{
			name: string(q.Name), value: q.Value, kind: string(ptr.Deref(q.Type, gatewayv1.QueryParamMatchExact)),
		})
	}
	sortValues(out.Headers)
	sortValues(out.Query)
	return out
}

func sortValues(values []policy.ValueMatch) {
	slices.SortFunc(values, func(a, b policy.ValueMatch) int { return cmp.Compare(a.Name, b.Name) })
}

// path returns the match of a path. The path that matches everything is the prefix "/". For
// a path that is not understood, it returns the widest match that may have been meant.
func (b *routeBuilder) path(field string, in *gatewayv1.HTTPPathMatch) policy.PathMatch {
	if in == nil {
		return policy.PathMatch{Kind: policy.PathPrefix, Value: "/"}
	}
	value := ptr.Deref(in.Value, "/")
	switch kind := ptr.Deref(in.Type, gatewayv1.PathMatchPathPrefix); kind {
	case gatewayv1.PathMatchExact:
		if !b.checkPath(field+".value", value) {
			return policy.PathMatch{Kind: policy.PathPrefix, Value: readablePath(value)}
		}
		return policy.PathMatch{Kind: policy.PathExact, Value: value}
	case gatewayv1.PathMatchPathPrefix:
		if !b.checkPath(field+".value", value) {
			return policy.PathMatch{Kind: policy.PathPrefix, Value: readablePath(value)}
		}
		if value = strings.TrimRight(value, "/"); value == "" {
			value = "/"
		}
		return policy.PathMatch{Kind: policy.PathPrefix, Value: value}
	case gatewayv1.PathMatchRegularExpression:
		if !b.regex(field+".value", value) {
			return policy.PathMatch{Kind: policy.PathRegex, Value: regexp.QuoteMeta(literalPrefix(value)) + ".*"}
		}
		return policy.PathMatch{Kind: policy.PathRegex, Value: value}
	default:
		b.invalid(policy.ReasonUnsupported, field+".type", fmt.Sprintf("%q is not a way to compare a path", kind),
			"give one of Exact, PathPrefix and RegularExpression")
		return policy.PathMatch{Kind: policy.PathPrefix, Value: readablePath(value)}
	}
}

// readablePath returns the elements of a path before the first that cannot be understood.
func readablePath(value string) string {
	out := ""
	for element := range strings.SplitSeq(strings.TrimPrefix(path.Clean("/"+value), "/"), "/") {
		if element == "" || !isPath(element) || strings.Contains(strings.ToLower(element), "%2f") || len(out)+len(element) >= maxPath {
			break
		}
		out += "/" + element
	}
	return cmp.Or(out, "/")
}

// literalPrefix returns what every string begins with that an expression may
// have been meant to match, "" where nothing is certain.
func literalPrefix(pattern string) string {
	if strings.Contains(pattern, "|") {
		return ""
	}
	end := 0
	for end < len(pattern) && end < maxPath && (isAlphanumeric(pattern[end]) || strings.IndexByte("/-_~!&',;=:@%", pattern[end]) >= 0) {
		end++
	}
	if end > 0 && end < len(pattern) && strings.IndexByte("?*{", pattern[end]) >= 0 {
		end-- // the last one may not be there
	}
	return pattern[:end]
}

// checkPath checks an exact path or a prefix as the CRD does: a proxy
// normalises paths, so that one that is not normal would never match. It reports
// whether the path can be understood.
func (b *routeBuilder) checkPath(field, value string) bool {
	problem := ""
	switch {
	case !strings.HasPrefix(value, "/"):
		problem = "does not begin with /"
	case strings.Contains(value, "//"), strings.Contains(value+"/", "/./"), strings.Contains(value+"/", "/../"):
		problem = "has an empty element or one of dots, which proxies take out of paths"
	case strings.Contains(strings.ToLower(value), "%2f"):
		problem = "has an encoded slash"
	case !isPath(value):
		problem = "has a character that must be percent-encoded"
	case len(value) > maxPath:
		problem = fmt.Sprintf("is longer than %d bytes", maxPath)
	}
	if problem != "" {
		b.invalid(policy.ReasonUnsupported, field, fmt.Sprintf("%q %s", value, problem), "write the path as it stands in a request line")
	}
	return problem == ""
}

const maxPath = 1024

// isPath reports whether a string consists of the characters of a path (RFC 3986, section 3.3).
func isPath(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case isAlphanumeric(c), strings.IndexByte("-/._~!$&'()*+,;=:@", c) >= 0:
		case c == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			i += 2
		default:
			return false
		}
	}
	return true
}

func isAlphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

// isToken reports whether a string is a token of RFC 9110, section 5.6.2, as
// names of headers, query parameters and cookies are.
func isToken(s string) bool {
	for i := range len(s) {
		if !isAlphanumeric(s[i]) && strings.IndexByte("!#$%&'*+-.^_`|~", s[i]) < 0 {
			return false
		}
	}
	return s != "" && len(s) <= 256
}

// regex checks an expression and reports whether Envoy takes it.
func (b *routeBuilder) regex(field, pattern string) bool {
	problem := policy.CheckRegex(pattern)
	if problem != "" {
		b.invalid(policy.ReasonUnsupported, field, fmt.Sprintf("%q is not a regular expression that Envoy takes: %s", pattern, problem),
			"write it in RE2's syntax, in ASCII")
	}
	return problem == ""
}

// valueMatch is what a header or query parameter must be like, as in the route.
type valueMatch struct{ name, kind, value string }

// valueMatch appends a match. If several are about the same name, the first
// counts. A match with a bad name is left out, and one with a bad value takes
// any value: the rule is not applied, but it keeps the requests that it may
// have meant.
func (b *routeBuilder) valueMatch(to []policy.ValueMatch, field string, m valueMatch) []policy.ValueMatch {
	if !isToken(m.name) {
		b.invalid(policy.ReasonUnsupported, field+".name", fmt.Sprintf("%q is not a name", m.name), "correct it")
		return to
	}
	out, anything := policy.ValueMatch{Name: m.name, Value: m.value}, policy.ValueMatch{Name: m.name, Regex: true, Value: ".*"}
	switch m.kind {
	case "Exact":
		if m.value == "" || !isHeaderValue(m.value) {
			b.invalid(policy.ReasonUnsupported, field+".value", fmt.Sprintf("%q is empty or has control characters", m.value), "correct it")
			out = anything
		}
	case "RegularExpression":
		if out.Regex = true; !b.regex(field+".value", m.value) {
			out = anything
		}
	default:
		b.invalid(policy.ReasonUnsupported, field+".type", fmt.Sprintf("%q is not a way to compare a value", m.kind), "give Exact or RegularExpression")
		out = anything
	}
	if slices.ContainsFunc(to, func(v policy.ValueMatch) bool { return v.Name == m.name }) {
		return to
	}
	return append(to, out)
}

// isHeaderValue reports whether a header can have a value: no control characters but tabs.
func isHeaderValue(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 && s[i] != '\t' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

func (b *routeBuilder) timeouts(field string, in *gatewayv1.HTTPRouteTimeouts, rule *policy.Rule) {
	if in == nil {
		return
	}
	own := &rule.Own
	own.Request = b.duration(field+".request", in.Request)
	own.BackendRequest = b.duration(field+".backendRequest", in.BackendRequest)
	if own.Request != nil && own.BackendRequest != nil && *own.Request != 0 && *own.BackendRequest > *own.Request {
		b.invalid(policy.ReasonUnsupported, field+".backendRequest",
			fmt.Sprintf("%s is longer than the whole request may take (%s)", *own.BackendRequest, *own.Request),
			"make it shorter than request")
	}
}
