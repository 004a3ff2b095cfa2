// Package relay stands between an Envoy and the control plane. It passes every
// message on as it is, remembers what Envoy has acknowledged, and answers an
// Envoy that has just started from that memory while no control plane can be reached.
package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"

	"github.com/causeway-mesh/causeway/xds/bootstrap"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// What Envoy calls. Secrets are the agent's own, and nothing else is passed on.
const (
	deltaADS = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
	loads    = "/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats"
	sds      = "/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets"
	logs     = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"
)

// maxMessage is how large a message may be, in bytes. The control plane is
// believed; it sends a large mesh in one response.
const maxMessage = 1 << 30

// settled is how long an Envoy that is answered from memory must have asked
// nothing before it is handed to a control plane that has come back.
const settled = time.Second

// Options of a Relay.
type Options struct {
	// Servers are the control plane's addresses, "host:port"; they are tried in random order.
	Servers []string
	// Credentials of the connection to them.
	Credentials credentials.TransportCredentials
	// Token is shown with each stream; nil for none.
	Token credentials.PerRPCCredentials
	// Usable says what is wrong with them on this host, nil for nothing: while no server is reached, nobody else would.
	// It may be nil.
	Usable func() error
	// Secrets answers for those of the agent's own; nil for none.
	Secrets Secrets
	// File is where the last known good configuration is kept.
	File string
	// Wait is how long an Envoy that has just started waits for the control
	// plane's first answer before it is given the last known good configuration.
	Wait   time.Duration
	Logger *slog.Logger
}

// Relay is a gRPC server for one Envoy at a time.
type Relay struct {
	opts Options
	conn *grpc.ClientConn
	kept *kept

	mu    sync.Mutex
	state State
	start start
	// away is true after no control plane has answered, until one does.
	away bool
	// version is Envoy's own.
	version string
	// newest is the stream of configuration that the state is of.
	newest *stream
	fault  fault
	// unsaved is State.Unsaved.
	unsaved string
}

// start is how far Envoy has come since it began with nothing.
type start struct {
	// began is when it first asked, listening whether it has answered for its
	// listeners: before that, all that it has is of no use.
	began     time.Time
	listening bool
}

// State says where Envoy's configuration comes from.
type State struct {
	// Connected is true while Envoy's stream goes on to a control plane.
	Connected bool `json:"connected"`
	// LastGood is true while Envoy runs on the last known good configuration
	// of an earlier start, which is of the time Saved.
	LastGood bool      `json:"lastGood"`
	Saved    time.Time `json:"saved,omitzero"`
	// Error is why no control plane has answered last, "" once one does.
	Error string `json:"error,omitempty"`
	// Unsaved is why the last known good configuration could not be written last, "" once it is.
	Unsaved string `json:"unsaved,omitempty"`
}

