package discovery

import (
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
)

// The ranges of virtual addresses of Services. A host that is a member of the mesh captures connections to these
// addresses and to nothing else, so they must mean nothing to any network: 240.0.0.0/4 is reserved for ever and
// routed nowhere (RFC 1112, section 4), and the other is a prefix of our own of unique local addresses (RFC 4193).
var (
	VirtualIPv4 = netip.MustParsePrefix("240.0.0.0/4")
	VirtualIPv6 = netip.MustParsePrefix("fdca:5e0a:7a1e::/48")
)

// VirtualChoices is how many IPv4 addresses a Service can have, of which it has the first that no older Service has.
const VirtualChoices = 2

// VirtualAddress returns the virtual IPv4 address that a Service can have, by its name alone: replicas and restarts need
// nothing to remember for it to stay the same. choice is below VirtualChoices. Each choice has an eighth of the range,
// 33 million addresses: in one of 70 meshes of 1,000 Services some Service gets its second choice, and next to
// none of 10,000 has one without an address. What is left of the range is kept for other kinds.
func VirtualAddress(service Key, choice int) netip.Addr {
	sum := sha256.Sum256([]byte(service.String()))
	n := binary.BigEndian.Uint32(sum[4*choice:])
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], 0xf0000000|uint32(choice)<<25|n>>7) //nolint:gosec // choice is 0 or 1
	return netip.AddrFrom4(a)
}

// VirtualAddress6 returns the IPv6 address of a Service, by its name alone. No two Services share one.
func VirtualAddress6(service Key) netip.Addr {
	a := VirtualIPv6.Addr().As16()
	sum := sha256.Sum256([]byte(service.String()))
	copy(a[6:], sum[8:18])
	return netip.AddrFrom16(a)
}
