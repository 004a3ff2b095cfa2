package explain

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
)

// Workload is the caller. The mesh's behaviour depends on these fields of it
// and no others.
type Workload struct {
	Namespace string `json:"namespace"`
	// Name is the caller as it was asked for: NAMESPACE/NAME or a node id, "" for a request from
	// outside.
	Name string `json:"name,omitempty"`
	// Zone is its availability zone, "" where unknown.
	Zone string `json:"zone,omitempty"`
	// OtherZones are further ones that it is in, where the parts of zones differ.
	OtherZones []string `json:"otherZones,omitempty"`
	// Node is the Kubernetes node that its proxy says, "" for none.
	Node string `json:"node,omitempty"`
	// OtherNodes are further ones in the zone that it is on, where the endpoints of nodes differ.
	OtherNodes []string `json:"otherNodes,omitempty"`
	// Listener is the name of its proxy's HTTP listener, or of that of captured connections, "" where unknown.
	Listener string `json:"listener,omitempty"`
}

// Header is one line of a request's head.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Request is an HTTP request as a workload sends it.
type Request struct {
	From   Workload
	Method string
	// Host header, or :authority in HTTP/2, with or without a port.
	Host string
	// Destination is what a program connects to whose connections are captured, "host:port" or "host"; "" for a request that is
	// sent to the proxy itself. Ranges are those of the proxy's captured listener, nil where they are not known.
	Destination string
	Ranges      []netip.Prefix
	// NoHost is true for a request that has none, Hosts are further lines of Host.
	NoHost bool
	Hosts  []string
	// Path with the query string, as written in the request line, or "*". A path
	// that begins with ? is that of a URL without one, which a caller has sent as it stands.
	Path string
	// HTTP10 is true for a request of HTTP/1.0.
	HTTP10 bool
	// HTTP2 is true for a request of HTTP/2.
	HTTP2 bool
	// Protocol is what a CONNECT of HTTP/2 asks for (:protocol, RFC 8441), "" for none.
	Protocol string
	// Absolute is true for a request line that has the whole URL of http, as proxies are asked.
	Absolute bool
	// Headers in order, other than Host; a name may stand several times.
	Headers []Header
}

// oneHost makes one host of those that a request names, as a proxy reads it: of several
// lines it joins those that say something, and a URL in the request line, or
// :authority, goes before them.
func (r *Request) oneHost() {
	lines := r.Hosts
	switch {
	case r.HTTP2:
		if r.NoHost && len(lines) == 1 && r.Method != methodConnect {
			r.NoHost, r.Host = false, lines[0]
		}
		return // what else it names may still make it malformed
	case r.Absolute:
		r.NoHost, r.Hosts = false, nil
		return
	case !r.NoHost:
		lines = slices.Concat([]string{r.Host}, lines)
	}
	r.NoHost, r.Hosts = len(lines) == 0, nil
	r.Host = strings.Join(slices.DeleteFunc(slices.Clone(lines), func(h string) bool { return h == "" }), ",")
}

// GatewayRequest is an HTTP request as it comes in at a Gateway from outside.
// Its From is the Gateway's own proxy.
type GatewayRequest struct {
	Request
	Gateway discovery.Key
	// Port that the client calls.
	Port uint16
	// Secure is true for https, and ServerName what the client then asks for (SNI), in lower case.
	Secure     bool
	ServerName string
	// CalledPort is the port of what stands in front that the client has called, as
	// the PROXY protocol tells it; 0 for Port.
	CalledPort uint16
	// Client is the address that the Gateway is called from; the zero value for one that is not known.
	Client netip.Addr
}

// ParseRequest builds a request from a caller's words: a URL and headers. A
// header Host replaces the URL's own; repeated headers are repeated lines.
func ParseRequest(from Workload, method, url string, headers []Header) (Request, error) {
	scheme, rest, ok := strings.Cut(url, "://")
	switch {
	case !ok:
		rest = url
	case strings.EqualFold(scheme, "https"):
		return Request{}, fmt.Errorf("%s: the mesh cannot look into TLS that the workload makes itself: "+
			"ask for http:// and let the mesh make TLS to the target (ExternalService, BackendTLSPolicy)", url)
	case !strings.EqualFold(scheme, "http"):
		return Request{}, fmt.Errorf("%s: scheme %q is not http", url, scheme)
	}
	req, err := parseRequest(method, url, rest, headers)
	req.From = from
	if i := strings.IndexAny(rest, "/?#"); err == nil && i >= 0 && rest[i] == '?' {
		req.Path = req.Path[1:] // callers send the URL to their proxy as it stands
	}
	return req, err
}

// ParseGatewayRequest is ParseRequest for a client of a Gateway: the scheme and
// the port of the URL say which listeners could take the request. The server
// name is the URL's host unless one is given.
func ParseGatewayRequest(gateway discovery.Key, method, url, serverName string, headers []Header) (GatewayRequest, error) {
	out := GatewayRequest{Gateway: gateway, Port: 80}
	scheme, rest, ok := strings.Cut(url, "://")
	switch {
	case ok && strings.EqualFold(scheme, "https"):
		out.Secure, out.Port = true, 443
	case !ok || !strings.EqualFold(scheme, "http"):
		return out, fmt.Errorf("%s: write http://HOST[:PORT]/PATH or https://HOST[:PORT]/PATH", url)
	}
	host, err := parseRequest(method, url, rest, nil)
	if err != nil {
		return out, err
	}
	name, port := splitHost(host.Host)
	if port != "" {
		n, err := strconv.ParseUint(port[1:], 10, 16)
		if err != nil || n == 0 {
			return out, fmt.Errorf("%s: %q is not a port", url, port[1:])
		}
		out.Port = uint16(n)
	}
	if out.Request, err = parseRequest(method, url, rest, headers); err != nil {
		return out, err
	}
	switch {
	case serverName != "" && !out.Secure:
		return out, fmt.Errorf("%s: only https has a server name (SNI)", url)
	case serverName != "":
		out.ServerName = strings.ToLower(strings.TrimSuffix(serverName, "."))
	case out.Secure:
		// A client does not send an address as a server name (RFC 6066, section 3).
		if _, err := netip.ParseAddr(name); err != nil {
			out.ServerName = strings.ToLower(strings.TrimSuffix(name, "."))
		}
	}
	return out, nil
}

