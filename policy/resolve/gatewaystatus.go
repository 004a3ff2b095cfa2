package resolve

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/gateway-api/pkg/features"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/policy/routing"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// gatewayStatus returns the status of a Gateway, nil for one of another controller.
//
// The proxies decide Programmed, unless it is False whatever they answer: for a
// listener that is not served, and for the Gateway if no listener is served or if
// it asks for an address that it cannot have.
func (s *Statuses) gatewayStatus(o *discovery.Object) *gatewayv1.GatewayStatus {
	g := s.gateway(o.Key)
	if g == nil || g.object.Generation != o.Generation { // a row that is not of this snapshot
		if g = readRoutedGateway(s.r, o); g == nil {
			return nil
		}
	}
	addresses, unusable := g.addresses()
	out := &gatewayv1.GatewayStatus{Addresses: addresses}
	seen := make(map[string]bool)
	for _, l := range g.listeners {
		if !seen[l.name] { // of a name that stands twice there can be one status only
			seen[l.name] = true
			out.Listeners = append(out.Listeners, g.listenerStatus(l))
		}
	}
	out.Conditions = []metav1.Condition{g.acceptedCondition(), g.resolvedCondition()}
	accepted := out.Conditions[0].Status == metav1.ConditionTrue
	switch {
	case !accepted: // the writer says so of what is not accepted
	case !slices.ContainsFunc(g.listeners, g.servable):
		out.Conditions = append(out.Conditions, metav1.Condition{
			Type: v1alpha1.ConditionProgrammed, Status: metav1.ConditionFalse, Reason: string(gatewayv1.GatewayReasonInvalid),
			Message: "no listener has all that it needs: see what their conditions say",
		})
	case g.refused != nil && !g.refused.Address:
		out.Conditions = append(out.Conditions, metav1.Condition{
			Type: v1alpha1.ConditionProgrammed, Status: metav1.ConditionFalse, Reason: string(gatewayv1.GatewayReasonNoResources),
			Message: "its proxies cannot be made or changed, and what was made before stays: " + g.refused.Refused,
		})
	case unusable != nil:
		out.Conditions = append(out.Conditions, metav1.Condition{
			Type: v1alpha1.ConditionProgrammed, Status: metav1.ConditionFalse, Reason: unusable.Reason, Message: messageOf("", []policy.Finding{*unusable}),
		})
	}
	// The condition is there only where it is True (GatewayConditionInsecureFrontendValidationMode).
	if field := letsAnybodyIn(g.spec); field != "" {
		out.Conditions = append(out.Conditions, metav1.Condition{
			Type: string(gatewayv1.GatewayConditionInsecureFrontendValidationMode), Status: metav1.ConditionTrue,
			Reason: string(gatewayv1.GatewayReasonConfigurationChanged), Message: field + " lets in clients whatever certificate they show, or none",
		})
	}
	for i := range out.Conditions {
		out.Conditions[i].ObservedGeneration = o.Generation
	}
	return out
}

// acceptedCondition tells whether the Gateway is valid. It is as long as one of
// its listeners is.
func (g *routedGateway) acceptedCondition() metav1.Condition {
	out := metav1.Condition{
		Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionTrue, Reason: string(gatewayv1.GatewayReasonAccepted),
		Message: messageOf("", g.findings),
	}
	if out.Message == "" {
		out.Message = "the Gateway is valid"
	}
	if i := slices.IndexFunc(g.findings, isError); i >= 0 {
		out.Status, out.Reason = metav1.ConditionFalse, g.findings[i].Reason
		return out
	}
	var wrong []string
	for _, l := range g.listeners {
		if !l.valid() {
			wrong = append(wrong, l.name)
		}
	}
	if len(wrong) == 0 {
		return out
	}
	out.Reason = string(gatewayv1.GatewayReasonListenersNotValid)
	what := fmt.Sprintf("listener %s is not valid: see what its conditions say", phrase.Few(wrong))
	if len(wrong) > 1 {
		what = fmt.Sprintf("listeners %s are not valid: see what their conditions say", phrase.Few(wrong))
	}
	if len(wrong) == len(g.listeners) {
		out.Status = metav1.ConditionFalse
	}
	out.Message = messageOf(what, g.findings)
	return out
}

