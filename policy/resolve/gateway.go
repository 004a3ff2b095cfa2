package resolve

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/effective"
	"github.com/causeway-mesh/causeway/policy/routing"
)

// BuildGateway returns the model of a Gateway. It returns nil for one that does
// not exist, belongs to another controller's class, or has no valid listener.
// It reads the rows that its routes read, and the kinds Gateway, GatewayClass,
// GatewayPolicy, TrafficPolicy, Mesh, Secret, Namespace and ReferenceGrant.
func BuildGateway(r catalog.Reader, key discovery.Key) *policy.Gateway {
	o, ok := catalog.Objects.Get(r, discovery.ObjectName{Kind: discovery.KindGateway, Key: key}.String())
	if !ok {
		return nil
	}
	g := readGateway(r, o)
	if g == nil || !g.accepted() {
		return nil
	}
	b := &gatewayBuilder{r: r, gateway: g, routes: gatewayRoutes(r, g), policies: make(map[string][]effective.Statement), unread: unreadRoutes(r, o.Name())}
	m := &policy.Gateway{Key: key, Certificates: g.certificates, Provenance: []discovery.ObjectRef{o.Ref()}}
	if g.class != nil {
		m.Provenance = append(m.Provenance, g.class.Ref())
	}
	var policies []discovery.ObjectRef
	for _, listeners := range g.ports() {
		p := b.port(listeners)
		for _, ref := range p.Settings.From {
			policies = append(policies, ref)
		}
		m.Ports = append(m.Ports, p)
	}
	m.Provenance = append(m.Provenance, policy.SortedRefs(policies)...)
	return m
}

// ports returns the listeners that are in force by their ports, the ports by
// number and the listeners of each by how specific their names are.
func (m *gatewayMeaning) ports() [][]*listenerMeaning {
	by := make(map[uint16][]*listenerMeaning)
	for _, l := range m.listeners {
		if l.inForce() {
			by[l.port] = append(by[l.port], l)
		}
	}
	var out [][]*listenerMeaning
	for _, number := range slices.Sorted(maps.Keys(by)) {
		slices.SortFunc(by[number], func(a, b *listenerMeaning) int { return compareHostnames(a.hostname, b.hostname) })
		out = append(out, by[number])
	}
	return out
}

// gatewayBuilder makes the model of a Gateway.
type gatewayBuilder struct {
	r       catalog.Reader
	gateway *gatewayMeaning
	routes  []*gatewayRoute
	// policies about the Gateway and the Mesh, by the names of listeners.
	policies map[string][]effective.Statement
	// unread are routes that may be attached and cannot be read.
	unread []unreadRoute
}

// port returns a port with its listeners, which are in the order of the model.
func (b *gatewayBuilder) port(listeners []*listenerMeaning) policy.GatewayPort {
	p := policy.GatewayPort{Number: listeners[0].port}
	p.Protocol, _ = listeners[0].listenerProtocol()
	names := make([]string, len(listeners))
	for i, l := range listeners {
		names[i] = l.name
	}
	p.Settings = effective.GatewaySettings(b.r, b.gateway.object.Key, names)
	for _, l := range listeners {
		out := policy.GatewayListener{
			Name: l.name, Hostname: l.hostname, Terminates: l.terminates, Certificates: l.certificates, Clients: l.clients, IsHTTP: l.isHTTP(),
		}
		owned := ownership{l, listeners}
		if out.IsHTTP {
			out.Hosts = b.hosts(l, owned)
			if p.Protocol == policy.ListenTLS {
				out.Hosts = append(out.Hosts, owned.misdirected()...)
			}
			slices.SortFunc(out.Hosts, func(a, b policy.GatewayHost) int { return cmp.Compare(a.Domain, b.Domain) })
		} else {
			out.TCP, out.Provenance = b.connections(l, owned)
		}
		p.Listeners = append(p.Listeners, out)
	}
	return p
}

// ownership knows which names a listener leaves to others of its port.
type ownership struct {
	self *listenerMeaning
	port []*listenerMeaning
}

