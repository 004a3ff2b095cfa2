package effective

import (
	"math"
	"net/netip"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// narrowed returns settings in which a section with a mistake allows no more than
// its author can have meant. A section that was left out would fall back to
// defaults, and some of these are no limit at all. The valid fields of a section
// stay. For the others, nothing in front is trusted, a limit is the closest
// allowed value, a timeout is the default, and TLS is the newest version.
func narrowed(s *v1alpha1.GatewaySettings, invalid []string) *v1alpha1.GatewaySettings {
	out := *s
	if slices.Contains(invalid, "inFront") {
		out.InFront = distrusted(s.InFront)
	}
	if slices.Contains(invalid, "timeout") {
		out.Timeout = &v1alpha1.ClientTimeout{
			RequestHeaders: allowedTime(s.Timeout.RequestHeaders), Request: allowedTime(s.Timeout.Request),
			Idle: allowedTime(s.Timeout.Idle), StreamIdle: allowedTime(s.Timeout.StreamIdle),
		}
	}
	if slices.Contains(invalid, "limits") {
		l := s.Limits
		out.Limits = &v1alpha1.ClientLimits{
			HeaderBytes: closest(l.HeaderBytes, policy.LeastHeaderBytes, policy.MostHeaderBytes), Headers: closest(l.Headers, 1, policy.MostCounted),
			BodyBytes: closest(l.BodyBytes, 1, policy.MostBodyBytes), ConcurrentStreams: closest(l.ConcurrentStreams, 1, policy.MostCounted),
			Connections: closest(l.Connections, 1, math.MaxInt32),
		}
	}
	if slices.Contains(invalid, "tls") {
		out.TLS = narrowedTLS(s.TLS)
	}
	return &out
}

// narrowedTLS returns the valid fields of a section. If it has no known cipher
// suite, TLS 1.3 remains, whose suites nobody chooses.
func narrowedTLS(t *v1alpha1.ClientTLS) *v1alpha1.ClientTLS {
	out := *t
	out.CipherSuites = slices.DeleteFunc(slices.Clone(t.CipherSuites), func(suite string) bool { return !slices.Contains(policy.CipherSuites, suite) })
	version := t.MinVersion == "" || t.MinVersion == v1alpha1.TLS12 || t.MinVersion == v1alpha1.TLS13
	if !version || len(t.CipherSuites) > 0 && len(out.CipherSuites) == 0 {
		out.MinVersion, out.CipherSuites = v1alpha1.TLS13, nil
	}
	return &out
}

// closest returns the number within bounds that is closest to one, nil for nil.
func closest(n *int32, least, most int32) *int32 {
	if n == nil {
		return nil
	}
	return new(min(max(*n, least), most))
}

// allowedTime returns a time that is within bounds, nil for any other: nearest to a
// negative one would be 0, which is no limit.
func allowedTime(d *metav1.Duration) *metav1.Duration {
	if d == nil || d.Duration < 0 || d.Duration > policy.LongestClientTime {
		return nil
	}
	return d
}

// nowhere is a range that no connection comes from.
const nowhere = "255.255.255.255/32"

// distrusted returns hops with a mistake in a safe form: no header is trusted
// and no PROXY protocol spoken, but connections are accepted only from the
// ranges that can be read. A range that cannot be read must not admit everybody.
func distrusted(hops []v1alpha1.Hop) []v1alpha1.Hop {
	if len(hops) == 0 {
		return nil
	}
	out := v1alpha1.Hop{Kind: v1alpha1.HopNLB}
	given := hops[len(hops)-1].Addresses
	for _, text := range given {
		if _, err := netip.ParsePrefix(text); err == nil {
			out.Addresses = append(out.Addresses, text)
		}
	}
	if len(given) > 0 && len(out.Addresses) == 0 {
		out.Addresses = []string{nowhere}
	}
	return []v1alpha1.Hop{out}
}
