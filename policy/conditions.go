package policy

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
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
		condition(v1alpha1.ConditionAccepted, ReasonAccepted, "the object is valid", findings),
		condition(v1alpha1.ConditionResolvedRefs, ReasonResolvedRefs, "the Service and its ports exist", findings),
		servingCondition(r, g, findings),
	}
	for i := range out {
		out[i].ObservedGeneration = g.Object.Generation
	}
	return out
}

// condition is True with the given reason and message unless a finding causes
// it: an error makes it False, a warning is told in the message.
func condition(kind, reason, message string, findings []Finding) metav1.Condition {
	c := metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: reason, Message: message}
	var messages []string
	for _, f := range findings {
		if f.Condition != kind {
			continue
		}
		messages = append(messages, f.text())
		if f.Severity == Error && c.Status == metav1.ConditionTrue {
			c.Status, c.Reason = metav1.ConditionFalse, f.Reason
		}
	}
	if len(messages) > 0 {
		c.Message = strings.Join(messages, "; ")
	}
	return c
}

// servingCondition says whether callers of the Service reach the group.
func servingCondition(r catalog.Reader, g *discovery.InstanceGroup, findings []Finding) metav1.Condition {
	c := metav1.Condition{
		Type: v1alpha1.ConditionServing, Status: metav1.ConditionTrue, Reason: ReasonServing,
		Message: "the instances are the Service's home backing",
	}
	key := discovery.Key{Namespace: g.Namespace, Name: g.Object.Spec.ServiceRef.Name}
	svc, ok := catalog.Services.Get(r, key.String())
	m := BuildService(r, key)
	if !ok || m == nil {
		c.Status, c.Reason = metav1.ConditionFalse, ReasonServiceNotFound
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
			messages = append(messages, f.Object.String()+": "+f.text())
		}
		c.Reason, c.Message = failed[0].Reason, strings.Join(messages, "; ")
		if slices.ContainsFunc(m.Ports, func(p Port) bool {
			b := p.backing(discovery.Instances)
			return b != nil && !b.Usable() && onInstances > 0
		}) {
			c.Status = metav1.ConditionFalse
		}
	case m.Unknown != "":
		c.Status, c.Reason, c.Message = metav1.ConditionUnknown, ReasonUnknownHome, "who has the traffic of Service "+key.String()+" is not known: "+m.Unknown
	case m.Shift != nil:
		c.Reason, c.Message = ReasonShifted, fmt.Sprintf("the instances get %s of the traffic (%s)", percentText(onInstances), m.Shift.Object)
		if onInstances == 0 {
			c.Status = metav1.ConditionFalse
		}
	case m.Home == discovery.Pods:
		c.Status, c.Reason = metav1.ConditionFalse, ReasonHomeIsPods
		for _, f := range findings {
			if f.Reason == ReasonHomeIsPods {
				c.Message = f.text()
			}
		}
	}
	if st, ok := catalog.GroupStatuses.Get(r, g.Key.String()); ok && st.Empty != "" {
		c.Status, c.Message = metav1.ConditionFalse, "it has no instance: "+st.Empty+"; "+c.Message
		if c.Reason == ReasonServing || c.Reason == ReasonShifted {
			c.Reason = ReasonNoEndpoints
		}
	}
	return c
}

// text returns the finding without its object, for a condition of that object.
func (f *Finding) text() string {
	s := f.Message
	if f.Field != "" {
		s = f.Field + ": " + s
	}
	if f.Remedy != "" {
		s += ": " + f.Remedy
	}
	return s
}
