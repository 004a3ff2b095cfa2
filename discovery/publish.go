package discovery

import "slices"

// CheckPending is the reason of an instance that has not passed a check yet,
// while others of its backing are there.
const CheckPending = "CheckPending"

// Published is what callers have of a Service's instances already.
type Published struct {
	// Own are the group's endpoints by their ids.
	Own map[string]Endpoint
	// Others is true if another InstanceGroup of the Service has a healthy endpoint.
	Others bool
}

// PublishInstances computes the endpoints that callers get from a group's instances
// and checks. EC2's state counts first: a draining instance is draining even if its
// checks pass. The result shares nothing that is changed.
//
// A new instance waits for its first passed check as long as others answer: an
// instance that EC2 calls running is often still starting its server. The first
// instances of a backing never wait. Neither do those that callers had before the
// control plane started: they were healthy then.
func PublishInstances(g *InstanceGroup, set *InstanceSet, checks *HealthSet, before Published) *EndpointSet {
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
	others := before.Others
	for _, e := range set.Endpoints {
		if checks != nil && e.Health == Healthy {
			if v, ok := checks.ByID[e.ID]; ok && !v.Healthy {
				e.Health, e.Reason = Unhealthy, v.Reason
			}
		}
		_, waits := before.pending(&e, checks)
		others = others || e.Health == Healthy && !waits
		out.Endpoints = append(out.Endpoints, e)
	}
	if g.Object.Spec.HealthCheck == nil || !others {
		return out
	}
	for i := range out.Endpoints {
		e := &out.Endpoints[i]
		if reason, waits := before.pending(e, checks); waits && e.Health == Healthy {
			e.Health, e.Reason = Unhealthy, reason
		}
	}
	return out
}

// pending reports whether an instance is new to callers and not checked yet, in
// a group with checks.
func (p *Published) pending(e *Endpoint, checks *HealthSet) (reason string, waits bool) {
	if checks == nil {
		return "", false
	}
	if _, checked := checks.ByID[e.ID]; checked {
		return "", false
	}
	const text = CheckPending + ": it waits for its first passed check"
	old, had := p.Own[e.ID]
	return text, !had || old.Address != e.Address || old.Reason == text
}

// HeldPorts returns a group's ports, and those that were published for a port of
// its Service and that its spec no longer maps. An edited name must not move
// traffic: the instances are still there, and answer as before until the group
// maps the port again or the traffic has moved.
func HeldPorts(ports, before []EndpointPort, svc *Service) []EndpointPort {
	named := func(ports []EndpointPort, name string) int {
		return slices.IndexFunc(ports, func(p EndpointPort) bool { return p.Name == name })
	}
	if len(svc.Ports) == 1 && len(ports) == 1 {
		return ports // one on each side is the same
	}
	for _, p := range svc.Ports {
		if p.Name == "" || named(ports, p.Name) >= 0 {
			continue
		}
		i := named(before, p.Name)
		if i < 0 && p.Was != "" {
			i = named(before, p.Was)
		}
		if i >= 0 {
			ports = append(ports, EndpointPort{Name: p.Name, Port: before[i].Port})
		}
	}
	return ports
}
