package routing

import (
	"fmt"
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/upstream"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// shapeOf returns the same, read once for all rules of a route, and for all routes of a Gateway.
func (b *routeBuilder) shapeOf(key discovery.Key) upstream.Shape {
	s, ok := b.shapes[key]
	if !ok {
		s = upstream.ShapeOf(b.r, key)
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
func (b *routeBuilder) backends(refs []namedBackend, place filterPlace) []policy.Backend {
	var out []policy.Backend
	for i, named := range refs {
		weight := int32(1)
		if named.ref.Weight != nil {
			weight = *named.ref.Weight
		}
		if weight < 0 || weight > maxWeight {
			b.invalid(policy.ReasonUnsupported, named.field+".weight", fmt.Sprintf("%d is not a weight", weight), fmt.Sprintf("give one from 0 to %d", maxWeight))
			weight = 0
		}
		to := b.backend(named.field, &named.ref.BackendObjectReference)
		filters := b.filters(named.field+".filters", named.filters, place)
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
	for i, share := range divide(policy.ShareTotal, weights) {
		allot(&out[i], share)
	}
	b.cohortConflicts(refs, out)
	b.uncopied(refs, out)
	return out
}

// maxWeight is the largest weight of a backendRef.
const maxWeight = 1_000_000

// allot gives a backend its part of the requests and divides it among its
// backings, in their order, as their Service does.
func allot(b *policy.Backend, share uint32) {
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
func refused(reason string) policy.Backend {
	return policy.Backend{Kind: policy.InvalidBackend, Reason: reason, Targets: []policy.Target{{Share: policy.ShareTotal}}}
}

// backend returns what a reference names, with all requests as its share, or
// an InvalidBackend and a finding.
func (b *routeBuilder) backend(field string, ref *gatewayv1.BackendObjectReference) policy.Backend {
	to := upstream.BackendName(b.route, ref)
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
		grant, ok := upstream.GrantFor(b.r, b.route, group, to)
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

// service returns a Service as a backend.
func (b *routeBuilder) service(field string, to discovery.ObjectName, number *gatewayv1.PortNumber) policy.Backend {
	// It has no generation here: the route reads only its shape, so other
	// changes of it do not concern the route.
	b.uses(discovery.ObjectRef{Kind: to.Kind, Key: to.Key})
	svc, ok := catalog.Services.Get(b.r, to.Key.String())
	if !ok {
		return b.missing(field, to)
	}
	shape := b.shapeOf(to.Key)
	ports := shape.Ports
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
	i := slices.IndexFunc(ports, func(p policy.Port) bool { return int32(p.Number) == *number })
	if i < 0 {
		return b.missingPort(field, to, *number, ports)
	}
	p := &ports[i]
	if problem := b.speaks(p.Protocol); problem != "" {
		return b.wrongProtocol(field, fmt.Sprintf("port %d of %s %s", p.Number, to, problem), upstream.ProtocolRemedy(b.r, b.route, to.Key, p))
	}
	if shape.Shift != nil {
		b.uses(shape.Shift.Ref())
	}
	out := policy.Backend{
		Kind: policy.ServiceBackend, Key: to.Key, Port: p.Number, Protocol: p.Protocol,
		Targets: p.Targets(), Shift: shape.Shift, Unknown: shape.Unknown, Reported: shape.Reported, ClientIP: shape.ClientIP,
	}
	return out
}

// instanceGroup returns an InstanceGroup as a backend. The port is that of the
// Service that it backs; it may be left out where the group maps but one.
func (b *routeBuilder) instanceGroup(field string, to discovery.ObjectName, number *gatewayv1.PortNumber) policy.Backend {
	g, ok := catalog.InstanceGroups.Get(b.r, to.Key.String())
	if !ok {
		b.uses(discovery.ObjectRef{Kind: to.Kind, Key: to.Key})
		return b.missing(field, to)
	}
	b.uses(discovery.ObjectRef{Kind: to.Kind, Key: to.Key, Generation: g.Object.Generation})
	key := discovery.Key{Namespace: g.Namespace, Name: g.Object.Spec.ServiceRef.Name}
	shape := b.shapeOf(key)
	ports := MappedPorts(g, shape.Ports)
	if len(ports) == 0 {
		return b.unresolved(string(gatewayv1.RouteReasonBackendNotFound), field,
			fmt.Sprintf("%s maps no port of Service %s", to, key), "correct its spec.serviceRef or spec.ports")
	}
	p, wrong := b.port(field, to, number, ports, "maps", "the Service's ports")
	if p == nil {
		return wrong
	}
	if problem := b.speaks(p.Protocol); problem != "" {
		return b.wrongProtocol(field, fmt.Sprintf("port %d of Service %s %s", p.Number, key, problem), upstream.ProtocolRemedy(b.r, b.route, key, p))
	}
	return policy.Backend{
		Kind: policy.InstanceGroupBackend, Key: key, Port: p.Number, Group: to.Key.Name, Protocol: p.Protocol, ClientIP: shape.ClientIP,
		Targets: []policy.Target{{Platform: discovery.Instances, Share: policy.ShareTotal}},
	}
}

// port returns the port of a backend by its number, which may be left out if there is only
// one. Without such a port it returns nil and an invalid backend with the reason: it "has"
// or "maps" several ports, and one must be given.
func (b *routeBuilder) port(field string, to discovery.ObjectName, number *gatewayv1.PortNumber, ports []policy.Port, has, them string) (*policy.Port, policy.Backend) {
	if number == nil && len(ports) > 1 {
		return nil, b.unresolved(string(gatewayv1.RouteReasonBackendNotFound), field+".port",
			fmt.Sprintf("%s %s several ports and none is given", to, has), fmt.Sprintf("give one of %s: %s", them, portNumbers(ports)))
	}
	if number == nil {
		return &ports[0], policy.Backend{}
	}
	i := slices.IndexFunc(ports, func(p policy.Port) bool { return int32(p.Number) == *number })
	if i < 0 {
		return nil, b.missingPort(field, to, *number, ports)
	}
	return &ports[i], policy.Backend{}
}

// MappedPorts returns those ports of a Service that an InstanceGroup of it maps.
func MappedPorts(g *discovery.InstanceGroup, ports []policy.Port) []policy.Port {
	mapped := g.Object.Spec.Ports
	return slices.DeleteFunc(slices.Clone(ports), func(p policy.Port) bool {
		return !slices.ContainsFunc(mapped, func(m v1alpha1.InstancePort) bool {
			return upstream.SamePort(m.Name, len(mapped) == 1, discovery.ServicePort{Name: p.Name, Port: p.Number}, len(ports) == 1)
		})
	})
}

// externalService returns an ExternalService as a backend. The port may be
// left out where it has but one.
func (b *routeBuilder) externalService(field string, to discovery.ObjectName, number *gatewayv1.PortNumber) policy.Backend {
	o, ok := catalog.Objects.Get(b.r, to.String())
	if !ok {
		b.uses(discovery.ObjectRef{Kind: to.Kind, Key: to.Key})
		return b.missing(field, to)
	}
	b.uses(o.Ref())
	m := upstream.BuildExternal(b.r, to.Key)
	if m == nil || len(m.Ports) == 0 {
		return b.unresolved(string(gatewayv1.RouteReasonBackendNotFound), field, to.String()+" is not accepted", "see its condition Accepted")
	}
	ports := make([]policy.Port, len(m.Ports))
	for i := range m.Ports {
		ports[i] = policy.Port{Number: m.Ports[i].Number, Protocol: m.Ports[i].Protocol}
	}
	p, wrong := b.port(field, to, number, ports, "has", "them")
	if p == nil {
		return wrong
	}
	if problem := b.speaks(p.Protocol); problem != "" {
		return b.wrongProtocol(field, fmt.Sprintf("port %d of %s %s", p.Number, to, problem), "correct the port's protocol, or name another port")
	}
	return policy.Backend{
		Kind: policy.ExternalBackend, Key: to.Key, Port: p.Number, Protocol: p.Protocol,
		Targets: []policy.Target{{Share: policy.ShareTotal}},
	}
}

// speaks says why requests of the route cannot be sent to a port, "" if they can.
func (b *routeBuilder) speaks(p policy.Protocol) string {
	switch b.route.Kind {
	case discovery.KindHTTPRoute:
		if p == policy.TCP {
			return "does not speak HTTP"
		}
	case discovery.KindGRPCRoute:
		if !p.CarriesGRPC() {
			return "does not speak HTTP/2, which gRPC needs"
		}
	}
	return ""
}

func (b *routeBuilder) missing(field string, to discovery.ObjectName) policy.Backend {
	return b.unresolved(string(gatewayv1.RouteReasonBackendNotFound), field+".name",
		fmt.Sprintf("there is no %s", to), "create it or correct the name")
}

func (b *routeBuilder) missingPort(field string, to discovery.ObjectName, number int32, ports []policy.Port) policy.Backend {
	return b.unresolved(string(gatewayv1.RouteReasonBackendNotFound), field+".port",
		fmt.Sprintf("%s has no port %d", to, number), "give one of its ports: "+portNumbers(ports))
}

func (b *routeBuilder) wrongProtocol(field, message, remedy string) policy.Backend {
	return b.unresolved(string(gatewayv1.RouteReasonUnsupportedProtocol), field+".port", message, remedy)
}

// unresolved notes why a reference leads nowhere and returns a backend that answers 500.
func (b *routeBuilder) unresolved(reason, field, message, remedy string) policy.Backend {
	b.find(policy.Error, string(gatewayv1.RouteConditionResolvedRefs), reason, field, message, remedy)
	return refused(reason + ": " + message)
}

func portNumbers(ports []policy.Port) string {
	var out []byte
	for i := range ports {
		if i > 0 {
			out = append(out, ", "...)
		}
		out = fmt.Append(out, ports[i].Number)
	}
	return string(out)
}

// divide cuts a total into consecutive parts in proportion to weights: each
// boundary is rounded to the nearest unit, so that the parts sum to the total
// exactly and each is off by at most one. Without any weight all parts are 0.
func divide(total uint32, weights []uint32) []uint32 {
	out := make([]uint32, len(weights))
	var sum uint64
	for _, w := range weights {
		sum += uint64(w)
	}
	if sum == 0 {
		return out
	}
	var before, start uint64
	for i, w := range weights {
		before += uint64(w)
		end := (before*uint64(total)*2 + sum) / (2 * sum)
		out[i] = uint32(end - start)
		start = end
	}
	return out
}

// cohortConflicts notes which backends of a rule would tell users apart by
// another key than the first of them: a request is hashed once.
func (b *routeBuilder) cohortConflicts(refs []namedBackend, backends []policy.Backend) {
	var first *policy.Backend
	for i := range backends {
		to := &backends[i]
		if to.Shift == nil || to.Shift.Cohort == nil {
			continue
		}
		if first == nil {
			first = to
			continue
		}
		if *to.Shift.Cohort == *first.Shift.Cohort {
			continue
		}
		b.find(policy.Error, v1alpha1.ConditionAccepted, policy.ReasonConflicted, refs[to.Index].field, fmt.Sprintf(
			"%s tells users of Service %s apart by %s, and %s those of Service %s by %s, which stands first and has the rule",
			to.Shift.Object, to.Key, to.Shift.Cohort, first.Shift.Object, first.Key, first.Shift.Cohort),
			"give both TrafficShifts the same cohort, or shift one after the other")
	}
}

// uncopied warns that requests of a rule with several backends are not copied.
func (b *routeBuilder) uncopied(refs []namedBackend, backends []policy.Backend) {
	if len(backends) < 2 {
		return
	}
	for i := range backends {
		if s := backends[i].Shift; s != nil && s.Shadow != nil {
			b.find(policy.Warning, v1alpha1.ConditionAccepted, policy.ReasonUnsupported, refs[backends[i].Index].field, fmt.Sprintf(
				"requests of this rule are not copied for %s: a proxy copies all requests of a rule, those to its other backends too", s.Object),
				"nothing, or give the Service a rule of its own while the shift shadows")
		}
	}
}
