package agent

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/xds/agent/dns"
	"github.com/causeway-mesh/causeway/xds/bootstrap"
	"github.com/causeway-mesh/causeway/xds/members/membersv1"
)

// A host has virtual addresses of the families that it redirects, a pod has cluster IPs.
func TestTableOf(t *testing.T) {
	t.Parallel()
	services := []*membersv1.Service{{
		Namespace: "web", Name: "users", ClusterIps: []string{"10.96.0.1", "nonsense"}, VirtualAddresses: []string{"240.0.0.1", "fdca:5e0a:7a1e::1"},
		Ports: []*membersv1.Port{{Name: "http", Number: 80}, {Name: "none", Number: 1 << 16}},
	}}
	for _, c := range []struct {
		capture bootstrap.Capture
		want    []string
	}{
		{bootstrap.Capture{Host: true, IPv4: true}, []string{"240.0.0.1"}},
		{bootstrap.Capture{Host: true, IPv4: true, IPv6: true}, []string{"240.0.0.1", "fdca:5e0a:7a1e::1"}},
		{bootstrap.Capture{Host: true, IPv6: true}, []string{"fdca:5e0a:7a1e::1"}},
		{bootstrap.Capture{Pod: true}, []string{"10.96.0.1"}},
	} {
		want := dns.Service{Namespace: "web", Name: "users", Ports: []dns.Port{{Name: "http", Number: 80}}}
		for _, a := range c.want {
			want.Addresses = append(want.Addresses, netip.MustParseAddr(a))
		}
		require.Equal(t, dns.NewTable([]dns.Service{want}), tableOf(services, c.capture))
	}
}
