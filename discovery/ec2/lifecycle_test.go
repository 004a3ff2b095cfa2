package ec2

import (
	"testing"
	"time"

	autoscalingtypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
)

func TestStandingOf(t *testing.T) {
	const (
		none     = ""
		healthy  = "HEALTHY"
		sick     = "UNHEALTHY"
		draining = "DRAINING"
	)
	was := &discovery.Endpoint{ID: "i-1"}
	wasDraining := &discovery.Endpoint{ID: "i-1", Health: discovery.Draining, Reason: "AutoScalingTerminating: x"}
	for _, c := range []struct {
		name      string
		state     ec2types.InstanceStateName
		group     string
		lifecycle autoscalingtypes.LifecycleState // "": the group does not list it
		unhealthy bool
		before    *discovery.Endpoint
		want      string
	}{
		{"pending", "pending", "", "", false, nil, none},
		{"pending that was an endpoint", "pending", "", "", false, was, none},
		{"running without a group", "running", "", "", false, nil, healthy},
		{"stopping", "stopping", "asg", "InService", false, was, none},
		{"stopped", "stopped", "asg", "InService", false, was, none},
		{"shutting down", "shutting-down", "asg", "Terminating:Wait", false, was, none},
		{"terminated", "terminated", "asg", "InService", false, was, none},
		{"in service", "running", "asg", "InService", false, nil, healthy},
		{"in service and unhealthy", "running", "asg", "InService", true, was, sick},
		{"launching", "running", "asg", "Pending", false, nil, none},
		{"launch hook", "running", "asg", "Pending:Wait", false, nil, none},
		{"launch hook done", "running", "asg", "Pending:Proceed", false, nil, none},
		{"terminating", "running", "asg", "Terminating", false, was, draining},
		{"termination hook", "running", "asg", "Terminating:Wait", false, was, draining},
		{"termination hook done", "running", "asg", "Terminating:Proceed", false, was, draining},
		{"terminated by the group", "running", "asg", "Terminated", false, was, draining},
		{"entering standby", "running", "asg", "EnteringStandby", false, was, draining},
		{"standby", "running", "asg", "Standby", false, was, draining},
		{"detaching", "running", "asg", "Detaching", false, was, draining},
		{"refreshed in place", "running", "asg", "ReplacingRootVolume:Wait", false, was, draining},
		{"warm pool", "running", "asg", "Warmed:Running", false, nil, none},
		{"back to the warm pool", "running", "asg", "Warmed:Pending:Wait", false, was, none},
		{"quarantined", "running", "asg", "Quarantined", false, nil, none},
		{"not listed yet", "running", "asg", "", false, nil, none},
		{"not listed any more", "running", "asg", "", false, was, healthy},
		{"not listed any more while draining", "running", "asg", "", false, wasDraining, draining},
		{"a state of the future", "running", "asg", "Hibernating", false, was, healthy},
		{"a new one in a state of the future", "running", "asg", "Hibernating", false, nil, none},
	} {
		t.Run(c.name, func(t *testing.T) {
			var m *member
			if c.lifecycle != "" {
				m = &member{lifecycle: c.lifecycle, unhealthy: c.unhealthy, capacity: 1}
			}
			got := standingOf(c.state, c.group, m, c.before)
			if c.want == none {
				require.False(t, got.endpoint)
				return
			}
			require.True(t, got.endpoint)
			require.Equal(t, c.want, got.health.String())
			if c.want != healthy {
				require.NotEmpty(t, got.reason)
			}
		})
	}
}

func TestEveryLifecycleStateIsKnown(t *testing.T) {
	before := &discovery.Endpoint{ID: "i-1", Reason: "untouched"}
	for _, state := range autoscalingtypes.LifecycleState("").Values() {
		if state == autoscalingtypes.LifecycleStateDetached { // no member any more when the answer is read
			continue
		}
		got := standingOf("running", "asg", &member{lifecycle: state}, before)
		require.NotEqual(t, "untouched", got.reason, "%s falls through to the states that nobody knows", state)
	}
}

