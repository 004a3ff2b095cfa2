package policy

import (
	"fmt"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

var (
	proxyProtocolSection = SectionDef{
		"proxyProtocol", "proxyProtocol", ClusterLayer, false,
		func(s *settings) bool { return s.ProxyProtocol != "" },
		func(to, from *settings) { to.ProxyProtocol = from.ProxyProtocol },
	}
	tlsSection = SectionDef{
		"tls", "tls", ClusterLayer, false,
		func(s *settings) bool { return s.TLS != nil },
		func(to, from *settings) { to.TLS = from.TLS },
	}
)

func checkProxyProtocol(c *Checker, s *settings) {
	c.oneOf("proxyProtocol", string(s.ProxyProtocol), "", string(v1alpha1.ProxyProtocolV1), string(v1alpha1.ProxyProtocolV2))
}

func checkUpstreamTLS(c *Checker, s *settings) {
	if s.TLS != nil {
		c.TLS("tls", s.TLS)
	}
}

// TLS checks what stands at a path below spec: a policy's section, or an ExternalService's port.
func (c *Checker) TLS(at string, t *v1alpha1.UpstreamTLS) {
	if t.SNI != "" && !IsCertificateName(t.SNI) {
		c.bad(at+".sni", fmt.Sprintf("%q is not a host name", t.SNI), "write the name that the certificate has")
	}
	for i, name := range t.SubjectAltNames {
		if !IsCertificateName(name) && !IsURI(name) {
			c.bad(fmt.Sprintf("%s.subjectAltNames[%d]", at, i), fmt.Sprintf("%q is neither a host name nor a URI", name),
				"write one like api.example.com or spiffe://example.com/api")
		}
	}
}
