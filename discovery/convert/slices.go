package convert

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// sliceKind is what the endpoints of one slice have in common.
type sliceKind struct {
	family discoveryv1.AddressType
	spot   bool
	weight uint32
}

func kindOf(s *discoveryv1.EndpointSlice) sliceKind {
	weight, _ := strconv.ParseUint(s.Annotations[v1alpha1.WeightAnnotation], 10, 16) // absent is 0
	return sliceKind{s.AddressType, s.Labels[v1alpha1.SpotLabel] == "true", uint32(weight)}
}

// Slices returns the EndpointSlices that publish a group's endpoints: what
// EndpointSlice reads back as the same endpoints. An endpoint stays in the
// published slice that it is in, so that a change rewrites one slice; new ones
// fill slices up to most endpoints. The result has names, labels, annotations,
// ports and endpoints, sorted by name; the rest is the publisher's to add.
func Slices(set *discovery.EndpointSet, published []discoveryv1.EndpointSlice, most int) []discoveryv1.EndpointSlice {
	todo := make(map[sliceKind]map[string]discovery.Endpoint)
	for _, e := range set.Endpoints {
		k := sliceKind{discoveryv1.AddressTypeIPv4, e.Spot, e.Weight}
		if strings.Contains(e.Address, ":") {
			k.family = discoveryv1.AddressTypeIPv6
		}
		if todo[k] == nil {
			todo[k] = make(map[string]discovery.Endpoint)
		}
		todo[k][e.ID] = e
	}
	members := make(map[string][]discovery.Endpoint) // by slice name
	kinds := make(map[string]sliceKind)
	for i := range published {
		s := &published[i]
		k := kindOf(s)
		for j := range s.Endpoints {
			if s.Endpoints[j].TargetRef == nil || len(members[s.Name]) == most {
				continue
			}
			id := s.Endpoints[j].TargetRef.Name
			if e, ok := todo[k][id]; ok {
				members[s.Name] = append(members[s.Name], e)
				kinds[s.Name] = k
				delete(todo[k], id)
			}
		}
	}
	taken := make(map[string]bool)
	for i := range published {
		taken[published[i].Name] = true
	}
	for _, k := range sortedKinds(todo) {
		rest := make([]discovery.Endpoint, 0, len(todo[k]))
		for _, e := range todo[k] {
			rest = append(rest, e)
		}
		slices.SortFunc(rest, func(a, b discovery.Endpoint) int { return cmp.Compare(a.ID, b.ID) })
		for _, name := range sortedNames(members) {
			for kinds[name] == k && len(members[name]) < most && len(rest) > 0 {
				members[name] = append(members[name], rest[0])
				rest = rest[1:]
			}
		}
		for n := 0; len(rest) > 0; n++ {
			name := sliceName(set.Group, k, n)
			if taken[name] {
				continue
			}
			taken[name] = true
			count := min(most, len(rest))
			members[name], kinds[name] = rest[:count:count], k
			rest = rest[count:]
		}
	}
	if len(members) == 0 {
		// A group without instances has an empty slice: having none means that
		// nobody has read it yet.
		k := sliceKind{family: discoveryv1.AddressTypeIPv4}
		members[sliceName(set.Group, k, 0)], kinds[sliceName(set.Group, k, 0)] = nil, k
	}
	out := make([]discoveryv1.EndpointSlice, 0, len(members))
	for _, name := range sortedNames(members) {
		out = append(out, slice(set, name, members[name], kinds[name]))
	}
	return out
}

func sliceName(group string, k sliceKind, n int) string {
	platform := "ondemand"
	if k.spot {
		platform = "spot"
	}
	return fmt.Sprintf("%s-%s-%s-%d-%d", group, strings.ToLower(string(k.family)), platform, k.weight, n)
}

func sortedKinds(m map[sliceKind]map[string]discovery.Endpoint) []sliceKind {
	out := make([]sliceKind, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b sliceKind) int { return cmp.Compare(sliceName("", a, 0), sliceName("", b, 0)) })
	return out
}

func sortedNames(m map[string][]discovery.Endpoint) []string {
	out := make([]string, 0, len(m))
	for name := range m {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func slice(set *discovery.EndpointSet, name string, members []discovery.Endpoint, k sliceKind) discoveryv1.EndpointSlice {
	s := discoveryv1.EndpointSlice{AddressType: k.family}
	s.Namespace, s.Name = set.Namespace, name
	s.Labels = map[string]string{
		discoveryv1.LabelManagedBy:  v1alpha1.ManagedBy,
		corev1.IsHeadlessService:    "",
		v1alpha1.InstanceGroupLabel: set.Group,
		v1alpha1.ServiceLabel:       set.Service.Name,
	}
	if k.spot {
		s.Labels[v1alpha1.SpotLabel] = "true"
	}
	s.Annotations = make(map[string]string)
	if k.weight > 0 {
		s.Annotations[v1alpha1.WeightAnnotation] = strconv.FormatUint(uint64(k.weight), 10)
	}
	for _, p := range set.Ports {
		number, protocol := int32(p.Port), corev1.ProtocolTCP
		s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: &p.Name, Port: &number, Protocol: &protocol})
	}
	slices.SortFunc(members, func(a, b discovery.Endpoint) int { return cmp.Compare(a.ID, b.ID) })
	reasons := make(map[string]string)
	for _, e := range members {
		ready := e.Health == discovery.Healthy
		terminating := e.Health == discovery.Draining
		serving := ready || terminating
		se := discoveryv1.Endpoint{
			Addresses:  []string{e.Address},
			Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating},
			TargetRef:  &corev1.ObjectReference{Kind: "Instance", Namespace: set.Namespace, Name: e.ID},
		}
		if e.Zone != "" {
			se.Zone = &e.Zone
		}
		s.Endpoints = append(s.Endpoints, se)
		if e.Reason != "" {
			reasons[e.ID] = e.Reason
		}
	}
	if len(reasons) > 0 {
		if text, err := json.Marshal(reasons); err == nil { // strings always marshal
			s.Annotations[v1alpha1.ReasonsAnnotation] = string(text)
		}
	}
	return s
}
