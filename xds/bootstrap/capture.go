package bootstrap

import (
	"net/netip"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/naming"
)

// Capture is which connections a host or a pod redirects to its proxy.
type Capture struct {
	// Host is true where connections to virtual addresses of Services are, IPv4 and IPv6 of which family. Pod is true where only
	// others are, to cluster IPs among them. Neither is explicit mode.
	Host, IPv4, IPv6, Pod bool
}

// Capture returns what the options' captured listeners are for. Those with mistakes, which Generate reports, are none.
func (o *Options) Capture() Capture {
	var c Capture
	for _, l := range o.CapturedListen {
		d, err := naming.ParseDeclaration(naming.CapturedListener + l)
		if err != nil {
			continue
		}
		for _, r := range d.Ranges {
			four, six := within(r, discovery.VirtualIPv4), within(r, discovery.VirtualIPv6)
			c.IPv4, c.IPv6, c.Pod = c.IPv4 || four, c.IPv6 || six, true
		}
	}
	c.Host = c.IPv4 || c.IPv6
	c.Pod = c.Pod && !c.Host
	return c
}

func within(r, of netip.Prefix) bool { return of.Contains(r.Addr()) && r.Bits() >= of.Bits() }
