package health

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// What a ping needs of FastCGI (the specification's sections 3.3, 5 and 8).
const (
	fcgiVersion = 1
	fcgiBegin   = 1
	fcgiEnd     = 3
	fcgiParams  = 4
	fcgiStdin   = 5
	fcgiStdout  = 6

	// maxPong is how much of an answer is read.
	maxPong = 64 << 10
)

// ping asks php-fpm for its ping page (ping.path).
func ping(ctx context.Context, network, address, path string) error {
	conn, err := dial(ctx, network, address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	if _, err := conn.Write(pingRequest(path)); err != nil {
		return err //nolint:wrapcheck // it names the address
	}
	answer, err := readAnswer(conn)
	if err != nil {
		return err
	}
	return checkPong(answer, path)
}

func pingRequest(path string) []byte {
	var params bytes.Buffer
	for _, p := range [][2]string{
		{"REQUEST_METHOD", "GET"}, {"SCRIPT_NAME", path}, {"SCRIPT_FILENAME", path}, {"REQUEST_URI", path}, {"QUERY_STRING", ""}, {"SERVER_PROTOCOL", "HTTP/1.1"},
	} {
		for _, s := range p {
			var size [4]byte
			binary.BigEndian.PutUint32(size[:], uint32(len(s))|1<<31) //nolint:gosec // a flag's length
			params.Write(size[:])
		}
		params.WriteString(p[0] + p[1])
	}
	var out []byte
	out = record(out, fcgiBegin, []byte{0, 1, 0, 0, 0, 0, 0, 0}) // a responder; the connection ends with it
	out = record(out, fcgiParams, params.Bytes())
	out = record(out, fcgiParams, nil)
	return record(out, fcgiStdin, nil)
}

func record(out []byte, kind byte, content []byte) []byte {
	out = append(out, fcgiVersion, kind, 0, 1)
	out = binary.BigEndian.AppendUint16(out, uint16(len(content))) //nolint:gosec // short
	return append(append(out, 0, 0), content...)
}

// readAnswer returns what a request was answered.
func readAnswer(r io.Reader) ([]byte, error) {
	var out []byte
	for {
		var head [8]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return nil, fmt.Errorf("it ended its answer too early: %w", err)
		}
		if head[0] != fcgiVersion {
			return nil, errors.New("it does not speak FastCGI")
		}
		content := make([]byte, int(binary.BigEndian.Uint16(head[4:]))+int(head[6]))
		if _, err := io.ReadFull(r, content); err != nil {
			return nil, fmt.Errorf("it ended its answer too early: %w", err)
		}
		switch head[1] {
		case fcgiEnd:
			return out, nil
		case fcgiStdout:
			if out = append(out, content[:len(content)-int(head[6])]...); len(out) > maxPong {
				return nil, errors.New("its answer is too long for a ping")
			}
		}
	}
}

// checkPong checks an answer in the form of CGI: a status other than 200 is in a header.
func checkPong(answer []byte, path string) error {
	head, _, ok := strings.Cut(string(answer), "\r\n\r\n")
	if !ok {
		return errors.New("its answer has no header")
	}
	for line := range strings.SplitSeq(head, "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		if value = strings.TrimSpace(value); strings.EqualFold(name, "Status") && !strings.HasPrefix(value, "2") {
			return fmt.Errorf("it answered %s to %s; in php-fpm's pool, ping.path has to be that", value, path)
		}
	}
	return nil
}
