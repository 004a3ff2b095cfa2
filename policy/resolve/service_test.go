package resolve

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/convert"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/upstream"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

var (
	http80   = discovery.ServicePort{Name: "http", Port: 80}
	at8080   = discovery.EndpointPort{Name: "http", Port: 8080}
	maps8080 = v1alpha1.InstancePort{Name: "http", Port: 8080}
)

// at is what tells endpoints of a port apart.
func addressOf(e *policy.Endpoint) string { return fmt.Sprintf("%s:%d", e.Address, e.Port) }

// endpointsOf lists "id address:port HEALTH" of a backing, zone by zone.
func endpointsOf(b policy.Backing) []string {
	var out []string
	for _, z := range b.Zones {
		for _, e := range z.Endpoints {
			out = append(out, fmt.Sprintf("%s: %s %s:%d %s", z.Name, e.ID, e.Address, e.Port, e.Health))
		}
	}
	return out
}

func TestServiceIsNilForWhatTheMeshDoesNotCarry(t *testing.T) {
	require.Nil(t, BuildService(rows{}.reader(t), web), "no Service")
	require.Nil(t, BuildService(rows{services: []*discovery.Service{service()}}.reader(t), web), "no TCP port")
	external := service(http80)
	external.ExternalName = "php.example.com"
	require.Nil(t, BuildService(rows{services: []*discovery.Service{external}}.reader(t), web))
	m := BuildService(rows{services: []*discovery.Service{external}, groups: []*discovery.InstanceGroup{group("ec2", maps8080)}}.reader(t), web)
	require.NotNil(t, m, "an InstanceGroup is a backing")
	require.Equal(t, discovery.Instances, m.Home)
}

func TestBackingsAndShares(t *testing.T) {
	ready := slice("s1", at8080, pod("a", "10.0.0.1", "z1", discovery.Healthy))
	const all, none = uint32(policy.ShareTotal), uint32(0)
	for name, c := range map[string]struct {
		rows   rows
		want   []discovery.BackingName
		shares []uint32
	}{
		"pods only": {
			rows{services: []*discovery.Service{service(http80)}, sets: []*discovery.EndpointSet{ready}},
			[]discovery.BackingName{discovery.Pods},
			[]uint32{all},
		},
		"no endpoints at all": {
			rows{services: []*discovery.Service{service(http80)}},
			[]discovery.BackingName{discovery.Pods},
			[]uint32{all},
		},
		"a group attached before the first record": {
			rows{services: []*discovery.Service{service(http80)}, groups: []*discovery.InstanceGroup{group("ec2", maps8080)}},
			[]discovery.BackingName{discovery.Pods, discovery.Instances},
			[]uint32{none, all},
		},
		"a group attached to a Service that lives on pods": {
			rows{
				services: []*discovery.Service{service(http80)}, groups: []*discovery.InstanceGroup{group("ec2", maps8080)},
				homes: []*discovery.Home{{Key: web, Platform: discovery.Pods}},
			},
			[]discovery.BackingName{discovery.Pods, discovery.Instances},
			[]uint32{all, none},
		},
		"the annotation over the record": {
			rows{
				services: []*discovery.Service{withHome(service(http80), upstream.HomeInstances)}, groups: []*discovery.InstanceGroup{group("ec2", maps8080)},
				homes: []*discovery.Home{{Key: web, Platform: discovery.Pods}},
			},
			[]discovery.BackingName{discovery.Pods, discovery.Instances},
			[]uint32{none, all},
		},
		"a mistaken annotation counts for nothing": {
			rows{
				services: []*discovery.Service{withHome(service(http80), "pods")}, groups: []*discovery.InstanceGroup{group("ec2", maps8080)},
				homes: []*discovery.Home{{Key: web, Platform: discovery.Instances}},
			},
			[]discovery.BackingName{discovery.Pods, discovery.Instances},
			[]uint32{none, all},
		},
		"the group was deleted and its Service's home stays": {
			rows{
				services: []*discovery.Service{service(http80)}, sets: []*discovery.EndpointSet{ready},
				homes: []*discovery.Home{{Key: web, Platform: discovery.Instances}},
			},
			[]discovery.BackingName{discovery.Pods, discovery.Instances},
			[]uint32{none, all},
		},
		"a group for another port does not back this one": {
			rows{
				services: []*discovery.Service{service(http80, discovery.ServicePort{Name: "admin2", Port: 81})},
				groups:   []*discovery.InstanceGroup{group("ec2", v1alpha1.InstancePort{Name: "admin", Port: 81})},
				homes:    []*discovery.Home{{Key: web, Platform: discovery.Pods}},
			},
			[]discovery.BackingName{discovery.Pods},
			[]uint32{all},
		},
		"a shift under way has both backings, whatever there is of them": {
			rows{
				services: []*discovery.Service{service(http80)}, homes: []*discovery.Home{{Key: web, Platform: discovery.Pods}},
				shifts: []*discovery.Object{shift("t", nil)}, states: []*discovery.ShiftState{state("t", shifting("0.01"))},
			},
			[]discovery.BackingName{discovery.Pods, discovery.Instances},
			[]uint32{100, all - 100},
		},
		"published instances whose group is not known yet": {
			rows{
				services: []*discovery.Service{service(http80)},
				sets:     []*discovery.EndpointSet{published("ec2", at8080, instance("i-1", "10.1.0.1", "z1", discovery.Healthy))},
				homes:    []*discovery.Home{{Key: web, Platform: discovery.Pods}},
			},
			[]discovery.BackingName{discovery.Pods, discovery.Instances},
			[]uint32{all, none},
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := BuildService(c.rows.reader(t), web)
			require.NotEmpty(t, m.Ports)
			var got []discovery.BackingName
			for _, b := range m.Ports[0].Backings {
				got = append(got, b.Platform)
			}
			require.Equal(t, c.want, got)
			require.Equal(t, c.shares, m.Ports[0].Shares)
			require.True(t, m.Ports[0].Failover)
			require.NotEmpty(t, m.HomeBecause)
		})
	}
}

