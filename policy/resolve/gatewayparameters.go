package resolve

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// The defaults of GatewayParameters.
const (
	edgeReplicas   = 2
	edgeCPU        = 70
	edgeHealthWait = 20 * time.Second
	edgeTimeout    = time.Minute
)

// Edges returns what Gateways want of the cluster whose proxies are made for them, by name.
func Edges(r catalog.Reader) []discovery.Edge {
	var out []discovery.Edge
	for o := range catalog.Objects.By(r, catalog.ByKind, discovery.KindGateway) {
		gateway, ok := o.Spec.(*gatewayv1.Gateway)
		if !ok || gateway.DeletionTimestamp != nil {
			continue
		}
		if m := readGateway(r, o); m != nil && m.managed {
			out = append(out, m.edge(gateway))
		}
	}
	return out
}

// EdgeAccount returns the service account of the proxies that are made for a Gateway, false if they are somebody's own.
// Those of a Gateway that is not managed any more stay, and so does their Service: they are still its proxies.
func EdgeAccount(r catalog.Reader, key discovery.Key) (string, bool) {
	o, ok := catalog.Objects.Get(r, discovery.ObjectName{Kind: discovery.KindGateway, Key: key}.String())
	if !ok {
		return "", false
	}
	m := readGateway(r, o)
	if m == nil {
		return "", false
	}
	name := discovery.EdgeName(key.Name, string(m.spec.GatewayClassName))
	if m.managed {
		return name, true
	}
	service, ok := catalog.Services.Get(r, discovery.Key{Namespace: key.Namespace, Name: name}.String())
	gateway := o.Spec.(*gatewayv1.Gateway) // or there were no meaning
	return name, ok && service.Edge != nil && service.Edge.UID == string(gateway.UID)
}

// edge returns what a managed Gateway wants of the cluster.
func (m *gatewayMeaning) edge(gateway *gatewayv1.Gateway) discovery.Edge {
	out := discovery.Edge{
		Key: m.object.Key, UID: string(gateway.UID), Object: discovery.EdgeName(gateway.Name, string(m.spec.GatewayClassName)),
		Parameters: withEdgeDefaults(&m.parameters), Addresses: m.wantedAddresses(),
	}
	if i := m.spec.Infrastructure; i != nil {
		out.Labels, out.Annotations = make(map[string]string, len(i.Labels)), make(map[string]string, len(i.Annotations))
		for k, v := range i.Labels {
			out.Labels[string(k)] = string(v)
		}
		for k, v := range i.Annotations {
			out.Annotations[string(k)] = string(v)
		}
	}
	// A listener that is in another one's way, or that lacks a certificate, keeps its port: it is nothing but
	// closed, and need not lose what is known of it by its number.
	speaks := make(map[uint16]string)
	for _, l := range m.listeners {
		if _, served := l.listenerProtocol(); served && l.port > 0 && ownPorts[l.port] == "" && speaks[l.port] == "" {
			speaks[l.port] = map[gatewayv1.ProtocolType]string{
				gatewayv1.HTTPProtocolType: "http", gatewayv1.HTTPSProtocolType: "https", gatewayv1.TLSProtocolType: "tls", gatewayv1.TCPProtocolType: "tcp",
			}[l.protocol]
		}
	}
	for _, number := range slices.Sorted(maps.Keys(speaks)) {
		out.Ports = append(out.Ports, discovery.EdgePort{Number: number, AppProtocol: speaks[number]})
	}
	_, unusable := m.addresses()
	switch i := slices.IndexFunc(m.findings, isError); {
	case i >= 0:
		out.Held = m.findings[i].Text()
	case m.unknown != "":
		out.Held = m.unknown
	case m.refused != nil && m.refused.Address: // the cluster may give it when it is asked again
	case unusable != nil && unusable.Reason == string(gatewayv1.GatewayReasonAddressNotUsable):
		out.Held = unusable.Text()
	case len(out.Ports) == 0:
		out.Held = "no listener has a port and a protocol that is spoken"
	}
	return out
}

