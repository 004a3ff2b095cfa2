package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/bootstrap"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// An Envoy that speaks state-of-the-world xDS is served as well: it gets its
// virtual hosts inside the route configuration.
func TestStateOfTheWorldEnvoy(t *testing.T) {
	beside(t, 0.2, 5*time.Second)
	p := startPlane(t)
	addresses := harness.Addresses(t, 2)
	for i, a := range addresses {
		harness.StartWorkload(t, harness.WorkloadOptions{Kind: harness.Go, Address: a, Port: instancePort, ID: fmt.Sprintf("b%d", i)})
	}
	put := func(name string, a netip.Addr) {
		key := discovery.Key{Namespace: "web", Name: name}
		p.write(t, func(tx *catalog.Tx) {
			catalog.Services.Put(tx, &discovery.Service{Scope: "test", Key: key, Ports: []discovery.ServicePort{{Name: "http", Port: 80}}})
			catalog.Endpoints.Put(tx, &discovery.EndpointSet{
				Scope: "test", Key: key, Service: key, Platform: discovery.Pods, Ports: []discovery.EndpointPort{{Name: "http", Port: instancePort}},
				Endpoints: []discovery.Endpoint{{ID: a.String(), Address: a.String()}},
			})
		})
	}
	put("s", addresses[0])
	listen := harness.FreeAddress(t)
	config, err := bootstrap.Generate(bootstrap.Options{
		Role: resource.Sidecar, Namespace: "web", Workload: "w", Instance: "i-1", Servers: []string{p.address}, HTTPListen: listen,
	})
	require.NoError(t, err)
	world := strings.Replace(string(config), "DELTA_GRPC", "GRPC", 1)
	harness.StartEnvoy(t, []byte(world), harness.EnvoyOptions{LogLevel: "warning"})
	answers := func(host, id string) {
		t.Helper()
		harness.Eventually(t, 10*time.Second, host+" is answered by "+id, func() error {
			r := harness.StartLoad(t, harness.LoadOptions{
				URL: "http://" + listen + "/", Host: host, Limit: 1, Workers: 1, Accept: func(int) bool { return true },
			}).Wait()
			if id == "" && r.Statuses[404] == 1 || r.IDs()[id] == 1 {
				return nil
			}
			return fmt.Errorf("%s", r)
		})
	}
	answers("s.web", "b0")
	answers("s", "b0")
	load := harness.StartLoad(t, harness.LoadOptions{URL: "http://" + listen + "/", Host: "s.web", Rate: 100})
	put("s", addresses[1]) // an endpoint changes
	answers("s.web", "b1")
	put("other", addresses[0]) // a Service comes
	answers("other.web", "b0")
	p.write(t, func(tx *catalog.Tx) { catalog.Services.Delete(tx, "web/other") }) // and goes
	answers("other.web", "")
	require.Len(t, p.server.Proxies(), 1)
	require.Equal(t, "sotw", p.server.Proxies()[0].Protocol)
	load.Stop().RequireNoFailures(t)
}
