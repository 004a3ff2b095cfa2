package lint

import (
	"slices"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
)

// Explain adds to findings about references that lead nowhere which object was
// probably meant, or where the object stands that is not read. unread returns
// that place, "" for an object that is not written down at all.
func Explain(r catalog.Reader, findings []policy.Finding, unread func(discovery.ObjectName) string) []policy.Finding {
	out := slices.Clone(findings)
	for i := range out {
		f := &out[i]
		missing, ok := missingIn(f.Message)
		if !ok {
			continue
		}
		if where := unread(missing); where != "" {
			f.Message = strings.Replace(f.Message, "there is no ", "there is no usable ", 1)
			f.Remedy = "correct the mistakes in the file of " + missing.String() + " (" + where + "): while there are any, nothing in it is read"
			continue
		}
		if near := meant(r, missing); near != "" {
			f.Remedy += " (did you mean " + near + "?)"
		}
	}
	return out
}

// missingIn returns the object in a message "there is no Kind namespace/name".
func missingIn(message string) (discovery.ObjectName, bool) {
	_, rest, ok := strings.Cut(message, "there is no ")
	if !ok {
		return discovery.ObjectName{}, false
	}
	kind, rest, _ := strings.Cut(rest, " ")
	name, _, _ := strings.Cut(rest, " ")
	namespace, name, ok := strings.Cut(strings.TrimRight(name, ",:;."), "/")
	return discovery.ObjectName{Kind: kind, Key: discovery.Key{Namespace: namespace, Name: name}}, ok && kind != ""
}

// meant returns the name of the object that is nearest to one that does not
// exist: a similar name in its namespace, or the same one in another.
func meant(r catalog.Reader, missing discovery.ObjectName) string {
	switch near := discovery.Meant(missing.Key, catalog.Keys(r, missing.Kind)); near.Namespace {
	case "", missing.Namespace:
		return near.Name
	default:
		return near.String()
	}
}
