package compile

import (
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// Backings of a TCP port share one cluster, in which the share is the weight of
// their localities. HTTP has its weights in routes, which change under open
// connections; a TCP listener has them in its filter chain, and Envoy closes
// the connections of a chain that changes once its drain time has passed
// (Envoy: listener updates). Moving the share by endpoints closes none: new
// connections go by the new weights, and open ones end when they end.
//
// Each locality is a platform's part of a zone, with the platform as its
// sub-zone, which load reports have too.

// sharedCluster returns the cluster of a TCP port's backings.
func (c *Compiler) sharedCluster(m *policy.Service, p *policy.Port) resource.Resource {
	name := naming.Shared(m.Key, p.Number)
	// Where the backings' settings differ, because a policy is about an
	// InstanceGroup, those of the first count, which are the Service's.
	b := &p.Backings[0]
	return c.edsCluster(m, p, name, naming.SharedStatistic(m.Key, p.Number), &b.Settings, b.TLS)
}

// sharedUnknown reports whether the endpoints of one of a TCP port's backings
// are not known. Without them the others would get its share.
func sharedUnknown(p *policy.Port) bool {
	return slices.ContainsFunc(p.Backings, func(b policy.Backing) bool { return b.Unknown })
}

// sharedEndpoints returns the endpoints of a TCP port's backings.
func sharedEndpoints(m *policy.Service, p *policy.Port) resource.Resource {
	r := resource.Resource{Type: resource.Endpoint, Name: naming.Shared(m.Key, p.Number), Provenance: m.Provenance}
	head := appendString(nil, assignmentName, r.Name)
	head = appendBytes(head, assignmentPolicy, appendWrapped(nil, policyFactor, overprovisioning))
	settings := &p.Backings[0].Settings
	var parts []sharedPart
	zones := make(map[string]struct{})
	for i := range p.Backings {
		b := &p.Backings[i]
		if b.TLS != nil && b.TLS.Failed != "" {
			continue
		}
		// Not even as the last resort: Envoy tries what is draining when nothing
		// else is there. Connections that are open there stay until they end.
		if p.Shares[i] == 0 && !p.Failover {
			continue
		}
		bodies, capacity := make([][]byte, len(b.Zones)), make([]uint64, len(b.Zones))
		for j := range b.Zones {
			bodies[j], capacity[j] = zoneBody(&b.Zones[j], b.Platform.String())
			zones[b.Zones[j].Name] = struct{}{}
		}
		parts = append(parts, sharedPart{b, p.Shares[i], bodies, capacity})
	}
	r.Body = sharedAssignment(head, parts, settings.Locality(), "")
	if len(zones) < 2 || settings.Locality() == v1alpha1.NoLocality {
		return r
	}
	r.ByZone = make(map[string]resource.Parts, len(zones))
	for zone := range zones {
		if zone != "" {
			r.ByZone[zone] = sharedAssignment(head, parts, settings.Locality(), zone)
		}
	}
	return r
}

// sharedPart is a backing's part of a shared cluster.
type sharedPart struct {
	backing  *policy.Backing
	share    uint32
	bodies   [][]byte
	capacity []uint64
}

// sharedAssignment puts the parts together for callers of a zone, "" for those
// of none that has endpoints.
func sharedAssignment(head []byte, parts []sharedPart, locality v1alpha1.LocalityMode, zone string) resource.Parts {
	ranks := ranksOf(parts, locality, zone)
	out := resource.Parts{}
	between := append(make([]byte, 0, len(head)+16), head...)
	for i := range parts {
		p := &parts[i]
		own := -1
		if locality != v1alpha1.NoLocality && locality != v1alpha1.StrictLocality {
			own = zoneIndex(p.backing, zone)
		}
		for j, w := range scaled(zoneWeights(p.capacity, own), p.share) {
			after := appendWrapped(nil, localityWeight, uint64(w))
			if rank := ranks[i][j]; rank > 0 {
				after = appendVarint(after, localityPriority, rank)
			}
			between = protowire.AppendTag(between, assignmentEndpoints, protowire.BytesType)
			between = protowire.AppendVarint(between, uint64(len(p.bodies[j])+len(after)))
			out = append(out, between, p.bodies[j])
			between = after
		}
	}
	return append(out, between)
}

func zoneIndex(b *policy.Backing, zone string) int {
	for i := range b.Zones {
		if zone != "" && b.Zones[i].Name == zone {
			return i
		}
	}
	return -1
}

// ranksOf returns the priority of each zone of each part: first what has a
// share, what Strict puts behind other zones, and last a backing that has none
// and only stands in. Envoy wants priorities without gaps.
func ranksOf(parts []sharedPart, locality v1alpha1.LocalityMode, zone string) [][]uint64 {
	out := make([][]uint64, len(parts))
	used := [4]bool{}
	for i := range parts {
		own := zoneIndex(parts[i].backing, zone)
		for j := range parts[i].bodies {
			rank := uint64(0)
			if locality == v1alpha1.StrictLocality && own >= 0 && j != own {
				rank++
			}
			if parts[i].share == 0 {
				rank += 2
			}
			used[rank] = true
			out[i] = append(out[i], rank)
		}
	}
	var dense [4]uint64
	next := uint64(0)
	for rank := range used {
		if dense[rank] = next; used[rank] {
			next++
		}
	}
	for i := range out {
		for j := range out[i] {
			out[i][j] = dense[out[i][j]]
		}
	}
	return out
}

// scaled returns weights in proportion, with a share (in millionths) as their
// sum; a backing that only stands in keeps its own. None is 0.
func scaled(weights []uint32, share uint32) []uint32 {
	var sum uint64
	for _, w := range weights {
		sum += uint64(w)
	}
	if share == 0 || sum == 0 {
		return weights
	}
	out := make([]uint32, len(weights))
	for i, w := range weights {
		out[i] = uint32(max(uint64(w)*uint64(share)/sum, 1))
	}
	return out
}
