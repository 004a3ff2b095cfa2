package e2e

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/bootstrap"
	"github.com/causeway-mesh/causeway/xds/engine"
	"github.com/causeway-mesh/causeway/xds/server"
	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// plane is a control plane in this process, whose catalog the test writes.
type plane struct {
	catalog *catalog.Catalog
	engine  *engine.Engine
	server  *server.Server
	store   *snapshot.Store
	address string

	registry *prometheus.Registry
}

func startPlane(t *testing.T) *plane {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	registry := prometheus.NewRegistry()
	p := &plane{catalog: catalog.New(), store: snapshot.New(), registry: registry}
	p.engine = engine.New(p.catalog, p.store, log, registry)
	p.server = server.New(p.store, server.Options{
		Logger: log, Metrics: server.NewMetrics(registry), TrustPlaintext: true,
		Identify: func(n *corev3.Node) (server.Node, error) {
			node, err := bootstrap.ParseNode(n)
			return server.Node{
				ID: node.ID, Role: node.Role, Namespace: node.Namespace, Workload: node.Workload, Zone: node.Zone, NodeName: node.NodeName,
				Declared: node.Declared, Envoy: node.Envoy != "",
			}, err
		},
		Connect: func(ctx context.Context, n *server.Node) (func(), error) { return p.engine.Declare(ctx, n.Declared) },
	})
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it does not wait
	require.NoError(t, err)
	p.address = l.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{}, 2)
	go func() { _ = p.engine.Run(ctx); done <- struct{}{} }()
	go func() { _ = p.server.Serve(l); done <- struct{}{} }()
	t.Cleanup(func() {
		p.server.Stop()
		cancel()
		<-done
		<-done
	})
	return p
}

func (p *plane) write(t *testing.T, fn func(tx *catalog.Tx)) {
	t.Helper()
	_, err := p.catalog.Write(time.Time{}, func(tx *catalog.Tx) error { fn(tx); return nil })
	require.NoError(t, err)
}

// soak is how long the long variants run, a few seconds if it is not set.
func soak(t *testing.T, short time.Duration) time.Duration {
	t.Helper()
	if d, err := time.ParseDuration(os.Getenv("CAUSEWAY_SOAK")); err == nil {
		return d
	}
	return short
}

