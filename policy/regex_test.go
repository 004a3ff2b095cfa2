package policy

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/test/harness"
)

func TestCheckRegex(t *testing.T) {
	for _, pattern := range []string{
		".*", "/users/[0-9]+", `[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}`, "(?i)abc", `\Qa.b\E`, `\x41\x{7f}`, `(?P<n>a)`, `(?<n>a)`, `\d\w\s\b`,
		"[[:alpha:]]", "(a|b|)", "a??", "^/a$", strings.Repeat("a", 1000), `[^a]{400}`, "\\\\p", `\\x{fff}`,
	} {
		require.Empty(t, checkRegex(pattern), pattern)
	}
	for pattern, why := range map[string]string{
		"": "empty", "[": "missing closing", "a{1001}": "invalid repeat", "(a{50}){50}": "invalid repeat", "(?=a)": "invalid", "a**": "repetition",
		`\p{Greek}`: "Unicode", `[\PL]`: "Unicode", "ü": "printable", "a\n": "printable", `\x{100}`: "not ASCII", `\xe9`: "not ASCII", `\C`: "invalid escape",
		"[a-z0-9_-]{900}": "instructions", `\Z`: "invalid escape",
	} {
		require.Contains(t, checkRegex(pattern), why, pattern)
	}
}

// What is allowed here must be taken by Envoy with the limit that the product
// states, and the size that is reckoned must not be below Envoy's.
func TestEnvoyTakesEveryAllowedRegex(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 7))
	var allowed []string
	for len(allowed) < 400 {
		if pattern := randomRegex(rnd, 0); len(pattern) <= 1024 && checkRegex(pattern) == "" {
			allowed = append(allowed, pattern)
		}
	}
	allowed = append(allowed, `[^a]{400}`, strings.Repeat("(a|b)", 120), strings.Repeat("(a?b*)+", 100), `\w{450}`, `((a|bc|def){10}x?){10}`)
	require.NoError(t, harness.CheckEnvoyConfig(regexBootstrap(allowed)))
	require.Error(t, harness.CheckEnvoyConfig(regexBootstrap([]string{`[a-z0-9_-]{900}`})), "the limit is in force")
}

// regexBootstrap returns a bootstrap with a route for each expression.
func regexBootstrap(patterns []string) []byte {
	var b strings.Builder
	b.WriteString(`static_resources:
  listeners:
  - name: l
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: l
          http_filters: [{name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]
          route_config:
            virtual_hosts:
            - name: v
              domains: ["*"]
              routes:
`)
	for _, p := range patterns {
		fmt.Fprintf(&b, "              - {match: {safe_regex: {regex: %q, google_re2: {max_program_size: %d}}}, direct_response: {status: 200}}\n", p, MaxRegexProgram)
	}
	return []byte(b.String())
}

func randomRegex(rnd *rand.Rand, depth int) string {
	atoms := []string{"a", "b", "/", ".", "[a-z]", "[^/]", `\d`, `\w`, `\.`, "[[:alnum:]]", `\x41`, "[A-Z_0-9-]", "^", "$", `\b`, "(?i:k)", "(?s:.)", `\Q+\E`}
	if depth > 4 {
		return atoms[rnd.IntN(len(atoms))]
	}
	switch rnd.IntN(7) {
	case 0:
		return "(" + randomRegex(rnd, depth+1) + ")"
	case 1:
		return randomRegex(rnd, depth+1) + "|" + randomRegex(rnd, depth+1)
	case 2:
		return "(?:" + randomRegex(rnd, depth+1) + ")" + []string{"*", "+", "?", "*?", "{2}", "{1,5}", "{20}", "{3,}", "{0,7}"}[rnd.IntN(9)]
	case 3, 4:
		return randomRegex(rnd, depth+1) + randomRegex(rnd, depth+1)
	}
	return atoms[rnd.IntN(len(atoms))]
}
