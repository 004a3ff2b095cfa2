package policy

import (
	"cmp"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Reasons of the conditions of policies, in Gateway API's words.
const (
	ReasonConflicted              = string(gatewayv1.PolicyReasonConflicted)
	ReasonTargetNotFound          = string(gatewayv1.PolicyReasonTargetNotFound)
	ReasonNoValidCACertificate    = string(gatewayv1.BackendTLSPolicyReasonNoValidCACertificate)
	ReasonInvalidCACertificateRef = string(gatewayv1.BackendTLSPolicyReasonInvalidCACertificateRef)
	ReasonInvalidKind             = string(gatewayv1.BackendTLSPolicyReasonInvalidKind)
)

// caKey is the key of a ConfigMap that holds CA certificates.
const caKey = "ca.crt"

// backingTLS returns how callers speak TLS to a backing of a Service's port,
// nil for in the clear, and what it comes from besides s. What is said of the
// InstanceGroup comes first, then a BackendTLSPolicy, then what a TrafficPolicy
// says of the Service: of the two kinds about one target the standard one has it.
// s are the backing's settings, whose From is set to what the TLS is from.
func backingTLS(r catalog.Reader, service discovery.Key, port string, on discovery.Platform, group string, s *Settings) (*TLS, []discovery.ObjectRef) {
	var own []source
	switch {
	case group != "":
		own = levels(r, discovery.ObjectName{Kind: discovery.KindInstanceGroup, Key: discovery.Key{Namespace: service.Namespace, Name: group}}, port)
	case on == discovery.Instances:
		own = groupLevels(r, service, port)
	}
	if ofGroup := effective(own, clusters); ofGroup.Stated.TLS != nil {
		return upstreamTLS(r, service.Namespace, ofGroup.Stated.TLS, "")
	}
	if o, ok := backendTLSPolicy(r, service, port); ok {
		if s.From == nil {
			s.From = make(map[string]discovery.ObjectRef)
		}
		s.Stated.TLS = nil
		s.From["tls"] = o.Ref()
		tls, from, _ := judgeBackendTLS(r, o)
		return tls, from
	}
	if s.Stated.TLS == nil {
		return nil, nil
	}
	return upstreamTLS(r, service.Namespace, s.Stated.TLS, "")
}

// backendTLSPolicy returns the BackendTLSPolicy that holds for a port of a
// Service: one about the port before one about the whole, then the oldest.
func backendTLSPolicy(r catalog.Reader, service discovery.Key, port string) (*discovery.Object, bool) {
	policies := policiesOf(r, discovery.KindBackendTLSPolicy, discovery.ObjectName{Kind: discovery.KindService, Key: service})
	for _, section := range []string{port, ""} {
		for _, o := range policies {
			for _, ref := range o.Spec.(*gatewayv1.BackendTLSPolicy).Spec.TargetRefs {
				if isServiceRef(ref) && string(ref.Name) == service.Name && sectionOf(ref) == section {
					return o, true
				}
			}
		}
	}
	return nil, false
}

func isServiceRef(ref gatewayv1.LocalPolicyTargetReferenceWithSectionName) bool {
	return ref.Kind == discovery.KindService && (ref.Group == "" || ref.Group == "core")
}

func sectionOf(ref gatewayv1.LocalPolicyTargetReferenceWithSectionName) string {
	if ref.SectionName == nil {
		return ""
	}
	return string(*ref.SectionName)
}

// judgeBackendTLS returns what a BackendTLSPolicy's validation means, the
// ConfigMaps that it comes from, and the findings about it. What cannot be
// verified fails: requests must never go in the clear or to just anyone.
func judgeBackendTLS(r catalog.Reader, o *discovery.Object) (*TLS, []discovery.ObjectRef, []Finding) {
	add, done := findingsOf(o)
	v := &o.Spec.(*gatewayv1.BackendTLSPolicy).Spec.Validation
	tls := &TLS{SNI: string(v.Hostname)}
	fail := func(f Finding) {
		f.Severity = Error
		add(f)
		if tls.Failed == "" {
			tls.Failed = fmt.Sprintf("%s: %s: %s", o.Name(), f.Field, f.Message)
		}
	}
	invalid := func(field, message, remedy string) {
		fail(Finding{
			Field: "spec.validation." + field, Condition: v1alpha1.ConditionAccepted, Reason: ReasonInvalid,
			Message: message + ", so requests fail", Remedy: remedy,
		})
	}
	if !isHostName(tls.SNI) {
		invalid("hostname", fmt.Sprintf("%q is not a host name", tls.SNI), "write the name that the certificate has")
	}
	for i, name := range v.SubjectAltNames {
		switch value := string(name.Hostname); {
		case name.Type == gatewayv1.HostnameSubjectAltNameType && isHostName(value):
			tls.Names = append(tls.Names, SubjectAltName{Value: value})
		case name.Type == gatewayv1.URISubjectAltNameType && isURI(string(name.URI)):
			tls.Names = append(tls.Names, SubjectAltName{URI: true, Value: string(name.URI)})
		default:
			invalid(fmt.Sprintf("subjectAltNames[%d]", i), "it is neither a host name nor a URI", "give hostname with type Hostname, or uri with type URI")
		}
	}
	if len(tls.Names) == 0 {
		tls.Names = []SubjectAltName{{Value: tls.SNI}}
	}
	wellKnown := ""
	if v.WellKnownCACertificates != nil {
		wellKnown = string(*v.WellKnownCACertificates)
	}
	var from []discovery.ObjectRef
	switch {
	case wellKnown != "" && len(v.CACertificateRefs) > 0:
		invalid("caCertificateRefs", "wellKnownCACertificates is given too", "give one of them")
	case wellKnown == "" && len(v.CACertificateRefs) == 0:
		invalid("caCertificateRefs", "neither it nor wellKnownCACertificates is given", "give one of them")
	case wellKnown == string(gatewayv1.WellKnownCACertificatesSystem):
	case wellKnown != "":
		invalid("wellKnownCACertificates", fmt.Sprintf("%q is not known", wellKnown), "write System")
	default:
		var problems []Finding
		tls.CAs, from, problems = backendCAs(r, o.Namespace, v.CACertificateRefs)
		for _, p := range problems {
			p.Severity = Error
			add(p)
		}
		if tls.CAs == "" {
			fail(Finding{
				Field: "spec.validation.caCertificateRefs", Condition: v1alpha1.ConditionAccepted, Reason: ReasonNoValidCACertificate,
				Message: "none of them has a CA certificate, so requests fail", Remedy: "name a ConfigMap with PEM certificates in its key " + caKey,
			})
		}
	}
	if len(o.Spec.(*gatewayv1.BackendTLSPolicy).Spec.Options) > 0 {
		add(Finding{
			Severity: Warning, Field: "spec.options", Condition: v1alpha1.ConditionAccepted, Reason: ReasonUnsupported,
			Message: "no option has an effect in this mesh", Remedy: "remove them",
		})
	}
	return tls, from, done()
}

// backendCAs returns the certificates of all references that are valid, and
// what is wrong with the others.
func backendCAs(r catalog.Reader, namespace string, refs []gatewayv1.LocalObjectReference) (string, []discovery.ObjectRef, []Finding) {
	var certificates strings.Builder
	var from []discovery.ObjectRef
	var problems []Finding
	for i, ref := range refs {
		f := Finding{Field: fmt.Sprintf("spec.validation.caCertificateRefs[%d]", i), Condition: v1alpha1.ConditionResolvedRefs}
		if ref.Kind != discovery.KindConfigMap || (ref.Group != "" && ref.Group != "core") {
			f.Reason = ReasonInvalidKind
			f.Message = fmt.Sprintf("%s is not a kind that holds CA certificates here", strings.TrimPrefix(string(ref.Group)+"/"+string(ref.Kind), "/"))
			f.Remedy = "name a ConfigMap"
			problems = append(problems, f)
			continue
		}
		cas, object, problem := caCertificates(r, discovery.Key{Namespace: namespace, Name: string(ref.Name)})
		if problem != "" {
			f.Reason, f.Message, f.Remedy = ReasonInvalidCACertificateRef, problem, caRemedy
			problems = append(problems, f)
			continue
		}
		certificates.WriteString(cas)
		from = append(from, object)
	}
	return certificates.String(), from, problems
}

const caRemedy = "put PEM certificates into the ConfigMap's key " + caKey

// upstreamTLS returns what a tls section means: a TrafficPolicy's, or that of
// an ExternalService's port, whose host is the name where none is given.
func upstreamTLS(r catalog.Reader, namespace string, t *v1alpha1.UpstreamTLS, host string) (*TLS, []discovery.ObjectRef) {
	out := &TLS{SNI: t.SNI}
	if out.SNI == "" {
		out.SNI = host
	}
	c := checker{in: "tls"}
	c.tls("tls", t)
	switch {
	case len(c.found) > 0:
		out.Failed = c.found[0].Field + ": " + c.found[0].Message
	case out.SNI == "":
		out.Failed = "tls.sni: it is missing"
	}
	for _, name := range t.SubjectAltNames {
		out.Names = append(out.Names, SubjectAltName{URI: isURI(name), Value: name})
	}
	if len(out.Names) == 0 {
		out.Names = []SubjectAltName{{Value: out.SNI}}
	}
	if t.CACertificateRef == nil {
		return out, nil
	}
	cas, object, problem := caCertificates(r, discovery.Key{Namespace: namespace, Name: t.CACertificateRef.Name})
	if problem != "" {
		if out.Failed == "" {
			out.Failed = "tls.caCertificateRef: " + problem
		}
		return out, nil
	}
	out.CAs = cas
	return out, []discovery.ObjectRef{object}
}

// caCertificates returns the CA certificates of a ConfigMap in PEM and nothing
// else that stands there, or what is wrong with it.
func caCertificates(r catalog.Reader, key discovery.Key) (cas string, object discovery.ObjectRef, problem string) {
	name := discovery.ObjectName{Kind: discovery.KindConfigMap, Key: key}
	row, ok := catalog.Objects.Get(r, name.String())
	if !ok {
		return "", discovery.ObjectRef{}, fmt.Sprintf("there is no ConfigMap %s with the key %s", key, caKey)
	}
	text := row.Spec.(*corev1.ConfigMap).Data[caKey]
	var out strings.Builder
	rest := []byte(text)
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		// Envoy refuses the whole cluster for one certificate that it cannot read.
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return "", discovery.ObjectRef{}, fmt.Sprintf("ConfigMap %s: %s has a certificate that cannot be read: %v", key, caKey, err)
		}
		_ = pem.Encode(&out, &pem.Block{Type: block.Type, Bytes: block.Bytes}) // into memory: it cannot fail
	}
	if out.Len() == 0 {
		return "", discovery.ObjectRef{}, fmt.Sprintf("ConfigMap %s has no PEM certificate in its key %s", key, caKey)
	}
	return out.String(), row.Ref(), ""
}

