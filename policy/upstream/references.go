package upstream

import (
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
)

// BackendName returns the object that a reference of a route names.
func BackendName(route *discovery.Object, ref *gatewayv1.BackendObjectReference) discovery.ObjectName {
	out := discovery.ObjectName{Kind: discovery.KindService, Key: discovery.Key{Namespace: route.Namespace, Name: string(ref.Name)}}
	if ref.Kind != nil && *ref.Kind != "" {
		out.Kind = string(*ref.Kind)
	}
	if ref.Namespace != nil && *ref.Namespace != "" {
		out.Namespace = string(*ref.Namespace)
	}
	return out
}

// BackendRefs returns every object that a route sends requests to, mirrored
// ones too.
func BackendRefs(o *discovery.Object) []*gatewayv1.BackendObjectReference {
	var out []*gatewayv1.BackendObjectReference
	mirrors := func(filters []gatewayv1.HTTPRouteFilter) {
		for i := range filters {
			if m := filters[i].RequestMirror; m != nil {
				out = append(out, &m.BackendRef)
			}
		}
	}
	switch s := o.Spec.(type) {
	case *gatewayv1.HTTPRoute:
		for i := range s.Spec.Rules {
			rule := &s.Spec.Rules[i]
			mirrors(rule.Filters)
			for j := range rule.BackendRefs {
				out = append(out, &rule.BackendRefs[j].BackendObjectReference)
			}
		}
	case *gatewayv1.GRPCRoute:
		for i := range s.Spec.Rules {
			rule := &s.Spec.Rules[i]
			for j := range rule.Filters {
				if m := rule.Filters[j].RequestMirror; m != nil {
					out = append(out, &m.BackendRef)
				}
			}
			for j := range rule.BackendRefs {
				out = append(out, &rule.BackendRefs[j].BackendObjectReference)
			}
		}
	case *gatewayv1.TCPRoute:
		for i := range s.Spec.Rules {
			for j := range s.Spec.Rules[i].BackendRefs {
				out = append(out, &s.Spec.Rules[i].BackendRefs[j].BackendObjectReference)
			}
		}
	case *gatewayv1.TLSRoute:
		for i := range s.Spec.Rules {
			for j := range s.Spec.Rules[i].BackendRefs {
				out = append(out, &s.Spec.Rules[i].BackendRefs[j].BackendObjectReference)
			}
		}
	}
	return out
}

// GrantFor returns the ReferenceGrant that lets a route or a Gateway refer to an object of
// another namespace, the first by name if there are several.
func GrantFor(r catalog.Reader, route *discovery.Object, group string, to discovery.ObjectName) (*discovery.Object, bool) {
	for o := range catalog.Objects.By(r, catalog.ByKind, discovery.KindReferenceGrant) {
		grant, ok := o.Spec.(*gatewayv1.ReferenceGrant)
		if !ok || o.Namespace != to.Namespace {
			continue
		}
		from := slices.ContainsFunc(grant.Spec.From, func(f gatewayv1.ReferenceGrantFrom) bool {
			return f.Group == gatewayv1.GroupName && string(f.Kind) == route.Kind && string(f.Namespace) == route.Namespace
		})
		if from && slices.ContainsFunc(grant.Spec.To, func(t gatewayv1.ReferenceGrantTo) bool {
			return string(t.Group) == group && string(t.Kind) == to.Kind &&
				(t.Name == nil || *t.Name == "" || string(*t.Name) == to.Key.Name)
		}) {
			return o, true
		}
	}
	return nil, false
}
