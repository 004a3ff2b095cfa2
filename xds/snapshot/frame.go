package snapshot

import (
	"strconv"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/causeway-mesh/causeway/xds/resource"
)

// Field numbers of envoy/service/discovery/v3/discovery.proto and google/protobuf/any.proto.
const (
	fieldResources       = 2 // of DeltaDiscoveryResponse and of DiscoveryResponse
	fieldResourceVersion = 1
	fieldResourceAny     = 2
	fieldResourceName    = 3
	fieldAnyURL          = 1
	fieldAnyValue        = 2
)

// Frame is one resource as it goes over the wire: the bytes of one element of
// the field "resources", with tag and length, so that the concatenation of any
// frames is a valid part of a response. Frames are encoded once and shared by
// every stream; nobody may change their bytes.
type Frame struct {
	// Version is the content's hash: equal content has an equal version on
	// every replica and after every restart.
	Version string
	// Size of the delta frame in bytes.
	Size int

	delta mem.BufferSlice
	// any is the Any message: the tail of the delta frame.
	any     mem.BufferSlice
	anySize int
	// bodyAt is where the message itself begins in any.
	bodyAt int
}

func newFrame(t resource.Type, name, version string, body resource.Parts) *Frame {
	url := t.URL()
	bodySize := body.Len()
	anySize := lenField(fieldAnyURL, len(url)) + lenField(fieldAnyValue, bodySize)
	resourceSize := lenField(fieldResourceVersion, len(version)) + lenField(fieldResourceName, len(name)) +
		lenField(fieldResourceAny, anySize)
	header := lenField(fieldResources, resourceSize) - bodySize

	f := &Frame{Version: version, Size: header + bodySize, anySize: anySize, bodyAt: anySize - bodySize}
	// A body in one piece goes into one buffer with its header. Pieces that
	// are shared with other frames stay where they are.
	contiguous := len(body) <= 1
	size := header
	if contiguous {
		size += bodySize
	}
	b := make([]byte, 0, size)
	b = protowire.AppendTag(b, fieldResources, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(resourceSize)) //nolint:gosec // a length
	b = protowire.AppendTag(b, fieldResourceVersion, protowire.BytesType)
	b = protowire.AppendString(b, version)
	b = protowire.AppendTag(b, fieldResourceName, protowire.BytesType)
	b = protowire.AppendString(b, name)
	b = protowire.AppendTag(b, fieldResourceAny, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(anySize)) //nolint:gosec // a length
	start := len(b)
	b = protowire.AppendTag(b, fieldAnyURL, protowire.BytesType)
	b = protowire.AppendString(b, url)
	b = protowire.AppendTag(b, fieldAnyValue, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(bodySize)) //nolint:gosec // a length
	if contiguous {
		for _, p := range body {
			b = append(b, p...)
		}
		f.delta = mem.BufferSlice{mem.SliceBuffer(b)}
		f.any = mem.BufferSlice{mem.SliceBuffer(b[start:])}
		return f
	}
	f.delta = make(mem.BufferSlice, 0, len(body)+1)
	f.delta = append(f.delta, mem.SliceBuffer(b))
	for _, p := range body {
		f.delta = append(f.delta, mem.SliceBuffer(p))
	}
	f.any = append(mem.BufferSlice{mem.SliceBuffer(b[start:])}, f.delta[1:]...)
	return f
}

// AppendDelta appends the frame for a DeltaDiscoveryResponse.
func (f *Frame) AppendDelta(to mem.BufferSlice) mem.BufferSlice { return append(to, f.delta...) }

// AppendSotW appends the frame for a DiscoveryResponse, whose resources are
// bare Any messages.
func (f *Frame) AppendSotW(to mem.BufferSlice) mem.BufferSlice {
	head := protowire.AppendTag(make([]byte, 0, 8), fieldResources, protowire.BytesType)
	head = protowire.AppendVarint(head, uint64(f.anySize)) //nolint:gosec // a length
	return append(append(to, mem.SliceBuffer(head)), f.any...)
}

// body returns the message itself.
func (f *Frame) body() resource.Parts {
	out := make(resource.Parts, 0, len(f.any))
	skip := f.bodyAt // all of it in the first buffer
	for _, b := range f.any {
		if data := b.ReadOnlyData()[skip:]; len(data) > 0 {
			out = append(out, data)
		}
		skip = 0
	}
	return out
}

// lenField returns the encoded size of a length-delimited field with n bytes.
func lenField(number protowire.Number, n int) int {
	return protowire.SizeTag(number) + protowire.SizeBytes(n)
}

// contentVersion hashes a message. 64 bits tell apart the few versions that a
// resource of one name ever has.
func contentVersion(body resource.Parts) string {
	h := xxhash.New()
	for _, p := range body {
		_, _ = h.Write(p) // never fails
	}
	return strconv.FormatUint(h.Sum64(), 36)
}
