package main

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/causeway-mesh/causeway/discovery"
)

func guardCommand() *cobra.Command {
	c := &cobra.Command{Use: "guard", Short: "The never-empty guard of InstanceGroups"}
	var admin adminFlag
	var namespace namespaceFlag
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
			group, err := namespace.key(args[0], "an InstanceGroup")
			if err != nil {
				return err
			}
			var answer struct{ Released int }
			if err := admin.do(cmd.Context(), http.MethodPost, "/v1/guard/release", url.Values{"group": {group.String()}}, &answer); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "released; the guard held %d instances\n", answer.Released)
			return err
		},
	}
	release.ValidArgsFunction = completer(&namespace, names(&admin, "/v1/groups", func(groups []discovery.GroupStatus) []discovery.Key {
		keys := make([]discovery.Key, len(groups))
		for i := range groups {
			keys[i] = groups[i].Key
		}
		return keys
	}))
	admin.add(release)
	namespace.add(release)
	c.AddCommand(release)
	return c
}