// parseRequest reads a URL without its scheme, and headers.
func parseRequest(method, url, rest string, headers []Header) (Request, error) {
	req := Request{Method: method}
	if !isToken(method) {
		return req, fmt.Errorf("%q is not a method, such as GET or POST", method)
	}
	rest, _, _ = strings.Cut(rest, "#") // clients keep the fragment to themselves
	whole := rest == "*"                // OPTIONS *
	if whole {
		rest = ""
	}
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	req.Host, req.Path = rest[:end], rest[end:]
	if !strings.HasPrefix(req.Path, "/") {
		req.Path = "/" + req.Path
	}
	if strings.Contains(req.Host, "@") {
		return req, fmt.Errorf("%s: write user and password as a header: -H 'Authorization: Basic ...'", url)
	}
	hosts := 0
	for _, h := range headers {
		switch {
		case !isToken(h.Name):
			return req, fmt.Errorf("header %q: that is not a header's name", h.Name)
		case strings.ContainsAny(h.Value, "\r\n\x00"):
			return req, fmt.Errorf("header %s: its value has a line break", h.Name)
		case strings.EqualFold(h.Name, "host") && hosts > 0:
			req.Hosts = append(req.Hosts, strings.TrimSpace(h.Value))
		case strings.EqualFold(h.Name, "host"):
			req.Host = strings.TrimSpace(h.Value)
			hosts++
		default:
			req.Headers = append(req.Headers, Header{h.Name, strings.TrimSpace(h.Value)})
		}
	}
	switch {
	case req.Host == "" && whole:
		return req, errors.New("*: it names no host: add -H 'Host: SERVICE.NAMESPACE[:PORT]'")
	case whole:
		req.Path = "*"
		return req, nil
	case req.Host == "":
		return req, fmt.Errorf("%s: it names no host: write http://SERVICE.NAMESPACE[:PORT]/PATH", url)
	}
	if strings.ContainsFunc(req.Path, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return req, fmt.Errorf("%s: a client cannot send a space or a control character in a URL: percent-encode it", url)
	}
	return req, nil
}

// ParseHeader reads "Name: value".
func ParseHeader(s string) (Header, error) {
	name, value, ok := strings.Cut(s, ":")
	if !ok {
		return Header{}, errors.New("write a header as 'Name: value'")
	}
	if name = strings.TrimSpace(name); !isToken(name) {
		return Header{}, fmt.Errorf("%q is not a header's name", name)
	}
	return Header{name, strings.TrimSpace(value)}, nil
}

// isToken reports whether s may be a method or a header's name (RFC 9110, section 5.6.2).
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	})
}

// pathOnly returns the path without its query string, and without the fragment of a request that is refused for it.
func (r *Request) pathOnly() string {
	path, _, _ := strings.Cut(r.Path, "?")
	path, _, _ = strings.Cut(path, "#")
	return path
}

// singular lists the headers that a proxy keeps as one line: it joins several by commas.
var singular = []string{
	"accept", "accept-encoding", "access-control-request-headers", "access-control-request-method", "authorization",
	"cache-control", "content-type", "expect", "grpc-timeout", "if-modified-since", "if-none-match", "origin", "pragma",
	"referer", "user-agent", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-request-id",
}

// received returns a request's headers as a proxy keeps them.
func received(headers []Header) []Header {
	var out []Header
	for _, h := range headers {
		i := -1
		if slices.Contains(singular, strings.ToLower(h.Name)) {
			i = slices.IndexFunc(out, func(o Header) bool { return strings.EqualFold(o.Name, h.Name) })
		}
		switch {
		case i < 0:
			out = append(out, h)
		case out[i].Value == "":
			out[i].Value = h.Value
		case h.Value != "":
			out[i].Value += "," + h.Value
		}
	}
	return out
}

// values returns the values of a header, one for each line that has it.
func (r *Request) values(name string) []string {
	if strings.EqualFold(name, "host") {
		return []string{r.Host}
	}
	var out []string
	for _, h := range r.Headers {
		if strings.EqualFold(h.Name, name) {
			out = append(out, h.Value)
		}
	}
	return out
}

// header returns the value of a header that has one line.
func (r *Request) header(name string) string {
	if values := r.values(name); len(values) > 0 {
		return values[0]
	}
	return ""
}

// query returns the first value of a query parameter, as the Gateway API
// recommends for one that stands several times. Names and values are compared
// as they are written: nothing is decoded.
func (r *Request) query(name string) (value string, ok bool) {
	_, query, _ := strings.Cut(r.Path, "?")
	for pair := range strings.SplitSeq(query, "&") {
		n, v, _ := strings.Cut(pair, "=")
		if n == name && pair != "" {
			return v, true
		}
	}
	return "", false
}

// isGRPC reports whether a request says that it is gRPC.
func isGRPC(r *Request) bool {
	rest, ok := strings.CutPrefix(r.header("content-type"), "application/grpc")
	return ok && r.Method != methodConnect && (rest == "" || rest[0] == '+')
}