// backendTLSTarget is a Service, or a port of it, that a BackendTLSPolicy is
// about, or an object of ours that it cannot be about.
type backendTLSTarget struct {
	group, kind string
	service     discovery.Key
	section     string
	findings    []Finding
}

// backendTLSTargets returns the targets that are ours to judge, each once,
// with the findings about the policy as far as that target goes.
func backendTLSTargets(r catalog.Reader, o *discovery.Object) []backendTLSTarget {
	_, _, common := judgeBackendTLS(r, o)
	var out []backendTLSTarget
	for i, ref := range o.Spec.(*gatewayv1.BackendTLSPolicy).Spec.TargetRefs {
		if !isServiceRef(ref) && ref.Group != v1alpha1.Group {
			continue // another implementation's
		}
		t := backendTLSTarget{
			kind: string(ref.Kind), service: discovery.Key{Namespace: o.Namespace, Name: string(ref.Name)}, section: sectionOf(ref),
		}
		if !isServiceRef(ref) {
			t.group = v1alpha1.Group
		}
		if slices.ContainsFunc(out, func(other backendTLSTarget) bool {
			return other.kind == t.kind && other.service == t.service && other.section == t.section
		}) {
			continue
		}
		add, done := findingsOf(o)
		field := fmt.Sprintf("spec.targetRefs[%d]", i)
		if t.group != "" {
			add(Finding{
				Severity: Error, Field: field + ".kind", Condition: v1alpha1.ConditionAccepted, Reason: ReasonInvalid,
				Message: fmt.Sprintf("a BackendTLSPolicy has no effect on a %s", t.kind),
				Remedy:  "state tls in a TrafficPolicy about it, or in an ExternalService's own ports",
			})
		} else if problem, remedy := missingPort(r, t.service, t.section); problem != "" {
			add(Finding{
				Severity: Error, Field: field, Condition: v1alpha1.ConditionAccepted, Reason: ReasonTargetNotFound,
				Message: problem, Remedy: remedy,
			})
		} else if winner, ok := backendTLSWinner(r, t); ok && winner.Name() != o.Name() {
			add(Finding{
				Severity: Error, Field: field, Condition: v1alpha1.ConditionAccepted, Reason: ReasonConflicted,
				Message: fmt.Sprintf("%s is older and about the same target", winner.Name()), Remedy: "merge the two",
			})
		}
		t.findings = append(done(), common...)
		out = append(out, t)
	}
	return out
}

