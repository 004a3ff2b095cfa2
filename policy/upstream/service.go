package upstream

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/effective"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// ShapePort returns a port of a Service with what is spoken on it, and the backings that it has and their shares,
// without endpoints.
func ShapePort(r catalog.Reader, service discovery.Key, p discovery.ServicePort, only bool, d *Division, groups []*discovery.InstanceGroup, sets []*discovery.EndpointSet) policy.Port {
	port := policy.Port{Number: p.Port, Name: p.Name, Assumed: policy.Assumed(p), HTTPS: policy.DeclaresHTTPS(p)}
	// The home keeps its backing and its share even when its InstanceGroup
	// is deleted or maps another port: the home does not change by that,
	// and failover hands the share on. So do both backings while a shift is
	// under way: their shares must not change because an endpoint does. Where it
	// is not known who has the traffic, no backing is taken away.
	names := d.backings(append(make([]discovery.BackingName, 0, 8), discovery.Pods))
	if d.Unknown != "" || Mapped(groups, p, only) {
		names = append(names, discovery.Instances)
	}
	// Endpoints that are published for the port are enough, because an InstanceGroup
	// may be read at another time.
	for _, s := range sets {
		if slices.Contains(names, s.Platform) {
			continue
		}
		if _, ok := PortOf(s, p, only); ok {
			names = append(names, s.Platform)
		}
	}
	slices.SortFunc(names, discovery.CompareBackings)
	names = slices.Compact(names)
	port.Backings, port.Shares = make([]policy.Backing, 0, len(names)), make([]uint32, 0, len(names))
	for _, name := range names {
		port.Backings = append(port.Backings, policy.Backing{Platform: name})
		port.Shares = append(port.Shares, d.ShareOf(name))
	}
	port.Protocol = spoken(r, service, p, only, names, groups)
	on, stated, because := d.failover(p, port.Protocol)
	if on {
		port.FailOver()
	}
	port.FailoverStated, port.FailoverBecause = stated, because
	return port
}

// OwnAddresses returns the cluster IPs that are a Service's alone. An API server
// gives none twice, but files may: then the oldest Service has it, of equals
// the first by name, because Envoy takes no name for two virtual hosts.
func OwnAddresses(r catalog.Reader, svc *discovery.Service) []string {
	var out []string
	for _, ip := range svc.ClusterIPs {
		if AddressOwner(r, svc, ip) == svc {
			out = append(out, ip)
		}
	}
	return out
}

// VirtualAddresses returns the addresses that connections to a Service can be captured by, wherever its callers run:
// an IPv4 address, unless older Services have all that it can have, and an IPv6 address.
func VirtualAddresses(r catalog.Reader, svc *discovery.Service) []string {
	out := make([]string, 0, 2)
	for choice := range discovery.VirtualChoices {
		if ip := discovery.VirtualAddress(svc.Key, choice).String(); AddressOwner(r, svc, ip) == svc {
			out = append(out, ip)
			break
		}
	}
	return append(out, discovery.VirtualAddress6(svc.Key).String())
}

// AddressOwner returns who has a cluster IP, or a virtual address, that a Service states or can have.
func AddressOwner(r catalog.Reader, svc *discovery.Service, ip string) *discovery.Service {
	owner := svc
	for other := range catalog.Services.By(r, catalog.ByAddress, ip) {
		if policy.CompareCreated(other.Created, other.Key, owner.Created, owner.Key) < 0 {
			owner = other
		}
	}
	return owner
}

// ServicePorts returns a Service's ports by number. An API server lets no
// number stand twice; of such a mistake the first by name counts.
func ServicePorts(svc *discovery.Service) []discovery.ServicePort {
	ports := slices.Clone(svc.Ports)
	slices.SortFunc(ports, func(a, b discovery.ServicePort) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Name, b.Name), cmp.Compare(a.AppProtocol, b.AppProtocol))
	})
	return slices.CompactFunc(ports, func(a, b discovery.ServicePort) bool { return a.Port == b.Port })
}

// Mapped reports whether an InstanceGroup maps a port.
func Mapped(groups []*discovery.InstanceGroup, p discovery.ServicePort, only bool) bool {
	for _, g := range groups {
		mapped := g.Object.Spec.Ports
		for i := range mapped {
			if SamePort(mapped[i].Name, len(mapped) == 1, p, only) {
				return true
			}
		}
	}
	return false
}

