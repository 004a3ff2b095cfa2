package compile

import (
	"path"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// Certificates returns the secrets of a Gateway, which only its proxies see, and
// those with a key only if they have proven who they are.
func (c *Compiler) Certificates(m *policy.Gateway) []resource.Resource {
	var out []resource.Resource
	for i := range m.Certificates {
		cert := &m.Certificates[i]
		if !usable(cert) {
			continue
		}
		name := naming.Certificate(m.Key, cert.Name)
		visible := ofGateway(m)
		secret := &tlsv3.TlsCertificate{}
		if cert.ChainFile != "" {
			secret.CertificateChain, secret.PrivateKey = fileSource(cert.ChainFile), fileSource(cert.KeyFile)
			// If a directory is swapped for another one, as Kubernetes and
			// certificate agents do, chain and key change at once and neither file is
			// moved. Envoy then watches the directory if it is the same for both;
			// otherwise it watches the files.
			if dir := path.Dir(cert.ChainFile); dir == path.Dir(cert.KeyFile) {
				secret.WatchedDirectory = &corev3.WatchedDirectory{Path: dir}
			}
		} else {
			visible.Authenticated = true
			secret.CertificateChain, secret.PrivateKey = inlineSource(cert.Chain), inlineSource(cert.Key)
		}
		out = append(out, resource.Resource{
			Type: resource.Secret, Name: name, Visible: visible, Provenance: []discovery.ObjectRef{cert.Object},
			Body: resource.Parts{marshal(&tlsv3.Secret{Name: name, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: secret}})},
		})
	}
	for i := range m.Ports {
		if r := clientCAs(m, &m.Ports[i]); r != nil {
			out = append(out, *r)
		}
	}
	return out
}

// clientCAs returns the secret with which the clients of a port are checked, nil for none. It is a secret, and not part of the
// listener, so that new CA certificates close no connection.
func clientCAs(m *policy.Gateway, p *policy.GatewayPort) *resource.Resource {
	i := slices.IndexFunc(p.Listeners, func(l policy.GatewayListener) bool { return l.Clients != nil })
	if i < 0 {
		return nil
	}
	clients := p.Listeners[i].Clients
	validation := &tlsv3.CertificateValidationContext{TrustedCa: inlineSource([]byte(clients.CAs))}
	if clients.Optional {
		validation.TrustChainVerification = tlsv3.CertificateValidationContext_ACCEPT_UNTRUSTED
	}
	name := naming.ClientCAs(m.Key, p.Number, clients.Optional)
	return &resource.Resource{
		Type: resource.Secret, Name: name, Visible: ofGateway(m), Provenance: clients.From,
		Body: resource.Parts{marshal(&tlsv3.Secret{Name: name, Type: &tlsv3.Secret_ValidationContext{ValidationContext: validation}})},
	}
}

// usable reports whether there is a chain with a key.
func usable(cert *policy.Certificate) bool {
	return cert.ChainFile != "" || len(cert.Chain) > 0 && len(cert.Key) > 0
}

// tls returns the context in which a listener ends TLS, nil if none of its
// certificates can be used: Envoy would wait for it, and with it for the whole port.
//
// Session tickets are Envoy's own: each proxy encrypts them with keys that it
// has made itself, renews and never stores. At another proxy of the Gateway, or
// after a restart, a ticket is not understood and the handshake is a whole
// one, which costs a round trip and some CPU and fails nothing. Keys that all
// proxies share would have to be distributed and rotated as carefully as private
// keys, because who has one reads what was recorded under it.
func (e *edge) tls(l *policy.GatewayListener) *corev3.TransportSocket {
	common := &tlsv3.CommonTlsContext{TlsParams: &tlsv3.TlsParameters{
		TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2, TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
	}}
	if l.IsHTTP {
		common.AlpnProtocols = []string{"h2", "http/1.1"}
	}
	if t := e.port.Settings.TLS; t != nil {
		if t.MinVersion == v1alpha1.TLS13 {
			common.TlsParams.TlsMinimumProtocolVersion = tlsv3.TlsParameters_TLSv1_3
		}
		common.TlsParams.CipherSuites = t.CipherSuites
	}
	for _, name := range l.Certificates {
		if slices.ContainsFunc(e.gateway.Certificates, func(c policy.Certificate) bool { return c.Name == name && usable(&c) }) {
			common.TlsCertificateSdsSecretConfigs = append(common.TlsCertificateSdsSecretConfigs, &tlsv3.SdsSecretConfig{
				Name: naming.Certificate(e.gateway.Key, name), SdsConfig: adsSource(),
			})
		}
	}
	if len(common.GetTlsCertificateSdsSecretConfigs()) == 0 {
		return nil
	}
	context := &tlsv3.DownstreamTlsContext{CommonTlsContext: common}
	if l.Clients != nil {
		common.ValidationContextType = &tlsv3.CommonTlsContext_ValidationContextSdsSecretConfig{ValidationContextSdsSecretConfig: &tlsv3.SdsSecretConfig{
			Name: naming.ClientCAs(e.gateway.Key, e.port.Number, l.Clients.Optional), SdsConfig: adsSource(),
		}}
		context.RequireClientCertificate = wrapperspb.Bool(!l.Clients.Optional)
	}
	return namedSocket("envoy.transport_sockets.tls", context)
}

func inlineSource(data []byte) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: data}}
}

func fileSource(path string) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: path}}
}
