package resolve

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/effective"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// gatewayPolicy returns a GatewayPolicy about Gateway edge, or listeners of it, that is so many days old.
func gatewayPolicy(name string, age int, s v1alpha1.GatewaySettings, listeners ...string) *discovery.Object {
	spec := v1alpha1.GatewayPolicySpec{GatewaySettings: s}
	for _, l := range listeners {
		spec.TargetRefs = append(spec.TargetRefs, v1alpha1.GatewayTarget{Group: gatewayv1.GroupName, Kind: discovery.KindGateway, Name: "edge", SectionName: l})
	}
	return &discovery.Object{
		Scope: "test", Kind: discovery.KindGatewayPolicy, Key: discovery.Key{Namespace: "web", Name: name}, Created: time.Unix(0, 0).AddDate(0, 0, -age),
		Spec: &v1alpha1.GatewayPolicy{Spec: spec},
		Refs: []discovery.ObjectName{{Kind: discovery.KindGateway, Key: edgeKey}},
	}
}

var edgeKey = discovery.Key{Namespace: "web", Name: "edge"}

func headersMost(n int32) v1alpha1.GatewaySettings {
	return v1alpha1.GatewaySettings{Limits: &v1alpha1.ClientLimits{Headers: &n}}
}

func clientIdle(d time.Duration) v1alpha1.GatewaySettings {
	return v1alpha1.GatewaySettings{Timeout: &v1alpha1.ClientTimeout{Idle: &metav1.Duration{Duration: d}}}
}

func behind(hops ...v1alpha1.Hop) v1alpha1.GatewaySettings {
	return v1alpha1.GatewaySettings{InFront: hops}
}

func TestGatewaySettings(t *testing.T) {
	for name, tc := range map[string]struct {
		objects   []*discovery.Object
		listeners []string
		want      map[string]string // section to policy
		headers   int32
	}{
		"nothing said":        {nil, []string{"http"}, nil, 0},
		"of the Gateway":      {[]*discovery.Object{gatewayPolicy("a", 1, headersMost(10), "")}, []string{"http"}, map[string]string{"limits": "a"}, 10},
		"of another listener": {[]*discovery.Object{gatewayPolicy("a", 1, headersMost(10), "https")}, []string{"http"}, nil, 0},
		"a listener of the port before the whole, however old": {
			[]*discovery.Object{gatewayPolicy("a", 9, headersMost(10), ""), gatewayPolicy("b", 1, headersMost(20), "other")},
			[]string{"http", "other"},
			map[string]string{"limits": "b"},
			20,
		},
		"the oldest": {
			[]*discovery.Object{gatewayPolicy("a", 1, headersMost(10), ""), gatewayPolicy("b", 2, headersMost(20), "")},
			[]string{"http"},
			map[string]string{"limits": "b"},
			20,
		},
		"the first by name": {
			[]*discovery.Object{gatewayPolicy("b", 1, headersMost(10), ""), gatewayPolicy("a", 1, headersMost(20), "")},
			[]string{"http"},
			map[string]string{"limits": "a"},
			20,
		},
		"section by section": {
			[]*discovery.Object{gatewayPolicy("a", 9, headersMost(10), ""), gatewayPolicy("b", 1, clientIdle(time.Minute), "http")},
			[]string{"http"},
			map[string]string{"limits": "a", "timeout": "b"},
			10,
		},
		"a mistake does not widen a section": {
			[]*discovery.Object{gatewayPolicy("a", 9, headersMost(0), "http"), gatewayPolicy("b", 1, headersMost(20), "")},
			[]string{"http"},
			map[string]string{"limits": "a"},
			1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := effective.GatewaySettings((&routeRows{objects: tc.objects}).reader(t), edgeKey, tc.listeners)
			from := make(map[string]string)
			for section, ref := range got.From {
				from[section] = ref.Name
			}
			require.Len(t, from, len(tc.want))
			for section, policy := range tc.want {
				require.Equal(t, policy, from[section])
			}
			if tc.headers > 0 {
				require.Equal(t, tc.headers, *got.Limits.Headers)
			} else {
				require.Nil(t, got.Limits)
			}
		})
	}
}

