package kubernetes

import (
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// certificateSecrets returns the Secrets that our Gateways name and may name:
// those of their own namespace, and those of others that a ReferenceGrant lets them
// refer to. No other is ever asked for, so that nobody can make the control plane
// read a Secret by naming it.
func certificateSecrets(r catalog.Reader) map[discovery.Key]struct{} {
	out := make(map[discovery.Key]struct{})
	for o := range catalog.Objects.By(r, catalog.ByKind, discovery.KindGateway) {
		if !isOurs(r, o) {
			continue
		}
		for _, ref := range o.Refs {
			if ref.Kind == discovery.KindSecret && (ref.Namespace == o.Namespace || granted(r, o.Namespace, ref.Key)) {
				out[ref.Key] = struct{}{}
			}
		}
	}
	return out
}

// isOurs reports whether a Gateway is of a class of ours, or of the class that
// everyone knows to be ours where nobody has written it.
func isOurs(r catalog.Reader, o *discovery.Object) bool {
	gateway, ok := o.Spec.(*gatewayv1.Gateway)
	if !ok {
		return false
	}
	name := string(gateway.Spec.GatewayClassName)
	row, ok := catalog.Objects.Get(r, discovery.ObjectName{Kind: discovery.KindGatewayClass, Key: discovery.Key{Name: name}}.String())
	if !ok {
		return name == v1alpha1.GatewayClassName
	}
	class, ok := row.Spec.(*gatewayv1.GatewayClass)
	return ok && class.Spec.ControllerName == v1alpha1.ControllerName
}

// granted reports whether Gateways of a namespace may refer to a Secret of another one.
func granted(r catalog.Reader, from string, to discovery.Key) bool {
	for o := range catalog.Objects.By(r, catalog.ByKind, discovery.KindReferenceGrant) {
		grant, ok := o.Spec.(*gatewayv1.ReferenceGrant)
		if !ok || o.Namespace != to.Namespace {
			continue
		}
		if slices.ContainsFunc(grant.Spec.From, func(f gatewayv1.ReferenceGrantFrom) bool {
			return f.Group == gatewayv1.GroupName && f.Kind == discovery.KindGateway && string(f.Namespace) == from
		}) && slices.ContainsFunc(grant.Spec.To, func(t gatewayv1.ReferenceGrantTo) bool {
			return t.Group == "" && t.Kind == discovery.KindSecret && (t.Name == nil || *t.Name == "" || string(*t.Name) == to.Name)
		}) {
			return true
		}
	}
	return false
}
