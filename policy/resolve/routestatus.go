package resolve

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/policy/routing"
	"github.com/causeway-mesh/causeway/policy/upstream"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// routeParents returns the status of a route at each of its parents that are
// Services, or Gateways of ours.
func (s *Statuses) routeParents(o *discovery.Object) []gatewayv1.RouteParentStatus {
	var out []gatewayv1.RouteParentStatus
	for _, v := range s.routeAtParents(o) {
		out = append(out, gatewayv1.RouteParentStatus{
			ParentRef: *v.ref.DeepCopy(), ControllerName: v1alpha1.ControllerName, Conditions: v.conditions(o.Generation),
		})
	}
	return out
}

// routeAtParent is a route at one of its parents.
type routeAtParent struct {
	ref    *gatewayv1.ParentReference
	parent discovery.ObjectName
	// where names the part of the parent that the route attaches to and holds
	// at, "" for nothing; refused is the reason for that.
	where   string
	refused *policy.Finding
	// notes are warnings about the parent, such as ports that it does not hold at.
	notes []policy.Finding
	*routing.Meaning
}

// routeAtParents returns the route at every parentRef that names a Service or a
// Gateway of ours, in their order. A Gateway that does not exist belongs to
// nobody.
func (s *Statuses) routeAtParents(o *discovery.Object) []routeAtParent {
	spec := commonSpec(o)
	if spec == nil {
		return nil
	}
	var out []routeAtParent
	named := make(map[discovery.Key]int)
	for i := range spec.ParentRefs {
		ref := &spec.ParentRefs[i]
		v := routeAtParent{ref: ref}
		if parent, ok := parentService(o, ref); ok {
			v.parent = discovery.ObjectName{Kind: discovery.KindService, Key: parent}
			v.Meaning, v.refused = attachAt(s.r, o, &v)
		} else if parent, ok := parentGateway(o, ref); ok {
			g := s.gateway(parent)
			if g == nil {
				continue
			}
			v.parent = discovery.ObjectName{Kind: discovery.KindGateway, Key: parent}
			v.Meaning, v.refused = s.attachAtGateway(o, g, named[parent], &v)
			named[parent]++
		} else {
			continue
		}
		if v.refused != nil {
			// A route may be refused at several parents for one reason.
			refused := *v.refused
			refused.Severity, refused.Object, refused.Condition = policy.Error, o.Ref(), v1alpha1.ConditionAccepted
			refused.Field = parentField(i, ref, v.refused)
			v.refused = &refused
		}
		for k := range v.notes {
			n := &v.notes[k]
			n.Severity, n.Object, n.Condition = policy.Warning, o.Ref(), v1alpha1.ConditionAccepted
			if n.Field == "" {
				n.Field = "spec.parentRefs[" + strconv.Itoa(i) + "]"
			}
		}
		out = append(out, v)
	}
	return out
}

// parentField returns the part of a parentRef at fault.
func parentField(index int, ref *gatewayv1.ParentReference, f *policy.Finding) string {
	field := "spec.parentRefs[" + strconv.Itoa(index) + "]"
	switch {
	case f.Reason == string(gatewayv1.RouteReasonNoMatchingListenerHostname):
		return "spec.hostnames"
	case f.Reason == policy.ReasonConflicted, f.Reason == policy.ReasonUnsupported, f.Reason == string(gatewayv1.RouteReasonNotAllowedByListeners):
	case f.Field != "":
		return field + "." + f.Field
	case ref.Port != nil:
		return field + ".port"
	case ref.SectionName != nil:
		return field + ".sectionName"
	}
	return field
}

