package resolve

import (
	"cmp"
	"slices"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
)

// validateObject returns the findings about one of the kinds that are policies,
// nil for another kind.
func validateObject(r catalog.Reader, o *discovery.Object) []policy.Finding {
	switch o.Kind {
	case discovery.KindTrafficPolicy:
		return validateTrafficPolicy(r, o)
	case discovery.KindExternalService:
		return validateExternal(r, o)
	case discovery.KindMesh:
		return validateMesh(o)
	case discovery.KindBackendTLSPolicy:
		return validateBackendTLS(r, o)
	case discovery.KindTrafficShift:
		return validateTrafficShift(r, o)
	case discovery.KindGatewayPolicy:
		return validateGatewayPolicy(r, o)
	case discovery.KindGateway:
		return validateGateway(r, o)
	case discovery.KindGatewayClass:
		return validateGatewayClass(o)
	}
	return nil
}

// Validate returns every finding about the catalog's objects, sorted by object.
func Validate(r catalog.Reader) []policy.Finding {
	var out []policy.Finding
	for svc := range catalog.Services.All(r) {
		out = append(out, validateService(r, svc)...)
	}
	for g := range catalog.InstanceGroups.All(r) {
		out = append(out, validateGroup(r, g)...)
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
