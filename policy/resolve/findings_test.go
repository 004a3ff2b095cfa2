package resolve

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

func TestValidate(t *testing.T) {
	ready := slice("s1", at8080, pod("a", "10.0.0.1", "z1", discovery.Healthy))
	emptied := published("ec2", at8080)
	for name, c := range map[string]struct {
		rows rows
		want []string
	}{
		"nothing wrong": {
			rows{services: []*discovery.Service{service(http80)}, sets: []*discovery.EndpointSet{ready}}, nil,
		},
		"a home that is none": {
			rows{services: []*discovery.Service{withHome(service(http80), "ec2")}},
			[]string{`error: Service web/php-web: metadata.annotations["mesh.causeway.dev/home"]: "ec2" is not a home (in force instead: no InstanceGroup was attached when the Service was first seen): write Instances or Pods`},
		},
		"no TCP port": {
			rows{services: []*discovery.Service{service()}},
			[]string{`warning: Service web/php-web: spec.ports: it has no TCP port, so the mesh does not carry it: add the TCP ports that callers use`},
		},
		"an external name": {
			rows{services: []*discovery.Service{{Key: web, ExternalName: "php.example.com"}}},
			[]string{`warning: Service web/php-web: spec.externalName: it is another name for php.example.com and has no backings, so the mesh does not carry it: attach an InstanceGroup, or make it a Service of type ClusterIP`},
		},
		"a database that would be spoken HTTP to": {
			rows{services: []*discovery.Service{service(discovery.ServicePort{Name: "db", Port: 3306})}},
			[]string{`warning: Service web/php-web: spec.ports: port 3306 is carried as HTTP/1.1, because nothing says what is spoken on it: set its appProtocol, for example to mysql, or begin its name with mysql-`},
		},
		"a database that says so": {
			rows{services: []*discovery.Service{service(discovery.ServicePort{Name: "tcp-db", Port: 3306})}}, nil,
		},
		"a group of no Service": {
			rows{groups: []*discovery.InstanceGroup{group("ec2", maps8080)}},
			[]string{`error: InstanceGroup web/ec2: spec.serviceRef.name: there is no Service web/php-web: create it or correct the name`},
		},
		"a group for a port that the Service lacks": {
			rows{
				services: []*discovery.Service{service(http80, discovery.ServicePort{Name: "grpc", Port: 90})},
				groups:   []*discovery.InstanceGroup{group("ec2", maps8080, v1alpha1.InstancePort{Name: "htpp", Port: 1})},
			},
			[]string{`error: InstanceGroup web/ec2: spec.ports[1].name: Service web/php-web has no port named "htpp": name one of its ports: "http", "grpc"`},
		},
		"an object that the API server would refuse": {
			rows{
				services: []*discovery.Service{service(http80)},
				groups:   []*discovery.InstanceGroup{group("ec2", maps8080, maps8080)},
			},
			[]string{`error: InstanceGroup web/ec2: spec.ports[1].name: "http" stands twice: map each port of the Service once`},
		},
		"instances of a Service that lives on pods": {
			rows{
				services: []*discovery.Service{service(http80)}, sets: []*discovery.EndpointSet{ready},
				groups: []*discovery.InstanceGroup{group("ec2", maps8080)},
				homes:  []*discovery.Home{{Key: web, Platform: discovery.Pods, Because: "it was so"}},
			},
			[]string{`warning: InstanceGroup web/ec2: spec.serviceRef: the home of Service web/php-web is its pods (recorded earlier: it was so), so these instances get no traffic: annotate the Service with mesh.causeway.dev/home: Instances to move all of it at once, or create a TrafficShift with direction PodsToInstances`},
		},
		"failed over to pods": {
			rows{
				services: []*discovery.Service{service(http80)}, sets: []*discovery.EndpointSet{ready, emptied},
				groups: []*discovery.InstanceGroup{group("ec2", maps8080)},
			},
			[]string{`warning: Service web/php-web: spec.ports: port 80: its home, the instances, has no usable endpoint, so the pods answer: bring the instances back, or make the pods the home`},
		},
		"instances that EC2 was not asked for yet are no failover": {
			rows{
				services: []*discovery.Service{service(http80)}, sets: []*discovery.EndpointSet{ready},
				groups: []*discovery.InstanceGroup{group("ec2", maps8080)},
			}, nil,
		},
		"the group was deleted": {
			rows{
				services: []*discovery.Service{service(http80)}, sets: []*discovery.EndpointSet{ready},
				homes: []*discovery.Home{{Key: web, Platform: discovery.Instances}},
			},
			[]string{`warning: Service web/php-web: spec.ports: port 80: its home, the instances, has no usable endpoint, so the pods answer: bring the instances back, or make the pods the home`},
		},
		"a port that no group maps": {
			rows{
				services: []*discovery.Service{service(http80, discovery.ServicePort{Name: "grpc", Port: 90})},
				sets: []*discovery.EndpointSet{
					slice("s1", discovery.EndpointPort{Name: "grpc", Port: 90}, pod("a", "10.0.0.1", "z1", discovery.Healthy)),
					published("ec2", at8080, instance("i-1", "10.1.0.1", "z", discovery.Healthy)),
				},
				groups: []*discovery.InstanceGroup{group("ec2", maps8080)},
			},
			[]string{`warning: Service web/php-web: spec.ports: port 90: no InstanceGroup maps it, so the pods answer although the instances are home: add the port named "grpc" to the InstanceGroup's spec.ports, or make the pods the home`},
		},
		"one instance in two groups": {
			rows{
				services: []*discovery.Service{service(http80)},
				groups:   []*discovery.InstanceGroup{group("a", maps8080), group("b", maps8080)},
				instances: []*discovery.InstanceSet{
					{Key: discovery.Key{Namespace: "web", Name: "a"}, Endpoints: []discovery.Endpoint{{ID: "i-3"}, {ID: "i-2"}, {ID: "i-1"}}},
					{Key: discovery.Key{Namespace: "web", Name: "b"}, Endpoints: []discovery.Endpoint{{ID: "i-3"}, {ID: "i-2"}}},
				},
			},
			[]string{`warning: InstanceGroup web/b: spec.selector: instance i-2 is also selected by InstanceGroup a of the same Service; an instance in both counts once for each port that they map, so twice where these differ: make the selectors disjoint`},
		},
		"one auto scaling group in two groups": {
			rows{
				services: []*discovery.Service{service(http80)},
				groups: []*discovery.InstanceGroup{
					selecting(group("a", maps8080), nil, "asg"), selecting(group("b", maps8080), map[string]string{"Env": "prod"}, "asg"),
				},
			},
			[]string{`warning: InstanceGroup web/b: spec.selector: auto scaling group asg is also selected by InstanceGroup a of the same Service; an instance in both counts once for each port that they map, so twice where these differ: make the selectors disjoint`},
		},
		"one auto scaling group, told apart by a tag": {
			rows{
				services: []*discovery.Service{service(http80)},
				groups: []*discovery.InstanceGroup{
					selecting(group("a", maps8080), map[string]string{"Env": "test"}, "asg"),
					selecting(group("b", maps8080), map[string]string{"Env": "prod"}, "asg"),
				},
			}, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			findings := Validate(c.rows.reader(t))
			requireEachAlone(t, c.rows.reader(t))
			for _, f := range findings {
				got = append(got, f.String())
				require.NotEmpty(t, f.Condition)
				require.NotEmpty(t, f.Reason)
			}
			require.Equal(t, c.want, got)
			require.True(t, slices.IsSorted(got))
		})
	}
}

