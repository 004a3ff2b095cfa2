package compile

import (
	"net/netip"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	proxyprotocolv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/proxy_protocol/v3"
	rawbufferv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"

	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// SystemCAs is the name of the secret, in every proxy's bootstrap, with the CA
// certificates of its host. Their path differs from one distribution to the
// next, and Envoy refuses a cluster that names a missing file.
const SystemCAs = "causeway_system_cas"

// The names of HTTP's versions in a TLS handshake (RFC 7301).
const (
	alpnHTTP1 = "http/1.1"
	alpnHTTP2 = "h2"
)

// transportSocket returns the transport of connections to a cluster, nil for
// plaintext without a header.
func transportSocket(protocol policy.Protocol, tls *policy.TLS, header v1alpha1.ProxyProtocolVersion) *corev3.TransportSocket {
	var socket *corev3.TransportSocket
	if tls != nil && tls.Failed == "" {
		socket = tlsSocket(protocol, tls)
	}
	if header == "" {
		return socket
	}
	if socket == nil {
		socket = namedSocket("envoy.transport_sockets.raw_buffer", &rawbufferv3.RawBuffer{})
	}
	version := corev3.ProxyProtocolConfig_V1
	if header == v1alpha1.ProxyProtocolV2 {
		version = corev3.ProxyProtocolConfig_V2
	}
	return namedSocket("envoy.transport_sockets.upstream_proxy_protocol", &proxyprotocolv3.ProxyProtocolUpstreamTransport{
		Config: &corev3.ProxyProtocolConfig{Version: version}, TransportSocket: socket,
	})
}

func namedSocket(name string, config proto.Message) *corev3.TransportSocket {
	return &corev3.TransportSocket{Name: name, ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: toAny(config)}}
}

// tlsSocket returns the socket of TLS whose certificate is verified by CA and name.
func tlsSocket(protocol policy.Protocol, t *policy.TLS) *corev3.TransportSocket {
	validation := &tlsv3.CertificateValidationContext{}
	for _, n := range t.Names {
		validation.MatchTypedSubjectAltNames = append(validation.MatchTypedSubjectAltNames, &tlsv3.SubjectAltNameMatcher{
			SanType: sanType(n),
			Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: n.Value}},
		})
	}
	common := &tlsv3.CommonTlsContext{
		TlsParams: &tlsv3.TlsParameters{
			TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2,
			// As a client, Envoy stops at 1.2 unless told otherwise.
			TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
		},
	}
	switch protocol {
	case policy.HTTP1:
		common.AlpnProtocols = []string{alpnHTTP1}
	case policy.HTTP2:
		common.AlpnProtocols = []string{alpnHTTP2}
	case policy.Negotiated:
		common.AlpnProtocols = []string{alpnHTTP2, alpnHTTP1}
	case policy.TCP:
	}
	if t.CAs != "" {
		validation.TrustedCa = &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: t.CAs}}
		common.ValidationContextType = &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: validation}
	} else {
		common.ValidationContextType = &tlsv3.CommonTlsContext_CombinedValidationContext{
			CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
				DefaultValidationContext:         validation,
				ValidationContextSdsSecretConfig: &tlsv3.SdsSecretConfig{Name: SystemCAs},
			},
		}
	}
	config := &tlsv3.UpstreamTlsContext{CommonTlsContext: common}
	// TLS has no server name for an address (RFC 6066, section 3).
	if _, err := netip.ParseAddr(t.SNI); err != nil {
		config.Sni = t.SNI
	}
	return namedSocket("envoy.transport_sockets.tls", config)
}

func sanType(n policy.SubjectAltName) tlsv3.SubjectAltNameMatcher_SanType {
	if n.URI {
		return tlsv3.SubjectAltNameMatcher_URI
	}
	if _, err := netip.ParseAddr(n.Value); err == nil {
		return tlsv3.SubjectAltNameMatcher_IP_ADDRESS
	}
	return tlsv3.SubjectAltNameMatcher_DNS
}
