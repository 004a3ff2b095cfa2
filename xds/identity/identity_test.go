package identity

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/stretchr/testify/require"
)

var (
	domain = spiffeid.RequireTrustDomainFromString("cluster.local")
	web    = spiffeid.RequireFromString("spiffe://cluster.local/ns/web/sa/php")
)

func uris(tb testing.TB, texts ...string) (out []*url.URL) {
	tb.Helper()
	for _, text := range texts {
		u, err := url.Parse(text)
		require.NoError(tb, err)
		out = append(out, u)
	}
	return out
}

func request(tb testing.TB, key crypto.Signer, template *x509.CertificateRequest) []byte {
	tb.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	require.NoError(tb, err)
	return der
}

func ecKey(tb testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	require.NoError(tb, err)
	return key
}

func newIssuer(tb testing.TB, now time.Time) (*Root, *Issuer) {
	tb.Helper()
	root, err := NewRoot(now)
	require.NoError(tb, err)
	issuer, err := root.Issuer(domain, now)
	require.NoError(tb, err)
	return root, issuer
}

func TestIssue(t *testing.T) {
	now := time.Now()
	root, issuer := newIssuer(t, now)
	key := ecKey(t, elliptic.P256())
	svid, err := issuer.Issue(web, request(t, key, &x509.CertificateRequest{URIs: uris(t, web.String())}), now)
	require.NoError(t, err)

	// Another implementation of the standard believes it.
	bundle := x509bundle.FromX509Authorities(domain, []*x509.Certificate{root.Certificate})
	id, chains, err := x509svid.ParseAndVerify(svid.Chain, bundle)
	require.NoError(t, err)
	require.Equal(t, web, id)
	leaf := chains[0][0]
	require.True(t, key.PublicKey.Equal(leaf.PublicKey))
	require.Len(t, leaf.URIs, 1)
	require.Empty(t, leaf.Subject.String())
	require.Equal(t, [][]byte{root.Certificate.Raw}, svid.Bundle)
	require.WithinDuration(t, now.Add(Lifetime), svid.NotAfter, time.Second)
	require.WithinDuration(t, now.Add(-early), svid.NotBefore, time.Second, "a peer's clock may be behind")
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		require.Contains(t, leaf.ExtKeyUsage, usage)
	}

	again, err := issuer.Issue(web, request(t, key, &x509.CertificateRequest{}), now)
	require.NoError(t, err)
	require.NotEqual(t, svid.Serial, again.Serial)

	// Nothing outlives who signed it.
	late, err := issuer.Issue(web, request(t, key, &x509.CertificateRequest{}), issuer.Expires().Add(-time.Hour))
	require.NoError(t, err)
	require.Equal(t, issuer.Expires(), late.NotAfter)
	_, err = issuer.Issue(web, request(t, key, &x509.CertificateRequest{}), issuer.Expires())
	require.ErrorContains(t, err, "has expired")
	require.False(t, issuer.Due(now))
	require.True(t, issuer.Due(now.Add(IntermediateLifetime/2+time.Minute)))

	_, err = issuer.Issue(spiffeid.RequireFromString("spiffe://elsewhere/ns/web/sa/php"), request(t, key, &x509.CertificateRequest{}), now)
	require.ErrorContains(t, err, "none of the trust domain")
}

// TestRefused: what an attacker may write into a request.
func TestRefused(t *testing.T) {
	key := ecKey(t, elliptic.P256())
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	forged := request(t, key, &x509.CertificateRequest{})
	forged[len(forged)-1] ^= 1
	names := func(key string) pkix.Extension {
		value, err := asn1.Marshal([]asn1.RawValue{{Class: 2, Tag: 6, Bytes: []byte(key)}})
		require.NoError(t, err)
		return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: value}
	}
	for _, test := range []struct {
		name, reason, says string
		der                []byte
	}{
		{"nothing", Malformed, "cannot be read", nil},
		{"long", Malformed, "more than 4096", bytes.Repeat([]byte{0x30}, MaxRequest+1)},
		{"trailing bytes", Malformed, "cannot be read", append(request(t, key, &x509.CertificateRequest{}), 0)},
		{"weak RSA", BadKey, "1024 bits", request(t, weak, &x509.CertificateRequest{})},
		{"weak curve", BadKey, "P-224", request(t, ecKey(t, elliptic.P224()), &x509.CertificateRequest{})},
		{"a kind that Envoy has not", BadKey, "Ed25519", request(t, ed, &x509.CertificateRequest{})},
		{"signed by another", Unsigned, "not signed with its own key", forged},
		{"another account", OtherName, "its sender is spiffe://cluster.local/ns/web/sa/php", request(t, key, &x509.CertificateRequest{URIs: uris(t, "spiffe://cluster.local/ns/web/sa/admin")})},
		{"another domain", OtherName, "its sender is", request(t, key, &x509.CertificateRequest{URIs: uris(t, "spiffe://other/ns/web/sa/php")})},
		{"the same and a query", OtherName, "its sender is", request(t, key, &x509.CertificateRequest{URIs: uris(t, web.String()+"?x")})},
		{"two ids", OtherName, "asks for 2", request(t, key, &x509.CertificateRequest{URIs: uris(t, web.String(), "spiffe://cluster.local/ns/web/sa/admin")})},
		{"a host", OtherName, "1 of DNS", request(t, key, &x509.CertificateRequest{URIs: uris(t, web.String()), DNSNames: []string{"causeway.causeway-system.svc"}})},
		{"an address", OtherName, "1 addresses", request(t, key, &x509.CertificateRequest{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})},
		{"two lists", Malformed, "duplicate", request(t, key, &x509.CertificateRequest{ExtraExtensions: []pkix.Extension{names("spiffe://cluster.local/ns/web/sa/admin"), names(web.String())}})},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := CheckRequest(test.der, web)
			var refused *RefusedError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, test.reason, refused.Reason, err)
			require.ErrorContains(t, err, test.says)
		})
	}
}