// attachAt finds the ports of a Service at which the route holds, or why there are
// none.
func attachAt(r catalog.Reader, o *discovery.Object, v *routeAtParent) (*routing.Meaning, *policy.Finding) {
	parent := v.parent.Key
	ports := upstream.ShapeOf(r, parent).Ports
	if len(ports) == 0 {
		message := fmt.Sprintf("there is no Service %s", parent)
		if _, ok := catalog.Services.Get(r, parent.String()); ok {
			message = fmt.Sprintf("Service %s has no TCP port that the mesh carries", parent)
		}
		return routing.Read(r, o, parent), &policy.Finding{
			Field: "name", Reason: string(gatewayv1.RouteReasonNoMatchingParent),
			Message: message, Remedy: "create it or correct the name",
		}
	}
	named, refused := parentPorts(o, v.ref, ports)
	all := attachments(r, parent, ports)
	self := slices.IndexFunc(all, func(a *attachment) bool { return a.object.Name() == o.Name() })
	if self < 0 {
		return routing.Read(r, o, parent), refused
	}
	m := all[self].meaning()
	if refused != nil || !m.Holds() {
		return m, refused
	}
	var held, lost []string
	for _, port := range named {
		holders := holding(all, o.Namespace, port)
		if !slices.Contains(holders, all[self]) {
			winner := holders[0].object
			lost = append(lost, fmt.Sprintf("port %d belongs to %s, because %s", port, winner.Name(), whyWins(winner, o)))
			continue
		}
		held = append(held, strconv.Itoa(int(port)))
		v.notes = append(v.notes, overtaken(holders, all[self], port)...)
	}
	switch len(held) {
	case 0:
	case 1:
		v.where = fmt.Sprintf("port %s of Service %s", held[0], parent)
	default:
		v.where = fmt.Sprintf("ports %s of Service %s", strings.Join(held, ", "), parent)
	}
	if len(lost) == 0 {
		return m, nil
	}
	conflict := policy.Finding{
		Reason: policy.ReasonConflicted, Message: strings.Join(lost, "; "),
		Remedy: "attach the routes to different ports, or use one kind of route",
	}
	if len(held) == 0 {
		return m, &conflict
	}
	v.notes = append(v.notes, conflict)
	return m, nil
}

// whyWins tells why a kind of route has precedence over another.
func whyWins(winner, loser *discovery.Object) string {
	return fmt.Sprintf("%ss are more specific than %ss", winner.Kind, loser.Kind)
}

// overtaken warns of connections that a route never gets, because an older
// route of its kind takes them. Such a route is accepted nevertheless, as the
// conformance suite wants: it is in force as soon as the other one goes.
// holders are the routes that hold at the port.
func overtaken(holders []*attachment, self *attachment, port uint16) []policy.Finding {
	if self.object.Kind != discovery.KindTCPRoute && self.object.Kind != discovery.KindTLSRoute {
		return nil // the rules of others merge
	}
	var out []policy.Finding
	for _, a := range holders {
		if a == self {
			break
		}
		switch self.object.Kind {
		case discovery.KindTCPRoute:
			return append(out, policy.Finding{
				Reason:  policy.ReasonConflicted,
				Message: fmt.Sprintf("all connections to port %d go by %s, which is older, so it gets none", port, a.object.Name()),
				Remedy:  "remove one of the two, or attach them to different ports",
			})
		case discovery.KindTLSRoute:
			var names []string
			theirs := a.meaning().TCP[0].ServerNames
			for _, name := range self.meaning().TCP[0].ServerNames {
				if slices.Contains(theirs, name) {
					names = append(names, name)
				}
			}
			if len(names) > 0 {
				out = append(out, policy.Finding{
					Reason:  policy.ReasonConflicted,
					Message: fmt.Sprintf("connections to port %d for %s go by %s, which is older", port, phrase.Few(names), a.object.Name()),
					Remedy:  "name each host in one TLSRoute",
				})
			}
		}
	}
	return out
}

// all returns all findings about the route at the parent.
func (v *routeAtParent) all() []policy.Finding {
	out := slices.Concat(v.notes, v.Findings)
	if v.refused != nil {
		out = append([]policy.Finding{*v.refused}, out...)
	}
	return out
}

