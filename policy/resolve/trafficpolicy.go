package resolve

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/effective"
	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/policy/upstream"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// validateTrafficPolicy returns the findings about a TrafficPolicy.
func validateTrafficPolicy(r catalog.Reader, o *discovery.Object) []policy.Finding {
	add, done := policy.FindingsOf(o)
	spec := &o.Spec.(*v1alpha1.TrafficPolicy).Spec
	for _, m := range policy.Mistakes(&spec.TrafficSettings) {
		add(policy.InvalidSection(m))
	}
	checkUpstreamIdle(spec, add)
	own := effective.NewStatement(o.Ref(), &spec.TrafficSettings)
	var result sectionResult
	for i, ref := range spec.TargetRefs {
		t := policyTarget{
			r: r, own: &own, object: o, ref: ref, field: fmt.Sprintf("spec.targetRefs[%d]", i),
			name: discovery.ObjectName{Kind: ref.Kind, Key: discovery.Key{Namespace: o.Namespace, Name: ref.Name}},
			add:  add,
		}
		if t.found() {
			t.check(&result)
		}
	}
	result.report(add)
	if t := spec.TLS; t != nil {
		if ref := t.CACertificateRef; ref != nil {
			if _, _, problem := upstream.CACertificates(r, discovery.Key{Namespace: o.Namespace, Name: ref.Name}); problem != "" {
				add(upstream.UnresolvedCA("spec.tls.caCertificateRef", problem))
			}
		}
		external := func(ref v1alpha1.TargetReference) bool { return ref.Kind == discovery.KindExternalService }
		if t.SNI == "" && !(len(spec.TargetRefs) > 0 && !slices.ContainsFunc(spec.TargetRefs, func(ref v1alpha1.TargetReference) bool { return !external(ref) })) {
			add(policy.Finding{
				Severity: policy.Error, Field: "spec.tls.sni", Condition: v1alpha1.ConditionAccepted, Reason: policy.ReasonInvalid,
				Message: "it is missing, so requests fail", Remedy: "write the name that the target's certificate has",
			})
		}
	}
	if !slices.ContainsFunc(policy.SectionDefs, func(s policy.SectionDef) bool { return s.Has(&spec.TrafficSettings) }) {
		add(policy.Finding{
			Severity: policy.Warning, Field: "spec", Condition: v1alpha1.ConditionAccepted, Reason: policy.ReasonAccepted,
			Message: "it has no section, so it says nothing", Remedy: "add what callers shall do, for example timeout",
		})
	}
	return done()
}

// sectionResult is the result of a policy's sections at its targets.
type sectionResult struct {
	lost []string // "section at target to winner"
	won  int
}

// report names the policies that have the lost sections. It is an error if all
// are lost.
func (f *sectionResult) report(add func(policy.Finding)) {
	if len(f.lost) == 0 {
		return
	}
	out := policy.Finding{
		Severity: policy.Warning, Field: "spec", Condition: v1alpha1.ConditionAccepted, Reason: policy.ReasonConflicted,
		Message: "others are older and have " + strings.Join(f.lost, ", "), Remedy: "merge the policies, or remove what has no effect",
	}
	if f.won == 0 {
		out.Severity = policy.Error
	}
	add(out)
}

// policyTarget is a target of a policy that is being checked.
type policyTarget struct {
	r      catalog.Reader
	own    *effective.Statement
	object *discovery.Object
	ref    v1alpha1.TargetReference
	name   discovery.ObjectName
	field  string
	add    func(policy.Finding)
}

func (t *policyTarget) refuse(field, reason, message, remedy string) {
	t.add(policy.Finding{
		Severity: policy.Error, Field: field, Condition: v1alpha1.ConditionAccepted, Reason: reason, Message: message, Remedy: remedy,
	})
}

// found reports whether the target exists and can be one, and adds a finding otherwise.
func (t *policyTarget) found() bool {
	group, ok := effective.TargetGroups[t.ref.Kind]
	switch {
	case !ok:
		kinds := slices.Sorted(maps.Keys(effective.TargetGroups))
		t.refuse(t.field+".kind", policy.ReasonUnsupported, fmt.Sprintf("a TrafficPolicy cannot be about a %s", t.ref.Kind), "write "+phrase.Or(kinds))
		return false
	case !effective.RightGroup(t.ref):
		t.refuse(t.field+".group", policy.ReasonInvalid, fmt.Sprintf("%q is not the group of %s", t.ref.Group, t.ref.Kind), fmt.Sprintf("write %q", group))
		return false
	}
	if problem, remedy := t.missing(); problem != "" {
		t.refuse(t.field, policy.ReasonTargetNotFound, problem, remedy)
		return false
	}
	return true
}

