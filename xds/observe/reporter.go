package observe

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/causeway-mesh/causeway/policy/outcome"
	"github.com/causeway-mesh/causeway/xds/observe/observev1"
)

// How soon a failed report is tried again. A leader that has just been elected
// is not known to itself yet for a moment.
const (
	retryFirst = 200 * time.Millisecond
	retryMost  = 3 * time.Second
)

// Report reports to the leader, whoever that is, until the context ends; its
// only error is the context's. While this replica leads it has nothing to do.
func (o *Observer) Report(ctx context.Context) error {
	retry := retryFirst
	failing := ""
	for {
		leader, ok, changed := o.leader()
		wait := every // the name of the leader has no channel of its own
		if ok {
			welcomed, err := o.reportTo(ctx, leader)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if welcomed {
				retry, failing = retryFirst, ""
			}
			if text := fmt.Sprint(err); err != nil && text != failing && status.Code(err) != codes.Unavailable {
				o.opts.Logger.Warn("cannot report to the leader; trying again", "leader", leader.Name, "error", err)
				failing = text
			}
			wait = retry + rand.N(retry) //nolint:gosec // spreads retries
			retry = min(2*retry, retryMost)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-changed:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// reportTo reports to one leader for as long as it is the one.
func (o *Observer) reportTo(ctx context.Context, leader Replica) (welcomed bool, err error) {
	conn, err := grpc.NewClient("passthrough:///"+leader.Address,
		grpc.WithTransportCredentials(credentials.NewTLS(o.identity.config(func(fingerprint string) error {
			if fingerprint != leader.Certificate {
				return fmt.Errorf("observe: %s does not show the certificate that the Lease of %s names", leader.Address, leader.Name)
			}
			return nil
		}))),
		grpc.WithNoProxy(), grpc.WithDisableServiceConfig(),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: handshakeTimeout}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: Patience, Timeout: Patience / 2}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
	)
	if err != nil {
		return false, fmt.Errorf("observe: %w", err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := observev1.NewObservationsClient(conn).Report(ctx)
	if err != nil {
		return false, err
	}
	o.mu.Lock()
	o.session++
	hello := &observev1.Hello{Session: o.session}
	o.mu.Unlock()
	r := &reporter{observer: o, leader: leader, stream: stream, answers: make(chan answer)}
	done := make(chan struct{})
	defer func() {
		cancel()
		<-done
	}()
	go func() {
		defer close(done)
		r.receive(ctx)
	}()
	if err := r.send(&observev1.ReportRequest{Content: &observev1.ReportRequest_Hello{Hello: hello}}); err != nil {
		return false, r.reason(err)
	}
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case <-time.After(handshakeTimeout):
		return false, status.Error(codes.DeadlineExceeded, "observe: the leader does not answer")
	case a := <-r.answers:
		if a.err != nil {
			return false, a.err
		}
		r.epoch = a.message.GetEpoch()
	}
	o.metrics.connected.Set(1)
	defer o.metrics.connected.Set(0)
	o.opts.Logger.Info("reporting to the leader", "leader", leader.Name)
	return true, r.run(ctx)
}

// answer is a message of the leader, or why there are no more.
type answer struct {
	message *observev1.ReportResponse
	err     error
}

// reporter is one stream to a leader.
type reporter struct {
	observer *Observer
	leader   Replica
	stream   observev1.Observations_ReportClient
	answers  chan answer

	epoch, sequence uint64
	// told is what the leader knows, nil if that is nothing.
	told *Summary
	at   time.Time
	// counted is what the leader knows of outcomes, nil if that is nothing, and
	// countedAt when they were last looked at.
	counted   *outcome.Report
	countedAt time.Time
}

func (r *reporter) receive(ctx context.Context) {
	for {
		m, err := r.stream.Recv()
		select {
		case r.answers <- answer{m, err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// run reports what is new until the stream ends or another replica leads.
func (r *reporter) run(ctx context.Context) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		now, ok, changed := r.observer.leader()
		if !ok || now != r.leader {
			return nil
		}
		if err := r.report(); err != nil {
			return r.reason(err)
		}
		// What can happen: it is time to look, another leads, the leader wants
		// everything once more, the end.
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		case <-changed:
		case a := <-r.answers:
			if a.err != nil {
				return a.err
			}
			if a.message.GetEpoch() == r.epoch && a.message.GetResend() != nil {
				r.told, r.counted = nil, nil
			}
		}
	}
}

// report sends what the leader does not know. A leader that reads slowly is
// waited for, and then told the latest.
func (r *reporter) report() error {
	// A summary after them says that there are no more.
	if err := r.reportOutcomes(); err != nil {
		return err
	}
	o := r.observer
	start := time.Now()
	now := Summarize(o.opts.Local())
	summaries := messages(r.told, &now)
	o.metrics.duration.Observe(time.Since(start).Seconds())
	if len(summaries) == 0 {
		if start.Sub(r.at) < signOfLife {
			return nil
		}
		summaries = []*observev1.Summary{signOf(&now)}
	}
	for _, s := range summaries {
		if err := r.send(&observev1.ReportRequest{Content: &observev1.ReportRequest_Summary{Summary: s}}); err != nil {
			return err
		}
	}
	r.told, r.at = &now, start
	return nil
}

func (r *reporter) send(m *observev1.ReportRequest) error {
	r.sequence++
	m.Sequence, m.Epoch = r.sequence, r.epoch
	r.observer.metrics.sent.Add(float64(proto.Size(m)))
	return r.stream.Send(m)
}

// reason returns why a stream has ended, which the error of a send does not tell.
func (r *reporter) reason(sendError error) error {
	select {
	case a := <-r.answers:
		if a.err != nil {
			return a.err
		}
	case <-time.After(time.Second):
	}
	return sendError
}
