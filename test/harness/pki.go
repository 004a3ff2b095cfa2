package harness

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// Authority is a certificate authority for tests.
type Authority struct {
	// CertPEM is the authority's certificate.
	CertPEM []byte

	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// CertificateOptions say what a certificate of an [Authority] is for.
type CertificateOptions struct {
	// Name and Groups are the subject's common name and organizations, which
	// Kubernetes reads as a user and its groups.
	Name   string
	Groups []string
	// Hosts are DNS names and IP addresses.
	Hosts []string
	// URIs are the certificate's URI names (SPIFFE ids).
	URIs []string
	// Lifetime is a day if zero; a negative one makes a certificate that has expired.
	Lifetime time.Duration
}

// Certificate is a certificate and its key, in PEM.
type Certificate struct {
	CertPEM, KeyPEM []byte
}

// NewAuthority makes a certificate authority.
func NewAuthority(t TB, name string) *Authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatalf("%v", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(30 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		IsCA:     true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatalf("%v", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return &Authority{CertPEM: pemBlock("CERTIFICATE", der), cert: cert, key: key}
}

// Pool is a pool that holds the authority's certificate alone.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// Issue makes a certificate for servers and clients alike.
func (a *Authority) Issue(t TB, o CertificateOptions) Certificate {
	t.Helper()
	c, err := a.issue(o)
	if err != nil {
		t.Fatalf("certificate for %s: %v", o.Name, err)
	}
	return c
}

func (a *Authority) issue(o CertificateOptions) (Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Certificate{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	if err != nil {
		return Certificate{}, err
	}
	if o.Lifetime == 0 {
		o.Lifetime = 24 * time.Hour
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: o.Name, Organization: o.Groups},
		NotBefore:    time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(o.Lifetime),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, host := range o.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	for _, text := range o.URIs {
		uri, err := url.Parse(text)
		if err != nil {
			return Certificate{}, err
		}
		template.URIs = append(template.URIs, uri)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return Certificate{}, err
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return Certificate{}, err
	}
	return Certificate{CertPEM: pemBlock("CERTIFICATE", der), KeyPEM: pemBlock("EC PRIVATE KEY", keyDER)}, nil
}

// TLS is the certificate for a tls.Config.
func (c Certificate) TLS(t TB) tls.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair(c.CertPEM, c.KeyPEM)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return pair
}

// Write writes the certificate and its key as DIR/NAME.crt and DIR/NAME.key and
// returns their paths. Both are replaced by renaming, as a rotation should be.
func (c Certificate) Write(t TB, dir, name string) (cert, key string) {
	t.Helper()
	cert, key = filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	if err := errors.Join(WriteFile(cert, c.CertPEM), WriteFile(key, c.KeyPEM)); err != nil {
		t.Fatalf("%v", err)
	}
	return cert, key
}

// WriteFile writes a file in one step: nobody reads half of it.
func WriteFile(path string, data []byte) error {
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return os.Rename(path+".new", path)
}

func pemBlock(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
