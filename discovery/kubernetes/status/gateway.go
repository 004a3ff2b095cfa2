package status

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/conditions"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// heard returns the status of a Gateway with a mark on listeners that no proxy
// listens for, which the Gateway itself does not tell.
func (p *Writer) heard(row *discovery.Object, want *gatewayv1.GatewayStatus) *gatewayv1.GatewayStatus {
	gateway, ok := row.Spec.(*gatewayv1.Gateway)
	if want == nil || !ok || p.unheard == nil {
		return want
	}
	out := *want
	out.Listeners = slices.Clone(want.Listeners)
	for i := range out.Listeners {
		l := &out.Listeners[i]
		j := slices.IndexFunc(gateway.Spec.Listeners, func(in gatewayv1.Listener) bool { return in.Name == l.Name })
		if j < 0 || conditions.NotInForce(l.Conditions) != nil {
			continue
		}
		if why, ok := p.unheard(row.Key, uint16(gateway.Spec.Listeners[j].Port)); ok { //nolint:gosec // the API limits it to 65535
			l.Conditions = append(slices.Clone(l.Conditions), metav1.Condition{
				Type: v1alpha1.ConditionProgrammed, Status: metav1.ConditionFalse, Reason: string(gatewayv1.ListenerReasonPending),
				Message: why, ObservedGeneration: row.Generation,
			})
		}
	}
	return &out
}
