package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/identity"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/inject"
	"github.com/causeway-mesh/causeway/policy/resolve"
	"github.com/causeway-mesh/causeway/policy/shift/notify"
	"github.com/causeway-mesh/causeway/policy/shift/runner"
	"github.com/causeway-mesh/causeway/xds/admin"
	"github.com/causeway-mesh/causeway/xds/api"
	"github.com/causeway-mesh/causeway/xds/bootstrap"
	"github.com/causeway-mesh/causeway/xds/credentials"
	"github.com/causeway-mesh/causeway/xds/engine"
	"github.com/causeway-mesh/causeway/xds/identity/authority"
	"github.com/causeway-mesh/causeway/xds/members"
	"github.com/causeway-mesh/causeway/xds/observe"
	"github.com/causeway-mesh/causeway/xds/otlp"
	"github.com/causeway-mesh/causeway/xds/outcomes"
	"github.com/causeway-mesh/causeway/xds/page"
	"github.com/causeway-mesh/causeway/xds/replica"
	"github.com/causeway-mesh/causeway/xds/server"
	"github.com/causeway-mesh/causeway/xds/snapshot"
	"github.com/causeway-mesh/causeway/xds/status"
)

// Where a control plane listens unless told otherwise: on loopback.
const (
	defaultXDSListen   = "127.0.0.1:18000"
	defaultHTTPListen  = "127.0.0.1:8080"
	defaultAdminListen = "127.0.0.1:15080"
)

// serveOptions are the flags of `causeway serve`.
type serveOptions struct {
	config, stateDir, shiftsFrom, otlp string
	kubeconfig                         string
	namespace                          string
	xdsListen, httpListen, adminListen string
	adminHosts                         []string
	limits                             server.Limits
	nameMiB                            [3]int64
	observeListen                      string
	files                              credentials.Files
	audience                           string
	insecureXDS, insecureCertificates  bool
	logLevel                           string
	ec2Interval                        time.Duration
	ec2Queues                          []string
	injectListen, injectConfig         string
	ui                                 page.Listen
}

