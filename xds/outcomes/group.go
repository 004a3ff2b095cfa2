package outcomes

import (
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
)

// Bounds of the name of a group of paths.
const (
	maxDepth   = 3
	maxSegment = 40
	variable   = "*"
	// deeper ends the name of a group of paths that go on.
	deeper = "/**"
)

// groupOf returns the group that a path belongs to by its looks: without its query, no deeper
// than three segments, and with "*" for each one that looks like an id, a number or a hash. It
// allocates nothing for a path that is its own group.
func groupOf(path string) string {
	if i := strings.IndexAny(path, "?#;"); i >= 0 {
		path = path[:i]
	}
	if !strings.HasPrefix(path, "/") {
		// OPTIONS *, or a target that is no path.
		return "/" + variable
	}
	if len(path) > 1 {
		if path = strings.TrimRight(path, "/"); path == "" {
			return "/"
		}
	}
	same, depth := true, 0
	for at := 1; at <= len(path); {
		end := at + segmentEnd(path[at:])
		if depth++; depth > maxDepth || nameOf(path[at:end]) != path[at:end] {
			same = false
			break
		}
		at = end + 1
	}
	if same {
		return path
	}
	var b strings.Builder
	depth = 0
	for at := 1; at <= len(path); {
		end := at + segmentEnd(path[at:])
		if depth++; depth > maxDepth {
			b.WriteString(deeper)
			break
		}
		b.WriteByte('/')
		b.WriteString(nameOf(path[at:end]))
		at = end + 1
	}
	return b.String()
}

// groupFor returns the group of a request: its path's, after the method of one that changes something. A form that
// can be seen and not sent is a small part of what its path is asked for.
func groupFor(r *accesslogv3.HTTPRequestProperties) string {
	group := groupOf(askedFor(r))
	switch m := r.GetRequestMethod(); m {
	case corev3.RequestMethod_POST, corev3.RequestMethod_PUT, corev3.RequestMethod_PATCH, corev3.RequestMethod_DELETE:
		return m.String() + " " + group
	}
	return group
}

func segmentEnd(s string) int {
	if i := strings.IndexByte(s, '/'); i >= 0 {
		return i
	}
	return len(s)
}

// nameOf returns a segment, or what stands for those that differ from request to request. The end of a
// file's name says what it is, and stays.
func nameOf(segment string) string {
	if !variesBy(segment) {
		return segment
	}
	dot := strings.LastIndexByte(segment, '.')
	if dot < 0 || len(segment)-dot > 6 || len(segment)-dot < 2 {
		return variable
	}
	for i := dot + 1; i < len(segment); i++ {
		if !letter(segment[i]) {
			return variable
		}
	}
	return variable + segment[dot:]
}

func letter(c byte) bool  { return c|0x20 >= 'a' && c|0x20 <= 'z' }
func digit(c byte) bool   { return c >= '0' && c <= '9' }
func hexChar(c byte) bool { return digit(c) || c|0x20 >= 'a' && c|0x20 <= 'f' }

// variesBy reports whether a segment looks like one of very many: a number, a UUID, a hash, a token, a
// date, something escaped. Versions ("v2", "oauth2") are names.
func variesBy(segment string) bool {
	if len(segment) > maxSegment {
		return true
	}
	digits, letters, upper, hex := 0, 0, 0, 0
	for i := range len(segment) {
		switch c := segment[i]; {
		case digit(c):
			digits++
		case letter(c):
			letters++
			if c < 'a' {
				upper++
			}
		case c == '.' || c == '-' || c == '_' || c == '~' || c == '@' || c == '$' || c == ':' || c == '+' || c == ',':
		default:
			return true // escaped, or what no path of an application has in its name
		}
		if hexChar(segment[i]) {
			hex++
		}
	}
	switch {
	case digits > 0 && letters == 0, digits >= 3:
		return true
	case digits > 0 && hex >= 8 && hex*10 >= len(segment)*9:
		return true // a short hash
	}
	// A token: long, in both cases, and not as words are written.
	return len(segment) >= 20 && upper >= 4 && letters-upper >= 4 && digits > 0
}
