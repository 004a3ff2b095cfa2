package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/causeway-mesh/causeway/policy/installation"
	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/xds/status"
)

func checkCommand() *cobra.Command {
	var output outputFlag
	var cluster kubernetesFlag
	c := &cobra.Command{
		Use:   "check",
		Short: "Whether an installation in a cluster works, and what to do if not",
		Long: `Whether an installation in a cluster works: each line is a fact with a verdict
(ok, warning, failed), and below it what to do. It reads the cluster with your
own rights, asks every replica, and changes nothing. Without --context and
--kubeconfig it is the current context.

Exit status: 0 nothing failed, 2 something did, 1 the cluster does not answer.`,
		Args: takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := currentContext(cmd); err != nil {
				return err
			}
			results, err := status.Check(cmd.Context(), cluster.Cluster, time.Now())
			if err != nil {
				return err
			}
			if err := output.print(cmd, results, func(t *phrase.Table) { installation.Print(t, results) }); err != nil {
				return err
			}
			if installation.Worst(results) == installation.Failed {
				return errFindings
			}
			return nil
		},
	}
	output.add(c)
	cluster.add(c)
	return c
}
