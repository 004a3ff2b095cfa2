package convert

import (
	"cmp"
	"encoding/json"
	"strconv"
	"unique"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// intern makes one string of equal ones: zones, nodes, namespaces and port
// names repeat in every row, and each would keep the whole object's buffer.
func intern(s string) string { return unique.Make(s).Value() }

// Service returns the row of a Service.
func Service(s *corev1.Service, scope string) *discovery.Service {
	out := &discovery.Service{
		Scope:      scope,
		Key:        discovery.Key{Namespace: intern(s.Namespace), Name: s.Name},
		Home:       s.Annotations[v1alpha1.HomeAnnotation],
		Failover:   s.Annotations[v1alpha1.FailoverAnnotation],
		Created:    s.CreationTimestamp.Time,
		Generation: s.Generation,
	}
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		out.ExternalName = s.Spec.ExternalName
		return out
	}
	ips := s.Spec.ClusterIPs
	if len(ips) == 0 && s.Spec.ClusterIP != "" {
		ips = []string{s.Spec.ClusterIP}
	}
	for _, ip := range ips {
		if ip != corev1.ClusterIPNone {
			out.ClusterIPs = append(out.ClusterIPs, ip)
		}
	}
	out.ClientIP = s.Spec.SessionAffinity == corev1.ServiceAffinityClientIP
	out.LocalTraffic = s.Spec.InternalTrafficPolicy != nil && *s.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal
	if s.Spec.TrafficDistribution != nil {
		out.Distribution = *s.Spec.TrafficDistribution
	}
	out.Edge = edgeService(s)
	for _, f := range s.Spec.IPFamilies {
		out.IPv6 = append(out.IPv6, f == corev1.IPv6Protocol)
	}
	for _, p := range s.Spec.Ports {
		if p.Protocol != corev1.ProtocolTCP && p.Protocol != "" {
			continue
		}
		port := discovery.ServicePort{Name: intern(p.Name), Port: uint16(p.Port)} //nolint:gosec // the API limits it to 65535
		if p.AppProtocol != nil {
			port.AppProtocol = intern(*p.AppProtocol)
		}
		out.Ports = append(out.Ports, port)
	}
	return out
}

// edgeService returns what counts of a Service that was made for a Gateway, nil for any other.
func edgeService(s *corev1.Service) *discovery.EdgeService {
	owner := metav1.GetControllerOfNoCopy(s)
	if s.Labels[v1alpha1.ManagedByKey] != v1alpha1.ManagedBy || owner == nil || owner.Kind != discovery.KindGateway {
		return nil
	}
	out := &discovery.EdgeService{UID: string(owner.UID), Balanced: s.Spec.Type == corev1.ServiceTypeLoadBalancer}
	for _, in := range s.Status.LoadBalancer.Ingress {
		if text := cmp.Or(in.Hostname, in.IP); text != "" {
			out.Ingress = append(out.Ingress, text)
		}
	}
	return out
}

// EndpointSlice returns the row of a slice, nil for a slice without meaning for
// the mesh: one of no Service, or one of names instead of addresses.
func EndpointSlice(s *discoveryv1.EndpointSlice, scope string) *discovery.EndpointSet {
	if s.AddressType == discoveryv1.AddressTypeFQDN {
		return nil
	}
	out := &discovery.EndpointSet{
		Scope:      scope,
		Key:        discovery.Key{Namespace: intern(s.Namespace), Name: s.Name},
		Generation: s.Generation,
		Platform:   discovery.Pods,
	}
	service := s.Labels[discoveryv1.LabelServiceName]
	var reasons map[string]string
	var weight uint32
	if s.Labels[discoveryv1.LabelManagedBy] == v1alpha1.ManagedBy {
		out.Platform = discovery.Instances
		out.Group = intern(s.Labels[v1alpha1.InstanceGroupLabel])
		service = s.Labels[v1alpha1.ServiceLabel]
		// An annotation that this version cannot read comes from a newer
		// replica. It is ignored and must not cost an endpoint.
		_ = json.Unmarshal([]byte(s.Annotations[v1alpha1.ReasonsAnnotation]), &reasons)
		if w, err := strconv.ParseUint(s.Annotations[v1alpha1.WeightAnnotation], 10, 16); err == nil {
			weight = uint32(w)
		}
	}
	if service == "" {
		return nil
	}
	out.Service = discovery.Key{Namespace: out.Namespace, Name: intern(service)}
	for _, p := range s.Ports {
		if p.Port == nil || (p.Protocol != nil && *p.Protocol != corev1.ProtocolTCP) {
			continue
		}
		port := discovery.EndpointPort{Port: uint16(*p.Port)} //nolint:gosec // the API limits it to 65535
		if p.Name != nil {
			port.Name = intern(*p.Name)
		}
		out.Ports = append(out.Ports, port)
	}
	out.Endpoints = make([]discovery.Endpoint, 0, len(s.Endpoints))
	spot := s.Labels[v1alpha1.SpotLabel] == "true"
	for i := range s.Endpoints {
		e, ok := endpoint(&s.Endpoints[i], out.Platform, out.Namespace)
		if !ok {
			continue
		}
		if out.Platform == discovery.Instances {
			e.Spot, e.Weight = spot, weight
			if r, ok := reasons[e.ID]; ok {
				e.Reason = r
			}
		}
		out.Endpoints = append(out.Endpoints, e)
	}
	return out
}

// endpoint converts one endpoint, false for one that must not be used at all.
//
// Only the first address counts: the API gives the others no meaning, and
// kube-proxy ignores them too. Unset conditions mean ready, serving and not
// terminating. A terminating endpoint gets no new requests, even if the Service
// publishes addresses that are not ready.
func endpoint(e *discoveryv1.Endpoint, p discovery.BackingName, namespace string) (discovery.Endpoint, bool) {
	if len(e.Addresses) == 0 {
		return discovery.Endpoint{}, false
	}
	out := discovery.Endpoint{Address: e.Addresses[0], ID: e.Addresses[0]}
	if t := e.TargetRef; t != nil && t.Name != "" {
		out.ID = t.Name
		if p == discovery.Pods {
			if t.Namespace != "" {
				namespace = t.Namespace
			}
			out.ID = namespace + "/" + t.Name
		}
	}
	if e.Zone != nil {
		out.Zone = intern(*e.Zone)
	}
	if e.NodeName != nil {
		out.Node = intern(*e.NodeName)
	}
	if e.Hostname != nil && p == discovery.Pods {
		out.Hostname = *e.Hostname
	}
	ready := e.Conditions.Ready == nil || *e.Conditions.Ready
	serving := e.Conditions.Serving == nil || *e.Conditions.Serving
	terminating := e.Conditions.Terminating != nil && *e.Conditions.Terminating
	switch {
	case terminating && (ready || serving):
		out.Health, out.Reason = discovery.Draining, "Terminating"
	case terminating:
		return out, false
	case !ready:
		out.Health, out.Reason = discovery.Unhealthy, "NotReady"
	}
	return out, true
}