func TestEndpointsOfAPort(t *testing.T) {
	unnamed := discovery.ServicePort{Port: 80}
	for name, c := range map[string]struct {
		service *discovery.Service
		sets    []*discovery.EndpointSet
		want    []string
	}{
		"by zone, then id": {
			service(http80),
			[]*discovery.EndpointSet{
				slice("s1", at8080, pod("b", "10.0.0.2", "z2", discovery.Healthy), pod("c", "10.0.0.3", "z1", discovery.Healthy)),
				slice("s2", at8080, pod("a", "10.0.0.1", "z2", discovery.Healthy), pod("d", "10.0.0.4", "", discovery.Healthy)),
			},
			[]string{": web/d 10.0.0.4:8080 HEALTHY", "z1: web/c 10.0.0.3:8080 HEALTHY", "z2: web/a 10.0.0.1:8080 HEALTHY", "z2: web/b 10.0.0.2:8080 HEALTHY"},
		},
		"unready pods are left out, draining ones finish": {
			service(http80),
			[]*discovery.EndpointSet{slice("s1", at8080,
				pod("a", "10.0.0.1", "z", discovery.Unhealthy), pod("b", "10.0.0.2", "z", discovery.Draining))},
			[]string{"z: web/b 10.0.0.2:8080 DRAINING"},
		},
		"a copy in two slices is one, the more usable": {
			service(http80),
			[]*discovery.EndpointSet{
				slice("s1", at8080, pod("a", "10.0.0.1", "z", discovery.Draining)),
				slice("s2", at8080, pod("a", "10.0.0.1", "z", discovery.Healthy)),
			},
			[]string{"z: web/a 10.0.0.1:8080 HEALTHY"},
		},
		"of two families the Service's own": {
			&discovery.Service{Key: web, IPv6: []bool{false, true}, Ports: []discovery.ServicePort{http80}},
			[]*discovery.EndpointSet{
				slice("s6", at8080, pod("a", "fd00::1", "z", discovery.Healthy), pod("b", "fd00::2", "z", discovery.Healthy)),
				slice("s4", at8080, pod("a", "10.0.0.1", "z", discovery.Healthy)),
			},
			[]string{"z: web/a 10.0.0.1:8080 HEALTHY", "z: web/b fd00::2:8080 HEALTHY"},
		},
		"IPv6 first where the Service says so": {
			&discovery.Service{Key: web, ClusterIPs: []string{"fd00::a", "10.96.0.1"}, Ports: []discovery.ServicePort{http80}},
			[]*discovery.EndpointSet{
				slice("s6", at8080, pod("a", "fd00::1", "z", discovery.Healthy)),
				slice("s4", at8080, pod("a", "10.0.0.1", "z", discovery.Healthy)),
			},
			[]string{"z: web/a fd00::1:8080 HEALTHY"},
		},
		"unnamed to unnamed": {
			service(unnamed),
			[]*discovery.EndpointSet{slice("s1", discovery.EndpointPort{Port: 9000}, pod("a", "10.0.0.1", "z", discovery.Healthy))},
			[]string{"z: web/a 10.0.0.1:9000 HEALTHY"},
		},
		"the only port may be named on one side": {
			service(unnamed),
			[]*discovery.EndpointSet{slice("s1", at8080, pod("a", "10.0.0.1", "z", discovery.Healthy))},
			[]string{"z: web/a 10.0.0.1:8080 HEALTHY"},
		},
		"the only port on each side is the same, whatever it is called": {
			service(http80),
			[]*discovery.EndpointSet{
				slice("s1", discovery.EndpointPort{Name: "web", Port: 9100}, pod("a", "10.0.0.1", "z", discovery.Healthy)),
			},
			[]string{"z: web/a 10.0.0.1:9100 HEALTHY"},
		},
		"of several ports a name that differs is another one": {
			service(http80, discovery.ServicePort{Name: "admin", Port: 81}),
			[]*discovery.EndpointSet{
				slice("s1", discovery.EndpointPort{Name: "metrics", Port: 9100}, pod("a", "10.0.0.1", "z", discovery.Healthy)),
			},
			nil,
		},
		"slices whose pods listen on different ports": {
			service(http80),
			[]*discovery.EndpointSet{
				slice("s1", at8080, pod("a", "10.0.0.1", "z", discovery.Healthy)),
				slice("s2", discovery.EndpointPort{Name: "http", Port: 8081}, pod("b", "10.0.0.2", "z", discovery.Healthy)),
			},
			[]string{"z: web/a 10.0.0.1:8080 HEALTHY", "z: web/b 10.0.0.2:8081 HEALTHY"},
		},
		"of two with one address and port the ready one": {
			service(http80),
			[]*discovery.EndpointSet{slice("s1", at8080,
				pod("a", "10.0.0.1", "z1", discovery.Draining), pod("b", "10.0.0.1", "z2", discovery.Healthy), pod("c", "10.0.0.2", "z1", discovery.Healthy))},
			[]string{"z1: web/c 10.0.0.2:8080 HEALTHY", "z2: web/b 10.0.0.1:8080 HEALTHY"},
		},
		"two ports of one address are two endpoints": {
			service(http80),
			[]*discovery.EndpointSet{
				slice("s1", at8080, discovery.Endpoint{ID: "10.0.0.1", Address: "10.0.0.1", Zone: "z"}),
				slice("s2", discovery.EndpointPort{Name: "http", Port: 8081}, discovery.Endpoint{ID: "10.0.0.1", Address: "10.0.0.1", Zone: "z"}),
			},
			[]string{"z: 10.0.0.1 10.0.0.1:8080 HEALTHY", "z: 10.0.0.1 10.0.0.1:8081 HEALTHY"},
		},
		"a Service of one family takes no endpoint of the other": {
			&discovery.Service{Key: web, ClusterIPs: []string{"10.96.0.1"}, Ports: []discovery.ServicePort{http80}},
			[]*discovery.EndpointSet{
				slice("s6", at8080, pod("a", "fd00::1", "z", discovery.Healthy), pod("b", "fd00::2", "z", discovery.Healthy)),
				slice("s4", at8080, pod("a", "10.0.0.1", "z", discovery.Healthy)),
			},
			[]string{"z: web/a 10.0.0.1:8080 HEALTHY"},
		},
		"so says a headless one": {
			&discovery.Service{Key: web, IPv6: []bool{true}, Ports: []discovery.ServicePort{http80}},
			[]*discovery.EndpointSet{
				slice("s6", at8080, pod("a", "fd00::1", "z", discovery.Healthy)),
				slice("s4", at8080, pod("b", "10.0.0.1", "z", discovery.Healthy)),
			},
			[]string{"z: web/a fd00::1:8080 HEALTHY"},
		},
		"of two families without names the first": {
			&discovery.Service{Key: web, IPv6: []bool{false, true}, Ports: []discovery.ServicePort{http80}},
			[]*discovery.EndpointSet{
				slice("s6", at8080, discovery.Endpoint{ID: "fd00::1", Address: "fd00::1", Zone: "z"}),
				slice("s4", at8080, discovery.Endpoint{ID: "10.0.0.1", Address: "10.0.0.1", Zone: "z"}),
			},
			[]string{"z: 10.0.0.1 10.0.0.1:8080 HEALTHY"},
		},
		"the second family where the first has none": {
			&discovery.Service{Key: web, IPv6: []bool{false, true}, Ports: []discovery.ServicePort{http80}},
			[]*discovery.EndpointSet{slice("s6", at8080, discovery.Endpoint{ID: "fd00::1", Address: "fd00::1", Zone: "z"})},
			[]string{"z: fd00::1 fd00::1:8080 HEALTHY"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := BuildService(rows{services: []*discovery.Service{c.service}, sets: c.sets}.reader(t), web)
			require.Equal(t, c.want, endpointsOf(m.Ports[0].Backings[0]))
		})
	}
}

