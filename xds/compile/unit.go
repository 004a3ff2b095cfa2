package compile

import (
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// Compile returns the resources of what a unit means, but for a Gateway's
// certificates (Certificates) and the listeners that proxies declare (Listener, GatewayListeners).
func (c *Compiler) Compile(m policy.Model) []resource.Resource {
	switch m := m.(type) {
	case *policy.Service:
		return c.withCaptured(m, c.Service(m))
	case *policy.External:
		return c.External(m)
	case *policy.Gateway:
		return c.Gateway(m)
	case *policy.Mesh:
		return append(append(c.Mesh(m), c.capturedMesh(m)...), inboundCluster(m))
	}
	return nil
}

// Declared returns the resources of a declared listener, with the model of the unit that it leads to. The
// model is nil if the listener leads to all units or to a missing one.
func (c *Compiler) Declared(d naming.Declaration, m policy.Model) []resource.Resource {
	if d.IsCaptured() {
		mesh, _ := m.(*policy.Mesh)
		return capturedListener(d, mesh)
	}
	if d.IsInbound() {
		return inboundListener(d)
	}
	if !d.IsGateway() {
		service, _ := m.(*policy.Service)
		return c.Listener(d, service)
	}
	if gateway, ok := m.(*policy.Gateway); ok {
		return c.GatewayListeners(d, gateway)
	}
	return nil
}
