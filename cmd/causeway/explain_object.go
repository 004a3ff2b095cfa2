package main

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/objects"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/xds/compile"
	"github.com/causeway-mesh/causeway/xds/engine"
	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/server"
	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// objectView is what an object causes.
type objectView struct {
	Object     string          `json:"object"`
	Generation int64           `json:"generation"`
	Conditions []conditionView `json:"conditions,omitempty"`
	// Effects are what the object's parts do, one sentence each.
	Effects []string `json:"effects,omitempty"`
	// Resources of Envoy that the object has a part in.
	Resources []resourceView `json:"resources,omitempty"`
	units     []string       // of the snapshot, where proxies may have them as they were
	// State of the object's newest generation: "in force", "tried by canaries",
	// "held back" or "not compiled yet"; "" without a control plane.
	State string `json:"state,omitempty"`
	// Proxies that see any of Resources.
	Proxies []objectProxy `json:"proxies,omitempty"`
}

// conditionView is a condition as the object's status has it.
type conditionView struct {
	// Parent of a route that the condition is about, "" for other kinds.
	Parent  string `json:"parent,omitempty"`
	Type    string `json:"type"`
	Status  string `json:"status"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// resourceView is an Envoy resource that an object has a part in.
type resourceView struct {
	Type string `json:"type"`
	Name string `json:"name"`
	// SeenBy says which proxies get it.
	SeenBy string `json:"seenBy"`

	visible resource.Visibility
}

// objectProxy is one proxy and whether the object is in force there.
type objectProxy struct {
	ID    string `json:"id"`
	State string `json:"state"`
}

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

Exit status: 0 found, 2 wrong input (no such kind or object), 1 it could not be found out.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return wrongInput("give one object as KIND/NAME, for example httproute/shop")
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
			return output.print(cmd, v, func(t *table) { describeObject(t, v) })
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
		return discovery.ObjectName{}, wrongInput("%q is not KIND/NAME, for example httproute/shop", text)
	}
	lower := strings.ToLower(kind)
	var known []string
	for _, k := range objects.Kinds() {
		if k.Name == "Namespace" || k.Name == "EndpointSlice" {
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
	return discovery.ObjectName{}, wrongInput("%q is not a kind that the mesh reads: %s", kind, strings.Join(known, ", "))
}

func (s *stateFlags) explainObject(cmd *cobra.Command, name discovery.ObjectName) (*objectView, error) {
	if s.config == "" {
		var v objectView
		query := url.Values{"kind": {name.Kind}, "namespace": {name.Namespace}, "name": {name.Key.Name}}
		return &v, asInput(s.admin.do(cmd.Context(), http.MethodGet, "/v1/explain/object", query, &v))
	}
	r, err := s.load(cmd)
	if err != nil {
		return nil, err
	}
	return viewObject(r, name, nil)
}

// explainObject serves GET /v1/explain/object.
func (s *serve) explainObject(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	name := discovery.ObjectName{Kind: q.Get("kind"), Key: discovery.Key{Namespace: q.Get("namespace"), Name: q.Get("name")}}
	proxies := s.xds.Proxies()
	v, err := viewObject(s.catalog.Read(), name, declared(proxies))
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	v.inForce(name, s.engine.Applied(), s.xds.Progress(), proxies)
	writeJSON(w, v)
}

// viewObject finds out what an object causes, by compiling what it touches.
// listeners are those that proxies of Gateways have declared.
func viewObject(r catalog.Reader, name discovery.ObjectName, listeners map[discovery.Key][]string) (*objectView, error) {
	row, ref := findObject(r, name)
	if row == nil {
		return nil, wrongInput("there is no %s%s", name, sameName(r, name))
	}
	v := &objectView{Object: ref.String(), Generation: ref.Generation, Conditions: conditionsOf(r, row, name)}
	compiler := compile.New()
	for _, u := range touchedUnits(r, row) {
		var compiled []resource.Resource
		switch u.Kind {
		case "Service":
			if m := policy.BuildService(r, u.Key); m != nil {
				compiled = compiler.Service(m)
				v.Effects = append(v.Effects, serviceEffects(m, ref)...)
			}
		case "ExternalService":
			if m := policy.BuildExternal(r, u.Key); m != nil {
				compiled = compiler.External(m)
				v.Effects = append(v.Effects, externalEffects(m, ref)...)
			}
		case "Gateway":
			if m := policy.BuildGateway(r, u.Key); m != nil {
				compiled = compileGateway(r, compiler, m, listeners[u.Key])
				v.Effects = append(v.Effects, gatewayEffects(r, m, ref)...)
			}
		case "Mesh":
			compiled = compiler.Mesh(policy.BuildMesh(r))
		}
		for i := range compiled {
			if c := &compiled[i]; named(c.Provenance, ref) {
				v.Resources = append(v.Resources, resourceView{Type: c.Type.String(), Name: c.Name, SeenBy: seenBy(c), visible: c.Visible})
			}
		}
	}
	return v, nil
}

// findObject returns an object's row.
func findObject(r catalog.Reader, name discovery.ObjectName) (row any, ref discovery.ObjectRef) {
	ref = discovery.ObjectRef{Kind: name.Kind, Key: name.Key}
	switch name.Kind {
	case "Service":
		if s, ok := catalog.Services.Get(r, name.Key.String()); ok {
			ref.Generation = s.Generation
			return s, ref
		}
	case "InstanceGroup":
		if g, ok := catalog.InstanceGroups.Get(r, name.Key.String()); ok {
			ref.Generation = g.Object.Generation
			return g, ref
		}
	default:
		if o, ok := catalog.Objects.Get(r, name.String()); ok {
			return o, o.Ref()
		}
	}
	return nil, ref
}

// sameName tells of objects of the kind and name in other namespaces.
func sameName(r catalog.Reader, name discovery.ObjectName) string {
	var out []string
	add := func(kind string, k discovery.Key) {
		if kind == name.Kind && k.Name == name.Key.Name {
			out = append(out, "-n "+k.Namespace)
		}
	}
	for s := range catalog.Services.All(r) {
		add("Service", s.Key)
	}
	for g := range catalog.InstanceGroups.All(r) {
		add("InstanceGroup", g.Key)
	}
	for o := range catalog.Objects.All(r) {
		add(o.Kind, o.Key)
	}
	if len(out) == 0 {
		return ""
	}
	slices.Sort(out)
	return "; there is one with " + strings.Join(out, ", ")
}

// touchedUnits returns the units that a row has a part in, each once, sorted.
func touchedUnits(r catalog.Reader, row any) []policy.Unit {
	seen := make(map[policy.Unit]struct{})
	policy.Touched(r, nil, row, func(u policy.Unit) { seen[u] = struct{}{} })
	// Routes of other Services that send requests to it name its clusters.
	switch row := row.(type) {
	case *discovery.Service:
		policy.Referrers(r, discovery.ObjectName{Kind: "Service", Key: row.Key}, func(u policy.Unit) { seen[u] = struct{}{} })
	case *discovery.Object:
		policy.Referrers(r, row.Name(), func(u policy.Unit) { seen[u] = struct{}{} })
	}
	var out []policy.Unit
	for u := range seen {
		out = append(out, u)
	}
	slices.SortFunc(out, func(a, b policy.Unit) int { return cmp.Compare(a.String(), b.String()) })
	return out
}

func named(provenance []discovery.ObjectRef, ref discovery.ObjectRef) bool {
	return slices.ContainsFunc(provenance, func(p discovery.ObjectRef) bool { return p.Kind == ref.Kind && p.Key == ref.Key })
}

func seenBy(r *resource.Resource) string {
	s := "all proxies"
	switch {
	case r.Visible.Gateway != "":
		s = "every proxy of Gateway " + r.Visible.Gateway
	case r.Visible.Role != "":
		s = "every " + string(r.Visible.Role)
	}
	if r.Visible.Declared != "" {
		s += " that declares " + r.Visible.Declared
	}
	if r.Visible.Namespace != "" {
		s += " of namespace " + r.Visible.Namespace
	}
	if len(r.ByNamespace) > 0 {
		var of []string
		for ns := range r.ByNamespace {
			of = append(of, ns)
		}
		slices.Sort(of)
		s += "; a variant of its own in namespace " + strings.Join(of, ", ")
	}
	return s
}

// conditionsOf returns the conditions of an object's status, without Programmed.
func conditionsOf(r catalog.Reader, row any, name discovery.ObjectName) []conditionView {
	var out []conditionView
	add := func(parent string, conditions []metav1.Condition) {
		for _, c := range conditions {
			out = append(out, conditionView{parent, c.Type, string(c.Status), c.Reason, c.Message})
		}
	}
	if name.Kind == "InstanceGroup" {
		add("", policy.InstanceGroupConditions(r, name.Key))
	}
	o, ok := row.(*discovery.Object)
	if !ok {
		return out
	}
	status, ok := policy.StatusOf(r, o)
	if !ok {
		return out
	}
	add("", status.Conditions)
	for i := range status.Parents {
		p := &status.Parents[i].ParentRef
		parent := string(p.Name)
		if p.Namespace != nil {
			parent = string(*p.Namespace) + "/" + parent
		}
		if p.Port != nil {
			parent += fmt.Sprintf(":%d", *p.Port)
		}
		add(parent, status.Parents[i].Conditions)
	}
	for i := range status.Ancestors {
		add(string(status.Ancestors[i].AncestorRef.Name), status.Ancestors[i].Conditions)
	}
	return out
}

// inForce fills in where the object is in force.
func (v *objectView) inForce(name discovery.ObjectName, applied []engine.Applied, progress []server.Progress, proxies []server.ProxyStatus) {
	i := slices.IndexFunc(applied, func(a engine.Applied) bool { return a.Object == name })
	index := uint64(0)
	switch {
	case slices.Contains([]string{"Service", "ConfigMap", "ReferenceGrant", "GatewayClass", "Secret"}, name.Kind):
		// They have no Programmed condition, and no generation is followed.
	case i < 0:
		v.State = "not compiled yet"
	case applied[i].Pinned:
		v.State = "held back: a proxy has rejected what it causes, the last good configuration stays"
	case applied[i].Staged:
		v.State = "tried by one proxy of each class first"
	case len(applied[i].HeldFor) > 0:
		v.State = "in force, but " + heldText(applied[i].HeldFor)
		v.units, index = applied[i].Units, applied[i].Index
	default:
		v.State, index = "in force", applied[i].Index
	}
	acknowledged := make(map[string]server.Progress)
	for _, p := range progress {
		acknowledged[p.Node] = p
	}
	for k := range proxies {
		p := &proxies[k]
		at, ok := acknowledged[p.ID]
		if !ok || !slices.ContainsFunc(v.Resources, func(r resourceView) bool {
			return at.Sees(r.visible)
		}) {
			continue
		}
		v.Proxies = append(v.Proxies, objectProxy{p.ID, v.stateOn(p, at.Acknowledged, index)})
	}
}

// heldText says for whom something is held back.
func heldText(classes []snapshot.Class) string {
	var names []string
	for i, c := range classes {
		if i == 3 {
			names = append(names, fmt.Sprintf("%d more", len(classes)-i))
			break
		}
		names = append(names, c.String())
	}
	return "held back for " + strings.Join(names, ", ") + ", because one of them rejected it: they keep the last good configuration"
}

// stateOn says whether the object is in force on a proxy that has acknowledged
// everything up to an index; index is where the object's generation came, 0 if that is not known.
func (v *objectView) stateOn(p *server.ProxyStatus, acknowledged, index uint64) string {
	for _, s := range p.Types {
		for _, name := range s.Rejected {
			if slices.ContainsFunc(v.Resources, func(r resourceView) bool { return r.Type == s.Type && r.Name == name }) {
				return fmt.Sprintf("rejected: %s %s: %s", s.Type, name, s.Error)
			}
		}
	}
	switch {
	case slices.ContainsFunc(p.HeldBack, func(unit string) bool { return slices.Contains(v.units, unit) }):
		return "held back: a proxy like it has rejected what it causes, and it has the last good configuration"
	case v.State != "" && !strings.HasPrefix(v.State, "in force"):
		return v.State
	case index > acknowledged || (index == 0 && !p.InSync):
		return "sent, not acknowledged yet"
	}
	return "in force"
}

// describeObject prints what an object causes for a person.
func describeObject(t *table, v *objectView) {
	t.row("Object:", fmt.Sprintf("%s, generation %d", v.Object, v.Generation))
	if v.State != "" {
		t.row("State:", v.State)
	}
	if len(v.Conditions) > 0 {
		section(t, "Conditions:")
		for _, c := range v.Conditions {
			name := c.Type
			if c.Parent != "" {
				name = c.Parent + " " + name
			}
			t.cells("  "+name, c.Status, c.Reason, c.Message)
		}
	}
	section(t, "What it does:")
	if len(v.Effects) == 0 {
		t.text("  nothing by itself")
	}
	for _, e := range v.Effects {
		t.text("  " + e)
	}
	section(t, "In Envoy:")
	if len(v.Resources) == 0 {
		t.text("  nothing comes from it")
	}
	for _, r := range v.Resources {
		t.cells("  "+r.Type, r.Name, r.SeenBy)
	}
	if v.State == "" && len(v.Proxies) == 0 {
		return
	}
	section(t, "Proxies:")
	if len(v.Proxies) == 0 {
		t.text("  none is connected that sees any of this")
	}
	for _, p := range v.Proxies {
		t.cells("  "+p.ID, p.State)
	}
}
