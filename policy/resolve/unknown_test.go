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

// The home that a completed shift recorded, and that this version does not know, is not where the annotation
// from before the shift says: that does not count any more.
func TestUnknownHomeSupersedesTheAnnotation(t *testing.T) {
	t.Parallel()
	svc := withHome(service(http80), upstream.HomeInstances)
	in := rows{services: []*discovery.Service{svc}, homes: []*discovery.Home{{Key: svc.Key, Unknown: "no backing of this version", Supersedes: upstream.HomeInstances}}}
	r := in.reader(t)
	require.Equal(t, "no backing of this version", BuildService(r, svc.Key).Unknown)
	require.Empty(t, upstream.UnrecordedHomes(r), "a guess must not replace the record")
	for _, f := range Validate(r) {
		require.NotEqual(t, policy.ReasonSuperseded, f.Reason, f.Message)
	}

	in.services = []*discovery.Service{withHome(service(http80), upstream.HomePods)}
	require.Empty(t, BuildService(in.reader(t), svc.Key).Unknown, "one that was written since counts")
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

// What cannot be read is not gone: who has the traffic of a Service that an unreadable
// InstanceGroup or TrafficShift may be about is not known, and is not recorded.
func TestUnreadObjects(t *testing.T) {
	svc := service(http80)
	this := discovery.Unread{Key: discovery.Key{Namespace: svc.Namespace, Name: "odd"}, Targets: []discovery.ObjectName{policy.ServiceUnit(svc.Key)}, Why: "spec.ports: odd"}
	other, some, away := this, this, this
	other.Targets = []discovery.ObjectName{policy.ServiceUnit(discovery.Key{Namespace: svc.Namespace, Name: "other"})}
	away.Targets = []discovery.ObjectName{policy.ServiceUnit(discovery.Key{Namespace: "elsewhere", Name: svc.Name})}
	some.Targets, away.Namespace = nil, "elsewhere"
	recorded := []*discovery.Home{{Key: svc.Key, Platform: discovery.Instances, Because: "test"}}
	const groups, shifts = discovery.GroupsSource, discovery.ShiftsSource
	for name, c := range map[string]struct {
		source  string
		unread  []discovery.Unread
		all     string
		err     string
		homes   []*discovery.Home
		stated  string
		groups  []*discovery.InstanceGroup
		unknown string
		held    bool // no home is recorded
	}{
		"a group of this Service":           {source: groups, unread: []discovery.Unread{this}, unknown: "InstanceGroup cannot be read: web/odd: spec.ports: odd", held: true},
		"a group of some Service":           {source: groups, unread: []discovery.Unread{some}, unknown: "InstanceGroup cannot be read: web/odd: spec.ports: odd", held: true},
		"a group of another Service":        {source: groups, unread: []discovery.Unread{other}},
		"a group of another namespace":      {source: groups, unread: []discovery.Unread{away}},
		"groups are not served":             {source: groups, all: "not served", unknown: "InstanceGroup cannot be read: not served", held: true},
		"a group, and the home is recorded": {source: groups, unread: []discovery.Unread{this}, homes: recorded, held: true},
		"a group, and the home is stated":   {source: groups, unread: []discovery.Unread{this}, stated: upstream.HomePods},
		"a group, and another can be read":  {source: groups, unread: []discovery.Unread{this}, groups: []*discovery.InstanceGroup{group("ec2", maps8080)}},
		"groups fail for now":               {source: groups, err: "the server could not find the requested resource", held: true},
		"a shift of this Service":           {source: shifts, unread: []discovery.Unread{this}, homes: recorded, unknown: "TrafficShift cannot be read: web/odd: spec.ports: odd", held: true},
		"a shift of another Service":        {source: shifts, unread: []discovery.Unread{other}, homes: recorded, held: true},
		"shifts are not served":             {source: shifts, all: "not served", homes: recorded, unknown: "TrafficShift cannot be read: not served", held: true},
		"a shift, and the home is stated":   {source: shifts, unread: []discovery.Unread{this}, stated: upstream.HomePods, unknown: "TrafficShift cannot be read: web/odd: spec.ports: odd"},
		"routes are not served, of no kind": {source: "kubernetes/httproutes", all: "not served"},
	} {
		t.Run(name, func(t *testing.T) {
			svc := service(http80)
			svc.Home = c.stated
			st := &discovery.SourceStatus{Name: c.source, Synced: true, Error: c.err, Unread: c.unread, UnreadAll: c.all}
			in := rows{services: []*discovery.Service{svc}, homes: c.homes, groups: c.groups, sources: []*discovery.SourceStatus{st}}
			r := in.reader(t)
			m := BuildService(r, svc.Key)
			require.Equal(t, c.unknown, m.Unknown)
			require.Equal(t, c.held, len(upstream.UnrecordedHomes(r)) == 0)
			in.sources = nil
			if before := BuildService(in.reader(t), svc.Key); before.Unknown != m.Unknown {
				var touched []policy.Unit
				Touched(r, nil, st, func(u policy.Unit) { touched = append(touched, u) })
				require.Equal(t, []policy.Unit{policy.ServiceUnit(svc.Key)}, touched, "it is compiled again")
			}
		})
	}
	in := rows{services: []*discovery.Service{svc}, homes: recorded, sources: []*discovery.SourceStatus{{Name: groups, Synced: true, Unread: []discovery.Unread{this}}}}
	b := BuildService(in.reader(t), svc.Key).Ports[0].Backings
	require.True(t, b[len(b)-1].Unknown, "instances that nobody has read are not none")
}
