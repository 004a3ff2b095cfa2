package resolve

import (
	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/effective"
)

// StatusOf returns the status of a row, and reports whether it has one. For
// many rows of one snapshot use Statuses.
func StatusOf(r catalog.Reader, o *discovery.Object) (discovery.Status, bool) {
	return NewStatuses(r).StatusOf(o)
}

// Statuses computes the statuses of rows of one snapshot. It reads each Gateway
// once, however many routes name it. It is not for concurrent use.
type Statuses struct {
	r        catalog.Reader
	gateways map[discovery.Key]*routedGateway
}

// NewStatuses returns the Statuses of a snapshot.
func NewStatuses(r catalog.Reader) *Statuses {
	return &Statuses{r: r, gateways: make(map[discovery.Key]*routedGateway)}
}

// StatusOf returns the status of a row, and reports whether it has one.
func (s *Statuses) StatusOf(o *discovery.Object) (discovery.Status, bool) {
	k, ok := kindOf(o.Kind)
	if !ok || k.status == nil {
		return discovery.Status{}, false
	}
	return k.status(s, o), true
}

// routedGateway is a Gateway of ours with the routes that name it.
type routedGateway struct {
	*gatewayMeaning
	routes []*gatewayRoute
	// at is where each route stands in routes.
	at map[discovery.ObjectName]int
	// served are the listeners in force by their ports.
	served map[uint16][]*listenerMeaning
	// settings by port.
	settings map[uint16]*policy.GatewaySettings
}

// gateway returns a Gateway as routes find it, nil if there is none of ours.
func (s *Statuses) gateway(key discovery.Key) *routedGateway {
	if g, ok := s.gateways[key]; ok {
		return g
	}
	var out *routedGateway
	if o, ok := catalog.Objects.Get(s.r, discovery.ObjectName{Kind: discovery.KindGateway, Key: key}.String()); ok {
		out = readRoutedGateway(s.r, o)
	}
	s.gateways[key] = out
	return out
}

func readRoutedGateway(r catalog.Reader, o *discovery.Object) *routedGateway {
	m := readGateway(r, o)
	if m == nil {
		return nil
	}
	g := &routedGateway{
		gatewayMeaning: m, routes: gatewayRoutes(r, m),
		at: make(map[discovery.ObjectName]int), served: make(map[uint16][]*listenerMeaning), settings: make(map[uint16]*policy.GatewaySettings),
	}
	for i, a := range g.routes {
		g.at[a.object.Name()] = i
	}
	if m.accepted() {
		for _, listeners := range m.ports() {
			g.served[listeners[0].port] = listeners
		}
	}
	return g
}

// serves reports whether a listener takes any connections.
func (g *routedGateway) serves(l *listenerMeaning) bool {
	return len(g.served[l.port]) > 0 && l.inForce()
}

// settingsOf returns the sections of GatewayPolicies that are effective for a port.
func (g *routedGateway) settingsOf(r catalog.Reader, port uint16) *policy.GatewaySettings {
	s, ok := g.settings[port]
	if !ok {
		merged := effective.GatewaySettings(r, g.object.Key, listenerNames(g.served[port]))
		s = &merged
		g.settings[port] = s
	}
	return s
}

func listenerNames(listeners []*listenerMeaning) []string {
	out := make([]string, len(listeners))
	for i, l := range listeners {
		out[i] = l.name
	}
	return out
}
