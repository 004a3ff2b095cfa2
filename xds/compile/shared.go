package compile

import (
	"slices"

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
// Each locality is a backing's part of a zone, with the backing's name as its
// sub-zone, which load reports have too.

// sharedCluster returns the cluster of a TCP port's backings.
func (c *Compiler) sharedCluster(m *policy.Service, p *policy.Port) resource.Resource {
	name := naming.Shared(m.Key, p.Number)
	// Where the backings' settings differ, because a policy is about an
	// InstanceGroup, those of the first count, which are the Service's.
	b := &p.Backings[0]
	for i := range p.Backings {
		if tls := p.Backings[i].TLS; tls != nil && tls.Unknown {
			return unknownCluster(name, naming.SharedStatistic(m.Key, p.Number), m.Provenance)
		}
	}
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
	head := assignmentHead(r.Name)
	settings := &p.Backings[0].Settings
	var parts []part
	zones, nodes := make(map[string]struct{}), false
	for i := range p.Backings {
		b := &p.Backings[i]
		if b.TLS != nil && b.TLS.Failed != "" && !b.TLS.Unknown {
			continue
		}
		// Not even as the last resort: Envoy tries what is draining when nothing
		// else is there. Connections that are open there stay until they end.
		turn := standInTurn(p, i)
		if turn < 0 {
			continue
		}
		pieces := make([]piece, len(b.Zones))
		for j := range b.Zones {
			pieces[j] = zonePiece(&b.Zones[j], b.Platform.String(), b.Nodes)
			zones[b.Zones[j].Name] = struct{}{}
		}
		parts = append(parts, part{share: p.Shares[i], turn: turn, nodes: b.Nodes, pieces: pieces})
		nodes = nodes || b.Nodes != policy.AnyNode
	}
	r.Body = rankedAssignment(head, parts, settings.Locality(), "")
	if nodes {
		nodeVariants(&r, head, parts, settings.Locality())
	}
	if len(zones) < 2 || settings.Locality() == v1alpha1.NoLocality {
		return r
	}
	r.ByZone = make(map[string]resource.Parts, len(zones))
	for zone := range zones {
		if zone != "" {
			r.ByZone[zone] = rankedAssignment(head, parts, settings.Locality(), zone)
		}
	}
	return r
}

// standInTurn returns 0 for a backing that has a share, and for another the place in the order in which it stands
// in for the first that has: 1 for the first, -1 if it does not stand in for any.
func standInTurn(p *policy.Port, backing int) int {
	if p.Shares[backing] > 0 {
		return 0
	}
	for i := range p.Backings {
		if turn := slices.Index(p.Backings[i].Failover, p.Backings[backing].Platform); p.Shares[i] > 0 && turn >= 0 {
			return turn + 1
		}
	}
	return -1
}

// part is endpoints of one backing.
type part struct {
	// share of the traffic in millionths; a part without one only stands in for those that have some.
	share uint32
	// turn is 0 for a part with a share, 1 for what stands in first, and so on.
	turn   int
	nodes  policy.NodeMode
	pieces []piece
	// behind is true for what comes after another part of the same backing.
	behind bool
}

// rankedAssignment puts parts together for callers of a zone, "" for those
// of none that has endpoints.
func rankedAssignment(head []byte, parts []part, locality v1alpha1.LocalityMode, zone string) resource.Parts {
	ranks := ranksOf(parts, locality, zone)
	localities := 0
	for i := range parts {
		localities += len(parts[i].pieces)
	}
	b := newBuilder(head, localities)
	for i := range parts {
		p := &parts[i]
		own := -1
		if locality != v1alpha1.NoLocality && locality != v1alpha1.StrictLocality {
			own = p.zoneIndex(zone)
		}
		capacity := make([]uint64, len(p.pieces))
		for j := range p.pieces {
			capacity[j] = p.pieces[j].capacity
		}
		for j, w := range scaled(zoneWeights(capacity, own), p.share) {
			b.add(&p.pieces[j], w, ranks[i][j])
		}
	}
	return b.done()
}

func (p *part) zoneIndex(zone string) int {
	return slices.IndexFunc(p.pieces, func(p piece) bool { return zone != "" && p.zone == zone })
}

// ranksOf returns the priority of each zone of each part: first what has a
// share, of that what is on the caller's node, what Strict puts behind other zones, and last a
// backing that has none and only stands in. Envoy wants priorities without gaps.
func ranksOf(parts []part, locality v1alpha1.LocalityMode, zone string) [][]uint64 {
	out := make([][]uint64, len(parts))
	last := 0
	for i := range parts {
		last = max(last, parts[i].turn)
	}
	used := make([]bool, 4*(last+1))
	for i := range parts {
		own := parts[i].zoneIndex(zone)
		for j := range parts[i].pieces {
			rank := 4 * uint64(parts[i].turn) //nolint:gosec // not negative
			if locality == v1alpha1.StrictLocality && own >= 0 && j != own {
				rank++
			}
			if parts[i].behind {
				rank += 2
			}
			used[rank] = true
			out[i] = append(out[i], rank)
		}
	}
	dense := make([]uint64, len(used))
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