// A Service, its slices and its InstanceGroup are renamed one after the other.
// None of the states between may move traffic.
func TestRenamingTheOnlyPortMovesNothing(t *testing.T) {
	for n := range 8 {
		name := func(bit int, old, now string) string {
			if n&(1<<bit) == 0 {
				return old
			}
			return now
		}
		m := BuildService(rows{
			services: []*discovery.Service{withHome(service(discovery.ServicePort{Name: name(0, "web", "http-web"), Port: 80}), upstream.HomeInstances)},
			groups:   []*discovery.InstanceGroup{group("ec2", v1alpha1.InstancePort{Name: name(1, "web", "http-web"), Port: 8080})},
			sets: []*discovery.EndpointSet{
				published("ec2", discovery.EndpointPort{Name: name(1, "web", "http-web"), Port: 8080}, instance("i-1", "10.1.0.1", "z", discovery.Healthy)),
				slice("s1", discovery.EndpointPort{Name: name(2, "web", "http-web"), Port: 8080}, pod("a", "10.0.0.1", "z", discovery.Healthy)),
			},
		}.reader(t), web)
		for _, b := range m.Ports[0].Backings {
			require.True(t, b.Usable(), "%d: %s", n, b.Platform)
		}
	}
}

// Of several ports, one that is renamed goes on to count by the name that it had,
// and one that an InstanceGroup does not map any more by what is published.
func TestAnEditOfANameMovesNothing(t *testing.T) {
	admin := discovery.ServicePort{Name: "admin", Port: 81}
	in := func(home string, svc discovery.ServicePort, mapped string) (*policy.Service, []string) {
		ports := []discovery.EndpointPort{{Name: "http", Port: 8080}, {Name: "admin", Port: 8081}}
		pods := slice("s1", at8080, pod("a", "10.0.0.1", "z", discovery.Healthy))
		instances := published("ec2", at8080, instance("i-1", "10.1.0.1", "z", discovery.Healthy))
		pods.Ports, instances.Ports = ports, ports
		r := rows{
			services: []*discovery.Service{withHome(service(svc, admin), home)},
			groups:   []*discovery.InstanceGroup{group("ec2", v1alpha1.InstancePort{Name: mapped, Port: 8080}, v1alpha1.InstancePort{Name: "admin", Port: 8081})},
			sets:     []*discovery.EndpointSet{pods, instances},
		}.reader(t)
		var findings []string
		for _, f := range Validate(r) {
			findings = append(findings, f.String())
		}
		return BuildService(r, web), findings
	}
	m, findings := in(upstream.HomeInstances, discovery.ServicePort{Name: "web", Port: 80, Was: "http"}, "http")
	require.True(t, m.Ports[0].Backings[0].Usable())
	require.True(t, m.Ports[0].Backings[1].Usable())
	require.Equal(t, []string{
		`error: InstanceGroup web/ec2: spec.ports[0].name: Service web/php-web calls its port 80 "web" now and not "http"; the instances answer for it as before, so that no traffic moves: write "web"`,
		`warning: Service web/php-web: spec.ports: 1 EndpointSlices call port 80 "http", as it was called, and not "web"; their endpoints count as before, so that no traffic moves: rename the port in the slices too, before the control plane restarts`,
	}, findings)

	m, findings = in(upstream.HomeInstances, http80, "web")
	require.True(t, m.Ports[0].Backings[1].Usable(), "the group maps it no more")
	require.Contains(t, findings, `error: InstanceGroup web/ec2: spec.ports: port 80 ("http") of Service web/php-web is not mapped any more; while instances have traffic they go on to answer at port 8080, as last known good: `+
		`write {name: http, port: 8080}, or move the traffic to the pods first, with a TrafficShift`)
	m, _ = in(upstream.HomePods, http80, "web")
	require.Len(t, m.Ports[0].Backings, 1, "nothing is held where nothing can be lost")
}

