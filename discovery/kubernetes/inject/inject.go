// Package inject makes pods members of the mesh: it puts the agent with its Envoy into them, as a
// native sidecar, and what brings their traffic to it. [Inject] decides about one pod and is pure. The
// webhook (Handler) asks it for the API server, and [Files] for YAML files.
package inject

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Labels and annotations that people write. Who is injected is said by labels, so that the API server selects.
const (
	// Label of a namespace whose pods are injected (enabled), and of a pod that is (true) or is not (false)
	// whatever its namespace says.
	Label   = "mesh.causeway.dev/inject"
	Enabled = "enabled"
	// AnnotationCapture of a pod or its namespace is a Mode.
	AnnotationCapture = "mesh.causeway.dev/capture"
	// AnnotationExcludePorts and AnnotationExcludeCIDRs of a pod or its namespace are destinations that go as if
	// there were no mesh, separated by commas.
	AnnotationExcludePorts = "mesh.causeway.dev/exclude-outbound-ports"
	AnnotationExcludeCIDRs = "mesh.causeway.dev/exclude-outbound-cidrs"
	// AnnotationExcludeInboundPorts of a pod or its namespace are ports of its containers that go to them as if there
	// were no mesh. AnnotationCaptureInbound says "false" for all of them.
	AnnotationExcludeInboundPorts = "mesh.causeway.dev/exclude-inbound-ports"
	AnnotationCaptureInbound      = "mesh.causeway.dev/capture-inbound"
	// AnnotationTLSSecret of a pod or its namespace is the Secret with the sidecar's certificate, in place of a token.
	AnnotationTLSSecret = "mesh.causeway.dev/tls-secret"
	// AnnotationWorkload of a pod is its workload's name, where its owner's is not it.
	AnnotationWorkload = "mesh.causeway.dev/workload"
	// AnnotationInjected is written on the pod: the version of Causeway that has injected it.
	AnnotationInjected = "mesh.causeway.dev/injected"
)

// Namespace is what counts of a pod's namespace.
type Namespace struct {
	Name                string
	Labels, Annotations map[string]string
}

// Injection is what is added to a pod. Nothing of it is changed or taken away.
type Injection struct {
	Annotations map[string]string
	// InitContainers come before the pod's own, so that those have the network.
	InitContainers []corev1.Container
	Volumes        []corev1.Volume
	// Workload and Capture are for who tells about it, Token is true if the pod proves itself by its token.
	Workload string
	Capture  Mode
	Token    bool
}

// Refusal says why a pod that should be a member cannot be one, and what to do.
type Refusal struct{ Reason, Remedy string }

func (r *Refusal) Error() string { return r.Reason + ": " + r.Remedy }

// Inject decides about a pod, or about the template of pods that workload makes ("" for a pod, whose owners
// tell). It returns what to add, or nil with the reason why the pod is none of ours. An error is a *Refusal.
func Inject(pod *corev1.Pod, workload string, ns Namespace, c *Config) (*Injection, string, error) {
	if why, err := notWanted(pod, ns, c); why != "" || err != nil {
		return nil, why, err
	}
	p := &proxied{pod: pod, ns: ns, config: c}
	if err := p.read(workload); err != nil {
		return nil, "", err
	}
	if err := p.refuse(); err != nil {
		return nil, "", err
	}
	i := &Injection{
		Annotations: map[string]string{AnnotationInjected: c.Version}, Volumes: p.volumes(), Workload: p.workload, Capture: p.mode, Token: p.secret == "",
	}
	if p.mode == CapturePod {
		i.InitContainers = append(i.InitContainers, p.capture())
	}
	i.InitContainers = append(i.InitContainers, p.proxy())
	return i, "", nil
}

