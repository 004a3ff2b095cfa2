package resolve

import (
	"fmt"
	"regexp"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/effective"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// trustDomain is what the CRD says too: SPIFFE-ID, 2.1.
var trustDomain = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$`)

// BuildMesh returns what the Mesh object says, or the defaults without one.
func BuildMesh(r catalog.Reader) *policy.Mesh {
	ref := discovery.ObjectRef{Kind: discovery.KindMesh, Key: discovery.Key{Name: v1alpha1.MeshName}}
	out := &policy.Mesh{CapturedAny: true}
	if o, ok := effective.MeshObject(r); ok {
		ref.Generation = o.Generation
		mode := o.Spec.(*v1alpha1.Mesh).Spec.Egress.Mode
		out.AllowAny = mode == v1alpha1.AllowAny
		out.CapturedAny = mode == v1alpha1.AllowAny || mode == ""
	}
	out.Provenance = []discovery.ObjectRef{ref}
	return out
}

// ec2Limits returns what InstanceGroups may name, nil for anything.
func ec2Limits(r catalog.Reader) *v1alpha1.MeshEC2 {
	o, ok := effective.MeshObject(r)
	if !ok {
		return nil
	}
	return o.Spec.(*v1alpha1.Mesh).Spec.EC2
}

// TrustDomain returns the trust domain of the mesh.
func TrustDomain(r catalog.Reader) string {
	if o, ok := effective.MeshObject(r); ok {
		if trust := o.Spec.(*v1alpha1.Mesh).Spec.Trust; trust != nil && trust.Domain != "" {
			return trust.Domain
		}
	}
	return v1alpha1.DefaultTrustDomain
}

// validateMesh returns the findings about a Mesh.
func validateMesh(o *discovery.Object) []policy.Finding {
	add, done := policy.FindingsOf(o)
	if o.Key.Name != v1alpha1.MeshName {
		add(policy.Finding{
			Severity: policy.Error, Field: "metadata.name", Condition: v1alpha1.ConditionAccepted, Reason: policy.ReasonInvalid,
			Message: fmt.Sprintf("%q is not the Mesh that counts, so it has no effect", o.Key.Name),
			Remedy:  "name it " + v1alpha1.MeshName,
		})
		return done()
	}
	spec := &o.Spec.(*v1alpha1.Mesh).Spec
	if m := spec.Egress.Mode; m != "" && m != v1alpha1.AllowAny && m != v1alpha1.RegistryOnly {
		add(policy.Finding{
			Severity: policy.Error, Field: "spec.egress.mode", Condition: v1alpha1.ConditionAccepted, Reason: policy.ReasonInvalid,
			Message: fmt.Sprintf("%q is not known, so unknown hosts are answered 404", m), Remedy: "write AllowAny or RegistryOnly",
		})
	}
	if spec.EC2 != nil {
		for i, region := range spec.EC2.Regions {
			if f, unknown := unknownRegion(fmt.Sprintf("spec.ec2.regions[%d]", i), region); unknown {
				add(policy.Finding{
					Severity: policy.Warning, Field: f.Field, Condition: v1alpha1.ConditionAccepted, Reason: policy.ReasonInvalid,
					Message: f.Message, Remedy: f.Remedy,
				})
			}
		}
	}
	if t := spec.Trust; t != nil && t.Domain != "" && !trustDomain.MatchString(t.Domain) {
		add(policy.Finding{
			Severity: policy.Error, Field: "spec.trust.domain", Condition: v1alpha1.ConditionAccepted, Reason: policy.ReasonInvalid,
			Message: fmt.Sprintf("%q is no trust domain, so workloads get no new certificates", t.Domain),
			Remedy:  "write lower-case letters, digits, dots, dashes and underscores, for example mesh.example.com",
		})
	}
	if d := spec.Defaults; d != nil {
		for _, m := range policy.Mistakes(d) {
			m.Field = "spec.defaults." + m.Field[len("spec."):]
			add(policy.InvalidSection(m))
		}
		if d.TLS != nil {
			add(policy.Finding{
				Severity: policy.Error, Field: "spec.defaults.tls", Condition: v1alpha1.ConditionAccepted, Reason: policy.ReasonUnsupported,
				Message: "it has no effect: every target has a certificate of its own name",
				Remedy:  "state tls in a TrafficPolicy or a BackendTLSPolicy about each target",
			})
		}
	}
	return done()
}
