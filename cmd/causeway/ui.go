package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/causeway-mesh/causeway/discovery/kubernetes/remote"
	"github.com/causeway-mesh/causeway/xds/admin"
	"github.com/causeway-mesh/causeway/xds/admin/client"
	"github.com/causeway-mesh/causeway/xds/api"
	"github.com/causeway-mesh/causeway/xds/page"
)

// uiPage returns the page of --ui-listen, and who serves it.
func (s *serve) uiPage() (*page.Server, error) {
	o, ui := &s.opts, &s.opts.ui
	ui.Reader, ui.Log = s.plane, s.log
	switch {
	case ui.Listen == "":
	case o.config != "" && ui.Tokens != "":
		// Who has a token is known once there is something to order.
		tokens, err := admin.NewTokens(ui.Tokens, s.commands, s.log)
		if err != nil {
			return nil, err
		}
		ui.Door = page.DoorOf(func(_ context.Context, token string) (*admin.Person, error) { return tokens.Enter(token) })
	case o.config == "":
		config, err := s.restConfig()
		if err != nil {
			return nil, err
		}
		ui.Door = page.DoorOf(remote.NewViewers(config, o.namespace).Enter)
	}
	return page.NewServer(ui)
}

func dashboardCommand() *cobra.Command {
	var a adminFlag
	listen := "127.0.0.1:0"
	c := &cobra.Command{
		Use:   "dashboard",
		Short: "The page of a control plane in a cluster, with your rights",
		Long: `Serve the page of a control plane in a cluster on this host, until Ctrl-C, and
print its address. It is read through a port-forward, and what you press is
done by you: with the credentials of your kubeconfig, as far as your rights in
the cluster reach (docs/page.md).`,
		Args: takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !a.cluster.Given() {
				return errors.New("name the cluster with --context or --kubeconfig; a control plane on this host has its page at its --admin address: http://" + a.address + "/")
			}
			if !isLoopback(listen) {
				return fmt.Errorf("--listen: %s is not a loopback address; whoever reached it would have your rights", listen)
			}
			config, err := a.cluster.Config()
			if err != nil {
				return err
			}
			viewer, err := remote.NewViewer(cmd.Context(), config, a.cluster.Namespace)
			if err != nil {
				return err
			}
			kept := client.Keep(a.client())
			defer kept.Close()
			reader := &api.Remote{Get: func(ctx context.Context, path string, query url.Values, out any) error {
				err := kept.Do(ctx, http.MethodGet, path, query, out)
				if e, ok := errors.AsType[*client.Error](err); ok {
					return &api.Error{Status: e.Status, Text: cmp.Or(e.Text, http.StatusText(e.Status))}
				}
				return err
			}}
			l, err := net.Listen("tcp", listen) //nolint:noctx // it does not wait
			if err != nil {
				return cannotListen("--listen", listen, err)
			}
			return untilTold(page.Own(cmd.Context(), l, reader, viewer, cmd.OutOrStdout()))
		},
	}
	c.Flags().StringVar(&listen, "listen", listen, "loopback address to serve on; port 0 for any that is free")
	a.add(c)
	return c
}
