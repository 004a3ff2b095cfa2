// Package credentials says who may connect to the xDS listener. From files it reads the listener's certificate, the CA of
// the proxies' certificates, and the rules that say which certificate or service account may be which proxy. It reads them
// again when they change. A broken file changes nothing.
package credentials

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/credentials"
)

// reloadEvery is how often certificate files and client rules are looked at. A
// renewed certificate is used for the next connection; open streams stay.
const reloadEvery = 10 * time.Second

// watched tells when files that are read together must be loaded again: when
// their content is not the one loaded last. It ignores time stamps: a tool that
// keeps them, or two writes within one tick of the clock, would hide a change
// for ever.
type watched struct {
	files  []string
	loaded [sha256.Size]byte
	// failed is the error of the last attempt, "" after one that succeeded.
	failed string
}

// content returns the files' content and a digest of it all.
func (w *watched) content() (out [][]byte, digest [sha256.Size]byte, err error) {
	h := sha256.New()
	for _, name := range w.files {
		data, err := os.ReadFile(name) //nolint:gosec // the operator's own files
		if err != nil {
			return nil, digest, err
		}
		fmt.Fprintf(h, "%d\n", len(data)) // a hash takes everything
		h.Write(data)
		out = append(out, data)
	}
	return out, [sha256.Size]byte(h.Sum(nil)), nil
}

// reload loads the files if they differ from the ones in use. It tries files
// that do not load again at every call, and the last good ones stay in use. It
// reports whether something new is in use, and an error once for as long as it
// stays the same.
func (w *watched) reload(load func(content [][]byte) error) (changed bool, err error) {
	content, digest, err := w.content()
	if err == nil {
		if digest == w.loaded {
			w.failed = ""
			return false, nil
		}
		err = load(content)
	}
	if err != nil {
		known := w.failed == err.Error()
		if w.failed = err.Error(); known {
			return false, nil
		}
		return false, err
	}
	w.loaded, w.failed = digest, ""
	return true, nil
}

// Certificates are the files of the xDS listener's TLS.
type Certificates struct {
	watched
	log    *slog.Logger
	expiry prometheus.Gauge
	// auth is what a connection must prove by itself.
	auth    tls.ClientAuthType
	current atomic.Pointer[tls.Config]

	mu sync.Mutex
	// given is true once the certificate in use is that of the files.
	given  bool
	bundle []byte
}

// newCertificates reads the certificate, its key and the CA. Errors name the flag of causeway serve at fault.
func newCertificates(o *Options) (*Certificates, error) {
	c := &Certificates{watched: watched{files: []string{o.Cert, o.Key, o.CA}}, log: o.Log, auth: tls.RequireAndVerifyClientCert, expiry: prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "causeway_certificate_expiry_timestamp_seconds", Help: "When the xDS listener's certificate expires, in Unix time.",
	})}
	if o.Tokens != nil {
		c.auth = tls.VerifyClientCertIfGiven // each stream proves who it is (Listener.Authenticate)
	}
	_, err := c.reload(c.load)
	if err != nil && (!o.Optional || !errors.Is(err, fs.ErrNotExist)) {
		return nil, err
	}
	o.Registry.MustRegister(c.expiry)
	return c, nil
}

func (c *Certificates) load(content [][]byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	pair, err := tls.X509KeyPair(content[0], content[1])
	if err != nil {
		return fmt.Errorf("--xds-tls-cert, --xds-tls-key: %s, %s: %w", c.files[0], c.files[1], err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(content[2]) {
		return fmt.Errorf("--xds-client-ca: %s has no PEM certificate", c.files[2])
	}
	if old, now := c.current.Load(), time.Now(); old != nil && now.After(pair.Leaf.NotAfter) && !now.After(old.Certificates[0].Leaf.NotAfter) {
		return fmt.Errorf("--xds-tls-cert: %s expired at %s", c.files[0], pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	c.serve(&pair, pool)
	c.given, c.bundle = true, nil
	if vouches(pool, &pair) {
		c.bundle = content[2]
	}
	return nil
}

// serve takes up a certificate for the next connection. mu must be held.
func (c *Certificates) serve(pair *tls.Certificate, clients *x509.CertPool) {
	c.expiry.Set(float64(pair.Leaf.NotAfter.Unix()))
	c.current.Store(&tls.Config{
		Certificates: []tls.Certificate{*pair},
		ClientCAs:    clients,
		ClientAuth:   c.auth,
		MinVersion:   tls.VersionTLS13,
		NextProtos:   []string{"h2"},
	})
}

// vouches reports whether CAs have signed a certificate, whatever its names.
func vouches(roots *x509.CertPool, pair *tls.Certificate) bool {
	between := x509.NewCertPool()
	for _, der := range pair.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			between.AddCert(c)
		}
	}
	_, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: pair.Leaf.NotBefore})
	return err == nil
}

// Use takes up a certificate that the control plane has made, and the CAs by which it is verified, as long as there are no
// files. Proxies with certificates of their own need the files: nobody says by which CA theirs would be verified.
func (c *Certificates) Use(pair *tls.Certificate, bundle []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.given {
		return
	}
	c.serve(pair, x509.NewCertPool())
	c.bundle = bundle
}

// Bundle returns the CAs, in PEM, by which the listener's certificate is verified, nil where they are not known. given says
// whether it is the certificate of the files.
func (c *Certificates) Bundle() (bundle []byte, given bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bundle, c.given
}

// look loads the files if they have changed. It logs broken ones, and the last
// good ones stay in use.
func (c *Certificates) look() {
	switch changed, err := c.reload(c.load); {
	case errors.Is(err, fs.ErrNotExist) && !c.isGiven(): // what is made is in use
	case err != nil:
		c.log.Error("the renewed certificate is not usable; the one before stays in use, and the files are tried again", "every", reloadEvery, "error", err)
	case changed:
		c.log.Info("reloaded the xDS listener's certificate")
	}
}

func (c *Certificates) isGiven() bool {
	_, given := c.Bundle()
	return given
}

// Transport returns what the listener's connections are secured by: each new one by the newest files.
func (c *Certificates) Transport() credentials.TransportCredentials {
	return credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"h2"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			if config := c.current.Load(); config != nil {
				return config, nil
			}
			return nil, errors.New("there is no certificate yet")
		},
	})
}
