package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/policy/resolve"
)

// destination is where a captured connection goes.
type destination struct {
	// text is as it was asked for, number its port.
	text   string
	number uint16
	// address is what the program connects to, the zero value where only the caller's resolver knows it.
	address netip.Addr
	service discovery.Key // whose address it is, if it is one's
	why     string
}

// onHost reports whether a proxy's ranges are those of a host, whose connections to other addresses are not captured.
func onHost(ranges []netip.Prefix) bool {
	return slices.ContainsFunc(ranges, func(p netip.Prefix) bool {
		return p.Overlaps(discovery.VirtualIPv4) || p.Overlaps(discovery.VirtualIPv6)
	})
}

// destination finds whom a captured connection is for. The address and the port decide, as in Envoy; a name is
// what the caller's DNS makes of it.
func (e *evaluation) destination() destination {
	d := destination{text: e.req.Destination, number: 80}
	name, port := splitHost(strings.ToLower(d.text))
	if n, err := strconv.ParseUint(strings.TrimPrefix(port, ":"), 10, 16); err == nil {
		d.number = uint16(n)
	}
	if a, err := netip.ParseAddr(name); err == nil {
		d.address = a.Unmap()
		d.service, d.why = e.ownerOf(d.address)
		return d
	}
	name = withoutDot(name)
	key, _ := e.named(name)
	if key.Name != "" {
		if m := e.service(key); m != nil {
			d.resolve(m, name, e.req.Ranges)
			return d
		}
	}
	d.why = fmt.Sprintf("%s is no name of a Service that the mesh carries", name)
	return d
}

// resolve looks a Service's name up as a host's agent or a cluster's DNS does.
func (d *destination) resolve(m *policy.Service, name string, ranges []netip.Prefix) {
	addresses, of := m.ClusterIPs, "the cluster IP"
	switch {
	case onHost(ranges), ranges == nil && len(m.ClusterIPs) == 0:
		addresses, of = m.Virtual, "the virtual address"
	case len(m.ClusterIPs) == 0:
		d.why = fmt.Sprintf("%s is headless: in a pod its name has the addresses of its pods, which mean no Service", m.Key)
		return
	}
	for _, text := range addresses {
		a, err := netip.ParseAddr(text)
		if err == nil && (ranges == nil || within(a, ranges)) {
			d.address, d.service = a, m.Key
			d.why = fmt.Sprintf("%s is %s, %s of Service %s", name, a, of, m.Key)
			return
		}
	}
	d.why = fmt.Sprintf("%s of Service %s is in none of the ranges that the proxy has declared", of, m.Key)
	if len(addresses) > 0 {
		d.address, _ = netip.ParseAddr(addresses[0]) //nolint:errcheck // of the model
	}
}

func within(a netip.Addr, ranges []netip.Prefix) bool {
	return slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return p.Contains(a) })
}

// ownerOf returns the Service that has an address, and says so.
func (e *evaluation) ownerOf(a netip.Addr) (discovery.Key, string) {
	text := a.String()
	has := func(key discovery.Key) string {
		m := e.service(key)
		switch {
		case m == nil:
			return ""
		case slices.Contains(m.ClusterIPs, text):
			return fmt.Sprintf("%s is a cluster IP of Service %s", text, key)
		case slices.Contains(m.Virtual, text):
			return fmt.Sprintf("%s is the virtual address of Service %s", text, key)
		}
		return ""
	}
	services := catalog.Services.By(e.reader, catalog.ByAddress, text)
	if discovery.VirtualIPv6.Contains(a) {
		services = catalog.Services.All(e.reader)
	}
	for s := range services {
		if discovery.VirtualIPv6.Contains(a) && discovery.VirtualAddress6(s.Key) != a {
			continue
		}
		if why := has(s.Key); why != "" {
			return s.Key, why
		}
	}
	return discovery.Key{}, "no Service has the address " + text
}

// captured evaluates a request on a redirected connection. It is false for one of which no request is looked at, with
// what becomes of it in the explanation.
func (e *evaluation) captured() (hostFound, bool) {
	d := e.destination()
	anywhere := resolve.BuildMesh(e.reader).CapturedAny
	inside := d.service.Name != "" || d.address.IsValid() && e.req.Ranges != nil && within(d.address, e.req.Ranges)
	if !inside {
		e.onward(&d, anywhere)
		return hostFound{}, false
	}
	at := netip.AddrPortFrom(d.address, d.number)
	if d.service.Name != "" {
		h := e.servicePortNamed(d.service, ":"+strconv.Itoa(int(d.number)), false, d.why)
		if h.port != nil {
			h.envoyName = naming.CapturedHost(d.service, h.Port)
			h.Because += ". The address and the port decide, not the Host header"
			return h, true
		}
		if m := e.service(d.service); m != nil {
			for i := range m.Ports {
				if p := &m.Ports[i]; p.Number == d.number {
					e.bytes(d.service, p, at, d.why)
					return hostFound{}, false
				}
			}
		}
		d.why += fmt.Sprintf(", which has no port %d", d.number)
	}
	h := hostFound{VirtualHost: VirtualHost{Because: d.why}}
	if anywhere {
		h.VirtualHost = VirtualHost{Routes: "default", Because: d.why + "; what is for no Service goes where it was going (spec.egress.mode of the Mesh)"}
		h.any, h.envoyName, h.onward = true, naming.CapturedAny, at.String()
	}
	return h, true
}

