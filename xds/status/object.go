package status

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/explain"
	"github.com/causeway-mesh/causeway/policy/resolve"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/xds/engine"
	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/server"
	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// Object is an object and what it causes.
type Object struct {
	Object     string      `json:"object"`
	Generation int64       `json:"generation"`
	Conditions []Condition `json:"conditions,omitempty"`
	// Effects are what the object's parts do, one sentence each.
	Effects []string `json:"effects,omitempty"`
	// Resources of Envoy that the object has a part in.
	Resources []Resource `json:"resources,omitempty"`
	void      bool       // nothing of it holds: rules state all of it themselves
	units     []string   // of the snapshot, where proxies may have them as they were
	// State of the object's newest generation: "in force", "tried by canaries",
	// "held back" or "not compiled yet"; "" without a control plane.
	State string `json:"state,omitempty"`
	// Frozen says who has frozen the configuration, "" while nobody has. Effects and Resources are then those
	// from before.
	Frozen string `json:"frozen,omitempty"`
	// Proxies that see any of Resources.
	Proxies []ObjectProxy `json:"proxies,omitempty"`
}

// Condition is a condition as the object's status has it.
type Condition struct {
	// Parent of a route that the condition is about, "" for other kinds.
	Parent  string `json:"parent,omitempty"`
	Type    string `json:"type"`
	Status  string `json:"status"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// Resource is an Envoy resource that an object has a part in.
type Resource struct {
	Type string `json:"type"`
	Name string `json:"name"`
	// SeenBy says which proxies get it.
	SeenBy string `json:"seenBy"`

	visible resource.Visibility
}

// ObjectProxy is one proxy and whether the object is in force there.
type ObjectProxy struct {
	ID    string `json:"id"`
	State string `json:"state"`
}

// ObjectOf returns the effects of an object by compiling the units that it touches. Its row and its conditions
// are those of the catalog; its effects are those in force. It returns an error if there is no such object.
func ObjectOf(r catalog.Reader, name discovery.ObjectName, now engine.InForce, views []snapshot.View) (*Object, error) {
	row, ref := findObject(r, name)
	if row == nil {
		return nil, explain.WrongInput("there is no %s%s", name, sameName(r, name))
	}
	v := &Object{Object: ref.String(), Generation: ref.Generation, Conditions: conditionsOf(r, row)}
	if now.Freeze != nil {
		v.Frozen = strings.ReplaceAll(now.Freeze.Text(), "\n", "; ")
	}
	preview := engine.NewPreview(now.LastGood, views)
	for _, u := range touchedUnits(r, now.Catalog, row, name) {
		m, compiled := preview.Compile(now.Catalog, u)
		v.Effects = append(v.Effects, explain.Effects(now.Catalog, m, ref)...)
		for i := range compiled {
			if c := &compiled[i]; named(c.Provenance, ref) {
				v.Resources = append(v.Resources, Resource{Type: c.Type.String(), Name: c.Name, SeenBy: c.SeenBy(), visible: c.Visible})
			}
		}
	}
	v.void = explain.Void(v.Effects)
	for i := range v.Conditions {
		if c := &v.Conditions[i]; v.void && c.Type == v1alpha1.ConditionAccepted && c.Reason == policy.ReasonAccepted {
			c.Message = "the object is valid, but " + voidText
		}
	}
	return v, nil
}

// voidText is printed for an object that has no effect, though it is accepted and with the proxies.
const voidText = "nothing of it holds: see what it does"

// findObject returns an object's row.
func findObject(r catalog.Reader, name discovery.ObjectName) (row any, ref discovery.ObjectRef) {
	ref = discovery.ObjectRef{Kind: name.Kind, Key: name.Key}
	switch name.Kind {
	case discovery.KindService:
		if s, ok := catalog.Services.Get(r, name.Key.String()); ok {
			ref.Generation = s.Generation
			return s, ref
		}
	default:
		if o, ok := catalog.Objects.Get(r, name.String()); ok {
			return o, o.Ref()
		}
	}
	return nil, ref
}

// sameName tells of objects of the kind and name in other namespaces, or of a similar name.
func sameName(r catalog.Reader, name discovery.ObjectName) string {
	among := catalog.Keys(r, name.Kind)
	var out []string
	for _, k := range among {
		if k.Name == name.Key.Name {
			out = append(out, "-n "+k.Namespace)
		}
	}
	if len(out) == 0 {
		if near := discovery.Meant(name.Key, among); near != (discovery.Key{}) {
			return ": did you mean " + near.String() + "?"
		}
		return ": check the name and -n"
	}
	slices.Sort(out)
	return "; there is one with " + strings.Join(out, ", ")
}

// touchedUnits returns the units that an object is part of, each once, sorted: those of now and those in force.
func touchedUnits(r, inForce catalog.Reader, row any, name discovery.ObjectName) []policy.Unit {
	seen := make(map[policy.Unit]struct{})
	touch := func(r catalog.Reader, row any) {
		resolve.Touched(r, nil, row, func(u policy.Unit) { seen[u] = struct{}{} })
		// Routes of other Services that send requests to it name its clusters.
		switch row := row.(type) {
		case *discovery.Service:
			resolve.Referrers(r, discovery.ObjectName{Kind: discovery.KindService, Key: row.Key}, func(u policy.Unit) { seen[u] = struct{}{} })
		case *discovery.Object:
			resolve.Referrers(r, row.Name(), func(u policy.Unit) { seen[u] = struct{}{} })
		}
	}
	touch(r, row)
	if was, _ := findObject(inForce, name); was != nil && was != row {
		touch(inForce, was)
	}
	return slices.SortedFunc(maps.Keys(seen), func(a, b policy.Unit) int { return cmp.Compare(a.String(), b.String()) })
}

func named(provenance []discovery.ObjectRef, ref discovery.ObjectRef) bool {
	return slices.ContainsFunc(provenance, func(p discovery.ObjectRef) bool { return p.Kind == ref.Kind && p.Key == ref.Key })
}

// conditionsOf returns the conditions of an object's status, without Programmed.
func conditionsOf(r catalog.Reader, row any) []Condition {
	var out []Condition
	add := func(parent string, conditions []metav1.Condition) {
		for _, c := range conditions {
			out = append(out, Condition{parent, c.Type, string(c.Status), c.Reason, c.Message})
		}
	}
	o, ok := row.(*discovery.Object)
	if !ok {
		return out
	}
	status, ok := resolve.StatusOf(r, o)
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

// neverProgrammed are the kinds whose objects no proxy acknowledges.
var neverProgrammed = []string{
	discovery.KindService, discovery.KindConfigMap, discovery.KindReferenceGrant, discovery.KindGatewayClass, discovery.KindSecret,
	discovery.KindNamespace, discovery.KindEndpointSlice,
}

// InForce fills in where the object is in force.
func (v *Object) InForce(name discovery.ObjectName, applied []engine.Applied, progress []server.Progress, proxies []server.ProxyStatus) {
	i := slices.IndexFunc(applied, func(a engine.Applied) bool { return a.Object == name })
	index := uint64(0)
	switch {
	case slices.Contains(neverProgrammed, name.Kind):
		// They have no Programmed condition, and no generation is followed.
	case i < 0:
		v.State = "not compiled yet"
	case applied[i].Frozen:
		v.State = "held back by the freeze: what it was before stays in force"
	case applied[i].Pinned:
		v.State = "held back: a proxy has rejected what it causes, the last good configuration stays"
	case applied[i].Staged:
		v.State = "tried by one proxy of each class first"
	case len(applied[i].HeldFor) > 0:
		v.State = "in force, but " + HeldText(applied[i].HeldFor)
		v.units, index = applied[i].Units, applied[i].Index
	default:
		v.State, index = "in force", applied[i].Index
		if v.void {
			v.State = "in force, but " + voidText
		}
	}
	acknowledged := make(map[string]server.Progress)
	for _, p := range progress {
		acknowledged[p.Node] = p
	}
	for k := range proxies {
		p := &proxies[k]
		at, ok := acknowledged[p.ID]
		if !ok || !slices.ContainsFunc(v.Resources, func(r Resource) bool {
			return at.Sees(&r.visible)
		}) {
			continue
		}
		v.Proxies = append(v.Proxies, ObjectProxy{p.ID, v.stateOn(p, at.Acknowledged, index)})
	}
}

// HeldText names the classes for which something is held back.
func HeldText(classes []snapshot.Class) string {
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

// stateOn tells whether the object is in force on a proxy that has acknowledged everything up to
// an index; index is the one of the object's generation, 0 if that is not known.
func (v *Object) stateOn(p *server.ProxyStatus, acknowledged, index uint64) string {
	for _, s := range p.Types {
		for _, name := range s.Rejected {
			if slices.ContainsFunc(v.Resources, func(r Resource) bool { return r.Type == s.Type && r.Name == name }) {
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
