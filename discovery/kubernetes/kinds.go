package kubernetes

import (
	"bytes"
	"fmt"
	"strings"

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

// policyKinds lists the kinds that CRDs define and that are rows of
// catalog.Objects: routes, grants and policies.
func policyKinds() []objects.Kind {
	var out []objects.Kind
	for _, k := range objects.Kinds() {
		group, _, _ := strings.Cut(k.APIVersion, "/")
		if k.New != nil && (group == gatewayv1.GroupName || group == v1alpha1.Group) {
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

// service returns the Service that an InstanceGroup or a TrafficShift is about
// whose other fields do not fit, "" for an object that does not tell.
func (o *rawObject) service() string {
	var about struct {
		Spec struct {
			ServiceRef v1alpha1.ServiceReference `json:"serviceRef"`
		} `json:"spec"`
	}
	if json.UnmarshalCaseSensitivePreserveInts(o.text, &about) != nil {
		return ""
	}
	return about.Spec.ServiceRef.Name
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
