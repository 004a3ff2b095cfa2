package runner

import (
	"slices"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/shift/describe"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// ViewOf returns all shifts with their status, or the one that is named.
func ViewOf(r catalog.Reader, name string) describe.View {
	view := describe.View{Shifts: []v1alpha1.TrafficShift{}}
	for o := range catalog.Objects.By(r, catalog.ByKind, discovery.KindTrafficShift) {
		if name != "" && o.Key.String() != name {
			continue
		}
		s, _ := ObjectOf(r, o)
		view.Shifts = append(view.Shifts, *s)
	}
	slices.SortFunc(view.Shifts, func(a, b v1alpha1.TrafficShift) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	if f, ok := catalog.Freezes.Get(r, catalog.FreezeID); ok {
		view.Freeze = f
	}
	return view
}