func serveCommand() *cobra.Command {
	var o serveOptions
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the control plane",
		Long: `Run the control plane: read Services, endpoints and InstanceGroups, follow the
instances in EC2, and serve the mesh to Envoys over xDS.

With --config DIR the objects come from YAML files and no Kubernetes is needed;
otherwise from Kubernetes, with the Pod's service account or --kubeconfig.
EC2 credentials come from the AWS SDK's standard chain.

Everything listens on loopback unless told otherwise. An xDS listener elsewhere
needs TLS with client certificates:

  causeway serve --xds-listen :18000 \
    --xds-tls-cert tls.crt --xds-tls-key tls.key \
    --xds-client-ca ca.crt --xds-client-rules rules.yaml`,
		Args: takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := newServe(&o)
			if err != nil {
				return err
			}
			return untilTold(s.run(cmd.Context()))
		},
	}
	f := c.Flags()
	f.StringVar(&o.config, "config", "", "directory of YAML files to read instead of Kubernetes")
	f.StringVar(&o.stateDir, "state-dir", "", "with --config: directory where the last known good survives a restart; empty: nothing does")
	f.StringVar(&o.shiftsFrom, "shifts-from", "", "with --config: state directory of the control plane that carries TrafficShifts out; this one follows it and takes no step")
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig file; empty: the Pod's service account")
	f.StringVar(&o.namespace, "namespace", "causeway-system", "in Kubernetes: the control plane's own namespace")
	f.StringVar(&o.xdsListen, "xds-listen", defaultXDSListen, "address for Envoys")
	f.StringVar(&o.httpListen, "http-listen", defaultHTTPListen, "address for /healthz, /readyz and /metrics")
	f.StringVar(&o.adminListen, "admin-listen", defaultAdminListen, "loopback address for the other causeway commands; empty for none")
	f.StringSliceVar(&o.adminHosts, "admin-host", nil, "another name than localhost by which the admin API may be asked, for example that of a tunnel; repeat for several")
	f.StringVar(&o.observeListen, "observe-listen", "127.0.0.1:0", "in Kubernetes: address where the leader takes what other replicas observe; it authenticates them")
	f.StringVar(&o.injectListen, "inject-listen", "", "in Kubernetes: address of the webhook that injects pods (docs/members.md); it makes and renews its certificate; empty for none")
	f.StringVar(&o.injectConfig, "inject-config", "/etc/causeway/inject/inject.yaml", "with --inject-listen: file with the configuration of injection; read again when it changes")
	f.StringVar(&o.ui.Listen, "ui-listen", "", "address for the page, to people who are known (docs/page.md); empty: it is at the admin address alone")
	f.StringVar(&o.ui.URL, "ui-url", "", "where browsers reach the page, for example https://causeway.example.com; notices of shifts link to it")
	f.StringVar(&o.ui.Tokens, "ui-tokens", "", "with --config and --ui-listen: file of people and the digests of their tokens; read again when it changes")
	f.StringVar(&o.ui.Cert, "ui-tls-cert", "", "file with the page's certificate; read again when it changes")
	f.StringVar(&o.ui.Key, "ui-tls-key", "", "file with its key")
	f.BoolVar(&o.ui.Insecure, "ui-insecure", false, "allow the page in plaintext beyond loopback, behind a proxy that ends TLS")
	f.StringVar(&o.files.Cert, "xds-tls-cert", "", "file with the xDS listener's certificate; read again when it changes")
	f.StringVar(&o.files.Key, "xds-tls-key", "", "file with its key")
	f.StringVar(&o.files.CA, "xds-client-ca", "", "file with the CA of the Envoys' certificates")
	f.StringVar(&o.files.Rules, "xds-client-rules", "", "file with the rules which certificate or service account may be which namespace's and role's proxy")
	f.BoolVar(&o.files.Optional, "xds-tls-make", false, "in Kubernetes: where these files are not there, make and renew a certificate, and do without rules")
	f.StringVar(&o.audience, "xds-token-audience", inject.DefaultAudience, "in Kubernetes, with TLS: audience of the pods' tokens that are taken beside certificates; empty for none")
	f.BoolVar(&o.insecureXDS, "xds-insecure", false, "allow plaintext xDS beyond loopback: anyone who reaches the port reads the mesh's configuration")
	f.IntVar(&o.limits.StreamsPerConnection, "xds-streams-per-connection", server.DefaultStreamsPerConnection, "most streams on one connection; an Envoy has three")
	f.IntVar(&o.limits.StreamsPerIdentity, "xds-streams-per-identity", server.DefaultStreamsPerIdentity, "most proxies of one identity of the client rules; without TLS, of one address")
	f.IntVar(&o.limits.ReportsPerIdentity, "xds-reports-per-identity", server.DefaultReportsPerIdentity, "most streams of load reports and access logs of one identity; a proxy has one, and one for each worker thread and log")
	f.Int64Var(&o.nameMiB[0], "xds-name-mib-per-stream", server.DefaultNameBytesPerStream>>20, "most memory, in MiB, for the names that one stream asks for and that are no resources")
	f.Int64Var(&o.nameMiB[1], "xds-name-mib-per-connection", server.DefaultNameBytesPerConnection>>20, "most memory, in MiB, for such names of all streams of a connection (see --xds-name-mib-per-stream)")
	f.Int64Var(&o.nameMiB[2], "xds-name-mib", server.DefaultNameBytes>>20, "most memory, in MiB, for such names of all proxies (see --xds-name-mib-per-stream)")
	f.BoolVar(&o.insecureCertificates, "xds-insecure-certificates", false,
		"on loopback without TLS: hand out private keys of Gateways' certificates, which every process of this host can then read")
	f.StringVar(&o.otlp, "otlp-endpoint", "", "URL of an OpenTelemetry collector that is sent the metrics, over HTTP; empty for none (docs/operations.md)")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	f.DurationVar(&o.ec2Interval, "ec2-interval", 15*time.Second, "how often each account and region is read")
	f.StringSliceVar(&o.ec2Queues, "ec2-queue", nil, "URL of an SQS queue with EC2 events from EventBridge, as URL or REGION=URL; repeat for several")
	return c
}

