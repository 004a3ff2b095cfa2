package kubernetes

import (
	"bytes"
	"cmp"
	stdjson "encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/json"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/objects"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// policyKinds lists the kinds that CRDs define and that are rows of
// catalog.Objects: routes, grants and policies.
func policyKinds() []objects.Kind {
	var out []objects.Kind
	for _, k := range objects.Kinds() {
		if k.New != nil && (k.Standard() || k.Group() == v1alpha1.Group) {
			out = append(out, k)
		}
	}
	return out
}

// scopeOf returns the scope of the rows of a kind.
func scopeOf(k objects.Kind) string { return "kubernetes/" + k.Resource }

// typesOf returns a scheme with the Go types of all policy kinds.
func typesOf() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	if err := gatewayv1.Install(s); err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	if err := v1alpha1.AddToScheme(s); err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	return s, nil
}

// rawObject is an object whose content is decoded later, on its own: one that
// does not fit the Go type, because its CRD is of another version, must not
// keep a whole list from being read.
type rawObject struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	// text is the object as JSON.
	text []byte
}

// rawList is a list of them.
type rawList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []rawObject `json:"items"`
}

// UnmarshalJSON implements json.Unmarshaler.
func (o *rawObject) UnmarshalJSON(text []byte) error {
	var head metav1.PartialObjectMetadata
	if err := json.UnmarshalCaseSensitivePreserveInts(text, &head); err != nil {
		return err
	}
	o.TypeMeta, o.ObjectMeta, o.text = head.TypeMeta, head.ObjectMeta, bytes.Clone(text)
	return nil
}

// DeepCopyObject implements runtime.Object.
func (o *rawObject) DeepCopyObject() runtime.Object {
	return &rawObject{TypeMeta: o.TypeMeta, ObjectMeta: *o.ObjectMeta.DeepCopy(), text: o.text}
}

// DeepCopyObject implements runtime.Object.
func (l *rawList) DeepCopyObject() runtime.Object {
	out := &rawList{TypeMeta: l.TypeMeta, ListMeta: *l.ListMeta.DeepCopy(), Items: make([]rawObject, len(l.Items))}
	for i := range l.Items {
		out.Items[i] = *l.Items[i].DeepCopyObject().(*rawObject)
	}
	return out
}

// decode returns the object as the Go type of its kind.
//
// All versions of a kind that are read have the same schema, so one Go type serves for them.
func (o *rawObject) decode(k objects.Kind) (metav1.Object, error) {
	typed := k.New()
	if err := json.UnmarshalCaseSensitivePreserveInts(o.text, typed); err != nil {
		return nil, err
	}
	return typed, nil
}

// unread returns what can be said of an object whose fields do not all fit.
func (o *rawObject) unread(why string) discovery.Unread {
	out := discovery.Unread{Key: discovery.Key{Namespace: o.Namespace, Name: o.Name}, Why: why}
	var whole struct {
		Spec map[string]stdjson.RawMessage `json:"spec"`
	}
	if json.UnmarshalCaseSensitivePreserveInts(o.text, &whole) != nil {
		return out
	}
	_, tls := whole.Spec["tls"]
	out.NoTLS = !tls
	add := func(kind, namespace, name string) {
		if name != "" {
			key := discovery.Key{Namespace: cmp.Or(namespace, o.Namespace), Name: name}
			out.Targets = append(out.Targets, discovery.ObjectName{Kind: kind, Key: key})
		}
	}
	add(discovery.KindService, "", readPart[reference](whole.Spec["serviceRef"]).Name)
	// Versions before targetRefs have one targetRef.
	for _, ref := range append(readPart[[]reference](whole.Spec["targetRefs"]), readPart[reference](whole.Spec["targetRef"])) {
		add(ref.Kind, "", ref.Name)
	}
	for _, ref := range readPart[[]reference](whole.Spec["parentRefs"]) {
		add(cmp.Or(ref.Kind, discovery.KindGateway), ref.Namespace, ref.Name)
	}
	out.Hosts = readPart[[]string](whole.Spec["hostnames"])
	return out
}

// reference is what the references of all kinds have.
type reference struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// readPart decodes a part of an object. What does not fit is as if it were not there.
func readPart[T any](text stdjson.RawMessage) (out T) {
	if len(text) == 0 || json.UnmarshalCaseSensitivePreserveInts(text, &out) != nil {
		var none T
		return none
	}
	return out
}

// newRawClient returns a client of all policy kinds, which gets objects as rawObject.
func newRawClient(config *rest.Config) (rest.Interface, error) {
	scheme := runtime.NewScheme()
	for _, k := range policyKinds() {
		for _, apiVersion := range versionsOf(k) {
			gvk := schema.FromAPIVersionAndKind(apiVersion, k.Name)
			scheme.AddKnownTypeWithName(gvk, &rawObject{})
			gvk.Kind += "List"
			scheme.AddKnownTypeWithName(gvk, &rawList{})
			metav1.AddToGroupVersion(scheme, gvk.GroupVersion())
		}
	}
	c := rest.CopyConfig(config)
	gv := v1alpha1.GroupVersion() // paths are given in full
	c.GroupVersion, c.APIPath = &gv, "/apis"
	c.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	client, err := rest.RESTClientFor(c)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	return client, nil
}

// versionsOf returns the versions in which a kind may be served, the best first.
func versionsOf(k objects.Kind) []string { return append([]string{k.APIVersion}, k.Also...) }
