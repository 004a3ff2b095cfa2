// Package files checks YAML files offline: files that cannot be read, objects with
// mistakes, and objects that are valid but probably not meant so.
package files

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/file"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/diff"
	"github.com/causeway-mesh/causeway/policy/lint"
	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/policy/resolve"
)

// Result is one result of `causeway validate`. Its fields stay the same
// over releases.
type Result struct {
	// Severity is "error", "warning" or "note".
	Severity string `json:"severity"`
	// Where is "file:line" below the directory.
	Where string `json:"where,omitempty"`
	// Object is "Kind namespace/name", as far as it could be read.
	Object string `json:"object,omitempty"`
	Field  string `json:"field,omitempty"`
	// Reason is the reason of the condition that the object would have in its
	// status, the name of a rule of package lint, "NotRead" for what would not be
	// read at all, or "PassedOver" for what is none of the mesh's.
	Reason  string `json:"reason"`
	Message string `json:"message"`
	Remedy  string `json:"remedy,omitempty"`
}

// Reasons of what is not about an object that was read.
const (
	notRead    = "NotRead"
	passedOver = "PassedOver"
)

// note is the severity of what is said for information.
const note = "note"

// Line is the result on one line, as compilers write theirs.
func (v *Result) Line() string {
	out := v.Severity + ": "
	if v.Where != "" {
		out = v.Where + ": " + out
	}
	if v.Object != "" {
		out += v.Object + ": "
	}
	return out + v.Text()
}

// Text is the mistake and its remedy, after the field.
func (v *Result) Text() string {
	out := v.Message
	if v.Field != "" {
		out = v.Field + ": " + out
	}
	if v.Remedy != "" {
		out += ": " + v.Remedy
	}
	return out
}

// Report is what `causeway validate` found out.
type Report struct {
	Results []Result
	// objects and files are how many were read, and unread is how many objects could not be.
	objects, files, unread int
}

// Count returns how many Results have a severity.
func (v *Report) Count(severity string) int {
	n := 0
	for i := range v.Results {
		if v.Results[i].Severity == severity {
			n++
		}
	}
	return n
}

// Summary counts what was read and what was found.
func (v *Report) Summary() string {
	objects := phrase.Plural(v.objects, "objects")
	if v.unread > 0 {
		objects = fmt.Sprintf("%s, of which %d cannot be read,", phrase.Plural(v.objects+v.unread, "objects"), v.unread)
	}
	return fmt.Sprintf("%s in %s: %s, %s, %s", objects, phrase.Plural(v.files, "files"),
		phrase.Plural(v.Count(policy.Error.String()), "errors"), phrase.Plural(v.Count(policy.Warning.String()), "warnings"), phrase.Plural(v.Count(note), "notes"))
}

// unread returns how many objects are not read for their mistakes. What has no name counts by its place.
func unread(problems []file.Problem, written []file.Written) int {
	read, not := make(map[string]bool), make(map[string]bool)
	for i := range written {
		read[written[i].String()] = true
	}
	for _, p := range problems {
		switch {
		case p.Object == "":
			not[p.Where()] = true
		case !read[p.Object]:
			not[p.File+" "+p.Object] = true
		}
	}
	return len(not)
}

// Check returns the mistakes in files. Files that cannot be read come first,
// because other mistakes may follow from them. Then come the rest, each sorted by
// its place.
func Check(paths []string, stdin io.Reader, now time.Time) (*Report, error) {
	cat := catalog.New()
	loaded, err := file.LoadAll(paths, stdin, cat)
	if err != nil {
		return nil, err
	}
	written := loaded.Written()
	out := &Report{Results: []Result{}, objects: len(written), files: loaded.Files}
	for _, p := range loaded.Problems {
		out.Results = append(out.Results, Result{
			Severity: policy.Error.String(), Where: p.Where(), Object: p.Object, Reason: notRead, Message: p.Message,
		})
	}
	out.unread = unread(loaded.Problems, written)
	slices.SortStableFunc(out.Results, byWhere)
	r := cat.Read()
	found := slices.Concat(resolve.Validate(r), resolve.Expirations(r, now), diff.Uncovered(r), lint.Check(r, objectsOf(written)))
	var about []Result
	for _, f := range lint.Explain(r, found, func(o discovery.ObjectName) string { return loaded.Unread(o) }) {
		about = append(about, Result{
			f.Severity.String(), loaded.Line(f.Object, f.Field), f.Object.String(), f.Field, f.Reason, f.Message, f.Remedy,
		})
	}
	if out.objects == 0 && len(loaded.Problems) == 0 {
		about = append(about, Result{
			Severity: policy.Warning.String(), Reason: notRead, Message: "no object was read", Remedy: "check the path, if there should be any",
		})
	}
	slices.SortStableFunc(about, byWhere)
	out.Results = append(out.Results, about...)
	for _, p := range loaded.Passed {
		severity := note
		if p.Suspect {
			severity = policy.Warning.String()
		}
		out.Results = append(out.Results, Result{Severity: severity, Where: p.Where(), Reason: passedOver, Message: "passed over: " + p.What})
	}
	return out, nil
}

// objectsOf returns the objects as they are written down, for lint.
func objectsOf(written []file.Written) []lint.Object {
	out := make([]lint.Object, len(written))
	for i, w := range written {
		out[i] = lint.Object{ObjectName: w.ObjectName, Value: w.Value}
	}
	return out
}

// byWhere orders by "file:line": by file, then by line as a number.
func byWhere(a, b Result) int {
	split := func(s string) (file string, line int) {
		file, number, _ := strings.CutLast(s, ":")
		line, _ = strconv.Atoi(number) // 0 for what was read from no file
		return file, line
	}
	fileA, lineA := split(a.Where)
	fileB, lineB := split(b.Where)
	return cmp.Or(strings.Compare(fileA, fileB), cmp.Compare(lineA, lineB))
}