// has reports whether a name that the listener and a route have in common is
// the listener's: no more specific one takes it in (GatewaySpec.listeners,
// "General Listener behavior").
func (o ownership) has(name string) bool {
	return !slices.ContainsFunc(o.port, func(other *listenerMeaning) bool {
		return other != o.self && covers(o.self.hostname, other.hostname) && covers(other.hostname, name)
	})
}

// misdirected returns the hosts of the port's other listeners.
func (o ownership) misdirected() []policy.GatewayHost {
	var out []policy.GatewayHost
	for _, other := range o.port {
		if other != o.self {
			out = append(out, policy.GatewayHost{Domain: domainOf(other.hostname), Misdirected: true})
		}
	}
	return out
}

// domainOf returns a host name as the domain of a host.
func domainOf(hostname string) string { return cmp.Or(hostname, "*") }

// heldRoute is a route that holds at a listener.
type heldRoute struct {
	*gatewayRoute
	// unread says why the route cannot be read, "" for one that was.
	unread string
	// from is where its rules come from, and rules are they, with their settings.
	rules []routing.RankedRule
	used  []discovery.ObjectRef
}

// hosts returns how a listener handles requests: a host for every name that routes
// have there, and for the listener's own.
//
// A request is matched by the rules of every route with a name that covers it, those
// of the more specific name first (spec of HTTPRouteSpec.hostnames). So a host with
// a name also has the rules of the less specific names, after its own.
func (b *gatewayBuilder) hosts(l *listenerMeaning, owned ownership) []policy.GatewayHost {
	at := map[string][]*heldRoute{l.hostname: nil}
	for _, a := range b.routes {
		if names := a.at(l); len(names) > 0 && a.meaning().Holds() {
			held := b.hold(a, l)
			for _, name := range names {
				at[name] = append(at[name], held)
			}
		}
	}
	for i := range b.unread {
		held, names := b.unreadAt(&b.unread[i], l)
		for _, name := range names {
			at[name] = append(at[name], held)
		}
	}
	var out []policy.GatewayHost
	for _, name := range slices.Sorted(maps.Keys(at)) {
		if name == l.hostname || owned.has(name) {
			out = append(out, policy.GatewayHost{Domain: domainOf(name), HTTPRoutes: mergeHost(name, at)})
		}
	}
	return out
}

// hold reads the rules of a route with what policies say of them at a listener.
func (b *gatewayBuilder) hold(a *gatewayRoute, l *listenerMeaning) *heldRoute {
	m := a.meaning()
	out := &heldRoute{gatewayRoute: a, rules: slices.Clone(m.HTTP), used: slices.Clone(m.Used)}
	settings := make(map[string]policy.Settings)
	for i := range out.rules {
		rule := &out.rules[i]
		s, ok := settings[rule.Name]
		if !ok {
			s = b.settings(a.object, rule.Name, l.name)
			settings[rule.Name] = s
			for _, ref := range s.From {
				out.used = append(out.used, ref)
			}
		}
		rule.Settings = s
		if rule.Session().Value != nil {
			rule.Backends = withoutFailover(rule.Backends)
		}
	}
	return out
}

// mergeHost merges the rules of all routes that have a name at a listener, or
// a wildcard of it. at has the routes by the names that they have there.
func mergeHost(name string, at map[string][]*heldRoute) policy.HTTPRoutes {
	var routes []*heldRoute
	for _, wider := range widening(name) {
		for _, a := range at[wider] {
			if !slices.Contains(routes, a) {
				routes = append(routes, a)
			}
		}
	}
	if i := slices.IndexFunc(routes, func(a *heldRoute) bool { return a.unread != "" }); i >= 0 {
		// Requests that it takes would fall to rules of others, and nobody knows which they are.
		return policy.HTTPRoutes{Rules: []policy.Rule{routes[i].rules[0].Rule}}
	}
	// If a listener narrows two names of a route to the same one, the first
	// name counts. The sort is stable, and routes come by age.
	rank := func(a *heldRoute) int { return specificity(name, a.hostnames) }
	slices.SortStableFunc(routes, func(a, b *heldRoute) int {
		return cmp.Or(cmp.Compare(rank(b), rank(a)), policy.CompareAge(a.object, b.object))
	})
	var out policy.HTTPRoutes
	var from provenance
	for rest := routes; len(rest) > 0; {
		n := 1
		for n < len(rest) && rank(rest[n]) == rank(rest[0]) {
			n++
		}
		var rules []*routing.RankedRule
		for _, a := range rest[:n] {
			from.routes = append(from.routes, a.object.Ref())
			from.used = append(from.used, a.used...)
			for i := range a.rules {
				rules = append(rules, &a.rules[i])
			}
		}
		routing.SortRules(rules)
		for _, rule := range rules {
			out.Rules = append(out.Rules, rule.Rule)
		}
		rest = rest[n:]
	}
	out.Provenance = from.list()
	return out
}

