package routing

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"k8s.io/utils/ptr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/policy"
)

// filterPlace is where filters stand, which decides what they can do.
type filterPlace uint8

// Envoy chooses a backend after the rule. So the filters of a backendRef can change headers, the Host
// header and the path, but not the destination. A rule with a match that is no prefix has no
// matched prefix to replace.
const (
	onRule filterPlace = iota
	onRuleWithoutPrefix
	onBackend
	onBackendWithoutPrefix
)

// ofBackend reports whether the filters are those of a backendRef.
func (p filterPlace) ofBackend() bool { return p == onBackend || p == onBackendWithoutPrefix }

// hasPrefix reports whether there is a matched prefix to replace.
func (p filterPlace) hasPrefix() bool { return p == onRule || p == onBackend }

// httpFilters returns filters of a GRPCRoute as those of an HTTPRoute, which have the same sections.
func httpFilters(in []gatewayv1.GRPCRouteFilter) []gatewayv1.HTTPRouteFilter {
	out := make([]gatewayv1.HTTPRouteFilter, len(in))
	for i := range in {
		out[i] = gatewayv1.HTTPRouteFilter{
			Type:                   gatewayv1.HTTPRouteFilterType(in[i].Type),
			RequestHeaderModifier:  in[i].RequestHeaderModifier,
			ResponseHeaderModifier: in[i].ResponseHeaderModifier,
			RequestMirror:          in[i].RequestMirror,
			ExtensionRef:           in[i].ExtensionRef,
		}
	}
	return out
}

// filters returns what filters do. They act in a fixed order, whatever their
// order in the route: CORS answers preflights, then headers are changed, then
// host and path, then the request is redirected, or mirrored and sent.
func (b *routeBuilder) filters(field string, in []gatewayv1.HTTPRouteFilter, place filterPlace) policy.Filters {
	var out policy.Filters
	seen := make(map[gatewayv1.HTTPRouteFilterType]bool)
	for i := range in {
		f := &in[i]
		at := fmt.Sprintf("%s[%d]", field, i)
		if f.Type != gatewayv1.HTTPRouteFilterRequestMirror && f.Type != gatewayv1.HTTPRouteFilterExtensionRef && seen[f.Type] {
			b.invalid(string(gatewayv1.RouteReasonIncompatibleFilters), at, fmt.Sprintf("a second filter %s", f.Type), "merge it into the first")
			continue
		}
		seen[f.Type] = true
		b.filter(at, f, place, &out)
	}
	for _, pair := range [][2]gatewayv1.HTTPRouteFilterType{
		{gatewayv1.HTTPRouteFilterRequestRedirect, gatewayv1.HTTPRouteFilterURLRewrite},
		{gatewayv1.HTTPRouteFilterRequestRedirect, gatewayv1.HTTPRouteFilterRequestMirror},
	} {
		if seen[pair[0]] && seen[pair[1]] {
			b.invalid(string(gatewayv1.RouteReasonIncompatibleFilters), field,
				fmt.Sprintf("%s answers the request, so %s has nothing to act on", pair[0], pair[1]), "remove one of the two")
		}
	}
	return out
}

func (b *routeBuilder) filter(field string, f *gatewayv1.HTTPRouteFilter, place filterPlace, out *policy.Filters) {
	section := lowerFirst(string(f.Type))
	if !hasSection(f) {
		b.invalid(policy.ReasonUnsupported, field, fmt.Sprintf("filter %s has no section %s", f.Type, section), "give it")
		return
	}
	switch f.Type {
	case gatewayv1.HTTPRouteFilterRequestHeaderModifier:
		out.Request = b.headerEdits(field+"."+section, f.RequestHeaderModifier)
		return
	case gatewayv1.HTTPRouteFilterResponseHeaderModifier:
		out.Response = b.headerEdits(field+"."+section, f.ResponseHeaderModifier)
		return
	case gatewayv1.HTTPRouteFilterExtensionRef:
		b.find(policy.Error, string(gatewayv1.RouteConditionResolvedRefs), string(gatewayv1.RouteReasonInvalidKind), field+".extensionRef",
			fmt.Sprintf("kind %q of group %q is not a filter that the mesh knows, and a filter must not be skipped: requests are answered 500",
				f.ExtensionRef.Kind, f.ExtensionRef.Group), "remove the filter")
		out.Failed = fmt.Sprintf("filter %s %s is not known", f.ExtensionRef.Kind, f.ExtensionRef.Name)
		return
	case gatewayv1.HTTPRouteFilterExternalAuth:
		b.find(policy.Error, string(gatewayv1.RouteConditionAccepted), policy.ReasonUnsupported, field+".type",
			"the mesh cannot ask an authorization service yet, and must not let requests pass unasked: they are answered 500",
			"remove the filter")
		out.Failed = "filter ExternalAuth is not supported"
		b.fails = !place.ofBackend()
		return
	case gatewayv1.HTTPRouteFilterURLRewrite:
		b.urlRewrite(field+"."+section, f.URLRewrite, place, out)
		return
	case gatewayv1.HTTPRouteFilterRequestRedirect, gatewayv1.HTTPRouteFilterRequestMirror, gatewayv1.HTTPRouteFilterCORS:
	default:
		b.invalid(policy.ReasonUnsupported, field+".type", fmt.Sprintf("%q is not a filter of %ss", f.Type, b.route.Kind), "remove it")
		return
	}
	if place.ofBackend() {
		b.invalid(policy.ReasonUnsupported, field+".type", fmt.Sprintf("filter %s cannot depend on the backend, which is chosen after it", f.Type),
			"move it to the filters of the rule")
		return
	}
	switch f.Type { //nolint:exhaustive // the others are done
	case gatewayv1.HTTPRouteFilterRequestRedirect:
		out.Redirect = b.redirect(field+"."+section, f.RequestRedirect, place)
	case gatewayv1.HTTPRouteFilterRequestMirror:
		b.mirror(field+"."+section, f.RequestMirror, out)
	case gatewayv1.HTTPRouteFilterCORS:
		out.CORS = b.cors(field+"."+section, f.CORS)
	}
}

