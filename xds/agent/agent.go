// Package agent is the mesh's process on a host or in a pod: it makes Envoy's
// bootstrap, keeps Envoy running, stands between it and the control plane
// (package relay), says whether it is ready, and lets it go without a failed request.
package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/causeway-mesh/causeway/discovery/durable"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/xds/agent/dns"
	"github.com/causeway-mesh/causeway/xds/agent/ec2"
	"github.com/causeway-mesh/causeway/xds/agent/health"
	"github.com/causeway-mesh/causeway/xds/agent/membership"
	"github.com/causeway-mesh/causeway/xds/agent/relay"
	"github.com/causeway-mesh/causeway/xds/agent/workload"
	"github.com/causeway-mesh/causeway/xds/bootstrap"
	"github.com/causeway-mesh/causeway/xds/drain"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// Options of an Agent.
type Options struct {
	// Bootstrap of Envoy; its AdminListen must be set, and its Relay is the agent's own.
	Bootstrap bootstrap.Options
	// Envoy is the path of the program, Args are further arguments of it.
	Envoy string
	Args  []string
	// Dir is the agent's state directory; it is made if there is none.
	Dir string
	// Listen is where the agent answers for readiness, metrics and status, "address:port".
	Listen string
	// ApplicationMetrics is the URL of the Prometheus metrics of the application beside it, "" for none.
	ApplicationMetrics string
	// ApplicationHealth is the URL of what is checked of the application beside it (health.New), "" for nothing.
	ApplicationHealth string
	// DNS says where the agent answers for the mesh's names, if it does, and where other names are asked for. The agent fills in the rest.
	DNS dns.Options
	// EC2 says what is asked of the cloud; Identify completes it.
	EC2 EC2
	// Version is the agent's own.
	Version string
	// Wait is how long an Envoy that starts waits for the control plane before
	// it is given its last known good configuration.
	Wait time.Duration
	// HealthWait is how long load balancers need to see that a Gateway's health check fails,
	// DrainTimeout how long requests and connections have to end after that.
	HealthWait, DrainTimeout time.Duration
	Logger                   *slog.Logger
}

// Files in the state directory.
const (
	lastGoodFile = "last-good"
	socketFile   = "xds.sock"
	lockFile     = "lock"
	namesFile    = "names"
	controlFile  = "agent.sock"
)

// maxSocketPath is how long the path of a Unix socket may be (sun_path in unix(7), with its last zero).
const maxSocketPath = 107

// Agent runs one Envoy.
type Agent struct {
	opts   Options
	dir    string
	relay  *relay.Relay
	client *http.Client
	member *membership.Membership
	health *health.Checker // nil for none
	// workload has the certificate of the workload; nil where nothing proves its service account.
	workload *workload.Workload
	// cloud is what EC2 says, lifecycle what is told to Auto Scaling, each nil for nothing.
	cloud     *ec2.Watcher
	lifecycle *ec2.Lifecycle
	leaves    chan struct{} // there may be another reason to leave
	inline    string        // Envoy's bootstrap where it cannot be written, else ""

	mu       sync.Mutex
	table    *dns.Table  // nil before names are known
	dns      *dns.Server // nil for none
	draining bool
	leave    *Leave // nil while the host takes part
	asked    *Leave // what somebody asks for, nil for nothing
	running  bool   // Envoy
	restarts int
	lastEnd  string
}

