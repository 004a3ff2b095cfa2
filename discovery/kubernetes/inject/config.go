package inject

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"
)

// Mode says how an application's traffic comes to its sidecar.
type Mode string

const (
	// CapturePod redirects what the pod sends to its sidecar; the application changes nothing.
	CapturePod Mode = "pod"
	// CaptureNone redirects nothing: the application uses http_proxy and the sidecar's TCP listeners.
	CaptureNone Mode = "none"
)

func (m Mode) known() bool { return m == CapturePod || m == CaptureNone }

// CAName is the ConfigMap, in the namespaces of members, with the CA of the control plane's certificate in CAKey.
const (
	CAName = "causeway-ca"
	CAKey  = "ca.crt"
)

// DefaultAudience is for whom the tokens of pods are.
const DefaultAudience = "causeway"

// Config is what is the same for all pods of a mesh, in YAML.
type Config struct {
	// Image has the agent and Envoy (make image-agent). Required.
	Image           string            `json:"image"`
	ImagePullPolicy corev1.PullPolicy `json:"imagePullPolicy,omitempty"`
	// Servers are the control plane's addresses, HOST:PORT; by default the Service causeway in the control plane's namespace.
	Servers []string `json:"servers,omitempty"`
	// TLSServerName is a DNS name in the control plane's certificate; by default the host of the first server.
	TLSServerName string `json:"tlsServerName,omitempty"`
	// TLSSecret is the name of a Secret in the pod's namespace with tls.crt, tls.key and ca.crt, by which sidecars
	// prove who they are. By default they do so by the token of their service account. A pod may name a Secret of
	// its own (AnnotationTLSSecret).
	TLSSecret string `json:"tlsSecret,omitempty"`
	// TokenAudience is for whom these tokens are, as --xds-token-audience of causeway serve has it; by default causeway.
	TokenAudience string `json:"tokenAudience,omitempty"`
	// Capture is the mode of pods that do not state one, by default pod.
	Capture Mode `json:"capture,omitempty"`
	// ServiceCIDRs are the cluster's ranges of ClusterIPs. Required where traffic is captured.
	ServiceCIDRs []string `json:"serviceCIDRs,omitempty"`
	// ExcludeOutboundPorts and ExcludeOutboundCIDRs are captured in no pod. Ports are as --exclude-outbound-ports
	// of causeway agent capture has them: 3306 or 8000-8010.
	ExcludeOutboundPorts []string `json:"excludeOutboundPorts,omitempty"`
	ExcludeOutboundCIDRs []string `json:"excludeOutboundCIDRs,omitempty"`
	// CaptureInbound is false if what comes into pods is not captured, unless they say so themselves; true by default.
	CaptureInbound *bool `json:"captureInbound,omitempty"`
	// ExcludeInboundPorts are captured in no pod.
	ExcludeInboundPorts []string `json:"excludeInboundPorts,omitempty"`
	// Resources of the sidecar; by default requests of 100m and 128Mi, and a limit of 512Mi.
	Resources *corev1.ResourceRequirements `json:"resources,omitempty"`
	// DrainTimeout is how long requests of the pod have to end once its containers have, by default 60s. A pod whose
	// grace period is shorter has less.
	DrainTimeout *metav1.Duration `json:"drainTimeout,omitempty"`

	// Namespace is the control plane's own, whose pods are never injected.
	Namespace string `json:"-"`
	// Version of Causeway, which is written on the pod.
	Version string `json:"-"`
	// Kubernetes is the version of the API server, for example v1.33.1; "" if it is unknown.
	Kubernetes string `json:"-"`
}

// ParseConfig reads a configuration and fills in defaults. Errors name the field and the remedy.
func ParseConfig(text []byte, namespace, version string) (*Config, error) {
	c := &Config{Namespace: namespace, Version: version}
	if err := yaml.UnmarshalStrict(text, c); err != nil {
		return nil, atFault(text, err)
	}
	if len(c.Servers) == 0 {
		c.Servers = []string{"causeway." + namespace + ".svc:18000"}
	}
	if c.TLSServerName == "" {
		c.TLSServerName, _, _ = net.SplitHostPort(c.Servers[0])
	}
	c.TokenAudience = cmp.Or(c.TokenAudience, DefaultAudience)
	c.Capture = cmp.Or(c.Capture, CapturePod)
	if c.DrainTimeout == nil {
		c.DrainTimeout = &metav1.Duration{Duration: time.Minute}
	}
	if c.CaptureInbound == nil {
		c.CaptureInbound = new(true)
	}
	if c.Resources == nil {
		c.Resources = &corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("128Mi")},
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("512Mi")},
		}
	}
	return c, c.check()
}

// examples are values of fields, for who wrote one of another type.
var examples = map[string]string{
	"image": "registry.example.com/platform/causeway-agent:v0.2.0", "imagePullPolicy": "IfNotPresent", "capture": "pod",
	"servers": "[causeway.causeway-system.svc:18000]", "tlsServerName": "causeway.causeway-system.svc", "tlsSecret": "causeway-proxy-tls", "tokenAudience": DefaultAudience,
	"serviceCIDRs": "[10.96.0.0/12]", "excludeOutboundCIDRs": "[10.20.0.0/16]", "excludeOutboundPorts": `["3306", 8000-8010]`,
	"captureInbound": "true", "excludeInboundPorts": `["3306"]`, "drainTimeout": "60s", "resources": "{limits: {memory: 512Mi}}",
}

