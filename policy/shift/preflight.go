package shift

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// CohortsSince is the first minor version of Envoy 1 that chooses a weighted
// cluster by hash policy, which cohorts need.
const CohortsSince = 36

// Facts is what is known of a Service before its traffic moves.
type Facts struct {
	// PHP is true if the Service is known to be PHP, SessionCookie names the session cookie
	// that its answers set, "" if none was seen, and SessionStore is what PHP keeps
	// sessions in (session.save_handler), "" if nobody said.
	PHP                         bool
	SessionCookie, SessionStore string
	// Proxies that may call the Service.
	Proxies []ProxyFacts
	// Bypasses are callers that reach a side without the mesh.
	Bypasses []Bypass
	// BypassesUnknown is true where nobody looked for them.
	BypassesUnknown bool
}

// ProxyFacts is a proxy and the version of its Envoy, for example "1.40.0"; "" if it did not say.
type ProxyFacts struct{ Name, Version string }

// Bypass is a caller that reaches a side of the Service without the mesh.
type Bypass struct {
	// Caller, for example "target group php-web" or "cron on i-0abc".
	Caller string
	// To is the target of its calls, for example "the instances of InstanceGroup
	// web/php-web-ec2".
	To string
}

// Preflight returns what should be known before traffic moves, in sentences
// with the remedy; nil if there is nothing.
func Preflight(spec *v1alpha1.TrafficShiftSpec, f *Facts) []string {
	var out []string
	if f.PHP || isPHPSession(f.SessionCookie) {
		out = append(out, phpSessions(spec, f)...)
	}
	for _, b := range f.Bypasses {
		out = append(out, fmt.Sprintf("%s calls %s without the mesh: its requests do not move, no guard sees them, and they fail once that side is scaled in; let it call the Service %s",
			b.Caller, b.To, spec.ServiceRef.Name))
	}
	if f.BypassesUnknown {
		out = append(out, fmt.Sprintf("whether cron jobs, queue workers or a load balancer call a side of %s without the mesh is not known: their requests do not move; look at the access logs for callers that are no proxies",
			spec.ServiceRef.Name))
	}
	if spec.Cohort != nil {
		out = append(out, oldProxies(f.Proxies)...)
	}
	return out
}

// isPHPSession reports whether a cookie is PHP's own or that of a framework in PHP.
func isPHPSession(cookie string) bool {
	return slices.Contains([]string{"phpsessid", "laravel_session", "ci_session"}, strings.ToLower(cookie))
}

// phpSessions tells what happens to logins: PHP keeps sessions in files unless
// session.save_handler says otherwise, and a pod does not see an instance's disk.
func phpSessions(spec *v1alpha1.TrafficShiftSpec, f *Facts) []string {
	const remedy = "keep sessions where both sides reach them (session.save_handler = redis or memcached, or a database) before the first step"
	when := "on every request that changes sides, which without spec.cohort any may"
	if spec.Cohort != nil {
		when = "once, when a step moves them"
	}
	switch strings.ToLower(f.SessionStore) {
	case "files":
		return []string{fmt.Sprintf("PHP keeps its sessions in files on the local disk: users lose their login %s; %s", when, remedy)}
	case "":
		return []string{fmt.Sprintf("where PHP keeps its sessions is not known, and files on the local disk are its default: users would lose their login %s; %s", when, remedy)}
	}
	return nil
}

// oldProxies names the Envoys that cannot tell cohorts apart.
func oldProxies(proxies []ProxyFacts) []string {
	var old, silent []string
	for _, p := range proxies {
		switch minor, ok := envoyMinor(p.Version); {
		case !ok:
			silent = append(silent, p.Name)
		case minor < CohortsSince:
			old = append(old, fmt.Sprintf("%s (%s)", p.Name, p.Version))
		}
	}
	var out []string
	if len(old) > 0 {
		out = append(out, fmt.Sprintf("%s older than 1.%d, which cannot tell cohorts apart: users who call through them change sides at random; upgrade Envoy there before the first step: %s",
			beText(len(old), "Envoy"), CohortsSince, namesText(old)))
	}
	if len(silent) > 0 {
		out = append(out, fmt.Sprintf("%s of a version that is not known: see that it is 1.%d or newer, for cohorts: %s", beText(len(silent), "Envoy"), CohortsSince, namesText(silent)))
	}
	return out
}

func beText(n int, noun string) string {
	if n == 1 {
		return "1 " + noun + " is"
	}
	return counted(n, noun) + " are"
}

// namesText lists at most five names.
func namesText(names []string) string {
	names = slices.Sorted(slices.Values(names))
	if more := len(names) - 5; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:5], ", "), more)
	}
	return strings.Join(names, ", ")
}

// envoyMinor returns the minor version of an Envoy 1: 40 of "1.40.0". A later major
// version is newer than all of them.
func envoyMinor(version string) (int, bool) {
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	if len(parts) < 2 {
		return 0, false
	}
	major, err := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	if err != nil || err2 != nil || major < 1 || minor < 0 {
		return 0, false
	}
	if major > 1 {
		return CohortsSince + minor, true
	}
	return minor, true
}
