package diff

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/resolve"
)

// withheld returns an object as the admin API may tell it: of a Secret its
// chain, which every client of a Gateway is shown, and never its key.
func withheld(o *discovery.Object) ObjectRow {
	row := ObjectRow{Object: *o}
	if o.Kind != discovery.KindSecret {
		return row
	}
	row.Spec = nil
	if s, ok := o.Spec.(*corev1.Secret); ok {
		chain := s.Data[corev1.TLSCertKey]
		err := resolve.CheckCertificate(s)
		if row.KeyFits = err == nil; err != nil && row.Unreadable == "" {
			row.Unreadable = err.Error() // proxies cannot use it, and why must mean the same on the other side
		}
		out := &corev1.Secret{TypeMeta: s.TypeMeta, Type: s.Type}
		out.Name, out.Namespace = s.Name, s.Namespace
		if row.KeyFits { // what is no certificate could be anything, a key too
			out.Data = map[string][]byte{corev1.TLSCertKey: chain}
		} else {
			out.Data = map[string][]byte{FingerprintKey: []byte(Fingerprint(s))}
		}
		row.Spec = out
	}
	return row
}

// standIn gives a Secret whose key was withheld another pair for the same names
// and times, so that it means the same to what refers to it. The fingerprint of the
// true chain stays with it.
func standIn(s *corev1.Secret) error {
	fingerprint := Fingerprint(s)
	block, rest := pem.Decode(s.Data[corev1.TLSCertKey])
	if block == nil {
		return fmt.Errorf("the chain of Secret %s/%s: it is not PEM", s.Namespace, s.Name)
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return fmt.Errorf("the chain of Secret %s/%s: %w", s.Namespace, s.Name, err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("a key in place of the one of Secret %s/%s: %w", s.Namespace, s.Name, err)
	}
	// Its issuer stays, so that the rest of the chain fits it as it does the true one.
	issuer := &x509.Certificate{RawSubject: leaf.RawIssuer}
	template := &x509.Certificate{
		SerialNumber: leaf.SerialNumber, Subject: leaf.Subject, NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter,
		DNSNames: leaf.DNSNames, IPAddresses: leaf.IPAddresses, KeyUsage: leaf.KeyUsage, ExtKeyUsage: leaf.ExtKeyUsage,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), key)
	if err != nil {
		return fmt.Errorf("a certificate in place of the one of Secret %s/%s: %w", s.Namespace, s.Name, err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("a key in place of the one of Secret %s/%s: %w", s.Namespace, s.Name, err)
	}
	s.Data = map[string][]byte{
		corev1.TLSCertKey:       append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), rest...),
		corev1.TLSPrivateKeyKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		FingerprintKey:          []byte(fingerprint),
	}
	return nil
}
