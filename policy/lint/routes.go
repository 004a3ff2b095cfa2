package lint

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

func routeRules() []Rule {
	return []Rule{
		{
			Name: "NoWeight", Severity: policy.Warning,
			Doc:   "all backends of a rule have weight 0, so requests that it takes are answered 500",
			value: noWeight,
		},
		{
			Name: "OddWeight", Severity: policy.Warning,
			Doc:   "a weight beside which another one is nothing",
			value: oddWeight,
		},
		{
			Name: "NoParent", Severity: policy.Warning,
			Doc:    "a route names no parent, so it is in force nowhere",
			object: noParent,
		},
		{
			Name: "WrongGroup", Severity: policy.Error,
			Doc:    "a BackendTLSPolicy names a kind with a group that does not have it, so it has no effect",
			object: wrongGroup,
		},
		{
			Name: "WrongParent", Severity: policy.Error,
			Doc:    "a `parentRef` is of a kind or a group that no controller looks at: `kind: Service` needs `group: \"\"`",
			object: wrongParents,
		},
		{
			Name: "LiteralPattern", Severity: policy.Warning,
			Doc:   "a path, header or parameter that is compared letter by letter looks like a pattern: `/checkout/*`, `^v2.*`",
			value: literalPattern,
		},
		{
			Name: "NeverMatches", Severity: policy.Warning,
			Doc:   "a regular expression for a path does not begin as paths do, with a slash",
			value: neverMatches,
		},
		{
			Name: "HostHeader", Severity: policy.Warning,
			Doc:   "a route matches the header Host, which a proxy knows as the route's host names",
			value: hostHeader,
		},
		{
			Name: "MirrorsItself", Severity: policy.Warning,
			Doc:   "requests are mirrored to a backend that the rule sends them to already",
			value: mirrorsItself,
		},
		{
			Name: "OpenCORS", Severity: policy.Warning,
			Doc:   "any origin is allowed together with credentials, so that any web page may act for its visitor",
			value: openCORS,
		},
		{
			Name: "EmptyGrant", Severity: policy.Warning,
			Doc:    "a ReferenceGrant lets in a kind that refers to nothing, or names what is not there",
			object: emptyGrant,
		},
		{
			Name: "UnknownClass", Severity: policy.Warning,
			Doc:    "a Gateway is of a class that is not this controller's, so nothing serves it",
			object: unknownClass,
		},
	}
}

func noWeight(c *check, v *value) {
	m, ok := v.mapping()
	refs := items(m, "backendRefs")
	if !ok || len(refs) == 0 {
		return
	}
	for _, ref := range refs {
		if w, given := number(ref, "weight"); !given || w > 0 {
			return
		}
	}
	c.tell(v.path+".backendRefs", "all weights are 0, so the requests are answered 500", "give one of them a weight, for example 1")
}

func oddWeight(c *check, v *value) {
	m, ok := v.mapping()
	if !ok {
		return
	}
	const odd = 1000
	refs := items(m, "backendRefs")
	for i, ref := range refs {
		w, ok := number(ref, "weight")
		for _, other := range refs {
			o, given := number(other, "weight")
			if !given {
				o = 1
			}
			if ok && o > 0 && w >= odd*o {
				c.tell(fmt.Sprintf("%s.backendRefs[%d].weight", v.path, i), fmt.Sprintf("beside %.0f, a backend with weight %.0f gets next to nothing", w, o), "let the weights be parts of 100, for example 95 and 5")
				break
			}
		}
	}
}

func noParent(c *check, o *Object) {
	if strings.HasSuffix(o.Kind, "Route") && len(items(o.Value, "spec", "parentRefs")) == 0 {
		c.tell("spec.parentRefs", "it is missing, so the route is in force nowhere", `name a Service, with group: "" and kind: Service, or a Gateway`)
	}
}

func wrongGroup(c *check, o *Object) {
	if o.Kind != discovery.KindBackendTLSPolicy {
		return
	}
	look := func(field string, refs []map[string]any, kinds ...string) {
		for i, ref := range refs {
			kind, at := text(ref, "kind"), fmt.Sprintf("%s[%d]", field, i)
			if !slices.Contains(kinds, kind) {
				c.tell(at+".kind", fmt.Sprintf("%s is not a kind that the policy can name here", kind), "write "+strings.Join(kinds, " or "))
			} else if text(ref, "group") != "" {
				c.tell(at+".group", fmt.Sprintf("%q is not the group of a %s, so the policy has no effect", text(ref, "group"), kind), `write group: ""`)
			}
		}
	}
	look("spec.targetRefs", items(o.Value, "spec", "targetRefs"), discovery.KindService)
	look("spec.validation.caCertificateRefs", items(o.Value, "spec", "validation", "caCertificateRefs"), discovery.KindConfigMap)
}

