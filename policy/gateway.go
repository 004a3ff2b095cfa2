package policy

import (
	"net/netip"
	"slices"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Gateway is what a Gateway means: a unit of compilation of its own. It has
// what is right of it only; what is wrong is left out and reported (StatusOf, Validate).
type Gateway struct {
	discovery.Key
	// Ports sorted by number.
	Ports []GatewayPort
	// Certificates of all listeners, sorted by name, each once, those that
	// failed included.
	Certificates []Certificate
	// Provenance lists the Gateway first, then its class and policies by name.
	// What comes from routes stands with the hosts and rules.
	Provenance []discovery.ObjectRef
}

// ListenerProtocol is what is spoken on a port of a Gateway.
type ListenerProtocol uint8

// The protocols of ports. Listeners of the protocols HTTPS and TLS may share a
// port, since a client's server name tells them apart.
const (
	ListenHTTP ListenerProtocol = iota
	ListenTLS
	ListenTCP
)

// GatewayPort is the listeners of a Gateway that share a port.
type GatewayPort struct {
	Number   uint16
	Protocol ListenerProtocol
	// Listeners by how specific their host names are: exact names first, then
	// wildcards by length, the one without a name last. No two have the same
	// name. One at least.
	Listeners []GatewayListener
	// Settings of the GatewayPolicies that are effective for the port.
	Settings GatewaySettings
}

// GatewayListener is one listener of a Gateway.
type GatewayListener struct {
	Name string
	// Hostname is exact, or "*.example.com" for one or more labels before it,
	// in lower case; "" for any.
	Hostname string
	// Terminates is true if TLS ends here, with one of Certificates, which
	// names some of the Gateway's: the proxy picks what fits the client. A
	// listener all of whose certificates failed stands here nevertheless.
	Terminates   bool
	Certificates []string
	// IsHTTP is true for the protocols HTTP and HTTPS; Hosts says what happens
	// to requests, TCP of any other listener what happens to connections.
	IsHTTP bool
	// Hosts by their domains; one at least: that of the listener itself, so
	// that what no route takes is answered 404. No two have the same domain, and none has one that a more
	// specific listener of the port has.
	Hosts []GatewayHost
	TCP   []TCPRule
	// Provenance lists the routes about connections and what they use.
	Provenance []discovery.ObjectRef
}

// GatewayHost is what a listener does with requests to a host name.
type GatewayHost struct {
	// Domain is exact, or "*.example.com" for one or more labels before it, in lower case; "*" for any.
	Domain string
	// Misdirected is true for names of another listener of a port with TLS: a
	// client that reuses a connection for them is told to open another (421, RFC 9110 section 15.5.20, GEP-3567).
	Misdirected bool
	HTTPRoutes
}

// Certificate is a certificate chain with its key.
type Certificate struct {
	// Name is unique among a Gateway's: "<namespace>/<name of the Secret>", or
	// "file/<name of the listener>".
	Name string
	// Object is the Secret, or the Gateway that names files.
	Object discovery.ObjectRef
	// Chain and Key in PEM, which fit each other; nil where files hold them.
	Chain, Key []byte
	// ChainFile and KeyFile are paths on the proxies' hosts.
	ChainFile, KeyFile string
	// Failed says why the Secret has no chain and key that could be used, although
	// the Gateway may refer to it: it is missing, or what is in it does not fit. Then Chain and Key are
	// nil, and those that were last known go on (the engine remembers them); "" otherwise. What the Gateway may not
	// refer to is no Certificate of it.
	Failed string
}

// Options of a listener's tls.options that name files on the proxies' hosts
// instead of a Secret. The proxies take up new ones without a restart.
const (
	CertificateFileOption = "mesh.causeway.dev/certificate-file"
	KeyFileOption         = "mesh.causeway.dev/private-key-file"
)

// GatewaySettings are the effective sections of the GatewayPolicies about a port.
type GatewaySettings struct {
	v1alpha1.GatewaySettings
	// From says which GatewayPolicy each section comes from, by its name in the API.
	From map[string]discovery.ObjectRef
}

// TrustedHops returns how many entries at the end of X-Forwarded-For were
// written by what stands in front: 0 if no such header is to be believed.
func (s *GatewaySettings) TrustedHops() uint32 {
	n := uint32(0)
	for i := range s.InFront {
		if s.InFront[i].Kind != v1alpha1.HopNLB {
			n++
		}
	}
	return n
}

// ForgedHeaders returns the names, in lower case, of headers about a request's
// way that no hop in front writes anew, so that they are the client's own word and
// are taken out. What an HTTP proxy of another kind than AWS's writes is not
// known: behind one, all are let through.
//
// Proxy is one of them always: CGI, and with it PHP, makes the environment
// variable HTTP_PROXY of it (CVE-2016-5385).
func (s *GatewaySettings) ForgedHeaders() []string {
	out := []string{"proxy"}
	has := func(kind v1alpha1.HopKind) bool {
		return slices.ContainsFunc(s.InFront, func(h v1alpha1.Hop) bool { return h.Kind == kind })
	}
	if has(v1alpha1.HopProxy) {
		return out
	}
	out = append(out, "forwarded", "x-forwarded-host", "x-forwarded-prefix", "x-forwarded-scheme", "x-forwarded-server", "x-forwarded-ssl", "x-real-ip")
	if !has(v1alpha1.HopALB) {
		out = append(out, "x-forwarded-port")
	}
	if s.TrustedHops() == 0 {
		out = append(out, "x-forwarded-for", "x-forwarded-proto")
	}
	return out
}

// PROXY reports whether connections begin with a header of the PROXY protocol.
func (s *GatewaySettings) PROXY() bool {
	n := len(s.InFront)
	return n > 0 && s.InFront[n-1].ProxyProtocol
}

// httpsPort is the port that https has of itself.
const httpsPort = 443

// TLSPorts returns the ports of what stands in front that it takes TLS at and
// passes on as plain text without saying so in a header: those of an NLB that
// speaks the PROXY protocol, which tells the port that a client has
// connected to.
func (s *GatewaySettings) TLSPorts() []uint32 {
	if n := len(s.InFront); n > 0 && s.InFront[n-1].Kind == v1alpha1.HopNLB && s.PROXY() {
		return []uint32{httpsPort}
	}
	return nil
}

// SpeaksHTTP10 reports whether HTTP/1.0 is taken: clients may speak it, and so
// does nginx to what is behind it unless told otherwise. AWS's load balancers do not.
func (s *GatewaySettings) SpeaksHTTP10() bool {
	return s.TrustedHops() == 0 || slices.ContainsFunc(s.InFront, func(h v1alpha1.Hop) bool { return h.Kind == v1alpha1.HopProxy })
}

// AllowedFrom returns the ranges that connections may come from, none for any.
func (s *GatewaySettings) AllowedFrom() []netip.Prefix {
	var out []netip.Prefix
	if n := len(s.InFront); n > 0 {
		for _, text := range s.InFront[n-1].Addresses {
			if p, err := netip.ParsePrefix(text); err == nil {
				out = append(out, p.Masked())
			}
		}
	}
	return out
}

// Idle returns how long a connection without a request stays open, 0 for ever.
func (s *GatewaySettings) Idle() time.Duration {
	switch {
	case s.Timeout != nil && s.Timeout.Idle != nil:
		return s.Timeout.Idle.Duration
	case len(s.InFront) > 0:
		return time.Hour
	}
	return 75 * time.Second
}

// GatewayUnit returns the unit of a Gateway.
func GatewayUnit(k discovery.Key) Unit { return Unit{Kind: discovery.KindGateway, Key: k} }
