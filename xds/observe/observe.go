// Package observe finds out whether the mesh does what its objects say: which
// generation of an object every proxy has acknowledged, and which one a proxy
// has refused, with its error text.
//
// Replicas report, the leader computes conditions. A replica summarizes the
// state of its connected proxies (Summarize) and sends changes of it to the
// leader over gRPC. The leader keeps the newest summary of each replica (inbox)
// and computes from them the condition Programmed of every object
// (ProgrammedCondition, Observer.Programmed).
//
// In the same stream replicas report how the requests ended that their proxies
// sent to Services with a TrafficShift. The leader keeps these outcomes by time
// (outcome.Book), for the guard's windows (Observer.Window).
//
// The replicas' Leases decide who may report. They have the hash of each
// replica's certificate and nothing secret: who may write Leases may report.
package observe

import (
	"time"

	"github.com/causeway-mesh/causeway/discovery"
)

// Times of the protocol and of the conditions.
const (
	// Patience is how long proxies may take to acknowledge a generation, and a
	// replica to be heard of, before the condition says that they do not.
	Patience = 10 * time.Second
	// every is how often a replica looks at its proxies, which takes milliseconds
	// with thousands of objects.
	every = 500 * time.Millisecond
	// signOfLife is how often a replica with nothing new to say reports that.
	signOfLife = 3 * time.Second
)

// Bounds of what is reported, whatever the mesh is like.
const (
	// maxNames is how many proxies that lack a generation are named.
	maxNames = 5
	// maxNode and maxError are how many bytes of a node's id and of a proxy's
	// own words are passed on.
	maxNode  = 256
	maxError = 1024
	// chunk is the size from which on a summary continues in another message,
	// and maxMessage what no message may exceed.
	chunk      = 128 << 10
	maxMessage = 1 << 20
	// maxObjects bounds what a leader keeps of one replica's summary.
	maxObjects = 200_000
	// maxGateways bounds how many Gateways a summary names, so that what stands in each
	// of its messages stays small.
	maxGateways = 200
)

// Local is what a replica sees: its objects, its proxies, and what they refused.
type Local struct {
	// Index is the snapshot's.
	Index      uint64
	Objects    []Object
	Proxies    []Proxy
	Rejections []Rejection
}

// Object says how far the newest generation of an object has come in the
// replica's snapshot.
type Object struct {
	Name       discovery.ObjectName
	Generation int64
	// Index of the snapshot from which on the generation is in force for
	// everyone, 0 while it is not.
	Index uint64
	// Held is true while its configuration is held at the last good one,
	// because something was refused.
	Held bool
	// Since is when the generation was compiled.
	Since time.Time
}

// Proxy says how far a connected proxy has come.
type Proxy struct {
	Node string
	// Gateway is the Gateway that it is a proxy of, zero for none, and Listens
	// says where.
	Gateway discovery.Key
	Listens GatewayListens
	// Joined is the snapshot's index when the proxy connected, Acknowledged the
	// one up to which it has acknowledged everything that concerns it.
	Joined, Acknowledged uint64
	// Connected is when it connected.
	Connected time.Time
}

// Rejection is a resource that a proxy has refused.
type Rejection struct {
	// Resource is its type and name, for example "CDS web/php-web:80/pods".
	Resource string
	Node     string
	// Error is the proxy's own text.
	Error string
	// Objects that the resource came from, with the generations that were refused.
	Objects []discovery.ObjectRef
	// Held is true where the last good configuration holds instead, and Good
	// lists the objects that this comes from: what has the same generation in
	// both is not the cause.
	Held  bool
	Good  []discovery.ObjectRef
	Since time.Time
}

// Replica is a live process of the control plane, as its Lease tells.
type Replica struct {
	// Name is its identity, the same as in the election of the leader.
	Name string
	// Address is where it takes reports while it leads.
	Address string
	// Certificate is the fingerprint of the certificate that it shows (Identity.Fingerprint).
	Certificate string
}