// resolvedCondition tells whether everything that the listeners name exists.
func (g *routedGateway) resolvedCondition() metav1.Condition {
	out := metav1.Condition{
		Type: v1alpha1.ConditionResolvedRefs, Status: metav1.ConditionTrue, Reason: string(gatewayv1.GatewayReasonResolvedRefs),
		Message: "everything that it names exists and may be referred to",
	}
	var wrong []string
	for _, l := range g.listeners {
		if l.has(gatewayv1.ListenerConditionResolvedRefs) {
			wrong = append(wrong, l.name)
		}
	}
	if len(wrong) > 0 {
		out.Status, out.Reason = metav1.ConditionFalse, string(gatewayv1.GatewayReasonListenersNotResolved)
		out.Message = fmt.Sprintf("not everything that listener %s names can be had: see what its conditions say", strings.Join(wrong, " and listener "))
	}
	return out
}

// valid reports whether the configuration of a listener is valid. The objects
// that it refers to need not exist.
func (l *listenerMeaning) valid() bool {
	return !l.has(gatewayv1.ListenerConditionAccepted) && !l.has(gatewayv1.ListenerConditionConflicted)
}

// servable reports whether a listener is served, or will be as soon as proxies are
// connected.
func (g *routedGateway) servable(l *listenerMeaning) bool {
	return l.inForce() && (!l.terminates || l.certified)
}

func isError(f policy.Finding) bool { return f.Severity == policy.Error }

// stops reports whether a finding about a Gateway keeps it from being served. Mistakes in the
// parameters of its proxies do not: those that it has go on.
func stops(f policy.Finding) bool {
	return isError(f) && f.Reason != string(gatewayv1.GatewayReasonInvalidParameters)
}

// listenerStatus returns the status of a listener.
func (g *routedGateway) listenerStatus(l *listenerMeaning) gatewayv1.ListenerStatus {
	group := gatewayv1.Group(gatewayv1.GroupName)
	out := gatewayv1.ListenerStatus{
		Name: gatewayv1.SectionName(l.name), SupportedKinds: []gatewayv1.RouteGroupKind{}, AttachedRoutes: attachedRoutes(g.routes, l),
	}
	for _, kind := range l.kinds {
		out.SupportedKinds = append(out.SupportedKinds, gatewayv1.RouteGroupKind{Group: &group, Kind: gatewayv1.Kind(kind)})
	}
	add := func(kind gatewayv1.ListenerConditionType, status metav1.ConditionStatus, reason gatewayv1.ListenerConditionReason, message string) {
		out.Conditions = append(out.Conditions, metav1.Condition{
			Type: string(kind), Status: status, Reason: string(reason), Message: message, ObservedGeneration: g.object.Generation,
		})
	}
	// addChecked adds a condition that is good unless an error speaks against it.
	addChecked := func(kind gatewayv1.ListenerConditionType, good, bad metav1.ConditionStatus, reason gatewayv1.ListenerConditionReason, message string) {
		about := slices.DeleteFunc(slices.Clone(l.findings), func(f policy.Finding) bool { return f.Condition != string(kind) })
		if text := messageOf("", about); text != "" {
			message = text
		}
		status := good
		if i := slices.IndexFunc(about, isError); i >= 0 {
			status, reason = bad, gatewayv1.ListenerConditionReason(about[i].Reason)
		}
		add(kind, status, reason, message)
	}
	addChecked(gatewayv1.ListenerConditionAccepted, metav1.ConditionTrue, metav1.ConditionFalse, gatewayv1.ListenerReasonAccepted, "the listener is valid")
	addChecked(gatewayv1.ListenerConditionConflicted, metav1.ConditionFalse, metav1.ConditionTrue, gatewayv1.ListenerReasonNoConflicts, "no other listener is in its way")
	addChecked(gatewayv1.ListenerConditionResolvedRefs, metav1.ConditionTrue, metav1.ConditionFalse, gatewayv1.ListenerReasonResolvedRefs, "everything that it names exists and may be referred to")
	switch {
	case !l.valid() || slices.ContainsFunc(g.findings, stops):
		add(gatewayv1.ListenerConditionProgrammed, metav1.ConditionFalse, gatewayv1.ListenerReasonInvalid, "it is not served: see its other conditions, and those of the Gateway")
	case !l.inForce():
		add(gatewayv1.ListenerConditionProgrammed, metav1.ConditionFalse, gatewayv1.ListenerReasonInvalid, "it is not served, because it has no certificate: see what ResolvedRefs says")
	case !g.servable(l):
		add(gatewayv1.ListenerConditionProgrammed, metav1.ConditionFalse, gatewayv1.ListenerReasonInvalid,
			"none of its certificates can be used, so that it is served with what was last known of them only: see what ResolvedRefs says")
	}
	// The condition is there only where it is True.
	if i := slices.IndexFunc(l.findings, isOverlap); i >= 0 {
		add(gatewayv1.ListenerConditionOverlappingTLSConfig, metav1.ConditionTrue, gatewayv1.ListenerConditionReason(l.findings[i].Reason), messageOf("", l.findings[i:i+1]))
	}
	return out
}

