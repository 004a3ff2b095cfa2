package resolve

import (
	"slices"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/effective"
	"github.com/causeway-mesh/causeway/policy/upstream"
)

// BuildService returns what a Service means, nil if there is none of this name
// or nothing that the mesh could carry: no TCP port, or an external name with
// no backing. Validate says which. The result is the same however the rows are
// ordered. It reads the tables Services, InstanceGroups, Endpoints, Homes, ShiftStates and Objects.
func BuildService(r catalog.Reader, key discovery.Key) *policy.Service {
	svc, ok := catalog.Services.Get(r, key.String())
	if !ok || len(svc.Ports) == 0 {
		return nil
	}
	m := &policy.Service{
		Key:        key,
		ClusterIPs: upstream.OwnAddresses(r, svc),
		Virtual:    upstream.VirtualAddresses(r, svc),
		ClientIP:   svc.ClientIP,
		Provenance: []discovery.ObjectRef{{Kind: discovery.KindService, Key: key, Generation: svc.Generation}},
	}
	var groups []*discovery.InstanceGroup
	for g := range catalog.InstanceGroups.Of(r, key) {
		groups = append(groups, g)
		m.Provenance = append(m.Provenance, discovery.ObjectRef{
			Kind: discovery.KindInstanceGroup, Key: g.Key, Generation: g.Object.Generation,
		})
	}
	sets := slices.Collect(catalog.Endpoints.By(r, catalog.ByService, key.String()))
	if svc.ExternalName != "" && len(groups) == 0 && len(sets) == 0 {
		return nil
	}
	d := upstream.DivisionOf(r, svc)
	m.Home, m.HomeBecause, m.Unknown, m.Shift, m.Reported = d.Home, d.Because, d.Unknown, d.Shift, d.Object != nil
	if m.Shift != nil {
		m.Provenance = append(m.Provenance, m.Shift.Ref())
	}
	ports := upstream.ServicePorts(svc)
	if d.ShareOf(discovery.Instances) == 0 && d.Shift == nil && d.Unknown == "" {
		sets = upstream.WithoutHeld(groups, sets)
	}
	families := upstream.FamiliesOf(svc)
	for _, p := range ports {
		only := len(ports) == 1
		port := upstream.ShapePort(r, key, p, only, &d, groups, sets)
		for i := range port.Backings {
			b := &port.Backings[i]
			b.Zones = upstream.Zones(sets, b.Platform, p, only, families)
			if b.Platform == discovery.Pods {
				b.Nodes = upstream.NodeModeOf(svc)
			}
			b.Unknown = len(b.Zones) == 0 && !upstream.Known(r, key, b.Platform)
		}
		m.Ports = append(m.Ports, port)
	}
	upstream.MarkDefault(m.Ports)
	attachRoutes(r, m)
	applyPolicies(r, m)
	return m
}

// applyPolicies fills in what policies say of a Service's ports, of their
// backings and of the InstanceGroups that routes name.
func applyPolicies(r catalog.Reader, m *policy.Service) {
	if !effective.HasPolicies(r, m.Key) && upstream.UnreadBackingTLS(r, m.Key, discovery.Instances, "") == "" {
		return
	}
	var from []discovery.ObjectRef
	for i := range m.Ports {
		p := &m.Ports[i]
		p.Settings = effective.ServiceSettings(r, m.Key, p.Name)
		from = append(from, p.Settings.Refs()...)
		on := func(platform discovery.BackingName, group string) (policy.Settings, *policy.TLS) {
			s := effective.BackingSettings(r, m.Key, p.Name, platform, group)
			tls, refs := upstream.BackingTLS(r, m.Key, p.Name, platform, group, &s)
			if tls == nil && p.InTLS() {
				tls = upstream.MissingTLS(r, m.Key, p)
			}
			from = append(append(from, s.Refs()...), refs...)
			return s, tls
		}
		for j := range p.Backings {
			b := &p.Backings[j]
			b.Settings, b.TLS = on(b.Platform, "")
		}
		p.TLS = p.Backings[0].TLS
		for j := range p.Groups {
			g := &p.Groups[j]
			g.Settings, g.TLS = on(discovery.Instances, g.Name)
		}
	}
	m.Provenance = append(m.Provenance, policy.SortedRefs(from)...)
}
