package e2e

import (
	"crypto/tls"
	"fmt"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/test/harness"
)

// An edge goes as an instance of an auto scaling group does, and nobody
// notices: the load balancer sees first that it will go, then it ends what is
// open, then itself.
func TestEdgeDrain(t *testing.T) {
	beside(t, 0.5, 15*time.Second)
	p := startPlane(t)
	ca := harness.NewAuthority(t, "edge")
	address := harness.Addresses(t, 1)[0]
	harness.StartWorkload(t, harness.WorkloadOptions{Kind: harness.GoProcess, Address: address, Port: instancePort, ID: "back", Platform: "pods"})
	p.put(t, `---
apiVersion: v1
kind: Service
metadata: {name: php, namespace: web}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: web}
spec:
  gatewayClassName: causeway
  listeners:
  - {name: https, port: 8443, protocol: HTTPS, hostname: shop.example.com, tls: {certificateRefs: [{name: shop}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: edge, namespace: web}
spec:
  parentRefs: [{name: edge}]
  hostnames: [shop.example.com]
  rules: [{backendRefs: [{name: php, port: 80}]}]
`+secretYAML("web", "shop", ca.Issue(t, harness.CertificateOptions{Hosts: []string{"shop.example.com"}})))
	key := discovery.Key{Namespace: "web", Name: "php"}
	p.write(t, func(tx *catalog.Tx) {
		catalog.Endpoints.Put(tx, &discovery.EndpointSet{
			Scope: "test", Key: key, Service: key, Platform: discovery.Pods, Ports: []discovery.EndpointPort{{Name: "http", Port: instancePort}},
			Endpoints: []discovery.Endpoint{{ID: "back", Address: address.String()}},
		})
	})
	edges := make(map[string]*edge)
	var targets []harness.BalancerTarget
	for _, id := range []string{"i-a", "i-b"} {
		e := startEdge(t, edgeOptions{namespace: "web", gateway: "edge", id: id, zone: "a", servers: []string{p.address}})
		edges[id] = e
		targets = append(targets, harness.BalancerTarget{Name: id, Address: e.at(edgeTLS), Health: "http://" + e.at(edgeHealth) + "/healthz"})
	}
	balancer := harness.StartBalancer(t, harness.BalancerOptions{}, targets...)
	state := func(id string, healthy bool) {
		t.Helper()
		harness.Eventually(t, 20*time.Second, fmt.Sprintf("the load balancer's state of %s", id), func() error {
			if balancer.Healthy(id) != healthy {
				return fmt.Errorf("it is %t", !healthy)
			}
			return nil
		})
	}
	state("i-a", true)
	state("i-b", true)
	client := &tls.Config{RootCAs: ca.Pool(), MinVersion: tls.VersionTLS12}
	var loads []*harness.Load
	for _, o := range []harness.LoadOptions{{}, {HTTP2: true}, {NewConnections: true}} {
		o.URL, o.Host, o.TLS, o.Workers, o.Rate = "https://"+balancer.Address(), "shop.example.com", client, 6, 60
		o.Next = func(n int64) harness.LoadRequest { // some take longer than others
			return harness.LoadRequest{Path: fmt.Sprintf("/slow?ms=%d", n%4*20)}
		}
		loads = append(loads, harness.StartLoad(t, o))
	}
	for _, l := range loads {
		l.WaitAnswers(t, 60, 20*time.Second)
	}
	first := edges["i-a"]
	require.Positive(t, balancer.Connections("i-a"))
	require.Positive(t, balancer.Connections("i-b"))

	path, err := binary()
	require.NoError(t, err)
	drain := exec.CommandContext(t.Context(), path, "drain", "--admin", first.AdminAddress(), "--wait", "2s", "--timeout", "30s")
	began := time.Now()
	out, err := drain.CombinedOutput()
	require.NoError(t, err, "%s", out)
	t.Logf("drained in %s: %s", time.Since(began).Round(time.Millisecond), out)
	require.False(t, balancer.Healthy("i-a"), "the load balancer knows")
	require.True(t, first.Running(), "whoever started Envoy ends it")
	active := uint64(0)
	for name, n := range first.Stats(t, "listener."+first.ip.String()) {
		if name == fmt.Sprintf("listener.%s_%d.downstream_cx_active", first.ip, edgeTLS) {
			active = n
		}
	}
	require.Zero(t, active)
	sent := balancer.Connections("i-a")
	first.Stop()
	for _, l := range loads {
		l.WaitAnswers(t, 60, 20*time.Second)
	}
	require.Equal(t, sent, balancer.Connections("i-a"))

	// Another one takes its place.
	third := startEdge(t, edgeOptions{namespace: "web", gateway: "edge", id: "i-c", zone: "a", servers: []string{p.address}})
	question{address: third.at(edgeHealth), host: "any", path: "/healthz"}.wait(t, "the new edge is healthy", isOK)
	question{address: third.at(edgeTLS), host: "shop.example.com", tls: client}.wait(t, "the new edge answers", isOK)
	for _, l := range loads {
		r := l.Stop()
		t.Logf("%s", r)
		r.RequireNoFailures(t)
	}
}
