// Package server speaks xDS to Envoys: aggregated discovery (ADS), incremental
// and state-of-the-world, the load reporting service (LRS), and the access log
// service (ALS).
//
// Every stream has two goroutines. One receives: it keeps the subscriptions and
// the acknowledgements. The other sends what is due in the snapshot. A stalled
// client stops only its own sender. The sender's pending state stays one bit
// per resource, however long it stalls.
package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	lrsv3 "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// Node is who a proxy says it is.
type Node struct {
	// ID is the whole node id, unique per proxy.
	ID string
	// Service is the node's cluster, "namespace/service".
	Service string
	Role    resource.Role
	// Namespace, Workload, Zone, NodeName and Declared decide what the proxy sees (snapshot.View).
	Namespace, Workload, Zone, NodeName string
	Declared                            []string
	// Instance is the last part of the ID: an instance id or a pod's uid.
	Instance string
	// Authenticated is true if the connection has proven who the node is; the server sets it.
	Authenticated bool
	// Identity is what the connection has proven of who the node is; Authorize
	// sets it, and it is "" where nothing is proven.
	Identity string
	// Version is the Envoy's own, for example "1.40.0".
	Version string
	// Envoy is true if the client says it is an Envoy, false for others that speak xDS.
	Envoy bool
}

// View returns what decides which resources the node sees.
func (n *Node) View() snapshot.View {
	return snapshot.View{Role: n.Role, Namespace: n.Namespace, Workload: n.Workload, Zone: n.Zone, NodeName: n.NodeName, Declared: n.Declared, Build: n.Version, Identity: n.Identity, Node: n.ID, Authenticated: n.Authenticated}
}

// Options are what the server needs from outside.
type Options struct {
	Logger  *slog.Logger
	Metrics *Metrics
	// Credentials of the listener, nil for plaintext.
	Credentials credentials.TransportCredentials
	// TrustPlaintext takes every plaintext connection for authenticated, so that
	// it may see private keys.
	TrustPlaintext bool
	// Identify reads a node's claims. Its error ends the stream with InvalidArgument.
	Identify func(*corev3.Node) (Node, error)
	// Authenticate finds out who the peer of a stream is, before anything of it is read. Its error ends the
	// stream with Unauthenticated, one of the code Unavailable with that. nil asks nobody.
	Authenticate func(context.Context) (*Proof, error)
	// Authorize decides whether the peer of the context may be this node. Its
	// error ends the stream with PermissionDenied. nil allows everyone.
	Authorize func(context.Context, *Node) error
	// Connect is called before a node is served anything and returns once what
	// it declares is in the store; the function that it returns is called when
	// the node's stream has ended. nil does nothing.
	Connect func(context.Context, *Node) (disconnect func(), err error)
	// Outcomes takes load reports and access logs, nil for nobody.
	Outcomes Outcomes
	// LoadInterval is how often proxies are asked to report their load, 10 s if 0.
	LoadInterval time.Duration
	// Limits of what clients cost.
	Limits Limits
}

// Limits that protect the server from one client or from all at once.
const (
	// maxRequest is the largest request. A proxy that reconnects names all that it has: the names of
	// four clusters of each of ten thousand Services, with their versions, are 2.4 MB.
	maxRequest = 8 << 20
	// maxResponse is where an incremental response is split.
	maxResponse = 3 << 20
	// admitBytes is how much may be on its way to clients in large responses
	// at a time. A herd that reconnects queues for it and nobody is refused.
	admitBytes = 64 << 20
	// admitFrom is the response size from which admission is asked for.
	admitFrom = 64 << 10
	// admitTimeout ends the admission of a client that does not acknowledge.
	admitTimeout = 5 * time.Second
	// maxWaiting is how many responses of a type are remembered for a client
	// that reads and never acknowledges.
	maxWaiting = 256
	// searchEnds ends the search for a refused resource: a response of this
	// size was accepted.
	searchEnds = 1 << 12
	// endGrace is how long the end of a stream waits for the send that is under way.
	endGrace = time.Second
	// stalledAfter is how long a send may block before the proxy is reported as stalled.
	stalledAfter = 5 * time.Second
)

