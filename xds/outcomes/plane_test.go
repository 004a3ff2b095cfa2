package outcomes_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/outcome"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/bootstrap"
	"github.com/causeway-mesh/causeway/xds/engine"
	"github.com/causeway-mesh/causeway/xds/outcomes"
	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/server"
	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// loadInterval of the tests' control planes.
const loadInterval = 500 * time.Millisecond

// plane is a control plane in this process, whose catalog the test writes, with
// a recorder of what proxies report.
type plane struct {
	*outcomes.Recorder

	catalog *catalog.Catalog
	engine  *engine.Engine
	store   *snapshot.Store
	address string
	stop    func()

	mu sync.Mutex
	// http and tcp are the entries that came, by the name of their log.
	http map[string][]*accesslogv3.HTTPAccessLogEntry
	tcp  map[string][]*accesslogv3.TCPAccessLogEntry
	// hops is added to the time that the recorder has.
	hops atomic.Int64
}

func startPlane(t *testing.T) *plane {
	t.Helper()
	p := &plane{
		catalog: catalog.New(), store: snapshot.New(), address: harness.FreeAddress(t),
		http: make(map[string][]*accesslogv3.HTTPAccessLogEntry), tcp: make(map[string][]*accesslogv3.TCPAccessLogEntry),
	}
	now := func() time.Time { return time.Now().Add(time.Duration(p.hops.Load())) }
	rows := outcomes.NewServices(p.catalog, now)
	p.Recorder = outcomes.New(outcomes.Options{Shifted: rows.Shifted, Backings: rows.Backings, Lookup: rows.Lookup, StreamAge: rows.StreamAge, Now: now})
	p.engine = engine.New(p.catalog, p.store, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = p.engine.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	p.serve(t)
	t.Cleanup(func() { p.stop() })
	return p
}

// serve starts the server, which stop ends.
func (p *plane) serve(t *testing.T) {
	t.Helper()
	s := server.New(p.store, server.Options{
		Logger: slog.New(slog.DiscardHandler), Metrics: server.NewMetrics(prometheus.NewRegistry()),
		Identify: func(n *corev3.Node) (server.Node, error) {
			node, err := bootstrap.ParseNode(n)
			return server.Node{
				ID: node.ID, Role: node.Role, Namespace: node.Namespace, Zone: node.Zone, Declared: node.Declared, Envoy: node.Envoy != "",
			}, err
		},
		Connect:  func(ctx context.Context, n *server.Node) (func(), error) { return p.engine.Declare(ctx, n.Declared) },
		Outcomes: p, LoadInterval: loadInterval,
	})
	l, err := net.Listen("tcp", p.address)
	require.NoError(t, err)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	p.stop = sync.OnceFunc(func() { s.Stop(); <-done })
}

// LogHTTP remembers entries on their way to the recorder.
func (p *plane) LogHTTP(node, log string, entries []*accesslogv3.HTTPAccessLogEntry) {
	p.mu.Lock()
	p.http[log] = append(p.http[log], entries...)
	p.mu.Unlock()
	p.Recorder.LogHTTP(node, log, entries)
}

// LogTCP remembers entries on their way to the recorder.
func (p *plane) LogTCP(node, log string, entries []*accesslogv3.TCPAccessLogEntry) {
	p.mu.Lock()
	p.tcp[log] = append(p.tcp[log], entries...)
	p.mu.Unlock()
	p.Recorder.LogTCP(node, log, entries)
}

var _ server.Outcomes = (*plane)(nil)

// Load passes on.
func (p *plane) Load(node string, interval time.Duration, clusters []*endpointv3.ClusterStats) {
	p.Recorder.Load(node, interval, clusters)
}

func (p *plane) write(t *testing.T, fn func(tx *catalog.Tx)) {
	t.Helper()
	_, err := p.catalog.Write(time.Time{}, func(tx *catalog.Tx) error { fn(tx); return nil })
	require.NoError(t, err)
}

// service is a Service at home on its instances.
func service(name, protocol string) *discovery.Service {
	return &discovery.Service{
		Scope: "test", Key: discovery.Key{Namespace: "web", Name: name}, Home: "Instances",
		Ports: []discovery.ServicePort{{Name: "main", Port: 80, AppProtocol: protocol}},
	}
}

// put makes these the endpoints of a platform of a Service.
func (p *plane) put(t *testing.T, name string, platform discovery.BackingName, backends ...*backend) {
	t.Helper()
	var rows []*discovery.EndpointSet
	scope := "test-" + name + "-" + platform.String()
	for _, b := range backends {
		rows = append(rows, &discovery.EndpointSet{
			Scope: scope, Key: discovery.Key{Namespace: "web", Name: name + "-" + b.id}, Platform: platform,
			Service: discovery.Key{Namespace: "web", Name: name}, Group: "group",
			Ports:     []discovery.EndpointPort{{Name: "main", Port: b.address.Port()}},
			Endpoints: []discovery.Endpoint{{ID: b.id, Address: b.address.Addr().String(), Zone: "a"}},
		})
	}
	p.write(t, func(tx *catalog.Tx) { catalog.Endpoints.Replace(tx, scope, rows) })
}

// shift puts a Service's TrafficShift into this state.
func (p *plane) shift(t *testing.T, name string, status v1alpha1.TrafficShiftStatus) {
	t.Helper()
	key := discovery.Key{Namespace: "web", Name: name}
	p.write(t, func(tx *catalog.Tx) {
		object := &v1alpha1.TrafficShift{Spec: v1alpha1.TrafficShiftSpec{
			ServiceRef: v1alpha1.ServiceReference{Name: name}, Steps: []v1alpha1.ShiftStep{{Percent: "50"}, {Percent: "100"}},
		}}
		object.Namespace, object.Name = key.Namespace, key.Name
		catalog.Objects.Put(tx, &discovery.Object{
			Scope: "test", Kind: "TrafficShift", Key: key, Spec: object,
			Refs: []discovery.ObjectName{{Kind: "Service", Key: key}},
		})
		catalog.ShiftStates.Put(tx, &discovery.ShiftState{Scope: "test", Key: key, Status: &status})
	})
}

// backend is an endpoint.
type backend struct {
	id      string
	address netip.AddrPort
	hits    atomic.Int64
	handler atomic.Pointer[http.HandlerFunc]
}

// startBackend starts an HTTP/1.1 server that answers with its id.
func startBackend(t *testing.T, id string) *backend {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	b := &backend{id: id, address: l.Addr().(*net.TCPAddr).AddrPort()}
	b.answer(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, id) })
	s := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.hits.Add(1)
		(*b.handler.Load())(w, r)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close(); <-done })
	return b
}

