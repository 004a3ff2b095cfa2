package main

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
)

// An endpoint is found by its address, also for a while after it went: its
// last requests are reported then.
func TestEndpointIndex(t *testing.T) {
	t.Parallel()
	c := catalog.New()
	service := discovery.Key{Namespace: "web", Name: "php"}
	write := func(endpoints ...discovery.Endpoint) {
		_, err := c.Write(time.Now(), func(tx *catalog.Tx) error {
			catalog.Services.Put(tx, &discovery.Service{Scope: "test", Key: service, Ports: []discovery.ServicePort{{Name: "http", Port: 80}}})
			catalog.Endpoints.Put(tx, &discovery.EndpointSet{
				Scope: "test", Key: discovery.Key{Namespace: "web", Name: "php-1"}, Service: service, Platform: discovery.Pods,
				Ports: []discovery.EndpointPort{{Name: "http", Port: 8080}}, Endpoints: endpoints,
			})
			return nil
		})
		require.NoError(t, err)
	}
	x := &endpointIndex{catalog: c, services: make(map[discovery.Key]*indexed)}
	at := netip.MustParseAddrPort("10.0.0.1:8080")
	_, _, ok := x.lookup(service, 80, at)
	require.False(t, ok)

	write(discovery.Endpoint{ID: "web/a", Address: "10.0.0.1"})
	x.services[service].at = time.Time{}
	id, platform, ok := x.lookup(service, 80, at)
	require.True(t, ok)
	require.Equal(t, "web/a", id)
	require.Equal(t, discovery.Pods, platform)
	_, _, ok = x.lookup(service, 81, at)
	require.False(t, ok, "of another port")

	write(discovery.Endpoint{ID: "web/b", Address: "10.0.0.2"})
	x.services[service].at = time.Time{}
	id, _, ok = x.lookup(service, 80, netip.MustParseAddrPort("10.0.0.2:8080"))
	require.True(t, ok)
	require.Equal(t, "web/b", id)
	id, _, ok = x.lookup(service, 80, at)
	require.True(t, ok)
	require.Equal(t, "web/a", id)
	write(discovery.Endpoint{ID: "web/c", Address: "10.0.0.1"})
	x.services[service].at = time.Time{}
	id, _, _ = x.lookup(service, 80, at)
	require.Equal(t, "web/c", id, "the address is another one's")
}