// Server serves a snapshot.Store to proxies.
type Server struct {
	store *snapshot.Store
	opts  Options
	grpc  *grpc.Server
	admit *admission
	// bundles of large incremental responses.
	bundles bundles

	mu      sync.Mutex
	next    uint64
	streams map[uint64]*stream
	// byNode are the streams of each node.
	byNode map[string]map[uint64]*stream
	limits Limits
	names  *snapshot.Budget
	firsts firsts
	// guests are the streams of other services.
	guests map[*Guest]struct{}
	// rules counts the changes of what Authorize says.
	rules atomic.Uint64
	// identities counts the streams of configuration per identity, reporters the streams of
	// reports; connections are those with a stream of configuration.
	identities  map[string]int
	reporters   map[string]int
	connections map[string]*connection
	// refusals bounds the log lines about streams of who is unknown.
	refusals *rate.Limiter
}

// New returns a server of the store's resources.
func New(store *snapshot.Store, opts Options) *Server {
	limits := opts.Limits.withDefaults()
	s := &Server{
		store: store, opts: opts, admit: newAdmission(), streams: make(map[uint64]*stream), byNode: make(map[string]map[uint64]*stream), limits: limits,
		names: snapshot.NewBudget(limits.NameBytes, nil), identities: make(map[string]int), reporters: make(map[string]int), connections: make(map[string]*connection),
		firsts: newFirsts(), guests: make(map[*Guest]struct{}), refusals: newRefusals(),
	}
	alive := keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}
	if opts.Authenticate != nil {
		alive.MaxConnectionIdle = idleConnection
	}
	options := []grpc.ServerOption{
		grpc.ForceServerCodecV2(newCodec()),
		grpc.MaxRecvMsgSize(maxRequest), grpc.MaxHeaderListSize(maxHeaders), grpc.ConnectionTimeout(handshakeTimeout),
		grpc.ChainStreamInterceptor(s.authenticate, s.limitFirst),
		grpc.StaticStreamWindowSize(streamWindow), grpc.StaticConnWindowSize(connectionWindow),
		grpc.MaxConcurrentStreams(uint32(limits.StreamsPerConnection)), //nolint:gosec // a small number
		// Thousands of mostly idle connections: write buffers are shared by
		// default, and a small one is enough for requests.
		grpc.ReadBufferSize(4 << 10),
		grpc.KeepaliveParams(alive),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	}
	if opts.Credentials != nil {
		options = append(options, grpc.Creds(opts.Credentials))
	}
	s.grpc = grpc.NewServer(options...)
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s.grpc, ads{server: s})
	lrsv3.RegisterLoadReportingServiceServer(s.grpc, lrs{server: s})
	accesslogv3.RegisterAccessLogServiceServer(s.grpc, als{server: s})
	return s
}

// Serve accepts connections until Stop is called.
func (s *Server) Serve(l net.Listener) error {
	if err := s.grpc.Serve(counting{l, &s.firsts}); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("xds: serve %s: %w", l.Addr(), err)
	}
	return nil
}

// Stop closes the listeners and ends every stream; proxies go to another replica.
func (s *Server) Stop() { s.grpc.Stop() }

// TypeStatus is the state of one type on one stream.
type TypeStatus struct {
	Type string `json:"type"`
	// Subscribed counts names, -1 stands for all.
	Subscribed int `json:"subscribed"`
	// Responses and Resources count what was sent on this stream.
	Responses uint64 `json:"responses"`
	Resources uint64 `json:"resources"`
	// Acknowledged is false while a response awaits its acknowledgement.
	Acknowledged bool `json:"acknowledged"`
	// Rejected names resources whose newest version the proxy refused, and
	// Error is the proxy's own text.
	Rejected   []string  `json:"rejected,omitempty"`
	Error      string    `json:"error,omitempty"`
	RejectedAt time.Time `json:"rejectedAt,omitzero"`
}

