package resolve

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/effective"
	"github.com/causeway-mesh/causeway/policy/routing"
)

// attachRoutes fills in what the routes that name the Service as their parent
// make of its ports, and which InstanceGroups of it routes name as backends.
//
// Routes of the Service's own namespace (producer routes) hold for every
// caller; those of another (consumer routes) hold for callers of that
// namespace only, and there instead of the producer routes (GEP-1294,
// "Namespace boundaries"). On either side routes of one kind merge; where
// several kinds attach to one port, the most specific kind holds alone.
func attachRoutes(r catalog.Reader, m *policy.Service) {
	attachGroups(r, m)
	defer attachUnread(r, m)
	attached := attachments(r, m.Key, m.Ports)
	if len(attached) == 0 {
		return
	}
	for i := range m.Ports {
		p := &m.Ports[i]
		for _, namespace := range namespacesOf(attached) {
			routes := holding(attached, namespace, p.Number)
			if len(routes) == 0 {
				continue
			}
			producer := namespace == m.Namespace
			if p.Protocol == policy.TCP {
				tcp := tcpRoutes(r, p, routes)
				if producer {
					p.TCP = tcp
				} else {
					p.ConsumerTCP = with(p.ConsumerTCP, namespace, tcp)
				}
				continue
			}
			http := httpRoutes(r, p, routes)
			if producer {
				p.HTTP = http
			} else {
				p.ConsumerHTTP = with(p.ConsumerHTTP, namespace, http)
			}
		}
	}
}

func with[T any](m map[string]T, key string, value T) map[string]T {
	if m == nil {
		m = make(map[string]T)
	}
	m[key] = value
	return m
}

// attachment is a route at one Service that it names as its parent.
type attachment struct {
	object *discovery.Object
	parent discovery.Key
	// ports of the parent that the route attaches to, sorted.
	ports  []uint16
	reader catalog.Reader
	read   *routing.Meaning
}

// meaning returns what the route says, read once.
func (a *attachment) meaning() *routing.Meaning {
	if a.read == nil {
		a.read = routing.Read(a.reader, a.object, a.parent)
	}
	return a.read
}

// attachments returns the routes that name a Service as their parent, in the
// order of who wins a tie.
func attachments(r catalog.Reader, parent discovery.Key, ports []policy.Port) []*attachment {
	var out []*attachment
	name := discovery.ObjectName{Kind: discovery.KindService, Key: parent}
	for o := range catalog.Objects.By(r, catalog.ByRef, name.String()) {
		spec := commonSpec(o)
		if spec == nil {
			continue
		}
		a := &attachment{object: o, parent: parent, reader: r}
		named := false
		for i := range spec.ParentRefs {
			ref := &spec.ParentRefs[i]
			if key, ok := parentService(o, ref); ok && key == parent {
				named = true
				numbers, _ := parentPorts(o, ref, ports)
				a.ports = append(a.ports, numbers...)
			}
		}
		if named {
			slices.Sort(a.ports)
			a.ports = slices.Compact(a.ports)
			out = append(out, a)
		}
	}
	slices.SortFunc(out, func(a, b *attachment) int { return policy.CompareAge(a.object, b.object) })
	return out
}

// commonSpec returns what all kinds of routes have, nil for another kind.
func commonSpec(o *discovery.Object) *gatewayv1.CommonRouteSpec {
	switch s := o.Spec.(type) {
	case *gatewayv1.HTTPRoute:
		return &s.Spec.CommonRouteSpec
	case *gatewayv1.GRPCRoute:
		return &s.Spec.CommonRouteSpec
	case *gatewayv1.TCPRoute:
		return &s.Spec.CommonRouteSpec
	case *gatewayv1.TLSRoute:
		return &s.Spec.CommonRouteSpec
	}
	return nil
}