// What stands in front is trusted only as far as it is right; a range that
// cannot be read lets nobody in, rather than everybody.
func TestInFrontWithMistakes(t *testing.T) {
	alb := v1alpha1.Hop{Kind: v1alpha1.HopALB, Addresses: []string{"10.0.0.0/16", "10.1.0.0/16"}}
	set := func(edit func(*v1alpha1.Hop)) v1alpha1.Hop {
		h := alb
		h.Addresses = slices.Clone(alb.Addresses)
		edit(&h)
		return h
	}
	within := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/16"), netip.MustParsePrefix("10.1.0.0/16")}
	for name, tc := range map[string]struct {
		hops    []v1alpha1.Hop
		trusted uint32
		proxy   bool
		from    []netip.Prefix
	}{
		"right":                         {[]v1alpha1.Hop{{Kind: v1alpha1.HopCloudFront}, alb}, 2, false, within},
		"an NLB adds no header":         {[]v1alpha1.Hop{{Kind: v1alpha1.HopNLB, ProxyProtocol: true}}, 0, true, nil},
		"an unknown kind":               {[]v1alpha1.Hop{set(func(h *v1alpha1.Hop) { h.Kind = "Nginx" })}, 0, false, within},
		"an unknown kind before":        {[]v1alpha1.Hop{{Kind: "Nginx"}, alb}, 0, false, within},
		"PROXY protocol of an ALB":      {[]v1alpha1.Hop{set(func(h *v1alpha1.Hop) { h.ProxyProtocol = true })}, 0, false, within},
		"several NLBs":                  {[]v1alpha1.Hop{{Kind: v1alpha1.HopNLB}, {Kind: v1alpha1.HopNLB}}, 0, false, nil},
		"a range that cannot be read":   {[]v1alpha1.Hop{set(func(h *v1alpha1.Hop) { h.Addresses[0] = "10.0.0.0" })}, 0, false, within[1:]},
		"no range that can be read":     {[]v1alpha1.Hop{set(func(h *v1alpha1.Hop) { h.Addresses = []string{"vpc"} })}, 0, false, []netip.Prefix{netip.MustParsePrefix("255.255.255.255/32")}},
		"an idle timeout out of bounds": {[]v1alpha1.Hop{set(func(h *v1alpha1.Hop) { h.IdleTimeout = &metav1.Duration{} })}, 0, false, within},
		"too many hops":                 {slices.Repeat([]v1alpha1.Hop{{Kind: v1alpha1.HopProxy}}, 9), 0, false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			in := &routeRows{objects: []*discovery.Object{gatewayPolicy("a", 1, behind(tc.hops...), "")}}
			s := effective.GatewaySettings(in.reader(t), edgeKey, []string{"http"})
			require.Equal(t, "a", s.From["inFront"].Name)
			require.Equal(t, tc.trusted, s.TrustedHops())
			require.Equal(t, tc.proxy, s.PROXY())
			require.Equal(t, tc.from, s.AllowedFrom())
		})
	}
	in := &routeRows{objects: []*discovery.Object{
		gatewayPolicy("gateway", 1, behind(alb), ""), gatewayPolicy("listener", 1, v1alpha1.GatewaySettings{InFront: []v1alpha1.Hop{}}, "direct"),
	}}
	s := effective.GatewaySettings(in.reader(t), edgeKey, []string{"direct"})
	require.Zero(t, s.TrustedHops(), "a listener says that nothing stands in front of it")
	require.Equal(t, "listener", s.From["inFront"].Name)
}

// A section with a mistake lets in no more than it may have been meant to.
func TestGatewaySectionsWithMistakesAreNarrowed(t *testing.T) {
	const suite = "ECDHE-RSA-AES128-GCM-SHA256"
	second, negative, days := &metav1.Duration{Duration: time.Second}, &metav1.Duration{Duration: -1}, &metav1.Duration{Duration: 72 * time.Hour}
	for name, tc := range map[string]struct{ stated, want v1alpha1.GatewaySettings }{
		"no version of TLS": {
			v1alpha1.GatewaySettings{TLS: &v1alpha1.ClientTLS{MinVersion: "1.33", CipherSuites: []string{suite}}},
			v1alpha1.GatewaySettings{TLS: &v1alpha1.ClientTLS{MinVersion: v1alpha1.TLS13}},
		},
		"one cipher suite is unknown": {
			v1alpha1.GatewaySettings{TLS: &v1alpha1.ClientTLS{MinVersion: v1alpha1.TLS12, CipherSuites: []string{"RC4-SHA", suite}}},
			v1alpha1.GatewaySettings{TLS: &v1alpha1.ClientTLS{MinVersion: v1alpha1.TLS12, CipherSuites: []string{suite}}},
		},
		"no cipher suite is known": {
			v1alpha1.GatewaySettings{TLS: &v1alpha1.ClientTLS{CipherSuites: []string{"ECDHE-RSA-AES128-GCM"}}},
			v1alpha1.GatewaySettings{TLS: &v1alpha1.ClientTLS{MinVersion: v1alpha1.TLS13}},
		},
		"limits": {
			v1alpha1.GatewaySettings{Limits: &v1alpha1.ClientLimits{HeaderBytes: new(int32(1)), BodyBytes: new(int32(2 << 29)), Headers: new(int32(50)), Connections: new(int32(-1))}},
			v1alpha1.GatewaySettings{Limits: &v1alpha1.ClientLimits{HeaderBytes: new(int32(1024)), BodyBytes: new(int32(1 << 30)), Headers: new(int32(50)), Connections: new(int32(1))}},
		},
		"timeouts": {
			v1alpha1.GatewaySettings{Timeout: &v1alpha1.ClientTimeout{Request: negative, StreamIdle: days, Idle: second}},
			v1alpha1.GatewaySettings{Timeout: &v1alpha1.ClientTimeout{Idle: second}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := gatewayPolicy("a", 1, tc.stated, "")
			got := effective.GatewaySettings((&routeRows{objects: []*discovery.Object{o}}).reader(t), edgeKey, []string{"http"})
			require.Equal(t, tc.want, got.GatewaySettings)
		})
	}
}

