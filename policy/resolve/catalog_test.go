package resolve

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

var web = discovery.Key{Namespace: "web", Name: "php-web"}

// rows are what a test puts into a catalog.
type rows struct {
	services  []*discovery.Service
	groups    []*discovery.InstanceGroup
	sets      []*discovery.EndpointSet
	instances []*discovery.InstanceSet
	homes     []*discovery.Home
	sources   []*discovery.SourceStatus
	shifts    []*discovery.Object
	states    []*discovery.ShiftState
}

func (r rows) reader(tb testing.TB) catalog.Reader {
	tb.Helper()
	cat := catalog.New()
	_, err := cat.Write(time.Time{}, func(tx *catalog.Tx) error {
		put(tx, catalog.Services, r.services)
		put(tx, catalog.Objects, groupRows(r.groups))
		put(tx, catalog.Endpoints, r.sets)
		put(tx, catalog.Instances, r.instances)
		put(tx, catalog.Homes, r.homes)
		put(tx, catalog.Sources, r.sources)
		put(tx, catalog.Objects, r.shifts)
		put(tx, catalog.ShiftStates, r.states)
		return nil
	})
	require.NoError(tb, err)
	return cat.Read()
}

func put[T any](tx *catalog.Tx, table catalog.Table[T], rows []T) {
	for _, row := range rows {
		table.Put(tx, row)
	}
}

func groupRows(groups []*discovery.InstanceGroup) []*discovery.Object {
	var out []*discovery.Object
	for _, g := range groups {
		out = append(out, g.Row())
	}
	return out
}

func service(ports ...discovery.ServicePort) *discovery.Service {
	return &discovery.Service{Key: web, ClusterIPs: []string{"10.96.0.10"}, Ports: ports}
}

func withHome(s *discovery.Service, home string) *discovery.Service {
	s.Home = home
	return s
}

func group(name string, ports ...v1alpha1.InstancePort) *discovery.InstanceGroup {
	g := &v1alpha1.InstanceGroup{
		ObjectMeta: metav1.ObjectMeta{Namespace: web.Namespace, Name: name, Generation: 3},
		Spec: v1alpha1.InstanceGroupSpec{
			ServiceRef: v1alpha1.ServiceReference{Name: web.Name},
			Region:     "ap-northeast-1",
			Selector:   v1alpha1.InstanceSelector{AutoScalingGroups: []string{name}},
			Ports:      ports,
		},
	}
	v1alpha1.DefaultInstanceGroup(g)
	return &discovery.InstanceGroup{Key: discovery.Key{Namespace: web.Namespace, Name: name}, Object: g}
}

func slice(name string, port discovery.EndpointPort, endpoints ...discovery.Endpoint) *discovery.EndpointSet {
	return &discovery.EndpointSet{
		Scope: "kubernetes", Key: discovery.Key{Namespace: web.Namespace, Name: name}, Service: web,
		Platform: discovery.Pods, Ports: []discovery.EndpointPort{port}, Endpoints: endpoints,
	}
}

func published(group string, port discovery.EndpointPort, endpoints ...discovery.Endpoint) *discovery.EndpointSet {
	s := slice(group, port, endpoints...)
	s.Scope, s.Platform, s.Group = "instances", discovery.Instances, group
	return s
}

func pod(name, address, zone string, h discovery.Health) discovery.Endpoint {
	return discovery.Endpoint{ID: "web/" + name, Address: address, Zone: zone, Health: h}
}

func instance(id, address, zone string, h discovery.Health) discovery.Endpoint {
	return discovery.Endpoint{ID: id, Address: address, Zone: zone, Health: h}
}
