package routing

import (
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
)

// needsGrant reports whether a route may send requests to a namespace only
// with that namespace's consent.
//
// GEP-1294 lets routes of a mesh refer to any namespace without a
// ReferenceGrant, because callers can reach it anyway; the spec of
// ReferenceGrant forbids every reference without one. Both agree on the route's own
// namespace. In the parent's, the caller asked for a Service of it, so no
// consent is needed either, and the mesh conformance suite asks for none.
// Everywhere else a producer route would have callers of other namespaces send
// to a third what they, with their identity, never meant to: that takes a grant.
//
// Who calls a Gateway asked for nothing but a host name, so that there is no
// consent but that of the route's own namespace.
func needsGrant(route *discovery.Object, parent discovery.ObjectName, namespace string) bool {
	return namespace != route.Namespace && (parent.Kind == discovery.KindGateway || namespace != parent.Namespace)
}

// GrantFor returns the ReferenceGrant that lets a route or a Gateway refer to an object of
// another namespace, the first by name if there are several.
func GrantFor(r catalog.Reader, route *discovery.Object, group string, to discovery.ObjectName) (*discovery.Object, bool) {
	for o := range catalog.Objects.By(r, catalog.ByKind, discovery.KindReferenceGrant) {
		grant, ok := o.Spec.(*gatewayv1.ReferenceGrant)
		if !ok || o.Namespace != to.Namespace {
			continue
		}
		from := slices.ContainsFunc(grant.Spec.From, func(f gatewayv1.ReferenceGrantFrom) bool {
			return f.Group == gatewayv1.GroupName && string(f.Kind) == route.Kind && string(f.Namespace) == route.Namespace
		})
		if from && slices.ContainsFunc(grant.Spec.To, func(t gatewayv1.ReferenceGrantTo) bool {
			return string(t.Group) == group && string(t.Kind) == to.Kind &&
				(t.Name == nil || *t.Name == "" || string(*t.Name) == to.Key.Name)
		}) {
			return o, true
		}
	}
	return nil, false
}
