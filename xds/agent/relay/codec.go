package relay

import (
	"fmt"

	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// message is a message of a stream, in the bytes that came.
type message []byte

func (m message) decode(into proto.Message) error {
	if err := proto.Unmarshal(m, into); err != nil {
		return fmt.Errorf("relay: %w", err)
	}
	return nil
}

func encode(m proto.Message) (message, error) {
	out, err := proto.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	return out, nil
}

// codec passes messages on as they are.
type codec struct{}

func (codec) Name() string { return grpcproto.Name }

func (codec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(message)
	if !ok {
		return nil, fmt.Errorf("relay: %T is no message", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(m)}, nil
}

func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(*message)
	if !ok {
		return fmt.Errorf("relay: %T is no message", v)
	}
	*m = data.Materialize()
	return nil
}
