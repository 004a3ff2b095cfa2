package resolve

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/upstream"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// shift returns a TrafficShift of the Service php-web, as f changes it.
func shift(name string, f func(*v1alpha1.TrafficShift)) *discovery.Object {
	t := &v1alpha1.TrafficShift{
		ObjectMeta: metav1.ObjectMeta{Namespace: web.Namespace, Name: name},
		Spec: v1alpha1.TrafficShiftSpec{
			ServiceRef: v1alpha1.ServiceReference{Name: web.Name}, Direction: v1alpha1.InstancesToPods,
			Steps: []v1alpha1.ShiftStep{{Percent: "10"}, {Percent: "100"}},
		},
	}
	if f != nil {
		f(t)
	}
	return &discovery.Object{
		Scope: "test", Kind: discovery.KindTrafficShift, Key: discovery.Key{Namespace: t.Namespace, Name: t.Name}, Generation: t.Generation,
		Created: t.CreationTimestamp.Time, Spec: t,
		Refs: []discovery.ObjectName{{Kind: discovery.KindService, Key: discovery.Key{Namespace: t.Namespace, Name: t.Spec.ServiceRef.Name}}},
	}
}

func state(name string, status v1alpha1.TrafficShiftStatus) *discovery.ShiftState {
	return &discovery.ShiftState{Scope: "test", Key: discovery.Key{Namespace: web.Namespace, Name: name}, Status: &status}
}

func shifting(percent v1alpha1.Percent) v1alpha1.TrafficShiftStatus {
	return v1alpha1.TrafficShiftStatus{Phase: v1alpha1.ShiftShifting, Percent: percent}
}

// onHome is a Service with pods and instances, one of which is its home.
func onHome(home discovery.BackingName) rows {
	return rows{
		services: []*discovery.Service{service(http80)},
		groups:   []*discovery.InstanceGroup{group("ec2", maps8080)},
		sets: []*discovery.EndpointSet{
			slice("s1", at8080, pod("a", "10.0.0.1", "z1", discovery.Healthy)),
			published("ec2", at8080, instance("i-1", "10.1.0.1", "z1", discovery.Healthy)),
		},
		homes: []*discovery.Home{{Key: web, Platform: home, Because: "a test says so"}},
	}
}