// TestWantsMore: a request that wants to be a certificate authority gets a workload's certificate.
func TestWantsMore(t *testing.T) {
	now := time.Now()
	_, issuer := newIssuer(t, now)
	ca, err := asn1.Marshal(struct {
		IsCA bool
	}{true})
	require.NoError(t, err)
	svid, err := issuer.Issue(web, request(t, ecKey(t, elliptic.P384()), &x509.CertificateRequest{
		Subject:         pkix.Name{CommonName: "spiffe://cluster.local/ns/web/sa/admin"},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: ca}},
	}), now)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(svid.Chain[0])
	require.NoError(t, err)
	require.False(t, leaf.IsCA)
	require.Empty(t, leaf.Subject.CommonName)
	require.Equal(t, x509.KeyUsageDigitalSignature, leaf.KeyUsage)
}

func TestRoot(t *testing.T) {
	now := time.Now()
	root, issuer := newIssuer(t, now)
	text, err := root.Marshal()
	require.NoError(t, err)
	read, err := ParseRoot(text, now)
	require.NoError(t, err)
	require.True(t, issuer.OfRoot(read))
	other, _ := newIssuer(t, now)
	require.False(t, issuer.OfRoot(other))
	otherText, err := other.Marshal()
	require.NoError(t, err)

	certificate, key, _ := bytes.Cut(text, []byte("-----BEGIN PRIVATE KEY"))
	key = append([]byte("-----BEGIN PRIVATE KEY"), key...)
	otherCertificate, _, _ := bytes.Cut(otherText, []byte("-----BEGIN PRIVATE KEY"))
	for says, text := range map[string][]byte{
		"no certificate and key":    nil,
		"not that of its":           append(bytes.Clone(otherCertificate), key...),
		"another \"CERTIFICATE\"":   append(bytes.Clone(text), certificate...),
		"no certificate and key of": certificate,
	} {
		_, err := ParseRoot(text, now)
		require.ErrorContains(t, err, says)
	}
	_, err = ParseRoot(text, now.Add(RootLifetime+time.Hour))
	require.ErrorContains(t, err, "expired")
}

func TestWorkloadID(t *testing.T) {
	id, err := WorkloadID(domain, "web", "php.v2")
	require.NoError(t, err)
	require.Equal(t, "spiffe://cluster.local/ns/web/sa/php.v2", id.String())
	for _, name := range []string{"", "..", "a/b", "a%2fb", "é"} {
		_, err := WorkloadID(domain, "web", name)
		require.Error(t, err, name)
	}
}

// FuzzRequest: no request yields another name, whatever it says.
func FuzzRequest(f *testing.F) {
	now := time.Now()
	root, issuer := newIssuer(f, now)
	bundle := x509bundle.FromX509Authorities(domain, []*x509.Certificate{root.Certificate})
	key := ecKey(f, elliptic.P256())
	f.Add(request(f, key, &x509.CertificateRequest{}))
	f.Add(request(f, key, &x509.CertificateRequest{URIs: uris(f, web.String()), DNSNames: []string{"a"}}))
	f.Fuzz(func(t *testing.T, der []byte) {
		svid, err := issuer.Issue(web, der, now)
		if err != nil {
			var refused *RefusedError
			require.ErrorAs(t, err, &refused)
			return
		}
		id, _, err := x509svid.ParseAndVerify(svid.Chain, bundle)
		require.NoError(t, err)
		require.Equal(t, web, id)
	})
}
