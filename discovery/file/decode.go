// Package file is the source that reads a directory of YAML: the same objects
// as in Kubernetes, for a mesh that has none.
package file

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	goyaml "go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/objects"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Scope is the scope of every row that comes from files.
const Scope = "file"

// maxFile bounds what is read of one file.
const maxFile = 32 << 20

// Problem is a mistake in a file.
type Problem struct {
	File string
	Line int
	// Object is "Kind namespace/name", as far as it could be read.
	Object string
	// Message says what is wrong and what to do.
	Message string
}

// Where returns "file:line".
func (p Problem) Where() string { return p.File + ":" + strconv.Itoa(p.Line) }

// Error returns "file:line: object: message".
func (p Problem) Error() string {
	s := p.Where() + ": "
	if p.Object != "" {
		s += p.Object + ": "
	}
	return s + p.Message
}

// rows are the objects of one or more files.
type rows struct {
	Services  []*discovery.Service
	Endpoints []*discovery.EndpointSet
	Groups    []*discovery.InstanceGroup
	// at says where each object stands, by its "Kind namespace/name".
	at map[string]string
}

// decode reads the documents of a file. Its problems are all of the file's; a
// file with any is not used at all, because half of it may be worse than none.
func decode(name string, data []byte) (rows, []Problem) {
	out := rows{at: make(map[string]string)}
	if len(data) > maxFile {
		return out, []Problem{{name, 1, "", fmt.Sprintf("the file has more than %d bytes: split it", maxFile)}}
	}
	var problems []Problem
	dec := goyaml.NewDecoder(bytes.NewReader(data))
	for {
		var doc goyaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return out, problems
		}
		if err != nil {
			line, text := yamlError(err)
			return out, append(problems, Problem{name, line, "", "not YAML: " + text})
		}
		if len(doc.Content) == 0 || doc.Content[0].Tag == "!!null" {
			continue
		}
		problems = append(problems, out.add(name, doc.Content[0])...)
	}
}

var yamlLine = regexp.MustCompile(`^(?:yaml: )?line (\d+): (.*)$`)

// yamlError takes the line out of the YAML library's message.
func yamlError(err error) (line int, text string) {
	text = strings.TrimPrefix(err.Error(), "yaml: ")
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		line, _ = strconv.Atoi(m[1])
		text = m[2]
	}
	return max(line, 1), text
}

// typeMeta is what every object begins with.
type typeMeta struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
	} `json:"metadata"`
}

// kind says how the objects of a kind are read.
type kind struct {
	apiVersion, name string
	// add decodes and adds an object; what it returns are mistakes, each with the field's path.
	add func(r *rows, raw []byte) ([]v1alpha1.FieldError, error)
}

// kinds lists what files may hold.
func kinds() []kind {
	return []kind{
		{"v1", "Service", addService},
		{"discovery.k8s.io/v1", "EndpointSlice", addEndpointSlice},
		{v1alpha1.Group + "/" + v1alpha1.Version, "InstanceGroup", addInstanceGroup},
		{"v1", "Namespace", func(*rows, []byte) ([]v1alpha1.FieldError, error) { return nil, nil }},
	}
}

func (r *rows) add(file string, node *goyaml.Node) []Problem {
	if node.Kind != goyaml.MappingNode {
		return []Problem{{file, node.Line, "", "not an object: a document is a mapping with apiVersion, kind and metadata"}}
	}
	if p := duplicateKeys(file, node); len(p) > 0 {
		return p
	}
	raw, err := goyaml.Marshal(node)
	if err != nil {
		return []Problem{{file, node.Line, "", err.Error()}}
	}
	var meta typeMeta
	if err := yaml.Unmarshal(raw, &meta); err != nil {
		return []Problem{{file, node.Line, "", "not an object: " + err.Error()}}
	}
	if meta.Kind == "List" {
		var problems []Problem
		for i := 0; i+1 < len(node.Content); i += 2 {
			if node.Content[i].Value == "items" {
				for _, item := range node.Content[i+1].Content {
					problems = append(problems, r.add(file, item)...)
				}
			}
		}
		return problems
	}
	object := fmt.Sprintf("%s %s/%s", meta.Kind, meta.Metadata.Namespace, meta.Metadata.Name)
	problem := func(line int, format string, args ...any) []Problem {
		return []Problem{{file, line, object, fmt.Sprintf(format, args...)}}
	}
	var known []string
	for _, k := range kinds() {
		known = append(known, k.apiVersion+" "+k.name)
		if k.apiVersion != meta.APIVersion || k.name != meta.Kind {
			continue
		}
		if k.name != "Namespace" {
			if p := checkName(meta); p != "" {
				return problem(node.Line, "%s", p)
			}
		}
		if at, dup := r.at[object]; dup {
			return problem(node.Line, "it stands at %s already: remove one", at)
		}
		r.at[object] = file + ":" + strconv.Itoa(node.Line)
		errs, err := k.add(r, raw)
		if err != nil {
			return problem(lineOfError(node, err), "%s", cleanError(err))
		}
		var problems []Problem
		for _, e := range errs {
			problems = append(problems, problem(lineOf(node, e.Field), "%s", e.Error())...)
		}
		return problems
	}
	return problem(node.Line, "no kind %q of apiVersion %q: files may hold %s", meta.Kind, meta.APIVersion, strings.Join(known, ", "))
}

func checkName(m typeMeta) string {
	if errs := validation.IsDNS1123Subdomain(m.Metadata.Name); len(errs) > 0 {
		return fmt.Sprintf("metadata.name: %q: %s", m.Metadata.Name, errs[0])
	}
	if errs := validation.IsDNS1123Label(m.Metadata.Namespace); len(errs) > 0 {
		return fmt.Sprintf("metadata.namespace: %q: %s", m.Metadata.Namespace, errs[0])
	}
	return ""
}

