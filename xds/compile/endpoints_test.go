package compile

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// straightforward builds the message that endpoints encodes by hand.
func straightforward(name string, b *policy.Backing, weights []uint32) *endpointv3.ClusterLoadAssignment {
	cla := &endpointv3.ClusterLoadAssignment{
		ClusterName: name,
		Policy:      &endpointv3.ClusterLoadAssignment_Policy{OverprovisioningFactor: wrapperspb.UInt32(overprovisioning)},
	}
	status := map[discovery.Health]corev3.HealthStatus{
		discovery.Healthy: corev3.HealthStatus_UNKNOWN, discovery.Unhealthy: corev3.HealthStatus_UNHEALTHY,
		discovery.Draining: corev3.HealthStatus_DRAINING,
	}
	for i, z := range b.Zones {
		l := &endpointv3.LocalityLbEndpoints{
			Locality: &corev3.Locality{Zone: z.Name}, LoadBalancingWeight: wrapperspb.UInt32(weights[i]),
		}
		for _, e := range z.Endpoints {
			l.LbEndpoints = append(l.LbEndpoints, &endpointv3.LbEndpoint{
				HealthStatus: status[e.Health], LoadBalancingWeight: wrapperspb.UInt32(e.Weight),
				HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
					Hostname: e.ID,
					Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
						Address: e.Address, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(e.Port)},
					}}},
				}},
			})
		}
		cla.Endpoints = append(cla.Endpoints, l)
	}
	return cla
}

// randomBacking has up to four zones of up to eight endpoints in all states.
func randomBacking(r *rand.Rand) *policy.Backing {
	b := &policy.Backing{Platform: discovery.Backings()[r.IntN(2)]}
	for z := range r.IntN(5) {
		zone := policy.Zone{Name: fmt.Sprintf("zone-%d", z)}
		if z == 0 && r.IntN(3) == 0 {
			zone.Name = ""
		}
		for e := range 1 + r.IntN(8) {
			zone.Endpoints = append(zone.Endpoints, policy.Endpoint{
				ID: fmt.Sprintf("i-%d-%d", z, e), Address: fmt.Sprintf("10.0.%d.%d", z, e),
				Port: uint16(1 + r.IntN(65535)), Weight: 1 + r.Uint32N(8), //nolint:gosec // in range
				Health: discovery.Health(r.IntN(3)), //nolint:gosec // in range
			})
		}
		b.Zones = append(b.Zones, zone)
	}
	return b
}

// What is encoded by hand is the message that protobuf would encode, for the
// callers of every zone.
func TestEndpointsAreTheMessage(t *testing.T) {
	for seed := range uint64(300) {
		b := randomBacking(rand.New(rand.NewPCG(seed, 0)))
		m := &policy.Service{Key: discovery.Key{Namespace: "web", Name: "php-web"}}
		p := &policy.Port{Number: 80, Backings: []policy.Backing{*b}}
		r := endpoints(m, p, b)
		capacity := make([]uint64, len(b.Zones))
		for i := range b.Zones {
			capacity[i] = zonePiece(&b.Zones[i], "", policy.AnyNode).capacity
		}
		check := func(parts resource.Parts, own int) {
			got := &endpointv3.ClusterLoadAssignment{}
			require.NoError(t, proto.Unmarshal(parts.Bytes(), got))
			require.Empty(t, cmp.Diff(straightforward(r.Name, b, zoneWeights(capacity, own)), got, protocmp.Transform()))
			require.Equal(t, len(parts.Bytes()), parts.Len())
		}
		check(r.Body, -1)
		if len(b.Zones) < 2 {
			require.Nil(t, r.ByZone)
			continue
		}
		for i, z := range b.Zones {
			if z.Name == "" {
				require.NotContains(t, r.ByZone, "", "nobody calls from an unknown zone's own variant")
				continue
			}
			check(r.ByZone[z.Name], i)
		}
	}
}

// stored counts the bytes that a resource holds, shared ones once.
func stored(r resource.Resource) int {
	seen := make(map[*byte]bool)
	total := 0
	count := func(parts resource.Parts) {
		for _, p := range parts {
			if len(p) > 0 && !seen[&p[0]] {
				seen[&p[0]] = true
				total += cap(p)
			}
		}
	}
	count(r.Body)
	for _, parts := range r.ByZone {
		count(parts)
	}
	return total
}

// Variants for three zones must not cost three times the memory.
func TestZonesShareBytes(t *testing.T) {
	backing := func(zones, endpoints int) *policy.Backing {
		b := &policy.Backing{}
		for z := range zones {
			zone := policy.Zone{Name: fmt.Sprintf("ap-northeast-1%c", 'a'+z)}
			for e := range endpoints / zones {
				zone.Endpoints = append(zone.Endpoints, policy.Endpoint{
					ID: fmt.Sprintf("web/php-web-5d9c7b8f6d-%05d", e), Address: fmt.Sprintf("10.244.%d.%d", z, e), Port: 8080, Weight: 1,
				})
			}
			b.Zones = append(b.Zones, zone)
		}
		return b
	}
	m := &policy.Service{Key: discovery.Key{Namespace: "web", Name: "php-web"}}
	for _, n := range []int{30, 300} {
		p := &policy.Port{Number: 80}
		one, three := stored(endpoints(m, p, backing(1, n))), stored(endpoints(m, p, backing(3, n)))
		t.Logf("%d endpoints: %d bytes in one zone, %d in three (%.2f)", n, one, three, float64(three)/float64(one))
		require.LessOrEqual(t, float64(three), 1.3*float64(one))
	}
}

// With callers spread evenly over the zones, every zone gets what it has
// capacity for, and no caller leaves its zone before that zone's capacity is
// used up.
func TestZoneWeights(t *testing.T) {
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 0))
		capacity := make([]uint64, 1+r.IntN(6))
		var total uint64
		for i := range capacity {
			capacity[i] = r.Uint64N(40) * r.Uint64N(2)
			if r.IntN(20) == 0 {
				capacity[i] *= 10_000
			}
			total += capacity[i]
		}
		n := float64(len(capacity))
		load := make([]float64, len(capacity))
		for own := range capacity {
			weights := zoneWeights(capacity, own)
			var sum float64
			for _, w := range weights {
				require.Positive(t, w)
				sum += float64(w)
			}
			require.InDelta(t, weightScale, sum, n+1, "capacity %v own %d: %v", capacity, own, weights)
			for i, w := range weights {
				load[i] += float64(w) / sum / n
			}
			if total > 0 {
				share := float64(capacity[own]) / float64(total)
				require.InDelta(t, math.Min(1, n*share), float64(weights[own])/sum, 0.002, "capacity %v: local share of %d", capacity, own)
			}
		}
		for i, c := range capacity {
			want := 1 / n
			if total > 0 {
				want = float64(c) / float64(total)
			}
			require.InDelta(t, want, load[i], 0.003, "capacity %v: load %v", capacity, load)
		}
	}
}
