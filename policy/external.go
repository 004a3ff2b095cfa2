package policy

import (
	"fmt"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// External is the model of an ExternalService: a unit of compilation of its
// own.
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
