package equivalence

import (
	"slices"
	"strings"

	"github.com/causeway-mesh/causeway/policy/explain"
)

// kind is a client that is not as tidy as a test's: what it sends besides the
// request itself, as it sends it.
type kind struct {
	methods []string // nil for any
	// headers as "Name: value".
	headers  []string
	version  string
	absolute bool
}

// kinds are clients as they are met, by what sends it.
func kinds() []kind {
	return []kind{
		// file_get_contents, with and without protocol_version 1.1; by a proxy with request_fulluri.
		{version: http10, headers: []string{"Connection: close"}},
		{headers: []string{"Connection: close"}},
		{headers: []string{"Connection: close", "User-Agent: PHP/8.3"}, absolute: true},
		{version: http10, absolute: true},
		// ext/curl and Guzzle, and curl --http2, which offers to go on in HTTP/2.
		{headers: []string{"User-Agent: curl/8.5.0", "Accept: */*", "Proxy-Connection: Keep-Alive"}, absolute: true},
		{headers: []string{"User-Agent: GuzzleHttp/7"}},
		{headers: []string{"User-Agent: curl/7.61.1", "Accept: */*", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"}},
		{methods: []string{"POST"}, headers: []string{"User-Agent: curl/7.29.0", "Expect: 100-continue"}},
		// Apache HttpClient 5.4, Java's HttpURLConnection and HttpClient.
		{headers: []string{"Accept-Encoding: gzip, x-gzip, deflate", "Connection: keep-alive, Upgrade", "Upgrade: TLS/1.2", "User-Agent: Apache-HttpClient/5.4 (Java/17.0.9)"}},
		{headers: []string{"Upgrade: TLS/1.2", "Connection: Upgrade"}},
		{headers: []string{"User-Agent: Java/1.8.0_392", "Accept: text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", "Connection: keep-alive"}},
		{headers: []string{"Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA", "Upgrade: h2c", "User-Agent: Java-http-client/17.0.9"}},
		{headers: []string{"Upgrade: HTTP/2.0", "Connection: Upgrade"}},
		{headers: []string{"Upgrade: foo/1, TLS/1.3"}},
		// Go, libwww-perl, Python, old browsers.
		{headers: []string{"User-Agent: Go-http-client/1.1", "Accept-Encoding: gzip"}},
		{headers: []string{"TE: deflate,gzip;q=0.3", "Connection: TE, close", "User-Agent: libwww-perl/6.05"}},
		{headers: []string{"TE: trailers, gzip", "Connection: TE"}},
		{headers: []string{"User-Agent: python-requests/2.31.0", "Accept-Encoding: gzip, deflate", "Accept: */*", "Connection: keep-alive"}},
		{headers: []string{"Keep-Alive: 300", "Connection: Keep-Alive, X-Hop", "X-Hop: 1"}, version: http10},
		{headers: []string{"Connection: close, Cookie", "Cookie: uid=11"}},
		{headers: []string{"Connection: X-Forwarded-For"}},
		{headers: []string{"Connection: a, b, c, d, e, f, g, h, i, j"}},
		{headers: []string{"Cookie: a=1", "Cookie: b=2", "Cookie: "}},
		// Caches' and WebDAV's methods.
		{methods: []string{"PURGE", "BAN", "REFRESH", "XCGET"}, headers: []string{"X-Ban-Url: ^/a", "X_Cache_Tags: a b"}},
		{methods: []string{"PROPFIND", "MKCOL", "LOCK", "VERSION-CONTROL"}, headers: []string{"Depth: 1"}},
		{methods: []string{"get", "Post", "M-SEARCH", "QUERY", "TRACE", "X!"}},
		// Scanners.
		{headers: []string{"User-Agent: () { :;}; /bin/true", "X!#$%&'*+.^`|~: 1", "x_forwarded_for: 1", "X-Empty:", "X-Utf8: caf\u00e9", "1: 2"}},
		// One behind another proxy.
		{headers: []string{"X-Forwarded-For: 198.51.100.7", "X-Forwarded-Proto: https", "X-Forwarded-Host: shop.example.com"}},
		{methods: []string{"QUERY", "GET"}, headers: []string{"X-Forwarded-Proto: http"}, version: http10},
		{headers: []string{"Proxy-Authorization: Basic eA==", "Via: 1.0 a", "Early-Data: 1", "X-Forwarded-Host: a.example"}},
	}
}

// sockets are those that ask for a websocket.
func sockets() []kind {
	return []kind{
		{methods: []string{"GET"}, headers: []string{"Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}},
		{methods: []string{"GET"}, headers: []string{"connection: upgrade", "upgrade: WebSocket"}},
		{methods: []string{"GET"}, headers: []string{"Connection: Upgrade", "Upgrade: TLS/1.2, websocket"}},
		{headers: []string{"Upgrade: websocket"}}, // of itself it asks for nothing
	}
}

// What tidy paths do not have.
var untidy = []string{
	"|", `"`, "<", ">", "^", "`", "{", "}", `\`, "[", "]", "'", "$", "!", "*", "@", ":", "~", "+", "&", "=", ";p=1", "..;", ".", "..", "//", "/./", "/../",
	"%20", "%7C", "%7c", "%C3%A9", "%c3%a9", "%25", "%252F", "%2F", "%2f", "%5C", "%00", "%0d%0a", "%zz", "%", "%4", "%u0041", "%2e%2E", "%c0%ae", "%7E", "%3B", "%3F", "%23",
	"caf\u00e9", "\xe9", "\x80", "\x7f", " x", "\tx", "#f", strings.Repeat("long/", 600),
}

// client makes a request what some client sends for it.
func (g generator) client(r *request) {
	of := kinds()
	if g.chance(12) {
		of = sockets()
	}
	k := of[g.IntN(len(of))]
	if k.methods != nil && (len(r.Headers) == 0 || g.chance(60)) {
		r.Method = pick(g, k.methods...)
	}
	for _, line := range k.headers {
		name, value, _ := strings.Cut(line, ":")
		r.Headers = append(r.Headers, explain.Header{Name: name, Value: strings.TrimSpace(value)})
	}
	r.Version, r.Absolute = k.version, k.absolute
	if g.chance(50) {
		at := strings.IndexAny(r.Path+"?", "?")
		if g.chance(25) {
			at = len(r.Path)
		}
		r.Path = r.Path[:at] + pick(g, untidy...) + r.Path[at:]
	}
	if g.chance(5) {
		r.Method, r.Path, r.Absolute = pick(g, "OPTIONS", "OPTIONS", "GET"), "*", false
	}
	if r.Absolute {
		r.User = pick(g, "", "", "u:p@")
		if g.chance(20) {
			r.Path = pick(g, "", "?q=1", "?", "?q=1#f")
		}
	}
	if g.chance(10) && len(r.Headers) > 1 {
		h := r.Headers[g.IntN(len(r.Headers))]
		r.Headers = slices.Insert(r.Headers, 0, h)
	}
}

// hosts makes a request name its host as it should not: more than once, or not at all.
func (g generator) hosts(r *request) {
	way := g.IntN(6)
	if r.Absolute {
		way = g.IntN(4) // the URL itself is in order
	}
	switch way {
	case 0, 1:
		r.NoHost, r.Absolute = true, r.Absolute && g.chance(50)
		if !r.Absolute && !strings.HasPrefix(r.Path, "/") && r.Path != "*" {
			r.Path = "/" + r.Path // only a whole URL goes without
		}
	case 2:
		r.Hosts = []string{r.Host}
	case 3:
		r.Hosts = []string{pick(g, "api.web", "shop.example.com", "", "$.web:80")}
	case 4:
		r.Host, r.Hosts = pick(g, "", "api.web", "*"), []string{r.Host}
	case 5:
		r.Host = pick(g, "", "127.0.0.1", "[::1]:80", ":80", r.Host+":", r.Host+",")
	}
}

// http2 makes a request one of HTTP/2, as its clients send it: names in lower case, and nothing about the connection.
func (g generator) http2(r *request, secure bool) {
	r.Version, r.Absolute, r.Scheme = http2nd, false, "http"
	if secure {
		r.Scheme = "https"
	}
	if r.Path == "" {
		r.Path = "/"
	}
	var kept []explain.Header
	for _, h := range r.Headers {
		switch h.Name = strings.ToLower(h.Name); h.Name {
		case "connection", "keep-alive", "proxy-connection", "upgrade", "transfer-encoding":
			continue
		case "te":
			h.Value = "trailers"
		}
		kept = append(kept, h)
	}
	r.Headers = kept
	if g.chance(15) {
		r.Headers = append(r.Headers, explain.Header{Name: "cookie", Value: "a=1"}, explain.Header{Name: "cookie", Value: "b=2"})
	}
	if g.chance(15) { // what others than browsers send
		r.NoHost, r.Hosts = g.chance(50), []string{r.Host}
	}
	if g.chance(6) {
		g.malform(r)
	}
}

// malform makes of a request of HTTP/2 one that proxies which turn HTTP/1.1 into it, or careless clients, send.
func (g generator) malform(r *request) {
	add := func(name, value string) { r.Headers = append(r.Headers, explain.Header{Name: name, Value: value}) }
	switch g.IntN(9) {
	case 0:
		add("X-Upper", "1")
	case 1:
		add("connection", pick(g, "close", "keep-alive", "x-forwarded-for"))
	case 2:
		add(pick(g, "keep-alive", "proxy-connection", "transfer-encoding"), "x")
	case 3:
		add("te", pick(g, "gzip", "trailers, gzip"))
	case 4:
		add("upgrade", "websocket")
		add("sec-websocket-version", "13")
	case 5:
		r.Method, r.Protocol = "CONNECT", pick(g, "websocket", "") // the proxy has not offered the former
	case 6:
		r.NoHost, r.Hosts = true, pick(g, nil, []string{r.Host, r.Host})
	case 7:
		r.Host = pick(g, "", "a b", "u:p@"+r.Host, "<a>")
	case 8:
		r.Path = pick(g, "a", "?q=1", "http://$.web/a", "/a b", "/a\x7f")
	}
}
