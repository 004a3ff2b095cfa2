package effective

import (
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Statement has the sections that an object states: a TrafficPolicy, or the Mesh with its
// defaults.
type Statement struct {
	Ref      discovery.ObjectRef
	Settings *v1alpha1.TrafficSettings
	// invalid are the names of sections that have a mistake and hence no effect.
	Invalid []string
}

// NewStatement returns the statement of an object, with the names of its sections
// that have a mistake.
func NewStatement(ref discovery.ObjectRef, s *v1alpha1.TrafficSettings) Statement {
	out := Statement{Ref: ref, Settings: s}
	for _, m := range policy.Mistakes(s) {
		out.Invalid = append(out.Invalid, m.In)
	}
	return out
}

// States reports whether the object has a section that is in force. TLS is
// even with a mistake: requests fail then, and never go in the clear.
func (s *Statement) States(sec *policy.SectionDef) bool {
	return sec.Has(s.Settings) && (sec.In == "tls" || !slices.Contains(s.Invalid, sec.In))
}

// Merge merges sections one by one: each section that acts on one of the layers
// comes from the first statement that has it.
func Merge(statements []Statement, on policy.Layer) policy.Settings {
	var out policy.Settings
	if len(statements) == 0 {
		return out
	}
	for i := range policy.SectionDefs {
		sec := &policy.SectionDefs[i]
		if sec.Layer&on == 0 {
			continue
		}
		for j := range statements {
			if !statements[j].States(sec) {
				continue
			}
			if out.From == nil {
				out.From = make(map[string]discovery.ObjectRef)
			}
			sec.Take(&out.Stated, statements[j].Settings)
			out.From[sec.Name] = statements[j].Ref
			break
		}
	}
	return out
}

// Attached returns the TrafficPolicies that target an object or a part of it,
// in the order of precedence: the oldest first, then by name.
func Attached(r catalog.Reader, target discovery.ObjectName) []*discovery.Object {
	return PoliciesOf(r, discovery.KindTrafficPolicy, target)
}

// PoliciesOf returns the policies of a kind that name a target of their own
// namespace, the oldest first, then by name.
func PoliciesOf(r catalog.Reader, kind string, target discovery.ObjectName) []*discovery.Object {
	var out []*discovery.Object
	for o := range catalog.Objects.By(r, catalog.ByRef, target.String()) {
		if o.Kind == kind && o.Namespace == target.Namespace {
			out = append(out, o)
		}
	}
	slices.SortFunc(out, policy.CompareAge)
	return out
}

// About returns the policies among those attached to a target that are about
// one section of it, or about the whole of it for "".
func About(policies []*discovery.Object, target discovery.ObjectName, sectionName string) []Statement {
	var out []Statement
	for _, o := range policies {
		p := o.Spec.(*v1alpha1.TrafficPolicy)
		if slices.ContainsFunc(p.Spec.TargetRefs, func(ref v1alpha1.TargetReference) bool {
			return ref.Kind == target.Kind && ref.Name == target.Key.Name && ref.SectionName == sectionName && RightGroup(ref)
		}) {
			out = append(out, NewStatement(o.Ref(), &p.Spec.TrafficSettings))
		}
	}
	return out
}

// TargetGroups are the kinds that a TrafficPolicy may target, with their API groups.
var TargetGroups = map[string]string{
	discovery.KindService:         "",
	discovery.KindInstanceGroup:   v1alpha1.Group,
	discovery.KindExternalService: v1alpha1.Group,
	discovery.KindHTTPRoute:       gatewayv1.GroupName,
	discovery.KindGRPCRoute:       gatewayv1.GroupName,
	discovery.KindGateway:         gatewayv1.GroupName,
}

// RightGroup reports whether a reference names a kind that a TrafficPolicy may target in its API group.
func RightGroup(ref v1alpha1.TargetReference) bool {
	group, ok := TargetGroups[ref.Kind]
	return ok && (ref.Group == group || (group == "" && ref.Group == "core"))
}

// Levels returns what is attached to a target, the most specific first: the
// policies about the section, then those about the whole.
func Levels(r catalog.Reader, target discovery.ObjectName, sectionName string) []Statement {
	policies := Attached(r, target)
	if len(policies) == 0 {
		return nil
	}
	var out []Statement
	if sectionName != "" {
		out = About(policies, target, sectionName)
	}
	return append(out, About(policies, target, "")...)
}

// MeshDefaults returns the Mesh's defaults, as the last of all sources.
func MeshDefaults(r catalog.Reader) []Statement {
	o, ok := MeshObject(r)
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
	return []Statement{NewStatement(o.Ref(), &own)}
}

// RulePortSettings returns the sections that are effective for a rule of a
// route ("" for one without a name) that is attached to a port of a Service.
func RulePortSettings(r catalog.Reader, route *discovery.Object, rule string, parent discovery.Key, port string) policy.Settings {
	statements := Levels(r, route.Name(), rule)
	statements = append(statements, Levels(r, discovery.ObjectName{Kind: discovery.KindService, Key: parent}, port)...)
	return Merge(append(statements, MeshDefaults(r)...), policy.RequestLayer)
}

// ServiceSettings returns the sections that are effective for requests to a
// port of a Service where no route is attached.
func ServiceSettings(r catalog.Reader, service discovery.Key, port string) policy.Settings {
	statements := Levels(r, discovery.ObjectName{Kind: discovery.KindService, Key: service}, port)
	return Merge(append(statements, MeshDefaults(r)...), policy.RequestLayer)
}

// BackingSettings returns the sections that are effective for a backing's
// cluster; group is "" or the one InstanceGroup whose cluster it is.
//
// The backing on instances is one cluster for all InstanceGroups of the
// Service, so what is said of one of them holds for all.
func BackingSettings(r catalog.Reader, service discovery.Key, port string, on discovery.BackingName, group string) policy.Settings {
	var statements []Statement
	switch {
	case group != "":
		statements = Levels(r, discovery.ObjectName{Kind: discovery.KindInstanceGroup, Key: discovery.Key{Namespace: service.Namespace, Name: group}}, port)
	case on == discovery.Instances:
		statements = GroupLevels(r, service, port)
	}
	statements = append(statements, Levels(r, discovery.ObjectName{Kind: discovery.KindService, Key: service}, port)...)
	statements = append(statements, affinityOf(r, service)...)
	return Merge(append(statements, MeshDefaults(r)...), policy.ClusterLayer)
}

// affinityOf returns what a Service says itself of how its endpoints are chosen, nil for nothing.
func affinityOf(r catalog.Reader, service discovery.Key) []Statement {
	svc, ok := catalog.Services.Get(r, service.String())
	if !ok || !svc.ClientIP {
		return nil
	}
	ref := discovery.ObjectRef{Kind: discovery.KindService, Key: service, Generation: svc.Generation}
	return []Statement{{Ref: ref, Settings: &v1alpha1.TrafficSettings{LoadBalancer: &v1alpha1.LoadBalancer{Algorithm: v1alpha1.RingHash}}}}
}

// GroupLevels returns what is attached to any InstanceGroup of a Service.
func GroupLevels(r catalog.Reader, service discovery.Key, port string) []Statement {
	type attachedTo struct {
		object *discovery.Object
		target discovery.ObjectName
	}
	var all []attachedTo
	for g := range catalog.InstanceGroups.Of(r, service) {
		target := discovery.ObjectName{Kind: discovery.KindInstanceGroup, Key: g.Key}
		for _, o := range Attached(r, target) {
			all = append(all, attachedTo{o, target})
		}
	}
	slices.SortStableFunc(all, func(a, b attachedTo) int { return policy.CompareAge(a.object, b.object) })
	var out []Statement
	for _, section := range []string{port, ""} {
		for _, p := range all {
			out = append(out, About([]*discovery.Object{p.object}, p.target, section)...)
		}
		if port == "" {
			break
		}
	}
	return out
}

// ExternalSettings returns the sections that are effective for a port of an
// ExternalService, on both sides.
func ExternalSettings(r catalog.Reader, external discovery.Key, port string) policy.Settings {
	statements := Levels(r, discovery.ObjectName{Kind: discovery.KindExternalService, Key: external}, port)
	return Merge(append(statements, MeshDefaults(r)...), policy.RequestLayer|policy.ClusterLayer)
}

// HasPolicies reports whether anything is said of a Service, of its
// InstanceGroups or of the whole mesh: mostly there is not.
func HasPolicies(r catalog.Reader, service discovery.Key) bool {
	if len(MeshDefaults(r)) > 0 || len(affinityOf(r, service)) > 0 {
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
	for g := range catalog.InstanceGroups.Of(r, service) {
		if about(discovery.ObjectName{Kind: discovery.KindInstanceGroup, Key: g.Key}) {
			return true
		}
	}
	return false
}

// MeshObject returns the one Mesh that counts.
func MeshObject(r catalog.Reader) (*discovery.Object, bool) {
	return catalog.Objects.Get(r, policy.MeshUnit().String())
}
