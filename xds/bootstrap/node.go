// Package bootstrap makes the static configuration that an Envoy starts with,
// and reads the node data that such an Envoy sends.
package bootstrap

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// DefaultHTTPListen is where the HTTP listener of explicit egress is.
const DefaultHTTPListen = "127.0.0.1:15001"

// listenersField of a node's metadata lists the listeners that it declares.
const listenersField = "causeway.dev/listeners"

// internalField of a node's metadata is true for a proxy that may be sent
// listeners without an address.
const internalField = "causeway.dev/internal-listeners"

// nodeNameField of a node's metadata is the Kubernetes node of the proxy's pod.
// It is not the locality's sub-zone: Envoy compares localities as a whole, and
// the sub-zone of endpoints names their backing.
const nodeNameField = "causeway.dev/node-name"

// Limits of what a node may say of itself.
const (
	maxID        = 512
	maxPart      = 253 // of a DNS name, the longest name that Kubernetes gives
	maxListeners = 64
)

// Node is who a proxy says it is.
type Node struct {
	// ID is "<role>~<namespace>~<workload>~<instance id or pod uid>".
	ID                            string
	Role                          resource.Role
	Namespace, Workload, Instance string
	// Service is the node's cluster, "<namespace>/<service>".
	Service      string
	Region, Zone string
	// NodeName is the Kubernetes node that the proxy runs on, "" where it does not say so.
	// Like the zone it is the proxy's own claim.
	NodeName string
	// Declared lists naming.Declarations, sorted.
	Declared []string
	// Envoy is the proxy's version, "" for a client that is no Envoy.
	Envoy string
}

// ParseNode reads and checks what a proxy says of itself.
func ParseNode(n *corev3.Node) (Node, error) {
	out := Node{
		ID: n.GetId(), Service: n.GetCluster(),
		Region: n.GetLocality().GetRegion(), Zone: n.GetLocality().GetZone(),
		NodeName: n.GetMetadata().GetFields()[nodeNameField].GetStringValue(),
	}
	for _, s := range []string{out.ID, out.Service, out.Region, out.Zone, out.NodeName} {
		if len(s) > maxID {
			return Node{}, fmt.Errorf("id, cluster, locality and %s have at most %d bytes each", nodeNameField, maxID)
		}
		if err := checkText(s); err != nil {
			return Node{}, err
		}
	}
	role, namespace, workload, instance, ok := naming.ParseNode(out.ID)
	if !ok {
		return Node{}, fmt.Errorf("id %q is not ROLE~NAMESPACE~WORKLOAD~INSTANCE: make the bootstrap with 'causeway bootstrap'", out.ID)
	}
	out.Role, out.Namespace, out.Workload, out.Instance = resource.Role(role), namespace, workload, instance
	if out.Role != resource.Sidecar && out.Role != resource.Gateway {
		return Node{}, fmt.Errorf("id %q: role %q is neither %s nor %s", out.ID, role, resource.Sidecar, resource.Gateway)
	}
	if n.GetUserAgentName() == "envoy" {
		v := n.GetUserAgentBuildVersion().GetVersion()
		out.Envoy = fmt.Sprintf("%d.%d.%d", v.GetMajorNumber(), v.GetMinorNumber(), v.GetPatch())
	}
	listeners := n.GetMetadata().GetFields()[listenersField].GetListValue().GetValues()
	if len(listeners) > maxListeners {
		return Node{}, fmt.Errorf("%s: at most %d listeners", listenersField, maxListeners)
	}
	for _, l := range listeners {
		d, err := naming.ParseDeclaration(l.GetStringValue())
		if err == nil {
			err = out.mayDeclare(d)
		}
		if err != nil {
			return Node{}, fmt.Errorf("%s: %w", listenersField, err)
		}
		out.Declared = append(out.Declared, d.String())
		if d.IsCaptured() {
			out.Declared = append(out.Declared, naming.CapturedTraffic)
		}
		if d.IsInbound() {
			out.Declared = append(out.Declared, naming.InboundTraffic)
		}
	}
	if n.GetMetadata().GetFields()[internalField].GetBoolValue() {
		out.Declared = append(out.Declared, naming.InternalListeners)
	}
	slices.Sort(out.Declared)
	out.Declared = slices.Compact(out.Declared)
	return out, nil
}

// mayDeclare refuses listeners of a Gateway that the node is no proxy of: they
// may be reached from elsewhere, and come with its certificates.
func (n *Node) mayDeclare(d naming.Declaration) error {
	if !d.IsGateway() {
		return nil
	}
	if own := (discovery.Key{Namespace: n.Namespace, Name: n.Workload}); n.Role != resource.Gateway || d.Gateway != own {
		return fmt.Errorf("%s: only proxies whose id begins with %s~%s~%s~ are of the Gateway %s",
			d, resource.Gateway, d.Gateway.Namespace, d.Gateway.Name, d.Gateway)
	}
	return nil
}

// checkPart checks a part of a node id.
func checkPart(s string) error {
	switch {
	case s == "":
		return errors.New("it is empty")
	case strings.Contains(s, "~"):
		return fmt.Errorf("%q has a ~, which separates the parts of a node id", s)
	case len(s) > maxPart:
		return fmt.Errorf("%q is longer than %d bytes", s, maxPart)
	}
	return checkText(s)
}

// nodeNamePattern is how Kubernetes writes the name of a node.
var nodeNamePattern = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`)

// checkNodeName checks the name of a Kubernetes node. A pod whose environment lacks
// the variable passes "$(NODE_NAME)" on as it is written.
func checkNodeName(s string) error {
	if err := checkPart(s); err != nil {
		return err
	}
	if !nodeNamePattern.MatchString(s) {
		return fmt.Errorf("%q is not the name of a Kubernetes node, such as ip-10-0-1-23.ec2.internal: in a pod take it from the field spec.nodeName", s)
	}
	return nil
}

// checkText refuses what would garble a terminal or a log: ids are printed.
func checkText(s string) error {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Errorf("%q has characters that cannot be printed", s)
	}
	return nil
}