func selecting(g *discovery.InstanceGroup, tags map[string]string, asg ...string) *discovery.InstanceGroup {
	g.Object.Spec.Selector = v1alpha1.InstanceSelector{AutoScalingGroups: asg, Tags: tags}
	return g
}

func TestInstanceGroupConditions(t *testing.T) {
	ready := slice("s1", at8080, pod("a", "10.0.0.1", "z1", discovery.Healthy))
	alive := published("ec2", at8080, instance("i-1", "10.1.0.1", "z1", discovery.Healthy))
	one := []*discovery.InstanceGroup{group("ec2", maps8080)}
	onPods := []*discovery.Home{{Key: web, Platform: discovery.Pods, Because: "it was so"}}
	for name, c := range map[string]struct {
		rows rows
		want map[string]string // type: status/reason
	}{
		"serving": {
			rows{services: []*discovery.Service{service(http80)}, groups: one, sets: []*discovery.EndpointSet{alive}},
			map[string]string{"Accepted": "True/Accepted", "ResolvedRefs": "True/ResolvedRefs", "Serving": "True/Serving"},
		},
		"no Service": {
			rows{groups: one},
			map[string]string{"Accepted": "True/Accepted", "ResolvedRefs": "False/BackendNotFound", "Serving": "False/ServiceNotFound"},
		},
		"invalid": {
			rows{services: []*discovery.Service{service(http80)}, groups: []*discovery.InstanceGroup{selecting(group("ec2", maps8080), nil)}},
			map[string]string{"Accepted": "False/Invalid", "ResolvedRefs": "True/ResolvedRefs", "Serving": "True/Serving"},
		},
		"home is pods": {
			rows{services: []*discovery.Service{service(http80)}, groups: one, sets: []*discovery.EndpointSet{alive, ready}, homes: onPods},
			map[string]string{"Accepted": "True/Accepted", "ResolvedRefs": "True/ResolvedRefs", "Serving": "False/HomeIsPods"},
		},
		"home is pods, which are gone": {
			rows{services: []*discovery.Service{service(http80)}, groups: one, sets: []*discovery.EndpointSet{alive}, homes: onPods},
			map[string]string{"Accepted": "True/Accepted", "ResolvedRefs": "True/ResolvedRefs", "Serving": "True/FailedOver"},
		},
		"failed over to pods": {
			rows{services: []*discovery.Service{service(http80)}, groups: one, sets: []*discovery.EndpointSet{published("ec2", at8080), ready}},
			map[string]string{"Accepted": "True/Accepted", "ResolvedRefs": "True/ResolvedRefs", "Serving": "False/FailedOver"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := make(map[string]string)
			for _, condition := range InstanceGroupConditions(c.rows.reader(t), discovery.Key{Namespace: "web", Name: "ec2"}) {
				got[condition.Type] = string(condition.Status) + "/" + condition.Reason
				require.NotEmpty(t, condition.Message)
				require.Equal(t, int64(3), condition.ObservedGeneration)
			}
			require.Equal(t, c.want, got)
		})
	}
	require.Nil(t, InstanceGroupConditions(rows{}.reader(t), web))
}

