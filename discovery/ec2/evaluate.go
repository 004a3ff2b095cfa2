package ec2

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	autoscalingtypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// view is what an answer means for one InstanceGroup.
type view struct {
	// endpoints that the answer accounts for, sorted by id.
	endpoints []discovery.Endpoint
	// missing are the former endpoints that the answer does not account for, by id, with the
	// reason.
	missing map[string]string
	// desired capacity of the auto scaling groups, or the number of instances where there is none.
	desired int32
	// scaling are the auto scaling groups, by name, and absent those that the
	// selector names and the answer lacks.
	scaling []discovery.ScalingGroup
	absent  []string
	// unused are the matching instances that are no endpoints, by the reason.
	unused map[string]int
}

// The ways in which an answer does not account for an endpoint.
const (
	notMentioned = "the answer does not mention it"
	notSelected  = "it does not match the selector any more"
	noAddress    = "it has no address of the wanted kind any more"
)

// evaluate applies an answer to a group whose endpoints are before.
func evaluate(spec *v1alpha1.InstanceGroupSpec, before []discovery.Endpoint, a *answer, s *signals, now time.Time) *view {
	v := &view{missing: make(map[string]string), unused: make(map[string]int)}
	was := make(map[string]*discovery.Endpoint, len(before))
	for i := range before {
		was[before[i].ID] = &before[i]
		if _, ok := a.instances[before[i].ID]; !ok {
			v.missing[before[i].ID] = notMentioned
		}
	}
	asgs := make(map[string]struct{}, len(spec.Selector.AutoScalingGroups))
	for _, name := range spec.Selector.AutoScalingGroups {
		asgs[name] = struct{}{}
	}
	hints := rebalancedMembers(a, s, now)
	for _, id := range slices.Sorted(maps.Keys(a.instances)) {
		i := a.instances[id]
		group := a.group(i)
		if gone(i.state) {
			continue
		}
		if !selects(&spec.Selector, i, group) {
			if was[id] != nil {
				v.missing[id] = notSelected
			}
			continue
		}
		if group != "" {
			asgs[group] = struct{}{}
		}
		st := standingOf(i.state, group, a.member(i), was[id])
		if !st.endpoint {
			v.unused[unusedBecause(i, a.member(i))]++
			continue
		}
		if reason, ok := s.drain(id, i.launched, now); ok {
			st = draining(reason)
		} else if reason, ok := hints[id]; ok && st.health == discovery.Healthy {
			st = draining(reason)
		}
		address := i.ipv4
		if spec.Address == v1alpha1.IPv6 {
			address = i.ipv6
		}
		if address == "" {
			if was[id] != nil {
				v.missing[id] = noAddress
			}
			v.unused[addressless(spec.Address, i)]++
			continue
		}
		v.endpoints = append(v.endpoints, discovery.Endpoint{
			ID: id, Address: address, Zone: i.zone, Spot: i.spot, Weight: weight(i.spot, spec.Spot),
			Health: st.health, Reason: st.reason,
		})
	}
	v.desired = desired(a, asgs, len(v.endpoints))
	for _, name := range slices.Sorted(maps.Keys(asgs)) {
		if g, ok := a.groups[name]; ok {
			v.scaling = append(v.scaling, g.sizes(name))
		} else if slices.Contains(spec.Selector.AutoScalingGroups, name) {
			v.absent = append(v.absent, name)
		}
	}
	return v
}

func (g *autoScalingGroup) sizes(name string) discovery.ScalingGroup {
	out := discovery.ScalingGroup{
		Name: name, Minimum: int(g.minimum), Desired: int(g.desired), Maximum: int(g.maximum), Zones: g.zones,
	}
	for _, m := range g.members {
		if m.lifecycle == autoscalingtypes.LifecycleStateInService {
			out.InService++
			out.Units += int(m.capacity)
			out.Largest = max(out.Largest, int(m.capacity))
		}
	}
	if out.Unit = g.unit; out.Unit == "" {
		out.Units, out.Largest = 0, 0
	}
	if g.unit != "" && g.unit != weightedUnit && out.Units == out.InService && out.InService > 0 && out.Desired > out.InService {
		// The answer gives no weights, as of attributes: those there are stand for what is desired.
		out.Units = out.Desired
		out.Largest = (out.Desired + out.InService - 1) / out.InService
	}
	return out
}

