package compile

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/causeway-mesh/causeway/policy"
)

// headerEdits returns edits in Envoy's form. Envoy removes first, then sets and
// adds in order, which is the order that they are meant in.
func headerEdits(e *policy.HeaderEdits) (add []*corev3.HeaderValueOption, remove []string) {
	option := func(h policy.Header, action corev3.HeaderValueOption_HeaderAppendAction) *corev3.HeaderValueOption {
		return &corev3.HeaderValueOption{
			// A percent sign begins a command in Envoy's format strings.
			Header:       &corev3.HeaderValue{Key: h.Name, Value: strings.ReplaceAll(h.Value, "%", "%%")},
			AppendAction: action, KeepEmptyValue: true,
		}
	}
	for _, h := range e.Set {
		add = append(add, option(h, corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD))
	}
	for _, h := range e.Add {
		add = append(add, option(h, corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD))
	}
	return add, slices.Clone(e.Remove)
}

// pathEdit is a path edit in the form that gives the right slashes: a prefix
// that Envoy replaces as it is, or an expression and what takes its place.
type pathEdit struct {
	prefix       string
	pattern, sub string
}

// editPath returns how to make a path of what match matched, nil for not at all.
// The slash at the end of a prefix says nothing (spec of HTTPPathModifier), but
// Envoy replaces bytes.
func editPath(edit *policy.PathEdit, match *policy.PathMatch) *pathEdit {
	switch {
	case edit == nil:
		return nil
	case !edit.Prefix:
		return &pathEdit{pattern: "^.*$", sub: absolute(edit.Value)}
	case match.Kind != policy.PathPrefix:
		return nil // no prefix was matched; policy says so
	}
	from, to := strings.TrimSuffix(match.Value, "/"), strings.TrimSuffix(absolute(edit.Value), "/")
	switch {
	case from == to:
		return nil
	case from == "":
		return &pathEdit{pattern: "^/", sub: to + "/"}
	case to == "":
		return &pathEdit{pattern: "^" + regexp.QuoteMeta(from) + "/?", sub: "/"}
	}
	return &pathEdit{prefix: to}
}

func absolute(path string) string {
	if strings.HasPrefix(path, "/") {
		return path
	}
	return "/" + path
}

