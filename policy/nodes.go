package policy

// NodeMode tells which pods a caller reaches because of its own Kubernetes node.
// Instances run on no node and are reached from everywhere.
type NodeMode uint8

const (
	// AnyNode is for where it means nothing.
	AnyNode NodeMode = iota
	// OwnNodeOnly is for pods that answer callers of other nodes nothing (spec.internalTrafficPolicy: Local).
	OwnNodeOnly
	// OwnNodeFirst is for pods that answer those while their own node has no usable one (spec.trafficDistribution: PreferSameNode).
	OwnNodeFirst
)

// String returns how the Service says it.
func (n NodeMode) String() string {
	switch n {
	case OwnNodeOnly:
		return "internalTrafficPolicy: Local"
	case OwnNodeFirst:
		return "trafficDistribution: PreferSameNode"
	case AnyNode:
	}
	return ""
}

// From returns the backing as a caller on a Kubernetes node can reach it. A caller
// that does not say its node, "", is on none of the cluster's and reaches all.
func (b *Backing) From(node string) *Backing {
	if b.Nodes != OwnNodeOnly || node == "" {
		return b
	}
	out := *b
	out.Zones, _ = ZonesFrom(b.Zones, node)
	return &out
}

// ZonesFrom divides zones into what is on a Kubernetes node and the rest, both
// without zones that have nothing.
func ZonesFrom(zones []Zone, node string) (own, rest []Zone) {
	add := func(to []Zone, name string, keep func(e Endpoint) bool, all []Endpoint) []Zone {
		z := Zone{Name: name}
		for _, e := range all {
			if keep(e) {
				z.Endpoints = append(z.Endpoints, e)
			}
		}
		if len(z.Endpoints) == 0 {
			return to
		}
		return append(to, z)
	}
	for _, z := range zones {
		own = add(own, z.Name, func(e Endpoint) bool { return e.Node == node }, z.Endpoints)
		rest = add(rest, z.Name, func(e Endpoint) bool { return e.Node != node }, z.Endpoints)
	}
	return own, rest
}
