package policy

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
)

// BuildExternal returns what an ExternalService means, nil if there is none of this name.
func BuildExternal(r catalog.Reader, key discovery.Key) *External { return nil }

func objectConditions(r catalog.Reader, o *discovery.Object) []metav1.Condition { return nil }

func backendTLSAncestors(r catalog.Reader, o *discovery.Object) []gatewayv1.PolicyAncestorStatus {
	return nil
}
