package compile

import (
	"slices"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	aggregatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/aggregate/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/explain"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/policy/resolve"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// elsewhere is a backing that no source writes endpoints of.
const elsewhere discovery.BackingName = "pods.other-cluster"

// threefold is a catalog with a Service that has three backings, all of whose traffic is elsewhere.
type threefold struct {
	*catalog.Catalog

	t   *testing.T
	key discovery.Key
}

func newThreefold(t *testing.T) *threefold {
	t.Helper()
	w := &threefold{catalog.New(), t, discovery.Key{Namespace: "web", Name: "php"}}
	w.write(func(tx *catalog.Tx) {
		catalog.Services.Put(tx, &discovery.Service{Key: w.key, Failover: "OtherBacking", Ports: []discovery.ServicePort{{Name: "http", Port: 80}, {Name: "mysql", Port: 3306}}})
		catalog.Homes.Put(tx, &discovery.Home{Key: w.key, Platform: elsewhere, Because: "a test says so"})
	})
	for _, name := range []discovery.BackingName{elsewhere, discovery.Instances, discovery.Pods} {
		w.has(name, discovery.Healthy)
	}
	return w
}

func (w *threefold) write(change func(*catalog.Tx)) {
	w.t.Helper()
	_, err := w.Write(time.Time{}, func(tx *catalog.Tx) error { change(tx); return nil })
	require.NoError(w.t, err)
}

func (w *threefold) has(backing discovery.BackingName, h discovery.Health) {
	w.t.Helper()
	w.write(func(tx *catalog.Tx) {
		catalog.Endpoints.Put(tx, &discovery.EndpointSet{
			Key: discovery.Key{Namespace: w.key.Namespace, Name: backing.String()}, Service: w.key, Platform: backing,
			Ports:     []discovery.EndpointPort{{Name: "http", Port: 8080}, {Name: "mysql", Port: 3306}},
			Endpoints: []discovery.Endpoint{{ID: backing.String(), Address: "10.0.0.1", Health: h}},
		})
	})
}

// A Service may have any number of backings: a third one is a name that nothing here knows.
func TestThreeBackings(t *testing.T) {
	t.Parallel()
	w := newThreefold(t)
	m := resolve.BuildService(w.Read(), w.key)
	require.Equal(t, elsewhere, m.Home)
	for i := range m.Ports {
		p := &m.Ports[i]
		require.Equal(t, []uint32{0, 0, policy.ShareTotal}, p.Shares)
		for j, want := range []policy.Backing{
			{Platform: discovery.Pods, Failover: []discovery.BackingName{discovery.Instances, elsewhere}},
			{Platform: discovery.Instances, Failover: []discovery.BackingName{discovery.Pods, elsewhere}},
			{Platform: elsewhere, Failover: []discovery.BackingName{discovery.Pods, discovery.Instances}},
		} {
			require.Equal(t, want.Platform, p.Backings[j].Platform)
			require.Equal(t, want.Failover, p.Backings[j].Failover)
			require.True(t, p.Backings[j].Usable())
		}
	}

	// Shares of all three are weights of the clusters, and each of these has the others behind it.
	m.Ports[0].Shares = []uint32{200_000, 300_000, 500_000}
	resources := New().Service(m)
	const last, inOrder = "pods.other-cluster+pods+instances", "web/php:80/pods.other-cluster+pods+instances"
	require.Equal(t, map[string]uint32{"web/php:80/pods+instances+pods.other-cluster": 200_000, "web/php:80/instances+pods+pods.other-cluster": 300_000, inOrder: 500_000},
		weightsOf(t, resources))
	var c clusterv3.Cluster
	decode(t, resources, resource.Cluster, inOrder, &c)
	require.Equal(t, "web/php/80/pods_other-cluster+pods+instances", c.GetAltStatName())
	var members aggregatev3.ClusterConfig
	require.NoError(t, c.GetClusterType().GetTypedConfig().UnmarshalTo(&members))
	require.Equal(t, []string{"web/php:80/pods.other-cluster", "web/php:80/pods", "web/php:80/instances"}, members.GetClusters())
	for _, name := range append(members.GetClusters(), inOrder) {
		decode(t, resources, resource.Cluster, name, &c)
		b, ok := naming.ParseCluster(name)
		require.True(t, ok, name)
		require.Equal(t, w.key, b.Service)
	}
	b, _ := naming.ParseCluster("web/php:80/" + last)
	require.Equal(t, elsewhere, b.Platform)

	// Connections go to the home, then to pods, then to instances.
	require.Equal(t, map[string]uint32{"pods.other-cluster": 0, "pods": 1, "instances": 2}, prioritiesOf(t, resources, naming.Shared(w.key, 3306)))
}

// A shift moves traffic between two backings and leaves a third without any.
func TestThreeBackingsAndAShift(t *testing.T) {
	t.Parallel()
	s := &policy.Shift{From: discovery.Instances, To: elsewhere, Share: 250_000}
	shares := make(map[discovery.BackingName]uint32)
	for _, name := range []discovery.BackingName{discovery.Pods, discovery.Instances, elsewhere} {
		shares[name] = s.ShareOf(name)
	}
	require.Equal(t, map[discovery.BackingName]uint32{discovery.Pods: 0, discovery.Instances: 750_000, elsewhere: 250_000}, shares)
}

// explain says of three backings who answers, as the proxy does.
func TestThreeBackingsAreExplained(t *testing.T) {
	t.Parallel()
	w := newThreefold(t)
	answeredBy := func() string {
		e := explain.Evaluate(w.Read(), explain.Request{From: explain.Workload{Namespace: "web"}, Method: "GET", Host: "php.web", Path: "/"})
		require.Nil(t, e.Answer)
		i := slices.IndexFunc(e.Backends[0].Targets, func(t explain.Target) bool { return t.Percent > 0 })
		target := e.Backends[0].Targets[i]
		require.Equal(t, "web/php:80/pods.other-cluster+pods+instances", target.Cluster)
		require.Contains(t, e.Envoy.Clusters, "web/php:80/instances")
		return target.AnsweredBy
	}
	require.Equal(t, "web/php:80/pods.other-cluster", answeredBy())
	w.has(elsewhere, discovery.Unhealthy)
	require.Equal(t, "web/php:80/pods", answeredBy())
	w.has(discovery.Pods, discovery.Draining)
	require.Equal(t, "web/php:80/instances", answeredBy())
}

func decode(t *testing.T, resources []resource.Resource, kind resource.Type, name string, to proto.Message) {
	t.Helper()
	i := slices.IndexFunc(resources, func(r resource.Resource) bool { return r.Type == kind && r.Name == name })
	require.GreaterOrEqual(t, i, 0, name)
	require.NoError(t, proto.Unmarshal(resources[i].Body.Bytes(), to))
}

func weightsOf(t *testing.T, resources []resource.Resource) map[string]uint32 {
	t.Helper()
	var host routev3.VirtualHost
	decode(t, resources, resource.VirtualHost, "http/php.web:80", &host)
	out := make(map[string]uint32)
	for _, c := range host.GetRoutes()[0].GetRoute().GetWeightedClusters().GetClusters() {
		out[c.GetName()] = c.GetWeight().GetValue()
	}
	return out
}

// prioritiesOf returns the priority of each backing's endpoints in a cluster that all of them share.
func prioritiesOf(t *testing.T, resources []resource.Resource, cluster string) map[string]uint32 {
	t.Helper()
	var cla endpointv3.ClusterLoadAssignment
	decode(t, resources, resource.Endpoint, cluster, &cla)
	out := make(map[string]uint32)
	for _, l := range cla.GetEndpoints() {
		out[l.GetLocality().GetSubZone()] = l.GetPriority()
	}
	return out
}
