package server

import (
	"strconv"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// Field numbers of DeltaDiscoveryResponse and DiscoveryResponse
// (envoy/service/discovery/v3/discovery.proto).
const (
	fieldSystemVersion = 1
	fieldDeltaURL      = 4
	fieldNonce         = 5
	fieldRemoved       = 6
	fieldVersion       = 1
	fieldWorldURL      = 4
)

// deltaProtocol is incremental xDS.
type deltaProtocol struct{}

func (deltaProtocol) name() string { return "delta" }

// mode orders clusters before routes for Envoys, which ask for all of them. A
// client of another kind may never ask for clusters; its routes must not wait.
func (deltaProtocol) mode(n *Node) snapshot.Mode { return snapshot.Mode{Ordered: n.Envoy} }

func (deltaProtocol) subscribe(st *stream, t resource.Type, r *request) error {
	names := r.subscribe
	// "For Listener and Cluster an empty list in the first request means the
	// wildcard" (xDS protocol, "How the client specifies what resources to
	// return"), and Envoy 1.40 asks for a route configuration's virtual hosts
	// in the same way.
	wild := t == resource.Cluster || t == resource.Listener || t == resource.VirtualHost
	if !st.types[t].started && len(names) == 0 && wild {
		names = []string{"*"}
	}
	if len(r.unsubscribe) > 0 {
		st.sub.Remove(t, r.unsubscribe)
	}
	if len(names) == 0 && len(r.known) == 0 {
		return nil
	}
	known := r.known
	if st.types[t].started {
		known = nil // only the first request of a type may carry them
	}
	return st.sub.Add(t, names, known)
}

func (deltaProtocol) encode(st *stream, b snapshot.Batch) []outgoing {
	var out []outgoing
	most := len(b.Frames)
	if limit := st.types[b.Type].limit; limit > 0 {
		most = limit
	}
	for rest := b; ; {
		// A response of many megabytes would keep a small one waiting, and
		// clients limit the size of a message.
		n, size := 0, 0
		for n < len(rest.Frames) && n < most && (n == 0 || size+rest.Frames[n].Size <= maxResponse) {
			size += rest.Frames[n].Size
			n++
		}
		part := rest
		part.Frames, part.IDs = rest.Frames[:n], rest.IDs[:n]
		rest.Frames, rest.IDs = rest.Frames[n:], rest.IDs[n:]
		if len(rest.Frames) > 0 {
			part.Removed = nil
		}
		out = append(out, encodeDelta(st, &part))
		if len(rest.Frames) == 0 {
			return out
		}
	}
}

func encodeDelta(st *stream, b *snapshot.Batch) outgoing {
	nonce := st.record(b, b.IDs, b.Cause)
	size := 0
	for _, f := range b.Frames {
		size += f.Size
	}
	data := make(mem.BufferSlice, 0, len(b.Frames)+1)
	if size >= admitFrom {
		data = append(data, st.server.bundles.join(b.Type, b.Frames, size))
	} else {
		for _, f := range b.Frames {
			data = f.AppendDelta(data)
		}
	}
	url := b.Type.URL()
	tail := make([]byte, 0, len(url)+64)
	tail = appendTail(tail, url, fieldDeltaURL, nonce)
	tail = protowire.AppendTag(tail, fieldSystemVersion, protowire.BytesType)
	tail = protowire.AppendString(tail, strconv.FormatUint(b.Index, 10))
	for _, name := range b.Removed {
		tail = protowire.AppendTag(tail, fieldRemoved, protowire.BytesType)
		tail = protowire.AppendString(tail, name)
	}
	data = append(data, mem.SliceBuffer(tail))
	return outgoing{t: b.Type, nonce: nonce, data: data, size: data.Len()}
}
