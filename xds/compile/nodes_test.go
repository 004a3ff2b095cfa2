package compile

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// assigned reads a message: the ids at each priority, sorted. Priorities have no gaps, and
// no zone and backing stands twice at one.
func assigned(t *testing.T, parts resource.Parts) [][]string {
	t.Helper()
	var cla endpointv3.ClusterLoadAssignment
	require.NoError(t, proto.Unmarshal(parts.Bytes(), &cla))
	require.Empty(t, cla.ProtoReflect().GetUnknown())
	require.NoError(t, cla.ValidateAll())
	require.Len(t, parts.Bytes(), parts.Len())
	by, seen := make(map[int][]string), make(map[string]bool)
	for _, l := range cla.GetEndpoints() {
		require.NotEmpty(t, l.GetLbEndpoints())
		require.Positive(t, l.GetLoadBalancingWeight().GetValue())
		at := fmt.Sprint(l.GetPriority(), l.GetLocality())
		require.False(t, seen[at], "%s stands twice", at)
		seen[at] = true
		for _, e := range l.GetLbEndpoints() {
			by[int(l.GetPriority())] = append(by[int(l.GetPriority())], e.GetEndpoint().GetHostname())
		}
	}
	out := make([][]string, len(by))
	for priority, ids := range by {
		require.Less(t, priority, len(by), "priorities have a gap")
		out[priority] = slices.Sorted(slices.Values(ids))
	}
	return out
}

func idsOf(zones []policy.Zone) []string {
	var out []string
	for _, z := range zones {
		for _, e := range z.Endpoints {
			out = append(out, e.ID)
		}
	}
	slices.Sort(out)
	return out
}

// What a caller on a node gets is what policy says that it reaches: with Local nothing
// else, with PreferSameNode first, and then all others, each once. Whatever else
// holds, who says no node gets what it would get without.
func TestNodeVariants(t *testing.T) {
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 2))
		plain := randomBacking(r)
		plain.Platform = discovery.Pods
		plain.Settings.Stated.Locality = []v1alpha1.LocalityMode{"", v1alpha1.PreferZone, v1alpha1.StrictLocality, v1alpha1.NoLocality}[r.IntN(4)]
		b, nodes := *plain, make(map[string]bool)
		for i := range b.Zones {
			for j := range b.Zones[i].Endpoints {
				e := &b.Zones[i].Endpoints[j]
				if n := r.IntN(4); n > 0 {
					e.Node = fmt.Sprintf("n-%d-%d", i, n)
					nodes[e.Node] = true
				}
			}
		}
		b.Nodes = []policy.NodeMode{policy.OwnNodeOnly, policy.OwnNodeFirst}[r.IntN(2)]
		m := &policy.Service{Key: discovery.Key{Namespace: "web", Name: "agent"}}
		p := &policy.Port{Number: 80}
		res, without := endpoints(m, p, &b), endpoints(m, p, plain)
		require.Equal(t, assigned(t, without.Body), assigned(t, res.Body))
		require.ElementsMatch(t, slices.Collect(maps.Keys(without.ByZone)), slices.Collect(maps.Keys(res.ByZone)))
		for zone := range without.ByZone {
			require.Equal(t, assigned(t, without.ByZone[zone]), assigned(t, res.ByZone[zone]))
		}
		require.Nil(t, without.ByNode)
		require.Nil(t, without.OtherNodes)
		require.ElementsMatch(t, slices.Collect(maps.Keys(nodes)), slices.Collect(maps.Keys(res.ByNode)))
		for node := range nodes {
			own, rest := policy.ZonesFrom(b.Zones, node)
			got := assigned(t, res.ByNode[node])
			require.Equal(t, idsOf(own), got[0], "seed %d", seed)
			others := slices.Sorted(slices.Values(slices.Concat(got[1:]...)))
			if b.Nodes == policy.OwnNodeOnly {
				require.Empty(t, others, "seed %d", seed)
				require.Equal(t, idsOf(b.From(node).Zones), got[0])
			} else {
				require.Equal(t, idsOf(rest), others, "seed %d", seed)
			}
		}
		if b.Nodes == policy.OwnNodeFirst {
			require.Nil(t, res.OtherNodes, "they get what callers anywhere else get")
			continue
		}
		require.NotNil(t, res.OtherNodes)
		require.Empty(t, assigned(t, res.OtherNodes))
	}
}

// agents is one pod on each of n nodes.
func agents(n int, mode policy.NodeMode) *policy.Backing {
	b := &policy.Backing{Nodes: mode}
	for z := range 3 {
		zone := policy.Zone{Name: fmt.Sprintf("ap-northeast-1%c", 'a'+z)}
		for e := z; e < n; e += 3 {
			zone.Endpoints = append(zone.Endpoints, policy.Endpoint{
				ID: fmt.Sprintf("web/agent-%04d", e), Address: fmt.Sprintf("10.0.%d.%d", e/250, e%250), Port: 8125, Weight: 1, Node: fmt.Sprintf("node-%04d", e),
			})
		}
		b.Zones = append(b.Zones, zone)
	}
	return b
}

// Where pods of other nodes do not answer, a pod that comes or goes on a node changes
// what callers of that node get, and nothing for callers of others.
func TestLocalChangesOneNode(t *testing.T) {
	m := &policy.Service{Key: discovery.Key{Namespace: "web", Name: "agent"}}
	p := &policy.Port{Number: 80}
	before := endpoints(m, p, agents(30, policy.OwnNodeOnly))
	b := agents(30, policy.OwnNodeOnly)
	z := &b.Zones[1]
	z.Endpoints[4].Health, z.Endpoints[4].Reason = discovery.Draining, "Terminating"
	gone := z.Endpoints[2].Node
	z.Endpoints = slices.Delete(z.Endpoints, 2, 3)
	after := endpoints(m, p, b)
	require.NotContains(t, after.ByNode, gone)
	require.Equal(t, before.OtherNodes.Bytes(), after.OtherNodes.Bytes())
	var changed []string
	for node, body := range after.ByNode {
		if string(body.Bytes()) != string(before.ByNode[node].Bytes()) {
			changed = append(changed, node)
		}
	}
	require.Equal(t, []string{"node-0013"}, changed)
}

// A thousand nodes must not cost a thousand times the memory.
func TestNodesShareBytes(t *testing.T) {
	m := &policy.Service{Key: discovery.Key{Namespace: "web", Name: "agent"}}
	p := &policy.Port{Number: 80}
	for _, mode := range []policy.NodeMode{policy.OwnNodeOnly, policy.OwnNodeFirst} {
		res := endpoints(m, p, agents(1000, mode))
		require.Len(t, res.ByNode, 1000)
		shared, fresh := make(map[*byte]bool), 0
		for _, piece := range res.Body {
			for i := range piece {
				shared[&piece[i]] = true
			}
		}
		for _, body := range res.ByNode {
			for _, piece := range body {
				if len(piece) > 0 && !shared[&piece[0]] {
					fresh += cap(piece)
				}
			}
		}
		require.Less(t, fresh/1000, 200, "%s: bytes for each node, of %d for all endpoints", mode, res.Body.Len())
	}
}

func BenchmarkNodeVariants(b *testing.B) {
	m := &policy.Service{Key: discovery.Key{Namespace: "web", Name: "agent"}}
	p := &policy.Port{Number: 80}
	for _, mode := range []policy.NodeMode{policy.AnyNode, policy.OwnNodeOnly, policy.OwnNodeFirst} {
		backing := agents(1000, mode)
		b.Run(mode.String(), func(b *testing.B) {
			for b.Loop() {
				endpoints(m, p, backing)
			}
		})
	}
}
