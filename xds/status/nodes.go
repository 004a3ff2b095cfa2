package status

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/xds/server"
)

// Nodes is a Service's rule about its callers' Kubernetes nodes, and its
// callers.
type Nodes struct {
	// Says is "internalTrafficPolicy: Local" or "trafficDistribution: PreferSameNode".
	Says string `json:"says"`
	// Pods counts the usable pods of each node.
	Pods map[string]int `json:"pods"`
	// WithoutPods counts the connected proxies that say a node without one, WithoutNode those
	// that say no node.
	WithoutPods int `json:"withoutPods"`
	WithoutNode int `json:"withoutNode"`
	Proxies     int `json:"proxies"`
}

// nodesOf returns a Service's rule about its callers' nodes, nil if it has
// none.
func nodesOf(m *policy.Service, proxies []server.ProxyStatus) *Nodes {
	var v *Nodes
	for i := range m.Ports {
		for _, b := range m.Ports[i].Backings {
			if b.Nodes == policy.AnyNode {
				continue
			}
			if v == nil {
				v = &Nodes{Says: b.Nodes.String(), Pods: make(map[string]int), Proxies: len(proxies)}
			}
			ofPort := make(map[string]int)
			for _, z := range b.Zones {
				for _, e := range z.Endpoints {
					if e.Node != "" && e.Health == discovery.Healthy {
						ofPort[e.Node]++
					}
				}
			}
			for node, n := range ofPort { // a pod answers on several ports
				v.Pods[node] = max(v.Pods[node], n)
			}
		}
	}
	if v == nil {
		return nil
	}
	for i := range proxies {
		switch node := proxies[i].NodeName; {
		case node == "":
			v.WithoutNode++
		case v.Pods[node] == 0:
			v.WithoutPods++
		}
	}
	return v
}

// mostNodes is how many nodes are named.
const mostNodes = 5

// Lines say it for a person, with what to do.
func (v *Nodes) Lines() []string {
	nodes := slices.Sorted(maps.Keys(v.Pods))
	first := strings.Join(nodes[:min(len(nodes), mostNodes)], ", ")
	switch n := len(nodes); {
	case n == 0:
		first = "none"
	case n > mostNodes:
		first += fmt.Sprintf(" and %d more", n-mostNodes)
	}
	out := []string{fmt.Sprintf("%s: nodes with usable pods: %s", v.Says, first)}
	if v.WithoutPods > 0 {
		what := "go by zone"
		if v.Says == policy.OwnNodeOnly.String() {
			what = "get none of the pods: run one on every node that has callers"
		}
		out = append(out, fmt.Sprintf("%d of %d proxies are on a node without one and %s", v.WithoutPods, v.Proxies, what))
	}
	if v.WithoutNode > 0 {
		out = append(out, fmt.Sprintf("%d of %d proxies say no node and reach all pods; in a pod, write the bootstrap with --node-name", v.WithoutNode, v.Proxies))
	}
	return out
}
