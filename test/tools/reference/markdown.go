package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

type schema = apiextensionsv1.JSONSchemaProps

// writer writes the reference.
type writer struct {
	out io.Writer
	// written is the heading under which a type was described, by its schema:
	// one that several kinds have is described once.
	written map[string]string
}

func newWriter(out io.Writer) *writer { return &writer{out: out, written: make(map[string]string)} }

func (w *writer) printf(format string, args ...any) { fmt.Fprintf(w.out, format, args...) }

func (w *writer) head() {
	w.printf("# Reference of the kinds\n\n")
	w.printf("<!-- Written by `make generate` from the CRDs. Change the comments in policy/v1alpha1 instead. -->\n\n")
	w.printf("Routes are the Gateway API's: [its reference](https://gateway-api.sigs.k8s.io/reference/spec/) holds.\n")
	w.printf("This page is about the kinds of group `mesh.causeway.dev`. What stands under *Bounds* is refused\n")
	w.printf("by `kubectl apply` and by `causeway validate` alike. A duration is written like `1.5s`, `300ms` or `1h30m`.\n")
}

// kind describes a version of a kind.
func (w *writer) kind(crd *apiextensionsv1.CustomResourceDefinition, v *apiextensionsv1.CustomResourceDefinitionVersion) {
	root := v.Schema.OpenAPIV3Schema
	names := crd.Spec.Names
	w.printf("\n## %s\n\n", names.Kind)
	w.printf("`apiVersion: %s/%s`, ", crd.Spec.Group, v.Name)
	if crd.Spec.Scope == apiextensionsv1.ClusterScoped {
		w.printf("cluster-scoped")
	} else {
		w.printf("namespaced")
	}
	w.printf(", `kubectl get %s`\n\n", cmp.Or(first(names.ShortNames), names.Plural))
	w.printf("%s\n", prose(root.Description))
	w.rules(root)
	for _, part := range []string{"spec", "status"} {
		if child, ok := root.Properties[part]; ok {
			w.object(names.Kind, part, &child)
		}
	}
}

func first(of []string) string {
	if len(of) == 0 {
		return ""
	}
	return of[0]
}

// object describes the fields of an object, and then those of the objects in it.
func (w *writer) object(kind, path string, s *schema) {
	heading := kind + " " + path
	w.written[identity(s)] = heading
	w.printf("\n### %s\n\n", heading)
	if d := prose(s.Description); d != "" {
		w.printf("%s\n\n", d)
	}
	w.printf("| Field | Type | Default | Bounds | Meaning |\n|-|-|-|-|-|\n")
	var inner []string
	for _, name := range fields(s) {
		child := s.Properties[name]
		kindOf := typeOf(&child)
		if o := objectOf(&child); o != nil && name != "conditions" {
			link, ok := w.written[identity(o)]
			if !ok {
				link = kind + " " + path + "." + name + suffix(&child)
				inner = append(inner, name)
				w.written[identity(o)] = link
			}
			kindOf = strings.Replace(kindOf, "object", fmt.Sprintf("[object](#%s)", anchor(link)), 1)
		}
		label := "`" + name + "`"
		if slices.Contains(s.Required, name) {
			label += " (required)"
		}
		w.printf("| %s | %s | %s | %s | %s |\n", label, kindOf, fallback(&child), cell(bounds(&child)), cell(prose(child.Description)))
	}
	w.rules(s)
	for _, name := range inner {
		child := s.Properties[name]
		w.object(kind, path+"."+name+suffix(&child), objectOf(&child))
	}
}

// rules lists what an object as a whole is refused for.
func (w *writer) rules(s *schema) {
	if len(s.XValidations) == 0 {
		return
	}
	w.printf("\nRefused with:\n\n")
	for _, r := range s.XValidations {
		w.printf("- %s\n", r.Message)
	}
}

// fields returns the names of an object's fields, the required ones first.
func fields(s *schema) []string {
	return slices.SortedFunc(maps.Keys(s.Properties), func(a, b string) int {
		return cmp.Or(
			cmp.Compare(rank(slices.Contains(s.Required, a)), rank(slices.Contains(s.Required, b))),
			strings.Compare(a, b))
	})
}

func rank(required bool) int {
	if required {
		return 0
	}
	return 1
}

// objectOf returns the object that a field is or lists, nil for another.
func objectOf(s *schema) *schema {
	if s.Type == "array" && s.Items != nil {
		s = s.Items.Schema
	}
	if s.Type != "object" || len(s.Properties) == 0 {
		return nil
	}
	return s
}

