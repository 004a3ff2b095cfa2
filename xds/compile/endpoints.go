package compile

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// Field numbers of envoy/config/endpoint/v3 and envoy/config/core/v3, for what
// is encoded by hand: endpoints are what changes most, and the bytes of a
// zone's endpoints are shared between the variants for callers of every zone.
const (
	assignmentName      = 1 // ClusterLoadAssignment.cluster_name
	assignmentEndpoints = 2 // .endpoints
	assignmentPolicy    = 4 // .policy
	policyFactor        = 3 // Policy.overprovisioning_factor
	localityLocality    = 1 // LocalityLbEndpoints.locality
	localityEndpoints   = 2 // .lb_endpoints
	localityWeight      = 3 // .load_balancing_weight
	localityPriority    = 5 // .priority
	localityZone        = 2 // Locality.zone
	localitySubZone     = 3 // .sub_zone
	lbEndpoint          = 1 // LbEndpoint.endpoint
	lbHealth            = 2 // .health_status
	lbWeight            = 4 // .load_balancing_weight
	endpointAddress     = 1 // Endpoint.address
	endpointHostname    = 3 // .hostname
	addressSocket       = 1 // Address.socket_address
	socketAddress       = 2 // SocketAddress.address
	socketPort          = 3 // .port_value
	wrapperValue        = 1 // UInt32Value.value
)

// Values of envoy.config.core.v3.HealthStatus.
const (
	statusUnhealthy = 2
	statusDraining  = 3
)

// overprovisioning in percent. Envoy hands load to the next priority as soon
// as healthy share times this is below 100 %, by default below 72 % health.
// Traffic must not leave a backing while it has any usable endpoint, so the
// factor is as good as infinite.
const overprovisioning = 1_000_000

// endpointOverhead is about what an endpoint takes besides its id and address.
const endpointOverhead = 28

// weightScale is the sum that locality weights are scaled to.
const weightScale = 10_000

// endpoints returns the endpoints of a backing.
func endpoints(m *policy.Service, p *policy.Port, b *policy.Backing) resource.Resource {
	return loadAssignment(naming.Cluster(m.Key, p.Number, b.Platform), b.Zones, b.Nodes, &b.Settings, b.TLS, m.Provenance)
}

// groupEndpoints returns the endpoints of an InstanceGroup that a route names.
func groupEndpoints(m *policy.Service, p *policy.Port, g *policy.Group) resource.Resource {
	return loadAssignment(naming.Group(m.Key, p.Number, g.Name), g.Zones, policy.AnyNode, &g.Settings, g.TLS, m.Provenance)
}

// loadAssignment returns the endpoints of a cluster. Unless its locality is
// None, callers of each zone that has some get a variant of their own:
// PreferZone weighs the zones (zoneWeights), Strict ranks them. Nothing may be
// sent to endpoints whose TLS cannot be spoken, so there are none then, and
// requests are answered 503.
func loadAssignment(name string, zones []policy.Zone, nodes policy.NodeMode, s *policy.Settings, tls *policy.TLS, from []discovery.ObjectRef) resource.Resource {
	r := resource.Resource{Type: resource.Endpoint, Name: name, Provenance: from}
	if tls != nil && tls.Failed != "" && !tls.Unknown { // of what is not known, see unknownCluster
		zones = nil
	}
	head := assignmentHead(r.Name)
	pieces := make([]piece, len(zones))
	capacity := make([]uint64, len(zones))
	for i := range zones {
		pieces[i] = zonePiece(&zones[i], "", nodes)
		capacity[i] = pieces[i].capacity
	}
	everywhere := zoneWeights(capacity, -1)
	r.Body = assignment(head, pieces, everywhere, -1)
	if nodes != policy.AnyNode {
		nodeVariants(&r, head, []part{{nodes: nodes, pieces: pieces}}, s.Locality())
	}
	if len(zones) < 2 || s.Locality() == v1alpha1.NoLocality {
		return r
	}
	r.ByZone = make(map[string]resource.Parts, len(zones))
	for i := range zones {
		switch {
		case zones[i].Name == "":
		case s.Locality() == v1alpha1.StrictLocality:
			r.ByZone[zones[i].Name] = assignment(head, pieces, everywhere, i)
		default:
			r.ByZone[zones[i].Name] = assignment(head, pieces, zoneWeights(capacity, i), -1)
		}
	}
	return r
}

// assignmentHead returns what comes before the endpoints of a cluster.
func assignmentHead(name string) []byte {
	head := appendString(nil, assignmentName, name)
	return appendBytes(head, assignmentPolicy, appendWrapped(nil, policyFactor, overprovisioning))
}

// assignment puts zones and weights together. The zone with the index first, unless that is -1, comes
// before all others: Envoy goes to those only while it has no usable endpoint.
func assignment(head []byte, pieces []piece, weights []uint32, first int) resource.Parts {
	b := newBuilder(head, len(pieces))
	for i := range pieces {
		priority := uint64(0)
		if first >= 0 && i != first {
			priority = 1
		}
		b.add(&pieces[i], weights[i], priority)
	}
	return b.done()
}

// builder puts an assignment together of what is encoded already. Only what is
// between the pieces is new.
type builder struct {
	parts   resource.Parts
	between []byte
}

func newBuilder(head []byte, localities int) *builder {
	return &builder{make(resource.Parts, 0, 2*localities+1), append(make([]byte, 0, len(head)+16), head...)}
}

