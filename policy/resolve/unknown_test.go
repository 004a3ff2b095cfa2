package resolve

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/upstream"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// A home that was recorded and cannot be read is not guessed, not recorded, and told;
// an annotation states it.
func TestUnknownHome(t *testing.T) {
	svc := service(http80)
	in := rows{services: []*discovery.Service{svc}, homes: []*discovery.Home{{Key: svc.Key, Unknown: "homes.state is cut"}}}
	r := in.reader(t)
	m := BuildService(r, svc.Key)
	require.Equal(t, "homes.state is cut", m.Unknown)
	require.Len(t, m.Ports[0].Backings, 2, "no backing is taken away while nobody knows who has the traffic")
	require.Empty(t, upstream.UnrecordedHomes(r))
	require.NotEqual(t, m.Shape(), BuildService((&rows{services: in.services}).reader(t), svc.Key).Shape(), "routes of others must hear of it")
	_, because := upstream.HomeOf(r, svc)
	require.Contains(t, because, "a guess, and no traffic goes by it: the recorded home cannot be read: homes.state is cut")
	var told []policy.Finding
	for _, f := range Validate(r) {
		if f.Reason == policy.ReasonUnknownHome {
			told = append(told, f)
		}
	}
	require.Len(t, told, 1)
	require.Equal(t, policy.Error, told[0].Severity)
	require.Equal(t, "Service "+svc.Key.String(), told[0].Object.String())

	stated := withHome(service(http80), upstream.HomePods)
	in.services = []*discovery.Service{stated}
	r = in.reader(t)
	require.Empty(t, BuildService(r, svc.Key).Unknown)
	require.Len(t, upstream.UnrecordedHomes(r), 1)
	require.Equal(t, discovery.Pods, upstream.UnrecordedHomes(r)[0].Platform)
}

// Who has the traffic of a shifted Service is what the TrafficShift's state says,
// whatever its home was; where the state cannot be read, nobody knows.
func TestUnknownShift(t *testing.T) {
	svc := service(http80)
	lost := []*discovery.Home{{Key: svc.Key, Unknown: "homes.state is cut"}}
	for name, c := range map[string]struct {
		homes   []*discovery.Home
		status  v1alpha1.TrafficShiftStatus
		lost    string
		pin     v1alpha1.Percent
		unknown string
	}{
		"under way":               {homes: lost, status: v1alpha1.TrafficShiftStatus{Phase: v1alpha1.ShiftShifting, Direction: v1alpha1.InstancesToPods, Percent: "10"}},
		"completed":               {homes: lost, status: v1alpha1.TrafficShiftStatus{Phase: v1alpha1.ShiftCompleted, Direction: v1alpha1.InstancesToPods, Percent: "100"}},
		"not begun":               {homes: lost, unknown: "homes.state is cut"},
		"not begun, home known":   {},
		"its state is not known":  {lost: "shifts.state is cut", unknown: "shifts.state is cut"},
		"neither, but it is held": {homes: lost, lost: "shifts.state is cut", pin: "10"},
	} {
		t.Run(name, func(t *testing.T) {
			o := shift("move", func(s *v1alpha1.TrafficShift) { s.Spec.Pin = c.pin })
			in := rows{services: []*discovery.Service{svc}, homes: c.homes, shifts: []*discovery.Object{o}, states: []*discovery.ShiftState{{Key: o.Key, Status: &c.status, Unknown: c.lost}}}
			r := in.reader(t)
			require.Equal(t, c.unknown, BuildService(r, svc.Key).Unknown)
			refused := false
			for _, f := range Validate(r) {
				refused = refused || f.Object.Kind == discovery.KindTrafficShift && f.Reason == policy.ReasonUnknownHome
			}
			require.Equal(t, c.unknown != "", refused, "a shift that does not know where the traffic is must not move it")
		})
	}
}
