package policy

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// BuildExternal returns what an ExternalService means, nil if there is none of
// this name. It has those of its hosts that nobody else has: proxies refuse
// every virtual host if two claim one name.
func BuildExternal(r catalog.Reader, key discovery.Key) *External {
	o, ok := catalog.Objects.Get(r, discovery.ObjectName{Kind: discovery.KindExternalService, Key: key}.String())
	if !ok {
		return nil
	}
	spec := &o.Spec.(*v1alpha1.ExternalService).Spec
	if len(spec.Hosts) == 0 {
		return nil
	}
	out := &External{Key: key, Provenance: []discovery.ObjectRef{o.Ref()}}
	for _, host := range spec.Hosts {
		if isExternalHost(host) && !slices.Contains(out.Hosts, host) && hostOwner(r, o, host) == "" {
			out.Hosts = append(out.Hosts, host)
		}
	}
	slices.Sort(out.Hosts)
	if spec.Resolution == v1alpha1.ResolveStatic {
		out.Endpoints = staticEndpoints(spec.Endpoints)
	} else if isExternalHost(spec.Hosts[0]) {
		out.DNS = spec.Hosts[0]
	}
	var from []discovery.ObjectRef
	for _, p := range externalPorts(spec.Ports) {
		port := ExternalServicePort{
			Number: uint16(p.Number), TargetPort: uint16(cmp.Or(p.TargetPort, p.Number)), Name: p.Name,
			Protocol: externalProtocol(p.Protocol), Settings: externalSettings(r, key, p.Name),
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
		}
		from = append(from, port.Settings.refs()...)
		out.Ports = append(out.Ports, port)
	}
	markDefaultExternal(out.Ports)
	out.Provenance = append(out.Provenance, sortedRefs(from)...)
	return out
}

// externalPorts returns an ExternalService's ports by number, each number once.
func externalPorts(ports []v1alpha1.ExternalPort) []v1alpha1.ExternalPort {
	out := slices.DeleteFunc(slices.Clone(ports), func(p v1alpha1.ExternalPort) bool {
		return p.Number < 1 || p.Number > 65535 || p.TargetPort < 0 || p.TargetPort > 65535
	})
	slices.SortStableFunc(out, func(a, b v1alpha1.ExternalPort) int { return cmp.Compare(a.Number, b.Number) })
	return slices.CompactFunc(out, func(a, b v1alpha1.ExternalPort) bool { return a.Number == b.Number })
}

func externalProtocol(p v1alpha1.ExternalProtocol) Protocol {
	switch p {
	case v1alpha1.ExternalHTTP2:
		return HTTP2
	case v1alpha1.ExternalTCP:
		return TCP
	case v1alpha1.ExternalHTTP:
	}
	return HTTP1
}

