package objects

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Limits of the EndpointSlice API.
const (
	maxSliceEndpoints = 1000
	maxSlicePorts     = 100
)

// checkNames fills in the namespace and checks both names of an object. An
// empty default is for kinds that have no namespace.
func checkNames(namespace string, o metav1.Object, isName func(string) []string) []v1alpha1.FieldError {
	var out []v1alpha1.FieldError
	if o.GetNamespace() == "" {
		o.SetNamespace(namespace)
	}
	if errs := isName(o.GetName()); len(errs) > 0 {
		out = append(out, v1alpha1.FieldError{Field: "metadata.name", Message: fmt.Sprintf("%q is not a name", o.GetName()), Remedy: nameRemedy(o.GetName(), len(isName("a.a")) == 0)})
	}
	if given := o.GetNamespace(); given != "" && (namespace == "" || len(validation.IsDNS1123Label(given)) > 0) {
		e := v1alpha1.FieldError{Field: "metadata.namespace", Message: fmt.Sprintf("%q is not a namespace", given), Remedy: nameRemedy(given, false)}
		if namespace == "" {
			e.Message, e.Remedy = "objects of this kind are in no namespace", "remove it"
		}
		out = append(out, e)
	}
	return out
}

// nameRemedy describes a valid name, with one that is near to the written one.
func nameRemedy(written string, dots bool) string {
	const limit = 63
	what, keep := "lower case letters, digits and hyphens", "-"
	if dots {
		what, keep = "lower case letters, digits, hyphens and dots", "-."
	} else if len(written) > limit {
		return fmt.Sprintf("it has %d characters: write at most %d", len(written), limit)
	}
	example := strings.Trim(strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', strings.ContainsRune(keep, r):
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, written), "-.")
	if example == "" || len(example) > limit {
		example = "php-web"
	}
	return fmt.Sprintf("write %s, for example %s", what, example)
}

// checkLabels returns the mistakes in an object's labels.
func checkLabels(labels map[string]string) []v1alpha1.FieldError {
	var out []v1alpha1.FieldError
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if errs := validation.IsQualifiedName(key); len(errs) > 0 {
			out = append(out, v1alpha1.FieldError{Field: "metadata.labels", Message: fmt.Sprintf("%q is not a label's key", key), Remedy: "write a key like team or example.com/team, with at most 63 characters after the slash"})
		}
		if errs := validation.IsValidLabelValue(labels[key]); len(errs) > 0 {
			out = append(out, v1alpha1.FieldError{Field: "metadata.labels." + key, Message: fmt.Sprintf("%q is not a label's value", labels[key]), Remedy: "write at most 63 letters, digits, hyphens, dots and underscores, for example prod"})
		}
	}
	return out
}

// checkService returns the mistakes in what the mesh reads of a Service.
func checkService(s *corev1.Service) []v1alpha1.FieldError {
	var out []v1alpha1.FieldError
	bad := func(field, message, remedy string) {
		out = append(out, v1alpha1.FieldError{Field: field, Message: message, Remedy: remedy})
	}
	switch s.Spec.Type {
	case "", corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer:
		if len(s.Spec.Ports) == 0 && s.Spec.ClusterIP != corev1.ClusterIPNone {
			bad("spec.ports", "it is empty", "list the ports that callers use")
		}
	case corev1.ServiceTypeExternalName:
		if len(validation.IsDNS1123Subdomain(s.Spec.ExternalName)) > 0 {
			bad("spec.externalName", fmt.Sprintf("%q is not a host name", s.Spec.ExternalName), "name the host that the Service stands for")
		}
	default:
		bad("spec.type", fmt.Sprintf("%q is not a type of Service", s.Spec.Type), "write ClusterIP, or leave it out")
	}
	clusterIP := func(field, ip string) {
		if _, err := netip.ParseAddr(ip); err != nil && ip != corev1.ClusterIPNone && ip != "" {
			bad(field, fmt.Sprintf("%q is not an IP address", ip), "write one, or None")
		}
	}
	clusterIP("spec.clusterIP", s.Spec.ClusterIP)
	for i, ip := range s.Spec.ClusterIPs {
		clusterIP(fmt.Sprintf("spec.clusterIPs[%d]", i), ip)
	}
	out = append(out, checkServiceEnums(&s.Spec)...)
	names := make(map[string]bool)
	numbers := make(map[string]bool)
	for i, p := range s.Spec.Ports {
		field := fmt.Sprintf("spec.ports[%d]", i)
		if p.Port < 1 || p.Port > 65535 {
			bad(field+".port", fmt.Sprintf("%d is not a port", p.Port), "write 1 to 65535")
		}
		protocol := p.Protocol
		switch protocol {
		case "":
			protocol = corev1.ProtocolTCP
		case corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP:
		default:
			bad(field+".protocol", fmt.Sprintf("%q is not a protocol", p.Protocol), "write TCP, UDP or SCTP")
		}
		out = append(out, checkTargetPort(field, &p)...)
		number := fmt.Sprintf("%d/%s", p.Port, protocol)
		if numbers[number] {
			bad(field+".port", number+" stands twice", "list each port once")
		}
		numbers[number] = true
		out = append(out, checkPortName(field+".name", p.Name, len(s.Spec.Ports) > 1, names)...)
	}
	return out
}

