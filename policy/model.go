// Package policy is the mesh's model: what the objects that SREs write mean, with
// conflicts, references and defaults resolved, and which settings are in force.
// Package resolve makes it of catalog rows; here nothing reads the catalog. It
// is pure: no clock, no context, no logging, no I/O.
package policy

import (
	"slices"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Protocol is what is spoken on a port of a Service.
type Protocol uint8

// The protocols that make a difference to Envoy's configuration.
const (
	HTTP1 Protocol = iota
	// HTTP2 is HTTP/2, which gRPC is too: without TLS (h2c), unless a policy states TLS.
	HTTP2
	// TCP is everything that is not HTTP; HTTP callers cannot reach it.
	TCP
	// Negotiated is HTTP/2 or HTTP/1.1 in TLS, as each endpoint chooses in the handshake (ALPN, RFC 7301).
	Negotiated
)

// CarriesGRPC reports whether gRPC can be sent over a protocol: it needs HTTP/2.
func (p Protocol) CarriesGRPC() bool { return p == HTTP2 || p == Negotiated }

// Service is what one Kubernetes Service means: the unit of compilation.
type Service struct {
	discovery.Key
	ClusterIPs []string
	// Virtual are the addresses that mean the Service to every member of the mesh, on hosts too (discovery.VirtualAddress).
	Virtual []string
	// Ports sorted by number.
	Ports []Port
	// Home is the backing that has all traffic while no TrafficShift says
	// otherwise, and HomeBecause what made it so.
	Home        discovery.BackingName
	HomeBecause string
	// Unknown says why it is not known who has the traffic, so that the shares of the
	// ports are a guess by which none may go. "" where they are known.
	Unknown string
	// Shift is the TrafficShift that is in charge of the Service's shares, nil
	// while there is none that is under way.
	Shift *Shift
	// Reported is true while proxies say how requests to the Service ended: as long as there
	// is a TrafficShift of it, after its end too, because its status still has figures.
	Reported bool
	// ClientIP is true for sessionAffinity: ClientIP: each caller stays at one endpoint of
	// a backing, unless a policy says how endpoints are chosen.
	ClientIP bool
	// Provenance lists the objects that the Service's clusters and defaults
	// come from: the Service first, then its InstanceGroups by name, then
	// policies. Those of attached routes stand with the routes.
	Provenance []discovery.ObjectRef
}

// Port is one port of a Service.
type Port struct {
	Number   uint16
	Name     string
	Protocol Protocol
	// Assumed is true where nobody has declared the protocol, and HTTP/1.1 is the guess.
	Assumed bool
	// HTTPS is true where HTTP in TLS is declared (https, wss). Such a port is HTTP to the mesh while a
	// policy says how TLS is spoken to an endpoint, and TCP otherwise: its bytes are passed on.
	HTTPS bool
	// DefaultHTTP is true for the port that a Host header without a port means.
	DefaultHTTP bool
	// Backings that the Service has, in their order (discovery.CompareBackings); at least one.
	Backings []Backing
	// Shares of the traffic, in the order of Backings; they sum to ShareTotal.
	Shares []uint32
	// Failover is true if a backing with no usable endpoint hands its share to others: those of
	// Backing.Failover, which is empty where there are none.
	Failover bool
	// FailoverBecause says what made it so, FailoverStated whether somebody has
	// stated it, and not only the kind of the port.
	FailoverBecause string
	FailoverStated  bool
	// HTTP is what routes of the Service's own namespace (producer routes)
	// make of an HTTP port, nil for none attached: then every request goes to the Service itself.
	HTTP *HTTPRoutes
	// ConsumerHTTP is the same for callers of other namespaces that have
	// routes of their own for the Service (consumer routes), by the callers'
	// namespace: these hold instead of HTTP (GEP-1426).
	ConsumerHTTP map[string]*HTTPRoutes
	// TCP and ConsumerTCP are the same for a port that is not HTTP.
	TCP         *TCPRoutes
	ConsumerTCP map[string]*TCPRoutes
	// Settings of the TrafficPolicies that are effective for requests to the
	// Service where no route is attached.
	Settings Settings
	// TLS is how the endpoints want to be spoken to, nil for in the clear.
	TLS *TLS
	// Groups are the InstanceGroups that a route names as a backend, by name:
	// each has a cluster of its own besides that of its backing.
	Groups []Group
}

// Shift is what a TrafficShift that is under way makes of its Service.
type Shift struct {
	// Object is the TrafficShift, without a generation: what it says of shares
	// changes without one.
	Object discovery.ObjectName
	// From and To are the backings that traffic moves between.
	From, To discovery.BackingName
	// Share is the part of the traffic that To has, in millionths. From has the rest, and no other backing any.
	Share uint32
	// Cohort says which requests move together, nil for each on its own.
	Cohort *Cohort
	// Shadow says which requests are copied, nil for none.
	Shadow *Shadow
}

// ShareOf returns the part of the traffic that a backing has by the shift, in millionths.
func (s *Shift) ShareOf(backing discovery.BackingName) uint32 {
	switch backing {
	case s.To:
		return s.Share
	case s.From:
		return ShareTotal - min(s.Share, ShareTotal)
	}
	return 0
}

// FromTo returns the backings that traffic moves between.
func FromTo(d v1alpha1.ShiftDirection) (from, to discovery.BackingName) {
	if d == v1alpha1.PodsToInstances {
		return discovery.Pods, discovery.Instances
	}
	return discovery.Instances, discovery.Pods
}

// Opposite returns the direction back.
func Opposite(d v1alpha1.ShiftDirection) v1alpha1.ShiftDirection {
	if d == v1alpha1.PodsToInstances {
		return v1alpha1.InstancesToPods
	}
	return v1alpha1.PodsToInstances
}

// Cohort says which requests move together: those with the same value of a
// cookie or a header. One of Cookie and Header is set.
type Cohort struct {
	Cookie, Header string
	// TTL is the lifetime of the cookie that the mesh sets on the first answer
	// to who has none, 0 if the cookie is the application's own.
	TTL time.Duration
}

// Shadow says which requests are copied: of those that From answers, to To.
type Shadow struct {
	From, To discovery.BackingName
	// Share of the requests in millionths.
	Share uint32
	// Methods sorted; at least one.
	Methods []string
}

// Group is one InstanceGroup's part of the backing on instances.
type Group struct {
	Name  string
	Zones []Zone
	// Unknown is true where the group's instances have not been read.
	Unknown  bool
	Settings Settings
	// TLS is how the group's instances want to be spoken to, nil for in the clear.
	TLS *TLS
}

// ShareTotal is the constant sum of a port's shares, in millionths of the
// traffic: it must not change while shares do, or cohorts would be reshuffled.
const ShareTotal = 1_000_000

// Backing is what answers for a port of a Service, by its name: the Service's pods, or its instances.
type Backing struct {
	Platform discovery.BackingName
	// Failover lists who answers in its place while it has no usable endpoint, the first of them
	// that has any; empty for nobody.
	Failover []discovery.BackingName
	// Zones that have usable or draining endpoints, sorted by name.
	Zones []Zone
	// Nodes says what the callers' own node means, which is nothing for instances.
	Nodes NodeMode
	// Unknown is true where Zones is empty only because an InstanceGroup's
	// instances have not been read. That is not to be taken for having none.
	Unknown bool
	// Settings of the TrafficPolicies that are effective for the backing's cluster.
	Settings Settings
	// TLS is how the backing's endpoints want to be spoken to, nil for in the
	// clear: that of the port, unless a policy is about the InstanceGroup.
	TLS *TLS
}

// Zone is the endpoints of a backing in one availability zone.
type Zone struct {
	// Name of the availability zone, "" for endpoints whose zone is unknown.
	Name string
	// Endpoints sorted by ID, then port; no two with the same ID and port, nor with the same address and port.
	Endpoints []Endpoint
}

// Endpoint is where one instance or pod answers on a port.
type Endpoint struct {
	ID      string
	Address string
	Port    uint16
	// Node is the Kubernetes node that the pod runs on, "" for an instance and where it is unknown.
	Node string
	// Weight within the zone, at least 1.
	Weight uint32
	Health discovery.Health
	Reason string
	Spot   bool
}

// Rank orders states by how usable they are.
func (e *Endpoint) Rank() int {
	switch e.Health {
	case discovery.Healthy:
		return 0
	case discovery.Draining:
		return 1
	case discovery.Unhealthy:
	}
	return 2
}

// Usable reports whether a backing has an endpoint that gets new requests.
func (b *Backing) Usable() bool {
	for _, z := range b.Zones {
		for i := range z.Endpoints {
			if z.Endpoints[i].Health == discovery.Healthy {
				return true
			}
		}
	}
	return false
}

// InTLS reports whether requests can reach the port in TLS only, so that nothing may be sent to endpoints of which
// no policy says how TLS is spoken to them.
func (p *Port) InTLS() bool { return p.HTTPS && p.Protocol != TCP || p.Protocol == Negotiated }

// Backing returns the backing of a port by its name, nil for none.
func (p *Port) Backing(on discovery.BackingName) *Backing {
	for i := range p.Backings {
		if p.Backings[i].Platform == on {
			return &p.Backings[i]
		}
	}
	return nil
}

// FailOver has the backings of a port stand in for each other: for each, all others in their order.
func (p *Port) FailOver() {
	p.Failover = true
	n := len(p.Backings) - 1
	if n < 1 {
		return
	}
	all := make([]discovery.BackingName, 0, n*(n+1))
	for i := range p.Backings {
		from := len(all)
		for j := range p.Backings {
			if i != j {
				all = append(all, p.Backings[j].Platform)
			}
		}
		p.Backings[i].Failover = slices.Clip(all[from:])
	}
}

// StandIn returns who answers in the place of a backing that has no usable endpoint, nil if nobody can.
func (p *Port) StandIn(of *Backing) *Backing {
	for _, name := range of.Failover {
		if b := p.Backing(name); b != nil && b.Usable() {
			return b
		}
	}
	return nil
}

// Mesh is what holds for the whole mesh.
type Mesh struct {
	// AllowAny lets requests go to hosts that nobody has declared, CapturedAny captured connections to
	// their addresses: a program that was captured has not asked for a proxy, and loses nothing by it
	// unless somebody says RegistryOnly.
	AllowAny, CapturedAny bool

	Provenance []discovery.ObjectRef
}

// TLS is how callers speak TLS to a target that has no identity of the mesh.
type TLS struct {
	// SNI is asked for; the certificate must have one of Names.
	SNI   string
	Names []SubjectAltName
	// CAs in PEM; "" for those of the proxy's host.
	CAs string
	// Failed is why requests must be answered 5xx rather than sent in the
	// clear or to anyone: "" if TLS can be spoken.
	Failed string
	// Unknown is true where Failed says that a policy cannot be read: whether TLS is to be spoken is not
	// known. Proxies that speak with the target go on as they do, and others answer 5xx.
	Unknown bool
}

// SubjectAltName is a name in a certificate: a DNS name, or a URI.
type SubjectAltName struct {
	URI   bool
	Value string
}

// Ref names the TrafficShift as what something comes from.
func (s *Shift) Ref() discovery.ObjectRef {
	return discovery.ObjectRef{Kind: s.Object.Kind, Key: s.Object.Key}
}

// SameKey reports whether a hash is of what tells the cohorts apart.
func (c *Cohort) SameKey(h *v1alpha1.HashKey) bool {
	if c.Cookie != "" {
		return h.Cookie != nil && h.Cookie.Name == c.Cookie
	}
	return strings.EqualFold(h.Header, c.Header)
}

// String names the key: "cookie causeway" or "header x-user".
func (c *Cohort) String() string {
	if c.Cookie != "" {
		return "cookie " + c.Cookie
	}
	return "header " + c.Header
}
