package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"net/url"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// MaxRequest is how long a certificate signing request may be, in bytes of DER. One with an RSA key of 4096 bits has some 1,700.
const MaxRequest = 4 << 10

// Reasons of refusals, as metrics have them.
const (
	Malformed = "malformed"
	BadKey    = "key"
	Unsigned  = "signature"
	OtherName = "name"
)

// RefusedError says why a certificate signing request is refused.
type RefusedError struct {
	// Reason is one of the constants.
	Reason string
	text   string
}

func (e *RefusedError) Error() string { return e.text }

func refuse(reason, format string, args ...any) error {
	return &RefusedError{reason, "the certificate signing request " + fmt.Sprintf(format, args...)}
}

// WorkloadID returns the id of workloads of a service account (spiffe://DOMAIN/ns/NAMESPACE/sa/ACCOUNT).
func WorkloadID(domain spiffeid.TrustDomain, namespace, account string) (spiffeid.ID, error) {
	id, err := spiffeid.FromSegments(domain, "ns", namespace, "sa", account)
	if err != nil {
		return spiffeid.ID{}, fmt.Errorf("the service account %q of the namespace %q has no SPIFFE id: %w", account, namespace, err)
	}
	return id, nil
}

// CheckRequest returns the key of a certificate signing request, in DER, of who is a workload of an id. The request proves that its
// sender has the key, and nothing else counts: it may name the id or nothing. What else it wants is not given. The error
// is a RefusedError.
func CheckRequest(der []byte, id spiffeid.ID) (crypto.PublicKey, error) {
	if len(der) > MaxRequest {
		return nil, refuse(Malformed, "has %d bytes, more than %d", len(der), MaxRequest)
	}
	r, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, refuse(Malformed, "cannot be read: %v", err)
	}
	// The key comes first: a signature of an absurd one would be work.
	switch key := r.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() && key.Curve != elliptic.P384() {
			return nil, refuse(BadKey, "has a key on the curve %s: P-256 and P-384 are taken", key.Curve.Params().Name)
		}
	case *rsa.PublicKey:
		if n := key.N.BitLen(); n < 2048 || n > 4096 {
			return nil, refuse(BadKey, "has an RSA key of %d bits: 2048 to 4096 are taken, and ECDSA on P-256 or P-384", n)
		}
	default:
		return nil, refuse(BadKey, "has a key of a kind that Envoy does not take (%s): ECDSA on P-256 or P-384, or RSA", r.PublicKeyAlgorithm)
	}
	if err := r.CheckSignature(); err != nil {
		return nil, refuse(Unsigned, "is not signed with its own key: %v", err)
	}
	switch {
	case len(r.DNSNames)+len(r.EmailAddresses)+len(r.IPAddresses) > 0:
		return nil, refuse(OtherName, "asks for names of other kinds than a SPIFFE id (%d of DNS, %d of mail, %d addresses)", len(r.DNSNames), len(r.EmailAddresses), len(r.IPAddresses))
	case len(r.URIs) > 1:
		return nil, refuse(OtherName, "asks for %d SPIFFE ids: a workload has one", len(r.URIs))
	case len(r.URIs) == 1 && r.URIs[0].String() != id.String():
		return nil, refuse(OtherName, "asks for %.200q, and its sender is %s", r.URIs[0], id)
	}
	return r.PublicKey, nil
}

// SVID is a workload's certificate.
type SVID struct {
	ID spiffeid.ID
	// Chain is the workload's certificate and the issuer's, each in DER.
	Chain [][]byte
	// Bundle has the roots that the workload is to trust, each in DER.
	Bundle [][]byte
	// Serial is the certificate's serial number, in hexadecimal.
	Serial              string
	NotBefore, NotAfter time.Time
}

// Issue signs a certificate for who has proved to be a workload of an id and has sent a certificate signing request. The error is a
// RefusedError if it is the request's.
func (i *Issuer) Issue(id spiffeid.ID, request []byte, now time.Time) (*SVID, error) {
	if !id.MemberOf(i.domain) {
		return nil, fmt.Errorf("%s is none of the trust domain %s", id, i.domain)
	}
	public, err := CheckRequest(request, id)
	if err != nil {
		return nil, err
	}
	// Without a subject the names are critical (RFC 5280, 4.2.1.6): who does not understand them takes nobody for somebody.
	certificate, err := sign(&x509.Certificate{
		URIs: []*url.URL{id.URL()}, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, i.certificate, public, i.key, now, Lifetime)
	if err != nil {
		return nil, fmt.Errorf("a certificate of %s: %w", id, err)
	}
	return &SVID{
		ID: id, Chain: [][]byte{certificate.Raw, i.certificate.Raw}, Bundle: [][]byte{i.root.Raw},
		Serial: certificate.SerialNumber.Text(16), NotBefore: certificate.NotBefore, NotAfter: certificate.NotAfter,
	}, nil
}