func TestShiftShares(t *testing.T) {
	t.Parallel()
	rolledBack := v1alpha1.TrafficShiftStatus{Phase: v1alpha1.ShiftRolledBack, Percent: "0", Step: -1, RolledBack: true, Direction: v1alpha1.InstancesToPods}
	for name, c := range map[string]struct {
		home   discovery.BackingName
		spec   func(*v1alpha1.TrafficShift)
		status *v1alpha1.TrafficShiftStatus
		want   uint32 // on pods
		gone   bool   // no Shift
	}{
		"nobody has looked at it yet":    {home: discovery.Instances, want: 0},
		"nor at one whose home is pods":  {home: discovery.Pods, want: policy.ShareTotal},
		"a hundredth of a percent":       {discovery.Instances, nil, new(shifting("0.01")), 100, false},
		"one place":                      {discovery.Instances, nil, new(shifting("0.1")), 1000, false},
		"half":                           {discovery.Instances, nil, new(shifting("50")), 500_000, false},
		"all, while it soaks":            {discovery.Instances, nil, new(shifting("100.00")), policy.ShareTotal, false},
		"rolled back":                    {discovery.Instances, nil, &rolledBack, 0, false},
		"rolled back with another home":  {discovery.Pods, nil, &rolledBack, 0, false},
		"rolled back, then turned round": {discovery.Instances, func(o *v1alpha1.TrafficShift) { o.Spec.Direction = v1alpha1.PodsToInstances }, &rolledBack, 0, false},
		"turned round in an older status": {
			discovery.Instances, func(o *v1alpha1.TrafficShift) { o.Spec.Direction = v1alpha1.PodsToInstances },
			&v1alpha1.TrafficShiftStatus{Phase: v1alpha1.ShiftRolledBack, Percent: "0", Step: -1, RolledBack: true}, 0, false,
		},
		"pending where nothing can move": {discovery.Pods, nil, &v1alpha1.TrafficShiftStatus{Phase: v1alpha1.ShiftPending, Percent: "0", Step: -1}, policy.ShareTotal, false},
		"paused before the first step":   {discovery.Pods, nil, &v1alpha1.TrafficShiftStatus{Phase: v1alpha1.ShiftPaused, Percent: "0", Step: -1}, policy.ShareTotal, false},
		"pending again with a share":     {discovery.Instances, nil, &v1alpha1.TrafficShiftStatus{Phase: v1alpha1.ShiftPending, Percent: "10", Step: 1}, 100_000, false},
		"the other direction":            {discovery.Pods, func(o *v1alpha1.TrafficShift) { o.Spec.Direction = v1alpha1.PodsToInstances }, new(shifting("10")), 900_000, false},
		"turned round, not yet by the status": {
			discovery.Instances, func(o *v1alpha1.TrafficShift) { o.Spec.Direction = v1alpha1.PodsToInstances },
			&v1alpha1.TrafficShiftStatus{Phase: v1alpha1.ShiftShifting, Direction: v1alpha1.InstancesToPods, Percent: "10"}, 100_000, false,
		},
		"pinned":           {discovery.Instances, func(o *v1alpha1.TrafficShift) { o.Spec.Pin = "7" }, new(shifting("50")), 70_000, false},
		"pinned to 0":      {discovery.Instances, func(o *v1alpha1.TrafficShift) { o.Spec.Pin = "0" }, new(shifting("50")), 0, false},
		"pinned, no state": {discovery.Instances, func(o *v1alpha1.TrafficShift) { o.Spec.Pin = "7" }, nil, 70_000, false},
		"completed, and the record is late": {
			discovery.Instances, nil,
			&v1alpha1.TrafficShiftStatus{Phase: v1alpha1.ShiftCompleted, Direction: v1alpha1.InstancesToPods, Percent: "100"}, policy.ShareTotal, true,
		},
		"completed, and turned round since": {
			discovery.Pods, func(o *v1alpha1.TrafficShift) { o.Spec.Direction = v1alpha1.PodsToInstances },
			&v1alpha1.TrafficShiftStatus{Phase: v1alpha1.ShiftCompleted, Direction: v1alpha1.InstancesToPods, Percent: "100"}, policy.ShareTotal, true,
		},
		"completed, as an older status says it": {
			discovery.Pods, nil, &v1alpha1.TrafficShiftStatus{Phase: v1alpha1.ShiftCompleted, Percent: "100"}, policy.ShareTotal, true,
		},
		"the status of an object that was here before": {
			discovery.Instances, func(o *v1alpha1.TrafficShift) { o.UID = types.UID("new") }, new(shifting("50")), 0, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := onHome(c.home)
			in.shifts = []*discovery.Object{shift("t", c.spec)}
			if c.status != nil {
				in.states = []*discovery.ShiftState{state("t", *c.status)}
				if in.shifts[0].Spec.(*v1alpha1.TrafficShift).UID != "" {
					in.states[0].UID = "old"
				}
			}
			m := BuildService(in.reader(t), web)
			require.Equal(t, []uint32{c.want, policy.ShareTotal - c.want}, m.Ports[0].Shares)
			require.Equal(t, c.gone, m.Shift == nil)
			if !c.gone {
				require.Equal(t, c.want, m.Shift.ShareOf(discovery.Pods))
				require.Contains(t, fmt.Sprint(m.Provenance), "TrafficShift web/t")
			}
			o, s := upstream.ShiftOf(in.reader(t), web)
			require.Equal(t, in.shifts[0], o)
			require.Equal(t, m.Shift, s)
		})
	}
}

