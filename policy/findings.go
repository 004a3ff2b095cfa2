package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Reasons of conditions that findings cause. Accepted, ResolvedRefs and their
// reasons are Gateway API's words where it has one.
const (
	ReasonAccepted        = "Accepted"
	ReasonResolvedRefs    = "ResolvedRefs"
	ReasonBackendNotFound = "BackendNotFound"
	ReasonInvalid         = "Invalid"
	ReasonUnsupported     = "UnsupportedValue"
	ReasonHomeIsPods      = "HomeIsPods"
	ReasonServing         = "Serving"
	ReasonFailedOver      = "FailedOver"
)

// Validate returns every finding about the catalog's objects, sorted by object.
func Validate(r catalog.Reader) []Finding {
	var out []Finding
	for svc := range catalog.Services.All(r) {
		out = append(out, validateService(r, svc)...)
	}
	for g := range catalog.InstanceGroups.All(r) {
		out = append(out, validateGroup(r, g)...)
	}
	slices.SortStableFunc(out, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Object.String(), b.Object.String()), cmp.Compare(a.Field, b.Field), cmp.Compare(a.Message, b.Message))
	})
	return out
}

func validateService(r catalog.Reader, svc *discovery.Service) []Finding {
	obj := discovery.ObjectRef{Kind: "Service", Key: svc.Key, Generation: svc.Generation}
	var out []Finding
	if _, ok := parseHome(svc.Home); !ok && svc.Home != "" {
		_, because := HomeOf(r, svc)
		out = append(out, Finding{
			Severity: Error, Object: obj,
			Field:  fmt.Sprintf("metadata.annotations[%q]", v1alpha1.HomeAnnotation),
			Reason: ReasonUnsupported, Condition: v1alpha1.ConditionAccepted,
			Message: fmt.Sprintf("%q is not a home (in force instead: %s)", svc.Home, because),
			Remedy:  "write Instances or Pods",
		})
	}
	m := BuildService(r, svc.Key)
	if m == nil {
		return out
	}
	for i := range m.Ports {
		p := &m.Ports[i]
		for j := range p.Backings {
			b := &p.Backings[j]
			if p.Shares[j] == 0 || b.Usable() || len(p.Backings) < 2 || !p.Backings[1-j].Usable() {
				continue
			}
			out = append(out, Finding{
				Severity: Warning, Object: obj, Field: fmt.Sprintf("spec.ports[%d]", i),
				Condition: ReasonFailedOver, Reason: ReasonFailedOver,
				Message: fmt.Sprintf("port %d: no usable endpoint among %s, the %s answer instead", p.Number, b.Platform, b.Platform.Other()),
				Remedy:  fmt.Sprintf("bring the %s back, or make the %s the home", b.Platform, b.Platform.Other()),
			})
		}
	}
	return out
}

