package policy

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"time"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// gatewaySection is a section of a GatewayPolicy.
type gatewaySection struct {
	// name is the field below spec, and the key in GatewaySettings.From.
	name string
	has  func(*v1alpha1.GatewaySettings) bool
	take func(to, from *v1alpha1.GatewaySettings)
}

// gatewaySections in the order of the API. An inFront without hops is one that
// says so: a listener may have nothing in front although the Gateway has.
var gatewaySections = []gatewaySection{
	{
		"inFront",
		func(s *v1alpha1.GatewaySettings) bool { return s.InFront != nil },
		func(to, from *v1alpha1.GatewaySettings) { to.InFront = from.InFront },
	},
	{
		"timeout",
		func(s *v1alpha1.GatewaySettings) bool { return s.Timeout != nil },
		func(to, from *v1alpha1.GatewaySettings) { to.Timeout = from.Timeout },
	},
	{
		"limits",
		func(s *v1alpha1.GatewaySettings) bool { return s.Limits != nil },
		func(to, from *v1alpha1.GatewaySettings) { to.Limits = from.Limits },
	},
	{
		"tls",
		func(s *v1alpha1.GatewaySettings) bool { return s.TLS != nil },
		func(to, from *v1alpha1.GatewaySettings) { to.TLS = from.TLS },
	},
	{
		"healthCheck",
		func(s *v1alpha1.GatewaySettings) bool { return s.HealthCheck != nil },
		func(to, from *v1alpha1.GatewaySettings) { to.HealthCheck = from.HealthCheck },
	},
}

// gatewaySource is a GatewayPolicy with what of it is in force.
type gatewaySource struct {
	ref      discovery.ObjectRef
	settings *v1alpha1.GatewaySettings
	// invalid are the names of sections that have a mistake.
	invalid []string
}

func newGatewaySource(o *discovery.Object) gatewaySource {
	out := gatewaySource{ref: o.Ref(), settings: &o.Spec.(*v1alpha1.GatewayPolicy).Spec.GatewaySettings}
	for _, m := range gatewayMistakes(out.settings) {
		out.invalid = append(out.invalid, m.in)
	}
	if len(out.invalid) > 0 {
		out.settings = narrowed(out.settings, out.invalid)
	}
	return out
}

// states reports whether the policy has a section that is in force. A section with
// a mistake is, as far as it lets in less: see narrowed.
func (s *gatewaySource) states(sec *gatewaySection) bool {
	return sec.has(s.settings) && (sec.name != "healthCheck" || !slices.Contains(s.invalid, sec.name))
}

// gatewaySettings returns the sections of the GatewayPolicies that are effective
// for a port of a Gateway with these listeners: for each, a policy about any
// of them comes before one about the whole Gateway, then the oldest.
func gatewaySettings(r catalog.Reader, gateway discovery.Key, listeners []string) GatewaySettings {
	var out GatewaySettings
	policies := gatewayPolicies(r, gateway)
	if len(policies) == 0 {
		return out
	}
	sources := gatewaySources(policies, gateway.Name, listeners)
	for i := range gatewaySections {
		sec := &gatewaySections[i]
		for j := range sources {
			if !sources[j].states(sec) {
				continue
			}
			if out.From == nil {
				out.From = make(map[string]discovery.ObjectRef)
			}
			sec.take(&out.GatewaySettings, sources[j].settings)
			out.From[sec.name] = sources[j].ref
			break
		}
	}
	return out
}

// gatewayPolicies returns the GatewayPolicies about a Gateway or a listener of
// it, the oldest first, then by name.
func gatewayPolicies(r catalog.Reader, gateway discovery.Key) []*discovery.Object {
	return policiesOf(r, discovery.KindGatewayPolicy, discovery.ObjectName{Kind: discovery.KindGateway, Key: gateway})
}

// gatewaySources returns policies in the order of precedence: those about any
// of the listeners, then those about the whole Gateway.
func gatewaySources(policies []*discovery.Object, gateway string, listeners []string) []gatewaySource {
	return append(
		gatewayLevel(policies, gateway, func(section string) bool { return section != "" && slices.Contains(listeners, section) }),
		gatewayLevel(policies, gateway, func(section string) bool { return section == "" })...)
}

// gatewayLevel returns those of the policies that are about a part of a Gateway.
func gatewayLevel(policies []*discovery.Object, gateway string, about func(section string) bool) []gatewaySource {
	var out []gatewaySource
	for _, o := range policies {
		if slices.ContainsFunc(o.Spec.(*v1alpha1.GatewayPolicy).Spec.TargetRefs, func(t v1alpha1.GatewayTarget) bool {
			return isGatewayTarget(t) && t.Name == gateway && about(t.SectionName)
		}) {
			out = append(out, newGatewaySource(o))
		}
	}
	return out
}

// isGatewayTarget reports whether a target is a Gateway, as those without group and kind are.
func isGatewayTarget(t v1alpha1.GatewayTarget) bool {
	return (t.Group == "" && t.Kind == "") || (t.Group == gatewayGroup && t.Kind == discovery.KindGateway)
}

var (
	healthPathPattern = regexp.MustCompile(`^/[A-Za-z0-9/_.~-]+$`)
	cipherSuites      = []string{
		"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256",
		"ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384",
		"ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305",
	}
)

