package inject

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/causeway-mesh/causeway/policy/naming"
)

// leaveOut is the remedy that always helps.
const leaveOut = `leave the pod out of the mesh with the label ` + Label + `: "false"`

// meshes are what other meshes put into pods: containers by their names, and of a pod or namespace the label or
// annotation by which they are told to.
var meshes = []struct {
	name       string
	containers []string
	// asks has keys of labels and annotations, with the values that ask for injection; "*" is any.
	asks map[string][]string
	// declines are those of a pod that keep it out, whatever its namespace says.
	declines map[string][]string
}{
	{
		"Istio",
		[]string{"istio-proxy", "istio-init", "istio-validation"},
		map[string][]string{"istio-injection": {"enabled"}, "istio.io/rev": {"*"}, "sidecar.istio.io/inject": {"true"}},
		map[string][]string{"sidecar.istio.io/inject": {"false"}},
	},
	{
		"Linkerd",
		[]string{"linkerd-proxy", "linkerd-init", "linkerd-network-validator"},
		map[string][]string{"linkerd.io/inject": {"enabled", "ingress"}},
		map[string][]string{"linkerd.io/inject": {"disabled"}},
	},
	{
		"Consul",
		[]string{"consul-dataplane", "consul-connect-inject-init", "consul-connect-envoy-sidecar"},
		map[string][]string{"consul.hashicorp.com/connect-inject": {"true"}},
		map[string][]string{"consul.hashicorp.com/connect-inject": {"false"}},
	},
	{
		"Kuma",
		[]string{"kuma-sidecar", "kuma-init", "kuma-validation"},
		map[string][]string{"kuma.io/sidecar-injection": {"enabled", "true"}},
		map[string][]string{"kuma.io/sidecar-injection": {"disabled", "false"}},
	},
	{"AWS App Mesh", []string{"proxyinit"}, map[string][]string{"appmesh.k8s.aws/sidecarInjectorWebhook": {"enabled"}}, map[string][]string{"appmesh.k8s.aws/sidecarInjectorWebhook": {"disabled"}}},
	{"Open Service Mesh", []string{"osm-init"}, nil, nil},
}

// refuse returns why the pod cannot be injected.
func (p *proxied) refuse() error {
	for _, check := range []func() *Refusal{p.wrongPorts, p.oldKubernetes, p.platform, p.otherMesh, p.podSecurity, p.names, p.ports, p.users} {
		if r := check(); r != nil {
			return r
		}
	}
	return nil
}

var kubernetesVersion = regexp.MustCompile(`^v?1\.(\d+)`)

// nativeSidecars is the first minor version of Kubernetes that has them without a feature gate.
const nativeSidecars = 29

func (p *proxied) oldKubernetes() *Refusal {
	m := kubernetesVersion.FindStringSubmatch(p.config.Kubernetes)
	if m == nil {
		return nil
	}
	if minor, _ := strconv.Atoi(m[1]); minor >= nativeSidecars { // they are digits
		return nil
	}
	return &Refusal{
		fmt.Sprintf("Kubernetes %s has no native sidecars, and Jobs with a sidecar would never end", p.config.Kubernetes),
		fmt.Sprintf("upgrade to 1.%d or newer, or %s", nativeSidecars, leaveOut),
	}
}

func (p *proxied) platform() *Refusal {
	s := &p.pod.Spec
	switch {
	case s.HostNetwork:
		return &Refusal{"it has hostNetwork: true, and what is captured there is the node's", "have the node itself join as a host, or " + leaveOut}
	case s.OS != nil && s.OS.Name == corev1.Windows, s.NodeSelector[corev1.LabelOSStable] == string(corev1.Windows):
		return &Refusal{"it runs on Windows, where Envoy and the agent do not", leaveOut}
	}
	return nil
}

func (p *proxied) otherMesh() *Refusal {
	for _, m := range meshes {
		for _, name := range m.containers {
			if container(p.pod, name) != nil {
				return &Refusal{
					fmt.Sprintf("%s has injected it: it has the container %s", m.name, name),
					"take it out of that mesh first, or " + leaveOut,
				}
			}
		}
		if says(p.pod.Labels, m.declines) != "" || says(p.pod.Annotations, m.declines) != "" {
			continue
		}
		for _, place := range []struct {
			whose string
			said  []map[string]string
		}{
			{"its", []map[string]string{p.pod.Labels, p.pod.Annotations}},
			{"its namespace's", []map[string]string{p.ns.Labels, p.ns.Annotations}},
		} {
			for _, said := range place.said {
				if key := says(said, m.asks); key != "" {
					return &Refusal{
						fmt.Sprintf("%s would inject it too: %s %s is %q", m.name, place.whose, key, said[key]),
						"take it out of that mesh first, or " + leaveOut,
					}
				}
			}
		}
	}
	return nil
}

