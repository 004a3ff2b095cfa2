package compile_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// smuggled is what a request hides: a backend that reads the request otherwise
// than the proxy would take it for a request of its own.
const smuggled = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"

// What two readers could understand in two ways is refused, and no backend
// ever sees a part of it as a request.
func TestEdgeRefusesSmuggling(t *testing.T) {
	t.Parallel()
	b := startBackend(t, "php")
	seen := b.record()
	php := pods("php", policy.HTTP1, zone(callerZone, b))
	e := startGateway(t, gateway(plain(80, v1alpha1.GatewaySettings{}, answers("*", only(php)))), php)
	const head = "POST /first HTTP/1.1\r\nHost: a.test\r\n"
	chunked := "0\r\n\r\n" + smuggled
	// Envoy understands these in one way and writes them anew in that way: it joins
	// folded lines, leaves a bare CR out, answers every other HTTP/1.x as 1.0, and makes
	// one name of two Hosts, which no listener with a name has.
	harmless := map[string]bool{"TE folded": true, "obs-fold": true, "two Hosts": true, "HTTP/1.2": true, "TE in HTTP/1.0": true, "TE with CR": true}
	var cases sync.WaitGroup
	var mu sync.Mutex
	replies := make(map[string]string)
	escaped := func(name string) string { return regexp.MustCompile(`\W`).ReplaceAllString(name, "-") }
	for name, text := range map[string]string{
		"CL and TE":               head + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked,
		"TE and CL":               head + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n" + chunked,
		"CL 0 and TE":             head + "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked,
		"TE chunked, identity":    head + "Transfer-Encoding: chunked, identity\r\n\r\n" + chunked,
		"TE identity, chunked":    head + "Transfer-Encoding: identity, chunked\r\n\r\n" + chunked,
		"TE twice":                head + "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n" + chunked,
		"TE chunked twice":        head + "Transfer-Encoding: chunked, chunked\r\n\r\n" + chunked,
		"TE xchunked":             head + "Transfer-Encoding: xchunked\r\n\r\n" + chunked,
		"TE gzip":                 head + "Transfer-Encoding: gzip\r\n\r\n" + chunked,
		"TE with a vertical tab":  head + "Transfer-Encoding:\x0bchunked\r\n\r\n" + chunked,
		"TE in quotes":            head + "Transfer-Encoding: \"chunked\"\r\n\r\n" + chunked,
		"TE space colon":          head + "Transfer-Encoding : chunked\r\n\r\n" + chunked,
		"TE tab colon":            head + "Transfer-Encoding\t: chunked\r\n\r\n" + chunked,
		"TE folded":               head + "Transfer-Encoding:\r\n chunked\r\n\r\n" + chunked,
		"TE with NUL":             head + "Transfer-Encoding: chunked\x00\r\n\r\n" + chunked,
		"TE with CR":              head + "X: y\rTransfer-Encoding: chunked\r\n\r\n" + chunked,
		"TE after an empty name":  head + ": x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n" + chunked,
		"two CLs":                 head + "Content-Length: 0\r\nContent-Length: 44\r\n\r\n" + smuggled,
		"two CLs, reversed":       head + "Content-Length: 44\r\nContent-Length: 0\r\n\r\n" + smuggled,
		"CL list":                 head + "Content-Length: 0, 44\r\n\r\n" + smuggled,
		"CL negative":             head + "Content-Length: -1\r\n\r\n" + smuggled,
		"CL plus":                 head + "Content-Length: +0\r\n\r\n" + smuggled,
		"CL hexadecimal":          head + "Content-Length: 0x0\r\n\r\n" + smuggled,
		"CL too large":            head + "Content-Length: 18446744073709551616\r\n\r\n" + smuggled,
		"CL empty":                head + "Content-Length:\r\n\r\n" + smuggled,
		"CL with a space within":  head + "Content-Length: 0 0\r\n\r\n" + smuggled,
		"CL space colon":          head + "Content-Length : 0\r\n\r\n" + smuggled,
		"obs-fold":                head + "X-A: b\r\n c: d\r\nContent-Length: 0\r\n\r\n" + smuggled,
		"bare LF":                 "POST /first HTTP/1.1\nHost: a.test\nContent-Length: 0\nTransfer-Encoding: chunked\n\n" + chunked,
		"NUL in a value":          head + "X-A: b\x00c\r\nContent-Length: 0\r\n\r\n" + smuggled,
		"NUL in a name":           head + "X\x00A: b\r\nContent-Length: 0\r\n\r\n" + smuggled,
		"space in a name":         head + "X A: b\r\nContent-Length: 0\r\n\r\n" + smuggled,
		"chunk size too large":    head + "Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\nx\r\n" + chunked,
		"chunk size negative":     head + "Transfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n" + chunked,
		"chunk size 0x":           head + "Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n" + smuggled,
		"chunk size none":         head + "Transfer-Encoding: chunked\r\n\r\n\r\n\r\n" + smuggled,
		"chunk without its end":   head + "Transfer-Encoding: chunked\r\n\r\n1\r\nxy" + chunked,
		"chunk extension with LF": head + "Transfer-Encoding: chunked\r\n\r\n1;\nx\r\nx\r\n" + chunked,
		"two Hosts":               head + "Host: b.test\r\nContent-Length: 0\r\n\r\n" + smuggled,
		"no Host":                 "POST /first HTTP/1.1\r\nContent-Length: 0\r\n\r\n" + smuggled,
		"Host with a space":       "POST /first HTTP/1.1\r\nHost: a.test b.test\r\nContent-Length: 0\r\n\r\n" + smuggled,
		"Host with a path":        "POST /first HTTP/1.1\r\nHost: a.test/b\r\nContent-Length: 0\r\n\r\n" + smuggled,
		"HTTP/1.2":                "POST /first HTTP/1.2\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n" + smuggled,
		"HTTP/0.9":                "GET /first\r\n" + smuggled,
		"no path":                 "POST first HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n" + smuggled,
		"fragment":                "POST /first#x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n" + smuggled,
		"method of its own":       "GE\x00T /first HTTP/1.1\r\nHost: a.test\r\n\r\n" + smuggled,
		"TE in HTTP/1.0":          "POST /first HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked,
		"CONNECT":                 "CONNECT a.test:80 HTTP/1.1\r\nHost: a.test:80\r\n\r\n" + smuggled,
		"upgrade to h2c with TE":  head + "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n" + chunked,
	} {
		cases.Go(func() {
			// A path of its own tells of which case a request is.
			got := e.say(t, 80, strings.NewReplacer("/first", "/first"+escaped(name), "/smuggled", "/smuggled"+escaped(name)).Replace(text))
			mu.Lock()
			defer mu.Unlock()
			replies[name] = got
		})
	}
	cases.Wait()
	requests := make(map[string]int)
	for _, r := range seen.take() {
		requests[r.URL.Path]++
	}
	for name, got := range replies {
		first, hidden := requests["/first"+escaped(name)], requests["/smuggled"+escaped(name)]
		if harmless[name] {
			require.Equal(t, "200", statusOf(got), "%s: %s", name, got)
			require.Equal(t, strings.Count(got, " 200 OK"), first+hidden, "%s: the backend counts as the proxy does", name)
			continue
		}
		require.Contains(t, []string{"400", "404", "501", "426", "closed"}, statusOf(got), "%s: %s", name, got)
		require.LessOrEqual(t, strings.Count(got, "HTTP/1."), 1, "%s: nothing after it is answered: %s", name, got)
		require.Zero(t, hidden, name)
		// Of a wrong chunk the head may be on its way already; then it is never whole.
		require.True(t, first == 0 || strings.HasPrefix(name, "chunk"), "%s: the backend has seen it", name)
	}
	// The same in order is two requests, of which the second says to close.
	got := e.say(t, 80, head+"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
	require.Equal(t, 2, strings.Count(got, "HTTP/1.1 200"), got)
	require.Len(t, seen.take(), 2)
}

// The same in HTTP/2, whose frames can carry what HTTP/1.1 makes a second request of.
func TestEdgeRefusesSmugglingInHTTP2(t *testing.T) {
	t.Parallel()
	b := startBackend(t, "php")
	seen := b.record()
	php := pods("php", policy.HTTP1, zone(callerZone, b))
	e := startGateway(t, gateway(plain(80, v1alpha1.GatewaySettings{}, answers("*", only(php)))), php)
	type field = hpack.HeaderField
	request := func(method string, more ...field) []field {
		return append([]field{{Name: ":method", Value: method}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: "a.test"}, {Name: ":path", Value: "/first"}}, more...)
	}
	get := func(more ...field) []field { return request("GET", more...) }
	require.Equal(t, "200", e.stream(t, 80, get(), nil), "the client here is right")
	require.Equal(t, "200", e.stream(t, 80, request("POST", field{Name: "content-length", Value: "1"}), []byte("x")))
	require.Len(t, seen.take(), 2)
	for name, tc := range map[string]struct {
		headers []field
		body    []byte
	}{
		"CRLF in a path":        {[]field{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: "a.test"}, {Name: ":path", Value: "/first HTTP/1.1\r\nHost: a.test\r\n\r\n" + smuggled}}, nil},
		"space in a path":       {[]field{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: "a.test"}, {Name: ":path", Value: "/first HTTP/1.1"}}, nil},
		"CRLF in a method":      {request("GET /x HTTP/1.1\r\nHost: a.test\r\n\r\nGET"), nil},
		"space in a method":     {request("GET /smuggled HTTP/1.1"), nil},
		"CRLF in an authority":  {[]field{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: "a.test\r\nX: y"}, {Name: ":path", Value: "/first"}}, nil},
		"CRLF in a value":       {get(field{Name: "x-a", Value: "b\r\n\r\n" + smuggled}), nil},
		"LF in a value":         {get(field{Name: "x-a", Value: "b\nc: d"}), nil},
		"NUL in a value":        {get(field{Name: "x-a", Value: "b\x00"}), nil},
		"CRLF in a name":        {get(field{Name: "x-a: b\r\nx", Value: "c"}), nil},
		"colon in a name":       {get(field{Name: "x:a", Value: "c"}), nil},
		"capital in a name":     {get(field{Name: "X-A", Value: "c"}), nil},
		"transfer-encoding":     {request("POST", field{Name: "transfer-encoding", Value: "chunked"}), []byte("0\r\n\r\n" + smuggled)},
		"connection":            {get(field{Name: "connection", Value: "x-a"}), nil},
		"upgrade":               {get(field{Name: "upgrade", Value: "h2c"}), nil},
		"te":                    {get(field{Name: "te", Value: "gzip"}, field{Name: "keep-alive", Value: "1"}), nil},
		"content-length short":  {request("POST", field{Name: "content-length", Value: "0"}), []byte(smuggled)},
		"content-length long":   {request("POST", field{Name: "content-length", Value: "100"}), []byte("x")},
		"content-length twice":  {request("POST", field{Name: "content-length", Value: "1"}, field{Name: "content-length", Value: "2"}), []byte("x")},
		"content-length wrong":  {request("POST", field{Name: "content-length", Value: "+1"}), []byte("x")},
		"two methods":           {append([]field{{Name: ":method", Value: "POST"}}, get()...), nil},
		"two paths":             {append([]field{{Name: ":path", Value: "/smuggled"}}, get()...), nil},
		"pseudo header at last": {append([]field{{Name: "x-a", Value: "b"}}, get()...), nil},
		"unknown pseudo header": {append([]field{{Name: ":x", Value: "b"}}, get()...), nil},
		"no path":               {[]field{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: "a.test"}}, nil},
		"empty path":            {[]field{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: "a.test"}, {Name: ":path", Value: ""}}, nil},
		"no scheme":             {[]field{{Name: ":method", Value: "GET"}, {Name: ":authority", Value: "a.test"}, {Name: ":path", Value: "/first"}}, nil},
		"another Host":          {[]field{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: "/first"}, {Name: "host", Value: "a.test\r\nx"}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			path := "/first-" + strings.ReplaceAll(name, " ", "-")
			for i := range tc.headers {
				tc.headers[i].Value = strings.Replace(tc.headers[i].Value, "/first", path, 1)
			}
			require.Contains(t, []string{"400", "404", "closed"}, e.stream(t, 80, tc.headers, tc.body))
			for _, r := range seen.take() {
				require.NotContains(t, r.URL.Path, "smuggled")
				// Of a wrong length the head may be on its way already; then the body is never whole.
				require.True(t, r.URL.Path != path || strings.HasPrefix(name, "content-length"), "the backend has seen it")
			}
		})
	}
}

