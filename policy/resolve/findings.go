package resolve

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/effective"
	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/policy/upstream"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

func validateService(r catalog.Reader, svc *discovery.Service) []policy.Finding {
	obj := discovery.ObjectRef{Kind: discovery.KindService, Key: svc.Key, Generation: svc.Generation}
	var out []policy.Finding
	if _, ok := upstream.ParseHome(svc.Home); !ok && svc.Home != "" {
		_, because := upstream.HomeOf(r, svc)
		out = append(out, policy.Finding{
			Severity: policy.Error, Object: obj,
			Field:  fmt.Sprintf("metadata.annotations[%q]", v1alpha1.HomeAnnotation),
			Reason: policy.ReasonUnsupported, Condition: v1alpha1.ConditionAccepted,
			Message: fmt.Sprintf("%q is not a home (in force instead: %s)", svc.Home, because),
			Remedy:  "write Instances or Pods",
		})
	}
	if d := upstream.DivisionOf(r, svc); d.Unknown != "" {
		out = append(out, policy.Finding{
			Severity: policy.Error, Object: obj,
			Field:  fmt.Sprintf("metadata.annotations[%q]", v1alpha1.HomeAnnotation),
			Reason: policy.ReasonUnknownHome, Condition: v1alpha1.ConditionAccepted,
			Message: "who has the traffic is not known: proxies keep what they have, and new ones answer 503: " + d.Unknown,
			Remedy:  "see the sources of causeway status for what to do",
		})
	}
	if rec, ok := catalog.Homes.Get(r, svc.Key.String()); ok && rec.Unknown == "" && upstream.Supersedes(rec, svc) {
		if want := upstream.HomeValue(rec.Platform); svc.Home != want {
			out = append(out, policy.Finding{
				Severity: policy.Warning, Object: obj,
				Field:  fmt.Sprintf("metadata.annotations[%q]", v1alpha1.HomeAnnotation),
				Reason: policy.ReasonSuperseded, Condition: v1alpha1.ConditionAccepted,
				Message: fmt.Sprintf("%s does not count any more: the %s are the home (%s)", svc.Home, rec.Platform, rec.Because),
				Remedy:  "write " + want,
			})
		}
	}
	m := BuildService(r, svc.Key)
	for _, p := range svc.Ports {
		if name := policy.OtherThanHTTP(p); name != "" && !tlsStated(m, p.Port) {
			out = append(out, policy.Finding{
				Severity: policy.Warning, Object: obj, Field: "spec.ports",
				Condition: v1alpha1.ConditionAccepted, Reason: policy.ReasonUnsupported,
				Message: fmt.Sprintf("port %d is carried as HTTP/1.1, because nothing says what is spoken on it", p.Port),
				Remedy:  fmt.Sprintf("set its appProtocol, for example to %s, or begin its name with %s-", name, name),
			})
		}
	}
	for _, ip := range svc.ClusterIPs {
		if owner := upstream.AddressOwner(r, svc, ip); owner != svc {
			out = append(out, policy.Finding{
				Severity: policy.Error, Object: obj, Field: "spec.clusterIPs",
				Condition: v1alpha1.ConditionAccepted, Reason: policy.ReasonConflicted,
				Message: fmt.Sprintf("%s is the cluster IP of Service %s too, which is older or first by name and has it", ip, owner.Key),
				Remedy:  "give this Service an address of its own",
			})
		}
	}
	out = append(out, renameFindings(r, obj, svc)...)
	out = append(out, affinityFindings(r, obj, svc)...)
	out = append(out, nodeFindings(r, obj, svc, m)...)
	out = append(out, failoverFindings(r, obj, svc, m)...)
	if m == nil {
		return append(out, notCarried(obj, svc))
	}
	out = append(out, familyFindings(r, obj, svc)...)
	out = append(out, unreadFindings(r, obj, m)...)
	out = append(out, missingTLS(obj, m)...)
	return append(out, failovers(r, obj, m)...)
}

