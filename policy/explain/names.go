package explain

import (
	"fmt"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
)

// Names of what Envoy has, as operators find them in its admin interface, its
// statistics and its access log.
const (
	routeConfigName = "http"
	anyHostName     = "http/any"
	anyRouteName    = "any"
	anyClusterName  = "egress"
	defaultRoute    = "default"
	// safeSuffix marks the half of a match that safe methods take: Envoy has one
	// retry policy per route, and they may be sent again after more failures.
	safeSuffix = "-safe"
	// shadowSuffix marks the methods that a shift's shadow step copies, and
	// keylessSuffix the requests that get the mesh's own cookie.
	shadowSuffix  = "-shadow"
	keylessSuffix = "-keyless"
	// upgradeSuffix marks the requests for a websocket to a rule that bounds the
	// time of others.
	upgradeSuffix = "-upgrade"
)

func serviceHostName(svc discovery.Key, port uint16, short bool) string {
	name := fmt.Sprintf("http/%s.%s:%d", svc.Name, svc.Namespace, port)
	if short {
		name += "+short"
	}
	return name
}

func externalHostName(x discovery.Key, port uint16) string {
	return fmt.Sprintf("http/external~%s.%s:%d", x.Name, x.Namespace, port)
}

// sends reports whether a rule's requests go to a backend, and are not answered by the proxy.
func sends(r *policy.Rule) bool {
	return r.Filters.Redirect == nil && r.Filters.Failed == "" && len(r.Backends) > 0
}

// routeName returns the name of the route that the request takes.
func (e *evaluation) routeName(r *policy.Rule) string {
	name := defaultRoute
	if r.Route.Kind != "" {
		name = fmt.Sprintf("%s/%s/%s/%d/%d", r.Route.Kind, r.Route.Namespace, r.Route.Name, r.Index, r.MatchIndex)
	}
	if !sends(r) {
		return name // so there is but one route
	}
	if e.takesSafeHalf(r) {
		name += safeSuffix
	}
	if e.copied(r) != nil {
		name += shadowSuffix
	}
	if e.getsCookie(r) {
		name += keylessSuffix
	}
	if r.Timed() && strings.EqualFold(e.req.header("upgrade"), "websocket") {
		name += upgradeSuffix
	}
	return name
}

// clusterName returns the name of the cluster that a route names for a target,
// and of the clusters of the target itself and of what stands in for it.
func clusterName(b *policy.Backend, t policy.Target) (named, own, standby string) {
	switch b.Kind {
	case policy.ServiceBackend:
		prefix := fmt.Sprintf("%s/%s:%d/", b.Namespace, b.Name, b.Port)
		own = prefix + t.Platform.String()
		if b.Failover && len(b.Targets) == 2 {
			other := t.Platform.Other().String()
			return own + "+" + other, own, prefix + other
		}
		return own, own, ""
	case policy.InstanceGroupBackend:
		own = fmt.Sprintf("%s/%s:%d/instances/%s", b.Namespace, b.Name, b.Port, b.Group)
	case policy.ExternalBackend:
		own = fmt.Sprintf("external/%s/%s:%d", b.Namespace, b.Name, b.Port)
	case policy.InvalidBackend:
	}
	return own, own, ""
}

// gatewayRouteConfig returns the route configuration of a port, or of a
// listener of a port with TLS.
func gatewayRouteConfig(gateway discovery.Key, p *policy.GatewayPort, l *policy.GatewayListener) string {
	name := fmt.Sprintf("gateway.%s.%s.%d", gateway.Namespace, gateway.Name, p.Number)
	if p.Protocol == policy.ListenTLS {
		name += "~" + l.Name
	}
	return name
}
