package bootstrap

import (
	"errors"
	"fmt"
	"path/filepath"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/causeway-mesh/causeway/xds/compile"
)

// TLS of the connection to the control plane.
type TLS struct {
	// CA verifies the control plane's certificate, which must name ServerName.
	CA, ServerName string
	// Cert and Key are the proxy's own.
	Cert, Key string
	// Token is, in place of these, the file with the token of the pod's service account. Only an agent has
	// one: it reads the file for each stream.
	Token string
}

// whole says what is missing, nil for nothing.
func (t *TLS) whole() error {
	switch {
	case t.Token != "" && (t.Cert != "" || t.Key != ""):
		return errors.New("--token-file: it takes the place of --tls-cert and --tls-key: give one or the other")
	case t.Token != "" && (t.CA == "" || t.ServerName == ""):
		return errors.New("--token-file: a token goes to nobody who has not proven to be the control plane: give --tls-ca and --tls-server-name with it")
	case t.Token == "" && (t.CA == "" || t.ServerName == "" || t.Cert == "" || t.Key == ""):
		return errors.New("--tls-ca, --tls-server-name, --tls-cert and --tls-key go together: give all four, or none")
	}
	return nil
}

// Names of the secrets and of the files that say where they are.
const (
	certificateSecret = "causeway_xds_certificate"
	certificateFile   = "causeway-certificate.yaml"
	caSecret          = "causeway_xds_ca"
	caFile            = "causeway-ca.yaml"
)

// socket returns the TLS socket of the control plane's cluster, whose secrets
// are in the socket itself or, if dir is not empty, in files in dir.
func (t *TLS) socket(dir string) (*corev3.TransportSocket, error) {
	common := &tlsv3.CommonTlsContext{
		TlsParams: &tlsv3.TlsParameters{
			TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
			// As a client, Envoy stops at 1.2 unless told otherwise.
			TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
		},
	}
	serverName := []*tlsv3.SubjectAltNameMatcher{{
		SanType: tlsv3.SubjectAltNameMatcher_DNS,
		Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: t.ServerName}},
	}}
	if dir == "" {
		common.TlsCertificates = []*tlsv3.TlsCertificate{t.certificate()}
		validation := t.validation()
		validation.MatchTypedSubjectAltNames = serverName
		common.ValidationContextType = &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: validation}
	} else {
		common.TlsCertificateSdsSecretConfigs = []*tlsv3.SdsSecretConfig{inFile(certificateSecret, filepath.Join(dir, certificateFile))}
		common.ValidationContextType = &tlsv3.CommonTlsContext_CombinedValidationContext{
			CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
				DefaultValidationContext:         &tlsv3.CertificateValidationContext{MatchTypedSubjectAltNames: serverName},
				ValidationContextSdsSecretConfig: inFile(caSecret, filepath.Join(dir, caFile)),
			},
		}
	}
	config, err := anypb.New(&tlsv3.UpstreamTlsContext{Sni: t.ServerName, CommonTlsContext: common})
	if err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	return &corev3.TransportSocket{
		Name: "envoy.transport_sockets.tls", ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: config},
	}, nil
}

func (t *TLS) certificate() *tlsv3.TlsCertificate {
	return &tlsv3.TlsCertificate{CertificateChain: file(t.Cert), PrivateKey: file(t.Key)}
}

func (t *TLS) validation() *tlsv3.CertificateValidationContext {
	return &tlsv3.CertificateValidationContext{TrustedCa: file(t.CA)}
}

// files returns the files that say where the secrets are. Envoy reads a
// secret again when anything is renamed in its directory: a renewed
// certificate is renamed over the old one, and so is the symbolic link through
// which Kubernetes mounts a Secret.
func (t *TLS) files() (map[string][]byte, error) {
	certificate := t.certificate()
	certificate.WatchedDirectory = &corev3.WatchedDirectory{Path: filepath.Dir(t.Cert)}
	validation := t.validation()
	validation.WatchedDirectory = &corev3.WatchedDirectory{Path: filepath.Dir(t.CA)}
	out := make(map[string][]byte)
	for name, secret := range map[string]*tlsv3.Secret{
		certificateFile: {Name: certificateSecret, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: certificate}},
		caFile:          {Name: caSecret, Type: &tlsv3.Secret_ValidationContext{ValidationContext: validation}},
	} {
		packed, err := anypb.New(secret)
		if err != nil {
			return nil, fmt.Errorf("bootstrap: %w", err)
		}
		if out[name], err = toYAML(&discoveryv3.DiscoveryResponse{Resources: []*anypb.Any{packed}}); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// systemCAs returns the secret that clusters name which trust what the host
// trusts (compile.SystemCAs): where that stands is known on the host only.
func systemCAs(path string) []*tlsv3.Secret {
	if path == "" {
		return nil
	}
	return []*tlsv3.Secret{{
		Name: compile.SystemCAs,
		Type: &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: file(path)}},
	}}
}

func inFile(secret, path string) *tlsv3.SdsSecretConfig {
	return &tlsv3.SdsSecretConfig{Name: secret, SdsConfig: &corev3.ConfigSource{
		ResourceApiVersion: corev3.ApiVersion_V3,
		ConfigSourceSpecifier: &corev3.ConfigSource_PathConfigSource{
			PathConfigSource: &corev3.PathConfigSource{Path: path},
		},
	}}
}

func file(name string) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: name}}
}
