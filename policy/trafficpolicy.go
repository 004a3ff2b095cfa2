package policy

import (
	"cmp"
	"slices"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// source is an object that states sections: a TrafficPolicy, or the Mesh with its defaults.
type source struct {
	ref      discovery.ObjectRef
	settings *v1alpha1.TrafficSettings
	// invalid are the names of sections that have a mistake and hence no effect.
	invalid []string
}

func newSource(ref discovery.ObjectRef, s *v1alpha1.TrafficSettings) source {
	out := source{ref: ref, settings: s}
	for _, m := range mistakes(s) {
		out.invalid = append(out.invalid, m.in)
	}
	return out
}

// states reports whether the object has a section that is in force. TLS is
// even with a mistake: requests fail then, and never go in the clear.
func (s *source) states(sec *section) bool {
	return sec.has(s.settings) && (sec.in == "tls" || !slices.Contains(s.invalid, sec.in))
}

// effective merges sections one by one: for each that acts on one of the
// sides, the first source that states it has it.
func effective(sources []source, on side) Settings {
	var out Settings
	if len(sources) == 0 {
		return out
	}
	for i := range sections {
		sec := &sections[i]
		if sec.side&on == 0 {
			continue
		}
		for j := range sources {
			if !sources[j].states(sec) {
				continue
			}
			if out.From == nil {
				out.From = make(map[string]discovery.ObjectRef)
			}
			sec.take(&out.Stated, sources[j].settings)
			out.From[sec.name] = sources[j].ref
			break
		}
	}
	return out
}

// attached returns the TrafficPolicies that target an object or a part of it,
// in the order of precedence: the oldest first, then by name.
func attached(r catalog.Reader, target discovery.ObjectName) []*discovery.Object {
	return policiesOf(r, discovery.KindTrafficPolicy, target)
}

// policiesOf returns the policies of a kind that name a target of their own
// namespace, the oldest first, then by name.
func policiesOf(r catalog.Reader, kind string, target discovery.ObjectName) []*discovery.Object {
	var out []*discovery.Object
	for o := range catalog.Objects.By(r, catalog.ByRef, target.String()) {
		if o.Kind == kind && o.Namespace == target.Namespace {
			out = append(out, o)
		}
	}
	slices.SortFunc(out, compareAge)
	return out
}

// at returns the policies among those attached to a target that are about
// one section of it, or about the whole of it for "".
func at(policies []*discovery.Object, target discovery.ObjectName, sectionName string) []source {
	var out []source
	for _, o := range policies {
		p := o.Spec.(*v1alpha1.TrafficPolicy)
		if slices.ContainsFunc(p.Spec.TargetRefs, func(ref v1alpha1.TargetReference) bool {
			return ref.Kind == target.Kind && ref.Name == target.Key.Name && ref.SectionName == sectionName && rightGroup(ref)
		}) {
			out = append(out, newSource(o.Ref(), &p.Spec.TrafficSettings))
		}
	}
	return out
}

// targetGroups are the kinds that a TrafficPolicy may target, with their API groups.
var targetGroups = map[string]string{
	discovery.KindService:         "",
	discovery.KindInstanceGroup:   v1alpha1.Group,
	discovery.KindExternalService: v1alpha1.Group,
	discovery.KindHTTPRoute:       gatewayGroup,
	discovery.KindGRPCRoute:       gatewayGroup,
	discovery.KindGateway:         gatewayGroup,
}

const gatewayGroup = "gateway.networking.k8s.io"

func rightGroup(ref v1alpha1.TargetReference) bool {
	group, ok := targetGroups[ref.Kind]
	return ok && (ref.Group == group || (group == "" && ref.Group == "core"))
}

// levels returns what is attached to a target, the most specific first: the
// policies about the section, then those about the whole.
func levels(r catalog.Reader, target discovery.ObjectName, sectionName string) []source {
	policies := attached(r, target)
	if len(policies) == 0 {
		return nil
	}
	var out []source
	if sectionName != "" {
		out = at(policies, target, sectionName)
	}
	return append(out, at(policies, target, "")...)
}

// meshDefaults returns the Mesh's defaults, as the last of all sources.
func meshDefaults(r catalog.Reader) []source {
	o, ok := meshObject(r)
	if !ok {
		return nil
	}
	defaults := o.Spec.(*v1alpha1.Mesh).Spec.Defaults
	if defaults == nil {
		return nil
	}
	// TLS is a matter between callers and one target: a name that every target
	// has to prove is none that any of them has.
	own := *defaults
	own.TLS = nil
	return []source{newSource(o.Ref(), &own)}
}

// rulePortSettings returns the sections that are effective for a rule of a
// route ("" for one without a name) that is attached to a port of a Service.
func rulePortSettings(r catalog.Reader, route *discovery.Object, rule string, parent discovery.Key, port string) Settings {
	sources := levels(r, route.Name(), rule)
	sources = append(sources, levels(r, discovery.ObjectName{Kind: discovery.KindService, Key: parent}, port)...)
	return effective(append(sources, meshDefaults(r)...), requests)
}

// serviceSettings returns the sections that are effective for requests to a
// port of a Service where no route is attached.
func serviceSettings(r catalog.Reader, service discovery.Key, port string) Settings {
	sources := levels(r, discovery.ObjectName{Kind: discovery.KindService, Key: service}, port)
	return effective(append(sources, meshDefaults(r)...), requests)
}

// backingSettings returns the sections that are effective for a backing's
// cluster; group is "" or the one InstanceGroup whose cluster it is.
//
// The backing on instances is one cluster for all InstanceGroups of the
// Service, so what is said of one of them holds for all.
func backingSettings(r catalog.Reader, service discovery.Key, port string, on discovery.Platform, group string) Settings {
	var sources []source
	switch {
	case group != "":
		sources = levels(r, discovery.ObjectName{Kind: discovery.KindInstanceGroup, Key: discovery.Key{Namespace: service.Namespace, Name: group}}, port)
	case on == discovery.Instances:
		sources = groupLevels(r, service, port)
	}
	sources = append(sources, levels(r, discovery.ObjectName{Kind: discovery.KindService, Key: service}, port)...)
	sources = append(sources, affinityOf(r, service)...)
	return effective(append(sources, meshDefaults(r)...), clusters)
}

// affinityOf returns what a Service says itself of how its endpoints are chosen, nil for nothing.
func affinityOf(r catalog.Reader, service discovery.Key) []source {
	svc, ok := catalog.Services.Get(r, service.String())
	if !ok || !svc.ClientIP {
		return nil
	}
	ref := discovery.ObjectRef{Kind: discovery.KindService, Key: service, Generation: svc.Generation}
	return []source{{ref: ref, settings: &v1alpha1.TrafficSettings{LoadBalancer: &v1alpha1.LoadBalancer{Algorithm: v1alpha1.RingHash}}}}
}

// groupLevels returns what is attached to any InstanceGroup of a Service.
func groupLevels(r catalog.Reader, service discovery.Key, port string) []source {
	type policy struct {
		object *discovery.Object
		target discovery.ObjectName
	}
	var all []policy
	for g := range catalog.InstanceGroups.By(r, catalog.ByService, service.String()) {
		target := discovery.ObjectName{Kind: discovery.KindInstanceGroup, Key: g.Key}
		for _, o := range attached(r, target) {
			all = append(all, policy{o, target})
		}
	}
	slices.SortStableFunc(all, func(a, b policy) int { return compareAge(a.object, b.object) })
	var out []source
	for _, section := range []string{port, ""} {
		for _, p := range all {
			out = append(out, at([]*discovery.Object{p.object}, p.target, section)...)
		}
		if port == "" {
			break
		}
	}
	return out
}

// externalSettings returns the sections that are effective for a port of an
// ExternalService, on both sides.
func externalSettings(r catalog.Reader, external discovery.Key, port string) Settings {
	sources := levels(r, discovery.ObjectName{Kind: discovery.KindExternalService, Key: external}, port)
	return effective(append(sources, meshDefaults(r)...), requests|clusters)
}

// applyPolicies fills in what policies say of a Service's ports, of their
// backings and of the InstanceGroups that routes name.
func applyPolicies(r catalog.Reader, m *Service) {
	if !hasPolicies(r, m.Key) {
		return
	}
	var from []discovery.ObjectRef
	for i := range m.Ports {
		p := &m.Ports[i]
		p.Settings = serviceSettings(r, m.Key, p.Name)
		from = append(from, p.Settings.refs()...)
		on := func(platform discovery.Platform, group string) (Settings, *TLS) {
			s := backingSettings(r, m.Key, p.Name, platform, group)
			tls, refs := backingTLS(r, m.Key, p.Name, platform, group, &s)
			from = append(append(from, s.refs()...), refs...)
			return s, tls
		}
		for j := range p.Backings {
			b := &p.Backings[j]
			b.Settings, b.TLS = on(b.Platform, "")
		}
		p.TLS = p.Backings[0].TLS
		for j := range p.Groups {
			g := &p.Groups[j]
			g.Settings, g.TLS = on(discovery.Instances, g.Name)
		}
	}
	m.Provenance = append(m.Provenance, sortedRefs(from)...)
}

// hasPolicies reports whether anything is said of a Service, of its
// InstanceGroups or of the whole mesh: mostly there is not.
func hasPolicies(r catalog.Reader, service discovery.Key) bool {
	if len(meshDefaults(r)) > 0 || len(affinityOf(r, service)) > 0 {
		return true
	}
	about := func(target discovery.ObjectName) bool {
		for o := range catalog.Objects.By(r, catalog.ByRef, target.String()) {
			if (o.Kind == discovery.KindTrafficPolicy || o.Kind == discovery.KindBackendTLSPolicy) && o.Namespace == target.Namespace {
				return true
			}
		}
		return false
	}
	if about(discovery.ObjectName{Kind: discovery.KindService, Key: service}) {
		return true
	}
	for g := range catalog.InstanceGroups.By(r, catalog.ByService, service.String()) {
		if about(discovery.ObjectName{Kind: discovery.KindInstanceGroup, Key: g.Key}) {
			return true
		}
	}
	return false
}

// refs returns the objects that settings come from, sorted.
func (s *Settings) refs() []discovery.ObjectRef {
	if len(s.From) == 0 {
		return nil
	}
	out := make([]discovery.ObjectRef, 0, len(s.From))
	for _, ref := range s.From {
		out = append(out, ref)
	}
	return sortedRefs(out)
}

// sortedRefs sorts references and leaves each once.
func sortedRefs(refs []discovery.ObjectRef) []discovery.ObjectRef {
	slices.SortFunc(refs, func(a, b discovery.ObjectRef) int {
		return cmp.Or(strings.Compare(a.Kind, b.Kind), strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Key.Name, b.Key.Name))
	})
	return slices.Compact(refs)
}
