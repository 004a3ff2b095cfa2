// Package clients says which certificates and which pods' service accounts may be which proxies.
//
// It is pure: it reads no file, and checks no certificate and no token.
package clients

import (
	"crypto/x509"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Rules say which certificates and service accounts may be which proxies. The first that fits counts.
type Rules struct {
	Clients []Rule `json:"clients"`
}

// Rule lets certificates, or pods by their service account, claim namespaces and roles. One of URI, DNS,
// CommonName and ServiceAccount is given: a certificate authority that lets its clients choose one
// kind of name must not thereby let them be what another kind stands for.
type Rule struct {
	// URI, DNS and CommonName are patterns for one of the certificate's URI names,
	// one of its DNS names, or its common name; * stands for any part without a slash.
	URI        string `json:"uri"`
	DNS        string `json:"dns"`
	CommonName string `json:"commonName"`
	// ServiceAccount is a pattern, NAMESPACE/NAME, for the service account of a pod that proves itself
	// by its token. No certificate satisfies it.
	ServiceAccount string `json:"serviceAccount"`
	// Name is the form of older files, which does not say what kind of name it
	// means. It is read as narrowly as it can be: one with a slash is a URI's,
	// another one a DNS name's or the common name's.
	Name       string   `json:"name"`
	Namespaces []string `json:"namespaces"` // "*" for any
	Roles      []string `json:"roles"`      // default: sidecar
}

// Names are the names of a certificate, by their kind.
type Names struct {
	CommonName string
	DNS, URIs  []string
}

// NamesOf returns the names of a certificate.
func NamesOf(cert *x509.Certificate) Names {
	n := Names{CommonName: cert.Subject.CommonName, DNS: cert.DNSNames}
	for _, u := range cert.URIs {
		n.URIs = append(n.URIs, u.String())
	}
	return n
}

func (n *Names) String() string {
	var parts []string
	add := func(kind string, names ...string) {
		for _, name := range names {
			if name != "" {
				parts = append(parts, fmt.Sprintf("%s %q", kind, name))
			}
		}
	}
	add("uri", n.URIs...)
	add("dns", n.DNS...)
	add("commonName", n.CommonName)
	if len(parts) == 0 {
		return "without any name"
	}
	return strings.Join(parts, ", ")
}

// Parse reads the rules of a file.
func Parse(data []byte) (*Rules, error) {
	var r Rules
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

func (c *Rule) validate() error {
	given := 0
	for _, p := range []struct{ field, pattern string }{{"uri", c.URI}, {"dns", c.DNS}, {"commonName", c.CommonName}, {"serviceAccount", c.ServiceAccount}, {"name", c.Name}} {
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
		return errors.New(": give one of uri, dns, commonName and serviceAccount, for example uri: spiffe://example.org/ns/web/sa/*")
	case given > 1:
		return errors.New(": give only one of uri, dns, commonName and serviceAccount, and a rule of its own for each other name")
	case c.URI != "" && !strings.Contains(c.URI, ":"):
		return fmt.Errorf(".uri: %q has no scheme, for example spiffe://; for a host name write dns", c.URI)
	case c.DNS != "" && strings.Contains(c.DNS, "/"):
		return fmt.Errorf(".dns: %q is no host name; for a URI write uri", c.DNS)
	case c.ServiceAccount != "" && strings.Count(c.ServiceAccount, "/") != 1:
		return fmt.Errorf(".serviceAccount: %q is not NAMESPACE/NAME: write, for example, web/php-web", c.ServiceAccount)
	case len(c.Namespaces) == 0:
		return errors.New(`.namespaces is empty: list namespaces, or "*"`)
	}
	return nil
}

// Remedy is how the old form of a rule is to be written.
func (c *Rule) Remedy() string {
	if strings.Contains(c.Name, "/") {
		return "uri: " + c.Name
	}
	return fmt.Sprintf("dns: %s, or commonName: %s where the certificates have only that", c.Name, c.Name)
}

// match returns by which identity a rule knows a certificate. A URI is a workload's,
// and its replicas share it. Host names and common names are often
// one machine's; there, the rule is what its clients have in common.
func (c *Rule) match(n *Names) (identity string, ok bool) {
	uri := c.URI
	if strings.Contains(c.Name, "/") {
		uri = c.Name
	}
	switch {
	case uri != "":
		i := slices.IndexFunc(n.URIs, func(name string) bool { return matches(uri, name) })
		if i < 0 {
			return "", false
		}
		return n.URIs[i], true
	case c.DNS != "":
		return "dns:" + c.DNS, matchesAny(c.DNS, n.DNS)
	case c.CommonName != "":
		return "commonName:" + c.CommonName, matches(c.CommonName, n.CommonName)
	case c.ServiceAccount != "":
		return "", false
	}
	return "name:" + c.Name, matchesAny(c.Name, n.DNS) || matches(c.Name, n.CommonName)
}

// Identity returns by which identity a certificate with these names is a proxy of a role
// in a namespace, or an error if no rule lets it be one.
func (r *Rules) Identity(names *Names, role, namespace string) (string, error) {
	for i := range r.Clients {
		rule := &r.Clients[i]
		identity, ok := rule.match(names)
		if ok && rule.lets(role, namespace) {
			return identity, nil
		}
	}
	return "", fmt.Errorf("no rule lets a certificate (%s) be a %s of namespace %q: see --xds-client-rules", names, role, namespace)
}

// lets reports whether a rule is about a role and a namespace.
func (c *Rule) lets(role, namespace string) bool {
	roles := c.Roles
	if len(roles) == 0 {
		roles = []string{"sidecar"}
	}
	return contains(c.Namespaces, namespace) && contains(roles, role)
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
