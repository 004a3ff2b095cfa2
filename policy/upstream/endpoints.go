package upstream

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
)

// Families are the address families of a Service.
type Families struct {
	// ipv6 is true if IPv6 comes first.
	IPv6 bool
	// single is true if the Service has no other family.
	Single bool
}

// FamiliesOf returns a Service's address families: what it states, else those of
// its cluster IPs, the first of them first, as kube-proxy has it. A Service that
// says nothing takes both, IPv4 first.
func FamiliesOf(s *discovery.Service) Families {
	stated := s.IPv6
	if len(stated) == 0 {
		for _, ip := range s.ClusterIPs {
			if a, err := netip.ParseAddr(ip); err == nil {
				stated = append(stated, a.Is6())
			}
		}
	}
	if len(stated) == 0 {
		return Families{}
	}
	return Families{IPv6: stated[0], Single: !slices.Contains(stated, !stated[0])}
}

// candidate is an endpoint as one set has it.
type candidate struct {
	policy.Endpoint
	zone      string
	preferred bool // of the preferred address family
}

// Zones gathers a backing's endpoints of a port from all sets.
func Zones(sets []*discovery.EndpointSet, platform discovery.BackingName, p discovery.ServicePort, only bool, f Families) []policy.Zone {
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
		return cmp.Or(strings.Compare(a.ID, b.ID), cmp.Compare(a.Port, b.Port), policy.CompareBool(b.preferred, a.preferred), compareCopies(a, b))
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
	var out []policy.Zone
	for first := 0; first < len(all); {
		last := first + 1
		for last < len(all) && all[last].zone == all[first].zone {
			last++
		}
		z := policy.Zone{Name: all[first].zone, Endpoints: make([]policy.Endpoint, 0, last-first)}
		for _, c := range all[first:last] {
			z.Endpoints = append(z.Endpoints, c.Endpoint)
		}
		out = append(out, z)
		first = last
	}
	return out
}

// candidates returns what the sets of a platform have for a port.
func candidates(sets []*discovery.EndpointSet, platform discovery.BackingName, p discovery.ServicePort, only bool, f Families) []candidate {
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
		number, ok := PortOf(s, p, only)
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
				Endpoint: policy.Endpoint{
					ID: e.ID, Address: e.Address, Port: number, Node: node, Weight: max(e.Weight, 1),
					Health: e.Health, Reason: e.Reason, Spot: e.Spot,
				},
				zone: e.Zone, preferred: IsIPv6(e.Address) == f.IPv6,
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
func ofFamilies(all []*candidate, platform discovery.BackingName, f Families) []*candidate {
	if platform != discovery.Pods || !f.Single && !slices.ContainsFunc(all, func(c *candidate) bool { return c.preferred }) {
		return all
	}
	return slices.DeleteFunc(all, func(c *candidate) bool {
		return !c.preferred && (f.Single || c.ID == c.Address)
	})
}

// compareCopies orders what may be copies of one endpoint by which counts.
func compareCopies(a, b *candidate) int {
	return cmp.Or(
		cmp.Compare(a.Rank(), b.Rank()),
		strings.Compare(a.Address, b.Address),
		strings.Compare(a.zone, b.zone),
		strings.Compare(b.Node, a.Node), // one that is told before none
		cmp.Compare(a.Weight, b.Weight),
		policy.CompareBool(a.Spot, b.Spot),
		strings.Compare(a.Reason, b.Reason),
	)
}

// IsIPv6 reports whether an IP address is of the newer family.
func IsIPv6(address string) bool { return strings.Contains(address, ":") }
