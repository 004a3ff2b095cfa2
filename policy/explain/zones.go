package explain

import (
	"net"
	"slices"
	"strconv"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// zonesOf returns the zones of a backing with the part of its requests that a
// caller in a zone sends to each: its own zone first.
func zonesOf(zones []policy.Zone, caller string, mode v1alpha1.LocalityMode) []Zone {
	capacity := make([]float64, len(zones))
	usable := false
	for i := range zones {
		for j := range zones[i].Endpoints {
			if e := &zones[i].Endpoints[j]; e.Health == discovery.Healthy {
				capacity[i] += float64(e.Weight)
				usable = true
			}
		}
	}
	if !usable {
		// With no usable endpoint anywhere callers try those that are there.
		for i := range zones {
			for j := range zones[i].Endpoints {
				capacity[i] += float64(zones[i].Endpoints[j].Weight)
			}
		}
	}
	own := -1
	if caller != "" {
		own = slices.IndexFunc(zones, func(z policy.Zone) bool { return z.Name == caller })
	}
	parts := zoneParts(capacity, own, mode)
	out := make([]Zone, 0, len(zones))
	for i := range zones {
		z := Zone{Name: zones[i].Name, Own: i == own, Percent: parts[i] * 100}
		for j := range zones[i].Endpoints {
			e := &zones[i].Endpoints[j]
			z.Endpoints = append(z.Endpoints, Endpoint{
				ID: e.ID, Address: net.JoinHostPort(e.Address, strconv.Itoa(int(e.Port))), Node: e.Node, Health: e.Health.String(),
				Reason: e.Reason, Weight: e.Weight, Spot: e.Spot,
			})
		}
		out = append(out, z)
	}
	if own > 0 {
		mine := out[own]
		out = slices.Insert(slices.Delete(out, own, own+1), 0, mine)
	}
	return out
}

// zoneParts returns the parts of its requests that a caller in the zone with
// index own (-1 for none of them) sends to each zone. With PreferZone callers
// stay in their zone as far as its capacity goes, on the assumption that
// callers are spread evenly: a zone with less than its even part of the
// capacity sends the rest to zones with more.
func zoneParts(capacity []float64, own int, mode v1alpha1.LocalityMode) []float64 {
	parts := make([]float64, len(capacity))
	total := 0.0
	for _, c := range capacity {
		total += c
	}
	if total == 0 {
		return parts
	}
	even := total / float64(len(capacity))
	switch {
	case own < 0, mode == v1alpha1.NoLocality, mode == v1alpha1.StrictLocality && capacity[own] == 0:
		for i, c := range capacity {
			parts[i] = c / total
		}
		return parts
	case mode == v1alpha1.StrictLocality, capacity[own] >= even:
		parts[own] = 1
		return parts
	}
	parts[own] = capacity[own] / even
	spare := 0.0
	for _, c := range capacity {
		spare += max(0, c-even)
	}
	for i, c := range capacity {
		if i != own {
			parts[i] = (1 - parts[own]) * max(0, c-even) / spare
		}
	}
	return parts
}
