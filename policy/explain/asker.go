package explain

import (
	"slices"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/naming"
)

// findWorkload finds the caller: a connected proxy by its node id, its workload
// or its service, or else a Service of the catalog, whose pods or instances
// call. The mesh's behaviour depends only on the namespace and the place.
func findWorkload(r catalog.Reader, proxies []Proxy, name string, at place) (Workload, error) {
	if strings.Contains(name, "~") {
		_, namespace, _, _, ok := naming.ParseNode(name)
		if !ok {
			return Workload{}, WrongInput("--from: %q is not a node id: ROLE~NAMESPACE~WORKLOAD~INSTANCE", name)
		}
		for i := range proxies {
			if proxies[i].ID == name {
				out := workloadIn(namespace, []place{{proxies[i].Zone, proxies[i].Node}}, at)
				out.Listener = httpListener(&proxies[i])
				return out, nil
			}
		}
		if proxies != nil {
			return Workload{}, WrongInput("--from: no proxy %s is connected: 'causeway proxies' lists those that are", name)
		}
		return workloadIn(namespace, nil, at), nil
	}
	namespace, workload, ok := strings.Cut(name, "/")
	if !ok || namespace == "" || workload == "" || strings.Contains(workload, "/") {
		return Workload{}, WrongInput("--from: %q is neither NAMESPACE/NAME nor a node id", name)
	}
	var places []place
	listener := ""
	for i := range proxies {
		p := &proxies[i]
		if p.isOf(name) {
			places = append(places, place{p.Zone, p.Node})
			listener = httpListener(p)
		}
	}
	if len(places) > 0 {
		out := workloadIn(namespace, places, at)
		out.Listener = listener // a workload's proxies are configured alike
		return out, nil
	}
	key := discovery.Key{Namespace: namespace, Name: workload}
	if _, ok := catalog.Services.Get(r, key.String()); ok {
		for set := range catalog.Endpoints.By(r, catalog.ByService, key.String()) {
			for i := range set.Endpoints {
				places = append(places, place{set.Endpoints[i].Zone, set.Endpoints[i].Node})
			}
		}
		return workloadIn(namespace, places, at), nil
	}
	// A workload without a Service and without a proxy yet, a cron job say. Its
	// namespace at least should be one that there is.
	namespaces := namespacesOf(r)
	if !slices.Contains(namespaces, namespace) {
		return Workload{}, WrongInput("--from: there is no workload %s, and nothing else in namespace %s either: the mesh knows the namespaces %s",
			name, namespace, orNone(namespaces, "(none)"))
	}
	return workloadIn(namespace, nil, at), nil
}

// isOf reports whether a proxy is the one of a node id, or one of a workload or Service, "namespace/name".
func (p *Proxy) isOf(name string) bool {
	_, namespace, workload, _, ok := naming.ParseNode(p.ID)
	return p.ID == name || ok && (namespace+"/"+workload == name || p.Service == name)
}

// httpListener returns the listener at which a proxy's workload sends HTTP requests.
func httpListener(p *Proxy) string {
	for _, name := range p.Listeners {
		if strings.HasPrefix(name, naming.HTTPListener) {
			return name
		}
	}
	return ""
}

// place is where somebody asks from: an availability zone and a Kubernetes node, "" for an unknown one.
type place struct{ zone, node string }

// workloadIn chooses the place of a workload: the one that is asked for, or the first of those it is in.
func workloadIn(namespace string, places []place, at place) Workload {
	out := Workload{Namespace: namespace, Zone: at.zone, Node: at.node}
	// Any place may be asked about: what would happen there?
	if at.zone == "" {
		zones := distinct(places, func(p place) (string, bool) { return p.zone, at.node == "" || p.node == at.node })
		if len(zones) == 0 { // a node that it is not on
			zones = distinct(places, func(p place) (string, bool) { return p.zone, true })
		}
		if len(zones) > 0 {
			out.Zone = zones[0]
		}
		if len(zones) > 1 {
			out.OtherZones = zones[1:]
		}
	}
	nodes := distinct(places, func(p place) (string, bool) { return p.node, p.zone == out.Zone })
	if at.node == "" && len(nodes) > 0 {
		out.Node = nodes[0]
		if len(nodes) > 1 {
			out.OtherNodes = nodes[1:]
		}
	}
	return out
}

// distinct returns, sorted, the values that of returns for the places, without
// empty ones.
func distinct(places []place, of func(place) (string, bool)) []string {
	var out []string
	for _, p := range places {
		if s, counts := of(p); counts && s != "" {
			out = append(out, s)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// namespacesOf lists the namespaces that have anything, sorted.
func namespacesOf(r catalog.Reader) []string {
	seen := make(map[string]struct{})
	for s := range catalog.Services.All(r) {
		seen[s.Namespace] = struct{}{}
	}
	for o := range catalog.Objects.All(r) {
		if o.Namespace != "" {
			seen[o.Namespace] = struct{}{}
		}
	}
	var out []string
	for ns := range seen {
		out = append(out, ns)
	}
	slices.Sort(out)
	return out
}

func orNone(list []string, none string) string {
	if len(list) == 0 {
		return none
	}
	return strings.Join(list, ", ")
}