func TestShiftCohortAndShadow(t *testing.T) {
	t.Parallel()
	in := onHome(discovery.Instances)
	in.shifts = []*discovery.Object{shift("t", func(o *v1alpha1.TrafficShift) {
		o.Spec.Cohort = &v1alpha1.ShiftCohort{Cookie: &v1alpha1.ShiftCookie{Name: "causeway", TTL: &metav1.Duration{Duration: time.Hour}}}
	})}
	status := shifting("0")
	status.ShadowPercent, status.ShadowMethods = "0.5", []v1alpha1.ShiftMethod{"HEAD", "GET", "HEAD"}
	in.states = []*discovery.ShiftState{state("t", status)}
	_, s := upstream.ShiftOf(in.reader(t), web)
	require.Equal(t, &policy.Cohort{Cookie: "causeway", TTL: time.Hour}, s.Cohort)
	require.Equal(t, &policy.Shadow{From: discovery.Instances, To: discovery.Pods, Share: 5000, Methods: []string{"GET", "HEAD"}}, s.Shadow)

	in.shifts[0].Spec.(*v1alpha1.TrafficShift).Spec.Cohort = &v1alpha1.ShiftCohort{Header: "X-User"}
	in.shifts[0].Spec.(*v1alpha1.TrafficShift).Spec.Pin = "5"
	_, s = upstream.ShiftOf(in.reader(t), web)
	require.Equal(t, &policy.Cohort{Header: "x-user"}, s.Cohort)
	require.Nil(t, s.Shadow, "a pinned shift stands still")
}

func TestOldestShiftIsInCharge(t *testing.T) {
	t.Parallel()
	at := func(second int64, deleting bool) func(*v1alpha1.TrafficShift) {
		return func(o *v1alpha1.TrafficShift) {
			o.CreationTimestamp = metav1.Unix(second, 0)
			if deleting {
				o.DeletionTimestamp = &o.CreationTimestamp
			}
		}
	}
	in := onHome(discovery.Instances)
	in.shifts = []*discovery.Object{shift("a", at(3, false)), shift("c", at(2, true)), shift("b", at(2, false))}
	in.states = []*discovery.ShiftState{state("a", shifting("10")), state("b", shifting("20")), state("c", shifting("30"))}
	require.Equal(t, uint32(200_000), BuildService(in.reader(t), web).Ports[0].Shares[0])
	in.shifts = in.shifts[:2]
	require.Equal(t, uint32(300_000), BuildService(in.reader(t), web).Ports[0].Shares[0], "one that is being deleted still counts")
	in.shifts = in.shifts[:1]
	require.Equal(t, uint32(100_000), BuildService(in.reader(t), web).Ports[0].Shares[0])
	require.Contains(t, acceptedOf(t, rows{
		services: in.services, groups: in.groups, sets: in.sets, homes: in.homes,
		shifts: []*discovery.Object{shift("a", at(3, false)), shift("b", at(2, false))},
	}, "a"), "TrafficShift web/b is older and is in charge of Service web/php-web")
}

// acceptedOf returns the condition Accepted of a TrafficShift as "Status/Reason: message".
func acceptedOf(t *testing.T, in rows, name string) string {
	t.Helper()
	r := in.reader(t)
	o, ok := catalog.Objects.Get(r, "TrafficShift web/"+name)
	require.True(t, ok)
	s, ok := StatusOf(r, o)
	require.True(t, ok)
	require.Len(t, s.Conditions, 2)
	c := s.Conditions[0]
	return fmt.Sprintf("%s/%s: %s", c.Status, c.Reason, c.Message)
}

