package discovery

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Edge is what a Gateway wants of the cluster whose proxies are made for it: pods, a
// Service, and what belongs to them. It is a value that policy makes of rows, and not
// a row itself.
type Edge struct {
	Key
	// UID of the Gateway, which owns all that is made.
	UID string
	// Object is the name of all that is made (EdgeName).
	Object string
	// Ports of the Service by number, each once.
	Ports []EdgePort
	// Labels and Annotations of all that is made (spec.infrastructure).
	Labels, Annotations map[string]string
	// Parameters in force, with defaults.
	Parameters v1alpha1.GatewayParametersSpec
	// Addresses are the IP addresses that the Gateway asks for, one of each family at most.
	Addresses []string
	// Held says why nothing is made or changed: the Gateway, or what it names, has a
	// mistake. What was made before stays as it is. "" for an Edge that is carried out.
	Held string
}

// EdgePort is a port of the Service of an Edge.
type EdgePort struct {
	Number uint16
	// AppProtocol says what the port's listeners speak: http, https, tls or tcp.
	AppProtocol string
}

// EdgeService is what counts of a Service that was made for a Gateway.
type EdgeService struct {
	// UID of the Gateway that owns it.
	UID string
	// Balanced is true for the type LoadBalancer: then clients come to Ingress, which are
	// addresses and host names in the order of the Service's status, and else to its cluster IPs.
	Balanced bool
	Ingress  []string
}

// EdgeStatus is what became of an Edge, on the replica that leads.
type EdgeStatus struct {
	// Scope is EdgesSource.
	Scope string
	Key
	// Refused is what the API server says against what is to be made. Never "".
	Refused string
	// Address is true if it refuses the address that the Gateway asks for.
	Address bool
}

// EdgesSource is the scope of all rows of EdgeStatus.
const EdgesSource = "kubernetes/edges"

// nameMost is how long the name of a Service, or the value of a label, may be.
const nameMost = 63

// EdgeName returns the name of what is made for a Gateway: "<Gateway>-<class>" (GEP-1762), as
// a Service may have it.
func EdgeName(gateway, class string) string { return shortened(gateway + "-" + class) }

// GatewayLabel returns a Gateway's name as the value of a label.
func GatewayLabel(gateway string) string {
	if len(gateway) <= nameMost {
		return gateway
	}
	return shortened(gateway)
}

// shortened returns a name of an object as a DNS label. One that is none is cut, and has a digest at its end,
// so that no two become one.
func shortened(name string) string {
	if len(name) <= nameMost && !strings.Contains(name, ".") {
		return name
	}
	const digits = 8
	sum := sha256.Sum256([]byte(name))
	head := strings.ReplaceAll(name, ".", "-")
	head = strings.TrimRight(head[:min(len(head), nameMost-digits-1)], "-")
	return head + "-" + hex.EncodeToString(sum[:])[:digits]
}