// New checks the options and returns an agent. Errors name the flag at fault.
func New(o Options) (*Agent, error) {
	if o.Bootstrap.AdminListen == "" {
		return nil, errors.New("--admin-listen: the agent asks Envoy there whether it is ready: give a loopback ADDRESS:PORT")
	}
	switch u, err := url.Parse(o.ApplicationMetrics); {
	case o.Dir == "":
		return nil, errors.New("--state-dir: the agent needs a directory: write, for example, /var/lib/causeway-agent")
	case o.Wait <= 0:
		return nil, fmt.Errorf("--wait: %s is no time to wait: write 1s or more", o.Wait)
	case o.HealthWait < 0:
		return nil, fmt.Errorf("--health-wait: %s is negative: write, for example, 20s", o.HealthWait)
	case o.DrainTimeout < 0:
		return nil, fmt.Errorf("--drain-timeout: %s is negative: write, for example, 60s", o.DrainTimeout)
	case o.ApplicationMetrics != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == ""):
		return nil, fmt.Errorf("--application-metrics: %q is not a URL: write, for example, http://127.0.0.1:9253/metrics", o.ApplicationMetrics)
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("--state-dir: %w", err)
	}
	socket := filepath.Join(dir, socketFile)
	if len(socket) > maxSocketPath {
		return nil, fmt.Errorf("--state-dir: the path %s is longer than the %d bytes that a Unix socket may have: give a shorter one", socket, maxSocketPath)
	}
	// Envoy keeps no secret: the agent speaks to the control plane for it.
	tls := o.Bootstrap.TLS
	if _, err := bootstrap.Generate(o.Bootstrap); err != nil {
		return nil, err //nolint:wrapcheck // it names the flag
	}
	o.Bootstrap.Relay, o.Bootstrap.TLS = socket, nil
	creds, token, usable := insecure.NewCredentials(), credentials.PerRPCCredentials(nil), (func() error)(nil)
	if tls != nil {
		own := &files{TLS: *tls}
		creds, usable = own, own.usable
		if tls.Token != "" {
			token = own
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("--state-dir: %w", err)
	}
	a := &Agent{opts: o, dir: dir, leaves: make(chan struct{}, 1)}
	secrets := relay.Secrets(nil)
	if token != nil {
		secrets = func(requests <-chan *discoveryv3.DeltaDiscoveryRequest, send func(*discoveryv3.DeltaDiscoveryResponse) error) error {
			return a.workload.Serve(requests, send)
		}
	}
	r, err := relay.New(relay.Options{
		Servers: o.Bootstrap.Servers, Credentials: creds, Token: token, Usable: usable, File: filepath.Join(dir, lastGoodFile), Wait: o.Wait, Logger: o.Logger, Secrets: secrets,
	})
	if err != nil {
		return nil, err //nolint:wrapcheck // it says what it is about
	}
	// Envoy is asked by no way of a proxy: http_proxy is often Envoy itself.
	a.client = &http.Client{Timeout: drain.Answers, Transport: &http.Transport{IdleConnTimeout: time.Minute}}
	a.relay = r
	if token != nil {
		a.workload = workload.New(workload.Options{Conn: r.Conn(), Node: naming.Node(string(o.Bootstrap.Role), o.Bootstrap.Namespace, o.Bootstrap.Workload, o.Bootstrap.Instance), Logger: o.Logger})
	}
	a.newCloud()
	if err := a.newMember(); err != nil {
		return nil, err
	}
	return a, nil
}

// lock takes the state directory for this process: a second agent would take
// the socket from the Envoy of the first. The kernel lets go of it when the process ends.
func (a *Agent) lock() (*os.File, error) {
	f, err := durable.Lock(filepath.Join(a.dir, lockFile))
	_, taken := errors.AsType[*durable.HeldError](err)
	switch {
	case taken:
		return nil, fmt.Errorf("--state-dir: another agent uses %s (%w): stop it, or give every agent a --state-dir of its own", a.dir, err)
	case f == nil:
		return nil, fmt.Errorf("--state-dir: %w", err)
	case err != nil: // a file system without locks
		a.opts.Logger.Warn("cannot lock the state directory: make sure that no other agent uses it", "dir", a.dir, "error", err)
	}
	return f, nil
}

