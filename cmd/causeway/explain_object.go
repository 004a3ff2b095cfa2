package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/objects"
	"github.com/causeway-mesh/causeway/policy/explain"
	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/xds/engine"
	"github.com/causeway-mesh/causeway/xds/status"
)

func explainObjectCommand() *cobra.Command {
	var output outputFlag
	var state stateFlags
	var namespace string
	c := &cobra.Command{
		Use:   "object KIND/NAME",
		Short: "What config an object causes, and on which proxies it is in force",
		Long: `Say what an object causes: its conditions, what each part of it does, the
Envoy resources that come from it, and which connected proxies have them.

  causeway explain object httproute/shop -n web
  causeway explain object tp/slow -n web --config manifests/examples

Exit status: 0 found, 1 it could not be found out, or there is no such kind or
object.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return explain.WrongInput("give one object as KIND/NAME, for example httproute/shop")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := parseObject(args[0], namespace)
			if err != nil {
				return err
			}
			v, err := state.explainObject(cmd, name)
			if err != nil {
				return err
			}
			return output.print(cmd, v, func(t *phrase.Table) { describeObject(t, v) })
		},
	}
	c.Flags().StringVarP(&namespace, "namespace", "n", objects.DefaultNamespace, "the object's namespace")
	state.add(c)
	output.add(c)
	return c
}

// parseObject reads KIND/NAME.
func parseObject(text, namespace string) (discovery.ObjectName, error) {
	kind, name, ok := strings.Cut(text, "/")
	if !ok || kind == "" || name == "" {
		return discovery.ObjectName{}, explain.WrongInput("%q is not KIND/NAME, for example httproute/shop", text)
	}
	lower := strings.ToLower(kind)
	var known []string
	for _, k := range objects.Kinds() {
		if k.Name == discovery.KindNamespace || k.Name == discovery.KindEndpointSlice {
			continue // they say nothing that proxies are told by itself
		}
		if lower == strings.ToLower(k.Name) || lower == k.Resource || lower == k.Short {
			out := discovery.ObjectName{Kind: k.Name, Key: discovery.Key{Namespace: namespace, Name: name}}
			if !k.Namespaced {
				out.Namespace = ""
			}
			return out, nil
		}
		known = append(known, k.Name)
	}
	return discovery.ObjectName{}, explain.WrongInput("%q is not a kind that the mesh reads: %s", kind, strings.Join(known, ", "))
}

func (s *stateFlags) explainObject(cmd *cobra.Command, name discovery.ObjectName) (*status.Object, error) {
	if s.config == "" {
		v, err := s.admin.api().Object(cmd.Context(), name)
		return v, asInput(err)
	}
	r, err := s.load(cmd)
	if err != nil {
		return nil, err
	}
	return status.ObjectOf(r, name, engine.InForce{Catalog: r}, nil)
}

// describeObject prints what an object causes for a person.
func describeObject(t *phrase.Table, v *status.Object) {
	t.Row("Object:", fmt.Sprintf("%s, generation %d", v.Object, v.Generation))
	if v.State != "" {
		t.Row("State:", v.State)
	}
	if v.Frozen != "" {
		t.Row("Frozen:", v.Frozen)
	}
	if len(v.Conditions) > 0 {
		t.Section("Conditions:")
		for _, c := range v.Conditions {
			name := c.Type
			if c.Parent != "" {
				name = c.Parent + " " + name
			}
			t.Cells("  "+name, c.Status, c.Reason, c.Message)
		}
	}
	t.Section("What it does:")
	if len(v.Effects) == 0 {
		t.Text("  nothing by itself")
	}
	for _, e := range v.Effects {
		t.Text("  " + e)
	}
	t.Section("In Envoy:")
	if len(v.Resources) == 0 {
		t.Text("  nothing comes from it")
	}
	for _, r := range v.Resources {
		t.Cells("  "+r.Type, r.Name, r.SeenBy)
	}
	if v.State == "" && len(v.Proxies) == 0 {
		return
	}
	t.Section("Proxies:")
	if len(v.Proxies) == 0 {
		t.Text("  none is connected that sees any of this")
	}
	for _, p := range v.Proxies {
		t.Cells("  "+p.ID, p.State)
	}
}