// checkServiceEnums returns the fields of a Service that have a value which an
// API server does not know.
func checkServiceEnums(s *corev1.ServiceSpec) []v1alpha1.FieldError {
	var out []v1alpha1.FieldError
	one := func(field, value string, values ...string) {
		if value != "" && !slices.Contains(values, value) {
			out = append(out, v1alpha1.FieldError{Field: field, Message: fmt.Sprintf("%q is not allowed", value), Remedy: oneOf(value, values)})
		}
	}
	one("spec.sessionAffinity", string(s.SessionAffinity), "None", "ClientIP")
	one("spec.externalTrafficPolicy", string(s.ExternalTrafficPolicy), "Cluster", "Local")
	if p := s.InternalTrafficPolicy; p != nil {
		one("spec.internalTrafficPolicy", string(*p), "Cluster", "Local")
	}
	if p := s.TrafficDistribution; p != nil {
		one("spec.trafficDistribution", *p, "PreferClose", "PreferSameZone", "PreferSameNode")
	}
	if p := s.IPFamilyPolicy; p != nil {
		one("spec.ipFamilyPolicy", string(*p), "SingleStack", "PreferDualStack", "RequireDualStack")
	}
	for i, f := range s.IPFamilies {
		one(fmt.Sprintf("spec.ipFamilies[%d]", i), string(f), "IPv4", "IPv6")
	}
	if c := s.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
		if n := *c.ClientIP.TimeoutSeconds; n < 1 || n > 86400 {
			out = append(out, v1alpha1.FieldError{
				Field: "spec.sessionAffinityConfig.clientIP.timeoutSeconds", Message: fmt.Sprintf("%d is out of bounds", n), Remedy: "write 1 to 86400",
			})
		}
	}
	return out
}

// checkTargetPort returns the mistakes in where a port's endpoints listen, as
// an API server finds them.
func checkTargetPort(field string, p *corev1.ServicePort) []v1alpha1.FieldError {
	var out []v1alpha1.FieldError
	bad := func(field, message, remedy string) {
		out = append(out, v1alpha1.FieldError{Field: field, Message: message, Remedy: remedy})
	}
	switch target := p.TargetPort; {
	case target.Type == intstr.String && len(validation.IsValidPortName(target.StrVal)) > 0:
		bad(field+".targetPort", fmt.Sprintf("%q is not the name of a port", target.StrVal), "write a container port's name of at most 15 lower case letters, or its number")
	case target.Type == intstr.Int && target.IntVal != 0 && (target.IntVal < 1 || target.IntVal > 65535):
		bad(field+".targetPort", fmt.Sprintf("%d is not a port", target.IntVal), "write 1 to 65535")
	}
	if p.NodePort < 0 || p.NodePort > 65535 {
		bad(field+".nodePort", fmt.Sprintf("%d is not a port", p.NodePort), "leave it out, and one is chosen")
	}
	if p.AppProtocol != nil {
		if len(validation.IsQualifiedName(*p.AppProtocol)) > 0 && *p.AppProtocol != "" {
			bad(field+".appProtocol", fmt.Sprintf("%q is not the name of a protocol", *p.AppProtocol), "write, for example, http or kubernetes.io/h2c")
		}
	}
	return out
}

