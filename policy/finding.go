package policy

import (
	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Text returns the finding without its object, for a condition of that object.
func (f *Finding) Text() string {
	s := f.Message
	if f.Field != "" {
		s = f.Field + ": " + s
	}
	if f.Remedy != "" {
		s += ": " + f.Remedy
	}
	return s
}

// InvalidSection is the finding of a mistake in a section of a TrafficPolicy.
func InvalidSection(m Mistake) Finding {
	consequence := "so the section " + m.In + " has no effect"
	if m.In == "tls" {
		consequence = "so requests fail"
	}
	return Finding{
		Severity: Error, Field: m.Field, Condition: v1alpha1.ConditionAccepted, Reason: ReasonInvalid,
		Message: m.Message + ", " + consequence, Remedy: m.Remedy,
	}
}

// FindingsOf returns a function that adds findings about an object and one that returns them.
func FindingsOf(o *discovery.Object) (add func(Finding), done func() []Finding) {
	var out []Finding
	return func(f Finding) {
		f.Object = o.Ref()
		out = append(out, f)
	}, func() []Finding { return out }
}

// Severity of a finding.
type Severity uint8

// A Warning works but is probably not meant; an Error does not work as written.
const (
	Warning Severity = iota
	Error
)

// String returns "warning" or "error".
func (s Severity) String() string {
	if s == Error {
		return "error"
	}
	return "warning"
}

// Finding is a mistake or a surprise in an object: data, not an error, because
// one object's mistake must not stop the others.
type Finding struct {
	Severity Severity
	Object   discovery.ObjectRef
	// Field is the path of the field at fault, for example "spec.ports[0].name".
	Field string
	// Condition and Reason are the status condition's type and reason that the finding causes, in Gateway API's terms where it has one.
	Condition, Reason string
	// Message is the mistake; Remedy is what to do about it.
	Message, Remedy string
	// Origin is the file:line that the object was read from, "" from Kubernetes.
	Origin string
}

// String returns the finding as one line for a person.
func (f Finding) String() string {
	s := f.Severity.String() + ": "
	if f.Origin != "" {
		s = f.Origin + ": " + s
	}
	s += f.Object.String()
	if f.Field != "" {
		s += ": " + f.Field
	}
	s += ": " + f.Message
	if f.Remedy != "" {
		s += ": " + f.Remedy
	}
	return s
}
