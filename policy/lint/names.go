package lint

import (
	"fmt"
	"slices"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

func nameRules() []Rule {
	return []Rule{
		{
			Name: "UnknownAnnotation", Severity: policy.Warning,
			Doc:    "an annotation or a label of the group " + v1alpha1.Group + " that is misspelt, or on a kind that it means nothing on",
			object: unknownAnnotations,
		},
		{
			Name: "OddAnnotation", Severity: policy.Warning,
			Doc:    "an annotation whose value means nothing",
			object: oddAnnotations,
		},
		{
			Name: "OddProtocol", Severity: policy.Warning,
			Doc:    "an appProtocol that is nearly one that has a meaning",
			object: oddProtocol,
		},
	}
}

func unknownAnnotations(c *check, o *Object) {
	for _, place := range []string{"annotations", "labels"} {
		given, _ := at(o.Value, "metadata", place).(map[string]any)
		known := v1alpha1.MetadataNames(place, "")
		here := v1alpha1.MetadataNames(place, o.Kind)
		for _, key := range sortedKeys(given) {
			group, name, _ := strings.Cut(key, "/")
			ours := group == v1alpha1.Group
			if !ours && discovery.Misspelt(group, []string{v1alpha1.Group}) == "" && !(group == v1alpha1.ManagedBy && name != "") {
				continue
			}
			if slices.Contains(here, key) {
				continue
			}
			field := "metadata." + place + "." + key
			remedy := "remove it"
			near := discovery.Closest(name, bare(here))
			switch {
			case !ours && slices.Contains(here, v1alpha1.Group+"/"+name):
				remedy = "did you mean " + v1alpha1.Group + "/" + name + "?"
			case near != "":
				remedy = "did you mean " + v1alpha1.Group + "/" + near + "?"
			case len(here) > 0:
				remedy = "remove it; those of a " + o.Kind + " are " + strings.Join(here, ", ")
			}
			message := "the mesh does not know it, so it has no effect"
			if slices.Contains(known, key) {
				message = "it has no effect on a " + o.Kind
			}
			c.tell(field, message, remedy)
		}
	}
}

// bare returns names without their group.
func bare(names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = n[strings.IndexByte(n, '/')+1:]
	}
	return out
}

func oddAnnotations(c *check, o *Object) {
	given, _ := at(o.Value, "metadata", "annotations").(map[string]any)
	for _, key := range v1alpha1.MetadataNames("annotations", o.Kind) {
		if given[key] == "" {
			c.tell("metadata.annotations."+key, "it is empty and says nothing", "write a value, or remove it")
		}
	}
	if v := text(o.Value, "metadata", "annotations", v1alpha1.AllowDeleteAnnotation); o.Kind == discovery.KindInstanceGroup && v != "" && v != "true" {
		c.tell("metadata.annotations."+v1alpha1.AllowDeleteAnnotation, fmt.Sprintf("%q allows nothing", v), `write "true"`)
	}
}

func oddProtocol(c *check, o *Object) {
	if o.Kind != discovery.KindService {
		return
	}
	known := policy.ProtocolNames()
	for i, p := range items(o.Value, "spec", "ports") {
		name := text(p, "appProtocol")
		near := discovery.Misspelt(name, known)
		if name == "" || near == "" || slices.Contains(known, name) {
			continue
		}
		c.tell(fmt.Sprintf("spec.ports[%d].appProtocol", i), fmt.Sprintf("%q is no protocol that the mesh knows, so the port is carried as plain TCP", name), "did you mean "+near+"?")
	}
}
