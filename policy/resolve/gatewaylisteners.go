package resolve

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/ptr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/effective"
	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/policy/routing"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// gatewayMeaning is the meaning of a Gateway of ours, with its mistakes.
type gatewayMeaning struct {
	object *discovery.Object
	spec   *gatewayv1.GatewaySpec
	// class is nil for the class that is ours without an object.
	class *discovery.Object
	// listeners in the order of spec.listeners, those that are wrong included.
	listeners []*listenerMeaning
	// certificates of the listeners that are in force, by name, each once.
	certificates []policy.Certificate
	// findings about the Gateway as a whole, of the condition Accepted. An error
	// among them rejects it.
	findings []policy.Finding
	// managed is true if its proxies are made for it, by these parameters, without
	// defaults. unknown says why the parameters of its class are not known, "" if they are.
	managed    bool
	parameters v1alpha1.GatewayParametersSpec
	unknown    string
	// assigned are the addresses of the Service that was made for it, assignedBy, nil without one.
	assigned   []gatewayv1.GatewayStatusAddress
	assignedBy *discovery.Service
	// refused is what the cluster says against what is to be made, nil if nothing.
	refused *discovery.EdgeStatus
}

// accepted reports whether the Gateway has any effect: nothing stops it as a
// whole, and one of its listeners at least is in force.
func (m *gatewayMeaning) accepted() bool {
	return !slices.ContainsFunc(m.findings, stops) &&
		slices.ContainsFunc(m.listeners, (*listenerMeaning).inForce)
}

// listenerMeaning is the meaning of a listener, with its mistakes.
type listenerMeaning struct {
	// index in spec.listeners.
	index    int
	name     string
	protocol gatewayv1.ProtocolType
	port     uint16
	// hostname is exact or begins with "*.", in lower case; "" for any.
	hostname string
	// terminates is true if TLS ends at the listener.
	terminates bool
	// certificates names those of the Gateway that the listener has, in the
	// order of its references, failed ones included. certified is true if one of them is usable.
	certificates []string
	certified    bool
	// clients is how clients prove who they are, nil for not at all.
	clients *policy.ClientCertificates
	// kinds of routes that may attach, in the order in which they are told.
	kinds []string
	// from and selector tell from which namespaces routes may come.
	from     gatewayv1.FromNamespaces
	selector labels.Selector
	// findings of the conditions Accepted, ResolvedRefs and Conflicted of the
	// listener, with fields from "spec.listeners[i]" on.
	findings []policy.Finding
}

// inForce reports whether the listener is served: nothing is wrong with itself, no
// other listener conflicts with it, and where it terminates TLS it has a
// certificate, or had one that may still be known.
func (l *listenerMeaning) inForce() bool {
	return !l.has(gatewayv1.ListenerConditionAccepted) && !l.has(gatewayv1.ListenerConditionConflicted) &&
		(!l.terminates || len(l.certificates) > 0)
}

// has reports whether an error causes a condition of the listener.
func (l *listenerMeaning) has(condition gatewayv1.ListenerConditionType) bool {
	return slices.ContainsFunc(l.findings, func(f policy.Finding) bool { return f.Severity == policy.Error && f.Condition == string(condition) })
}

// isHTTP reports whether routes about requests attach to the listener.
func (l *listenerMeaning) isHTTP() bool {
	return l.protocol == gatewayv1.HTTPProtocolType || l.protocol == gatewayv1.HTTPSProtocolType
}

// listenerProtocol returns the protocol of the listener's port, false for one that is not
// served.
func (l *listenerMeaning) listenerProtocol() (policy.ListenerProtocol, bool) {
	switch l.protocol {
	case gatewayv1.HTTPProtocolType:
		return policy.ListenHTTP, true
	case gatewayv1.HTTPSProtocolType, gatewayv1.TLSProtocolType:
		return policy.ListenTLS, true
	case gatewayv1.TCPProtocolType:
		return policy.ListenTCP, true
	}
	return 0, false
}

func (l *listenerMeaning) field() string { return fmt.Sprintf("spec.listeners[%d]", l.index) }

// find notes a finding about a listener.
func (m *gatewayMeaning) find(l *listenerMeaning, s policy.Severity, condition gatewayv1.ListenerConditionType, reason gatewayv1.ListenerConditionReason, field, message, remedy string) {
	l.findings = append(l.findings, policy.Finding{
		Severity: s, Object: m.object.Ref(), Field: l.field() + field, Condition: string(condition), Reason: string(reason),
		Message: message, Remedy: remedy,
	})
}

// unsupported notes a value for which a listener cannot be served.
func (m *gatewayMeaning) unsupported(l *listenerMeaning, field, message, remedy string) {
	m.find(l, policy.Error, gatewayv1.ListenerConditionAccepted, gatewayv1.ListenerReasonUnsupportedValue, field, message, remedy)
}

