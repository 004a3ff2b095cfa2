package upstream

import (
	"cmp"
	"fmt"
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/effective"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// spoken returns what is spoken on a port of a Service that has some backings and InstanceGroups.
//
// A port that is declared as HTTP in TLS is HTTP as soon as a policy says how TLS is spoken to one of its
// backings (Gateway API, BackendTLSPolicy: "how a gateway connects to a backend via TLS"). Without one the mesh
// cannot read it. Where it is not known whether there is one, routes about requests that name the port say what
// it is, and its clusters are withheld.
//
// A port of which nobody has declared the version of HTTP, and to all of whose backings TLS is spoken, is one of
// either version if a GRPCRoute is about it: gRPC needs HTTP/2, and who chooses is the endpoint. Without such a
// route nothing but HTTP/1.1 is offered, which carries websockets and headers as they are written.
func spoken(r catalog.Reader, service discovery.Key, p discovery.ServicePort, only bool, names []discovery.BackingName, groups []*discovery.InstanceGroup) policy.Protocol {
	declared := policy.ProtocolOf(p)
	over, free := policy.OverTLS(p)
	if declared == over && !free {
		return declared
	}
	routes := routesAbout{r, service, p, only, groups}
	secured := 0
	if declared != over || routes.any(discovery.KindGRPCRoute) {
		for _, name := range names {
			if statesTLS(r, service, p.Name, name) {
				secured++
			}
		}
	}
	switch {
	case secured == len(names) && free && routes.any(discovery.KindGRPCRoute):
		return policy.Negotiated
	case secured > 0:
		return over
	case declared != over && UnreadBackingTLS(r, service, discovery.Instances, "") != "" && routes.naming():
		if free && routes.any(discovery.KindGRPCRoute) {
			return policy.Negotiated
		}
		return over
	}
	return declared
}

// statesTLS reports whether a policy says how TLS is spoken to a backing of a port, rightly or not.
func statesTLS(r catalog.Reader, service discovery.Key, port string, on discovery.BackingName) bool {
	if _, ok := BackendTLSPolicy(r, service, port); ok {
		return true
	}
	s := effective.BackingSettings(r, service, port, on, "")
	return s.Stated.TLS != nil
}

// MissingTLS is how callers speak to endpoints of a port that requests reach in TLS only, where no policy that
// can be read says how: not at all.
func MissingTLS(r catalog.Reader, service discovery.Key, p *policy.Port) *policy.TLS {
	if tls := unknownTLS(UnreadBackingTLS(r, service, discovery.Instances, "")); tls != nil {
		return tls
	}
	return &policy.TLS{Failed: fmt.Sprintf("port %d speaks TLS, and no policy says how it is spoken to these endpoints", p.Number)}
}

// ProtocolRemedy says what has requests of a route reach a port of a Service that does not speak what the route is about.
func ProtocolRemedy(r catalog.Reader, route *discovery.Object, service discovery.Key, p *policy.Port) string {
	grpc := route.Kind == discovery.KindGRPCRoute
	wanted := "http"
	if grpc {
		wanted = "kubernetes.io/h2c"
	}
	declare := fmt.Sprintf("set the appProtocol of the port, for example to %s", wanted)
	declared, free := policy.OverTLS(discovery.ServicePort{Name: p.Name, Port: p.Number, AppProtocol: appProtocolOf(r, service, p.Number)})
	switch {
	case declared == policy.TCP || grpc && !free:
		return declare
	case grpc && p.Protocol != policy.TCP && p.HTTPS || grpc && statesTLS(r, service, p.Name, discovery.Pods):
		if route.Namespace != service.Namespace {
			return fmt.Sprintf("have a ReferenceGrant created in namespace %s that lets GRPCRoutes of namespace %s refer to it, or %s", service.Namespace, route.Namespace, declare)
		}
		return "state TLS for all of its backings in a BackendTLSPolicy about the Service, or " + declare
	case p.HTTPS:
		return "say how TLS is spoken to it in a BackendTLSPolicy about the Service, or, if it speaks no TLS, " + declare
	}
	return declare + ", or, if it speaks TLS, create a BackendTLSPolicy about the Service"
}

// appProtocolOf returns the appProtocol of a Service's port, "" for none.
func appProtocolOf(r catalog.Reader, service discovery.Key, number uint16) string {
	svc, ok := catalog.Services.Get(r, service.String())
	if !ok {
		return ""
	}
	for _, p := range ServicePorts(svc) {
		if p.Port == number {
			return p.AppProtocol
		}
	}
	return ""
}

// Protocols returns what is spoken on the ports of a Service, in the order of ServicePorts.
func Protocols(r catalog.Reader, key discovery.Key) []policy.Protocol {
	ports := ShapeOf(r, key).Ports
	out := make([]policy.Protocol, len(ports))
	for i := range ports {
		out[i] = ports[i].Protocol
	}
	return out
}

// routesAbout finds the routes about requests to a port of a Service, or to the InstanceGroups that map it. Those of
// other namespaces count only where a ReferenceGrant lets them refer to it: what they ask for holds for all callers.
type routesAbout struct {
	r       catalog.Reader
	service discovery.Key
	port    discovery.ServicePort
	only    bool
	groups  []*discovery.InstanceGroup
}

// any reports whether a route of a kind is attached to the port, or sends to it.
func (a *routesAbout) any(kind string) bool { return a.has(false, kind) }

// naming reports whether a route about requests names this very port: one that is attached to the whole of a Service
// with several ports may be about another.
func (a *routesAbout) naming() bool {
	return a.has(!a.only, discovery.KindHTTPRoute) || a.has(!a.only, discovery.KindGRPCRoute)
}

func (a *routesAbout) has(explicitly bool, kind string) bool {
	name := policy.ServiceUnit(a.service)
	for o := range catalog.Objects.By(a.r, catalog.ByRef, name.String()) {
		if o.Kind == kind && (a.attached(o, explicitly) || a.sends(o, name, "", false)) && a.granted(o, name, "") {
			return true
		}
	}
	for _, g := range a.groups {
		mapped := g.Object.Spec.Ports
		if !slices.ContainsFunc(mapped, func(m v1alpha1.InstancePort) bool { return SamePort(m.Name, len(mapped) == 1, a.port, a.only) }) {
			continue
		}
		name := discovery.ObjectName{Kind: discovery.KindInstanceGroup, Key: g.Key}
		for o := range catalog.Objects.By(a.r, catalog.ByRef, name.String()) {
			if o.Kind == kind && a.sends(o, name, v1alpha1.Group, len(mapped) == 1) && a.granted(o, name, v1alpha1.Group) {
				return true
			}
		}
	}
	return false
}

// attached reports whether a route names the Service as its parent, and with it the port.
func (a *routesAbout) attached(o *discovery.Object, explicitly bool) bool {
	var parents []gatewayv1.ParentReference
	switch s := o.Spec.(type) {
	case *gatewayv1.HTTPRoute:
		parents = s.Spec.ParentRefs
	case *gatewayv1.GRPCRoute:
		parents = s.Spec.ParentRefs
	}
	return slices.ContainsFunc(parents, func(ref gatewayv1.ParentReference) bool {
		switch {
		case ref.Group == nil || *ref.Group != "" || ref.Kind == nil || *ref.Kind != discovery.KindService, string(ref.Name) != a.service.Name:
			return false
		case cmp.Or(valueOf(ref.Namespace), o.Namespace) != a.service.Namespace:
			return false
		case ref.Port != nil && *ref.Port != int32(a.port.Port), valueOf(ref.SectionName) != "" && valueOf(ref.SectionName) != a.port.Name:
			return false
		}
		return !explicitly || ref.Port != nil || valueOf(ref.SectionName) != ""
	})
}

// sends reports whether a route sends requests, or copies of them, to the port of an object. anyPort is true where the
// object has no other, so that the reference may leave it out.
func (a *routesAbout) sends(o *discovery.Object, to discovery.ObjectName, group string, anyPort bool) bool {
	return slices.ContainsFunc(BackendRefs(o), func(ref *gatewayv1.BackendObjectReference) bool {
		return valueOf(ref.Group) == group && BackendName(o, ref) == to &&
			(ref.Port == nil && anyPort || ref.Port != nil && *ref.Port == int32(a.port.Port))
	})
}

func (a *routesAbout) granted(o *discovery.Object, to discovery.ObjectName, group string) bool {
	if o.Namespace == to.Namespace {
		return true
	}
	_, ok := GrantFor(a.r, o, group, to)
	return ok
}

// grpcSent reports whether a GRPCRoute that may do so sends to a port of an ExternalService, which is the only one or not.
func grpcSent(r catalog.Reader, name discovery.ObjectName, number int32, only bool) bool {
	a := routesAbout{r: r, port: discovery.ServicePort{Port: uint16(number)}} //nolint:gosec // ExternalPorts leaves only ports
	for o := range catalog.Objects.By(r, catalog.ByRef, name.String()) {
		if o.Kind == discovery.KindGRPCRoute && a.sends(o, name, v1alpha1.Group, only) && a.granted(o, name, v1alpha1.Group) {
			return true
		}
	}
	return false
}

func valueOf[T ~string](s *T) string {
	if s == nil {
		return ""
	}
	return string(*s)
}
