package main

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/diff"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/xds/compile"
	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/server"
	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// resourceChange is an Envoy resource that would be sent anew or be removed.
type resourceChange struct {
	Action diff.Action `json:"action"`
	Type   string      `json:"type"`
	Name   string      `json:"name"`
	// SeenBy says which proxies get it.
	SeenBy string `json:"seenBy"`
	// Bytes that a proxy gets, the most of all variants; 0 for one that is removed, and for secrets.
	Bytes int `json:"bytes"`

	before, after *resource.Resource
}

// proxyView is what proxies of one role, namespace and zone have in common.
type proxyView struct {
	Role      string `json:"role"`
	Namespace string `json:"namespace"`
	// Gateway that the proxies are of, "" for those of the role sidecar.
	Gateway string `json:"gateway,omitempty"`
	Zone    string `json:"zone,omitempty"`
	// Proxies that are connected.
	Proxies int `json:"proxies"`
	// Resources that each of them would be sent anew, or lose.
	Resources int `json:"resources"`
	Bytes     int `json:"bytes"`

	// sees is a view of these proxies.
	sees snapshot.View
}

type resourceID struct {
	kind resource.Type
	name string
}

// compileAll compiles everything that does not depend on which proxies are
// connected, and the listeners of Gateways that they have declared. Those that
// sidecars declare follow the Services that they lead to.
func compileAll(r catalog.Reader, listeners map[discovery.Key][]string) map[resourceID]*resource.Resource {
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
	for o := range catalog.Objects.By(r, catalog.ByKind, "Gateway") {
		if m := policy.BuildGateway(r, o.Key); m != nil {
			add(compileGateway(r, compiler, m, listeners[o.Key]))
		}
	}
	add(compiler.Mesh(policy.BuildMesh(r)))
	return out
}

// compileGateway compiles a Gateway and the listeners that its proxies have declared.
func compileGateway(r catalog.Reader, compiler *compile.Compiler, m *policy.Gateway, listeners []string) []resource.Resource {
	out := append(compiler.Gateway(m), discreet(r, m, compiler.Certificates(m))...)
	for _, text := range listeners {
		if d, err := naming.ParseDeclaration(text); err == nil {
			out = append(out, compiler.GatewayListeners(d, m)...)
		}
	}
	return out
}

// discreet returns the secrets of a Gateway with a fingerprint in place of what
// is in them: which certificate it is counts, and its key is not to be looked at.
func discreet(r catalog.Reader, m *policy.Gateway, secrets []resource.Resource) []resource.Resource {
	texts := make(map[string]string, len(m.Certificates))
	for i := range m.Certificates {
		texts[m.Certificates[i].Name] = diff.CertificateText(r, &m.Certificates[i])
	}
	out := make([]resource.Resource, 0, len(secrets))
	for _, s := range secrets {
		name := strings.TrimPrefix(s.Name, "certificate/"+m.Key.String()+"/")
		s.Body, s.ByZone, s.ByNamespace = resource.Parts{[]byte(texts[name])}, nil, nil
		out = append(out, s)
	}
	return out
}

// declared returns what proxies ask for in their node metadata of each Gateway.
func declared(proxies []server.ProxyStatus) map[discovery.Key][]string {
	out := make(map[discovery.Key][]string)
	for i := range proxies {
		for _, text := range proxies[i].Listeners {
			if d, err := naming.ParseDeclaration(text); err == nil && d.IsGateway() && !slices.Contains(out[d.Gateway], text) {
				out[d.Gateway] = append(out[d.Gateway], text)
			}
		}
	}
	return out
}

// diffResources compares what is compiled from two states, by type and name.
func diffResources(before, after catalog.Reader, proxies []server.ProxyStatus) []resourceChange {
	listeners := declared(proxies)
	old, now := compileAll(before, listeners), compileAll(after, listeners)
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
		if c.after != nil && id.kind != resource.Secret {
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
	if r == nil || !v.sees.Sees(r.Visible) {
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
	views := make(map[string]*proxyView)
	for i := range proxies {
		p := &proxies[i]
		v := &proxyView{Role: string(p.Role), Namespace: p.Namespace, Zone: p.Zone, sees: p.View()}
		if p.Role == resource.Gateway {
			v.Gateway = p.Namespace + "/" + p.Workload
		} else {
			// What a sidecar declares follows the Services that it leads to.
			v.sees.Workload, v.sees.Declared = "", nil
		}
		key := fmt.Sprintf("%+v", v.sees)
		if views[key] == nil {
			views[key] = v
		}
		views[key].Proxies++
	}
	out := []proxyView{}
	for _, v := range views {
		for i := range changes {
			before, after := bodyFor(changes[i].before, v), bodyFor(changes[i].after, v)
			if !bytes.Equal(before, after) {
				v.Resources++
				if changes[i].Type != resource.Secret.String() {
					v.Bytes += len(after)
				}
			}
		}
		if v.Resources > 0 {
			out = append(out, *v)
		}
	}
	slices.SortFunc(out, func(a, b proxyView) int {
		return cmp.Or(cmp.Compare(a.Role, b.Role), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Gateway, b.Gateway), cmp.Compare(a.Zone, b.Zone))
	})
	return out
}
