package main

import (
	"context"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/causeway-mesh/causeway/xds/admin/client"
	"github.com/causeway-mesh/causeway/xds/api"
)

// adminFlag tells the commands where a running control plane is: at an address,
// or in a cluster, reached through a port-forward.
type adminFlag struct {
	address string
	cluster kubernetesFlag
}

func (a *adminFlag) add(c *cobra.Command) {
	a.addAddress(c)
	a.cluster.add(c)
}

// addAddress adds the flag for the address alone: for commands that ask the cluster's
// API themselves.
func (a *adminFlag) addAddress(c *cobra.Command) {
	c.Flags().StringVar(&a.address, "admin", defaultAdminListen, "address of the control plane's admin API, where it is on this host")
}

func (a *adminFlag) client() *client.Client {
	return &client.Client{Address: a.address, Cluster: a.cluster.Cluster}
}

// api asks the control plane by its API.
func (a *adminFlag) api() *api.Remote {
	c := a.client()
	return &api.Remote{Get: func(ctx context.Context, path string, query url.Values, out any) error {
		return c.Do(ctx, http.MethodGet, path, query, out)
	}}
}

// do sends a request to the admin API and decodes its answer into out.
func (a *adminFlag) do(ctx context.Context, method, path string, query url.Values, out any) error {
	return a.client().Do(ctx, method, path, query, out)
}