// readParameters reads whether the Gateway's proxies are made for it, and with which parameters. A
// mistake in what the Gateway names rejects it; one in what its class names leaves it as it is.
func (m *gatewayMeaning) readParameters(r catalog.Reader) {
	gateway := m.object.Spec.(*gatewayv1.Gateway)
	find := func(s policy.Severity, reason gatewayv1.GatewayConditionReason, field, message, remedy string) {
		m.findings = append(m.findings, policy.Finding{
			Severity: s, Object: m.object.Ref(), Field: field, Condition: v1alpha1.ConditionAccepted, Reason: string(reason), Message: message, Remedy: remedy,
		})
	}
	var own, ofClass *v1alpha1.GatewayParametersSpec
	if i := m.spec.Infrastructure; i != nil && i.ParametersRef != nil {
		ref := i.ParametersRef
		params, wrong := findParameters(r, ref.Group, ref.Kind, discovery.Key{Namespace: m.object.Namespace, Name: ref.Name})
		if own = params; wrong != nil {
			find(policy.Error, gatewayv1.GatewayReasonInvalidParameters, "spec.infrastructure.parametersRef", wrong.Message, wrong.Remedy)
		}
	}
	if m.class != nil {
		params, wrong := classParameters(r, m.class)
		if ofClass = params; wrong != nil {
			m.unknown = fmt.Sprintf("the parameters of its class cannot be had: %s", wrong.Text())
			find(policy.Warning, gatewayv1.GatewayReasonAccepted, "spec.gatewayClassName", m.unknown+", so that its proxies are neither made nor changed", "")
		}
	}
	m.parameters = mergedParameters(own, ofClass)
	says, annotated := gateway.Annotations[v1alpha1.ManagedAnnotation]
	if annotated && says != "false" && says != "true" {
		find(policy.Warning, gatewayv1.GatewayReasonAccepted, fmt.Sprintf("metadata.annotations[%q]", v1alpha1.ManagedAnnotation),
			fmt.Sprintf("%q means nothing", says), `write "false" where the Gateway's proxies are yours, or remove it`)
	}
	m.managed = ptr.Deref(m.parameters.Managed, false) && says != "false"
	switch {
	case !m.managed && own != nil && says != "false" && m.unknown == "":
		find(policy.Warning, gatewayv1.GatewayReasonAccepted, "spec.infrastructure.parametersRef",
			"its parameters have no effect, because neither they nor those of its class say managed: true", "say so, or remove the reference")
	case m.managed && m.parameters.Image == "":
		find(policy.Error, gatewayv1.GatewayReasonInvalidParameters, "spec.infrastructure.parametersRef",
			"no image is said for its proxies", "write spec.image into the GatewayParameters of the Gateway or of its class")
	case m.managed && m.parameters.Workload == v1alpha1.GatewayDaemonSet && own != nil && (own.Replicas != nil || own.Autoscaling != nil):
		find(policy.Warning, gatewayv1.GatewayReasonAccepted, "spec.infrastructure.parametersRef",
			"replicas and autoscaling have no effect, because its class says workload: DaemonSet", "say workload: Deployment, or remove them")
	}
	if m.managed {
		m.assigned, m.assignedBy = assignedAddresses(r, gateway, string(m.spec.GatewayClassName))
		if st, ok := catalog.EdgeStatuses.Get(r, m.object.Key.String()); ok {
			m.refused = st
		}
		m.keepOwnPorts()
	}
}

