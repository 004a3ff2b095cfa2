package compile

import (
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
	return loadAssignment(naming.Cluster(m.Key, p.Number, b.Platform), b.Zones, &b.Settings, b.TLS, m.Provenance)
}

// groupEndpoints returns the endpoints of an InstanceGroup that a route names.
func groupEndpoints(m *policy.Service, p *policy.Port, g *policy.Group) resource.Resource {
	return loadAssignment(naming.Group(m.Key, p.Number, g.Name), g.Zones, &g.Settings, g.TLS, m.Provenance)
}

// loadAssignment returns the endpoints of a cluster. Unless its locality is
// None, callers of each zone that has some get a variant of their own:
// PreferZone weighs the zones (zoneWeights), Strict ranks them. Nothing may be
// sent to endpoints whose TLS cannot be spoken, so there are none then, and
// requests are answered 503.
func loadAssignment(name string, zones []policy.Zone, s *policy.Settings, tls *policy.TLS, from []discovery.ObjectRef) resource.Resource {
	r := resource.Resource{Type: resource.Endpoint, Name: name, Provenance: from}
	if tls != nil && tls.Failed != "" {
		zones = nil
	}
	head := appendString(nil, assignmentName, r.Name)
	factor := appendWrapped(nil, policyFactor, overprovisioning)
	head = appendBytes(head, assignmentPolicy, factor)

	bodies := make([][]byte, len(zones))
	capacity := make([]uint64, len(zones))
	for i := range zones {
		bodies[i], capacity[i] = zoneBody(&zones[i], "")
	}
	everywhere := zoneWeights(capacity, -1)
	r.Body = assignment(head, bodies, everywhere, -1)
	if len(zones) < 2 || s.Locality() == v1alpha1.NoLocality {
		return r
	}
	r.ByZone = make(map[string]resource.Parts, len(zones))
	for i := range zones {
		switch {
		case zones[i].Name == "":
		case s.Locality() == v1alpha1.StrictLocality:
			r.ByZone[zones[i].Name] = assignment(head, bodies, everywhere, i)
		default:
			r.ByZone[zones[i].Name] = assignment(head, bodies, zoneWeights(capacity, i), -1)
		}
	}
	return r
}

// assignment puts zones' bodies and weights together. Only what is between
// the bodies is new. The zone with the index first, unless that is -1, comes
// before all others: Envoy goes to those only while it has no usable endpoint.
func assignment(head []byte, bodies [][]byte, weights []uint32, first int) resource.Parts {
	parts := make(resource.Parts, 0, 2*len(bodies)+1)
	between := append(make([]byte, 0, len(head)+16), head...)
	for i, body := range bodies {
		after := appendWrapped(nil, localityWeight, uint64(weights[i]))
		if first >= 0 && i != first {
			after = appendVarint(after, localityPriority, 1)
		}
		between = protowire.AppendTag(between, assignmentEndpoints, protowire.BytesType)
		between = protowire.AppendVarint(between, uint64(len(body)+len(after))) //nolint:gosec // a length
		parts = append(parts, between, body)
		between = after
	}
	return append(parts, between)
}

// zoneBody encodes a zone's locality, with a sub-zone unless that is "", and its endpoints, and sums the weights of
// those that get new requests.
func zoneBody(z *policy.Zone, within string) (body []byte, capacity uint64) {
	size := 16 + len(z.Name)
	for i := range z.Endpoints {
		size += endpointOverhead + len(z.Endpoints[i].ID) + len(z.Endpoints[i].Address)
	}
	body = make([]byte, 0, size)
	locality := appendString(nil, localityZone, z.Name)
	if within != "" {
		locality = appendString(locality, localitySubZone, within)
	}
	body = appendBytes(body, localityLocality, locality)
	var scratch [4][]byte
	for i := range z.Endpoints {
		e := &z.Endpoints[i]
		if e.Health == discovery.Healthy {
			capacity += uint64(e.Weight)
		}
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
		body = appendBytes(body, localityEndpoints, lb)
		scratch = [4][]byte{socket, address, endpoint, lb}
	}
	return body, capacity
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
