package equivalence

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/explain"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// The one Gateway, of which each case of a push has two ports, a plain and a
// secure one, so that cases do not meet.
const (
	gatewayNamespace = "edge"
	gatewayName      = "public"
	casesPerGateway  = 8
)

func gatewayKey() discovery.Key { return discovery.Key{Namespace: gatewayNamespace, Name: gatewayName} }

// slotPorts returns the Gateway's ports of the case in a slot. The well-known
// ones are among them, because redirects leave them out.
func slotPorts(slot int) (plain, secure int32) {
	if slot == 0 {
		return 80, 443
	}
	return 8080 + int32(slot), 8443 + int32(slot) //nolint:gosec // small
}

// gatewayCase is the listeners of two ports with the routes that name them,
// and the requests to send.
type gatewayCase struct {
	index, slot int
	// push makes the names of routes new every time.
	push      int
	listeners []gatewayv1.Listener
	routes    []*gatewayv1.HTTPRoute
	policies  []*v1alpha1.GatewayPolicy
	requests  []gatewayRequest
}

// gatewayRequest is a request, with how the client connects.
type gatewayRequest struct {
	request
	Secure bool
	// ServerName is "" for a client that sends none.
	ServerName string
}

func (c *gatewayCase) name(object string) string {
	return fmt.Sprintf("c%d-%d-%s", c.push, c.slot, object)
}

// tagHeader is set by every rule in its answers, to the rule itself.
const tagHeader = "x-rule"

func tagOf(e *explain.Explanation) string {
	switch r := e.Rule; {
	case r != nil:
		return fmt.Sprintf("%s.%d", r.Object, r.Index)
	case e.Answer != nil && e.Answer.HeadersOf != "":
		_, name, _ := strings.Cut(e.Answer.HeadersOf, "/")
		return strings.Replace(name, " rule ", ".", 1)
	}
	return ""
}

// placed returns the case's listeners at the ports of its slot.
func (c *gatewayCase) placed() []gatewayv1.Listener {
	plain, secure := slotPorts(c.slot)
	var out []gatewayv1.Listener
	for i := range c.listeners {
		l := *c.listeners[i].DeepCopy()
		l.Name = gatewayv1.SectionName(fmt.Sprintf("s%d-%s", c.slot, l.Name))
		if l.Port = plain; l.Protocol == gatewayv1.HTTPSProtocolType {
			l.Port = secure
		}
		out = append(out, l)
	}
	return out
}

// objects returns the rows of the routes and policies.
func (c *gatewayCase) objects() []*discovery.Object {
	plain, secure := slotPorts(c.slot)
	gateway := discovery.ObjectName{Kind: "Gateway", Key: gatewayKey()}
	var out []*discovery.Object
	row := func(kind string, meta *metav1.ObjectMeta, spec any, refs []discovery.ObjectName) {
		slices.SortFunc(refs, func(a, b discovery.ObjectName) int { return cmp.Compare(a.String(), b.String()) })
		out = append(out, &discovery.Object{
			Scope: casesScope, Kind: kind, Key: discovery.Key{Namespace: meta.Namespace, Name: meta.Name},
			Generation: 1, Created: meta.CreationTimestamp.Time, Spec: spec, Refs: slices.Compact(refs),
		})
	}
	for _, r := range c.routes {
		r := r.DeepCopy()
		r.Name = c.name(r.Name)
		refs := []discovery.ObjectName{gateway}
		for i := range r.Spec.ParentRefs {
			p := &r.Spec.ParentRefs[i]
			if p.SectionName != nil {
				p.SectionName = new(gatewayv1.SectionName(fmt.Sprintf("s%d-%s", c.slot, *p.SectionName)))
			}
			if p.Port != nil && *p.Port == 443 {
				p.Port = &secure
			} else {
				p.Port = nilUnless(p.Port != nil, plain)
			}
			if p.Port == nil && p.SectionName == nil { // it would be at the ports of all cases
				p.Port = &plain
			}
		}
		for i := range r.Spec.Rules {
			rule := &r.Spec.Rules[i]
			rule.Filters = tagged(rule.Filters, fmt.Sprintf("%s.%d", r.Name, i))
			refs = append(refs, mirrorRefs(r.Namespace, rule.Filters)...)
			for j := range rule.BackendRefs {
				refs = append(refs, refName(r.Namespace, &rule.BackendRefs[j].BackendObjectReference))
			}
		}
		row("HTTPRoute", &r.ObjectMeta, r, refs)
	}
	for _, p := range c.policies {
		p := p.DeepCopy()
		p.Name = c.name(p.Name)
		for i := range p.Spec.TargetRefs {
			t := &p.Spec.TargetRefs[i]
			t.Name, t.SectionName = gatewayName, fmt.Sprintf("s%d-%s", c.slot, t.SectionName)
		}
		row("GatewayPolicy", &p.ObjectMeta, p, []discovery.ObjectName{gateway})
	}
	return out
}

