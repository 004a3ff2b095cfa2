package workload

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/agent/relay"
)

// envoyWithSDS is an Envoy that ends TLS with the workload's certificate, asks clients for theirs, and passes bytes on.
const envoyWithSDS = `
node: {id: sidecar~web~php~uid, cluster: php}
static_resources:
  listeners:
  - name: inbound
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - transport_socket:
        name: tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          require_client_certificate: true
          common_tls_context:
            tls_certificate_sds_secret_configs: [{name: %[1]s, sds_config: &sds {resource_api_version: V3, api_config_source: {api_type: DELTA_GRPC, transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: agent}}]}}}]
            validation_context_sds_secret_config: {name: %[2]s, sds_config: *sds}
      filters:
      - name: tcp
        typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: in, cluster: echo}
  clusters:
  - name: agent
    connect_timeout: 1s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
    load_assignment: {cluster_name: agent, endpoints: [{lb_endpoints: [{endpoint: {address: {pipe: {path: %[3]q}}}}]}]}
  - name: echo
    connect_timeout: 1s
    load_assignment: {cluster_name: echo, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %[4]d}}}}]}]}
`

// echo returns the port of a server that sends back what it gets.
func echo(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { defer c.Close(); _, _ = io.Copy(c, c) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); all.Wait() })
	return l.Addr().(*net.TCPAddr).Port
}

// The real Envoy takes the certificate from its agent's socket. A renewal, also one by another intermediate, is on new connections at
// once and ends none of the old; while the authority is away all goes on.
func TestEnvoyTakesRenewals(t *testing.T) {
	t.Parallel()
	w, p, _ := newWorkload(t)
	require.NoError(t, w.renew(t.Context()))
	dir := t.TempDir()
	r, err := relay.New(relay.Options{
		Servers: []string{"127.0.0.1:1"}, Credentials: insecure.NewCredentials(), File: filepath.Join(dir, "last-good"), Wait: time.Second,
		Logger: slog.New(slog.DiscardHandler), Secrets: w.Serve,
	})
	require.NoError(t, err)
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	require.NoError(t, err)
	port := echo(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx, l) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-done) })
	envoy := harness.StartEnvoy(t, fmt.Appendf(nil, envoyWithSDS, naming.IdentitySecret, naming.TrustSecret, socket, port), harness.EnvoyOptions{})
	address := envoy.Listener(t, 10*time.Second, "inbound")

	root, err := x509.ParseCertificate(issue(t, p.issuer).Bundle[0])
	require.NoError(t, err)
	roots := x509.NewCertPool()
	roots.AddCert(root)
	dial := func(own ...tls.Certificate) (*tls.Conn, string, error) {
		c, err := tls.Dial("tcp", address, &tls.Config{
			Certificates: own, MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, // the id is no host: checked below
			VerifyConnection: func(s tls.ConnectionState) error {
				between := x509.NewCertPool()
				between.AddCert(s.PeerCertificates[1])
				_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between})
				return err
			},
		})
		if err != nil {
			return nil, "", err
		}
		leaf := c.ConnectionState().PeerCertificates[0]
		return c, leaf.SerialNumber.Text(16), say(c)
	}
	client := clientOf(t, w)
	old, serial, err := dial(client)
	require.NoError(t, err)
	defer old.Close()
	require.Equal(t, w.State().Chain[0].Serial, serial)
	_, _, err = dial()
	require.Error(t, err, "who has no certificate is nobody")

	for range 3 {
		require.NoError(t, w.renew(t.Context()))
		harness.Eventually(t, 10*time.Second, "the renewed certificate", func() error {
			c, serial, err := dial(client)
			if err != nil {
				return err
			}
			defer c.Close()
			if serial != w.State().Chain[0].Serial {
				return errors.New("it has the one before")
			}
			return nil
		})
		require.NoError(t, say(old), "a renewal ends no connection")
	}
	p.mu.Lock()
	p.err = errors.New("away")
	p.mu.Unlock()
	require.Error(t, w.renew(t.Context()))
	require.NoError(t, say(old))
	c, _, err := dial(client)
	require.NoError(t, err)
	require.NoError(t, c.Close())
}

// say sends a word and reads it back.
func say(c net.Conn) error {
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("word")); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 4))
	return err
}

// clientOf returns the workload's present certificate.
func clientOf(t *testing.T, w *Workload) tls.Certificate {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	c, err := tls.X509KeyPair(w.pair())
	require.NoError(t, err)
	return c
}
