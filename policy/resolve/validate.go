package resolve

import (
	"cmp"
	"slices"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
)

// validateObject returns the findings about an object.
func validateObject(r catalog.Reader, o *discovery.Object) []policy.Finding {
	if k, ok := kindOf(o.Kind); ok && k.findings != nil {
		return k.findings(r, o)
	}
	return nil
}

// Validate returns every finding about the catalog's objects, sorted by object.
func Validate(r catalog.Reader) []policy.Finding {
	var out []policy.Finding
	for svc := range catalog.Services.All(r) {
		out = append(out, validateService(r, svc)...)
	}
	for o := range catalog.Objects.All(r) {
		out = append(out, validateObject(r, o)...)
	}
	out = append(out, validateRoutes(r)...)
	slices.SortStableFunc(out, func(a, b policy.Finding) int {
		return cmp.Or(cmp.Compare(a.Object.String(), b.Object.String()), cmp.Compare(a.Field, b.Field), cmp.Compare(a.Message, b.Message))
	})
	return out
}
