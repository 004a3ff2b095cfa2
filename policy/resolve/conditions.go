package resolve

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// InstanceGroupConditions returns the conditions Accepted, ResolvedRefs and
// Serving of an InstanceGroup, without transition times; nil if it is gone.
func InstanceGroupConditions(r catalog.Reader, key discovery.Key) []metav1.Condition {
	g, ok := catalog.InstanceGroups.Get(r, key.String())
	if !ok {
		return nil
	}
	findings := validateGroup(r, g)
	out := []metav1.Condition{
		condition(v1alpha1.ConditionAccepted, policy.ReasonAccepted, "the object is valid", findings),
		condition(v1alpha1.ConditionResolvedRefs, policy.ReasonResolvedRefs, "the Service and its ports exist", findings),
		servingCondition(r, g, findings),
	}
	for i := range out {
		out[i].ObservedGeneration = g.Object.Generation
	}
	return out
}

// condition is True with the given reason and message unless a finding causes
// it: an error makes it False, a warning is told in the message.
func condition(kind, reason, message string, findings []policy.Finding) metav1.Condition {
	c := metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: reason, Message: message}
	var messages []string
	for _, f := range findings {
		if f.Condition != kind {
			continue
		}
		messages = append(messages, f.Text())
		if f.Severity == policy.Error && c.Status == metav1.ConditionTrue {
			c.Status, c.Reason = metav1.ConditionFalse, f.Reason
		}
	}
	if len(messages) > 0 {
		c.Message = strings.Join(messages, "; ")
	}
	return c
}

// servingCondition says whether callers of the Service reach the group.
func servingCondition(r catalog.Reader, g *discovery.InstanceGroup, findings []policy.Finding) metav1.Condition {
	c := metav1.Condition{
		Type: v1alpha1.ConditionServing, Status: metav1.ConditionTrue, Reason: policy.ReasonServing,
		Message: "the instances are the Service's home backing",
	}
	key := discovery.Key{Namespace: g.Namespace, Name: g.Object.Spec.ServiceRef.Name}
	svc, ok := catalog.Services.Get(r, key.String())
	m := BuildService(r, key)
	if !ok || m == nil {
		c.Status, c.Reason = metav1.ConditionFalse, policy.ReasonServiceNotFound
		c.Message = fmt.Sprintf("there is no Service %s with a TCP port, so nobody can call these instances", key)
		return c
	}
	failed := failovers(r, discovery.ObjectRef{Kind: discovery.KindService, Key: key, Generation: svc.Generation}, m)
	onInstances := uint32(0)
	for i := range m.Ports {
		for j := range m.Ports[i].Backings {
			if m.Ports[i].Backings[j].Platform == discovery.Instances {
				onInstances = max(onInstances, m.Ports[i].Shares[j])
			}
		}
	}
	switch {
	case len(failed) > 0:
		var messages []string
		for _, f := range failed {
			messages = append(messages, f.Object.String()+": "+f.Text())
		}
		c.Reason, c.Message = failed[0].Reason, strings.Join(messages, "; ")
		if slices.ContainsFunc(m.Ports, func(p policy.Port) bool {
			b := p.Backing(discovery.Instances)
			return b != nil && !b.Usable() && onInstances > 0
		}) {
			c.Status = metav1.ConditionFalse
		}
	case m.Unknown != "":
		c.Status, c.Reason, c.Message = metav1.ConditionUnknown, policy.ReasonUnknownHome, "who has the traffic of Service "+key.String()+" is not known: "+m.Unknown
	case m.Shift != nil:
		c.Reason, c.Message = policy.ReasonShifted, fmt.Sprintf("the instances get %s of the traffic (%s)", phrase.Percent(onInstances), m.Shift.Object)
		if onInstances == 0 {
			c.Status = metav1.ConditionFalse
		}
	case m.Home == discovery.Pods:
		c.Status, c.Reason = metav1.ConditionFalse, policy.ReasonHomeIsPods
		for _, f := range findings {
			if f.Reason == policy.ReasonHomeIsPods {
				c.Message = f.Text()
			}
		}
	}
	if st, ok := catalog.GroupStatuses.Get(r, g.Key.String()); ok && st.Empty != "" {
		c.Status, c.Message = metav1.ConditionFalse, "it has no instance: "+st.Empty+"; "+c.Message
		if c.Reason == policy.ReasonServing || c.Reason == policy.ReasonShifted {
			c.Reason = policy.ReasonNoEndpoints
		}
	}
	return c
}

// objectConditions returns the conditions Accepted and ResolvedRefs of a
// TrafficPolicy, an ExternalService or a Mesh.
func objectConditions(r catalog.Reader, o *discovery.Object) []metav1.Condition {
	findings := validateObject(r, o)
	out := []metav1.Condition{
		condition(v1alpha1.ConditionAccepted, policy.ReasonAccepted, "the object is valid and in force", findings),
		condition(v1alpha1.ConditionResolvedRefs, policy.ReasonResolvedRefs, "everything that it names exists", findings),
	}
	for i := range out {
		out[i].ObservedGeneration = o.Generation
	}
	return out
}
