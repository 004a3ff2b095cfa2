package resolve

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/policy/routing"
	"github.com/causeway-mesh/causeway/policy/upstream"
)

// parentGateway returns the Gateway that a parentRef names, false for a parent of another kind.
func parentGateway(o *discovery.Object, ref *gatewayv1.ParentReference) (discovery.Key, bool) {
	if ref.Group != nil && *ref.Group != gatewayv1.GroupName || ref.Kind != nil && *ref.Kind != "" && *ref.Kind != discovery.KindGateway {
		return discovery.Key{}, false
	}
	key := discovery.Key{Namespace: o.Namespace, Name: string(ref.Name)}
	if ref.Namespace != nil && *ref.Namespace != "" {
		key.Namespace = string(*ref.Namespace)
	}
	return key, true
}

// gatewayAttachment is the attachment of a route to one of its parentRefs that names a
// Gateway.
type gatewayAttachment struct {
	ref *gatewayv1.ParentReference
	// at are the listeners that the route attaches to, in the order of
	// spec.listeners; those that are not in force are among them, since what is wrong with a
	// listener is no fault of its routes. refused says why there are none.
	at      []attachedListener
	refused *policy.Finding
	// notes are warnings about what the route does not get although it is attached.
	notes []policy.Finding
}

// attachedListener is a listener that a route attaches to.
type attachedListener struct {
	*listenerMeaning
	// hostnames that the route and the listener have in common, sorted, each
	// once; "" for any. It is [""] where names mean nothing.
	hostnames []string
}

// attachToGateway returns the listeners of a Gateway to which one parentRef attaches
// a route. In refused it sets the reason, the message, the remedy and the part of
// the parentRef at fault, as parentPorts does for Services. It does not know which
// listeners a route of another kind takes away: see gatewayRoutes.
func attachToGateway(r catalog.Reader, g *gatewayMeaning, o *discovery.Object, ref *gatewayv1.ParentReference) gatewayAttachment {
	out := gatewayAttachment{ref: ref}
	var named, allowed []*listenerMeaning
	for _, l := range g.listeners {
		if ref.Port != nil && *ref.Port != gatewayv1.PortNumber(l.port) || ref.SectionName != nil && *ref.SectionName != "" && string(*ref.SectionName) != l.name {
			continue
		}
		named = append(named, l)
		if slices.Contains(l.kinds, o.Kind) && l.allowsNamespace(r, g.object.Namespace, o.Namespace) {
			allowed = append(allowed, l)
		}
	}
	if len(named) == 0 {
		out.refused = &policy.Finding{
			Reason:  string(gatewayv1.RouteReasonNoMatchingParent),
			Message: fmt.Sprintf("Gateway %s has no such listener", g.object.Key), Remedy: "name one of its listeners: " + g.describe(g.listeners),
		}
		return out
	}
	if len(allowed) == 0 {
		out.refused = g.notAllowed(r, o, named)
		return out
	}
	names, given := routeHostnames(o)
	for _, l := range allowed {
		if hosts := commonHostnames(l, names, given); len(hosts) > 0 {
			out.at = append(out.at, attachedListener{l, hosts})
		}
	}
	if len(out.at) == 0 {
		out.refused = &policy.Finding{
			Reason:  string(gatewayv1.RouteReasonNoMatchingListenerHostname),
			Message: fmt.Sprintf("none of its host names (%s) is one of listener %s", phrase.Few(names), g.describe(allowed)),
			Remedy:  "correct spec.hostnames of the route, or the hostname of the listener",
		}
	}
	return out
}

// notAllowed says why none of the listeners that a parentRef names lets a route in.
func (m *gatewayMeaning) notAllowed(r catalog.Reader, o *discovery.Object, named []*listenerMeaning) *policy.Finding {
	out := &policy.Finding{Reason: string(gatewayv1.RouteReasonNotAllowedByListeners)}
	if slices.ContainsFunc(named, func(l *listenerMeaning) bool { return l.allowsNamespace(r, m.object.Namespace, o.Namespace) }) {
		out.Message = fmt.Sprintf("%ss may not attach to listener %s of Gateway %s", o.Kind, m.describe(named), m.object.Key)
		out.Remedy = "name a listener whose protocol and allowedRoutes.kinds fit"
		return out
	}
	out.Message = fmt.Sprintf("listener %s of Gateway %s lets in no route of namespace %s", m.describe(named), m.object.Key, o.Namespace)
	out.Remedy = "have allowedRoutes.namespaces of the listener let it in"
	return out
}