// says returns a key that has one of the values, "" if none has.
func says(said map[string]string, values map[string][]string) string {
	for _, key := range sorted(values) {
		if v, ok := said[key]; ok && (slices.Contains(values[key], v) || slices.Contains(values[key], "*")) {
			return key
		}
	}
	return ""
}

// PodSecurity's label, and its levels that do not let a container have NET_ADMIN.
const podSecurityEnforce = "pod-security.kubernetes.io/enforce"

func (p *proxied) podSecurity() *Refusal {
	level := p.ns.Labels[podSecurityEnforce]
	if p.mode != CapturePod || level != "baseline" && level != "restricted" {
		return nil
	}
	return &Refusal{
		fmt.Sprintf("its traffic is to be captured, which takes the capability NET_ADMIN, and its namespace enforces PodSecurity %q", level),
		"annotate the pod or the namespace with " + AnnotationCapture + ": none, and the application uses http_proxy",
	}
}

func (p *proxied) names() *Refusal {
	for _, name := range []string{ProxyName, CaptureName} {
		if container(p.pod, name) != nil {
			return &Refusal{fmt.Sprintf("it has a container %s that Causeway has not put there", name), "rename it, or take out what was injected by hand"}
		}
	}
	for _, v := range p.pod.Spec.Volumes {
		if v.Name == stateVolume || v.Name == tlsVolume {
			return &Refusal{fmt.Sprintf("it has a volume %s, which is the name of one of the sidecar's", v.Name), "rename it"}
		}
	}
	return nil
}

// wrongPorts refuses ports that the API server refuses: a file would say that it is well, and not be.
func (p *proxied) wrongPorts() *Refusal {
	for _, list := range [][]corev1.Container{p.pod.Spec.InitContainers, p.pod.Spec.Containers} {
		for i := range list {
			for j, port := range list[i].Ports {
				field, value, remedy := "containerPort", fmt.Sprint(port.ContainerPort), validation.IsValidPortNum(int(port.ContainerPort))
				if port.HostPort != 0 && len(remedy) == 0 {
					field, value, remedy = "hostPort", fmt.Sprint(port.HostPort), validation.IsValidPortNum(int(port.HostPort))
				}
				if protocols := []string{"TCP", "UDP", "SCTP"}; len(remedy) == 0 && port.Protocol != "" && !slices.Contains(protocols, string(port.Protocol)) {
					field, value, remedy = "protocol", strconv.Quote(string(port.Protocol)), []string{"must be TCP, UDP or SCTP"}
				}
				if len(remedy) > 0 {
					return &Refusal{fmt.Sprintf("its container %s has ports[%d].%s: %s", list[i].Name, j, field, value), "it " + remedy[0]}
				}
			}
		}
	}
	return nil
}

// ports refuses containers that listen where the sidecar does: all share one network.
func (p *proxied) ports() *Refusal {
	taken := []int32{naming.EnvoyAdminPort, naming.HTTPPort, naming.AgentPort}
	if p.mode == CapturePod {
		taken = append(taken, naming.OutboundPort)
	}
	if len(p.inbound) > 0 {
		taken = append(taken, naming.InboundPort)
	}
	for _, list := range [][]corev1.Container{p.pod.Spec.InitContainers, p.pod.Spec.Containers} {
		for i := range list {
			for _, port := range list[i].Ports {
				if slices.Contains(taken, port.ContainerPort) && port.Protocol != corev1.ProtocolUDP && port.Protocol != corev1.ProtocolSCTP {
					return &Refusal{
						fmt.Sprintf("its container %s has the port %d, which is the sidecar's", list[i].Name, port.ContainerPort),
						"give the container another port, or " + leaveOut,
					}
				}
			}
		}
	}
	return nil
}

// users refuses containers that run as the sidecar's user: what they send would pass the mesh by in silence.
func (p *proxied) users() *Refusal {
	if p.mode != CapturePod {
		return nil
	}
	var ofPod *int64
	if s := p.pod.Spec.SecurityContext; s != nil {
		ofPod = s.RunAsUser
	}
	for _, list := range [][]corev1.Container{p.pod.Spec.InitContainers, p.pod.Spec.Containers} {
		for i := range list {
			user := ofPod
			if s := list[i].SecurityContext; s != nil && s.RunAsUser != nil {
				user = s.RunAsUser
			}
			if user != nil && *user == proxyUser {
				return &Refusal{
					fmt.Sprintf("its container %s runs as the user %d, which is the sidecar's: what it sends could not be told from what Envoy sends", list[i].Name, proxyUser),
					"give it another runAsUser, or annotate the pod with " + AnnotationCapture + ": none",
				}
			}
		}
	}
	return nil
}
