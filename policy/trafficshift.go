package policy

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// ShiftOf returns the TrafficShift that is in charge of a Service's shares, and
// what it makes of the Service. Both are nil while there is none; the Shift
// alone is nil once it has completed. It reads the tables Services, Objects,
// ShiftStates, Homes and InstanceGroups.
//
// Of several TrafficShifts the oldest is in charge, of equals the first by
// name, and it stays so while it is being deleted: until its finalizer goes,
// its status says where the traffic is.
func ShiftOf(r catalog.Reader, service discovery.Key) (*discovery.Object, *Shift) {
	svc, ok := catalog.Services.Get(r, service.String())
	if !ok {
		return nil, nil
	}
	d := divisionOf(r, svc)
	return d.object, d.shift
}

// division is how the traffic of a Service is divided between its backings.
type division struct {
	// home and because are HomeOf's.
	home    discovery.Platform
	because string
	// pods is their part in millionths.
	pods uint32
	// unknown says why that is a guess, "" if it is none: neither the home is known nor, if
	// there is one, how far the TrafficShift has come.
	unknown string
	// object is the TrafficShift in charge, nil for none, and shift what it
	// makes of the Service, nil once it has completed.
	object *discovery.Object
	shift  *Shift
	// stated is what the Service's annotation says of failover.
	stated string
}

// divisionOf returns how the traffic of a Service is divided: all of it is at
// home, unless a TrafficShift says otherwise.
func divisionOf(r catalog.Reader, svc *discovery.Service) division {
	d := division{stated: svc.Failover}
	d.home, d.because = HomeOf(r, svc)
	d.pods, d.unknown = sideShare(d.home, ShareTotal), UnknownHome(r, svc)
	shifts := shiftsOf(r, svc.Key)
	if len(shifts) == 0 {
		return d
	}
	d.object = shifts[0]
	spec := &d.object.Spec.(*v1alpha1.TrafficShift).Spec
	status := statusOfShift(r, d.object)
	target := movedTo(spec, status)
	pinned, isPinned := Millionths(spec.Pin)
	share, isMoving := Millionths(status.Percent)
	if state, ok := catalog.ShiftStates.Get(r, d.object.Key.String()); ok && state.Unknown != "" {
		d.unknown = state.Unknown
	}
	switch {
	case isPinned:
		d.pods, d.unknown = sideShare(target, pinned), ""
	case status.Phase == v1alpha1.ShiftCompleted:
		// The home is recorded by now, but another replica may see the record
		// later than the status: what has moved must not move back meanwhile.
		// Where the status does not say what it is about, that is the spec that it observed.
		if status.Direction != "" || status.ObservedGeneration != 0 && status.ObservedGeneration == d.object.Generation {
			d.pods, d.unknown = sideShare(target, ShareTotal), ""
		}
		return d
	case isMoving && (share > 0 || begun(status)):
		d.pods, d.unknown = sideShare(target, share), ""
	}
	d.shift = &Shift{Object: d.object.Name(), Pods: d.pods, Cohort: cohortOf(spec.Cohort)}
	if !isPinned {
		d.shift.Shadow = shadowOf(target, status)
	}
	return d
}

// shiftsOf returns the TrafficShifts of a Service by who is in charge.
func shiftsOf(r catalog.Reader, service discovery.Key) []*discovery.Object {
	return policiesOf(r, discovery.KindTrafficShift, discovery.ObjectName{Kind: discovery.KindService, Key: service})
}

// statusOfShift returns how far a TrafficShift has come: nowhere, as long as
// nobody has said so.
func statusOfShift(r catalog.Reader, o *discovery.Object) *v1alpha1.TrafficShiftStatus {
	state, ok := catalog.ShiftStates.Get(r, o.Key.String())
	uid := string(o.Spec.(*v1alpha1.TrafficShift).UID)
	// A state is not about an object of the same name that came later.
	if !ok || state.Status == nil || state.UID != "" && uid != "" && state.UID != uid {
		return &v1alpha1.TrafficShiftStatus{}
	}
	return state.Status
}

// TargetOf returns the backing that a TrafficShift moves traffic to.
func TargetOf(spec *v1alpha1.TrafficShiftSpec) discovery.Platform {
	if spec.Direction == v1alpha1.PodsToInstances {
		return discovery.Instances
	}
	return discovery.Pods
}

