package explain_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/explain"
)

// What becomes of requests that name their host in other ways than once, and of what HTTP/2 does not
// allow. test/equivalence holds it against Envoy.
func TestHostsAndVersions(t *testing.T) {
	w := newWorld(t)
	w.service("web", "php")
	w.pods("web", "php", discovery.Endpoint{ID: "a", Address: "10.0.0.1"})
	const host = "php.web"
	header := func(name, value string) []explain.Header { return []explain.Header{{Name: name, Value: value}} }
	for name, c := range map[string]struct {
		req    explain.Request
		status int // of the mesh's own answer, 0 for a reset, -1 where a backend answers
	}{
		"one host":                    {explain.Request{Host: host}, -1},
		"two":                         {explain.Request{Host: host, Hosts: []string{host}}, 404},
		"a dot":                       {explain.Request{Host: host + "."}, -1},
		"a dot in the first of two":   {explain.Request{Host: host + ".:80", Hosts: []string{"api.web"}}, 404},
		"one and an empty one":        {explain.Request{Host: "", Hosts: []string{host}}, -1},
		"none":                        {explain.Request{NoHost: true}, 400},
		"none, HTTP/1.0":              {explain.Request{NoHost: true, HTTP10: true}, 400},
		"an empty one":                {explain.Request{}, 404},
		"none, in a whole URL":        {explain.Request{Host: host, NoHost: true, Absolute: true}, -1},
		"another one, in a whole URL": {explain.Request{Host: host, Hosts: []string{"other"}, Absolute: true}, -1},
		"HTTP/2":                      {explain.Request{Host: host, HTTP2: true}, -1},
		"HTTP/2, another host":        {explain.Request{Host: host, Hosts: []string{"other"}, HTTP2: true}, -1},
		"HTTP/2, an empty host":       {explain.Request{Host: host, Hosts: []string{""}, HTTP2: true}, 0},
		"HTTP/2, host alone":          {explain.Request{NoHost: true, Hosts: []string{host}, HTTP2: true}, -1},
		"HTTP/2, host twice":          {explain.Request{NoHost: true, Hosts: []string{host, host}, HTTP2: true}, 0},
		"HTTP/2, none":                {explain.Request{NoHost: true, HTTP2: true}, 0},
		"HTTP/2, connection":          {explain.Request{Host: host, HTTP2: true, Headers: header("connection", "close")}, 0},
		"HTTP/2, capitals":            {explain.Request{Host: host, HTTP2: true, Headers: header("X-User", "1")}, 0},
		"HTTP/2, te":                  {explain.Request{Host: host, HTTP2: true, Headers: header("te", "gzip")}, 0},
		"HTTP/2, trailers":            {explain.Request{Host: host, HTTP2: true, Headers: header("te", "trailers")}, -1},
		"HTTP/2, a websocket":         {explain.Request{Host: host, HTTP2: true, Method: "CONNECT", Protocol: "websocket"}, 0},
		"HTTP/2, a tunnel":            {explain.Request{Host: host, HTTP2: true, Method: "CONNECT"}, 404},
		"HTTP/2, a tunnel to nowhere": {explain.Request{Host: host, HTTP2: true, Method: "CONNECT", Path: "/#f"}, 404},
		"HTTP/2, a byte":              {explain.Request{Host: host, HTTP2: true, Path: "/caf\xe9"}, -1},
		"HTTP/1.1, a byte":            {explain.Request{Host: host, Path: "/caf\xe9"}, 400},
		"HTTP/2, a space":             {explain.Request{Host: host, HTTP2: true, Path: "/a b"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			req := c.req
			req.From = explain.Workload{Namespace: "web"}
			if req.Method == "" {
				req.Method = "GET"
			}
			if req.Path == "" {
				req.Path = "/"
			}
			e := explain.Evaluate(w.Read(), req)
			if c.status < 0 {
				require.Nil(t, e.Answer)
				return
			}
			require.NotNil(t, e.Answer)
			require.Equal(t, c.status, e.Answer.Status, e.Answer.Because)
		})
	}
}
