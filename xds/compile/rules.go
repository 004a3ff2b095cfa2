package compile

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
)

// isUnknown reports whether backends are a guess.
func isUnknown(backends []policy.Backend) bool {
	return slices.ContainsFunc(backends, func(b policy.Backend) bool { return b.Unknown != "" })
}

// standsIn reports whether what rules become is a guess in part.
func standsIn(rules []policy.Rule) bool {
	return slices.ContainsFunc(rules, func(r policy.Rule) bool {
		return isUnknown(r.Backends) || slices.ContainsFunc(r.Filters.Mirrors, func(m policy.Mirror) bool { return m.To.Unknown != "" })
	})
}

// parent is the object that routes are attached to, as far as it makes a
// difference to their resources: a port of a Service, or of a Gateway.
type parent struct {
	port uint16
	// scheme that callers speak there.
	scheme string
	// bodyBytes is how large the body of a request may be, which is held until it is whole; nil for streams of any size.
	bodyBytes *int32
}

// servicePort is the parent of routes of the mesh, whose callers speak http to their proxy.
func servicePort(number uint16) parent { return parent{port: number, scheme: "http"} }

// ruleRoutes returns the routes of rules in their order.
func (c *Compiler) ruleRoutes(rules []policy.Rule, at parent) []*routev3.Route {
	out := make([]*routev3.Route, 0, 2*len(rules))
	for i := range rules {
		for _, r := range c.ruleRoute(&rules[i], at) {
			if at.bodyBytes != nil && rules[i].GRPC {
				unbuffered(r)
			}
			out = append(out, r)
		}
	}
	return out
}

// ruleRoute returns the routes of one match: where requests are sent on, one
// for each variant of them.
func (c *Compiler) ruleRoute(r *policy.Rule, at parent) []*routev3.Route {
	name := naming.Route(r.Route, r.Index, r.MatchIndex)
	switch {
	case r.Filters.Failed != "":
		return []*routev3.Route{c.directRoute(r, at, name, r.Filters.Failed)}
	case r.Filters.Redirect != nil:
		out := c.route(r, at, name, routeMatch(&r.Match, nil))
		out.Action = &routev3.Route_Redirect{Redirect: redirect(r.Filters.Redirect, &r.Match.Path, at)}
		return []*routev3.Route{out}
	case len(r.Backends) == 0:
		return []*routev3.Route{c.directRoute(r, at, name, "the rule names no backend with a weight above 0")}
	}
	var out []*routev3.Route
	attempt := r.Timeouts().Attempt.Value
	parts := byPath(r)
	for _, v := range variants(r) {
		for i := range parts {
			to := c.route(r, at, name+v.named().Suffix(), routeMatch(&r.Match, v.methods))
			to.Match.RuntimeFraction = parts[i].fraction
			to.Action = &routev3.Route_Route{Route: c.action(&parts[i].rule, &v)}
			if v.upgrade {
				to.Match.Headers = append(to.Match.Headers, upgrades())
			} else if attempt > 0 {
				boundAttempts(to, attempt)
			}
			if v.keyless {
				keyless(to, cohortOf(r), at)
			}
			if b := reported(r); b != nil {
				to.Metadata = shiftMark(b)
			}
			out = append(out, to)
		}
	}
	return out
}

// pathPart is the part of a rule's requests whose backends want the same path.
type pathPart struct {
	// rule has these backends alone, with their parts of the requests, and their path edit.
	rule policy.Rule
	// fraction of the requests that takes this part or one before it, nil for all.
	fraction *corev3.RuntimeFractionalPercent
}

// byPath divides a rule by what its backends make of the path: Envoy rewrites it for a route, before it chooses a cluster.
// So there is a route for each path, and mostly one in all.
//
// Envoy draws one number for a request. The fractions count its remainder by a million, and the weights of a
// route with a sum of S that by S. Of the requests that come to a route the first remainder is one of S consecutive
// numbers, so that the second one is each number below S equally often: the division is that of one route.
//
// With a cohort the second number is the hash of its key, the first one is not: which backends a user gets is drawn for
// each request, and the user keeps the side of each of them.
func byPath(r *policy.Rule) []pathPart {
	var out []pathPart
	sums := make([]uint32, 0, 1)
	for i := range r.Backends {
		b := &r.Backends[i]
		at := slices.IndexFunc(out, func(p pathPart) bool { return p.rule.Filters.Path.Same(r.PathEdit(b)) })
		if at < 0 {
			at, out, sums = len(out), append(out, pathPart{rule: *r}), append(sums, 0)
			out[at].rule.Filters.Path, out[at].rule.Backends = r.PathEdit(b), nil
		}
		out[at].rule.Backends = append(out[at].rule.Backends, *b)
		sums[at] += b.Share
	}
	before := uint32(0)
	kept := out[:0]
	for i, sum := range sums {
		if sum == 0 { // so small a part that it is none
			continue
		}
		if before += sum; before < policy.ShareTotal {
			out[i].fraction = &corev3.RuntimeFractionalPercent{DefaultValue: &typev3.FractionalPercent{
				Numerator: before, Denominator: typev3.FractionalPercent_MILLION,
			}}
		}
		kept = append(kept, out[i])
	}
	return kept
}