// isOverlap reports whether a finding is about names that listeners have in
// common. That is no mistake, so it only appears in their status.
func isOverlap(f policy.Finding) bool {
	return f.Condition == string(gatewayv1.ListenerConditionOverlappingTLSConfig)
}

// addresses returns the addresses at which clients reach the Gateway: those of
// its spec, else those of its annotation. unusable is the reason why one of the
// spec's cannot be used, nil if all can.
//
// Those of a Gateway whose proxies are made for it are its Service's, unless the
// annotation tells others. For all others nothing here assigns addresses: a network, or
// the operator of a load balancer, does. So the annotation must give an address that
// the spec asks for without a value.
func (m *gatewayMeaning) addresses() (out []gatewayv1.GatewayStatusAddress, unusable *policy.Finding) {
	known := annotatedAddresses(m.object)
	byService := m.managed && len(known) == 0
	if byService {
		known = m.assigned
	}
	if len(m.spec.Addresses) == 0 {
		if byService && len(known) == 0 {
			reason, message, remedy := m.notAssigned("")
			unusable = &policy.Finding{
				Severity: policy.Warning, Object: m.object.Ref(), Condition: v1alpha1.ConditionProgrammed, Reason: string(reason),
				Message: "it has no address: " + message, Remedy: remedy,
			}
		}
		return known, unusable
	}
	refuse := func(index int, reason gatewayv1.GatewayConditionReason, message, remedy string) {
		// What cannot be used comes before what is still to come.
		if unusable == nil || reason == gatewayv1.GatewayReasonAddressNotUsable && unusable.Reason != string(reason) {
			unusable = &policy.Finding{
				Severity: policy.Error, Object: m.object.Ref(), Field: fmt.Sprintf("spec.addresses[%d]", index), Condition: v1alpha1.ConditionProgrammed,
				Reason: string(reason), Message: message, Remedy: remedy,
			}
		}
	}
	for i := range m.spec.Addresses {
		kind, value := ptr.Deref(m.spec.Addresses[i].Type, gatewayv1.IPAddressType), m.spec.Addresses[i].Value
		if value == "" {
			found := false
			for _, a := range known {
				if *a.Type == kind && !containsAddress(out, a) {
					out, found = append(out, a), true
				}
			}
			if !found && byService && kind == gatewayv1.IPAddressType {
				reason, message, remedy := m.notAssigned("")
				refuse(i, reason, message, remedy)
			} else if !found {
				refuse(i, gatewayv1.GatewayReasonAddressNotAssigned, fmt.Sprintf("no %s is known", kind),
					fmt.Sprintf("give the value, or annotate the Gateway with %s", v1alpha1.AddressesAnnotation))
			}
			continue
		}
		if kind != gatewayv1.IPAddressType && kind != gatewayv1.HostnameAddressType {
			continue // for which the Gateway is not accepted
		}
		if kind == gatewayv1.IPAddressType && !usableAddress(value) || kind == gatewayv1.HostnameAddressType && !routing.IsRouteHostname(value) {
			refuse(i, gatewayv1.GatewayReasonAddressNotUsable, fmt.Sprintf("%q is not an address that clients could connect to", value), "correct it")
			continue
		}
		a := gatewayv1.GatewayStatusAddress{Type: &kind, Value: value}
		switch {
		case byService && kind == gatewayv1.IPAddressType && m.rivalAddress(i):
			refuse(i, gatewayv1.GatewayReasonAddressNotUsable, "a Service has one address of each family, and an earlier entry asks for one", "remove one of them")
		case byService && kind == gatewayv1.IPAddressType && !containsAddress(known, a):
			reason, message, remedy := m.notAssigned(value)
			refuse(i, reason, message, remedy)
		case !containsAddress(out, a):
			out = append(out, a)
		}
	}
	return out, unusable
}

