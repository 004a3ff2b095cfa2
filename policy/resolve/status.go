package resolve

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/effective"
)

// Status is what an object's status says of it, without transition times and
// without Programmed, which proxies decide. Only a Gateway and its listeners
// have it here nevertheless, where it is False whatever proxies say.
type Status struct {
	// Conditions of our own kinds.
	Conditions []metav1.Condition
	// Parents of a route: those that are ours to judge.
	Parents []gatewayv1.RouteParentStatus
	// Ancestors of a BackendTLSPolicy.
	Ancestors []gatewayv1.PolicyAncestorStatus
	// Gateway is the status of a Gateway: addresses, conditions and listeners,
	// nil for what is no Gateway of ours.
	Gateway *gatewayv1.GatewayStatus
	// Class is the status of a GatewayClass: conditions and supported features,
	// nil for what is no class of ours.
	Class *gatewayv1.GatewayClassStatus
}

// StatusOf returns what a row's status must say, and whether it has any. Who
// asks for many rows of one snapshot asks a Judge.
func StatusOf(r catalog.Reader, o *discovery.Object) (Status, bool) {
	return NewJudge(r).StatusOf(o)
}

// Judge says what the status of rows of one snapshot must say. It reads each
// Gateway once, however many routes name it. It is not for concurrent use.
type Judge struct {
	r        catalog.Reader
	gateways map[discovery.Key]*judgedGateway
}

// NewJudge returns a Judge of a snapshot.
func NewJudge(r catalog.Reader) *Judge {
	return &Judge{r: r, gateways: make(map[discovery.Key]*judgedGateway)}
}

// StatusOf returns what a row's status must say, and whether it has any.
func (j *Judge) StatusOf(o *discovery.Object) (Status, bool) {
	k, ok := kindOf(o.Kind)
	if !ok || k.status == nil {
		return Status{}, false
	}
	return k.status(j, o), true
}

// judgedGateway is a Gateway of ours with the routes that name it.
type judgedGateway struct {
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
func (j *Judge) gateway(key discovery.Key) *judgedGateway {
	if g, ok := j.gateways[key]; ok {
		return g
	}
	var out *judgedGateway
	if o, ok := catalog.Objects.Get(j.r, discovery.ObjectName{Kind: discovery.KindGateway, Key: key}.String()); ok {
		out = judgeGateway(j.r, o)
	}
	j.gateways[key] = out
	return out
}

func judgeGateway(r catalog.Reader, o *discovery.Object) *judgedGateway {
	m := readGateway(r, o)
	if m == nil {
		return nil
	}
	g := &judgedGateway{
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
func (g *judgedGateway) serves(l *listenerMeaning) bool {
	return len(g.served[l.port]) > 0 && l.inForce()
}

// settingsOf returns the sections of GatewayPolicies that are effective for a port.
func (g *judgedGateway) settingsOf(r catalog.Reader, port uint16) *policy.GatewaySettings {
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
