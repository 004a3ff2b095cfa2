package policy

import (
	"maps"
	"slices"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
)

// ProtocolOf returns the protocol of a port: appProtocol's, else the one in the
// port's name by the convention "<protocol>[-<suffix>]", else HTTP/1.1.
//
// appProtocol takes Kubernetes' standard names (KEP-3726) and IANA service
// names. TLS is passed through: the mesh cannot read it. Where a policy has callers' proxies
// speak TLS, OverTLS says what is in it.
func ProtocolOf(p discovery.ServicePort) Protocol {
	proto, known := protocolNamed(declared(p))
	// A protocol that we have no word for is certainly not plain HTTP.
	if known || p.AppProtocol != "" {
		return proto
	}
	return HTTP1
}

// OverTLS returns the protocol of a port to which TLS is spoken, by a policy: a port that is declared as HTTP in TLS
// is HTTP then, and any other is what it is without. free is true where nobody has declared which version of HTTP it
// is. Websockets need HTTP/1.1, so wss declares it.
func OverTLS(p discovery.ServicePort) (proto Protocol, free bool) {
	switch declared(p) {
	case "https":
		return HTTP1, true
	case "wss", "kubernetes.io/wss":
		return HTTP1, false
	}
	return ProtocolOf(p), Assumed(p)
}

// DeclaresHTTPS reports whether a port is declared as HTTP in TLS.
func DeclaresHTTPS(p discovery.ServicePort) bool {
	proto, _ := OverTLS(p)
	return proto != ProtocolOf(p)
}

// declared returns the word that says what is spoken on a port, in small letters: its appProtocol, else what
// its name begins with.
func declared(p discovery.ServicePort) string {
	if p.AppProtocol != "" {
		return strings.ToLower(p.AppProtocol)
	}
	prefix, _, _ := strings.Cut(p.Name, "-")
	return prefix
}

// Assumed reports whether nobody has declared the protocol of a port.
func Assumed(p discovery.ServicePort) bool {
	_, known := protocolNamed(declared(p))
	return !known && p.AppProtocol == ""
}

// protocols are the names of protocols that have a meaning.
var protocols = map[string]Protocol{
	"http": HTTP1, "http1": HTTP1, "kubernetes.io/ws": HTTP1, "ws": HTTP1,
	"http2": HTTP2, "h2c": HTTP2, "kubernetes.io/h2c": HTTP2, "grpc": HTTP2, "grpc-web": HTTP2,
	"tcp": TCP, "tls": TCP, "https": TCP, "kubernetes.io/wss": TCP, "wss": TCP, "fastcgi": TCP,
	"mysql": TCP, "postgres": TCP, "postgresql": TCP, "redis": TCP, "mongo": TCP, "mongodb": TCP, "kafka": TCP, "amqp": TCP,
	"memcached": TCP, "memcache": TCP, "zookeeper": TCP, "hbase": TCP, "smtp": TCP, "ldap": TCP,
}

// ProtocolNames returns the names of protocols that have a meaning, sorted.
func ProtocolNames() []string { return slices.Sorted(maps.Keys(protocols)) }

// protocolNamed returns the protocol of a name, TCP and false for an unknown
// one.
func protocolNamed(name string) (proto Protocol, known bool) {
	if proto, known = protocols[name]; known {
		return proto, true
	}
	if other, ok := storeNames[name]; ok {
		name = other
	}
	if _, ok := stores[name]; ok && name != "etcd" && name != "clickhouse" { // both speak HTTP too
		return TCP, true
	}
	return TCP, false
}

// OtherThanHTTP returns the protocol of a well-known port without a declared
// protocol, "" for a port that may well be HTTP.
func OtherThanHTTP(p discovery.ServicePort) string {
	if !Assumed(p) {
		return ""
	}
	switch p.Port {
	case 25:
		return "smtp"
	case 443:
		return "https"
	case 2181:
		return "zookeeper"
	case 3306:
		return "mysql"
	case 5432:
		return "postgres"
	case 5672:
		return "amqp"
	case 6379:
		return "redis"
	case 9092:
		return "kafka"
	case 11211:
		return "memcached"
	case 27017:
		return "mongo"
	}
	return ""
}