// notCarried says why a Service has no model.
func notCarried(obj discovery.ObjectRef, svc *discovery.Service) policy.Finding {
	f := policy.Finding{
		Severity: policy.Warning, Object: obj, Field: "spec.ports",
		Condition: v1alpha1.ConditionAccepted, Reason: policy.ReasonUnsupported,
		Message: "it has no TCP port, so the mesh does not carry it",
		Remedy:  "add the TCP ports that callers use",
	}
	if svc.ExternalName != "" {
		f.Field = "spec.externalName"
		f.Message = fmt.Sprintf("it is another name for %s and has no backings, so the mesh does not carry it", svc.ExternalName)
		f.Remedy = "attach an InstanceGroup, or make it a Service of type ClusterIP"
	}
	return f
}

// failovers says which ports have a backing with a share of the traffic that
// the other one answers, because it has no usable endpoint.
func failovers(r catalog.Reader, obj discovery.ObjectRef, m *policy.Service) []policy.Finding {
	if m == nil {
		return nil
	}
	var out []policy.Finding
	for i := range m.Ports {
		p := &m.Ports[i]
		for j := range p.Backings {
			b := &p.Backings[j]
			if p.Shares[j] == 0 || b.Usable() || !upstream.Known(r, m.Key, b.Platform) {
				continue
			}
			other := otherUsable(p, b)
			if other == nil {
				// Nothing to hand the share to is for alerts on the proxies' own
				// figures to tell: an empty Service is normal while it is set up.
				continue
			}
			unmapped := b.Platform == discovery.Instances && !MapsPort(r, m, p)
			if unmapped && m.Shift != nil {
				// A port that only pods have is no failure of the instances, and
				// nothing that a shift should wait for.
				continue
			}
			if len(b.Failover) == 0 {
				out = append(out, refuses(obj, p, b.Platform, other.Platform, p.Shares[j]))
				continue
			}
			f := failedOver(m, p, b.Platform, other.Platform, p.Shares[j], unmapped)
			f.Object = obj
			out = append(out, f)
		}
	}
	return out
}

// otherUsable returns who answers in the place of a backing, or could if it were asked; nil for nobody.
func otherUsable(p *policy.Port, b *policy.Backing) *policy.Backing {
	if len(b.Failover) > 0 {
		return p.StandIn(b)
	}
	for i := range p.Backings {
		if other := &p.Backings[i]; other != b && other.Usable() {
			return other
		}
	}
	return nil
}

// failedOver says that a backing of a port does not answer for its share.
func failedOver(m *policy.Service, p *policy.Port, b, other discovery.BackingName, share uint32, unmapped bool) policy.Finding {
	f := policy.Finding{Severity: policy.Warning, Field: "spec.ports", Condition: policy.ConditionFailedOver, Reason: policy.ReasonFailedOver}
	role := "its home, the " + b.String() + ", has"
	remedy := fmt.Sprintf("make the %s the home", other)
	if m.Shift != nil {
		role = fmt.Sprintf("the %s, to which %s gives %s of the traffic, have", b, m.Shift.Object, phrase.Percent(share))
		remedy = "see what the TrafficShift's status says"
	}
	f.Message = fmt.Sprintf("port %d: %s no usable endpoint, so the %s answer", p.Number, role, other)
	f.Remedy = fmt.Sprintf("bring the %s back, or %s", b, remedy)
	if unmapped {
		f.Message = fmt.Sprintf("port %d: no InstanceGroup maps it, so the pods answer although the instances are home", p.Number)
		f.Remedy = fmt.Sprintf("add the port named %q to the InstanceGroup's spec.ports, or make the pods the home", p.Name)
	}
	return f
}

// refuses says that a backing of a port does not answer for its share, and that
// the other one is not asked.
func refuses(obj discovery.ObjectRef, p *policy.Port, b, other discovery.BackingName, share uint32) policy.Finding {
	return policy.Finding{
		Severity: policy.Warning, Object: obj, Field: "spec.ports", Condition: policy.ConditionFailedOver, Reason: policy.ReasonNoFailover,
		Message: fmt.Sprintf("port %d: the %s have %s of the traffic and no usable endpoint, so it is refused; the %s do not stand in (%s)",
			p.Number, b, phrase.Percent(share), other, p.FailoverBecause),
		Remedy: fmt.Sprintf("bring the %s back", b),
	}
}

