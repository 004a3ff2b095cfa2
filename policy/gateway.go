package policy

import (
	"github.com/causeway-mesh/causeway/discovery"
)

// Gateway is the model of a Gateway: a unit of compilation of its own. It has only the
// valid parts of the Gateway; the others are left out and reported (StatusOf, Validate).
type Gateway struct {
	discovery.Key
	// Ports sorted by number.
	Ports []GatewayPort
	// Certificates of all listeners, sorted by name, each once, those that
	// failed included.
	Certificates []Certificate
	// Provenance lists the Gateway first, then its class and policies by name.
	// The objects of routes are listed with the hosts and rules.
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
	// names some of the Gateway's: the proxy picks the one that fits the
	// client. A listener whose certificates have all failed is here
	// nevertheless.
	Terminates   bool
	Certificates []string
	// Clients is how clients prove who they are, nil for not at all. Listeners of one port where TLS ends have
	// the same: a client may send requests for any of them on one connection.
	Clients *ClientCertificates
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

// ClientCertificates is how the clients of a listener prove who they are.
type ClientCertificates struct {
	// CAs in PEM, one at least: one of them has issued the certificate of a client, or of who issued that.
	CAs string
	// Optional is true if clients without a certificate, or with one that is not valid, are let in too.
	Optional bool
	// From are the ConfigMaps that CAs come from.
	From []discovery.ObjectRef
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
	// Failed is why a Secret has no usable chain and key, although the Gateway may refer to it: it is missing, or
	// its content does not fit. Then Chain and Key are nil, and the last good ones stay in use (the engine
	// remembers them). It is "" otherwise. A Secret that the Gateway may not refer to is no Certificate of it.
	Failed string
}

// Options of a listener's tls.options that name files on the proxies' hosts
// instead of a Secret. The proxies take up new ones without a restart.
const (
	CertificateFileOption = "mesh.causeway.dev/certificate-file"
	KeyFileOption         = "mesh.causeway.dev/private-key-file"
)
