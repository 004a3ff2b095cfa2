package e2e

import (
	"fmt"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/test/harness"
)

// What a request costs more in the mesh where nothing else wants the machine: two hosts that are linked, both with agent, Envoy
// and capture, and 1,000 requests per second from one to the other in turns with none, one and both of the Envoys on the way. It
// prints figures and compares none: docs/performance.md has those of a quiet machine. test/cluster/e2e measures the same on a cluster.
func TestOverhead(t *testing.T) {
	if os.Getenv("CAUSEWAY_OVERHEAD") == "" {
		t.Skip("it measures for two minutes: CAUSEWAY_OVERHEAD=1 go test ./test/e2e -run TestOverhead -v")
	}
	beside(t, 2, 2*time.Minute)
	const (
		to      = "198.18.9.2" // the callee, on the link between the two
		service = `---
apiVersion: v1
kind: Service
metadata: {name: %[1]s, namespace: web}
spec:
  clusterIPs: [%[2]s]
  ports: [{name: http, port: 80}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %[1]s-1, namespace: web, labels: {kubernetes.io/service-name: %[1]s}}
addressType: IPv4
ports: [{name: http, port: %[3]d}]
endpoints:
- {addresses: [` + to + `], conditions: {ready: true}, targetRef: {kind: Pod, name: %[1]s, namespace: web}}
`
	)
	caller, callee := newPodnet(t, 6), newPodnet(t, 7)
	harness.IP(t, caller.Network, "link add link0 type veth peer name link0 netns "+callee.Path()+"\naddress add 198.18.9.1/30 dev link0\nlink set link0 up\n")
	harness.IP(t, callee.Network, "address add "+to+"/30 dev link0\nlink set link0 up\n")
	server := startInboundPlane(t, caller, fmt.Sprintf(service, "plain", "10.96.0.10", 9000)+fmt.Sprintf(service, "member", "10.96.0.11", 8080))
	caller.join(t, server, []string{"--captured-listen", "127.0.0.1:15002=10.96.0.0/16"}, []string{"--inbound-ports", "none"})
	callee.join(t, server, []string{"--inbound-listen", "0.0.0.0:15006=8080/http"}, []string{"--inbound-ports", "8080"})
	s := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })}
	t.Cleanup(func() { _ = s.Close() })
	for _, port := range []int{8080, 9000} {
		go func() { _ = s.Serve(callee.listen(t, port)) }()
	}
	for range 3 {
		for _, v := range []struct{ name, url string }{
			{"without the mesh", "http://" + to + ":9000/"}, // no Service has the address, so the caller's Envoy is not asked
			{"the caller is a member", "http://10.96.0.10/"},
			{"caller and callee are", "http://10.96.0.11/"},
		} {
			load := harness.StartLoad(t, harness.LoadOptions{URL: v.url, Dial: caller.Dial, Rate: 1000})
			load.WaitAnswers(t, 10_000, time.Minute)
			r := load.Stop()
			r.RequireNoFailures(t)
			t.Logf("%-24s p50 %s, p90 %s, p99 %s, %d requests", v.name, r.P50, r.P90, r.P99, r.Sent)
		}
	}
	require.Greater(t, callee.stat(t, "http.inbound_http.downstream_rq_total"), 29_000, "its Envoy had a third of the requests")
	require.Greater(t, caller.stat(t, "http.captured_http.downstream_rq_total"), 59_000, "its Envoy had two thirds of them")
}
