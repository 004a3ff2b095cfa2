package resolve

import (
	"fmt"
	"slices"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/upstream"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// nodeFindings says what keeps a Service from what it says of its callers' nodes.
func nodeFindings(r catalog.Reader, obj discovery.ObjectRef, svc *discovery.Service, m *policy.Service) []policy.Finding {
	mode := upstream.NodeModeOf(svc)
	if mode == policy.AnyNode {
		return nil
	}
	var out []policy.Finding
	add := func(field, reason, message, remedy string) {
		out = append(out, policy.Finding{
			Severity: policy.Warning, Object: obj, Field: field, Condition: v1alpha1.ConditionAccepted, Reason: reason, Message: message, Remedy: remedy,
		})
	}
	field := "spec.trafficDistribution"
	if mode == policy.OwnNodeOnly {
		field = "spec.internalTrafficPolicy"
		if svc.Distribution == "PreferSameNode" {
			add("spec.trafficDistribution", policy.ReasonConflicted, "PreferSameNode has no effect: internalTrafficPolicy: Local keeps callers to the pods of their own node",
				"remove one of the two")
		}
	}
	pods, nameless := 0, ""
	for s := range catalog.Endpoints.By(r, catalog.ByService, svc.Key.String()) {
		for i := range s.Endpoints {
			if e := &s.Endpoints[i]; s.Platform == discovery.Pods && e.Node == "" {
				if pods++; nameless == "" || s.Key.String() < nameless {
					nameless = s.Key.String()
				}
			}
		}
	}
	if pods > 0 {
		effect := "are not preferred by callers on their node"
		if mode == policy.OwnNodeOnly {
			effect = "answer no caller that says which node it is on"
		}
		add(field, policy.ReasonUnsupported, fmt.Sprintf("%d endpoints name no node and %s, for example in EndpointSlice %s", pods, effect, nameless),
			"write endpoints[].nodeName")
	}
	if m != nil && mode == policy.OwnNodeOnly {
		out = append(out, localShareFindings(obj, field, m)...)
	}
	return out
}

// localShareFindings says what Local makes of a Service that has instances too.
func localShareFindings(obj discovery.ObjectRef, field string, m *policy.Service) []policy.Finding {
	i := slices.IndexFunc(m.Ports, func(p policy.Port) bool { return len(p.Backings) > 1 && p.Failover && !p.FailoverStated })
	if i < 0 {
		return nil
	}
	return []policy.Finding{{
		Severity: policy.Warning, Object: obj, Field: field, Condition: v1alpha1.ConditionAccepted, Reason: policy.ReasonAccepted,
		Message: fmt.Sprintf("port %d: a caller whose node has no usable pod is answered by the instances, whatever their share, because failover is on (%s)",
			m.Ports[i].Number, m.Ports[i].FailoverBecause),
		Remedy: fmt.Sprintf("run a pod on every node that has callers, or annotate %s: None for 503 instead, or OtherBacking to say that it is meant", v1alpha1.FailoverAnnotation),
	}}
}
