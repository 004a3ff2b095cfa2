package catalog

import (
	"iter"

	"github.com/causeway-mesh/causeway/discovery"
)

// InstanceGroups are the Objects of that kind, with their spec typed.
var InstanceGroups groups

type groups struct{}

// Get returns the group with this name, "namespace/name".
func (groups) Get(r Reader, name string) (*discovery.InstanceGroup, bool) {
	o, ok := Objects.Get(r, discovery.KindInstanceGroup+" "+name)
	if !ok {
		return nil, false
	}
	return discovery.GroupOf(o)
}

// All yields every group in the order of names.
func (groups) All(r Reader) iter.Seq[*discovery.InstanceGroup] {
	return typed(Objects.By(r, ByKind, discovery.KindInstanceGroup))
}

// Of yields the groups of a Service in the order of names.
func (groups) Of(r Reader, service discovery.Key) iter.Seq[*discovery.InstanceGroup] {
	return typed(Objects.By(r, ByRef, discovery.ObjectName{Kind: discovery.KindService, Key: service}.String()))
}

func typed(rows iter.Seq[*discovery.Object]) iter.Seq[*discovery.InstanceGroup] {
	return func(yield func(*discovery.InstanceGroup) bool) {
		for o := range rows {
			if g, ok := discovery.GroupOf(o); ok && !yield(g) {
				return
			}
		}
	}
}
