package main

import (
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/causeway-mesh/causeway/xds/resource"
)

// Field numbers of envoy/service/discovery/v3/discovery.proto.
const (
	// Of DeltaDiscoveryRequest.
	deltaNode, deltaURL, deltaSubscribe, deltaKnown, deltaNonce = 1, 2, 3, 5, 6
	// Of DiscoveryRequest.
	worldVersion, worldNode, worldNames, worldURL, worldNonce = 1, 2, 3, 4, 5
	// Of both responses; the version of the whole is the same field too.
	responseVersion, responseResources, responseURL, responseNonce = 1, 2, 4, 5
	// Of Resource.
	resourceVersion, resourceAny, resourceName = 1, 2, 3
	anyValue                                   = 2
)

// codec moves bytes between gRPC and a client. Responses are not decoded: a
// thousand clients that build messages would be all that is measured.
type codec struct{}

// Name implements encoding.CodecV2.
func (codec) Name() string { return "proto" }

// Marshal implements encoding.CodecV2 for requests, which are bytes already.
func (codec) Marshal(v any) (mem.BufferSlice, error) {
	switch v := v.(type) {
	case []byte:
		return mem.BufferSlice{mem.SliceBuffer(v)}, nil
	case mem.BufferSlice:
		return v, nil
	}
	return nil, fmt.Errorf("cannot send %T", v)
}

// Unmarshal implements encoding.CodecV2.
func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	switch v := v.(type) {
	case *message:
		return v.read(data)
	case *[]byte:
		*v = data.Materialize()
		return nil
	}
	return fmt.Errorf("cannot receive %T", v)
}

// message is what a client learns of a response.
type message struct {
	size      int
	resources int
	removed   int
	known     bool // whether Causeway serves the type
	kind      resource.Type
	nonce     []byte
	version   []byte

	// inspect is called with the bytes of every response for which want says so.
	want    func(*message) bool
	inspect func(m *message, data []byte) error
}

var errTruncated = errors.New("truncated response")

// read counts the resources of a response, skipping over them, and reads what
// an acknowledgement needs.
func (m *message) read(data mem.BufferSlice) error {
	m.size, m.resources, m.removed, m.known = data.Len(), 0, 0, false
	m.nonce, m.version = m.nonce[:0], m.version[:0]
	r := data.Reader()
	defer r.Close()
	for r.Remaining() > 0 {
		tag, err := readVarint(r)
		if err != nil {
			return err
		}
		number, kind := protowire.DecodeTag(tag)
		if kind != protowire.BytesType {
			return fmt.Errorf("field %d has wire type %d", number, kind)
		}
		n, err := readVarint(r)
		if err != nil || n > uint64(r.Remaining()) {
			return errTruncated
		}
		length := int(n) //nolint:gosec // at most what remains
		switch number {
		case responseVersion:
			m.version, err = readBytes(r, m.version, length)
		case responseURL:
			var url []byte
			url, err = readBytes(r, nil, length)
			m.kind, m.known = resource.TypeOf(string(url))
		case responseNonce:
			m.nonce, err = readBytes(r, m.nonce, length)
		default:
			if number == responseResources {
				m.resources++
			} else {
				m.removed++
			}
			_, err = r.Discard(length)
		}
		if err != nil {
			return errTruncated
		}
	}
	if m.want == nil || !m.want(m) {
		return nil
	}
	whole := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer whole.Free()
	return m.inspect(m, whole.ReadOnlyData())
}

func readVarint(r *mem.Reader) (uint64, error) {
	var v uint64
	for shift := 0; shift < 64; shift += 7 {
		b, err := r.ReadByte()
		if err != nil {
			return 0, errTruncated
		}
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v, nil
		}
	}
	return 0, errTruncated
}

func readBytes(r io.Reader, to []byte, n int) ([]byte, error) {
	to = append(to, make([]byte, n)...)
	_, err := io.ReadFull(r, to[len(to)-n:])
	return to, err
}

// eachField calls f with every length-delimited field of a message.
func eachField(data []byte, f func(number protowire.Number, value []byte)) error {
	for len(data) > 0 {
		number, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return errTruncated
		}
		data = data[n:]
		if kind == protowire.BytesType {
			v, n := protowire.ConsumeBytes(data)
			if n < 0 {
				return errTruncated
			}
			f(number, v)
			data = data[n:]
			continue
		}
		if n = protowire.ConsumeFieldValue(number, kind, data); n < 0 {
			return errTruncated
		}
		data = data[n:]
	}
	return nil
}

// eachResource calls f with every resource of a response: its name, its version
// (incremental only) and all its bytes.
func eachResource(data []byte, world bool, f func(name, version, body []byte)) error {
	var inner error
	err := eachField(data, func(number protowire.Number, value []byte) {
		if number != responseResources {
			return
		}
		var name, version []byte
		var err error
		if world {
			name, err = bodyName(value)
		} else {
			err = eachField(value, func(number protowire.Number, v []byte) {
				switch number {
				case resourceName:
					name = v
				case resourceVersion:
					version = v
				}
			})
		}
		inner = errors.Join(inner, err)
		f(name, version, value)
	})
	return errors.Join(err, inner)
}

// bodyName finds the name in an Any: it is field 1 of every type that is served.
func bodyName(anyMessage []byte) (name []byte, err error) {
	err = eachField(anyMessage, func(number protowire.Number, value []byte) {
		if number == anyValue {
			_ = eachField(value, func(number protowire.Number, v []byte) {
				if number == 1 && name == nil {
					name = v
				}
			})
		}
	})
	return name, err
}