func nilUnless[T any](ok bool, v T) *T {
	if !ok {
		return nil
	}
	return &v
}

// tagged has a rule tell in its answers which one it is.
func tagged(filters []gatewayv1.HTTPRouteFilter, text string) []gatewayv1.HTTPRouteFilter {
	h := gatewayv1.HTTPHeader{Name: tagHeader, Value: text}
	for i := range filters {
		if m := filters[i].ResponseHeaderModifier; m != nil {
			m.Set = append(m.Set, h)
			return filters
		}
	}
	return append(filters, gatewayv1.HTTPRouteFilter{
		Type: gatewayv1.HTTPRouteFilterResponseHeaderModifier, ResponseHeaderModifier: &gatewayv1.HTTPHeaderFilter{Set: []gatewayv1.HTTPHeader{h}},
	})
}

func (c *gatewayCase) port(r gatewayRequest) uint16 {
	plain, secure := slotPorts(c.slot)
	if r.Secure {
		return uint16(secure) //nolint:gosec // a port
	}
	return uint16(plain) //nolint:gosec // a port
}

func (c *gatewayCase) text(r gatewayRequest) string {
	var b strings.Builder
	text, err := yaml.Marshal(c.placed())
	if err != nil {
		text = []byte(err.Error())
	}
	fmt.Fprintf(&b, "--- listeners\n%s", text)
	for _, o := range c.objects() {
		text, err := yaml.Marshal(o.Spec)
		if err != nil {
			text = []byte(err.Error())
		}
		fmt.Fprintf(&b, "--- %s (created %s)\n%s", o.Kind, o.Created.UTC().Format("15:04:05"), text)
	}
	fmt.Fprintf(&b, "--- request to port %d, server name %q\n%s", c.port(r), r.ServerName, strings.ReplaceAll(r.String(), "\r\n", "\n"))
	return b.String()
}

// Host names of listeners and routes, and of requests.
func listenerNames() []string {
	return []string{"", "*.example.com", "shop.example.com", "*.shop.example.com", "api.shop.example.com", "*.com", "example.org", "Shop.Example.com"}
}

func requestNames() []string {
	return []string{
		"shop.example.com", "www.example.com", "example.com", "api.shop.example.com", "a.b.shop.example.com", "example.org",
		"www.example.org", "other.net", "SHOP.example.COM", "shop.example.com.", "xshop.example.com",
	}
}

const requestsPerGatewayCase = 24

