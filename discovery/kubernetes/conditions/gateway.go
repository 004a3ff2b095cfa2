package conditions

import (
	"cmp"
	"encoding/json"
	"hash/fnv"
	"slices"
	"strings"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// The status of a Gateway and of a GatewayClass belongs to one controller: that
// of the class. It has no entries of others, as a route's has. But others may add
// conditions, which server-side apply keeps apart by their type, and listeners by
// their name.

// ourGatewayCondition reports whether a condition of a Gateway, of one of its
// listeners or of a GatewayClass is ours.
func ourGatewayCondition(kind string) bool {
	switch kind {
	case string(gatewayv1.ListenerConditionConflicted), string(gatewayv1.ListenerConditionOverlappingTLSConfig),
		string(gatewayv1.GatewayConditionInsecureFrontendValidationMode), string(gatewayv1.GatewayConditionAddressesAssigned), string(gatewayv1.GatewayClassConditionStatusSupportedVersion):
		return true
	}
	return IsOurs(kind)
}

func ourGatewayConditions(in []metav1.Condition) []metav1.Condition {
	return slices.DeleteFunc(slices.Clone(in), func(c metav1.Condition) bool { return !ourGatewayCondition(c.Type) })
}

// ourGateway returns the part of a Gateway's status that is ours to write.
func ourGateway(in *gatewayv1.GatewayStatus) *gatewayv1.GatewayStatus {
	if in == nil {
		return nil
	}
	out := *in
	out.Conditions = ourGatewayConditions(in.Conditions)
	out.Listeners = slices.Clone(in.Listeners)
	for i := range out.Listeners {
		out.Listeners[i].Conditions = ourGatewayConditions(out.Listeners[i].Conditions)
	}
	out.AttachedListenerSets = nil
	return &out
}

// ourClass returns the part of a GatewayClass' status that is ours to write.
func ourClass(in *gatewayv1.GatewayClassStatus) *gatewayv1.GatewayClassStatus {
	if in == nil {
		return nil
	}
	out := *in
	out.Conditions = ourGatewayConditions(in.Conditions)
	return &out
}

// MergeGateway returns the new status of a Gateway: the wanted one, with
// Programmed, and with the times at which conditions changed.
//
// A wanted condition Programmed stays: it is there only if the Gateway cannot
// be in force whatever proxies do. For a Gateway that is not accepted it is
// derived from that. In all other cases the proxies decide (programmed).
func MergeGateway(have, want *gatewayv1.GatewayStatus, programmed *metav1.Condition, now metav1.Time) *gatewayv1.GatewayStatus {
	if want == nil {
		return nil
	}
	if have == nil {
		have = &gatewayv1.GatewayStatus{}
	}
	programmed = asGatewayReason(programmed)
	out := *want
	out.Conditions = mergeConditions(have.Conditions, withoutProgrammed(want.Conditions), programmedOf(want.Conditions, programmed), now)
	out.Listeners = slices.Clone(want.Listeners)
	for i := range out.Listeners {
		l := &out.Listeners[i]
		var old []metav1.Condition
		if j := slices.IndexFunc(have.Listeners, func(h gatewayv1.ListenerStatus) bool { return h.Name == l.Name }); j >= 0 {
			old = have.Listeners[j].Conditions
		}
		l.Conditions = mergeConditions(old, withoutProgrammed(l.Conditions), programmedOf(l.Conditions, programmed), now)
	}
	return &out
}

// NotInForce returns the condition Programmed of a Gateway or listener that
// cannot be in force, because it is not accepted or conflicts with another one.
// It returns nil if the proxies decide.
func NotInForce(conditions []metav1.Condition) *metav1.Condition {
	if c := apimeta.FindStatusCondition(conditions, v1alpha1.ConditionProgrammed); c != nil {
		return c
	}
	against := apimeta.FindStatusCondition(conditions, string(gatewayv1.ListenerConditionConflicted))
	if against == nil || against.Status != metav1.ConditionTrue {
		against = apimeta.FindStatusCondition(conditions, v1alpha1.ConditionAccepted)
		if against == nil || against.Status != metav1.ConditionFalse {
			return nil
		}
	}
	return &metav1.Condition{
		Type: v1alpha1.ConditionProgrammed, Status: metav1.ConditionFalse, Reason: string(gatewayv1.GatewayReasonInvalid),
		Message: against.Message, ObservedGeneration: against.ObservedGeneration,
	}
}

// withoutProgrammed returns the conditions without Programmed, which mergeConditions adds.
func withoutProgrammed(conditions []metav1.Condition) []metav1.Condition {
	return slices.DeleteFunc(slices.Clone(conditions), func(c metav1.Condition) bool { return c.Type == v1alpha1.ConditionProgrammed })
}

// programmedOf returns the proxies' condition, unless the object cannot be in
// force.
func programmedOf(conditions []metav1.Condition, programmed *metav1.Condition) *metav1.Condition {
	if c := NotInForce(conditions); c != nil {
		return c
	}
	return programmed
}

// reasonRejected is the reason of Programmed where a proxy has refused an object
// (xds/observe).
const reasonRejected = "Rejected"

// asGatewayReason returns the condition Programmed with a reason that the
// specification of Gateways has; the message has the details.
func asGatewayReason(c *metav1.Condition) *metav1.Condition {
	if c == nil {
		return nil
	}
	out := *c
	switch {
	case c.Status == metav1.ConditionTrue:
		out.Reason = string(gatewayv1.GatewayReasonProgrammed)
	case c.Reason == reasonRejected: // something in it is not what Envoy takes
		out.Reason = string(gatewayv1.GatewayReasonInvalid)
	default: // on its way, held back, or nothing there that it could be in force on
		out.Reason = string(gatewayv1.GatewayReasonPending)
	}
	return &out
}

// mergeClass returns what the status of a GatewayClass must be.
func mergeClass(have, want *gatewayv1.GatewayClassStatus, now metav1.Time) *gatewayv1.GatewayClassStatus {
	if want == nil {
		return nil
	}
	var old []metav1.Condition
	if have != nil {
		// No proxy has a say in a class.
		old = withoutProgrammed(have.Conditions)
	}
	out := *want
	out.Conditions = mergeConditions(old, want.Conditions, nil, now)
	return &out
}

// SameGateway reports whether our part of a Gateway's status is what it must be.
func SameGateway(have, next *gatewayv1.GatewayStatus) bool {
	return apiequality.Semantic.DeepEqual(sortedGateway(ourGateway(have)), sortedGateway(next))
}

// sameClass reports whether our part of a GatewayClass' status is what it must be.
func sameClass(have, next *gatewayv1.GatewayClassStatus) bool {
	have = ourClass(have)
	if have == nil || next == nil {
		return have == next
	}
	return apiequality.Semantic.DeepEqual(sortedConditions(have.Conditions), sortedConditions(next.Conditions)) &&
		apiequality.Semantic.DeepEqual(have.SupportedFeatures, next.SupportedFeatures)
}

// sortedGateway returns a status in an order that does not depend on who wrote
// which part of it first.
func sortedGateway(in *gatewayv1.GatewayStatus) *gatewayv1.GatewayStatus {
	if in == nil {
		return nil
	}
	out := *in
	out.Conditions = sortedConditions(in.Conditions)
	out.Listeners = slices.Clone(in.Listeners)
	for i := range out.Listeners {
		out.Listeners[i].Conditions = sortedConditions(out.Listeners[i].Conditions)
	}
	slices.SortFunc(out.Listeners, func(a, b gatewayv1.ListenerStatus) int { return cmp.Compare(a.Name, b.Name) })
	return &out
}

func sortedConditions(in []metav1.Condition) []metav1.Condition {
	out := slices.Clone(in)
	slices.SortFunc(out, func(a, b metav1.Condition) int { return strings.Compare(a.Type, b.Type) })
	return out
}

// plainConditions returns conditions as a digest takes them: sorted, without
// times and without Programmed.
func plainConditions(in []metav1.Condition) []metav1.Condition {
	out := listOf(sortedConditions(withoutProgrammed(in)))
	for i := range out {
		out[i].LastTransitionTime = metav1.Time{}
		out[i].Message = Clip(out[i].Message, maxMessage)
	}
	return out
}

// digestTexts returns the text of a Gateway's and a class' status for a digest.
func digestTexts(s discovery.Status) []string {
	var out []string
	add := func(v any) {
		text, _ := json.Marshal(v) // of plain fields; it cannot fail
		out = append(out, string(text))
	}
	if g := sortedGateway(s.Gateway); g != nil {
		g.Conditions = plainConditions(g.Conditions)
		for i := range g.Listeners {
			g.Listeners[i].Conditions = plainConditions(g.Listeners[i].Conditions)
		}
		add(g)
	}
	if s.Class != nil {
		c := *s.Class
		c.Conditions = plainConditions(c.Conditions)
		add(c)
	}
	return out
}

// DigestProgrammed returns a digest of the conditions Programmed of a status,
// all of them for a Gateway. While nothing is known, it is the digest of the
// present status.
func DigestProgrammed(want discovery.Status, programmed *metav1.Condition, says uint64) uint64 {
	switch {
	case want.Gateway != nil:
		h := fnv.New64a()
		conditionSets(discovery.Status{Gateway: MergeGateway(nil, want.Gateway, programmed, metav1.Time{})}, func(where string, conditions []metav1.Condition) {
			text, _ := json.Marshal(apimeta.FindStatusCondition(conditions, v1alpha1.ConditionProgrammed)) // of plain fields; it cannot fail
			_, _ = h.Write(append([]byte(where), text...))                                                 // never fails
		})
		return h.Sum64()
	case programmed != nil:
		return digestCondition(programmed)
	}
	return says
}

// conditionSets calls see with the conditions of a Gateway, of its listeners
// and of a class, and with where they stand.
func conditionSets(s discovery.Status, see func(where string, conditions []metav1.Condition)) {
	if s.Gateway != nil {
		see("", s.Gateway.Conditions)
		for i := range s.Gateway.Listeners {
			see("listener "+string(s.Gateway.Listeners[i].Name)+": ", s.Gateway.Listeners[i].Conditions)
		}
	}
	if s.Class != nil {
		see("", s.Class.Conditions)
	}
}
