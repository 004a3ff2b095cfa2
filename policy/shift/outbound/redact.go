package outbound

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"html"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// shortestSecret is the length of a value that may stand in any text.
	shortestSecret = 4
	// telling is the length from which a part of a secret is redacted, wherever in it
	// the part is from: a server may shorten its echo.
	telling = 8
	// longestText of what Redact returns, in bytes.
	longestText = 400
	redacted    = "[redacted]"
)

// Redact returns a text in one line of at most 400 bytes, without the values of
// credentials that a server or a library may have put into it: whole or in
// part, as they are or encoded for URLs, JSON, HTML or in base64 or hexadecimal digits.
func Redact(text string, credentials map[string][]byte) string {
	text = redact(text, secretsOf(credentials))
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r)
	}), " ")
	if len(text) > longestText {
		cut := longestText
		for cut > 0 && !utf8.RuneStart(text[cut]) {
			cut--
		}
		text = text[:cut] + " ..."
	}
	return text
}

// secretsOf returns the secret texts of credentials, in every form in which they may be echoed.
func secretsOf(credentials map[string][]byte) []string {
	forms := make(map[string]struct{})
	user := strings.TrimSpace(string(credentials["username"]))
	for key, value := range credentials {
		v := strings.TrimSpace(string(value))
		// A user's name is no secret, and short values stand in any text.
		if key == "username" || len(v) < shortestSecret {
			continue
		}
		parts := []string{v}
		if u, err := url.Parse(v); err == nil && u.Scheme != "" && u.Host != "" {
			// The host of an address is told; what follows it is the secret.
			parts = []string{strings.TrimPrefix(u.RequestURI(), "/"), u.Fragment, u.User.String()}
			if unescaped, err := url.PathUnescape(parts[0]); err == nil {
				parts = append(parts, unescaped)
			}
		}
		for _, part := range parts {
			if len(part) >= shortestSecret {
				addForms(forms, part)
			}
		}
		if user != "" {
			addBase64(forms, user+":"+v)
		}
	}
	out := make([]string, 0, len(forms))
	for f := range forms {
		out = append(out, f)
	}
	slices.Sort(out)
	return out
}

// upperEscape is an escaped byte of a URL as Go writes it; others use lower-case digits.
var upperEscape = regexp.MustCompile(`%[0-9A-F]{2}`)

func addForms(forms map[string]struct{}, secret string) {
	inJSON, _ := json.Marshal(secret) // a string always has a JSON form
	query := url.QueryEscape(secret)
	for _, form := range []string{
		secret, html.EscapeString(secret), hex.EncodeToString([]byte(secret)), strings.ToUpper(hex.EncodeToString([]byte(secret))),
		query, strings.ReplaceAll(query, "+", "%20"), url.PathEscape(secret),
		unquoted(string(inJSON)), unquoted(strconv.Quote(secret)), unquoted(strconv.QuoteToASCII(secret)),
	} {
		forms[form] = struct{}{}
		forms[upperEscape.ReplaceAllStringFunc(form, strings.ToLower)] = struct{}{}
		forms[strings.ReplaceAll(form, "/", `\/`)] = struct{}{} // as PHP writes JSON
	}
	addBase64(forms, secret)
}

// unquoted returns what stands between quotation marks.
func unquoted(s string) string { return strings.TrimSuffix(strings.TrimPrefix(s, `"`), `"`) }

// addBase64 adds the base64 forms of a text, one for each position at which it
// can begin in the encoded data.
func addBase64(forms map[string]struct{}, secret string) {
	for before := range 3 {
		encoded := base64.RawStdEncoding.EncodeToString(append(make([]byte, before), secret...))
		encoded = encoded[(before*8+5)/6:] // without the digits that depend on what stands before
		if (before+len(secret))%3 != 0 {
			encoded = encoded[:len(encoded)-1] // and behind
		}
		if len(encoded) < shortestSecret {
			continue
		}
		forms[encoded] = struct{}{}
		forms[strings.NewReplacer("+", "-", "/", "_").Replace(encoded)] = struct{}{}
		forms[url.QueryEscape(encoded)] = struct{}{}
	}
}

// redact replaces every piece of a secret that is long enough to tell, and a
// beginning of one at the text's end, where it was cut.
func redact(text string, secrets []string) string {
	hidden := make([]bool, len(text))
	hide := func(from, to int) {
		for i := from; i < to; i++ {
			hidden[i] = true
		}
	}
	pieces := make(map[string]struct{})
	sizes := make(map[int]struct{})
	for _, s := range secrets {
		size := min(telling, len(s))
		sizes[size] = struct{}{}
		for i := range len(s) - size + 1 {
			pieces[s[i:i+size]] = struct{}{}
		}
		for n := min(telling-1, len(s)); n >= shortestSecret; n-- {
			if strings.HasSuffix(text, s[:n]) {
				hide(len(text)-n, len(text))
				break
			}
		}
	}
	for size := range sizes {
		for i := range len(text) - size + 1 {
			if _, ok := pieces[text[i:i+size]]; ok {
				hide(i, i+size)
			}
		}
	}
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case !hidden[i]:
			out.WriteByte(text[i])
		case i == 0 || !hidden[i-1]:
			out.WriteString(redacted)
		}
	}
	return out.String()
}
