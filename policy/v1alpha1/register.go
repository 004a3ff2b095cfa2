package v1alpha1

import (
	"reflect"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the group and version of every kind in this package.
func GroupVersion() schema.GroupVersion { return schema.GroupVersion{Group: Group, Version: Version} }

// types are the types of all kinds.
var types []runtime.Object

// kind adds the types of a kind, and returns the first, so that each kind's file can call it
// where it declares them.
func kind(object, list runtime.Object) runtime.Object { //nolint:unparam // a declaration needs a value
	types = append(types, object, list)
	return object
}

// Has reports whether an object is of a kind of this package.
func Has(o runtime.Object) bool {
	return slices.ContainsFunc(types, func(t runtime.Object) bool { return reflect.TypeOf(t) == reflect.TypeOf(o) })
}

// AddToScheme makes a scheme know the kinds of this package.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion(), types...)
	metav1.AddToGroupVersion(s, GroupVersion())
	return nil
}
