package ec2

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// addressless says why an instance that matches has no address that callers may use.
func addressless(wanted v1alpha1.AddressKind, i *instance) string {
	switch {
	case wanted == v1alpha1.IPv6 && i.ipv4 != "":
		return "no IPv6 address, only a private IPv4 one: set spec.address to PrivateIPv4"
	case wanted == v1alpha1.IPv6:
		return "no IPv6 address: give them one"
	case i.ipv6 != "":
		return "no private IPv4 address, only an IPv6 one: set spec.address to IPv6"
	}
	return "no private IPv4 address: give them one"
}

// unusedBecause says why an instance that matches is not in service.
func unusedBecause(i *instance, m *member) string {
	switch {
	case i.state != ec2types.InstanceStateNameRunning:
		return "state " + string(i.state)
	case m != nil:
		return "Auto Scaling's state " + string(m.lifecycle)
	}
	return "a tag of an auto scaling group that does not list them yet"
}

// emptyBecause says why a group has no endpoint, as far as the answer knows,
// and what to do about it; "" if it has any.
func (v *view) emptyBecause(spec *v1alpha1.InstanceGroupSpec, key accountKey, a *answer) string {
	if len(v.endpoints) > 0 {
		return ""
	}
	where := "region " + key.region
	if account := orElse(a.account(), key.number()); account != "" {
		where = "account " + account + ", " + where
	}
	var out []string
	if len(v.absent) > 0 {
		out = append(out, fmt.Sprintf("there is no auto scaling group %s in %s: correct spec.selector.autoScalingGroups", strings.Join(v.absent, ", "), where))
	}
	for _, why := range slices.Sorted(maps.Keys(v.unused)) {
		out = append(out, fmt.Sprintf("%s with %s", instances(v.unused[why], "match", "matches"), why))
	}
	if len(v.unused) == 0 && len(v.absent) < max(1, len(spec.Selector.AutoScalingGroups)) {
		out = append(out, matchless(spec, where, a))
	}
	return strings.Join(out, "; ")
}

func instances(n int, plural, singular string) string {
	if n == 1 {
		return "1 instance " + singular
	}
	return fmt.Sprintf("%d instances %s", n, plural)
}

// matchless says which part of the selector no running instance has.
func matchless(spec *v1alpha1.InstanceGroupSpec, where string, a *answer) string {
	alive, inGroups := 0, 0
	with, equal := make(map[string]int), make(map[string]int) // by tag
	for _, i := range a.instances {
		if gone(i.state) {
			continue
		}
		alive++
		if slices.Contains(spec.Selector.AutoScalingGroups, a.group(i)) {
			inGroups++
		}
		for k, want := range spec.Selector.Tags {
			got, ok := i.tags[k]
			if ok {
				with[k]++
			}
			if ok && got == want {
				equal[k]++
			}
		}
	}
	if alive == 0 {
		return "there is no running instance in " + where + ": correct spec.region, or spec.roleARN"
	}
	if len(spec.Selector.AutoScalingGroups) > 0 && inGroups == 0 {
		return fmt.Sprintf("auto scaling group %s has no instance", strings.Join(spec.Selector.AutoScalingGroups, ", "))
	}
	for _, k := range slices.Sorted(maps.Keys(spec.Selector.Tags)) {
		want := spec.Selector.Tags[k]
		switch {
		case equal[k] > 0:
			continue
		case with[k] == 0:
			return fmt.Sprintf("none of %s in %s has a tag %q: correct spec.selector.tags", fmt.Sprintf("%d running instances", alive), where, k)
		case strings.ContainsAny(want, "*?"):
			return fmt.Sprintf("no instance in %s has exactly the tag %s=%s: * and ? stand for themselves; write the whole value", where, k, want)
		}
		return fmt.Sprintf("no instance in %s has the tag %s=%s, %d have other values: correct spec.selector.tags", where, k, want, with[k])
	}
	return "no instance in " + where + " matches all of spec.selector at once"
}
