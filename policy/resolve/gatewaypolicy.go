package resolve

import (
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/effective"
	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// gatewayPolicyConditions returns the condition Accepted of a GatewayPolicy,
// which refers to nothing but its targets.
func gatewayPolicyConditions(r catalog.Reader, o *discovery.Object) []metav1.Condition {
	c := condition(v1alpha1.ConditionAccepted, policy.ReasonAccepted, "the object is valid and in force", validateGatewayPolicy(r, o))
	c.ObservedGeneration = o.Generation
	return []metav1.Condition{c}
}

// validateGatewayPolicy returns the findings about a GatewayPolicy.
func validateGatewayPolicy(r catalog.Reader, o *discovery.Object) []policy.Finding {
	v := gatewayPolicyValidator{r: r, object: o, own: effective.NewGatewayStatement(o), spec: &o.Spec.(*v1alpha1.GatewayPolicy).Spec, ports: make(map[policyPort]bool)}
	var done func() []policy.Finding
	v.add, done = policy.FindingsOf(o)
	v.mistakes()
	var fates sectionResult
	for i, ref := range v.spec.TargetRefs {
		v.target(fmt.Sprintf("spec.targetRefs[%d]", i), ref, &fates)
	}
	fates.report(v.add)
	v.hops()
	if !slices.ContainsFunc(policy.GatewaySectionDefs, func(s policy.GatewaySectionDef) bool { return s.Has(&v.spec.GatewaySettings) }) {
		v.warn("spec", policy.ReasonAccepted, "it has no section, so it says nothing", "add what clients may do, for example timeout")
	}
	return done()
}

// gatewayPolicyValidator gathers what there is to say of a GatewayPolicy.
type gatewayPolicyValidator struct {
	r      catalog.Reader
	object *discovery.Object
	spec   *v1alpha1.GatewayPolicySpec
	own    effective.GatewayStatement
	// ports whose settings were looked at already.
	ports map[policyPort]bool
	add   func(policy.Finding)
}

// policyPort is a port of a Gateway.
type policyPort struct {
	gateway string
	number  uint16
}

func (v *gatewayPolicyValidator) refuse(field, reason, message, remedy string) {
	v.add(policy.Finding{
		Severity: policy.Error, Field: field, Condition: v1alpha1.ConditionAccepted, Reason: reason, Message: message, Remedy: remedy,
	})
}

func (v *gatewayPolicyValidator) warn(field, reason, message, remedy string) {
	v.add(policy.Finding{
		Severity: policy.Warning, Field: field, Condition: v1alpha1.ConditionAccepted, Reason: reason, Message: message, Remedy: remedy,
	})
}

// The bounds of targetRefs.
const mostTargets = 16

// consequenceOf says what a mistake in a section leads to: see narrowed.
func consequenceOf(section string) string {
	switch section {
	case "inFront":
		return "so nothing that stands in front is trusted"
	case "limits":
		return "so the closest that is allowed holds"
	case "timeout":
		return "so the default holds"
	case "tls":
		return "so it is not accepted; without another version or suite only TLS 1.3 is"
	}
	return "so the section " + section + " has no effect"
}

// mistakes says which values cannot be had.
func (v *gatewayPolicyValidator) mistakes() {
	for _, m := range policy.GatewayMistakes(&v.spec.GatewaySettings) {
		v.refuse(m.Field, policy.ReasonInvalid, m.Message+", "+consequenceOf(m.In), m.Remedy)
	}
	if n := len(v.spec.TargetRefs); n == 0 || n > mostTargets {
		v.refuse("spec.targetRefs", policy.ReasonInvalid, fmt.Sprintf("it has %d entries", n), fmt.Sprintf("name 1 to %d Gateways or listeners", mostTargets))
	}
	for i, ref := range v.spec.TargetRefs {
		if slices.ContainsFunc(v.spec.TargetRefs[:i], func(other v1alpha1.GatewayTarget) bool {
			return other.Name == ref.Name && other.SectionName == ref.SectionName
		}) {
			v.refuse(fmt.Sprintf("spec.targetRefs[%d]", i), policy.ReasonInvalid, "it stands twice", "remove one")
		}
	}
	if t := v.spec.TLS; t != nil && t.MinVersion == v1alpha1.TLS13 && len(t.CipherSuites) > 0 {
		v.warn("spec.tls.cipherSuites", policy.ReasonUnsupported, "they are for TLS 1.2, which minVersion excludes", "remove them")
	}
}

// target says whether a target is there, and what became of the policy's sections at it.
func (v *gatewayPolicyValidator) target(field string, ref v1alpha1.GatewayTarget, fates *sectionResult) {
	if !effective.IsGatewayTarget(ref) {
		v.refuse(field, policy.ReasonInvalid, fmt.Sprintf("a GatewayPolicy cannot be about kind %q of group %q", ref.Kind, ref.Group),
			fmt.Sprintf("write group %s and kind %s, or leave both out", gatewayv1.GroupName, discovery.KindGateway))
		return
	}
	name := discovery.ObjectName{Kind: discovery.KindGateway, Key: discovery.Key{Namespace: v.object.Namespace, Name: ref.Name}}
	o, ok := catalog.Objects.Get(v.r, name.String())
	if !ok {
		v.refuse(field, policy.ReasonTargetNotFound, "there is no "+name.String(), "create it or correct the name")
		return
	}
	if foreign := effective.ForeignGateway(v.r, o); foreign != "" {
		v.refuse(field, policy.ReasonTargetNotFound, foreign, "target a Gateway of a class of this controller")
		return
	}
	g := readListeners(v.r, o)
	var about []*listenerMeaning
	for _, l := range g.listeners {
		if ref.SectionName == "" || ref.SectionName == l.name {
			about = append(about, l)
		}
	}
	if ref.SectionName != "" && len(about) == 0 {
		v.refuse(field+".sectionName", policy.ReasonTargetNotFound, fmt.Sprintf("%s has no listener named %q", name, ref.SectionName),
			"name one of its listeners: "+g.describe(g.listeners))
		return
	}
	v.rivals(ref, g, about, fates)
	v.misplaced(ref, about)
	v.order(g, about)
}

// rivals says which sections others have at a target. A listener's rivals are
// those about any listener of its port.
func (v *gatewayPolicyValidator) rivals(ref v1alpha1.GatewayTarget, g *gatewayMeaning, about []*listenerMeaning, fates *sectionResult) {
	policies := effective.GatewayPolicies(v.r, g.object.Key)
	level, text := effective.GatewayLevel(policies, ref.Name, func(section string) bool { return section == "" }), g.object.Name().String()
	if ref.SectionName != "" {
		var port []string
		for _, l := range g.listeners {
			if l.port == about[0].port {
				port = append(port, l.name)
			}
		}
		level = effective.GatewayLevel(policies, ref.Name, func(section string) bool { return section != "" && slices.Contains(port, section) })
		text += "#" + ref.SectionName
	}
	for i := range policy.GatewaySectionDefs {
		sec := &policy.GatewaySectionDefs[i]
		if !v.own.States(sec) {
			continue
		}
		j := slices.IndexFunc(level, func(s effective.GatewayStatement) bool { return s.States(sec) })
		if j < 0 || level[j].Ref == v.own.Ref {
			fates.won++
			continue
		}
		winner := level[j].Ref
		fates.lost = append(fates.lost, fmt.Sprintf("%s at %s (%s)", sec.Name, text, discovery.ObjectName{Kind: winner.Kind, Key: winner.Key}))
	}
}

// misplaced says which sections mean nothing to a target's listeners.
func (v *gatewayPolicyValidator) misplaced(ref v1alpha1.GatewayTarget, about []*listenerMeaning) {
	text := "Gateway " + ref.Name
	if ref.SectionName != "" {
		text = "listener " + ref.SectionName + " of " + text
	}
	if v.spec.TLS != nil && !slices.ContainsFunc(about, func(l *listenerMeaning) bool { return l.terminates }) {
		v.warn("spec.tls", policy.ReasonUnsupported, fmt.Sprintf("it has no effect on %s, where no TLS ends", text), "remove it, or target a listener with TLS")
	}
	if v.spec.HealthCheck != nil && !slices.ContainsFunc(about, (*listenerMeaning).isHTTP) {
		v.warn("spec.healthCheck", policy.ReasonUnsupported, fmt.Sprintf("it has no effect on %s, which is not HTTP", text),
			"have the load balancer check that a connection opens, or the health listener of the proxies")
	}
}

// hops says what of inFront cannot work, or does not do what it seems to.
func (v *gatewayPolicyValidator) hops() {
	in := v.spec.InFront
	for i := range in {
		field := fmt.Sprintf("spec.inFront[%d]", i)
		if i == len(in)-1 {
			break
		}
		next := in[i+1].Kind
		if in[i].ProxyProtocol && (next == v1alpha1.HopALB || next == v1alpha1.HopCloudFront) {
			v.warn(field+".proxyProtocol", policy.ReasonUnsupported, fmt.Sprintf("the %s behind it does not read the PROXY protocol, so that it refuses every connection", next),
				"switch it off there, and remove it here")
		}
		if len(in[i].Addresses) > 0 {
			v.warn(field+".addresses", policy.ReasonUnsupported, "connections come from the last hop, so that these ranges have no effect",
				"give the ranges of the last hop")
		}
	}
	if i := slices.IndexFunc(in, func(h v1alpha1.Hop) bool { return h.Kind == v1alpha1.HopCloudFront }); i > 0 && in[i-1].Kind != v1alpha1.HopProxy && in[i-1].Kind != v1alpha1.HopCloudFront {
		v.warn(fmt.Sprintf("spec.inFront[%d]", i), policy.ReasonUnsupported, fmt.Sprintf("an %s does not send to CloudFront: the hops stand in the wrong order", in[i-1].Kind),
			"name the one nearest to the client first")
	}
}

// The idle timeouts of what stands in front where it states none, as AWS sets
// them: CloudFront's keep-alive timeout to custom origins, an ALB's idle timeout
// for both its sides, an NLB's for TCP flows.
const (
	idleCloudFront = 5 * time.Second
	idleALB        = 60 * time.Second
	idleNLB        = 350 * time.Second
	idleProxy      = 60 * time.Second
)

// hopIdle returns how long a hop keeps an idle connection to what is behind it.
func hopIdle(h *v1alpha1.Hop) time.Duration {
	if h.IdleTimeout != nil {
		return h.IdleTimeout.Duration
	}
	switch h.Kind {
	case v1alpha1.HopCloudFront:
		return idleCloudFront
	case v1alpha1.HopALB:
		return idleALB
	case v1alpha1.HopNLB:
		return idleNLB
	case v1alpha1.HopProxy:
	}
	return idleProxy
}

// order warns of idle timeouts in the wrong order. The sender of requests must be the first
// to close an idle connection. If the receiver closes first, a request can be on its way into
// a connection that is just being closed, and is answered with 502 or 503 although nothing is
// wrong. So each hop's timeout must be shorter than that of the next one, up to the gateway,
// and the gateway's timeout to its upstreams shorter than theirs (checkUpstreamIdle).
//
// An NLB passes connections on and sends no requests. But the hop that sends through it must
// close first, because an NLB forgets connections without telling anybody.
func (v *gatewayPolicyValidator) order(g *gatewayMeaning, about []*listenerMeaning) {
	for _, l := range about {
		key := policyPort{g.object.Key.Name, l.port}
		if v.ports[key] {
			continue
		}
		v.ports[key] = true
		var names []string
		isHTTP := false
		for _, other := range g.listeners {
			if other.port == l.port {
				names = append(names, other.name)
				isHTTP = isHTTP || other.isHTTP()
			}
		}
		s := effective.GatewaySettings(v.r, g.object.Key, names)
		// The policy that states the time limit is told, or else the one that says what is in front.
		own, ofTimeout := s.From["inFront"] == v.object.Ref(), s.From["timeout"] == v.object.Ref()
		if own {
			v.orderOfHops(s.InFront)
		}
		_, stated := s.From["timeout"]
		switch {
		case len(s.InFront) == 0:
		case isHTTP && (ofTimeout || own && !stated):
			v.orderAtGateway(&s, l, ofTimeout)
		case !isHTTP && own:
			v.orderOfConnections(&s, g.object.Key, l.port)
		}
	}
}

// orderOfHops compares the hops with each other, once for all ports.
func (v *gatewayPolicyValidator) orderOfHops(hops []v1alpha1.Hop) {
	if v.ports[policyPort{}] {
		return
	}
	v.ports[policyPort{}] = true
	for i := range hops {
		if hops[i].Kind == v1alpha1.HopNLB {
			continue
		}
		for k := i + 1; k < len(hops); k++ {
			if mine, next := hopIdle(&hops[i]), hopIdle(&hops[k]); mine >= next {
				v.warn(fmt.Sprintf("spec.inFront[%d].idleTimeout", k), policy.ReasonTimeoutOrder,
					fmt.Sprintf("the %s keeps idle connections for %s and the %s before it for %s, which must be the shorter time: else it sends requests into connections that are being closed (502)",
						hops[k].Kind, phrase.Duration(next), hops[i].Kind, phrase.Duration(mine)),
					fmt.Sprintf("set the %s to more than %s, or the %s to less than %s, and say so here", hops[k].Kind, phrase.Duration(mine), hops[i].Kind, phrase.Duration(next)))
			}
			if hops[k].Kind != v1alpha1.HopNLB {
				break // what comes later is its business
			}
		}
	}
}

// orderAtGateway compares the last hop that sends requests with the gateway.
func (v *gatewayPolicyValidator) orderAtGateway(s *policy.GatewaySettings, l *listenerMeaning, stated bool) {
	for i := len(s.InFront) - 1; i >= 0; i-- {
		h := &s.InFront[i]
		if h.Kind == v1alpha1.HopNLB {
			continue
		}
		idle, sender := s.Idle(), hopIdle(h)
		if idle > 0 && idle <= sender {
			field := fmt.Sprintf("spec.inFront[%d].idleTimeout", i)
			if stated {
				field = "spec.timeout.idle"
			}
			v.warn(field, policy.ReasonTimeoutOrder,
				fmt.Sprintf("the gateway closes idle connections to port %d after %s and the %s before it after %s, which must be the shorter time: else it sends requests into connections that are being closed (502)",
					l.port, phrase.Duration(idle), h.Kind, phrase.Duration(sender)),
				fmt.Sprintf("set timeout.idle to more than %s", phrase.Duration(sender)))
		}
		return
	}
}

// orderOfConnections warns of connections that may be idle for longer than an NLB
// remembers them: it tells neither side that it forgot them, and answers
// what is sent later with a reset.
func (v *gatewayPolicyValidator) orderOfConnections(s *policy.GatewaySettings, gateway discovery.Key, port uint16) {
	i := slices.IndexFunc(s.InFront, func(h v1alpha1.Hop) bool { return h.Kind == v1alpha1.HopNLB })
	m := BuildGateway(v.r, gateway)
	if i < 0 || m == nil {
		return
	}
	remembers := hopIdle(&s.InFront[i])
	for k := range m.Ports {
		if m.Ports[k].Number != port {
			continue
		}
		for _, l := range m.Ports[k].Listeners {
			for _, rule := range l.TCP {
				idle := time.Duration(0)
				if stated := rule.Settings.Timeouts().Idle; !stated.From.Default() {
					idle = stated.Value
				}
				if idle > 0 && idle < remembers {
					continue
				}
				kept := "for ever"
				if idle > 0 {
					kept = "for " + phrase.Duration(idle)
				}
				v.warn(fmt.Sprintf("spec.inFront[%d].idleTimeout", i), policy.ReasonTimeoutOrder,
					fmt.Sprintf("the NLB forgets connections to port %d that are idle for %s, and resets what is sent then, but %s keeps them %s", port, phrase.Duration(remembers), rule.Route, kept),
					fmt.Sprintf("set timeout.idle of a TrafficPolicy about the Gateway to less than %s, or have clients send TCP keep-alives more often", phrase.Duration(remembers)))
				return
			}
		}
	}
}

// nginxIdle is nginx's default keepalive_timeout.
const nginxIdle = 75 * time.Second

// checkUpstreamIdle warns of a policy with which callers, gateways among them,
// keep idle connections for longer than most servers do.
func checkUpstreamIdle(t *v1alpha1.TrafficPolicySpec, add func(policy.Finding)) {
	p := t.ConnectionPool
	ofClusters := slices.ContainsFunc(t.TargetRefs, func(ref v1alpha1.TargetReference) bool {
		return ref.Kind == discovery.KindService || ref.Kind == discovery.KindInstanceGroup || ref.Kind == discovery.KindExternalService
	})
	if !ofClusters || p == nil || p.IdleTimeout == nil || p.IdleTimeout.Duration > 0 && p.IdleTimeout.Duration < nginxIdle {
		return
	}
	kept := "for " + phrase.Duration(p.IdleTimeout.Duration)
	if p.IdleTimeout.Duration == 0 {
		kept = "for ever"
	}
	add(policy.Finding{
		Severity: policy.Warning, Field: "spec.connectionPool.idleTimeout", Condition: v1alpha1.ConditionAccepted, Reason: policy.ReasonTimeoutOrder,
		Message: fmt.Sprintf("callers keep idle connections %s, which must be a shorter time than the target does (nginx's keepalive_timeout is %s by default): else they send requests into connections that are being closed (503)",
			kept, phrase.Duration(nginxIdle)),
		Remedy: "write less than the target's keep-alive timeout, for example 60s",
	})
}
