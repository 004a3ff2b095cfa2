package resolve

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
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
	return validate(r, func(discovery.ObjectName) bool { return true })
}

// ValidateOnly returns the findings of Validate about some objects. It judges no other Service and no other object, which
// in a large mesh is most of the work; routes it judges all, because one may take what another one has.
// What Gateways find in a Secret is left out, unless its Gateway is asked for too.
func ValidateOnly(r catalog.Reader, names []discovery.ObjectName) []policy.Finding {
	only := func(name discovery.ObjectName) bool { return slices.Contains(names, name) }
	return slices.DeleteFunc(validate(r, only), func(f policy.Finding) bool {
		return !only(discovery.ObjectName{Kind: f.Object.Kind, Key: f.Object.Key})
	})
}

// validate judges the objects that are asked for, and all routes.
func validate(r catalog.Reader, asked func(discovery.ObjectName) bool) []policy.Finding {
	var out []policy.Finding
	for svc := range catalog.Services.All(r) {
		if asked(discovery.ObjectName{Kind: discovery.KindService, Key: svc.Key}) {
			out = append(out, validateService(r, svc)...)
		}
	}
	for o := range catalog.Objects.All(r) {
		if asked(o.Name()) {
			out = append(out, validateObject(r, o)...)
		}
	}
	out = append(out, validateRoutes(r)...)
	out = append(out, rivalFindings(r)...)
	slices.SortStableFunc(out, func(a, b policy.Finding) int {
		return cmp.Or(cmp.Compare(a.Object.String(), b.Object.String()), cmp.Compare(a.Field, b.Field), cmp.Compare(a.Message, b.Message))
	})
	return out
}

// rivalFindings names the objects that several sources have.
func rivalFindings(r catalog.Reader) []policy.Finding {
	var out []policy.Finding
	for rival := range catalog.Rivals.All(r) {
		out = append(out, policy.Finding{
			Severity: policy.Error, Object: discovery.ObjectRef{Kind: rival.Name.Kind, Key: rival.Name.Key}, Field: "metadata.name",
			Condition: v1alpha1.ConditionAccepted, Reason: policy.ReasonConflicted,
			Message: fmt.Sprintf("two sources have it, %s and %s: that of %s is in force", catalog.ScopeOf(r, rival.Name), rival.Scope, catalog.ScopeOf(r, rival.Name)),
			Remedy:  "delete one of them, or give it another name",
		})
	}
	return out
}
