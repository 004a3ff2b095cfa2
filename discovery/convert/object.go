package convert

import (
	"bytes"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// caKey is the key of a ConfigMap under which CA certificates stand.
const caKey = "ca.crt"

// Object returns the row of an object that configures the mesh. It returns nil
// for an object without meaning here: a ConfigMap without CA certificates, a
// Secret of another type than kubernetes.io/tls, or a kind that objects.Kinds
// does not list.
//
// The row shares the object's spec, which must not be changed any more.
func Object(o metav1.Object, scope string) *discovery.Object {
	out := &discovery.Object{
		Scope:      scope,
		Key:        discovery.Key{Namespace: intern(o.GetNamespace()), Name: o.GetName()},
		Generation: o.GetGeneration(),
		Created:    o.GetCreationTimestamp().Time,
		Editor:     editor(o.GetManagedFields()),
	}
	refs := references{namespace: out.Namespace}
	meta := trimmed(o)
	switch o := o.(type) {
	case *gatewayv1.GatewayClass:
		out.Kind, out.Spec = discovery.KindGatewayClass, &gatewayv1.GatewayClass{ObjectMeta: meta, Spec: o.Spec}
		out.Pruned = pruned(o, &o.Spec)
	case *gatewayv1.Gateway:
		meta.Annotations, meta.DeletionTimestamp = kept(o.Annotations, v1alpha1.AddressesAnnotation, v1alpha1.ManagedAnnotation), o.DeletionTimestamp
		out.Kind, out.Spec = discovery.KindGateway, &gatewayv1.Gateway{ObjectMeta: meta, Spec: o.Spec}
		refs.gateway(&o.Spec)
		out.Pruned = pruned(o, &o.Spec)
	case *gatewayv1.HTTPRoute:
		out.Kind, out.Spec = discovery.KindHTTPRoute, &gatewayv1.HTTPRoute{ObjectMeta: meta, Spec: o.Spec}
		refs.httpRoute(&o.Spec)
		out.Pruned = pruned(o, &o.Spec)
	case *gatewayv1.GRPCRoute:
		out.Kind, out.Spec = discovery.KindGRPCRoute, &gatewayv1.GRPCRoute{ObjectMeta: meta, Spec: o.Spec}
		refs.grpcRoute(&o.Spec)
		out.Pruned = pruned(o, &o.Spec)
	case *gatewayv1.TCPRoute:
		out.Kind, out.Spec = discovery.KindTCPRoute, &gatewayv1.TCPRoute{ObjectMeta: meta, Spec: o.Spec}
		refs.parents(&o.Spec.CommonRouteSpec)
		for i := range o.Spec.Rules {
			refs.backends(o.Spec.Rules[i].BackendRefs)
		}
		out.Pruned = pruned(o, &o.Spec)
	case *gatewayv1.TLSRoute:
		out.Kind, out.Spec = discovery.KindTLSRoute, &gatewayv1.TLSRoute{ObjectMeta: meta, Spec: o.Spec}
		refs.parents(&o.Spec.CommonRouteSpec)
		for i := range o.Spec.Rules {
			refs.backends(o.Spec.Rules[i].BackendRefs)
		}
		out.Pruned = pruned(o, &o.Spec)
	case *gatewayv1.ReferenceGrant:
		out.Kind, out.Spec = discovery.KindReferenceGrant, &gatewayv1.ReferenceGrant{ObjectMeta: meta, Spec: o.Spec}
	case *gatewayv1beta1.ReferenceGrant:
		out.Kind, out.Spec = discovery.KindReferenceGrant, &gatewayv1.ReferenceGrant{ObjectMeta: meta, Spec: o.Spec}
	case *gatewayv1.BackendTLSPolicy:
		out.Kind, out.Spec = discovery.KindBackendTLSPolicy, &gatewayv1.BackendTLSPolicy{ObjectMeta: meta, Spec: o.Spec}
		for _, t := range o.Spec.TargetRefs {
			refs.local(string(t.Kind), string(t.Name))
		}
		for _, ca := range o.Spec.Validation.CACertificateRefs {
			refs.local(string(ca.Kind), string(ca.Name))
		}
		out.Pruned = pruned(o, &o.Spec)
	case *v1alpha1.InstanceGroup:
		g := discovery.InstanceGroup{Scope: scope, Key: out.Key, Object: group(meta, o)}
		return g.Row()
	case *v1alpha1.TrafficPolicy:
		out.Kind, out.Spec = discovery.KindTrafficPolicy, &v1alpha1.TrafficPolicy{ObjectMeta: meta, Spec: o.Spec}
		for _, t := range o.Spec.TargetRefs {
			refs.local(t.Kind, t.Name)
		}
		refs.tls(o.Spec.TLS)
	case *v1alpha1.TrafficShift:
		out.Kind, out.Spec = discovery.KindTrafficShift, &v1alpha1.TrafficShift{ObjectMeta: shiftMeta(meta, o), Spec: o.Spec}
		refs.local(discovery.KindService, o.Spec.ServiceRef.Name)
	case *v1alpha1.ExternalService:
		out.Kind, out.Spec = discovery.KindExternalService, &v1alpha1.ExternalService{ObjectMeta: meta, Spec: o.Spec}
		out.Hosts = hosts(o.Spec.Hosts)
		for i := range o.Spec.Ports {
			refs.tls(o.Spec.Ports[i].TLS)
		}
	case *corev1.ConfigMap:
		ca, ok := o.Data[caKey]
		if !ok {
			return nil
		}
		out.Kind, out.Spec = discovery.KindConfigMap, &corev1.ConfigMap{ObjectMeta: meta, Data: map[string]string{caKey: ca}}
	case *corev1.Secret:
		secret := tlsSecret(o)
		if secret == nil {
			return nil
		}
		secret.ObjectMeta = meta
		out.Kind, out.Spec = discovery.KindSecret, secret
	case *corev1.Namespace:
		meta.Labels = o.Labels
		out.Kind, out.Spec = discovery.KindNamespace, &corev1.Namespace{ObjectMeta: meta}
	default:
		if out.Kind, out.Spec = ours(o, meta); out.Kind == "" {
			return nil
		}
		if o, ok := o.(v1alpha1.Referrer); ok {
			o.Refer(refs.local)
		}
	}
	out.Refs = refs.list()
	return out
}

// ours returns the kind of an object of one of our own kinds, and the object with its
// spec and the metadata that the mesh reads; "" for an object of another kind.
func ours(o metav1.Object, meta metav1.ObjectMeta) (kind string, trimmed any) {
	if of, ok := o.(runtime.Object); !ok || !v1alpha1.Has(of) {
		return "", nil
	}
	from := reflect.ValueOf(o).Elem()
	out := reflect.New(from.Type())
	out.Elem().FieldByName("ObjectMeta").Set(reflect.ValueOf(meta))
	out.Elem().FieldByName("Spec").Set(from.FieldByName("Spec"))
	return from.Type().Name(), out.Interface()
}

// editor returns the field manager that changed a spec, or the data of a ConfigMap or Secret, last. Who wrote a status, a label
// or an annotation does not count: no row changes for that.
func editor(entries []metav1.ManagedFieldsEntry) string {
	var name string
	var newest metav1.Time
	for i := range entries {
		e := &entries[i]
		if e.Subresource != "" || e.Time == nil || e.FieldsV1 == nil || e.Time.Before(&newest) {
			continue
		}
		if raw := e.FieldsV1.GetRawBytes(); bytes.Contains(raw, []byte(`"f:spec"`)) || bytes.Contains(raw, []byte(`"f:data"`)) {
			name, newest = e.Manager, *e.Time
		}
	}
	return intern(name)
}

// trimmed returns the parts of an object's metadata that the mesh reads. Our
// own writes of a status, a label or an annotation then change no row.
func trimmed(o metav1.Object) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: intern(o.GetNamespace()), Name: o.GetName(), UID: o.GetUID(),
		Generation: o.GetGeneration(), CreationTimestamp: o.GetCreationTimestamp(),
	}
}

