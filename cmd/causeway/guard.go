package main

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"
)

func guardCommand() *cobra.Command {
	c := &cobra.Command{Use: "guard", Short: "The never-empty guard of InstanceGroups"}
	var admin adminFlag
	release := &cobra.Command{
		Use:   "release NAMESPACE/INSTANCEGROUP",
		Short: "Let the instances go that the guard holds back",
		Long: `Let the instances go that the never-empty guard holds back because an answer of
the EC2 API no longer mentioned too many of them at once.

In Kubernetes the same is done, from anywhere, by an annotation:

  kubectl -n NAMESPACE annotate instancegroup INSTANCEGROUP --overwrite \
    mesh.causeway.dev/guard-release="$(date -u +%Y-%m-%dT%H:%M:%SZ)"`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var answer struct{ Released int }
			if err := admin.do(cmd.Context(), http.MethodPost, "/v1/guard/release", url.Values{"group": {args[0]}}, &answer); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "released; the guard held %d instances\n", answer.Released)
			return err
		},
	}
	admin.add(release)
	c.AddCommand(release)
	return c
}
