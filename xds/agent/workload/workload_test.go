package workload

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/identity"
	"github.com/causeway-mesh/causeway/xds/members/membersv1"
)

var php = spiffeid.RequireFromString("spiffe://cluster.local/ns/web/sa/php")

// plane is a control plane that certifies everybody as php.
type plane struct {
	membersv1.UnimplementedMembersServer
	issuer *identity.Issuer

	mu    sync.Mutex
	err   error
	spoil func(*membersv1.CertifyResponse)
}

func (p *plane) Certify(r *membersv1.CertifyRequest, stream membersv1.Members_CertifyServer) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return p.err
	}
	svid, err := p.issuer.Issue(php, r.GetRequest(), time.Now())
	if err != nil {
		return err
	}
	answer := &membersv1.CertifyResponse{Id: svid.ID.String(), Chain: svid.Chain, Bundle: svid.Bundle, Attestation: "token of the pod web/php-1"}
	if p.spoil != nil {
		p.spoil(answer)
	}
	return stream.Send(answer)
}

func newIssuer(t *testing.T) *identity.Issuer {
	t.Helper()
	root, err := identity.NewRoot(time.Now())
	require.NoError(t, err)
	issuer, err := root.Issuer(php.TrustDomain(), time.Now())
	require.NoError(t, err)
	return issuer
}

func newWorkload(t *testing.T) (*Workload, *plane, *harness.Log) {
	t.Helper()
	p := &plane{issuer: newIssuer(t)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := grpc.NewServer()
	membersv1.RegisterMembersServer(server, p)
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		<-done
	})
	log := &harness.Log{}
	return New(Options{Conn: conn, Node: "sidecar~web~php~uid", Logger: slog.New(slog.NewTextHandler(log, nil))}), p, log
}

func TestRenew(t *testing.T) {
	t.Parallel()
	w, p, _ := newWorkload(t)
	require.NoError(t, w.renew(t.Context()))
	s := w.State()
	require.Equal(t, php.String(), s.ID)
	require.Equal(t, "token of the pod web/php-1", s.Attestation)
	require.Len(t, s.Chain, 2)
	require.Equal(t, php.String(), s.Chain[0].Subject)
	require.Len(t, s.Roots, 1)
	require.WithinDuration(t, s.Issued.Add(identity.Lifetime/2), s.Renew, identity.Lifetime/20+time.Minute, "half time, and jitter")

	// What is not a certificate of this key, or of nobody's root, changes nothing.
	before := w.secrets
	other := newIssuer(t)
	for says, spoil := range map[string]func(*membersv1.CertifyResponse){
		"no root":                func(r *membersv1.CertifyResponse) { r.Bundle = nil },
		"by this host's clock":   func(r *membersv1.CertifyResponse) { r.Bundle = bundleOf(t, other) },
		"from the control plane": func(r *membersv1.CertifyResponse) { r.Chain = nil },
		"match":                  func(r *membersv1.CertifyResponse) { r.Chain = chainOf(t, other) },
	} {
		p.spoil = spoil
		require.ErrorContains(t, w.renew(t.Context()), says)
		require.Same(t, before, w.secrets)
	}
	p.spoil, p.err = nil, status.Error(codes.Unavailable, "away")
	require.Error(t, w.renew(t.Context()))
	require.Same(t, before, w.secrets, "while the authority is away, the certificate stays")
	require.False(t, lasting(p.err))
	require.True(t, lasting(status.Error(codes.Unimplemented, "")))
	require.False(t, lasting(errors.New("a broken answer")))

	// A certificate that has expired by this host's clock is said to be.
	p.err, w.now = nil, func() time.Time { return time.Now().Add(48 * time.Hour) }
	require.ErrorContains(t, w.renew(t.Context()), "by this host's clock")
}

func issue(t *testing.T, i *identity.Issuer) *identity.SVID {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	require.NoError(t, err)
	svid, err := i.Issue(php, request, time.Now())
	require.NoError(t, err)
	return svid
}

func bundleOf(t *testing.T, i *identity.Issuer) [][]byte { t.Helper(); return issue(t, i).Bundle }
func chainOf(t *testing.T, i *identity.Issuer) [][]byte  { t.Helper(); return issue(t, i).Chain }

// Envoy's stream waits for the first certificate, gets each next one, and the roots only when they differ.
func TestServe(t *testing.T) {
	t.Parallel()
	w, p, log := newWorkload(t)
	p.err = status.Error(codes.Unimplemented, "an older control plane")
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { w.Run(ctx) })
	harness.Eventually(t, 10*time.Second, "a failure", func() error {
		if w.State().Failures == 0 {
			return errors.New("none")
		}
		return nil
	})
	require.Contains(t, log.String(), "issues no certificates")
	cancel()
	running.Wait()

	requests, answers := make(chan *discoveryv3.DeltaDiscoveryRequest), make(chan *discoveryv3.DeltaDiscoveryResponse, 1)
	running.Go(func() {
		_ = w.Serve(requests, func(r *discoveryv3.DeltaDiscoveryResponse) error { answers <- r; return nil })
	})
	requests <- &discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{naming.TrustSecret, naming.IdentitySecret, "other"}}
	p.mu.Lock()
	p.err = nil
	p.mu.Unlock()
	require.NoError(t, w.renew(t.Context()))
	first := <-answers
	require.Len(t, first.GetResources(), 2)
	secret := &tlsv3.Secret{}
	require.NoError(t, first.GetResources()[0].GetResource().UnmarshalTo(secret))
	require.Equal(t, naming.IdentitySecret, secret.GetName())
	require.Contains(t, string(secret.GetTlsCertificate().GetPrivateKey().GetInlineBytes()), "PRIVATE KEY")
	require.NoError(t, w.renew(t.Context()))
	second := <-answers
	require.Len(t, second.GetResources(), 1, "the roots are the same")
	require.NotEqual(t, first.GetResources()[0].GetVersion(), second.GetResources()[0].GetVersion())
	require.NotContains(t, log.String(), "PRIVATE KEY")

	// A stream that begins anew and says what it has gets what differs.
	close(requests)
	running.Wait()
	requests = make(chan *discoveryv3.DeltaDiscoveryRequest)
	running.Go(func() {
		_ = w.Serve(requests, func(r *discoveryv3.DeltaDiscoveryResponse) error { answers <- r; return nil })
	})
	requests <- &discoveryv3.DeltaDiscoveryRequest{
		ResourceNamesSubscribe: []string{naming.TrustSecret, naming.IdentitySecret},
		InitialResourceVersions: map[string]string{
			naming.TrustSecret: first.GetResources()[1].GetVersion(), naming.IdentitySecret: first.GetResources()[0].GetVersion(),
		},
	}
	third := <-answers
	require.Len(t, third.GetResources(), 1)
	require.Equal(t, second.GetResources()[0].GetVersion(), third.GetResources()[0].GetVersion())
	close(requests)
	running.Wait()
}

// pair returns certificate and key as Envoy gets them.
func (w *Workload) pair() (certificate, key []byte) {
	secret := &tlsv3.Secret{}
	if err := (*w.secrets)[naming.IdentitySecret].GetResource().UnmarshalTo(secret); err != nil {
		return nil, nil
	}
	return secret.GetTlsCertificate().GetCertificateChain().GetInlineBytes(), secret.GetTlsCertificate().GetPrivateKey().GetInlineBytes()
}