// parentService returns the Service that a parentRef names, false for a parent
// of another kind, for which the mesh writes no status.
func parentService(o *discovery.Object, ref *gatewayv1.ParentReference) (discovery.Key, bool) {
	if ref.Group == nil || *ref.Group != "" || ref.Kind == nil || *ref.Kind != discovery.KindService {
		return discovery.Key{}, false
	}
	key := discovery.Key{Namespace: o.Namespace, Name: string(ref.Name)}
	if ref.Namespace != nil && *ref.Namespace != "" {
		key.Namespace = string(*ref.Namespace)
	}
	return key, true
}

// parentPorts returns the ports of a Service that a parentRef attaches a route
// to: those that it names, all if it names none, as far as they speak what the
// route is about. Without any, it returns why.
func parentPorts(o *discovery.Object, ref *gatewayv1.ParentReference, ports []policy.Port) ([]uint16, *policy.Finding) {
	var out []uint16
	named := false
	for i := range ports {
		p := &ports[i]
		if !names(ref, p) {
			continue
		}
		named = true
		if carries(o.Kind, p.Protocol) {
			out = append(out, p.Number)
		}
	}
	switch {
	case len(out) > 0:
		return out, nil
	case named:
		return nil, &policy.Finding{
			Reason:  policy.ReasonUnsupported,
			Message: fmt.Sprintf("no port of the Service that this names speaks what %ss are about", o.Kind),
			Remedy:  attachRemedy(o, ref, ports),
		}
	}
	return nil, &policy.Finding{
		Reason:  string(gatewayv1.RouteReasonNoMatchingParent),
		Message: "the Service has no such port",
		Remedy:  "name one of its ports: " + describePorts(ports),
	}
}

// carries reports whether a kind of route can be about a port.
func carries(kind string, p policy.Protocol) bool {
	switch kind {
	case discovery.KindHTTPRoute:
		return p != policy.TCP
	case discovery.KindGRPCRoute:
		return p.CarriesGRPC()
	}
	return p == policy.TCP
}

// attachRemedy says what has a route attach to the ports that a parentRef names: a port that may speak TLS
// needs a policy that says how, and any other the right appProtocol.
func attachRemedy(o *discovery.Object, ref *gatewayv1.ParentReference, ports []policy.Port) string {
	remedy := "set the appProtocol of the port: " + appProtocolFor(o.Kind)
	if o.Kind != discovery.KindHTTPRoute && o.Kind != discovery.KindGRPCRoute {
		return remedy
	}
	for i := range ports {
		p := &ports[i]
		if names(ref, p) && (p.HTTPS || p.Assumed) {
			return remedy + "; or, if it speaks TLS, create a BackendTLSPolicy about the Service"
		}
	}
	return remedy
}

// names reports whether a parentRef is about a port.
func names(ref *gatewayv1.ParentReference, p *policy.Port) bool {
	return (ref.Port == nil || *ref.Port == int32(p.Number)) && (ref.SectionName == nil || *ref.SectionName == "" || string(*ref.SectionName) == p.Name)
}

func appProtocolFor(kind string) string {
	switch kind {
	case discovery.KindHTTPRoute:
		return "http, or kubernetes.io/h2c"
	case discovery.KindGRPCRoute:
		return "kubernetes.io/h2c, or grpc"
	case discovery.KindTLSRoute:
		return "tls"
	}
	return "tcp"
}

func describePorts(ports []policy.Port) string {
	out := make([]string, len(ports))
	for i := range ports {
		out[i] = strconv.Itoa(int(ports[i].Number))
		if ports[i].Name != "" {
			out[i] += " (" + ports[i].Name + ")"
		}
	}
	return strings.Join(out, ", ")
}

