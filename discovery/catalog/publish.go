package catalog

import "github.com/causeway-mesh/causeway/discovery"

// PublishInstances returns the endpoints that callers get of a group, by what the
// tables say of it; nil if EC2 has not been read for it yet.
func PublishInstances(r Reader, g *discovery.InstanceGroup) *discovery.EndpointSet {
	set, ok := Instances.Get(r, g.Key.String())
	if !ok {
		return nil
	}
	checks, _ := Checks.Get(r, g.Key.String())
	before := discovery.Published{Own: make(map[string]discovery.Endpoint)}
	var ports []discovery.EndpointPort
	service := discovery.Key{Namespace: g.Namespace, Name: g.Object.Spec.ServiceRef.Name}
	for s := range Endpoints.By(r, ByService, service.String()) {
		if s.Platform != discovery.Instances {
			continue
		}
		if s.Group == g.Name {
			ports = s.Ports
		}
		for _, e := range s.Endpoints {
			if s.Group == g.Name {
				before.Own[e.ID] = e
			} else if e.Health == discovery.Healthy {
				before.Others = true
			}
		}
	}
	out := discovery.PublishInstances(g, set, checks, before)
	if svc, ok := Services.Get(r, service.String()); ok {
		out.Ports = discovery.HeldPorts(out.Ports, ports, svc)
	}
	return out
}