// readListeners returns the meaning of a Gateway without its certificates: all
// that matters to routes that attach to it. It returns nil if its class is not
// ours.
func readListeners(r catalog.Reader, o *discovery.Object) *gatewayMeaning {
	gateway, ok := o.Spec.(*gatewayv1.Gateway)
	if !ok {
		return nil
	}
	class, ours := effective.GatewayClass(r, &gateway.Spec)
	if !ours {
		return nil
	}
	m := &gatewayMeaning{object: o, spec: &gateway.Spec, class: class}
	for i := range m.spec.Listeners {
		m.listeners = append(m.listeners, m.readListener(r, i, &m.spec.Listeners[i]))
	}
	m.findConflicts()
	m.findOverlaps()
	return m
}

// readGateway returns what a Gateway says, nil if its class is not ours.
func readGateway(r catalog.Reader, o *discovery.Object) *gatewayMeaning {
	m := readListeners(r, o)
	if m == nil {
		return nil
	}
	m.readParameters(r)
	m.checkGateway()
	m.certificates = readCertificates(r, m).list()
	return m
}

// gatewayOf returns the meaning of the named Gateway without its certificates,
// nil if there is none or its class is not ours.
func gatewayOf(r catalog.Reader, key discovery.Key) *gatewayMeaning {
	o, ok := catalog.Objects.Get(r, discovery.ObjectName{Kind: discovery.KindGateway, Key: key}.String())
	if !ok {
		return nil
	}
	return readListeners(r, o)
}

// readListener returns what a listener says by itself.
func (m *gatewayMeaning) readListener(r catalog.Reader, index int, in *gatewayv1.Listener) *listenerMeaning {
	l := &listenerMeaning{index: index, name: string(in.Name), protocol: in.Protocol, port: uint16(in.Port)}
	protocol, served := l.listenerProtocol()
	if !served {
		m.find(l, policy.Error, gatewayv1.ListenerConditionAccepted, gatewayv1.ListenerReasonUnsupportedProtocol, ".protocol",
			fmt.Sprintf("%q is not spoken", in.Protocol), "give one of HTTP, HTTPS, TLS and TCP")
	}
	if in.Port < 1 || in.Port > 65535 {
		m.unsupported(l, ".port", fmt.Sprintf("%d is not a port", in.Port), "give one from 1 to 65535")
	}
	if served && protocol != policy.ListenTCP {
		m.readHostname(l, in.Hostname)
	}
	m.readTLSMode(l, in)
	if l.terminates {
		m.readClients(r, l)
	}
	m.readKinds(l, in)
	m.readNamespaces(l, in)
	if in.Filters != nil && len(in.Filters.Requests) > 0 {
		// Filters decide who may come in: a listener without them would let in everybody.
		m.unsupported(l, ".filters", "filters of listeners are not supported", "remove them, and filter in routes")
	}
	return l
}

func (m *gatewayMeaning) readHostname(l *listenerMeaning, name *gatewayv1.Hostname) {
	if name == nil || *name == "" {
		return
	}
	if !routing.IsRouteHostname(string(*name)) {
		m.unsupported(l, ".hostname", fmt.Sprintf("%q is not a host name", *name), "write, for example, www.example.com or *.example.com")
		return
	}
	l.hostname = string(*name)
}

func (m *gatewayMeaning) readTLSMode(l *listenerMeaning, in *gatewayv1.Listener) {
	protocol, served := l.listenerProtocol()
	switch {
	case !served:
		return
	case protocol != policy.ListenTLS:
		if in.TLS != nil {
			m.unsupported(l, ".tls", fmt.Sprintf("protocol %s has no TLS", l.protocol), "remove it, or set protocol: HTTPS or TLS")
		}
		return
	case in.TLS == nil:
		m.unsupported(l, ".tls", fmt.Sprintf("protocol %s needs to know what is done with TLS", l.protocol), "give tls with certificateRefs, or mode: Passthrough for protocol TLS")
		return
	}
	mode := gatewayv1.TLSModeTerminate
	if in.TLS.Mode != nil && *in.TLS.Mode != "" {
		mode = *in.TLS.Mode
	}
	switch {
	case mode == gatewayv1.TLSModeTerminate:
		l.terminates = true
	case mode != gatewayv1.TLSModePassthrough:
		m.unsupported(l, ".tls.mode", fmt.Sprintf("%q is not a mode", mode), "give Terminate or Passthrough")
	case l.isHTTP():
		m.unsupported(l, ".tls.mode", "requests inside of TLS that passes through cannot be told apart", "set protocol: TLS, or mode: Terminate")
	}
}

