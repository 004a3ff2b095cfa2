package compile_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/compile"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// world is what an Envoy that serves routes knows.
type world struct {
	services []*policy.Service
	mesh     policy.Mesh
	// namespace of the callers, "" for web.
	namespace string
	// node is the proxy's id, "" for test.
	node string
	// declared are the TCP listeners.
	declared []string
}

func (w world) start(t *testing.T) *mesh {
	t.Helper()
	if w.namespace == "" {
		w.namespace = "web"
	}
	m := &mesh{
		dir: t.TempDir(), compiler: compile.New(), endpoints: make(map[string]string), http: harness.FreeAddress(t),
	}
	resources := m.compiler.Mesh(&w.mesh)
	byKey := make(map[discovery.Key]*policy.Service)
	for _, s := range w.services {
		byKey[s.Key] = s
		resources = append(resources, m.compiler.Service(s)...)
	}
	for _, text := range append(w.declared, "http/"+m.http) {
		d, err := naming.ParseDeclaration(text)
		require.NoError(t, err)
		resources = append(resources, m.compiler.Listener(d, byKey[d.Service])...)
	}
	requireNeedsMet(t, resources)
	for _, r := range resources {
		if r.Type == resource.Endpoint {
			m.endpoints[r.Name] = string(inZone(r, callerZone).Bytes())
		}
	}
	bootstrap := static(t, resources, w.namespace, callerZone, m.dir)
	if w.node != "" {
		bootstrap = bytes.Replace(bootstrap, []byte(`"id":"test"`), []byte(`"id":"`+w.node+`"`), 1)
		require.Contains(t, string(bootstrap), w.node)
	}
	m.Envoy = harness.StartEnvoy(t, bootstrap, harness.EnvoyOptions{})
	m.client = &http.Client{
		Timeout:       20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", m.http)
		}},
	}
	t.Cleanup(m.client.CloseIdleConnections)
	return m
}

// requireNeedsMet checks that what resources say they need is there.
func requireNeedsMet(t *testing.T, resources []resource.Resource) {
	t.Helper()
	clusters := make(map[string]bool)
	for _, r := range resources {
		if r.Type == resource.Cluster {
			clusters[r.Name] = true
		}
	}
	for _, r := range resources {
		for _, n := range r.Needs {
			require.True(t, clusters[n], "%s needs %s", r.Name, n)
		}
	}
}

// answer is what a caller gets.
type answer struct {
	*http.Response

	body string
}

// send sends a request with headers given as "Name: value".
func (m *mesh) send(t *testing.T, method, url string, headers ...string) answer {
	t.Helper()
	out, err := m.try(t, method, url, headers...)
	require.NoError(t, err)
	return out
}

func (m *mesh) try(t *testing.T, method, url string, headers ...string) (answer, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+url, http.NoBody)
	require.NoError(t, err)
	for _, h := range headers {
		name, value, ok := strings.Cut(h, ": ")
		require.True(t, ok, h)
		r.Header.Add(name, value)
	}
	res, err := m.client.Do(r)
	if err != nil {
		return answer{}, err
	}
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	return answer{res, string(body)}, nil
}

// recorder keeps the requests that a backend gets.
type recorder struct {
	mu   sync.Mutex
	seen []*http.Request
}

// record has a backend keep its requests, and answer as it did.
func (b *backend) record() *recorder {
	out, then := &recorder{}, *b.handler.Load()
	b.answer(func(w http.ResponseWriter, r *http.Request) {
		out.mu.Lock()
		out.seen = append(out.seen, r.Clone(context.WithoutCancel(r.Context())))
		out.mu.Unlock()
		then(w, r)
	})
	return out
}

// take returns the requests since it was last called.
func (r *recorder) take() []*http.Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.seen
	r.seen = nil
	return out
}

// one returns the only request since the last ones were taken.
func (r *recorder) one(t *testing.T) *http.Request {
	t.Helper()
	got := r.take()
	require.Len(t, got, 1)
	return got[0]
}

