package naming

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
)

// InternalListeners is the declaration of proxies that may be sent listeners
// without an address (Envoy: bootstrap extension envoy.bootstrap.internal_listener).
const InternalListeners = "internal"

// CapturedTraffic is the declaration of proxies that a host's or pod's redirected connections reach. A
// proxy that declares a captured listener has it too.
const CapturedTraffic = "captured"

// CapturedListener is what the names of listeners of redirected connections begin with.
const CapturedListener = CapturedTraffic + "/"

// maxRanges bounds how many ranges of addresses a captured listener has.
const maxRanges = 16

// InboundTraffic is the declaration of proxies that the connections to a pod's applications are redirected to. A
// proxy that declares an inbound listener has it too.
const InboundTraffic = "inbound"

// InboundListener is what the names of listeners of redirected connections to applications begin with.
const InboundListener = InboundTraffic + "/"

// MaxInboundPorts bounds how many ports an inbound listener tells apart.
const MaxInboundPorts = 128

// HTTPListener is what the names of listeners of HTTP callers begin with.
const HTTPListener = "http/"

// TCPListener is what the names of listeners of TCP callers begin with.
const TCPListener = "tcp/"

// GatewayListener is what the names of listeners of Gateways begin with.
const GatewayListener = "gateway/"

// Declaration is a listener that a proxy asks for in its node metadata,
// because which addresses and ports are free, and may be reached from elsewhere, is known
// on its host only. Its text is
//
//	http/<address>:<port>                                  HTTP of explicit egress
//	tcp/<address>:<port>=<namespace>/<service>:<port>      a TCP Service's port
//	captured/<address>:<port>=<range>[,<range>...]         connections that the host redirects to the address; those to
//	                                                       the ranges (CIDR) are for Services
//	inbound/<address>:<port>=<port>[/<protocol>][,...]     connections from outside that the pod redirects to the address,
//	                                                       by the application's ports
//	gateway/<address>=<namespace>/<gateway>                every port of a Gateway, by its own number
//	gateway/<address>:<port>=<namespace>/<gateway>:<port>  one port of a Gateway
//
// InternalListeners is one too: it has no listener of its own and says that
// the proxy may be sent some without an address.
type Declaration struct {
	// Internal is true for InternalListeners; nothing else is set then.
	Internal bool
	// Address has port 0 for every port of a Gateway.
	Address netip.AddrPort
	// Service is set for a TCP listener, Gateway for a Gateway's.
	Service, Gateway discovery.Key
	// Ranges are those of a captured listener, masked and sorted; at least one.
	Ranges []netip.Prefix
	// Ports are those of an inbound listener, sorted; at least one.
	Ports []ApplicationPort
	// Port of the Service or the Gateway, 0 for every port of a Gateway.
	Port uint16
}

// ApplicationPort is a port that an application beside the proxy listens on.
type ApplicationPort struct {
	Number uint16
	// Protocol is InboundHTTP, InboundTCP or "" for a port of which nobody has said what it speaks.
	Protocol string
}

// Protocols of an inbound port. Envoy tells HTTP/1.1 and HTTP/2 apart by what a client begins with, so that a
// port may speak both.
const (
	InboundHTTP = "http"
	InboundTCP  = "tcp"
)

// inboundProtocols are the words for them.
var inboundProtocols = map[string]string{
	"http": InboundHTTP, "http2": InboundHTTP, "h2c": InboundHTTP, "grpc": InboundHTTP, "tcp": InboundTCP,
}