// protocolKinds returns the kinds of routes that can be about a listener.
func protocolKinds(l *listenerMeaning) []string {
	switch l.protocol {
	case gatewayv1.HTTPProtocolType, gatewayv1.HTTPSProtocolType:
		return []string{discovery.KindHTTPRoute, discovery.KindGRPCRoute}
	case gatewayv1.TLSProtocolType:
		if l.terminates {
			return []string{discovery.KindTLSRoute, discovery.KindTCPRoute}
		}
		return []string{discovery.KindTLSRoute}
	case gatewayv1.TCPProtocolType:
		return []string{discovery.KindTCPRoute}
	}
	return nil
}

func (m *gatewayMeaning) readKinds(l *listenerMeaning, in *gatewayv1.Listener) {
	can := protocolKinds(l)
	if in.AllowedRoutes == nil || len(in.AllowedRoutes.Kinds) == 0 {
		l.kinds = can
		return
	}
	for i, k := range in.AllowedRoutes.Kinds {
		group := gatewayv1.GroupName
		if k.Group != nil {
			group = string(*k.Group)
		}
		switch {
		case group != gatewayv1.GroupName || !slices.Contains(can, string(k.Kind)):
			remedy := "remove it"
			if len(can) > 0 {
				remedy = "give " + phrase.Or(can)
			}
			m.find(l, policy.Error, gatewayv1.ListenerConditionResolvedRefs, gatewayv1.ListenerReasonInvalidRouteKinds,
				fmt.Sprintf(".allowedRoutes.kinds[%d]", i),
				fmt.Sprintf("routes of kind %q of group %q cannot be about protocol %s", k.Kind, group, l.protocol), remedy)
		case !slices.Contains(l.kinds, string(k.Kind)):
			l.kinds = append(l.kinds, string(k.Kind))
		}
	}
}

func (m *gatewayMeaning) readNamespaces(l *listenerMeaning, in *gatewayv1.Listener) {
	l.from = gatewayv1.NamespacesFromSame
	if in.AllowedRoutes == nil || in.AllowedRoutes.Namespaces == nil {
		return
	}
	rule := in.AllowedRoutes.Namespaces
	if rule.From != nil && *rule.From != "" {
		l.from = *rule.From
	}
	switch l.from {
	case gatewayv1.NamespacesFromAll, gatewayv1.NamespacesFromSame, gatewayv1.NamespacesFromNone:
	case gatewayv1.NamespacesFromSelector:
		l.selector = labels.Nothing()
		if rule.Selector == nil {
			m.unsupported(l, ".allowedRoutes.namespaces.selector", "from: Selector needs it", "give it, or set from: Same")
			return
		}
		selector, err := metav1.LabelSelectorAsSelector(rule.Selector)
		if err != nil {
			m.unsupported(l, ".allowedRoutes.namespaces.selector", err.Error(), "correct it")
			return
		}
		l.selector = selector
	default:
		m.unsupported(l, ".allowedRoutes.namespaces.from", fmt.Sprintf("%q is not known", l.from), "give All, Selector or Same")
		l.from = gatewayv1.NamespacesFromNone
	}
}

// checkGateway finds what a Gateway says that is not about one listener and has no effect.
func (m *gatewayMeaning) checkGateway() {
	find := func(s policy.Severity, reason, field, message, remedy string) {
		m.findings = append(m.findings, policy.Finding{
			Severity: s, Object: m.object.Ref(), Field: field, Condition: string(gatewayv1.GatewayConditionAccepted), Reason: reason,
			Message: message, Remedy: remedy,
		})
	}
	m.checkAddresses()
	m.checkClients(func(field, message, remedy string) {
		find(policy.Warning, policy.ReasonUnsupported, field, message, remedy)
	})
	if t := m.spec.TLS; t != nil && t.Backend != nil && t.Backend.ClientCertificateRef != nil {
		find(policy.Warning, policy.ReasonUnsupported, "spec.tls.backend.clientCertificateRef",
			"backends are shown no certificate of the Gateway", "remove it")
	}
	if a := m.spec.AllowedListeners; a != nil && a.Namespaces != nil && a.Namespaces.From != nil && *a.Namespaces.From != gatewayv1.NamespacesFromNone {
		find(policy.Warning, policy.ReasonUnsupported, "spec.allowedListeners", "ListenerSets are not read", "give the listeners in spec.listeners")
	}
	if s := m.spec.DefaultScope; s != "" && s != gatewayv1.GatewayDefaultScopeNone {
		find(policy.Warning, policy.ReasonUnsupported, "spec.defaultScope", "routes do not attach by themselves", "name the Gateway in the routes' parentRefs")
	}
}

