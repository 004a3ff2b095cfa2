package policy

import (
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
	ref := discovery.ObjectRef{Kind: "Mesh", Key: discovery.Key{Name: v1alpha1.MeshName}}
	out := &Mesh{}
	if o, ok := catalog.Objects.Get(r, discovery.ObjectName{Kind: ref.Kind, Key: ref.Key}.String()); ok {
		ref.Generation = o.Generation
		out.AllowAny = o.Spec.(*v1alpha1.Mesh).Spec.Egress.Mode == v1alpha1.AllowAny
	}
	out.Provenance = []discovery.ObjectRef{ref}
	return out
}
