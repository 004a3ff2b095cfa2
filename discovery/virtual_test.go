package discovery_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
)

// Hosts and proxies that are up must not see an address of another release mean something else.
func TestVirtualAddressesStay(t *testing.T) {
	users := discovery.Key{Namespace: "web", Name: "users"}
	require.Equal(t, "241.219.8.83", discovery.VirtualAddress(users, 0).String())
	require.Equal(t, "242.13.63.56", discovery.VirtualAddress(users, 1).String())
	require.Equal(t, "fdca:5e0a:7a1e:a48d:6774:d897:344f:ff0e", discovery.VirtualAddress6(users).String())
}

func TestVirtualAddressesAreInTheirRanges(t *testing.T) {
	first, second := netip.MustParsePrefix("240.0.0.0/7"), netip.MustParsePrefix("242.0.0.0/7")
	seen := make(map[netip.Addr]bool)
	for i := range 10_000 {
		key := discovery.Key{Namespace: "web", Name: fmt.Sprint("service-", i)}
		require.True(t, first.Contains(discovery.VirtualAddress(key, 0)), key)
		require.True(t, second.Contains(discovery.VirtualAddress(key, 1)), key)
		six := discovery.VirtualAddress6(key)
		require.True(t, discovery.VirtualIPv6.Contains(six), key)
		require.False(t, seen[six], key)
		seen[six] = true
	}
}