// groups are the API groups of the kinds that objects refer to.
var groups = map[string]string{
	discovery.KindService: "", discovery.KindSecret: "", discovery.KindConfigMap: "", discovery.KindNamespace: "",
	discovery.KindGateway: gatewayv1.GroupName, discovery.KindHTTPRoute: gatewayv1.GroupName, discovery.KindGRPCRoute: gatewayv1.GroupName, discovery.KindTCPRoute: gatewayv1.GroupName,
	discovery.KindTLSRoute: gatewayv1.GroupName, discovery.KindBackendTLSPolicy: gatewayv1.GroupName,
	discovery.KindGatewayParameters: v1alpha1.Group,
	discovery.KindInstanceGroup:     v1alpha1.Group, discovery.KindExternalService: v1alpha1.Group, discovery.KindTrafficPolicy: v1alpha1.Group,
}

func wrongParents(c *check, o *Object) {
	if !strings.HasSuffix(o.Kind, "Route") {
		return
	}
	for i, ref := range items(o.Value, "spec", "parentRefs") {
		field := fmt.Sprintf("spec.parentRefs[%d]", i)
		kind, group := discovery.KindGateway, gatewayv1.GroupName
		if k := text(ref, "kind"); k != "" {
			kind = k
		}
		if g, given := ref["group"].(string); given {
			group = g
		}
		if kind != discovery.KindService && kind != discovery.KindGateway {
			near := discovery.Closest(kind, []string{discovery.KindService, discovery.KindGateway})
			if near == "" {
				near = "Service or Gateway"
			}
			c.tell(field+".kind", fmt.Sprintf("no route attaches to a %s here, so the route is not in force there", kind), "write "+near)
			continue
		}
		if want := groups[kind]; group != want {
			message := fmt.Sprintf("%q is not the group of a %s, so the route is not in force there", group, kind)
			if _, given := ref["group"]; !given {
				message = fmt.Sprintf("without group it is %s, which has no %s, so the route is not in force there", group, kind)
			}
			c.tell(field+".group", message, fmt.Sprintf("write group: %q", want))
		}
	}
}

// patternSigns are what values have that were meant as a pattern.
var patternSigns = []string{"*", ".+", "^", "$", "(", "[", "|", "\\"}

func literalPattern(c *check, v *value) {
	m, ok := v.mapping()
	if !ok || text(m, "type") == string(gatewayv1.PathMatchRegularExpression) {
		return
	}
	written := text(m, "value")
	switch v.name {
	case "path":
		if i := slices.IndexFunc([]string{"*", "^", "$", "(", ".+"}, func(s string) bool { return strings.Contains(written, s) }); i < 0 {
			return
		}
		remedy := "write type: RegularExpression, if it is one"
		if cut, ok := strings.CutSuffix(strings.TrimSuffix(written, "*"), "/"); ok && !strings.Contains(cut, "*") {
			if cut == "" {
				cut = "/"
			}
			remedy = fmt.Sprintf("write type: PathPrefix and value: %s, which takes all below it", cut)
		}
		c.tell(v.path+".value", fmt.Sprintf("%q is compared letter by letter, so no path that a client asks for is like it", written), remedy)
	case "headers", "queryParams":
		if !strings.Contains(v.path, "matches") {
			return
		}
		for _, sign := range patternSigns {
			if strings.Contains(written, sign) && written != "*/*" {
				c.tell(v.path+".value", fmt.Sprintf("%q is compared letter by letter", written), "write type: RegularExpression, if it is one; with .* before and after for a part of the value")
				return
			}
		}
	}
}

