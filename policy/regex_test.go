package policy

import (
	"strings"
	"testing"
)

func TestCheckRegex(t *testing.T) {
	for _, pattern := range []string{
		".*", "/users/[0-9]+", `[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}`, "/v4/advisory/[0-9a-z-]+/clone", "(?i)abc", `\Qa.b\E`, `\x41\x{7f}`, `(?P<n>a)`, `(?<n>a)`, `\d\w\s\b`,
		"[[:alpha:]]", "(a|b|)", "a??", "^/a$", strings.Repeat("a", 1900), `[^a]{900}`, "\\\\p", `\\x{fff}`,
	} {
		empty(t, CheckRegex(pattern), pattern)
	}
	for pattern, why := range map[string]string{
		"": "empty", "[": "missing closing", "a{1001}": "invalid repeat", "(a{50}){50}": "invalid repeat", "(?=a)": "invalid", "a**": "repetition",
		`\p{Greek}`: "Unicode", `[\PL]`: "Unicode", "ü": "printable", "a\n": "printable", `\x{100}`: "not ASCII", `\xe9`: "not ASCII", `\C`: "invalid escape",
		"[0-9a-z-]{900}": "instructions", `\Z`: "invalid escape",
	} {
		contains(t, CheckRegex(pattern), why, pattern)
	}
}
