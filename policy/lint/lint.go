// Package lint tells of what an object probably does not mean: values that the
// API takes and that hardly anyone wants. It is for people who check files
// before they apply them. Its findings change no status and nothing that is
// served; what does is told by package policy.
//
// A rule is one value in the list of Rules. Rules that look at values by the
// name of their field find them in every kind, those that come later included.
package lint

import (
	"cmp"
	"slices"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
)

// Object is an object as it is written down, without defaults, that the API takes.
type Object struct {
	discovery.ObjectName
	Value map[string]any
}

// Rule is one thing that is probably not meant.
type Rule struct {
	// Name is the finding's reason.
	Name     string
	Severity policy.Severity
	// Doc says for the documentation what the rule finds, and why it matters.
	Doc string

	// object looks at an object as a whole, value at each value in it. A rule has one of them.
	object func(c *check, o *Object)
	value  func(c *check, v *value)
}

// Rules lists the rules by their names.
func Rules() []Rule {
	out := slices.Concat(routeRules(), settingsRules(), shiftRules(), endpointRules(), nameRules(), valueRules(), clientRules())
	slices.SortFunc(out, func(a, b Rule) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Check returns what the rules find in objects, sorted by object. The reader
// has the same objects, with their defaults.
func Check(r catalog.Reader, objects []Object) []policy.Finding {
	all := make(map[discovery.ObjectName]*Object, len(objects))
	for i := range objects {
		all[objects[i].ObjectName] = &objects[i]
	}
	var out []policy.Finding
	for _, rule := range Rules() {
		for i := range objects {
			c := &check{r: r, rule: &rule, about: &objects[i], all: all}
			if rule.object != nil {
				rule.object(c, &objects[i])
			} else {
				each(objects[i].Value, func(v *value) { rule.value(c, v) })
			}
			out = append(out, c.found...)
		}
	}
	slices.SortStableFunc(out, func(a, b policy.Finding) int {
		return cmp.Or(cmp.Compare(a.Object.String(), b.Object.String()), cmp.Compare(a.Field, b.Field), cmp.Compare(a.Message, b.Message))
	})
	return out
}

// check is a rule that looks at an object.
type check struct {
	r     catalog.Reader
	rule  *Rule
	about *Object
	all   map[discovery.ObjectName]*Object
	found []policy.Finding
}

// tell adds what the rule found in a field.
func (c *check) tell(field, message, remedy string) {
	c.found = append(c.found, policy.Finding{
		Severity: c.rule.Severity, Object: discovery.ObjectRef{Kind: c.about.Kind, Key: c.about.Key},
		Field: field, Reason: c.rule.Name, Message: message, Remedy: remedy,
	})
}

// named returns the object of a kind in the namespace of the one that is looked at.
func (c *check) named(kind, name string) *Object {
	return c.all[discovery.ObjectName{Kind: kind, Key: discovery.Key{Namespace: c.about.Namespace, Name: name}}]
}