// rivalAddress reports whether an entry of spec.addresses asks for a second address of its family.
func (m *gatewayMeaning) rivalAddress(index int) bool {
	is4 := func(i int) bool {
		a, err := netip.ParseAddr(m.spec.Addresses[i].Value)
		return err == nil && a.Is4()
	}
	for i := range index {
		a := &m.spec.Addresses[i]
		if ptr.Deref(a.Type, gatewayv1.IPAddressType) == gatewayv1.IPAddressType && usableAddress(a.Value) && a.Value != m.spec.Addresses[index].Value && is4(i) == is4(index) {
			return true
		}
	}
	return false
}

// maxAddresses is how many addresses a status has room for.
const maxAddresses = 16

// annotatedAddresses returns the addresses that a Gateway's annotation tells, each once.
func annotatedAddresses(o *discovery.Object) []gatewayv1.GatewayStatusAddress {
	var out []gatewayv1.GatewayStatusAddress
	for _, text := range addressTexts(o) {
		a := statusAddress(text)
		if addressProblem(text) == "" && !containsAddress(out, a) && len(out) < maxAddresses {
			out = append(out, a)
		}
	}
	return out
}

// addressTexts returns the entries of the annotation, empty ones left out.
func addressTexts(o *discovery.Object) []string {
	gateway, ok := o.Spec.(*gatewayv1.Gateway)
	if !ok {
		return nil
	}
	var out []string
	for text := range strings.SplitSeq(gateway.Annotations[v1alpha1.AddressesAnnotation], ",") {
		if text = strings.TrimSpace(text); text != "" {
			out = append(out, text)
		}
	}
	return out
}

// addressProblem says why a text is not at which clients could reach a Gateway, "" if it is.
func addressProblem(text string) string {
	if usableAddress(text) || routing.IsRouteHostname(strings.ToLower(text)) && !strings.HasPrefix(text, "*") {
		return ""
	}
	return fmt.Sprintf("%q is neither an address nor a host name that clients could connect to", text)
}

