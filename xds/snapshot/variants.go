package snapshot

import (
	"maps"
	"slices"

	"github.com/causeway-mesh/causeway/xds/resource"
)

// nodeFrames are the variants for proxies that say which Kubernetes node they run on.
type nodeFrames struct {
	by map[string]*Frame
	// others is resource.Resource.OtherNodes, nil for none.
	others *Frame
}

// at returns the variant for proxies on a node, nil for none. n may be nil.
func (n *nodeFrames) at(node string) *Frame {
	if n == nil || node == "" {
		return nil
	}
	if f, ok := n.by[node]; ok {
		return f
	}
	return n.others
}

func (n *nodeFrames) same(o *nodeFrames) bool {
	if n == nil || o == nil {
		return n == o
	}
	return n.others == o.others && maps.Equal(n.by, o.by)
}

// frameFor returns the frame that a proxy gets; resource.Resource.For has the
// same order.
func (c *content) frameFor(v *View) *Frame {
	key := v.Zone
	if c.byNamespace {
		key = v.Namespace
	} else if f := c.nodes.at(v.NodeName); f != nil {
		return f
	}
	if f, ok := c.variants[key]; ok {
		return f
	}
	return c.frame
}

// frames yields all frames, in an order that stays the same.
func (c *content) frames(yield func(*Frame) bool) {
	if !yield(c.frame) {
		return
	}
	of := []map[string]*Frame{c.variants}
	if c.nodes != nil {
		of = append(of, c.nodes.by)
	}
	for _, variants := range of {
		for _, key := range slices.Sorted(maps.Keys(variants)) {
			if !yield(variants[key]) {
				return
			}
		}
	}
	if c.nodes != nil && c.nodes.others != nil {
		yield(c.nodes.others)
	}
}

// setVariants takes over a resource's variants, each as frame makes it of its body; of
// says where another content has the same variant.
func (c *content) setVariants(r *resource.Resource, frame func(of func(*content) *Frame, body resource.Parts) *Frame) {
	variants := r.ByZone
	if len(r.ByNamespace) > 0 {
		variants, c.byNamespace = r.ByNamespace, true
	}
	if len(variants) > 0 {
		c.variants = make(map[string]*Frame, len(variants))
		for key, body := range variants {
			c.variants[key] = frame(func(o *content) *Frame { return o.variants[key] }, body)
		}
	}
	if !r.HasNodes() {
		return
	}
	c.nodes = &nodeFrames{by: make(map[string]*Frame, len(r.ByNode))}
	for node, body := range r.ByNode {
		c.nodes.by[node] = frame(func(o *content) *Frame {
			if o.nodes == nil {
				return nil
			}
			return o.nodes.by[node]
		}, body)
	}
	if r.OtherNodes != nil {
		c.nodes.others = frame(func(o *content) *Frame {
			if o.nodes == nil {
				return nil
			}
			return o.nodes.others
		}, r.OtherNodes)
	}
}

// bodies is the inverse of setVariants.
func (c *content) bodies(r *resource.Resource) {
	of := func(frames map[string]*Frame) map[string]resource.Parts {
		if len(frames) == 0 {
			return nil
		}
		out := make(map[string]resource.Parts, len(frames))
		for key, f := range frames {
			out[key] = f.body()
		}
		return out
	}
	if c.byNamespace {
		r.ByNamespace = of(c.variants)
	} else {
		r.ByZone = of(c.variants)
	}
	if c.nodes == nil {
		return
	}
	r.ByNode = of(c.nodes.by)
	if c.nodes.others != nil {
		r.OtherNodes = c.nodes.others.body()
	}
}

// spared returns the subscribers for which a resource has not changed, because the variant of their
// node is the same as before: a pod that comes or goes concerns only the callers on its node if
// only those reach it. They are woken all the same, to learn that they are up to date. It returns
// nil if the nodes' variants make no such difference. mu must be held.
func (s *Store) spared(r ref, e *entry, was *content, held bool, wake *bitset) func(slot uint32) bool {
	if r.t.Configuration() || held || e.held != nil || was.frame == nil || e.frame == nil || was.nodes == nil && e.nodes == nil {
		return nil
	}
	return func(slot uint32) bool {
		sub := s.streams[slot]
		if !sub.sent[r.t].has(r.id) || !sub.view.Sees(&was.visible) || !sub.view.Sees(&e.visible) ||
			was.frameFor(&sub.view).Version != e.frameFor(&sub.view).Version {
			return false
		}
		wake.set(slot)
		return true
	}
}
