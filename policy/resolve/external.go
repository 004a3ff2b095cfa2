package resolve

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/upstream"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// validateExternal returns the findings about an ExternalService.
func validateExternal(r catalog.Reader, o *discovery.Object) []policy.Finding {
	add, done := policy.FindingsOf(o)
	spec := &o.Spec.(*v1alpha1.ExternalService).Spec
	invalid := func(field, message, remedy string) {
		add(policy.Finding{
			Severity: policy.Error, Field: field, Condition: v1alpha1.ConditionAccepted, Reason: policy.ReasonInvalid, Message: message, Remedy: remedy,
		})
	}
	if len(spec.Hosts) == 0 {
		invalid("spec.hosts", "it is empty", "name the hosts that workloads call")
	}
	for i, host := range spec.Hosts {
		field := fmt.Sprintf("spec.hosts[%d]", i)
		if !upstream.IsExternalHost(host) {
			invalid(field, fmt.Sprintf("%q is not a host name", host), "write it in small letters with a domain, like api.example.com")
			continue
		}
		owner := upstream.HostOwner(r, o, host)
		if owner == "" {
			continue
		}
		why := "is older and claims it too"
		if strings.HasPrefix(owner, discovery.KindService+" ") {
			why = "answers to it"
		}
		add(policy.Finding{
			Severity: policy.Error, Field: field, Condition: v1alpha1.ConditionAccepted, Reason: policy.ReasonConflicted,
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

func validateExternalPorts(r catalog.Reader, o *discovery.Object, spec *v1alpha1.ExternalServiceSpec, add func(policy.Finding)) {
	invalid := func(field, message, remedy string) {
		add(policy.Finding{
			Severity: policy.Error, Field: field, Condition: v1alpha1.ConditionAccepted, Reason: policy.ReasonInvalid, Message: message, Remedy: remedy,
		})
	}
	if len(upstream.ExternalPorts(spec.Ports)) == 0 {
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
		c := policy.Checker{In: "tls"}
		c.TLS(fmt.Sprintf("ports[%d].tls", i), p.TLS)
		for _, m := range c.Found {
			add(policy.InvalidSection(m))
		}
		if ref := p.TLS.CACertificateRef; ref != nil {
			if _, _, problem := upstream.CACertificates(r, discovery.Key{Namespace: o.Namespace, Name: ref.Name}); problem != "" {
				add(upstream.UnresolvedCA(field+".tls.caCertificateRef", problem))
			}
		}
	}
}