// sessionAffinity: ClientIP is done: each caller stays at one endpoint, unless a policy says how to balance.
func TestSessionAffinity(t *testing.T) {
	in := func(settings *v1alpha1.TrafficSettings) (*policy.Service, []string) {
		svc := service(http80)
		svc.ClientIP = true
		r := rows{
			services: []*discovery.Service{svc}, groups: []*discovery.InstanceGroup{group("ec2", maps8080)},
			sets: []*discovery.EndpointSet{slice("s1", at8080, pod("a", "10.0.0.1", "z", discovery.Healthy))},
		}
		if settings != nil {
			p := &v1alpha1.TrafficPolicy{Spec: v1alpha1.TrafficPolicySpec{TrafficSettings: *settings, TargetRefs: []v1alpha1.TargetReference{{Kind: discovery.KindService, Name: web.Name}}}}
			r.shifts = append(r.shifts, &discovery.Object{
				Kind: discovery.KindTrafficPolicy, Key: discovery.Key{Namespace: "web", Name: "p"}, Spec: p,
				Refs: []discovery.ObjectName{{Kind: discovery.KindService, Key: web}},
			})
		}
		reader := r.reader(t)
		var findings []string
		for _, f := range Validate(reader) {
			if f.Field == "spec.sessionAffinity" {
				findings = append(findings, f.String())
			}
		}
		return BuildService(reader, web), findings
	}
	m, findings := in(nil)
	require.True(t, m.ClientIP)
	require.Empty(t, findings)
	require.Len(t, m.Ports[0].Backings, 2)
	for _, b := range m.Ports[0].Backings {
		require.Equal(t, v1alpha1.RingHash, b.Settings.Stated.LoadBalancer.Algorithm)
		require.Equal(t, "Service web/php-web", b.Settings.From["loadBalancer"].String())
	}

	m, findings = in(&v1alpha1.TrafficSettings{LoadBalancer: &v1alpha1.LoadBalancer{Algorithm: v1alpha1.RoundRobin}})
	require.Equal(t, v1alpha1.RoundRobin, m.Ports[0].Backings[0].Settings.Stated.LoadBalancer.Algorithm)
	require.Equal(t, []string{"warning: Service web/php-web: spec.sessionAffinity: ClientIP has no effect on callers of the mesh: " +
		"TrafficPolicy web/p has loadBalancer, which holds instead: remove loadBalancer there, or sessionAffinity here"}, findings)

	_, findings = in(&v1alpha1.TrafficSettings{LoadBalancer: &v1alpha1.LoadBalancer{Algorithm: v1alpha1.Maglev}})
	require.Empty(t, findings, "the address is still what is hashed")

	m, findings = in(&v1alpha1.TrafficSettings{LoadBalancer: &v1alpha1.LoadBalancer{Algorithm: v1alpha1.Maglev, Hash: &v1alpha1.HashKey{Header: "x-user"}}})
	require.Equal(t, v1alpha1.Maglev, m.Ports[0].Backings[0].Settings.Stated.LoadBalancer.Algorithm)
	require.Equal(t, []string{"warning: Service web/php-web: spec.sessionAffinity: ClientIP has no effect on callers of the mesh: " +
		"TrafficPolicy web/p has loadBalancer, which holds instead: remove loadBalancer there, or sessionAffinity here"}, findings)
}