// describe lists listeners with their ports.
func (m *gatewayMeaning) describe(listeners []*listenerMeaning) string {
	out := make([]string, len(listeners))
	for i, l := range listeners {
		out[i] = fmt.Sprintf("%s (port %d)", l.name, l.port)
	}
	return phrase.Few(out)
}

// allowsNamespace reports whether routes of a namespace may attach to a listener of a Gateway.
func (l *listenerMeaning) allowsNamespace(r catalog.Reader, gateway, namespace string) bool {
	switch l.from {
	case gatewayv1.NamespacesFromAll:
		return true
	case gatewayv1.NamespacesFromSame:
		return gateway == namespace
	case gatewayv1.NamespacesFromSelector:
		return l.selector.Matches(namespaceLabels(r, namespace))
	}
	return false
}

// namespaceLabels returns the labels of a namespace. Each has its name as a
// label, which API servers set; where namespaces come from files, or are not
// written down at all, it is the one that there is.
func namespaceLabels(r catalog.Reader, namespace string) labels.Set {
	out := labels.Set{}
	if o, ok := catalog.Objects.Get(r, discovery.ObjectName{Kind: discovery.KindNamespace, Key: discovery.Key{Name: namespace}}.String()); ok {
		if ns, ok := o.Spec.(*corev1.Namespace); ok {
			maps.Copy(out, ns.Labels)
		}
	}
	out[corev1.LabelMetadataName] = namespace
	return out
}

// routeHostnames returns the host names of a route that are right, sorted, and
// whether it gives any at all: one that gives wrong names only has none, not all.
func routeHostnames(o *discovery.Object) (names []string, given bool) {
	all := hostnamesOf(o)
	for _, h := range all {
		if routing.IsRouteHostname(string(h)) {
			names = append(names, string(h))
		}
	}
	slices.Sort(names)
	return slices.Compact(names), len(all) > 0
}

// hostnamesOf returns spec.hostnames of a route.
func hostnamesOf(o *discovery.Object) []gatewayv1.Hostname {
	switch s := o.Spec.(type) {
	case *gatewayv1.HTTPRoute:
		return s.Spec.Hostnames
	case *gatewayv1.GRPCRoute:
		return s.Spec.Hostnames
	case *gatewayv1.TLSRoute:
		return s.Spec.Hostnames
	}
	return nil
}

// commonHostnames returns the names that a listener and a route have in common.
func commonHostnames(l *listenerMeaning, names []string, given bool) []string {
	if !given {
		return []string{l.hostname}
	}
	var out []string
	for _, name := range names {
		if common, ok := intersect(l.hostname, name); ok {
			out = append(out, common)
		}
	}
	slices.SortFunc(out, strings.Compare)
	return slices.Compact(out)
}

// gatewayRoute is a route that names a Gateway as its parent.
type gatewayRoute struct {
	object *discovery.Object
	// attachments in the order of the parentRefs that name the Gateway.
	attachments []gatewayAttachment
	// hostnames as the route gives them, sorted.
	hostnames []string

	reader  catalog.Reader
	gateway discovery.Key
	shapes  map[discovery.Key]upstream.Shape // of all routes of the Gateway
	read    *routing.Meaning
}

// meaning returns what the route says at the Gateway, read once.
func (a *gatewayRoute) meaning() *routing.Meaning {
	if a.read == nil {
		a.read = routing.ReadWith(a.reader, a.object, discovery.ObjectName{Kind: discovery.KindGateway, Key: a.gateway}, a.shapes)
	}
	return a.read
}