func TestHomeIsPodsNamesBothRemedies(t *testing.T) {
	conditions := InstanceGroupConditions(rows{
		services: []*discovery.Service{service(http80)}, groups: []*discovery.InstanceGroup{group("ec2", maps8080)},
		homes: []*discovery.Home{{Key: web, Platform: discovery.Pods}},
	}.reader(t), discovery.Key{Namespace: "web", Name: "ec2"})
	serving := conditions[2]
	require.Equal(t, metav1.ConditionFalse, serving.Status)
	require.Contains(t, serving.Message, "mesh.causeway.dev/home: Instances")
	require.Contains(t, serving.Message, "TrafficShift")
}

// requireEachAlone compares what is found about each object, judged alone, with what is found when all are judged.
func requireEachAlone(t *testing.T, r catalog.Reader) {
	t.Helper()
	byName := make(map[discovery.ObjectName][]policy.Finding)
	for _, f := range Validate(r) {
		name := discovery.ObjectName{Kind: f.Object.Kind, Key: f.Object.Key}
		byName[name] = append(byName[name], f)
	}
	names := make(map[discovery.ObjectName]bool)
	for svc := range catalog.Services.All(r) {
		names[discovery.ObjectName{Kind: discovery.KindService, Key: svc.Key}] = true
	}
	for o := range catalog.Objects.All(r) {
		names[o.Name()] = o.Kind != discovery.KindSecret
	}
	for name, asked := range names {
		if asked {
			require.ElementsMatch(t, byName[name], ValidateOnly(r, []discovery.ObjectName{name}), "%s", name)
		}
	}
}

func TestOneObjectIsJudgedAsAllAre(t *testing.T) {
	for seed := range uint64(100) {
		requireEachAlone(t, randomRows(rand.New(rand.NewPCG(seed, 7))).reader(t))
	}
	for name, text := range routeCases.Section(t, routeObjects) {
		t.Run(name, func(t *testing.T) { requireEachAlone(t, parseRouteObjects(t, text).reader(t)) })
	}
}
