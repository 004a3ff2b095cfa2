package policy

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// side is where a section acts.
type side uint8

const (
	// requests is the route that a request takes.
	requests side = 1 << iota
	// clusters is the target's clusters.
	clusters
)

// section is a section of a TrafficPolicy, or that part of one which acts on
// one side. The parts are effective independently: a rule's time limit does
// not take away the connect timeout that is stated for its Service.
type section struct {
	// name is the field's path below spec, and the key in Settings.From.
	name string
	// in is the section of the API that it belongs to: an invalid one has no effect at all.
	in   string
	side side
	// http is true for what means nothing on a port that is not HTTP.
	http bool
	has  func(*settings) bool
	take func(to, from *settings)
}

type settings = v1alpha1.TrafficSettings

// sections in the order of the API. Each is defined with what it means, in the file of its name.
var sections = []section{
	connectTimeoutSection, streamAgeSection, timeoutSection,
	retryBudgetSection, retrySection,
	connectionPoolSection, outlierDetectionSection, healthCheckSection,
	loadBalancerSection, hashSection, localitySection,
	sessionPersistenceSection, faultSection, proxyProtocolSection, tlsSection,
}

// edit returns what p points to, made if there is nothing yet.
func edit[T any](p **T) *T {
	if *p == nil {
		*p = new(T)
	}
	return *p
}

// longest is the longest time that may be stated: Envoy's clock and protobuf
// take more, but nobody means it.
const longest = 366 * 24 * time.Hour

// mistake is why a section has no effect.
type mistake struct {
	// in is the section's name.
	in string
	v1alpha1.FieldError
}

// mistakes returns what is wrong in sections of a policy, in the order of the
// API. It is what the CRD's schema says and what Envoy would refuse, for
// objects that no API server has seen and fields that a schema cannot judge.
func mistakes(s *v1alpha1.TrafficSettings) []mistake {
	c := checker{}
	for _, section := range []struct {
		name  string
		check func(*checker, *settings)
	}{
		{"timeout", checkTimeout},
		{"retry", checkRetry},
		{"connectionPool", checkConnectionPool},
		{"outlierDetection", checkOutlierDetection},
		{"healthCheck", checkHealthCheck},
		{"loadBalancer", checkLoadBalancer},
		{"locality", checkLocality},
		{"fault", checkFault},
		{"proxyProtocol", checkProxyProtocol},
		{"tls", checkUpstreamTLS},
	} {
		c.in = section.name
		section.check(&c, s)
	}
	return c.found
}

const maxInt32 = 1<<31 - 1

// checker gathers mistakes of the section that it is in.
type checker struct {
	in    string
	found []mistake
}

func (c *checker) bad(field, message, remedy string) {
	c.found = append(c.found, mistake{c.in, v1alpha1.FieldError{Field: "spec." + field, Message: message, Remedy: remedy}})
}

func (c *checker) duration(field string, d *metav1.Duration, least, most time.Duration, zero bool) {
	if d == nil || (zero && d.Duration == 0) || (d.Duration >= least && d.Duration <= most) {
		return
	}
	remedy := fmt.Sprintf("write %s to %s", plain(least), plain(most))
	if zero {
		remedy += ", or 0s for none"
	}
	c.bad(field, plain(d.Duration)+" is out of bounds", remedy)
}

// plain writes a duration without the zero units that Go adds, as an SRE would.
func plain(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

func (c *checker) number(field string, n *int32, least, most int32) {
	if n == nil || (*n >= least && *n <= most) {
		return
	}
	remedy := fmt.Sprintf("write %d to %d", least, most)
	if most == maxInt32 {
		remedy = fmt.Sprintf("write at least %d", least)
	}
	c.bad(field, fmt.Sprintf("%d is out of bounds", *n), remedy)
}

func (c *checker) oneOf(field, value string, allowed ...string) {
	if slices.Contains(allowed, value) {
		return
	}
	words := make([]string, 0, len(allowed))
	for _, a := range allowed {
		if a != "" {
			words = append(words, a)
		}
	}
	c.bad(field, fmt.Sprintf("%q is not known", value), "write "+orList(words))
}

// orList joins words as "a, b or c".
func orList(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

var (
	methodPattern = regexp.MustCompile(`^[A-Z]{1,32}$`)
	tokenPattern  = regexp.MustCompile(`^[A-Za-z0-9!#$%&'*+\-.^_|~]{1,256}$`)
	dnsPattern    = regexp.MustCompile(`^(\*\.)?[A-Za-z0-9_]([-A-Za-z0-9_]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([-A-Za-z0-9_]*[A-Za-z0-9_])?)*$`)
)

// printable reports whether a text is visible ASCII, as header values and paths are.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// isHostName reports whether s can be a certificate's DNS name or IP address.
func isHostName(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	return len(s) <= 253 && dnsPattern.MatchString(s)
}

func isURI(s string) bool {
	scheme, rest, ok := strings.Cut(s, "://")
	return ok && scheme != "" && rest != "" && printable(s)
}
