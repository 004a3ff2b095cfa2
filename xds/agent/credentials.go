package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/causeway-mesh/causeway/xds/bootstrap"
)

// files are credentials that are read anew for each connection, and a token for each stream: what
// was renewed is taken up without a restart.
type files struct{ bootstrap.TLS }

// maxToken is how long a token may be, in bytes: those of service accounts have 1 to 2 KB, and the control plane takes no longer one.
const maxToken = 8 << 10

// GetRequestMetadata implements credentials.PerRPCCredentials: a stream shows the token that is in the file now.
func (f *files) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	token, err := f.token()
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials: gRPC shows the token to nobody whose certificate was not verified.
func (f *files) RequireTransportSecurity() bool { return true }

// token reads the token. Errors never have it in them.
func (f *files) token() (string, error) {
	file, err := os.Open(f.Token)
	if err != nil {
		return "", fmt.Errorf("--token-file: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxToken+1))
	if err != nil {
		return "", fmt.Errorf("--token-file: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" || len(text) > maxToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("--token-file: %s has no token of a service account", f.Token)
	}
	return token, nil
}

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
	var own []tls.Certificate
	if f.Token == "" {
		certificate, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			return nil, fmt.Errorf("--tls-cert, --tls-key: %w", err)
		}
		own = append(own, certificate)
	} else if _, err := f.token(); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, fmt.Errorf("--tls-ca: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("--tls-ca: %s has no certificate", f.CA)
	}
	return &tls.Config{ServerName: f.ServerName, RootCAs: roots, Certificates: own, MinVersion: tls.VersionTLS13}, nil
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
