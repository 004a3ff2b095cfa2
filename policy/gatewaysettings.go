package policy

import (
	"fmt"
	"math"
	"net/netip"
	"regexp"
	"slices"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// GatewaySectionDef is a section of a GatewayPolicy.
type GatewaySectionDef struct {
	// name is the field below spec, and the key in GatewaySettings.From.
	Name string
	Has  func(*v1alpha1.GatewaySettings) bool
	Take func(to, from *v1alpha1.GatewaySettings)
}

// GatewaySectionDefs in the order of the API. An inFront without hops is one that
// says so: a listener may have nothing in front although the Gateway has.
var GatewaySectionDefs = []GatewaySectionDef{
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

var (
	healthPathPattern = regexp.MustCompile(`^/[A-Za-z0-9/_.~-]+$`)
	// CipherSuites are those that clients may be offered, the preferred first.
	CipherSuites = []string{
		"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256",
		"ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384",
		"ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305",
	}
)

// The bounds of what a GatewayPolicy may state beyond those of its schema's types.
const (
	LongestClientTime = 24 * time.Hour
	mostHops          = 8
	mostHopRanges     = 64
	mostCipherSuites  = 32
	LeastHeaderBytes  = 1024
	MostHeaderBytes   = 8 << 20
	MostBodyBytes     = 1 << 30
	MostCounted       = 10000
	longestHealthPath = 256
)

// GatewayMistakes returns the mistakes in sections of a GatewayPolicy, in the order of the
// API. It repeats the rules of the CRD's schema, for objects that no API server has seen.
func GatewayMistakes(s *v1alpha1.GatewaySettings) []Mistake {
	c := Checker{In: "inFront"}
	c.inFront(s.InFront)
	if t := s.Timeout; t != nil {
		c.In = "timeout"
		c.duration("timeout.requestHeaders", t.RequestHeaders, 0, LongestClientTime, false)
		c.duration("timeout.request", t.Request, 0, LongestClientTime, false)
		c.duration("timeout.idle", t.Idle, 0, LongestClientTime, false)
		c.duration("timeout.streamIdle", t.StreamIdle, 0, LongestClientTime, false)
	}
	if l := s.Limits; l != nil {
		c.In = "limits"
		c.number("limits.headerBytes", l.HeaderBytes, LeastHeaderBytes, MostHeaderBytes)
		c.number("limits.headers", l.Headers, 1, MostCounted)
		c.number("limits.bodyBytes", l.BodyBytes, 1, MostBodyBytes)
		c.number("limits.concurrentStreams", l.ConcurrentStreams, 1, MostCounted)
		c.number("limits.connections", l.Connections, 1, math.MaxInt32)
	}
	if t := s.TLS; t != nil {
		c.In = "tls"
		c.oneOf("tls.minVersion", string(t.MinVersion), "", string(v1alpha1.TLS12), string(v1alpha1.TLS13))
		if len(t.CipherSuites) > mostCipherSuites {
			c.bad("tls.cipherSuites", fmt.Sprintf("it has %d entries", len(t.CipherSuites)), fmt.Sprintf("write at most %d", mostCipherSuites))
		}
		for i, suite := range t.CipherSuites {
			c.oneOf(fmt.Sprintf("tls.cipherSuites[%d]", i), suite, CipherSuites...)
		}
	}
	if h := s.HealthCheck; h != nil && (len(h.Path) > longestHealthPath || !healthPathPattern.MatchString(h.Path)) {
		c.In = "healthCheck"
		c.bad("healthCheck.path", fmt.Sprintf("%q is not a path of letters, digits and /_.~-", h.Path), "write, for example, /healthz")
	}
	return c.Found
}

// inFront checks what stands in front of a gateway.
func (c *Checker) inFront(hops []v1alpha1.Hop) {
	if len(hops) > mostHops {
		c.bad("inFront", fmt.Sprintf("it has %d hops", len(hops)), fmt.Sprintf("write at most %d", mostHops))
	}
	balancers := 0
	for i := range hops {
		h, field := &hops[i], fmt.Sprintf("inFront[%d]", i)
		c.oneOf(field+".kind", string(h.Kind), string(v1alpha1.HopCloudFront), string(v1alpha1.HopALB), string(v1alpha1.HopNLB), string(v1alpha1.HopProxy))
		c.duration(field+".idleTimeout", h.IdleTimeout, time.Second, LongestClientTime, false)
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

// GatewaySettings are the effective sections of the GatewayPolicies about a port.
type GatewaySettings struct {
	v1alpha1.GatewaySettings
	// From says which GatewayPolicy each section comes from, by its name in the API.
	From map[string]discovery.ObjectRef
}

// TrustedHops returns how many entries at the end of X-Forwarded-For were
// written by what stands in front: 0 if no such header is to be believed.
func (s *GatewaySettings) TrustedHops() uint32 {
	n := uint32(0)
	for i := range s.InFront {
		if s.InFront[i].Kind != v1alpha1.HopNLB {
			n++
		}
	}
	return n
}

// ForgedHeaders returns the names, in lower case, of headers about a request's way
// that no hop in front sets itself. They are the client's own claims, and are
// removed. Which headers a proxy of another kind than AWS's sets is not known:
// behind such a proxy, all are let through.
//
// Proxy is always one of them: CGI, and with it PHP, turns it into the environment
// variable HTTP_PROXY (CVE-2016-5385).
func (s *GatewaySettings) ForgedHeaders() []string {
	out := []string{"proxy"}
	has := func(kind v1alpha1.HopKind) bool {
		return slices.ContainsFunc(s.InFront, func(h v1alpha1.Hop) bool { return h.Kind == kind })
	}
	if has(v1alpha1.HopProxy) {
		return out
	}
	out = append(out, "forwarded", "x-forwarded-host", "x-forwarded-prefix", "x-forwarded-scheme", "x-forwarded-server", "x-forwarded-ssl", "x-real-ip")
	if !has(v1alpha1.HopALB) {
		out = append(out, "x-forwarded-port")
	}
	if s.TrustedHops() == 0 {
		out = append(out, "x-forwarded-for", "x-forwarded-proto")
	}
	return out
}

// PROXY reports whether connections begin with a header of the PROXY protocol.
func (s *GatewaySettings) PROXY() bool {
	n := len(s.InFront)
	return n > 0 && s.InFront[n-1].ProxyProtocol
}

// httpsPort is the port that https has of itself.
const httpsPort = 443

// TLSPorts returns the ports of what stands in front that it takes TLS at and
// passes on as plain text without saying so in a header: those of an NLB that
// speaks the PROXY protocol, which tells the port that a client has
// connected to.
func (s *GatewaySettings) TLSPorts() []uint32 {
	if n := len(s.InFront); n > 0 && s.InFront[n-1].Kind == v1alpha1.HopNLB && s.PROXY() {
		return []uint32{httpsPort}
	}
	return nil
}

// SpeaksHTTP10 reports whether HTTP/1.0 is taken: clients may speak it, and so
// does nginx to what is behind it unless told otherwise. AWS's load balancers do not.
func (s *GatewaySettings) SpeaksHTTP10() bool {
	return s.TrustedHops() == 0 || slices.ContainsFunc(s.InFront, func(h v1alpha1.Hop) bool { return h.Kind == v1alpha1.HopProxy })
}

// AllowedFrom returns the ranges that connections may come from, none for any.
func (s *GatewaySettings) AllowedFrom() []netip.Prefix {
	var out []netip.Prefix
	if n := len(s.InFront); n > 0 {
		for _, text := range s.InFront[n-1].Addresses {
			if p, err := netip.ParsePrefix(text); err == nil {
				out = append(out, p.Masked())
			}
		}
	}
	return out
}

// Idle returns how long a connection without a request stays open, 0 for ever.
func (s *GatewaySettings) Idle() time.Duration {
	switch {
	case s.Timeout != nil && s.Timeout.Idle != nil:
		return s.Timeout.Idle.Duration
	case len(s.InFront) > 0:
		return time.Hour
	}
	return 75 * time.Second
}
