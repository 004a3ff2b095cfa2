// Package credentials reads from files who may connect to the xDS listener: its certificate, the CA of
// the proxies' certificates, and the rules that say which certificate may be which proxy. It reads them
// again when they change. A broken file changes nothing.
package credentials

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
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
	log     *slog.Logger
	expiry  prometheus.Gauge
	current atomic.Pointer[tls.Config]
}

// NewCertificates reads the certificate, its key and the CA. Errors name the flag of causeway serve at fault.
func NewCertificates(cert, key, ca string, log *slog.Logger, reg prometheus.Registerer) (*Certificates, error) {
	c := &Certificates{watched: watched{files: []string{cert, key, ca}}, log: log, expiry: prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "causeway_certificate_expiry_timestamp_seconds", Help: "When the xDS listener's certificate expires, in Unix time.",
	})}
	if _, err := c.reload(c.load); err != nil {
		return nil, err
	}
	reg.MustRegister(c.expiry)
	return c, nil
}

func (c *Certificates) load(content [][]byte) error {
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
	c.expiry.Set(float64(pair.Leaf.NotAfter.Unix()))
	c.current.Store(&tls.Config{
		Certificates: []tls.Certificate{pair},
		ClientCAs:    pool,
		ClientAuth:   tls.RequireAndVerifyClientCert,
		MinVersion:   tls.VersionTLS13,
		NextProtos:   []string{"h2"},
	})
	return nil
}

// look loads the files if they have changed. It logs broken ones, and the last
// good ones stay in use.
func (c *Certificates) look() {
	switch changed, err := c.reload(c.load); {
	case err != nil:
		c.log.Error("the renewed certificate is not usable; the one before stays in use, and the files are tried again", "every", reloadEvery, "error", err)
	case changed:
		c.log.Info("reloaded the xDS listener's certificate")
	}
}

// Transport returns what the listener's connections are secured by: each new one by the newest files.
func (c *Certificates) Transport() credentials.TransportCredentials {
	return credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"h2"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return c.current.Load(), nil
		},
	})
}

// Follow puts changed files into use until the context ends. It calls changed when the rules differ: a
// connected proxy may not be admitted any more.
func Follow(ctx context.Context, c *Certificates, r *Rules, changed func()) error {
	ticker := time.NewTicker(reloadEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
			c.look()
			if r.look() {
				changed()
			}
		}
	}
}
