package main

import (
	"github.com/spf13/cobra"

	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/file"
	"github.com/causeway-mesh/causeway/policy"
)

func validateCommand() *cobra.Command {
	var output outputFlag
	c := &cobra.Command{
		Use:   "validate DIR",
		Short: "Check a directory of objects, offline",
		Long: `Check a directory of YAML files without a cluster and without AWS: syntax,
schema, references and what is probably not meant.

Exit status: 0 nothing to report or warnings only, 2 mistakes, 1 it could not be checked.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cat := catalog.New()
			loaded, err := file.Load(args[0], cat)
			if err != nil {
				return err
			}
			type result struct {
				Severity string `json:"severity"`
				Where    string `json:"where,omitempty"`
				Object   string `json:"object,omitempty"`
				Message  string `json:"message"`
			}
			results := []result{}
			bad := false
			for _, p := range loaded.Problems {
				bad = true
				results = append(results, result{"error", p.Where(), p.Object, p.Message})
			}
			for _, f := range policy.Validate(cat.Read()) {
				bad = bad || f.Severity == policy.Error
				message := f.Message
				if f.Field != "" {
					message = f.Field + ": " + message
				}
				if f.Remedy != "" {
					message += ": " + f.Remedy
				}
				results = append(results, result{f.Severity.String(), loaded.Origin(f.Object), f.Object.String(), message})
			}
			err = output.print(cmd, results, func(t *table) {
				if len(results) == 0 {
					t.row("nothing to report")
				}
				for _, r := range results {
					t.row(r.Severity, r.Where, r.Object, r.Message)
				}
			})
			if err == nil && bad {
				err = errFindings
			}
			return err
		},
	}
	output.add(c)
	return c
}
