package observe

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// Identity is a key that a replica makes when it starts and that never leaves
// its memory, with a certificate that it signs itself. Others know the
// certificate by its fingerprint, which stands in the replica's Lease; nothing
// in the certificate itself is believed.
type Identity struct {
	certificate tls.Certificate
	fingerprint string
}

// lifetime of the certificate: nobody looks at it, the Lease is what expires.
const lifetime = 10 * 365 * 24 * time.Hour

// NewIdentity makes an identity; name is for those who look at the certificate.
func NewIdentity(name string) (*Identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("observe: key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("observe: serial number: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: truncate(name, 64)},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(lifetime),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("observe: certificate: %w", err)
	}
	return &Identity{
		certificate: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, fingerprint: fingerprint(der),
	}, nil
}

// Fingerprint is the SHA-256 of the certificate in lower-case hexadecimal.
func (i *Identity) Fingerprint() string { return i.fingerprint }

func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// errNoCertificate is a handshake's error.
var errNoCertificate = errors.New("observe: the other side shows no certificate")

// peerFingerprint returns the fingerprint of the certificate that the other
// side has shown. The handshake proves that it has the key.
func peerFingerprint(s *tls.ConnectionState) (string, error) {
	if len(s.PeerCertificates) == 0 {
		return "", errNoCertificate
	}
	return fingerprint(s.PeerCertificates[0].Raw), nil
}

// config returns a TLS configuration that takes exactly the peers whose
// fingerprint check accepts.
func (i *Identity) config(check func(fingerprint string) error) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{i.certificate},
		ClientAuth: tls.RequireAnyClientCert, SessionTicketsDisabled: true,
		// Certificates are pinned, not issued: VerifyConnection is the check.
		InsecureSkipVerify: true, //nolint:gosec // see above
		VerifyConnection: func(s tls.ConnectionState) error {
			f, err := peerFingerprint(&s)
			if err != nil {
				return err
			}
			return check(f)
		},
	}
}
