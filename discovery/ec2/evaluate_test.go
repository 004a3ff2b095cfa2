package ec2

import (
	"fmt"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	autoscalingtypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

func testAnswer() *answer {
	a := &answer{instances: make(map[string]*instance), groups: make(map[string]*autoScalingGroup), memberOf: make(map[string]string)}
	add := func(id, ipv4 string, spot bool, tags map[string]string) {
		a.instances[id] = &instance{id: id, state: "running", zone: "ap-northeast-1a", ipv4: ipv4, spot: spot, tags: tags}
	}
	add("i-1", "10.0.0.1", false, map[string]string{groupTag: "php-web", "Role": "php-web", "Env": "prod"})
	add("i-2", "10.0.0.2", true, map[string]string{groupTag: "php-web", "Role": "php-web", "Env": "prod"})
	add("i-3", "10.0.0.3", false, map[string]string{"Role": "php-web", "Env": "stage"})
	add("i-4", "10.0.0.4", false, map[string]string{"Role": "db"})
	a.instances["i-4"].ipv6 = "2001:db8::4"
	a.groups["php-web"] = &autoScalingGroup{minimum: 2, desired: 5, maximum: 9, zones: 3, members: map[string]member{
		"i-1": {lifecycle: autoscalingtypes.LifecycleStateInService, capacity: 1},
		"i-2": {lifecycle: autoscalingtypes.LifecycleStateInService, capacity: 1},
	}}
	a.memberOf["i-1"], a.memberOf["i-2"] = "php-web", "php-web"
	return a
}

func TestEvaluate(t *testing.T) {
	now := time.Now()
	run := func(spec v1alpha1.InstanceGroupSpec, before ...discovery.Endpoint) *view {
		return evaluate(&spec, before, testAnswer(), newSignals(), now)
	}
	asg := v1alpha1.InstanceGroupSpec{Selector: v1alpha1.InstanceSelector{AutoScalingGroups: []string{"php-web", "other"}}, Spot: v1alpha1.SpotPrefer}
	v := run(asg)
	require.Equal(t, []discovery.Endpoint{
		{ID: "i-1", Address: "10.0.0.1", Zone: "ap-northeast-1a", Weight: 1},
		{ID: "i-2", Address: "10.0.0.2", Zone: "ap-northeast-1a", Spot: true, Weight: 4},
	}, v.endpoints)
	require.Equal(t, int32(5), v.desired)
	require.Equal(t, []discovery.ScalingGroup{{Name: "php-web", Minimum: 2, Desired: 5, Maximum: 9, InService: 2, Zones: 3}}, v.scaling)
	require.Equal(t, "EC2 Auto Scaling has no group other; if it was deleted, remove it from the selector", v.scalingError())

	asg.Spot = v1alpha1.SpotAvoid
	v = run(asg)
	require.Equal(t, uint32(4), v.endpoints[0].Weight)
	require.Equal(t, uint32(1), v.endpoints[1].Weight)

	role := v1alpha1.InstanceGroupSpec{Selector: v1alpha1.InstanceSelector{Tags: map[string]string{"Role": "php-web"}}}
	require.Equal(t, []string{"i-1", "i-2", "i-3"}, idsOf(run(role).endpoints))
	require.Len(t, run(role).scaling, 1, "the group of instances that only tags select")
	require.Empty(t, run(role).scalingError())
	both := v1alpha1.InstanceGroupSpec{Selector: v1alpha1.InstanceSelector{AutoScalingGroups: []string{"php-web"}, Tags: map[string]string{"Env": "stage"}}}
	require.Empty(t, idsOf(run(both).endpoints), "every given field must match")
	db := v1alpha1.InstanceGroupSpec{Selector: v1alpha1.InstanceSelector{Tags: map[string]string{"Role": "db"}}, Address: v1alpha1.IPv6}
	v = run(db)
	require.Equal(t, "2001:db8::4", v.endpoints[0].Address)
	require.Equal(t, int32(1), v.desired, "no group: what was found")

	v = run(both, discovery.Endpoint{ID: "i-1"}, discovery.Endpoint{ID: "i-9"})
	require.Equal(t, map[string]string{"i-1": notSelected, "i-9": notMentioned}, v.missing)
	a := testAnswer() // EC2 takes the tags and addresses of what is terminated
	a.instances["i-1"] = &instance{id: "i-1", state: "terminated"}
	v = evaluate(&role, []discovery.Endpoint{{ID: "i-1"}}, a, newSignals(), now)
	require.Empty(t, v.missing, "said to be gone is not missing")
	require.Equal(t, []string{"i-2", "i-3"}, idsOf(v.endpoints))
	role.Address = v1alpha1.IPv6
	v = run(role, discovery.Endpoint{ID: "i-1"})
	require.Equal(t, map[string]string{"i-1": noAddress}, v.missing)
}

func TestConfirmations(t *testing.T) {
	a := testAnswer()
	spec := &v1alpha1.InstanceGroupSpec{Selector: v1alpha1.InstanceSelector{AutoScalingGroups: []string{"php-web"}}}
	before := []discovery.Endpoint{{ID: "i-1"}, {ID: "i-7"}, {ID: "i-8"}, {ID: "i-9", Health: discovery.Draining, Reason: "SpotInterruption"}}
	delete(a.instances, "i-1") // EC2 does not mention it, but its group does
	v := evaluate(spec, before, a, newSignals(), time.Now())
	require.Len(t, v.missing, 4)
	checks := &discovery.HealthSet{ByID: map[string]discovery.CheckedHealth{"i-8": {Reason: "CheckRefused"}, "i-1": {Healthy: true}}}
	got := confirmations(spec, v, before, a, nil, checks, true)
	require.NotContains(t, got, "i-1")
	require.Contains(t, got["i-7"], "does not list it")
	require.Contains(t, got["i-8"], "health checks")
	require.Contains(t, got["i-9"], "draining")
	require.NotContains(t, confirmations(spec, v, before, a, nil, checks, false), "i-7", "it may be another account's group of the same name")

	delete(a.groups, "php-web") // Auto Scaling's answer is empty too
	clear(a.memberOf)
	require.NotContains(t, confirmations(spec, v, before, a, nil, nil, true), "i-7")
	tags := &v1alpha1.InstanceGroupSpec{Selector: v1alpha1.InstanceSelector{Tags: map[string]string{"Role": "php-web"}}}
	require.NotContains(t, confirmations(tags, v, before, a, nil, nil, true), "i-7", "there is no second source")
}

// A group whose instances have weights counts its sizes in capacity units, and its instances are
// fewer than those.
func TestWeightedGroup(t *testing.T) {
	in := &autoscalingtypes.AutoScalingGroup{
		AutoScalingGroupName: aws.String("php-web"), MinSize: aws.Int32(8), DesiredCapacity: aws.Int32(80), MaxSize: aws.Int32(160),
		AvailabilityZones: []string{"ap-northeast-1a"},
	}
	for n := range 10 {
		in.Instances = append(in.Instances, autoscalingtypes.Instance{
			InstanceId: aws.String(fmt.Sprintf("i-%d", n)), LifecycleState: autoscalingtypes.LifecycleStateInService, WeightedCapacity: aws.String("8"),
		})
	}
	read := func() *answer {
		a := &answer{instances: make(map[string]*instance), groups: make(map[string]*autoScalingGroup), memberOf: make(map[string]string)}
		a.addGroup(in)
		return a
	}
	want := discovery.ScalingGroup{
		Name: "php-web", Minimum: 8, Desired: 80, Maximum: 160, InService: 10, Zones: 1, Unit: "capacity units", Units: 80, Largest: 8,
	}
	require.Equal(t, want, read().groups["php-web"].sizes("php-web"))
	require.Equal(t, int32(10), read().groups["php-web"].desiredInstances())

	// Attributes: the group counts vCPUs, and the answer need not say what each instance counts for.
	in.DesiredCapacityType = aws.String("vcpu")
	for n := range in.Instances {
		in.Instances[n].WeightedCapacity = nil
	}
	want.Unit = "vCPUs"
	require.Equal(t, want, read().groups["php-web"].sizes("php-web"))
	require.Equal(t, int32(10), read().groups["php-web"].desiredInstances())

	// No instance is there yet: what the sizes mean is in the launch template.
	in.DesiredCapacityType, in.Instances = nil, nil
	in.MixedInstancesPolicy = &autoscalingtypes.MixedInstancesPolicy{LaunchTemplate: &autoscalingtypes.LaunchTemplate{
		Overrides: []autoscalingtypes.LaunchTemplateOverrides{{WeightedCapacity: aws.String("4")}},
	}}
	require.Equal(t, "capacity units", read().groups["php-web"].sizes("php-web").Unit)
	in.MixedInstancesPolicy = nil
	require.Empty(t, read().groups["php-web"].sizes("php-web").Unit)
}