// movedTo returns the backing that a status is about: a spec that turns round
// must not turn the shares with it.
func movedTo(spec *v1alpha1.TrafficShiftSpec, status *v1alpha1.TrafficShiftStatus) discovery.Platform {
	return TargetOf(&v1alpha1.TrafficShiftSpec{Direction: cmp.Or(status.Direction, spec.Direction)})
}

// begun reports whether a shift that has nothing is one that says so. Until
// then all traffic is at home, even where home is the backing that it should be
// moved to.
func begun(status *v1alpha1.TrafficShiftStatus) bool {
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

// sideShare returns the pods' share where a backing has the given one.
func sideShare(of discovery.Platform, share uint32) uint32 {
	if of == discovery.Pods {
		return share
	}
	return ShareTotal - share
}

// Millionths returns a percentage in millionths of the whole, false for one
// that is not given. The schema admits nothing else than a number.
func Millionths(p v1alpha1.Percent) (uint32, bool) {
	whole, places, _ := strings.Cut(string(p), ".")
	n, err := strconv.ParseUint(whole+(places + "00")[:2], 10, 32)
	if p == "" || err != nil {
		return 0, false
	}
	return uint32(min(n, 10_000)) * (ShareTotal / 10_000), true
}

func cohortOf(c *v1alpha1.ShiftCohort) *Cohort {
	switch {
	case c == nil || c.Cookie == nil && c.Header == "":
		return nil
	case c.Cookie == nil:
		return &Cohort{Header: strings.ToLower(c.Header)}
	}
	out := &Cohort{Cookie: c.Cookie.Name}
	if c.Cookie.TTL != nil {
		out.TTL = c.Cookie.TTL.Duration
	}
	return out
}

// shadowOf returns which requests a status says are copied, nil for none.
func shadowOf(target discovery.Platform, status *v1alpha1.TrafficShiftStatus) *Shadow {
	share, _ := Millionths(status.ShadowPercent)
	if share == 0 || len(status.ShadowMethods) == 0 {
		return nil
	}
	out := &Shadow{To: target, Share: share}
	for _, m := range status.ShadowMethods {
		out.Methods = append(out.Methods, string(m))
	}
	slices.Sort(out.Methods)
	out.Methods = slices.Compact(out.Methods)
	return out
}

// ref names the TrafficShift as what something comes from.
func (s *Shift) ref() discovery.ObjectRef {
	return discovery.ObjectRef{Kind: s.Object.Kind, Key: s.Object.Key}
}

// routedBy is what the mesh reads of a status. Whatever else a status says
// changes often and moves no request.
type routedBy struct {
	uid, direction, percent, shadow, methods, unknown string
	begun, completed                                  bool
	generation                                        int64
}

func routedByOf(s *discovery.ShiftState) routedBy {
	if s == nil || s.Status == nil {
		return routedBy{}
	}
	out := routedBy{
		unknown: s.Unknown,
		uid:     s.UID, direction: string(s.Status.Direction), percent: string(s.Status.Percent), shadow: string(s.Status.ShadowPercent),
		begun: begun(s.Status), completed: s.Status.Phase == v1alpha1.ShiftCompleted,
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

// touchedByState yields the Service whose TrafficShift has come further, if
// that moves any request.
func touchedByState(r catalog.Reader, before, after any, yield func(Unit)) {
	old, _ := before.(*discovery.ShiftState)
	now, _ := after.(*discovery.ShiftState)
	row := now
	if row == nil {
		row = old
	}
	if row == nil || routedByOf(old) == routedByOf(now) {
		return
	}
	if o, ok := catalog.Objects.Get(r, discovery.ObjectName{Kind: discovery.KindTrafficShift, Key: row.Key}.String()); ok {
		yield(serviceUnit(shiftedService(o)))
	}
}

// shiftedService returns the Service that a TrafficShift is about.
func shiftedService(o *discovery.Object) discovery.Key {
	return discovery.Key{Namespace: o.Namespace, Name: o.Spec.(*v1alpha1.TrafficShift).Spec.ServiceRef.Name}
}
