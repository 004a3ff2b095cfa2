package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/causeway-mesh/causeway/test/demo"
)

func demoCommand() *cobra.Command {
	keep := false
	c := &cobra.Command{
		Use:   "demo",
		Short: "A whole migration on this machine, with a bad release in it",
		Long: `Start a whole mesh on this machine and migrate it while requests flow: an EC2
API with an auto scaling group of PHP hosts in two zones, pods beside them,
two Envoys and this control plane. A TrafficShift moves the traffic step by
step; a bad release of the pods is rolled back by its guard; an instance is
reclaimed, the EC2 API fails and the control plane is killed on the way. If you
are root, two EC2 hosts join by the agent, in network namespaces, and PHP
programs on them call the Service by its cluster name. Every request is counted;
the exit status is 0 only if the mesh failed none.

It needs the programs that 'make tools' brings; 'make demo' does both.`,
		Args: takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return demo.Run(cmd.Context(), demo.Options{
				Out: cmd.OutOrStdout(), Keep: keep,
				Log: func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) },
				Command: func(ctx context.Context, args ...string) error {
					c := root()
					c.SetArgs(args)
					c.SetOut(io.Discard)
					return c.ExecuteContext(ctx)
				},
			})
		},
	}
	c.Flags().BoolVar(&keep, "keep", false, "leave everything running until interrupted, with commands to try")
	return c
}