// ProxyStatus is the state of one connected proxy.
type ProxyStatus struct {
	ID   string        `json:"id"`
	Role resource.Role `json:"role"`
	// Namespace and Workload are what the proxy belongs to; of a proxy of the role gateway, the Gateway.
	Namespace string `json:"namespace"`
	Workload  string `json:"workload"`
	// Authenticated is true for a proxy that has proven who it is.
	Authenticated bool   `json:"authenticated,omitempty"`
	Service       string `json:"service"`
	Zone          string `json:"zone"`
	// NodeName is the Kubernetes node that the proxy says it runs on, "" for none.
	NodeName string `json:"nodeName,omitempty"`
	Version  string `json:"version"`
	Protocol string `json:"protocol"` // delta or sotw
	Peer     string `json:"peer"`
	// Listeners that the proxy declared.
	Listeners []string  `json:"listeners,omitempty"`
	Connected time.Time `json:"connected"`
	// InSync is true if everything that the proxy follows was sent and acknowledged.
	InSync bool `json:"inSync"`
	// Pending counts changes not sent yet, Held those that wait for other resources.
	Pending int `json:"pending"`
	Held    int `json:"held"`
	// HeldBack are the units of configuration, such as "service/web/shop", of which
	// the proxy has an older version, because a proxy of its class refused the
	// newer one.
	HeldBack []string `json:"heldBack,omitempty"`
	// StalledSince is when the proxy stopped reading, zero if it reads.
	StalledSince time.Time    `json:"stalledSince,omitzero"`
	Types        []TypeStatus `json:"types"`
}

// View returns what decides which resources the proxy sees.
func (p *ProxyStatus) View() snapshot.View {
	return snapshot.View{
		Role: p.Role, Namespace: p.Namespace, Workload: p.Workload, Authenticated: p.Authenticated, Zone: p.Zone, NodeName: p.NodeName, Declared: p.Listeners,
	}
}

// Views returns what decides which resources proxies see.
func Views(proxies []ProxyStatus) []snapshot.View {
	out := make([]snapshot.View, len(proxies))
	for i := range proxies {
		out[i] = proxies[i].View()
	}
	return out
}

// Proxies returns the state of every connected proxy, sorted by id.
func (s *Server) Proxies() []ProxyStatus {
	s.mu.Lock()
	streams := make([]*stream, 0, len(s.streams))
	for _, st := range s.streams {
		streams = append(streams, st)
	}
	s.mu.Unlock()
	out := make([]ProxyStatus, 0, len(streams))
	for _, st := range streams {
		out = append(out, st.status())
	}
	slices.SortFunc(out, func(a, b ProxyStatus) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), a.Connected.Compare(b.Connected))
	})
	return out
}

// Progress says how far a connected proxy has come.
type Progress struct {
	// View is what decides which resources the proxy sees.
	snapshot.View
	Connected time.Time
	// Joined is the store's index when the stream began. Acknowledged is the index
	// up to which the proxy has answered every change that concerns it.
	Joined, Acknowledged uint64
}

// Progress returns how far every connected proxy has come, in no order.
func (s *Server) Progress() []Progress {
	s.mu.Lock()
	streams := slices.Collect(maps.Values(s.streams))
	s.mu.Unlock()
	out := make([]Progress, 0, len(streams))
	for _, st := range streams {
		out = append(out, st.progress())
	}
	return out
}

// Reauthorize asks Authorize anew for every open stream and ends those that it refuses now:
// streams of resources and of other services at once, streams of reports with their next message.
func (s *Server) Reauthorize() {
	if s.opts.Authorize == nil {
		return
	}
	s.rules.Add(1)
	s.mu.Lock()
	streams, guests := slices.Collect(maps.Values(s.streams)), slices.Collect(maps.Keys(s.guests))
	s.mu.Unlock()
	for _, st := range streams {
		st.reauthorize()
	}
	for _, g := range guests {
		g.reauthorize()
	}
}

// reauthorize ends the stream if its peer may not be its node any more.
func (st *stream) reauthorize() {
	s, node := st.server, st.node
	if err := s.opts.Authorize(st.ctx, &node); err != nil {
		s.opts.Metrics.refused.WithLabelValues("unauthorized").Inc()
		s.opts.Logger.Warn("cut off a proxy: not authorized any more", "node", node.ID, "peer", st.peer, "error", err)
		st.end(status.Errorf(codes.PermissionDenied, "node %s: %v", node.ID, err))
	}
}

// Connected returns how many streams are open.
func (s *Server) Connected() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.streams)
}

func (s *Server) add(st *stream) (remove func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	id := s.next
	s.streams[id] = st
	if s.byNode[st.node.ID] == nil {
		s.byNode[st.node.ID] = make(map[uint64]*stream)
	}
	s.byNode[st.node.ID][id] = st
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.streams, id)
		if delete(s.byNode[st.node.ID], id); len(s.byNode[st.node.ID]) == 0 {
			delete(s.byNode, st.node.ID)
		}
	}
}
