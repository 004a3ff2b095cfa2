package shift

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

func TestAdvise(t *testing.T) {
	t.Parallel()
	none := int32(0)
	half := int32(50)
	one := Fleet{InstancesInService: 12, Groups: []ScalingGroup{{Name: "php-web", Desired: 12, InService: 12, Maximum: 20, Zones: 3}}}
	day := Demand{Now: 300, Peak: 480, Measured: 24 * time.Hour}
	for _, c := range []struct {
		name     string
		keep     *int32
		progress Progress
		fleet    Fleet
		demand   Demand
		want     []string
	}{
		{name: "half shifted", keep: &none, progress: Progress{SourceShare: 500_000, SourceAtStart: 12}, fleet: one, demand: day, want: []string{
			"ASG php-web: 12 desired, 8 would carry today's peak of the remaining share (50 % of 480 requests/s, at 40 per instance as if the 12 of the start carried the peak, " +
				"with 30 % headroom and at least one in each of 3 zones)",
		}},
		{name: "an own proof", keep: &none, progress: Progress{SourceShare: 500_000, SourceAtStart: 12, Proof: 80}, fleet: one, demand: day, want: []string{
			"ASG php-web: 12 desired, 4 would carry today's peak of the remaining share (50 % of 480 requests/s, at 80 per instance as it has, " +
				"with 30 % headroom and at least one in each of 3 zones)",
		}},
		{name: "one per zone", keep: &none, progress: Progress{SourceShare: 10_000, SourceAtStart: 12}, fleet: one, demand: day, want: []string{
			"ASG php-web: 12 desired, 3 would carry today's peak of the remaining share (1 % of 480 requests/s, at 40 per instance as if the 12 of the start carried the peak, " +
				"with 30 % headroom and at least one in each of 3 zones)",
		}},
		{name: "the way back is kept", progress: Progress{SourceShare: 100_000, SourceAtStart: 12}, fleet: one, demand: day, want: []string{
			"ASG php-web: 12 desired, 3 would carry today's peak of the remaining share (10 % of 480 requests/s, at 40 per instance as if the 12 of the start carried the peak, " +
				"with 30 % headroom and at least one in each of 3 zones); keepSourcePercent 100 keeps 12 of them until the shift is complete",
		}},
		{name: "half of the way back is kept", keep: &half, progress: Progress{SourceShare: 100_000, SourceAtStart: 12}, fleet: one, demand: day, want: []string{
			"ASG php-web: 12 desired, 3 would carry today's peak of the remaining share (10 % of 480 requests/s, at 40 per instance as if the 12 of the start carried the peak, " +
				"with 30 % headroom and at least one in each of 3 zones); scale in to 6 at most until the shift is complete (keepSourcePercent 50)",
		}},
		{name: "nothing shifted", keep: &none, progress: Progress{SourceShare: 1_000_000, SourceAtStart: 12}, fleet: one, demand: day, want: []string{
			"ASG php-web: 12 desired, 16 would carry today's peak of the remaining share (100 % of 480 requests/s, at 40 per instance as if the 12 of the start carried the peak, " +
				"with 30 % headroom and at least one in each of 3 zones): do not scale in",
		}},
		{name: "soaking", progress: Progress{SourceAtStart: 12}, fleet: one, demand: day, want: []string{
			"ASG php-web: 12 desired, it gets no traffic; keepSourcePercent 100 keeps 12 of them until the shift is complete",
		}},
		{
			name: "complete", progress: Progress{SourceAtStart: 12, Completed: true},
			fleet: Fleet{InstancesInService: 12, Groups: []ScalingGroup{{Name: "php-web", Desired: 12, Minimum: 6}}}, demand: day, want: []string{
				"ASG php-web: 12 desired, it gets no traffic and could be scaled in to 0 once nobody wants the way back; its minimum of 6 is in the way",
			},
		},
		{name: "complete at half", progress: Progress{SourceShare: 500_000, SourceAtStart: 12, Completed: true}, fleet: one, demand: day, want: []string{
			"ASG php-web: 12 desired, 8 would carry today's peak of the remaining share (50 % of 480 requests/s, " +
				"at 40 per instance as if the 12 of the start carried the peak, with 30 % headroom and at least one in each of 3 zones)",
		}},
		{
			name: "two groups by name", keep: &none, progress: Progress{SourceShare: 250_000, SourceAtStart: 12},
			fleet: Fleet{InstancesInService: 12, Groups: []ScalingGroup{{Name: "php-spot", Desired: 9, Minimum: 5}, {Name: "php-od", Desired: 3}}}, demand: day, want: []string{
				"ASG php-od: 3 desired, 1 would carry today's peak of the remaining share (6.2 % of 480 requests/s, at 40 per instance as if the 12 of the start carried the peak, with 30 % headroom)",
				"ASG php-spot: 9 desired, 3 would carry today's peak of the remaining share (19 % of 480 requests/s, at 40 per instance as if the 12 of the start carried the peak, " +
					"with 30 % headroom); its minimum of 5 is in the way",
			},
		},
		{
			name: "weighted, the way back is kept", progress: Progress{SourceShare: 500_000, SourceAtStart: 10}, demand: Demand{Now: 300, Peak: 400, Measured: 24 * time.Hour},
			fleet: Fleet{InstancesInService: 12, Groups: []ScalingGroup{{Name: "php", Desired: 80, Maximum: 160, InService: 10, Unit: "capacity units", Units: 80, Largest: 8}}}, want: []string{
				"ASG php: 80 capacity units desired (10 instances in service), 56 capacity units (7 instances) would carry today's peak of the remaining share (50 % of 400 requests/s, " +
					"at 40 per instance as if the 10 of the start carried the peak, with 30 % headroom); keepSourcePercent 100 keeps 80 capacity units (10 instances) of them until the shift is complete",
			},
		},
		{
			name: "weighted, half of the way back is kept", keep: &half, progress: Progress{SourceAtStart: 10}, demand: day,
			fleet: Fleet{InstancesInService: 12, Groups: []ScalingGroup{{Name: "php", Minimum: 60, Desired: 80, InService: 10, Unit: "capacity units", Units: 80, Largest: 8}}}, want: []string{
				"ASG php: 80 capacity units desired (10 instances in service), it gets no traffic; scale in to 40 capacity units (5 instances) at most until the shift is complete " +
					"(keepSourcePercent 50); its minimum of 60 capacity units is in the way",
			},
		},
		{
			name: "weighted and not, side by side", keep: &none, progress: Progress{SourceShare: 500_000, SourceAtStart: 12}, demand: day,
			fleet: Fleet{InstancesInService: 12, Groups: []ScalingGroup{{Name: "a", Desired: 6, InService: 6}, {Name: "b", Desired: 24, InService: 6, Unit: "vCPUs", Units: 24, Largest: 4}}}, want: []string{
				"ASG a: 6 desired, 4 would carry today's peak of the remaining share (25 % of 480 requests/s, at 40 per instance as if the 12 of the start carried the peak, with 30 % headroom)",
				"ASG b: 24 vCPUs desired (6 instances in service), 16 vCPUs (4 instances) would carry today's peak of the remaining share (25 % of 480 requests/s, " +
					"at 40 per instance as if the 12 of the start carried the peak, with 30 % headroom)",
			},
		},
		{
			name: "weighted and complete", progress: Progress{SourceAtStart: 10, Completed: true}, demand: day,
			fleet: Fleet{InstancesInService: 12, Groups: []ScalingGroup{{Name: "php", Desired: 80, InService: 10, Unit: "capacity units", Units: 80, Largest: 8}}}, want: []string{
				"ASG php: 80 capacity units desired (10 instances in service), it gets no traffic and could be scaled in to 0 once nobody wants the way back",
			},
		},
		{
			name: "gone", progress: Progress{SourceShare: 990_000, SourceAtStart: 12}, fleet: Fleet{Groups: one.Groups}, demand: day, want: []string{
				"ASG php-web: 12 desired, none of the instances answers: there is nothing to scale in; if they are gone for good, set spec.pin: \"100\"",
			},
		},
		{name: "not measured", progress: Progress{SourceShare: 1_000_000, SourceAtStart: 12}, fleet: one, want: []string{"ASG php-web: 12 desired, what an instance can carry is not measured yet"}},
		{name: "not known", fleet: Fleet{Groups: one.Groups, InstancesInService: 12, Error: "autoscaling: AccessDenied"}, demand: day, want: []string{"no advice: autoscaling: AccessDenied"}},
		{name: "no groups", demand: day},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, Advise(&v1alpha1.ShiftCapacity{KeepSourcePercent: c.keep}, v1alpha1.InstancesToPods, c.progress, c.fleet, c.demand))
		})
	}
	require.Nil(t, Advise(nil, v1alpha1.PodsToInstances, Progress{SourceAtStart: 12}, one, day))
}
