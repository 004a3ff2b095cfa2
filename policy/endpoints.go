package policy

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
)

// families are the address families of a Service.
type families struct {
	// ipv6 is true if IPv6 comes first.
	ipv6 bool
	// single is true if the Service has no other family.
	single bool
}

// familiesOf returns a Service's address families: what it states, else those of
// its cluster IPs, the first of them first, as kube-proxy has it. A Service that
// says nothing takes both, IPv4 first.
func familiesOf(s *discovery.Service) families {
	stated := s.IPv6
	if len(stated) == 0 {
		for _, ip := range s.ClusterIPs {
			if a, err := netip.ParseAddr(ip); err == nil {
				stated = append(stated, a.Is6())
			}
		}
	}
	if len(stated) == 0 {
		return families{}
	}
	return families{ipv6: stated[0], single: !slices.Contains(stated, !stated[0])}
}

// candidate is an endpoint as one set has it.
type candidate struct {
	Endpoint
	zone      string
	preferred bool // of the preferred address family
}

// zones gathers a backing's endpoints of a port from all sets.
func zones(sets []*discovery.EndpointSet, platform discovery.Platform, p discovery.ServicePort, only bool, f families) []Zone {
	gathered := candidates(sets, platform, p, only, f)
	if len(gathered) == 0 {
		return nil
	}
	all := make([]*candidate, len(gathered))
	for i := range gathered {
		all[i] = &gathered[i]
	}
	all = ofFamilies(all, platform, f)
	// The same endpoint may be in several slices: while slices are rebalanced
	// (Kubernetes documents that consumers must deduplicate) and once per
	// address family. Nothing says which copy is newer. The preferred family
	// wins, then what is most usable, as with kube-proxy: a copy that is stale
	// says "ready" at worst, which retries cover, while a wrong "draining"
	// would take capacity away. The rest of the order makes the choice total.
	slices.SortFunc(all, func(a, b *candidate) int {
		return cmp.Or(strings.Compare(a.ID, b.ID), cmp.Compare(a.Port, b.Port), compareBool(b.preferred, a.preferred), compareCopies(a, b))
	})
	all = slices.CompactFunc(all, func(a, b *candidate) bool { return a.ID == b.ID && a.Port == b.Port })
	// To Envoy, and to a packet, an address and a port are one endpoint, whoever
	// has them. Two may for a while: a pod of a lost node stays in Terminating,
	// and its address is given to another. The one that takes requests counts.
	slices.SortFunc(all, func(a, b *candidate) int {
		return cmp.Or(strings.Compare(a.Address, b.Address), cmp.Compare(a.Port, b.Port), compareCopies(a, b), strings.Compare(a.ID, b.ID))
	})
	all = slices.CompactFunc(all, func(a, b *candidate) bool { return a.Address == b.Address && a.Port == b.Port })
	slices.SortFunc(all, func(a, b *candidate) int {
		return cmp.Or(strings.Compare(a.zone, b.zone), strings.Compare(a.ID, b.ID), cmp.Compare(a.Port, b.Port))
	})
	var out []Zone
	for first := 0; first < len(all); {
		last := first + 1
		for last < len(all) && all[last].zone == all[first].zone {
			last++
		}
		z := Zone{Name: all[first].zone, Endpoints: make([]Endpoint, 0, last-first)}
		for _, c := range all[first:last] {
			z.Endpoints = append(z.Endpoints, c.Endpoint)
		}
		out = append(out, z)
		first = last
	}
	return out
}

// candidates returns what the sets of a platform have for a port.
func candidates(sets []*discovery.EndpointSet, platform discovery.Platform, p discovery.ServicePort, only bool, f families) []candidate {
	total := 0
	for _, s := range sets {
		if s.Platform == platform {
			total += len(s.Endpoints)
		}
	}
	gathered := make([]candidate, 0, total)
	for _, s := range sets {
		if s.Platform != platform {
			continue
		}
		number, ok := portOf(s, p, only)
		if !ok {
			continue
		}
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			// Kubernetes decides with its own probes whether a pod is ready. An
			// instance that fails a check stays known: if all do, Envoy had
			// better try them than refuse.
			if platform == discovery.Pods && e.Health == discovery.Unhealthy {
				continue
			}
			node := ""
			if platform == discovery.Pods {
				node = e.Node
			}
			gathered = append(gathered, candidate{
				Endpoint: Endpoint{
					ID: e.ID, Address: e.Address, Port: number, Node: node, Weight: max(e.Weight, 1),
					Health: e.Health, Reason: e.Reason, Spot: e.Spot,
				},
				zone: e.Zone, preferred: isIPv6(e.Address) == f.ipv6,
			})
		}
	}
	return gathered
}

// ofFamilies returns the endpoints that the Service's address families admit.
// Pods of a Service of one family are reached over that one alone, as with
// kube-proxy. Where there are two, an endpoint without a name of its own cannot
// be told from the same pod's in the other family, so the first family counts
// if it has any. Instances have the family that their InstanceGroup states.
func ofFamilies(all []*candidate, platform discovery.Platform, f families) []*candidate {
	if platform != discovery.Pods || !f.single && !slices.ContainsFunc(all, func(c *candidate) bool { return c.preferred }) {
		return all
	}
	return slices.DeleteFunc(all, func(c *candidate) bool {
		return !c.preferred && (f.single || c.ID == c.Address)
	})
}

// compareCopies orders what may be copies of one endpoint by which counts.
func compareCopies(a, b *candidate) int {
	return cmp.Or(
		cmp.Compare(a.rank(), b.rank()),
		strings.Compare(a.Address, b.Address),
		strings.Compare(a.zone, b.zone),
		strings.Compare(b.Node, a.Node), // one that is told before none
		cmp.Compare(a.Weight, b.Weight),
		compareBool(a.Spot, b.Spot),
		strings.Compare(a.Reason, b.Reason),
	)
}

// rank orders states by how usable they are.
func (e *Endpoint) rank() int {
	switch e.Health {
	case discovery.Healthy:
		return 0
	case discovery.Draining:
		return 1
	case discovery.Unhealthy:
	}
	return 2
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

func isIPv6(address string) bool { return strings.Contains(address, ":") }

// Usable reports whether a backing has an endpoint that gets new requests.
func (b *Backing) Usable() bool {
	for _, z := range b.Zones {
		for i := range z.Endpoints {
			if z.Endpoints[i].Health == discovery.Healthy {
				return true
			}
		}
	}
	return false
}