// conditions returns the conditions of the route at the parent.
func (v *routeAtParent) conditions(generation int64) []metav1.Condition {
	accepted := metav1.Condition{
		Type: string(gatewayv1.RouteConditionAccepted), Status: metav1.ConditionTrue, Reason: string(gatewayv1.RouteReasonAccepted),
	}
	about := findingsAbout(v.all(), gatewayv1.RouteConditionAccepted)
	switch {
	case v.refused != nil:
		accepted.Status, accepted.Reason = metav1.ConditionFalse, v.refused.Reason
	case !v.Works():
		accepted.Status, accepted.Reason = metav1.ConditionFalse, reasonOf(about)
	}
	resolved := metav1.Condition{
		Type: string(gatewayv1.RouteConditionResolvedRefs), Status: metav1.ConditionTrue, Reason: string(gatewayv1.RouteReasonResolvedRefs),
		Message: "every object that the route refers to exists and may be referred to",
	}
	if refs := findingsAbout(v.Findings, gatewayv1.RouteConditionResolvedRefs); len(refs) > 0 {
		resolved.Status, resolved.Reason, resolved.Message = metav1.ConditionFalse, reasonOf(refs), messageOf("", refs)
	}
	out := []metav1.Condition{accepted, resolved}
	if accepted.Status == metav1.ConditionTrue && len(v.Failing) > 0 {
		wrong := slices.DeleteFunc(slices.Clone(about), func(f policy.Finding) bool { return f.Severity != policy.Error })
		about = slices.DeleteFunc(about, func(f policy.Finding) bool { return f.Severity == policy.Error })
		out = append(out, metav1.Condition{
			Type: string(gatewayv1.RouteConditionPartiallyInvalid), Status: metav1.ConditionTrue, Reason: reasonOf(wrong),
			Message: v.droppedRules() + messageOf("", wrong),
		})
	}
	out[0].Message = messageOf(v.attached(), about)
	for i := range out {
		out[i].ObservedGeneration = generation
	}
	return out
}

// attached tells where the route is in force, "" if nowhere.
func (v *routeAtParent) attached() string {
	if v.refused != nil || !v.Holds() || v.where == "" {
		return ""
	}
	if !v.Works() {
		return "attached to " + v.where + ", where it " + v.fails()
	}
	return "attached to " + v.where
}

// fails tells what happens to requests or connections of a rule that cannot be
// applied.
func (v *routeAtParent) fails() string {
	if len(v.TCP) > 0 {
		return "closes connections"
	}
	return "answers 500"
}

// droppedRules names the rules that do not work. The specification wants the message to begin with
// "Dropped Rule".
func (v *routeAtParent) droppedRules() string {
	var out []string
	for _, i := range v.Failing {
		out = append(out, routing.RuleField(i)+" ("+v.fails()+")")
	}
	word := "Dropped Rule "
	if len(out) > 1 {
		word = "Dropped Rules "
	}
	return word + phrase.Few(out) + ": "
}

func findingsAbout(findings []policy.Finding, condition gatewayv1.RouteConditionType) []policy.Finding {
	return slices.DeleteFunc(slices.Clone(findings), func(f policy.Finding) bool { return f.Condition != string(condition) })
}

// reasonOf returns the reason of the first error, else that of an unsupported value.
func reasonOf(findings []policy.Finding) string {
	for _, f := range findings {
		if f.Severity == policy.Error {
			return f.Reason
		}
	}
	return policy.ReasonUnsupported
}

// maxTold is how many findings a condition's message tells: its length is
// limited, and nobody reads more.
const maxTold = 8

// messageOf joins findings to a message. A condition's message must not exceed 32
// KiB.
func messageOf(first string, findings []policy.Finding) string {
	var parts []string
	if first != "" {
		parts = append(parts, first)
	}
	for i := range findings {
		if i == maxTold {
			parts = append(parts, fmt.Sprintf("and %d more, which `causeway validate` lists", len(findings)-maxTold))
			break
		}
		text := findings[i].Text()
		if len(text) > maxText {
			text = text[:maxText] + "…"
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "; ")
}

// maxText bounds what is told of one finding in bytes: it may quote a long value.
const maxText = 2 << 10