// shiftMeta adds the metadata that the controller of shifts reads: people's
// commands, and whether the shift may be deleted.
func shiftMeta(meta metav1.ObjectMeta, o *v1alpha1.TrafficShift) metav1.ObjectMeta {
	meta.DeletionTimestamp, meta.Finalizers = o.DeletionTimestamp, slices.Clone(o.Finalizers)
	meta.Annotations = kept(o.Annotations, v1alpha1.CommandAnnotation)
	return meta
}

// group returns the parts of an InstanceGroup that the mesh reads. Of its
// status this is only the account, which a new leader has from nowhere else.
func group(meta metav1.ObjectMeta, o *v1alpha1.InstanceGroup) *v1alpha1.InstanceGroup {
	meta.DeletionTimestamp = o.DeletionTimestamp
	meta.Annotations = kept(o.Annotations, v1alpha1.GuardReleaseAnnotation)
	out := &v1alpha1.InstanceGroup{ObjectMeta: meta, Spec: o.Spec, Status: v1alpha1.InstanceGroupStatus{Account: o.Status.Account}}
	v1alpha1.DefaultInstanceGroup(out)
	return out
}

// kept returns the annotations of an object that the mesh reads, nil without any.
func kept(annotations map[string]string, names ...string) map[string]string {
	var out map[string]string
	for _, name := range names {
		if v, ok := annotations[name]; ok {
			if out == nil {
				out = make(map[string]string, 1)
			}
			out[name] = v
		}
	}
	return out
}

// hosts returns the names in lower case, as DNS compares them, sorted, each once.
func hosts(in []string) []string {
	out := make([]string, len(in))
	for i, h := range in {
		out[i] = strings.ToLower(h)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