// serve is a running control plane.
type serve struct {
	opts     serveOptions
	log      *slog.Logger
	registry *prometheus.Registry
	catalog  *catalog.Catalog
	store    *snapshot.Store
	engine   *engine.Engine
	xds      *server.Server
	members  *members.Members
	// listener says who may connect, and identity checks tokens; each nil if nobody does.
	listener *credentials.Listener
	identity *identity.Identity
	// authority certifies workloads; nil where no tokens are taken.
	authority *authority.Authority
	// required are the sources without which nothing may be served.
	required []string
	serving  atomic.Bool
	served   chan struct{} // closed when serving becomes true
	observer *observe.Observer
	outcomes *outcomes.Recorder
	// shifts carries TrafficShifts out, and shiftStore keeps them.
	shifts     *runner.Runner
	shiftStore runner.Store
	notices    *notify.Sender
	pins       *replica.Pins
	// release lets what the never-empty guard holds go.
	release func(discovery.Key)
	// releaseConfig does so for objects whose files are gone, nil with Kubernetes.
	releaseConfig func() int
	// plane is what the API and the page are made of.
	plane *api.Plane
}

func newServe(o *serveOptions) (*serve, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.logLevel)); err != nil {
		return nil, fmt.Errorf("--log-level: %q is not debug, info, warn or error", o.logLevel)
	}
	if o.shiftsFrom != "" && o.config == "" {
		return nil, errors.New("--shifts-from: without --config, replicas agree in Kubernetes on which one carries TrafficShifts out")
	}
	if o.shiftsFrom != "" && filepath.Clean(o.shiftsFrom) == filepath.Clean(o.stateDir) {
		return nil, errors.New("--shifts-from: it is this control plane's own --state-dir; give that of the other one")
	}
	if o.adminListen != "" && !isLoopback(o.adminListen) {
		return nil, fmt.Errorf("--admin-listen: %s is not a loopback address; the admin API changes things and asks nobody who they are", o.adminListen)
	}
	if err := o.limit(); err != nil {
		return nil, err
	}
	s := &serve{
		opts: *o, registry: prometheus.NewRegistry(), catalog: catalog.New(), store: snapshot.New(),
		log:     slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})),
		release: func(discovery.Key) {}, served: make(chan struct{}),
	}
	s.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	s.engine = engine.New(s.catalog, s.store, s.log, s.registry)
	s.pins = replica.NewPins(s.store, s.log)
	s.engine.Stage(snapshot.Silence, s.pins.Changed)
	s.engine.FollowFreezes(func(catalog.Reader) bool { return len(s.missing()) == 0 })
	shifted := outcomes.NewServices(s.catalog, nil)
	s.outcomes = outcomes.New(outcomes.Options{
		Shifted: shifted.Shifted, Backings: shifted.Backings, Lookup: shifted.Lookup, StreamAge: shifted.StreamAge, Exists: shifted.Exists, Registerer: s.registry,
		// Without certificates a proxy is believed only if its stream of configuration is here, and its load reports
		// come with that stream.
		LoadsHere: o.files.Given() == 0,
	})
	xds := server.Options{
		Logger: s.log, Outcomes: s.outcomes, Metrics: server.NewMetrics(s.registry), Identify: identify,
		Connect: func(ctx context.Context, n *server.Node) (func(), error) { return s.engine.Declare(ctx, n.Declared) },
		Limits:  o.limits,
	}
	if err := s.secure(&xds); err != nil {
		return nil, err
	}
	s.xds = server.New(s.store, xds)
	s.members = members.New(s.catalog, s.xds, s.log)
	if s.identity != nil {
		s.authority = authority.New(authority.Options{
			Store: s.identity, Domain: func() string { return resolve.TrustDomain(s.catalog.Read()) }, Log: s.log, Registry: s.registry,
		})
		s.members.Certifier = s.authority
	}
	s.plane = &api.Plane{
		Catalog: s.catalog, Engine: s.engine, Store: s.store, XDS: s.xds, Agents: s.members, StatusNow: s.status, Missing: s.missing, Calls: s.outcomes.Calls,
		Observer: func() *observe.Observer { return s.observer }, History: api.NewHistory(), Log: &api.Log{},
	}
	s.registry.MustRegister(status.NewCollector(version, s.catalog, s.store, s.xds))
	return s, nil
}