// at returns the names that the route has at a listener, sorted, each once; none if it is not attached there.
func (a *gatewayRoute) at(l *listenerMeaning) []string {
	var out []string
	for i := range a.attachments {
		for _, at := range a.attachments[i].at {
			if at.listenerMeaning == l {
				out = append(out, at.hostnames...)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// gatewayRoutes returns all routes that name a Gateway as their parent, the
// refused ones too, in the order of who wins a tie.
//
// HTTPRoutes and GRPCRoutes with a host name in common cannot both be attached to
// a listener: the older one is (spec of GRPCRouteSpec.hostnames). The other is
// taken off that listener, and refused as Conflicted where none is left.
func gatewayRoutes(r catalog.Reader, g *gatewayMeaning) []*gatewayRoute {
	var out []*gatewayRoute
	shapes := make(map[discovery.Key]upstream.Shape)
	for o := range catalog.Objects.By(r, catalog.ByRef, g.object.Name().String()) {
		spec := commonSpec(o)
		if spec == nil {
			continue
		}
		a := &gatewayRoute{object: o, reader: r, gateway: g.object.Key, shapes: shapes}
		for i := range spec.ParentRefs {
			if key, ok := parentGateway(o, &spec.ParentRefs[i]); ok && key == g.object.Key {
				a.attachments = append(a.attachments, attachToGateway(r, g, o, &spec.ParentRefs[i]))
			}
		}
		if len(a.attachments) > 0 {
			a.hostnames, _ = routeHostnames(o)
			out = append(out, a)
		}
	}
	slices.SortFunc(out, func(a, b *gatewayRoute) int { return policy.CompareAge(a.object, b.object) })
	keepKindsApart(out)
	noteOvertaken(out)
	return out
}

// attachedRoutes counts the routes that are attached to a listener and
// accepted, whether or not the listener works and their references lead anywhere
// (spec of ListenerStatus.attachedRoutes).
func attachedRoutes(routes []*gatewayRoute, l *listenerMeaning) int32 {
	n := int32(0)
	for _, a := range routes {
		if len(a.at(l)) > 0 && a.meaning().Works() {
			n++
		}
	}
	return n
}

// keepKindsApart takes routes off listeners where an older route of the other
// kind about requests has a host name of theirs.
func keepKindsApart(routes []*gatewayRoute) {
	has := func(kind string) bool {
		return slices.ContainsFunc(routes, func(a *gatewayRoute) bool { return a.object.Kind == kind })
	}
	if !has(discovery.KindHTTPRoute) || !has(discovery.KindGRPCRoute) {
		return
	}
	for i, a := range routes {
		for j := range a.attachments {
			at := &a.attachments[j]
			var lost []string
			at.at = slices.DeleteFunc(at.at, func(l attachedListener) bool {
				winner := otherKind(routes[:i], a, l)
				if winner != nil {
					lost = append(lost, fmt.Sprintf("listener %s has %s, which is older, with a host name of it", l.name, winner.object.Name()))
				}
				return winner != nil
			})
			if len(lost) == 0 {
				continue
			}
			conflict := policy.Finding{
				Reason: policy.ReasonConflicted, Message: strings.Join(lost, "; "),
				Remedy: "give HTTPRoutes and GRPCRoutes different host names, or put the rules into one of them",
			}
			if len(at.at) == 0 {
				at.refused = &conflict
			} else {
				at.notes = append(at.notes, conflict)
			}
		}
	}
}

// otherKind returns the first of older routes that is of the other kind about
// requests, holds, and shares a host name with a route at a listener.
func otherKind(older []*gatewayRoute, a *gatewayRoute, l attachedListener) *gatewayRoute {
	if !l.isHTTP() {
		return nil
	}
	for _, b := range older {
		if b.object.Kind == a.object.Kind || !b.meaning().Holds() {
			continue
		}
		for _, theirs := range b.at(l.listenerMeaning) {
			if slices.ContainsFunc(l.hostnames, func(mine string) bool {
				_, ok := intersect(mine, theirs)
				return ok
			}) {
				return b
			}
		}
	}
	return nil
}

// noteOvertaken tells of listeners where another TCPRoute takes every
// connection, or another TLSRoute those of a name. Such a route is attached
// nevertheless: it is in force as soon as the other goes.
func noteOvertaken(routes []*gatewayRoute) {
	for i, a := range routes {
		if a.object.Kind != discovery.KindTCPRoute && a.object.Kind != discovery.KindTLSRoute {
			continue // the rules of others merge
		}
		for j := range a.attachments {
			at := &a.attachments[j]
			for _, l := range at.at {
				winner, names := overtaker(routes, i, l)
				if winner == nil {
					continue
				}
				what := "all connections to listener " + l.name
				if a.object.Kind == discovery.KindTLSRoute {
					what = fmt.Sprintf("connections to listener %s for %s", l.name, phrase.Few(names))
				}
				at.notes = append(at.notes, policy.Finding{
					Reason: policy.ReasonConflicted, Message: fmt.Sprintf("%s go by %s", what, winner.object.Name()),
					Remedy: "remove one of the two, or have them differ in what they take",
				})
			}
		}
	}
}

// overtaker returns the first route that takes what the one at an index would
// have of a listener, and the names it takes: its own name is more specific, or
// as specific and it is older.
func overtaker(routes []*gatewayRoute, index int, l attachedListener) (winner *gatewayRoute, names []string) {
	a := routes[index]
	for i, b := range routes {
		if i == index || b.object.Kind != a.object.Kind || !b.meaning().Holds() {
			continue
		}
		theirs := b.at(l.listenerMeaning)
		for _, name := range l.hostnames {
			c := specificity(name, b.hostnames) - specificity(name, a.hostnames)
			if slices.Contains(theirs, name) && (c > 0 || c == 0 && i < index) {
				names = append(names, name)
			}
		}
		if len(names) > 0 {
			return b, names
		}
	}
	return nil, nil
}
