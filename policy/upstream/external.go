package upstream

import (
	"cmp"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/effective"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// BuildExternal returns what an ExternalService means, nil if there is none of
// this name. It has those of its hosts that nobody else has: proxies refuse
// every virtual host if two claim one name.
func BuildExternal(r catalog.Reader, key discovery.Key) *policy.External {
	o, ok := catalog.Objects.Get(r, discovery.ObjectName{Kind: discovery.KindExternalService, Key: key}.String())
	if !ok {
		return nil
	}
	spec := &o.Spec.(*v1alpha1.ExternalService).Spec
	if len(spec.Hosts) == 0 {
		return nil
	}
	out := &policy.External{Key: key, Provenance: []discovery.ObjectRef{o.Ref()}}
	for _, host := range spec.Hosts {
		if IsExternalHost(host) && !slices.Contains(out.Hosts, host) && HostOwner(r, o, host) == "" {
			out.Hosts = append(out.Hosts, host)
		}
	}
	slices.Sort(out.Hosts)
	if spec.Resolution == v1alpha1.ResolveStatic {
		out.Endpoints = staticEndpoints(spec.Endpoints)
	} else if IsExternalHost(spec.Hosts[0]) {
		out.DNS = spec.Hosts[0]
	}
	var from []discovery.ObjectRef
	ports := ExternalPorts(spec.Ports)
	for _, p := range ports {
		port := policy.ExternalServicePort{
			Number: uint16(p.Number), TargetPort: uint16(cmp.Or(p.TargetPort, p.Number)), Name: p.Name,
			Protocol: ExternalProtocol(p.Protocol), Settings: effective.ExternalSettings(r, key, p.Name),
		}
		own := p.TLS
		if own == nil {
			own = port.Settings.Stated.TLS
		} else if port.Settings.From["tls"] != (discovery.ObjectRef{}) {
			// The object's own word is more specific than a policy about it.
			port.Settings.Stated.TLS = nil
			delete(port.Settings.From, "tls")
		}
		if own != nil {
			var refs []discovery.ObjectRef
			port.TLS, refs = upstreamTLS(r, key.Namespace, own, spec.Hosts[0])
			from = append(from, refs...)
		} else {
			port.TLS = unknownTLS(effective.UnreadTLS(r, o.Name()))
		}
		if port.Protocol == policy.HTTP1 && port.TLS != nil && grpcSent(r, o.Name(), p.Number, len(ports) == 1) {
			port.Protocol = policy.Negotiated
		}
		from = append(from, port.Settings.Refs()...)
		out.Ports = append(out.Ports, port)
	}
	markDefaultExternal(out.Ports)
	out.Provenance = append(out.Provenance, policy.SortedRefs(from)...)
	return out
}

// ExternalPorts returns an ExternalService's ports by number, each number once.
func ExternalPorts(ports []v1alpha1.ExternalPort) []v1alpha1.ExternalPort {
	out := slices.DeleteFunc(slices.Clone(ports), func(p v1alpha1.ExternalPort) bool {
		return p.Number < 1 || p.Number > 65535 || p.TargetPort < 0 || p.TargetPort > 65535
	})
	slices.SortStableFunc(out, func(a, b v1alpha1.ExternalPort) int { return cmp.Compare(a.Number, b.Number) })
	return slices.CompactFunc(out, func(a, b v1alpha1.ExternalPort) bool { return a.Number == b.Number })
}

// ExternalProtocol returns what is spoken on a port of an ExternalService.
func ExternalProtocol(p v1alpha1.ExternalProtocol) policy.Protocol {
	switch p {
	case v1alpha1.ExternalHTTP2:
		return policy.HTTP2
	case v1alpha1.ExternalTCP:
		return policy.TCP
	case v1alpha1.ExternalHTTP:
	}
	return policy.HTTP1
}

// markDefaultExternal finds the port that a Host header without a port means,
// as for a Service.
func markDefaultExternal(ports []policy.ExternalServicePort) {
	best := -1
	for i := range ports {
		if ports[i].Protocol != policy.TCP && (best < 0 || ports[i].Number == 80) {
			best = i
		}
	}
	if best >= 0 {
		ports[best].DefaultHTTP = true
	}
}

// staticEndpoints returns the endpoints with an IP address, sorted, each once.
func staticEndpoints(endpoints []v1alpha1.ExternalEndpoint) []v1alpha1.ExternalEndpoint {
	var out []v1alpha1.ExternalEndpoint
	for _, e := range endpoints {
		if a, err := netip.ParseAddr(e.Address); err == nil && a.Zone() == "" {
			out = append(out, v1alpha1.ExternalEndpoint{Address: a.String(), Zone: e.Zone})
		}
	}
	slices.SortFunc(out, func(a, b v1alpha1.ExternalEndpoint) int {
		return cmp.Or(strings.Compare(a.Zone, b.Zone), strings.Compare(a.Address, b.Address))
	})
	seen := make(map[string]struct{}, len(out))
	return slices.DeleteFunc(out, func(e v1alpha1.ExternalEndpoint) bool {
		_, twice := seen[e.Address]
		seen[e.Address] = struct{}{}
		return twice
	})
}

var externalHostPattern = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)+$`)

// IsExternalHost reports whether an ExternalService may claim a host name.
func IsExternalHost(host string) bool {
	return len(host) <= 253 && externalHostPattern.MatchString(host)
}

// HostOwner returns who has a host that an ExternalService claims, "" if it is
// the ExternalService itself: a Service of that name or address, else the
// oldest ExternalService, then the first by name.
func HostOwner(r catalog.Reader, o *discovery.Object, host string) string {
	if svc, ok := serviceOf(r, host); ok {
		return discovery.ObjectName{Kind: discovery.KindService, Key: svc}.String()
	}
	first := o
	for other := range catalog.Objects.By(r, catalog.ByHost, host) {
		if other.Kind == discovery.KindExternalService && policy.CompareAge(other, first) < 0 {
			first = other
		}
	}
	if first.Name() == o.Name() {
		return ""
	}
	return first.Name().String()
}

// serviceOf returns the Service that callers mean by a name or an address.
func serviceOf(r catalog.Reader, host string) (discovery.Key, bool) {
	name := strings.TrimSuffix(strings.TrimSuffix(host, "."+policy.ClusterDomain), ".svc")
	if service, namespace, ok := strings.Cut(name, "."); ok && !strings.Contains(namespace, ".") {
		key := discovery.Key{Namespace: namespace, Name: service}
		if _, ok := catalog.Services.Get(r, key.String()); ok && slices.Contains(policy.ServiceHosts(key), host) {
			return key, true
		}
	}
	if a, err := netip.ParseAddr(host); err == nil {
		for svc := range catalog.Services.By(r, catalog.ByAddress, a.String()) {
			return svc.Key, true
		}
	}
	return discovery.Key{}, false
}

// UnresolvedCA is the finding of a CA certificate that is not there.
func UnresolvedCA(field, problem string) policy.Finding {
	return policy.Finding{
		Severity: policy.Error, Field: field, Condition: v1alpha1.ConditionResolvedRefs, Reason: policy.ReasonInvalidCACertificateRef,
		Message: problem + ", so requests fail", Remedy: caRemedy,
	}
}
