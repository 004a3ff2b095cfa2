package effective

import (
	"fmt"
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// GatewayClass returns the class of a Gateway and whether it is ours: it has
// our controller's name, or it is named after us and no such object exists, so
// that files need no GatewayClass.
func GatewayClass(r catalog.Reader, spec *gatewayv1.GatewaySpec) (*discovery.Object, bool) {
	name := discovery.ObjectName{Kind: discovery.KindGatewayClass, Key: discovery.Key{Name: string(spec.GatewayClassName)}}
	o, ok := catalog.Objects.Get(r, name.String())
	if !ok {
		return nil, spec.GatewayClassName == DefaultGatewayClass
	}
	class, ok := o.Spec.(*gatewayv1.GatewayClass)
	return o, ok && class.Spec.ControllerName == v1alpha1.ControllerName
}

// DefaultGatewayClass is the name of the class that is ours even where no object of it exists.
const DefaultGatewayClass = "causeway"

// GatewayStatement is a GatewayPolicy with its sections that are in force.
type GatewayStatement struct {
	Ref      discovery.ObjectRef
	settings *v1alpha1.GatewaySettings
	// invalid are the names of sections that have a mistake.
	invalid []string
}

// NewGatewayStatement returns the statement of a GatewayPolicy, with its mistakes.
func NewGatewayStatement(o *discovery.Object) GatewayStatement {
	out := GatewayStatement{Ref: o.Ref(), settings: &o.Spec.(*v1alpha1.GatewayPolicy).Spec.GatewaySettings}
	for _, m := range policy.GatewayMistakes(out.settings) {
		out.invalid = append(out.invalid, m.In)
	}
	if len(out.invalid) > 0 {
		out.settings = narrowed(out.settings, out.invalid)
	}
	return out
}

// States reports whether the policy has a section that is in force. A section with
// a mistake is, as far as it lets in less: see narrowed.
func (s *GatewayStatement) States(sec *policy.GatewaySectionDef) bool {
	return sec.Has(s.settings) && (sec.Name != "healthCheck" || !slices.Contains(s.invalid, sec.Name))
}

// GatewaySettings returns the sections of the GatewayPolicies that are effective
// for a port of a Gateway with these listeners: for each, a policy about any
// of them comes before one about the whole Gateway, then the oldest.
func GatewaySettings(r catalog.Reader, gateway discovery.Key, listeners []string) policy.GatewaySettings {
	var out policy.GatewaySettings
	policies := GatewayPolicies(r, gateway)
	if len(policies) == 0 {
		return out
	}
	statements := gatewayStatements(policies, gateway.Name, listeners)
	for i := range policy.GatewaySectionDefs {
		sec := &policy.GatewaySectionDefs[i]
		for j := range statements {
			if !statements[j].States(sec) {
				continue
			}
			if out.From == nil {
				out.From = make(map[string]discovery.ObjectRef)
			}
			sec.Take(&out.GatewaySettings, statements[j].settings)
			out.From[sec.Name] = statements[j].Ref
			break
		}
	}
	return out
}

// GatewayPolicies returns the GatewayPolicies about a Gateway or a listener of
// it, the oldest first, then by name.
func GatewayPolicies(r catalog.Reader, gateway discovery.Key) []*discovery.Object {
	return PoliciesOf(r, discovery.KindGatewayPolicy, discovery.ObjectName{Kind: discovery.KindGateway, Key: gateway})
}

// gatewayStatements returns policies in the order of precedence: those about any
// of the listeners, then those about the whole Gateway.
func gatewayStatements(policies []*discovery.Object, gateway string, listeners []string) []GatewayStatement {
	return append(
		GatewayLevel(policies, gateway, func(section string) bool { return section != "" && slices.Contains(listeners, section) }),
		GatewayLevel(policies, gateway, func(section string) bool { return section == "" })...)
}

// GatewayLevel returns those of the policies that are about a part of a Gateway.
func GatewayLevel(policies []*discovery.Object, gateway string, about func(section string) bool) []GatewayStatement {
	var out []GatewayStatement
	for _, o := range policies {
		if slices.ContainsFunc(o.Spec.(*v1alpha1.GatewayPolicy).Spec.TargetRefs, func(t v1alpha1.GatewayTarget) bool {
			return IsGatewayTarget(t) && t.Name == gateway && about(t.SectionName)
		}) {
			out = append(out, NewGatewayStatement(o))
		}
	}
	return out
}

// IsGatewayTarget reports whether a target is a Gateway, as those without group and kind are.
func IsGatewayTarget(t v1alpha1.GatewayTarget) bool {
	return (t.Group == "" && t.Kind == "") || (t.Group == gatewayv1.GroupName && t.Kind == discovery.KindGateway)
}

// ForeignGateway says why a Gateway is not this controller's, "" if it is.
func ForeignGateway(r catalog.Reader, o *discovery.Object) string {
	gateway, ok := o.Spec.(*gatewayv1.Gateway)
	if !ok {
		return o.Name().String() + " cannot be read"
	}
	class, ours := GatewayClass(r, &gateway.Spec)
	switch {
	case ours:
		return ""
	case class == nil:
		return fmt.Sprintf("%s is of GatewayClass %s, which does not exist", o.Name(), gateway.Spec.GatewayClassName)
	}
	return fmt.Sprintf("%s is of GatewayClass %s, which is another controller's", o.Name(), gateway.Spec.GatewayClassName)
}