// notWanted returns why a pod is none of ours, "" if it is to be injected.
func notWanted(pod *corev1.Pod, ns Namespace, c *Config) (string, error) {
	label, labelled := pod.Labels[Label]
	_, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]
	switch {
	case ns.Name == "kube-system", ns.Name == "kube-public", ns.Name == "kube-node-lease":
		return "the namespace " + ns.Name + " is Kubernetes' own", nil
	case ns.Name == c.Namespace:
		return "the namespace " + ns.Name + " is the control plane's own", nil
	case mirror:
		return "it is a static pod of the kubelet, which nothing can be added to", nil
	case labelled && label == "false":
		return `its label ` + Label + ` is "false"`, nil
	case labelled && label != "true":
		return "", &Refusal{fmt.Sprintf("its label %s is %q", Label, label), `write "true" or "false"`}
	case !labelled && ns.Labels[Label] != Enabled:
		return fmt.Sprintf("neither its namespace has the label %s=%s nor it the label %s=true", Label, Enabled, Label), nil
	}
	if version, ok := pod.Annotations[AnnotationInjected]; ok && container(pod, ProxyName) != nil {
		return "it is injected, by version " + version, nil
	}
	return "", nil
}

// proxied is a pod that is to be injected, with what is said about it.
type proxied struct {
	pod    *corev1.Pod
	ns     Namespace
	config *Config

	workload, secret string
	mode             Mode
	excludePorts     []string
	excludeCIDRs     []string
	excludeInbound   []string
	// inbound are the ports whose connections are captured, as --inbound-listen has them.
	inbound []inboundPort
	// raw are the ports that are known to speak something else than HTTP.
	raw []int32
}

// said returns an annotation of the pod, or else of its namespace, and how messages name it.
func (p *proxied) said(annotation string) (value, where string) {
	if v, ok := p.pod.Annotations[annotation]; ok {
		return v, "its annotation " + annotation
	}
	return p.ns.Annotations[annotation], "the annotation " + annotation + " of its namespace"
}

// read reads what people say about the pod.
func (p *proxied) read(workload string) error {
	if p.workload = p.pod.Annotations[AnnotationWorkload]; p.workload == "" {
		if p.workload = workload; p.workload == "" {
			p.workload = workloadOf(p.pod)
		}
	}
	if err := secretName(p.workload); err != nil { // the same letters
		return &Refusal{
			fmt.Sprintf("its workload's name would be %q", p.workload),
			"write one of lower case letters, digits, hyphens and dots into its annotation " + AnnotationWorkload,
		}
	}
	p.mode = p.config.Capture
	if value, where := p.said(AnnotationCapture); value != "" {
		if p.mode = Mode(value); !p.mode.known() {
			return &Refusal{fmt.Sprintf("%s is %q", where, value), "write pod or none"}
		}
	}
	if p.mode == CapturePod && len(p.config.ServiceCIDRs) == 0 {
		return &Refusal{
			"its traffic is to be captured, and the control plane does not know the cluster's ranges of ClusterIPs",
			"write serviceCIDRs in the configuration of injection, or annotate the pod with " + AnnotationCapture + ": none",
		}
	}
	p.secret = p.config.TLSSecret
	if value, where := p.said(AnnotationTLSSecret); value != "" {
		if p.secret = value; secretName(value) != nil {
			return &Refusal{fmt.Sprintf("%s is %q", where, value), "write the name of a Secret of its namespace"}
		}
	}
	var err error
	for _, e := range []struct {
		annotation string
		check      func(string) error
		of         []string
		into       *[]string
	}{
		{AnnotationExcludePorts, isPortRange, p.config.ExcludeOutboundPorts, &p.excludePorts},
		{AnnotationExcludeCIDRs, isAddresses, p.config.ExcludeOutboundCIDRs, &p.excludeCIDRs},
		{AnnotationExcludeInboundPorts, isPortRange, p.config.ExcludeInboundPorts, &p.excludeInbound},
	} {
		value, where := p.said(e.annotation)
		if *e.into, err = list(value, e.check); err != nil {
			what, remedy, _ := strings.Cut(err.Error(), ": ")
			return &Refusal{where + ": " + what, remedy}
		}
		*e.into = append(slices.Clone(e.of), *e.into...)
	}
	return p.readInbound()
}

// container returns a container of any kind by its name, nil if there is none.
func container(pod *corev1.Pod, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

// sorted returns the keys of a map in order.
func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
