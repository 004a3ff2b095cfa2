package inject

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
)

// inboundPort is a port that a container of the pod declares.
type inboundPort struct {
	number int32
	// protocol is http, or "" where the port's name does not say.
	protocol string
}

// readInbound finds the ports whose connections are captured: those that speak HTTP, or may. Of others Envoy would only
// pass on bytes, for which a client would pay: it would not see that nobody takes its connection, and the server not who calls.
func (p *proxied) readInbound() error {
	wanted := *p.config.CaptureInbound
	if value, where := p.said(AnnotationCaptureInbound); value != "" {
		if value != "true" && value != "false" {
			return &Refusal{fmt.Sprintf("%s is %q", where, value), `write "true" or "false"`}
		}
		wanted = value == "true"
	}
	if p.mode != CapturePod || !wanted {
		return nil
	}
	for i := range p.pod.Spec.InitContainers {
		// Other init containers have ended when somebody calls.
		if c := &p.pod.Spec.InitContainers[i]; c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			p.addInbound(c)
		}
	}
	for i := range p.pod.Spec.Containers {
		p.addInbound(&p.pod.Spec.Containers[i])
	}
	p.inbound = slices.DeleteFunc(p.inbound, func(port inboundPort) bool { return slices.Contains(p.raw, port.number) })
	slices.SortFunc(p.inbound, func(a, b inboundPort) int { return cmp.Compare(a.number, b.number) })
	if len(p.inbound) > naming.MaxInboundPorts {
		return &Refusal{
			fmt.Sprintf("its containers have %d ports, and %d are captured at most", len(p.inbound), naming.MaxInboundPorts),
			"leave some out with the annotation " + AnnotationExcludeInboundPorts + ", or annotate the pod with " + AnnotationCaptureInbound + `: "false"`,
		}
	}
	return nil
}

// addInbound adds the ports of a container. One that two containers declare is looked into where their names
// say different things, and is left alone if one of them says that it is not HTTP.
func (p *proxied) addInbound(c *corev1.Container) {
	for _, port := range c.Ports {
		if port.Protocol != "" && port.Protocol != corev1.ProtocolTCP || excludes(p.excludeInbound, port.ContainerPort) {
			continue
		}
		protocol := protocolOf(port)
		if protocol == naming.InboundTCP {
			p.raw = append(p.raw, port.ContainerPort)
			continue
		}
		add := inboundPort{port.ContainerPort, protocol}
		i := slices.IndexFunc(p.inbound, func(has inboundPort) bool { return has.number == add.number })
		switch {
		case i < 0:
			p.inbound = append(p.inbound, add)
		case p.inbound[i] != add:
			p.inbound[i].protocol = ""
		}
	}
}

// protocolOf returns what a port speaks, by its name: "<protocol>[-<suffix>]", or by a well-known number, as the ports of Services.
func protocolOf(port corev1.ContainerPort) string {
	named := discovery.ServicePort{Name: port.Name, Port: uint16(port.ContainerPort)} //nolint:gosec // the API server takes no other
	switch {
	case policy.OtherThanHTTP(named) != "", !policy.Assumed(named) && policy.ProtocolOf(named) == policy.TCP:
		return naming.InboundTCP
	case policy.Assumed(named):
		return ""
	}
	return naming.InboundHTTP
}

// excludes reports whether a port is one of ports and ranges of ports, which are well formed.
func excludes(ranges []string, port int32) bool {
	return slices.ContainsFunc(ranges, func(s string) bool {
		first, last, isRange := strings.Cut(s, "-")
		if !isRange {
			last = first
		}
		a, _ := strconv.ParseInt(first, 10, 32)
		b, _ := strconv.ParseInt(last, 10, 32)
		return int64(port) >= a && int64(port) <= b
	})
}

// inboundTexts returns the ports as --inbound-ports and as --inbound-listen have them.
func (p *proxied) inboundTexts() (ports, listen string) {
	var numbers, declared []string
	for _, port := range p.inbound {
		n := strconv.Itoa(int(port.number))
		numbers = append(numbers, n)
		if port.protocol != "" {
			n += "/" + port.protocol
		}
		declared = append(declared, n)
	}
	return cmp.Or(strings.Join(numbers, ","), "none"), strings.Join(declared, ",")
}
