package cluster

import (
	"bytes"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/json"

	"github.com/causeway-mesh/causeway/discovery/objects"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Kinds lists the kinds that CRDs define and that are rows of
// catalog.Objects: routes, grants and policies.
func Kinds() []objects.Kind {
	var out []objects.Kind
	for _, k := range objects.Kinds() {
		if k.New != nil && (k.Standard() || k.Group() == v1alpha1.Group) {
			out = append(out, k)
		}
	}
	return out
}

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

// Object is an object whose content is decoded later, on its own: one that
// does not fit the Go type, because its CRD is of another version, must not
// keep a whole list from being read.
type Object struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	// Text is the object as JSON.
	Text []byte
}

// List is a list of them.
type List struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []Object `json:"items"`
}

// UnmarshalJSON implements json.Unmarshaler.
func (o *Object) UnmarshalJSON(text []byte) error {
	var head metav1.PartialObjectMetadata
	if err := json.UnmarshalCaseSensitivePreserveInts(text, &head); err != nil {
		return err
	}
	o.TypeMeta, o.ObjectMeta, o.Text = head.TypeMeta, head.ObjectMeta, bytes.Clone(text)
	return nil
}

// DeepCopyObject implements runtime.Object.
func (o *Object) DeepCopyObject() runtime.Object {
	return &Object{TypeMeta: o.TypeMeta, ObjectMeta: *o.ObjectMeta.DeepCopy(), Text: o.Text}
}

// DeepCopyObject implements runtime.Object.
func (l *List) DeepCopyObject() runtime.Object {
	out := &List{TypeMeta: l.TypeMeta, ListMeta: *l.ListMeta.DeepCopy(), Items: make([]Object, len(l.Items))}
	for i := range l.Items {
		out.Items[i] = *l.Items[i].DeepCopyObject().(*Object)
	}
	return out
}

// Decode returns the object as the Go type of its kind.
//
// All versions of a kind that are read have the same schema, so one Go type serves for them.
func (o *Object) Decode(k objects.Kind) (metav1.Object, error) {
	typed := k.New()
	if err := json.UnmarshalCaseSensitivePreserveInts(o.Text, typed); err != nil {
		return nil, err
	}
	return typed, nil
}

// newRawClient returns a client of all policy kinds, which gets objects as Object.
func newRawClient(config *rest.Config) (rest.Interface, error) {
	scheme := runtime.NewScheme()
	for _, k := range Kinds() {
		for _, apiVersion := range k.Versions() {
			gvk := schema.FromAPIVersionAndKind(apiVersion, k.Name)
			scheme.AddKnownTypeWithName(gvk, &Object{})
			gvk.Kind += "List"
			scheme.AddKnownTypeWithName(gvk, &List{})
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
