package policy

import (
	"fmt"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// External is what an ExternalService means: a unit of compilation of its own.
type External struct {
	discovery.Key
	// Hosts that the object claims and that no other has, sorted.
	Hosts []string
	// Ports sorted by number.
	Ports []ExternalServicePort
	// DNS is the name to resolve, "" where Endpoints are given.
	DNS        string
	Endpoints  []v1alpha1.ExternalEndpoint
	Provenance []discovery.ObjectRef
}

// Shape returns a comparable text of what routes read of an ExternalService.
func (e *External) Shape() string {
	var b []byte
	for i := range e.Ports {
		b = fmt.Appendf(b, "%d %d;", e.Ports[i].Number, e.Ports[i].Protocol)
	}
	return string(b)
}

// ExternalServicePort is one port of an ExternalService.
type ExternalServicePort struct {
	Number, TargetPort uint16
	Name               string
	Protocol           Protocol
	// DefaultHTTP is true for the port that a Host header without a port means.
	DefaultHTTP bool
	// TLS is how to speak TLS to the host, nil for not at all.
	TLS *TLS
	// Settings that are effective for the port.
	Settings Settings
}

// TLS is how callers speak TLS to a target that has no identity of the mesh.
type TLS struct {
	// SNI is asked for; the certificate must have one of Names.
	SNI   string
	Names []SubjectAltName
	// CAs in PEM; "" for those of the proxy's host.
	CAs string
	// Failed is why requests must be answered 5xx rather than sent in the
	// clear or to anyone: "" if TLS can be spoken.
	Failed string
}

// SubjectAltName is a name in a certificate: a DNS name, or a URI.
type SubjectAltName struct {
	URI   bool
	Value string
}
