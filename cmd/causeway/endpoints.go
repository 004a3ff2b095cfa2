package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/xds/status"
)

func endpointsCommand() *cobra.Command {
	var output outputFlag
	var admin adminFlag
	var namespace namespaceFlag
	c := &cobra.Command{
		Use:   "endpoints [NAMESPACE/SERVICE]",
		Short: "Who answers for a Service: platform, zone, health and why",
		Args:  takes(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			only := ""
			if len(args) == 1 {
				key, err := namespace.key(args[0], discovery.KindService)
				if err != nil {
					return err
				}
				only = key.String()
			}
			services, err := admin.api().Endpoints(cmd.Context(), only)
			if err != nil {
				return err
			}
			if len(args) == 1 && len(services) == 0 {
				all, err := admin.api().Endpoints(cmd.Context(), "")
				if err != nil {
					return err
				}
				key, _ := namespace.key(args[0], "Service") // it was one a moment ago
				return fmt.Errorf("there is no Service %s: %s", key, meant(key, serviceKeys(all), "'causeway endpoints' lists them all"))
			}
			if len(args) == 0 && namespace.namespace != "" {
				services = slices.DeleteFunc(services, func(s status.Service) bool { return !strings.HasPrefix(s.Service, namespace.namespace+"/") })
			}
			return output.print(cmd, services, func(t *phrase.Table) {
				for i := range services {
					if i > 0 {
						t.Row(" ")
					}
					status.PrintService(t, &services[i])
				}
			})
		},
	}
	c.ValidArgsFunction = completer(&namespace, func(ctx context.Context) ([]discovery.Key, error) {
		all, err := admin.api().Endpoints(ctx, "")
		return serviceKeys(all), err
	})
	output.add(c)
	admin.add(c)
	namespace.add(c)
	return c
}

func serviceKeys(services []status.Service) []discovery.Key {
	names := make([]string, len(services))
	for i := range services {
		names[i] = services[i].Service
	}
	return namedKeys(names)
}
