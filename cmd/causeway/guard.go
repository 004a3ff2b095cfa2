package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"

	"github.com/spf13/cobra"

	"github.com/causeway-mesh/causeway/discovery"
)

func guardCommand() *cobra.Command {
	c := &cobra.Command{Use: "guard", Short: "The guards against mass removal of instances and objects"}
	var admin adminFlag
	var namespace namespaceFlag
	var config bool
	release := &cobra.Command{
		Use:   "release NAMESPACE/INSTANCEGROUP | --config",
		Short: "Let the instances, or the objects, go that the guard holds back",
		Long: `Let the instances go that the never-empty guard holds back because an answer of
the EC2 API no longer mentioned too many of them at once, or is of another
account. With --config, let the objects go that stay because too many files of
the configuration directory are gone at once.

In Kubernetes the same is done, from anywhere, by an annotation:

  kubectl -n NAMESPACE annotate instancegroup INSTANCEGROUP --overwrite \
    mesh.causeway.dev/guard-release="$(date -u +%Y-%m-%dT%H:%M:%SZ)"`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 && !config || len(args) != 0 && config {
				return errors.New("name one InstanceGroup as NAMESPACE/NAME, or give --config")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if config {
				var answer struct{ Released int }
				if err := admin.do(cmd.Context(), http.MethodPost, "/v1/guard/release", url.Values{"config": {"true"}}, &answer); err != nil {
					return err
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "released; %d objects were held back\n", answer.Released)
				return err
			}
			group, err := namespace.key(args[0], discovery.KindInstanceGroup)
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
	release.ValidArgsFunction = completer(&namespace, func(ctx context.Context) ([]discovery.Key, error) {
		v, err := admin.api().Status(ctx)
		if err != nil {
			return nil, err
		}
		return namedKeys(slices.Sorted(maps.Keys(v.GuardHeld))), nil
	})
	release.Flags().BoolVar(&config, "config", false, "release objects whose files are gone from the configuration directory")
	admin.add(release)
	namespace.add(release)
	c.AddCommand(release)
	return c
}