// backendTLSWinner returns the policy that has exactly this target.
func backendTLSWinner(r catalog.Reader, t backendTLSTarget) (*discovery.Object, bool) {
	for _, o := range policiesOf(r, discovery.KindBackendTLSPolicy, discovery.ObjectName{Kind: discovery.KindService, Key: t.service}) {
		for _, ref := range o.Spec.(*gatewayv1.BackendTLSPolicy).Spec.TargetRefs {
			if isServiceRef(ref) && string(ref.Name) == t.service.Name && sectionOf(ref) == t.section {
				return o, true
			}
		}
	}
	return nil, false
}

// missingPort says what is missing of a Service, or of a port of it, "" for nothing.
func missingPort(r catalog.Reader, service discovery.Key, port string) (problem, remedy string) {
	svc, ok := catalog.Services.Get(r, service.String())
	if !ok {
		return fmt.Sprintf("there is no Service %s", service), "create it or correct the name"
	}
	ports := servicePorts(svc)
	if port == "" || slices.ContainsFunc(ports, func(p discovery.ServicePort) bool { return p.Name == port }) {
		return "", ""
	}
	remedy = "leave sectionName out"
	if len(ports) > 0 {
		remedy = "name one of its ports: " + portNames(ports)
	}
	return fmt.Sprintf("Service %s has no port named %q", service, port), remedy
}

