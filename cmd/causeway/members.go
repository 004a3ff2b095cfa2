package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/xds/admin/terminal"
	"github.com/causeway-mesh/causeway/xds/status"
)

func membersCommand() *cobra.Command {
	var output outputFlag
	var admin adminFlag
	c := &cobra.Command{
		Use:   "members",
		Short: "Who is a member of the mesh, and who should be and is not",
		Args:  takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := status.Members(cmd.Context(), admin.client())
			if err != nil {
				return err
			}
			for _, text := range list.Unknown {
				fmt.Fprintln(cmd.ErrOrStderr(), terminal.Paint(cmd.ErrOrStderr(), text))
			}
			return output.print(cmd, list, func(t *phrase.Table) { status.PrintMembers(t, list, time.Now(), output.format == wide) })
		},
	}
	output.add(c)
	admin.add(c)
	return c
}
