package server_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/xds/resource"
)

// A rejected resource that is removed stands rejected no longer: it would keep
// removed clusters with the proxy for ever.
func TestRejectionEndsWithItsResource(t *testing.T) {
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
