package inject

import (
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

// hints says what of a pod's metadata looks like a word to injection and is none. It refuses nothing: a control plane of
// another version may know the word.
func hints(labels, has map[string]string) (out []string) {
	for _, key := range sorted(has) {
		switch {
		case !strings.HasPrefix(key, prefix) || key == AnnotationInjected || known(key):
		case key == Label:
			out = append(out, "its annotation "+key+" does nothing: it is a label")
		default:
			out = append(out, unknown("annotation", key, annotations))
		}
	}
	for _, key := range sorted(labels) {
		switch {
		case !strings.HasPrefix(key, prefix) || key == Label:
		case known(key):
			out = append(out, "its label "+key+" does nothing: it is an annotation")
		default:
			out = append(out, unknown("label", key, []string{Label}))
		}
	}
	return out
}

// misplaced says which words of injection an object with a template of pods has, where they do nothing.
func misplaced(labels, has map[string]string) (out []string) {
	for _, key := range sorted(has) {
		if known(key) {
			out = append(out, "its own annotation "+key+" does nothing: write it into the template of its pods")
		}
	}
	if _, ok := labels[Label]; ok {
		out = append(out, "its own label "+Label+" does nothing: write it into the template of its pods")
	}
	return out
}

func known(key string) bool { return slices.Contains(annotations, key) }

func unknown(what, key string, among []string) string {
	said := "its " + what + " " + key + " is none that injection knows"
	if near := discovery.Closest(key, among); near != "" {
		said += ": did you mean " + near + "?"
	}
	return said
}