// What CEL cannot see of a TrafficShift is said in its conditions.
func TestShiftFindings(t *testing.T) {
	t.Parallel()
	steps := func(percents ...v1alpha1.Percent) func(*v1alpha1.TrafficShift) {
		return func(o *v1alpha1.TrafficShift) {
			o.Spec.Steps = nil
			for _, p := range percents {
				o.Spec.Steps = append(o.Spec.Steps, v1alpha1.ShiftStep{Percent: p, Hold: &metav1.Duration{Duration: time.Hour}})
			}
		}
	}
	cookie := func(name string, ttl time.Duration) func(*v1alpha1.TrafficShift) {
		return func(o *v1alpha1.TrafficShift) {
			steps("10", "100")(o)
			o.Spec.Cohort = &v1alpha1.ShiftCohort{Cookie: &v1alpha1.ShiftCookie{Name: name}}
			if ttl > 0 {
				o.Spec.Cohort.Cookie.TTL = &metav1.Duration{Duration: ttl}
			}
		}
	}
	header := func(o *v1alpha1.TrafficShift) { o.Spec.Cohort = &v1alpha1.ShiftCohort{Header: "x-user"} }
	tcp := func(in *rows) {
		in.services[0].Ports = []discovery.ServicePort{{Name: "mysql", Port: 3306}}
	}
	policy := func(s v1alpha1.TrafficSettings) func(*rows) {
		return func(in *rows) {
			in.shifts = append(in.shifts, &discovery.Object{
				Kind: discovery.KindTrafficPolicy, Key: discovery.Key{Namespace: "web", Name: "p"},
				Spec: &v1alpha1.TrafficPolicy{Spec: v1alpha1.TrafficPolicySpec{
					TargetRefs: []v1alpha1.TargetReference{{Kind: "Service", Name: web.Name}}, TrafficSettings: s,
				}},
				Refs: []discovery.ObjectName{{Kind: discovery.KindService, Key: web}},
			})
		}
	}
	for name, c := range map[string]struct {
		spec  func(*v1alpha1.TrafficShift)
		world func(*rows)
		want  string // of Accepted
		refs  string // of ResolvedRefs, "" for True
	}{
		"all is well":       {steps("0.1", "10", "100"), nil, "True/Accepted: the object is valid and in charge of the Service's shares", ""},
		"no Service":        {nil, func(in *rows) { in.services = nil }, "False/TargetNotFound: spec.serviceRef.name: there is no Service web/php-web", "False/BackendNotFound"},
		"no pods":           {nil, func(in *rows) { in.sets = in.sets[1:] }, "True/Accepted", "has no pods, which traffic is to move to: deploy them"},
		"no instances":      {nil, func(in *rows) { in.groups, in.sets = nil, in.sets[:1] }, "True/Accepted", "has no instances, which traffic is to move from: attach them with an InstanceGroup"},
		"nothing to move":   {func(o *v1alpha1.TrafficShift) { o.Spec.Direction = v1alpha1.PodsToInstances }, nil, "False/Invalid: spec.direction: the instances are the home of Service web/php-web already (recorded earlier: a test says so), so there is nothing to move: state direction: InstancesToPods", ""},
		"steps that fall":   {steps("1", "10", "5", "100"), nil, "False/Invalid: spec.steps[2].percent: 5 is not more than what spec.steps[1] has", ""},
		"a step that stays": {steps("10", "10.00", "100"), nil, "False/Invalid: spec.steps[1].percent: 10.00 is not more than what spec.steps[0] has", ""},
		"a step of nothing": {steps("0", "100"), nil, "False/Invalid: spec.steps[0].percent: 0 is where every shift begins", ""},
		"an end below 100":  {steps("1", "50"), nil, "True/Accepted: spec.steps: the last step has less than 100 percent", ""},
		"a shadow and no more": {func(o *v1alpha1.TrafficShift) {
			o.Spec.Steps = []v1alpha1.ShiftStep{{Shadow: &v1alpha1.ShiftShadow{Percent: "5"}}}
		}, nil, "True/Accepted: spec.steps: no step has a percent", ""},
		"the session's cookie":          {cookie("PHPSESSID", 0), nil, "True/Accepted: spec.cohort.cookie.name: PHPSESSID is a session's cookie: the application renews it", ""},
		"a session's cookie of our own": {cookie("JSessionId", 720*time.Hour), nil, "the application would take it for a session", ""},
		"a cookie that ends early":      {cookie("causeway", time.Hour), nil, "spec.cohort.cookie.ttl: the cookie ends after 1h0m0s while the steps hold for 2h0m0s", ""},
		"a cohort of connections":       {header, tcp, "False/Invalid: spec.cohort: no port of Service web/php-web is HTTP", ""},
		"a shadow of connections":       {func(o *v1alpha1.TrafficShift) { o.Spec.Steps[0] = v1alpha1.ShiftStep{Shadow: &v1alpha1.ShiftShadow{}} }, tcp, "False/Invalid: spec.steps[0].shadow: no port", ""},
		"a latency of connections":      {func(o *v1alpha1.TrafficShift) { o.Spec.Guard.Latency = &v1alpha1.ShiftLatency{} }, tcp, "True/Accepted: spec.guard.latency", ""},
		"hashed by something else": {
			header, policy(v1alpha1.TrafficSettings{LoadBalancer: &v1alpha1.LoadBalancer{Algorithm: v1alpha1.Maglev, Hash: &v1alpha1.HashKey{Source: new(true)}}}),
			"True/Accepted: spec.cohort: TrafficPolicy web/p has requests to port 80 hashed by another key", "",
		},
		"callers at one endpoint": {
			header, func(in *rows) { in.services[0].ClientIP = true },
			"sessionAffinity: ClientIP: while the shift is under way the cohort's key chooses the endpoint of port 80, not the caller's address", "",
		},
		"hashed by the same": {
			header, policy(v1alpha1.TrafficSettings{LoadBalancer: &v1alpha1.LoadBalancer{Algorithm: v1alpha1.Maglev, Hash: &v1alpha1.HashKey{Header: "X-User"}}}),
			"True/Accepted: the object is valid", "",
		},
		"connections treated by their InstanceGroup": {
			nil, func(in *rows) {
				tcp(in)
				policy(v1alpha1.TrafficSettings{Timeout: &v1alpha1.Timeout{Connect: &metav1.Duration{Duration: time.Second}}})(in)
				ec2 := discovery.ObjectName{Kind: discovery.KindInstanceGroup, Key: discovery.Key{Namespace: "web", Name: "ec2"}}
				p := in.shifts[len(in.shifts)-1]
				p.Refs = []discovery.ObjectName{ec2}
				p.Spec.(*v1alpha1.TrafficPolicy).Spec.TargetRefs = []v1alpha1.TargetReference{{Group: v1alpha1.Group, Kind: discovery.KindInstanceGroup, Name: "ec2"}}
			}, "port 3306 is not HTTP, so what TrafficPolicy web/p says of timeout.connect to an InstanceGroup does not hold", "",
		},
		"sessions with a cohort": {header, policy(v1alpha1.TrafficSettings{SessionPersistence: &gatewayv1.SessionPersistence{}}), "sessions stay until a step moves their user", ""},
		"sessions without":       {nil, policy(v1alpha1.TrafficSettings{SessionPersistence: &gatewayv1.SessionPersistence{}}), "a client's next request may go to the other side", ""},
		"completed, and its Service's home changed since": {
			nil, func(in *rows) {
				in.states = []*discovery.ShiftState{state("t", v1alpha1.TrafficShiftStatus{Phase: v1alpha1.ShiftCompleted, Direction: v1alpha1.InstancesToPods, Percent: "100"})}
			}, "True/Accepted: spec.serviceRef: it has completed and keeps all traffic with the pods, although the instances are the Service's home", "",
		},
		"pinned": {func(o *v1alpha1.TrafficShift) { o.Spec.Pin = "5" }, nil, "True/Accepted: spec.pin: the pods have 5% whatever", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := onHome(discovery.Instances)
			in.shifts = []*discovery.Object{shift("t", c.spec)}
			if c.world != nil {
				c.world(&in)
			}
			require.Contains(t, acceptedOf(t, in, "t"), c.want)
			r := in.reader(t)
			s, _ := StatusOf(r, in.shifts[0])
			refs := s.Conditions[1]
			if c.refs == "" {
				require.Equal(t, metav1.ConditionTrue, refs.Status)
				require.Equal(t, "the Service exists, and has pods and instances", refs.Message)
			} else {
				require.Contains(t, fmt.Sprintf("%s/%s: %s", refs.Status, refs.Reason, refs.Message), c.refs)
			}
			for _, f := range Validate(r) {
				require.NotEmpty(t, f.Remedy, f.Message)
			}
		})
	}
}