// failedStatus is the answer of a rule that cannot be applied: 500, or for gRPC
// the status that becomes UNAVAILABLE (spec of GRPCRouteRule.backendRefs).
func failedStatus(r *policy.Rule) uint32 {
	if r.GRPC {
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

func (c *Compiler) directRoute(r *policy.Rule, at parent, name, why string) *routev3.Route {
	out := c.route(r, at, name, routeMatch(&r.Match, nil))
	out.Action = &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{
		Status: failedStatus(r),
		Body: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{
			InlineString: fmt.Sprintf("causeway: %s: %s\n", r.Route.String(), why),
		}},
	}}
	return out
}

// route returns what every kind of route of a rule has.
func (c *Compiler) route(r *policy.Rule, at parent, name string, match *routev3.RouteMatch) *routev3.Route {
	out := &routev3.Route{Name: name, Match: match, TypedPerFilterConfig: perFilter(r, at)}
	out.RequestHeadersToAdd, out.RequestHeadersToRemove = headerEdits(&r.Filters.Request)
	out.ResponseHeadersToAdd, out.ResponseHeadersToRemove = headerEdits(&r.Filters.Response)
	return out
}

func routeMatch(m *policy.Match, methods []string) *routev3.RouteMatch {
	out := &routev3.RouteMatch{}
	switch m.Path.Kind {
	case policy.PathExact:
		out.PathSpecifier = &routev3.RouteMatch_Path{Path: m.Path.Value}
	case policy.PathRegex:
		out.PathSpecifier = &routev3.RouteMatch_SafeRegex{SafeRegex: regex(m.Path.Value)}
	case policy.PathPrefix:
		if m.Path.Value == "/" || m.Path.Value == "" {
			out.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: "/"}
		} else {
			out.PathSpecifier = &routev3.RouteMatch_PathSeparatedPrefix{PathSeparatedPrefix: m.Path.Value}
		}
	}
	switch {
	case m.Method != "":
		out.Headers = append(out.Headers, headerMatcher(":method", exactly(m.Method)))
	case len(methods) > 0:
		out.Headers = append(out.Headers, headerMatcher(":method", &matcherv3.StringMatcher{
			MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: regex(strings.Join(methods, "|"))},
		}))
	}
	for i := range m.Headers {
		out.Headers = append(out.Headers, headerMatcher(m.Headers[i].Name, valueMatcher(&m.Headers[i])))
	}
	for i := range m.Query {
		out.QueryParameters = append(out.QueryParameters, &routev3.QueryParameterMatcher{
			Name:                         m.Query[i].Name,
			QueryParameterMatchSpecifier: &routev3.QueryParameterMatcher_StringMatch{StringMatch: valueMatcher(&m.Query[i])},
		})
	}
	return out
}

func headerMatcher(name string, value *matcherv3.StringMatcher) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{Name: name, HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: value}}
}

func exactly(value string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: value}}
}

func valueMatcher(m *policy.ValueMatch) *matcherv3.StringMatcher {
	if !m.Regex {
		return exactly(m.Value)
	}
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: regex(m.Value)}}
}

func regex(pattern string) *matcherv3.RegexMatcher {
	out := &matcherv3.RegexMatcher{Regex: pattern}
	if policy.LargeRegex(pattern) {
		out.EngineType = &matcherv3.RegexMatcher_GoogleRe2{GoogleRe2: &matcherv3.RegexMatcher_GoogleRE2{ //nolint:staticcheck // the only place where the limit can be stated
			MaxProgramSize: wrapperspb.UInt32(policy.MaxRegexProgram), //nolint:staticcheck // as above
		}}
	}
	return out
}

