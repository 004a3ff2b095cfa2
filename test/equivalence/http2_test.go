package equivalence

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/causeway-mesh/causeway/policy/explain"
)

// errReset is the end of a request without an answer, of the stream alone or of its connection.
var errReset = errors.New("the stream was reset")

// fields returns a request as HTTP/2 has it. Names are sent as they are written.
func (r request) fields() []explain.Header {
	out := []explain.Header{{Name: ":method", Value: r.Method}}
	if r.Protocol != "" {
		out = append(out, explain.Header{Name: ":protocol", Value: r.Protocol})
	}
	if r.Method != http.MethodConnect || r.Protocol != "" {
		out = append(out, explain.Header{Name: ":scheme", Value: r.Scheme}, explain.Header{Name: ":path", Value: r.Path})
	}
	if !r.NoHost {
		out = append(out, explain.Header{Name: ":authority", Value: r.Host})
	}
	for _, h := range r.Hosts {
		out = append(out, explain.Header{Name: "host", Value: h})
	}
	return append(out, r.Headers...)
}

// try2 sends a request over HTTP/2, on a connection of its own.
func (c *client) try2(r request) (out observed, err error) {
	c.close()
	if err := c.dial(); err != nil {
		return out, err
	}
	defer c.close()
	s, err := c.session()
	if err != nil {
		return out, err
	}
	return s.do(r)
}

// session is a connection of HTTP/2, on which requests go one after the other.
type session struct {
	framer *http2.Framer
	// next is the next request's stream.
	next uint32
	head bytes.Buffer
	// encoder remembers what was sent before, as the proxy does.
	encoder *hpack.Encoder
}

// session begins to speak HTTP/2 on the client's connection.
func (c *client) session() (*session, error) {
	if err := c.conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return nil, err
	}
	if _, err := io.WriteString(c.conn, http2.ClientPreface); err != nil {
		return nil, err
	}
	s := &session{framer: http2.NewFramer(c.conn, c.reader), next: 1}
	s.encoder = hpack.NewEncoder(&s.head)
	s.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	return s, s.framer.WriteSettings()
}

func (s *session) do(r request) (out observed, err error) {
	s.head.Reset()
	for _, f := range r.fields() {
		if err := s.encoder.WriteField(hpack.HeaderField{Name: f.Name, Value: f.Value}); err != nil {
			return out, err
		}
	}
	stream := s.next
	s.next += 2
	const most = 16 << 10
	block := s.head.Bytes()
	first := block[:min(len(block), most)]
	// The end of the request is that of its head; a tunnel stays open until the answer is there.
	tunnel := r.Method == http.MethodConnect
	if err := s.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: first, EndHeaders: len(first) == len(block), EndStream: !tunnel}); err != nil {
		return out, err
	}
	for rest := block[len(first):]; len(rest) > 0; {
		part := rest[:min(len(rest), most)]
		rest = rest[len(part):]
		if err := s.framer.WriteContinuation(stream, len(rest) == 0, part); err != nil {
			return out, err
		}
	}
	return readAnswer2(s.framer, stream, tunnel)
}

// readAnswer2 reads the answer on a stream.
func readAnswer2(framer *http2.Framer, stream uint32, tunnel bool) (out observed, err error) {
	out.Header = make(http.Header)
	var body strings.Builder
	for {
		f, err := framer.ReadFrame()
		if err != nil {
			return out, fmt.Errorf("%w: %w", errReset, err)
		}
		if id := f.Header().StreamID; id != 0 && id != stream {
			continue // of an earlier request
		}
		ended := false
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				if err := framer.WriteSettingsAck(); err != nil {
					return out, err
				}
			}
		case *http2.MetaHeadersFrame:
			for _, h := range f.Fields {
				if h.Name == ":status" {
					if out.Status, err = strconv.Atoi(h.Value); err != nil {
						return out, err
					}
					continue
				}
				out.Header.Add(h.Name, h.Value)
			}
			ended = f.StreamEnded() || tunnel && out.Status == http.StatusOK
		case *http2.DataFrame:
			body.Write(f.Data())
			ended = f.StreamEnded()
		case *http2.RSTStreamFrame:
			if out.Status == 0 {
				return out, fmt.Errorf("%w: %s", errReset, f.ErrCode)
			}
			ended = true
		case *http2.GoAwayFrame:
			if f.ErrCode != http2.ErrCodeNo {
				return out, fmt.Errorf("%w with its connection: %s", errReset, f.ErrCode)
			}
		}
		if ended {
			out.Body = body.String()
			return out, out.read()
		}
	}
}
