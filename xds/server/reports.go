package server

import (
	"context"
	"crypto/x509"
	"hash/maphash"
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// reports checks which clusters a stream of reports may name: those that the same proxy's own stream of
// configuration was sent. Envoy sends access logs on connections of its worker threads, so a proxy's streams
// share no connection. They share the node id and, where clients have certificates, the names in the
// certificate.
type reports struct {
	server    *Server
	node      *Node
	principal string
	// leave must be called at the stream's end.
	leave func()
	// seed makes hashes of clusters' names, which nobody can forge. The names themselves are the
	// client's, and may be long.
	seed maphash.Seed
	// seen are answers of before: a proxy's entries are about few clusters.
	seen map[uint64]struct{}
	// rules is the Server's when the stream was last admitted.
	rules uint64
	// missed are clusters that the proxy was not sent at missedAt, the last look.
	missed   map[uint64]struct{}
	missedAt time.Time
}

const (
	// maxSeen bounds what is remembered of a stream's clusters.
	maxSeen = 1000
	// missedFor is for how long a cluster that was not sent is not looked up again.
	missedFor = time.Second
)

// reports returns who a stream of reports is from, if its peer may say so.
func (s *Server) reports(ctx context.Context, claimed *corev3.Node) (*reports, error) {
	if claimed == nil {
		return nil, status.Error(codes.InvalidArgument, "the first message on a stream of reports must carry a node")
	}
	node, err := s.opts.Identify(claimed)
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "node: %v", err)
	}
	r := &reports{server: s, node: &node, principal: principalOf(ctx), seed: maphash.MakeSeed(), seen: make(map[uint64]struct{})}
	if err := r.admit(ctx); err != nil {
		return nil, err
	}
	if r.leave, err = s.enterReports(partyOf(ctx, &node)); err != nil {
		s.opts.Logger.Warn("refused a stream of reports", "node", node.ID, "peer", peerOf(ctx), "error", err)
		return nil, err
	}
	node.Authenticated = s.opts.Credentials != nil || s.opts.TrustPlaintext
	return r, nil
}

// admit asks whether the stream's peer may be this node.
func (r *reports) admit(ctx context.Context) error {
	r.rules = r.server.rules.Load()
	if r.server.opts.Authorize == nil {
		return nil
	}
	if err := r.server.opts.Authorize(ctx, r.node); err != nil {
		r.server.opts.Metrics.refused.WithLabelValues("unauthorized").Inc()
		r.server.opts.Logger.Warn("refused a stream of reports: not authorized", "node", r.node.ID, "peer", peerOf(ctx), "error", err)
		return status.Errorf(codes.PermissionDenied, "node %s: %v", r.node.ID, err)
	}
	return nil
}

// readmit calls admit again after the rules have changed, before a message
// counts.
func (r *reports) readmit(ctx context.Context) error {
	if r.rules == r.server.rules.Load() {
		return nil
	}
	return r.admit(ctx)
}

// sent reports whether the proxy was sent a cluster. A stream may report about it until the stream ends,
// because last answers come after a cluster has gone.
//
// Replicas share the streams of a proxy. A replica without the proxy's stream of configuration checks what
// the proxy sees, if the connection proves the proxy's identity; otherwise it accepts nothing.
func (r *reports) sent(cluster string) bool {
	if len(cluster) > snapshot.MaxNameLength {
		return false
	}
	id := maphash.String(r.seed, cluster)
	if _, ok := r.seen[id]; ok {
		return true
	}
	if now := time.Now(); r.missed == nil || now.Sub(r.missedAt) > missedFor || len(r.missed) > maxSeen {
		r.missed, r.missedAt = make(map[uint64]struct{}), now
	}
	if _, ok := r.missed[id]; ok {
		return false
	}
	if !r.look(cluster) {
		r.missed[id] = struct{}{}
		return false
	}
	if len(r.seen) < maxSeen {
		r.seen[id] = struct{}{}
	}
	return true
}

func (r *reports) look(cluster string) bool {
	own, others := false, false
	for _, st := range r.server.streamsOf(r.node.ID) {
		if st.principal == r.principal {
			own = true
			if st.sub.HasNamed(resource.Cluster, cluster) {
				return true
			}
		} else {
			others = true
		}
	}
	if own || others || r.server.opts.Authorize == nil {
		return false
	}
	return r.server.store.Sees(r.node.View(), resource.Cluster, cluster)
}

// Names of the tags of entries (package compile).
const (
	clusterTag = "cluster"
	portTag    = "port"
)

// about reports whether an entry is about a cluster that the proxy was sent. An entry of a request that found
// no cluster is about a port: the proxy was sent one of its backings, or will be.
func (r *reports) about(c *accesslogv3.AccessLogCommon) bool {
	name := c.GetCustomTags()[clusterTag]
	if name == "" || name == "-" {
		name = c.GetUpstreamCluster()
	}
	if name != "" && name != "-" {
		return r.sent(name)
	}
	port := c.GetCustomTags()[portTag]
	for _, name := range naming.BackingsOf(port) {
		if r.sent(name) || len(r.server.streamsOf(r.node.ID)) > 0 && r.server.store.Sees(r.node.View(), resource.Cluster, name) {
			return true
		}
	}
	return false
}

// known returns the entries that are about what the proxy was sent.
func known[E interface {
	GetCommonProperties() *accesslogv3.AccessLogCommon
}](r *reports, entries []E,
) []E {
	if !slices.ContainsFunc(entries, func(e E) bool { return !r.about(e.GetCommonProperties()) }) {
		return entries
	}
	var out []E
	for _, e := range entries {
		if r.about(e.GetCommonProperties()) {
			out = append(out, e)
		}
	}
	r.server.opts.Metrics.ignoredEntries.Add(float64(len(entries) - len(out)))
	return out
}

// streamsOf returns the streams of configuration of a node.
func (s *Server) streamsOf(node string) []*stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*stream
	for _, st := range s.byNode[node] {
		out = append(out, st)
	}
	return out
}

// principalOf names who a stream is by its proof, or else by its connection's certificate, "" for one without.
func principalOf(ctx context.Context) string {
	if proof, ok := ctx.Value(proofKey{}).(*Proof); ok && proof.Principal != "" {
		return proof.Principal
	}
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ""
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return ""
	}
	return namesOf(info.State.VerifiedChains[0][0])
}

// namesOf joins the names of a certificate, which stay the same when it is renewed.
func namesOf(cert *x509.Certificate) string {
	names := append([]string{cert.Subject.CommonName}, cert.DNSNames...)
	for _, u := range cert.URIs {
		names = append(names, u.String())
	}
	return strings.Join(names, "\n")
}
