package equivalence

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/explain"
	"github.com/causeway-mesh/causeway/policy/resolve"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/xds/compile"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// The parts that explain gives to zones are the weights that Envoy gets, for
// callers of every zone and node and each way to prefer one's own.
func TestZonesAreEnvoys(t *testing.T) {
	seed := uint64(time.Now().UnixNano()) //nolint:gosec // any will do
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	key := discovery.Key{Namespace: "web", Name: "php"}
	for range 500 {
		set := &discovery.EndpointSet{Key: key, Service: key, Platform: discovery.Pods, Ports: []discovery.EndpointPort{{Name: "http", Port: 80}}}
		for i := range 1 + r.IntN(12) {
			set.Endpoints = append(set.Endpoints, discovery.Endpoint{
				ID: fmt.Sprint(i), Address: fmt.Sprintf("10.0.0.%d", i), Zone: string(rune('a' + r.IntN(4))), Node: []string{"", "n1", "n2", "n3"}[r.IntN(4)],
				Weight: 1 + r.Uint32N(4), Health: []discovery.Health{discovery.Healthy, discovery.Healthy, discovery.Draining}[r.IntN(3)],
			})
		}
		mode := []v1alpha1.LocalityMode{"", v1alpha1.PreferZone, v1alpha1.StrictLocality, v1alpha1.NoLocality}[r.IntN(4)]
		local, distribution := r.IntN(3) == 0, []string{"", "PreferClose", "PreferSameNode"}[r.IntN(3)]
		c := catalog.New()
		_, err := c.Write(time.Time{}, func(tx *catalog.Tx) error {
			s := &discovery.Service{Key: key, Ports: []discovery.ServicePort{{Name: "http", Port: 80}}, Home: "Pods"}
			s.LocalTraffic, s.Distribution = local, distribution
			catalog.Services.Put(tx, s)
			catalog.Endpoints.Put(tx, set)
			p := &v1alpha1.TrafficPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "p"}}
			p.Spec.TargetRefs = []v1alpha1.TargetReference{{Kind: "Service", Name: "php"}}
			p.Spec.Locality = mode
			catalog.Objects.Put(tx, &discovery.Object{
				Kind: "TrafficPolicy", Key: discovery.Key{Namespace: "web", Name: "p"}, Spec: p, Refs: []discovery.ObjectName{{Kind: "Service", Key: key}},
			})
			return nil
		})
		require.NoError(t, err)
		for _, at := range []resource.Place{
			{Zone: "a"}, {Zone: "b"}, {Zone: "c"}, {Zone: "d"}, {Zone: "elsewhere"}, {Zone: "a", Node: "n1"}, {Zone: "b", Node: "n2"}, {Zone: "c", Node: "n4"},
		} {
			req, err := explain.ParseRequest(explain.Workload{Namespace: "web", Zone: at.Zone, Node: at.Node}, "GET", "http://php/", nil)
			require.NoError(t, err)
			e := explain.Evaluate(c.Read(), req)
			want, ids := weights(t, compile.New().Service(resolve.BuildService(c.Read(), key)), at)
			got := make(map[string]float64)
			var reached []string
			for _, z := range e.Backends[0].Targets[0].Zones {
				got[z.Name] += z.Percent
				for _, e := range z.Endpoints {
					reached = append(reached, e.ID)
				}
			}
			require.ElementsMatch(t, ids, reached, "caller at %+v", at)
			require.Equal(t, len(ids) == 0, e.Answer != nil, "caller at %+v: %+v", at, e.Answer)
			if len(want) == 0 {
				continue // nobody is usable, which Envoy's last resort decides
			}
			for zone, percent := range got {
				// Envoy's weights are whole numbers, and never 0.
				require.InDelta(t, want[zone], percent, 0.1, "mode %q, local %t, %q, caller at %+v, zone %s of %+v", mode, local, distribution, at, zone, set.Endpoints)
			}
		}
	}
}

// weights returns the part of the requests in percent that callers at a place send to each zone, nil if no endpoint
// is usable, and all endpoints that they have.
func weights(t *testing.T, resources []resource.Resource, caller resource.Place) (parts map[string]float64, ids []string) {
	t.Helper()
	for i := range resources {
		if resources[i].Type != resource.Endpoint {
			continue
		}
		var cla endpointv3.ClusterLoadAssignment
		require.NoError(t, proto.Unmarshal(resources[i].For(caller).Bytes(), &cla))
		for _, l := range cla.GetEndpoints() {
			for _, e := range l.GetLbEndpoints() {
				ids = append(ids, e.GetEndpoint().GetHostname())
			}
		}
		// The first priority that has a usable endpoint gets everything, and in it only zones that have one.
		for priority := range uint32(3) {
			out, total := map[string]float64{}, 0.0
			for _, l := range cla.GetEndpoints() {
				usable := false
				for _, e := range l.GetLbEndpoints() {
					usable = usable || e.GetHealthStatus() == 0
				}
				if l.GetPriority() == priority && usable {
					out[l.GetLocality().GetZone()] = float64(l.GetLoadBalancingWeight().GetValue())
					total += out[l.GetLocality().GetZone()]
				}
			}
			if total == 0 {
				continue
			}
			for zone := range out {
				out[zone] *= 100 / total
			}
			return out, ids
		}
	}
	return nil, ids
}
