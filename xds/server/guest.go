package server

import (
	"context"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Guest is a stream of another service on the port of xDS. Who may be which node is decided as for streams of
// configuration, also while the stream is open.
type Guest struct {
	server *Server
	node   Node
	ctx    context.Context //nolint:containedctx // whose peer is asked for again when the rules change
	ended  chan error
	leave  func()
}

// Registrar takes services that are served beside xDS. They must be registered before Serve.
func (s *Server) Registrar() grpc.ServiceRegistrar { return s.grpc }

// Admit lets a stream in if its peer may be the node that it says it is. Leave must be called at the stream's end.
// The error is gRPC's, and a refusal is logged.
func (s *Server) Admit(ctx context.Context, claimed *corev3.Node) (*Guest, error) {
	node, err := s.opts.Identify(claimed)
	if err != nil {
		s.opts.Metrics.refused.WithLabelValues("node").Inc()
		s.opts.Logger.Warn("refused an agent: its node is not valid", "peer", peerOf(ctx), "error", err)
		return nil, status.Errorf(codes.InvalidArgument, "node: %v", err)
	}
	g := &Guest{server: s, node: node, ctx: ctx, ended: make(chan error, 1)}
	leave, err := s.enterReports(partyOf(ctx, &node))
	if err != nil {
		s.opts.Logger.Warn("refused an agent", "node", node.ID, "peer", peerOf(ctx), "error", err)
		return nil, err
	}
	// It is among the guests before it is asked for: rules that change meanwhile count for it.
	s.mu.Lock()
	s.guests[g] = struct{}{}
	s.mu.Unlock()
	g.leave = func() {
		s.mu.Lock()
		delete(s.guests, g)
		s.mu.Unlock()
		leave()
	}
	if err := g.authorize("refused an agent: not authorized"); err != nil {
		g.leave()
		return nil, err
	}
	return g, nil
}

func (g *Guest) authorize(refusal string) error {
	s := g.server
	if s.opts.Authorize == nil {
		return nil
	}
	node := g.node
	if err := s.opts.Authorize(g.ctx, &node); err != nil {
		s.opts.Metrics.refused.WithLabelValues("unauthorized").Inc()
		s.opts.Logger.Warn(refusal, "node", node.ID, "peer", peerOf(g.ctx), "error", err) //nolint:sloglint // one of two
		return status.Errorf(codes.PermissionDenied, "node %s: %v", node.ID, err)
	}
	return nil
}

// reauthorize ends the stream if its peer may not be its node any more.
func (g *Guest) reauthorize() {
	if err := g.authorize("cut off an agent: not authorized any more"); err != nil {
		select {
		case g.ended <- err:
		default:
		}
	}
}

// Node returns who the stream is of, without what only a stream of configuration says.
func (g *Guest) Node() *Node { return &g.node }

// Ended has the error with which the stream must end, once it must.
func (g *Guest) Ended() <-chan error { return g.ended }

// Leave says that the stream has ended.
func (g *Guest) Leave() { g.leave() }