func (e *pathEdit) substitute() *matcherv3.RegexMatchAndSubstitute {
	return &matcherv3.RegexMatchAndSubstitute{
		Pattern: regex(e.pattern), Substitution: strings.ReplaceAll(e.sub, `\`, `\\`),
	}
}

func rewritePath(to *routev3.RouteAction, edit *policy.PathEdit, match *policy.PathMatch) {
	e := editPath(edit, match)
	switch {
	case e == nil:
	case e.prefix != "":
		to.PrefixRewrite = e.prefix
	default:
		to.RegexRewrite = e.substitute()
	}
}

// redirect returns the action of a redirecting rule. Without a stated port that
// of the stated scheme counts, else that of the parent (spec of
// HTTPRequestRedirectFilter), but Envoy keeps the request's own, which is there
// for every port that the parent's scheme does not imply; if it replaces that, it
// writes the new one even where the scheme implies it.
func redirect(r *policy.Redirect, match *policy.PathMatch, at parent) *routev3.RedirectAction {
	out := &routev3.RedirectAction{HostRedirect: r.Host, PortRedirect: uint32(r.Port), ResponseCode: redirectCode(r.Status)}
	if r.Scheme != "" {
		out.SchemeRewriteSpecifier = &routev3.RedirectAction_SchemeRedirect{SchemeRedirect: r.Scheme}
	}
	implied, own := wellKnownPort(cmp.Or(r.Scheme, at.scheme)), at.port != wellKnownPort(at.scheme)
	ownPort := r.Host == "" && own
	switch {
	case r.Port == implied && !ownPort:
		out.PortRedirect = 0
	case r.Port != 0:
	case r.Scheme != "" && ownPort:
		out.PortRedirect = uint32(implied)
	case r.Scheme == "" && r.Host != "" && own:
		out.PortRedirect = uint32(at.port)
	}
	e := editPath(r.Path, match)
	switch {
	case e == nil:
	case !r.Path.Prefix:
		out.PathRewriteSpecifier = &routev3.RedirectAction_PathRedirect{PathRedirect: e.sub}
	case e.prefix != "":
		out.PathRewriteSpecifier = &routev3.RedirectAction_PrefixRewrite{PrefixRewrite: e.prefix}
	default:
		out.PathRewriteSpecifier = &routev3.RedirectAction_RegexRewrite{RegexRewrite: e.substitute()}
	}
	return out
}

// wellKnownPort is the port that a scheme implies, 0 for none.
func wellKnownPort(scheme string) uint16 {
	switch scheme {
	case "http":
		return 80
	case "https":
		return 443
	}
	return 0
}

func redirectCode(status uint16) routev3.RedirectAction_RedirectResponseCode {
	switch status {
	case 302:
		return routev3.RedirectAction_FOUND
	case 303:
		return routev3.RedirectAction_SEE_OTHER
	case 307:
		return routev3.RedirectAction_TEMPORARY_REDIRECT
	case 308:
		return routev3.RedirectAction_PERMANENT_REDIRECT
	}
	return routev3.RedirectAction_MOVED_PERMANENTLY
}

// million is the denominator of fractions.
const million = 1_000_000

// mirrors returns the copies that a rule sends. A Service whose traffic is
// shared by both of its backings gets each copy where a request of its own would go.
func mirrors(in []policy.Mirror) []*routev3.RouteAction_RequestMirrorPolicy {
	var out []*routev3.RouteAction_RequestMirrorPolicy
	for i := range in {
		m := &in[i]
		if m.To.Kind == policy.InvalidBackend || m.To.Unknown != "" || m.Denominator == 0 {
			continue
		}
		total := uint64(0)
		for _, t := range m.To.Targets {
			total += uint64(t.Share)
		}
		for _, t := range backendTargets(&m.To) {
			n := uint64(m.Numerator) * million / uint64(m.Denominator)
			if total > 0 {
				n = n * uint64(t.weight) / total
			}
			if n == 0 {
				continue
			}
			out = append(out, &routev3.RouteAction_RequestMirrorPolicy{
				Cluster: t.cluster,
				RuntimeFraction: &corev3.RuntimeFractionalPercent{DefaultValue: &typev3.FractionalPercent{
					Numerator: uint32(min(n, million)), Denominator: typev3.FractionalPercent_MILLION,
				}},
				// The copy must look like the request: PHP hosts answer by name.
				DisableShadowHostSuffixAppend: true,
			})
		}
	}
	return out
}

// corsPolicy returns the policy of the CORS filter. For "*" in a list Envoy
// echoes what the browser asks for, except for the headers to expose, for which
// nobody asks: with credentials browsers take the "*" there for a header's name
// (Fetch standard, section 3.2.5), so it is left out.
func corsPolicy(in *policy.CORS) *corsv3.CorsPolicy {
	expose := in.ExposeHeaders
	if in.AllowCredentials {
		expose = slices.DeleteFunc(slices.Clone(expose), func(name string) bool { return name == "*" })
	}
	out := &corsv3.CorsPolicy{
		AllowMethods:  strings.Join(in.AllowMethods, ", "),
		AllowHeaders:  strings.Join(in.AllowHeaders, ", "),
		ExposeHeaders: strings.Join(expose, ", "),
		// An origin that is not allowed gets no leave, and the application is not asked.
		ForwardNotMatchingPreflights: wrapperspb.Bool(false),
	}
	if in.AllowCredentials {
		out.AllowCredentials = wrapperspb.Bool(true)
	}
	if in.MaxAge > 0 {
		out.MaxAge = strconv.Itoa(int(in.MaxAge))
	}
	for _, origin := range in.AllowOrigins {
		m := exactly(origin)
		if before, after, wild := strings.Cut(origin, "*"); wild {
			m = &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{
				SafeRegex: regex(regexp.QuoteMeta(before) + ".*" + regexp.QuoteMeta(after)),
			}}
		}
		out.AllowOriginStringMatch = append(out.AllowOriginStringMatch, m)
	}
	return out
}

// fraction is a part of the requests in ten thousandths of them.
func fraction(part uint32) *typev3.FractionalPercent {
	return &typev3.FractionalPercent{Numerator: part, Denominator: typev3.FractionalPercent_TEN_THOUSAND}
}

// hashPolicy returns what RingHash and Maglev hash.
func hashPolicy(r *policy.Rule) []*routev3.RouteAction_HashPolicy {
	h := r.Settings.Hash().Value
	if h == nil {
		if slices.ContainsFunc(r.Backends, func(b policy.Backend) bool { return b.ClientIP }) {
			return byCaller()
		}
		return nil
	}
	switch {
	case h.Header != "":
		return []*routev3.RouteAction_HashPolicy{{PolicySpecifier: &routev3.RouteAction_HashPolicy_Header_{
			Header: &routev3.RouteAction_HashPolicy_Header{HeaderName: h.Header},
		}}}
	case h.Cookie != nil:
		c := &routev3.RouteAction_HashPolicy_Cookie{Name: h.Cookie.Name, Path: h.Cookie.Path}
		if h.Cookie.TTL != nil {
			c.Ttl = durationpb.New(h.Cookie.TTL.Duration)
		}
		return []*routev3.RouteAction_HashPolicy{{PolicySpecifier: &routev3.RouteAction_HashPolicy_Cookie_{Cookie: c}}}
	}
	return byCaller()
}
