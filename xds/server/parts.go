package server

import (
	"errors"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// maxParts bounds the messages and strings within one message: an empty one takes two bytes
// on the wire and a hundred or more in memory, so that the size of a message says nothing of
// what it costs. The load report of a proxy that sees four clusters of each of ten thousand Services, and
// calls a thousand of them in three zones, has 168,000.
const maxParts = 500_000

var errTooManyParts = errors.New("xds: a message has too many parts")

// checkParts refuses a message that would cost far more than its size. It accepts a
// malformed message, which the decoder refuses.
func checkParts(data []byte, of protoreflect.MessageDescriptor) error {
	left := maxParts
	return countParts(data, of, &left, protowire.DefaultRecursionLimit)
}

func countParts(data []byte, of protoreflect.MessageDescriptor, left *int, depth int) error {
	for len(data) > 0 && depth > 0 {
		number, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return nil
		}
		size := protowire.ConsumeFieldValue(number, kind, data[n:])
		if size < 0 {
			return nil
		}
		if kind == protowire.BytesType {
			field := of.Fields().ByNumber(number)
			if *left--; *left < 0 {
				return errTooManyParts
			}
			if field != nil && field.Message() != nil {
				value, _ := protowire.ConsumeBytes(data[n:])
				if err := countParts(value, field.Message(), left, depth-1); err != nil {
					return err
				}
			}
		}
		data = data[n+size:]
	}
	return nil
}