// ParseDeclaration reads a declaration. Only a Gateway, and the application behind an inbound listener, may
// be reached from elsewhere: all others take loopback addresses alone, where the host's own
// processes are the only callers, and nothing else was configured to be trusted.
func ParseDeclaration(s string) (Declaration, error) {
	if s == InternalListeners {
		return Declaration{Internal: true}, nil
	}
	kind, rest, _ := strings.Cut(s, "/")
	address, target, hasTarget := strings.Cut(rest, "=")
	var d Declaration
	var err error
	switch {
	case kind == "http" && !hasTarget:
		err = d.listenOn(address, false)
	case kind == "tcp" && hasTarget:
		if err = d.listenOn(address, false); err == nil {
			d.Service, d.Port, err = parseTarget(target, "SERVICE", isLabel)
		}
	case kind == CapturedTraffic && hasTarget:
		if err = d.listenOn(address, false); err == nil {
			d.Ranges, err = parseRanges(target)
		}
	case kind == InboundTraffic && hasTarget:
		if err = d.listenBeyond(address); err == nil {
			d.Ports, err = parsePorts(target, d.Address.Port())
		}
	case kind == "gateway" && hasTarget:
		if err = d.listenOn(address, true); err != nil {
			break
		}
		if d.Address.Port() != 0 {
			d.Gateway, d.Port, err = parseTarget(target, "GATEWAY", isSubdomain)
		} else if d.Gateway, _, err = parseTarget(target+":1", "GATEWAY", isSubdomain); err != nil {
			err = fmt.Errorf("%q is not NAMESPACE/GATEWAY", target)
		}
	default:
		err = fmt.Errorf("write http/ADDRESS:PORT, tcp/ADDRESS:PORT=NAMESPACE/SERVICE:PORT, captured/ADDRESS:PORT=CIDR,CIDR, inbound/ADDRESS:PORT=PORT/PROTOCOL,PORT, gateway/ADDRESS=NAMESPACE/GATEWAY or gateway/ADDRESS:PORT=NAMESPACE/GATEWAY:PORT")
	}
	if err != nil {
		return Declaration{}, fmt.Errorf("listener %q: %w", s, err)
	}
	return d, nil
}

// listenOn takes an address with a port; for a Gateway it may be any
// address, and one without a port.
func (d *Declaration) listenOn(text string, gateway bool) error {
	if a, err := netip.ParseAddr(text); gateway && err == nil {
		if a.Zone() != "" {
			return fmt.Errorf("%s has a zone", text)
		}
		d.Address = netip.AddrPortFrom(a.Unmap(), 0)
		return nil
	}
	a, err := netip.ParseAddrPort(text)
	switch {
	case err != nil:
		return err
	case a.Addr().Zone() != "" || a.Port() == 0 || !gateway && !a.Addr().IsLoopback():
		what := "a loopback address with a port"
		if gateway {
			what = "an address with a port"
		}
		return fmt.Errorf("%s is not %s", text, what)
	}
	d.Address = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	return nil
}

// listenBeyond takes any address, with a port.
func (d *Declaration) listenBeyond(text string) error {
	if err := d.listenOn(text, true); err != nil {
		return err
	}
	if d.Address.Port() == 0 {
		return fmt.Errorf("%s is not an address with a port", text)
	}
	return nil
}

// parsePorts reads the ports of an inbound listener at a port of its own, separated by commas.
func parsePorts(text string, own uint16) ([]ApplicationPort, error) {
	var out []ApplicationPort
	for part := range strings.SplitSeq(text, ",") {
		port, word, named := strings.Cut(part, "/")
		number, err := strconv.ParseUint(port, 10, 16)
		protocol, known := inboundProtocols[word]
		switch {
		case err != nil || number == 0 || named && !known:
			return nil, fmt.Errorf("%q is not PORT or PORT/PROTOCOL with http, http2, h2c, grpc or tcp", part)
		case uint16(number) == own:
			return nil, fmt.Errorf("port %d is where Envoy itself listens, and not the application's", own)
		}
		out = append(out, ApplicationPort{Number: uint16(number), Protocol: protocol})
	}
	slices.SortFunc(out, func(a, b ApplicationPort) int {
		return cmp.Or(cmp.Compare(a.Number, b.Number), cmp.Compare(a.Protocol, b.Protocol))
	})
	out = slices.Compact(out)
	for i := 1; i < len(out); i++ {
		if out[i].Number == out[i-1].Number {
			return nil, fmt.Errorf("port %d has two protocols", out[i].Number)
		}
	}
	if len(out) > MaxInboundPorts {
		return nil, fmt.Errorf("more than %d ports", MaxInboundPorts)
	}
	return out, nil
}