// keepOwnPorts refuses listeners at the ports that managed proxies listen on themselves. Envoy could not bind them there: it
// would refuse the listener, or the proxy's health check would never be answered. Whoever runs proxies chooses their ports.
func (m *gatewayMeaning) keepOwnPorts() {
	for _, l := range m.listeners {
		if use := ownPorts[l.port]; use != "" {
			m.find(l, policy.Error, gatewayv1.ListenerConditionAccepted, gatewayv1.ListenerReasonPortUnavailable, ".port",
				fmt.Sprintf("managed proxies use port %d themselves, for %s", l.port, use), "give the listener another port")
		}
	}
}

// ownPorts are the ports that managed proxies listen on, and what for.
var ownPorts = map[uint16]string{
	discovery.EnvoyAdminPort: "Envoy's admin interface", discovery.AgentPort: "the agent's own checks and metrics", discovery.GatewayHealthPort: "the health check of load balancers",
}

// findParameters returns the spec of GatewayParameters that are named, or what is wrong with the name.
func findParameters(r catalog.Reader, group gatewayv1.Group, kind gatewayv1.Kind, key discovery.Key) (*v1alpha1.GatewayParametersSpec, *policy.Finding) {
	if group != v1alpha1.Group || kind != discovery.KindGatewayParameters {
		return nil, &policy.Finding{
			Message: fmt.Sprintf("kind %q of group %q is no parameter here", kind, group),
			Remedy:  fmt.Sprintf("name GatewayParameters of group %s, or remove it and attach a GatewayPolicy", v1alpha1.Group),
		}
	}
	name := discovery.ObjectName{Kind: discovery.KindGatewayParameters, Key: key}
	o, ok := catalog.Objects.Get(r, name.String())
	if !ok {
		return nil, &policy.Finding{Message: fmt.Sprintf("there is no %s", name), Remedy: "create it or correct the name"}
	}
	spec := &o.Spec.(*v1alpha1.GatewayParameters).Spec
	for _, f := range validateGatewayParameters(r, o) {
		if isError(f) {
			return nil, &policy.Finding{Message: fmt.Sprintf("%s has a mistake: %s", name, f.Text())}
		}
	}
	return spec, nil
}

// classParameters returns the parameters that a class of ours names, nil without any.
func classParameters(r catalog.Reader, o *discovery.Object) (*v1alpha1.GatewayParametersSpec, *policy.Finding) {
	class, ok := o.Spec.(*gatewayv1.GatewayClass)
	if !ok || class.Spec.ParametersRef == nil {
		return nil, nil
	}
	ref := class.Spec.ParametersRef
	if ref.Group == v1alpha1.Group && ref.Kind == discovery.KindGatewayParameters && ref.Namespace == nil {
		return nil, &policy.Finding{Message: "it does not say in which namespace the GatewayParameters are", Remedy: "write parametersRef.namespace"}
	}
	return findParameters(r, ref.Group, ref.Kind, discovery.Key{Namespace: string(ptr.Deref(ref.Namespace, "")), Name: ref.Name})
}

// mergedParameters returns what is said, field by field: a Gateway's own parameters come before its class'.
func mergedParameters(own, ofClass *v1alpha1.GatewayParametersSpec) v1alpha1.GatewayParametersSpec {
	own, ofClass = cmp.Or(own, &v1alpha1.GatewayParametersSpec{}), cmp.Or(ofClass, &v1alpha1.GatewayParametersSpec{})
	out := v1alpha1.GatewayParametersSpec{
		Managed: cmp.Or(own.Managed, ofClass.Managed), Image: cmp.Or(own.Image, ofClass.Image),
		ImagePullPolicy: cmp.Or(own.ImagePullPolicy, ofClass.ImagePullPolicy), ImagePullSecrets: own.ImagePullSecrets,
		Workload: cmp.Or(own.Workload, ofClass.Workload), Replicas: own.Replicas, Autoscaling: own.Autoscaling,
		Resources: cmp.Or(own.Resources, ofClass.Resources), Service: cmp.Or(own.Service, ofClass.Service),
		Scheduling: cmp.Or(own.Scheduling, ofClass.Scheduling), Drain: cmp.Or(own.Drain, ofClass.Drain), TLSSecret: cmp.Or(own.TLSSecret, ofClass.TLSSecret),
	}
	if out.ImagePullSecrets == nil {
		out.ImagePullSecrets = ofClass.ImagePullSecrets
	}
	if own.Replicas == nil && own.Autoscaling == nil { // who says one of them has said how many
		out.Replicas, out.Autoscaling = ofClass.Replicas, ofClass.Autoscaling
	}
	return out
}

