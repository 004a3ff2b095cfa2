package server

import (
	"slices"
	"strconv"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// worldProtocol is state-of-the-world xDS. It remembers the names that the
// client wants, because every request lists all of them.
type worldProtocol struct {
	names [resource.Types][]string // sorted
	// claimed is the version that a reconnecting client says it has of a type:
	// if it is what would be sent, nothing is.
	claimed [resource.Types]string
}

func (*worldProtocol) name() string { return "sotw" }

func (*worldProtocol) mode(n *Node) snapshot.Mode {
	return snapshot.Mode{StateOfTheWorld: true, Ordered: n.Envoy}
}

func (p *worldProtocol) subscribe(st *stream, t resource.Type, r *request) error {
	started := st.types[t].started
	last := st.types[t].lastNonce // 0 if nothing was sent yet: then there is nothing to be stale to
	if started && last != 0 && r.nonce != strconv.FormatUint(last, 10) {
		return nil // stale: the client will answer the newer response
	}
	names := r.subscribe
	if len(names) == 0 && (t == resource.Cluster || t == resource.Listener) && (!started || len(p.names[t]) == 1 && p.names[t][0] == "*") {
		names = []string{"*"}
	}
	if !started {
		p.claimed[t] = r.version
	}
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	var added, gone []string
	for _, n := range names {
		if _, ok := slices.BinarySearch(p.names[t], n); !ok {
			added = append(added, n)
		}
	}
	for _, n := range p.names[t] {
		if _, ok := slices.BinarySearch(names, n); !ok {
			gone = append(gone, n)
		}
	}
	p.names[t] = names
	if len(gone) > 0 {
		st.sub.Remove(t, gone)
	}
	if len(added) == 0 {
		return nil
	}
	return st.sub.Add(t, added, nil)
}

func (p *worldProtocol) encode(st *stream, b snapshot.Batch) []outgoing {
	if len(b.Frames) == 0 && b.Type != resource.Cluster && b.Type != resource.Listener {
		return nil // names that do not exist: this protocol has no word for it
	}
	version := worldVersion(b.Frames)
	claimed := p.claimed[b.Type]
	p.claimed[b.Type] = ""
	if claimed != "" && claimed == version {
		return nil
	}
	nonce := st.record(&b, b.IDs, b.Cause)
	data := make(mem.BufferSlice, 0, 2*len(b.Frames)+1)
	for _, f := range b.Frames {
		data = f.AppendSotW(data)
	}
	url := b.Type.URL()
	tail := make([]byte, 0, len(url)+64)
	tail = appendTail(tail, url, fieldWorldURL, nonce)
	tail = protowire.AppendTag(tail, fieldVersion, protowire.BytesType)
	tail = protowire.AppendString(tail, version)
	data = append(data, mem.SliceBuffer(tail))
	return []outgoing{{t: b.Type, nonce: nonce, data: data, size: data.Len()}}
}

// worldVersion is the version of a response: the hash of its resources'
// versions, so that every replica gives the same content the same version.
func worldVersion(frames []*snapshot.Frame) string {
	versions := make([]string, 0, len(frames))
	for _, f := range frames {
		versions = append(versions, f.Version)
	}
	slices.Sort(versions)
	h := xxhash.New()
	for _, v := range versions {
		_, _ = h.WriteString(v) // never fails
		_, _ = h.WriteString(" ")
	}
	return strconv.FormatUint(h.Sum64(), 36)
}