// FailedOver counts the backings of a Service's ports that have a share of the
// traffic and no usable endpoint, so that the other one answers for them.
func FailedOver(r catalog.Reader, service discovery.Key) int {
	n := 0
	for _, f := range failovers(r, discovery.ObjectRef{}, BuildService(r, service)) {
		if f.Reason == policy.ReasonFailedOver {
			n++
		}
	}
	return n
}

// MapsPort reports whether an InstanceGroup maps a port of a Service, or there is none at all: a port
// that only pods have is nothing that instances fail at.
func MapsPort(r catalog.Reader, m *policy.Service, p *policy.Port) bool {
	groups := slices.Collect(catalog.InstanceGroups.Of(r, m.Key))
	return len(groups) == 0 || upstream.Mapped(groups, discovery.ServicePort{Name: p.Name, Port: p.Number}, len(m.Ports) == 1)
}

func validateGroup(r catalog.Reader, g *discovery.InstanceGroup) []policy.Finding {
	obj := discovery.ObjectRef{Kind: discovery.KindInstanceGroup, Key: g.Key, Generation: g.Object.Generation}
	add := func(out []policy.Finding, s policy.Severity, field, condition, reason, message, remedy string) []policy.Finding {
		return append(out, policy.Finding{
			Severity: s, Object: obj, Field: field, Condition: condition, Reason: reason, Message: message, Remedy: remedy,
		})
	}
	var out []policy.Finding
	for _, f := range v1alpha1.ValidateInstanceGroup(g.Object) {
		out = add(out, policy.Error, f.Field, v1alpha1.ConditionAccepted, policy.ReasonInvalid, f.Message, f.Remedy)
	}
	for _, f := range append(unreadMesh(r), v1alpha1.CheckEC2(ec2Limits(r), g.Object)...) {
		out = add(out, policy.Error, f.Field, v1alpha1.ConditionAccepted, policy.ReasonInvalid, f.Message, f.Remedy)
	}
	if f, unknown := unknownRegion("spec.region", g.Object.Spec.Region); unknown && len(out) == 0 {
		out = add(out, policy.Warning, f.Field, v1alpha1.ConditionAccepted, policy.ReasonInvalid, f.Message, f.Remedy)
	}
	key := discovery.Key{Namespace: g.Namespace, Name: g.Object.Spec.ServiceRef.Name}
	svc, ok := catalog.Services.Get(r, key.String())
	if !ok {
		return add(out, policy.Error, "spec.serviceRef.name", v1alpha1.ConditionResolvedRefs, policy.ReasonBackendNotFound,
			fmt.Sprintf("there is no Service %s", key), "create it or correct the name")
	}
	ports := upstream.ServicePorts(svc)
	for i, p := range g.Object.Spec.Ports {
		if slices.ContainsFunc(ports, func(sp discovery.ServicePort) bool { return sp.Name == p.Name }) {
			continue
		}
		if len(ports) == 1 && len(g.Object.Spec.Ports) == 1 {
			if p.Name != "" && ports[0].Name != "" {
				out = add(out, policy.Warning, "spec.ports[0].name", v1alpha1.ConditionResolvedRefs, policy.ReasonPortByPosition,
					fmt.Sprintf("Service %s has no port named %q; its only port %q is meant, because there is but one on each side", key, p.Name, ports[0].Name),
					fmt.Sprintf("write %q", ports[0].Name))
			}
			continue
		}
		if j := slices.IndexFunc(ports, func(sp discovery.ServicePort) bool { return sp.Was != "" && sp.Was == p.Name }); j >= 0 {
			out = add(out, policy.Error, fmt.Sprintf("spec.ports[%d].name", i), v1alpha1.ConditionResolvedRefs, policy.ReasonBackendNotFound,
				fmt.Sprintf("Service %s calls its port %d %q now and not %q; the instances answer for it as before, so that no traffic moves", key, ports[j].Port, ports[j].Name, p.Name),
				fmt.Sprintf("write %q", ports[j].Name))
			continue
		}
		remedy := "give the Service a TCP port of that name"
		if len(ports) > 0 {
			remedy = "name one of its ports: " + upstream.PortNames(ports)
		}
		out = add(out, policy.Error, fmt.Sprintf("spec.ports[%d].name", i), v1alpha1.ConditionResolvedRefs, policy.ReasonBackendNotFound,
			fmt.Sprintf("Service %s has no port named %q", key, p.Name), remedy)
	}
	out = append(out, heldPorts(r, obj, g, ports)...)
	m := BuildService(r, key)
	if home, because := upstream.HomeOf(r, svc); home == discovery.Pods && (m == nil || m.Shift == nil) && len(failovers(r, obj, m)) == 0 {
		out = add(out, policy.Warning, "spec.serviceRef", v1alpha1.ConditionServing, policy.ReasonHomeIsPods,
			fmt.Sprintf("the home of Service %s is its pods (%s), so these instances get no traffic", key, because),
			fmt.Sprintf("annotate the Service with %s: %s to move all of it at once, or create a TrafficShift with direction PodsToInstances",
				v1alpha1.HomeAnnotation, upstream.HomeInstances))
	}
	for other := range catalog.InstanceGroups.Of(r, key) {
		if other.Name >= g.Name {
			continue
		}
		if why := overlap(r, g, other); why != "" {
			out = add(out, policy.Warning, "spec.selector", v1alpha1.ConditionAccepted, policy.ReasonOverlap,
				fmt.Sprintf("%s is also selected by InstanceGroup %s of the same Service; an instance in both counts once for each port that they map, so twice where these differ", why, other.Name),
				"make the selectors disjoint")
		}
	}
	return out
}

