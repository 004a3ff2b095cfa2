package resolve

import (
	"slices"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/routing"
	"github.com/causeway-mesh/causeway/policy/upstream"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// attachGroups gives ports the InstanceGroups that routes name as backends. A
// group gets its cluster even if the reference turns out not to be granted:
// whether it is depends on the route's parent, and an unused cluster harms nobody.
func attachGroups(r catalog.Reader, m *policy.Service) {
	for g := range catalog.InstanceGroups.Of(r, m.Key) {
		mapped := routing.MappedPorts(g, m.Ports)
		if len(mapped) == 0 {
			continue
		}
		named := namedPorts(r, g, mapped)
		for i := range m.Ports {
			p := &m.Ports[i]
			if !slices.Contains(named, p.Number) {
				continue
			}
			zones, read := groupZones(r, m, p, g.Name)
			p.Groups = append(p.Groups, policy.Group{Name: g.Name, Zones: zones, Unknown: !read})
		}
	}
}

// namedPorts returns the ports of an InstanceGroup that routes name.
func namedPorts(r catalog.Reader, g *discovery.InstanceGroup, mapped []policy.Port) []uint16 {
	var out []uint16
	name := discovery.ObjectName{Kind: discovery.KindInstanceGroup, Key: g.Key}
	for o := range catalog.Objects.By(r, catalog.ByRef, name.String()) {
		for _, ref := range upstream.BackendRefs(o) {
			if ref.Group == nil || *ref.Group != v1alpha1.Group || upstream.BackendName(o, ref) != name {
				continue
			}
			for i := range mapped {
				if ref.Port == nil && len(mapped) == 1 || ref.Port != nil && *ref.Port == int32(mapped[i].Number) {
					out = append(out, mapped[i].Number)
				}
			}
		}
	}
	return out
}

// groupZones returns the endpoints of one InstanceGroup of a Service, and
// whether they have been read.
func groupZones(r catalog.Reader, m *policy.Service, p *policy.Port, group string) (out []policy.Zone, read bool) {
	svc, ok := catalog.Services.Get(r, m.Key.String())
	if !ok {
		return nil, true
	}
	var sets []*discovery.EndpointSet
	for s := range catalog.Endpoints.By(r, catalog.ByService, m.Key.String()) {
		if s.Platform == discovery.Instances && s.Group == group {
			sets = append(sets, s)
		}
	}
	return upstream.Zones(sets, discovery.Instances, discovery.ServicePort{Name: p.Name, Port: p.Number}, len(m.Ports) == 1, upstream.FamiliesOf(svc)), len(sets) > 0
}
