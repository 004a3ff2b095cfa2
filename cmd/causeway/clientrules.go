package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"slices"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"sigs.k8s.io/yaml"

	"github.com/causeway-mesh/causeway/xds/server"
)

// clientRules say which certificates may be which proxies.
type clientRules struct {
	Clients []clientRule `json:"clients"`
}

// clientRule lets certificates claim namespaces and roles. One of URI, DNS and
// CommonName is given: a certificate authority that lets its clients choose one
// kind of name must not thereby let them be what another kind stands for.
type clientRule struct {
	// URI, DNS and CommonName are patterns for one of the certificate's URI names,
	// one of its DNS names, or its common name; * stands for any part without a slash.
	URI        string `json:"uri"`
	DNS        string `json:"dns"`
	CommonName string `json:"commonName"`
	// Name is the form of older files, which does not say what kind of name it
	// means. It is read as narrowly as it can be: one with a slash is a URI's,
	// another one a DNS name's or the common name's.
	Name       string   `json:"name"`
	Namespaces []string `json:"namespaces"` // "*" for any
	Roles      []string `json:"roles"`      // default: sidecar
}

// clientNames are the names of a certificate, by their kind.
type clientNames struct {
	commonName string
	dns, uris  []string
}

func namesOf(cert *x509.Certificate) clientNames {
	n := clientNames{commonName: cert.Subject.CommonName, dns: cert.DNSNames}
	for _, u := range cert.URIs {
		n.uris = append(n.uris, u.String())
	}
	return n
}

func (n *clientNames) String() string {
	var parts []string
	add := func(kind string, names ...string) {
		for _, name := range names {
			if name != "" {
				parts = append(parts, fmt.Sprintf("%s %q", kind, name))
			}
		}
	}
	add("uri", n.uris...)
	add("dns", n.dns...)
	add("commonName", n.commonName)
	if len(parts) == 0 {
		return "without any name"
	}
	return strings.Join(parts, ", ")
}

// loadedRules are the client rules of a file, which is read again when it changes.
type loadedRules struct {
	watched
	log     *slog.Logger
	current atomic.Pointer[clientRules]
}

func newClientRules(file string, log *slog.Logger) (*loadedRules, error) {
	l := &loadedRules{watched: watched{files: []string{file}}, log: log}
	if _, err := l.reload(l.load); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *loadedRules) load(content [][]byte) error {
	r, err := parseClientRules(content[0])
	if err != nil {
		return fmt.Errorf("--xds-client-rules: %s: %w", l.files[0], err)
	}
	for i := range r.Clients {
		if old := &r.Clients[i]; old.Name != "" {
			l.log.Warn("a client rule's name does not say which kind of name it means", "file", l.files[0], "rule", fmt.Sprintf("clients[%d]", i), "write", old.remedy())
		}
	}
	l.current.Store(r)
	return nil
}

// look loads the rules if they have changed, and reports whether they have.
// Broken ones are reported, and the last good ones stay.
func (l *loadedRules) look() bool {
	changed, err := l.reload(l.load)
	switch {
	case err != nil:
		l.log.Error("the changed client rules are not usable; those before stay in force, and the file is tried again", "every", reloadEvery, "error", err)
	case changed:
		l.log.Info("reloaded the client rules", "rules", len(l.current.Load().Clients))
	}
	return changed
}

func parseClientRules(data []byte) (*clientRules, error) {
	var r clientRules
	if err := yaml.UnmarshalStrict(data, &r); err != nil {
		return nil, err
	}
	if len(r.Clients) == 0 {
		return nil, errors.New("clients is empty, so no proxy could connect")
	}
	for i := range r.Clients {
		if err := r.Clients[i].validate(); err != nil {
			return nil, fmt.Errorf("clients[%d]%w", i, err)
		}
	}
	return &r, nil
}

func (c *clientRule) validate() error {
	given := 0
	for _, p := range []struct{ field, pattern string }{{"uri", c.URI}, {"dns", c.DNS}, {"commonName", c.CommonName}, {"name", c.Name}} {
		if p.pattern == "" {
			continue
		}
		given++
		if _, err := path.Match(p.pattern, ""); err != nil {
			return fmt.Errorf(".%s: %q is not a pattern: close each [ with a ]", p.field, p.pattern)
		}
	}
	switch {
	case given == 0:
		return errors.New(": give one of uri, dns and commonName, for example uri: spiffe://example.org/ns/web/sa/*")
	case given > 1:
		return errors.New(": give only one of uri, dns and commonName, and a rule of its own for each other name")
	case c.URI != "" && !strings.Contains(c.URI, ":"):
		return fmt.Errorf(".uri: %q has no scheme, for example spiffe://; for a host name write dns", c.URI)
	case c.DNS != "" && strings.Contains(c.DNS, "/"):
		return fmt.Errorf(".dns: %q is no host name; for a URI write uri", c.DNS)
	case len(c.Namespaces) == 0:
		return errors.New(`.namespaces is empty: list namespaces, or "*"`)
	}
	return nil
}

// remedy is how the old form of a rule is to be written.
func (c *clientRule) remedy() string {
	if strings.Contains(c.Name, "/") {
		return "uri: " + c.Name
	}
	return fmt.Sprintf("dns: %s, or commonName: %s where the certificates have only that", c.Name, c.Name)
}

// match returns by which identity a rule knows a certificate. A URI is a workload's,
// and its replicas share it. Host names and common names are often
// one machine's; there, the rule is what its clients have in common.
func (c *clientRule) match(n *clientNames) (identity string, ok bool) {
	uri := c.URI
	if strings.Contains(c.Name, "/") {
		uri = c.Name
	}
	switch {
	case uri != "":
		i := slices.IndexFunc(n.uris, func(name string) bool { return matches(uri, name) })
		if i < 0 {
			return "", false
		}
		return n.uris[i], true
	case c.DNS != "":
		return "dns:" + c.DNS, matchesAny(c.DNS, n.dns)
	case c.CommonName != "":
		return "commonName:" + c.CommonName, matches(c.CommonName, n.commonName)
	}
	return "name:" + c.Name, matchesAny(c.Name, n.dns) || matches(c.Name, n.commonName)
}

var errNoCertificate = errors.New("no verified client certificate")

// authorize decides whether the peer's certificate may be the node.
func (l *loadedRules) authorize(ctx context.Context, n *server.Node) error {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return errNoCertificate
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return errNoCertificate
	}
	names := namesOf(info.State.VerifiedChains[0][0])
	return l.current.Load().check(&names, n)
}

func (r *clientRules) check(names *clientNames, n *server.Node) error {
	for i := range r.Clients {
		rule := &r.Clients[i]
		identity, ok := rule.match(names)
		if !ok || !contains(rule.Namespaces, n.Namespace) {
			continue
		}
		roles := rule.Roles
		if len(roles) == 0 {
			roles = []string{"sidecar"}
		}
		if contains(roles, string(n.Role)) {
			n.Identity = identity
			return nil
		}
	}
	return fmt.Errorf("no rule lets a certificate (%s) be a %s of namespace %q: see --xds-client-rules", names, n.Role, n.Namespace)
}

func matches(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return err == nil && ok && name != ""
}

func matchesAny(pattern string, names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return matches(pattern, name) })
}

func contains(list []string, s string) bool {
	return slices.ContainsFunc(list, func(l string) bool { return l == s || l == "*" })
}
