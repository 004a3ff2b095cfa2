package api

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/outcome"
	"github.com/causeway-mesh/causeway/xds/observe"
	"github.com/causeway-mesh/causeway/xds/server"
	"github.com/causeway-mesh/causeway/xds/status"
)

// large is a mesh of 1,000 Services with 10 endpoints each.
func large(tb testing.TB) *catalog.Catalog {
	tb.Helper()
	c := catalog.New()
	_, err := c.Write(time.Time{}, func(tx *catalog.Tx) error {
		for i := range 1000 {
			key := discovery.Key{Namespace: fmt.Sprintf("ns-%d", i%20), Name: fmt.Sprintf("service-%d", i)}
			catalog.Services.Put(tx, &discovery.Service{Scope: "s", Key: key, Home: "Pods", Ports: []discovery.ServicePort{{Name: "http", Port: 80}}})
			set := &discovery.EndpointSet{Scope: "s", Key: key, Service: key, Platform: discovery.Pods, Ports: []discovery.EndpointPort{{Name: "http", Port: 8080}}}
			for j := range 10 {
				set.Endpoints = append(set.Endpoints, discovery.Endpoint{ID: fmt.Sprintf("pod-%d-%d", i, j), Address: fmt.Sprintf("10.%d.%d.%d", i/250, i%250, j+1), Zone: fmt.Sprintf("z-%d", j%3)})
			}
			catalog.Endpoints.Put(tx, set)
		}
		return nil
	})
	require.NoError(tb, err)
	return c
}

func connected() []server.ProxyStatus {
	out := make([]server.ProxyStatus, 1000)
	for i := range out {
		out[i] = server.ProxyStatus{ID: fmt.Sprintf("sidecar~ns-%d~caller~i-%d", i%20, i), InSync: i%50 != 0, Pending: 1, Types: make([]server.TypeStatus, 6)}
	}
	return out
}

// BenchmarkOverview is the dearest view: the whole mesh.
func BenchmarkOverview(b *testing.B) {
	c, proxies := large(b), connected()
	for b.Loop() {
		r := c.Read()
		v := OverviewOf(status.Of(r, &status.Plane{Serving: true, Proxies: proxies, Programmed: observe.View{Leading: true}}), r, nil, nil, time.Now())
		require.Len(b, v.Services, 1000)
	}
}

// BenchmarkService is one Service of that mesh.
func BenchmarkService(b *testing.B) {
	c, proxies := large(b), connected()
	for b.Loop() {
		v := ServiceOf(c.Read(), c.Read(), proxies, discovery.Key{Namespace: "ns-1", Name: "service-1"}, nil, outcome.Calls{}, time.Now())
		require.NotNil(b, v)
	}
}

// BenchmarkProxies lists its proxies.
func BenchmarkProxies(b *testing.B) {
	proxies := connected()
	for b.Loop() {
		require.Len(b, ProxiesOf(proxies, time.Now()).Proxies, 1000)
	}
}
