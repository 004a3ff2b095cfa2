package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/xds/admin/client"
	"github.com/causeway-mesh/causeway/xds/members"
	"github.com/causeway-mesh/causeway/xds/status"
)

func membersCommand() *cobra.Command {
	var output outputFlag
	var admin adminFlag
	c := &cobra.Command{
		Use:   "members",
		Short: "Hosts and pods whose agent is connected, and how they are",
		Args:  takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			answers, err := client.All[[]members.Member](cmd.Context(), admin.client(), "/v1/members")
			if err != nil {
				return err
			}
			var lists [][]members.Member
			for _, a := range answers {
				if lists = append(lists, a.Value); a.Err != nil {
					fmt.Fprintf(cmd.ErrOrStderr(), "replica %s does not answer; members that are connected to it are missing: %v\n", a.Replica, a.Err)
				}
			}
			list := status.MembersOf(lists...)
			return output.print(cmd, list, func(t *phrase.Table) { status.PrintMembers(t, list, time.Now()) })
		},
	}
	output.add(c)
	admin.add(c)
	return c
}