// parseRanges reads ranges of addresses, separated by commas.
func parseRanges(text string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for part := range strings.SplitSeq(text, ",") {
		p, err := netip.ParsePrefix(part)
		if err != nil {
			return nil, fmt.Errorf("%q is not a range of addresses such as 10.96.0.0/12: %w", part, err)
		}
		if p.Addr().Is4In6() {
			return nil, fmt.Errorf("%s is an IPv4 range in IPv6's notation: write it as IPv4", part)
		}
		out = append(out, p.Masked())
	}
	slices.SortFunc(out, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	if out = slices.Compact(out); len(out) > maxRanges {
		return nil, fmt.Errorf("more than %d ranges of addresses", maxRanges)
	}
	return out, nil
}

// parseTarget reads "namespace/name:port".
func parseTarget(text, what string, isName func(string) bool) (discovery.Key, uint16, error) {
	full, port, ok := strings.Cut(text, ":")
	number, err := strconv.ParseUint(port, 10, 16)
	var key discovery.Key
	key.Namespace, key.Name, _ = strings.Cut(full, "/")
	if !ok || err != nil || number == 0 || !isLabel(key.Namespace) || !isName(key.Name) {
		return discovery.Key{}, 0, fmt.Errorf("%q is not NAMESPACE/%s:PORT", text, what)
	}
	return key, uint16(number), nil
}

// isLabel reports whether s can be the name of a namespace or a Service, which
// are DNS labels (RFC 1123).
func isLabel(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && (c != '-' || i == 0 || i == len(s)-1) {
			return false
		}
	}
	return 0 < len(s) && len(s) <= 63
}

// isSubdomain reports whether s can be the name of a Gateway, which is a DNS
// subdomain (RFC 1123).
func isSubdomain(s string) bool {
	for label := range strings.SplitSeq(s, ".") {
		if !isLabel(label) {
			return false
		}
	}
	return len(s) <= 253
}

// String returns the canonical text of the declaration, the name of its listener.
func (d Declaration) String() string {
	switch {
	case d.Internal:
		return InternalListeners
	case d.IsCaptured():
		ranges := make([]string, len(d.Ranges))
		for i, r := range d.Ranges {
			ranges[i] = r.String()
		}
		return CapturedListener + d.Address.String() + "=" + strings.Join(ranges, ",")
	case d.IsInbound():
		return InboundListener + d.Address.String() + "=" + inboundText(d.Ports)
	case d.IsGateway() && d.Port == 0:
		return GatewayListener + d.Address.Addr().String() + "=" + d.Gateway.String()
	case d.IsGateway():
		return GatewayListener + d.Address.String() + "=" + Port(d.Gateway, d.Port)
	case d.IsTCP():
		return TCPListener + d.Address.String() + "=" + Port(d.Service, d.Port)
	}
	return HTTPListener + d.Address.String()
}

// IsCaptured reports whether the declaration is of a listener of redirected connections.
func (d Declaration) IsCaptured() bool { return len(d.Ranges) > 0 }

// IsInbound reports whether the declaration is of a listener of redirected connections to an application.
func (d Declaration) IsInbound() bool { return len(d.Ports) > 0 }

// inboundText is how a declaration has ports.
func inboundText(ports []ApplicationPort) string {
	texts := make([]string, len(ports))
	for i, p := range ports {
		if texts[i] = strconv.Itoa(int(p.Number)); p.Protocol != "" {
			texts[i] += "/" + p.Protocol
		}
	}
	return strings.Join(texts, ",")
}

// IsTCP reports whether the declaration is of a TCP listener.
func (d Declaration) IsTCP() bool { return d.Service.Name != "" }

// IsGateway reports whether the declaration is of listeners of a Gateway.
func (d Declaration) IsGateway() bool { return d.Gateway.Name != "" }
