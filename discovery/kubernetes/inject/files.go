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
	"slices"
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

// Note says what became of an object of a file that has pods, or what is likely to be wrong with another one.
type Note struct {
	// Object is "Deployment web/php-web".
	Object string
	// Injected is true if it was; else Why says why not. It is "" for what has no pods.
	Injected bool
	// Refused is true if it should have been, and cannot.
	Refused bool
	Why     string
	// Hints are likely mistakes.
	Hints []Hint
}

// String is a line for what became of it, and one for each hint.
func (n Note) String() string { return strings.Join(n.lines("injected"), "\n") }

// lines returns them, with a word for what is injected.
func (n Note) lines(injected string) (out []string) {
	switch {
	case n.Injected:
		out = append(out, n.Object+": "+injected)
	case n.Refused:
		out = append(out, "error: "+n.Object+": refused: "+n.Why)
	case n.Why != "":
		out = append(out, n.Object+": as it was: "+n.Why)
	}
	for _, hint := range n.Hints {
		out = append(out, "warning: "+n.Object+": "+hint.String())
	}
	return out
}

// Told is what people are told of a run, and whether a pod is refused. Then nothing may be printed of the objects, and
// those that could be injected are not said to be.
func Told(notes []Note) (text string, refused bool) {
	injected := "injected"
	if refused = slices.ContainsFunc(notes, func(n Note) bool { return n.Refused }); refused {
		injected = "not printed, because another one is refused"
	}
	var lines []string
	for _, n := range notes {
		lines = append(lines, n.lines(injected)...)
	}
	if len(lines) == 0 {
		return "nothing in it has pods: all stays as it was\n", false
	}
	return strings.Join(lines, "\n") + "\n", refused
}

// Offline is what an offline injection is about. Namespace is that of objects that name none.
type Offline struct{ File, ConfigFile, Namespace, SystemNamespace, Version string }

// Run injects the pods of a file, or of in if its name is "-". Errors name the flag of causeway inject at fault.
func (o *Offline) Run(in io.Reader) ([]byte, []Note, error) {
	c, wrong := o.config()
	var text []byte
	var err error
	if o.File == "-" {
		text, err = io.ReadAll(in)
	} else {
		text, err = os.ReadFile(o.File)
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("-f: %w: give a file of YAML, or - for the standard input", err), wrong)
	}
	if wrong != nil {
		return nil, nil, wrong
	}
	out, notes, err := Files(text, o.Namespace, c)
	if err != nil {
		return nil, nil, fmt.Errorf("-f: %s: %w", o.File, err)
	}
	return out, notes, nil
}

func (o *Offline) config() (*Config, error) {
	text, err := os.ReadFile(o.ConfigFile)
	if err != nil {
		return nil, fmt.Errorf("--config: %w: give the file that the control plane has as --inject-config", err)
	}
	c, err := ParseConfig(text, o.SystemNamespace, o.Version)
	if err != nil {
		return nil, fmt.Errorf("--config: %s: %w", o.ConfigFile, err)
	}
	return c, nil
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
	if err != nil {
		return err
	}
	ns := Namespace{m.Name, m.Labels, m.Annotations}
	s.namespaces[m.Name] = ns
	s.hint("Namespace "+m.Name, ns.Hints())
	return nil
}

// hint notes what is likely to be wrong with an object that has no pods.
func (s *stream) hint(object string, hints []Hint) {
	if len(hints) > 0 {
		s.notes = append(s.notes, Note{Object: object, Hints: hints})
	}
}

// passOver notes an object without pods that was probably meant to be one with pods.
func (s *stream) passOver(o map[string]any) {
	kind, _ := o["kind"].(string)
	apiVersion, _ := o["apiVersion"].(string)
	metadata, _ := o["metadata"].(map[string]any)
	name, _ := metadata["name"].(string)
	namespace, _ := metadata["namespace"].(string)
	s.hint(kind+" "+cmp.Or(namespace, s.namespace)+"/"+name, withoutPods(apiVersion, kind))
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
			s.passOver(o.value) // whether it is right else is not asked here
			continue
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
