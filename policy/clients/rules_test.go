package clients

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestClientRulesRefused(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"clients: []", "clients is empty"},
		{"clients: [{uri: 'spiffe://a/b'}]", "clients[0].namespaces is empty"},
		{"clients: [{dns: '[', namespaces: [a]}]", `clients[0].dns: "[" is not a pattern`},
		{"clients: [{namespaces: [a]}]", "clients[0]: give one of uri, dns, commonName and serviceAccount"},
		{"clients: [{dns: a, uri: 'x://a', namespaces: [a]}]", "clients[0]: give only one of"},
		{"clients: [{uri: a.example.org, namespaces: [a]}]", "for a host name write dns"},
		{"clients: [{dns: 'spiffe://a/b', namespaces: [a]}]", "for a URI write uri"},
		{"clientz: []", "unknown field"},
	} {
		_, err := Parse([]byte(c.text))
		require.ErrorContains(t, err, c.want, c.text)
	}
}

// A certificate may be the proxies that a rule names and no others, and a name
// of another kind than the rule's is not the rule's.
func TestClientRules(t *testing.T) {
	rules, err := Parse([]byte(`
clients:
- {uri: "spiffe://prod/ns/web/sa/*", namespaces: [web]}
- {dns: edge.example.org, namespaces: ["*"], roles: [gateway]}
- {commonName: "host-*", namespaces: [hosts]}
- {name: "spiffe://old/ns/web/sa/*", namespaces: [old]}
- {name: old.example.org, namespaces: [old]}
`))
	require.NoError(t, err)
	const web = "spiffe://prod/ns/web/sa/php-web"
	uri := func(s ...string) Names { return Names{URIs: s} }
	dns := func(s ...string) Names { return Names{DNS: s} }
	cn := func(s string) Names { return Names{CommonName: s} }
	for _, c := range []struct {
		names     Names
		namespace string
		role      string
		identity  string // "" where it is refused
	}{
		{uri(web), "web", "sidecar", web},
		{uri("spiffe://other/x", web), "web", "sidecar", web},
		{uri(web), "payments", "sidecar", ""},
		{uri(web), "web", "gateway", ""},
		{uri(web + "/deeper"), "web", "sidecar", ""},
		{cn(web), "web", "sidecar", ""},
		{dns(web), "web", "sidecar", ""},
		{dns("edge.example.org"), "anything", "gateway", "dns:edge.example.org"},
		{cn("edge.example.org"), "anything", "gateway", ""},
		{uri("edge.example.org"), "anything", "gateway", ""},
		{dns("edge.example.org"), "anything", "sidecar", ""},
		{cn("host-1"), "hosts", "sidecar", "commonName:host-*"},
		{dns("host-1"), "hosts", "sidecar", ""},
		{uri("host-1"), "hosts", "sidecar", ""},
		{uri("spiffe://old/ns/web/sa/a"), "old", "sidecar", "spiffe://old/ns/web/sa/a"},
		{cn("spiffe://old/ns/web/sa/a"), "old", "sidecar", ""},
		{dns("spiffe://old/ns/web/sa/a"), "old", "sidecar", ""},
		{dns("old.example.org"), "old", "sidecar", "name:old.example.org"},
		{cn("old.example.org"), "old", "sidecar", "name:old.example.org"},
		{uri("old.example.org"), "old", "sidecar", ""},
		{Names{}, "web", "sidecar", ""},
	} {
		identity, err := rules.Identity(&c.names, c.role, c.namespace)
		require.Equal(t, c.identity != "", err == nil, "%+v: %v", c, err)
		require.Equal(t, c.identity, identity, "%+v", c)
	}
}