// A policy holds instead of sessionAffinity: ClientIP wherever it is attached: at a part
// of the Service, at its instances, at a route to it.
func TestWhatHoldsInsteadOfSessionAffinity(t *testing.T) {
	byHeader := &v1alpha1.LoadBalancer{Algorithm: v1alpha1.RingHash, Hash: &v1alpha1.HashKey{Header: "x-user"}}
	bySource := &v1alpha1.LoadBalancer{Algorithm: v1alpha1.RingHash, Hash: &v1alpha1.HashKey{Source: new(true)}}
	balanced := &v1alpha1.LoadBalancer{Algorithm: v1alpha1.RoundRobin}
	none := ""
	for name, c := range map[string]struct {
		target v1alpha1.TargetReference
		l      *v1alpha1.LoadBalancer
		want   string
	}{
		"a port":                  {v1alpha1.TargetReference{Kind: discovery.KindService, Name: web.Name, SectionName: "http"}, balanced, "callers of the mesh"},
		"instances":               {v1alpha1.TargetReference{Group: v1alpha1.Group, Kind: discovery.KindInstanceGroup, Name: "ec2"}, balanced, "which instances of InstanceGroup web/ec2 answer"},
		"a hash at instances":     {v1alpha1.TargetReference{Group: v1alpha1.Group, Kind: discovery.KindInstanceGroup, Name: "ec2"}, byHeader, none},
		"a route":                 {v1alpha1.TargetReference{Group: gatewayv1.GroupName, Kind: "HTTPRoute", Name: "r"}, byHeader, "requests of HTTPRoute web/r"},
		"a rule of a route":       {v1alpha1.TargetReference{Group: gatewayv1.GroupName, Kind: "HTTPRoute", Name: "r", SectionName: "first"}, byHeader, "requests of HTTPRoute web/r"},
		"an algorithm at a route": {v1alpha1.TargetReference{Group: gatewayv1.GroupName, Kind: "HTTPRoute", Name: "r"}, balanced, none},
		"the address at a route":  {v1alpha1.TargetReference{Group: gatewayv1.GroupName, Kind: "HTTPRoute", Name: "r"}, bySource, none},
	} {
		t.Run(name, func(t *testing.T) {
			svc := service(http80)
			svc.ClientIP = true
			in := rows{services: []*discovery.Service{svc}, groups: []*discovery.InstanceGroup{group("ec2", maps8080)}}
			route := &gatewayv1.HTTPRoute{ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "r"}}
			route.Spec.ParentRefs = []gatewayv1.ParentReference{{Group: new(gatewayv1.Group("")), Kind: new(gatewayv1.Kind(discovery.KindService)), Name: gatewayv1.ObjectName(web.Name)}}
			route.Spec.Rules = []gatewayv1.HTTPRouteRule{{Name: new(gatewayv1.SectionName("first"))}}
			p := &v1alpha1.TrafficPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "p"}}
			p.Spec.TargetRefs, p.Spec.LoadBalancer = []v1alpha1.TargetReference{c.target}, c.l
			in.shifts = append(in.shifts, convert.Object(route, "test"), convert.Object(p, "test"))
			var got []string
			for _, f := range Validate(in.reader(t)) {
				if f.Field == "spec.sessionAffinity" {
					got = append(got, f.Message)
				}
			}
			if c.want == none {
				require.Empty(t, got)
				return
			}
			require.Equal(t, []string{"ClientIP has no effect on " + c.want + ": TrafficPolicy web/p has loadBalancer, which holds instead"}, got)
		})
	}
}

