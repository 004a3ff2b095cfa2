package equivalence

import (
	"bufio"
	"cmp"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/policy/explain"
)

// request is what a caller sends, byte by byte.
type request struct {
	Method, Host, Path string
	Headers            []explain.Header
	// Version is "" for HTTP/1.1.
	Version string
	// Absolute is true for a request whose line has the whole URL, as proxies are
	// asked; User is then in it.
	Absolute bool
	User     string
	// NoHost is true for a request that names no host in the line where it belongs: Host, or
	// :authority in HTTP/2. Hosts are further lines of Host.
	NoHost bool
	Hosts  []string
	// Scheme and Protocol are those of HTTP/2.
	Scheme, Protocol string
}

// asked is what the evaluator is asked of it.
func (r request) asked(from explain.Workload) explain.Request {
	path := r.Path
	if path == "" {
		path = "/"
	}
	return explain.Request{
		From: from, Method: r.Method, Host: r.Host, Path: path, Headers: r.Headers, HTTP10: r.Version == http10, HTTP2: r.Version == http2nd,
		Absolute: r.Absolute, NoHost: r.NoHost, Hosts: r.Hosts, Protocol: r.Protocol,
	}
}

const (
	http10  = "HTTP/1.0"
	http2nd = "HTTP/2"
)

func (r request) String() string {
	var b strings.Builder
	target := r.Path
	if r.Absolute {
		target = "http://" + r.User + r.Host + r.Path
	}
	if r.Version == http2nd {
		for _, f := range r.fields() {
			fmt.Fprintf(&b, "%s: %s\r\n", f.Name, f.Value)
		}
		return b.String()
	}
	fmt.Fprintf(&b, "%s %s %s\r\n", r.Method, target, cmp.Or(r.Version, "HTTP/1.1"))
	if !r.NoHost {
		fmt.Fprintf(&b, "Host: %s\r\n", r.Host)
	}
	for _, h := range r.Hosts {
		fmt.Fprintf(&b, "Host: %s\r\n", h)
	}
	for _, h := range r.Headers {
		fmt.Fprintf(&b, "%s: %s\r\n", h.Name, h.Value)
	}
	if r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch {
		b.WriteString("Content-Length: 0\r\n")
	}
	b.WriteString("\r\n")
	return b.String()
}

// echoed is a request as a backend got it.
type echoed struct {
	ID                 string
	Method, Host, Path string
	Headers            []explain.Header
}

// observed is what became of a request.
type observed struct {
	Status     int
	GRPCStatus string
	Location   string
	// Route, Cluster and Flags are what Envoy says of it.
	Route, Cluster, Flags string
	Header                http.Header
	Echo                  *echoed
	Body                  string
}

// client sends requests over one connection, one after the other, without
// cleaning anything up as net/http would.
type client struct {
	address string
	// tls is what the client makes TLS with, nil for none.
	tls *tls.Config
	// shown is the name in the certificate that the client was last shown.
	shown  string
	conn   net.Conn
	reader *bufio.Reader
}

func (c *client) close() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

func (c *client) do(r request) (observed, error) {
	if r.Version == http2nd {
		return c.try2(r)
	}
	out, err := c.try(r)
	if err == nil {
		return out, nil
	}
	// The connection may have been closed since the last request.
	c.close()
	return c.try(r)
}

func (c *client) try(r request) (out observed, err error) {
	if c.conn == nil {
		if err := c.dial(); err != nil {
			return out, err
		}
	}
	if err := c.conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return out, err
	}
	if _, err := io.WriteString(c.conn, r.String()); err != nil {
		return out, err
	}
	answer, err := http.ReadResponse(c.reader, &http.Request{Method: r.Method})
	for err == nil && answer.StatusCode == http.StatusContinue {
		answer, err = http.ReadResponse(c.reader, &http.Request{Method: r.Method})
	}
	if err != nil {
		return out, fmt.Errorf("%q: %w", r.String(), err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return out, err
	}
	if answer.Close || answer.StatusCode == http.StatusSwitchingProtocols {
		c.close()
	}
	out = observed{Status: answer.StatusCode, Header: answer.Header, Body: string(body)}
	return out, out.read()
}

