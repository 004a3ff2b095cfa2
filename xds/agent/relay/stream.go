package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"
)

// errSilent says that the control plane has not answered within Options.Wait.
var errSilent = errors.New("the control plane does not answer")

// stream is an Envoy's stream of configuration.
type stream struct {
	*Relay
	down     grpc.ServerStream
	requests <-chan received
	// sent are the control plane's responses that Envoy has neither acknowledged nor refused, by nonce.
	sent map[string]*discoveryv3.DeltaDiscoveryResponse
	// anew says of each type, once Envoy has asked for it, whether it is told all of it and not
	// what has changed: the first that it acknowledges then replaces what is kept.
	anew map[string]bool
}

// configure serves an Envoy's stream of configuration: by the control plane,
// or from memory where that is away and Envoy serves nothing yet.
func (r *Relay) configure(down grpc.ServerStream) error {
	s := &stream{Relay: r, down: down, requests: receive(down.Context(), down), sent: make(map[string]*discoveryv3.DeltaDiscoveryResponse), anew: make(map[string]bool)}
	var first received
	select {
	case <-down.Context().Done():
		return over(down.Context())
	case first = <-s.requests:
	}
	if first.err != nil {
		return first.err
	}
	request := &discoveryv3.DeltaDiscoveryRequest{}
	if err := first.message.decode(request); err != nil {
		return err
	}
	if r.kept.belongTo(request.GetNode()) {
		r.opts.Logger.Warn("the last known good configuration is of a proxy with other flags, or of another version of Envoy: it is not used", "file", r.opts.File)
	}
	wait := r.patience(len(request.GetInitialResourceVersions()) == 0, time.Now())
	v := request.GetNode().GetUserAgentBuildVersion().GetVersion()
	r.mu.Lock()
	r.newest, r.version = s, fmt.Sprintf("%d.%d.%d", v.GetMajorNumber(), v.GetMinorNumber(), v.GetPatch())
	r.mu.Unlock()
	defer s.set(State{})
	unanswered, err := s.byControlPlane(first.message, wait)
	if down.Context().Err() == nil && !errors.Is(err, errSilent) {
		r.failed(err, false)
	}
	// One that refuses each stream answers no more than one that is silent.
	if wait == 0 || unanswered == nil || !errors.Is(err, errSilent) && !r.waited(time.Now()) {
		return err
	}
	return s.fromMemory(unanswered, err)
}

// set says where Envoy's configuration comes from, unless Envoy has a newer stream.
func (s *stream) set(state State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.newest == s {
		s.state = state
	}
}

// over is the end of a stream whose Envoy has gone.
func over(ctx context.Context) error { return status.FromContextError(ctx.Err()).Err() }

// byControlPlane passes the stream on, until it ends. If the control plane has not answered
// after wait, unless that is 0, it fails with errSilent. If it fails before the
// first answer, it returns what Envoy has asked.
func (s *stream) byControlPlane(first message, wait time.Duration) ([]message, error) {
	ctx, cancel := context.WithCancel(s.down.Context())
	defer cancel()
	var silent <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		silent = timer.C
	}
	type opened struct {
		up  grpc.ClientStream
		err error
	}
	opening := make(chan opened, 1)
	go func() {
		up, err := s.open(ctx, deltaADS)
		opening <- opened{up, err}
	}()
	asked := []message{first}
	var up grpc.ClientStream
	select {
	case <-ctx.Done():
		return nil, over(ctx)
	case o := <-opening:
		if o.err != nil {
			return asked, o.err
		}
		up = o.up
	case <-silent:
		return asked, errSilent
	}
	if err := s.ask(up, first); err != nil {
		return asked, err
	}
	s.set(State{Connected: true})
	answers := receive(ctx, up)
	for {
		select {
		case <-ctx.Done(): // neither requests nor answers need say so
			return nil, over(ctx)
		case m := <-s.requests:
			if m.err != nil {
				return nil, m.err
			}
			if asked != nil {
				asked = append(asked, m.message)
			}
			if err := s.ask(up, m.message); err != nil {
				return asked, err
			}
		case m := <-answers:
			if m.err != nil {
				return asked, ended(m.err)
			}
			asked, silent = nil, nil
			s.setAway(false)
			s.answered(false)
			if err := s.answer(m.message); err != nil {
				return nil, err
			}
		case <-silent:
			return asked, errSilent
		}
	}
}