func neverMatches(c *check, v *value) {
	m, ok := v.mapping()
	if !ok || v.name != "path" || text(m, "type") != string(gatewayv1.PathMatchRegularExpression) {
		return
	}
	written := strings.TrimLeft(text(m, "value"), "^(?:i)")
	if written == "" || strings.HasPrefix(written, "/") || strings.ContainsRune(`.[\`, rune(written[0])) {
		return
	}
	c.tell(v.path+".value", fmt.Sprintf("%q never matches, because a path begins with a slash and the whole path is compared", text(m, "value")),
		"begin it with a slash, for example /"+written)
}

func hostHeader(c *check, v *value) {
	m, ok := v.mapping()
	if !ok || v.name != "headers" || !strings.Contains(v.path, "matches") {
		return
	}
	name := strings.ToLower(text(m, "name"))
	switch {
	case name == "host" || name == ":authority":
		c.tell(v.path+".name", "a request's host is matched by the route's host names", "list the hosts in spec.hostnames, or make a route for each parent")
	case strings.HasPrefix(name, ":"):
		c.tell(v.path+".name", name+" is no header that a route can match", "match path or method instead")
	case name == "x-forwarded-proto" && !slices.Contains([]string{"http", "https"}, text(m, "value")) && text(m, "type") != "RegularExpression":
		c.tell(v.path+".value", fmt.Sprintf("%q is no scheme that a client comes with", text(m, "value")), "write http or https")
	}
}

func mirrorsItself(c *check, v *value) {
	rule, ok := v.mapping()
	if !ok {
		return
	}
	for i, f := range items(rule, "filters") {
		to := at(f, "requestMirror", "backendRef")
		for _, ref := range items(rule, "backendRefs") {
			if to != nil && text(to, "name") == text(ref, "name") && text(to, "kind") == text(ref, "kind") && text(to, "namespace") == text(ref, "namespace") && samePort(to, ref) {
				c.tell(fmt.Sprintf("%s.filters[%d].requestMirror.backendRef", v.path, i),
					fmt.Sprintf("%s gets the same requests from the rule already, so it acts on each twice", text(to, "name")), "name another backend, or remove the filter")
				break
			}
		}
	}
}

func samePort(a, b any) bool {
	p, _ := number(a, "port")
	q, _ := number(b, "port")
	return p == q
}

func openCORS(c *check, v *value) {
	m, ok := v.mapping()
	if !ok || v.name != "cors" || at(m, "allowCredentials") != true {
		return
	}
	for i, origin := range texts(m, "allowOrigins") {
		if origin == "*" || strings.HasSuffix(origin, "://*") {
			c.tell(fmt.Sprintf("%s.allowOrigins[%d]", v.path, i), "with allowCredentials any web page may act for its visitor", "list the origins, for example https://shop.example.com")
		}
	}
}

// referring are the kinds that refer across namespaces.
var referring = []string{discovery.KindGateway, discovery.KindHTTPRoute, discovery.KindGRPCRoute, discovery.KindTCPRoute, discovery.KindTLSRoute}

func emptyGrant(c *check, o *Object) {
	if o.Kind != discovery.KindReferenceGrant {
		return
	}
	side := func(list string, kinds []string) {
		for i, ref := range items(o.Value, "spec", list) {
			kind, field := text(ref, "kind"), fmt.Sprintf("spec.%s[%d]", list, i)
			if !slices.Contains(kinds, kind) {
				remedy := "write one of " + strings.Join(kinds, ", ")
				if near := discovery.Closest(kind, kinds); near != "" {
					remedy = "did you mean " + near + "?"
				}
				c.tell(field+".kind", fmt.Sprintf("a grant that lists %s has no effect in the mesh", kind), remedy)
			} else if want := groups[kind]; text(ref, "group") != want {
				c.tell(field+".group", fmt.Sprintf("%q is not the group of a %s, so the grant has no effect", text(ref, "group"), kind), "write "+strconv.Quote(want))
			}
		}
	}
	side("from", referring)
	side("to", []string{discovery.KindService, discovery.KindSecret, discovery.KindConfigMap, discovery.KindInstanceGroup, discovery.KindExternalService})
	for i, ref := range items(o.Value, "spec", "to") {
		kind, name := text(ref, "kind"), text(ref, "name")
		if name != "" && c.named(kind, name) == nil && kind != discovery.KindSecret {
			c.tell(fmt.Sprintf("spec.to[%d].name", i), fmt.Sprintf("there is no %s %s/%s", kind, o.Namespace, name), "create it or correct the name")
		}
	}
	for i, ref := range items(o.Value, "spec", "from") {
		if namespace := text(ref, "namespace"); namespace == o.Namespace {
			c.tell(fmt.Sprintf("spec.from[%d].namespace", i), "objects of one namespace need no grant", "name the namespace that refers to this one")
		}
	}
}

func unknownClass(c *check, o *Object) {
	if o.Kind != discovery.KindGateway {
		return
	}
	class := text(o.Value, "spec", "gatewayClassName")
	if class == v1alpha1.GatewayClassName {
		return
	}
	remedy := "write " + v1alpha1.GatewayClassName + ", unless the Gateway is for another controller"
	if found := c.all[discovery.ObjectName{Kind: discovery.KindGatewayClass, Key: discovery.Key{Name: class}}]; found != nil {
		if text(found.Value, "spec", "controllerName") == v1alpha1.ControllerName {
			return
		}
		c.tell("spec.gatewayClassName", fmt.Sprintf("GatewayClass %s is of another controller, so the mesh does not serve this Gateway", class), remedy)
		return
	}
	c.tell("spec.gatewayClassName", fmt.Sprintf("there is no GatewayClass %s, so nothing serves this Gateway", class), remedy)
}
