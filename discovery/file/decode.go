package file

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/objects"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// maxFile bounds what is read of one file, in bytes. It is some ten thousand
// endpoints; a file beyond it is something else in the wrong place.
const maxFile = 8 << 20

// maxProblems bounds how many mistakes of one file are told.
const maxProblems = objects.MaxMistakes

// maxLists bounds how many Lists stand within each other: the text of an
// object is gone through once for each that it is in.
const maxLists = 10

// Problem is a mistake in a file.
type Problem struct {
	// File is the path below the directory that is read.
	File string
	Line int
	// Object is "Kind namespace/name", as far as it could be read.
	Object string
	// Message says what is wrong and what to do, after the path of the field
	// if it is one's.
	Message string
}

// Where returns "file:line".
func (p Problem) Where() string { return p.File + ":" + strconv.Itoa(p.Line) }

// Error returns "file:line: object: message", or the message of what is about no file.
func (p Problem) Error() string {
	if p.File == "" {
		return p.Message
	}
	s := p.Where() + ": "
	if p.Object != "" {
		s += p.Object + ": "
	}
	return s + p.Message
}

// content is what one file means.
type content struct {
	objects.Rows
	// at is the line of each object, by its "Kind namespace/name".
	at map[string]int
	// lasting is the file's text without Secrets, which may be stored; nil if
	// nothing else is in it.
	lasting []byte
	// passed are the documents that are none of the mesh's.
	passed []Passed
}

// meta is what every object has.
type meta struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
	} `json:"metadata"`
	// Items are those of a List.
	Items []json.RawMessage `json:"items"`
}

// name returns the name of an object of a kind.
func (m *meta) name(kind objects.Kind) discovery.ObjectName {
	out := discovery.ObjectName{Kind: kind.Name, Key: discovery.Key{Namespace: m.Metadata.Namespace, Name: m.Metadata.Name}}
	switch {
	case !kind.Namespaced:
		out.Namespace = ""
	case out.Namespace == "":
		out.Namespace = objects.DefaultNamespace
	}
	return out
}

// decode reads the documents of a file. It goes on after a mistake, so that
// one reading tells all of them; a file with any is not used, because half of
// it may be worse than none.
func decode(name string, data []byte) (content, []Problem) {
	d := decoder{file: name, out: content{at: make(map[string]int)}}
	if len(data) > maxFile {
		d.problem(1, "", "the file has more than %d bytes: split it", maxFile)
		return d.out, d.problems
	}
	if tooManyAliases(data) {
		// Before anything is parsed, which would take as long as the file is large.
		d.problem(1, "", "the file has more than %d aliases: write out what they repeat, or split the file", maxExpanded)
		return d.out, d.problems
	}
	if isJSON(name) {
		if err := json.Unmarshal(normal(name, data), new(json.RawMessage)); err != nil {
			d.problem(jsonLine(data, err), "", "not JSON: %v", err)
			return d.out, d.problems
		}
	}
	data = normal(name, data)
	docs := documents(data)
	secrets := make(map[int]bool)
	for i, doc := range docs {
		d.secret = false
		d.document(doc)
		if d.secret {
			secrets[i] = true
		}
		if d.full() {
			d.problems = append(d.problems[:maxProblems],
				Problem{name, d.problems[maxProblems].Line, "", "there are more mistakes from here on: correct those before first"})
			break
		}
	}
	switch {
	case len(d.problems) > 0: // the file is not used
	case len(secrets) > 0:
		d.out.lasting = withoutSecrets(docs, secrets)
	default:
		d.out.lasting = data
	}
	return d.out, d.problems
}

func isJSON(name string) bool { return strings.EqualFold(path.Ext(name), ".json") }

// normal returns a file's text as YAML, without some editors' byte order mark.
// JSON may be indented with tabs, YAML may not; in JSON strings they are written \t.
func normal(name string, data []byte) []byte {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if isJSON(name) {
		data = bytes.ReplaceAll(data, []byte("\t"), []byte(" "))
	}
	return data
}

// jsonLine returns the line that a JSON syntax error is on.
func jsonLine(data []byte, err error) int {
	offset := len(data)
	if e, ok := err.(*json.SyntaxError); ok { //nolint:errorlint // json.Unmarshal does not wrap it
		offset = min(int(e.Offset), len(data))
	}
	return 1 + bytes.Count(data[:offset], []byte("\n"))
}

// decoder gathers what the documents of a file hold.
type decoder struct {
	file     string
	out      content
	problems []Problem
	// aliases is how many values the aliases so far stand for.
	aliases int
	// secret is true if the document that is being read has a Secret.
	secret bool
}

func (d *decoder) problem(line int, object, format string, args ...any) {
	d.problems = append(d.problems, Problem{d.file, line, object, fmt.Sprintf(format, args...)})
}

// full reports whether there are more mistakes than are told. The search for
// the rest ends then: each costs a search through the document.
func (d *decoder) full() bool { return len(d.problems) > maxProblems }

func (d *decoder) document(doc document) {
	if doc.blank() {
		return
	}
	tree, data, errs := doc.parse(&d.aliases)
	if len(errs) > 0 {
		for _, err := range errs {
			d.problem(err.line, "", "%s", err.text)
		}
		return
	}
	if tree.isNull() {
		return
	}
	d.object(tree, data, 0)
}

// object reads one object, or each one of a List, which is within so many Lists.
func (d *decoder) object(tree tree, data []byte, lists int) {
	if !tree.isMapping() {
		d.problem(tree.line(), "", "not an object: write a mapping with apiVersion, kind and metadata")
		return
	}
	var m meta
	if err := json.Unmarshal(data, &m); err != nil {
		misfit, ok := errors.AsType[*json.UnmarshalTypeError](err)
		switch {
		case !ok:
			d.problem(tree.line(), "", "not an object: %v", err)
			return
		case m.APIVersion == "" || m.Kind == "" || isList(m):
			d.problem(tree.find(misfit.Field), "", "not an object: %s", objects.Misfit(misfit).Error())
			return
		}
		// A mistake in the metadata is told with the object's kind.
	}
	if isList(m) {
		if lists++; lists > maxLists {
			d.problem(tree.line(), "", "it is within %d Lists: put all objects into one List", maxLists)
			return
		}
		items := tree.at("items")
		for i, item := range m.Items {
			if d.full() {
				break
			}
			d.object(items.at(strconv.Itoa(i)), item, lists)
		}
		return
	}
	d.secret = d.secret || isSecret(m)
	kind, known := kindOf(m)
	if !known {
		passed, mistake, field := unknownKind(m, tree.keys())
		if mistake != "" {
			d.problem(tree.find(field), "", "%s", mistake)
			return
		}
		passed.File, passed.Line = d.file, tree.line()
		d.out.passed = append(d.out.passed, passed)
		return
	}
	ref := m.name(kind).String()
	if first, dup := d.out.at[ref]; dup {
		d.problem(tree.line(), ref, "it stands at line %d already: remove one", first)
		return
	}
	if m.Metadata.Name != "" {
		d.out.at[ref] = tree.line()
	}
	for _, e := range kind.Decode(data, Scope, &d.out.Rows) {
		if d.full() {
			break
		}
		d.problem(tree.find(e.Field), ref, "%s", fieldError(e))
	}
}

func fieldError(e v1alpha1.FieldError) string {
	if e.Field == "" {
		return e.Message + ": " + e.Remedy
	}
	return e.Error()
}

func kindOf(m meta) (objects.Kind, bool) {
	for _, k := range objects.Kinds() {
		if k.Has(m.APIVersion, m.Kind) {
			return k, true
		}
	}
	return objects.Kind{}, false
}
