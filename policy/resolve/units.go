package resolve

import (
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/upstream"
)

// Touched yields the units whose meaning a changed row may change: the inverse of the reads of
// BuildService, BuildExternal, BuildGateway and BuildMesh. It may yield a unit several times, and
// one that does not exist. r is the state after the change; before and after are the row, nil where
// it is new or deleted.
//
// A unit's endpoints do not change the units that refer to it; its shape (Shape) does. So if a
// unit's shape has changed, the caller must compile its Referrers too.
func Touched(r catalog.Reader, before, after any, yield func(policy.Unit)) {
	touchedByState(r, before, after, yield)
	touchedByUnread(r, before, after, yield)
	for _, row := range [2]any{before, after} {
		switch row := row.(type) {
		case *discovery.Service:
			yield(policy.ServiceUnit(row.Key))
			touchedByService(r, row, yield)
		case *discovery.EndpointSet:
			yield(policy.ServiceUnit(row.Service))
		case *discovery.Home:
			yield(policy.ServiceUnit(row.Key))
		case *discovery.Object:
			touchedByObject(r, row, yield)
		}
	}
}

// touchedByService yields who shares an address or a host with a Service:
// who came first has it.
func touchedByService(r catalog.Reader, s *discovery.Service, yield func(policy.Unit)) {
	addresses := slices.Clone(s.ClusterIPs)
	for choice := range discovery.VirtualChoices {
		addresses = append(addresses, discovery.VirtualAddress(s.Key, choice).String())
	}
	for _, ip := range addresses {
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
	if k, ok := kindOf(o.Kind); ok {
		k.touches(r, o, yield)
	}
}

func touchedAsUnit(_ catalog.Reader, o *discovery.Object, yield func(policy.Unit)) { yield(o.Name()) }

// touchedByMesh yields everything: its defaults are everyone's.
func touchedByMesh(r catalog.Reader, _ *discovery.Object, yield func(policy.Unit)) {
	for _, u := range Units(r) {
		yield(u)
	}
}

// gatewaysThatName yields the Gateways that refer to a class or a Secret.
func gatewaysThatName(r catalog.Reader, o *discovery.Object, yield func(policy.Unit)) {
	for g := range catalog.Objects.By(r, catalog.ByRef, o.Name().String()) {
		if g.Kind == discovery.KindGateway {
			yield(g.Name())
		}
	}
}

// touchedByNamespace yields Gateways whose listeners select namespaces: its
// labels decide whose routes they let in.
func touchedByNamespace(r catalog.Reader, _ *discovery.Object, yield func(policy.Unit)) {
	for g := range catalog.Objects.By(r, catalog.ByKind, discovery.KindGateway) {
		if selectsNamespaces(g) {
			yield(g.Name())
		}
	}
}

func touchedByExternal(r catalog.Reader, o *discovery.Object, yield func(policy.Unit)) {
	yield(o.Name())
	for _, host := range o.Hosts {
		for other := range catalog.Objects.By(r, catalog.ByHost, host) {
			yield(other.Name())
		}
	}
	Referrers(r, o.Name(), yield)
}

func touchedByGroup(r catalog.Reader, o *discovery.Object, yield func(policy.Unit)) {
	touchedByRefs(r, o, yield)
	Referrers(r, o.Name(), yield)
}

// touchedByGrant yields what routes and Gateways of other namespaces concern that
// refer into the grant's: grants are rare, and one may concern every such reference.
func touchedByGrant(r catalog.Reader, o *discovery.Object, yield func(policy.Unit)) {
	refersThere := func(from *discovery.Object) bool {
		return from.Namespace != o.Namespace && slices.ContainsFunc(from.Refs, func(n discovery.ObjectName) bool { return n.Namespace == o.Namespace })
	}
	for _, kind := range discovery.RouteKinds() {
		for route := range catalog.Objects.By(r, catalog.ByKind, kind) {
			if refersThere(route) {
				touchedByRefs(r, route, yield)
			}
		}
	}
	for g := range catalog.Objects.By(r, catalog.ByKind, discovery.KindGateway) {
		if refersThere(g) {
			yield(g.Name())
		}
	}
}

// touchedByConfigMap yields what those who name it for its CA certificates touch.
func touchedByConfigMap(r catalog.Reader, o *discovery.Object, yield func(policy.Unit)) {
	for from := range catalog.Objects.By(r, catalog.ByRef, o.Name().String()) {
		touchedByObject(r, from, yield)
	}
}

// touchedByRefs yields what a route or a policy refers to.
func touchedByRefs(r catalog.Reader, o *discovery.Object, yield func(policy.Unit)) {
	for _, ref := range o.Refs {
		switch {
		case slices.Contains(policy.UnitKinds(), ref.Kind):
			yield(ref)
		case ref.Kind == discovery.KindInstanceGroup:
			if g, ok := catalog.InstanceGroups.Get(r, ref.Key.String()); ok {
				yield(policy.ServiceUnit(discovery.Key{Namespace: g.Namespace, Name: g.Object.Spec.ServiceRef.Name}))
			}
		case slices.Contains(discovery.RouteKinds(), ref.Kind):
			if route, ok := catalog.Objects.Get(r, ref.String()); ok {
				touchedByRefs(r, route, yield)
			}
		}
	}
}

// Referrers yields the Services and Gateways whose routes send to an object or a
// part of it. A route that names an InstanceGroup reads the ports of its Service,
// so a Service's name stands for its InstanceGroups too.
func Referrers(r catalog.Reader, name discovery.ObjectName, yield func(policy.Unit)) {
	if name.Kind == discovery.KindService {
		for g := range catalog.InstanceGroups.Of(r, name.Key) {
			Referrers(r, discovery.ObjectName{Kind: discovery.KindInstanceGroup, Key: g.Key}, yield)
		}
	}
	for o := range catalog.Objects.By(r, catalog.ByRef, name.String()) {
		if slices.Contains(discovery.RouteKinds(), o.Kind) {
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
