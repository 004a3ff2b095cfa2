// Package identity is the mesh's certificate authority: a root, an intermediate of each replica, and the certificates by
// which workloads prove who they are (SPIFFE X.509-SVIDs). It is pure: who somebody is has been found out before, what is
// kept is kept by others (package authority), and what time it is is said.
package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Lifetimes of certificates.
const (
	// Lifetime of a workload's. Its agent gets the next one at half time.
	Lifetime = 24 * time.Hour
	// IntermediateLifetime is that of a replica's own. It makes the next one at half time, so that no workload's
	// certificate is cut short by it.
	IntermediateLifetime = 7 * 24 * time.Hour
	// RootLifetime is that of the root.
	RootLifetime = 10 * 365 * 24 * time.Hour
	// early is how far the clocks of those who check may be behind.
	early = time.Hour
)

// Types of PEM blocks.
const typeCertificate, typeKey = "CERTIFICATE", "PRIVATE KEY"

// Root is what everybody in the mesh trusts. Whoever has its key may be anybody.
type Root struct {
	// Certificate is signed by itself.
	Certificate *x509.Certificate
	key         crypto.Signer
}

// NewRoot makes a root.
func NewRoot(now time.Time) (*Root, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	template := authority("causeway root "+now.UTC().Format(time.RFC3339), 1)
	certificate, err := sign(template, nil, key.Public(), key, now, RootLifetime)
	if err != nil {
		return nil, fmt.Errorf("a root: %w", err)
	}
	return &Root{certificate, key}, nil
}

// Marshal returns the root with its key, in PEM.
func (r *Root) Marshal() ([]byte, error) {
	key, err := x509.MarshalPKCS8PrivateKey(r.key)
	if err != nil {
		return nil, fmt.Errorf("the root's key: %w", err)
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: typeCertificate, Bytes: r.Certificate.Raw}), pem.EncodeToMemory(&pem.Block{Type: typeKey, Bytes: key})...), nil
}

// ParseRoot reads what Marshal has written. A root that signs nothing that anybody would believe at the time is an error, which
// never has the key in it.
func ParseRoot(text []byte, now time.Time) (*Root, error) {
	r := &Root{}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		switch {
		case block.Type == typeCertificate && r.Certificate == nil:
			certificate, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("the root's certificate: %w", err)
			}
			r.Certificate = certificate
		case block.Type == typeKey && r.key == nil:
			key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return nil, errors.New("the root's key is no key in PKCS #8")
			}
			signer, ok := key.(crypto.Signer)
			if !ok {
				return nil, errors.New("the root's key cannot sign")
			}
			r.key = signer
		default:
			return nil, fmt.Errorf("beside the root's certificate and key there is another %q", block.Type)
		}
	}
	if r.Certificate == nil || r.key == nil {
		return nil, errors.New("there is no certificate and key of a root, in PEM")
	}
	return r, r.check(now)
}

func (r *Root) check(now time.Time) error {
	c := r.Certificate
	public, ok := r.key.Public().(interface{ Equal(crypto.PublicKey) bool })
	switch {
	case !ok || !public.Equal(c.PublicKey):
		return errors.New("the root's key is not that of its certificate")
	case !c.IsCA || !c.BasicConstraintsValid || c.KeyUsage&x509.KeyUsageCertSign == 0:
		return errors.New("the root's certificate is none of a certificate authority")
	case c.MaxPathLenZero:
		return errors.New("the root's certificate lets it sign no intermediate (its path length is 0)")
	case now.After(c.NotAfter):
		return fmt.Errorf("the root has expired, at %s", c.NotAfter.UTC().Format(time.RFC3339))
	}
	if err := c.CheckSignatureFrom(c); err != nil {
		return fmt.Errorf("the root has not signed itself: %w", err)
	}
	return nil
}

// Issuer signs the certificates of workloads of one trust domain, with an intermediate of its own.
type Issuer struct {
	root        *x509.Certificate
	certificate *x509.Certificate
	key         crypto.Signer
	domain      spiffeid.TrustDomain
}

// Issuer returns an issuer of a trust domain. Its key is in this process alone.
func (r *Root) Issuer(domain spiffeid.TrustDomain, now time.Time) (*Issuer, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	template := authority("causeway intermediate "+now.UTC().Format(time.RFC3339), 0)
	template.URIs = []*url.URL{domain.ID().URL()}
	certificate, err := sign(template, r.Certificate, key.Public(), r.key, now, IntermediateLifetime)
	if err != nil {
		return nil, fmt.Errorf("an intermediate: %w", err)
	}
	return &Issuer{r.Certificate, certificate, key, domain}, nil
}

// Domain returns the trust domain.
func (i *Issuer) Domain() spiffeid.TrustDomain { return i.domain }

// Expires returns the time from which on nobody believes what it signs.
func (i *Issuer) Expires() time.Time { return i.certificate.NotAfter }

// Due reports whether it is time for the next issuer: its half time is over, or its clock was wrong.
func (i *Issuer) Due(now time.Time) bool {
	return now.Before(i.certificate.NotBefore) || now.After(i.certificate.NotAfter.Add(-IntermediateLifetime/2))
}

// OfRoot reports whether the issuer is one of a root.
func (i *Issuer) OfRoot(r *Root) bool { return i.root.Equal(r.Certificate) }

func newKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("a key: %w", err)
	}
	return key, nil
}

// authority returns the template of a certificate authority below which there are so many others.
func authority(name string, below int) *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, MaxPathLen: below, MaxPathLenZero: below == 0,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

// sign makes a certificate from a template, by a parent or, with none, by itself. It never outlives its parent.
func sign(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer, now time.Time, life time.Duration) (*x509.Certificate, error) {
	// RFC 5280, 4.1.2.2: positive, and of at most 20 bytes.
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("a serial number: %w", err)
	}
	template.SerialNumber, template.NotBefore, template.NotAfter = serial.Add(serial, big.NewInt(1)), now.Add(-early), now.Add(life)
	if parent == nil {
		parent = template
	} else {
		if template.NotAfter.After(parent.NotAfter) {
			template.NotAfter = parent.NotAfter
		}
		if !template.NotAfter.After(now) {
			return nil, fmt.Errorf("%q has expired", parent.Subject.CommonName)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, err //nolint:wrapcheck // the caller says what it is about
	}
	return x509.ParseCertificate(der) //nolint:wrapcheck // it was just made
}
