package policy

import (
	"fmt"
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// shapeOf returns a Service's ports as routes of other Services read them:
// with the platforms and shares of their backings, without endpoints, and the
// shift that is under way. It returns none for a Service that does not exist
// or that the mesh does not carry. What it says is what BuildService says, at a
// fraction of the price.
func shapeOf(r catalog.Reader, key discovery.Key) serviceShape {
	svc, ok := catalog.Services.Get(r, key.String())
	if !ok {
		return serviceShape{}
	}
	groups := slices.Collect(catalog.InstanceGroups.By(r, catalog.ByService, key.String()))
	sets := slices.Collect(catalog.Endpoints.By(r, catalog.ByService, key.String()))
	if svc.ExternalName != "" && len(groups) == 0 && len(sets) == 0 {
		return serviceShape{}
	}
	d := divisionOf(r, svc)
	ports := servicePorts(svc)
	out := make([]Port, 0, len(ports))
	for _, p := range ports {
		out = append(out, shapePort(p, len(ports) == 1, &d, groups, sets))
	}
	return serviceShape{out, d.shift, d.unknown, d.object != nil, svc.ClientIP}
}

// serviceShape is what shapeOf returns.
type serviceShape struct {
	ports []Port
	shift *Shift
	// unknown is Service.Unknown.
	unknown string
	// reported is Service.Reported, clientIP Service.ClientIP.
	reported, clientIP bool
}

// shapeOf returns the same, read once for all rules of a route, and for all routes of a Gateway.
func (b *routeBuilder) shapeOf(key discovery.Key) serviceShape {
	s, ok := b.shapes[key]
	if !ok {
		s = shapeOf(b.r, key)
		b.shapes[key] = s
	}
	return s
}

// namedBackend is an entry of a rule's backendRefs.
type namedBackend struct {
	field   string
	ref     *gatewayv1.BackendRef
	filters []gatewayv1.HTTPRouteFilter
}

// backends returns where a rule sends requests: every backendRef that has a
// weight, each with its fixed part of the requests and within it the parts of its backings.
func (b *routeBuilder) backends(refs []namedBackend) []Backend {
	var out []Backend
	for i, named := range refs {
		weight := int32(1)
		if named.ref.Weight != nil {
			weight = *named.ref.Weight
		}
		if weight < 0 || weight > maxWeight {
			b.invalid(ReasonUnsupported, named.field+".weight", fmt.Sprintf("%d is not a weight", weight), fmt.Sprintf("give one from 0 to %d", maxWeight))
			weight = 0
		}
		to := b.backend(named.field, &named.ref.BackendObjectReference)
		filters := b.filters(named.field+".filters", named.filters, onBackend)
		if filters.Failed != "" {
			to = refused(filters.Failed)
		}
		if weight == 0 {
			continue
		}
		to.Index, to.Weight, to.Filters = i, uint32(weight), filters
		to.Filters.Failed = ""
		out = append(out, to)
	}
	weights := make([]uint32, len(out))
	for i := range out {
		weights[i] = out[i].Weight
	}
	for i, share := range divide(ShareTotal, weights) {
		out[i].allot(share)
	}
	b.cohortConflicts(refs, out)
	b.unshadowed(refs, out)
	return out
}

// maxWeight is the largest weight of a backendRef.
const maxWeight = 1_000_000

// allot gives a backend its part of the requests and divides it among its
// backings, Pods first, as their Service does.
func (b *Backend) allot(share uint32) {
	parts := make([]uint32, len(b.Targets))
	for i := range b.Targets {
		parts[i] = b.Targets[i].Share
	}
	b.Share = share
	b.Targets = slices.Clone(b.Targets)
	for i, part := range divide(share, parts) {
		b.Targets[i].Share = part
	}
}

// refused returns the backend that answers 500.
func refused(reason string) Backend {
	return Backend{Kind: InvalidBackend, Reason: reason, Targets: []Target{{Share: ShareTotal}}}
}

// backend returns what a reference names, with all requests as its share, or
// an InvalidBackend and a finding.
func (b *routeBuilder) backend(field string, ref *gatewayv1.BackendObjectReference) Backend {
	to := backendName(b.route, ref)
	group := ""
	if ref.Group != nil {
		group = string(*ref.Group)
	}
	if k := [2]string{group, to.Kind}; k != [2]string{"", discovery.KindService} && k != [2]string{v1alpha1.Group, discovery.KindInstanceGroup} && k != [2]string{v1alpha1.Group, discovery.KindExternalService} {
		return b.unresolved(string(gatewayv1.RouteReasonInvalidKind), field+".kind",
			fmt.Sprintf("kind %q of group %q cannot be a backend", to.Kind, group),
			fmt.Sprintf("name a Service (group \"\"), or an InstanceGroup or ExternalService (group %s)", v1alpha1.Group))
	}
	if needsGrant(b.route, b.parent, to.Namespace) {
		grant, ok := grantFor(b.r, b.route, group, to)
		if !ok {
			return b.unresolved(string(gatewayv1.RouteReasonRefNotPermitted), field,
				fmt.Sprintf("no ReferenceGrant of namespace %s lets %ss of namespace %s refer to %s", to.Namespace, b.route.Kind, b.route.Namespace, to),
				fmt.Sprintf("have one created in namespace %s", to.Namespace))
		}
		b.uses(grant.Ref())
	}
	switch to.Kind {
	case discovery.KindInstanceGroup:
		return b.instanceGroup(field, to, ref.Port)
	case discovery.KindExternalService:
		return b.externalService(field, to, ref.Port)
	}
	return b.service(field, to, ref.Port)
}

// backendName returns the object that a reference of a route names.
func backendName(route *discovery.Object, ref *gatewayv1.BackendObjectReference) discovery.ObjectName {
	out := discovery.ObjectName{Kind: discovery.KindService, Key: discovery.Key{Namespace: route.Namespace, Name: string(ref.Name)}}
	if ref.Kind != nil && *ref.Kind != "" {
		out.Kind = string(*ref.Kind)
	}
	if ref.Namespace != nil && *ref.Namespace != "" {
		out.Namespace = string(*ref.Namespace)
	}
	return out
}

// service returns a Service as a backend.
func (b *routeBuilder) service(field string, to discovery.ObjectName, number *gatewayv1.PortNumber) Backend {
	// Without its generation: what is read of it is its shape alone, so that
	// other changes of it do not concern the route.
	b.uses(discovery.ObjectRef{Kind: to.Kind, Key: to.Key})
	svc, ok := catalog.Services.Get(b.r, to.Key.String())
	if !ok {
		return b.missing(field, to)
	}
	shape := b.shapeOf(to.Key)
	ports := shape.ports
	if len(ports) == 0 {
		message, remedy := "has no TCP port", "name a Service that has one"
		if svc.ExternalName != "" {
			message, remedy = "is another name for "+svc.ExternalName+" and has no endpoints", "declare the host as an ExternalService and name that"
		}
		return b.unresolved(string(gatewayv1.RouteReasonInvalidKind), field, to.String()+" "+message, remedy)
	}
	if number == nil {
		return b.unresolved(string(gatewayv1.RouteReasonBackendNotFound), field+".port",
			fmt.Sprintf("a reference to a Service needs the port, and none is given for %s", to), "give one of its ports: "+portNumbers(ports))
	}
	i := slices.IndexFunc(ports, func(p Port) bool { return int32(p.Number) == *number })
	if i < 0 {
		return b.missingPort(field, to, *number, ports)
	}
	p := &ports[i]
	if problem := b.speaks(p.Protocol); problem != "" {
		return b.wrongProtocol(field, fmt.Sprintf("port %d of %s %s", p.Number, to, problem),
			fmt.Sprintf("set the appProtocol of the port, for example to %s", b.wants()))
	}
	if shape.shift != nil {
		b.uses(shape.shift.ref())
	}
	out := Backend{
		Kind: ServiceBackend, Key: to.Key, Port: p.Number, Protocol: p.Protocol,
		Failover: p.Failover && len(p.Backings) == 2, Shift: shape.shift, Unknown: shape.unknown, Reported: shape.reported, ClientIP: shape.clientIP,
	}
	for i := range p.Backings {
		out.Targets = append(out.Targets, Target{Platform: p.Backings[i].Platform, Share: p.Shares[i]})
	}
	return out
}

// instanceGroup returns an InstanceGroup as a backend. The port is that of the
// Service that it backs; it may be left out where the group maps but one.
func (b *routeBuilder) instanceGroup(field string, to discovery.ObjectName, number *gatewayv1.PortNumber) Backend {
	g, ok := catalog.InstanceGroups.Get(b.r, to.Key.String())
	if !ok {
		b.uses(discovery.ObjectRef{Kind: to.Kind, Key: to.Key})
		return b.missing(field, to)
	}
	b.uses(discovery.ObjectRef{Kind: to.Kind, Key: to.Key, Generation: g.Object.Generation})
	key := discovery.Key{Namespace: g.Namespace, Name: g.Object.Spec.ServiceRef.Name}
	shape := b.shapeOf(key)
	ports := mappedPorts(g, shape.ports)
	if len(ports) == 0 {
		return b.unresolved(string(gatewayv1.RouteReasonBackendNotFound), field,
			fmt.Sprintf("%s maps no port of Service %s", to, key), "correct its spec.serviceRef or spec.ports")
	}
	if number == nil {
		if len(ports) > 1 {
			return b.unresolved(string(gatewayv1.RouteReasonBackendNotFound), field+".port",
				fmt.Sprintf("%s maps several ports and none is given", to), "give one of the Service's ports: "+portNumbers(ports))
		}
		only := int32(ports[0].Number)
		number = &only
	}
	i := slices.IndexFunc(ports, func(p Port) bool { return int32(p.Number) == *number })
	if i < 0 {
		return b.missingPort(field, to, *number, ports)
	}
	p := &ports[i]
	if problem := b.speaks(p.Protocol); problem != "" {
		return b.wrongProtocol(field, fmt.Sprintf("port %d of Service %s %s", p.Number, key, problem),
			fmt.Sprintf("set the appProtocol of the port, for example to %s", b.wants()))
	}
	return Backend{
		Kind: InstanceGroupBackend, Key: key, Port: p.Number, Group: to.Key.Name, Protocol: p.Protocol, ClientIP: shape.clientIP,
		Targets: []Target{{Platform: discovery.Instances, Share: ShareTotal}},
	}
}

// mappedPorts returns those ports of a Service that an InstanceGroup of it maps.
func mappedPorts(g *discovery.InstanceGroup, ports []Port) []Port {
	mapped := g.Object.Spec.Ports
	return slices.DeleteFunc(slices.Clone(ports), func(p Port) bool {
		return !slices.ContainsFunc(mapped, func(m v1alpha1.InstancePort) bool {
			return samePort(m.Name, len(mapped) == 1, discovery.ServicePort{Name: p.Name, Port: p.Number}, len(ports) == 1)
		})
	})
}

// externalService returns an ExternalService as a backend. The port may be
// left out where it has but one.
func (b *routeBuilder) externalService(field string, to discovery.ObjectName, number *gatewayv1.PortNumber) Backend {
	o, ok := catalog.Objects.Get(b.r, to.String())
	if !ok {
		b.uses(discovery.ObjectRef{Kind: to.Kind, Key: to.Key})
		return b.missing(field, to)
	}
	b.uses(o.Ref())
	m := BuildExternal(b.r, to.Key)
	if m == nil || len(m.Ports) == 0 {
		return b.unresolved(string(gatewayv1.RouteReasonBackendNotFound), field, to.String()+" is not accepted", "see its condition Accepted")
	}
	ports := make([]Port, len(m.Ports))
	for i := range m.Ports {
		ports[i] = Port{Number: m.Ports[i].Number, Protocol: m.Ports[i].Protocol}
	}
	if number == nil {
		if len(ports) > 1 {
			return b.unresolved(string(gatewayv1.RouteReasonBackendNotFound), field+".port",
				fmt.Sprintf("%s has several ports and none is given", to), "give one of them: "+portNumbers(ports))
		}
		only := int32(ports[0].Number)
		number = &only
	}
	i := slices.IndexFunc(ports, func(p Port) bool { return int32(p.Number) == *number })
	if i < 0 {
		return b.missingPort(field, to, *number, ports)
	}
	p := &ports[i]
	if problem := b.speaks(p.Protocol); problem != "" {
		return b.wrongProtocol(field, fmt.Sprintf("port %d of %s %s", p.Number, to, problem), "correct the port's protocol, or name another port")
	}
	return Backend{
		Kind: ExternalBackend, Key: to.Key, Port: p.Number, Protocol: p.Protocol,
		Targets: []Target{{Share: ShareTotal}},
	}
}

// speaks says why requests of the route cannot be sent to a port, "" if they can.
func (b *routeBuilder) speaks(p Protocol) string {
	switch b.route.Kind {
	case discovery.KindHTTPRoute:
		if p == TCP {
			return "does not speak HTTP"
		}
	case discovery.KindGRPCRoute:
		if p != HTTP2 {
			return "does not speak HTTP/2, which gRPC needs"
		}
	}
	return ""
}

// wants returns the appProtocol that a route's backends should have.
func (b *routeBuilder) wants() string {
	if b.route.Kind == discovery.KindGRPCRoute {
		return "kubernetes.io/h2c"
	}
	return "http"
}

func (b *routeBuilder) missing(field string, to discovery.ObjectName) Backend {
	return b.unresolved(string(gatewayv1.RouteReasonBackendNotFound), field+".name",
		fmt.Sprintf("there is no %s", to), "create it or correct the name")
}

func (b *routeBuilder) missingPort(field string, to discovery.ObjectName, number int32, ports []Port) Backend {
	return b.unresolved(string(gatewayv1.RouteReasonBackendNotFound), field+".port",
		fmt.Sprintf("%s has no port %d", to, number), "give one of its ports: "+portNumbers(ports))
}

func (b *routeBuilder) wrongProtocol(field, message, remedy string) Backend {
	return b.unresolved(string(gatewayv1.RouteReasonUnsupportedProtocol), field+".port", message, remedy)
}

// unresolved notes why a reference leads nowhere and returns a backend that answers 500.
func (b *routeBuilder) unresolved(reason, field, message, remedy string) Backend {
	b.find(Error, string(gatewayv1.RouteConditionResolvedRefs), reason, field, message, remedy)
	return refused(reason + ": " + message)
}

func portNumbers(ports []Port) string {
	var out []byte
	for i := range ports {
		if i > 0 {
			out = append(out, ", "...)
		}
		out = fmt.Append(out, ports[i].Number)
	}
	return string(out)
}

// backendRefs returns every object that a route sends requests to, mirrored
// ones too.
func backendRefs(o *discovery.Object) []*gatewayv1.BackendObjectReference {
	var out []*gatewayv1.BackendObjectReference
	mirrors := func(filters []gatewayv1.HTTPRouteFilter) {
		for i := range filters {
			if m := filters[i].RequestMirror; m != nil {
				out = append(out, &m.BackendRef)
			}
		}
	}
	switch s := o.Spec.(type) {
	case *gatewayv1.HTTPRoute:
		for i := range s.Spec.Rules {
			rule := &s.Spec.Rules[i]
			mirrors(rule.Filters)
			for j := range rule.BackendRefs {
				out = append(out, &rule.BackendRefs[j].BackendObjectReference)
			}
		}
	case *gatewayv1.GRPCRoute:
		for i := range s.Spec.Rules {
			rule := &s.Spec.Rules[i]
			mirrors(httpFilters(rule.Filters))
			for j := range rule.BackendRefs {
				out = append(out, &rule.BackendRefs[j].BackendObjectReference)
			}
		}
	case *gatewayv1.TCPRoute:
		for i := range s.Spec.Rules {
			for j := range s.Spec.Rules[i].BackendRefs {
				out = append(out, &s.Spec.Rules[i].BackendRefs[j].BackendObjectReference)
			}
		}
	case *gatewayv1.TLSRoute:
		for i := range s.Spec.Rules {
			for j := range s.Spec.Rules[i].BackendRefs {
				out = append(out, &s.Spec.Rules[i].BackendRefs[j].BackendObjectReference)
			}
		}
	}
	return out
}

// attachGroups gives ports the InstanceGroups that routes name as backends. A
// group gets its cluster even if the reference turns out not to be granted:
// whether it is depends on the route's parent, and an unused cluster harms nobody.
func attachGroups(r catalog.Reader, m *Service) {
	for g := range catalog.InstanceGroups.By(r, catalog.ByService, m.Key.String()) {
		mapped := mappedPorts(g, m.Ports)
		if len(mapped) == 0 {
			continue
		}
		named := namedPorts(r, g, mapped)
		for i := range m.Ports {
			p := &m.Ports[i]
			if !slices.Contains(named, p.Number) {
				continue
			}
			zones, read := groupZones(r, m, p, g.Name)
			p.Groups = append(p.Groups, Group{Name: g.Name, Zones: zones, Unknown: !read})
		}
	}
}

// namedPorts returns the ports of an InstanceGroup that routes name.
func namedPorts(r catalog.Reader, g *discovery.InstanceGroup, mapped []Port) []uint16 {
	var out []uint16
	name := discovery.ObjectName{Kind: discovery.KindInstanceGroup, Key: g.Key}
	for o := range catalog.Objects.By(r, catalog.ByRef, name.String()) {
		for _, ref := range backendRefs(o) {
			if ref.Group == nil || *ref.Group != v1alpha1.Group || backendName(o, ref) != name {
				continue
			}
			for i := range mapped {
				if ref.Port == nil && len(mapped) == 1 || ref.Port != nil && *ref.Port == int32(mapped[i].Number) {
					out = append(out, mapped[i].Number)
				}
			}
		}
	}
	return out
}

// groupZones returns the endpoints of one InstanceGroup of a Service, and
// whether they have been read.
func groupZones(r catalog.Reader, m *Service, p *Port, group string) (out []Zone, read bool) {
	svc, ok := catalog.Services.Get(r, m.Key.String())
	if !ok {
		return nil, true
	}
	var sets []*discovery.EndpointSet
	for s := range catalog.Endpoints.By(r, catalog.ByService, m.Key.String()) {
		if s.Platform == discovery.Instances && s.Group == group {
			sets = append(sets, s)
		}
	}
	return zones(sets, discovery.Instances, discovery.ServicePort{Name: p.Name, Port: p.Number}, len(m.Ports) == 1, familiesOf(svc)), len(sets) > 0
}
