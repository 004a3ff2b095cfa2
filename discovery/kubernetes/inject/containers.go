package inject

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/causeway-mesh/causeway/policy/naming"
)

// Names of what is added.
const (
	ProxyName   = "causeway-proxy"
	CaptureName = "causeway-capture"
	stateVolume = "causeway-state"
	tlsVolume   = "causeway-tls"
)

// proxyUser is who the agent and Envoy run as. What it sends is not captured: no other container may be it.
const proxyUser = 1337

// noAddress is a range that no Service has an address of.
const noAddress = "0.0.0.0/32"

const (
	stateDir  = "/var/lib/causeway-agent"
	tlsDir    = "/etc/causeway/tls"
	zoneLabel = "topology.kubernetes.io/zone"
)

// Kubernetes' default, and what is left of a grace period for Envoy's and the agent's end.
const (
	defaultGrace = 30 * time.Second
	endsIn       = 5 * time.Second
)

// The startup probe asks every second. A control plane that is away holds a pod for that long at most before the
// kubelet starts the sidecar again; the agent itself goes on with its last known good after --wait.
const startupSeconds = 120

func (p *proxied) proxy() corev1.Container {
	out := p.config.agent(p.proxyArgs())
	out.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
	return out
}

// agent is the container with the agent and Envoy.
func (c *Config) agent(args []string) corev1.Container {
	ready := corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/ready", Port: intstr.FromInt32(naming.AgentPort)}}
	return corev1.Container{
		Name: ProxyName, Image: c.Image, ImagePullPolicy: c.ImagePullPolicy,
		Args: args,
		Env: []corev1.EnvVar{
			field("NAMESPACE", "metadata.namespace"),
			field("POD_NAME", "metadata.name"),
			field("POD_UID", "metadata.uid"),
			field("NODE_NAME", "spec.nodeName"),
			// Kubernetes 1.35 and newer labels pods with their node's zone; without the label it is empty.
			field("ZONE", "metadata.labels['"+zoneLabel+"']"),
		},
		Ports: []corev1.ContainerPort{{Name: "mesh-metrics", ContainerPort: naming.AgentPort, Protocol: corev1.ProtocolTCP}},
		// The containers that follow start once Envoy serves.
		StartupProbe:   &corev1.Probe{ProbeHandler: ready, PeriodSeconds: 1, FailureThreshold: startupSeconds, TimeoutSeconds: 2},
		ReadinessProbe: &corev1.Probe{ProbeHandler: ready, PeriodSeconds: 2, FailureThreshold: 3, TimeoutSeconds: 2},
		Resources:      *c.Resources.DeepCopy(),
		SecurityContext: restrictedTo(&corev1.SecurityContext{
			RunAsUser: new(int64(proxyUser)), RunAsGroup: new(int64(proxyUser)), RunAsNonRoot: new(true),
		}),
		VolumeMounts: []corev1.VolumeMount{
			{Name: stateVolume, MountPath: stateDir},
			{Name: tlsVolume, MountPath: tlsDir, ReadOnly: true},
		},
	}
}

// restrictedTo adds what PodSecurity "restricted" wants.
func restrictedTo(s *corev1.SecurityContext) *corev1.SecurityContext {
	s.AllowPrivilegeEscalation = new(false)
	s.Privileged = new(false)
	s.ReadOnlyRootFilesystem = new(true)
	s.SeccompProfile = &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}
	if s.Capabilities == nil {
		s.Capabilities = &corev1.Capabilities{}
	}
	s.Capabilities.Drop = []corev1.Capability{"ALL"}
	return s
}

func field(name, path string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: path}}}
}

// agentArgs are the arguments of every agent in a pod: who it is, where the control plane is, and
// by what it proves who it is.
func (c *Config) agentArgs(workload, secret string, drain time.Duration, more ...string) []string {
	args := append([]string{"agent", "run", "--namespace=$(NAMESPACE)", "--workload=" + workload, "--id=$(POD_UID)", "--zone=$(ZONE)"}, more...)
	for _, s := range c.Servers {
		args = append(args, "--server="+s)
	}
	args = append(args, "--tls-ca="+tlsDir+"/"+CAKey, "--tls-server-name="+c.TLSServerName)
	if secret == "" {
		args = append(args, "--token-file="+tlsDir+"/"+tokenFile)
	} else {
		args = append(args, "--tls-cert="+tlsDir+"/tls.crt", "--tls-key="+tlsDir+"/tls.key")
	}
	return append(args,
		"--state-dir="+stateDir,
		// Beyond loopback, for the kubelet's probes and for Prometheus.
		"--listen=:"+strconv.Itoa(naming.AgentPort),
		"--drain-timeout="+drain.String())
}