func TestRebalanced(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	group := func(desired int32, ids ...string) *autoScalingGroup {
		g := &autoScalingGroup{desired: desired, members: make(map[string]member)}
		for _, id := range ids {
			g.members[id] = member{lifecycle: autoscalingtypes.LifecycleStateInService, capacity: 1}
		}
		return g
	}
	s := newSignals()
	s.add("i-2", rebalance, now.Add(-2*time.Minute), "", now)
	s.add("i-1", rebalance, now.Add(-time.Minute), "", now)
	ids := func(g *autoScalingGroup) []string {
		var out []string
		for id := range rebalanced(g, "asg", s, func(string) time.Time { return time.Time{} }, now) {
			out = append(out, id)
		}
		return out
	}
	require.Empty(t, ids(group(3, "i-1", "i-2", "i-3")), "no replacement")
	require.Empty(t, ids(group(4, "i-1", "i-2", "i-3", "i-4")), "a scale-out is no replacement")
	require.Equal(t, []string{"i-2"}, ids(group(3, "i-1", "i-2", "i-3", "i-4")), "one replacement, for the older recommendation")
	require.ElementsMatch(t, []string{"i-1", "i-2"}, ids(group(3, "i-1", "i-2", "i-3", "i-4", "i-5")))

	launching := group(3, "i-1", "i-2", "i-3")
	launching.members["i-4"] = member{lifecycle: autoscalingtypes.LifecycleStatePending, capacity: 1}
	require.Empty(t, ids(launching), "a replacement that does not serve yet")
	leaving := group(3, "i-1", "i-2", "i-3", "i-4")
	s.add("i-3", spotInterruption, now, "SpotInterruption", now)
	require.Empty(t, ids(leaving), "the surplus is leaving itself")
	heavy := group(6, "i-1", "i-2")
	heavy.members["i-1"] = member{lifecycle: autoscalingtypes.LifecycleStateInService, capacity: 4}
	heavy.members["i-2"] = member{lifecycle: autoscalingtypes.LifecycleStateInService, capacity: 4}
	require.Empty(t, ids(heavy), "the surplus of two does not replace a member of four")
}

func TestSignals(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	never := time.Time{}
	s := newSignals()

	require.True(t, s.add("i-1", leaving, now.Add(-time.Second), "Leaving: stopping", now))
	_, ok := s.drain("i-1", never, now)
	require.True(t, ok)
	_, ok = s.drain("i-1", now, now)
	require.False(t, ok, "started again since")
	_, ok = s.drain("i-1", never, now.Add(3*time.Minute))
	require.False(t, ok, "it was not")

	s.started("i-1", now.Add(-2*time.Second))
	_, ok = s.drain("i-1", never, now)
	require.True(t, ok, "an older start, late, changes nothing")
	s.started("i-1", now)
	_, ok = s.drain("i-1", never, now)
	require.False(t, ok)

	require.False(t, s.add("i-2", spotInterruption, now.Add(-time.Hour), "", now), "from a backlog")
	require.True(t, s.add("i-2", spotInterruption, now.Add(time.Hour), "SpotInterruption: x", now), "a clock that is ahead")
	_, ok = s.drain("i-2", never, now.Add(9*time.Minute))
	require.True(t, ok)
	_, ok = s.drain("i-2", never, now.Add(10*time.Minute))
	require.False(t, ok, "EC2 has thought better of it")

	next := newSignals()
	next.restore([]discovery.Endpoint{
		{ID: "i-2", Health: discovery.Draining, Reason: "SpotInterruption: x"},
		{ID: "i-3", Health: discovery.Draining, Reason: "AutoScalingTerminating: x"},
		{ID: "i-4", Reason: "SpotInterruption"},
	}, now)
	require.Len(t, next.byID, 1)
	reason, ok := next.drain("i-2", never, now)
	require.True(t, ok)
	require.Equal(t, "SpotInterruption: x", reason)

	next.prune(&answer{instances: map[string]*instance{"i-2": {id: "i-2", state: "terminated"}}}, now)
	require.Empty(t, next.byID)
	s.prune(&answer{}, now.Add(time.Hour))
	require.Empty(t, s.byID)

	for i := range maxSignals + 5 {
		s.add(string(rune('a'+i%26))+time.Duration(i).String(), rebalance, now, "", now)
	}
	require.LessOrEqual(t, len(s.byID), maxSignals)
}