func duplicateKeys(file string, node *goyaml.Node) []Problem {
	var out []Problem
	if node.Kind == goyaml.MappingNode {
		seen := make(map[string]int)
		for i := 0; i+1 < len(node.Content); i += 2 {
			key := node.Content[i]
			if first, dup := seen[key.Value]; dup {
				out = append(out, Problem{file, key.Line, "", fmt.Sprintf("field %q stands at line %d already: remove one", key.Value, first)})
			}
			seen[key.Value] = key.Line
		}
	}
	for _, c := range node.Content {
		out = append(out, duplicateKeys(file, c)...)
	}
	return out
}

var unknownField = regexp.MustCompile(`unknown field "([^"]+)"`)

func cleanError(err error) string {
	text := strings.TrimPrefix(err.Error(), "error unmarshaling JSON: while decoding JSON: ")
	text = strings.TrimPrefix(text, "json: ")
	if m := unknownField.FindStringSubmatch(text); m != nil {
		return fmt.Sprintf("%s: no such field: correct or remove it", m[1])
	}
	return text
}

// lineOfError finds the line of the field that a decoding error names.
func lineOfError(node *goyaml.Node, err error) int {
	if m := unknownField.FindStringSubmatch(err.Error()); m != nil {
		return lineOf(node, m[1])
	}
	return node.Line
}

var pathPart = regexp.MustCompile(`[^.\[\]]+`)

// lineOf follows a path like spec.ports[0].name as far as the document goes.
func lineOf(node *goyaml.Node, path string) int {
	line := node.Line
	for _, part := range pathPart.FindAllString(path, -1) {
		next := (*goyaml.Node)(nil)
		switch node.Kind {
		case goyaml.MappingNode:
			for i := 0; i+1 < len(node.Content); i += 2 {
				if node.Content[i].Value == part {
					line, next = node.Content[i].Line, node.Content[i+1]
				}
			}
		case goyaml.SequenceNode:
			if i, err := strconv.Atoi(part); err == nil && i < len(node.Content) {
				next = node.Content[i]
				line = next.Line
			}
		case goyaml.DocumentNode, goyaml.ScalarNode, goyaml.AliasNode:
		}
		if next == nil {
			return line
		}
		node = next
	}
	return line
}

func addService(r *rows, raw []byte) ([]v1alpha1.FieldError, error) {
	var s corev1.Service
	if err := yaml.UnmarshalStrict(raw, &s); err != nil {
		return nil, err
	}
	var errs []v1alpha1.FieldError
	seen := make(map[string]bool)
	for i, p := range s.Spec.Ports {
		field := fmt.Sprintf("spec.ports[%d]", i)
		if p.Port < 1 || p.Port > 65535 {
			errs = append(errs, v1alpha1.FieldError{Field: field + ".port", Message: fmt.Sprintf("%d is not a port", p.Port), Remedy: "write 1 to 65535"})
		}
		if seen[p.Name] {
			errs = append(errs, v1alpha1.FieldError{Field: field + ".name", Message: fmt.Sprintf("%q stands twice", p.Name), Remedy: "give every port its own name"})
		}
		seen[p.Name] = true
	}
	r.Services = append(r.Services, objects.Service(&s, Scope))
	return errs, nil
}

func addEndpointSlice(r *rows, raw []byte) ([]v1alpha1.FieldError, error) {
	var s discoveryv1.EndpointSlice
	if err := yaml.UnmarshalStrict(raw, &s); err != nil {
		return nil, err
	}
	var errs []v1alpha1.FieldError
	if s.Labels[discoveryv1.LabelServiceName] == "" {
		errs = append(errs, v1alpha1.FieldError{
			Field: "metadata.labels", Message: "there is no " + discoveryv1.LabelServiceName, Remedy: "name the Service that these endpoints are of",
		})
	}
	if s.AddressType != discoveryv1.AddressTypeIPv4 && s.AddressType != discoveryv1.AddressTypeIPv6 {
		errs = append(errs, v1alpha1.FieldError{Field: "addressType", Message: fmt.Sprintf("%q is not taken", s.AddressType), Remedy: "write IPv4 or IPv6"})
	}
	for i, p := range s.Ports {
		if p.Port == nil || *p.Port < 1 || *p.Port > 65535 {
			errs = append(errs, v1alpha1.FieldError{Field: fmt.Sprintf("ports[%d].port", i), Message: "it is not a port", Remedy: "write 1 to 65535"})
		}
	}
	for i, e := range s.Endpoints {
		for j, a := range e.Addresses {
			if len(validation.IsValidIP(nil, a)) > 0 {
				errs = append(errs, v1alpha1.FieldError{
					Field: fmt.Sprintf("endpoints[%d].addresses[%d]", i, j), Message: fmt.Sprintf("%q is not an IP address", a), Remedy: "write one",
				})
			}
		}
	}
	if set := objects.EndpointSlice(&s, Scope); set != nil && len(errs) == 0 {
		r.Endpoints = append(r.Endpoints, set)
	}
	return errs, nil
}

func addInstanceGroup(r *rows, raw []byte) ([]v1alpha1.FieldError, error) {
	var g v1alpha1.InstanceGroup
	if err := yaml.UnmarshalStrict(raw, &g); err != nil {
		return nil, err
	}
	v1alpha1.DefaultInstanceGroup(&g)
	errs := v1alpha1.ValidateInstanceGroup(&g)
	r.Groups = append(r.Groups, &discovery.InstanceGroup{
		Scope: Scope, Key: discovery.Key{Namespace: g.Namespace, Name: g.Name}, Object: &g,
	})
	return errs, nil
}
