package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/xds/status"
)

func proxiesCommand() *cobra.Command {
	var output outputFlag
	var admin adminFlag
	var all bool
	c := &cobra.Command{
		Use:   "proxies",
		Short: "Who is connected, in sync, or has refused its configuration",
		Args:  takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			proxies, err := admin.api().ProxyStatuses(cmd.Context())
			if err != nil {
				return err
			}
			programmed, err := admin.api().Objects(cmd.Context())
			if err != nil {
				return err
			}
			text := phrase.Brief
			if all {
				text = func(s string) string { return s }
			}
			return output.print(cmd, proxies, func(t *phrase.Table) {
				status.PrintProxies(t, proxies, text, time.Now(), output.format == wide)
				printProgrammed(t, programmed, text)
			})
		},
	}
	c.Flags().BoolVar(&all, "all", false, "the whole text of what proxies refused, which may be long")
	output.add(c)
	admin.add(c)
	return c
}
