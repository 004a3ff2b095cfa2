package explain

import (
	"fmt"
	"slices"
	"strings"
)

// admit does with a request what an edge proxy does before it looks for a
// route: what two readers could understand in two ways is refused, and the path
// is brought into its normal form (RFC 3986, section 6.2.2), so that nobody goes
// round a rule by another spelling. It reports whether the request goes on.
func (e *evaluation) admit() bool {
	// PHP cannot tell an underscore from a hyphen, so nobody is to see such a header.
	e.req.Headers = slices.DeleteFunc(slices.Clone(e.req.Headers), func(h Header) bool { return strings.Contains(h.Name, "_") })
	if e.req.Method == methodConnect {
		return true // it has no path
	}
	path, query, hasQuery := strings.Cut(e.req.Path, "?")
	if strings.Contains(path, "%00") {
		e.req.Path = unescapeSlashes(path) // as far as the proxy comes
		e.out.Answer = e.answer(400, "the path has an escaped NUL (%00)")
		return false
	}
	plain := unescapeSlashes(path)
	redirected := plain != path
	plain = mergeSlashes(normalPath(plain))
	if hasQuery {
		plain += "?" + query
	}
	e.req.Path = plain
	if !redirected {
		return true
	}
	if isGRPC(&e.req) {
		e.out.Answer = e.answer(400, "the path has an escaped slash, and who speaks gRPC cannot be redirected")
		return false
	}
	e.out.Answer = e.answer(307, "the path has an escaped slash: the client is sent to the path without")
	e.out.Answer.Location = plain
	return false
}

// escaped are the characters that a proxy at the edge percent-encodes in paths.
const escaped = "\"<>^`{|}"

// normalPath resolves dots and backslashes, decodes what needs no escape and
// escapes what has to be.
func normalPath(path string) string {
	path = withoutDotParameters(path)
	var decoded strings.Builder
	var bare []int // where a % stands that escapes nothing
	for i := 0; i < len(path); i++ {
		c := path[i]
		switch {
		case c == '\\':
			decoded.WriteByte('/')
		case c == '%' && i+2 < len(path) && isHex(path[i+1]) && isHex(path[i+2]):
			if b := unhex(path[i+1])<<4 | unhex(path[i+2]); isUnreserved(b) {
				decoded.WriteByte(b)
			} else {
				decoded.WriteString(path[i : i+3])
			}
			i += 2
		case c == '%':
			bare = append(bare, decoded.Len())
			decoded.WriteByte(c)
		case strings.IndexByte(escaped, c) >= 0 || c >= 0x80: // the latter comes by HTTP/2 alone
			fmt.Fprintf(&decoded, "%%%02X", c)
		default:
			decoded.WriteByte(c)
		}
	}
	var out []string
	text := decoded.String()
	for _, at := range slices.Backward(bare) {
		// The next characters have become an escape by decoding alone.
		if at+2 < len(text) && isHex(text[at+1]) && isHex(text[at+2]) {
			text = text[:at+1] + "25" + text[at+1:]
		}
	}
	elements := strings.Split(text[1:], "/")
	for i, element := range elements {
		last := i == len(elements)-1
		switch element {
		case ".":
			if last {
				out = append(out, "")
			}
		case "..":
			if len(out) > 0 {
				out = out[:len(out)-1]
			}
			if last {
				out = append(out, "")
			}
		default:
			out = append(out, element)
		}
	}
	return "/" + strings.Join(out, "/")
}

// withoutDotParameters takes the parameters (;x) off elements that are dots as they
// are written, so that they do not hide what the dots mean.
func withoutDotParameters(path string) string {
	elements := strings.Split(path, "/")
	for i, element := range elements {
		if name, _, _ := strings.Cut(element, ";"); name == "." || name == ".." {
			elements[i] = name
		}
	}
	return strings.Join(elements, "/")
}

// mergeSlashes replaces several slashes in a row by one. In a path of nothing
// but slashes the proxy keeps two, the first and the last.
func mergeSlashes(path string) string {
	if strings.Trim(path, "/") == "" && path != "/" {
		return "//"
	}
	for strings.Contains(path, "//") {
		path = strings.ReplaceAll(path, "//", "/")
	}
	return path
}

// unescapeSlashes decodes the slashes of both kinds that are escaped.
func unescapeSlashes(path string) string {
	return strings.NewReplacer("%2F", "/", "%2f", "/", "%5C", `\`, "%5c", `\`).Replace(path)
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	}
	return c - 'a' + 10
}

func isUnreserved(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || strings.IndexByte("-._~", c) >= 0
}