// desiredInstances returns for how many instances like those in service the desired capacity stands.
func (g *autoScalingGroup) desiredInstances() int32 {
	s := g.sizes("")
	if s.Unit == "" || s.Units == 0 {
		return g.desired
	}
	return int32(math.Round(float64(s.Desired) * float64(s.InService) / float64(s.Units))) //nolint:gosec // fewer than what is desired
}

// scalingError says what is missing of the auto scaling groups, "" if nothing is.
func (v *view) scalingError() string {
	if len(v.absent) == 0 {
		return ""
	}
	return fmt.Sprintf("EC2 Auto Scaling has no group %s; if it was deleted, remove it from the selector", strings.Join(v.absent, ", "))
}

func (a *answer) member(i *instance) *member {
	g, ok := a.groups[a.memberOf[i.id]]
	if !ok {
		return nil
	}
	m, ok := g.members[i.id]
	if !ok {
		return nil
	}
	return &m
}

// selects reports whether every given field of the selector matches.
func selects(s *v1alpha1.InstanceSelector, i *instance, group string) bool {
	if len(s.AutoScalingGroups) > 0 && !slices.Contains(s.AutoScalingGroups, group) {
		return false
	}
	for k, want := range s.Tags {
		if got, ok := i.tags[k]; !ok || got != want {
			return false
		}
	}
	return true
}

func rebalancedMembers(a *answer, s *signals, now time.Time) map[string]string {
	hints := make(map[string]string)
	names := make(map[string]struct{})
	for id := range s.byID {
		if name, ok := a.memberOf[id]; ok {
			names[name] = struct{}{}
		}
	}
	launched := func(id string) time.Time {
		if i, ok := a.instances[id]; ok {
			return i.launched
		}
		return time.Time{}
	}
	for name := range names {
		maps.Copy(hints, rebalanced(a.groups[name], name, s, launched, now))
	}
	return hints
}

// weight within the zone of Spot and other instances: Prefer 4:1, Same 1:1, Avoid 1:4.
func weight(spot bool, p v1alpha1.SpotPreference) uint32 {
	if (spot && p == v1alpha1.SpotPrefer) || (!spot && p == v1alpha1.SpotAvoid) {
		return 4
	}
	return 1
}

func desired(a *answer, names map[string]struct{}, instances int) int32 {
	sum, found := int32(0), false
	for name := range names {
		if g, ok := a.groups[name]; ok {
			sum += g.desiredInstances()
			found = true
		}
	}
	if !found {
		return int32(instances) //nolint:gosec // an account has not that many
	}
	return sum
}

// confirmations returns the missing endpoints that a second source also calls
// gone, with that source. last is the auto scaling group that listed an instance
// in an earlier answer; checks are the active checks. The answer's auto scaling
// groups count as a second source only if the answer is vouched to come from the
// right account.
func confirmations(spec *v1alpha1.InstanceGroupSpec, v *view, before []discovery.Endpoint, a *answer, last map[string]string,
	checks *discovery.HealthSet, vouched bool,
) map[string]string {
	out := make(map[string]string)
	for i := range before {
		e := &before[i]
		if _, ok := v.missing[e.ID]; !ok {
			continue
		}
		switch {
		case e.Health == discovery.Draining:
			out[e.ID] = "it was draining: " + e.Reason
		case failing(checks, e.ID):
			out[e.ID] = "its health checks fail"
		case vouched:
			if name := leftGroup(spec, a, e.ID, last[e.ID]); name != "" {
				out[e.ID] = fmt.Sprintf("auto scaling group %s does not list it", name)
			}
		}
	}
	return out
}

func failing(checks *discovery.HealthSet, id string) bool {
	if checks == nil {
		return false
	}
	v, ok := checks.ByID[id]
	return ok && !v.Healthy
}

// leftGroup returns the auto scaling groups that the instance must have been in, if
// none of them lists it any more. It returns "" if any group lists it or one of them
// has not answered.
func leftGroup(spec *v1alpha1.InstanceGroupSpec, a *answer, id, last string) string {
	if _, listed := a.memberOf[id]; listed {
		return ""
	}
	names := spec.Selector.AutoScalingGroups
	if last != "" {
		names = []string{last}
	}
	for _, name := range names {
		if _, ok := a.groups[name]; !ok {
			return ""
		}
	}
	return strings.Join(names, ", ")
}