func TestUnhealthyInstancesStayKnown(t *testing.T) {
	m := BuildService(rows{
		services: []*discovery.Service{service(http80)},
		groups:   []*discovery.InstanceGroup{group("ec2", maps8080)},
		sets: []*discovery.EndpointSet{published("ec2", at8080,
			instance("i-2", "10.1.0.2", "z1", discovery.Unhealthy), instance("i-1", "10.1.0.1", "z1", discovery.Draining))},
	}.reader(t), web)
	require.Equal(t, []string{"z1: i-1 10.1.0.1:8080 DRAINING", "z1: i-2 10.1.0.2:8080 UNHEALTHY"}, endpointsOf(m.Ports[0].Backings[1]))
	require.False(t, m.Ports[0].Backings[1].Usable())
}

func TestProvenance(t *testing.T) {
	m := BuildService(rows{
		services: []*discovery.Service{service(http80)},
		groups:   []*discovery.InstanceGroup{group("z", maps8080), group("a", maps8080)},
	}.reader(t), web)
	require.Equal(t, "[Service web/php-web InstanceGroup web/a InstanceGroup web/z]", fmt.Sprint(m.Provenance))
	require.Equal(t, int64(3), m.Provenance[1].Generation)
}

func TestDefaultHTTPPort(t *testing.T) {
	p := func(number uint16, name string) discovery.ServicePort {
		return discovery.ServicePort{Name: name, Port: number}
	}
	for name, c := range map[string]struct {
		ports []discovery.ServicePort
		want  []uint16
	}{
		"80":                         {[]discovery.ServicePort{p(8080, "http-a"), p(80, "http"), p(70, "http-b")}, []uint16{80}},
		"80 that is not HTTP":        {[]discovery.ServicePort{p(80, "tcp"), p(8080, "http")}, []uint16{8080}},
		"the lowest":                 {[]discovery.ServicePort{p(9000, "http-a"), p(8080, "grpc")}, []uint16{8080}},
		"none":                       {[]discovery.ServicePort{p(3306, "mysql")}, nil},
		"a number that stands twice": {[]discovery.ServicePort{p(80, "http-b"), p(80, "http-a")}, []uint16{80}},
	} {
		t.Run(name, func(t *testing.T) {
			m := BuildService(rows{services: []*discovery.Service{service(c.ports...)}}.reader(t), web)
			var got []uint16
			for i, port := range m.Ports {
				require.True(t, i == 0 || m.Ports[i-1].Number < port.Number, "sorted and unique")
				if port.DefaultHTTP {
					got = append(got, port.Number)
				}
			}
			require.Equal(t, c.want, got)
		})
	}
}