// stream sends a request in a stream of an HTTP/2 connection of its own, field
// by field as they are, and returns the status of the answer, "closed" for none.
func (e *edge) stream(t *testing.T, port uint16, headers []hpack.HeaderField, body []byte) string {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", e.at[port])
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = io.WriteString(conn, http2.ClientPreface)
	require.NoError(t, err)
	framer := http2.NewFramer(conn, conn)
	require.NoError(t, framer.WriteSettings())
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, h := range headers {
		require.NoError(t, encoder.WriteField(h))
	}
	const largest = 16 << 10
	first := block.Next(largest)
	err = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: first, EndHeaders: block.Len() == 0, EndStream: body == nil})
	for err == nil && block.Len() > 0 {
		part := block.Next(largest)
		err = framer.WriteContinuation(1, block.Len() == 0, part)
	}
	for last := body == nil; err == nil && !last; {
		part := body[:min(len(body), largest)]
		body = body[len(part):]
		last = len(body) == 0
		err = framer.WriteData(1, last, part)
	}
	_ = err // the other side may have closed already
	decoder := hpack.NewDecoder(4096, nil)
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			var timeout net.Error
			require.False(t, errors.As(err, &timeout) && timeout.Timeout(), "nothing came back")
			return "closed"
		}
		switch f := frame.(type) {
		case *http2.HeadersFrame:
			fields, err := decoder.DecodeFull(f.HeaderBlockFragment())
			require.NoError(t, err)
			for _, h := range fields {
				if h.Name == ":status" {
					return h.Value
				}
			}
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return "closed"
		}
	}
}