// MarkDefault finds the port that a Host header without a port means: 80, or
// else the lowest that speaks HTTP. One that is HTTP only because a policy states TLS comes
// last: the policy must not have requests go to another port.
func MarkDefault(ports []policy.Port) {
	best := -1
	for i := range ports {
		if ports[i].Protocol == policy.TCP {
			continue
		}
		if best < 0 || ports[i].Number == 80 || ports[best].HTTPS && !ports[i].HTTPS && ports[best].Number != 80 {
			best = i
		}
	}
	if best >= 0 {
		ports[best].DefaultHTTP = true
	}
}

// PortOf returns where a set's endpoints listen for a Service's port: the port
// of the same name, or else the only one that there is on each side.
func PortOf(s *discovery.EndpointSet, p discovery.ServicePort, only bool) (uint16, bool) {
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

// WithoutHeld returns sets without the ports that a group's spec does not map. Where
// pods have all the traffic, nothing is lost by it, and nothing has to be held.
func WithoutHeld(groups []*discovery.InstanceGroup, sets []*discovery.EndpointSet) []*discovery.EndpointSet {
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

// SamePort reports whether name, on an endpoint's side, means the port p of a
// Service. sole and only say whether each is the only port of its side: then
// there is nothing else that either could mean, whatever they are called. A
// Service, its slices and its InstanceGroup are renamed one after the other, and
// no traffic may move meanwhile.
func SamePort(name string, sole bool, p discovery.ServicePort, only bool) bool {
	return name == p.Name || sole && only || p.Was != "" && name == p.Was
}

// ShapeOf returns a Service's ports as routes of other Services read them: with
// the backings and their shares and the shift under way, without endpoints. It
// returns none for a Service that does not exist or that the mesh does not
// carry. It agrees with BuildService, at a fraction of the cost.
func ShapeOf(r catalog.Reader, key discovery.Key) Shape {
	svc, ok := catalog.Services.Get(r, key.String())
	if !ok {
		return Shape{}
	}
	groups := slices.Collect(catalog.InstanceGroups.Of(r, key))
	sets := slices.Collect(catalog.Endpoints.By(r, catalog.ByService, key.String()))
	if svc.ExternalName != "" && len(groups) == 0 && len(sets) == 0 {
		return Shape{}
	}
	d := DivisionOf(r, svc)
	ports := ServicePorts(svc)
	out := make([]policy.Port, 0, len(ports))
	for _, p := range ports {
		out = append(out, ShapePort(r, key, p, len(ports) == 1, &d, groups, sets))
	}
	return Shape{out, d.Shift, d.Unknown, d.Object != nil, svc.ClientIP}
}

// Shape is what shapeOf returns.
type Shape struct {
	Ports []policy.Port
	Shift *policy.Shift
	// unknown is Service.Unknown.
	Unknown string
	// reported is Service.Reported, clientIP Service.ClientIP.
	Reported, ClientIP bool
}

// MissingPort says what is missing of a Service, or of a port of it, "" for nothing.
func MissingPort(r catalog.Reader, service discovery.Key, port string) (problem, remedy string) {
	svc, ok := catalog.Services.Get(r, service.String())
	if !ok {
		return fmt.Sprintf("there is no Service %s", service), "create it or correct the name"
	}
	ports := ServicePorts(svc)
	if port == "" || slices.ContainsFunc(ports, func(p discovery.ServicePort) bool { return p.Name == port }) {
		return "", ""
	}
	remedy = "leave sectionName out"
	if len(ports) > 0 {
		remedy = "name one of its ports: " + PortNames(ports)
	}
	return fmt.Sprintf("Service %s has no port named %q", service, port), remedy
}

// Known reports whether what a Service has of a backing has been read: an
// InstanceGroup's instances come from another source than the group itself,
// and not known yet is no failover.
func Known(r catalog.Reader, service discovery.Key, p discovery.BackingName) bool {
	if p != discovery.Instances {
		return true
	}
	published := make(map[string]struct{})
	for s := range catalog.Endpoints.By(r, catalog.ByService, service.String()) {
		if s.Platform == discovery.Instances {
			published[s.Group] = struct{}{}
		}
	}
	for g := range catalog.InstanceGroups.Of(r, service) {
		if _, ok := published[g.Name]; !ok {
			return false
		}
	}
	return effective.Unread(r, discovery.KindInstanceGroup, policy.ServiceUnit(service)) == ""
}

// PortNames lists ports as a message does.
func PortNames(ports []discovery.ServicePort) string {
	out := make([]string, len(ports))
	for i, p := range ports {
		out[i] = fmt.Sprintf("%q", p.Name)
	}
	return strings.Join(out, ", ")
}
