package routing

import "github.com/causeway-mesh/causeway/discovery"

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