// checkPortName checks one port's name against those before it.
func checkPortName(field, name string, required bool, names map[string]bool) []v1alpha1.FieldError {
	e := v1alpha1.FieldError{Field: field, Remedy: "give every port its own lower case name"}
	switch {
	case names[name] && name != "":
		e.Message = fmt.Sprintf("%q stands twice", name)
	case name == "" && required:
		e.Message = "it is missing, and there is more than one port"
	case name != "" && len(validation.IsDNS1123Label(name)) > 0:
		e.Message = fmt.Sprintf("%q is not a name", name)
	default:
		names[name] = true
		return nil
	}
	return []v1alpha1.FieldError{e}
}

// checkEndpointSlice returns the mistakes in what the mesh reads of a slice.
func checkEndpointSlice(s *discoveryv1.EndpointSlice) []v1alpha1.FieldError {
	var out []v1alpha1.FieldError
	bad := func(field, message, remedy string) {
		out = append(out, v1alpha1.FieldError{Field: field, Message: message, Remedy: remedy})
	}
	if s.Labels[discoveryv1.LabelServiceName] == "" {
		bad("metadata.labels", "there is no "+discoveryv1.LabelServiceName, "name the Service that these endpoints are of")
	}
	if s.Labels[discoveryv1.LabelManagedBy] == v1alpha1.ManagedBy {
		bad("metadata.labels", "slices managed by "+v1alpha1.ManagedBy+" are written by Causeway itself", "remove the label "+discoveryv1.LabelManagedBy)
	}
	ipv4 := s.AddressType == discoveryv1.AddressTypeIPv4
	if !ipv4 && s.AddressType != discoveryv1.AddressTypeIPv6 {
		bad("addressType", fmt.Sprintf("%q is not a kind of IP address", s.AddressType), "write IPv4 or IPv6")
		return out
	}
	if len(s.Ports) > maxSlicePorts {
		bad("ports", fmt.Sprintf("there are more than %d", maxSlicePorts), "split the slice")
	}
	names := make(map[string]bool)
	for i, p := range s.Ports {
		field := fmt.Sprintf("ports[%d]", i)
		if p.Port == nil || *p.Port < 1 || *p.Port > 65535 {
			bad(field+".port", "it is not a port", "write 1 to 65535")
		}
		if p.Protocol != nil && *p.Protocol != corev1.ProtocolTCP && *p.Protocol != corev1.ProtocolUDP && *p.Protocol != corev1.ProtocolSCTP {
			bad(field+".protocol", fmt.Sprintf("%q is not a protocol", *p.Protocol), "write TCP, UDP or SCTP")
		}
		name := ""
		if p.Name != nil {
			name = *p.Name
		}
		out = append(out, checkPortName(field+".name", name, len(s.Ports) > 1, names)...)
	}
	if len(s.Endpoints) > maxSliceEndpoints {
		bad("endpoints", fmt.Sprintf("there are more than %d", maxSliceEndpoints), "split the slice")
	}
	for i, e := range s.Endpoints {
		field := fmt.Sprintf("endpoints[%d].addresses", i)
		if len(e.Addresses) == 0 {
			bad(field, "it is empty", "write the endpoint's IP address")
		}
		for j, a := range e.Addresses {
			if ip, err := netip.ParseAddr(a); err != nil || ip.Is4() != ipv4 || ip.Zone() != "" {
				bad(fmt.Sprintf("%s[%d]", field, j), fmt.Sprintf("%q is not an %s address", a, s.AddressType), "write one, or put it into a slice of its kind")
			}
		}
	}
	return out
}
