package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/causeway-mesh/causeway/discovery"
)

// namespaceFlag lets a command take NAME and -n NAMESPACE, as in kubectl, beside
// NAMESPACE/NAME.
type namespaceFlag struct{ namespace string }

func (n *namespaceFlag) add(c *cobra.Command) {
	c.Flags().StringVarP(&n.namespace, "namespace", "n", "", "namespace of a name that is given without one")
}

// key returns the object of a kind that an argument names.
func (n *namespaceFlag) key(arg, kind string) (discovery.Key, error) {
	namespace, name, both := strings.Cut(arg, "/")
	if !both {
		namespace, name = n.namespace, arg
	}
	switch {
	case name == "" || strings.Contains(name, "/") || both && namespace == "":
		return discovery.Key{}, fmt.Errorf("%s: %q is not NAMESPACE/NAME, such as web/php-web", kind, arg)
	case namespace == "":
		return discovery.Key{}, fmt.Errorf("%s %s: the namespace is missing: write NAMESPACE/%s, or add -n NAMESPACE", kind, arg, arg)
	case both && n.namespace != "" && n.namespace != namespace:
		return discovery.Key{}, fmt.Errorf("%s names the namespace %s and -n the namespace %s: leave one out", arg, namespace, n.namespace)
	}
	return discovery.Key{Namespace: namespace, Name: name}, nil
}

// completionPatience is how long a shell waits for names.
const completionPatience = 2 * time.Second

// completer completes an argument with the names that a list has.
func completer(n *namespaceFlag, list func(context.Context) ([]discovery.Key, error)) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionPatience)
		defer cancel()
		keys, err := list(ctx)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var out []cobra.Completion
		for _, k := range keys {
			switch n.namespace {
			case "":
				out = append(out, k.String())
			case k.Namespace:
				out = append(out, k.Name)
			}
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
}
