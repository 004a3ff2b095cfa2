package file

import (
	"fmt"
	"slices"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/objects"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Passed is a document, or a file, that is none of the mesh's and is left alone.
type Passed struct {
	File string
	// Line that the document begins on, 0 for a whole file.
	Line int
	// What it is, for example "Deployment of apps/v1".
	What string
	// Suspect is true if somebody may have meant it to be read.
	Suspect bool
}

// Where returns "file:line", or the file alone.
func (p Passed) Where() string {
	if p.Line == 0 {
		return p.File
	}
	return Problem{File: p.File, Line: p.Line}.Where()
}

// foreignKinds are kinds of others that look like a misspelt one of those that
// are read, by their groups: the rest of the Gateway API.
var foreignKinds = map[string][]string{
	"gateway.networking.k8s.io": {"UDPRoute", "ListenerSet"},
}

// foreignGroups are groups of others that have kinds of the same names.
var foreignGroups = []string{
	"networking.istio.io", "serving.knative.dev", "kops.k8s.io", "appmesh.k8s.aws", "kuma.io", "consul.hashicorp.com", "core.oam.dev",
	"gateway.networking.x-k8s.io",
}

// unknownKind handles a document of a kind that is not read: it belongs to
// another program and is passed over, or it is a mistake.
func unknownKind(m meta, fields []string) (passed Passed, mistake, field string) {
	group := apiGroup(m.APIVersion)
	kinds := objects.Kinds()
	switch {
	case m.Kind == "" && m.APIVersion == "":
		if slices.Contains(fields, "metadata") && slices.Contains(fields, "spec") {
			return passed, "apiVersion and kind are missing: write them first, for example apiVersion: v1 and kind: Service", ""
		}
		return Passed{What: "no object: it has no apiVersion and no kind"}, "", ""
	case m.Kind == "":
		if ofRead(group) || m.APIVersion == "v1" {
			return passed, fmt.Sprintf("kind is missing: write one of %s, or move the document elsewhere", strings.Join(kindsOf(m.APIVersion), ", ")), "apiVersion"
		}
		return Passed{What: "no object: it has no kind"}, "", ""
	}
	for _, k := range kinds {
		if k.Name == m.Kind {
			return otherVersion(m, k, group)
		}
	}
	if slices.Contains(foreignKinds[group], m.Kind) {
		return Passed{What: m.Kind + " of " + m.APIVersion + ", which the mesh does not serve"}, "", ""
	}
	if near := discovery.Misspelt(m.Kind, kindsOf(m.APIVersion)); near != "" {
		return passed, fmt.Sprintf("there is no kind %s: did you mean %s?", m.Kind, near), "kind"
	}
	switch {
	case group == v1alpha1.Group:
		return passed, fmt.Sprintf("there is no kind %s of %s: write one of %s", m.Kind, v1alpha1.Group, strings.Join(kindsOf(ourAPIVersion), ", ")), "kind"
	case m.APIVersion == "":
		if near := discovery.Misspelt(m.Kind, names(kinds)); near != "" {
			return passed, fmt.Sprintf("apiVersion is missing, and there is no kind %s: did you mean %s?", m.Kind, near), "kind"
		}
		return Passed{What: "no object: kind " + m.Kind + " has no apiVersion"}, "", ""
	}
	what := m.Kind + " of " + m.APIVersion
	if near := nearKind(m); near != "" {
		return Passed{What: what + ": if the mesh should read it, write " + near, Suspect: true}, "", ""
	}
	return Passed{What: what}, "", ""
}

// otherVersion handles a document of a kind's name with another apiVersion.
func otherVersion(m meta, k objects.Kind, group string) (passed Passed, mistake, field string) {
	want := apiGroup(k.APIVersion)
	remedy := fmt.Sprintf("write apiVersion: %s", k.APIVersion)
	switch {
	case m.APIVersion == "":
		return passed, fmt.Sprintf("apiVersion is missing: for a %s %s", k.Name, remedy), "kind"
	case group == want || discovery.Misspelt(group, []string{want}) != "":
		return passed, fmt.Sprintf("there is no %s of apiVersion %s: %s", k.Name, m.APIVersion, remedy), "apiVersion"
	case slices.Contains(foreignGroups, group):
		return Passed{What: m.Kind + " of " + m.APIVersion}, "", ""
	}
	return Passed{What: fmt.Sprintf("%s of %s: if the mesh should read it, %s", m.Kind, m.APIVersion, remedy), Suspect: true}, "", ""
}

// nearKind returns "apiVersion: X and kind: Y" of a kind that was probably
// meant by one that is misspelt and of another group as well.
func nearKind(m meta) string {
	group := apiGroup(m.APIVersion)
	for _, k := range objects.Kinds() {
		want := apiGroup(k.APIVersion)
		if want != "" && discovery.Misspelt(group, []string{want}) != "" && discovery.Misspelt(m.Kind, []string{k.Name}) != "" {
			return fmt.Sprintf("apiVersion: %s and kind: %s", k.APIVersion, k.Name)
		}
	}
	return ""
}

const ourAPIVersion = v1alpha1.Group + "/" + v1alpha1.Version

func apiGroup(apiVersion string) string {
	if group, _, ok := strings.Cut(apiVersion, "/"); ok {
		return group
	}
	return ""
}

// ofRead reports whether any kind of a group is read.
func ofRead(group string) bool {
	return group != "" && slices.ContainsFunc(objects.Kinds(), func(k objects.Kind) bool {
		g := apiGroup(k.APIVersion)
		return g == group
	})
}

// kindsOf returns the names of the kinds of an apiVersion's group.
func kindsOf(apiVersion string) []string {
	group := apiGroup(apiVersion)
	return names(slices.DeleteFunc(objects.Kinds(), func(k objects.Kind) bool {
		g := apiGroup(k.APIVersion)
		return g != group
	}))
}

func names(kinds []objects.Kind) []string {
	out := make([]string, len(kinds))
	for i, k := range kinds {
		out[i] = k.Name
	}
	return out
}
