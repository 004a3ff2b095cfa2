package policy

import (
	"slices"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
)

// Model is what a unit means: a *Service, *External, *Gateway or *Mesh.
type Model interface {
	// Shape returns a comparable text of what routes of others read of it, "" for what none names.
	Shape() string
}

// Shape implements Model: no route sends to a Gateway.
func (g *Gateway) Shape() string { return "" }

// Shape implements Model: no route sends to the mesh.
func (m *Mesh) Shape() string { return "" }

// Build returns what a unit means, nil where there is no such unit.
func Build(r catalog.Reader, u Unit) Model {
	switch u.Kind {
	case discovery.KindService:
		if m := BuildService(r, u.Key); m != nil {
			return m
		}
	case discovery.KindExternalService:
		if m := BuildExternal(r, u.Key); m != nil {
			return m
		}
	case discovery.KindGateway:
		if m := BuildGateway(r, u.Key); m != nil {
			return m
		}
	case discovery.KindMesh:
		return BuildMesh(r)
	}
	return nil
}

// Units returns all units that there may be, sorted by kind and name.
func Units(r catalog.Reader) []Unit {
	var out []Unit
	for _, kind := range []string{discovery.KindExternalService, discovery.KindGateway} {
		for o := range catalog.Objects.By(r, catalog.ByKind, kind) {
			out = append(out, o.Name())
		}
	}
	out = append(out, MeshUnit())
	for s := range catalog.Services.All(r) {
		out = append(out, serviceUnit(s.Key))
	}
	return out
}

// HoldShares gives the TCP ports the shares that they had: these are in
// endpoints, which a freeze lets through. It reports whether that makes a difference.
func (s *Service) HoldShares(was *Service) (held bool) {
	if was == nil {
		return false
	}
	for i := range s.Ports {
		p := &s.Ports[i]
		j := slices.IndexFunc(was.Ports, func(old Port) bool { return old.Number == p.Number && old.Protocol == p.Protocol })
		if p.Protocol != TCP || j < 0 || slices.Equal(was.Ports[j].Shares, p.Shares) ||
			!slices.EqualFunc(was.Ports[j].Backings, p.Backings, func(a, b Backing) bool { return a.Platform == b.Platform }) {
			continue
		}
		p.Shares, held = was.Ports[j].Shares, true
	}
	return held
}

// Certificates are certificates of a Gateway by their names.
type Certificates map[string]Certificate

// KeepCertificates puts the last good certificates in place of those that failed, and returns
// those that are good now. What was never good stays as it is: the compiler leaves it out, and closes the names of
// a listener that has no other.
func (g *Gateway) KeepCertificates(had Certificates) Certificates {
	good := make(Certificates)
	for i := range g.Certificates {
		c := &g.Certificates[i]
		if c.Failed != "" {
			old := had[c.Name]
			c.Chain, c.Key = old.Chain, old.Key
		}
		if len(c.Key) > 0 {
			good[c.Name] = *c
		}
	}
	return good
}

// LastGood are the certificates of Gateways that were good last.
type LastGood map[discovery.Key]Certificates

// Build returns what a unit means (Build), with the last good certificates in place of those that failed.
func (l LastGood) Build(r catalog.Reader, u Unit) Model {
	m := Build(r, u)
	if g, ok := m.(*Gateway); ok {
		g.KeepCertificates(l[g.Key])
	}
	return m
}