// sweep removes what crashes have left of files that were being written: on a full disk they would take the room of the next.
func (a *Agent) sweep() {
	for _, name := range []string{lastGoodFile, namesFile, identityFile, bootstrap.File} {
		if err := durable.Sweep(filepath.Join(a.dir, name)); err != nil {
			a.opts.Logger.Warn("what a crash has left stays", "error", err)
		}
	}
}

// writeBootstrap writes Envoy's bootstrap, unless it stands there already. A host whose disk is full starts too: then Envoy
// is given it as an argument.
func (a *Agent) writeBootstrap() error {
	text, err := bootstrap.Generate(a.opts.Bootstrap)
	if err != nil {
		return err //nolint:wrapcheck // it names the flag
	}
	file := filepath.Join(a.dir, bootstrap.File)
	if old, err := os.ReadFile(file); err == nil && bytes.Equal(old, text) { //nolint:gosec // the agent's own
		return nil
	}
	if err := durable.Replace(file, text, nil); err != nil {
		a.opts.Logger.Warn("Envoy's bootstrap cannot be written, so Envoy gets it as an argument", "error", err)
		a.inline = string(text)
	}
	return nil
}

// Run runs Envoy until the context ends, and then lets it go: a Gateway's
// takes leave of its load balancers and drains, a sidecar goes on serving its
// host until nothing is under way. Its error is what kept it from starting.
func (a *Agent) Run(ctx context.Context) error {
	locked, err := a.lock()
	if err != nil {
		return err
	}
	defer locked.Close() //nolint:errcheck // nothing was written
	a.sweep()
	socket := a.opts.Bootstrap.Relay
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("--state-dir: %w", err)
	}
	var config net.ListenConfig
	xds, err := config.Listen(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("--state-dir: %w", err)
	}
	own, err := config.Listen(ctx, "tcp", a.opts.Listen)
	if err != nil {
		_ = xds.Close()
		return fmt.Errorf("--listen: %w", err)
	}
	err = a.addressesFree(ctx)
	if err == nil {
		err = a.writeBootstrap()
	}
	if err == nil {
		err = a.listenDNS(ctx)
	}
	var control net.Listener
	if err == nil {
		control, err = a.listenControl(ctx)
	}
	if err != nil {
		return errors.Join(err, xds.Close(), own.Close())
	}
	// What ends with ctx comes first, then Envoy, and last what Envoy needs.
	stay, leave := context.WithCancelCause(context.WithoutCancel(ctx))
	serve, stop := context.WithCancel(context.WithoutCancel(ctx))
	var envoys, servers sync.WaitGroup
	servers.Go(func() {
		if err := a.relay.Serve(serve, xds); err != nil {
			leave(err)
		}
	})
	servers.Go(func() {
		if err := a.serve(serve, own); err != nil {
			leave(fmt.Errorf("--listen: %w", err))
		}
	})
	servers.Go(func() {
		if err := a.serveControl(serve, control); err != nil {
			leave(fmt.Errorf("--state-dir: %w", err))
		}
	})
	servers.Go(func() { a.tell(serve) })
	servers.Go(func() { a.leaving(serve) })
	if a.cloud != nil {
		servers.Go(func() { a.cloud.Run(serve) })
	}
	servers.Go(func() { a.member.Run(serve) })
	if a.workload != nil {
		servers.Go(func() { a.workload.Run(serve) })
	}
	if a.health != nil {
		servers.Go(func() { a.health.Run(serve) })
	}
	if a.dns != nil {
		servers.Go(func() { leave(a.dns.Serve(serve)) })
	}
	envoys.Go(func() { leave(a.envoy().run(stay)) })
	select {
	case <-ctx.Done():
		a.drain(stay)
		leave(nil)
	case <-stay.Done():
	}
	envoys.Wait()
	stop()
	servers.Wait()
	if cause := context.Cause(stay); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// leaves is how long an Envoy of before may take to go whose agent was killed.
const leaves = 5 * time.Second

