package server

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
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

func newCodec() codec { return codec{encoding.GetCodecV2(proto.Name)} }

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
