package equivalence

import (
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/explain"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Cookies that tell users apart: the mesh's own, of the cases' Services, and the
// application's, of the fixture's.
const (
	meshCookie  = "causeway"
	theirCookie = "uid"
)

// shiftRows returns a TrafficShift with its status as rows.
func shiftRows(scope string, s *v1alpha1.TrafficShift) (*discovery.Object, *discovery.ShiftState) {
	key := discovery.Key{Namespace: s.Namespace, Name: s.Name}
	return &discovery.Object{
		Scope: scope, Kind: "TrafficShift", Key: key, Spec: s,
		Refs: []discovery.ObjectName{{Kind: "Service", Key: discovery.Key{Namespace: s.Namespace, Name: s.Spec.ServiceRef.Name}}},
	}, &discovery.ShiftState{Scope: scope, Key: key, Status: &s.Status}
}

// fixtureShift moves web/php, which routes name as a backend.
func fixtureShift() *v1alpha1.TrafficShift {
	s := &v1alpha1.TrafficShift{ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "php"}}
	s.Spec.ServiceRef.Name = "php"
	s.Spec.Cohort = &v1alpha1.ShiftCohort{Cookie: &v1alpha1.ShiftCookie{Name: theirCookie}}
	s.Status = v1alpha1.TrafficShiftStatus{
		Phase: v1alpha1.ShiftShifting, Percent: "40", ShadowPercent: "50", ShadowMethods: []v1alpha1.ShiftMethod{"GET", "PUT"},
	}
	return s
}

// shift draws a TrafficShift of the case's own Service, nil for none.
func (g generator) shift(c *routeCase) *v1alpha1.TrafficShift {
	if !c.instances || g.chance(40) {
		return nil
	}
	s := &v1alpha1.TrafficShift{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace}}
	s.Spec.Direction = pick(g, v1alpha1.InstancesToPods, v1alpha1.PodsToInstances)
	s.Spec.Cohort = pick(g, nil, &v1alpha1.ShiftCohort{Header: "X-User"},
		&v1alpha1.ShiftCohort{Cookie: &v1alpha1.ShiftCookie{Name: meshCookie, TTL: &metav1.Duration{Duration: time.Hour}}},
		&v1alpha1.ShiftCohort{Cookie: &v1alpha1.ShiftCookie{Name: meshCookie, TTL: &metav1.Duration{Duration: time.Hour}}})
	s.Status = v1alpha1.TrafficShiftStatus{Phase: v1alpha1.ShiftShifting, Percent: pick[v1alpha1.Percent](g, "0", "10", "50", "100")}
	if g.chance(30) {
		s.Status.ShadowPercent, s.Status.ShadowMethods = "10", []v1alpha1.ShiftMethod{"GET", "POST"}
	}
	return s
}

// user adds what tells users apart, and request ids that can and cannot become cookies.
func (g generator) user(r *request) {
	add := func(name, value string) { r.Headers = append(r.Headers, explain.Header{Name: name, Value: value}) }
	if g.chance(60) {
		add("Cookie", pick(g, "uid=7", "uid=8; causeway=u1", "causeway=u2;uid=9", "a=b", "causeway=", `a=b; causeway="u3"`, "xcauseway=u4; uid=", "causeway=u5; causeway=u6"))
	}
	if g.chance(10) {
		add("cookie", pick(g, "uid=10", "causeway=u7"))
	}
	if g.chance(30) {
		add("X-User", pick(g, "1", "2", "3", ""))
	}
	if g.chance(10) {
		add("x-user", pick(g, "4", "5"))
	}
	if g.chance(25) {
		add("X-Request-Id", pick(g, "short", "0123456789abcdef", "e7a5c2d4-0000-4000-8000-00000000000"+pick(g, "1", "2", "3"), "0123456789abcdef; Domain=x", ""))
	}
}

// chosen returns the backends that a request may go to: where the evaluator says
// which side its user is on, that one alone.
func chosen(e *explain.Explanation) []explain.Backend {
	if e.Cohort == nil || e.Cohort.Position == nil {
		return e.Backends
	}
	at := *e.Cohort.Position
	for i := range e.Backends {
		b := e.Backends[i]
		if at < b.Interval.Begin || at >= b.Interval.End {
			continue
		}
		b.Targets = slices.DeleteFunc(slices.Clone(b.Targets), func(t explain.Target) bool { return at < t.Interval.Begin || at >= t.Interval.End })
		return []explain.Backend{b}
	}
	return nil
}
