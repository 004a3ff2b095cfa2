package inject

import (
	"bytes"
	"cmp"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// templates says where kinds of objects have the template of their pods. A Pod is its own.
var templates = map[string][]string{
	"v1/Pod":                       {},
	"v1/ReplicationController":     {"spec", "template"},
	"apps/v1/Deployment":           {"spec", "template"},
	"apps/v1/StatefulSet":          {"spec", "template"},
	"apps/v1/DaemonSet":            {"spec", "template"},
	"apps/v1/ReplicaSet":           {"spec", "template"},
	"batch/v1/Job":                 {"spec", "template"},
	"batch/v1/CronJob":             {"spec", "jobTemplate", "spec", "template"},
	"argoproj.io/v1alpha1/Rollout": {"spec", "template"},
}

// Note says what became of an object of a file that has pods.
type Note struct {
	// Object is "Deployment web/php-web".
	Object string
	// Injected is true if it was; else Why says why not.
	Injected bool
	// Refused is true if it should have been, and cannot.
	Refused bool
	Why     string
	// Hints are likely mistakes.
	Hints []string
}

func (n Note) String() string {
	text := n.Object + ": as it was: " + n.Why
	switch {
	case n.Injected:
		text = n.Object + ": injected"
	case n.Refused:
		text = n.Object + ": refused: " + n.Why
	}
	for _, hint := range n.Hints {
		text += "\n  " + hint
	}
	return text
}

// Offline is what an offline injection is about. Namespace is that of objects that name none.
type Offline struct{ File, ConfigFile, Namespace, SystemNamespace, Version string }

// Run injects the pods of a file, or of in if its name is "-". Errors name the flag of causeway inject at fault.
func (o *Offline) Run(in io.Reader) ([]byte, []Note, error) {
	text, err := os.ReadFile(o.ConfigFile)
	if err != nil {
		return nil, nil, fmt.Errorf("--config: %w: give the file that the control plane has as --inject-config", err)
	}
	c, err := ParseConfig(text, o.SystemNamespace, o.Version)
	if err != nil {
		return nil, nil, fmt.Errorf("--config: %s: %w", o.ConfigFile, err)
	}
	if o.File == "-" {
		text, err = io.ReadAll(in)
	} else {
		text, err = os.ReadFile(o.File)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("-f: %w", err)
	}
	out, notes, err := Files(text, o.Namespace, c)
	if err != nil {
		return nil, nil, fmt.Errorf("-f: %s: %w", o.File, err)
	}
	return out, notes, nil
}

// Files injects the pods of a stream of YAML documents as the webhook would. Whoever gives it a file has opted in, so
// that no namespace needs the label; a pod's own label counts. Namespaces of the stream are looked at for the rest of what
// they say. namespace is that of objects that name none. What has no pods, or none to inject, stays as it is, byte for byte;
// of what is injected the text stays that was there, or, where it is written in one line or by aliases, is written anew without
// its comments. Errors name the document. A refused pod is no error but a Note.
func Files(text []byte, namespace string, c *Config) ([]byte, []Note, error) {
	stream := &stream{config: c, namespace: namespace, namespaces: make(map[string]Namespace)}
	documents := split(text)
	var errs []error
	for i := range documents {
		if err := documents[i].parse(); err != nil {
			errs = append(errs, fmt.Errorf("the document at line %d is not YAML: %s", documents[i].line, yamlPrefix.Replace(err.Error())))
			continue
		}
		for _, o := range documents[i].objects() {
			if err := stream.know(o.value); err != nil {
				errs = append(errs, fmt.Errorf("the document at line %d: %w", documents[i].line, err))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, nil, err
	}
	var out bytes.Buffer
	for i := range documents {
		d := &documents[i]
		injected, err := stream.inject(d)
		if err != nil {
			return nil, nil, fmt.Errorf("the document at line %d: %w", d.line, err)
		}
		out.Write(injected)
	}
	return out.Bytes(), stream.notes, nil
}

var yamlPrefix = strings.NewReplacer("error converting YAML to JSON: ", "", "yaml: ", "", "error unmarshaling JSON: while decoding JSON: ", "")

// stream is what is known of the documents of a stream.
type stream struct {
	config     *Config
	namespace  string
	namespaces map[string]Namespace
	notes      []Note
}

// object is one of a document, and where it stands in it.
type object struct {
	path  []any
	value map[string]any
}

// objects returns the objects of a document: one, or those of a List.
func (d *document) objects() []object {
	items, _ := d.value["items"].([]any)
	if d.value["kind"] != "List" && d.value["kind"] != "PodList" {
		items = nil
	}
	if items == nil {
		return []object{{nil, d.value}}
	}
	var out []object
	for i := range items {
		if value, ok := items[i].(map[string]any); ok {
			out = append(out, object{[]any{"items", i}, value})
		}
	}
	return out
}

// meta is what every object has.
type meta struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
}

func metaOf(o map[string]any) (meta, error) {
	var m meta
	if metadata, ok := o["metadata"]; ok {
		return m, into(map[string]any{"apiVersion": o["apiVersion"], "kind": o["kind"], "metadata": metadata}, &m)
	}
	return m, into(map[string]any{"apiVersion": o["apiVersion"], "kind": o["kind"]}, &m)
}

// into reads a decoded value into a typed one.
func into(value, typed any) error {
	text, err := stdjson.Marshal(value)
	if err != nil {
		return fmt.Errorf("injection: %w", err)
	}
	return json.UnmarshalCaseSensitivePreserveInts(text, typed)
}

// kindOf is "apps/v1/Deployment" for an object.
func kindOf(o map[string]any) string { return fmt.Sprint(o["apiVersion"], "/", o["kind"]) }

// metaOfOurs returns what an object has whose labels and annotations count. One that cannot be read is an error: it would
// pass the mesh by in silence.
func metaOfOurs(o map[string]any) (meta, error) {
	m, err := metaOf(o)
	if err == nil {
		return m, nil
	}
	metadata, _ := o["metadata"].(map[string]any)
	name := fmt.Sprint(o["kind"], " ", cmp.Or(metadata["name"], metadata["generateName"]))
	if err := texts(metadata); err != nil {
		return m, fmt.Errorf("%s: %w", name, err)
	}
	return m, fmt.Errorf("%s: its metadata cannot be read: %w", name, err)
}

// texts says which label or annotation YAML does not read as text, such as false and 3306, which the API server refuses.
func texts(metadata any) error {
	m, _ := metadata.(map[string]any)
	for _, what := range []string{"label", "annotation"} {
		values, _ := m[what+"s"].(map[string]any)
		for _, key := range sorted(values) {
			if _, ok := values[key].(string); !ok && values[key] != nil {
				return fmt.Errorf("its %s %s is no text, but %v: put it in quotes", what, key, values[key])
			}
		}
	}
	return nil
}

// know takes in a Namespace.
func (s *stream) know(o map[string]any) error {
	if kindOf(o) != "v1/Namespace" {
		return nil
	}
	m, err := metaOfOurs(o)
	if err == nil {
		s.namespaces[m.Name] = Namespace{m.Name, m.Labels, m.Annotations}
	}
	return err
}

// namespaceOf returns an object's namespace, which has opted in.
func (s *stream) namespaceOf(name string) Namespace {
	if name == "" {
		name = s.namespace
	}
	ns := s.namespaces[name]
	labels := map[string]string{}
	maps.Copy(labels, ns.Labels)
	labels[Label] = Enabled
	return Namespace{name, labels, ns.Annotations}
}

// inject returns the text of a document with its pods injected.
func (s *stream) inject(d *document) ([]byte, error) {
	text := d.text
	for _, o := range d.objects() {
		path, known := templates[kindOf(o.value)]
		if !known {
			continue // it is none with pods, and whether it is right is not asked here
		}
		m, err := metaOfOurs(o.value)
		if err != nil {
			return nil, err
		}
		template, at := o.value, o.path
		for _, name := range path {
			template, _ = template[name].(map[string]any)
			at = append(at, name)
		}
		if template == nil {
			continue // a Rollout that names a Deployment
		}
		ns := s.namespaceOf(m.Namespace)
		note := Note{Object: m.Kind + " " + ns.Name + "/" + m.Name + m.GenerateName}
		pod, workload := &corev1.Pod{}, m.Name
		if err := texts(template["metadata"]); err != nil {
			return nil, fmt.Errorf("%s: its pod: %w", note.Object, err)
		}
		if err := into(template, pod); err != nil {
			return nil, fmt.Errorf("%s: its pod cannot be read: %w", note.Object, err)
		}
		if m.Kind == "Pod" {
			workload = ""
		}
		injection, why, err := Inject(pod, workload, ns, s.config)
		note.Why, note.Injected, note.Refused = why, injection != nil, err != nil
		if err != nil {
			note.Why = err.Error()
		}
		note.Hints = hints(pod.Labels, pod.Annotations)
		if len(path) > 0 {
			note.Hints = append(note.Hints, misplaced(m.Labels, m.Annotations)...)
		}
		s.notes = append(s.notes, note)
		if injection == nil {
			continue
		}
		if err := injection.apply(template); err != nil {
			return nil, fmt.Errorf("%s: %w", note.Object, err)
		}
		if text, err = injection.write(text, at, d.value); err != nil {
			return nil, fmt.Errorf("%s: %w", note.Object, err)
		}
	}
	return append(d.separator, text...), nil
}

// document is one of a stream: the line that separates it from the one before, and its text.
type document struct {
	separator, text []byte
	line            int
	value           map[string]any
}

// split cuts a stream at its "---" lines. In the first column these characters always are a separator (YAML 1.2, 9.1.2).
func split(stream []byte) []document {
	out := []document{{line: 1}}
	number := 0
	for line := range bytes.Lines(stream) {
		number++
		last := &out[len(out)-1]
		if rest, ok := bytes.CutPrefix(line, []byte("---")); ok && (len(rest) == 0 || bytes.IndexByte([]byte(" \t\r\n"), rest[0]) >= 0) {
			out = append(out, document{line: number})
			last = &out[len(out)-1]
			if rest = bytes.TrimSpace(rest); len(rest) == 0 || rest[0] == '#' {
				last.separator = bytes.Clone(line)
				continue
			}
			// What follows on the line belongs to the document: the separator is as long.
			last.separator = []byte("---\n")
			last.text = append([]byte("   "), line[3:]...)
			continue
		}
		last.text = append(last.text, line...)
	}
	return out
}

// parse reads a document. One of something else than an object has no value, and stays as it is.
func (d *document) parse() error {
	text, err := yaml.YAMLToJSON(d.text)
	if err != nil {
		return err //nolint:wrapcheck // the caller names the document
	}
	var value any
	if err := json.UnmarshalCaseSensitivePreserveInts(text, &value); err != nil {
		return err //nolint:wrapcheck // the caller names the document
	}
	d.value, _ = value.(map[string]any)
	return nil
}