// overlap says what two groups have in common: an instance, or, while none has
// been read, an auto scaling group that no tag tells apart. It returns "" for
// nothing.
func overlap(r catalog.Reader, a, b *discovery.InstanceGroup) string {
	ids := make(map[string]struct{})
	if set, ok := catalog.Instances.Get(r, a.Key.String()); ok {
		for i := range set.Endpoints {
			ids[set.Endpoints[i].ID] = struct{}{}
		}
	}
	shared := ""
	if set, ok := catalog.Instances.Get(r, b.Key.String()); ok {
		for i := range set.Endpoints {
			// The lowest id, so that the message does not depend on the rows' order.
			if id := set.Endpoints[i].ID; shared == "" || id < shared {
				if _, ok := ids[id]; ok {
					shared = id
				}
			}
		}
	}
	if shared != "" {
		return "instance " + shared
	}
	as, bs := &a.Object.Spec, &b.Object.Spec
	if as.Region != bs.Region || as.RoleARN != bs.RoleARN {
		return ""
	}
	for k, v := range as.Selector.Tags {
		if other, ok := bs.Selector.Tags[k]; ok && other != v {
			return ""
		}
	}
	for _, name := range as.Selector.AutoScalingGroups {
		if slices.Contains(bs.Selector.AutoScalingGroups, name) {
			return "auto scaling group " + name
		}
	}
	return ""
}

// renameFindings says which EndpointSlices call a port by the name that it had.
func renameFindings(r catalog.Reader, obj discovery.ObjectRef, svc *discovery.Service) []policy.Finding {
	var out []policy.Finding
	for _, p := range upstream.ServicePorts(svc) {
		n := 0
		for s := range catalog.Endpoints.By(r, catalog.ByService, svc.Key.String()) {
			if s.Platform != discovery.Pods || p.Was == "" || slices.ContainsFunc(s.Ports, func(e discovery.EndpointPort) bool { return e.Name == p.Name }) {
				continue
			}
			if slices.ContainsFunc(s.Ports, func(e discovery.EndpointPort) bool { return e.Name == p.Was }) {
				n++
			}
		}
		if n > 0 {
			out = append(out, policy.Finding{
				Severity: policy.Warning, Object: obj, Field: "spec.ports", Condition: v1alpha1.ConditionResolvedRefs, Reason: policy.ReasonPortHeld,
				Message: fmt.Sprintf("%d EndpointSlices call port %d %q, as it was called, and not %q; their endpoints count as before, so that no traffic moves", n, p.Port, p.Was, p.Name),
				Remedy:  "rename the port in the slices too, before the control plane restarts",
			})
		}
	}
	return out
}

