package explain

import (
	"strings"

	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
)

// sends reports whether a rule's requests go to a backend, and are not answered by the proxy.
func sends(r *policy.Rule) bool {
	return r.Filters.Redirect == nil && r.Filters.Failed == "" && len(r.Backends) > 0
}

// routeName returns the name of the route that the request takes.
func (e *evaluation) routeName(r *policy.Rule) string {
	name := naming.Route(r.Route, r.Index, r.MatchIndex)
	if !sends(r) {
		return name // so there is but one route
	}
	return name + naming.Variant{
		Safe: e.takesSafeHalf(r), Shadow: e.copied(r) != nil, Keyless: e.getsCookie(r),
		Upgrade: r.Timed() && strings.EqualFold(e.req.header("upgrade"), "websocket"),
	}.Suffix()
}

// clusterName returns the name of the cluster that a route names for a target,
// and of the clusters of the target itself and of what stands in for it, in their order.
func clusterName(b *policy.Backend, t policy.Target) (named, own string, standby []string) {
	switch b.Kind {
	case policy.ServiceBackend:
		own = naming.Cluster(b.Key, b.Port, t.Platform)
		if len(t.Failover) == 0 {
			return own, own, nil
		}
		for _, next := range t.Failover {
			standby = append(standby, naming.Cluster(b.Key, b.Port, next))
		}
		return naming.Failover(b.Key, b.Port, t.Platform, t.Failover), own, standby
	case policy.InstanceGroupBackend:
		own = naming.Group(b.Key, b.Port, b.Group)
	case policy.ExternalBackend:
		own = naming.External(b.Key, b.Port)
	case policy.InvalidBackend:
	}
	return own, own, nil
}