// missing tells why the target does not exist, "" if it does.
func (t *policyTarget) missing() (problem, remedy string) {
	section := t.ref.SectionName
	switch t.ref.Kind {
	case discovery.KindService:
		return upstream.MissingPort(t.r, t.name.Key, section)
	case discovery.KindInstanceGroup:
		g, ok := catalog.InstanceGroups.Get(t.r, t.name.Key.String())
		if ok && section != "" && !slices.ContainsFunc(g.Object.Spec.Ports, func(p v1alpha1.InstancePort) bool { return p.Name == section }) {
			return fmt.Sprintf("%s has no port named %q", t.name, section), "name one of its ports, or leave sectionName out"
		}
		if ok {
			return "", ""
		}
	default:
		o, ok := catalog.Objects.Get(t.r, t.name.String())
		if ok && o.Kind == discovery.KindGateway {
			if foreign := effective.ForeignGateway(t.r, o); foreign != "" {
				return foreign, "target a Gateway of a class of this controller"
			}
		}
		if ok && section != "" && !slices.Contains(sectionNames(o), section) {
			return fmt.Sprintf("%s has no %s named %q", t.name, partOf(t.ref.Kind), section), "correct sectionName, or name the " + partOf(t.ref.Kind)
		}
		if ok {
			return "", ""
		}
	}
	return "there is no " + t.name.String(), "create it or correct the name"
}

func partOf(kind string) string {
	switch kind {
	case discovery.KindExternalService:
		return "port"
	case discovery.KindGateway:
		return "listener"
	}
	return "rule"
}

// sectionNames returns the names of an object's parts that a sectionName may mean.
func sectionNames(o *discovery.Object) []string {
	var out []string
	rule := func(name *gatewayv1.SectionName) {
		if name != nil {
			out = append(out, string(*name))
		}
	}
	switch spec := o.Spec.(type) {
	case *gatewayv1.HTTPRoute:
		for i := range spec.Spec.Rules {
			rule(spec.Spec.Rules[i].Name)
		}
	case *gatewayv1.GRPCRoute:
		for i := range spec.Spec.Rules {
			rule(spec.Spec.Rules[i].Name)
		}
	case *v1alpha1.ExternalService:
		for i := range spec.Spec.Ports {
			out = append(out, spec.Spec.Ports[i].Name)
		}
	case *gatewayv1.Gateway:
		for i := range spec.Spec.Listeners {
			out = append(out, string(spec.Spec.Listeners[i].Name))
		}
	}
	return out
}

// checkBackings returns where sections about the target act.
func (t *policyTarget) layers() policy.Layer {
	switch t.ref.Kind {
	case discovery.KindInstanceGroup:
		return policy.ClusterLayer
	case discovery.KindHTTPRoute, discovery.KindGRPCRoute, discovery.KindGateway:
		return policy.RequestLayer
	}
	return policy.RequestLayer | policy.ClusterLayer
}

// check reports the sections that cannot act on the target, and counts which of the
// others it wins.
func (t *policyTarget) check(result *sectionResult) {
	rivals := effective.About(effective.Attached(t.r, t.name), t.name, t.ref.SectionName)
	for i := range policy.SectionDefs {
		sec := &policy.SectionDefs[i]
		if !t.own.States(sec) {
			continue
		}
		if sec.Layer&t.layers() == 0 {
			t.misplaced(sec)
			continue
		}
		if winner, lost := t.winner(sec, rivals); lost {
			result.lost = append(result.lost, fmt.Sprintf("%s at %s (%s)", sec.Name, t.text(), winner))
		} else {
			result.won++
		}
	}
	t.checkPorts()
	for _, f := range policy.UnmetFailures(t.own.Settings.Retry, t.text(), t.exchange) {
		t.add(f)
	}
	if t.ref.Kind == discovery.KindInstanceGroup {
		t.sharesCluster()
	}
}

