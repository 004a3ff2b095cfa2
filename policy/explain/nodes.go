package explain

import (
	"fmt"
	"slices"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
)

// zonesOfBacking is zonesOf for a caller that may be on a Kubernetes node: where nodes mean
// something, its own comes first.
func (e *evaluation) zonesOfBacking(b *policy.Backing) []Zone {
	node, mode := e.req.From.Node, b.Settings.Locality()
	own, rest := policy.ZonesFrom(b.Zones, node)
	if b.Nodes == policy.AnyNode || node == "" || len(own) == 0 {
		return zonesOf(b.Zones, e.req.From.Zone, mode)
	}
	zone := own[len(own)-1].Name // a node is in one
	out, behind := zonesOf(own, zone, mode), zonesOf(rest, zone, mode)
	for i := range out {
		out[i].OwnNode = true
	}
	if b.Nodes == policy.OwnNodeOnly {
		return out
	}
	// With no usable endpoint anywhere callers try those that come first.
	idle := behind
	if !usable(own) && usable(rest) {
		idle = out
	}
	for i := range idle {
		idle[i].Percent = 0
	}
	return append(out, behind...)
}

func usable(zones []policy.Zone) bool { return (&policy.Backing{Zones: zones}).Usable() }

// nodesText tells which pods answer because of the caller's own node, "" if it makes no
// difference.
func (e *evaluation) nodesText(b *policy.Backing) string {
	node := e.req.From.Node
	switch {
	case b == nil || b.Nodes == policy.AnyNode:
		return ""
	case node == "":
		return fmt.Sprintf("%s: the caller says no node, so the pods of all nodes answer", b.Nodes)
	case b.Nodes == policy.OwnNodeOnly:
		return fmt.Sprintf("%s: only pods of the caller's node %s answer", b.Nodes, node)
	case len(b.Zones) > 0 && !slices.Contains(nodesOf(b), node):
		return fmt.Sprintf("%s: the caller's node %s has none, so all answer by zone", b.Nodes, node)
	}
	return fmt.Sprintf("%s: pods of the caller's node %s answer first", b.Nodes, node)
}

// noneHere is why a backing that has endpoints has none for the caller.
func (e *evaluation) noneHere(service discovery.Key, b *policy.Backing) string {
	nodes := nodesOf(b)
	most := min(len(nodes), 3)
	on := "on " + strings.Join(nodes[:most], ", ")
	switch n := len(nodes) - most; {
	case len(nodes) == 0:
		on = "on nodes that their EndpointSlices do not name"
	case n > 0:
		on += fmt.Sprintf(" and %d other nodes", n)
	}
	return fmt.Sprintf("Service %s has %s, and no pod on the caller's node %s; its pods are %s: run one there, or remove it from the Service",
		service, b.Nodes, e.req.From.Node, on)
}

// nodesOf returns the nodes that a backing's endpoints are on, sorted.
func nodesOf(b *policy.Backing) []string {
	var out []string
	for _, z := range b.Zones {
		for i := range z.Endpoints {
			if n := z.Endpoints[i].Node; n != "" {
				out = append(out, n)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
