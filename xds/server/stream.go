package server

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// ads implements the aggregated discovery service.
type ads struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	server *Server
}

// DeltaAggregatedResources implements incremental ADS.
func (a ads) DeltaAggregatedResources(g discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	return run(a.server, g, deltaProtocol{}, func() (request, error) {
		var r deltaRequest
		if err := g.RecvMsg(&r); err != nil {
			return request{}, err
		}
		return r.request(), nil
	})
}

// StreamAggregatedResources implements state-of-the-world ADS.
func (a ads) StreamAggregatedResources(g discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	return run(a.server, g, &worldProtocol{}, func() (request, error) {
		r, err := g.Recv()
		if err != nil {
			return request{}, err
		}
		return request{
			node: r.GetNode(), url: r.GetTypeUrl(), nonce: r.GetResponseNonce(), fault: r.GetErrorDetail(),
			subscribe: r.GetResourceNames(), version: r.GetVersionInfo(),
		}, nil
	})
}

// request is a discovery request of either protocol.
type request struct {
	node  *corev3.Node
	url   string
	nonce string
	fault *rpcstatus.Status
	// subscribe is, in state-of-the-world, all names that are wanted from now on.
	subscribe, unsubscribe []string
	known                  []snapshot.Known // incremental: initial_resource_versions
	version                string           // state-of-the-world: version_info
}

// protocol is what differs between incremental and state-of-the-world.
type protocol interface {
	name() string
	mode(*Node) snapshot.Mode
	// subscribe applies a request to the subscriptions. Called with st.mu held.
	subscribe(st *stream, t resource.Type, r *request) error
	// encode returns the responses for a batch. Called with st.mu held.
	encode(st *stream, b snapshot.Batch) []outgoing
}

// outgoing is a response on its way.
type outgoing struct {
	t     resource.Type
	nonce string
	data  mem.BufferSlice
	size  int
}

// sent remembers a response until the client has acknowledged or refused it.
type sent struct {
	nonce uint64
	ids   []uint32
	// frames of the ids, nil for endpoints, whose acknowledgement does not
	// matter.
	frames []*snapshot.Frame
	// before is the store's index through which everything had been sent before.
	before uint64
	cause  time.Time
	at     time.Time
	// admitted is how many bytes of admission the response holds.
	admitted int64
}

// typeState is one type's state on a stream.
type typeState struct {
	started   bool // a request came
	responses uint64
	resources uint64
	waiting   []sent
	lastNonce uint64 // of the newest response
	rejected  map[uint32]struct{}
	fault     string
	faultAt   time.Time
	// limit is how many resources go into a response while the search for a
	// refused one goes on, 0 for no limit.
	limit int
}

type stream struct {
	server   *Server
	protocol protocol
	node     Node
	peer     string
	// principal is who the connection is by its certificate.
	principal string
	since     time.Time
	sub       *snapshot.Subscriber
	log       *slog.Logger
	ctx       context.Context //nolint:containedctx // whose peer is asked for again when the rules change
	party     party
	// ending has the error with which the server ends the stream of itself.
	ending chan error

	mu      sync.Mutex
	over    bool // nothing that is received counts any more
	types   [resource.Types]typeState
	nonce   uint64
	sending time.Time // when the send that is under way began, zero if none is
	unknown int       // requests for types that are not served
	through uint64    // the store's index up to which everything was sent
}

