package agent

import (
	"crypto/tls"
	"net"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/bootstrap"
)

// The agent proves who it is, and takes for the control plane only what has the name of
// --tls-server-name, whatever the channel's target is called.
func TestServerName(t *testing.T) {
	t.Parallel()
	dir, ca := t.TempDir(), harness.NewAuthority(t, "mesh")
	require.NoError(t, harness.WriteFile(filepath.Join(dir, "ca.crt"), ca.CertPEM))
	cert, key := ca.Issue(t, harness.CertificateOptions{Name: "php-web"}).Write(t, dir, "proxy")
	server := ca.Issue(t, harness.CertificateOptions{Name: "causeway", Hosts: []string{"causeway.internal"}}).TLS(t)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	xds := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{server}, ClientCAs: ca.Pool(), ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13,
	})), grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error { return nil }))
	go func() { _ = xds.Serve(listener) }()
	t.Cleanup(xds.Stop)

	ask := func(name string) error {
		servers := manual.NewBuilderWithScheme("servers")
		servers.InitialState(resolver.State{Addresses: []resolver.Address{{Addr: listener.Addr().String()}}})
		creds := &files{TLS: bootstrap.TLS{CA: filepath.Join(dir, "ca.crt"), ServerName: name, Cert: cert, Key: key}}
		conn, err := grpc.NewClient("servers:///control-plane", grpc.WithResolvers(servers), grpc.WithTransportCredentials(creds))
		require.NoError(t, err)
		defer conn.Close() //nolint:errcheck // of a test
		stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/any/Stream")
		if err != nil {
			return err
		}
		return stream.RecvMsg(nil)
	}
	require.ErrorContains(t, ask("causeway.internal"), "EOF")
	require.ErrorContains(t, ask("other.internal"), "not other.internal")
}

// Files that are not there are told by their flag.
func TestUnusableFiles(t *testing.T) {
	t.Parallel()
	none := filepath.Join(t.TempDir(), "none")
	err := (&files{TLS: bootstrap.TLS{CA: none, Cert: none, Key: none}}).usable()
	require.EqualError(t, err, "--tls-cert, --tls-key: open "+none+": no such file or directory: put it right, and it is read again")
}