// read takes out of the answer's headers what Envoy and the backend tell in them.
func (o *observed) read() error {
	h := o.Header
	o.GRPCStatus, o.Location = h.Get("Grpc-Status"), h.Get("Location")
	o.Route, o.Cluster, o.Flags = h.Get(sawRoute), h.Get(sawCluster), h.Get(sawFlags)
	text := h.Get(echoHeader)
	if text == "" {
		return nil
	}
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return err
	}
	o.Echo = &echoed{}
	return json.Unmarshal(data, o.Echo)
}

// echoHeader of an answer has the request as the backend got it: an answer to
// HEAD has no body.
const echoHeader = "X-Echo"

// baseHeader is in every answer of a backend, for filters to change.
const baseHeader = "X-Base"

// echo is a backend.
type echo struct {
	id       string
	listener net.Listener
}

// serveHTTP1 answers requests without checking them: what net/http takes for a
// bad path is for the mesh to pass on.
func (e *echo) serveHTTP1(conn net.Conn) {
	defer conn.Close()
	reader := bufio.NewReader(conn)
	for {
		seen, length, err := readHead(reader)
		if err != nil {
			return
		}
		seen.ID = e.id
		if _, err := io.CopyN(io.Discard, reader, length); err != nil {
			return
		}
		data, err := json.Marshal(seen)
		if err != nil {
			return
		}
		status := "200 OK\r\nContent-Length: 0"
		if slices.ContainsFunc(seen.Headers, func(h explain.Header) bool { return h.Name == "upgrade" }) {
			status = "101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket"
		}
		if _, err := fmt.Fprintf(conn, "HTTP/1.1 %s\r\n%s: %s\r\n%s: base\r\n\r\n",
			status, echoHeader, base64.StdEncoding.EncodeToString(data), baseHeader); err != nil {
			return
		}
	}
}

func readHead(reader *bufio.Reader) (seen echoed, length int64, err error) {
	line, err := reader.ReadString('\n')
	if err != nil {
		return seen, 0, err
	}
	parts := strings.Split(strings.TrimRight(line, "\r\n"), " ")
	if len(parts) != 3 {
		return seen, 0, fmt.Errorf("request line %q", line)
	}
	seen.Method, seen.Path = parts[0], parts[1]
	for {
		line, err := reader.ReadString('\n')
		if err != nil {
			return seen, 0, err
		}
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			return seen, length, nil
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return seen, 0, fmt.Errorf("header %q", line)
		}
		value = strings.TrimSpace(value)
		switch {
		case strings.EqualFold(name, "host"):
			seen.Host = value
		case strings.EqualFold(name, "content-length"):
			if length, err = strconv.ParseInt(value, 10, 64); err != nil {
				return seen, 0, err
			}
		case strings.EqualFold(name, "transfer-encoding"):
			return seen, 0, errors.New("a body in chunks: no request has one")
		default:
			seen.Headers = append(seen.Headers, explain.Header{Name: strings.ToLower(name), Value: value})
		}
	}
}

// ServeHTTP answers HTTP/2.
func (e *echo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	seen := echoed{ID: e.id, Method: r.Method, Host: r.Host, Path: r.RequestURI}
	for name, values := range r.Header {
		for _, v := range values {
			if !strings.EqualFold(name, "content-length") {
				seen.Headers = append(seen.Headers, explain.Header{Name: strings.ToLower(name), Value: v})
			}
		}
	}
	data, err := json.Marshal(seen)
	if err != nil {
		panic(err)
	}
	w.Header().Set(echoHeader, base64.StdEncoding.EncodeToString(data))
	w.Header().Set(baseHeader, "base")
}