// atFault says of a configuration that cannot be read which fields are wrong, and what to write.
func atFault(text []byte, err error) error {
	var fields map[string]any
	if yaml.UnmarshalStrict(text, &fields) != nil {
		return fmt.Errorf("it is not YAML with fields: %s", yamlPrefix.Replace(err.Error()))
	}
	var errs []error
	for _, name := range sorted(fields) {
		one, wrong := yaml.Marshal(map[string]any{name: fields[name]})
		if wrong == nil {
			wrong = yaml.UnmarshalStrict(one, &Config{})
		}
		switch example, known := examples[name]; {
		case wrong == nil:
		case known:
			what := strings.TrimPrefix(yamlPrefix.Replace(wrong.Error()), "json: ")
			errs = append(errs, fmt.Errorf("%s: %s: write, for example, %s: %s", name, what, name, example))
		default:
			errs = append(errs, fmt.Errorf("unknown field %q: the fields are %s", name, strings.Join(sorted(examples), ", ")))
		}
	}
	return cmp.Or(errors.Join(errs...), err)
}

func (c *Config) check() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Image == "" {
		wrong("image: it is empty: write the image with the agent and Envoy that `make image-agent` made and you pushed")
	}
	if err := isImage(c.Image); c.Image != "" && err != nil {
		wrong("image: %w", err)
	}
	if p := c.ImagePullPolicy; p != "" && p != corev1.PullAlways && p != corev1.PullIfNotPresent && p != corev1.PullNever {
		wrong("imagePullPolicy: %q is not Always, IfNotPresent or Never", p)
	}
	for i, s := range c.Servers {
		if host, port, err := net.SplitHostPort(s); err != nil || host == "" || !isPort(port) {
			wrong("servers[%d]: %q is not HOST:PORT: write, for example, causeway.causeway-system.svc:18000", i, s)
		}
	}
	if err := secretName(c.TLSSecret); c.TLSSecret != "" && err != nil {
		wrong("tlsSecret: %w", err)
	}
	if !c.Capture.known() {
		wrong("capture: %q is neither pod nor none", c.Capture)
	}
	if c.Capture == CapturePod && len(c.ServiceCIDRs) == 0 {
		wrong("serviceCIDRs: it is empty, and then no Service is known by its address: write the cluster's ranges of ClusterIPs " +
			"(the API server's --service-cluster-ip-range), or capture: none")
	}
	if len(c.ServiceCIDRs) > maxServiceCIDRs {
		wrong("serviceCIDRs: it has %d ranges: write %d at most", len(c.ServiceCIDRs), maxServiceCIDRs)
	}
	for i, s := range c.ServiceCIDRs {
		if err := isRange(s); err != nil {
			wrong("serviceCIDRs[%d]: %w", i, err)
		}
	}
	for i, s := range c.ExcludeOutboundCIDRs {
		if err := isAddresses(s); err != nil {
			wrong("excludeOutboundCIDRs[%d]: %w", i, err)
		}
	}
	for field, list := range map[string][]string{"excludeOutboundPorts": c.ExcludeOutboundPorts, "excludeInboundPorts": c.ExcludeInboundPorts} {
		for i, s := range list {
			if err := isPortRange(s); err != nil {
				wrong("%s[%d]: %w", field, i, err)
			}
		}
	}
	if c.DrainTimeout.Duration < 0 {
		wrong("drainTimeout: %s is negative: write, for example, 60s", c.DrainTimeout.Duration)
	}
	slices.SortFunc(errs, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

// maxServiceCIDRs is how many ranges a captured listener takes.
const maxServiceCIDRs = 16

func secretName(name string) error {
	if wrong := validation.IsDNS1123Subdomain(name); len(wrong) > 0 {
		return fmt.Errorf("%q is no name of a Secret: write lower case letters, digits, hyphens and dots", name)
	}
	return nil
}

// reference is the name of an image, as registries and container runtimes take it: [HOST[:PORT]/]PATH[:TAG][@DIGEST].
var reference = regexp.MustCompile(`^(?:(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?|\[[a-fA-F0-9:]+\])(?::[0-9]+)?/)?` +
	`[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*` +
	`(?::\w[\w.-]{0,127})?(?:@[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[0-9a-fA-F]{32,})?$`)

func isImage(s string) error {
	if !reference.MatchString(s) {
		return fmt.Errorf("%q is no name of an image: write, for example, %s", s, examples["image"])
	}
	return nil
}

// isAddresses takes a range of addresses, or one address, as causeway agent capture does.
func isAddresses(s string) error {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" && !a.Is4In6() {
		return nil
	}
	return isRange(s)
}

func isRange(s string) error {
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		return fmt.Errorf("%q is no range of addresses: write, for example, 10.96.0.0/12", s)
	}
	if p != p.Masked() { // causeway agent capture refuses it, and the pod would never start
		return fmt.Errorf("%q has bits beyond its length: write %s", s, p.Masked())
	}
	return nil
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

func isPortRange(s string) error {
	first, last, isRange := strings.Cut(s, "-")
	if !isRange {
		last = first
	}
	a, _ := strconv.Atoi(first)
	b, _ := strconv.Atoi(last)
	if !isPort(first) || !isPort(last) || a > b {
		return fmt.Errorf("%q is neither a port nor a range of ports: write, for example, 3306 or 8000-8010", s)
	}
	return nil
}

// list returns the items of an annotation, which are separated by commas, if all are well formed.
func list(text string, check func(string) error) ([]string, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	items := strings.Split(text, ",")
	for i := range items {
		items[i] = strings.TrimSpace(items[i])
		if err := check(items[i]); err != nil {
			return nil, err
		}
	}
	return items, nil
}
