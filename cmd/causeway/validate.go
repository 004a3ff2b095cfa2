package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/lint/files"
	"github.com/causeway-mesh/causeway/policy/phrase"
)

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
			v, err := files.Check(args, cmd.InOrStdin(), time.Now())
			if err != nil {
				return err
			}
			err = output.print(cmd, v.Results, func(t *phrase.Table) {
				for i := range v.Results {
					t.Row(v.Results[i].Line())
				}
			})
			if err != nil {
				return err
			}
			summary := cmd.OutOrStdout()
			if output.format != "table" {
				summary = cmd.ErrOrStderr() // the results alone are JSON
			}
			_, _ = fmt.Fprintln(summary, v.Summary())
			if v.Count(policy.Error.String()) > 0 || strict && v.Count(policy.Warning.String()) > 0 {
				return errFindings
			}
			return nil
		},
	}
	c.Flags().BoolVar(&strict, "strict", false, "let warnings fail too")
	output.add(c)
	return c
}