// usableAddress reports whether a text is an IP address that somebody could connect to.
func usableAddress(text string) bool {
	a, err := netip.ParseAddr(text)
	return err == nil && a.Zone() == "" && !a.IsUnspecified() && !a.IsMulticast() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

func containsAddress(in []gatewayv1.GatewayStatusAddress, a gatewayv1.GatewayStatusAddress) bool {
	return slices.ContainsFunc(in, func(b gatewayv1.GatewayStatusAddress) bool { return *a.Type == *b.Type && a.Value == b.Value })
}

// validateGateway returns the findings about a Gateway, none for one of another controller.
func validateGateway(r catalog.Reader, o *discovery.Object) []policy.Finding {
	g := readRoutedGateway(r, o)
	if g == nil {
		return nil
	}
	out := slices.Clone(g.findings)
	warn := func(field, condition, reason, message, remedy string) {
		out = append(out, policy.Finding{
			Severity: policy.Warning, Object: o.Ref(), Field: field, Condition: condition, Reason: reason, Message: message, Remedy: remedy,
		})
	}
	for _, field := range o.Pruned {
		warn(field, v1alpha1.ConditionAccepted, policy.ReasonUnsupported,
			"the API server dropped this field, because the installed CRD does not have it",
			"install the Gateway API's experimental channel, or remove the field")
	}
	// That a managed Gateway's address is still to come is no mistake.
	if _, unusable := g.addresses(); unusable != nil && (!g.managed || unusable.Reason == string(gatewayv1.GatewayReasonAddressNotUsable)) {
		out = append(out, *unusable)
	}
	if g.refused != nil && !g.refused.Address {
		out = append(out, policy.Finding{
			Severity: policy.Error, Object: o.Ref(), Condition: v1alpha1.ConditionProgrammed, Reason: string(gatewayv1.GatewayReasonNoResources),
			Message: "its proxies cannot be made or changed, and what was made before stays: " + g.refused.Refused,
		})
	}
	annotation := fmt.Sprintf("metadata.annotations[%q]", v1alpha1.AddressesAnnotation)
	for _, text := range addressTexts(o) {
		if problem := addressProblem(text); problem != "" {
			warn(annotation, v1alpha1.ConditionAccepted, policy.ReasonInvalid, problem, "correct it")
		}
	}
	for _, l := range g.listeners {
		out = append(out, slices.DeleteFunc(slices.Clone(l.findings), isOverlap)...)
		if g.serves(l) && attachedRoutes(g.routes, l) == 0 {
			happens := "is closed"
			if l.isHTTP() {
				happens = "is answered 404"
			}
			warn(l.field(), v1alpha1.ConditionAccepted, policy.ReasonNoRoutes,
				fmt.Sprintf("no route is attached to listener %s, so that everything that comes in %s", l.name, happens),
				"name it in the parentRefs of a route, or remove it")
		}
	}
	if f := g.unknownBalancer(r); f != nil {
		out = append(out, *f)
	}
	return out
}

// unknownBalancer warns of a Gateway that is reached by a load balancer or a CDN
// which no GatewayPolicy says to stand in front. An NLB has other names, and
// need not change what a proxy sees of its clients.
func (g *routedGateway) unknownBalancer(r catalog.Reader) *policy.Finding {
	addresses, _ := g.addresses()
	for i := range addresses {
		name := strings.ToLower(addresses[i].Value)
		kind := v1alpha1.HopALB
		switch {
		case strings.HasSuffix(name, ".cloudfront.net"):
			kind = v1alpha1.HopCloudFront
		case !strings.HasSuffix(name, ".elb.amazonaws.com"):
			continue
		}
		for _, l := range g.listeners {
			if l.isHTTP() && g.serves(l) && g.settingsOf(r, l.port).InFront == nil {
				return &policy.Finding{
					Severity: policy.Warning, Object: g.object.Ref(), Field: l.field(), Condition: v1alpha1.ConditionAccepted, Reason: policy.ReasonUnsupported,
					Message: fmt.Sprintf("clients reach the Gateway at %s, but no GatewayPolicy says what stands in front of listener %s, so that its address is taken for the clients' and what it says of them is not believed", name, l.name),
					Remedy:  fmt.Sprintf("attach a GatewayPolicy with inFront: [{kind: %s}]", kind),
				}
			}
		}
	}
	return nil
}

// gatewayClassStatus returns the status of a GatewayClass, nil for one of another controller.
func gatewayClassStatus(r catalog.Reader, o *discovery.Object) *gatewayv1.GatewayClassStatus {
	class, ok := o.Spec.(*gatewayv1.GatewayClass)
	if !ok || class.Spec.ControllerName != v1alpha1.ControllerName {
		return nil
	}
	c := condition(v1alpha1.ConditionAccepted, string(gatewayv1.GatewayClassReasonAccepted), "Gateways of this class are served", validateGatewayClass(r, o))
	c.ObservedGeneration = o.Generation
	params, _ := classParameters(r, o)
	return &gatewayv1.GatewayClassStatus{Conditions: []metav1.Condition{c}, SupportedFeatures: supportedFeatures(params != nil && ptr.Deref(params.Managed, false))}
}

// validateGatewayClass returns the findings about a GatewayClass.
func validateGatewayClass(r catalog.Reader, o *discovery.Object) []policy.Finding {
	class, ok := o.Spec.(*gatewayv1.GatewayClass)
	if !ok || class.Spec.ControllerName != v1alpha1.ControllerName {
		return nil
	}
	add, done := policy.FindingsOf(o)
	if _, wrong := classParameters(r, o); wrong != nil {
		add(policy.Finding{
			Severity: policy.Error, Field: "spec.parametersRef", Condition: v1alpha1.ConditionAccepted, Reason: string(gatewayv1.GatewayClassReasonInvalidParameters),
			Message: wrong.Message, Remedy: wrong.Remedy,
		})
	}
	return done()
}

// supportedFeatures returns the features of the Gateway API that Gateways here
// have, sorted by name. Features of a mesh do not belong to a GatewayClass. managed is true for
// a class whose Gateways get their proxies by themselves.
func supportedFeatures(managed bool) []gatewayv1.SupportedFeature {
	names := []features.FeatureName{
		features.SupportBackendTLSPolicy,
		features.SupportBackendTLSPolicySANValidation,
		features.SupportGateway,
		features.SupportGatewayFrontendClientCertificateValidation,
		features.SupportGatewayFrontendClientCertificateValidationInsecureFallback,
		features.SupportGatewayHTTPListenerIsolation,
		features.SupportGatewayHTTPSListenerDetectMisdirectedRequests,
		features.SupportGatewayPort8080,
		features.SupportGatewayRouteHostnameIntersectionPrecedence,
		features.SupportGatewayStaticAddresses,
		features.SupportGRPCRoute,
		features.SupportGRPCRouteNamedRouteRule,
		features.SupportGRPCRouteRequestHeaderModifier,
		features.SupportHTTPRoute,
		features.SupportHTTPRoute303RedirectStatusCode,
		features.SupportHTTPRoute307RedirectStatusCode,
		features.SupportHTTPRoute308RedirectStatusCode,
		features.SupportHTTPRouteBackendProtocolH2C,
		features.SupportHTTPRouteBackendProtocolWebSocket,
		features.SupportHTTPRouteBackendRequestHeaderModification,
		features.SupportHTTPRouteBackendTimeout,
		features.SupportHTTPRouteBackendURLRewrite,
		features.SupportHTTPRouteCORS,
		features.SupportHTTPRouteDestinationPortMatching,
		features.SupportHTTPRouteHostRewrite,
		features.SupportHTTPRouteMethodMatching,
		features.SupportHTTPRouteNamedRouteRule,
		features.SupportHTTPRouteParentRefPort,
		features.SupportHTTPRoutePathRedirect,
		features.SupportHTTPRoutePathRewrite,
		features.SupportHTTPRoutePortRedirect,
		features.SupportHTTPRouteQueryParamMatching,
		features.SupportHTTPRouteRequestMirror,
		features.SupportHTTPRouteRequestMultipleMirrors,
		features.SupportHTTPRouteRequestPercentageMirror,
		features.SupportHTTPRouteRequestTimeout,
		features.SupportHTTPRouteResponseHeaderModification,
		features.SupportHTTPRouteRetryCodes,
		features.SupportHTTPRouteRetryConnectionError,
		features.SupportHTTPRouteSchemeRedirect,
		features.SupportReferenceGrant,
		features.SupportTCPRoute,
		features.SupportTLSRoute,
		features.SupportTLSRouteModeMixed,
		features.SupportTLSRouteModeTerminate,
	}
	if managed {
		names = append(names, features.SupportGatewayAddressEmpty, features.SupportGatewayInfrastructure)
	}
	slices.Sort(names)
	out := make([]gatewayv1.SupportedFeature, len(names))
	for i, name := range names {
		out[i].Name = gatewayv1.FeatureName(name)
	}
	return out
}