// text returns the target's name with its part.
func (t *policyTarget) text() string {
	if t.ref.SectionName == "" {
		return t.name.String()
	}
	return t.name.String() + "#" + t.ref.SectionName
}

// winner returns the object that has a section at the target, if it is not the
// policy.
func (t *policyTarget) winner(sec *policy.SectionDef, rivals []effective.Statement) (string, bool) {
	if sec.Name == "tls" {
		if winner, lost := t.tlsWinner(); lost {
			return winner, true
		}
	}
	for i := range rivals {
		if rivals[i].States(sec) {
			ref := rivals[i].Ref
			return discovery.ObjectName{Kind: ref.Kind, Key: ref.Key}.String(), ref != t.own.Ref
		}
	}
	return "", false
}

// tlsWinner returns the object that has the target's TLS before any
// TrafficPolicy.
func (t *policyTarget) tlsWinner() (string, bool) {
	switch t.ref.Kind {
	case discovery.KindService:
		if o, ok := upstream.BackendTLSPolicy(t.r, t.name.Key, t.ref.SectionName); ok {
			return o.Name().String(), true
		}
	case discovery.KindExternalService:
		o, ok := catalog.Objects.Get(t.r, t.name.String())
		if !ok {
			return "", false
		}
		all := true
		for _, p := range o.Spec.(*v1alpha1.ExternalService).Spec.Ports {
			if t.ref.SectionName == "" || t.ref.SectionName == p.Name {
				all = all && p.TLS != nil
			}
		}
		return "its own spec.ports", all
	}
	return "", false
}

// misplaced reports that a section has no effect on the kind of target.
func (t *policyTarget) misplaced(sec *policy.SectionDef) {
	// The algorithm stands with the hash, which does act on a route, because the CRD asks for it.
	if sec.Name == "loadBalancer" && t.own.Settings.LoadBalancer.Hash != nil && t.own.Settings.LoadBalancer.SlowStart == nil {
		return
	}
	if sec.Layer == policy.ClusterLayer {
		t.refuse("spec."+sec.Name, policy.ReasonUnsupported,
			fmt.Sprintf("it has no effect on %s, because it is about connections and endpoints, which routes share", t.name),
			"state it in a TrafficPolicy about the Service")
		return
	}
	t.refuse("spec."+sec.Name, policy.ReasonUnsupported,
		fmt.Sprintf("it has no effect on %s, because it acts before an endpoint is chosen", t.name),
		"state it in a TrafficPolicy about the Service or a route")
}

// checkPorts reports the sections that have no effect on the protocol of the
// target's ports.
func (t *policyTarget) checkPorts() {
	protocols := t.protocols()
	if len(protocols) == 0 {
		return
	}
	if !slices.ContainsFunc(protocols, func(p policy.Protocol) bool { return p != policy.TCP }) {
		t.checkTCP()
	}
	if h := t.own.Settings.HealthCheck; h != nil && h.GRPC != nil && t.layers()&policy.ClusterLayer != 0 && slices.ContainsFunc(protocols, func(p policy.Protocol) bool { return !p.CarriesGRPC() }) {
		t.refuse("spec.healthCheck.grpc", policy.ReasonUnsupported,
			fmt.Sprintf("it has no effect on ports of %s that do not speak HTTP/2", t.text()),
			"give sectionName the port that speaks gRPC, or correct its protocol")
	}
}

