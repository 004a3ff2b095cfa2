package policy

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Settings are the sections that are in force for a target. Methods return what
// they come to, with defaults in and with what states it: nobody outside this
// package asks who wins.
type Settings struct {
	// Stated are the sections as the objects that won them state them.
	Stated v1alpha1.TrafficSettings
	// From has the object that each section comes from, by the section's name in the API
	// ("timeout", "retry", ...): a TrafficPolicy, a BackendTLSPolicy, or the Mesh for its
	// defaults. A section that is not in it is not set. A field that acts on another layer than
	// the rest of its section has a name of its own: "timeout.connect", "retry.budgetPercent",
	// "loadBalancer.hash".
	From map[string]discovery.ObjectRef
	// FromRule has the sections and fields that the rule itself states. It is nil in the
	// model: Own is merged in when a rule is asked.
	FromRule map[string]Origin
}

// Origin says what states a value. The zero Origin is the default.
type Origin struct {
	Object discovery.ObjectRef
	// Field of the object, "" where the name of the value says it.
	Field string
}

// Default reports whether nobody has stated the value.
func (o Origin) Default() bool { return o.Object.Kind == "" }

// String names the object, with its field if that is not clear, or is "default".
func (o Origin) String() string {
	switch {
	case o.Default():
		return "default"
	case o.Field == "":
		return o.Object.String()
	}
	return o.Object.String() + " " + o.Field
}

// Setting is a value that is in force, and what states it.
type Setting[T any] struct {
	Value T
	From  Origin
}

func (s *Setting[T]) state(value T, from Origin) { s.Value, s.From = value, from }

// stateDuration is a function because a method cannot be of one type of Setting alone.
func stateDuration(s *Setting[time.Duration], d *metav1.Duration, from Origin) {
	if d != nil {
		s.state(d.Duration, from)
	}
}

// own is the origin of what a rule states itself.
func (r *Rule) own(field string) Origin {
	return Origin{r.Route, fmt.Sprintf("rules[%d].%s", r.Index, field)}
}

// origin returns the origin of a field: its object, the section's, or nothing.
func (s *Settings) origin(names ...string) Origin {
	for _, name := range names {
		if o, ok := s.FromRule[name]; ok {
			return o
		}
		if ref, ok := s.From[name]; ok {
			return Origin{Object: ref}
		}
	}
	return Origin{}
}

// inForce returns the settings of a rule's requests: the rule's own fields
// replace those that it wins over, field by field (GEP-1731, GEP-1742).
func (r *Rule) inForce() *Settings {
	if r.Own == (RuleSettings{}) {
		return &r.Settings
	}
	s := &Settings{Stated: r.Settings.Stated, From: r.Settings.From, FromRule: make(map[string]Origin)}
	r.ownTimeout(s)
	r.ownRetry(s)
	r.ownSession(s)
	return s
}

func takeNumber(to *uint32, n *int32) {
	if n != nil {
		*to = uint32(*n) //nolint:gosec // a section with a negative number is not in force
	}
}

func takeDuration(to *time.Duration, d *metav1.Duration) {
	if d != nil {
		*to = d.Duration
	}
}

// Section is a section that is in force.
type Section struct {
	// Name in the API, as in Settings.From.
	Name string
	From discovery.ObjectRef
	// Value is the section as it is stated, in the API's type.
	Value any
}

// Sections returns the sections that are in force, by name.
func (s *Settings) Sections() []Section {
	values := map[string]any{
		"timeout": s.Stated.Timeout, "retry": s.Stated.Retry, "connectionPool": s.Stated.ConnectionPool,
		"outlierDetection": s.Stated.OutlierDetection, "healthCheck": s.Stated.HealthCheck, "loadBalancer": s.Stated.LoadBalancer,
		"locality": s.Stated.Locality, "sessionPersistence": s.Stated.SessionPersistence, "fault": s.Stated.Fault,
		"proxyProtocol": s.Stated.ProxyProtocol, "tls": s.Stated.TLS,
	}
	out := make([]Section, 0, len(s.From))
	for name, ref := range s.From {
		out = append(out, Section{name, ref, values[name]})
	}
	slices.SortFunc(out, func(a, b Section) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// AboutEndpoints reports whether a policy is about single endpoints of a target.
func (s *Settings) AboutEndpoints() bool {
	return s.Stated.LoadBalancer != nil || s.Stated.OutlierDetection != nil || s.Stated.HealthCheck != nil
}

// ProxyProtocol returns the version in which callers send their address ahead, "" for not at all.
func (s *Settings) ProxyProtocol() v1alpha1.ProxyProtocolVersion { return s.Stated.ProxyProtocol }

// Field is a leaf of the sections that are in force.
type Field struct {
	// Path in the API, for example "retry.backoff".
	Path, Value string
	From        Origin
}

// Fields returns what is stated about a rule's requests, leaf by leaf, sorted by path.
func (r *Rule) Fields() []Field { return r.inForce().Fields() }

// Replaced returns the settings of objects that a rule replaces by its own: From
// is where.
func (r *Rule) Replaced() []Field {
	var out []Field
	own := r.inForce().FromRule
	for _, f := range r.Settings.Fields() {
		section, rest, _ := strings.Cut(f.Path, ".")
		field, _, _ := strings.Cut(rest, ".")
		from, ok := own[section+"."+field]
		if !ok {
			from, ok = own[section]
		}
		if ok {
			out = append(out, Field{f.Path, f.Value, from})
		}
	}
	return out
}

// copied replaces what p points to by a copy, or by something new.
func copied[T any](p **T) *T {
	out := new(T)
	if *p != nil {
		*out = **p
	}
	*p = out
	return out
}

// Fields returns what is stated, leaf by leaf, sorted by path.
func (s *Settings) Fields() []Field {
	text, err := json.Marshal(&s.Stated)
	var tree map[string]any
	if err != nil || json.Unmarshal(text, &tree) != nil {
		return nil
	}
	var out []Field
	var walk func(path []string, v any)
	walk = func(path []string, v any) {
		if m, ok := v.(map[string]any); ok && len(m) > 0 {
			for _, k := range slices.Sorted(maps.Keys(m)) {
				walk(append(slices.Clone(path), k), m[k])
			}
			return
		}
		value, ok := v.(string)
		if !ok {
			b, _ := json.Marshal(v) // it was JSON a moment ago
			value = string(b)
		}
		out = append(out, Field{strings.Join(path, "."), value, s.origin(strings.Join(path[:min(len(path), 2)], "."), path[0])})
	}
	for _, section := range slices.Sorted(maps.Keys(tree)) {
		walk([]string{section}, tree[section])
	}
	return out
}

// Refs returns the objects that settings come from, sorted.
func (s *Settings) Refs() []discovery.ObjectRef {
	if len(s.From) == 0 {
		return nil
	}
	out := make([]discovery.ObjectRef, 0, len(s.From))
	for _, ref := range s.From {
		out = append(out, ref)
	}
	return SortedRefs(out)
}