// everything is the match of a rule that states none.
var everything = policy.Match{Path: policy.PathMatch{Kind: policy.PathPrefix, Value: "/"}}

func prefix(path string) policy.Match {
	return policy.Match{Path: policy.PathMatch{Kind: policy.PathPrefix, Value: path}}
}

// to returns a Service as the only backend of a rule.
func to(m *policy.Service) policy.Backend {
	p := &m.Ports[0]
	out := policy.Backend{
		Kind: policy.ServiceBackend, Key: m.Key, Port: p.Number, Protocol: p.Protocol, Weight: 1, Share: policy.ShareTotal,
		Targets: p.Targets(), Shift: m.Shift, ClientIP: m.ClientIP,
	}
	return out
}

// divided returns a backend with parts of the requests on pods and on instances.
func divided(b policy.Backend, onPods, onInstances uint32) policy.Backend {
	b.Targets = slices.Clone(b.Targets)
	b.Targets[0].Share, b.Targets[1].Share = onPods, onInstances
	return b
}

// invalid is a backendRef that names nothing.
var invalid = policy.Backend{Kind: policy.InvalidBackend, Weight: 1, Share: policy.ShareTotal, Targets: []policy.Target{{Share: policy.ShareTotal}}}

// part returns a backend with a part of the requests, in percent.
func part(b policy.Backend, percent uint32) policy.Backend {
	b.Share = percent * (policy.ShareTotal / 100)
	b.Targets = slices.Clone(b.Targets)
	for i := range b.Targets {
		b.Targets[i].Share = b.Targets[i].Share / 100 * percent
	}
	return b
}

// routed returns a Service with routes and without endpoints of its own.
// Rules that name no route belong to one of the Service's name.
func routed(name string, rules ...policy.Rule) *policy.Service {
	m := pods(name, policy.HTTP1)
	m.Ports[0].HTTP = routes(m.Key, rules...)
	return m
}

func routes(of discovery.Key, rules ...policy.Rule) *policy.HTTPRoutes {
	for i := range rules {
		r := &rules[i]
		if r.Route.Kind == "" {
			r.Route, r.Index = discovery.ObjectRef{Kind: "HTTPRoute", Key: of}, i
		}
		if r.Match.Path.Value == "" {
			r.Match.Path = everything.Path
		}
		for j := range r.Backends {
			r.Backends[j].Index = j
		}
	}
	return &policy.HTTPRoutes{Rules: rules, Provenance: []discovery.ObjectRef{{Kind: "HTTPRoute", Key: of}}}
}

// only returns a rule for everything that goes to a Service.
func only(m *policy.Service) policy.Rule {
	return policy.Rule{Match: everything, Backends: []policy.Backend{to(m)}}
}

// rule returns a rule for everything that goes to a Service, as f changes it.
func rule(m *policy.Service, f func(*policy.Rule)) policy.Rule {
	r := only(m)
	f(&r)
	return r
}

// count sends requests and counts the bodies of answers with status 200, and
// the statuses of the others.
func (m *mesh) count(t *testing.T, n int, method, url string, headers ...string) map[string]int {
	t.Helper()
	out := make(map[string]int)
	for range n {
		a := m.send(t, method, url, headers...)
		if a.StatusCode == http.StatusOK {
			out[a.body]++
		} else {
			out[fmt.Sprint(a.StatusCode)]++
		}
	}
	return out
}

// requireShares checks that counts are as shares of the whole say, within
// what chance allows.
func requireShares(t *testing.T, want map[string]float64, got map[string]int) {
	t.Helper()
	n := 0
	for _, k := range got {
		n += k
	}
	require.ElementsMatch(t, slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got)), "%v", got)
	for name, share := range want {
		deviation := math.Sqrt(share * (1 - share) / float64(n))
		require.InDelta(t, share, float64(got[name])/float64(n), 5*deviation, "%s: %v", name, got)
	}
}

// startRawServer returns a listener on which a test serves itself.
func startRawServer(t *testing.T, name string) *backend {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	return &backend{name: name, listener: listener}
}
