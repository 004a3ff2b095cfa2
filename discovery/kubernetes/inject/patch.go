package inject

import (
	stdjson "encoding/json"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/json"
)

// Operation is one of a JSON patch (RFC 6902).
type Operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

// Patch returns how a pod becomes the injected one. It only adds, so that what this version of Kubernetes' types does
// not know stays in the pod.
func (i *Injection) Patch(pod *corev1.Pod) []Operation {
	var out []Operation
	add := func(path string, value any) { out = append(out, Operation{"add", path, value}) }
	if len(pod.Annotations) == 0 {
		add("/metadata/annotations", i.Annotations)
	} else {
		escape := strings.NewReplacer("~", "~0", "/", "~1")
		for _, key := range sorted(i.Annotations) {
			add("/metadata/annotations/"+escape.Replace(key), i.Annotations[key])
		}
	}
	if len(pod.Spec.InitContainers) == 0 {
		add("/spec/initContainers", i.InitContainers)
	} else {
		for at := range i.InitContainers {
			add(fmt.Sprintf("/spec/initContainers/%d", at), i.InitContainers[at])
		}
	}
	if len(pod.Spec.Volumes) == 0 {
		add("/spec/volumes", i.Volumes)
	} else {
		for at := range i.Volumes {
			add(fmt.Sprintf("/spec/volumes/%d", at), i.Volumes[at])
		}
	}
	return out
}

// apply does the same with a decoded pod, or a template.
func (i *Injection) apply(pod map[string]any) error {
	added, err := i.decoded()
	if err != nil {
		return err
	}
	metadata, err := within(pod, "metadata")
	if err != nil {
		return err
	}
	annotations, err := within(metadata, "annotations")
	if err != nil {
		return err
	}
	for key, value := range i.Annotations {
		annotations[key] = value
	}
	spec, err := within(pod, "spec")
	if err != nil {
		return err
	}
	for name, list := range added {
		own, _ := spec[name].([]any)
		spec[name] = append(list, own...)
	}
	return nil
}

// decoded returns the lists of spec that are added to, as JSON has them.
func (i *Injection) decoded() (map[string][]any, error) {
	text, err := stdjson.Marshal(map[string]any{"initContainers": i.InitContainers, "volumes": i.Volumes})
	if err != nil {
		return nil, fmt.Errorf("injection: %w", err)
	}
	var out map[string][]any
	return out, json.UnmarshalCaseSensitivePreserveInts(text, &out)
}

// within returns an object's member that is an object, and makes it if there is none.
func within(of map[string]any, name string) (map[string]any, error) {
	if of[name] == nil {
		of[name] = map[string]any{}
	}
	m, ok := of[name].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%s is no object", name)
	}
	return m, nil
}