// addressesFree fails if something listens where Envoy is to. Envoy would share a port with
// another Envoy, each answering a part of the requests, and the agent would ask and drain the other
// one at its admin address.
func (a *Agent) addressesFree(ctx context.Context) error {
	o := &a.opts.Bootstrap
	addresses := []struct{ flag, address string }{{"--admin-listen", o.AdminListen}, {"--http-listen", o.HTTPListen}, {"--health-listen", o.HealthListen}}
	for flag, declared := range map[string][]string{"--tcp-listen": o.TCPListen, "--captured-listen": o.CapturedListen, "--inbound-listen": o.InboundListen, "--gateway-listen": o.GatewayListen} {
		for _, d := range declared {
			address, _, one := strings.Cut(d, "=")
			if one { // else every port of the Gateway, which nobody knows yet
				addresses = append(addresses, struct{ flag, address string }{flag, address})
			}
		}
	}
	var config net.ListenConfig
	deadline := time.Now().Add(leaves)
	for _, at := range addresses {
		for at.address != "" {
			l, err := config.Listen(ctx, "tcp", at.address)
			if err == nil {
				err = l.Close()
			}
			if !errors.Is(err, syscall.EADDRINUSE) {
				break // what else is wrong with it Envoy says
			}
			if ctx.Err() != nil || !time.Now().Before(deadline) {
				return fmt.Errorf("%s: something listens at %s already, perhaps another Envoy: stop it, or give this one an address of its own", at.flag, at.address)
			}
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
	return nil
}

// envoy returns the program that is kept running.
func (a *Agent) envoy() *envoy {
	config := []string{"-c", filepath.Join(a.dir, bootstrap.File)}
	if a.inline != "" {
		config = []string{"--config-yaml", a.inline}
	}
	args := slices.Concat(config, []string{"--disable-hot-restart", "--log-format", logFormat}, a.opts.Args)
	if len(a.opts.Bootstrap.InboundListen) > 0 {
		args = append(drain.Strategy(), args...) // the operator's own come after it and win
	}
	return &envoy{path: a.opts.Envoy, args: args, log: a.opts.Logger, running: func(yes bool) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.running = yes
	}, ended: func(err error, pause time.Duration) {
		a.mu.Lock()
		a.restarts++
		a.lastEnd = err.Error()
		a.mu.Unlock()
		a.opts.Logger.Error("Envoy has ended; starting it again", "after", pause, "error", err)
	}}
}

// drain lets Envoy go, until the context ends.
func (a *Agent) drain(ctx context.Context) {
	a.mu.Lock()
	a.draining = true
	running := a.running
	a.mu.Unlock()
	a.member.Wake()
	a.notify("STOPPING=1", "STATUS=Draining")
	if !running {
		return
	}
	admin, gateway, most := a.opts.Bootstrap.AdminListen, a.opts.Bootstrap.Role == resource.Gateway, a.opts.DrainTimeout
	if gateway {
		most += a.opts.HealthWait
	}
	a.opts.Logger.Info("draining", "most", most)
	var err error
	if gateway {
		err = drain.Run(ctx, admin, logWriter{a.opts.Logger}, a.opts.HealthWait, a.opts.DrainTimeout)
	} else {
		if len(a.opts.Bootstrap.InboundListen) > 0 {
			if err := drain.Inbound(ctx, admin); err != nil && ctx.Err() == nil {
				a.opts.Logger.Warn("those who call the application are not told to go elsewhere", "error", err)
			}
		}
		err = drain.Quiet(ctx, admin, a.opts.DrainTimeout)
	}
	if err != nil && ctx.Err() == nil {
		a.opts.Logger.Warn("Envoy is ended before all was drained", "error", err)
	}
}

// logWriter logs what is written to it, which package drain does line by line.
type logWriter struct{ log *slog.Logger }

func (w logWriter) Write(line []byte) (int, error) {
	w.log.Info("drain", "what", strings.TrimSuffix(string(line), "\n"))
	return len(line), nil
}
