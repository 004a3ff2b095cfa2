package upstream

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/effective"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// ShiftOf returns the TrafficShift that is in charge of a Service's shares, and
// what it makes of the Service. Both are nil while there is none; the Shift
// alone is nil once it has completed. It reads the tables Services, Objects,
// ShiftStates, Homes, InstanceGroups and Sources.
//
// Of several TrafficShifts the oldest is in charge, of equals the first by
// name, and it stays so while it is being deleted: until its finalizer goes,
// its status says where the traffic is.
func ShiftOf(r catalog.Reader, service discovery.Key) (*discovery.Object, *policy.Shift) {
	svc, ok := catalog.Services.Get(r, service.String())
	if !ok {
		return nil, nil
	}
	d := DivisionOf(r, svc)
	return d.Object, d.Shift
}

// Division is how the traffic of a Service is divided between its backings.
type Division struct {
	// home and because are HomeOf's.
	Home    discovery.BackingName
	Because string
	// to has share, in millionths, and from the rest.
	to, from discovery.BackingName
	share    uint32
	// unknown says why that is a guess, "" if it is none: neither the home is known nor, if
	// there is one, how far the TrafficShift has come.
	Unknown string
	// object is the TrafficShift in charge, nil for none, and shift what it
	// makes of the Service, nil once it has completed.
	Object *discovery.Object
	Shift  *policy.Shift
	// stated is what the Service's annotation says of failover.
	stated string
}

// DivisionOf returns how the traffic of a Service is divided: all of it goes
// home, unless a TrafficShift says otherwise.
func DivisionOf(r catalog.Reader, svc *discovery.Service) Division {
	d := Division{stated: svc.Failover}
	d.Home, d.Because = HomeOf(r, svc)
	d.to, d.share, d.Unknown = d.Home, policy.ShareTotal, UnknownHome(r, svc)
	shifts := ShiftsOf(r, svc.Key)
	if len(shifts) == 0 {
		// One that is under way has the traffic, whatever the home is.
		d.Unknown = cmp.Or(d.Unknown, effective.Unread(r, discovery.KindTrafficShift, policy.ServiceUnit(svc.Key)))
		return d
	}
	d.Object = shifts[0]
	spec := &d.Object.Spec.(*v1alpha1.TrafficShift).Spec
	status := StatusOfShift(r, d.Object)
	from, to := MovedBetween(spec, status)
	move := func(share uint32) { d.from, d.to, d.share, d.Unknown = from, to, share, "" }
	pinned, isPinned := Millionths(spec.Pin)
	share, isMoving := Millionths(status.Percent)
	if state, ok := catalog.ShiftStates.Get(r, d.Object.Key.String()); ok && state.Unknown != "" {
		d.Unknown = state.Unknown
	}
	switch {
	case isPinned:
		move(pinned)
	case status.Phase == v1alpha1.ShiftCompleted:
		// The home is recorded by now, but another replica may see the record later than the
		// status: moved traffic must not move back meanwhile. If the status does not say
		// what it is about, it is about the spec that it observed.
		if status.Direction != "" || status.ObservedGeneration != 0 && status.ObservedGeneration == d.Object.Generation {
			move(policy.ShareTotal)
		}
		return d
	case isMoving && (share > 0 || Begun(status)):
		move(share)
	}
	d.Shift = &policy.Shift{Object: d.Object.Name(), From: from, To: to, Share: d.ShareOf(to), Cohort: CohortOf(spec.Cohort)}
	if !isPinned {
		d.Shift.Shadow = shadowOf(from, to, status)
	}
	return d
}

// ShiftsOf returns the TrafficShifts of a Service by who is in charge.
func ShiftsOf(r catalog.Reader, service discovery.Key) []*discovery.Object {
	return effective.PoliciesOf(r, discovery.KindTrafficShift, discovery.ObjectName{Kind: discovery.KindService, Key: service})
}

// StatusOfShift returns how far a TrafficShift has come: nowhere, as long as
// nobody has said so.
func StatusOfShift(r catalog.Reader, o *discovery.Object) *v1alpha1.TrafficShiftStatus {
	state, ok := catalog.ShiftStates.Get(r, o.Key.String())
	uid := string(o.Spec.(*v1alpha1.TrafficShift).UID)
	// A state is not about an object of the same name that came later.
	if !ok || state.Status == nil || state.UID != "" && uid != "" && state.UID != uid {
		return &v1alpha1.TrafficShiftStatus{}
	}
	return state.Status
}

// ShareOf returns the part of the traffic that a backing has, in millionths.
func (d *Division) ShareOf(backing discovery.BackingName) uint32 {
	switch backing {
	case d.to:
		return d.share
	case d.from:
		return policy.ShareTotal - d.share
	}
	return 0
}

