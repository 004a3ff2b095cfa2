package snapshot

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/xds/resource"
)

// A restarted control plane may not know the endpoints of a cluster. Proxies
// that have some keep them, those that come anew do not wait for them, and all
// get them once they are known.
func TestEndpointsThatAreNotKnown(t *testing.T) {
	now := time.Unix(1000, 0)
	before, _ := stagedStore(t)
	apply(before, "u", hosts("one")...)
	a := newTester(t, before, "a", View{})
	settleAll(t, now, a)
	require.Contains(t, a.has[resource.Endpoint], "c")

	s, _ := stagedStore(t)
	apply(s, "u", res(resource.Cluster, "c", "1"), res(resource.VirtualHost, "http/h", "one", "c"))
	a.join(t, s)
	b := newTester(t, s, "b", View{})
	settleAll(t, now, a, b)
	settleAll(t, now.Add(3*ClusterGrace), a, b)
	require.Contains(t, a.has[resource.Endpoint], "c", "not known is not empty")
	require.Equal(t, version("one"), hostVersion(a))
	require.Equal(t, version("one"), hostVersion(b), "a route does not wait for what nobody knows")
	require.NotContains(t, b.has[resource.Endpoint], "c")

	apply(s, "u", res(resource.Cluster, "c", "1"), res(resource.Endpoint, "c", "2"), res(resource.VirtualHost, "http/h", "one", "c"))
	settleAll(t, now.Add(4*ClusterGrace), a, b)
	for _, c := range []*tester{a, b} {
		require.Equal(t, version("2"), c.has[resource.Endpoint]["c"].Version)
	}
}
