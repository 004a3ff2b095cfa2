// Package rotate makes and renews a serving certificate in a Secret of a cluster, so that who trusts it never
// meets one that it does not. No key of a CA is kept.
package rotate

import (
	"bytes"
	"context"
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
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
)

// Lifetimes of certificates.
const (
	// Lifetime of a certificate and of the CA that signed it alone.
	Lifetime = 90 * 24 * time.Hour
	// RenewBefore is how long before its end the next one is made.
	RenewBefore = 30 * 24 * time.Hour
	// Settle is how long those who trust have to learn a new CA before a certificate of it is served, and how long replicas
	// have to take up a new certificate before its predecessor's CA is forgotten.
	Settle = 10 * time.Minute
	// early is how far the clocks of others may be behind.
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
func newGeneration(subject string, names []string, now time.Time, life time.Duration) (*generation, error) {
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
	ca, err := base(subject + "-ca " + now.UTC().Format(time.RFC3339Nano))
	if err != nil {
		return nil, fmt.Errorf("a serial number: %w", err)
	}
	ca.IsCA, ca.KeyUsage, ca.MaxPathLenZero = true, x509.KeyUsageCertSign, true
	leaf, err := base(subject)
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

// Bundle returns the CAs of a Secret that others are to trust, in PEM.
func Bundle(s *corev1.Secret) []byte {
	var out []byte
	for _, key := range []string{keyFormerCA, keyCA, keyNextCA} {
		out = append(out, s.Data[key]...)
	}
	return out
}

// Rotation is a certificate that is renewed, and when.
type Rotation struct {
	// Subject is the certificate's common name, Names are its DNS names.
	Subject string
	Names   []string
	// Tests have shorter times.
	Lifetime, RenewBefore, Settle time.Duration
}

// New returns a rotation with the usual times.
func New(subject string, names ...string) Rotation {
	return Rotation{Subject: subject, Names: names, Lifetime: Lifetime, RenewBefore: RenewBefore, Settle: Settle}
}

// Serving returns the certificate that is served now.
func (r *Rotation) Serving(s *corev1.Secret, now time.Time) (*tls.Certificate, error) {
	return generationOf(s, keyCA, keyCert, keyKey).read(r.Names, now)
}

// Advance brings the Secret's data to its next state, and reports whether it has changed and how. trusted is what those who
// trust have been told. A rotation has three steps, so that no call fails:
//
//  1. The next generation is made, and its CA trusted. The present certificate is served.
//  2. After a while the next is the present one, and served. The CA of the former is trusted still: replicas take the new one up at times of their own.
//  3. After a while the former CA is forgotten.
//
// A certificate that is missing, broken or over cannot be served, and is replaced at once.
func (r *Rotation) Advance(s *corev1.Secret, trusted []byte, now time.Time) (what string, err error) {
	present := generationOf(s, keyCA, keyCert, keyKey)
	next := generationOf(s, keyNextCA, keyNextCert, keyNextKey)
	cert, err := present.read(r.Names, now)
	_, nextErr := next.read(r.Names, now)
	since, _ := time.Parse(time.RFC3339, string(s.Data[keySince]))
	settled := now.Sub(since) >= r.Settle || since.After(now) // a clock that was set back
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
			if next, err = newGeneration(r.Subject, r.Names, now, r.Lifetime); err != nil {
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
	case cert.Leaf.NotAfter.Sub(now) < r.RenewBefore:
		g, err := newGeneration(r.Subject, r.Names, now, r.Lifetime)
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

// Keep reads the Secret of a name, or makes it, and takes the step that is due. Whoever of several replicas comes first takes
// it; the others' writes conflict, and they get what was written. what says which step it was, "" for none.
func (r *Rotation) Keep(ctx context.Context, secrets clientcorev1.SecretInterface, name string, trusted []byte) (secret *corev1.Secret, what string, err error) {
	secret, err = secrets.Get(ctx, name, metav1.GetOptions{})
	absent := apierrors.IsNotFound(err)
	if absent {
		secret = &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app.kubernetes.io/name": "causeway"}}}
	} else if err != nil {
		return nil, "", fmt.Errorf("secret %s: %w", name, err)
	}
	if secret.Data == nil {
		secret.Data = make(map[string][]byte)
	}
	if what, err = r.Advance(secret, trusted, time.Now()); err != nil || what == "" {
		return secret, "", err
	}
	if absent {
		secret, err = secrets.Create(ctx, secret, metav1.CreateOptions{})
	} else {
		secret, err = secrets.Update(ctx, secret, metav1.UpdateOptions{})
	}
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
		secret, err = secrets.Get(ctx, name, metav1.GetOptions{}) // another replica was first
		what = ""
	}
	if err != nil {
		return nil, "", fmt.Errorf("secret %s: %w", name, err)
	}
	return secret, what, nil
}