// New returns a relay. A last known good configuration that cannot be read is
// none, and logged: the control plane has it all.
func New(o Options) (*Relay, error) {
	if len(o.Servers) == 0 {
		return nil, errors.New("relay: no address of a control plane")
	}
	servers := manual.NewBuilderWithScheme("servers")
	addresses := make([]resolver.Address, len(o.Servers))
	for i, s := range o.Servers {
		addresses[i] = resolver.Address{Addr: s}
	}
	servers.InitialState(resolver.State{Addresses: addresses})
	options := []grpc.DialOption{
		grpc.WithResolvers(servers), grpc.WithTransportCredentials(o.Credentials),
		grpc.WithNoProxy(), // an Envoy without an agent takes none either
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"pick_first": {"shuffleAddressList": true}}]}`), grpc.WithDisableServiceConfig(),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: bootstrap.ReconnectBase, Multiplier: 1.6, Jitter: 0.5, MaxDelay: bootstrap.ReconnectMax},
			MinConnectTimeout: bootstrap.ConnectTimeout,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: bootstrap.KeepaliveInterval, Timeout: bootstrap.KeepaliveTimeout}),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(codec{}), grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
	}
	if o.Token != nil {
		options = append(options, grpc.WithPerRPCCredentials(o.Token))
	}
	conn, err := grpc.NewClient("servers:///control-plane", options...)
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	k, err := load(o.File)
	if err != nil {
		o.Logger.Warn("there is no last known good configuration; a start without the control plane would wait for it", "file", o.File, "error", err)
	}
	return &Relay{opts: o, conn: conn, kept: k}, nil
}

// Serve serves on a listener until the context ends, and then writes what is to
// be remembered. Its error is the listener's, nil for the end of the context.
func (r *Relay) Serve(ctx context.Context, l net.Listener) error {
	server := grpc.NewServer(grpc.ForceServerCodecV2(codec{}), grpc.UnknownServiceHandler(r.handle), grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage))
	var parts sync.WaitGroup
	ended, end := context.WithCancel(ctx)
	parts.Go(func() {
		<-ended.Done()
		server.Stop()
	})
	parts.Go(func() { r.keep(ended) })
	parts.Go(func() { r.watch(ended) })
	r.conn.Connect()
	err := server.Serve(l)
	end()
	parts.Wait()
	err = errors.Join(err, r.conn.Close())
	if ctx.Err() != nil {
		return nil //nolint:nilerr // the end was wanted
	}
	return fmt.Errorf("relay: %w", err)
}

// Conn returns the connection to the control plane. It is closed when Serve returns.
func (r *Relay) Conn() grpc.ClientConnInterface { return r.conn }

// EnvoyVersion returns the version of the Envoy that asked last, "" before the first.
func (r *Relay) EnvoyVersion() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.version
}

// State returns where Envoy's configuration comes from now.
func (r *Relay) State() State {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.state
	s.Error, s.Unsaved = r.fault.text, r.unsaved
	return s
}

// patience returns how long a control plane has for its first answer to an
// Envoy that serves nothing yet, over all of its streams; 0 is for ever. fresh
// is an Envoy that has nothing.
func (r *Relay) patience(fresh bool, now time.Time) time.Duration {
	usable := r.kept.usable()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.start.began.IsZero() || fresh && r.start.listening {
		r.start = start{began: now}
	}
	if r.start.listening || !usable {
		return 0
	}
	if r.away { // another Envoy need not wait for what its predecessor has waited for
		return settled
	}
	return max(settled, r.opts.Wait-now.Sub(r.start.began))
}

// setAway notes whether a control plane has answered.
func (r *Relay) setAway(away bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away = away
}

// waited reports whether Envoy has had all of its patience.
func (r *Relay) waited(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.away || now.Sub(r.start.began) >= r.opts.Wait
}

// heard notes what Envoy says to its listeners.
func (r *Relay) heard(request *discoveryv3.DeltaDiscoveryRequest) {
	if request.GetTypeUrl() != resource.Listener.URL() || request.GetResponseNonce() == "" || request.GetErrorDetail() != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.start.listening = true
}

// listening reports whether Envoy has its listeners.
func (r *Relay) listening() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.start.listening
}

// keep writes the memory to its file: a moment after a change, at most once in saveEvery, and at the end.
func (r *Relay) keep(ctx context.Context) {
	save := func() { r.saved(r.kept.save(r.opts.File, time.Now())) }
	for {
		select {
		case <-ctx.Done():
			save()
			return
		case <-r.kept.changed:
		}
		select { // the first that Envoy acknowledges comes type by type
		case <-ctx.Done():
			continue
		case <-time.After(settled):
		}
		save()
		select {
		case <-ctx.Done():
		case <-time.After(saveEvery):
		}
	}
}

// saved notes how writing the memory has gone, and says once that it fails and once that it works again.
func (r *Relay) saved(err error) {
	r.mu.Lock()
	was := r.unsaved
	if r.unsaved = ""; err != nil {
		r.unsaved = err.Error()
	}
	r.mu.Unlock()
	switch {
	case err != nil && was == "":
		r.opts.Logger.Warn("cannot keep the last known good configuration: a start without the control plane would serve an older one; trying again", "error", err)
	case err == nil && was != "":
		r.opts.Logger.Info("the last known good configuration is kept again")
	}
}

// handle serves one call of Envoy's.
func (r *Relay) handle(_ any, down grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(down)
	switch method {
	case deltaADS:
		return r.configure(down)
	case sds:
		return r.secrets(down)
	case loads, logs:
		return r.report(down, method)
	}
	return status.Errorf(codes.Unimplemented, "%s is nothing that an Envoy of the mesh calls", method)
}

// open opens a stream to the control plane, and waits until there is one.
func (r *Relay) open(ctx context.Context, method string) (grpc.ClientStream, error) {
	up, err := r.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method, grpc.WaitForReady(true))
	if err != nil {
		return nil, err //nolint:wrapcheck // gRPC's own status is what Envoy is told
	}
	return up, nil
}

// report passes a stream of reports on, in both directions.
func (r *Relay) report(down grpc.ServerStream, method string) error {
	ctx, cancel := context.WithCancel(down.Context())
	defer cancel()
	up, err := r.open(ctx, method)
	if err != nil {
		return err
	}
	requests, answers := receive(ctx, down), receive(ctx, up)
	for {
		select {
		case <-ctx.Done():
			return over(ctx)
		case m := <-requests:
			if m.err != nil {
				return m.err
			}
			err = sent(up.SendMsg(m.message))
		case m := <-answers:
			if m.err != nil {
				return ended(m.err)
			}
			err = down.SendMsg(m.message)
		}
		if err != nil {
			return err //nolint:wrapcheck // gRPC's own status
		}
	}
}

// received is a message, or why there are no more.
type received struct {
	message message
	err     error
}

// receive reads a stream until it ends, which it does with the call that it belongs to.
func receive(ctx context.Context, stream interface{ RecvMsg(m any) error }) <-chan received {
	out := make(chan received)
	go func() {
		for {
			var m message
			err := stream.RecvMsg(&m)
			select {
			case out <- received{m, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return out
}

// sent is the error of a message to the control plane. Why a stream has ended is not among them: that is received.
func sent(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// ended is what Envoy is told when the control plane has ended a stream.
func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return status.Error(codes.Unavailable, "the control plane has ended the stream")
	}
	return err
}
