package observe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/causeway-mesh/causeway/xds/observe/observev1"
)

// Bounds of the server, which anyone may connect to who reaches its port.
const (
	handshakeTimeout = 5 * time.Second
	maxStreams       = 4 // of one connection
)

// Values of the label cause of refused streams.
const (
	causeCertificate = "certificate"
	causeNotLeader   = "not_leader"
	causeProtocol    = "protocol"
)

// Serve takes the reports of other replicas on the listener until the context
// ends. While this replica does not lead it refuses them.
func (o *Observer) Serve(ctx context.Context, l net.Listener) error {
	g := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(o.identity.config(func(fingerprint string) error {
			_, err := o.replicaOf(fingerprint)
			if err != nil {
				o.metrics.refused.WithLabelValues(causeCertificate).Inc()
			}
			return err
		}))),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxConcurrentStreams(maxStreams),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: Patience, Timeout: Patience / 2}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: Patience / 2, PermitWithoutStream: true}),
	)
	observev1.RegisterObservationsServer(g, &service{observer: o})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		g.Stop()
	}()
	if err := g.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("observe: serve %s: %w", l.Addr(), err)
	}
	<-stopped
	return ctx.Err()
}

// service implements the protocol.
type service struct {
	observev1.UnimplementedObservationsServer
	observer *Observer
}

// received is a message of a stream, or why there are no more.
type received struct {
	message *observev1.ReportRequest
	err     error
}

// Report implements observev1.ObservationsServer.
func (s *service) Report(stream observev1.Observations_ReportServer) error {
	o := s.observer
	t := o.current()
	if t == nil {
		o.metrics.refused.WithLabelValues(causeNotLeader).Inc()
		return status.Error(codes.Unavailable, "this replica does not lead")
	}
	replica, err := o.authenticate(stream.Context())
	if err != nil {
		o.metrics.refused.WithLabelValues(causeCertificate).Inc()
		return status.Error(codes.PermissionDenied, err.Error())
	}
	// The stream's context ends with this call, and with it the reading.
	messages := make(chan received)
	go func() {
		for {
			m, err := stream.Recv()
			select {
			case messages <- received{m, err}:
			case <-stream.Context().Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	var first received
	select {
	case <-t.ended:
		return errTermEnded()
	case first = <-messages:
	}
	if first.err != nil {
		return first.err
	}
	session := first.message.GetHello().GetSession()
	if session == 0 {
		o.metrics.refused.WithLabelValues(causeProtocol).Inc()
		return status.Error(codes.InvalidArgument, "the first message must be a hello with a session")
	}
	replaced := make(chan struct{})
	if err := t.open(replica, session, func() { close(replaced) }); err != nil {
		o.metrics.refused.WithLabelValues(causeProtocol).Inc()
		return status.Error(codes.Aborted, err.Error())
	}
	defer t.closed(replica.Name, session)
	answer := func(r *observev1.ReportResponse) error {
		r.Epoch = t.inbox.epoch // it never changes
		return stream.Send(r)
	}
	if err := answer(&observev1.ReportResponse{Content: &observev1.ReportResponse_Welcome{Welcome: &observev1.Welcome{}}}); err != nil {
		return err
	}
	o.opts.Logger.Info("a replica reports", "replica", replica.Name)
	for {
		select {
		case <-t.ended:
			return errTermEnded()
		case <-replaced:
			return status.Error(codes.Aborted, errReplaced.Error())
		case r := <-messages:
			if r.err != nil {
				return r.err
			}
			result, err := t.apply(replica.Name, session, r.message, o.opts.Now())
			o.metrics.reports.WithLabelValues(string(result)).Inc()
			if err != nil {
				return status.Error(codes.ResourceExhausted, err.Error())
			}
			if result == missing {
				if err := answer(&observev1.ReportResponse{Content: &observev1.ReportResponse_Resend{Resend: &observev1.Resend{}}}); err != nil {
					return err
				}
			}
		}
	}
}

func errTermEnded() error { return status.Error(codes.Unavailable, "this replica no longer leads") }

// authenticate returns the replica that has the certificate of a stream's peer.
func (o *Observer) authenticate(ctx context.Context) (Replica, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return Replica{}, errNoCertificate
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return Replica{}, errNoCertificate
	}
	f, err := peerFingerprint(&info.State)
	if err != nil {
		return Replica{}, err
	}
	// Its Lease may have ended since the handshake.
	return o.replicaOf(f)
}

func (t *term) open(r Replica, session uint64, end func()) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.inbox.open(r.Name, r.Certificate, session, end)
}

func (t *term) closed(name string, session uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.inbox.closed(name, session)
}

func (t *term) apply(name string, session uint64, m *observev1.ReportRequest, now time.Time) (result, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.inbox.apply(name, session, m, now)
}
