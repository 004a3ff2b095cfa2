package agent

import (
	"crypto/tls"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
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

// The token is shown with each stream, as it is in the file then; and to nobody who has not proven to be the control plane.
func TestToken(t *testing.T) {
	t.Parallel()
	dir, ca, other := t.TempDir(), harness.NewAuthority(t, "mesh"), harness.NewAuthority(t, "other")
	creds := &files{TLS: bootstrap.TLS{CA: filepath.Join(dir, "ca.crt"), ServerName: "causeway.internal", Token: filepath.Join(dir, "token")}}
	require.NoError(t, harness.WriteFile(creds.CA, ca.CertPEM))
	seen := make(chan []string, 10)
	serve := func(o ...grpc.ServerOption) string {
		listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		require.NoError(t, err)
		xds := grpc.NewServer(append(o, grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
			seen <- metadata.ValueFromIncomingContext(s.Context(), "authorization")
			return nil
		}))...)
		go func() { _ = xds.Serve(listener) }()
		t.Cleanup(xds.Stop)
		return listener.Addr().String()
	}
	withTLS := func(a *harness.Authority, name string) grpc.ServerOption {
		return grpc.Creds(credentials.NewTLS(&tls.Config{
			Certificates: []tls.Certificate{a.Issue(t, harness.CertificateOptions{Name: name, Hosts: []string{name}}).TLS(t)}, MinVersion: tls.VersionTLS13,
		}))
	}
	connect := func(address string) *grpc.ClientConn {
		conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(creds), grpc.WithPerRPCCredentials(creds))
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	ask := func(conn *grpc.ClientConn) error {
		stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/any/Stream")
		if err == nil {
			err = stream.RecvMsg(nil)
		}
		return err
	}
	address := serve(withTLS(ca, "causeway.internal"))
	require.ErrorContains(t, ask(connect(address)), "no such file")
	conn := connect(address)
	require.ErrorContains(t, creds.usable(), "--token-file: open")
	for _, token := range []string{"one", "two"} {
		require.NoError(t, harness.WriteFile(creds.Token, []byte(token+"\n")))
		require.NoError(t, creds.usable())
		require.ErrorContains(t, ask(conn), "EOF")
		require.Equal(t, []string{"Bearer " + token}, <-seen)
	}
	for name, address := range map[string]string{
		"another CA": serve(withTLS(other, "causeway.internal")), "another name": serve(withTLS(ca, "other.internal")), "no TLS": serve(),
	} {
		require.Error(t, ask(connect(address)), name)
	}
	require.Empty(t, seen)
	for _, wrong := range []string{"", "two words", "a\nb", strings.Repeat("a", maxToken+1)} {
		require.NoError(t, harness.WriteFile(creds.Token, []byte(wrong)))
		require.ErrorContains(t, creds.usable(), "has no token of a service account: put it right")
		require.Error(t, ask(conn))
	}
	require.Empty(t, seen)
	// Without TLS gRPC makes no connection for it at all.
	_, err := grpc.NewClient("127.0.0.1:1", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithPerRPCCredentials(creds))
	require.ErrorContains(t, err, "transport level security")
	for text, o := range map[string]bootstrap.TLS{
		"--token-file: a token goes to nobody": {Token: "t", CA: "ca"}, "--token-file: it takes the place": {Token: "t", CA: "ca", ServerName: "a.b", Cert: "c", Key: "k"},
	} {
		_, err := bootstrap.Generate(bootstrap.Options{TLS: &o})
		require.ErrorContains(t, err, text)
	}
}

// Files that are not there are told by their flag.
func TestUnusableFiles(t *testing.T) {
	t.Parallel()
	none := filepath.Join(t.TempDir(), "none")
	err := (&files{TLS: bootstrap.TLS{CA: none, Cert: none, Key: none}}).usable()
	require.EqualError(t, err, "--tls-cert, --tls-key: open "+none+": no such file or directory: put it right, and it is read again")
}
