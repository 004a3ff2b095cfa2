package main

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/xds/status"
)

// status says where everything stands.
func (s *serve) status() *status.Mesh {
	return status.Of(s.catalog.Read(), &status.Plane{
		Version: version, WaitsFor: s.missing(), Serving: s.serving.Load(), Programmed: s.observer.View(), Rejections: s.store.Rejections(), Proxies: s.xds.Proxies(),
		StepsHere: s.opts.config != "" && s.opts.shiftsFrom == "", ShiftsFrom: s.opts.shiftsFrom,
	})
}

func statusCommand() *cobra.Command {
	var output outputFlag
	var admin adminFlag
	var all bool
	c := &cobra.Command{
		Use:   "status",
		Short: "All on one screen: sources, objects, proxies, shifts, freezes",
		Long: `On one screen: what the control plane reads and how fresh that is, which objects
are not in force and why, which proxies are behind, what is shifting, what is
frozen.

Exit status: 0 if all is well, 2 if something needs a look, 1 if no control
plane answers.`,
		Args: takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, err := admin.api().Status(cmd.Context())
			if err != nil {
				return err
			}
			columns, rows := output.size(cmd)
			if all {
				rows = 0
			}
			if err := output.print(cmd, v, func(t *phrase.Table) {
				t.Text(strings.TrimSuffix(status.Fit(v, time.Now(), columns, rows, all || output.format == wide), "\n"))
			}); err != nil {
				return err
			}
			if v.Wrong() {
				return errFindings
			}
			return nil
		},
	}
	c.Flags().BoolVar(&all, "all", false, "every line, however many a screen has, and the whole text of what proxies refused")
	output.add(c)
	admin.add(c)
	return c
}
