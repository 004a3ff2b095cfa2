package main

import (
	"runtime"

	"github.com/spf13/cobra"

	"github.com/causeway-mesh/causeway/policy/phrase"
)

func versionCommand() *cobra.Command {
	var output outputFlag
	c := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := struct {
				Version string `json:"version"`
				Go      string `json:"go"`
			}{version, runtime.Version()}
			return output.print(cmd, v, func(t *phrase.Table) { t.Row("causeway "+v.Version, v.Go) })
		},
	}
	output.add(c)
	return c
}