// Thousands of random changes reach a real Envoy while it serves: Services come
// and go, endpoints move, drain and turn unhealthy, homes change sides, a
// Service goes and comes back at once. Each Service that is asked for always
// has somebody who can answer, so every failure is the mesh's.
func TestHitless(t *testing.T) {
	beside(t, 0.7, 35*time.Second)
	const services, backends = 6, 5
	p := startPlane(t)
	addresses := harness.Addresses(t, backends)
	for i, a := range addresses {
		harness.StartWorkload(t, harness.WorkloadOptions{
			Kind: harness.GoProcess, Address: a, Port: instancePort, ID: fmt.Sprintf("b%d", i), Platform: "pods", Zone: "a",
		})
	}
	seed := uint64(time.Now().UnixNano()) //nolint:gosec // any will do
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	service := func(i int, home string) *discovery.Service {
		return &discovery.Service{
			Scope: "test", Key: discovery.Key{Namespace: "web", Name: fmt.Sprintf("s%d", i)}, Home: home,
			Ports: []discovery.ServicePort{{Name: "http", Port: 80}},
		}
	}
	// The endpoints of one platform; the first is always usable, for whom failover exists.
	set := func(i int, platform discovery.BackingName, first netip.Addr) *discovery.EndpointSet {
		s := &discovery.EndpointSet{
			Scope: "test", Platform: platform, Service: service(i, "").Key,
			Key:   discovery.Key{Namespace: "web", Name: fmt.Sprintf("s%d-%s", i, platform)},
			Ports: []discovery.EndpointPort{{Name: "http", Port: instancePort}},
		}
		s.Endpoints = append(s.Endpoints, discovery.Endpoint{ID: "first-" + first.String(), Address: first.String(), Zone: "a"})
		for range r.IntN(backends) {
			a := addresses[r.IntN(backends)]
			s.Endpoints = append(s.Endpoints, discovery.Endpoint{
				ID: fmt.Sprintf("%s-%d", a, r.IntN(3)), Address: a.String(), Zone: []string{"a", "b", "c"}[r.IntN(3)],
				Health: discovery.Health(r.IntN(3)), Weight: 1 + r.Uint32N(4), //nolint:gosec // 0 to 2
			})
		}
		return s
	}
	home := func() string { return []string{"Pods", "Instances"}[r.IntN(2)] }
	for i := range services {
		p.write(t, func(tx *catalog.Tx) {
			catalog.Services.Put(tx, service(i, "Pods"))
			catalog.Endpoints.Put(tx, set(i, discovery.Pods, addresses[0]))
		})
	}
	c := startCaller(t, "i-1", "web", "a", []string{p.address}, "")
	load := harness.StartLoad(t, harness.LoadOptions{URL: "http://" + c.http + "/", Rate: 400, Next: func(n int64) harness.LoadRequest {
		return harness.LoadRequest{Host: fmt.Sprintf("s%d.web", n%services)}
	}})
	load.WaitAnswers(t, 100, 10*time.Second)

	changes := 0
	for end := time.Now().Add(soak(t, 25*time.Second)); time.Now().Before(end); changes++ {
		i := r.IntN(services)
		p.write(t, func(tx *catalog.Tx) {
			switch r.IntN(8) {
			case 0, 1, 2:
				catalog.Endpoints.Put(tx, set(i, discovery.Pods, addresses[r.IntN(backends)]))
			case 3:
				catalog.Endpoints.Put(tx, set(i, discovery.Instances, addresses[r.IntN(backends)]))
				catalog.Services.Put(tx, service(i, home()))
			case 4: // the home's backing empties: the other one answers
				catalog.Services.Put(tx, service(i, "Instances"))
				catalog.Endpoints.Delete(tx, fmt.Sprintf("test|web/s%d-instances", i))
			case 5: // another Service comes, with a port that changes what its clusters are
				s := service(services+r.IntN(20), home())
				s.Ports[0].AppProtocol = []string{"", "http", "kubernetes.io/h2c", "tcp"}[r.IntN(4)]
				catalog.Services.Put(tx, s)
				catalog.Endpoints.Put(tx, set(services+r.IntN(20), discovery.Pods, addresses[0]))
			case 6:
				n := services + r.IntN(20)
				catalog.Services.Delete(tx, service(n, "").Key.String())
				catalog.Endpoints.Delete(tx, fmt.Sprintf("test|web/s%d-pods", n))
			case 7: // a port is added or removed: the routes of this Service change
				s := service(i, home())
				if r.IntN(2) == 0 {
					s.Ports = append(s.Ports, discovery.ServicePort{Name: "metrics", Port: 9000 + uint16(r.IntN(3))}) //nolint:gosec // small
				}
				catalog.Services.Put(tx, s)
			}
		})
		harness.TakeTime(time.Duration(r.IntN(12)) * time.Millisecond)
	}
	report := load.Stop()
	t.Logf("%d changes; %s", changes, report)
	for _, proxy := range p.server.Proxies() {
		for _, s := range proxy.Types {
			require.Empty(t, s.Rejected, "%s: %s", s.Type, s.Error)
		}
	}
	require.Greater(t, changes, 1000)
	report.RequireNoFailures(t)
}