// withEdgeDefaults returns parameters in which every field that has a default says something.
func withEdgeDefaults(in *v1alpha1.GatewayParametersSpec) v1alpha1.GatewayParametersSpec {
	out := *in.DeepCopy()
	out.Workload = cmp.Or(out.Workload, v1alpha1.GatewayDeployment)
	switch {
	case out.Workload == v1alpha1.GatewayDaemonSet:
		out.Replicas, out.Autoscaling = nil, nil
	case out.Autoscaling == nil:
		out.Replicas = cmp.Or(out.Replicas, new(int32(edgeReplicas)))
	default:
		out.Autoscaling.CPUUtilization = cmp.Or(out.Autoscaling.CPUUtilization, new(int32(edgeCPU)))
	}
	if out.Resources == nil {
		out.Resources = &v1alpha1.GatewayResources{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m"), corev1.ResourceMemory: resource.MustParse("256Mi")},
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi")},
		}
	}
	out.Service = cmp.Or(out.Service, &v1alpha1.GatewayService{})
	out.Service.Type = cmp.Or(out.Service.Type, corev1.ServiceTypeLoadBalancer)
	out.Scheduling = cmp.Or(out.Scheduling, &v1alpha1.GatewayScheduling{})
	const anyway = v1alpha1.GatewaySpread(corev1.ScheduleAnyway)
	out.Scheduling.Zones, out.Scheduling.Nodes = cmp.Or(out.Scheduling.Zones, anyway), cmp.Or(out.Scheduling.Nodes, anyway)
	out.Drain = cmp.Or(out.Drain, &v1alpha1.GatewayDrain{})
	out.Drain.HealthWait = cmp.Or(out.Drain.HealthWait, &metav1.Duration{Duration: edgeHealthWait})
	out.Drain.Timeout = cmp.Or(out.Drain.Timeout, &metav1.Duration{Duration: edgeTimeout})
	return out
}

// validateGatewayParameters returns the findings about GatewayParameters: what an API server checks, and files do not.
func validateGatewayParameters(_ catalog.Reader, o *discovery.Object) []policy.Finding {
	add, done := policy.FindingsOf(o)
	refuse := func(field, message, remedy string) {
		add(policy.Finding{Severity: policy.Error, Field: field, Condition: v1alpha1.ConditionAccepted, Reason: policy.ReasonInvalid, Message: message, Remedy: remedy})
	}
	spec := &o.Spec.(*v1alpha1.GatewayParameters).Spec
	if a := spec.Autoscaling; a != nil && a.MinReplicas > a.MaxReplicas {
		refuse("spec.autoscaling", fmt.Sprintf("minReplicas is %d, which is more than maxReplicas, %d", a.MinReplicas, a.MaxReplicas), "correct one of them")
	}
	if d := spec.Drain; d != nil {
		for field, value := range map[string]*metav1.Duration{"healthWait": d.HealthWait, "timeout": d.Timeout} {
			if value != nil && value.Duration < 0 {
				refuse("spec.drain."+field, "it is negative", "write, for example, 20s")
			}
		}
	}
	if s := spec.Service; s != nil && s.Type == corev1.ServiceTypeClusterIP && len(s.SourceRanges) > 0 {
		add(policy.Finding{
			Severity: policy.Warning, Field: "spec.service.sourceRanges", Condition: v1alpha1.ConditionAccepted, Reason: policy.ReasonUnsupported,
			Message: "they are a load balancer's, and a Service of the type ClusterIP has none", Remedy: "remove them, or correct type",
		})
	}
	return done()
}