// limit checks the limits and fills them in.
func (o *serveOptions) limit() error {
	l := &o.limits
	for _, f := range []struct {
		flag  string
		value int64
	}{
		{"xds-streams-per-connection", int64(l.StreamsPerConnection)},
		{"xds-streams-per-identity", int64(l.StreamsPerIdentity)},
		{"xds-reports-per-identity", int64(l.ReportsPerIdentity)},
		{"xds-name-mib-per-stream", o.nameMiB[0]},
		{"xds-name-mib-per-connection", o.nameMiB[1]},
		{"xds-name-mib", o.nameMiB[2]},
	} {
		if f.value < 0 || f.value > 1<<20 {
			return fmt.Errorf("--%s: %d is not a number from 1 to %d, or 0 for the default", f.flag, f.value, 1<<20)
		}
	}
	l.NameBytesPerStream, l.NameBytesPerConnection, l.NameBytes = o.nameMiB[0]<<20, o.nameMiB[1]<<20, o.nameMiB[2]<<20
	return nil
}

// secure sets up who may connect to the xDS listener.
func (s *serve) secure(xds *server.Options) error {
	o := &s.opts
	plaintext, err := o.files.Check(o.xdsListen, isLoopback(o.xdsListen), o.insecureXDS, o.insecureCertificates)
	if err != nil || plaintext {
		xds.TrustPlaintext = o.insecureCertificates
		return err
	}
	made := credentials.Options{Files: o.files, Log: s.log, Registry: s.registry}
	if o.config == "" && o.audience != "" {
		config, err := s.restConfig()
		if err != nil {
			return err
		}
		if s.identity, err = identity.New(identity.Options{Rest: config, Namespace: o.namespace, Audience: o.audience, Log: s.log, Registry: s.registry}); err != nil {
			return err
		}
		made.Tokens = s.identity
		made.Made = func(namespace, gateway string) (string, bool) {
			return resolve.EdgeAccount(s.catalog.Read(), discovery.Key{Namespace: namespace, Name: gateway})
		}
	} else if o.files.Optional {
		return errors.New("--xds-tls-make: without Kubernetes and --xds-token-audience nobody could connect by it: leave it out")
	}
	if s.listener, err = credentials.New(made); err != nil {
		return err
	}
	xds.Credentials, xds.Authenticate, xds.Authorize = s.listener.Transport(), s.listener.Authenticate, s.listener.Authorize
	return nil
}

func isLoopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

func identify(n *corev3.Node) (server.Node, error) {
	node, err := bootstrap.ParseNode(n)
	return server.Node{
		ID: node.ID, Service: node.Service, Role: node.Role, Namespace: node.Namespace, Workload: node.Workload, Instance: node.Instance, Zone: node.Zone, NodeName: node.NodeName,
		Declared: node.Declared, Version: node.Envoy, Envoy: node.Envoy != "",
	}, err
}

// runEngine runs the engine with the pins of earlier runs in place.
func (s *serve) runEngine(ctx context.Context) error {
	if err := s.pins.Restore(ctx); err != nil {
		return err
	}
	return s.engine.Run(ctx)
}

// takePins takes over what another replica has stored.
func (s *serve) takePins(ctx context.Context, records map[string][]byte) {
	s.engine.Pin(ctx, s.pins.Decode(records))
	s.pins.Changed()
}

// component is a part of the control plane that runs until its context ends.
type component struct {
	name string
	run  func(context.Context) error
}

// gcPercent limits the heap's garbage to half of the live memory, unless GOGC
// says otherwise: the server spends little CPU on garbage and is billed for
// memory.
const gcPercent = 50

