package explain

import (
	"fmt"
	"slices"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/diff"
)

// gatewayEffects returns the effects of an object on a Gateway: listeners,
// rules, sections of policies and certificates that come from it.
func gatewayEffects(r catalog.Reader, m *policy.Gateway, ref discovery.ObjectRef) []string {
	var out []string
	itself := ref.Kind == discovery.KindGateway && ref.Key == m.Key
	for i := range m.Certificates {
		c := &m.Certificates[i]
		if itself || c.Object.Kind == ref.Kind && c.Object.Key == ref.Key {
			out = append(out, fmt.Sprintf("Gateway %s: certificate %s (%s) at %s", m.Key, c.Name, diff.CertificateText(r, c), strings.Join(offering(m, c.Name), ", ")))
		}
	}
	for i := range m.Ports {
		p := &m.Ports[i]
		at := fmt.Sprintf("Gateway %s port %d", m.Key, p.Number)
		out = append(out, settingsEffects(at, p.Settings.From, ref)...)
		for j := range p.Listeners {
			l := &p.Listeners[j]
			where := at + ", listener " + l.Name
			if itself {
				out = append(out, listenerEffect(where, l))
			}
			for k := range l.Hosts {
				h := &l.Hosts[k]
				out = append(out, routeEffects(where+", host "+h.Domain, h.Rules, ref)...)
			}
			out = append(out, tcpEffects(where, l.TCP, ref)...)
		}
	}
	return out
}

// offering returns the listeners that offer a certificate.
func offering(m *policy.Gateway, certificate string) []string {
	var out []string
	for i := range m.Ports {
		p := &m.Ports[i]
		for j := range p.Listeners {
			if l := &p.Listeners[j]; slices.Contains(l.Certificates, certificate) {
				out = append(out, fmt.Sprintf("listener %s of port %d", l.Name, p.Number))
			}
		}
	}
	return out
}

func listenerEffect(where string, l *policy.GatewayListener) string {
	takes := "any name"
	if l.Hostname != "" {
		takes = l.Hostname
	}
	if !l.IsHTTP {
		return fmt.Sprintf("%s: takes connections for %s, %d rules", where, takes, len(l.TCP))
	}
	rules := 0
	for i := range l.Hosts {
		rules += len(l.Hosts[i].Rules)
	}
	return fmt.Sprintf("%s: takes requests for %s, %d rules", where, takes, rules)
}
