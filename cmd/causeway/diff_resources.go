package main

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/diff"
	"github.com/causeway-mesh/causeway/xds/compile"
	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/server"
)

// resourceChange is an Envoy resource that would be sent anew or be removed.
type resourceChange struct {
	Action diff.Action `json:"action"`
	Type   string      `json:"type"`
	Name   string      `json:"name"`
	// SeenBy says which proxies get it.
	SeenBy string `json:"seenBy"`
	// Bytes that a proxy gets, the most of all variants; 0 for one that is removed.
	Bytes int `json:"bytes"`

	before, after *resource.Resource
}

// proxyView is what proxies of one role, namespace and zone have in common.
type proxyView struct {
	Role      string `json:"role"`
	Namespace string `json:"namespace"`
	Zone      string `json:"zone,omitempty"`
	// Proxies that are connected.
	Proxies int `json:"proxies"`
	// Resources that each of them would be sent anew, or lose.
	Resources int `json:"resources"`
	Bytes     int `json:"bytes"`
}

type resourceID struct {
	kind resource.Type
	name string
}

// compileAll compiles everything that does not depend on which proxies are
// connected. Listeners that proxies declare follow the Services that they lead to.
func compileAll(r catalog.Reader) map[resourceID]*resource.Resource {
	compiler := compile.New()
	out := make(map[resourceID]*resource.Resource)
	add := func(resources []resource.Resource) {
		for i := range resources {
			out[resourceID{resources[i].Type, resources[i].Name}] = &resources[i]
		}
	}
	for s := range catalog.Services.All(r) {
		if m := policy.BuildService(r, s.Key); m != nil {
			add(compiler.Service(m))
		}
	}
	for o := range catalog.Objects.By(r, catalog.ByKind, "ExternalService") {
		if m := policy.BuildExternal(r, o.Key); m != nil {
			add(compiler.External(m))
		}
	}
	add(compiler.Mesh(policy.BuildMesh(r)))
	return out
}

// diffResources compares what is compiled from two states, by type and name.
func diffResources(before, after catalog.Reader) []resourceChange {
	old, now := compileAll(before), compileAll(after)
	ids := maps.Clone(old)
	maps.Copy(ids, now)
	out := []resourceChange{}
	for _, id := range slices.SortedFunc(maps.Keys(ids), func(a, b resourceID) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), strings.Compare(a.name, b.name))
	}) {
		c := resourceChange{Type: id.kind.String(), Name: id.name, before: old[id], after: now[id]}
		switch {
		case c.before == nil:
			c.Action = diff.Added
		case c.after == nil:
			c.Action = diff.Removed
		case !sameResource(c.before, c.after):
			c.Action = diff.Changed
		default:
			continue
		}
		c.SeenBy = seenBy(cmp.Or(c.after, c.before))
		if c.after != nil {
			c.Bytes = c.after.Body.Len()
			for _, variants := range []map[string]resource.Parts{c.after.ByZone, c.after.ByNamespace} {
				for _, v := range variants {
					c.Bytes = max(c.Bytes, v.Len())
				}
			}
		}
		out = append(out, c)
	}
	return out
}

func sameResource(a, b *resource.Resource) bool {
	same := func(a, b resource.Parts) bool { return bytes.Equal(a.Bytes(), b.Bytes()) }
	return a.Visible == b.Visible && same(a.Body, b.Body) &&
		maps.EqualFunc(a.ByZone, b.ByZone, same) && maps.EqualFunc(a.ByNamespace, b.ByNamespace, same)
}

// bodyFor is what a proxy gets of a resource, nil for nothing.
func bodyFor(r *resource.Resource, v *proxyView) []byte {
	if r == nil || r.Visible.Role != "" && string(r.Visible.Role) != v.Role ||
		r.Visible.Namespace != "" && r.Visible.Namespace != v.Namespace || r.Visible.Declared != "" {
		return nil
	}
	if body, ok := r.ByNamespace[v.Namespace]; ok {
		return body.Bytes()
	}
	if body, ok := r.ByZone[v.Zone]; ok {
		return body.Bytes()
	}
	return r.Body.Bytes()
}

// touched returns the views whose proxies would be sent something.
func touched(changes []resourceChange, proxies []server.ProxyStatus) []proxyView {
	views := make(map[proxyView]int)
	for i := range proxies {
		p := &proxies[i]
		_, rest, _ := strings.Cut(p.ID, "~")
		namespace, _, _ := strings.Cut(rest, "~")
		views[proxyView{Role: string(p.Role), Namespace: namespace, Zone: p.Zone}]++
	}
	out := []proxyView{}
	for v, n := range views {
		v.Proxies = n
		for i := range changes {
			before, after := bodyFor(changes[i].before, &v), bodyFor(changes[i].after, &v)
			if !bytes.Equal(before, after) {
				v.Resources++
				v.Bytes += len(after)
			}
		}
		if v.Resources > 0 {
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(a, b proxyView) int {
		return cmp.Or(cmp.Compare(a.Role, b.Role), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Zone, b.Zone))
	})
	return out
}