func (b *backend) answer(h http.HandlerFunc) { b.handler.Store(&h) }

// refusing is an endpoint at which nobody listens.
func refusing(t *testing.T, id string) *backend {
	t.Helper()
	return &backend{id: id, address: netip.MustParseAddrPort(harness.FreeAddress(t))}
}

// caller is a real Envoy and who asks through it.
type caller struct {
	*harness.Envoy

	http, tcp string
	client    *http.Client
}

func (p *plane) startCaller(t *testing.T, tcp string, edit func([]byte) []byte) *caller {
	t.Helper()
	c := &caller{http: harness.FreeAddress(t)}
	o := bootstrap.Options{
		Role: resource.Sidecar, Namespace: "web", Workload: "caller", Instance: "i-" + strings.ReplaceAll(c.http, ":", "-"), Zone: "a",
		Servers: []string{p.address}, HTTPListen: c.http,
	}
	if tcp != "" {
		c.tcp = harness.FreeAddress(t)
		o.TCPListen = []string{c.tcp + "=" + tcp}
	}
	config, err := bootstrap.Generate(o)
	require.NoError(t, err)
	if edit != nil {
		config = edit(config)
	}
	c.Envoy = harness.StartEnvoy(t, config, harness.EnvoyOptions{LogLevel: "warning", Concurrency: 2})
	c.client = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		MaxIdleConnsPerHost: 16,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", c.http)
		},
	}}
	t.Cleanup(c.client.CloseIdleConnections)
	return c
}

// ask sends a request and returns the answer's status and body, 0 for none.
func (c *caller) ask(t *testing.T, method, host string, body string) (status int, text string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+host+"/", strings.NewReader(body))
	require.NoError(t, err)
	answer, err := c.client.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer answer.Body.Close()
	data, _ := io.ReadAll(answer.Body)
	return answer.StatusCode, string(data)
}

// key of a Service's port and platform.
func key(name string, platform discovery.BackingName) outcome.Key {
	return outcome.Key{Service: discovery.Key{Namespace: "web", Name: name}, Port: 80, Platform: platform}
}

// settings gives a Service a TrafficPolicy.
func (p *plane) settings(t *testing.T, name string, s v1alpha1.TrafficSettings) {
	t.Helper()
	key := discovery.Key{Namespace: "web", Name: name}
	object := &v1alpha1.TrafficPolicy{Spec: v1alpha1.TrafficPolicySpec{
		TargetRefs: []v1alpha1.TargetReference{{Kind: "Service", Name: name}}, TrafficSettings: s,
	}}
	object.Namespace, object.Name = key.Namespace, key.Name
	p.write(t, func(tx *catalog.Tx) {
		catalog.Objects.Put(tx, &discovery.Object{
			Scope: "test", Kind: "TrafficPolicy", Key: key, Spec: object, Refs: []discovery.ObjectName{{Kind: "Service", Key: key}},
		})
	})
}

// shifting is the status of a shift that has given its target a share.
func shifting(percent v1alpha1.Percent) v1alpha1.TrafficShiftStatus {
	return v1alpha1.TrafficShiftStatus{Phase: v1alpha1.ShiftShifting, Percent: percent}
}

// add puts a Service at home on its instances that is being shifted and has these endpoints.
func (p *plane) add(t *testing.T, name string, pods, instances []*backend) {
	t.Helper()
	p.write(t, func(tx *catalog.Tx) { catalog.Services.Put(tx, service(name, "")) })
	p.put(t, name, discovery.Pods, pods...)
	p.put(t, name, discovery.Instances, instances...)
	p.shift(t, name, shifting("0"))
}

// counted waits until a key has so many requests and returns its counts.
func (p *plane) counted(t *testing.T, k outcome.Key, requests uint64) outcome.Counts {
	t.Helper()
	var out outcome.Counts
	harness.Eventually(t, 20*time.Second, fmt.Sprintf("%d outcomes of %v", requests, k), func() error {
		got := p.Snapshot().Totals.Outcomes
		if c := got[k]; c != nil {
			out = *c
		}
		if out.Meant() < requests {
			return fmt.Errorf("so far %+v", out)
		}
		return nil
	})
	require.Equal(t, requests, out.Meant(), "%+v", out)
	return out
}

// ready waits until a Service's requests are routed as one that is being shifted.
func (p *plane) ready(t *testing.T, c *caller, names ...string) {
	t.Helper()
	for _, name := range names {
		harness.Eventually(t, 20*time.Second, name+" at the proxy", func() error {
			if !strings.Contains(string(c.ConfigDump(t)), `"service": "web/`+name+`"`) {
				return errors.New("no route says that it is shifted")
			}
			return nil
		})
	}
}
