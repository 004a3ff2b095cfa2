package compile

import (
	"slices"
	"strings"

	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// span is where the endpoints of a node are in a piece.
type span struct {
	node     string
	from, to int
	capacity uint64
}

// note remembers that the endpoint which ends the piece now is on a node.
func (p *piece) note(node string, from int, weight uint64) {
	if last := len(p.spans) - 1; last < 0 || p.spans[last].node != node {
		p.spans = append(p.spans, span{node: node, from: from})
	}
	s := &p.spans[len(p.spans)-1]
	s.to, s.capacity = len(p.body), s.capacity+weight
}

// cut divides a piece into the endpoints of a node and the others; ok is false for one
// that has none there. No endpoint is copied.
func (p *piece) cut(node string) (own, rest piece, ok bool) {
	i, ok := slices.BinarySearchFunc(p.spans, node, func(s span, node string) int { return strings.Compare(s.node, node) })
	if !ok {
		return piece{}, *p, false
	}
	s := &p.spans[i]
	own = piece{zone: p.zone, body: p.body[:p.head:p.head], more: p.body[s.from:s.to:s.to], head: p.head, capacity: s.capacity}
	rest = piece{zone: p.zone, body: p.body[:s.from:s.from], more: p.body[s.to:], head: p.head, capacity: p.capacity - s.capacity}
	return own, rest, true
}

// empty reports whether a piece has no endpoint.
func (p *piece) empty() bool { return len(p.body) == p.head && len(p.more) == 0 }

// from returns a part for callers on a node, its zone among the pieces' and what stands behind it.
func (p *part) from(node string) (own, rest part, zone string) {
	own, rest = part{share: p.share}, part{share: p.share, behind: true}
	for i := range p.pieces {
		mine, others, ok := p.pieces[i].cut(node)
		if ok {
			own.pieces, zone = append(own.pieces, mine), mine.zone
		}
		if !others.empty() {
			rest.pieces = append(rest.pieces, others)
		}
	}
	return own, rest, zone
}

// nodeVariants adds what callers get that say which node they are on. With OwnNodeOnly
// other nodes' endpoints are no endpoints to them, and a caller on a node without
// any has none of the part; with OwnNodeFirst they come behind, by zone as for
// callers anywhere else.
func nodeVariants(r *resource.Resource, head []byte, parts []part, locality v1alpha1.LocalityMode) {
	only, alone := false, true
	for i := range parts {
		only, alone = only || parts[i].nodes == policy.OwnNodeOnly, alone && parts[i].nodes == policy.OwnNodeOnly
	}
	for i := range parts {
		p := &parts[i]
		for j := range p.pieces {
			for _, s := range p.pieces[j].spans {
				if _, done := r.ByNode[s.node]; done || s.node == "" {
					continue
				}
				if r.ByNode == nil {
					r.ByNode = make(map[string]resource.Parts)
				}
				body := nodeAssignment(head, parts, locality, s.node)
				if alone {
					// A variant that stays while others change must not keep all endpoints of its time in memory.
					body = resource.Parts{body.Bytes()}
				}
				r.ByNode[s.node] = body
			}
		}
	}
	if only {
		r.OtherNodes = nodeAssignment(head, parts, locality, "")
	}
}

// nodeAssignment returns the assignment for callers on a node, "" for a node without
// endpoints.
func nodeAssignment(head []byte, parts []part, locality v1alpha1.LocalityMode, node string) resource.Parts {
	var out []part
	zone := ""
	for i := range parts {
		p := &parts[i]
		if p.nodes == policy.AnyNode {
			out = append(out, *p)
			continue
		}
		var own, rest part
		if node != "" {
			own, rest, zone = p.from(node)
			out = append(out, own)
		}
		if p.nodes == policy.OwnNodeFirst {
			out = append(out, rest)
		}
	}
	return rankedAssignment(head, out, locality, zone)
}
