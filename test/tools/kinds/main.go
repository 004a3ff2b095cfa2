// Command kinds tells `make generate` what the list of kinds (objects.Kinds) says.
//
//	kinds ours                the plural names of our own kinds
//	kinds gateway             those of the Gateway API's kinds
//	kinds manifests DIRECTORY writes them into the manifests that name kinds: the CRDs of
//	                          the kustomization, and the rules of our own in the chart's ClusterRole
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery/objects"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "kinds:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case slices.Equal(args, []string{"ours"}):
		fmt.Fprintln(os.Stdout, strings.Join(resources(v1alpha1.Group), " "))
	case slices.Equal(args, []string{"gateway"}):
		fmt.Fprintln(os.Stdout, strings.Join(resources(gatewayv1.GroupName), " "))
	case len(args) == 2 && args[0] == "manifests":
		if err := rewrite(filepath.Join(args[1], "kustomization.yaml"), kustomization); err != nil {
			return err
		}
		return rewrite(filepath.Join(args[1], "chart", "templates", "rbac.yaml"), rules)
	default:
		return errors.New("usage: kinds ours, kinds gateway, or kinds manifests DIRECTORY")
	}
	return nil
}

func rewrite(name string, change func(string) (string, error)) error {
	old, err := os.ReadFile(name) //nolint:gosec // the repository's own
	if err != nil {
		return err
	}
	text, err := change(string(old))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if text == string(old) {
		return nil
	}
	return os.WriteFile(name, []byte(text), 0o644) //nolint:gosec // a manifest, which everyone may read
}

// resources returns the plural names of the kinds of an API group, in the order of the list.
func resources(group string) []string {
	var out []string
	for _, k := range objects.Kinds() {
		if strings.HasPrefix(k.APIVersion, group+"/") {
			out = append(out, k.Resource)
		}
	}
	return out
}

var crds = regexp.MustCompile(`(?m)(^- crds/.*\n)+`)

func kustomization(text string) (string, error) {
	var lines strings.Builder
	for _, resource := range slices.Sorted(slices.Values(resources(v1alpha1.Group))) {
		fmt.Fprintf(&lines, "- crds/%s_%s.yaml\n", v1alpha1.Group, resource)
	}
	return replaceOne(text, crds, lines.String())
}

var (
	read  = regexp.MustCompile(`(- apiGroups: \[mesh\.causeway\.dev\]\n  resources: )\[[^\]/]+\](\n  verbs: \[get, list, watch\]\n)`)
	write = regexp.MustCompile(`(- apiGroups: \[mesh\.causeway\.dev\]\n  resources: )\[[^\]]+/status\](\n  verbs: \[patch\]\n)`)
)

func rules(text string) (string, error) {
	text, err := replaceOne(text, read, "${1}["+strings.Join(resources(v1alpha1.Group), ", ")+"]${2}")
	if err != nil {
		return "", err
	}
	return replaceOne(text, write, "${1}["+strings.Join(resources(v1alpha1.Group), "/status, ")+"/status]${2}")
}

// replaceOne replaces the only place that a pattern matches.
func replaceOne(text string, pattern *regexp.Regexp, by string) (string, error) {
	if n := len(pattern.FindAllString(text, -1)); n != 1 {
		return "", fmt.Errorf("%d places match %s, and there must be one", n, pattern)
	}
	return pattern.ReplaceAllString(text, by), nil
}