// affinityFindings says which policies hold instead of a Service's sessionAffinity.
func affinityFindings(r catalog.Reader, obj discovery.ObjectRef, svc *discovery.Service) []policy.Finding {
	if !svc.ClientIP {
		return nil
	}
	var out []policy.Finding
	for _, why := range overAffinity(r, svc.Key) {
		out = append(out, policy.Finding{
			Severity: policy.Warning, Object: obj, Field: "spec.sessionAffinity", Condition: v1alpha1.ConditionAccepted, Reason: policy.ReasonUnsupported,
			Message: why, Remedy: "remove loadBalancer there, or sessionAffinity here",
		})
	}
	return out
}

// overAffinity returns findings about the policies that replace a Service's
// sessionAffinity: ClientIP, and their targets. The first policy of each target
// is enough.
func overAffinity(r catalog.Reader, service discovery.Key) []string {
	name := discovery.ObjectName{Kind: discovery.KindService, Key: service}
	type target struct {
		discovery.ObjectName
		whom  string
		layer policy.Layer
	}
	targets := []target{{name, "callers of the mesh", policy.RequestLayer | policy.ClusterLayer}}
	for g := range catalog.InstanceGroups.Of(r, service) {
		o := discovery.ObjectName{Kind: discovery.KindInstanceGroup, Key: g.Key}
		targets = append(targets, target{o, "which instances of " + o.String() + " answer", policy.ClusterLayer})
	}
	var routes []target
	for o := range catalog.Objects.By(r, catalog.ByRef, name.String()) {
		if o.Kind == discovery.KindHTTPRoute || o.Kind == discovery.KindGRPCRoute {
			routes = append(routes, target{o.Name(), "requests of " + o.Name().String(), policy.RequestLayer})
		}
	}
	slices.SortFunc(routes, func(a, b target) int { return cmp.Compare(a.whom, b.whom) })
	var out []string
	for _, t := range append(targets, routes...) {
		for _, o := range effective.Attached(r, t.ObjectName) {
			s := effective.NewStatement(o.Ref(), &o.Spec.(*v1alpha1.TrafficPolicy).Spec.TrafficSettings)
			if l := s.Settings.LoadBalancer; l == nil || slices.Contains(s.Invalid, "loadBalancer") || keepsAddress(l, t.layer) {
				continue
			}
			out = append(out, fmt.Sprintf("ClientIP has no effect on %s: %s has loadBalancer, which holds instead", t.whom, s.Ref))
			break
		}
	}
	return out
}

// keepsAddress reports whether the caller's address chooses the endpoint although a
// policy says how to balance: it hashes by that, or says on its side nothing of the key.
func keepsAddress(l *v1alpha1.LoadBalancer, on policy.Layer) bool {
	return (on&policy.ClusterLayer == 0 || policy.Hashes(l.Algorithm)) && (on&policy.RequestLayer == 0 || l.Hash == nil || l.Hash.Source != nil)
}

// heldPorts says which ports of its Service a group does not map any more
// although its instances still answer for them.
func heldPorts(r catalog.Reader, obj discovery.ObjectRef, g *discovery.InstanceGroup, ports []discovery.ServicePort) []policy.Finding {
	mapped := g.Object.Spec.Ports
	var out []policy.Finding
	service := discovery.Key{Namespace: g.Namespace, Name: g.Object.Spec.ServiceRef.Name}
	for s := range catalog.Endpoints.By(r, catalog.ByService, service.String()) {
		if s.Platform != discovery.Instances || s.Group != g.Name || len(out) > 0 {
			continue
		}
		for _, p := range ports {
			if slices.ContainsFunc(mapped, func(m v1alpha1.InstancePort) bool {
				return upstream.SamePort(m.Name, len(mapped) == 1, p, len(ports) == 1)
			}) {
				continue
			}
			if number, ok := upstream.PortOf(s, p, len(ports) == 1); ok {
				out = append(out, policy.Finding{
					Severity: policy.Error, Object: obj, Field: "spec.ports", Condition: v1alpha1.ConditionResolvedRefs, Reason: policy.ReasonPortHeld,
					Message: fmt.Sprintf("port %d (%q) of Service %s is not mapped any more; while instances have traffic they go on to answer at port %d, as last known good", p.Port, p.Name, service, number),
					Remedy:  fmt.Sprintf("write {name: %s, port: %d}, or move the traffic to the pods first, with a TrafficShift", p.Name, number),
				})
			}
		}
	}
	return out
}

