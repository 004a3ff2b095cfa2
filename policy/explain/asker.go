package explain

import (
	"slices"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/naming"
)

// findWorkload finds who asks: a connected proxy by its node id, its workload
// or its service, or else a Service of the catalog, whose pods or instances
// ask. What the mesh does depends on the namespace and the zone only.
func findWorkload(r catalog.Reader, proxies []Proxy, name, zone string) (Workload, error) {
	if strings.Contains(name, "~") {
		_, namespace, _, _, ok := naming.ParseNode(name)
		if !ok {
			return Workload{}, WrongInput("--from: %q is not a node id: ROLE~NAMESPACE~WORKLOAD~INSTANCE", name)
		}
		for i := range proxies {
			if proxies[i].ID == name {
				out := workloadIn(namespace, []string{proxies[i].Zone}, zone)
				out.Listener = httpListener(&proxies[i])
				return out, nil
			}
		}
		if proxies != nil {
			return Workload{}, WrongInput("--from: no proxy %s is connected: 'causeway proxies' lists those that are", name)
		}
		return Workload{Namespace: namespace, Zone: zone}, nil
	}
	namespace, workload, ok := strings.Cut(name, "/")
	if !ok || namespace == "" || workload == "" || strings.Contains(workload, "/") {
		return Workload{}, WrongInput("--from: %q is neither NAMESPACE/NAME nor a node id", name)
	}
	var zones []string
	listener := ""
	for i := range proxies {
		p := &proxies[i]
		if _, ns, of, _, ok := naming.ParseNode(p.ID); ok && (ns == namespace && of == workload || p.Service == name) {
			zones = append(zones, p.Zone)
			listener = httpListener(p)
		}
	}
	if len(zones) > 0 {
		out := workloadIn(namespace, zones, zone)
		out.Listener = listener // a workload's proxies are configured alike
		return out, nil
	}
	key := discovery.Key{Namespace: namespace, Name: workload}
	if _, ok := catalog.Services.Get(r, key.String()); ok {
		for set := range catalog.Endpoints.By(r, catalog.ByService, key.String()) {
			for i := range set.Endpoints {
				zones = append(zones, set.Endpoints[i].Zone)
			}
		}
		return workloadIn(namespace, zones, zone), nil
	}
	// A workload without a Service and without a proxy yet, a cron job say. Its
	// namespace at least should be one that there is.
	namespaces := namespacesOf(r)
	if !slices.Contains(namespaces, namespace) {
		return Workload{}, WrongInput("--from: there is no workload %s, and nothing else in namespace %s either: the mesh knows the namespaces %s",
			name, namespace, orNone(namespaces, "(none)"))
	}
	return Workload{Namespace: namespace, Zone: zone}, nil
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

// workloadIn chooses the zone of a workload: the one that is asked for, or the first of those it is in.
func workloadIn(namespace string, zones []string, zone string) Workload {
	slices.Sort(zones)
	zones = slices.DeleteFunc(slices.Compact(zones), func(z string) bool { return z == "" })
	switch {
	case zone != "":
		// Any may be asked about: what would happen there?
	case len(zones) == 1:
		zone = zones[0]
	case len(zones) > 1:
		return Workload{Namespace: namespace, Zone: zones[0], OtherZones: zones[1:]}
	}
	return Workload{Namespace: namespace, Zone: zone}
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
