package policy

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
)

// BuildService returns what a Service means, nil if there is none of this name
// or it has no ports that the mesh carries. The result is the same however the
// rows are ordered.
func BuildService(r catalog.Reader, key discovery.Key) *Service {
	svc, ok := catalog.Services.Get(r, key.String())
	if !ok || len(svc.Ports) == 0 {
		return nil
	}
	m := &Service{
		Key:        key,
		ClusterIPs: svc.ClusterIPs,
		Provenance: []discovery.ObjectRef{{Kind: "Service", Key: key, Generation: svc.Generation}},
	}
	var groups []*discovery.InstanceGroup
	for g := range catalog.InstanceGroups.By(r, catalog.ByService, key.String()) {
		groups = append(groups, g)
		m.Provenance = append(m.Provenance, discovery.ObjectRef{
			Kind: "InstanceGroup", Key: g.Key, Generation: g.Object.Generation,
		})
	}
	m.Home, m.HomeBecause = HomeOf(r, svc)
	sets := slices.Collect(catalog.Endpoints.By(r, catalog.ByService, key.String()))
	ipv6 := prefersIPv6(svc)

	ports := slices.Clone(svc.Ports)
	slices.SortFunc(ports, func(a, b discovery.ServicePort) int { return cmp.Compare(a.Port, b.Port) })
	for _, p := range ports {
		port := Port{Number: p.Port, Name: p.Name, Protocol: ProtocolOf(p), Failover: true}
		port.Backings = append(port.Backings, Backing{
			Platform: discovery.Pods,
			Zones:    zones(sets, discovery.Pods, p, len(ports) == 1, ipv6),
		})
		if len(groups) > 0 || m.Home == discovery.Instances {
			port.Backings = append(port.Backings, Backing{
				Platform: discovery.Instances,
				Zones:    zones(sets, discovery.Instances, p, len(ports) == 1, ipv6),
			})
		}
		for _, b := range port.Backings {
			share := uint32(0)
			if b.Platform == m.Home {
				share = ShareTotal
			}
			port.Shares = append(port.Shares, share)
		}
		m.Ports = append(m.Ports, port)
	}
	markDefault(m.Ports)
	return m
}

// markDefault finds the port that a Host header without a port means: 80, or
// else the lowest that speaks HTTP.
func markDefault(ports []Port) {
	best := -1
	for i := range ports {
		if ports[i].Protocol == TCP {
			continue
		}
		if best < 0 || ports[i].Number == 80 {
			best = i
		}
	}
	if best >= 0 {
		ports[best].DefaultHTTP = true
	}
}

// prefersIPv6 reports whether a Service's endpoints are reached over IPv6: the
// family of its first cluster IP, as kube-proxy has it; IPv4 without one.
func prefersIPv6(s *discovery.Service) bool {
	if len(s.ClusterIPs) == 0 {
		return false
	}
	a, err := netip.ParseAddr(s.ClusterIPs[0])
	return err == nil && a.Is6()
}

// zones gathers a backing's endpoints of a port from all sets.
func zones(sets []*discovery.EndpointSet, platform discovery.Platform, p discovery.ServicePort, only, ipv6 bool) []Zone {
	type candidate struct {
		Endpoint
		zone      string
		preferred bool // of the preferred address family
	}
	total := 0
	for _, s := range sets {
		total += len(s.Endpoints)
	}
	all := make([]candidate, 0, total)
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
			all = append(all, candidate{
				Endpoint: Endpoint{
					ID: e.ID, Address: e.Address, Port: number, Weight: max(e.Weight, 1),
					Health: e.Health, Reason: e.Reason, Spot: e.Spot,
				},
				zone: e.Zone, preferred: isIPv6(e.Address) == ipv6,
			})
		}
	}
	// The same endpoint may be in several slices: while slices are rebalanced
	// (Kubernetes documents that consumers must deduplicate) and once per
	// address family. The preferred family wins, then what is most usable:
	// a copy that is stale says "ready" at worst, which retries cover, while
	// a wrong "draining" would take capacity away.
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(
			cmp.Compare(a.ID, b.ID),
			compareBool(b.preferred, a.preferred),
			cmp.Compare(a.rank(), b.rank()),
			cmp.Compare(a.Address, b.Address),
			cmp.Compare(a.Port, b.Port),
			cmp.Compare(a.zone, b.zone),
		)
	})
	all = slices.CompactFunc(all, func(a, b candidate) bool { return a.ID == b.ID })
	slices.SortStableFunc(all, func(a, b candidate) int { return cmp.Compare(a.zone, b.zone) })
	var out []Zone
	for i := range all {
		if len(out) == 0 || out[len(out)-1].Name != all[i].zone {
			out = append(out, Zone{Name: all[i].zone})
		}
		z := &out[len(out)-1]
		z.Endpoints = append(z.Endpoints, all[i].Endpoint)
	}
	return out
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

func isIPv6(address string) bool {
	for i := range len(address) {
		if address[i] == ':' {
			return true
		}
	}
	return false
}

// portOf returns where a set's endpoints listen for a Service's port: the port
// of the same name. The only port of a Service may be named on one side only.
func portOf(s *discovery.EndpointSet, p discovery.ServicePort, only bool) (uint16, bool) {
	for _, sp := range s.Ports {
		if sp.Name == p.Name {
			return sp.Port, true
		}
	}
	if only && len(s.Ports) == 1 && (p.Name == "" || s.Ports[0].Name == "") {
		return s.Ports[0].Port, true
	}
	return 0, false
}

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
