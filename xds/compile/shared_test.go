package compile

import (
	"math/rand/v2"
	"testing"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// For callers of every zone, the weights of a platform's localities sum to its
// share, and priorities have no gaps: what has a share comes first.
func TestSharedWeights(t *testing.T) {
	t.Parallel()
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 1))
		p := policy.Port{Number: 5432, Protocol: policy.TCP}
		pods, instances := randomBacking(r), randomBacking(r)
		pods.Platform, instances.Platform = discovery.Pods, discovery.Instances
		onPods := []uint32{0, 100, 100_000, 500_000, 1_000_000}[r.IntN(5)]
		p.Backings, p.Shares = []policy.Backing{*pods, *instances}, []uint32{onPods, policy.ShareTotal - onPods}
		p.FailOver()
		mode := []v1alpha1.LocalityMode{"", v1alpha1.PreferZone, v1alpha1.StrictLocality, v1alpha1.NoLocality}[r.IntN(4)]
		p.Backings[0].Settings.Stated.Locality = mode
		m := &policy.Service{Key: discovery.Key{Namespace: "db", Name: "orders"}, Ports: []policy.Port{p}}

		res := sharedEndpoints(m, &m.Ports[0])
		bodies := map[string][]byte{"": res.Body.Bytes()}
		for zone, parts := range res.ByZone {
			bodies[zone] = parts.Bytes()
		}
		for zone, body := range bodies {
			var cla endpointv3.ClusterLoadAssignment
			require.NoError(t, proto.Unmarshal(body, &cla), "seed %d", seed)
			sums := map[string]uint32{}
			ranks := map[uint32]bool{}
			for _, l := range cla.GetEndpoints() {
				ranks[l.GetPriority()] = true
				require.Positive(t, l.GetLoadBalancingWeight().GetValue(), "seed %d", seed)
				platform := l.GetLocality().GetSubZone()
				sums[platform] += l.GetLoadBalancingWeight().GetValue()
				share := p.Shares[0]
				if platform == "instances" {
					share = p.Shares[1]
				}
				if share == 0 && l.GetPriority() == 0 {
					require.Len(t, sums, 1, "seed %d: what has no share comes first only if nothing else is there", seed)
				}
			}
			for rank := range uint32(len(ranks)) {
				require.True(t, ranks[rank], "seed %d, zone %q: priorities %v", seed, zone, ranks)
			}
			for i, platform := range []string{"pods", "instances"} {
				if p.Shares[i] > 0 && len(p.Backings[i].Zones) > 0 {
					require.InDelta(t, p.Shares[i], sums[platform], 5, "seed %d, zone %q", seed, zone)
				}
			}
		}
	}
}