// gatewayParametersConditions returns the condition Accepted of GatewayParameters, which refer to nothing.
func gatewayParametersConditions(r catalog.Reader, o *discovery.Object) []metav1.Condition {
	c := condition(v1alpha1.ConditionAccepted, policy.ReasonAccepted, "the object is valid", validateGatewayParameters(r, o))
	c.ObservedGeneration = o.Generation
	return []metav1.Condition{c}
}

// touchesNothing is for a kind whose objects say nothing to proxies.
func touchesNothing(catalog.Reader, *discovery.Object, func(policy.Unit)) {}

// assignedAddresses returns the addresses that the Service of a managed Gateway has, and the Service; nil for one
// that is not there or not its own.
func assignedAddresses(r catalog.Reader, gateway *gatewayv1.Gateway, class string) ([]gatewayv1.GatewayStatusAddress, *discovery.Service) {
	s, ok := catalog.Services.Get(r, discovery.Key{Namespace: gateway.Namespace, Name: discovery.EdgeName(gateway.Name, class)}.String())
	if !ok || s.Edge == nil || s.Edge.UID != string(gateway.UID) {
		return nil, nil
	}
	texts := s.ClusterIPs
	if s.Edge.Balanced {
		texts = s.Edge.Ingress
	}
	var out []gatewayv1.GatewayStatusAddress
	for _, text := range texts {
		if a := statusAddress(text); len(out) < maxAddresses && !containsAddress(out, a) {
			out = append(out, a)
		}
	}
	return out, s
}

// statusAddress returns an address, or a host name, as a status has it.
func statusAddress(text string) gatewayv1.GatewayStatusAddress {
	kind := gatewayv1.HostnameAddressType
	if _, err := netip.ParseAddr(text); err == nil {
		kind = gatewayv1.IPAddressType
	}
	return gatewayv1.GatewayStatusAddress{Type: &kind, Value: text}
}

// wantedAddresses returns the IP addresses that a Gateway asks for by their value.
func (m *gatewayMeaning) wantedAddresses() []string {
	var out []string
	for i := range m.spec.Addresses {
		a := &m.spec.Addresses[i]
		if ptr.Deref(a.Type, gatewayv1.IPAddressType) == gatewayv1.IPAddressType && a.Value != "" {
			out = append(out, a.Value)
		}
	}
	return out
}

// notAssigned says why an address that a managed Gateway asks for is not there, and what to do.
func (m *gatewayMeaning) notAssigned(value string) (reason gatewayv1.GatewayConditionReason, message, remedy string) {
	of, s := "spec.addresses", m.assignedBy
	name := discovery.Key{Namespace: m.object.Namespace, Name: discovery.EdgeName(m.object.Key.Name, string(m.spec.GatewayClassName))}
	switch {
	case m.refused != nil && m.refused.Address:
		return gatewayv1.GatewayReasonAddressNotUsable, m.refused.Refused, "ask for an address that the cluster can give"
	case s != nil && !s.Edge.Balanced && value != "":
		return gatewayv1.GatewayReasonAddressNotUsable,
			fmt.Sprintf("Service %s has another address already, and Kubernetes lets nobody change it", name),
			fmt.Sprintf("take it out of %s; or delete the Service, which is made anew with this address and whose connections end", of)
	case s != nil && s.Edge.Balanced:
		return gatewayv1.GatewayReasonAddressNotAssigned, fmt.Sprintf("the load balancer of Service %s does not have it yet", name),
			fmt.Sprintf("if it stays so, look at the Service's Events: kubectl -n %s describe service %s", name.Namespace, name.Name)
	}
	return gatewayv1.GatewayReasonAddressNotAssigned, fmt.Sprintf("Service %s is not there yet", name), ""
}
