package engine

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
	"github.com/causeway-mesh/causeway/policy/resolve"
	"github.com/causeway-mesh/causeway/xds/compile"
	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// Preview compiles a state of the mesh as the engine would, and serves none of it.
type Preview struct {
	compiler *compile.Compiler
	good     resolve.LastGood
	// listeners are those that proxies of Gateways have declared.
	listeners map[discovery.Key][]string
}

// NewPreview returns a preview for proxies with these views. good are the certificates that replace
// those of Gateways that fail.
func NewPreview(good resolve.LastGood, views []snapshot.View) *Preview {
	return &Preview{compiler: compile.New(), good: good, listeners: gatewayListeners(views)}
}

// gatewayListeners returns what proxies ask for in their node metadata of each Gateway.
func gatewayListeners(views []snapshot.View) map[discovery.Key][]string {
	out := make(map[discovery.Key][]string)
	for i := range views {
		for _, text := range views[i].Declared {
			if d, err := naming.ParseDeclaration(text); err == nil && d.IsGateway() && !slices.Contains(out[d.Gateway], text) {
				out[d.Gateway] = append(out[d.Gateway], text)
			}
		}
	}
	return out
}

// Compile returns what a unit means and its resources: all that does not depend on which proxies are
// connected, and the listeners of Gateways that they have declared. Those that
// sidecars declare follow the Services that they lead to.
func (p *Preview) Compile(r catalog.Reader, u policy.Unit) (policy.Model, []resource.Resource) {
	m := p.good.Build(r, u)
	if m == nil {
		return nil, nil
	}
	out := p.compiler.Compile(m)
	gateway, ok := m.(*policy.Gateway)
	if !ok {
		return m, out
	}
	out = append(out, discreet(r, gateway, p.compiler.Certificates(gateway))...)
	for _, text := range p.listeners[u.Key] {
		if d, err := naming.ParseDeclaration(text); err == nil {
			out = append(out, p.compiler.Declared(d, m)...)
		}
	}
	return m, out
}

// discreet returns the secrets of a Gateway with fingerprints instead of their
// content: it matters which certificate it is, and nobody may look at its key.
func discreet(r catalog.Reader, m *policy.Gateway, secrets []resource.Resource) []resource.Resource {
	texts := make(map[string]string, len(m.Certificates))
	for i := range m.Certificates {
		texts[m.Certificates[i].Name] = diff.CertificateText(r, &m.Certificates[i])
	}
	out := make([]resource.Resource, 0, len(secrets))
	for _, s := range secrets {
		name, _ := naming.CutCertificate(m.Key, s.Name)
		s.Body, s.ByZone, s.ByNamespace = resource.Parts{[]byte(texts[name])}, nil, nil
		out = append(out, s)
	}
	return out
}

type resourceID struct {
	kind resource.Type
	name string
}

func (p *Preview) compileAll(r catalog.Reader) map[resourceID]*resource.Resource {
	out := make(map[resourceID]*resource.Resource)
	for _, u := range resolve.Units(r) {
		_, resources := p.Compile(r, u)
		for i := range resources {
			out[resourceID{resources[i].Type, resources[i].Name}] = &resources[i]
		}
	}
	return out
}

// ResourceChange is an Envoy resource that would be sent anew or be removed.
type ResourceChange struct {
	Action diff.Action `json:"action"`
	Type   string      `json:"type"`
	Name   string      `json:"name"`
	// SeenBy says which proxies get it.
	SeenBy string `json:"seenBy"`
	// Bytes that a proxy gets, the most of all variants; 0 for one that is removed, and for secrets.
	Bytes int `json:"bytes"`

	before, after *resource.Resource
}

