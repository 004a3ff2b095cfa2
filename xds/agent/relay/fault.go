package relay

import (
	"context"
	"regexp"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"
)

const (
	// lookEvery is how often the relay looks whether another reason keeps it from connecting.
	lookEvery = 2 * time.Second
	// maxSaid bounds how many reasons are logged before a control plane answers.
	maxSaid = 20
)

// ownPort is the port of this end of a connection, which is another one each time.
var ownPort = regexp.MustCompile(`:\d+->`)

// fault is why no control plane answers.
type fault struct {
	text string
	// connecting is true for one of connecting, and false for one of a stream.
	connecting bool
	said       map[string]bool
}

// watch notes why no connection comes about, until the context ends.
func (r *Relay) watch(ctx context.Context) {
	r.unusable() // it may take long until a connection fails
	for {
		state := r.conn.GetState()
		switch state {
		case connectivity.TransientFailure:
			r.inquire(ctx)
		case connectivity.Ready:
			r.answered(true)
		case connectivity.Idle, connectivity.Connecting, connectivity.Shutdown:
		}
		turn, cancel := context.WithTimeout(ctx, lookEvery)
		r.conn.WaitForStateChange(turn, state)
		cancel()
		if ctx.Err() != nil {
			return
		}
	}
}

// inquire asks gRPC why there is no connection: it says so only to a call that does not wait for one.
func (r *Relay) inquire(ctx context.Context) {
	if r.unusable() {
		return
	}
	call, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if _, err := r.conn.NewStream(call, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, deltaADS); err != nil {
		r.failed(err, true)
	}
}

// unusable notes what is wrong with this end's own credentials, and reports whether anything is.
func (r *Relay) unusable() bool {
	if r.opts.Usable == nil {
		return false
	}
	err := r.opts.Usable()
	r.failed(err, true)
	return err != nil
}

// failed notes why no control plane answers, and logs a reason that is new.
func (r *Relay) failed(err error, connecting bool) {
	s := status.Convert(err)
	if err == nil || s.Code() == codes.Canceled || s.Code() == codes.DeadlineExceeded {
		return
	}
	text := plain(s.Message())
	r.mu.Lock()
	r.fault.text, r.fault.connecting = text, connecting
	news := !r.fault.said[text] && len(r.fault.said) < maxSaid
	if news {
		if r.fault.said == nil {
			r.fault.said = make(map[string]bool)
		}
		r.fault.said[text] = true
	}
	r.mu.Unlock()
	if news {
		r.opts.Logger.Warn("no control plane answers; trying again", "servers", r.opts.Servers, "error", text)
	}
}

// plain takes out of gRPC's words for a connection what says nothing, and what differs each time.
func plain(text string) string {
	if inner, ok := strings.CutPrefix(text, `connection error: desc = "`); ok {
		text = strings.TrimSuffix(inner, `"`)
	}
	text = strings.TrimPrefix(strings.TrimPrefix(text, "transport: "), "Error while dialing: ")
	return ownPort.ReplaceAllString(text, "->")
}

// answered notes that a control plane has connected, or has answered a stream.
func (r *Relay) answered(connected bool) {
	r.mu.Lock()
	was := r.fault.text
	if connected && !r.fault.connecting {
		was = ""
	}
	if was != "" {
		r.fault = fault{}
	}
	r.mu.Unlock()
	if was != "" && !connected {
		r.opts.Logger.Info("a control plane answers again")
	}
}
