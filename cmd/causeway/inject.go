package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/causeway-mesh/causeway/discovery/kubernetes/inject"
)

func injectCommand() *cobra.Command {
	o := inject.Offline{Version: version}
	c := &cobra.Command{
		Use:   "inject -f FILE",
		Short: "Make the pods in YAML files members of the mesh, offline",
		Long: `Print YAML with the agent and Envoy in its pods, as a native sidecar: of Pods,
Deployments, StatefulSets, DaemonSets, ReplicaSets, Jobs, CronJobs and Argo
Rollouts, also within a List. What has no pods stays as it is, byte for byte,
and so do the lines of what is injected; what is written in one line or with
aliases is written anew, without its comments.

No namespace needs the label mesh.causeway.dev/inject; a pod that has it with
"false" is left alone. A Namespace in the file is looked at for the rest. What
was injected is told on the standard error.

Exit status: 0 all are injected or want not to be; 2 one cannot be, and nothing
is printed; 1 the file cannot be read.`,
		Example: `  causeway inject --config inject.yaml -f deployment.yaml | kubectl apply -f -
  helm template ./chart | causeway inject --config inject.yaml -f -`,
		Args: takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			out, notes, err := o.Run(cmd.InOrStdin())
			if err != nil {
				return err
			}
			text, refused := inject.Told(notes)
			fmt.Fprint(cmd.ErrOrStderr(), text)
			if refused {
				return errFindings
			}
			_, err = cmd.OutOrStdout().Write(out)
			return err
		},
	}
	f := c.Flags()
	f.StringVarP(&o.File, "filename", "f", "-", "file to read, or - for the standard input")
	f.StringVar(&o.ConfigFile, "config", "inject.yaml", "file with the configuration of injection")
	f.StringVar(&o.SystemNamespace, "system-namespace", "causeway-system", "the control plane's own namespace")
	f.StringVarP(&o.Namespace, "namespace", "n", "default", "namespace of objects that name none")
	return c
}