// checkTCP reports the fields that have no effect if no port is HTTP.
func (t *policyTarget) checkTCP() {
	var fields []string
	for i := range policy.SectionDefs {
		sec := &policy.SectionDefs[i]
		if sec.Name == "loadBalancer.hash" && t.own.States(sec) && t.own.Settings.LoadBalancer.Hash.Source != nil {
			continue // connections have a source too
		}
		if sec.HTTP && t.own.States(sec) && sec.Layer&t.layers() != 0 {
			fields = append(fields, sec.Name)
		}
	}
	if timeout := t.own.Settings.Timeout; timeout != nil && timeout.Request != nil {
		fields = append(fields, "timeout.request")
	}
	if p := t.own.Settings.ConnectionPool; p != nil && t.layers()&policy.ClusterLayer != 0 {
		for _, f := range []struct {
			name  string
			given bool
		}{
			{"maxRequests", p.MaxRequests != nil},
			{"maxRequestsPerConnection", p.MaxRequestsPerConnection != nil},
			{"idleTimeout", p.IdleTimeout != nil},
			{"maxConnectionAge", p.MaxConnectionAge != nil},
		} {
			if f.given {
				fields = append(fields, "connectionPool."+f.name)
			}
		}
	}
	for _, f := range fields {
		remedy := "remove it, or correct the port's protocol"
		switch f {
		case "connectionPool.idleTimeout":
			remedy = "state timeout.idle, which closes idle connections of TCP, or correct the port's protocol"
		case "connectionPool.maxConnectionAge":
			remedy = "state timeout.connectionAge, which closes old connections of TCP, or correct the port's protocol"
		}
		t.refuse("spec."+f, policy.ReasonUnsupported, fmt.Sprintf("it has no effect on %s, which is not HTTP", t.text()), remedy)
	}
}

// protocols returns the protocols of the target's ports.
func (t *policyTarget) protocols() []policy.Protocol {
	var out []policy.Protocol
	switch t.ref.Kind {
	case discovery.KindService, discovery.KindInstanceGroup:
		key := t.name.Key
		if g, ok := catalog.InstanceGroups.Get(t.r, key.String()); ok && t.ref.Kind == discovery.KindInstanceGroup {
			key = discovery.Key{Namespace: g.Namespace, Name: g.Object.Spec.ServiceRef.Name}
		}
		if svc, ok := catalog.Services.Get(t.r, key.String()); ok {
			for _, p := range upstream.ShapeOf(t.r, svc.Key).Ports {
				if t.ref.SectionName == "" || t.ref.SectionName == p.Name {
					out = append(out, p.Protocol)
				}
			}
		}
	case discovery.KindExternalService:
		if o, ok := catalog.Objects.Get(t.r, t.name.String()); ok {
			for _, p := range upstream.ExternalPorts(o.Spec.(*v1alpha1.ExternalService).Spec.Ports) {
				if t.ref.SectionName == "" || t.ref.SectionName == p.Name {
					out = append(out, upstream.ExternalProtocol(p.Protocol))
				}
			}
		}
	case discovery.KindGateway:
		if g := gatewayOf(t.r, t.name.Key); g != nil {
			for _, l := range g.listeners {
				if t.ref.SectionName != "" && t.ref.SectionName != l.name {
					continue
				}
				// Which version of HTTP clients choose makes no difference to what acts there.
				protocol := policy.TCP
				if l.isHTTP() {
					protocol = policy.HTTP2
				}
				out = append(out, protocol)
			}
		}
	}
	return out
}

// sharesCluster warns if other InstanceGroups get a policy about one of them.
func (t *policyTarget) sharesCluster() {
	g, ok := catalog.InstanceGroups.Get(t.r, t.name.Key.String())
	if !ok {
		return
	}
	service := discovery.Key{Namespace: g.Namespace, Name: g.Object.Spec.ServiceRef.Name}
	for other := range catalog.InstanceGroups.Of(t.r, service) {
		if other.Name != g.Name {
			t.add(policy.Finding{
				Severity: policy.Warning, Field: t.field, Condition: v1alpha1.ConditionAccepted, Reason: policy.ReasonAccepted,
				Message: fmt.Sprintf("InstanceGroup %s gets it too: both are the backing of Service %s on instances", other.Key, service),
				Remedy:  "target the Service, or name the InstanceGroup as a route's backend",
			})
			return
		}
	}
}

// exchange returns the possible kinds of requests to the target; methods are
// those that may be sent again. It returns false if the target speaks no HTTP.
func (t *policyTarget) exchange(methods []string) (policy.Exchange, bool) {
	post := slices.Contains(methods, "POST")
	protocols := t.protocols()
	if len(protocols) == 0 { // of a route, or not known
		return policy.Exchange{Again: post || t.ref.Kind != discovery.KindGRPCRoute, HTTP2: true, GRPC: post}, true
	}
	x := policy.Exchange{Again: true, HTTP2: slices.ContainsFunc(protocols, policy.Protocol.CarriesGRPC)}
	x.GRPC = x.HTTP2 && post
	return x, x.HTTP2 || slices.Contains(protocols, policy.HTTP1)
}
