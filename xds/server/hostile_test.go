package server_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// Garbage is survived without an answer, and the stream goes on.
func TestGarbageIsIgnored(t *testing.T) {
	r, c := joined(t)
	for _, nonce := range []string{"x", "-1", "99999999", "18446744073709551616", strings.Repeat("9", 5000)} {
		c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: resource.Cluster.URL(), ResponseNonce: nonce})
	}
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: "type.googleapis.com/no.such", ResourceNamesSubscribe: []string{"a"}})
	c.send(&discoveryv3.DeltaDiscoveryRequest{})
	for range 1000 {
		c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: resource.Listener.URL(), ResourceNamesUnsubscribe: []string{"never"}})
	}
	c.quiet(r)
}

// A client that asks for too much loses its stream and nobody else theirs.
func TestLimitsEndTheStream(t *testing.T) {
	r, good := joined(t)
	for name, names := range map[string][]string{
		"too many": slices.Repeat([]string{"n"}, snapshot.MaxNames+1),
		"too long": {strings.Repeat("n", snapshot.MaxNameLength+1)},
	} {
		c := r.connect(t)
		c.subscribe(resource.Endpoint, names...)
		select {
		case _, ok := <-c.got:
			require.False(t, ok, name)
		case <-time.After(10 * time.Second):
			require.Fail(t, name)
		}
	}
	good.quiet(r)
}

// A rejected resource that is removed stands rejected no longer: it would keep
// removed clusters with the proxy for ever.
func TestRemovalEndsARejection(t *testing.T) {
	r, c := joined(t)
	r.put("s2", simple(resource.VirtualHost, "http/bad", "x"))
	m := c.next()
	require.Equal(t, []string{"http/bad"}, names(m))
	c.nack(m, "bad")
	c.quiet(r)
	require.False(t, r.server.Proxies()[0].InSync)
	r.put("s2")
	c.expect(resource.VirtualHost, nil, []string{"http/bad"})
	require.Eventually(t, func() bool { return r.server.Proxies()[0].InSync }, 5*time.Second, 5*time.Millisecond)
}
