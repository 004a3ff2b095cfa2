package durable

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// Seal returns a file's text with a magic, which names its format and version, and a checksum before it.
func Seal(magic string, body []byte) []byte {
	out := make([]byte, 0, len(magic)+4+len(body))
	out = append(out, magic...)
	out = binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(body))
	return append(out, body...)
}

// Unseal returns the text that was sealed with a magic.
func Unseal(magic string, file []byte) ([]byte, error) {
	body, ok := bytes.CutPrefix(file, []byte(magic))
	if !ok || len(body) < 4 {
		return nil, errors.New("the file is of another format")
	}
	if sum := binary.BigEndian.Uint32(body); sum != crc32.ChecksumIEEE(body[4:]) {
		return nil, errors.New("the file is damaged")
	}
	return body[4:], nil
}
