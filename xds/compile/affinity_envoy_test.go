package compile_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
)

// affine is a Service with sessionAffinity: ClientIP.
func affine(m *policy.Service) *policy.Service {
	m.ClientIP = true
	for i := range m.Ports {
		for j := range m.Ports[i].Backings {
			s := &m.Ports[i].Backings[j].Settings
			s.Stated.LoadBalancer = &v1alpha1.LoadBalancer{Algorithm: v1alpha1.RingHash}
			s.From = map[string]discovery.ObjectRef{"loadBalancer": {Kind: "Service", Key: m.Key}}
		}
	}
	return m
}

// Every sidecar's callers have the address 127.0.0.1: what tells them apart is their host. So
// one host's requests stay at one endpoint, and those of several hosts spread.
func TestEnvoyKeepsCallersAtTheirEndpoint(t *testing.T) {
	t.Parallel()
	const each = 6
	http1 := make([]*backend, each)
	tcp := make([]*backend, each)
	for i := range each {
		name := fmt.Sprint("b", i)
		http1[i] = startBackend(t, name)
		tcp[i] = startRaw(t, name, func(c net.Conn) { _, _ = io.WriteString(c, name+"\n") })
	}
	source := v1alpha1.TrafficSettings{LoadBalancer: &v1alpha1.LoadBalancer{
		Algorithm: v1alpha1.Maglev, Hash: &v1alpha1.HashKey{Source: new(true)},
	}}
	sourceTCP := connected("source-tcp", policy.TCPRule{
		Backends: []policy.Backend{to(pods("source-tcp", policy.TCP))}, Settings: settings(source),
	})
	sourceTCP.Ports[0].Backings[0].Zones = []policy.Zone{zone(callerZone, tcp...)}
	sourceTCP = under(source, sourceTCP)
	services := []*policy.Service{
		affine(pods("affine", policy.HTTP1, zone(callerZone, http1...))),
		affine(pods("zones", policy.HTTP1, zone(callerZone, http1[:3]...), zone("zone-b", http1[3:]...))),
		affine(both("home", policy.HTTP1, policy.ShareTotal, zone(callerZone, http1...), zone(callerZone, http1[0]))),
		under(source, pods("source", policy.HTTP1, zone(callerZone, http1...))),
		affine(pods("affine-tcp", policy.TCP, zone(callerZone, tcp...))),
		sourceTCP,
	}
	seen := make(map[string]map[string]bool)
	note := func(what, node string, got map[string]int) {
		require.Len(t, got, 1, "%s: the callers of %s moved", what, node)
		for name := range got {
			require.Contains(t, name, "b", what)
			if seen[what] == nil {
				seen[what] = make(map[string]bool)
			}
			seen[what][name] = true
		}
	}
	for host := range 5 {
		node := fmt.Sprintf("sidecar~web~php~i-%d", host)
		affineTCP, bySource := harness.FreeAddress(t), harness.FreeAddress(t)
		m := world{services: services, node: node, declared: []string{"tcp/" + affineTCP + "=web/affine-tcp:80", "tcp/" + bySource + "=web/source-tcp:80"}}.start(t)
		for _, name := range []string{"affine", "zones", "home", "source"} {
			note(name, node, m.ask(t, 20, http.MethodGet, name+".web"))
		}
		note("affine-tcp", node, greetings(t, affineTCP, 20))
		note("source-tcp", node, greetings(t, bySource, 20))
	}
	for what, names := range seen {
		require.Greater(t, len(names), 1, "%s: all hosts are at one endpoint", what)
	}
}

// While there is a cohort its key chooses the side, and the endpoint within it.
func TestEnvoyKeepsUsersOfACohortAtTheirEndpoint(t *testing.T) {
	t.Parallel()
	pod := []*backend{startBackend(t, "pod-a"), startBackend(t, "pod-b"), startBackend(t, "pod-c")}
	instance := []*backend{startBackend(t, "i-a"), startBackend(t, "i-b"), startBackend(t, "i-c")}
	m := affine(both("shop", policy.HTTP1, policy.ShareTotal/2, zone(callerZone, pod...), zone(callerZone, instance...)))
	m.Shift = &policy.Shift{From: discovery.Instances, To: discovery.Pods, Share: policy.ShareTotal / 2, Cohort: &policy.Cohort{Header: "x-user"}}
	mesh := world{services: []*policy.Service{m}}.start(t)
	for user := range 20 {
		got := make(map[string]bool)
		for range 4 {
			_, body := mesh.get(t, "shop.web", "/", "x-user", fmt.Sprint("user-", user))
			got[body] = true
		}
		require.Len(t, got, 1, "user %d moved: %v", user, got)
	}
}

// Clients of an edge are told apart by their own address.
func TestEdgeKeepsClientsAtTheirEndpoint(t *testing.T) {
	t.Parallel()
	all := []*backend{startBackend(t, "a"), startBackend(t, "b"), startBackend(t, "c"), startBackend(t, "d")}
	m := affine(pods("shop", policy.HTTP1, zone(callerZone, all...)))
	e := startGateway(t, gateway(plain(80, v1alpha1.GatewaySettings{InFront: []v1alpha1.Hop{{Kind: v1alpha1.HopProxy}}}, answers("*", only(m)))), m)
	seen := make(map[string]bool)
	for client := range 12 {
		first := ""
		for range 4 {
			a := e.request(t, 80, "shop.example.com", "/", fmt.Sprint("X-Forwarded-For: 203.0.113.", client))
			if first == "" {
				first = a.body
			}
			require.Equal(t, first, a.body, "client %d moved", client)
		}
		seen[first] = true
	}
	require.Greater(t, len(seen), 1, "all clients are at one endpoint")
}
