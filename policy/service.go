package policy

import (
	"cmp"
	"slices"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// BuildService returns what a Service means, nil if there is none of this name
// or nothing that the mesh could carry: no TCP port, or an external name with
// no backing. Validate says which. The result is the same however the rows are
// ordered. It reads the tables Services, InstanceGroups, Endpoints, Homes, ShiftStates and Objects.
func BuildService(r catalog.Reader, key discovery.Key) *Service {
	svc, ok := catalog.Services.Get(r, key.String())
	if !ok || len(svc.Ports) == 0 {
		return nil
	}
	m := &Service{
		Key:        key,
		ClusterIPs: ownAddresses(r, svc),
		ClientIP:   svc.ClientIP,
		Provenance: []discovery.ObjectRef{{Kind: discovery.KindService, Key: key, Generation: svc.Generation}},
	}
	var groups []*discovery.InstanceGroup
	for g := range catalog.InstanceGroups.By(r, catalog.ByService, key.String()) {
		groups = append(groups, g)
		m.Provenance = append(m.Provenance, discovery.ObjectRef{
			Kind: discovery.KindInstanceGroup, Key: g.Key, Generation: g.Object.Generation,
		})
	}
	sets := slices.Collect(catalog.Endpoints.By(r, catalog.ByService, key.String()))
	if svc.ExternalName != "" && len(groups) == 0 && len(sets) == 0 {
		return nil
	}
	d := divisionOf(r, svc)
	m.Home, m.HomeBecause, m.Unknown, m.Shift, m.Reported = d.home, d.because, d.unknown, d.shift, d.object != nil
	if m.Shift != nil {
		m.Provenance = append(m.Provenance, m.Shift.ref())
	}
	ports := servicePorts(svc)
	if d.pods == ShareTotal && d.shift == nil && d.unknown == "" {
		sets = withoutHeld(groups, sets)
	}
	families := familiesOf(svc)
	for _, p := range ports {
		only := len(ports) == 1
		port := shapePort(p, only, &d, groups, sets)
		for i := range port.Backings {
			b := &port.Backings[i]
			b.Zones = zones(sets, b.Platform, p, only, families)
			if b.Platform == discovery.Pods {
				b.Nodes = nodeModeOf(svc)
			}
			b.Unknown = len(b.Zones) == 0 && !Known(r, key, b.Platform)
		}
		m.Ports = append(m.Ports, port)
	}
	markDefault(m.Ports)
	attachRoutes(r, m)
	applyPolicies(r, m)
	return m
}

// shapePort returns a port with the backings that it has and their shares,
// without endpoints.
func shapePort(p discovery.ServicePort, only bool, d *division, groups []*discovery.InstanceGroup, sets []*discovery.EndpointSet) Port {
	port := Port{Number: p.Port, Name: p.Name, Protocol: ProtocolOf(p), Backings: []Backing{{Platform: discovery.Pods}}}
	port.Failover, port.FailoverStated, port.FailoverBecause = d.failover(p)
	// The home keeps its backing and its share even when its InstanceGroup
	// is deleted or maps another port: the home does not change by that,
	// and failover hands the share on. So do both backings while a shift is
	// under way: their shares must not change because an endpoint does. Where it
	// is not known who has the traffic, no backing is taken away.
	if d.unknown != "" || d.pods < ShareTotal || d.home == discovery.Instances || d.shift != nil || onInstances(groups, sets, p, only) {
		port.Backings = append(port.Backings, Backing{Platform: discovery.Instances})
	}
	for i := range port.Backings {
		port.Shares = append(port.Shares, sideShare(port.Backings[i].Platform, d.pods))
	}
	return port
}

// ownAddresses returns the cluster IPs that are a Service's alone. An API server
// gives none twice, but files may: then the oldest Service has it, of equals
// the first by name, because Envoy takes no name for two virtual hosts.
func ownAddresses(r catalog.Reader, svc *discovery.Service) []string {
	var out []string
	for _, ip := range svc.ClusterIPs {
		if addressOwner(r, svc, ip) == svc {
			out = append(out, ip)
		}
	}
	return out
}

// addressOwner returns who has a cluster IP that a Service states.
func addressOwner(r catalog.Reader, svc *discovery.Service, ip string) *discovery.Service {
	owner := svc
	for other := range catalog.Services.By(r, catalog.ByAddress, ip) {
		if compareCreated(other.Created, other.Key, owner.Created, owner.Key) < 0 {
			owner = other
		}
	}
	return owner
}

// servicePorts returns a Service's ports by number. An API server lets no
// number stand twice; of such a mistake the first by name counts.
func servicePorts(svc *discovery.Service) []discovery.ServicePort {
	ports := slices.Clone(svc.Ports)
	slices.SortFunc(ports, func(a, b discovery.ServicePort) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Name, b.Name), cmp.Compare(a.AppProtocol, b.AppProtocol))
	})
	return slices.CompactFunc(ports, func(a, b discovery.ServicePort) bool { return a.Port == b.Port })
}

// onInstances reports whether instances can answer for a port: an
// InstanceGroup maps it, or endpoints of one are published for it. The latter
// alone is enough, because the two may be read at different times.
func onInstances(groups []*discovery.InstanceGroup, sets []*discovery.EndpointSet, p discovery.ServicePort, only bool) bool {
	for _, g := range groups {
		mapped := g.Object.Spec.Ports
		for i := range mapped {
			if samePort(mapped[i].Name, len(mapped) == 1, p, only) {
				return true
			}
		}
	}
	for _, s := range sets {
		if s.Platform == discovery.Instances {
			if _, ok := portOf(s, p, only); ok {
				return true
			}
		}
	}
	return false
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

// portOf returns where a set's endpoints listen for a Service's port: the port
// of the same name, or else the only one that there is on each side.
func portOf(s *discovery.EndpointSet, p discovery.ServicePort, only bool) (uint16, bool) {
	was := -1
	for i, sp := range s.Ports {
		if sp.Name == p.Name || len(s.Ports) == 1 && only {
			return sp.Port, true
		}
		if p.Was != "" && sp.Name == p.Was {
			was = i
		}
	}
	if was < 0 {
		return 0, false
	}
	return s.Ports[was].Port, true
}

// withoutHeld returns sets without the ports that a group's spec does not map. Where
// pods have all the traffic, nothing is lost by it, and nothing has to be held.
func withoutHeld(groups []*discovery.InstanceGroup, sets []*discovery.EndpointSet) []*discovery.EndpointSet {
	out := slices.Clone(sets)
	for i, s := range out {
		g := slices.IndexFunc(groups, func(g *discovery.InstanceGroup) bool { return s.Platform == discovery.Instances && g.Name == s.Group })
		if g < 0 {
			continue
		}
		mapped := groups[g].Object.Spec.Ports
		kept := slices.DeleteFunc(slices.Clone(s.Ports), func(p discovery.EndpointPort) bool {
			return !slices.ContainsFunc(mapped, func(m v1alpha1.InstancePort) bool { return m.Name == p.Name })
		})
		if len(kept) < len(s.Ports) {
			c := *s
			c.Ports = kept
			out[i] = &c
		}
	}
	return out
}

// samePort reports whether name, on an endpoint's side, means the port p of a
// Service. sole and only say whether each is the only port of its side: then
// there is nothing else that either could mean, whatever they are called. A
// Service, its slices and its InstanceGroup are renamed one after the other, and
// no traffic may move meanwhile.
func samePort(name string, sole bool, p discovery.ServicePort, only bool) bool {
	return name == p.Name || sole && only || p.Was != "" && name == p.Was
}
