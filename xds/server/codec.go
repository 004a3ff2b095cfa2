package server

import (
	"fmt"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// response is a discovery response that is marshalled already: shared frames
// and a tail of its own.
type response struct{ data mem.BufferSlice }

// codec is the server's gRPC codec: it passes ready-made responses through as
// they are and everything else to the protobuf codec. gRPC takes a reference
// to what Marshal returns and frees it once written; frames are not pooled, so
// freeing them does nothing, and any number of streams may be writing the same
// frame at the same time.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(grpcproto.Name)} }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if r, ok := v.(*response); ok {
		return r.data, nil
	}
	data, err := c.CodecV2.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("xds: marshal %T: %w", v, err)
	}
	return data, nil
}

// deltaRequest is an incremental discovery request whose versions, which are
// most of the request of a proxy that reconnects, stay the bytes they came as:
// as a map they would cost more than the whole answer.
type deltaRequest struct {
	discoveryv3.DeltaDiscoveryRequest
	known []snapshot.Known
}

func (r *deltaRequest) request() request {
	return request{
		node: r.GetNode(), url: r.GetTypeUrl(), nonce: r.GetResponseNonce(), fault: r.GetErrorDetail(),
		subscribe: r.GetResourceNamesSubscribe(), unsubscribe: r.GetResourceNamesUnsubscribe(), known: r.known,
	}
}

// fieldInitialVersions is the number of DeltaDiscoveryRequest.initial_resource_versions,
// a map: each entry a message with the key in field 1 and the value in field 2.
const fieldInitialVersions = 5

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if _, ok := v.(*accesslogv3.StreamAccessLogsMessage); ok {
		if err := checkLogMessage(data); err != nil {
			return err
		}
	}
	if r, ok := v.(*deltaRequest); ok {
		// The buffers go back to a pool: what is kept must be a copy.
		return r.unmarshal(data.Materialize())
	}
	m, ok := v.(proto.Message)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	whole := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer whole.Free()
	if err := checkParts(whole.ReadOnlyData(), m.ProtoReflect().Descriptor()); err != nil {
		return err
	}
	return c.CodecV2.Unmarshal(mem.BufferSlice{whole}, v)
}

func (r *deltaRequest) unmarshal(data []byte) error {
	var rest []byte
	for len(data) > 0 {
		number, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return fmt.Errorf("xds: request: %w", protowire.ParseError(n))
		}
		size := protowire.ConsumeFieldValue(number, kind, data[n:])
		if size < 0 {
			return fmt.Errorf("xds: request: %w", protowire.ParseError(size))
		}
		field := data[:n+size]
		if number == fieldInitialVersions && kind == protowire.BytesType {
			entry, _ := protowire.ConsumeBytes(data[n:])
			known, err := knownResource(entry)
			if err != nil {
				return err
			}
			if len(r.known) >= snapshot.MaxNames {
				return errTooManyParts
			}
			r.known = append(r.known, known)
		} else {
			rest = append(rest, field...)
		}
		data = data[len(field):]
	}
	if err := checkParts(rest, r.DeltaDiscoveryRequest.ProtoReflect().Descriptor()); err != nil {
		return err
	}
	if err := proto.Unmarshal(rest, &r.DeltaDiscoveryRequest); err != nil {
		return fmt.Errorf("xds: request: %w", err)
	}
	return nil
}

func knownResource(entry []byte) (k snapshot.Known, err error) {
	for len(entry) > 0 {
		number, kind, n := protowire.ConsumeTag(entry)
		if n < 0 {
			return k, fmt.Errorf("xds: request: initial_resource_versions: %w", protowire.ParseError(n))
		}
		size := protowire.ConsumeFieldValue(number, kind, entry[n:])
		if size < 0 {
			return k, fmt.Errorf("xds: request: initial_resource_versions: %w", protowire.ParseError(size))
		}
		if kind == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(entry[n:])
			switch number {
			case 1:
				k.Name = value
			case 2:
				k.Version = value
			}
		}
		entry = entry[n+size:]
	}
	return k, nil
}