// suffix tells a list in a path.
func suffix(s *schema) string {
	if s.Type == "array" {
		return "[]"
	}
	return ""
}

func typeOf(s *schema) string {
	switch {
	case s.Type == "array" && s.Items != nil:
		return "list of " + typeOf(s.Items.Schema)
	case s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil:
		return "map of " + typeOf(s.AdditionalProperties.Schema)
	case s.Type == "string" && slices.ContainsFunc(s.XValidations, func(r apiextensionsv1.ValidationRule) bool {
		return strings.Contains(r.Rule, "duration(self)")
	}):
		return "duration"
	case s.Format == "date-time":
		return "time"
	}
	return s.Type
}

func fallback(s *schema) string {
	if s.Default == nil {
		return ""
	}
	var text string
	if json.Unmarshal(s.Default.Raw, &text) == nil && text != "" {
		return "`" + text + "`"
	}
	return "`" + string(s.Default.Raw) + "`"
}

// bounds says which values a field takes.
func bounds(s *schema) string {
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if len(s.Enum) > 0 {
		values := make([]string, len(s.Enum))
		for i, v := range s.Enum {
			values[i] = "`" + strings.Trim(string(v.Raw), `"`) + "`"
		}
		add("%s", strings.Join(values, ", "))
	}
	number := func(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
	switch {
	case s.Minimum != nil && s.Maximum != nil:
		add("%s to %s", number(*s.Minimum), number(*s.Maximum))
	case s.Minimum != nil:
		add("at least %s", number(*s.Minimum))
	case s.Maximum != nil:
		add("at most %s", number(*s.Maximum))
	}
	count := func(least, most *int64, unit string) {
		switch {
		case least != nil && most != nil:
			add("%d to %d %s", *least, *most, unit)
		case least != nil:
			add("at least %d %s", *least, unit)
		case most != nil:
			add("at most %d %s", *most, unit)
		}
	}
	count(s.MinLength, s.MaxLength, "characters")
	count(s.MinItems, s.MaxItems, "items")
	count(nil, s.MaxProperties, "entries")
	if s.Pattern != "" {
		add("`%s`", s.Pattern)
	}
	if s.XListType != nil && *s.XListType == "set" {
		add("each once")
	}
	if s.XListType != nil && *s.XListType == "map" {
		add("each `%s` once", strings.Join(s.XListMapKeys, "`, `"))
	}
	if objectOf(s) == nil || s.Type == "array" {
		for _, r := range s.XValidations {
			_, remedy, ok := strings.Cut(r.Message, ": ")
			if !ok {
				remedy = r.Message
			}
			add("%s", strings.TrimPrefix(remedy, "write "))
		}
	}
	if s.Type == "array" && s.Items != nil && objectOf(s) == nil {
		if of := bounds(s.Items.Schema); of != "" {
			add("each: %s", of)
		}
	}
	return strings.Join(out, "; ")
}

// notForCRDs is what the Gateway API's own generator leaves out of its CRDs.
var notForCRDs = regexp.MustCompile(`(?s)<gateway:util:excludeFromCRD>.*?</gateway:util:excludeFromCRD>`)

// prose joins the lines of every paragraph and leaves out what the Gateway API
// says to its implementers.
func prose(s string) string {
	s = notForCRDs.ReplaceAllString(s, "")
	var out []string
	for paragraph := range strings.SplitSeq(s, "\n\n") {
		paragraph = strings.Join(strings.Fields(paragraph), " ")
		if paragraph != "" && !strings.HasPrefix(paragraph, "Support:") {
			out = append(out, paragraph)
		}
	}
	return strings.Join(out, "\n\n")
}

// cell makes a text fit into a cell of a table.
func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "\n\n", "<br>").Replace(s)
}

// anchor returns GitHub's anchor of a heading.
func anchor(heading string) string {
	return strings.Map(func(r rune) rune {
		switch r {
		case ' ':
			return '-'
		case '.', '[', ']':
			return -1
		}
		return r
	}, strings.ToLower(heading))
}

// identity returns what makes two types the same: all but their descriptions.
func identity(s *schema) string {
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // it was decoded from JSON
	}
	var v any
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		panic(err)
	}
	text, err = json.Marshal(undescribed(v))
	if err != nil {
		panic(err)
	}
	return string(text)
}

func undescribed(v any) any {
	switch v := v.(type) {
	case map[string]any:
		if _, ok := v["description"].(string); ok {
			delete(v, "description")
		}
		for k := range v {
			v[k] = undescribed(v[k])
		}
	case []any:
		for i := range v {
			v[i] = undescribed(v[i])
		}
	}
	return v
}
