package server

import (
	"errors"
	"fmt"
	"unicode/utf8"

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

// deltaRequest is an incremental discovery request whose names and versions,
// which are most of the request of a proxy that connects, stay the bytes they
// came as: as strings and a map of their own they would cost more than the
// whole answer. DeltaDiscoveryRequest has the other fields.
type deltaRequest struct {
	discoveryv3.DeltaDiscoveryRequest
	// subscribe and unsubscribe are parts of one string, which nobody may keep for one name's sake.
	subscribe, unsubscribe []string
	known                  []snapshot.Known
}

func (r *deltaRequest) request() request {
	return request{
		node: r.GetNode(), url: r.GetTypeUrl(), nonce: r.GetResponseNonce(), fault: r.GetErrorDetail(),
		subscribe: r.subscribe, unsubscribe: r.unsubscribe, known: r.known,
	}
}

// Field numbers of DeltaDiscoveryRequest (envoy/service/discovery/v3/discovery.proto).
const (
	fieldSubscribe   = 3
	fieldUnsubscribe = 4
	// fieldInitialVersions is a map: each entry a message with the key in field 1 and the value in field 2.
	fieldInitialVersions = 5
)

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
	text := string(data)
	for at := 0; at < len(data); {
		number, kind, n := protowire.ConsumeTag(data[at:])
		if n < 0 {
			return fmt.Errorf("xds: request: %w", protowire.ParseError(n))
		}
		size := protowire.ConsumeFieldValue(number, kind, data[at+n:])
		if size < 0 {
			return fmt.Errorf("xds: request: %w", protowire.ParseError(size))
		}
		field := data[at : at+n+size]
		at += len(field)
		if kind != protowire.BytesType || number < fieldSubscribe || number > fieldInitialVersions {
			rest = append(rest, field...)
			continue
		}
		value, _ := protowire.ConsumeBytes(field[n:])
		if err := r.take(number, value, text[at-len(value):at]); err != nil {
			return err
		}
	}
	if err := checkParts(rest, r.DeltaDiscoveryRequest.ProtoReflect().Descriptor()); err != nil {
		return err
	}
	if err := proto.Unmarshal(rest, &r.DeltaDiscoveryRequest); err != nil {
		return fmt.Errorf("xds: request: %w", err)
	}
	return nil
}

// take takes over a name or a version; text is value.
func (r *deltaRequest) take(number protowire.Number, value []byte, text string) error {
	if number == fieldInitialVersions {
		known, err := knownResource(value)
		if err != nil {
			return err
		}
		if len(r.known) >= snapshot.MaxNames {
			return errTooManyParts
		}
		r.known = append(r.known, known)
		return nil
	}
	if !utf8.ValidString(text) {
		return errors.New("xds: request: the name of a resource is not UTF-8")
	}
	if len(r.subscribe)+len(r.unsubscribe) >= maxParts {
		return errTooManyParts
	}
	if number == fieldSubscribe {
		r.subscribe = append(r.subscribe, text)
	} else {
		r.unsubscribe = append(r.unsubscribe, text)
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
