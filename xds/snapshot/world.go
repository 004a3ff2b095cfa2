package snapshot

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/causeway-mesh/causeway/xds/resource"
)

// fieldVirtualHosts is the number of RouteConfiguration.virtual_hosts.
const fieldVirtualHosts = 2

// fieldVhds is the number of RouteConfiguration.vhds.
const fieldVhds = 9

// worldBatch turns changes into a state-of-the-world response. Clusters and
// listeners are always complete, because the client deletes those that are
// missing. Endpoints and routes are the changed ones. This protocol cannot
// carry virtual hosts: they become a change of their route configuration.
func (sub *Subscriber) worldBatch(b Batch) (Batch, bool) {
	s := sub.store
	switch b.Type {
	case resource.Cluster, resource.Listener:
		b.Frames, b.IDs, b.Removed = nil, nil, nil
		for id := range sub.sent[b.Type].all() {
			e := s.tables[b.Type].entries[id]
			if e == nil {
				continue
			}
			f := e.last // removed, but not yet for this stream
			if c := e.at(sub); c.frame != nil {
				f = c.frameFor(&sub.view)
			} else if e.frame != nil {
				f = e.frameFor(&sub.view)
			}
			if f != nil {
				b.Frames = append(b.Frames, f)
				b.IDs = append(b.IDs, id)
			}
		}
		return b, true
	case resource.VirtualHost:
		for _, config := range sub.configs {
			if id, ok := s.tables[resource.Route].ids[config]; ok {
				sub.dirty[resource.Route].set(id)
				if sub.cause[resource.Route].IsZero() {
					sub.cause[resource.Route] = b.Cause
				}
			}
		}
		return b, false
	case resource.Route:
		for i, id := range b.IDs {
			b.Frames[i] = sub.inlineRoute(s.tables[resource.Route].entries[id], b.Frames[i])
		}
	}
	return b, len(b.Frames) > 0 || len(b.Removed) == 0
}

// hostHeld reports whether a changed virtual host must wait that the client has
// within a route configuration. Then the whole route configuration waits,
// because the former content is not kept.
func (sub *Subscriber) hostHeld(route string) bool {
	for id := range sub.held[resource.VirtualHost].all() {
		e := sub.store.tables[resource.VirtualHost].entries[id]
		if e != nil && sub.sent[resource.VirtualHost].has(id) && e.config == route {
			return true
		}
	}
	return false
}

// hostStandsIn reports whether a virtual host of a route configuration is only a stand-in.
// The client does not say which virtual hosts it has, and a stand-in would replace the one
// that it has.
func (sub *Subscriber) hostStandsIn(route string) bool {
	for id := range sub.held[resource.VirtualHost].all() {
		e := sub.store.tables[resource.VirtualHost].entries[id]
		if e != nil && e.at(sub).standIn && e.config == route {
			return true
		}
	}
	return false
}

// withholdsAll reports whether nothing of a type may be sent, because one of the due resources
// is only a stand-in. A response lists all listeners, so the client would lose the one that it
// has.
func (sub *Subscriber) withholdsAll(t resource.Type, due bitset) bool {
	if !sub.mode.StateOfTheWorld || t != resource.Listener {
		return false
	}
	for id := range due.all() {
		if e := sub.store.tables[t].entries[id]; e != nil && e.at(sub).standIn && sub.view.Sees(&e.at(sub).visible) {
			return true
		}
	}
	return false
}

// inlineRoute returns a route configuration with the virtual hosts that the
// subscriber sees inside it instead of a reference to VHDS.
func (sub *Subscriber) inlineRoute(e *entry, f *Frame) *Frame {
	s := sub.store
	body := slices.Concat(f.body()...)
	plain, hadVhds := withoutField(body, fieldVhds)
	if !hadVhds {
		return f
	}
	parts := resource.Parts{plain}
	var hosts []*entry
	for id := range sub.sent[resource.VirtualHost].all() {
		h := s.tables[resource.VirtualHost].entries[id]
		if h != nil && h.at(sub).frame != nil && h.config == e.name {
			hosts = append(hosts, h)
		}
	}
	slices.SortFunc(hosts, func(a, b *entry) int { return strings.Compare(a.name, b.name) })
	for _, h := range hosts {
		host := h.at(sub).frameFor(&sub.view).body()
		head := protowire.AppendTag(nil, fieldVirtualHosts, protowire.BytesType)
		parts = append(parts, protowire.AppendVarint(head, uint64(host.Len()))) //nolint:gosec // a length
		parts = append(parts, host...)
	}
	return newFrame(resource.Route, e.name, contentVersion(parts), parts)
}

// withoutField returns a message without the fields of a number, and whether it had any.
func withoutField(message []byte, number protowire.Number) (out []byte, had bool) {
	out = make([]byte, 0, len(message))
	for rest := message; len(rest) > 0; {
		n, _, size := protowire.ConsumeField(rest)
		if size < 0 {
			return message, false // not a message; compile marshals, so this cannot be
		}
		if n == number {
			had = true
		} else {
			out = append(out, rest[:size]...)
		}
		rest = rest[size:]
	}
	return out, had
}
