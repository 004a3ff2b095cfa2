package compile_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/test/harness"
)

// What policy allows must be taken by an Envoy whose matcher states the
// limit, and the size that is reckoned must not be far below Envoy's.
func TestEnvoyTakesEveryAllowedRegex(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 7))
	allowed := []string{`[^a]{900}`, `\w{600}`, strings.Repeat("a", 1900), "(a*)*|(b+)+|(c?)?", strings.Repeat("(a|b)", 120), strings.Repeat("(a?b*)+", 100)}
	for len(allowed) < 500 {
		if pattern := randomRegex(rnd, 0); policy.CheckRegex(pattern) == "" {
			allowed = append(allowed, pattern)
		}
	}
	stated := func(string) int { return policy.MaxRegexProgram }
	require.Empty(t, refusal(regexBootstrap(allowed, stated)))
	require.Contains(t, refusal(regexBootstrap([]string{strings.Repeat(`[^a]{999}`, 6)}, stated)), "program size of", "the limit is in force")
	require.Empty(t, refusal(regexBootstrap(allowed, func(pattern string) int {
		size, ok := policy.RegexSize(pattern)
		require.True(t, ok, pattern)
		return size * 3 / 2
	})))
}

// refusal returns the last thing that Envoy says of a bootstrap that it would
// not start with: before it come thousands of warnings.
func refusal(bootstrap []byte) string {
	err := harness.CheckEnvoyConfig(bootstrap)
	if err == nil {
		return ""
	}
	lines := strings.Split(err.Error(), "\n")
	return lines[len(lines)-1]
}

// regexBootstrap returns a bootstrap with a route for each expression, and the
// size that it may have.
func regexBootstrap(patterns []string, size func(pattern string) int) []byte {
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
		fmt.Fprintf(&b, "              - {match: {safe_regex: {regex: %q, google_re2: {max_program_size: %d}}}, direct_response: {status: 200}}\n", p, size(p))
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