// hasSection reports whether a filter has the section that its type promises.
// It is true for a type that is not known.
func hasSection(f *gatewayv1.HTTPRouteFilter) bool {
	switch f.Type {
	case gatewayv1.HTTPRouteFilterRequestHeaderModifier:
		return f.RequestHeaderModifier != nil
	case gatewayv1.HTTPRouteFilterResponseHeaderModifier:
		return f.ResponseHeaderModifier != nil
	case gatewayv1.HTTPRouteFilterRequestRedirect:
		return f.RequestRedirect != nil
	case gatewayv1.HTTPRouteFilterURLRewrite:
		return f.URLRewrite != nil
	case gatewayv1.HTTPRouteFilterRequestMirror:
		return f.RequestMirror != nil
	case gatewayv1.HTTPRouteFilterCORS:
		return f.CORS != nil
	case gatewayv1.HTTPRouteFilterExtensionRef:
		return f.ExtensionRef != nil
	case gatewayv1.HTTPRouteFilterExternalAuth:
	}
	return true
}

// ofConnection reports whether a header, in lower case, is of one hop only (RFC 9110, 7.6.1)
// or tells where a message ends. If such a header changes behind Envoy's back, the next hop
// finds another end of the message, and a second request in a body.
func ofConnection(name string) bool {
	switch name {
	case "connection", "content-length", "http2-settings", "keep-alive", "proxy-authenticate", "proxy-authentication-info",
		"proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade":
		return true
	}
	return false
}

// headerEdits returns the changes of a header modifier, names in lower case. If a list has several entries
// for one name, the first counts; one name in several lists is a contradiction.
func (b *routeBuilder) headerEdits(field string, in *gatewayv1.HTTPHeaderFilter) policy.HeaderEdits {
	var out policy.HeaderEdits
	lists := make(map[string]string)
	name := func(list string, index int, name string) (string, bool) {
		at := fmt.Sprintf("%s.%s[%d]", field, list, index)
		if list != "remove" {
			at += ".name"
		}
		name = strings.ToLower(name)
		switch other, ok := lists[name]; {
		case !isToken(name):
			b.invalid(policy.ReasonUnsupported, at, fmt.Sprintf("%q is not a header's name", name), "correct it")
		case name == "host":
			b.invalid(policy.ReasonUnsupported, at, "the Host header is not changed like others", "use a filter URLRewrite with hostname")
		case ofConnection(name):
			b.invalid(policy.ReasonUnsupported, at, fmt.Sprintf("%s is of the connection or says where a message ends: Envoy alone may change it", name),
				"remove it from the filter")
		case ok && other == list:
		case ok:
			b.invalid(policy.ReasonUnsupported, at, fmt.Sprintf("header %s also stands in %s", name, other), "name it once")
		default:
			lists[name] = list
			return name, true
		}
		return "", false
	}
	headers := func(list string, in []gatewayv1.HTTPHeader) []policy.Header {
		var out []policy.Header
		for i, h := range in {
			if !isHeaderValue(h.Value) || len(h.Value) > maxHeaderValue {
				b.invalid(policy.ReasonUnsupported, fmt.Sprintf("%s.%s[%d].value", field, list, i),
					fmt.Sprintf("has control characters or more than %d bytes", maxHeaderValue), "correct it")
			}
			if name, ok := name(list, i, string(h.Name)); ok {
				out = append(out, policy.Header{Name: name, Value: h.Value})
			}
		}
		return out
	}
	out.Set = headers("set", in.Set)
	out.Add = headers("add", in.Add)
	for i, h := range in.Remove {
		if name, ok := name("remove", i, h); ok {
			out.Remove = append(out.Remove, name)
		}
	}
	return out
}