// ask passes a request on, and takes what it acknowledges into memory.
func (s *stream) ask(up grpc.ClientStream, m message) error {
	request := &discoveryv3.DeltaDiscoveryRequest{}
	if err := m.decode(request); err != nil {
		return err
	}
	s.heard(request)
	if _, begun := s.anew[request.GetTypeUrl()]; !begun {
		s.anew[request.GetTypeUrl()] = len(request.GetInitialResourceVersions()) == 0
	}
	if nonce := request.GetResponseNonce(); nonce != "" {
		if response := s.sent[nonce]; response != nil && request.GetErrorDetail() == nil {
			s.kept.apply(response, s.anew[request.GetTypeUrl()])
			s.anew[request.GetTypeUrl()] = false
		}
		delete(s.sent, nonce)
	}
	s.kept.forget(request.GetTypeUrl(), request.GetResourceNamesUnsubscribe())
	// What Envoy has and memory has not is asked for once more.
	if s.kept.lacks(request) {
		var err error
		if m, err = encode(request); err != nil {
			return err
		}
	}
	return sent(up.SendMsg(m))
}

// answer passes a response on.
func (s *stream) answer(m message) error {
	response := &discoveryv3.DeltaDiscoveryResponse{}
	if err := m.decode(response); err != nil {
		return err
	}
	s.sent[response.GetNonce()] = response
	return s.down.SendMsg(m) //nolint:wrapcheck // gRPC's own status
}

// fromMemory answers an Envoy that has just started from the last known good
// configuration, until a control plane can be reached again. Envoy then comes
// back with what it has, and is told what is new.
func (s *stream) fromMemory(asked []message, why error) error {
	saved := s.kept.savedAt()
	s.opts.Logger.Warn("no control plane answers: Envoy starts with its last known good configuration", "waited", s.opts.Wait, "saved", saved, "error", why)
	s.set(State{LastGood: true, Saved: saved})
	s.setAway(true)
	ctx, cancel := context.WithCancel(s.down.Context())
	defer cancel()
	memory := newMemory(s.kept)
	for _, m := range asked {
		if err := s.recall(memory, m); err != nil {
			return err
		}
	}
	back := s.reachable(ctx)
	quiet := time.NewTimer(settled)
	defer quiet.Stop()
	// An Envoy that warms its clusters is quiet and serves nothing: a control plane that says nothing
	// after all must not get it, but one that has what memory lacks must.
	var late <-chan time.Time
	for isQuiet, isBack, isLate := false, false, false; !isQuiet || !isBack || !isLate && !s.listening(); {
		select {
		case <-ctx.Done():
			return over(ctx)
		case <-late:
			isLate = true
		case m := <-s.requests:
			if m.err != nil {
				return m.err
			}
			if err := s.recall(memory, m.message); err != nil {
				return err
			}
			isQuiet = false
			quiet.Reset(settled)
		case <-quiet.C:
			isQuiet = true
		case <-back:
			isBack, back, late = true, nil, time.After(s.opts.Wait)
		}
	}
	s.opts.Logger.Info("a control plane is back: Envoy is handed over to it")
	return status.Error(codes.Unavailable, "a control plane is back")
}

// recall answers a request from memory.
func (s *stream) recall(memory *memory, m message) error {
	request := &discoveryv3.DeltaDiscoveryRequest{}
	if err := m.decode(request); err != nil {
		return err
	}
	s.heard(request)
	if e := request.GetErrorDetail(); e != nil {
		s.opts.Logger.Warn("Envoy refuses a part of its last known good configuration", "type", request.GetTypeUrl(), "error", e.GetMessage())
	}
	response := memory.answer(request)
	if response == nil {
		return nil
	}
	out, err := encode(response)
	if err != nil {
		return err
	}
	return s.down.SendMsg(out) //nolint:wrapcheck // gRPC's own status
}

// reachable returns a channel that is closed once a control plane is connected.
func (s *stream) reachable(ctx context.Context) <-chan struct{} {
	out := make(chan struct{})
	go func() {
		for {
			state := s.conn.GetState()
			switch state {
			case connectivity.Ready:
				close(out)
				return
			case connectivity.Idle:
				s.conn.Connect()
			case connectivity.Connecting, connectivity.TransientFailure, connectivity.Shutdown:
			}
			if !s.conn.WaitForStateChange(ctx, state) {
				return
			}
		}
	}()
	return out
}