// A Service's home is what a completed shift has recorded, as long as the
// annotation still says what the shift found.
func TestSupersedingHome(t *testing.T) {
	t.Parallel()
	in := onHome(discovery.Pods)
	in.homes[0].Supersedes, in.homes[0].Because = upstream.HomeInstances, "TrafficShift web/t has completed"
	annotated := func(home string) catalog.Reader {
		in.services = []*discovery.Service{withHome(service(http80), home)}
		return in.reader(t)
	}
	home := func(r catalog.Reader) discovery.BackingName {
		svc, _ := catalog.Services.Get(r, web.String())
		h, _ := upstream.HomeOf(r, svc)
		return h
	}
	r := annotated(upstream.HomeInstances)
	require.Equal(t, discovery.Pods, home(r))
	require.Empty(t, upstream.UnrecordedHomes(r), "the record stays as it is")
	found := ""
	for _, f := range Validate(r) {
		if f.Reason == policy.ReasonSuperseded {
			found = f.String()
		}
	}
	require.Equal(t, `warning: Service web/php-web: metadata.annotations["mesh.causeway.dev/home"]: Instances does not count any more: `+
		`the pods are the home (TrafficShift web/t has completed): write Pods`, found)

	for annotation, want := range map[string]discovery.BackingName{upstream.HomePods: discovery.Pods, "": discovery.Pods, "nonsense": discovery.Pods} {
		r = annotated(annotation)
		require.Equal(t, want, home(r), annotation)
		homes := upstream.UnrecordedHomes(r)
		require.Len(t, homes, 1, "the annotation says something else: %q", annotation)
		require.Equal(t, want, homes[0].Platform)
		require.Empty(t, homes[0].Supersedes)
		require.NotContains(t, homes[0].Because, "recorded earlier", "reasons do not pile up")
		rec := in.homes[0]
		in.homes[0] = &homes[0]
		require.Equal(t, discovery.Instances, home(annotated(upstream.HomeInstances)), "now it is meant anew")
		in.homes[0] = rec
	}
}