// Changes compares what is compiled from two states, by type and name.
func (p *Preview) Changes(before, after catalog.Reader) []ResourceChange {
	old, now := p.compileAll(before), p.compileAll(after)
	ids := maps.Clone(old)
	maps.Copy(ids, now)
	out := []ResourceChange{}
	for _, id := range slices.SortedFunc(maps.Keys(ids), func(a, b resourceID) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), strings.Compare(a.name, b.name))
	}) {
		c := ResourceChange{Type: id.kind.String(), Name: id.name, before: old[id], after: now[id]}
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
		c.SeenBy = cmp.Or(c.after, c.before).SeenBy()
		if c.after != nil && id.kind != resource.Secret {
			c.Bytes = c.after.Body.Len()
			for v := range c.after.Variants {
				c.Bytes = max(c.Bytes, v.Len())
			}
		}
		out = append(out, c)
	}
	return out
}

func sameResource(a, b *resource.Resource) bool {
	same := func(a, b resource.Parts) bool { return bytes.Equal(a.Bytes(), b.Bytes()) }
	return a.Visible == b.Visible && same(a.Body, b.Body) && (a.OtherNodes == nil) == (b.OtherNodes == nil) && same(a.OtherNodes, b.OtherNodes) &&
		maps.EqualFunc(a.ByZone, b.ByZone, same) && maps.EqualFunc(a.ByNamespace, b.ByNamespace, same) && maps.EqualFunc(a.ByNode, b.ByNode, same)
}

// Audience are the proxies of one role, namespace and zone, with the resources that they would be sent.
type Audience struct {
	Role      string `json:"role"`
	Namespace string `json:"namespace"`
	// Gateway that the proxies are of, "" for those of the role sidecar.
	Gateway string `json:"gateway,omitempty"`
	Zone    string `json:"zone,omitempty"`
	// Proxies that are connected.
	Proxies int `json:"proxies"`
	// Resources that each of them would be sent anew, or lose: the most, where it depends on their nodes.
	Resources int `json:"resources"`
	Bytes     int `json:"bytes"`

	// sees is a view of these proxies.
	sees snapshot.View
}

// bodyFor is what a proxy gets of a resource, nil for nothing.
func (a *Audience) bodyFor(r *resource.Resource) []byte {
	if r == nil || !a.sees.Sees(&r.Visible) {
		return nil
	}
	return r.For(resource.Place{Namespace: a.sees.Namespace, Zone: a.sees.Zone, Node: a.sees.NodeName}).Bytes()
}

// Audiences returns those of the connected proxies that would be sent something.
func Audiences(changes []ResourceChange, views []snapshot.View) []Audience {
	all := make(map[string]*Audience)
	for _, v := range views {
		a := &Audience{Role: string(v.Role), Namespace: v.Namespace, Zone: v.Zone, sees: v}
		if v.Role == resource.Gateway {
			a.Gateway = v.Namespace + "/" + v.Workload
		} else {
			// Listeners that sidecars declare follow the Services that they
			// lead to.
			a.sees.Workload, a.sees.Declared = "", nil
		}
		key := fmt.Sprintf("%+v", a.sees)
		if all[key] == nil {
			all[key] = a
		}
		all[key].Proxies++
	}
	together := make(map[string]*Audience)
	for _, a := range all {
		for i := range changes {
			before, after := a.bodyFor(changes[i].before), a.bodyFor(changes[i].after)
			if !bytes.Equal(before, after) {
				a.Resources++
				if changes[i].Type != resource.Secret.String() {
					a.Bytes += len(after)
				}
			}
		}
		if a.Resources == 0 {
			continue
		}
		a.sees.NodeName = "" // a line for each of a thousand nodes would be no answer
		key := fmt.Sprintf("%+v", a.sees)
		if had := together[key]; had != nil {
			had.Proxies, had.Resources, had.Bytes = had.Proxies+a.Proxies, max(had.Resources, a.Resources), max(had.Bytes, a.Bytes)
			continue
		}
		together[key] = a
	}
	out := []Audience{}
	for _, a := range together {
		out = append(out, *a)
	}
	slices.SortFunc(out, func(a, b Audience) int {
		return cmp.Or(cmp.Compare(a.Role, b.Role), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Gateway, b.Gateway), cmp.Compare(a.Zone, b.Zone))
	})
	return out
}
