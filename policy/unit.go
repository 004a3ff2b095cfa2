package policy

import (
	"fmt"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// GatewayUnit returns the unit of a Gateway.
func GatewayUnit(k discovery.Key) Unit { return Unit{Kind: discovery.KindGateway, Key: k} }

// Unit is what is compiled at once: a Service, an ExternalService, a Gateway, or
// the parts of the mesh that belong to none, as kind "Mesh".
type Unit = discovery.ObjectName

// UnitKinds returns the kinds of units, sorted.
func UnitKinds() []string { return unitKinds[:] }

var unitKinds = [...]string{discovery.KindExternalService, discovery.KindGateway, discovery.KindMesh, discovery.KindService}

// MeshUnit is the unit of what belongs to no Service.
func MeshUnit() Unit {
	return Unit{Kind: discovery.KindMesh, Key: discovery.Key{Name: v1alpha1.MeshName}}
}

// ServiceUnit returns the unit of a Service.
func ServiceUnit(k discovery.Key) Unit { return Unit{Kind: discovery.KindService, Key: k} }

// ServiceHosts returns the names that callers of every namespace may use.
func ServiceHosts(k discovery.Key) []string {
	short := k.Name + "." + k.Namespace
	return []string{short, short + ".svc", short + "." + ClusterDomain}
}

// ClusterDomain is the DNS domain of Kubernetes Services.
const ClusterDomain = "svc.cluster.local"

// Shape returns a comparable text of what routes of other Services read of a
// Service: whether callers stay at one endpoint, whether proxies report how its
// requests ended, its ports, their backings and shares, and the shift that is
// under way, but not their endpoints.
func (s *Service) Shape() string {
	if s == nil {
		return ""
	}
	b := fmt.Appendf(nil, "%t %t %t ", s.ClientIP, s.Reported, s.Unknown != "")
	for i := range s.Ports {
		p := &s.Ports[i]
		b = fmt.Appendf(b, "%d %q %d %t %t", p.Number, p.Name, p.Protocol, p.HTTPS, p.Failover)
		for j, backing := range p.Backings {
			b = fmt.Appendf(b, " %s=%d%s", backing.Platform, p.Shares[j], backing.Failover)
		}
		b = append(b, ';')
	}
	if shift := s.Shift; shift != nil {
		b = fmt.Appendf(b, " %s %s %s %d", shift.Object, shift.From, shift.To, shift.Share)
		if c := shift.Cohort; c != nil {
			b = fmt.Appendf(b, " cohort %q %q %s", c.Cookie, c.Header, c.TTL)
		}
		if c := shift.Shadow; c != nil {
			b = fmt.Appendf(b, " shadow %s %s %d %q", c.From, c.To, c.Share, c.Methods)
		}
	}
	return string(b)
}

// Model is what a unit means: a *Service, *External, *Gateway or *Mesh.
type Model interface {
	// Shape returns a comparable text of what routes of others read of it, "" for what none names.
	Shape() string
}

// Shape implements Model: no route sends to a Gateway.
func (g *Gateway) Shape() string { return "" }

// Shape implements Model: no route sends to the mesh.
func (m *Mesh) Shape() string { return "" }