// Instances say what part of the traffic they have while a shift is under way,
// and a side without endpoints says who answers for it.
func TestInstancesOfAShiftedService(t *testing.T) {
	t.Parallel()
	serving := func(in rows) metav1.Condition {
		return InstanceGroupConditions(in.reader(t), discovery.Key{Namespace: "web", Name: "ec2"})[2]
	}
	in := onHome(discovery.Instances)
	in.shifts = []*discovery.Object{shift("t", nil)}
	in.states = []*discovery.ShiftState{state("t", shifting("12.5"))}
	c := serving(in)
	require.Equal(t, metav1.ConditionTrue, c.Status)
	require.Equal(t, "the instances get 87.5% of the traffic (TrafficShift web/t)", c.Message)
	require.Zero(t, FailedOver(in.reader(t), web))

	in.sets = in.sets[1:]
	require.Equal(t, 1, FailedOver(in.reader(t), web), "the pods have a share and no endpoint")
	require.Contains(t, serving(in).Message, "the pods, to which TrafficShift web/t gives 12.5% of the traffic, have no usable endpoint, so the instances answer")

	in = onHome(discovery.Instances)
	in.shifts = []*discovery.Object{shift("t", nil)}
	in.states = []*discovery.ShiftState{state("t", shifting("100"))}
	require.Equal(t, metav1.ConditionFalse, serving(in).Status)
	require.Equal(t, policy.ReasonShifted, serving(in).Reason)

	in.services[0].Ports = append(in.services[0].Ports, discovery.ServicePort{Name: "metrics", Port: 9100})
	in.sets = append(in.sets, slice("s2", discovery.EndpointPort{Name: "metrics", Port: 9100}, pod("a", "10.0.0.1", "z1", discovery.Healthy)))
	in.states = []*discovery.ShiftState{state("t", shifting("50"))}
	require.Zero(t, FailedOver(in.reader(t), web), "a port that only pods have is nothing that a shift waits for")
}