// run serves one stream until it ends.
func run(s *Server, g interface {
	Context() context.Context
	SendMsg(any) error
}, p protocol, recv func() (request, error),
) error {
	first, err := recv()
	if err != nil {
		return ended(err)
	}
	if first.node == nil {
		return status.Error(codes.InvalidArgument, "the first request on a stream must carry a node")
	}
	node, err := s.opts.Identify(first.node)
	if err != nil {
		s.opts.Metrics.refused.WithLabelValues("node").Inc()
		s.opts.Logger.Warn("refused a proxy: its node is not valid", "peer", peerOf(g.Context()), "error", err)
		return status.Errorf(codes.InvalidArgument, "node: %v", err)
	}
	rules := s.rules.Load()
	if s.opts.Authorize != nil {
		if err := s.opts.Authorize(g.Context(), &node); err != nil {
			s.opts.Metrics.refused.WithLabelValues("unauthorized").Inc()
			s.opts.Logger.Warn("refused a proxy: not authorized", "node", node.ID, "peer", peerOf(g.Context()), "error", err)
			return status.Errorf(codes.PermissionDenied, "node %s: %v", node.ID, err)
		}
	}
	of := partyOf(g.Context(), &node)
	names, leave, err := s.enter(of)
	if err != nil {
		return err
	}
	disconnect := func() {}
	if s.opts.Connect != nil {
		if disconnect, err = s.opts.Connect(g.Context(), &node); err != nil {
			leave()
			return status.Errorf(codes.Unavailable, "node %s: %v", node.ID, err)
		}
	}
	node.Authenticated = s.opts.Credentials != nil || s.opts.TrustPlaintext
	mode := p.mode(&node)
	mode.Names = names
	st := &stream{
		server: s, protocol: p, node: node, peer: peerOf(g.Context()), principal: principalOf(g.Context()), since: time.Now(), party: of,
		sub: s.store.Subscribe(node.View(), mode),
		log: s.opts.Logger.With("node", node.ID), ctx: g.Context(), ending: make(chan error, 1),
	}
	remove := s.add(st)
	if rules != s.rules.Load() { // they changed before Reauthorize knew of this stream
		st.reauthorize()
	}
	s.opts.Metrics.connected.WithLabelValues(p.name()).Inc()

	ctx, cancel := context.WithCancel(g.Context())
	sender := make(chan struct{})
	go func() {
		defer close(sender)
		// It fails only when the stream is at its end, which receive sees too.
		_ = st.send(ctx, g.SendMsg)
	}()
	received := make(chan error, 1)
	go func() { received <- st.receive(&first, recv) }()
	select {
	case err = <-received:
	case err = <-st.ending:
	}
	// The receiver takes nothing that comes after this call.
	st.mu.Lock()
	st.over = true
	st.mu.Unlock()
	cancel()
	over := func() {
		s.opts.Metrics.connected.WithLabelValues(p.name()).Dec()
		st.releaseAll()
		remove()
		st.sub.Close()
		disconnect()
		leave()
	}
	select {
	case <-sender:
		over()
	case <-time.After(endGrace):
		// gRPC gives up a send to a client that does not read only when this call has returned.
		go func() {
			<-sender
			over()
		}()
	}
	return ended(err)
}

// end ends the stream with an error. Only the first counts.
func (st *stream) end(err error) {
	select {
	case st.ending <- err:
	default:
	}
}

// ended turns the ways in which a client may simply go away into success.
func ended(err error) error {
	if err == nil || err == io.EOF || status.Code(err) == codes.Canceled { //nolint:errorlint // gRPC returns io.EOF itself
		return nil
	}
	return err
}

func peerOf(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok {
		return p.Addr.String()
	}
	return ""
}

func (st *stream) receive(first *request, recv func() (request, error)) error {
	r := *first
	*first = request{}
	for {
		if err := st.handle(&r); err != nil {
			return err
		}
		r = request{} // a thousand names need not wait for the next request
		var err error
		if r, err = recv(); err != nil {
			return err
		}
	}
}

func (st *stream) handle(r *request) error {
	t, ok := resource.TypeOf(r.url)
	if !ok {
		return st.handleUnknown(r)
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.over {
		return nil
	}
	if r.nonce != "" {
		st.handleAnswer(t, r)
	}
	if t == resource.Secret && !st.node.Authenticated && !st.types[t].started {
		st.log.Warn("a proxy asks for certificates and gets no private key, because it has not proven who it is: serve xDS with TLS")
	}
	if err := st.protocol.subscribe(st, t, r); err != nil {
		st.server.opts.Metrics.refused.WithLabelValues("limit").Inc()
		return status.Errorf(codes.ResourceExhausted, "%s: %v", t, err)
	}
	st.types[t].started = true
	return nil
}

// handleUnknown lets a client ask for a type that is not served, as a newer
// Envoy may: it gets no answer, and no other type suffers.
func (st *stream) handleUnknown(r *request) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.unknown++; st.unknown == 1 {
		st.log.Warn("a proxy asked for a type that is not served", "type", r.url)
	}
	st.server.opts.Metrics.unknown.Inc()
	return nil
}