func validateGroup(r catalog.Reader, g *discovery.InstanceGroup) []Finding {
	obj := discovery.ObjectRef{Kind: "InstanceGroup", Key: g.Key, Generation: g.Object.Generation}
	add := func(out []Finding, s Severity, field, condition, reason, message, remedy string) []Finding {
		return append(out, Finding{
			Severity: s, Object: obj, Field: field, Condition: condition, Reason: reason, Message: message, Remedy: remedy,
		})
	}
	var out []Finding
	for _, f := range v1alpha1.ValidateInstanceGroup(g.Object) {
		out = add(out, Error, f.Field, v1alpha1.ConditionAccepted, ReasonInvalid, f.Message, f.Remedy)
	}
	key := discovery.Key{Namespace: g.Namespace, Name: g.Object.Spec.ServiceRef.Name}
	svc, ok := catalog.Services.Get(r, key.String())
	if !ok {
		return add(out, Error, "spec.serviceRef.name", v1alpha1.ConditionResolvedRefs, ReasonBackendNotFound,
			fmt.Sprintf("there is no Service %s", key), "create it or correct the name")
	}
	names := make([]string, 0, len(svc.Ports))
	for _, p := range svc.Ports {
		names = append(names, p.Name)
	}
	for i, p := range g.Object.Spec.Ports {
		if !slices.Contains(names, p.Name) && (len(names) != 1 || len(g.Object.Spec.Ports) != 1 || (p.Name != "" && names[0] != "")) {
			out = add(out, Error, fmt.Sprintf("spec.ports[%d].name", i), v1alpha1.ConditionResolvedRefs, ReasonBackendNotFound,
				fmt.Sprintf("Service %s has no port named %q", key, p.Name),
				"name one of its ports: "+strings.Join(quoted(names), ", "))
		}
	}
	if home, because := HomeOf(r, svc); home == discovery.Pods {
		out = add(out, Warning, "spec.serviceRef", v1alpha1.ConditionServing, ReasonHomeIsPods,
			fmt.Sprintf("the home of Service %s is its pods (%s), so these instances get no traffic", key, because),
			fmt.Sprintf("annotate the Service with %s: %s to move all of it at once, or create a TrafficShift with direction PodsToInstances",
				v1alpha1.HomeAnnotation, HomeInstances))
	}
	for other := range catalog.InstanceGroups.By(r, catalog.ByService, key.String()) {
		if other.Name >= g.Name {
			continue
		}
		if shared := sharedInstances(r, g, other); shared != "" {
			out = add(out, Warning, "spec.selector", v1alpha1.ConditionAccepted, ReasonAccepted,
				fmt.Sprintf("instance %s is also selected by InstanceGroup %s; it counts once", shared, other.Name),
				"make the selectors disjoint")
		}
	}
	return out
}

// sharedInstances returns the id of an instance that both groups select, "" if none.
func sharedInstances(r catalog.Reader, a, b *discovery.InstanceGroup) string {
	ids := make(map[string]struct{})
	if set, ok := catalog.Instances.Get(r, a.Key.String()); ok {
		for i := range set.Endpoints {
			ids[set.Endpoints[i].ID] = struct{}{}
		}
	}
	if set, ok := catalog.Instances.Get(r, b.Key.String()); ok {
		for i := range set.Endpoints {
			if _, ok := ids[set.Endpoints[i].ID]; ok {
				return set.Endpoints[i].ID
			}
		}
	}
	return ""
}

func quoted(names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = fmt.Sprintf("%q", n)
	}
	return out
}

// InstanceGroupConditions returns the conditions Accepted, ResolvedRefs and
// Serving of an InstanceGroup, without transition times; nil if it is gone.
func InstanceGroupConditions(r catalog.Reader, key discovery.Key) []metav1.Condition {
	g, ok := catalog.InstanceGroups.Get(r, key.String())
	if !ok {
		return nil
	}
	conditions := []metav1.Condition{
		{Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionTrue, Reason: ReasonAccepted, Message: "the object is valid"},
		{Type: v1alpha1.ConditionResolvedRefs, Status: metav1.ConditionTrue, Reason: ReasonResolvedRefs, Message: "the Service and its ports exist"},
		{Type: v1alpha1.ConditionServing, Status: metav1.ConditionTrue, Reason: ReasonServing, Message: "the instances are the Service's home backing"},
	}
	findings := validateGroup(r, g)
	for i := range conditions {
		c := &conditions[i]
		c.ObservedGeneration = g.Object.Generation
		var messages []string
		for _, f := range findings {
			if f.Condition != c.Type {
				continue
			}
			text := f.Message
			if f.Field != "" {
				text = f.Field + ": " + text
			}
			if f.Remedy != "" {
				text += ": " + f.Remedy
			}
			messages = append(messages, text)
			if f.Reason != c.Reason && c.Status == metav1.ConditionTrue {
				c.Status, c.Reason = metav1.ConditionFalse, f.Reason
			}
		}
		if len(messages) > 0 {
			c.Message = strings.Join(messages, "; ")
		}
	}
	return conditions
}
