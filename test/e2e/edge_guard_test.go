package e2e

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/causeway-mesh/causeway/test/harness"
)

// A TrafficShift whose users all come through an edge: no sidecar reports
// anything, and the guard sees a bad release nevertheless.
func TestEdgeGuard(t *testing.T) {
	beside(t, 0.25, 50*time.Second)
	b := startBoth(t, harness.GoProcess, "php")
	d := newDirectory(t)
	d.write("mesh.yaml", b.yaml("php")+`---
apiVersion: mesh.causeway.dev/v1alpha1
kind: TrafficShift
metadata: {name: php, namespace: web}
spec:
  serviceRef: {name: php}
  steps: [{percent: "50", hold: 30s}, {percent: "100", hold: 2s}]
  guard: {successRate: {atLeast: "99"}, minRequests: 50, window: 4s}
  capacity: {keepSourcePercent: 0}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: web}
spec:
  gatewayClassName: causeway
  listeners: [{name: http, port: 8080, protocol: HTTP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: edge, namespace: web}
spec:
  parentRefs: [{name: edge}]
  hostnames: [shop.example.com]
  rules: [{backendRefs: [{name: php, port: 80}]}]
`)
	g := &guarded{T: t, pods: b.pods, instances: b.instances}
	g.plane = startReplica(t, "causeway", b.moto.Env(), "--config", d.path, "--state-dir", t.TempDir(), "--ec2-interval", "1s")
	g.plane.waitReady()
	e := startEdge(t, edgeOptions{namespace: "web", gateway: "edge", id: "i-edge", zone: b.moto.Zones()[0], servers: []string{g.plane.xds}})
	question{address: e.at(edgePlain), host: "shop.example.com"}.wait(t, "the edge answers", isOK)
	g.load = harness.StartLoad(t, harness.LoadOptions{
		URL: "http://" + e.at(edgePlain) + "/", Host: "shop.example.com", Rate: 150,
		// What the release fails is its own failure.
		Accept: func(status int) bool { return status < 400 || status == http.StatusInternalServerError },
	})
	g.half(harness.Fault{Percent: 40, Code: http.StatusInternalServerError}, g.pods...)
	s := g.wait("rolled back", rolledBack)
	t.Log(s.History[0].Reason)
	// The edge has got it too: nobody is sent to the bad release any more.
	harness.Eventually(t, 30*time.Second, "the instances answer everybody", func() error {
		before := g.load.Report()
		g.load.WaitAnswers(t, 100, 20*time.Second)
		if got := g.load.Report().Since(before).Platforms(); got["pods"] > 0 {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
	g.load.Stop().RequireNoFailures(t)
}
