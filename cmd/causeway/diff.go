package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/file"
	"github.com/causeway-mesh/causeway/policy/diff"
	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/xds/server"
	"github.com/causeway-mesh/causeway/xds/status"
)

// errChanges says that a comparison worked and found differences, which are printed already.
var errChanges = errors.New("there are changes")

func diffCommand() *cobra.Command {
	var output outputFlag
	var admin adminFlag
	var against, prune string
	c := &cobra.Command{
		Use:   "diff DIR",
		Short: "What would change in the mesh if a directory became its state",
		Long: `Say what would change if the objects of a directory were applied: routes,
shares, homes, effective policies, hosts, objects that become invalid, Envoy
resources, and how many proxies would be sent something. Risky changes are
marked with "!". Nothing is changed.

Compared is with a running control plane, or with another directory:

  causeway diff config/ --admin 127.0.0.1:15080
  causeway diff config/ --against released/

Against a control plane, --prune says what becomes of objects that DIR lacks:
"namespaces" (the default) takes them as deleted in the namespaces that DIR has
objects in, "all" everywhere, "none" nowhere, as kubectl apply does. Services,
ConfigMaps and EndpointSlices are pruned only where DIR has any of the kind.
Instances, recorded homes and cluster IPs are always those of the control plane.

Exit status: 0 no change, or edits without effect, 2 changes, 1 it could not be
compared.`,
		Args: takes(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if against != "" && (cmd.Flags().Changed("admin") || cmd.Flags().Changed("prune")) {
				return errors.New("--against: it compares two directories, so --admin and --prune have no meaning: leave them out")
			}
			how := diff.PruneEverything
			if against == "" {
				var err error
				if how, err = diff.ParsePrune(prune); err != nil {
					return fmt.Errorf("--prune: %w", err)
				}
			}
			dir, err := loadWhole(args[0])
			if err != nil {
				return err
			}
			var now *catalog.Catalog
			var state diff.State
			var proxies []server.ProxyStatus
			if against != "" {
				now, err = loadWhole(against)
			} else if now, err = liveState(cmd, &admin, &state); err == nil {
				proxies, err = admin.api().ProxyStatuses(cmd.Context())
			}
			if err != nil {
				return err
			}
			v, err := status.PlanOf(now.Read(), dir.Read(), how, state.LastGood(), server.Views(proxies))
			if err != nil {
				return err
			}
			v.Connected, v.Freeze = len(proxies), state.Freeze
			if err := output.print(cmd, v, func(t *phrase.Table) { v.Print(t) }); err != nil {
				return err
			}
			if !v.Without() || len(v.Resources) > 0 {
				return errChanges
			}
			return nil
		},
	}
	c.Flags().StringVar(&against, "against", "", "directory to compare with instead of a control plane")
	c.Flags().StringVar(&prune, "prune", string(diff.PruneNamespaces), "where objects that DIR lacks are taken as deleted: namespaces, all or none")
	admin.add(c)
	output.add(c)
	return c
}

// liveState asks a control plane for its state.
func liveState(cmd *cobra.Command, admin *adminFlag, out *diff.State) (*catalog.Catalog, error) {
	if err := admin.do(cmd.Context(), http.MethodGet, "/v1/state", url.Values{}, out); err != nil {
		return nil, err
	}
	return out.Catalog()
}

// loadWhole reads a directory without mistakes. A file with a mistake is left
// out as a whole, and its objects would look deleted.
func loadWhole(dir string) (*catalog.Catalog, error) {
	cat := catalog.New()
	loaded, err := file.Load(dir, cat)
	if err != nil {
		return nil, err
	}
	if n := len(loaded.Problems); n > 0 {
		return nil, fmt.Errorf("%s has mistakes, so it cannot be compared: %w (%d in all: 'causeway validate %s' lists them)",
			dir, loaded.Problems[0], n, dir)
	}
	return cat, nil
}
