package main

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/file"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/diff"
)

// validation is one result of `causeway validate`. Its fields stay the same
// over releases.
type validation struct {
	// Severity is "error" or "warning".
	Severity string `json:"severity"`
	// Where is "file:line" below the directory.
	Where string `json:"where,omitempty"`
	// Object is "Kind namespace/name", as far as it could be read.
	Object string `json:"object,omitempty"`
	Field  string `json:"field,omitempty"`
	// Reason is the reason of the condition that the object would have in its
	// status, or "NotRead" for what would not be read at all.
	Reason  string `json:"reason"`
	Message string `json:"message"`
	Remedy  string `json:"remedy,omitempty"`
}

// notRead is the reason of mistakes that keep an object from being read.
const notRead = "NotRead"

func validateCommand() *cobra.Command {
	var output outputFlag
	var strict bool
	c := &cobra.Command{
		Use:   "validate DIR",
		Short: "Check a directory of objects, offline",
		Long: `Check a directory of YAML files without a cluster and without AWS: syntax,
schema, references, conflicts, rules that no request can reach, backends that
cannot answer, and what is probably not meant.

Exit status: 0 nothing to report or warnings only, 2 mistakes (with --strict
warnings too), 1 it could not be checked.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			results, err := validateDir(args[0])
			if err != nil {
				return err
			}
			err = output.print(cmd, results, func(t *table) {
				if len(results) == 0 {
					t.row("nothing to report")
				}
				for _, r := range results {
					t.row(r.Severity, r.Where, r.Object, r.text())
				}
			})
			if err == nil && slices.ContainsFunc(results, func(r validation) bool { return strict || r.Severity == policy.Error.String() }) {
				err = errFindings
			}
			return err
		},
	}
	c.Flags().BoolVar(&strict, "strict", false, "let warnings fail too")
	output.add(c)
	return c
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

// validateDir returns what is wrong in a directory, sorted by where it stands.
func validateDir(dir string) ([]validation, error) {
	cat := catalog.New()
	loaded, err := file.Load(dir, cat)
	if err != nil {
		return nil, err
	}
	results := []validation{}
	for _, p := range loaded.Problems {
		results = append(results, validation{
			Severity: policy.Error.String(), Where: p.Where(), Object: p.Object, Reason: notRead, Message: p.Message,
		})
	}
	r := cat.Read()
	for _, f := range slices.Concat(policy.Validate(r), policy.Expirations(r, time.Now()), diff.Uncovered(r)) {
		results = append(results, validation{
			f.Severity.String(), loaded.Origin(f.Object), f.Object.String(), f.Field, f.Reason, f.Message, f.Remedy,
		})
	}
	slices.SortStableFunc(results, func(a, b validation) int { return compareWhere(a.Where, b.Where) })
	return results, nil
}

// compareWhere orders "file:line" by file, then by line as a number.
func compareWhere(a, b string) int {
	split := func(s string) (file string, line int) {
		file, number, _ := strings.CutLast(s, ":")
		line, _ = strconv.Atoi(number) // 0 for what was read from no file
		return file, line
	}
	fileA, lineA := split(a)
	fileB, lineB := split(b)
	return cmp.Or(strings.Compare(fileA, fileB), cmp.Compare(lineA, lineB))
}
