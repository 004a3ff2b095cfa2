package routing

import (
	"strings"
)

// IsRouteHostname reports whether a name is a Hostname of the Gateway API: exact
// or beginning with "*.", in lower case, and no IP address.
func IsRouteHostname(name string) bool {
	rest, wildcard := strings.CutPrefix(name, "*.")
	last := rest[strings.LastIndexByte(rest, '.')+1:]
	// A top-level domain is never a number (RFC 3696, section 2): this is an address.
	numeric := last != "" && strings.Trim(last, "0123456789") == ""
	return isDNSName(rest) && (wildcard || !numeric)
}

// isDNSName reports whether a string is a name of RFC 1123, section 2.1, in lower case.
func isDNSName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if c := label[i]; c != '-' && (!isAlphanumeric(c) || c >= 'A' && c <= 'Z') {
				return false
			}
		}
	}
	return true
}
