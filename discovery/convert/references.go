package convert

import (
	"cmp"
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// references gathers the objects that an object names. Omitted fields of a
// reference have the defaults of its type in the Gateway API.
type references struct {
	namespace string
	names     []discovery.ObjectName
}

// list returns the names sorted by kind, namespace and name, each once.
func (r *references) list() []discovery.ObjectName {
	slices.SortFunc(r.names, func(a, b discovery.ObjectName) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Key.Name, b.Key.Name))
	})
	return slices.Clip(slices.Compact(r.names))
}

// local adds an object of the same namespace.
func (r *references) local(kind, name string) {
	r.add(kind, r.namespace, name)
}

func (r *references) add(kind, namespace, name string) {
	r.names = append(r.names, discovery.ObjectName{
		Kind: intern(kind), Key: discovery.Key{Namespace: intern(namespace), Name: intern(name)},
	})
}

// namespaced adds an object of the namespace that is given, the same one if none is.
func (r *references) namespaced(kind *gatewayv1.Kind, fallback string, namespace *gatewayv1.Namespace, name gatewayv1.ObjectName) {
	if kind != nil && *kind != "" {
		fallback = string(*kind)
	}
	if namespace != nil && *namespace != "" {
		r.add(fallback, string(*namespace), string(name))
		return
	}
	r.local(fallback, string(name))
}

// gateway adds the class of a Gateway, the Secrets that its listeners name, and the ConfigMaps by which clients are checked.
func (r *references) gateway(s *gatewayv1.GatewaySpec) {
	r.add(discovery.KindGatewayClass, "", string(s.GatewayClassName))
	if i := s.Infrastructure; i != nil && i.ParametersRef != nil && i.ParametersRef.Group == v1alpha1.Group && i.ParametersRef.Kind == discovery.KindGatewayParameters {
		r.local(discovery.KindGatewayParameters, i.ParametersRef.Name)
	}
	for i := range s.Listeners {
		tls := s.Listeners[i].TLS
		if tls == nil {
			continue
		}
		for _, ref := range tls.CertificateRefs {
			if isSecretRef(&ref) {
				r.namespaced(nil, discovery.KindSecret, ref.Namespace, ref.Name)
			}
		}
	}
	if s.TLS == nil || s.TLS.Frontend == nil {
		return
	}
	r.frontend(s.TLS.Frontend.Default.Validation)
	for i := range s.TLS.Frontend.PerPort {
		r.frontend(s.TLS.Frontend.PerPort[i].TLS.Validation)
	}
}

// frontend adds the ConfigMaps with the CA certificates of clients.
func (r *references) frontend(v *gatewayv1.FrontendTLSValidation) {
	if v == nil {
		return
	}
	for _, ref := range v.CACertificateRefs {
		if ref.Kind == discovery.KindConfigMap && (ref.Group == "" || ref.Group == "core") {
			r.namespaced(nil, discovery.KindConfigMap, ref.Namespace, ref.Name)
		}
	}
}

// isSecretRef reports whether a reference of a Gateway is to a Secret, the
// only thing that holds certificates.
func isSecretRef(ref *gatewayv1.SecretObjectReference) bool {
	return (ref.Group == nil || *ref.Group == "") && (ref.Kind == nil || *ref.Kind == "" || *ref.Kind == discovery.KindSecret)
}

func (r *references) parents(s *gatewayv1.CommonRouteSpec) {
	for _, p := range s.ParentRefs {
		r.namespaced(p.Kind, discovery.KindGateway, p.Namespace, p.Name)
	}
}

func (r *references) backend(b *gatewayv1.BackendObjectReference) {
	r.namespaced(b.Kind, discovery.KindService, b.Namespace, b.Name)
}

func (r *references) backends(refs []gatewayv1.BackendRef) {
	for i := range refs {
		r.backend(&refs[i].BackendObjectReference)
	}
}

func (r *references) httpRoute(s *gatewayv1.HTTPRouteSpec) {
	r.parents(&s.CommonRouteSpec)
	for i := range s.Rules {
		rule := &s.Rules[i]
		r.httpFilters(rule.Filters)
		for j := range rule.BackendRefs {
			r.backend(&rule.BackendRefs[j].BackendObjectReference)
			r.httpFilters(rule.BackendRefs[j].Filters)
		}
	}
}

func (r *references) httpFilters(filters []gatewayv1.HTTPRouteFilter) {
	for i := range filters {
		f := &filters[i]
		if f.RequestMirror != nil {
			r.backend(&f.RequestMirror.BackendRef)
		}
		if f.ExternalAuth != nil {
			r.backend(&f.ExternalAuth.BackendRef)
		}
		if f.ExtensionRef != nil {
			r.local(string(f.ExtensionRef.Kind), string(f.ExtensionRef.Name))
		}
	}
}

func (r *references) grpcRoute(s *gatewayv1.GRPCRouteSpec) {
	r.parents(&s.CommonRouteSpec)
	for i := range s.Rules {
		rule := &s.Rules[i]
		r.grpcFilters(rule.Filters)
		for j := range rule.BackendRefs {
			r.backend(&rule.BackendRefs[j].BackendObjectReference)
			r.grpcFilters(rule.BackendRefs[j].Filters)
		}
	}
}

func (r *references) grpcFilters(filters []gatewayv1.GRPCRouteFilter) {
	for i := range filters {
		f := &filters[i]
		if f.RequestMirror != nil {
			r.backend(&f.RequestMirror.BackendRef)
		}
		if f.ExtensionRef != nil {
			r.local(string(f.ExtensionRef.Kind), string(f.ExtensionRef.Name))
		}
	}
}

func (r *references) tls(t *v1alpha1.UpstreamTLS) {
	if t != nil && t.CACertificateRef != nil {
		r.local(discovery.KindConfigMap, t.CACertificateRef.Name)
	}
}
