package conditions

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/objects"
)

// Observed returns the row of our part of an object's status, of the source that reads its kind.
func Observed(kind objects.Kind, o metav1.Object) *discovery.ObservedStatus {
	status := Of(o)
	said, programmed := Digest(Ours(status))
	return &discovery.ObservedStatus{
		Scope: kind.Source(), Name: discovery.ObjectName{Kind: kind.Name, Key: discovery.Key{Namespace: o.GetNamespace(), Name: o.GetName()}},
		UID: string(o.GetUID()), Version: o.GetResourceVersion(), Said: said, Programmed: programmed, Gateway: status.Gateway,
	}
}