// The model must be the same however a source orders what it hands over.
func TestBuildServiceIgnoresOrder(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // reproducible on purpose
		in := randomRows(rnd)
		want := BuildService(in.reader(t), web)
		rnd.Shuffle(len(in.services[0].Ports), func(i, j int) {
			p := in.services[0].Ports
			p[i], p[j] = p[j], p[i]
		})
		for _, s := range in.sets {
			rnd.Shuffle(len(s.Endpoints), func(i, j int) { s.Endpoints[i], s.Endpoints[j] = s.Endpoints[j], s.Endpoints[i] })
			rnd.Shuffle(len(s.Ports), func(i, j int) { s.Ports[i], s.Ports[j] = s.Ports[j], s.Ports[i] })
		}
		// Slices may carry the same content under other names.
		names := rnd.Perm(len(in.sets))
		for i, s := range in.sets {
			s.Name = fmt.Sprintf("s%d", names[i])
		}
		got := BuildService(in.reader(t), web)
		require.Empty(t, cmp.Diff(want, got), "seed %d", seed)
		for _, p := range got.Ports {
			var sum uint32
			for _, share := range p.Shares {
				sum += share
			}
			require.Equal(t, uint32(policy.ShareTotal), sum)
			for _, b := range p.Backings {
				ids := make(map[string]bool)
				for _, z := range b.Zones {
					require.NotEmpty(t, z.Endpoints)
					for _, e := range z.Endpoints {
						require.False(t, ids[addressOf(&e)], "%s twice", addressOf(&e))
						ids[addressOf(&e)] = true
					}
				}
			}
		}
	}
}

// randomRows makes a Service with what is hard about it: copies of endpoints
// that contradict each other, both families, several ports and both platforms.
func randomRows(rnd *rand.Rand) rows {
	in := rows{services: []*discovery.Service{service(http80, discovery.ServicePort{Name: "grpc", Port: 9090}, discovery.ServicePort{Name: "admin", Port: 80})}}
	if rnd.IntN(2) == 0 {
		in.groups = append(in.groups, group("ec2", maps8080))
	}
	for i := range 1 + rnd.IntN(6) {
		s := slice(fmt.Sprintf("s%d", i), at8080)
		s.Ports = append(s.Ports, discovery.EndpointPort{Name: "grpc", Port: uint16(9090 + rnd.IntN(2))}) //nolint:gosec // small
		if rnd.IntN(3) == 0 {
			s.Platform, s.Group = discovery.Instances, "ec2"
		}
		for range rnd.IntN(12) {
			n := rnd.IntN(8)
			address := fmt.Sprintf("10.0.0.%d", n)
			if rnd.IntN(3) == 0 {
				address = fmt.Sprintf("fd00::%d", n)
			}
			s.Endpoints = append(s.Endpoints, discovery.Endpoint{
				ID: fmt.Sprintf("web/p%d", n), Address: address, Zone: fmt.Sprintf("z%d", rnd.IntN(3)),
				Weight: uint32(rnd.IntN(3)), Spot: rnd.IntN(2) == 0, //nolint:gosec // small
				Health: discovery.Health(rnd.IntN(3)), Reason: fmt.Sprintf("R%d", rnd.IntN(2)), //nolint:gosec // small
			})
		}
		in.sets = append(in.sets, s)
	}
	return in
}

