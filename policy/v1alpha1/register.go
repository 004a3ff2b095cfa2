package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the group and version of every kind in this package.
func GroupVersion() schema.GroupVersion { return schema.GroupVersion{Group: Group, Version: Version} }

// AddToScheme makes a scheme know the kinds of this package.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion(),
		&InstanceGroup{}, &InstanceGroupList{}, &TrafficPolicy{}, &TrafficPolicyList{},
		&ExternalService{}, &ExternalServiceList{}, &Mesh{}, &MeshList{}, &TrafficShift{}, &TrafficShiftList{},
		&GatewayPolicy{}, &GatewayPolicyList{})
	metav1.AddToGroupVersion(s, GroupVersion())
	return nil
}
