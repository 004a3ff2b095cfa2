// Package compile turns the mesh model into Envoy resources. It is pure and
// deterministic to the byte: equal models give equal bytes, on every replica
// and in every run. The names that others rely on are those of policy/naming.
package compile

import (
	"cmp"
	"slices"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// Compiler makes resources. It holds the parts that all of them share, made
// once, and never changes: it may be used concurrently.
type Compiler struct {
	clusters     map[policy.Protocol][]byte
	otherHost    []*routev3.RetryPolicy_RetryHostPredicate
	otherBacking *routev3.RetryPolicy_RetryPriority
	unreached    []*routev3.HeaderMatcher
}

// New returns a compiler.
func New() *Compiler {
	c := &Compiler{
		clusters: make(map[policy.Protocol][]byte), otherHost: otherHost(), otherBacking: otherBacking(), unreached: unreached(),
	}
	for _, p := range []policy.Protocol{policy.HTTP1, policy.HTTP2, policy.TCP} {
		c.clusters[p] = marshal(clusterBase(p, &policy.Settings{}))
	}
	return c
}

// Service returns the resources of a Service, sorted by type and name. Where
// endpoints are not known their cluster has none among the resources: a proxy
// that reconnects then keeps those that it has, as an empty list would not let it.
// Where it is not known who has the traffic, virtual hosts stand in (resource.StandIn),
// and the endpoints of TCP ports, which have the shares, are left out.
func (c *Compiler) Service(m *policy.Service) []resource.Resource {
	out := make([]resource.Resource, 0, 8*len(m.Ports))
	for i := range m.Ports {
		p := &m.Ports[i]
		if p.Protocol == policy.TCP {
			out = append(out, shiftedCluster(m, p, c.sharedCluster(m, p)))
			if m.Unknown == "" && !sharedUnknown(p) {
				out = append(out, sharedEndpoints(m, p))
			}
		} else {
			out = append(out, c.backings(m, p)...)
			out = append(out, c.virtualHosts(m, p)...)
			out = append(out, c.shadow(m, p)...)
		}
		for j := range p.Groups {
			g := &p.Groups[j]
			out = append(out, c.groupCluster(m, p, g))
			if !g.Unknown {
				out = append(out, groupEndpoints(m, p, g))
			}
		}
	}
	slices.SortFunc(out, func(a, b resource.Resource) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// backings returns the clusters of an HTTP port: one for each backing, and those
// in which they stand in for each other.
func (c *Compiler) backings(m *policy.Service, p *policy.Port) []resource.Resource {
	var out []resource.Resource
	for i := range p.Backings {
		b := &p.Backings[i]
		out = append(out, c.cluster(m, p, b))
		if !b.Unknown {
			out = append(out, endpoints(m, p, b))
		}
		if len(b.Failover) > 0 {
			out = append(out, failover(m, p, b))
		}
	}
	return out
}