// handleAnswer applies an ACK or a NACK. A nonce that is not waiting is stale
// and has no effect.
func (st *stream) handleAnswer(t resource.Type, r *request) {
	nonce, err := strconv.ParseUint(r.nonce, 10, 64)
	if err != nil {
		return
	}
	ts := &st.types[t]
	i := slices.IndexFunc(ts.waiting, func(w sent) bool { return w.nonce == nonce })
	if i < 0 {
		return
	}
	now := time.Now()
	m := st.server.opts.Metrics
	// Envoy answers in order, so this answer covers the responses before it
	// too.
	for _, w := range ts.waiting[:i+1] {
		st.release(w)
	}
	w := ts.waiting[i]
	ts.waiting = slices.Delete(ts.waiting, 0, i+1)
	if r.fault != nil {
		st.handleNack(t, w, r.fault.GetMessage(), now)
		return
	}
	st.sub.Accept(t, w.ids, w.frames)
	if ts.limit > 0 {
		if ts.limit *= 2; ts.limit > searchEnds {
			ts.limit = 0
		}
	}
	for _, id := range w.ids {
		delete(ts.rejected, id)
	}
	for id := range ts.rejected {
		if !st.sub.Has(t, id) { // removed since, or no longer asked for
			delete(ts.rejected, id)
		}
	}
	if len(ts.rejected) == 0 {
		ts.fault = ""
	}
	m.acknowledged.WithLabelValues(t.String()).Inc()
	if !w.cause.IsZero() {
		m.latency.WithLabelValues(t.String()).Observe(now.Sub(w.cause).Seconds())
	}
	if t >= resource.Listener {
		st.sub.Wake() // a removed cluster may have waited for this
	}
}

// handleNack applies a NACK. Until it is known which resource is at fault, the
// response's resources are sent again in ever smaller parts.
func (st *stream) handleNack(t resource.Type, w sent, message string, now time.Time) {
	ts := &st.types[t]
	culprits := st.sub.Reject(t, w.ids, w.frames, st.node.ID, message)
	message = snapshot.Brief(message)
	ts.fault, ts.faultAt = message, now
	st.server.opts.Metrics.rejected.WithLabelValues(t.String()).Inc()
	// The other resources of the response were refused too, so the client does
	// not have them.
	st.sub.Rewind(w.before)
	st.through = min(st.through, w.before)
	if len(culprits) == 0 {
		ts.limit = max(1, len(w.ids)/2)
	}
	if ts.rejected == nil {
		ts.rejected = make(map[uint32]struct{})
	}
	for _, id := range culprits {
		ts.rejected[id] = struct{}{}
	}
	st.log.Error("a proxy rejected its configuration", "type", t.String(), "error", message,
		"resources", abbreviate(st.sub.Names(t, culprits)), "sent", len(w.ids))
}

// abbreviate keeps a log line readable where a response carried a whole mesh.
func abbreviate(names []string) []string {
	const most = 8
	if len(names) > most {
		return append(names[:most:most], fmt.Sprintf("and %d more", len(names)-most))
	}
	return names
}

// send sends what is due until the context ends or the client is gone.
func (st *stream) send(ctx context.Context, sendMsg func(any) error) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		// Events: something to send (a change, a request or an
		// acknowledgement), the time of a removal has come, the stream ends.
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-st.sub.C():
		case <-timer.C:
		}
		batches, again := st.sub.Collect(snapshot.Settled{Now: time.Now(), Routes: st.settled()})
		for _, b := range batches {
			st.mu.Lock()
			out := st.protocol.encode(st, b)
			st.mu.Unlock()
			for _, o := range out {
				if err := st.sendOne(ctx, sendMsg, o); err != nil {
					return err
				}
			}
		}
		_, through := st.sub.Progress()
		st.mu.Lock()
		st.through = through
		st.mu.Unlock()
		next := time.Hour
		if !again.IsZero() {
			next = time.Until(again)
		}
		timer.Reset(next)
	}
}

func (st *stream) sendOne(ctx context.Context, sendMsg func(any) error, o outgoing) error {
	if o.size >= admitFrom {
		if err := st.admit(ctx, o); err != nil {
			return err
		}
	}
	st.mu.Lock()
	st.sending = time.Now()
	st.mu.Unlock()
	err := sendMsg(&response{data: o.data})
	st.mu.Lock()
	st.sending = time.Time{}
	st.mu.Unlock()
	m := st.server.opts.Metrics
	m.sentBytes.WithLabelValues(o.t.String()).Add(float64(o.size))
	m.responses.WithLabelValues(o.t.String()).Inc()
	return err
}

// admit waits until a large response may be on its way. The admission ends when
// the client has answered the response, or after a while if it does not.
func (st *stream) admit(ctx context.Context, o outgoing) error {
	n, err := st.server.admit.acquire(ctx, st.party, int64(o.size))
	if err != nil {
		return err
	}
	nonce, _ := strconv.ParseUint(o.nonce, 10, 64) // our own
	st.mu.Lock()
	ts := &st.types[o.t]
	i := slices.IndexFunc(ts.waiting, func(w sent) bool { return w.nonce == nonce })
	if i < 0 { // a client that guesses nonces has answered it before it was sent
		st.mu.Unlock()
		st.server.admit.release(st.party, n)
		return nil
	}
	ts.waiting[i].admitted = n
	st.mu.Unlock()
	time.AfterFunc(admitTimeout, func() {
		st.mu.Lock()
		defer st.mu.Unlock()
		for i := range ts.waiting {
			if ts.waiting[i].nonce == nonce {
				st.release(ts.waiting[i])
				ts.waiting[i].admitted = 0
			}
		}
	})
	return nil
}

