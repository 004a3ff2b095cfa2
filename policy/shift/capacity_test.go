package shift

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

func TestRoomFor(t *testing.T) {
	t.Parallel()
	keep := func(percent int32) *int32 { return &percent }
	measured := Demand{Now: 400, Peak: 640, Measured: time.Hour}
	for _, c := range []struct {
		name      string
		spec      *v1alpha1.ShiftCapacity
		direction v1alpha1.ShiftDirection
		atStart   int
		fleet     Fleet
		demand    Demand
		percent   v1alpha1.Percent
		ok        bool
		reason    string
	}{
		{
			name: "enough", spec: &v1alpha1.ShiftCapacity{MinReadyPods: 2, MaxRequestsPerSecondPerPod: 50}, fleet: Fleet{ReadyPods: 9, InstancesInService: 12},
			atStart: 12, demand: measured, percent: "50", ok: true, reason: "9 ready pods, each with up to 36 requests/s",
		},
		{
			name: "the peak counts", spec: &v1alpha1.ShiftCapacity{MinReadyPods: 2, MaxRequestsPerSecondPerPod: 50}, fleet: Fleet{ReadyPods: 9, InstancesInService: 12},
			atStart: 12, demand: measured, percent: "100", reason: "needs 13 ready pods for 100 % of 640 requests/s at 50 per pod, has 9",
		},
		{
			name: "and now, if it is more", spec: &v1alpha1.ShiftCapacity{MaxRequestsPerSecondPerPod: 50}, fleet: Fleet{ReadyPods: 9},
			demand: Demand{Now: 700, Peak: 640, Measured: time.Hour}, percent: "100", reason: "needs 14 ready pods for 100 % of 700 requests/s at 50 per pod, has 9",
		},
		{name: "no pod", fleet: Fleet{InstancesInService: 3}, atStart: 3, percent: "0.1", reason: "needs 1 ready pod, has 0"},
		{name: "0 % needs none", fleet: Fleet{Error: "no answer"}, percent: "0", ok: true, reason: "0 % needs no capacity"},
		{name: "too few ready", spec: &v1alpha1.ShiftCapacity{MinReadyPods: 2}, fleet: Fleet{ReadyPods: 1}, percent: "0.1", reason: "needs 2 ready pods, has 1"},
		{
			name: "load not measured", spec: &v1alpha1.ShiftCapacity{MaxRequestsPerSecondPerPod: 50}, fleet: Fleet{ReadyPods: 9},
			percent: "1", reason: "the requests per second of the Service are not measured yet",
		},
		{
			name: "autoscaler at its maximum", fleet: Fleet{ReadyPods: 9, Autoscaler: &Autoscaler{Name: "php-web", Current: 9, Maximum: 9}}, percent: "10",
			reason: "HorizontalPodAutoscaler php-web is at its maximum of 9 replicas: raise maxReplicas, or state what a pod carries in capacity.maxRequestsPerSecondPerPod",
		},
		{
			name: "autoscaler that wants more", fleet: Fleet{ReadyPods: 8, Autoscaler: &Autoscaler{Name: "php-web", Current: 8, Maximum: 9, Limited: true}}, percent: "10",
			reason: "HorizontalPodAutoscaler php-web wants more than its maximum of 9 replicas: raise maxReplicas, or state what a pod carries in capacity.maxRequestsPerSecondPerPod",
		},
		{
			name: "autoscaler at its maximum, and the stated capacity suffices", spec: &v1alpha1.ShiftCapacity{MaxRequestsPerSecondPerPod: 100},
			fleet: Fleet{ReadyPods: 9, Autoscaler: &Autoscaler{Name: "php-web", Current: 9, Minimum: 2, Maximum: 9}}, demand: measured, percent: "100",
			ok: true, reason: "9 ready pods, each with up to 71 requests/s; no more will come: HorizontalPodAutoscaler php-web is at its maximum of 9 replicas",
		},
		{
			name: "autoscaler at its maximum, and the stated capacity does not suffice", spec: &v1alpha1.ShiftCapacity{MaxRequestsPerSecondPerPod: 50},
			fleet: Fleet{ReadyPods: 9, Autoscaler: &Autoscaler{Name: "php-web", Current: 9, Minimum: 2, Maximum: 9}}, demand: measured, percent: "100",
			reason: "needs 13 ready pods for 100 % of 640 requests/s at 50 per pod, has 9; HorizontalPodAutoscaler php-web is at its maximum of 9 replicas: raise maxReplicas",
		},
		{
			name: "autoscaler that is fixed", fleet: Fleet{ReadyPods: 6, Autoscaler: &Autoscaler{Name: "php-web", Current: 6, Minimum: 6, Maximum: 6}},
			demand: measured, percent: "100", ok: true,
			reason: "6 ready pods, each with up to 110 requests/s; no more will come: HorizontalPodAutoscaler php-web is at its maximum of 6 replicas",
		},
		{
			name: "autoscaler that is fixed and wants more", fleet: Fleet{ReadyPods: 6, Autoscaler: &Autoscaler{Name: "php-web", Current: 6, Minimum: 6, Maximum: 6, Limited: true}},
			demand: measured, percent: "100", ok: true,
			reason: "6 ready pods, each with up to 110 requests/s; no more will come: HorizontalPodAutoscaler php-web wants more than its maximum of 6 replicas",
		},
		{
			name: "autoscaler with room", fleet: Fleet{ReadyPods: 8, Autoscaler: &Autoscaler{Name: "php-web", Current: 8, Maximum: 9}}, percent: "10",
			ok: true, reason: "8 ready pods, each with up to 0 requests/s",
		},
		{
			name: "the way back is gone", fleet: Fleet{ReadyPods: 8, InstancesInService: 11}, atStart: 12, percent: "10",
			reason: "needs 12 instances in service for the way back (100 % of the 12 that there were), has 11",
		},
		{
			name: "half a way back is asked for", spec: &v1alpha1.ShiftCapacity{KeepSourcePercent: keep(50)}, fleet: Fleet{ReadyPods: 8, InstancesInService: 6}, atStart: 11,
			percent: "10", ok: true, reason: "8 ready pods, each with up to 0 requests/s",
		},
		{
			name: "half a way back is rounded up", spec: &v1alpha1.ShiftCapacity{KeepSourcePercent: keep(50)}, fleet: Fleet{ReadyPods: 8, InstancesInService: 5}, atStart: 11,
			percent: "10", reason: "needs 6 instances in service for the way back (50 % of the 11 that there were), has 5",
		},
		{
			name: "no way back is asked for", spec: &v1alpha1.ShiftCapacity{KeepSourcePercent: keep(0)}, fleet: Fleet{ReadyPods: 8}, atStart: 11,
			percent: "10", ok: true, reason: "8 ready pods, each with up to 0 requests/s",
		},
		{
			name: "all that is missing", spec: &v1alpha1.ShiftCapacity{MinReadyPods: 4}, fleet: Fleet{ReadyPods: 3, InstancesInService: 1}, atStart: 2, percent: "10",
			reason: "needs 4 ready pods, has 3; needs 2 instances in service for the way back (100 % of the 2 that there were), has 1",
		},
		{name: "not known", fleet: Fleet{ReadyPods: 8, Error: "autoscaling: RequestLimitExceeded"}, percent: "10", reason: "capacity is not known: autoscaling: RequestLimitExceeded"},
		{name: "not a number", percent: "many", reason: `percent "many" is not a number`},
		{
			name: "to instances", direction: v1alpha1.PodsToInstances, spec: &v1alpha1.ShiftCapacity{MinReadyPods: 4}, fleet: Fleet{InstancesInService: 1}, percent: "10",
			ok: true, reason: "1 instance in service",
		},
		{name: "to no instances", direction: v1alpha1.PodsToInstances, fleet: Fleet{ReadyPods: 5}, percent: "10", reason: "needs an instance in service, has none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, Room{OK: c.ok, Reason: c.reason}, RoomFor(c.spec, c.direction, c.atStart, c.fleet, c.demand, c.percent))
		})
	}
}

// TestRoomForIsMonotone finds room for less wherever it finds room for more.
func TestRoomForIsMonotone(t *testing.T) {
	t.Parallel()
	spec := &v1alpha1.ShiftCapacity{MinReadyPods: 2, MaxRequestsPerSecondPerPod: 7}
	for pods := range 40 {
		room := true
		for _, percent := range []v1alpha1.Percent{"0", "0.01", "1", "10", "25", "50", "99.99", "100"} {
			r := RoomFor(spec, v1alpha1.InstancesToPods, 3, Fleet{ReadyPods: pods, InstancesInService: 3}, Demand{Now: 200, Measured: time.Minute}, percent)
			require.False(t, r.OK && !room, "%d pods, %s %%", pods, percent)
			room = r.OK
		}
	}
}
