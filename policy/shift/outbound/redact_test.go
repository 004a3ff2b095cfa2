package outbound

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"html"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRedact(t *testing.T) {
	t.Parallel()
	credentials := map[string][]byte{"token": []byte("s3cret\n"), "api-key": []byte("s3cret-and-more"), "username": []byte("causeway"), "pin": []byte("12")}
	require.Equal(t, "causeway: [redacted], [redacted] 12 in line",
		Redact("causeway: s3cret-and-more, s3cret\n12 \x1b in\tline", credentials))
	long := Redact(strings.Repeat("ä", 1000), nil)
	require.LessOrEqual(t, len(long), 404)
	require.True(t, strings.HasSuffix(long, "ä ..."))
	require.Equal(t, "the query is not valid: syntax error at line 1", Redact("the query is not valid: syntax error at line 1", credentials))
	require.Equal(t, "denied for [redacted]", Redact("denied for abcde", map[string][]byte{"token": []byte("abcdefghijklmnop")}), "cut at the end")
}

// An address that is a secret is told by its host alone.
func TestRedactAddress(t *testing.T) {
	t.Parallel()
	credentials := map[string][]byte{"url": []byte("https://hooks.example.com/services/T0001/B0002/abcdefghijkl?k=mnopqrst")}
	require.Equal(t, "hooks.example.com refuses [redacted]", Redact("hooks.example.com refuses services/T0001/B0002/abcdefghijkl?k=mnopqrst", credentials))
	require.Equal(t, "no [redacted] here", Redact("no /B0002/abcdefghij here", credentials))
}

// However a server encodes what it echoes, and wherever it cuts that, no eight bytes of a secret in a row are told.
func TestRedactEncodedAndCut(t *testing.T) {
	t.Parallel()
	escape := regexp.MustCompile(`%[0-9A-F]{2}`)
	quote := func(escapeHTML bool) func(string) string {
		return func(s string) string {
			var out bytes.Buffer
			e := json.NewEncoder(&out)
			e.SetEscapeHTML(escapeHTML)
			_ = e.Encode(s) // a string always has a JSON form
			return strings.TrimSpace(out.String())
		}
	}
	encodings := map[string]func(string) string{
		"plain":         func(s string) string { return s },
		"query":         url.QueryEscape,
		"path":          url.PathEscape,
		"component":     func(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") },
		"lower digits":  func(s string) string { return escape.ReplaceAllStringFunc(url.QueryEscape(s), strings.ToLower) },
		"JSON":          quote(true),
		"JSON, <":       quote(false),
		"JSON of PHP":   func(s string) string { return strings.ReplaceAll(strconv.QuoteToASCII(s), "/", `\/`) },
		"JSON in ASCII": strconv.QuoteToASCII,
		"HTML":          html.EscapeString,
		"hex":           func(s string) string { return hex.EncodeToString([]byte(s)) },
		"HEX":           func(s string) string { return strings.ToUpper(hex.EncodeToString([]byte(s))) },
		"base64":        func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
		"base64 of URL": func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) },
		"in base64":     func(s string) string { return base64.StdEncoding.EncodeToString([]byte("Bearer " + s)) },
		"basic":         func(s string) string { return base64.StdEncoding.EncodeToString([]byte("causeway:" + s)) },
	}
	for _, secret := range []string{
		"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYXVzZXdheSJ9.dBjftJeZ4CVP", "glsa_w3+Q/Zk=9aB&c%dEfG-h_iJ", `p"a<s>s\w/o&r'd with é and 12`,
		"0123456789abcdef0123456789abcdef",
	} {
		credentials := map[string][]byte{"token": []byte(secret), "username": []byte("causeway")}
		for name, encode := range encodings {
			whole := encode(secret)
			first := map[string]int{"in base64": 12, "basic": 14}[name] // what stands before is no secret
			for from := first; from < len(whole)-telling; from++ {
				for _, to := range []int{len(whole), from + (len(whole)-from)/2} {
					echo := whole[from:to]
					if len(echo) < 2*telling {
						continue
					}
					got := Redact("denied for "+echo+" by policy", credentials)
					for i := range len(echo) - telling + 1 {
						if strings.Contains(got, echo[i:i+telling]) {
							t.Fatalf("%s of %q from %d to %d: %s is told: %s", name, secret, from, to, echo[i:i+telling], got)
						}
					}
					if !strings.HasPrefix(got, "denied for") || !strings.HasSuffix(got, "by policy") {
						t.Fatalf("%s of %q: %s", name, secret, got)
					}
				}
			}
		}
	}
}