// backings adds the backings that the traffic is divided between, and those that a shift under way moves it between.
func (d *Division) backings(out []discovery.BackingName) []discovery.BackingName {
	out = append(out, d.Home, d.to)
	if d.share < policy.ShareTotal {
		out = append(out, d.from)
	}
	if d.Shift != nil {
		out = append(out, d.Shift.From, d.Shift.To)
	}
	return out
}

// MovedBetween returns the backings that a status is about: a spec that turns round
// must not turn the shares with it.
func MovedBetween(spec *v1alpha1.TrafficShiftSpec, status *v1alpha1.TrafficShiftStatus) (from, to discovery.BackingName) {
	return policy.FromTo(cmp.Or(status.Direction, spec.Direction))
}

// Begun reports whether a shift that has nothing is one that says so. Until
// then all traffic is at home, even where home is the backing that it should be
// moved to.
func Begun(status *v1alpha1.TrafficShiftStatus) bool {
	if status.Direction == "" {
		return false // whoever has it all without it is not known
	}
	switch status.Phase {
	case "", v1alpha1.ShiftPending:
		return false
	case v1alpha1.ShiftRollingBack, v1alpha1.ShiftRolledBack:
		return true
	case v1alpha1.ShiftShadowing, v1alpha1.ShiftShifting, v1alpha1.ShiftAwaitingApproval, v1alpha1.ShiftSoaking,
		v1alpha1.ShiftCompleted, v1alpha1.ShiftPaused:
	}
	return status.Step >= 0 || status.RolledBack
}

// Millionths returns a percentage in millionths of the whole, false for one
// that is not given. The schema admits nothing else than a number.
func Millionths(p v1alpha1.Percent) (uint32, bool) {
	whole, places, _ := strings.Cut(string(p), ".")
	n, err := strconv.ParseUint(whole+(places + "00")[:2], 10, 32)
	if p == "" || err != nil {
		return 0, false
	}
	return uint32(min(n, 10_000)) * (policy.ShareTotal / 10_000), true
}

// CohortOf returns which requests move together by a TrafficShift, nil for each on its own.
func CohortOf(c *v1alpha1.ShiftCohort) *policy.Cohort {
	switch {
	case c == nil || c.Cookie == nil && c.Header == "":
		return nil
	case c.Cookie == nil:
		return &policy.Cohort{Header: strings.ToLower(c.Header)}
	}
	out := &policy.Cohort{Cookie: c.Cookie.Name}
	if c.Cookie.TTL != nil {
		out.TTL = c.Cookie.TTL.Duration
	}
	return out
}

// shadowOf returns which requests a status says are copied, nil for none.
func shadowOf(from, to discovery.BackingName, status *v1alpha1.TrafficShiftStatus) *policy.Shadow {
	share, _ := Millionths(status.ShadowPercent)
	if share == 0 || len(status.ShadowMethods) == 0 {
		return nil
	}
	out := &policy.Shadow{From: from, To: to, Share: share}
	for _, m := range status.ShadowMethods {
		out.Methods = append(out.Methods, string(m))
	}
	slices.Sort(out.Methods)
	out.Methods = slices.Compact(out.Methods)
	return out
}

// RoutedBy is what the mesh reads of a status. Whatever else a status says
// changes often and moves no request.
type RoutedBy struct {
	uid, direction, percent, shadow, methods, unknown string
	begun, completed                                  bool
	generation                                        int64
}

// RoutedByOf returns what the mesh reads of a TrafficShift's status.
func RoutedByOf(s *discovery.ShiftState) RoutedBy {
	if s == nil || s.Status == nil {
		return RoutedBy{}
	}
	out := RoutedBy{
		unknown: s.Unknown,
		uid:     s.UID, direction: string(s.Status.Direction), percent: string(s.Status.Percent), shadow: string(s.Status.ShadowPercent),
		begun: Begun(s.Status), completed: s.Status.Phase == v1alpha1.ShiftCompleted,
	}
	if out.completed {
		out.generation = s.Status.ObservedGeneration
	}
	methods := make([]string, len(s.Status.ShadowMethods))
	for i, m := range s.Status.ShadowMethods {
		methods[i] = string(m)
	}
	slices.Sort(methods)
	out.methods = strings.Join(methods, " ")
	return out
}

// ShiftedService returns the Service that a TrafficShift is about.
func ShiftedService(o *discovery.Object) discovery.Key {
	return discovery.Key{Namespace: o.Namespace, Name: o.Spec.(*v1alpha1.TrafficShift).Spec.ServiceRef.Name}
}