// add adds a locality. One may stand several times, at another priority each.
func (b *builder) add(p *piece, weight uint32, priority uint64) {
	after := appendWrapped(nil, localityWeight, uint64(weight))
	if priority > 0 {
		after = appendVarint(after, localityPriority, priority)
	}
	b.between = protowire.AppendTag(b.between, assignmentEndpoints, protowire.BytesType)
	b.between = protowire.AppendVarint(b.between, uint64(len(p.body)+len(p.more)+len(after))) //nolint:gosec // a length
	b.parts = append(b.parts, b.between, p.body)
	if len(p.more) > 0 {
		b.parts = append(b.parts, p.more)
	}
	b.between = after
}

func (b *builder) done() resource.Parts { return append(b.parts, b.between) }

// piece is encoded endpoints of one zone.
type piece struct {
	zone string
	// body is the locality and its endpoints, which go on in more.
	body, more []byte
	// head is how many bytes of body the locality takes.
	head int
	// capacity is the sum of the weights of those that get new requests.
	capacity uint64
	// spans are the endpoints of each node, by its name; nil where nodes mean nothing.
	spans []span
}

// zonePiece encodes a zone's locality, with a sub-zone unless that is "", and its endpoints.
// Where nodes mean something, they are in the order of their nodes, so that those of a
// node can be cut out (cut).
func zonePiece(z *policy.Zone, within string, nodes policy.NodeMode) piece {
	size := 16 + len(z.Name)
	for i := range z.Endpoints {
		size += endpointOverhead + len(z.Endpoints[i].ID) + len(z.Endpoints[i].Address)
	}
	locality := appendString(nil, localityZone, z.Name)
	if within != "" {
		locality = appendString(locality, localitySubZone, within)
	}
	p := piece{zone: z.Name, body: appendBytes(make([]byte, 0, size), localityLocality, locality)}
	p.head = len(p.body)
	endpoints := z.Endpoints
	if nodes != policy.AnyNode {
		endpoints = slices.Clone(endpoints)
		slices.SortStableFunc(endpoints, func(a, b policy.Endpoint) int { return strings.Compare(a.Node, b.Node) })
	}
	var scratch [4][]byte
	for i := range endpoints {
		e := &endpoints[i]
		from, weight := len(p.body), uint64(0)
		if e.Health == discovery.Healthy {
			weight = uint64(e.Weight)
		}
		p.capacity += weight
		p.body = appendEndpoint(p.body, e, &scratch)
		if nodes != policy.AnyNode {
			p.note(e.Node, from, weight)
		}
	}
	return p
}

// appendEndpoint appends an endpoint as a field of its locality. scratch is memory to be used again.
func appendEndpoint(body []byte, e *policy.Endpoint, scratch *[4][]byte) []byte {
	socket := appendString(scratch[0][:0], socketAddress, e.Address)
	socket = protowire.AppendTag(socket, socketPort, protowire.VarintType)
	socket = protowire.AppendVarint(socket, uint64(e.Port))
	address := appendBytes(scratch[1][:0], addressSocket, socket)
	endpoint := appendBytes(scratch[2][:0], endpointAddress, address)
	endpoint = appendString(endpoint, endpointHostname, e.ID)
	lb := appendBytes(scratch[3][:0], lbEndpoint, endpoint)
	switch e.Health {
	case discovery.Healthy:
	case discovery.Unhealthy:
		lb = appendVarint(lb, lbHealth, statusUnhealthy)
	case discovery.Draining:
		lb = appendVarint(lb, lbHealth, statusDraining)
	}
	lb = appendWrapped(lb, lbWeight, uint64(e.Weight))
	*scratch = [4][]byte{socket, address, endpoint, lb}
	return appendBytes(body, localityEndpoints, lb)
}

// zoneWeights returns the weight of each zone for a caller in the zone with
// index own, or in none of them (-1).
//
// Callers are taken to be spread evenly over the n zones that have endpoints.
// A caller then stays in its zone as far as the zone's share s of the capacity
// serves its callers, min(1, n*s) of its requests, and gives the rest to the
// zones with capacity to spare, in proportion to it. So every zone as a whole
// gets what it has capacity for: one pod in a zone is not crushed by its
// neighbours, and no more bytes cross zones than must.
func zoneWeights(capacity []uint64, own int) []uint32 {
	weights := make([]uint32, len(capacity))
	var total uint64
	for _, c := range capacity {
		total += c
	}
	n := uint64(len(capacity))
	for i, c := range capacity {
		var w uint64
		switch {
		case total == 0:
			w = weightScale / n
		case own < 0:
			w = weightScale * c / total
		case i == own:
			w = min(weightScale, weightScale*n*c/total)
		default:
			// Local callers leave 1-n*s of their requests, and this zone takes
			// its part of what all zones have to spare.
			left := weightScale - min(weightScale, weightScale*n*capacity[own]/total)
			var spare, all uint64
			for j, other := range capacity {
				if s := n * other; s > total {
					all += s - total
					if j == i {
						spare = s - total
					}
				}
			}
			if all > 0 {
				w = left * spare / all
			}
		}
		// Never 0: a zone without weight would get nothing even when the
		// caller finds all its own zone's endpoints dead.
		weights[i] = uint32(max(w, 1)) //nolint:gosec // at most weightScale
	}
	return weights
}

func appendString(b []byte, field protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
}

func appendBytes(b []byte, field protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), v)
}

func appendVarint(b []byte, field protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}

// appendWrapped appends a google.protobuf.UInt32Value.
func appendWrapped(b []byte, field protowire.Number, v uint64) []byte {
	b = protowire.AppendTag(b, field, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(protowire.SizeTag(wrapperValue)+protowire.SizeVarint(v))) //nolint:gosec // a length
	return appendVarint(b, wrapperValue, v)
}
