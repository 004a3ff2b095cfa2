package resolve

import (
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/upstream"
)

// Touched yields the units whose meaning a changed row may change: the inverse
// of what BuildService, BuildExternal, BuildGateway and BuildMesh read. It may yield a unit several
// times and one that does not exist. r is the state after the change; before
// and after are the row, nil where it is new or deleted.
//
// What refers to a unit is not touched by its endpoints, only by its shape
// (Shape): the caller yields Referrers when that has changed.
func Touched(r catalog.Reader, before, after any, yield func(policy.Unit)) {
	touchedByState(r, before, after, yield)
	for _, row := range [2]any{before, after} {
		switch row := row.(type) {
		case *discovery.Service:
			yield(policy.ServiceUnit(row.Key))
			touchedByService(r, row, yield)
		case *discovery.EndpointSet:
			yield(policy.ServiceUnit(row.Service))
		case *discovery.Home:
			yield(policy.ServiceUnit(row.Key))
		case *discovery.InstanceGroup:
			yield(policy.ServiceUnit(discovery.Key{Namespace: row.Namespace, Name: row.Object.Spec.ServiceRef.Name}))
			Referrers(r, discovery.ObjectName{Kind: discovery.KindInstanceGroup, Key: row.Key}, yield)
		case *discovery.Object:
			touchedByObject(r, row, yield)
		}
	}
}

// touchedByService yields who shares an address or a host with a Service:
// who came first has it.
func touchedByService(r catalog.Reader, s *discovery.Service, yield func(policy.Unit)) {
	for _, ip := range s.ClusterIPs {
		for other := range catalog.Services.By(r, catalog.ByAddress, ip) {
			yield(policy.ServiceUnit(other.Key))
		}
	}
	for _, host := range append(policy.ServiceHosts(s.Key), s.ClusterIPs...) {
		for o := range catalog.Objects.By(r, catalog.ByHost, host) {
			yield(o.Name())
		}
	}
}

func touchedByObject(r catalog.Reader, o *discovery.Object, yield func(policy.Unit)) {
	switch o.Kind {
	case discovery.KindMesh:
		yield(policy.MeshUnit())
		for s := range catalog.Services.All(r) {
			yield(policy.ServiceUnit(s.Key))
		}
		for e := range catalog.Objects.By(r, catalog.ByKind, discovery.KindExternalService) {
			yield(e.Name())
		}
		for g := range catalog.Objects.By(r, catalog.ByKind, discovery.KindGateway) {
			yield(g.Name())
		}
	case discovery.KindGateway:
		yield(o.Name())
	case discovery.KindGatewayClass, discovery.KindSecret:
		for g := range catalog.Objects.By(r, catalog.ByRef, o.Name().String()) {
			if g.Kind == discovery.KindGateway {
				yield(g.Name())
			}
		}
	case discovery.KindNamespace:
		// Its labels decide whose routes a listener with a selector lets in.
		for g := range catalog.Objects.By(r, catalog.ByKind, discovery.KindGateway) {
			if selectsNamespaces(g) {
				yield(g.Name())
			}
		}
	case discovery.KindExternalService:
		yield(o.Name())
		for _, host := range o.Hosts {
			for other := range catalog.Objects.By(r, catalog.ByHost, host) {
				yield(other.Name())
			}
		}
		Referrers(r, o.Name(), yield)
	case discovery.KindReferenceGrant:
		// Rare, and it may concern every route and Gateway that refers into its namespace.
		for _, kind := range routeKinds {
			for route := range catalog.Objects.By(r, catalog.ByKind, kind) {
				if route.Namespace != o.Namespace && slices.ContainsFunc(route.Refs, func(n discovery.ObjectName) bool { return n.Namespace == o.Namespace }) {
					touchedByRefs(r, route, yield)
				}
			}
		}
		for g := range catalog.Objects.By(r, catalog.ByKind, discovery.KindGateway) {
			if g.Namespace != o.Namespace && slices.ContainsFunc(g.Refs, func(n discovery.ObjectName) bool { return n.Namespace == o.Namespace }) {
				yield(g.Name())
			}
		}
	case discovery.KindConfigMap:
		for policy := range catalog.Objects.By(r, catalog.ByRef, o.Name().String()) {
			touchedByObject(r, policy, yield)
		}
	default:
		touchedByRefs(r, o, yield)
	}
}

var routeKinds = []string{discovery.KindHTTPRoute, discovery.KindGRPCRoute, discovery.KindTCPRoute, discovery.KindTLSRoute}

// touchedByRefs yields what a route or a policy refers to.
func touchedByRefs(r catalog.Reader, o *discovery.Object, yield func(policy.Unit)) {
	for _, ref := range o.Refs {
		switch ref.Kind {
		case discovery.KindService, discovery.KindExternalService, discovery.KindGateway:
			yield(ref)
		case discovery.KindInstanceGroup:
			if g, ok := catalog.InstanceGroups.Get(r, ref.Key.String()); ok {
				yield(policy.ServiceUnit(discovery.Key{Namespace: g.Namespace, Name: g.Object.Spec.ServiceRef.Name}))
			}
		case discovery.KindHTTPRoute, discovery.KindGRPCRoute, discovery.KindTCPRoute, discovery.KindTLSRoute:
			if route, ok := catalog.Objects.Get(r, ref.String()); ok {
				touchedByRefs(r, route, yield)
			}
		}
	}
}

// Referrers yields the Services and Gateways whose routes send to what is named,
// or to a part of it: what names an InstanceGroup reads the ports of its Service.
func Referrers(r catalog.Reader, name discovery.ObjectName, yield func(policy.Unit)) {
	if name.Kind == discovery.KindService {
		for g := range catalog.InstanceGroups.By(r, catalog.ByService, name.Key.String()) {
			Referrers(r, discovery.ObjectName{Kind: discovery.KindInstanceGroup, Key: g.Key}, yield)
		}
	}
	for o := range catalog.Objects.By(r, catalog.ByRef, name.String()) {
		if slices.Contains(routeKinds, o.Kind) {
			touchedByRefs(r, o, yield)
		}
	}
}

// selectsNamespaces reports whether a listener of a Gateway lets in routes by the labels of their namespaces.
func selectsNamespaces(o *discovery.Object) bool {
	g, ok := o.Spec.(*gatewayv1.Gateway)
	return ok && slices.ContainsFunc(g.Spec.Listeners, func(l gatewayv1.Listener) bool {
		return l.AllowedRoutes != nil && l.AllowedRoutes.Namespaces != nil && l.AllowedRoutes.Namespaces.Selector != nil
	})
}

// touchedByState yields the Service whose TrafficShift has come further, if
// that moves any request.
func touchedByState(r catalog.Reader, before, after any, yield func(policy.Unit)) {
	old, _ := before.(*discovery.ShiftState)
	now, _ := after.(*discovery.ShiftState)
	row := now
	if row == nil {
		row = old
	}
	if row == nil || upstream.RoutedByOf(old) == upstream.RoutedByOf(now) {
		return
	}
	if o, ok := catalog.Objects.Get(r, discovery.ObjectName{Kind: discovery.KindTrafficShift, Key: row.Key}.String()); ok {
		yield(policy.ServiceUnit(upstream.ShiftedService(o)))
	}
}