// validateBackendTLS returns the findings about a BackendTLSPolicy, each once.
func validateBackendTLS(r catalog.Reader, o *discovery.Object) []Finding {
	var out []Finding
	for _, t := range backendTLSTargets(r, o) {
		for _, f := range t.findings {
			if !slices.Contains(out, f) {
				out = append(out, f)
			}
		}
	}
	return out
}

// maxAncestors is how many ancestors a policy's status has room for.
const maxAncestors = 16

// backendTLSAncestors returns the status of a BackendTLSPolicy for each Gateway
// of ours through which its Services are reached, and for each Service itself:
// in a mesh that is what callers go to, as a Gateway is elsewhere.
func (j *Judge) backendTLSAncestors(o *discovery.Object) []gatewayv1.PolicyAncestorStatus {
	targets := backendTLSTargets(j.r, o)
	var out []gatewayv1.PolicyAncestorStatus
	add := func(group, kind string, key discovery.Key, section string, findings []Finding) {
		if len(out) == maxAncestors {
			return
		}
		ref := gatewayv1.ParentReference{
			Group: new(gatewayv1.Group(group)), Kind: new(gatewayv1.Kind(kind)),
			Namespace: new(gatewayv1.Namespace(key.Namespace)), Name: gatewayv1.ObjectName(key.Name),
		}
		if section != "" {
			ref.SectionName = new(gatewayv1.SectionName(section))
		}
		a := gatewayv1.PolicyAncestorStatus{
			ControllerName: v1alpha1.ControllerName, AncestorRef: ref,
			Conditions: []metav1.Condition{
				condition(v1alpha1.ConditionAccepted, ReasonAccepted, "callers speak TLS to the target as the policy says", findings),
				condition(v1alpha1.ConditionResolvedRefs, ReasonResolvedRefs, "the CA certificates exist", findings),
			},
		}
		for i := range a.Conditions {
			a.Conditions[i].ObservedGeneration = o.Generation
		}
		out = append(out, a)
	}
	through := make(map[discovery.Key][]Finding)
	for _, t := range targets {
		if t.group != "" {
			continue
		}
		for _, gateway := range j.gatewaysTo(t.service) {
			for _, f := range t.findings {
				if !slices.Contains(through[gateway], f) {
					through[gateway] = append(through[gateway], f)
				}
			}
			if through[gateway] == nil {
				through[gateway] = []Finding{}
			}
		}
	}
	for _, gateway := range slices.SortedFunc(maps.Keys(through), compareKeys) {
		add(gatewayGroup, discovery.KindGateway, gateway, "", through[gateway])
	}
	for _, t := range targets {
		add(t.group, t.kind, t.service, t.section, t.findings)
	}
	return out
}

// gatewaysTo returns the Gateways of ours with a route that sends to a Service.
func (j *Judge) gatewaysTo(service discovery.Key) []discovery.Key {
	var out []discovery.Key
	name := discovery.ObjectName{Kind: discovery.KindService, Key: service}
	for route := range catalog.Objects.By(j.r, catalog.ByRef, name.String()) {
		spec := commonSpec(route)
		if spec == nil || !slices.ContainsFunc(backendRefs(route), func(ref *gatewayv1.BackendObjectReference) bool { return backendName(route, ref) == name }) {
			continue
		}
		for i := range spec.ParentRefs {
			key, ok := parentGateway(route, &spec.ParentRefs[i])
			if !ok || slices.Contains(out, key) {
				continue
			}
			g := j.gateway(key)
			if g == nil {
				continue
			}
			if at, ok := g.at[route.Name()]; ok && slices.ContainsFunc(g.listeners, func(l *listenerMeaning) bool { return len(g.routes[at].at(l)) > 0 }) {
				out = append(out, key)
			}
		}
	}
	return out
}

func compareKeys(a, b discovery.Key) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
}
