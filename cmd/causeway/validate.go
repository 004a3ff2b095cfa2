package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/causeway-mesh/causeway/console"
	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/file"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/diff"
	"github.com/causeway-mesh/causeway/policy/lint"
	"github.com/causeway-mesh/causeway/policy/resolve"
)

// validation is one result of `causeway validate`. Its fields stay the same
// over releases.
type validation struct {
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

func validateCommand() *cobra.Command {
	var output outputFlag
	var strict bool
	c := &cobra.Command{
		Use:   "validate PATH...",
		Short: "Check objects in files, offline",
		Long: `Check YAML files without a cluster and without AWS: syntax, schema, references,
conflicts, rules that no request can reach, backends that cannot answer, and
what is probably not meant. Each PATH is a directory, a file, or - for the
standard input; all are checked together.

Documents of other programs (a Deployment, a kustomization, values of a chart)
are passed over with a note each.

Exit status: 0 nothing to report or warnings only, 2 mistakes (with --strict
warnings too), 1 it could not be checked.`,
		Example: `  causeway validate config/
  helm template ./chart | causeway validate -`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("name what to check: a directory, files, or - for the standard input")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			v, err := validatePaths(args, cmd.InOrStdin())
			if err != nil {
				return err
			}
			err = output.print(cmd, v.results, func(t *table) {
				for i := range v.results {
					t.row(v.results[i].line())
				}
			})
			if err != nil {
				return err
			}
			summary := cmd.OutOrStdout()
			if output.format != "table" {
				summary = cmd.ErrOrStderr() // the results alone are JSON
			}
			_, _ = fmt.Fprintln(summary, v.summary())
			if v.count(policy.Error.String()) > 0 || strict && v.count(policy.Warning.String()) > 0 {
				return errFindings
			}
			return nil
		},
	}
	c.Flags().BoolVar(&strict, "strict", false, "let warnings fail too")
	output.add(c)
	return c
}

// line is the result on one line, as compilers write theirs.
func (v *validation) line() string {
	out := v.Severity + ": "
	if v.Where != "" {
		out = v.Where + ": " + out
	}
	if v.Object != "" {
		out += v.Object + ": "
	}
	return out + v.text()
}

// text is what is wrong and what to do, after the field.
func (v *validation) text() string {
	out := v.Message
	if v.Field != "" {
		out = v.Field + ": " + out
	}
	if v.Remedy != "" {
		out += ": " + v.Remedy
	}
	return out
}

// validated is what `causeway validate` found out.
type validated struct {
	results []validation
	// objects and files are how many were read.
	objects, files int
}

func (v *validated) count(severity string) int {
	n := 0
	for i := range v.results {
		if v.results[i].Severity == severity {
			n++
		}
	}
	return n
}

// summary says what was read and what was found.
func (v *validated) summary() string {
	return fmt.Sprintf("%s in %s: %s, %s, %s",
		console.Plural(v.objects, "objects"), console.Plural(v.files, "files"),
		console.Plural(v.count(policy.Error.String()), "errors"), console.Plural(v.count(policy.Warning.String()), "warnings"), console.Plural(v.count(note), "notes"))
}

// validateDir returns what is wrong in a directory, the causes first.
func validateDir(dir string) ([]validation, error) {
	v, err := validatePaths([]string{dir}, nil)
	if err != nil {
		return nil, err
	}
	return v.results, nil
}

// validatePaths returns what is wrong in files: first what is not read, because
// other mistakes may come from it, then the rest, each sorted by where it stands.
func validatePaths(paths []string, stdin io.Reader) (*validated, error) {
	cat := catalog.New()
	loaded, err := file.LoadAll(paths, stdin, cat)
	if err != nil {
		return nil, err
	}
	written := loaded.Written()
	out := &validated{results: []validation{}, objects: len(written), files: loaded.Files}
	for _, p := range loaded.Problems {
		out.results = append(out.results, validation{
			Severity: policy.Error.String(), Where: p.Where(), Object: p.Object, Reason: notRead, Message: p.Message,
		})
	}
	slices.SortStableFunc(out.results, byWhere)
	r := cat.Read()
	found := slices.Concat(resolve.Validate(r), resolve.Expirations(r, time.Now()), diff.Uncovered(r), lint.Check(r, objectsOf(written)))
	var about []validation
	for _, f := range lint.Explain(r, found, func(o discovery.ObjectName) string { return loaded.Unread(o) }) {
		about = append(about, validation{
			f.Severity.String(), loaded.Line(f.Object, f.Field), f.Object.String(), f.Field, f.Reason, f.Message, f.Remedy,
		})
	}
	if out.objects == 0 && len(loaded.Problems) == 0 {
		about = append(about, validation{
			Severity: policy.Warning.String(), Reason: notRead, Message: "no object was read", Remedy: "check the path, if there should be any",
		})
	}
	slices.SortStableFunc(about, byWhere)
	out.results = append(out.results, about...)
	for _, p := range loaded.Passed {
		severity := note
		if p.Suspect {
			severity = policy.Warning.String()
		}
		out.results = append(out.results, validation{Severity: severity, Where: p.Where(), Reason: passedOver, Message: "passed over: " + p.What})
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
func byWhere(a, b validation) int {
	split := func(s string) (file string, line int) {
		file, number, _ := strings.CutLast(s, ":")
		line, _ = strconv.Atoi(number) // 0 for what was read from no file
		return file, line
	}
	fileA, lineA := split(a.Where)
	fileB, lineB := split(b.Where)
	return cmp.Or(strings.Compare(fileA, fileB), cmp.Compare(lineA, lineB))
}
