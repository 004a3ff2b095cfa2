package policy

import (
	"fmt"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Mesh is what holds for the whole mesh.
type Mesh struct {
	// AllowAny lets requests go to hosts that nobody has declared.
	AllowAny   bool
	Provenance []discovery.ObjectRef
}

// BuildMesh returns what the Mesh object says, or the defaults without one.
func BuildMesh(r catalog.Reader) *Mesh {
	ref := discovery.ObjectRef{Kind: discovery.KindMesh, Key: discovery.Key{Name: v1alpha1.MeshName}}
	out := &Mesh{}
	if o, ok := meshObject(r); ok {
		ref.Generation = o.Generation
		out.AllowAny = o.Spec.(*v1alpha1.Mesh).Spec.Egress.Mode == v1alpha1.AllowAny
	}
	out.Provenance = []discovery.ObjectRef{ref}
	return out
}

// meshObject returns the one Mesh that counts.
func meshObject(r catalog.Reader) (*discovery.Object, bool) {
	return catalog.Objects.Get(r, MeshUnit().String())
}

// ec2Limits returns what InstanceGroups may name, nil for anything.
func ec2Limits(r catalog.Reader) *v1alpha1.MeshEC2 {
	o, ok := meshObject(r)
	if !ok {
		return nil
	}
	return o.Spec.(*v1alpha1.Mesh).Spec.EC2
}

// validateMesh returns the findings about a Mesh.
func validateMesh(o *discovery.Object) []Finding {
	add, done := findingsOf(o)
	if o.Key.Name != v1alpha1.MeshName {
		add(Finding{
			Severity: Error, Field: "metadata.name", Condition: v1alpha1.ConditionAccepted, Reason: ReasonInvalid,
			Message: fmt.Sprintf("%q is not the Mesh that counts, so it has no effect", o.Key.Name),
			Remedy:  "name it " + v1alpha1.MeshName,
		})
		return done()
	}
	spec := &o.Spec.(*v1alpha1.Mesh).Spec
	if m := spec.Egress.Mode; m != "" && m != v1alpha1.AllowAny && m != v1alpha1.RegistryOnly {
		add(Finding{
			Severity: Error, Field: "spec.egress.mode", Condition: v1alpha1.ConditionAccepted, Reason: ReasonInvalid,
			Message: fmt.Sprintf("%q is not known, so unknown hosts are answered 404", m), Remedy: "write AllowAny or RegistryOnly",
		})
	}
	if spec.EC2 != nil {
		for i, region := range spec.EC2.Regions {
			if f, unknown := unknownRegion(fmt.Sprintf("spec.ec2.regions[%d]", i), region); unknown {
				add(Finding{
					Severity: Warning, Field: f.Field, Condition: v1alpha1.ConditionAccepted, Reason: ReasonInvalid,
					Message: f.Message, Remedy: f.Remedy,
				})
			}
		}
	}
	if d := spec.Defaults; d != nil {
		for _, m := range mistakes(d) {
			m.Field = "spec.defaults." + m.Field[len("spec."):]
			add(invalidSection(m))
		}
		if d.TLS != nil {
			add(Finding{
				Severity: Error, Field: "spec.defaults.tls", Condition: v1alpha1.ConditionAccepted, Reason: ReasonUnsupported,
				Message: "it has no effect: every target has a certificate of its own name",
				Remedy:  "state tls in a TrafficPolicy or a BackendTLSPolicy about each target",
			})
		}
	}
	return done()
}

// invalidSection is the finding of a mistake in a section of a TrafficPolicy.
func invalidSection(m mistake) Finding {
	consequence := "so the section " + m.in + " has no effect"
	if m.in == "tls" {
		consequence = "so requests fail"
	}
	return Finding{
		Severity: Error, Field: m.Field, Condition: v1alpha1.ConditionAccepted, Reason: ReasonInvalid,
		Message: m.Message + ", " + consequence, Remedy: m.Remedy,
	}
}

// findingsOf returns a function that adds findings about an object and one that returns them.
func findingsOf(o *discovery.Object) (add func(Finding), done func() []Finding) {
	var out []Finding
	return func(f Finding) {
		f.Object = o.Ref()
		out = append(out, f)
	}, func() []Finding { return out }
}
