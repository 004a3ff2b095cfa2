package kubernetes

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/objects"
)

// observedStatus returns the row of our part of an object's status.
func observedStatus(kind objects.Kind, o metav1.Object) *discovery.ObservedStatus {
	status := statusIn(o)
	said, programmed := digest(ours(status))
	return &discovery.ObservedStatus{
		Scope: scopeOf(kind), Name: discovery.ObjectName{Kind: kind.Name, Key: discovery.Key{Namespace: o.GetNamespace(), Name: o.GetName()}},
		UID: string(o.GetUID()), Version: o.GetResourceVersion(), Said: said, Programmed: programmed, Gateway: status.Gateway,
	}
}
