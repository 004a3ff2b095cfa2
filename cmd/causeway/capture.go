package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/causeway-mesh/causeway/xds/agent/capture"
)

func agentCaptureCommand() *cobra.Command {
	o := capture.RunOptions{Flags: map[string]string{}}
	c := &cobra.Command{
		Use:   "capture",
		Short: "Bring the traffic of this pod or host to its Envoy",
		Long: `Bring TCP connections to the Envoy beside you with nftables rules, in one table
(inet causeway) and one transaction; rules of others stay as they are. It needs
CAP_NET_ADMIN and no program beside it. Again with other settings it replaces
the rules; connections that are open go on.

  causeway agent capture --mode pod --inbound-ports 8080 --dns redirect
  causeway agent capture --mode host --proxy-users envoy --dry-run
  causeway agent capture --config capture.yaml --until-confirmed 60s
  causeway agent capture --confirm        # in time, else the rules act no more

A file has the flags' names: {mode: host, proxy-users: [envoy]}. Flags win.`,
		Args: takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.Flags().Visit(func(f *pflag.Flag) { o.Flags[f.Name] = f.Value.String() })
			text, err := capture.Run(o)
			fmt.Fprint(cmd.OutOrStdout(), text)
			return err
		},
	}
	f := c.Flags()
	f.SortFlags = false
	for _, option := range capture.Options() {
		f.String(option.Name, "", option.Usage)
	}
	f.StringVar(&o.File, "config", "", "YAML file with these settings")
	f.BoolVar(&o.DryRun, "dry-run", false, "print the rules as nft reads them, and change nothing")
	f.DurationVar(&o.UntilConfirmed, "until-confirmed", 0, "the rules end by themselves after this time, unless --confirm is given before")
	f.BoolVar(&o.Confirm, "confirm", false, "the rules that are there stay")
	return c
}

func agentReleaseCommand() *cobra.Command {
	var drain time.Duration
	c := &cobra.Command{
		Use:   "release",
		Short: "Take the rules of capture back",
		Args:  takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := capture.Release(cmd.Context(), drain)
			fmt.Fprint(cmd.OutOrStdout(), text)
			return err
		},
	}
	c.Flags().DurationVar(&drain, "drain-timeout", 30*time.Second, "how long captured connections that are open have to end; new ones are captured no more")
	return c
}