// Two shifted Services with different cohorts in one rule: the first has it.
func TestConflictingCohorts(t *testing.T) {
	t.Parallel()
	other := discovery.Key{Namespace: "web", Name: "other"}
	cohort := func(header string) func(*v1alpha1.TrafficShift) {
		return func(o *v1alpha1.TrafficShift) { o.Spec.Cohort = &v1alpha1.ShiftCohort{Header: header} }
	}
	second := func(header string) *discovery.Object {
		return shift("t2", func(o *v1alpha1.TrafficShift) {
			cohort(header)(o)
			o.Spec.ServiceRef.Name = other.Name
		})
	}
	in := onHome(discovery.Instances)
	in.services = append(in.services, &discovery.Service{Key: other, Ports: []discovery.ServicePort{http80}})
	ref := func(name string) gatewayv1.HTTPBackendRef {
		return gatewayv1.HTTPBackendRef{BackendRef: gatewayv1.BackendRef{BackendObjectReference: gatewayv1.BackendObjectReference{
			Name: gatewayv1.ObjectName(name), Port: new(gatewayv1.PortNumber(80)),
		}}}
	}
	route := &discovery.Object{Kind: "HTTPRoute", Key: discovery.Key{Namespace: "web", Name: "r"}, Spec: &gatewayv1.HTTPRoute{Spec: gatewayv1.HTTPRouteSpec{
		CommonRouteSpec: gatewayv1.CommonRouteSpec{ParentRefs: []gatewayv1.ParentReference{{Group: new(gatewayv1.Group("")), Kind: new(gatewayv1.Kind("Service")), Name: gatewayv1.ObjectName(web.Name)}}},
		Rules:           []gatewayv1.HTTPRouteRule{{BackendRefs: []gatewayv1.HTTPBackendRef{ref(web.Name), ref(other.Name)}}},
	}}, Refs: []discovery.ObjectName{{Kind: discovery.KindService, Key: web}, {Kind: discovery.KindService, Key: other}}}
	messages := func(s1, s2 *discovery.Object) string {
		in.shifts = []*discovery.Object{s1, s2, route}
		var out []string
		for _, f := range Validate(in.reader(t)) {
			if f.Object.Kind == "HTTPRoute" && f.Reason != policy.ReasonNoEndpoints {
				out = append(out, f.String())
			}
		}
		return strings.Join(out, "\n")
	}
	require.Empty(t, messages(shift("t", cohort("x-user")), second("x-user")))
	require.Empty(t, messages(shift("t", nil), second("x-user")), "one that has no cohort minds no other's")
	require.Contains(t, messages(shift("t", cohort("x-user")), second("x-tenant")), "error: HTTPRoute web/r: spec.rules[0].backendRefs[1]: "+
		"TrafficShift web/t2 tells users of Service web/other apart by header x-tenant, and TrafficShift web/t those of Service web/php-web by header x-user, which stands first and has the rule")
	r := in.reader(t)
	s, _ := StatusOf(r, route)
	require.Contains(t, s.Parents[0].Conditions[0].Message, "which stands first and has the rule")
	rules := BuildService(r, web).Ports[0].HTTP.Rules
	require.Len(t, rules[0].Backends, 2)
	require.Equal(t, "x-user", rules[0].Backends[0].Shift.Cohort.Header)

	status := shifting("0")
	status.ShadowPercent, status.ShadowMethods = "5", []v1alpha1.ShiftMethod{"GET"}
	in.states = []*discovery.ShiftState{state("t", status)}
	require.Contains(t, messages(shift("t", nil), second("x-user")), "requests of this rule are not copied for TrafficShift web/t")
}

