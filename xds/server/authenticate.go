package server

import (
	"context"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	// idleConnection is how long a connection may have no stream, where a connection alone proves nothing: proxies have
	// one at all times.
	idleConnection = 2 * time.Minute
	// refusalsPerSecond and refusalsAtOnce bound the log lines about streams of clients that nobody knows.
	refusalsPerSecond, refusalsAtOnce = 5, 50
)

// Proof is what a stream has proven of who its peer is, before anything of it is read.
type Proof struct {
	// Principal tells peers apart: streams of one principal are one proxy's.
	Principal string
	// Of is what Authenticate has found, for Authorize.
	Of any
}

type proofKey struct{}

// ProofOf returns what Authenticate has found about the stream of a context, nil if it found nothing.
func ProofOf(ctx context.Context) any {
	p, ok := ctx.Value(proofKey{}).(*Proof)
	if !ok {
		return nil
	}
	return p.Of
}

// Authorization returns the values of the metadata "authorization" of a stream.
func Authorization(ctx context.Context) []string {
	return metadata.ValueFromIncomingContext(ctx, "authorization")
}

// proven is a stream whose context has its proof.
type proven struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // a stream's own, as gRPC has it
}

func (p *proven) Context() context.Context { return p.ctx }

// authenticate ends streams of any service that prove nothing, before a byte of a message is read.
//
// On a listener without TLS a stream with a token is refused: everybody on the way can have read it.
func (s *Server) authenticate(server any, g grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	ctx := g.Context()
	switch {
	case s.opts.Credentials == nil && len(Authorization(ctx)) > 0:
		s.refuse(ctx, "unauthenticated", "refused a stream: a token came without TLS, and everybody on the way can have read it", info.FullMethod, nil)
		return status.Error(codes.Unauthenticated, "a token came without TLS: serve xDS with TLS, and replace the token by another")
	case s.opts.Authenticate == nil:
		return handler(server, g)
	}
	proof, err := s.opts.Authenticate(ctx)
	switch {
	case status.Code(err) == codes.Unavailable:
		s.refuse(ctx, "undecided", "a stream could not be authenticated; its proxy tries again", info.FullMethod, err)
		return err
	case err != nil:
		s.refuse(ctx, "unauthenticated", "refused a stream: it has not proven who it is", info.FullMethod, err)
		return status.Error(codes.Unauthenticated, err.Error())
	}
	return handler(server, &proven{ServerStream: g, ctx: context.WithValue(ctx, proofKey{}, proof)})
}

// refuse counts a stream of somebody unknown that is ended, and logs it unless very many are.
func (s *Server) refuse(ctx context.Context, cause, message, method string, err error) {
	s.opts.Metrics.refused.WithLabelValues(cause).Inc()
	if s.refusals.Allow() {
		s.opts.Logger.Warn(message, "peer", peerOf(ctx), "method", method, "error", err) //nolint:sloglint // one of three
	}
}

func newRefusals() *rate.Limiter { return rate.NewLimiter(refusalsPerSecond, refusalsAtOnce) }