func (s *serve) run(ctx context.Context) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	listeners, err := s.listen()
	if err != nil {
		return err
	}
	components := slices.Concat(listeners, []component{{"engine", s.runEngine}, {"members", s.members.Run}, {"pins", s.pins.Keep}, {"views", s.plane.Run}})
	if s.listener != nil {
		components = append(components, component{"certificates", func(ctx context.Context) error { return s.listener.Follow(ctx, s.xds.Reauthorize) }})
	}
	if s.identity != nil {
		components = append(components, component{"identity", func(ctx context.Context) error { return s.identity.Keep(ctx, s.listener) }}, component{"certificate authority", s.whenServing(s.authority.Run)})
	}
	var sources []component
	if s.opts.config != "" {
		sources, err = s.standalone()
	} else {
		sources, err = s.kubernetes()
	}
	if err != nil {
		return err
	}
	components = append(components, component{"notices", s.sendNotices})
	if s.opts.otlp != "" {
		components = append(components, component{"--otlp-endpoint", func(ctx context.Context) error {
			return otlp.Export(ctx, otlp.Options{Endpoint: s.opts.otlp, Version: version, Gatherer: s.registry, Log: s.log})
		}})
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, c := range append(components, sources...) {
		g.Go(func() error {
			err := c.run(ctx)
			if err != nil && !errors.Is(err, context.Canceled) {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			return err
		})
	}
	s.log.Info("started", "version", version, "xds", s.opts.xdsListen, "http", s.opts.httpListen, "admin", s.opts.adminListen, "page", s.opts.ui.Listen)
	return g.Wait()
}

// listen opens the listeners, so that an address in use fails at once.
func (s *serve) listen() ([]component, error) {
	var out []component
	add := func(flag, address string, run func(context.Context, net.Listener) error) error {
		l, err := net.Listen("tcp", address) //nolint:noctx // it does not wait
		if err != nil {
			return cannotListen(flag, address, err)
		}
		out = append(out, component{flag[2:], func(ctx context.Context) error { return run(ctx, l) }})
		return nil
	}
	if err := add("--http-listen", s.opts.httpListen, func(ctx context.Context, l net.Listener) error {
		return admin.Serve(ctx, l, s.healthHandler(), s.log)
	}); err != nil {
		return nil, err
	}
	if s.opts.adminListen != "" {
		if err := add("--admin-listen", s.opts.adminListen, func(ctx context.Context, l net.Listener) error {
			return admin.Serve(ctx, l, s.adminHandler(), s.log)
		}); err != nil {
			return nil, err
		}
	}
	if s.opts.injectListen != "" {
		config, err := s.restConfig()
		if err != nil {
			return nil, fmt.Errorf("--inject-listen: %w", err)
		}
		o := inject.Options{
			Rest: config, File: s.opts.injectConfig, Namespace: s.opts.namespace, Version: version, Audience: s.opts.audience, Log: s.log, Registry: s.registry,
		}
		if s.identity != nil {
			o.Wants = s.identity.Want
		}
		webhook, err := inject.NewWebhook(o)
		if err != nil {
			return nil, err
		}
		if err := add("--inject-listen", s.opts.injectListen, webhook.Serve); err != nil {
			return nil, err
		}
	}
	if ui, err := s.uiPage(); err != nil {
		return nil, err
	} else if ui != nil {
		if err := add("--ui-listen", s.opts.ui.Listen, ui.Serve); err != nil {
			return nil, err
		}
	}
	// Envoys that connect early wait in the listener's queue.
	return out, add("--xds-listen", s.opts.xdsListen, s.serveXDS)
}

// cannotListen names the flag to change if an address cannot be listened on.
func cannotListen(flag, address string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s: %s is in use, perhaps by another 'causeway serve' ('ss -ltnp' names the process): end that process, or give another address: %s HOST:PORT", flag, address, flag)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%s: this user may not listen on %s: give a port from 1024 on: %s HOST:PORT", flag, address, flag)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%s: %s is no address of this host: give one that is, or 0.0.0.0 for all: %s HOST:PORT", flag, address, flag)
	}
	return fmt.Errorf("%s: %q cannot be listened on: %w: write %s HOST:PORT, for example 127.0.0.1:18000", flag, address, err, flag)
}

// serveXDS serves Envoys once everything is known: a part that is not known yet
// must not look empty.
func (s *serve) serveXDS(ctx context.Context, l net.Listener) error {
	feed := s.catalog.Subscribe()
	last := ""
	for {
		missing := s.missing()
		if len(missing) == 0 {
			break
		}
		if text := strings.Join(missing, ", "); text != last {
			s.log.Info("waiting before serving proxies", "for", text)
			last = text
		}
		if _, err := feed.Next(ctx); err != nil {
			feed.Close()
			_ = l.Close()
			return err
		}
	}
	feed.Close()
	if err := s.engine.Await(ctx, s.catalog.Read().Revision()); err != nil {
		_ = l.Close()
		return err
	}
	s.serving.Store(true)
	close(s.served)
	s.log.Info("serving proxies", "listen", l.Addr().String())
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		s.xds.Stop()
	}()
	if err := s.xds.Serve(l); err != nil {
		return err
	}
	<-stopped
	return ctx.Err()
}

func joinOr(list []string, otherwise string) string {
	if len(list) == 0 {
		return otherwise
	}
	return strings.Join(list, ", ")
}
