package policy

import (
	"testing"

	"github.com/causeway-mesh/causeway/discovery"
)

func TestProtocolOf(t *testing.T) {
	for _, c := range []struct {
		name, app string
		want      Protocol
	}{
		{"", "", HTTP1},
		{"http", "", HTTP1},
		{"http-admin", "", HTTP1},
		{"http2", "", HTTP2},
		{"grpc", "", HTTP2},
		{"grpc-api", "", HTTP2},
		{"tcp-binlog", "", TCP},
		{"mysql", "", TCP},
		{"https", "", TCP},
		{"web", "", HTTP1},
		{"grpcish", "", HTTP1},
		{"mysql", "http", HTTP1},
		{"http", "kubernetes.io/h2c", HTTP2},
		{"http", "kubernetes.io/ws", HTTP1},
		{"http", "kubernetes.io/wss", TCP},
		{"http", "HTTPS", TCP},
		{"http", "example.com/own", TCP},
	} {
		equal(t, c.want, ProtocolOf(discovery.ServicePort{Name: c.name, AppProtocol: c.app}), c.name, " ", c.app)
	}
}
