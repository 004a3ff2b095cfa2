package discovery

// PublishInstances turns what EC2 and the checks say about a group into the
// endpoints that callers get. EC2's word counts first: a draining instance is
// draining however well it answers. The result shares nothing that is changed.
func PublishInstances(g *InstanceGroup, set *InstanceSet, checks *HealthSet) *EndpointSet {
	out := &EndpointSet{
		Scope:      set.Scope,
		Key:        set.Key,
		Service:    Key{g.Namespace, g.Object.Spec.ServiceRef.Name},
		Platform:   Instances,
		Group:      g.Name,
		Generation: g.Object.Generation,
		Endpoints:  make([]Endpoint, 0, len(set.Endpoints)),
	}
	for _, p := range g.Object.Spec.Ports {
		out.Ports = append(out.Ports, EndpointPort{Name: p.Name, Port: uint16(p.Port)}) //nolint:gosec // the API limits it to 65535
	}
	for _, e := range set.Endpoints {
		if checks != nil && e.Health == Healthy {
			if v, ok := checks.Verdicts[e.ID]; ok && !v.Healthy {
				e.Health, e.Reason = Unhealthy, v.Reason
			}
		}
		out.Endpoints = append(out.Endpoints, e)
	}
	return out
}
