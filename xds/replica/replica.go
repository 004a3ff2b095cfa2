// Package replica is one control plane's part in the work that replicas share: its view of its own
// proxies, and the pins that it stores for the others and for its next run.
package replica

import (
	"fmt"
	"net/netip"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/xds/engine"
	"github.com/causeway-mesh/causeway/xds/observe"
	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/server"
	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// Local returns what this replica sees of its own proxies.
func Local(e *engine.Engine, xds *server.Server, store *snapshot.Store) observe.Local {
	// Proxies are read after objects: they must include every proxy that was
	// there when a generation went out. Rejections are read last, because a
	// proxy may have refused in between.
	applied := e.Applied()
	progress := xds.Progress()
	out := observe.Local{
		Objects: make([]observe.Object, len(applied)), Proxies: make([]observe.Proxy, len(progress)),
	}
	for i := range progress {
		p := &progress[i]
		out.Proxies[i] = observe.Proxy{Node: p.Node, Joined: p.Joined, Acknowledged: p.Acknowledged, Connected: p.Connected}
		if p.Role == resource.Gateway {
			out.Proxies[i].Gateway = discovery.Key{Namespace: p.Namespace, Name: p.Workload}
			out.Proxies[i].Listens = gatewayListens(p.Declared)
		}
	}
	for i := range applied {
		a := &applied[i]
		out.Objects[i] = observe.Object{Name: a.Object, Generation: a.Generation, Index: a.Index, Held: a.Pinned || len(a.HeldFor) > 0, Since: a.Since}
	}
	rejections := store.Rejections()
	if len(rejections) > 0 {
		good := make(map[string][]discovery.ObjectRef)
		for _, p := range store.Pins() {
			for i := range p.Good {
				for _, ref := range p.Good[i].Provenance {
					if key := p.Key(); !slices.Contains(good[key], ref) {
						good[key] = append(good[key], ref)
					}
				}
			}
		}
		for i := range rejections {
			r := &rejections[i]
			o := observe.Rejection{
				Resource: r.Type.String() + " " + r.Name, Node: r.Node, Error: r.Error, Objects: r.Provenance, Held: r.Pinned, Since: r.Since,
			}
			if r.Pinned {
				o.Good = good[(&snapshot.Pin{Unit: r.Unit, Class: r.Class}).Key()]
			}
			out.Rejections = append(out.Rejections, o)
		}
	}
	out.Index = store.Index()
	return out
}

// gatewayListens returns on which of its Gateway's ports a proxy listens.
func gatewayListens(declared []string) observe.GatewayListens {
	var out observe.GatewayListens
	for _, text := range declared {
		d, err := naming.ParseDeclaration(text)
		switch {
		case err != nil || !d.IsGateway():
		case d.Port == 0:
			out.Everywhere = true
		default:
			out.Ports = append(out.Ports, d.Port)
		}
	}
	slices.Sort(out.Ports)
	out.Ports = slices.Compact(out.Ports) // at several addresses
	return out
}

// Programmed returns an object's condition Programmed. While the configuration is
// frozen, an object that is not in force waits for people, not for proxies.
func Programmed(o *observe.Observer, r catalog.Reader, ref discovery.ObjectRef) (metav1.Condition, bool) {
	c, ok := o.Programmed(ref)
	f, frozen := catalog.Freezes.Get(r, catalog.FreezeID)
	if ok && frozen && f.Config && c.Status != metav1.ConditionTrue {
		c.Status, c.Reason = metav1.ConditionFalse, "Frozen"
		c.Message = f.Text() + "; causeway unfreeze lets it go out"
	}
	return c, ok
}

// Unheard reports that no proxy of a Gateway listens on a port, because their
// hosts were told so. It says nothing while the Gateway has no proxy.
func Unheard(o *observe.Observer, gateway discovery.Key, port uint16) (string, bool) {
	g, ok := o.Gateway(gateway)
	if !ok || g.Proxies == 0 || g.On(port) > 0 {
		return "", false
	}
	return fmt.Sprintf("none of the Gateway's %d proxies listens for port %d: give theirs `causeway bootstrap` a --gateway-listen for it", g.Proxies, port), true
}

// Reachable returns the address at which others reach a listener.
func Reachable(listen, podIP string) (string, error) {
	a, err := netip.ParseAddrPort(listen)
	if err != nil {
		return "", fmt.Errorf("--observe-listen: %w", err)
	}
	if !a.Addr().IsUnspecified() {
		return a.String(), nil
	}
	ip, err := netip.ParseAddr(podIP)
	if err != nil {
		return "", fmt.Errorf("--observe-listen: other replicas cannot reach %s: set the environment variable POD_IP to this "+
			"Pod's address, as manifests/install/deployment.yaml does, or name an address", listen)
	}
	return netip.AddrPortFrom(ip, a.Port()).String(), nil
}