// The bounds of what a GatewayPolicy may state beyond those of its schema's types.
const (
	longestClientTime = 24 * time.Hour
	mostHops          = 8
	mostHopRanges     = 64
	mostCipherSuites  = 32
	leastHeaderBytes  = 1024
	mostHeaderBytes   = 8 << 20
	mostBodyBytes     = 1 << 30
	mostCounted       = 10000
	longestHealthPath = 256
)

// gatewayMistakes returns what is wrong in sections of a GatewayPolicy, in the
// order of the API. It is what the CRD's schema says, for objects that no API server has seen.
func gatewayMistakes(s *v1alpha1.GatewaySettings) []mistake {
	c := checker{in: "inFront"}
	c.inFront(s.InFront)
	if t := s.Timeout; t != nil {
		c.in = "timeout"
		c.duration("timeout.requestHeaders", t.RequestHeaders, 0, longestClientTime, false)
		c.duration("timeout.request", t.Request, 0, longestClientTime, false)
		c.duration("timeout.idle", t.Idle, 0, longestClientTime, false)
		c.duration("timeout.streamIdle", t.StreamIdle, 0, longestClientTime, false)
	}
	if l := s.Limits; l != nil {
		c.in = "limits"
		c.number("limits.headerBytes", l.HeaderBytes, leastHeaderBytes, mostHeaderBytes)
		c.number("limits.headers", l.Headers, 1, mostCounted)
		c.number("limits.bodyBytes", l.BodyBytes, 1, mostBodyBytes)
		c.number("limits.concurrentStreams", l.ConcurrentStreams, 1, mostCounted)
		c.number("limits.connections", l.Connections, 1, maxInt32)
	}
	if t := s.TLS; t != nil {
		c.in = "tls"
		c.oneOf("tls.minVersion", string(t.MinVersion), "", string(v1alpha1.TLS12), string(v1alpha1.TLS13))
		if len(t.CipherSuites) > mostCipherSuites {
			c.bad("tls.cipherSuites", fmt.Sprintf("it has %d entries", len(t.CipherSuites)), fmt.Sprintf("write at most %d", mostCipherSuites))
		}
		for i, suite := range t.CipherSuites {
			c.oneOf(fmt.Sprintf("tls.cipherSuites[%d]", i), suite, cipherSuites...)
		}
	}
	if h := s.HealthCheck; h != nil && (len(h.Path) > longestHealthPath || !healthPathPattern.MatchString(h.Path)) {
		c.in = "healthCheck"
		c.bad("healthCheck.path", fmt.Sprintf("%q is not a path of letters, digits and /_.~-", h.Path), "write, for example, /healthz")
	}
	return c.found
}

// inFront checks what stands in front of a gateway.
func (c *checker) inFront(hops []v1alpha1.Hop) {
	if len(hops) > mostHops {
		c.bad("inFront", fmt.Sprintf("it has %d hops", len(hops)), fmt.Sprintf("write at most %d", mostHops))
	}
	balancers := 0
	for i := range hops {
		h, field := &hops[i], fmt.Sprintf("inFront[%d]", i)
		c.oneOf(field+".kind", string(h.Kind), string(v1alpha1.HopCloudFront), string(v1alpha1.HopALB), string(v1alpha1.HopNLB), string(v1alpha1.HopProxy))
		c.duration(field+".idleTimeout", h.IdleTimeout, time.Second, longestClientTime, false)
		if h.Kind == v1alpha1.HopNLB {
			balancers++
		}
		if h.ProxyProtocol && (h.Kind == v1alpha1.HopCloudFront || h.Kind == v1alpha1.HopALB) {
			c.bad(field+".proxyProtocol", string(h.Kind)+" does not speak the PROXY protocol", "remove it, or correct kind")
		}
		if len(h.Addresses) > mostHopRanges {
			c.bad(field+".addresses", fmt.Sprintf("it has %d ranges", len(h.Addresses)), fmt.Sprintf("write at most %d", mostHopRanges))
		}
		for j, text := range h.Addresses {
			if _, err := netip.ParsePrefix(text); err != nil {
				c.bad(fmt.Sprintf("%s.addresses[%d]", field, j), fmt.Sprintf("%q is not a CIDR range", text), "write, for example, 10.0.0.0/16")
			}
		}
	}
	if balancers > 1 {
		c.bad("inFront", "it has several NLBs, which add no header", "name only the last one")
	}
}

// foreignGateway says why a Gateway is not this controller's, "" if it is.
func foreignGateway(r catalog.Reader, o *discovery.Object) string {
	gateway, ok := o.Spec.(*gatewayv1.Gateway)
	if !ok {
		return o.Name().String() + " cannot be read"
	}
	class, ours := gatewayClass(r, &gateway.Spec)
	switch {
	case ours:
		return ""
	case class == nil:
		return fmt.Sprintf("%s is of GatewayClass %s, which does not exist", o.Name(), gateway.Spec.GatewayClassName)
	}
	return fmt.Sprintf("%s is of GatewayClass %s, which is another controller's", o.Name(), gateway.Spec.GatewayClassName)
}
