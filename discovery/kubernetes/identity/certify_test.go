package identity

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"net/url"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/members/membersv1"
)

func csr(t *testing.T, key crypto.Signer, id string) []byte {
	t.Helper()
	template := &x509.CertificateRequest{}
	if id != "" {
		u, err := url.Parse(id)
		require.NoError(t, err)
		template.URIs = []*url.URL{u}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	require.NoError(t, err)
	return der
}

// certify asks a replica for a certificate.
func (r *replica) certify(t *testing.T, authorization []string, node string, request []byte, certificates ...tls.Certificate) (*membersv1.CertifyResponse, error) {
	t.Helper()
	conn, err := grpc.NewClient(r.address, grpc.WithTransportCredentials(r.tls(certificates...)))
	require.NoError(t, err)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ctx = metadata.NewOutgoingContext(ctx, metadata.MD{"authorization": authorization})
	stream, err := membersv1.NewMembersClient(conn).Certify(ctx, &membersv1.CertifyRequest{Node: node, Request: request})
	require.NoError(t, err)
	return stream.Recv()
}

// With the real API server: two replicas certify pods as what their tokens say, by one root, and nobody as anything else.
func TestCertify(t *testing.T) {
	t.Parallel()
	k := pool.Take(t)
	client := k.Client(t)
	for _, ns := range []string{"web", "shop"} {
		k.Namespace(t, ns)
	}
	config := k.ServiceAccountConfig(t, "causeway-system", "causeway")
	r, other := newReplica(t, config, false), newReplica(t, config, false)
	web, shop := newPod(t, k, "web", "php", "php-1"), newPod(t, k, "shop", "admin", "admin-1")
	own := []string{"Bearer " + tokenOf(t, client, web, "causeway")}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	request, node := csr(t, key, ""), nodeOf("sidecar", web)

	_, err = r.certify(t, own, node, request)
	require.Equal(t, codes.Unavailable, status.Code(err), "before the root is read: %v", err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 2)
	for _, one := range []*replica{r, other} {
		go func() { done <- one.authority.Run(ctx) }()
	}
	t.Cleanup(func() { cancel(); <-done; <-done })
	var answers []*membersv1.CertifyResponse
	for _, one := range []*replica{r, other} {
		harness.Eventually(t, 20*time.Second, "a certificate", func() error {
			answer, err := one.certify(t, own, node, csr(t, key, "spiffe://cluster.local/ns/web/sa/php"))
			if err == nil {
				answers = append(answers, answer)
			}
			return err
		})
	}
	require.Equal(t, answers[0].GetBundle(), answers[1].GetBundle())
	for _, answer := range answers {
		root, err := x509.ParseCertificate(answer.GetBundle()[0])
		require.NoError(t, err)
		domain := spiffeid.RequireTrustDomainFromString("cluster.local")
		id, _, err := x509svid.ParseAndVerify(answer.GetChain(), x509bundle.FromX509Authorities(domain, []*x509.Certificate{root}))
		require.NoError(t, err)
		require.Equal(t, "spiffe://cluster.local/ns/web/sa/php", id.String())
		require.Contains(t, answer.GetAttestation(), "pod web/php-1 of the service account php")
	}
	require.Contains(t, r.log.String(), `msg="certified a workload" id=spiffe://cluster.local/ns/web/sa/php`)

	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	certificate := r.ca.Issue(t, harness.CertificateOptions{Name: "x", Hosts: []string{"php.example.org"}}).TLS(t)
	for _, attack := range []struct {
		name          string
		authorization []string
		node          string
		request       []byte
		certificates  []tls.Certificate
		code          codes.Code
		says          string
	}{
		{"another account", own, node, csr(t, key, "spiffe://cluster.local/ns/shop/sa/admin"), nil, codes.InvalidArgument, "its sender is spiffe://cluster.local/ns/web/sa/php"},
		{"a weak key", own, node, csr(t, weak, ""), nil, codes.InvalidArgument, "1024 bits"},
		{"no request", own, node, nil, nil, codes.InvalidArgument, "cannot be read"},
		{"another pod's node id", own, nodeOf("sidecar", shop), request, nil, codes.PermissionDenied, "the token is of pod web/php-1"},
		{"a token for others", []string{"Bearer " + tokenOf(t, client, web, "vault")}, node, request, nil, codes.Unauthenticated, "for the audience"},
		{"a certificate copied by hand", nil, "sidecar~web~php~i-1", request, []tls.Certificate{certificate}, codes.PermissionDenied, "nothing says of which service account"},
		{"nothing", nil, node, request, nil, codes.Unauthenticated, "neither a client certificate nor"},
	} {
		_, err := r.certify(t, attack.authorization, attack.node, attack.request, attack.certificates...)
		require.Equal(t, attack.code, status.Code(err), "%s: %v", attack.name, err)
		require.ErrorContains(t, err, attack.says, attack.name)
		require.Contains(t, r.log.String(), attack.says, "%s: the log says why", attack.name)
	}
	require.NotContains(t, r.log.String(), own[0][len("Bearer "):], "no log has a token")
	require.NotContains(t, r.log.String(), "PRIVATE KEY")

	// The token of a pod that is gone is nobody's.
	gone := newPod(t, k, "web", "php", "php-2")
	token := []string{"Bearer " + tokenOf(t, client, gone, "causeway")}
	require.NoError(t, client.CoreV1().Pods("web").Delete(t.Context(), gone.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)}))
	_, err = r.certify(t, token, nodeOf("sidecar", gone), request)
	require.Equal(t, codes.Unauthenticated, status.Code(err), err)
}
