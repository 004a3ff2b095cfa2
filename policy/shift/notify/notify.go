// Package notify sends webhooks about what happens to TrafficShifts.
//
// A notice is sent at least once while the process lives: in the order of its
// shift, up to five times, never in the way of the shift itself. Another leader
// may send one again; its id is then the same.
package notify

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/shift"
	"github.com/causeway-mesh/causeway/policy/shift/outbound"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// waiting is how many notices one notification of one shift may have unsent: as
// many as a status has history. Beyond it the oldest go.
const waiting = 64

// Notice is something that happened to a shift.
type Notice struct {
	shift.Notice

	// Shift is the TrafficShift's name, UID its uid, "" without Kubernetes.
	Shift discovery.Key
	UID   string
	// Service is the name of the Service whose traffic moves.
	Service   string
	Direction v1alpha1.ShiftDirection
	// Phase after what happened.
	Phase v1alpha1.ShiftPhase
	// Link leads to the page of the shift, "" where nobody has said where that is.
	Link string
	// Time at which it happened: that of status.history where it is in there, so
	// that another leader gives the notice the same id.
	Time time.Time
}

// Target is where notices go.
type Target struct {
	Notification *v1alpha1.ShiftNotification
	// Credentials that the notification refers to, nil for none.
	Credentials map[string][]byte
}

// Options of a Sender.
type Options struct {
	Log *slog.Logger
	// Registerer takes the metrics; nil for none.
	Registerer prometheus.Registerer
	// AllowLoopback admits webhooks on this machine, for a control plane without Kubernetes.
	AllowLoopback bool
	// Page is where browsers reach the control plane's page, "" for nowhere: notices link to it.
	Page string
	// Backoff is how long to wait after each attempt but the last; DefaultBackoff if nil.
	Backoff []time.Duration
}

// DefaultBackoff is how long to wait after each of the first four attempts.
func DefaultBackoff() []time.Duration {
	return []time.Duration{time.Second, 4 * time.Second, 16 * time.Second, time.Minute}
}

// Sender sends notices. It may be used by many goroutines.
type Sender struct {
	log     *slog.Logger
	page    string
	client  *http.Client
	backoff []time.Duration
	sent    *prometheus.CounterVec
	// live ends when waiting for what is unsent is over.
	live context.Context //nolint:containedctx // the queues' own, which outlives every call
	end  context.CancelFunc

	mu     sync.Mutex
	closed bool
	queues map[line][]message
	work   sync.WaitGroup
}

// line keeps the notices of a shift to one of its notifications in order.
type line struct {
	shift discovery.Key
	name  string
}

type message struct {
	notice Notice
	target Target
}

// Outcomes of notices, as the metric's label has them.
const (
	outcomeDelivered = "delivered"
	outcomeRetried   = "retried"
	outcomeFailed    = "failed"
	outcomeDropped   = "dropped"
)

// New returns a Sender. Close it.
func New(o Options) *Sender {
	s := &Sender{
		log: o.Log, page: strings.TrimRight(o.Page, "/"), client: outbound.NewClient(outbound.Options{AllowLoopback: o.AllowLoopback}),
		backoff: o.Backoff, queues: make(map[line][]message),
		sent: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "causeway_shift_webhooks_total",
			Help: "Webhooks of shifts by outcome: delivered, retried (an attempt that failed), failed (given up), dropped (too many unsent).",
		}, []string{"outcome"}),
	}
	// A first failure must be an increase, not a new series.
	for _, o := range []string{outcomeDelivered, outcomeRetried, outcomeFailed, outcomeDropped} {
		s.sent.WithLabelValues(o)
	}
	if s.backoff == nil {
		s.backoff = DefaultBackoff()
	}
	s.live, s.end = context.WithCancel(context.Background())
	if o.Registerer != nil {
		o.Registerer.MustRegister(s.sent)
	}
	return s
}

// Send has a notice sent to those targets that want its event. It returns at once.
func (s *Sender) Send(n Notice, targets ...Target) {
	if s.page != "" {
		n.Link = s.page + "/shifts/" + url.PathEscape(n.Shift.Namespace) + "/" + url.PathEscape(n.Shift.Name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range targets {
		if on := t.Notification.Events; len(on) > 0 && !slices.Contains(on, n.Event) {
			continue
		}
		if s.closed {
			s.sent.WithLabelValues(outcomeDropped).Inc()
			continue
		}
		to := line{n.Shift, t.Notification.Name}
		queue, busy := s.queues[to]
		if len(queue) == waiting {
			// The first one may be under way. The newest one matters most.
			queue = slices.Delete(queue, 1, 2)
			s.sent.WithLabelValues(outcomeDropped).Inc()
			s.log.Warn("a notice of a shift is dropped, because too many wait to be sent", "shift", n.Shift, "notification", to.name)
		}
		s.queues[to] = append(queue, message{n, t})
		if !busy {
			s.work.Go(func() { s.drain(to) })
		}
	}
}

// drain sends what waits in a line, then ends.
func (s *Sender) drain(to line) {
	for {
		s.mu.Lock()
		next := s.queues[to][0]
		s.mu.Unlock()
		s.deliver(next)
		s.mu.Lock()
		s.queues[to] = s.queues[to][1:]
		if len(s.queues[to]) == 0 {
			delete(s.queues, to)
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
	}
}

// deliver tries to send a message until it is taken, refused or given up.
func (s *Sender) deliver(m message) {
	log := s.log.With("shift", m.notice.Shift, "notification", m.target.Notification.Name, "event", m.notice.Event)
	for attempt := 0; ; attempt++ {
		outcome := s.post(s.live, m)
		switch {
		case outcome.err == nil:
			s.sent.WithLabelValues(outcomeDelivered).Inc()
			return
		case s.live.Err() != nil:
			s.sent.WithLabelValues(outcomeDropped).Inc()
			return
		case !outcome.again || attempt == len(s.backoff):
			s.sent.WithLabelValues(outcomeFailed).Inc()
			log.Warn("a notice of a shift was not taken", "attempts", attempt+1, "error", outcome.err)
			return
		}
		s.sent.WithLabelValues(outcomeRetried).Inc()
		timer := time.NewTimer(max(s.backoff[attempt], outcome.after))
		select {
		case <-timer.C:
		case <-s.live.Done():
			timer.Stop()
		}
	}
}

// Close sends what waits for as long as the context lives, then gives up the
// rest. Send drops everything from then on.
func (s *Sender) Close(ctx context.Context) {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	stop := context.AfterFunc(ctx, s.end)
	s.work.Wait()
	stop()
	s.end()
	s.client.CloseIdleConnections()
}
