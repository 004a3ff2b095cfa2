package policy

import (
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
)

// protocols maps what appProtocol or the first part of a port's name may say.
// appProtocol: Kubernetes' standard names (KEP-3726) and IANA service names;
// the name's prefix is the convention "<protocol>[-<suffix>]".
var protocols = map[string]Protocol{
	"http": HTTP1, "http1": HTTP1, "kubernetes.io/ws": HTTP1, "ws": HTTP1,
	"http2": HTTP2, "h2c": HTTP2, "kubernetes.io/h2c": HTTP2, "grpc": HTTP2, "grpc-web": HTTP2,
	"tcp": TCP, "tls": TCP, "https": TCP, "kubernetes.io/wss": TCP, "wss": TCP,
	"mysql": TCP, "postgres": TCP, "postgresql": TCP, "redis": TCP, "mongo": TCP, "mongodb": TCP,
	"kafka": TCP, "amqp": TCP, "memcached": TCP, "memcache": TCP, "zookeeper": TCP, "hbase": TCP, "smtp": TCP, "ldap": TCP,
}

// ProtocolOf returns what is spoken on a port: what appProtocol says, else
// what the port's name says, else HTTP/1.1.
func ProtocolOf(p discovery.ServicePort) Protocol {
	if p.AppProtocol != "" {
		if proto, ok := protocols[strings.ToLower(p.AppProtocol)]; ok {
			return proto
		}
		// A protocol that we have no word for is certainly not plain HTTP.
		return TCP
	}
	prefix, _, _ := strings.Cut(p.Name, "-")
	return protocols[prefix]
}