// widening returns a host name and every wildcard that takes it in, down to "".
func widening(name string) []string {
	out := []string{name}
	if name == "" {
		return out
	}
	for rest, more := strings.TrimPrefix(name, "*."), true; more; {
		if _, rest, more = strings.Cut(rest, "."); more {
			out = append(out, "*."+rest)
		}
	}
	return append(out, "")
}

// exactName is more than the length of any wildcard.
const exactName = 1 << 10

// specificity says how specific the best of a route's names is that takes in a
// name: exact ones before wildcards, longer ones before shorter ones, none at last.
func specificity(name string, hostnames []string) int {
	best := 0
	for _, h := range hostnames {
		switch {
		case !covers(h, name):
		case h[0] == '*':
			best = max(best, len(h))
		default:
			return exactName
		}
	}
	return best
}

// connections returns what a listener does with connections: those of the names
// that TLSRoutes give go there, all others by the oldest TCPRoute.
func (b *gatewayBuilder) connections(l *listenerMeaning, owned ownership) ([]policy.TCPRule, []discovery.ObjectRef) {
	var out []policy.TCPRule
	var from provenance
	var named []routing.ServerNames
	var all *gatewayRoute
	for _, a := range b.routes {
		names := a.at(l)
		if len(names) == 0 || len(a.meaning().TCP) == 0 {
			continue
		}
		switch a.object.Kind {
		case discovery.KindTLSRoute:
			taken := false
			for _, name := range names {
				if name != "" && owned.has(name) { // a route that gives no name takes no connection
					named, taken = append(named, routing.ServerNames{Rule: a.meaning().TCP[0], Names: []string{name}, Specificity: specificity(name, a.hostnames)}), true
				}
			}
			if taken {
				from.add(a)
			}
		case discovery.KindTCPRoute:
			if all == nil { // a connection says nothing that rules could tell apart
				all = a
				from.add(a)
			}
		}
	}
	slices.SortStableFunc(named, func(a, b routing.ServerNames) int { return cmp.Compare(b.Specificity, a.Specificity) })
	out = routing.MergeServerNames(named)
	if all != nil {
		out = append(out, all.meaning().TCP[0])
	}
	for i := range out {
		rule := &out[i]
		for _, a := range b.routes {
			if a.object.Ref() == rule.Route {
				rule.Settings = b.settings(a.object, rule.Name, l.name)
				from.settings(rule.Settings)
			}
		}
	}
	return out, from.list()
}

// add notes a route and what it refers to.
func (p *provenance) add(a *gatewayRoute) {
	p.routes = append(p.routes, a.object.Ref())
	p.used = append(p.used, a.meaning().Used...)
}

// settings returns the sections that are effective for a rule of a route (""
// for one without a name) that is attached to a listener.
func (b *gatewayBuilder) settings(route *discovery.Object, rule, listener string) policy.Settings {
	above, ok := b.policies[listener]
	if !ok {
		above = append(effective.Levels(b.r, b.gateway.object.Name(), listener), effective.MeshDefaults(b.r)...)
		b.policies[listener] = above
	}
	return effective.Merge(append(effective.Levels(b.r, route.Name(), rule), above...), policy.RequestLayer)
}