// bytes says what becomes of a connection to a port that is not HTTP.
func (e *evaluation) bytes(key discovery.Key, p *policy.Port, at netip.AddrPort, why string) {
	e.out.VirtualHost = &VirtualHost{Service: key.String(), Port: p.Number, Protocol: ProtocolText(p.Protocol), Because: why}
	e.out.Envoy.RouteConfig, e.out.Envoy.Listener = "", naming.CapturedAt(at)
	e.out.Backends = []Backend{{
		Kind: "Service", Name: key.String(), Percent: 100, Interval: Interval{0, policy.ShareTotal}, Forwarded: e.message(),
		Note: fmt.Sprintf("port %d is TCP: bytes are passed on as they come, by the port's TCPRoutes and shares, and no request is looked at", p.Number),
	}}
}

// onward says what becomes of a connection that is for no address of the mesh.
func (e *evaluation) onward(d *destination, anywhere bool) {
	e.out.Envoy.RouteConfig = ""
	note := "it goes where it was going, byte by byte, and no request is looked at (spec.egress.mode of the Mesh)"
	switch {
	case onHost(e.req.Ranges):
		note = "it is not captured: a host captures connections to virtual addresses alone (and what its capture.yaml names), and all others go as if there were no mesh"
		e.out.Envoy.Listener = ""
	case !anywhere:
		e.out.Answer = &Answer{Because: d.why + "; the Mesh lets captured connections go to Services alone (spec.egress.mode: RegistryOnly)"}
		return
	}
	e.out.VirtualHost = &VirtualHost{Because: d.why}
	e.out.Backends = []Backend{{Kind: "Host", Name: d.text, Percent: 100, Interval: Interval{0, policy.ShareTotal}, Forwarded: e.message(), Note: note}}
}

// capturing takes from a caller's proxies what they capture. Those of a workload are configured alike.
func (r *Request) capturing(from string, proxies []Proxy) error {
	known := false
	for i := range proxies {
		p := &proxies[i]
		if !p.isOf(from) {
			continue
		}
		known = true
		for _, text := range p.Listeners {
			if d, err := naming.ParseDeclaration(text); err == nil && len(d.Ranges) > 0 {
				if r.Ranges == nil {
					r.From.Listener = text
				}
				r.Ranges = append(r.Ranges, d.Ranges...) // IPv4 and IPv6 have one each
			}
		}
		if r.Ranges != nil {
			return nil
		}
	}
	if known {
		return WrongInput("--captured: the proxies of %s capture nothing, so its programs send requests to them (http_proxy): ask without --captured", from)
	}
	r.From.Listener = ""
	return nil
}

// noteInbound notes on endpoints what their own sidecars take.
func (e *Explanation) noteInbound(proxies []Proxy) {
	takes := make(map[string]string)
	for i := range proxies {
		_, namespace, _, instance, ok := naming.ParseNode(proxies[i].ID)
		for _, text := range proxies[i].Listeners {
			if ports, inbound := strings.CutPrefix(text, naming.InboundListener); ok && inbound {
				_, ports, _ = strings.Cut(ports, "=")
				takes[namespace+"/"+instance] = ports
			}
		}
	}
	for p := range e.endpoints {
		p.Inbound = takes[p.ID]
	}
}

// endpoints yields all endpoints that an explanation names.
func (e *Explanation) endpoints(yield func(*Endpoint) bool) {
	for i := range e.Backends {
		for j := range e.Backends[i].Targets {
			for k := range e.Backends[i].Targets[j].Zones {
				z := &e.Backends[i].Targets[j].Zones[k]
				for l := range z.Endpoints {
					if !yield(&z.Endpoints[l]) {
						return
					}
				}
			}
		}
	}
}

// Inbound says how many endpoints of an explanation have a sidecar that takes what comes in, of how many, and the ports.
func (e *Explanation) Inbound() (with, of int, ports []string) {
	for p := range e.endpoints {
		of++
		if p.Inbound != "" {
			with++
			ports = append(ports, p.Inbound)
		}
	}
	slices.Sort(ports)
	return with, of, slices.Compact(ports)
}