// familyFindings says where a Service's address families leave no endpoint of its pods.
func familyFindings(r catalog.Reader, obj discovery.ObjectRef, svc *discovery.Service) []policy.Finding {
	f := upstream.FamiliesOf(svc)
	if !f.Single {
		return nil
	}
	own, other := "IPv4", "IPv6"
	if f.IPv6 {
		own, other = other, own
	}
	left := 0
	for s := range catalog.Endpoints.By(r, catalog.ByService, svc.Key.String()) {
		for i := range s.Endpoints {
			switch {
			case s.Platform != discovery.Pods:
			case upstream.IsIPv6(s.Endpoints[i].Address) == f.IPv6:
				return nil
			default:
				left++
			}
		}
	}
	if left == 0 {
		return nil
	}
	return []policy.Finding{{
		Severity: policy.Warning, Object: obj, Field: "spec.ipFamilies", Condition: v1alpha1.ConditionAccepted, Reason: policy.ReasonNoEndpoints,
		Message: fmt.Sprintf("all %d endpoints of its pods have %s addresses and the Service is %s alone, so none is used", left, other, own),
		Remedy:  fmt.Sprintf("add %s to spec.ipFamilies, or publish %s addresses", other, own),
	}}
}

// failoverFindings says what a Service's annotation cannot mean, and where
// failover is off although nobody has said so.
func failoverFindings(r catalog.Reader, obj discovery.ObjectRef, svc *discovery.Service, m *policy.Service) []policy.Finding {
	field := fmt.Sprintf("metadata.annotations[%q]", v1alpha1.FailoverAnnotation)
	var out []policy.Finding
	if _, ok := upstream.ParseFailover(svc.Failover); !ok && svc.Failover != "" {
		out = append(out, policy.Finding{
			Severity: policy.Error, Object: obj, Field: field, Condition: v1alpha1.ConditionAccepted, Reason: policy.ReasonUnsupported,
			Message: fmt.Sprintf("%q says nothing of failover, so the default holds", svc.Failover), Remedy: "write OtherBacking or None",
		})
	}
	// One backing alone has nothing that could stand in for it.
	if m == nil || len(upstream.ShiftsOf(r, svc.Key)) == 0 && !hasSeveral(r, svc.Key) {
		return out
	}
	for i := range m.Ports {
		p := &m.Ports[i]
		if len(p.Backings) < 2 || p.Failover || p.FailoverStated {
			continue
		}
		out = append(out, policy.Finding{
			Severity: policy.Warning, Object: obj, Field: field, Condition: v1alpha1.ConditionAccepted, Reason: policy.ReasonNoFailover,
			Message: fmt.Sprintf("port %d: there is no failover to the other backing, because %s; without a usable endpoint connections are refused", p.Number, p.FailoverBecause),
			Remedy:  "write None to say that it is meant, or OtherBacking where both sides have the same data",
		})
	}
	return out
}

// hasSeveral reports whether a Service has endpoints of more than one backing.
func hasSeveral(r catalog.Reader, service discovery.Key) bool {
	var first discovery.BackingName
	for s := range catalog.Endpoints.By(r, catalog.ByService, service.String()) {
		switch {
		case len(s.Endpoints) == 0:
		case first == "":
			first = s.Platform
		case first != s.Platform:
			return true
		}
	}
	return false
}
