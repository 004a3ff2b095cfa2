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
// callers of every zone and each way to prefer one's own.
func TestZonesAreEnvoys(t *testing.T) {
	seed := uint64(time.Now().UnixNano()) //nolint:gosec // any will do
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	key := discovery.Key{Namespace: "web", Name: "php"}
	for range 500 {
		set := &discovery.EndpointSet{Key: key, Service: key, Ports: []discovery.EndpointPort{{Name: "http", Port: 80}}}
		for i := range 1 + r.IntN(12) {
			set.Endpoints = append(set.Endpoints, discovery.Endpoint{
				ID: fmt.Sprint(i), Address: fmt.Sprintf("10.0.0.%d", i), Zone: string(rune('a' + r.IntN(4))),
				Weight: 1 + r.Uint32N(4), Health: []discovery.Health{discovery.Healthy, discovery.Healthy, discovery.Draining}[r.IntN(3)],
			})
		}
		mode := []v1alpha1.LocalityMode{"", v1alpha1.PreferZone, v1alpha1.StrictLocality, v1alpha1.NoLocality}[r.IntN(4)]
		c := catalog.New()
		_, err := c.Write(time.Time{}, func(tx *catalog.Tx) error {
			catalog.Services.Put(tx, &discovery.Service{Key: key, Ports: []discovery.ServicePort{{Name: "http", Port: 80}}, Home: "Pods"})
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
		for _, zone := range []string{"a", "b", "c", "d", "elsewhere"} {
			req, err := explain.ParseRequest(explain.Workload{Namespace: "web", Zone: zone}, "GET", "http://php/", nil)
			require.NoError(t, err)
			e := explain.Evaluate(c.Read(), req)
			want := weights(t, compile.New().Service(resolve.BuildService(c.Read(), key)), zone)
			if len(want) == 0 {
				continue // nobody is usable, which Envoy's last resort decides
			}
			for _, z := range e.Backends[0].Targets[0].Zones {
				// Envoy's weights are whole numbers, and never 0.
				require.InDelta(t, want[z.Name], z.Percent, 0.1, "mode %q, caller in %s, zone %s of %+v", mode, zone, z.Name, set.Endpoints)
			}
		}
	}
}

// weights returns the part of the requests in percent that callers of a zone send to each zone, nil if no endpoint is usable.
func weights(t *testing.T, resources []resource.Resource, caller string) map[string]float64 {
	t.Helper()
	for i := range resources {
		if resources[i].Type != resource.Endpoint {
			continue
		}
		body, ok := resources[i].ByZone[caller]
		if !ok {
			body = resources[i].Body
		}
		var cla endpointv3.ClusterLoadAssignment
		require.NoError(t, proto.Unmarshal(body.Bytes(), &cla))
		// The first priority that has a usable endpoint gets everything, and in it only zones that have one.
		for priority := range uint32(2) {
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
			return out
		}
	}
	return nil
}