// checkBackings returns the namespaces that routes are of, each once, sorted.
func namespacesOf(attached []*attachment) []string {
	var out []string
	for _, a := range attached {
		out = append(out, a.object.Namespace)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// holding returns the routes of a namespace that hold at a port: those of the
// most specific kind that has any rule to go by.
func holding(attached []*attachment, namespace string, port uint16) []*attachment {
	for _, kind := range discovery.RouteKinds() {
		var out []*attachment
		for _, a := range attached {
			if a.object.Kind == kind && a.object.Namespace == namespace && slices.Contains(a.ports, port) && a.meaning().Holds() {
				out = append(out, a)
			}
		}
		if len(out) > 0 {
			return out
		}
	}
	return nil
}

// httpRoutes merges the HTTPRoutes, or the GRPCRoutes, of a port.
func httpRoutes(r catalog.Reader, p *policy.Port, routes []*attachment) *policy.HTTPRoutes {
	out := &policy.HTTPRoutes{}
	var rules []*routing.RankedRule
	var from provenance
	for _, a := range routes {
		m := a.meaning()
		from.routes = append(from.routes, a.object.Ref())
		from.used = append(from.used, m.Used...)
		settings := make(map[string]policy.Settings)
		for i := range m.HTTP {
			rule := m.HTTP[i]
			s, ok := settings[rule.Name]
			if !ok {
				s = effective.RulePortSettings(r, a.object, rule.Name, a.parent, p.Name)
				settings[rule.Name] = s
				from.settings(s)
			}
			rule.Settings = s
			if rule.Session().Value != nil {
				rule.Backends = withoutFailover(rule.Backends)
			}
			rules = append(rules, &rule)
		}
	}
	routing.SortRules(rules)
	out.Rules = make([]policy.Rule, 0, len(rules))
	for _, rule := range rules {
		out.Rules = append(out.Rules, rule.Rule)
	}
	out.Provenance = from.list()
	return out
}

// withoutFailover returns backends whose backings do not stand in for each
// other. Envoy finds the endpoint of a session in the cluster that a route
// names, and an aggregate cluster has none of its own.
func withoutFailover(in []policy.Backend) []policy.Backend {
	out := slices.Clone(in)
	for i := range out {
		out[i] = out[i].WithoutFailover()
	}
	return out
}

// tcpRoutes merges the TCPRoutes, or the TLSRoutes, of a port.
func tcpRoutes(r catalog.Reader, p *policy.Port, routes []*attachment) *policy.TCPRoutes {
	out := &policy.TCPRoutes{}
	var from provenance
	for _, a := range routes {
		from.routes = append(from.routes, a.object.Ref())
		from.used = append(from.used, a.meaning().Used...)
	}
	if routes[0].object.Kind == discovery.KindTLSRoute {
		out.Rules = tlsRules(routes)
	} else {
		// A connection says nothing that rules could tell apart, so the first takes all.
		out.Rules = slices.Clone(routes[0].meaning().TCP[:1])
	}
	for i := range out.Rules {
		rule := &out.Rules[i]
		for _, a := range routes {
			if a.object.Ref() == rule.Route {
				rule.Settings = effective.RulePortSettings(r, a.object, rule.Name, a.parent, p.Name)
				from.settings(rule.Settings)
			}
		}
	}
	out.Provenance = from.list()
	return out
}

// provenance gathers what rules come from.
type provenance struct{ routes, used []discovery.ObjectRef }

func (p *provenance) settings(s policy.Settings) {
	for _, ref := range s.From {
		p.used = append(p.used, ref)
	}
}

// list returns the routes in their order, then everything else by name, each once.
func (p *provenance) list() []discovery.ObjectRef {
	slices.SortFunc(p.used, compareRefs)
	return append(p.routes, slices.Compact(p.used)...)
}

func compareRefs(a, b discovery.ObjectRef) int {
	return cmp.Or(strings.Compare(a.String(), b.String()), cmp.Compare(a.Generation, b.Generation))
}

// tlsRules merges TLSRoutes.
func tlsRules(routes []*attachment) []policy.TCPRule {
	named := make([]routing.ServerNames, len(routes))
	for i, a := range routes {
		rule := a.meaning().TCP[0]
		named[i] = routing.ServerNames{Rule: rule, Names: rule.ServerNames}
	}
	return routing.MergeServerNames(named)
}
