// Package resource defines the compiler's output for the snapshot: one Envoy
// resource, marshalled once, with what the snapshot needs to know to send it.
package resource

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
)

// Type is a kind of xDS resource. The numeric order is the order in which a
// stream is sent additions (make before break): what is referred to goes first.
type Type uint8

// The types that Causeway serves.
const (
	Cluster Type = iota
	Endpoint
	Secret
	Listener
	Route
	VirtualHost
	// Types is the number of types.
	Types = iota
)

var urls = [Types]string{
	Cluster:     "type.googleapis.com/envoy.config.cluster.v3.Cluster",
	Endpoint:    "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
	Secret:      "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
	Listener:    "type.googleapis.com/envoy.config.listener.v3.Listener",
	Route:       "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
	VirtualHost: "type.googleapis.com/envoy.config.route.v3.VirtualHost",
}

var short = [Types]string{Cluster: "CDS", Endpoint: "EDS", Secret: "SDS", Listener: "LDS", Route: "RDS", VirtualHost: "VHDS"}

// URL returns the type's URL as xDS requests name it.
func (t Type) URL() string { return urls[t] }

// Configuration reports whether resources of the type are configuration. Their
// changes are tried with canaries first, and frozen by a freeze. Endpoints and
// certificates are facts: they have no last good version to go back to, and must not
// wait.
func (t Type) Configuration() bool { return t != Endpoint && t != Secret }

// MarshalText returns the same as String: what is stored outlives the numbers.
func (t Type) MarshalText() ([]byte, error) {
	if int(t) >= len(short) {
		return nil, fmt.Errorf("%d is not a type of resources", t)
	}
	return []byte(short[t]), nil
}

// UnmarshalText is the inverse of MarshalText.
func (t *Type) UnmarshalText(text []byte) error {
	for i, s := range short {
		if s == string(text) {
			*t = Type(i) //nolint:gosec // i < Types
			return nil
		}
	}
	return fmt.Errorf("%q is not a type of resources", text)
}

// String returns CDS, EDS, SDS, LDS, RDS or VHDS.
func (t Type) String() string { return short[t] }

// TypeOf returns the type of a URL, false for one that Causeway does not serve.
func TypeOf(url string) (Type, bool) {
	for t, u := range urls {
		if u == url {
			return Type(t), true //nolint:gosec // t < Types
		}
	}
	return 0, false
}

// Role is what an Envoy does in the mesh, the first part of its node id.
type Role string

// The roles of a proxy.
const (
	Sidecar Role = "sidecar"
	Gateway Role = "gateway"
)

// Visibility limits who sees a resource. An empty field does not limit.
type Visibility struct {
	// Role is the role that a proxy must have.
	Role Role
	// Namespace is the namespace that a proxy must be in.
	Namespace string
	// Gateway is the Gateway that a proxy must be one of ("namespace/name"); only proxies of
	// the role gateway are.
	Gateway string
	// Authenticated is true for a resource that only a proxy with a proven identity
	// may see.
	Authenticated bool
	// Declared is a listener that the proxy must have declared in its node metadata.
	Declared string
}

// Parts is a marshalled protobuf message in pieces: their concatenation is the
// message. Pieces may be shared with other resources and must not be changed.
type Parts [][]byte

// Len returns the length of the message in bytes.
func (p Parts) Len() int {
	n := 0
	for _, b := range p {
		n += len(b)
	}
	return n
}

// Bytes returns the message in one piece.
func (p Parts) Bytes() []byte {
	out := make([]byte, 0, p.Len())
	for _, b := range p {
		out = append(out, b...)
	}
	return out
}

// Place is where a proxy is, as far as it decides which variant of a message it gets.
type Place struct{ Namespace, Zone, Node string }

// Resource is one Envoy resource. It is immutable once handed over.
type Resource struct {
	Type Type
	Name string
	// Body is the marshalled message for every proxy that has no variant of its own.
	Body Parts
	// ByZone is the message for proxies in a zone, by the zone's name, nil
	// where the zone makes no difference.
	ByZone map[string]Parts
	// ByNamespace is the message for proxies in a namespace, nil where the
	// namespace makes no difference. A resource has ByZone or ByNamespace, not both.
	ByNamespace map[string]Parts
	// ByNode is the message for proxies that say which Kubernetes node they run on, by the
	// node's name, nil where the node makes no difference. It comes before ByZone.
	ByNode map[string]Parts `json:",omitempty"`
	// OtherNodes is the message for those on a node that ByNode lacks. nil: they
	// get what they would get without saying where they run.
	OtherNodes Parts `json:",omitempty"`
	// Shape is a hash of the message, and of its variants, with all weights of
	// traffic left out, 0 where that is not known: a change that leaves the
	// shape as it is moves traffic and nothing else, and is not staged.
	Shape   uint64
	Visible Visibility
	// StandIn is true for a resource that lacks a part, because that part is not known yet.
	// Only a proxy without a resource of the name gets it; others keep the one that they
	// have.
	StandIn bool `json:",omitempty"`
	// Needs names the clusters that must be known to a proxy (with their
	// endpoints) before it may be sent this resource. Sorted.
	Needs []string
	// EDS is true for a cluster whose endpoints come as the Endpoint resource
	// of the same name.
	EDS bool
	// Provenance lists the objects that the resource comes from, the most
	// specific first. It is not part of the bytes.
	Provenance []discovery.ObjectRef
}

// For returns the message that a proxy at a place gets.
func (r *Resource) For(p Place) Parts {
	if body, ok := r.ByNamespace[p.Namespace]; ok {
		return body
	}
	if p.Node != "" {
		if body, ok := r.ByNode[p.Node]; ok {
			return body
		}
		if r.OtherNodes != nil {
			return r.OtherNodes
		}
	}
	if body, ok := r.ByZone[p.Zone]; ok {
		return body
	}
	return r.Body
}

// HasNodes reports whether the Kubernetes node that a proxy says makes a difference. r may be nil.
func (r *Resource) HasNodes() bool { return r != nil && (len(r.ByNode) > 0 || r.OtherNodes != nil) }

// Variants yields all messages besides Body, in an order that stays the same.
func (r *Resource) Variants(yield func(Parts) bool) {
	for _, variants := range []map[string]Parts{r.ByZone, r.ByNamespace, r.ByNode} {
		for _, key := range slices.Sorted(maps.Keys(variants)) {
			if !yield(variants[key]) {
				return
			}
		}
	}
	if r.OtherNodes != nil {
		yield(r.OtherNodes)
	}
}

// SeenBy says which proxies get the resource.
func (r *Resource) SeenBy() string {
	s := "all proxies"
	switch {
	case r.Visible.Gateway != "":
		s = "every proxy of Gateway " + r.Visible.Gateway
	case r.Visible.Role != "":
		s = "every " + string(r.Visible.Role)
	}
	if r.Visible.Declared != "" {
		s += " that declares " + r.Visible.Declared
	}
	if r.Visible.Namespace != "" {
		s += " of namespace " + r.Visible.Namespace
	}
	if len(r.ByNamespace) > 0 {
		s += "; a variant of its own in namespace " + strings.Join(slices.Sorted(maps.Keys(r.ByNamespace)), ", ")
	}
	return s
}
