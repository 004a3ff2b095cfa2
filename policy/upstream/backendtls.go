package upstream

import (
	"cmp"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/effective"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// caKey is the key of a ConfigMap that holds CA certificates.
const caKey = "ca.crt"

// BackingTLS returns how callers speak TLS to a backing of a Service's port, nil
// for plaintext, and the objects besides s that it comes from. An InstanceGroup's
// setting comes first, then a BackendTLSPolicy, then a TrafficPolicy about the
// Service: for one target, the standard kind comes before ours. s are the
// backing's settings; s.From is set to the origin of the TLS.
func BackingTLS(r catalog.Reader, service discovery.Key, port string, on discovery.BackingName, group string, s *policy.Settings) (*policy.TLS, []discovery.ObjectRef) {
	var own []effective.Statement
	switch {
	case group != "":
		own = effective.Levels(r, discovery.ObjectName{Kind: discovery.KindInstanceGroup, Key: discovery.Key{Namespace: service.Namespace, Name: group}}, port)
	case on == discovery.Instances:
		own = effective.GroupLevels(r, service, port)
	}
	if ofGroup := effective.Merge(own, policy.ClusterLayer); ofGroup.Stated.TLS != nil {
		return upstreamTLS(r, service.Namespace, ofGroup.Stated.TLS, "")
	}
	if o, ok := BackendTLSPolicy(r, service, port); ok {
		if s.From == nil {
			s.From = make(map[string]discovery.ObjectRef)
		}
		s.Stated.TLS = nil
		s.From["tls"] = o.Ref()
		tls, from, _ := resolveBackendTLS(r, o)
		return tls, from
	}
	if s.Stated.TLS == nil {
		return unknownTLS(UnreadBackingTLS(r, service, on, group)), nil
	}
	return upstreamTLS(r, service.Namespace, s.Stated.TLS, "")
}

// UnreadBackingTLS says why it is not known whether policies about a backing state TLS, "" if it is known.
func UnreadBackingTLS(r catalog.Reader, service discovery.Key, on discovery.BackingName, group string) string {
	why := effective.UnreadTLS(r, policy.ServiceUnit(service))
	if group != "" {
		return cmp.Or(why, effective.UnreadTLS(r, discovery.ObjectName{Kind: discovery.KindInstanceGroup, Key: discovery.Key{Namespace: service.Namespace, Name: group}}))
	}
	if on == discovery.Instances {
		for g := range catalog.InstanceGroups.Of(r, service) {
			why = cmp.Or(why, effective.UnreadTLS(r, discovery.ObjectName{Kind: discovery.KindInstanceGroup, Key: g.Key}))
		}
	}
	return why
}

// unknownTLS is what a policy means that cannot be read, nil where there is none.
func unknownTLS(why string) *policy.TLS {
	if why == "" {
		return nil
	}
	return &policy.TLS{Failed: why, Unknown: true}
}

// BackendTLSPolicy returns the BackendTLSPolicy that holds for a port of a
// Service: one about the port before one about the whole, then the oldest.
func BackendTLSPolicy(r catalog.Reader, service discovery.Key, port string) (*discovery.Object, bool) {
	policies := effective.PoliciesOf(r, discovery.KindBackendTLSPolicy, discovery.ObjectName{Kind: discovery.KindService, Key: service})
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
	return valueOf(ref.SectionName)
}

// resolveBackendTLS returns the meaning of a BackendTLSPolicy's validation, the
// ConfigMaps that it comes from, and the findings about it. If something cannot
// be verified, requests fail: they must never go in plaintext or to just
// anyone.
func resolveBackendTLS(r catalog.Reader, o *discovery.Object) (*policy.TLS, []discovery.ObjectRef, []policy.Finding) {
	add, done := policy.FindingsOf(o)
	v := &o.Spec.(*gatewayv1.BackendTLSPolicy).Spec.Validation
	tls := &policy.TLS{SNI: string(v.Hostname)}
	fail := func(f policy.Finding) {
		f.Severity = policy.Error
		add(f)
		if tls.Failed == "" {
			tls.Failed = fmt.Sprintf("%s: %s: %s", o.Name(), f.Field, f.Message)
		}
	}
	invalid := func(field, message, remedy string) {
		fail(policy.Finding{
			Field: "spec.validation." + field, Condition: v1alpha1.ConditionAccepted, Reason: policy.ReasonInvalid,
			Message: message + ", so requests fail", Remedy: remedy,
		})
	}
	if !policy.IsCertificateName(tls.SNI) {
		invalid("hostname", fmt.Sprintf("%q is not a host name", tls.SNI), "write the name that the certificate has")
	}
	for i, name := range v.SubjectAltNames {
		switch value := string(name.Hostname); {
		case name.Type == gatewayv1.HostnameSubjectAltNameType && policy.IsCertificateName(value):
			tls.Names = append(tls.Names, policy.SubjectAltName{Value: value})
		case name.Type == gatewayv1.URISubjectAltNameType && policy.IsURI(string(name.URI)):
			tls.Names = append(tls.Names, policy.SubjectAltName{URI: true, Value: string(name.URI)})
		default:
			invalid(fmt.Sprintf("subjectAltNames[%d]", i), "it is neither a host name nor a URI", "give hostname with type Hostname, or uri with type URI")
		}
	}
	if len(tls.Names) == 0 {
		tls.Names = []policy.SubjectAltName{{Value: tls.SNI}}
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
		var problems []policy.Finding
		tls.CAs, from, problems = backendCAs(r, o.Namespace, v.CACertificateRefs)
		for _, p := range problems {
			p.Severity = policy.Error
			add(p)
		}
		if tls.CAs == "" {
			fail(policy.Finding{
				Field: "spec.validation.caCertificateRefs", Condition: v1alpha1.ConditionAccepted, Reason: policy.ReasonNoValidCACertificate,
				Message: "none of them has a CA certificate, so requests fail", Remedy: "name a ConfigMap with PEM certificates in its key " + caKey,
			})
		}
	}
	if len(o.Spec.(*gatewayv1.BackendTLSPolicy).Spec.Options) > 0 {
		add(policy.Finding{
			Severity: policy.Warning, Field: "spec.options", Condition: v1alpha1.ConditionAccepted, Reason: policy.ReasonUnsupported,
			Message: "no option has an effect in this mesh", Remedy: "remove them",
		})
	}
	return tls, from, done()
}

// backendCAs returns the certificates of all references that are valid, and
// what is wrong with the others.
func backendCAs(r catalog.Reader, namespace string, refs []gatewayv1.LocalObjectReference) (string, []discovery.ObjectRef, []policy.Finding) {
	var certificates strings.Builder
	var from []discovery.ObjectRef
	var problems []policy.Finding
	for i, ref := range refs {
		f := policy.Finding{Field: fmt.Sprintf("spec.validation.caCertificateRefs[%d]", i), Condition: v1alpha1.ConditionResolvedRefs}
		if ref.Kind != discovery.KindConfigMap || (ref.Group != "" && ref.Group != "core") {
			f.Reason = policy.ReasonInvalidKind
			f.Message = fmt.Sprintf("%s is not a kind that holds CA certificates here", strings.TrimPrefix(string(ref.Group)+"/"+string(ref.Kind), "/"))
			f.Remedy = "name a ConfigMap"
			problems = append(problems, f)
			continue
		}
		cas, object, problem := CACertificates(r, discovery.Key{Namespace: namespace, Name: string(ref.Name)})
		if problem != "" {
			f.Reason, f.Message, f.Remedy = policy.ReasonInvalidCACertificateRef, problem, caRemedy
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
func upstreamTLS(r catalog.Reader, namespace string, t *v1alpha1.UpstreamTLS, host string) (*policy.TLS, []discovery.ObjectRef) {
	out := &policy.TLS{SNI: t.SNI}
	if out.SNI == "" {
		out.SNI = host
	}
	c := policy.Checker{In: "tls"}
	c.TLS("tls", t)
	switch {
	case len(c.Found) > 0:
		out.Failed = c.Found[0].Field + ": " + c.Found[0].Message
	case out.SNI == "":
		out.Failed = "tls.sni: it is missing"
	}
	for _, name := range t.SubjectAltNames {
		out.Names = append(out.Names, policy.SubjectAltName{URI: policy.IsURI(name), Value: name})
	}
	if len(out.Names) == 0 {
		out.Names = []policy.SubjectAltName{{Value: out.SNI}}
	}
	if t.CACertificateRef == nil {
		return out, nil
	}
	cas, object, problem := CACertificates(r, discovery.Key{Namespace: namespace, Name: t.CACertificateRef.Name})
	if problem != "" {
		if out.Failed == "" {
			out.Failed = "tls.caCertificateRef: " + problem
		}
		return out, nil
	}
	out.CAs = cas
	return out, []discovery.ObjectRef{object}
}

// CACertificates returns the CA certificates of a ConfigMap in PEM and nothing
// else that stands there, or what is wrong with it.
func CACertificates(r catalog.Reader, key discovery.Key) (cas string, object discovery.ObjectRef, problem string) {
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

// BackendTLSTarget is a Service, or a port of it, that a BackendTLSPolicy is
// about, or an object of ours that it cannot be about.
type BackendTLSTarget struct {
	Group, Kind string
	Service     discovery.Key
	Section     string
	Findings    []policy.Finding
}

// BackendTLSTargets returns the targets of kinds that we know, each once, with
// the findings about the policy as far as that target goes.
func BackendTLSTargets(r catalog.Reader, o *discovery.Object) []BackendTLSTarget {
	_, _, common := resolveBackendTLS(r, o)
	var out []BackendTLSTarget
	for i, ref := range o.Spec.(*gatewayv1.BackendTLSPolicy).Spec.TargetRefs {
		if !isServiceRef(ref) && ref.Group != v1alpha1.Group {
			continue // another implementation's
		}
		t := BackendTLSTarget{
			Kind: string(ref.Kind), Service: discovery.Key{Namespace: o.Namespace, Name: string(ref.Name)}, Section: sectionOf(ref),
		}
		if !isServiceRef(ref) {
			t.Group = v1alpha1.Group
		}
		if slices.ContainsFunc(out, func(other BackendTLSTarget) bool {
			return other.Kind == t.Kind && other.Service == t.Service && other.Section == t.Section
		}) {
			continue
		}
		add, done := policy.FindingsOf(o)
		field := fmt.Sprintf("spec.targetRefs[%d]", i)
		if t.Group != "" {
			add(policy.Finding{
				Severity: policy.Error, Field: field + ".kind", Condition: v1alpha1.ConditionAccepted, Reason: policy.ReasonInvalid,
				Message: fmt.Sprintf("a BackendTLSPolicy has no effect on a %s", t.Kind),
				Remedy:  "state tls in a TrafficPolicy about it, or in an ExternalService's own ports",
			})
		} else if problem, remedy := MissingPort(r, t.Service, t.Section); problem != "" {
			add(policy.Finding{
				Severity: policy.Error, Field: field, Condition: v1alpha1.ConditionAccepted, Reason: policy.ReasonTargetNotFound,
				Message: problem, Remedy: remedy,
			})
		} else if winner, ok := backendTLSWinner(r, t); ok && winner.Name() != o.Name() {
			add(policy.Finding{
				Severity: policy.Error, Field: field, Condition: v1alpha1.ConditionAccepted, Reason: policy.ReasonConflicted,
				Message: fmt.Sprintf("%s is older and about the same target", winner.Name()), Remedy: "merge the two",
			})
		}
		t.Findings = append(done(), common...)
		out = append(out, t)
	}
	return out
}

// backendTLSWinner returns the policy that has exactly this target.
func backendTLSWinner(r catalog.Reader, t BackendTLSTarget) (*discovery.Object, bool) {
	for _, o := range effective.PoliciesOf(r, discovery.KindBackendTLSPolicy, discovery.ObjectName{Kind: discovery.KindService, Key: t.Service}) {
		for _, ref := range o.Spec.(*gatewayv1.BackendTLSPolicy).Spec.TargetRefs {
			if isServiceRef(ref) && string(ref.Name) == t.Service.Name && sectionOf(ref) == t.Section {
				return o, true
			}
		}
	}
	return nil, false
}

// CompareKeys orders keys by namespace and name.
func CompareKeys(a, b discovery.Key) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
}
