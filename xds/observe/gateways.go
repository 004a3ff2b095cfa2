package observe

import (
	"cmp"
	"maps"
	"slices"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/xds/observe/observev1"
)

// GatewayListens are the ports on which a proxy of a Gateway listens. Its host
// decides that.
type GatewayListens struct {
	// Everywhere is true for every port that the Gateway has.
	Everywhere bool
	// Ports of the Gateway otherwise.
	Ports []uint16
}

// GatewayProxies counts the connected proxies of a Gateway.
type GatewayProxies struct {
	Proxies int
	// Everywhere is how many of them listen on every port that the Gateway has,
	// Ports how many others on each.
	Everywhere int
	Ports      map[uint16]int
	// Acknowledged is the greatest index of the replica's snapshot that one of
	// them has acknowledged.
	Acknowledged uint64
}

// On returns how many proxies listen on a port of the Gateway.
func (g *GatewayProxies) On(port uint16) int { return g.Everywhere + g.Ports[port] }

func (g *GatewayProxies) add(p *Proxy) {
	g.Proxies++
	g.Acknowledged = max(g.Acknowledged, p.Acknowledged)
	if p.Listens.Everywhere {
		g.Everywhere++
		return
	}
	for _, port := range p.Listens.Ports {
		g.count(port, 1)
	}
}

func (g *GatewayProxies) count(port uint16, n int) {
	if g.Ports == nil {
		g.Ports = make(map[uint16]int)
	}
	g.Ports[port] += n
}

func (g *GatewayProxies) equal(o *GatewayProxies) bool {
	return g.Proxies == o.Proxies && g.Everywhere == o.Everywhere && g.Acknowledged == o.Acknowledged && maps.Equal(g.Ports, o.Ports)
}

// gatewaysOf counts the proxies of each Gateway, nil for none.
func gatewaysOf(proxies []Proxy) map[discovery.Key]*GatewayProxies {
	var out map[discovery.Key]*GatewayProxies
	for i := range proxies {
		p := &proxies[i]
		if p.Gateway == (discovery.Key{}) {
			continue
		}
		g := out[p.Gateway]
		if g == nil {
			if len(out) >= maxGateways {
				continue
			}
			if out == nil {
				out = make(map[discovery.Key]*GatewayProxies)
			}
			g = &GatewayProxies{}
			out[p.Gateway] = g
		}
		g.add(p)
	}
	return out
}

// sumGateways adds up what the replicas say of the proxies of each Gateway.
func sumGateways(reports []Report) map[discovery.Key]*GatewayProxies {
	out := make(map[discovery.Key]*GatewayProxies)
	for i := range reports {
		for key, g := range reports[i].Summary.Gateways {
			sum := out[key]
			if sum == nil {
				sum = &GatewayProxies{}
				out[key] = sum
			}
			sum.Proxies += g.Proxies
			sum.Everywhere += g.Everywhere
			for port, n := range g.Ports {
				sum.count(port, n)
			}
		}
	}
	return out
}

func sameGateways(a, b map[discovery.Key]*GatewayProxies) bool {
	return maps.EqualFunc(a, b, func(x, y *GatewayProxies) bool { return x.equal(y) })
}

func gatewaysTo(gateways map[discovery.Key]*GatewayProxies) []*observev1.Gateway {
	var out []*observev1.Gateway
	for _, key := range slices.SortedFunc(maps.Keys(gateways), func(a, b discovery.Key) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	}) {
		g := gateways[key]
		m := &observev1.Gateway{
			Namespace: key.Namespace, Name: key.Name, Acknowledged: g.Acknowledged,
			Proxies: uint32(g.Proxies), Everywhere: uint32(g.Everywhere), //nolint:gosec // far below 2^32
		}
		for port, n := range g.Ports {
			if m.Ports == nil {
				m.Ports = make(map[uint32]uint32, len(g.Ports))
			}
			m.Ports[uint32(port)] = uint32(n) //nolint:gosec // far below 2^32
		}
		out = append(out, m)
	}
	return out
}

// gatewaysFrom is the inverse of gatewaysTo. It leaves out numbers that cannot
// be ports.
func gatewaysFrom(in []*observev1.Gateway) map[discovery.Key]*GatewayProxies {
	if len(in) == 0 {
		return nil
	}
	out := make(map[discovery.Key]*GatewayProxies, len(in))
	for _, m := range in[:min(len(in), maxGateways)] {
		g := &GatewayProxies{Proxies: int(m.GetProxies()), Everywhere: int(m.GetEverywhere()), Acknowledged: m.GetAcknowledged()}
		for port, n := range m.GetPorts() {
			if port == 0 || port > 1<<16-1 {
				continue
			}
			g.count(uint16(port), int(n))
		}
		out[discovery.Key{Namespace: m.GetNamespace(), Name: m.GetName()}] = g
	}
	return out
}