// newGatewayCase draws a case. The same seed and index give the same case.
func newGatewayCase(seed uint64, index int) *gatewayCase {
	g := generator{rand.New(rand.NewPCG(seed, 1<<32+uint64(index)))} //nolint:gosec // not negative
	c := &gatewayCase{index: index, slot: index % casesPerGateway}
	for _, protocol := range []gatewayv1.ProtocolType{gatewayv1.HTTPProtocolType, gatewayv1.HTTPSProtocolType} {
		names := listenerNames()[:7]
		for i, n := range g.Perm(len(names))[:1+g.IntN(3)] {
			c.listeners = append(c.listeners, g.listener(protocol, i, names[n]))
		}
	}
	for i := range 1 + g.IntN(4) {
		r := &gatewayv1.HTTPRoute{ObjectMeta: metav1.ObjectMeta{
			Name: string(rune('a' + i)), Namespace: pick(g, "web", "web", "shop", gatewayNamespace),
			CreationTimestamp: metav1.NewTime(time.Date(2026, 1, 1, 0, 0, g.IntN(3), 0, time.UTC)),
		}}
		for range pick(g, 1, 1, 2) {
			p := g.gatewayParent(c)
			if !slices.ContainsFunc(r.Spec.ParentRefs, func(o gatewayv1.ParentReference) bool { return g.same(o, p) }) {
				r.Spec.ParentRefs = append(r.Spec.ParentRefs, p)
			}
		}
		for _, n := range g.Perm(8)[:pick(g, 0, 0, 1, 1, 2, 3)] {
			if name := listenerNames()[n]; name != "" && n < 7 {
				r.Spec.Hostnames = append(r.Spec.Hostnames, gatewayv1.Hostname(name))
			}
		}
		for range 1 + g.IntN(3) {
			r.Spec.Rules = append(r.Spec.Rules, g.httpRule())
		}
		c.routes = append(c.routes, r)
	}
	if g.chance(30) {
		p := &v1alpha1.GatewayPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: gatewayNamespace}}
		l := c.listeners[g.IntN(len(c.listeners))]
		p.Spec.TargetRefs = []v1alpha1.GatewayTarget{{Group: gatewayv1.GroupName, Kind: "Gateway", SectionName: string(l.Name)}}
		p.Spec.InFront = pick(g, []v1alpha1.Hop{{Kind: v1alpha1.HopALB}}, []v1alpha1.Hop{{Kind: v1alpha1.HopCloudFront}, {Kind: v1alpha1.HopALB}})
		c.policies = append(c.policies, p)
	}
	for range requestsPerGatewayCase {
		c.requests = append(c.requests, g.gatewayRequest(c))
	}
	return c
}

func (g generator) listener(protocol gatewayv1.ProtocolType, index int, name string) gatewayv1.Listener {
	l := gatewayv1.Listener{Name: gatewayv1.SectionName(fmt.Sprintf("%s%d", strings.ToLower(string(protocol)), index)), Protocol: protocol}
	if name != "" {
		l.Hostname = new(gatewayv1.Hostname(name))
	}
	l.AllowedRoutes = &gatewayv1.AllowedRoutes{Namespaces: &gatewayv1.RouteNamespaces{From: new(pick(g, gatewayv1.NamespacesFromAll, gatewayv1.NamespacesFromAll, gatewayv1.NamespacesFromAll, gatewayv1.NamespacesFromSame))}}
	return l
}

// gatewayParent names a port (80 and 443 stand for those of the slot), or a listener.
func (g generator) gatewayParent(c *gatewayCase) gatewayv1.ParentReference {
	p := gatewayv1.ParentReference{
		Group: new(gatewayv1.Group(gatewayv1.GroupName)), Kind: new(gatewayv1.Kind("Gateway")),
		Namespace: new(gatewayv1.Namespace(gatewayNamespace)), Name: gatewayName,
	}
	if g.chance(60) {
		p.Port = new(pick[gatewayv1.PortNumber](g, 80, 443))
	} else {
		p.SectionName = new(c.listeners[g.IntN(len(c.listeners))].Name)
	}
	return p
}

func (g generator) same(a, b gatewayv1.ParentReference) bool {
	return fmt.Sprint(a.Port != nil, b.Port != nil) != "true true" && fmt.Sprint(a.SectionName != nil, b.SectionName != nil) != "true true" ||
		a.Port != nil && b.Port != nil && *a.Port == *b.Port || a.SectionName != nil && b.SectionName != nil && *a.SectionName == *b.SectionName
}