func TestHomesToRecord(t *testing.T) {
	in := rows{services: []*discovery.Service{service(http80)}, groups: []*discovery.InstanceGroup{group("ec2", maps8080)}}
	homes := upstream.UnrecordedHomes(in.reader(t))
	require.Len(t, homes, 1)
	require.Equal(t, discovery.Instances, homes[0].Platform)
	require.Contains(t, homes[0].Because, "InstanceGroup ec2")

	in.homes = []*discovery.Home{&homes[0]}
	require.Empty(t, upstream.UnrecordedHomes(in.reader(t)), "recorded already")
	in.groups = nil
	require.Empty(t, upstream.UnrecordedHomes(in.reader(t)), "a group that goes away changes nothing")

	in.services = []*discovery.Service{withHome(service(http80), upstream.HomePods)}
	homes = upstream.UnrecordedHomes(in.reader(t))
	require.Len(t, homes, 1, "the annotation moved the home")
	require.Equal(t, discovery.Pods, homes[0].Platform)
	in.homes, in.services = []*discovery.Home{&homes[0]}, []*discovery.Service{service(http80)}
	home, because := upstream.HomeOf(in.reader(t), in.services[0])
	require.Equal(t, discovery.Pods, home, "removing the annotation does not move it back")
	require.Contains(t, because, "annotation")

	in.homes = nil
	in.sources = []*discovery.SourceStatus{{Name: "kubernetes/services", Synced: true}, {Name: "kubernetes/instancegroups"}}
	require.Empty(t, upstream.UnrecordedHomes(in.reader(t)), "groups have not been read yet")
	in.sources[1].LastKnownGood = true
	require.Len(t, upstream.UnrecordedHomes(in.reader(t)), 1)
	in.sources = append(in.sources, &discovery.SourceStatus{Name: "ec2/own/eu-west-9", Error: "no such host"})
	require.Len(t, upstream.UnrecordedHomes(in.reader(t)), 1, "an account that cannot be read says nothing of homes, and holds up none")
	in.sources = append(in.sources, &discovery.SourceStatus{Name: discovery.HomesSource, Error: "spoiled"})
	require.Empty(t, upstream.UnrecordedHomes(in.reader(t)), "no guess is recorded")
	_, because = upstream.HomeOf(in.reader(t), in.services[0])
	require.Equal(t, "a guess: recorded homes cannot be read, and nothing is served meanwhile: causeway status", because)
}

func BenchmarkBuildService(b *testing.B) {
	for _, n := range []int{10, 1000} {
		b.Run(fmt.Sprintf("endpoints=%d", n), func(b *testing.B) {
			in := rows{services: []*discovery.Service{service(http80)}}
			for chunk := range slices.Chunk(slices.Collect(func(yield func(int) bool) {
				for i := range n {
					if !yield(i) {
						return
					}
				}
			}), 100) {
				s := slice(fmt.Sprintf("php-web-%05d", chunk[0]), at8080)
				for _, i := range chunk {
					s.Endpoints = append(s.Endpoints, pod(fmt.Sprintf("php-web-7d9c5b8f6-%05d", i*7919%n),
						fmt.Sprintf("10.0.%d.%d", i/250, i%250), fmt.Sprintf("ap-northeast-1%c", 'a'+i%3), discovery.Healthy))
				}
				in.sets = append(in.sets, s)
			}
			r := in.reader(b)
			b.ReportAllocs()
			for b.Loop() {
				BuildService(r, web)
			}
		})
	}
}