// An Envoy that stands still holds up no other, and catches up when it goes on.
func TestStoppedEnvoyHoldsUpNobody(t *testing.T) {
	beside(t, 0.2, 5*time.Second)
	p := startPlane(t)
	addresses := harness.Addresses(t, 2)
	for i, a := range addresses {
		harness.StartWorkload(t, harness.WorkloadOptions{Kind: harness.Go, Address: a, Port: instancePort, ID: fmt.Sprintf("b%d", i)})
	}
	put := func(a netip.Addr) {
		key := discovery.Key{Namespace: "web", Name: "s"}
		p.write(t, func(tx *catalog.Tx) {
			catalog.Services.Put(tx, &discovery.Service{Scope: "test", Key: key, Ports: []discovery.ServicePort{{Name: "http", Port: 80}}})
			catalog.Endpoints.Put(tx, &discovery.EndpointSet{
				Scope: "test", Key: key, Service: key, Platform: discovery.Pods, Ports: []discovery.EndpointPort{{Name: "http", Port: instancePort}},
				Endpoints: []discovery.Endpoint{{ID: a.String(), Address: a.String()}},
			})
		})
	}
	put(addresses[0])
	stopped := startCaller(t, "i-stopped", "web", "a", []string{p.address}, "")
	other := startCaller(t, "i-other", "web", "a", []string{p.address}, "")
	answers := func(c *caller, id string) {
		t.Helper()
		harness.Eventually(t, 10*time.Second, id+" answers", func() error {
			l := harness.StartLoad(t, harness.LoadOptions{URL: "http://" + c.http + "/", Host: "s.web", Limit: 1, Workers: 1})
			r := l.Wait()
			if r.IDs()[id] != 1 {
				return fmt.Errorf("%s", r)
			}
			return nil
		})
	}
	answers(stopped, "b0")
	answers(other, "b0")
	stopped.Pause()
	for range 50 {
		put(addresses[0])
		put(addresses[1])
	}
	answers(other, "b1")
	stopped.Resume()
	answers(stopped, "b1")
}

// A TCP Service is reached through a listener that the caller declares. Moving
// its home moves new connections.
func TestDeclaredTCPListener(t *testing.T) {
	beside(t, 0.2, 3*time.Second)
	p := startPlane(t)
	addresses := harness.Addresses(t, 2)
	harness.StartEcho(t, "instance", addresses[0], 3306)
	harness.StartEcho(t, "pod", addresses[1], 3306)
	key := discovery.Key{Namespace: "data", Name: "mysql"}
	put := func(home string) {
		p.write(t, func(tx *catalog.Tx) {
			catalog.Services.Put(tx, &discovery.Service{
				Scope: "test", Key: key, Home: home, Ports: []discovery.ServicePort{{Name: "mysql", Port: 3306}},
			})
			for i, platform := range []discovery.BackingName{discovery.Instances, discovery.Pods} {
				catalog.Endpoints.Put(tx, &discovery.EndpointSet{
					Scope: "test", Key: discovery.Key{Namespace: "data", Name: platform.String()}, Service: key, Platform: platform,
					Ports:     []discovery.EndpointPort{{Name: "mysql", Port: 3306}},
					Endpoints: []discovery.Endpoint{{ID: platform.String(), Address: addresses[i].String()}},
				})
			}
		})
	}
	put("Instances")
	c := startCaller(t, "i-1", "web", "a", []string{p.address}, "data/mysql:3306")
	greeting := func(want string) {
		t.Helper()
		harness.Eventually(t, 10*time.Second, want+" answers", func() error {
			conn, err := net.DialTimeout("tcp", c.tcp, time.Second) //nolint:noctx // bounded
			if err != nil {
				return err
			}
			defer conn.Close()
			if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
				return err
			}
			if _, err := conn.Write([]byte("hello\n")); err != nil {
				return err
			}
			buffer := make([]byte, 256)
			n, err := conn.Read(buffer)
			if err != nil {
				return err
			}
			if !strings.Contains(string(buffer[:n]), want) {
				return fmt.Errorf("%q", buffer[:n])
			}
			return nil
		})
	}
	greeting("instance")
	put("Pods")
	greeting("pod")
}