// maxHeaderValue is the CRD's bound of a header's value in bytes, well below Envoy's.
const maxHeaderValue = 4096

func (b *routeBuilder) urlRewrite(field string, in *gatewayv1.HTTPURLRewriteFilter, place filterPlace, out *policy.Filters) {
	if in.Hostname != nil {
		out.Host = b.hostname(field+".hostname", string(*in.Hostname))
	}
	if in.Path != nil {
		out.Path = b.pathEdit(field+".path", in.Path, place)
	}
}

func (b *routeBuilder) redirect(field string, in *gatewayv1.HTTPRequestRedirectFilter, place filterPlace) *policy.Redirect {
	out := &policy.Redirect{Scheme: ptr.Deref(in.Scheme, ""), Status: 302}
	if out.Scheme != "" && out.Scheme != "http" && out.Scheme != "https" {
		b.invalid(policy.ReasonUnsupported, field+".scheme", fmt.Sprintf("%q is not a scheme to redirect to", out.Scheme), "give http or https")
	}
	if in.Hostname != nil {
		out.Host = b.hostname(field+".hostname", string(*in.Hostname))
	}
	if in.Path != nil {
		out.Path = b.pathEdit(field+".path", in.Path, place)
	}
	if in.Port != nil {
		if *in.Port < 1 || *in.Port > 65535 {
			b.invalid(policy.ReasonUnsupported, field+".port", fmt.Sprintf("%d is not a port", *in.Port), "give one from 1 to 65535")
		} else {
			out.Port = uint16(*in.Port)
		}
	}
	if in.StatusCode != nil {
		switch *in.StatusCode {
		case 301, 302, 303, 307, 308:
			out.Status = uint16(*in.StatusCode)
		default:
			b.invalid(policy.ReasonUnsupported, field+".statusCode", fmt.Sprintf("%d does not redirect", *in.StatusCode), "give 301, 302, 303, 307 or 308")
		}
	}
	return out
}

func (b *routeBuilder) hostname(field, name string) string {
	_, err := netip.ParseAddr(name)
	if !isDNSName(name) || err == nil {
		b.invalid(policy.ReasonUnsupported, field, fmt.Sprintf("%q is not a host name", name), "write it in lower case, without a port")
		return ""
	}
	return name
}

func (b *routeBuilder) pathEdit(field string, in *gatewayv1.HTTPPathModifier, place filterPlace) *policy.PathEdit {
	check := func(name, value string, empty bool) string {
		if !(empty && value == "") && (!strings.HasPrefix(value, "/") || !isPath(value) || len(value) > maxPath) {
			b.invalid(policy.ReasonUnsupported, field+"."+name, fmt.Sprintf("%q is not a path", value),
				"begin it with /, and percent-encode what is special, such as ? and #")
		}
		return value
	}
	switch in.Type {
	case gatewayv1.FullPathHTTPPathModifier:
		if in.ReplaceFullPath == nil {
			break
		}
		return &policy.PathEdit{Value: check("replaceFullPath", *in.ReplaceFullPath, false)}
	case gatewayv1.PrefixMatchHTTPPathModifier:
		if in.ReplacePrefixMatch == nil {
			break
		}
		if !place.hasPrefix() {
			b.invalid(policy.ReasonUnsupported, field+".type", "ReplacePrefixMatch needs a prefix: every match of the rule must be of type PathPrefix",
				"change the matches, or use ReplaceFullPath")
		}
		return &policy.PathEdit{Prefix: true, Value: check("replacePrefixMatch", *in.ReplacePrefixMatch, true)}
	default:
		b.invalid(policy.ReasonUnsupported, field+".type", fmt.Sprintf("%q is not a way to change a path", in.Type),
			"give ReplaceFullPath or ReplacePrefixMatch")
		return nil
	}
	b.invalid(policy.ReasonUnsupported, field, fmt.Sprintf("type %s needs %s", in.Type, lowerFirst(string(in.Type))), "give it")
	return nil
}