func (p *proxied) proxyArgs() []string {
	args := p.config.agentArgs(p.workload, p.secret, p.drainTimeout(), "--node-name=$(NODE_NAME)")
	if p.mode != CapturePod {
		return args
	}
	var v4, v6 []string
	for _, s := range p.config.ServiceCIDRs {
		if netip.MustParsePrefix(s).Addr().Is4() {
			v4 = append(v4, s)
		} else {
			v6 = append(v6, s)
		}
	}
	port := ":" + strconv.Itoa(naming.OutboundPort) + "="
	if len(v4) == 0 {
		v4 = []string{noAddress} // IPv4 is redirected too, and goes on to where it was going
	}
	args = append(args, "--captured-listen=127.0.0.1"+port+strings.Join(v4, ","))
	if len(v6) > 0 { // else IPv6 is not captured
		args = append(args, "--captured-listen=[::1]"+port+strings.Join(v6, ","))
	}
	if _, inbound := p.inboundTexts(); inbound != "" {
		port = ":" + strconv.Itoa(naming.InboundPort) + "=" + inbound
		args = append(args, "--inbound-listen=0.0.0.0"+port)
		if len(v6) > 0 {
			args = append(args, "--inbound-listen=[::]"+port)
		}
	}
	return args
}

// drainTimeout fits into the pod's grace period. The kubelet tells the sidecar to end once the pod's containers
// have ended, so that most of the time nothing is left to wait for.
func (p *proxied) drainTimeout() time.Duration {
	grace := defaultGrace
	if s := p.pod.Spec.TerminationGracePeriodSeconds; s != nil {
		grace = time.Duration(max(*s, 1)) * time.Second
	}
	most := grace - endsIn
	if grace <= 2*endsIn {
		most = grace / 2
	}
	return min(p.config.DrainTimeout.Duration, most)
}

// capture is the only container with a privilege. It ends before any other starts.
func (p *proxied) capture() corev1.Container {
	ports, _ := p.inboundTexts()
	args := []string{"agent", "capture", "--mode=pod", "--proxy-users=" + strconv.Itoa(proxyUser), "--inbound-ports=" + ports}
	var env []corev1.EnvVar
	if len(p.inbound) > 0 {
		// The kubelet's probes ask the application itself: Envoy would answer to tcpSocket for it.
		args = append(args, "--exclude-inbound-cidrs="+strings.Join(append([]string{"gateways", "$(HOST_IPS)"}, p.unheard()...), ","))
		env = append(env, field("HOST_IPS", "status.hostIPs"))
	}
	if len(p.excludePorts) > 0 {
		args = append(args, "--exclude-outbound-ports="+strings.Join(p.excludePorts, ","))
	}
	if out := append(p.unheard(), p.excludeCIDRs...); len(out) > 0 {
		args = append(args, "--exclude-outbound-cidrs="+strings.Join(out, ","))
	}
	return corev1.Container{
		Name: CaptureName, Image: p.config.Image, ImagePullPolicy: p.config.ImagePullPolicy, Args: args, Env: env,
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("32Mi")},
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")},
		},
		// A capability takes effect for root alone.
		SecurityContext: restrictedTo(&corev1.SecurityContext{
			RunAsUser: new(int64(0)), RunAsGroup: new(int64(0)), RunAsNonRoot: new(false),
			Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"NET_ADMIN"}},
		}),
	}
}

// unheard are the addresses for whose connections Envoy has no listener. Without IPv6 among the cluster's Services it has none
// for IPv6, as the pod may have no such address, and what the pod sends to such addresses is no Service's.
func (p *proxied) unheard() []string {
	for _, s := range p.config.ServiceCIDRs {
		if netip.MustParsePrefix(s).Addr().Is6() {
			return nil
		}
	}
	return []string{"::/0"}
}

func (p *proxied) volumes() []corev1.Volume { return agentVolumes(p.secret, p.config.TokenAudience) }

// agentVolumes are the volumes that the agent's container mounts: its state, and what proves who it is.
func agentVolumes(secret, audience string) []corev1.Volume {
	return []corev1.Volume{
		{Name: stateVolume, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: new(resource.MustParse("256Mi"))}}},
		{Name: tlsVolume, VolumeSource: proofs(secret, audience)},
	}
}

const (
	tokenFile = "token"
	// tokenSeconds is how long a token lives. The kubelet replaces it when four fifths are over.
	tokenSeconds = 3600
)

// proofs are the files by which an agent proves who it is and verifies the control plane: those of a Secret, or, for "", a
// token of the pod's service account that is for the audience alone, and the CA that the control plane publishes.
func proofs(secret, audience string) corev1.VolumeSource {
	if secret != "" {
		return corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
			SecretName: secret, Items: slices.Clone(tlsItems), DefaultMode: new(int32(0o444)),
		}}
	}
	return corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		DefaultMode: new(int32(0o444)),
		Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: audience, ExpirationSeconds: new(int64(tokenSeconds)), Path: tokenFile}},
			{ConfigMap: &corev1.ConfigMapProjection{
				LocalObjectReference: corev1.LocalObjectReference{Name: CAName}, Items: []corev1.KeyToPath{{Key: CAKey, Path: CAKey}},
			}},
		},
	}}
}

// tlsItems are the files that the sidecar reads. A Secret that lacks one keeps the pod from starting, and the
// kubelet's Event names it.
var tlsItems = []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}, {Key: "tls.crt", Path: "tls.crt"}, {Key: "tls.key", Path: "tls.key"}}