// What an API server refuses is told where objects come from elsewhere.
func TestGatewayPolicyMistakes(t *testing.T) {
	second := &metav1.Duration{Duration: time.Second}
	n := func(n int32) *int32 { return &n }
	for name, tc := range map[string]struct {
		settings v1alpha1.GatewaySettings
		want     string
	}{
		"headers of no size": {
			v1alpha1.GatewaySettings{Limits: &v1alpha1.ClientLimits{HeaderBytes: n(1)}},
			"spec.limits.headerBytes: 1 is out of bounds, so the closest that is allowed holds: write 1024 to 8388608",
		},
		"a negative timeout": {
			v1alpha1.GatewaySettings{Timeout: &v1alpha1.ClientTimeout{Request: &metav1.Duration{Duration: -time.Second}, Idle: second}},
			"spec.timeout.request: -1s is out of bounds, so the default holds: write 0s to 24h",
		},
		"an old version of TLS": {
			v1alpha1.GatewaySettings{TLS: &v1alpha1.ClientTLS{MinVersion: "1.1"}},
			`spec.tls.minVersion: "1.1" is not known, so it is not accepted; without another version or suite only TLS 1.3 is: write 1.2 or 1.3`,
		},
		"a weak cipher": {
			v1alpha1.GatewaySettings{TLS: &v1alpha1.ClientTLS{CipherSuites: []string{"RC4-SHA"}}},
			`spec.tls.cipherSuites[0]: "RC4-SHA" is not known, so it is not accepted; without another version or suite only TLS 1.3 is: write ECDHE-ECDSA-AES128-GCM-SHA256, ECDHE-RSA-AES128-GCM-SHA256, ECDHE-ECDSA-AES256-GCM-SHA384, ECDHE-RSA-AES256-GCM-SHA384, ECDHE-ECDSA-CHACHA20-POLY1305 or ECDHE-RSA-CHACHA20-POLY1305`,
		},
		"a path that is none": {
			v1alpha1.GatewaySettings{HealthCheck: &v1alpha1.GatewayHealthCheck{Path: "healthz"}},
			`spec.healthCheck.path: "healthz" is not a path of letters, digits and /_.~-, so the section healthCheck has no effect: write, for example, /healthz`,
		},
		"a range that is none": {
			behind(v1alpha1.Hop{Kind: v1alpha1.HopALB, Addresses: []string{"10.0.0.1"}}),
			`spec.inFront[0].addresses[0]: "10.0.0.1" is not a CIDR range, so nothing that stands in front is trusted: write, for example, 10.0.0.0/16`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := gatewayPolicy("p", 1, tc.settings, "")
			gateway := &discovery.Object{Scope: "test", Kind: discovery.KindGateway, Key: edgeKey, Spec: &gatewayv1.Gateway{Spec: gatewayv1.GatewaySpec{
				GatewayClassName: effective.DefaultGatewayClass, Listeners: []gatewayv1.Listener{{Name: "http", Port: 80, Protocol: gatewayv1.HTTPProtocolType}},
			}}}
			r := (&routeRows{objects: []*discovery.Object{o, gateway}}).reader(t)
			var errors []string
			for _, f := range validateGatewayPolicy(r, o) {
				if f.Severity == policy.Error {
					errors = append(errors, f.Text())
				}
			}
			require.Equal(t, []string{tc.want}, errors)
			conditions, _ := StatusOf(r, o)
			require.Equal(t, policy.ReasonInvalid, conditions.Conditions[0].Reason)
		})
	}
	for _, targets := range [][]v1alpha1.GatewayTarget{nil, {{Kind: "Service", Name: "edge"}}, {{Name: "edge"}, {Name: "edge"}}} {
		o := gatewayPolicy("p", 1, headersMost(1))
		o.Spec.(*v1alpha1.GatewayPolicy).Spec.TargetRefs = targets
		require.True(t, slices.ContainsFunc(validateGatewayPolicy((&routeRows{}).reader(t), o), func(f policy.Finding) bool { return f.Severity == policy.Error && f.Reason == policy.ReasonInvalid }))
	}
}
