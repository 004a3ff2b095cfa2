package inject

import (
	"fmt"
	"slices"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
)

const prefix = "mesh.causeway.dev/"

// annotations are those of pods and Namespaces that injection reads.
var annotations = []string{
	AnnotationCapture, AnnotationCaptureInbound, AnnotationExcludePorts, AnnotationExcludeCIDRs, AnnotationExcludeInboundPorts,
	AnnotationTLSSecret, AnnotationWorkload,
}

// Hint is a likely mistake in the metadata of an object.
type Hint struct {
	// Reason says what is wrong; the object is the subject: "its label a is an annotation". Remedy says what to do, "" where
	// the Reason says it already.
	Reason, Remedy string
}

// String is one line of both.
func (h Hint) String() string {
	if h.Remedy == "" {
		return h.Reason
	}
	return h.Reason + ": " + h.Remedy
}

// hints says what of a pod's metadata looks like a word to injection and is none. It refuses nothing: a control plane of
// another version may know the word.
func hints(labels, has map[string]string) (out []Hint) {
	for _, key := range sorted(has) {
		switch {
		case key == AnnotationInjected || known(key):
		case key == Label:
			out = append(out, Hint{"its annotation " + key + " does nothing", "it is a label"})
		case ours(key):
			out = append(out, unknown("annotation", key, annotations))
		}
	}
	for _, key := range sorted(labels) {
		switch {
		case key == Label:
		case known(key):
			out = append(out, Hint{"its label " + key + " does nothing", "it is an annotation"})
		case ours(key):
			out = append(out, unknown("label", key, []string{Label}))
		}
	}
	return out
}

// ours reports whether a key has the prefix of the mesh, or is one of the words of injection with a letter or a few wrong.
func ours(key string) bool {
	return strings.HasPrefix(key, prefix) || discovery.Misspelt(key, append([]string{Label}, annotations...)) != ""
}

// Hints says the same of a Namespace, and whether the value of its label is one that does nothing.
func (ns *Namespace) Hints() (out []Hint) {
	out = hints(ns.Labels, ns.Annotations)
	if _, ok := ns.Annotations[AnnotationWorkload]; ok {
		out = append(out, Hint{"its annotation " + AnnotationWorkload + " does nothing", "write it into the templates of pods"})
	}
	switch value, ok := ns.Labels[Label]; {
	case !ok, value == Enabled, value == "disabled", value == "false":
	default:
		out = append(out, Hint{fmt.Sprintf("its label %s is %q, which does nothing", Label, value), fmt.Sprintf("write %q", Enabled)})
	}
	return out
}

// misplaced says which words of injection an object with a template of pods has, where they do nothing.
func misplaced(labels, has map[string]string) (out []Hint) {
	for _, key := range sorted(has) {
		if known(key) || key == Label || discovery.Misspelt(key, annotations) != "" {
			out = append(out, Hint{"its own annotation " + key + " does nothing", "write it into the template of its pods"})
		}
	}
	for _, key := range sorted(labels) {
		if key == Label || known(key) || discovery.Misspelt(key, []string{Label}) != "" {
			out = append(out, Hint{"its own label " + key + " does nothing", "write it into the template of its pods"})
		}
	}
	return out
}

// withoutPods says of an object that has no pods, as it is written, that one with pods was probably meant.
func withoutPods(apiVersion, kind string) (out []Hint) {
	group, _, grouped := strings.Cut(apiVersion, "/")
	if !grouped {
		group = ""
	}
	var kinds, versions []string
	for _, known := range sorted(templates) {
		at := strings.LastIndexByte(known, '/')
		if of := known[:at]; strings.EqualFold(known[at+1:], kind) && of != apiVersion {
			versions = append(versions, of)
		} else if of == apiVersion {
			kinds = append(kinds, known[at+1:])
		}
	}
	if near := discovery.Misspelt(kind, kinds); near != "" && !strings.HasSuffix(kind, "List") {
		return []Hint{{fmt.Sprintf("it is passed over: kind %s is none that has pods", kind), "did you mean " + near + "?"}}
	}
	if len(versions) > 0 && slices.Contains([]string{"", "apps", "batch", "extensions", "argoproj.io"}, group) {
		return []Hint{{fmt.Sprintf("it is passed over: its apiVersion is %q", apiVersion), "did you mean " + versions[0] + "?"}}
	}
	return nil
}

func known(key string) bool { return slices.Contains(annotations, key) }

func unknown(what, key string, among []string) Hint {
	out := Hint{Reason: "its " + what + " " + key + " is none that injection knows"}
	if near := discovery.Closest(key, among); near != "" {
		out.Remedy = "did you mean " + near + "?"
	}
	return out
}
