package resolve

import (
	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/upstream"
)

// Build returns what a unit means, nil where there is no such unit.
func Build(r catalog.Reader, u policy.Unit) policy.Model {
	switch u.Kind {
	case discovery.KindService:
		if m := BuildService(r, u.Key); m != nil {
			return m
		}
	case discovery.KindExternalService:
		if m := upstream.BuildExternal(r, u.Key); m != nil {
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
func Units(r catalog.Reader) []policy.Unit {
	var out []policy.Unit
	for _, kind := range policy.UnitKinds() {
		if kind == discovery.KindMesh { // it means something where there is none
			out = append(out, policy.MeshUnit())
			continue
		}
		for _, key := range catalog.Keys(r, kind) {
			out = append(out, policy.Unit{Kind: kind, Key: key})
		}
	}
	return out
}

// LastGood are the certificates of Gateways that were good last.
type LastGood map[discovery.Key]policy.Certificates

// Build returns what a unit means (Build), with the last good certificates in place of those that failed.
func (l LastGood) Build(r catalog.Reader, u policy.Unit) policy.Model {
	m := Build(r, u)
	if g, ok := m.(*policy.Gateway); ok {
		g.KeepCertificates(l[g.Key])
	}
	return m
}
