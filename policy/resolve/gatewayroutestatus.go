package resolve

import (
	"fmt"
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/policy/routing"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// attachAtGateway finds the listeners of a Gateway that the nth of a route's
// parentRefs to it attaches it to, or why there are none.
func (s *Statuses) attachAtGateway(o *discovery.Object, g *routedGateway, nth int, v *routeAtParent) (*routing.Meaning, *policy.Finding) {
	position, ok := g.at[o.Name()]
	if !ok { // a row that is not of this snapshot
		read := routing.ReadAt(s.r, o, v.parent)
		return read, attachToGateway(s.r, g.gatewayMeaning, o, v.ref).refused
	}
	self := g.routes[position]
	at := &self.attachments[nth]
	m := self.meaning()
	if at.refused != nil || !m.Holds() {
		return m, at.refused
	}
	listeners := make([]*listenerMeaning, len(at.at))
	for i := range at.at {
		listeners[i] = at.at[i].listenerMeaning
	}
	v.where = fmt.Sprintf("listener %s of Gateway %s", g.describe(listeners), g.object.Key)
	v.notes = slices.Clone(at.notes)
	conflicted := slices.ContainsFunc(v.notes, func(n policy.Finding) bool { return n.Reason == policy.ReasonConflicted })
	if !slices.ContainsFunc(listeners, g.serves) {
		v.notes = append(v.notes, policy.Finding{
			Reason: policy.ReasonNotServed, Message: fmt.Sprintf("nothing comes in: %s is not served", v.where),
			Remedy: "see what the status of the Gateway says of it",
		})
		return m, nil
	}
	for i := range at.at {
		// A route that lost a listener to another route need not be told to
		// attach to it.
		if l := at.at[i]; !conflicted && g.serves(l.listenerMeaning) {
			v.notes = append(v.notes, g.isolated(self, l)...)
		}
	}
	v.notes = append(v.notes, s.redirectLoops(g, listeners, m)...)
	return m, nil
}

// isolated returns the host names of a route that come in at a more specific
// listener of the port, to which the route is not attached: a request belongs
// to one listener (GatewaySpec.listeners).
func (g *routedGateway) isolated(self *gatewayRoute, l attachedListener) []policy.Finding {
	port := g.served[l.port]
	owned := ownership{l.listenerMeaning, port}
	lost := make(map[*listenerMeaning][]string)
	for _, name := range l.hostnames {
		if owned.has(name) {
			continue
		}
		i := slices.IndexFunc(port, func(other *listenerMeaning) bool {
			return other != l.listenerMeaning && covers(l.hostname, other.hostname) && covers(other.hostname, name)
		})
		if owner := port[i]; len(self.at(owner)) == 0 {
			lost[owner] = append(lost[owner], nameText(name))
		}
	}
	var out []policy.Finding
	for _, owner := range port {
		if names := lost[owner]; len(names) > 0 {
			out = append(out, policy.Finding{
				Reason:  policy.ReasonShadowed,
				Message: fmt.Sprintf("what is for %s comes in at listener %s, which is more specific, and not at %s", phrase.Few(names), owner.name, l.name),
				Remedy:  fmt.Sprintf("attach the route to listener %s too", owner.name),
			})
		}
	}
	return out
}

// nameText returns a host name as a message tells it.
func nameText(name string) string {
	if name == "" {
		return "any host"
	}
	return name
}

// The headers in which a hop in front tells how a client came in. An ALB overwrites the
// first one, so behind CloudFront it tells how CloudFront came. CloudFront tells in the
// second one, if it is configured to send it, how the client came.
const (
	forwardedProto           = "x-forwarded-proto"
	cloudFrontForwardedProto = "cloudfront-forwarded-proto"
)

// redirectLoops warns of rules that redirect to https on a port without TLS,
// behind a hop that may have ended TLS already: a client that came by https is
// redirected there again.
func (s *Statuses) redirectLoops(g *routedGateway, listeners []*listenerMeaning, m *routing.Meaning) []policy.Finding {
	var behind string
	remedy := "add a match on the header X-Forwarded-Proto: http to the rule"
	for _, l := range listeners {
		if l.protocol != gatewayv1.HTTPProtocolType || !g.serves(l) {
			continue
		}
		settings := g.settingsOf(s.r, l.port)
		if settings.TrustedHops() == 0 {
			continue
		}
		behind = fmt.Sprintf("%s, behind which listener %s stands (%s)", hopsText(settings.InFront), l.name, settings.From["inFront"])
		if slices.ContainsFunc(settings.InFront, func(h v1alpha1.Hop) bool { return h.Kind == v1alpha1.HopCloudFront }) {
			remedy = "have CloudFront redirect to HTTPS instead (its viewer protocol policy), or send CloudFront-Forwarded-Proto and add a match on that header: http"
		}
		break
	}
	if behind == "" {
		return nil
	}
	var out []policy.Finding
	told := make(map[int]bool)
	for i := range m.HTTP {
		rule := &m.HTTP[i]
		to := rule.Filters.Redirect
		if to == nil || to.Scheme != "https" || to.Host != "" || told[rule.Index] ||
			slices.ContainsFunc(rule.Match.Headers, func(h policy.ValueMatch) bool { return h.Name == forwardedProto || h.Name == cloudFrontForwardedProto }) {
			continue
		}
		told[rule.Index] = true
		out = append(out, policy.Finding{
			Field: routing.RuleField(rule.Index), Condition: v1alpha1.ConditionAccepted, Reason: policy.ReasonLoop,
			Message: fmt.Sprintf("it redirects to https whoever came by https already, if TLS ends at %s: they are redirected for ever", behind),
			Remedy:  remedy,
		})
	}
	return out
}

// hopsText names what stands in front, the nearest to the client first.
func hopsText(hops []v1alpha1.Hop) string {
	out := make([]string, len(hops))
	for i := range hops {
		out[i] = string(hops[i].Kind)
	}
	return phrase.Or(out)
}