func (g generator) gatewayRequest(c *gatewayCase) gatewayRequest {
	cases := &routeCase{http: c.routes, namespace: "web", ports: []discovery.ServicePort{{Port: 80}}}
	out := gatewayRequest{request: g.tidyRequest(cases), Secure: g.chance(50)}
	out.Host, out.User = pick(g, requestNames()...), ""
	if out.Secure {
		out.ServerName = strings.ToLower(strings.TrimSuffix(out.Host, "."))
		if g.chance(30) {
			out.ServerName = pick(g, "", "shop.example.com", "www.example.com", "other.net", "api.shop.example.com", "example.org")
		}
	}
	if g.chance(20) {
		out.Host += pick(g, ":80", ":443", ":8080", ":1")
	}
	if g.chance(15) {
		out.Headers = append(out.Headers, explain.Header{Name: g.spelled("X-Forwarded-For"), Value: pick(g, "198.51.100.1", "10.0.0.1, 198.51.100.1", "unknown", "1.1.1.1,2.2.2.2,3.3.3.3")})
	}
	if g.chance(10) {
		out.Headers = append(out.Headers, explain.Header{Name: "X-Forwarded-Proto", Value: pick(g, "http", "https")})
	}
	if g.chance(5) {
		out.Headers = append(out.Headers, explain.Header{Name: pick(g, "x-envoy-original-path", "X-Envoy-Retry-On", "x_user", "x-forwarded-host", "x-real-ip", "forwarded"), Value: "x"})
	}
	g.untidy(&out.request, out.Secure)
	return out
}

// rowsOfGateway returns the Gateway with the listeners of all cases and of the
// marker, and the objects of all cases.
func rowsOfGateway(push int, cases []*gatewayCase, chain, key func(listener int) string) []*discovery.Object {
	gateway := &gatewayv1.Gateway{ObjectMeta: metav1.ObjectMeta{Namespace: gatewayNamespace, Name: gatewayName}}
	gateway.Spec.GatewayClassName = v1alpha1.GatewayClassName
	all := &gatewayv1.AllowedRoutes{Namespaces: &gatewayv1.RouteNamespaces{From: new(gatewayv1.NamespacesFromAll)}}
	gateway.Spec.Listeners = []gatewayv1.Listener{{Name: "marker", Port: markerPort, Protocol: gatewayv1.HTTPProtocolType, AllowedRoutes: all}}
	marker := &gatewayv1.HTTPRoute{ObjectMeta: metav1.ObjectMeta{Namespace: gatewayNamespace, Name: "marker"}}
	marker.Spec.ParentRefs = []gatewayv1.ParentReference{{Name: gatewayName, SectionName: new(gatewayv1.SectionName("marker"))}}
	marker.Spec.Hostnames = []gatewayv1.Hostname{gatewayv1.Hostname(markerHost(push))}
	marker.Spec.Rules = []gatewayv1.HTTPRouteRule{{
		Matches: []gatewayv1.HTTPRouteMatch{{Path: &gatewayv1.HTTPPathMatch{Type: new(gatewayv1.PathMatchPathPrefix), Value: new("/")}}},
		Filters: []gatewayv1.HTTPRouteFilter{{Type: gatewayv1.HTTPRouteFilterRequestRedirect, RequestRedirect: &gatewayv1.HTTPRequestRedirectFilter{
			StatusCode: new(302), Hostname: new(gatewayv1.PreciseHostname("marked.example")),
		}}},
	}}
	name := discovery.ObjectName{Kind: "Gateway", Key: gatewayKey()}
	out := []*discovery.Object{{
		Scope: casesScope, Kind: "HTTPRoute", Key: discovery.Key{Namespace: gatewayNamespace, Name: "marker"}, Spec: marker,
		Refs: []discovery.ObjectName{name}, Generation: int64(push),
	}}
	for _, c := range cases {
		c.push = push
		for i, l := range c.placed() {
			if l.Protocol == gatewayv1.HTTPSProtocolType {
				l.TLS = &gatewayv1.ListenerTLSConfig{Mode: new(gatewayv1.TLSModeTerminate), Options: map[gatewayv1.AnnotationKey]gatewayv1.AnnotationValue{
					policy.CertificateFileOption: gatewayv1.AnnotationValue(chain(i)), policy.KeyFileOption: gatewayv1.AnnotationValue(key(i)),
				}}
			}
			gateway.Spec.Listeners = append(gateway.Spec.Listeners, l)
		}
		out = append(out, c.objects()...)
	}
	return append(out, &discovery.Object{
		Scope: casesScope, Kind: "Gateway", Key: gatewayKey(), Spec: gateway, Generation: int64(push),
	})
}

const markerPort = 7999

func markerHost(push int) string { return fmt.Sprintf("marker-%d.example", push) }
