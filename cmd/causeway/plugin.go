package main

import (
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/causeway-mesh/causeway/discovery/kubernetes/remote"
)

// asPlugin makes the program kubectl's plugin if that is how it was called (kubectl-causeway): its texts
// name what was typed, and commands that know clusters mean kubectl's current one.
func asPlugin(root *cobra.Command, program string) {
	if strings.TrimSuffix(filepath.Base(program), ".exe") != "kubectl-causeway" {
		return
	}
	root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl causeway"}
	var pairs []string
	for _, c := range root.Commands() {
		pairs = append(pairs, "causeway "+c.Name(), "kubectl causeway "+c.Name())
	}
	typed := strings.NewReplacer(pairs...)
	var rename func(*cobra.Command)
	rename = func(c *cobra.Command) {
		c.Long, c.Example = typed.Replace(c.Long), typed.Replace(c.Example)
		for _, sub := range c.Commands() {
			rename(sub)
		}
	}
	rename(root)
	root.PersistentPreRunE = func(c *cobra.Command, _ []string) error { return currentContext(c) }
}

// currentContext names kubectl's current context where a command that can reach a cluster was told no place.
func currentContext(c *cobra.Command) error {
	f := c.Flags()
	if f.Lookup("context") == nil || f.Changed("context") || f.Changed("kubeconfig") || f.Changed("admin") {
		return nil
	}
	name, err := remote.CurrentContext()
	if err != nil {
		return err
	}
	return f.Set("context", name)
}