// Whatever a status says besides what is routed by compiles nothing again.
func TestOnlyWhatIsRoutedByTouches(t *testing.T) {
	t.Parallel()
	in := onHome(discovery.Instances)
	in.shifts = []*discovery.Object{shift("t", nil)}
	r := in.reader(t)
	touched := func(before, after *discovery.ShiftState) int {
		n := 0
		var b, a any
		if before != nil {
			b = before
		}
		if after != nil {
			a = after
		}
		Touched(r, b, a, func(u policy.Unit) {
			require.Equal(t, policy.ServiceUnit(web), u)
			n++
		})
		return n
	}
	as := func(f func(*v1alpha1.TrafficShiftStatus)) *discovery.ShiftState {
		s := shifting("10")
		f(&s)
		return state("t", s)
	}
	now := as(func(*v1alpha1.TrafficShiftStatus) {})
	require.Zero(t, touched(now, as(func(s *v1alpha1.TrafficShiftStatus) {
		s.Analysis, s.Waiting, s.Phase = &v1alpha1.ShiftAnalysis{Verdict: "Hold"}, "for requests", v1alpha1.ShiftAwaitingApproval
		s.History, s.Conditions = []v1alpha1.ShiftHistory{{}}, []metav1.Condition{{}}
	})))
	for name, f := range map[string]func(*v1alpha1.TrafficShiftStatus){
		"percent":   func(s *v1alpha1.TrafficShiftStatus) { s.Percent = "11" },
		"shadow":    func(s *v1alpha1.TrafficShiftStatus) { s.ShadowPercent = "1" },
		"methods":   func(s *v1alpha1.TrafficShiftStatus) { s.ShadowMethods = []v1alpha1.ShiftMethod{"GET"} },
		"completed": func(s *v1alpha1.TrafficShiftStatus) { s.Phase = v1alpha1.ShiftCompleted },
		"direction": func(s *v1alpha1.TrafficShiftStatus) { s.Direction = v1alpha1.PodsToInstances },
	} {
		require.Positive(t, touched(now, as(f)), name)
	}
	require.Positive(t, touched(nil, now))
	require.Positive(t, touched(now, nil))
	require.Zero(t, touched(now, now))
}

func randomShift(rnd *rand.Rand, namespace string) *discovery.Object {
	return shift(pick(rnd, "t1", "t2"), func(o *v1alpha1.TrafficShift) {
		o.Namespace, o.UID, o.Generation = namespace, types.UID(pick(rnd, "1", "2")), int64(rnd.IntN(2))
		o.CreationTimestamp = metav1.Unix(int64(rnd.IntN(2)), 0)
		o.Spec.ServiceRef.Name = pick(rnd, worldNames...)
		o.Spec.Direction = pick(rnd, v1alpha1.InstancesToPods, v1alpha1.PodsToInstances)
		o.Spec.Pin = pick[v1alpha1.Percent](rnd, "", "", "", "3")
		o.Spec.Cohort = pick(rnd, nil, &v1alpha1.ShiftCohort{Header: "x-user"}, &v1alpha1.ShiftCohort{Cookie: &v1alpha1.ShiftCookie{Name: "causeway", TTL: &metav1.Duration{Duration: time.Hour}}})
	})
}

func randomShiftStatus(rnd *rand.Rand) *v1alpha1.TrafficShiftStatus {
	return &v1alpha1.TrafficShiftStatus{
		Phase:     pick(rnd, "", v1alpha1.ShiftPending, v1alpha1.ShiftShadowing, v1alpha1.ShiftShifting, v1alpha1.ShiftPaused, v1alpha1.ShiftRolledBack, v1alpha1.ShiftCompleted),
		Percent:   pick[v1alpha1.Percent](rnd, "", "0", "0.1", "50", "100"),
		Direction: pick(rnd, "", v1alpha1.InstancesToPods, v1alpha1.PodsToInstances),
		Step:      int32(rnd.IntN(3) - 1), RolledBack: rnd.IntN(4) == 0, ObservedGeneration: int64(rnd.IntN(3)), //nolint:gosec // small
		ShadowPercent: pick[v1alpha1.Percent](rnd, "", "5"), ShadowMethods: pick(rnd, nil, []v1alpha1.ShiftMethod{"GET"}, []v1alpha1.ShiftMethod{"HEAD", "GET"}),
		Waiting: pick(rnd, "", "for requests"),
	}
}