// markDefaultExternal finds the port that a Host header without a port means,
// as for a Service.
func markDefaultExternal(ports []ExternalServicePort) {
	best := -1
	for i := range ports {
		if ports[i].Protocol != TCP && (best < 0 || ports[i].Number == 80) {
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

func isExternalHost(host string) bool {
	return len(host) <= 253 && externalHostPattern.MatchString(host)
}

// hostOwner returns who has a host that an ExternalService claims, "" if it is
// the ExternalService itself: a Service of that name or address, else the
// oldest ExternalService, then the first by name.
func hostOwner(r catalog.Reader, o *discovery.Object, host string) string {
	if svc, ok := serviceOf(r, host); ok {
		return discovery.ObjectName{Kind: discovery.KindService, Key: svc}.String()
	}
	first := o
	for other := range catalog.Objects.By(r, catalog.ByHost, host) {
		if other.Kind == discovery.KindExternalService && compareAge(other, first) < 0 {
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
	name := strings.TrimSuffix(strings.TrimSuffix(host, "."+ClusterDomain), ".svc")
	if service, namespace, ok := strings.Cut(name, "."); ok && !strings.Contains(namespace, ".") {
		key := discovery.Key{Namespace: namespace, Name: service}
		if _, ok := catalog.Services.Get(r, key.String()); ok && slices.Contains(serviceHosts(key), host) {
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

// validateExternal returns the findings about an ExternalService.
func validateExternal(r catalog.Reader, o *discovery.Object) []Finding {
	add, done := findingsOf(o)
	spec := &o.Spec.(*v1alpha1.ExternalService).Spec
	invalid := func(field, message, remedy string) {
		add(Finding{
			Severity: Error, Field: field, Condition: v1alpha1.ConditionAccepted, Reason: ReasonInvalid, Message: message, Remedy: remedy,
		})
	}
	if len(spec.Hosts) == 0 {
		invalid("spec.hosts", "it is empty", "name the hosts that workloads call")
	}
	for i, host := range spec.Hosts {
		field := fmt.Sprintf("spec.hosts[%d]", i)
		if !isExternalHost(host) {
			invalid(field, fmt.Sprintf("%q is not a host name", host), "write it in small letters with a domain, like api.example.com")
			continue
		}
		owner := hostOwner(r, o, host)
		if owner == "" {
			continue
		}
		why := "is older and claims it too"
		if strings.HasPrefix(owner, discovery.KindService+" ") {
			why = "answers to it"
		}
		add(Finding{
			Severity: Error, Field: field, Condition: v1alpha1.ConditionAccepted, Reason: ReasonConflicted,
			Message: fmt.Sprintf("%s does not have %q: %s %s", o.Name(), host, owner, why), Remedy: "remove the host here or there",
		})
	}
	validateExternalPorts(r, o, spec, add)
	for i, e := range spec.Endpoints {
		if _, err := netip.ParseAddr(e.Address); err != nil {
			invalid(fmt.Sprintf("spec.endpoints[%d].address", i), fmt.Sprintf("%q is not an IP address", e.Address), "write one, or use resolution DNS")
		}
	}
	switch spec.Resolution {
	case v1alpha1.ResolveStatic:
		if len(spec.Endpoints) == 0 {
			invalid("spec.endpoints", "resolution Static has no addresses, so requests are answered 503", "give endpoints")
		}
	case v1alpha1.ResolveDNS, "":
		if len(spec.Endpoints) > 0 {
			invalid("spec.endpoints", "they have no effect with resolution DNS", "set resolution to Static")
		}
	default:
		invalid("spec.resolution", fmt.Sprintf("%q is not known, so the host's addresses are asked for", spec.Resolution), "write DNS or Static")
	}
	return done()
}

func validateExternalPorts(r catalog.Reader, o *discovery.Object, spec *v1alpha1.ExternalServiceSpec, add func(Finding)) {
	invalid := func(field, message, remedy string) {
		add(Finding{
			Severity: Error, Field: field, Condition: v1alpha1.ConditionAccepted, Reason: ReasonInvalid, Message: message, Remedy: remedy,
		})
	}
	if len(externalPorts(spec.Ports)) == 0 {
		invalid("spec.ports", "there is none that can be used", "give at least one port from 1 to 65535")
	}
	seen := make(map[int32]bool)
	for i, p := range spec.Ports {
		field := fmt.Sprintf("spec.ports[%d]", i)
		if p.Number < 1 || p.Number > 65535 || p.TargetPort < 0 || p.TargetPort > 65535 {
			invalid(field, "it is not a port", "write numbers from 1 to 65535")
		} else if seen[p.Number] {
			invalid(field+".number", fmt.Sprintf("%d stands twice, and the first counts", p.Number), "give each port once")
		}
		seen[p.Number] = true
		switch p.Protocol {
		case "", v1alpha1.ExternalHTTP, v1alpha1.ExternalHTTP2, v1alpha1.ExternalTCP:
		default:
			invalid(field+".protocol", fmt.Sprintf("%q is not known and taken for HTTP", p.Protocol), "write HTTP, HTTP2 or TCP")
		}
		if p.TLS == nil {
			continue
		}
		c := checker{in: "tls"}
		c.tls(fmt.Sprintf("ports[%d].tls", i), p.TLS)
		for _, m := range c.found {
			add(invalidSection(m))
		}
		if ref := p.TLS.CACertificateRef; ref != nil {
			if _, _, problem := caCertificates(r, discovery.Key{Namespace: o.Namespace, Name: ref.Name}); problem != "" {
				add(unresolvedCA(field+".tls.caCertificateRef", problem))
			}
		}
	}
}

// unresolvedCA is the finding of a CA certificate that is not there.
func unresolvedCA(field, problem string) Finding {
	return Finding{
		Severity: Error, Field: field, Condition: v1alpha1.ConditionResolvedRefs, Reason: ReasonInvalidCACertificateRef,
		Message: problem + ", so requests fail", Remedy: caRemedy,
	}
}

// validateObject returns the findings about one of the kinds that are policies,
// nil for another kind.
func validateObject(r catalog.Reader, o *discovery.Object) []Finding {
	switch o.Kind {
	case discovery.KindTrafficPolicy:
		return validateTrafficPolicy(r, o)
	case discovery.KindExternalService:
		return validateExternal(r, o)
	case discovery.KindMesh:
		return validateMesh(o)
	case discovery.KindBackendTLSPolicy:
		return validateBackendTLS(r, o)
	case discovery.KindTrafficShift:
		return validateTrafficShift(r, o)
	case discovery.KindGatewayPolicy:
		return validateGatewayPolicy(r, o)
	case discovery.KindGateway:
		return validateGateway(r, o)
	case discovery.KindGatewayClass:
		return validateGatewayClass(o)
	}
	return nil
}

// objectConditions returns the conditions Accepted and ResolvedRefs of a
// TrafficPolicy, an ExternalService or a Mesh.
func objectConditions(r catalog.Reader, o *discovery.Object) []metav1.Condition {
	findings := validateObject(r, o)
	out := []metav1.Condition{
		condition(v1alpha1.ConditionAccepted, ReasonAccepted, "the object is valid and in force", findings),
		condition(v1alpha1.ConditionResolvedRefs, ReasonResolvedRefs, "everything that it names exists", findings),
	}
	for i := range out {
		out[i].ObservedGeneration = o.Generation
	}
	return out
}
