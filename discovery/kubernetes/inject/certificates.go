package inject

import (
	"bytes"
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
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Lifetimes of the webhook's certificates.
const (
	// lifetime of a certificate and of the CA that signed it alone.
	lifetime = 90 * 24 * time.Hour
	// renewBefore is when the next one is made.
	renewBefore = 30 * 24 * time.Hour
	// settle is how long API servers have to learn a new CA before a certificate of it is served, and how long replicas
	// have to take up a new certificate before its predecessor's CA is forgotten.
	settle = 10 * time.Minute
	// early is how far the clocks of API servers may be behind.
	early = time.Hour
)

// Keys of the Secret. A generation is a certificate and the CA that signed it and nothing else: the CA's key is not kept,
// so that nobody who reads the Secret can sign more.
const (
	keyCA, keyCert, keyKey             = "ca.crt", "tls.crt", "tls.key"
	keyNextCA, keyNextCert, keyNextKey = "next-ca.crt", "next-tls.crt", "next-tls.key"
	keyFormerCA                        = "former-ca.crt"
	// keySince is when the Secret came into its present state.
	keySince = "since"
)

// generation is a certificate with its CA, in PEM.
type generation struct{ ca, cert, key []byte }

// newGeneration makes a CA, and a certificate for names that it alone signs.
func newGeneration(names []string, now time.Time, life time.Duration) (*generation, error) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("a key: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("a key: %w", err)
	}
	base := func(name string) (*x509.Certificate, error) {
		serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
		return &x509.Certificate{
			SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-early), NotAfter: now.Add(life), BasicConstraintsValid: true,
		}, err
	}
	ca, err := base("causeway-inject-ca " + now.UTC().Format(time.RFC3339Nano))
	if err != nil {
		return nil, fmt.Errorf("a serial number: %w", err)
	}
	ca.IsCA, ca.KeyUsage, ca.MaxPathLenZero = true, x509.KeyUsageCertSign, true
	leaf, err := base("causeway-inject")
	if err != nil {
		return nil, fmt.Errorf("a serial number: %w", err)
	}
	leaf.DNSNames, leaf.KeyUsage, leaf.ExtKeyUsage = names, x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return nil, fmt.Errorf("a CA: %w", err)
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	if err != nil {
		return nil, fmt.Errorf("a certificate: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("a key: %w", err)
	}
	encode := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	return &generation{encode("CERTIFICATE", caDER), encode("CERTIFICATE", leafDER), encode("PRIVATE KEY", keyDER)}, nil
}

// read returns the certificate of a generation, if it is whole, for all names, and not over at a time.
func (g *generation) read(names []string, now time.Time) (*tls.Certificate, error) {
	cert, err := tls.X509KeyPair(g.cert, g.key)
	if err != nil {
		return nil, err //nolint:wrapcheck // it says it all
	}
	pool := x509.NewCertPool()
	if !isCertificate(g.ca) || !pool.AppendCertsFromPEM(g.ca) {
		return nil, errors.New("it has no CA")
	}
	for _, name := range names {
		if _, err := cert.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: name, CurrentTime: now}); err != nil {
			return nil, err //nolint:wrapcheck // it says it all
		}
	}
	return &cert, nil
}

// isCertificate reports whether a text is one certificate: API servers refuse a bundle with anything else.
func isCertificate(text []byte) bool {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) > 0 {
		return false
	}
	_, err := x509.ParseCertificate(block.Bytes)
	return err == nil
}

func generationOf(s *corev1.Secret, ca, cert, key string) *generation {
	return &generation{s.Data[ca], s.Data[cert], s.Data[key]}
}

// bundle returns the CAs that API servers are to trust.
func bundle(s *corev1.Secret) []byte {
	var out []byte
	for _, key := range []string{keyFormerCA, keyCA, keyNextCA} {
		out = append(out, s.Data[key]...)
	}
	return out
}

// rotation is when certificates are renewed; tests have shorter times.
type rotation struct {
	names                         []string
	lifetime, renewBefore, settle time.Duration
}

// advance brings the Secret's data to its next state, and reports whether it has changed and how. trusted is what the API servers
// have been told to trust. A rotation has three steps, so that no call fails:
//
//  1. The next generation is made, and its CA trusted. The present certificate is served.
//  2. After a while the next is the present one, and served. The CA of the former is trusted still: replicas take the new one up at times of their own.
//  3. After a while the former CA is forgotten.
//
// A certificate that is missing, broken or over cannot be served, and is replaced at once.
func (r *rotation) advance(s *corev1.Secret, trusted []byte, now time.Time) (what string, err error) {
	present := generationOf(s, keyCA, keyCert, keyKey)
	next := generationOf(s, keyNextCA, keyNextCert, keyNextKey)
	cert, err := present.read(r.names, now)
	_, nextErr := next.read(r.names, now)
	since, _ := time.Parse(time.RFC3339, string(s.Data[keySince]))
	settled := now.Sub(since) >= r.settle || since.After(now) // a clock that was set back
	set := func(g *generation, ca, cert, key string) {
		s.Data[ca], s.Data[cert], s.Data[key] = g.ca, g.cert, g.key
	}
	forget := func(keys ...string) {
		for _, key := range keys {
			delete(s.Data, key)
		}
	}
	switch {
	case err != nil:
		if nextErr != nil {
			if next, err = newGeneration(r.names, now, r.lifetime); err != nil {
				return "", err
			}
		}
		// Replicas that have the former one in memory serve it until they look.
		former := present.ca
		clear(s.Data)
		if isCertificate(former) {
			s.Data[keyFormerCA] = former
		}
		set(next, keyCA, keyCert, keyKey)
		what = "there was no certificate that could be served: a new one is"
	case len(s.Data[keyNextCA]) > 0 && nextErr != nil:
		forget(keyNextCA, keyNextCert, keyNextKey)
		what = "the next certificate could not be read, and is forgotten"
	case len(s.Data[keyNextCA]) > 0:
		if !settled || !bytes.Contains(trusted, next.ca) {
			return "", nil
		}
		s.Data[keyFormerCA] = present.ca
		set(next, keyCA, keyCert, keyKey)
		forget(keyNextCA, keyNextCert, keyNextKey)
		what = "the next certificate is served"
	case len(s.Data[keyFormerCA]) > 0:
		if !settled && isCertificate(s.Data[keyFormerCA]) {
			return "", nil
		}
		forget(keyFormerCA)
		what = "the former CA is forgotten"
	case cert.Leaf.NotAfter.Sub(now) < r.renewBefore:
		g, err := newGeneration(r.names, now, r.lifetime)
		if err != nil {
			return "", err
		}
		set(g, keyNextCA, keyNextCert, keyNextKey)
		what = "the next certificate is made, and its CA trusted"
	default:
		return "", nil
	}
	s.Data[keySince] = []byte(now.UTC().Format(time.RFC3339))
	return what, nil
}
