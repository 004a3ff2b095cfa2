package inject

import (
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/causeway-mesh/causeway/discovery"
)

// Edge is what is particular to a pod that is a proxy of a Gateway.
type Edge struct {
	// Gateway is its name, in the pod's namespace.
	Gateway string
	// ControlPlane is the namespace of the control plane.
	ControlPlane string
	Image        string
	PullPolicy   corev1.PullPolicy
	Resources    corev1.ResourceRequirements
	// TLSSecret is the Secret of the pod's namespace by which the proxy proves who it is, "" for its service account's token.
	TLSSecret string
	// Audience is for whom that token is.
	Audience string
	// HealthWait and DrainTimeout are as causeway agent run has them.
	HealthWait, DrainTimeout time.Duration
	// IPv4 and IPv6 are true if clients come by them.
	IPv4, IPv6 bool
}

// EdgePod returns the pod of an edge: the agent with Envoy, as sidecars have it, in the role of a gateway.
//
// It listens for every port of its Gateway by that port's own number, so that no change of a listener makes
// another pod. Ports below 1024 need no privilege: the sysctl that allows them is a safe one, which
// PodSecurity "restricted" takes too.
func EdgePod(e *Edge) corev1.PodSpec {
	server := "causeway." + e.ControlPlane + ".svc"
	c := &Config{
		Image: e.Image, ImagePullPolicy: e.PullPolicy, Resources: &e.Resources, Servers: []string{server + ":18000"}, TLSServerName: server,
	}
	args := c.agentArgs(e.Gateway, e.TLSSecret, e.DrainTimeout, "--role=gateway")
	health := "0.0.0.0"
	if e.IPv4 || !e.IPv6 {
		args = append(args, "--gateway-listen=0.0.0.0")
	} else {
		health = "[::]"
	}
	if e.IPv6 {
		args = append(args, "--gateway-listen=::")
	}
	proxy := c.agent(append(args, "--health-listen="+health+":"+strconv.Itoa(discovery.GatewayHealthPort), "--health-wait="+e.HealthWait.String()))
	proxy.Ports = append(proxy.Ports, corev1.ContainerPort{Name: "health", ContainerPort: discovery.GatewayHealthPort, Protocol: corev1.ProtocolTCP})
	return corev1.PodSpec{
		// It needs nothing of the API server, and no variables of Services, of which there may be thousands.
		AutomountServiceAccountToken: new(false), EnableServiceLinks: new(false),
		TerminationGracePeriodSeconds: new(int64((e.HealthWait + e.DrainTimeout + 2*endsIn + time.Second - 1) / time.Second)),
		SecurityContext: &corev1.PodSecurityContext{
			RunAsUser: new(int64(proxyUser)), RunAsGroup: new(int64(proxyUser)), RunAsNonRoot: new(true),
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			Sysctls:        []corev1.Sysctl{{Name: "net.ipv4.ip_unprivileged_port_start", Value: "0"}},
		},
		Containers: []corev1.Container{proxy}, Volumes: agentVolumes(e.TLSSecret, e.Audience),
	}
}
