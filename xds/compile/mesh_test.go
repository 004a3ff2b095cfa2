package compile_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/compile"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// callerZone is where the Envoy of a mesh stands.
const callerZone = "zone-a"

// backend is a server that answers with its name.
type backend struct {
	name     string
	listener net.Listener
	hits     atomic.Int64
	handler  atomic.Pointer[http.HandlerFunc]
}

func startBackend(t *testing.T, name string) *backend {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	b := &backend{name: name, listener: listener}
	b.answer(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, name) })
	server := &http.Server{
		ReadHeaderTimeout: time.Minute,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b.hits.Add(1)
			_, _ = io.Copy(io.Discard, r.Body)
			(*b.handler.Load())(w, r)
		}),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return b
}

func (b *backend) answer(h http.HandlerFunc) { b.handler.Store(&h) }

func (b *backend) port() uint16 { return netip.MustParseAddrPort(b.listener.Addr().String()).Port() }

// endpoint returns the backend as an endpoint.
func (b *backend) endpoint(weight uint32, h discovery.Health) policy.Endpoint {
	return policy.Endpoint{ID: b.name, Address: "127.0.0.1", Port: b.port(), Weight: weight, Health: h}
}

// refusing returns an endpoint that takes no connections.
func refusing(t *testing.T, id string) policy.Endpoint {
	t.Helper()
	return policy.Endpoint{ID: id, Address: "127.0.0.1", Port: uint16(harness.FreePort(t)), Weight: 1} //nolint:gosec // a port
}

// zone returns a zone of healthy endpoints.
func zone(name string, backends ...*backend) policy.Zone {
	z := policy.Zone{Name: name}
	for _, b := range backends {
		z.Endpoints = append(z.Endpoints, b.endpoint(1, discovery.Healthy))
	}
	return z
}

// pods is the model of a Service that has pods only.
func pods(name string, protocol policy.Protocol, zones ...policy.Zone) *policy.Service {
	return &policy.Service{
		Key: discovery.Key{Namespace: "web", Name: name},
		Ports: []policy.Port{{
			Number: 80, Protocol: protocol, DefaultHTTP: protocol != policy.TCP,
			Backings: []policy.Backing{{Platform: discovery.Pods, Zones: zones}}, Shares: []uint32{policy.ShareTotal},
		}},
	}
}

// both is the model of a Service on both platforms; onPods is the pods' share.
func both(name string, protocol policy.Protocol, onPods uint32, pod, instance policy.Zone) *policy.Service {
	m := pods(name, protocol)
	p := &m.Ports[0]
	p.Shares = []uint32{onPods, policy.ShareTotal - onPods}
	p.Backings = append(p.Backings, policy.Backing{Platform: discovery.Instances})
	for i, z := range []policy.Zone{pod, instance} {
		if len(z.Endpoints) > 0 {
			p.Backings[i].Zones = []policy.Zone{z}
		}
	}
	p.FailOver()
	return m
}

// mesh is an Envoy that serves models, with no control plane.
type mesh struct {
	*harness.Envoy

	dir       string
	compiler  *compile.Compiler
	endpoints map[string]string // by cluster, the bytes that Envoy has
	http      string
	client    *http.Client
}

// startMesh starts an Envoy in callerZone and namespace web. Listeners are
// declared besides the HTTP one.
func startMesh(t *testing.T, models []*policy.Service, declared ...string) *mesh {
	t.Helper()
	m := &mesh{
		dir: t.TempDir(), compiler: compile.New(), endpoints: make(map[string]string), http: harness.FreeAddress(t),
	}
	resources := m.compiler.Mesh(&policy.Mesh{})
	byKey := make(map[discovery.Key]*policy.Service)
	for _, s := range models {
		byKey[s.Key] = s
		resources = append(resources, m.compiler.Service(s)...)
	}
	for _, text := range append(declared, "http/"+m.http) {
		d, err := naming.ParseDeclaration(text)
		require.NoError(t, err)
		resources = append(resources, m.compiler.Listener(d, byKey[d.Service])...)
	}
	for _, r := range resources {
		if r.Type == resource.Endpoint {
			m.endpoints[r.Name] = string(inZone(r, callerZone).Bytes())
		}
	}
	m.Envoy = harness.StartEnvoy(t, static(t, resources, "web", callerZone, m.dir), harness.EnvoyOptions{})
	m.client = &http.Client{
		Timeout: 20 * time.Second,
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", m.http)
		}},
	}
	t.Cleanup(m.client.CloseIdleConnections)
	return m
}

// put gives Envoy the endpoints of a model and waits until it has taken them.
func (m *mesh) put(t *testing.T, s *policy.Service) {
	t.Helper()
	for _, r := range m.compiler.Service(s) {
		if r.Type != resource.Endpoint {
			continue
		}
		body := inZone(r, callerZone)
		if m.endpoints[r.Name] == string(body.Bytes()) {
			continue
		}
		m.endpoints[r.Name] = string(body.Bytes())
		cla := &endpointv3.ClusterLoadAssignment{}
		unmarshal(t, body, cla)
		taken := "cluster." + strings.Replace(r.Name, ":", "/", 1) + ".update_success"
		before := m.Stats(t, taken)[taken]
		writeEndpoints(t, m.dir, cla)
		m.WaitStat(t, 10*time.Second, taken, before+1)
	}
}

// ask sends requests one after the other and counts the answers: by body where
// the status is 200, else by status.
func (m *mesh) ask(t *testing.T, n int, method, host string) map[string]int {
	t.Helper()
	out := make(map[string]int)
	for range n {
		var body io.Reader
		if method == http.MethodPost {
			body = bytes.NewReader([]byte("form=data"))
		}
		r, err := http.NewRequestWithContext(t.Context(), method, "http://"+host+"/", body)
		require.NoError(t, err)
		answer, err := m.client.Do(r)
		require.NoError(t, err)
		text, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		if answer.StatusCode == http.StatusOK {
			out[string(text)]++
		} else {
			out[strconv.Itoa(answer.StatusCode)]++
		}
	}
	return out
}

// settles waits until a host's answers come from one backend alone. No request
// may fail meanwhile.
func (m *mesh) settles(t *testing.T, host, on string) {
	t.Helper()
	harness.Eventually(t, time.Second, host+" to be answered by "+on, func() error {
		got := m.ask(t, 10, http.MethodGet, host)
		for answer := range got {
			require.NotRegexp(t, `^\d+$`, answer, "a request failed")
		}
		if got[on] != 10 {
			return fmt.Errorf("answers: %v", got)
		}
		return nil
	})
}

// raw writes a request as it is and returns what comes back, the head as text
// and the connection's reader for what follows it.
func (m *mesh) raw(t *testing.T, request string) (head string, conn net.Conn, rest *bufio.Reader) {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", m.http)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	_, err = io.WriteString(conn, request)
	require.NoError(t, err)
	rest = bufio.NewReader(conn)
	for !strings.HasSuffix(head, "\r\n\r\n") {
		line, err := rest.ReadString('\n')
		require.NoError(t, err, "after %q", head)
		head += line
	}
	return head, conn, rest
}