func (st *stream) release(w sent) {
	if w.admitted > 0 {
		st.server.admit.release(st.party, w.admitted)
	}
}

// releaseAll gives back what an ended stream holds.
func (st *stream) releaseAll() {
	st.mu.Lock()
	defer st.mu.Unlock()
	for t := range st.types {
		for _, w := range st.types[t].waiting {
			st.release(w)
		}
		st.types[t].waiting = nil
	}
}

// settled reports whether the client has accepted every route that it was sent.
func (st *stream) settled() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	for t := resource.Listener; t < resource.Types; t++ {
		if len(st.types[t].waiting) > 0 || len(st.types[t].rejected) > 0 {
			return false
		}
	}
	return true
}

// record notes a response as sent and returns its nonce, which is unique on the stream.
func (st *stream) record(b *snapshot.Batch, ids []uint32, cause time.Time) string {
	ts := &st.types[b.Type]
	st.nonce++
	ts.lastNonce = st.nonce
	ts.responses++
	ts.resources += uint64(len(ids))
	if len(ts.waiting) >= maxWaiting {
		st.release(ts.waiting[0])
		// That it is forgotten does not mean that it was accepted.
		ts.waiting[1].before = min(ts.waiting[1].before, ts.waiting[0].before)
		ts.waiting = slices.Delete(ts.waiting, 0, 1)
	}
	w := sent{nonce: st.nonce, ids: ids, before: st.through, cause: cause, at: time.Now()}
	if b.Type != resource.Endpoint {
		w.frames = b.Frames
	}
	ts.waiting = append(ts.waiting, w)
	return strconv.FormatUint(st.nonce, 10)
}

// progress says how far the proxy has come.
func (st *stream) progress() Progress {
	joined, _ := st.sub.Progress()
	st.mu.Lock()
	defer st.mu.Unlock()
	p := Progress{
		View: st.node.View(), Joined: joined, Acknowledged: st.through, Connected: st.since,
	}
	for t := range st.types {
		if waiting := st.types[t].waiting; len(waiting) > 0 {
			p.Acknowledged = min(p.Acknowledged, waiting[0].before)
		}
	}
	return p
}

func (st *stream) status() ProxyStatus {
	lag, heldBack := st.sub.Lag(), st.sub.Held()
	st.mu.Lock()
	defer st.mu.Unlock()
	p := ProxyStatus{
		ID: st.node.ID, Role: st.node.Role, Namespace: st.node.Namespace, Workload: st.node.Workload, Authenticated: st.node.Authenticated, Service: st.node.Service, Zone: st.node.Zone, NodeName: st.node.NodeName, Version: st.node.Version,
		Protocol: st.protocol.name(), Peer: st.peer, Listeners: st.node.Declared, Connected: st.since, Pending: lag.Pending, Held: lag.Held, HeldBack: heldBack,
	}
	if !st.sending.IsZero() && time.Since(st.sending) > stalledAfter {
		p.StalledSince = st.sending
	}
	p.InSync = lag.Pending == 0 && st.sending.IsZero()
	for t := range st.types {
		ts := &st.types[t]
		if !ts.started {
			continue
		}
		rt := resource.Type(t) //nolint:gosec // t < Types
		names, all := st.sub.Asked(rt)
		if all {
			names = -1
		}
		status := TypeStatus{
			Type: rt.String(), Subscribed: names, Responses: ts.responses, Resources: ts.resources,
			Acknowledged: len(ts.waiting) == 0, Error: ts.fault,
		}
		if len(ts.rejected) > 0 {
			status.Rejected = st.sub.Names(rt, slices.Sorted(maps.Keys(ts.rejected)))
			status.RejectedAt = ts.faultAt
			slices.Sort(status.Rejected)
		}
		p.InSync = p.InSync && status.Acknowledged && len(ts.rejected) == 0
		p.Types = append(p.Types, status)
	}
	return p
}

// appendTail appends the fields of a response that differ per stream.
func appendTail(to []byte, url string, fieldURL protowire.Number, nonce string) []byte {
	to = protowire.AppendTag(to, fieldURL, protowire.BytesType)
	to = protowire.AppendString(to, url)
	to = protowire.AppendTag(to, fieldNonce, protowire.BytesType)
	return protowire.AppendString(to, nonce)
}
