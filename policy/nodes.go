package policy

import (
	"fmt"
	"slices"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// NodeMode says what a caller's own Kubernetes node means for which pods it reaches.
// Instances run on no node and are reached from everywhere.
type NodeMode uint8

const (
	// AnyNode is for where it means nothing.
	AnyNode NodeMode = iota
	// OwnNodeOnly is for pods that answer callers of other nodes nothing (spec.internalTrafficPolicy: Local).
	OwnNodeOnly
	// OwnNodeFirst is for pods that answer those while their own node has no usable one (spec.trafficDistribution: PreferSameNode).
	OwnNodeFirst
)

// String returns how the Service says it.
func (n NodeMode) String() string {
	switch n {
	case OwnNodeOnly:
		return "internalTrafficPolicy: Local"
	case OwnNodeFirst:
		return "trafficDistribution: PreferSameNode"
	case AnyNode:
	}
	return ""
}

// nodeModeOf returns what a Service says. Local holds over every distribution, as with kube-proxy.
func nodeModeOf(svc *discovery.Service) NodeMode {
	switch {
	case svc.LocalTraffic:
		return OwnNodeOnly
	case svc.Distribution == "PreferSameNode":
		return OwnNodeFirst
	}
	return AnyNode
}

// From returns the backing as a caller on a Kubernetes node can reach it. A caller
// that does not say its node, "", is on none of the cluster's and reaches all.
func (b *Backing) From(node string) *Backing {
	if b.Nodes != OwnNodeOnly || node == "" {
		return b
	}
	out := *b
	out.Zones, _ = ZonesFrom(b.Zones, node)
	return &out
}

// ZonesFrom divides zones into what is on a Kubernetes node and the rest, both
// without zones that have nothing.
func ZonesFrom(zones []Zone, node string) (own, rest []Zone) {
	add := func(to []Zone, name string, keep func(e Endpoint) bool, all []Endpoint) []Zone {
		z := Zone{Name: name}
		for _, e := range all {
			if keep(e) {
				z.Endpoints = append(z.Endpoints, e)
			}
		}
		if len(z.Endpoints) == 0 {
			return to
		}
		return append(to, z)
	}
	for _, z := range zones {
		own = add(own, z.Name, func(e Endpoint) bool { return e.Node == node }, z.Endpoints)
		rest = add(rest, z.Name, func(e Endpoint) bool { return e.Node != node }, z.Endpoints)
	}
	return own, rest
}

// nodeFindings says what keeps a Service from what it says of its callers' nodes.
func nodeFindings(r catalog.Reader, obj discovery.ObjectRef, svc *discovery.Service, m *Service) []Finding {
	mode := nodeModeOf(svc)
	if mode == AnyNode {
		return nil
	}
	var out []Finding
	add := func(field, reason, message, remedy string) {
		out = append(out, Finding{
			Severity: Warning, Object: obj, Field: field, Condition: v1alpha1.ConditionAccepted, Reason: reason, Message: message, Remedy: remedy,
		})
	}
	field := "spec.trafficDistribution"
	if mode == OwnNodeOnly {
		field = "spec.internalTrafficPolicy"
		if svc.Distribution == "PreferSameNode" {
			add("spec.trafficDistribution", ReasonConflicted, "PreferSameNode has no effect: internalTrafficPolicy: Local keeps callers to the pods of their own node",
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
		if mode == OwnNodeOnly {
			effect = "answer no caller that says which node it is on"
		}
		add(field, ReasonUnsupported, fmt.Sprintf("%d endpoints name no node and %s, for example in EndpointSlice %s", pods, effect, nameless),
			"write endpoints[].nodeName")
	}
	if m != nil && mode == OwnNodeOnly {
		out = append(out, localShareFindings(obj, field, m)...)
	}
	return out
}

// localShareFindings says what Local makes of a Service that has instances too.
func localShareFindings(obj discovery.ObjectRef, field string, m *Service) []Finding {
	i := slices.IndexFunc(m.Ports, func(p Port) bool { return len(p.Backings) > 1 && p.Failover && !p.FailoverStated })
	if i < 0 {
		return nil
	}
	return []Finding{{
		Severity: Warning, Object: obj, Field: field, Condition: v1alpha1.ConditionAccepted, Reason: ReasonAccepted,
		Message: fmt.Sprintf("port %d: a caller whose node has no usable pod is answered by the instances, whatever their share, because failover is on (%s)",
			m.Ports[i].Number, m.Ports[i].FailoverBecause),
		Remedy: fmt.Sprintf("run a pod on every node that has callers, or annotate %s: None for 503 instead, or OtherBacking to say that it is meant", v1alpha1.FailoverAnnotation),
	}}
}
