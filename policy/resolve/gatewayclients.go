package resolve

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/utils/ptr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/upstream"
)

// frontendValidation returns how a port's clients prove who they are, nil for not at all, and the field that says it.
// What is said of a port counts instead of the default, also where it says nothing of clients (FrontendTLSConfig.perPort).
func frontendValidation(s *gatewayv1.GatewaySpec, port uint16) (*gatewayv1.FrontendTLSValidation, string) {
	if s.TLS == nil || s.TLS.Frontend == nil {
		return nil, ""
	}
	for i := range s.TLS.Frontend.PerPort {
		if p := &s.TLS.Frontend.PerPort[i]; p.Port == gatewayv1.PortNumber(port) {
			return p.TLS.Validation, fmt.Sprintf("spec.tls.frontend.perPort[%d].tls.validation", i)
		}
	}
	return s.TLS.Frontend.Default.Validation, "spec.tls.frontend.default.validation"
}

// letsAnybodyIn returns the field of a Gateway by which clients are let in whatever certificate they show, "" for none.
func letsAnybodyIn(s *gatewayv1.GatewaySpec) string {
	insecure := func(v *gatewayv1.FrontendTLSValidation) bool {
		return v != nil && v.Mode == gatewayv1.AllowInsecureFallback
	}
	switch {
	case s.TLS == nil || s.TLS.Frontend == nil:
		return ""
	case insecure(s.TLS.Frontend.Default.Validation):
		return "spec.tls.frontend.default.validation.mode"
	}
	if i := slices.IndexFunc(s.TLS.Frontend.PerPort, func(p gatewayv1.TLSPortConfig) bool { return insecure(p.TLS.Validation) }); i >= 0 {
		return fmt.Sprintf("spec.tls.frontend.perPort[%d].tls.validation.mode", i)
	}
	return ""
}

// readClients reads how the clients of a listener where TLS ends prove who they are. The Gateway API says it of HTTPS;
// here it holds for the protocol TLS too, because nobody asks for certificates to have them checked at one half of a port.
// If none of the CA certificates can be had, the listener is not served: everybody would be let in.
func (m *gatewayMeaning) readClients(r catalog.Reader, l *listenerMeaning) {
	v, field := frontendValidation(m.spec, l.port)
	if v == nil {
		return
	}
	wrong := func(condition gatewayv1.ListenerConditionType, reason gatewayv1.ListenerConditionReason, field, message, remedy string) {
		l.findings = append(l.findings, policy.Finding{
			Severity: policy.Error, Object: m.object.Ref(), Field: field, Condition: string(condition), Reason: string(reason),
			Message: fmt.Sprintf("%s, so that clients of listener %s cannot be checked by it", message, l.name), Remedy: remedy,
		})
	}
	out := &policy.ClientCertificates{Optional: v.Mode == gatewayv1.AllowInsecureFallback}
	if v.Mode != "" && v.Mode != gatewayv1.AllowValidOnly && !out.Optional {
		wrong(gatewayv1.ListenerConditionAccepted, gatewayv1.ListenerReasonUnsupportedValue, field+".mode",
			fmt.Sprintf("%q is not a mode", v.Mode), "write AllowValidOnly or AllowInsecureFallback")
	}
	var cas strings.Builder
	for i := range v.CACertificateRefs {
		ref := &v.CACertificateRefs[i]
		at := fmt.Sprintf("%s.caCertificateRefs[%d]", field, i)
		if ref.Kind != discovery.KindConfigMap || ref.Group != "" && ref.Group != "core" {
			wrong(gatewayv1.ListenerConditionResolvedRefs, gatewayv1.ListenerReasonInvalidCACertificateKind, at,
				fmt.Sprintf("kind %q of group %q holds no CA certificates here", ref.Kind, ref.Group), "name a ConfigMap (group \"\")")
			continue
		}
		name := discovery.ObjectName{Kind: discovery.KindConfigMap, Key: discovery.Key{Namespace: string(ptr.Deref(ref.Namespace, "")), Name: string(ref.Name)}}
		if name.Namespace == "" {
			name.Namespace = m.object.Namespace
		}
		if name.Namespace != m.object.Namespace {
			if _, ok := upstream.GrantFor(r, m.object, "", name); !ok {
				wrong(gatewayv1.ListenerConditionResolvedRefs, gatewayv1.ListenerReasonRefNotPermitted, at,
					fmt.Sprintf("no ReferenceGrant of namespace %s lets Gateways of namespace %s refer to %s", name.Namespace, m.object.Namespace, name),
					fmt.Sprintf("have one created in namespace %s", name.Namespace))
				continue
			}
		}
		certificates, object, problem := upstream.CACertificates(r, name.Key)
		if problem != "" {
			wrong(gatewayv1.ListenerConditionResolvedRefs, gatewayv1.ListenerReasonInvalidCACertificateRef, at, problem,
				"put PEM certificates into the ConfigMap's key ca.crt")
			continue
		}
		cas.WriteString(certificates)
		out.From = append(out.From, object)
	}
	if out.CAs = cas.String(); out.CAs == "" {
		wrong(gatewayv1.ListenerConditionAccepted, gatewayv1.ListenerReasonNoValidCACertificate, field+".caCertificateRefs",
			"none of them has a CA certificate", "name a ConfigMap with PEM certificates in its key ca.crt")
		return
	}
	l.clients = out
}

// checkClients finds what a Gateway says of clients' certificates that has no effect, and that it lets anybody in.
func (m *gatewayMeaning) checkClients(warn func(field, message, remedy string)) {
	if m.spec.TLS == nil || m.spec.TLS.Frontend == nil {
		return
	}
	for i, p := range m.spec.TLS.Frontend.PerPort {
		if !slices.ContainsFunc(m.listeners, func(l *listenerMeaning) bool { return l.terminates && gatewayv1.PortNumber(l.port) == p.Port }) {
			warn(fmt.Sprintf("spec.tls.frontend.perPort[%d]", i), fmt.Sprintf("at no listener of port %d ends TLS, so it has no effect", p.Port),
				"correct the port, or remove it")
		}
	}
	if field := letsAnybodyIn(m.spec); field != "" {
		warn(field, "clients are let in whatever certificate they show, or none: backends have to tell them apart",
			"write AllowValidOnly once all clients have certificates")
	}
}