// action returns where a variant of a rule's requests goes.
func (c *Compiler) action(r *policy.Rule, v *variant) *routev3.RouteAction {
	times := r.Timeouts()
	out := &routev3.RouteAction{
		// A PHP request may take as long as it takes: no timeout unless asked for.
		Timeout:               durationpb.New(0),
		MaxStreamDuration:     streamDuration(times.Request.Value, v),
		RetryPolicy:           c.retryPolicy(r, v.again),
		RequestMirrorPolicies: mirrors(r.Filters.Mirrors),
		HashPolicy:            hashPolicy(r),
	}
	if idle := times.Idle; !idle.From.Default() {
		out.IdleTimeout = durationpb.New(idle.Value)
	}
	if r.Filters.Host != "" {
		out.HostRewriteSpecifier = &routev3.RouteAction_HostRewriteLiteral{HostRewriteLiteral: r.Filters.Host}
	}
	rewritePath(out, r.Filters.Path, &r.Match.Path)
	entries := weighted(r.Backends)
	if len(entries) == 1 && !edited(entries[0]) {
		out.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: entries[0].GetName()}
	} else {
		clusters := &routev3.WeightedCluster{Clusters: entries}
		if cohort := cohortOf(r); cohort != nil {
			clusters.RandomValueSpecifier = &routev3.WeightedCluster_UseHashPolicy{UseHashPolicy: wrapperspb.Bool(true)}
			out.HashPolicy = cohortPolicy(cohort, v.keyless)
		}
		out.ClusterSpecifier = &routev3.RouteAction_WeightedClusters{WeightedClusters: clusters}
	}
	if v.shadow {
		out.RequestMirrorPolicies = append(out.RequestMirrorPolicies, shadowPolicy(shadowed(r)))
	}
	for i := range r.Backends {
		if r.Backends[i].Kind != policy.InvalidBackend {
			continue
		}
		out.ClusterNotFoundResponseCode = routev3.RouteAction_INTERNAL_SERVER_ERROR
		if r.GRPC {
			out.ClusterNotFoundResponseCode = routev3.RouteAction_SERVICE_UNAVAILABLE
		}
	}
	return out
}

func edited(w *routev3.WeightedCluster_ClusterWeight) bool {
	return len(w.GetRequestHeadersToAdd())+len(w.GetRequestHeadersToRemove())+len(w.GetResponseHeadersToAdd())+
		len(w.GetResponseHeadersToRemove()) > 0 || w.GetHostRewriteLiteral() != ""
}

// weighted returns the clusters of backends with their parts of the requests.
// They sum up to policy.ShareTotal whatever the shares are, and each backend's
// stand side by side, pods first.
func weighted(backends []policy.Backend) []*routev3.WeightedCluster_ClusterWeight {
	var out []*routev3.WeightedCluster_ClusterWeight
	for i := range backends {
		b := &backends[i]
		for _, t := range backendTargets(b) {
			w := &routev3.WeightedCluster_ClusterWeight{Name: t.cluster, Weight: wrapperspb.UInt32(t.weight)}
			w.RequestHeadersToAdd, w.RequestHeadersToRemove = headerEdits(&b.Filters.Request)
			w.ResponseHeadersToAdd, w.ResponseHeadersToRemove = headerEdits(&b.Filters.Response)
			if b.Filters.Host != "" {
				w.HostRewriteSpecifier = &routev3.WeightedCluster_ClusterWeight_HostRewriteLiteral{HostRewriteLiteral: b.Filters.Host}
			}
			out = append(out, w)
		}
	}
	return out
}

// ruleClusters adds the clusters that rules name to needs.
func ruleClusters(needs map[string]struct{}, rules []policy.Rule) {
	add := func(b *policy.Backend) {
		for _, t := range backendTargets(b) {
			if t.cluster != naming.InvalidCluster && t.cluster != naming.UnknownCluster {
				needs[t.cluster] = struct{}{}
			}
		}
	}
	for i := range rules {
		for j := range rules[i].Backends {
			add(&rules[i].Backends[j])
		}
		for j := range rules[i].Filters.Mirrors {
			add(&rules[i].Filters.Mirrors[j].To)
		}
		if b := shadowed(&rules[i]); b != nil {
			needs[naming.Shadow(b.Key, b.Port, b.Shift.Shadow.To)] = struct{}{}
		}
	}
}

// perFilter returns a rule's settings for the filters of the listener's chain.
func perFilter(r *policy.Rule, at parent) map[string]*anypb.Any {
	out := make(map[string]*anypb.Any)
	if c := r.Filters.CORS; c != nil {
		out[corsFilter] = toAny(corsPolicy(c))
	}
	if f := r.Settings.Fault(); f != nil {
		out[faultFilter] = toAny(fault(f))
	}
	if s := session(r, at); s != nil {
		out[sessionFilter] = toAny(s)
	}
	if len(out) == 0 {
		return nil
	}
	return out
}
