package policy

import (
	"net/netip"
	"regexp"
	"strings"
)

var (
	methodPattern = regexp.MustCompile(`^[A-Z]{1,32}$`)
	tokenPattern  = regexp.MustCompile(`^[A-Za-z0-9!#$%&'*+\-.^_|~]{1,256}$`)
	dnsPattern    = regexp.MustCompile(`^(\*\.)?[A-Za-z0-9_]([-A-Za-z0-9_]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([-A-Za-z0-9_]*[A-Za-z0-9_])?)*$`)
)

// Printable reports whether a text is visible ASCII, as header values and paths are.
func Printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// IsCertificateName reports whether s can be a certificate's DNS name or IP address.
func IsCertificateName(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	return len(s) <= 253 && dnsPattern.MatchString(s)
}

// IsURI reports whether s can be a certificate's URI.
func IsURI(s string) bool {
	scheme, rest, ok := strings.Cut(s, "://")
	return ok && scheme != "" && rest != "" && Printable(s)
}