// findConflicts marks every listener that shares what tells listeners apart
// with another one: none of those may be picked as the winner (spec of
// GatewaySpec.listeners).
func (m *gatewayMeaning) findConflicts() {
	for i, l := range m.listeners {
		var names, protocols, hosts []string
		mine, served := l.listenerProtocol()
		for j, other := range m.listeners {
			if i == j {
				continue
			}
			if other.name == l.name {
				names = append(names, other.field())
			}
			theirs, ok := other.listenerProtocol()
			switch {
			case !ok || !served || other.port != l.port:
			case theirs != mine || mine == policy.ListenTCP:
				protocols = append(protocols, fmt.Sprintf("%s (%s)", other.name, other.protocol))
			case other.hostname == l.hostname:
				hosts = append(hosts, other.name)
			}
		}
		if len(names) > 0 {
			m.unsupported(l, ".name", fmt.Sprintf("%s is named %q too", phrase.Few(names), l.name), "give each listener a name of its own")
		}
		if len(protocols) > 0 {
			m.find(l, policy.Error, gatewayv1.ListenerConditionConflicted, gatewayv1.ListenerReasonProtocolConflict, ".protocol",
				fmt.Sprintf("port %d is also that of %s, and nothing tells their connections apart", l.port, phrase.Few(protocols)),
				"give one of them another port")
		}
		if len(hosts) > 0 {
			m.find(l, policy.Error, gatewayv1.ListenerConditionConflicted, gatewayv1.ListenerReasonHostnameConflict, ".hostname",
				fmt.Sprintf("port %d and the host name are also those of %s", l.port, phrase.Few(hosts)),
				"give each its own host name, or another port")
		}
	}
}

// findOverlaps notes listeners of a port that terminate TLS for names that
// another one terminates too: a client may reuse a connection for a name of the other
// one, and is told to open another (spec of ListenerConditionOverlappingTLSConfig).
func (m *gatewayMeaning) findOverlaps() {
	for _, l := range m.listeners {
		var names []string
		for _, other := range m.listeners {
			if other != l && other.terminates && l.terminates && other.port == l.port {
				if _, ok := intersect(other.hostname, l.hostname); ok {
					names = append(names, fmt.Sprintf("%s (%s)", other.name, cmp.Or(other.hostname, "any name")))
				}
			}
		}
		if len(names) > 0 {
			m.find(l, policy.Warning, gatewayv1.ListenerConditionOverlappingTLSConfig, gatewayv1.ListenerReasonOverlappingHostnames, ".hostname",
				fmt.Sprintf("its names overlap with those of %s: who reuses a connection for a name of another listener is answered 421 and opens one for it", phrase.Few(names)),
				"nothing, or give the listeners separate names or ports, which saves clients that second connection")
		}
	}
}

// covers reports whether a host name, "" for any, takes in another one: every
// name that the other matches is matched by it.
func covers(host, other string) bool {
	switch {
	case host == "" || host == other:
		return true
	case host[0] == '*':
		return strings.HasSuffix(strings.TrimPrefix(other, "*"), host[1:])
	}
	return false
}

// intersect returns the names that two host names have in common, as one host
// name, false for none.
func intersect(a, b string) (string, bool) {
	switch {
	case covers(a, b):
		return b, true
	case covers(b, a):
		return a, true
	}
	return "", false
}

// compareHostnames orders host names by how specific they are: exact ones, then
// wildcards by length, and any at last.
func compareHostnames(a, b string) int {
	if a == "" || b == "" {
		return policy.CompareBool(a == "", b == "")
	}
	return cmp.Or(routing.CompareNames(a, b), cmp.Compare(a, b))
}

// checkAddresses finds addresses of kinds that nobody here can assign.
func (m *gatewayMeaning) checkAddresses() {
	for i := range m.spec.Addresses {
		a := &m.spec.Addresses[i]
		field := fmt.Sprintf("spec.addresses[%d]", i)
		find := func(field, message, remedy string) {
			m.findings = append(m.findings, policy.Finding{
				Severity: policy.Error, Object: m.object.Ref(), Field: field, Condition: v1alpha1.ConditionAccepted,
				Reason: string(gatewayv1.GatewayReasonUnsupportedAddress), Message: message, Remedy: remedy,
			})
		}
		if kind := ptr.Deref(a.Type, gatewayv1.IPAddressType); kind != gatewayv1.IPAddressType && kind != gatewayv1.HostnameAddressType {
			find(field+".type", fmt.Sprintf("addresses of type %q are not supported", kind), "give IPAddress or Hostname")
		}
		if a.Routability != "" {
			find(field+".routability", fmt.Sprintf("routability %q is not supported", a.Routability), "remove it")
		}
	}
}