// mirror adds a mirror. One whose backend cannot be resolved is left out: the caller's own
// request is not to suffer from it (spec of HTTPRequestMirrorFilter).
func (b *routeBuilder) mirror(field string, in *gatewayv1.HTTPRequestMirrorFilter, out *policy.Filters) {
	m := policy.Mirror{Numerator: 100, Denominator: 100}
	switch {
	case in.Percent != nil && in.Fraction != nil:
		b.invalid(policy.ReasonUnsupported, field+".fraction", "both percent and fraction are given", "give one of the two")
	case in.Percent != nil:
		if *in.Percent < 0 || *in.Percent > 100 {
			b.invalid(policy.ReasonUnsupported, field+".percent", fmt.Sprintf("%d is not from 0 to 100", *in.Percent), "correct it")
			return
		}
		m.Numerator = uint32(*in.Percent)
	case in.Fraction != nil:
		denominator := ptr.Deref(in.Fraction.Denominator, 100)
		if in.Fraction.Numerator < 0 || denominator < 1 || in.Fraction.Numerator > denominator {
			b.invalid(policy.ReasonUnsupported, field+".fraction", fmt.Sprintf("%d of %d is not a part", in.Fraction.Numerator, denominator), "correct it")
			return
		}
		m.Numerator, m.Denominator = uint32(in.Fraction.Numerator), uint32(denominator)
	}
	m.To = b.backend(field+".backendRef", &in.BackendRef)
	if m.To.Kind == policy.InvalidBackend || m.Numerator == 0 {
		return
	}
	m.To.Index, m.To.Weight = -1, 1
	allot(&m.To, policy.ShareTotal)
	out.Mirrors = append(out.Mirrors, m)
}

func (b *routeBuilder) cors(field string, in *gatewayv1.HTTPCORSFilter) *policy.CORS {
	out := &policy.CORS{AllowCredentials: ptr.Deref(in.AllowCredentials, false), MaxAge: in.MaxAge}
	if out.MaxAge == 0 {
		out.MaxAge = 5
	}
	if out.MaxAge < 0 {
		b.invalid(policy.ReasonUnsupported, field+".maxAge", fmt.Sprintf("%d is not a time", in.MaxAge), "give seconds, at least 1")
	}
	for i, origin := range in.AllowOrigins {
		if !isOrigin(string(origin)) {
			b.invalid(policy.ReasonUnsupported, fmt.Sprintf("%s.allowOrigins[%d]", field, i), fmt.Sprintf("%q is not an origin", origin),
				"write, for example, https://www.example.com, https://*.example.com or *")
		}
		out.AllowOrigins = append(out.AllowOrigins, string(origin))
	}
	for i, method := range in.AllowMethods {
		if method != "*" && !isToken(string(method)) {
			b.invalid(policy.ReasonUnsupported, fmt.Sprintf("%s.allowMethods[%d]", field, i), fmt.Sprintf("%q is not a method", method), "correct it")
		}
		out.AllowMethods = append(out.AllowMethods, string(method))
	}
	names := func(list string, in []gatewayv1.HTTPHeaderName) []string {
		var out []string
		for i, name := range in {
			if name != "*" && !isToken(string(name)) {
				b.invalid(policy.ReasonUnsupported, fmt.Sprintf("%s.%s[%d]", field, list, i), fmt.Sprintf("%q is not a header's name", name), "correct it")
			}
			out = append(out, string(name))
		}
		return out
	}
	out.AllowHeaders = names("allowHeaders", in.AllowHeaders)
	out.ExposeHeaders = names("exposeHeaders", in.ExposeHeaders)
	for i, values := range [3][]string{out.AllowOrigins, out.AllowMethods, out.AllowHeaders} {
		if len(values) > 1 && slices.Contains(values, "*") {
			b.invalid(policy.ReasonUnsupported, field+"."+[3]string{"allowOrigins", "allowMethods", "allowHeaders"}[i],
				"* stands for all, so there is nothing to list besides", "write * alone, or the list")
		}
	}
	return out
}

// isOrigin reports whether a string is an origin as a CORS filter may list it:
// "*", or scheme, host and perhaps port, where the host may be "*" or begin with "*.".
func isOrigin(s string) bool {
	if s == "*" {
		return true
	}
	scheme, host, ok := strings.Cut(s, "://")
	if !ok || scheme != "http" && scheme != "https" {
		return false
	}
	if name, port, ok := strings.Cut(host, ":"); ok {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return false
		}
		host = name
	}
	return host == "*" || isDNSName(strings.ToLower(strings.TrimPrefix(host, "*.")))
}

// lowerFirst returns a name of the API as it is written in YAML.
func lowerFirst(s string) string {
	if s == string(gatewayv1.HTTPRouteFilterCORS) {
		return "cors"
	}
	if s == string(gatewayv1.HTTPRouteFilterURLRewrite) {
		return "urlRewrite"
	}
	if s == "" {
		return ""
	}
	return strings.ToLower(s[:1]) + s[1:]
}
