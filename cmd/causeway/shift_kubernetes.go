package main

import (
	"github.com/spf13/cobra"

	"github.com/causeway-mesh/causeway/discovery/kubernetes/remote"
)

// kubernetesFlag tells the commands how to reach a cluster's API, with the user's own
// rights.
type kubernetesFlag struct{ remote.Cluster }

func (k *kubernetesFlag) add(c *cobra.Command) {
	c.Flags().StringVar(&k.Kubeconfig, "kubeconfig", "", "kubeconfig file of the cluster that the control plane runs in")
	c.Flags().StringVar(&k.Context, "context", "", "context of the kubeconfig file (of KUBECONFIG or ~/.kube/config without --kubeconfig)")
	c.Flags().StringVar(&k.Namespace, "causeway-namespace", "causeway-system", "in a cluster: the namespace that the control plane runs in")
}
