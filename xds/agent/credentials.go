package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"

	"google.golang.org/grpc/credentials"

	"github.com/causeway-mesh/causeway/xds/bootstrap"
)

// files are credentials that are read anew for each connection: a certificate
// that was renewed is taken up without a restart.
type files struct{ bootstrap.TLS }

// ClientHandshake implements credentials.TransportCredentials.
//
// The server's name is the one of the flag: gRPC would ask for that of the channel's target,
// which is no host.
func (f *files) ClientHandshake(ctx context.Context, _ string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	config, err := f.config()
	if err != nil {
		return nil, nil, err
	}
	return credentials.NewTLS(config).ClientHandshake(ctx, f.ServerName, conn) //nolint:wrapcheck // gRPC's own
}

// usable says what is wrong with the files. An agent waits for them: a host may get them after it has started.
func (f *files) usable() error {
	if _, err := f.config(); err != nil {
		return fmt.Errorf("%w: put it right, and it is read again", err)
	}
	return nil
}

func (f *files) config() (*tls.Config, error) {
	certificate, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("--tls-cert, --tls-key: %w", err)
	}
	text, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, fmt.Errorf("--tls-ca: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("--tls-ca: %s has no certificate", f.CA)
	}
	return &tls.Config{ServerName: f.ServerName, RootCAs: roots, Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS13}, nil
}

// ServerHandshake implements credentials.TransportCredentials; the agent is no server of this kind.
func (f *files) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, fmt.Errorf("agent: %w", errors.ErrUnsupported)
}

// Info implements credentials.TransportCredentials.
func (f *files) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone implements credentials.TransportCredentials.
func (f *files) Clone() credentials.TransportCredentials { return &files{f.TLS} }

// OverrideServerName implements credentials.TransportCredentials.
func (f *files) OverrideServerName(string) error { return nil }
