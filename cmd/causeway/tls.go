package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"sigs.k8s.io/yaml"

	"github.com/causeway-mesh/causeway/xds/server"
)

// reloadEvery is how often certificate files are looked at. A renewed one is
// used for the next connection; open streams stay.
const reloadEvery = 10 * time.Second

// certificates are the files of the xDS listener's TLS.
type certificates struct {
	certFile, keyFile, clientCAFile string
	log                             *slog.Logger
	expiry                          prometheus.Gauge
	current                         atomic.Pointer[tls.Config]
	seen                            [3]time.Time
}

func newCertificates(cert, key, ca string, log *slog.Logger, reg prometheus.Registerer) (*certificates, error) {
	c := &certificates{certFile: cert, keyFile: key, clientCAFile: ca, log: log, expiry: prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "causeway_certificate_expiry_timestamp_seconds", Help: "When the xDS listener's certificate expires, in Unix time.",
	})}
	if err := c.load(); err != nil {
		return nil, err
	}
	reg.MustRegister(c.expiry)
	return c, nil
}

func (c *certificates) load() error {
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("--xds-tls-cert, --xds-tls-key: %w", err)
	}
	pem, err := os.ReadFile(c.clientCAFile)
	if err != nil {
		return fmt.Errorf("--xds-client-ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return fmt.Errorf("--xds-client-ca: %s has no PEM certificate", c.clientCAFile)
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

// run reloads the files when they change. Broken ones are reported, and what
// was last good serves on.
func (c *certificates) run(ctx context.Context) error {
	ticker := time.NewTicker(reloadEvery)
	defer ticker.Stop()
	c.changed()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		if !c.changed() {
			continue
		}
		if err := c.load(); err != nil {
			c.log.Error("the renewed certificate is not usable; the one before stays in use", "error", err)
			continue
		}
		c.log.Info("reloaded the xDS listener's certificate")
	}
}

func (c *certificates) changed() bool {
	changed := false
	for i, name := range []string{c.certFile, c.keyFile, c.clientCAFile} {
		if info, err := os.Stat(name); err == nil && !info.ModTime().Equal(c.seen[i]) {
			c.seen[i] = info.ModTime()
			changed = true
		}
	}
	return changed
}

func (c *certificates) credentials() credentials.TransportCredentials {
	return credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"h2"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return c.current.Load(), nil
		},
	})
}

// clientRules say which certificates may be which proxies.
type clientRules struct {
	Clients []clientRule `json:"clients"`
}

// clientRule lets certificates claim namespaces and roles.
type clientRule struct {
	// Name is matched against the certificate's URI and DNS names and its
	// common name; * stands for any part without a slash.
	Name       string   `json:"name"`
	Namespaces []string `json:"namespaces"` // "*" for any
	Roles      []string `json:"roles"`      // default: sidecar
}

func loadClientRules(file string) (*clientRules, error) {
	data, err := os.ReadFile(file) //nolint:gosec // the operator's own file
	if err != nil {
		return nil, fmt.Errorf("--xds-client-rules: %w", err)
	}
	var r clientRules
	if err := yaml.UnmarshalStrict(data, &r); err != nil {
		return nil, fmt.Errorf("--xds-client-rules: %s: %w", file, err)
	}
	if len(r.Clients) == 0 {
		return nil, fmt.Errorf("--xds-client-rules: %s: clients is empty, so no proxy could connect", file)
	}
	for i, c := range r.Clients {
		if _, err := path.Match(c.Name, ""); err != nil || c.Name == "" {
			return nil, fmt.Errorf("--xds-client-rules: %s: clients[%d].name: %q is not a pattern", file, i, c.Name)
		}
		if len(c.Namespaces) == 0 {
			return nil, fmt.Errorf("--xds-client-rules: %s: clients[%d].namespaces is empty: list namespaces, or \"*\"", file, i)
		}
	}
	return &r, nil
}

var errNoCertificate = errors.New("no verified client certificate")

// authorize decides whether the peer's certificate may be the node.
func (r *clientRules) authorize(ctx context.Context, n *server.Node) error {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return errNoCertificate
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return errNoCertificate
	}
	cert := info.State.VerifiedChains[0][0]
	names := append([]string{cert.Subject.CommonName}, cert.DNSNames...)
	for _, u := range cert.URIs {
		names = append(names, u.String())
	}
	return r.check(names, n)
}

func (r *clientRules) check(names []string, n *server.Node) error {
	for _, rule := range r.Clients {
		if !matchesAny(rule.Name, names) || !contains(rule.Namespaces, n.Namespace) {
			continue
		}
		roles := rule.Roles
		if len(roles) == 0 {
			roles = []string{"sidecar"}
		}
		if contains(roles, string(n.Role)) {
			return nil
		}
	}
	return fmt.Errorf("no rule lets a certificate with the names %q be a %s of namespace %q: see --xds-client-rules", names, n.Role, n.Namespace)
}

func matchesAny(pattern string, names []string) bool {
	for _, n := range names {
		if ok, err := path.Match(pattern, n); err == nil && ok && n != "" {
			return true
		}
	}
	return false
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s || l == "*" {
			return true
		}
	}
	return false
}
