package ec2

import (
	"fmt"
	"slices"
	"strings"
	"time"

	autoscalingtypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/causeway-mesh/causeway/discovery"
)

// standing is what an instance is to callers.
type standing struct {
	// endpoint is false for an instance that is not an endpoint yet, or no
	// longer.
	endpoint bool
	health   discovery.Health
	reason   string
}

func healthy() standing { return standing{endpoint: true} }

func draining(reason string) standing {
	return standing{endpoint: true, health: discovery.Draining, reason: reason}
}

func unhealthy(reason string) standing {
	return standing{endpoint: true, health: discovery.Unhealthy, reason: reason}
}

// gone reports whether EC2 says that an instance no longer runs. That is a
// statement; not mentioning the instance is none.
func gone(s ec2types.InstanceStateName) bool {
	switch s {
	case ec2types.InstanceStateNameShuttingDown, ec2types.InstanceStateNameTerminated,
		ec2types.InstanceStateNameStopping, ec2types.InstanceStateNameStopped:
		return true
	}
	return false
}

// standingOf maps the states of EC2 and of Auto Scaling to a standing. group is the
// instance's auto scaling group, "" for none; m is the group's entry for it, nil if it
// does not list it; before is the former endpoint, nil if it was none.
//
// Instance life cycle:
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-lifecycle.html Auto
// Scaling life cycle:
// https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-lifecycle.html
func standingOf(state ec2types.InstanceStateName, group string, m *member, before *discovery.Endpoint) standing {
	if state != ec2types.InstanceStateNameRunning {
		return standing{} // pending, or gone
	}
	switch {
	case group == "":
		return healthy()
	case m == nil && before == nil:
		// Auto Scaling lists an instance from Pending on, so this one may
		// still have its launch hooks before it.
		return standing{}
	case m == nil && before.Health == discovery.Draining:
		return draining(before.Reason)
	case m == nil:
		return healthy()
	}
	switch m.lifecycle {
	case autoscalingtypes.LifecycleStateInService:
		if m.unhealthy {
			return unhealthy("AutoScalingUnhealthy: " + group + " is about to replace it")
		}
		return healthy()
	case autoscalingtypes.LifecycleStateTerminating, autoscalingtypes.LifecycleStateTerminatingWait,
		autoscalingtypes.LifecycleStateTerminatingProceed, autoscalingtypes.LifecycleStateTerminatingRetained,
		autoscalingtypes.LifecycleStateTerminated:
		return draining("AutoScalingTerminating: " + lifecycleText(group, m))
	case autoscalingtypes.LifecycleStateEnteringStandby, autoscalingtypes.LifecycleStateStandby:
		return draining("AutoScalingStandby: " + lifecycleText(group, m))
	case autoscalingtypes.LifecycleStateDetaching:
		return draining("AutoScalingDetaching: " + lifecycleText(group, m))
	case autoscalingtypes.LifecycleStateReplacingRootVolume, autoscalingtypes.LifecycleStateReplacingRootVolumeWait,
		autoscalingtypes.LifecycleStateReplacingRootVolumeProceed, autoscalingtypes.LifecycleStateRootVolumeReplaced:
		return draining("AutoScalingReplacingRootVolume: " + lifecycleText(group, m))
	case autoscalingtypes.LifecycleStatePending, autoscalingtypes.LifecycleStatePendingWait,
		autoscalingtypes.LifecycleStatePendingProceed, autoscalingtypes.LifecycleStateQuarantined:
		return standing{}
	}
	if strings.HasPrefix(string(m.lifecycle), "Warmed:") { // in a warm pool, in reserve
		return standing{}
	}
	// A state that this version does not know is no reason against the instance.
	if before == nil {
		return standing{}
	}
	return standing{endpoint: true, health: before.Health, reason: before.Reason}
}

func lifecycleText(group string, m *member) string {
	return fmt.Sprintf("%s in %s", m.lifecycle, group)
}

// rebalanced returns the reasons, by instance id, of the instances that have a
// rebalance recommendation and a replacement in service. A recommendation alone is a
// hint: draining before the replacement serves would only cost capacity. A
// replacement is in service when the group has more instances in service than it
// desires. Capacity Rebalancing causes that; a mere scale-out does not.
func rebalanced(g *autoScalingGroup, name string, s *signals, launched func(id string) time.Time, now time.Time) map[string]string {
	type hint struct {
		id       string
		at       time.Time
		capacity int32
	}
	var hints []hint
	surplus := -g.desired
	for id, m := range g.members {
		if m.lifecycle != autoscalingtypes.LifecycleStateInService || m.unhealthy {
			continue
		}
		if _, leaving := s.drain(id, launched(id), now); leaving {
			continue
		}
		surplus += m.capacity
		if at, ok := s.rebalance(id, launched(id), now); ok {
			hints = append(hints, hint{id, at, m.capacity})
		}
	}
	if surplus <= 0 || len(hints) == 0 {
		return nil
	}
	slices.SortFunc(hints, func(a, b hint) int {
		if c := a.at.Compare(b.at); c != 0 {
			return c
		}
		return strings.Compare(a.id, b.id)
	})
	out := make(map[string]string)
	for _, h := range hints {
		if surplus < h.capacity {
			break
		}
		surplus -= h.capacity
		out[h.id] = fmt.Sprintf("%s: since %s, and %s has a replacement in service", reasonRebalance, h.at.UTC().Format(time.RFC3339), name)
	}
	return out
}
