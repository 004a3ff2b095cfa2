package bootstrap

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/config/metrics/v3"
	overloadv3 "github.com/envoyproxy/go-control-plane/envoy/config/overload/v3"
	internallistenerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/bootstrap/internal_listener/v3"
	connectionsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"sigs.k8s.io/yaml"

	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// File is the name of the bootstrap among [Files].
const File = "envoy.yaml"

// maxConnections of the host's processes to the proxy. Beyond it new ones are
// refused while the open ones go on, instead of both failing for want of file
// descriptors or memory.
const maxConnections = 20_000

// Options of a bootstrap, in the order of `causeway bootstrap`'s flags.
type Options struct {
	Role                          resource.Role
	Namespace, Workload, Instance string
	// Service that the workload belongs to; the workload's name if empty.
	Service      string
	Region, Zone string
	// NodeName is the Kubernetes node that the proxy runs on; "" outside of Kubernetes.
	NodeName string
	// Servers are the control plane's addresses, "host:port".
	Servers []string
	// Relay is the path of the Unix socket of the agent that speaks to them for the proxy, "" for none.
	// Without an agent TLS says how the proxy itself does.
	Relay string
	// HTTPListen is where the host's processes reach the mesh over HTTP; "" for nowhere.
	HTTPListen string
	// TCPListen are TCP listeners, "address:port=namespace/service:port".
	TCPListen []string
	// CapturedListen is where the host redirects connections to, "address:port=cidr,cidr": those to the ranges are
	// for Services of the mesh, and others go on to where they were going.
	CapturedListen []string
	// InboundListen is where the pod redirects connections to its applications to, "address:port=port/protocol,port".
	InboundListen []string
	// GatewayListen is where a proxy of the role gateway, whose workload is its Gateway's name,
	// serves it: "address" for every port by its own number, or "address:port=number" for one.
	GatewayListen []string
	// HealthListen is where a proxy of the role gateway answers load balancers
	// ("address:port", HealthPath); "" for nowhere.
	HealthListen string
	// AdminListen is Envoy's admin address, loopback only; "" for none.
	AdminListen string
	// SystemCAs is the file with the CA certificates that the host trusts, for
	// TLS to targets outside the mesh; "" for none. A proxy without them
	// refuses the clusters that need them.
	SystemCAs string
	TLS       *TLS
}

// Generate returns the bootstrap as YAML in one piece. Envoy then reads
// certificates when it starts and never again. Errors name the flag at fault.
func Generate(o Options) ([]byte, error) { return o.generate("") }

// Files returns the files, by name, of a configuration directory that Envoy is
// started from with `-c dir/envoy.yaml`. Certificates that are renewed there
// where Options say are taken up without a restart. Errors name the flag at fault.
func Files(o Options, dir string) (map[string][]byte, error) {
	main, err := o.generate(dir)
	if err != nil {
		return nil, err
	}
	out := make(map[string][]byte)
	if o.TLS != nil {
		if out, err = o.TLS.files(); err != nil {
			return nil, err
		}
	}
	out[File] = main
	return out, nil
}

// generate returns the bootstrap; secrets is the directory of the files that
// say where its secrets are, "" for the bootstrap itself.
func (o *Options) generate(secrets string) ([]byte, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	message, err := o.bootstrap(secrets)
	if err != nil {
		return nil, err
	}
	return toYAML(message)
}

func (o *Options) check() error {
	errs := o.checkNames()
	if o.NodeName != "" {
		if err := checkNodeName(o.NodeName); err != nil {
			errs = append(errs, fmt.Errorf("--node-name: %w", err))
		}
	}
	if len(o.id()) > maxID {
		errs = append(errs, fmt.Errorf("--namespace, --workload and --id: together they are longer than %d bytes", maxID))
	}
	if o.Role != resource.Sidecar && o.Role != resource.Gateway {
		errs = append(errs, fmt.Errorf("--role: %q is neither %s nor %s", o.Role, resource.Sidecar, resource.Gateway))
	}
	if len(o.Servers) == 0 {
		errs = append(errs, errors.New("--server: give at least one HOST:PORT of the control plane"))
	}
	for _, s := range o.Servers {
		host, port, err := net.SplitHostPort(s)
		if n, perr := strconv.ParseUint(port, 10, 16); err != nil || !isHost(host) || perr != nil || n == 0 {
			errs = append(errs, fmt.Errorf("--server: %q is not HOST:PORT: write, for example, causeway.internal:18000 or 10.0.0.5:18000", s))
		}
	}
	if o.AdminListen != "" {
		a, err := netip.ParseAddrPort(o.AdminListen)
		if err != nil || !a.Addr().IsLoopback() || a.Addr().Zone() != "" {
			errs = append(errs, fmt.Errorf("--admin-listen: %q is not a loopback ADDRESS:PORT; Envoy's admin interface can stop the proxy and has no authentication", o.AdminListen))
		}
	}
	if _, err := o.declarations(); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, o.checkGateway()...)
	if t := o.TLS; t != nil {
		if err := t.whole(); err != nil {
			errs = append(errs, err)
		}
	}
	if t := o.TLS; t != nil && t.ServerName != "" && !isHost(t.ServerName) {
		errs = append(errs, fmt.Errorf("--tls-server-name: %q is not a host name: write a DNS name that stands in the control plane's certificate, for example causeway.internal", t.ServerName))
	}
	return errors.Join(errs...)
}

// declarations returns the listeners that the proxy asks for, in the order of the flags.
func (o *Options) declarations() ([]any, error) {
	var out []any
	taken := make(map[netip.AddrPort]bool)
	if a, err := netip.ParseAddrPort(o.AdminListen); err == nil {
		taken[a] = true
	}
	add := func(flag, text string) error {
		d, err := naming.ParseDeclaration(text)
		if err != nil {
			return fmt.Errorf("%s: %w", flag, err)
		}
		if taken[d.Address] {
			return fmt.Errorf("%s: %s is used twice: give every listener an address of its own", flag, d.Address)
		}
		taken[d.Address] = true
		out = append(out, d.String())
		return nil
	}
	if o.HTTPListen != "" {
		if err := add("--http-listen", naming.HTTPListener+o.HTTPListen); err != nil {
			return nil, err
		}
	}
	for _, l := range o.TCPListen {
		if err := add("--tcp-listen", naming.TCPListener+l); err != nil {
			return nil, err
		}
	}
	for _, l := range o.CapturedListen {
		if err := add("--captured-listen", naming.CapturedListener+l); err != nil {
			return nil, err
		}
	}
	for _, l := range o.InboundListen {
		if err := add("--inbound-listen", naming.InboundListener+l); err != nil {
			return nil, err
		}
	}
	for _, l := range o.GatewayListen {
		if err := o.gatewayDeclaration(l, add); err != nil {
			return nil, err
		}
	}
	if len(out) > maxListeners {
		return nil, fmt.Errorf("--tcp-listen: more than %d listeners", maxListeners)
	}
	return out, nil
}

// checkGateway finds what only a proxy of a Gateway has, and what it must have.
func (o *Options) checkGateway() []error {
	var errs []error
	every, one := false, false
	for _, l := range o.GatewayListen {
		port := strings.Contains(l, "=")
		every, one = every || !port, one || port
	}
	switch {
	case o.Role != resource.Gateway && len(o.GatewayListen) > 0:
		errs = append(errs, fmt.Errorf("--gateway-listen: a %s serves no Gateway: give --role %s", o.Role, resource.Gateway))
	case o.Role == resource.Gateway && len(o.GatewayListen) == 0:
		errs = append(errs, errors.New("--gateway-listen: a proxy of a Gateway needs to know where to listen: give an ADDRESS, or ADDRESS:PORT=NUMBER for each port"))
	case every && one:
		errs = append(errs, errors.New("--gateway-listen: give an ADDRESS for every port, or ADDRESS:PORT=NUMBER for each, not both"))
	}
	if o.HealthListen == "" {
		return errs
	}
	if o.Role != resource.Gateway {
		errs = append(errs, fmt.Errorf("--health-listen: load balancers do not check a %s", o.Role))
	}
	if a, err := netip.ParseAddrPort(o.HealthListen); err != nil || a.Port() == 0 || a.Addr().Zone() != "" {
		errs = append(errs, fmt.Errorf("--health-listen: %q is not ADDRESS:PORT", o.HealthListen))
	}
	return errs
}

// gatewayDeclaration adds what a --gateway-listen declares.
func (o *Options) gatewayDeclaration(text string, add func(flag, text string) error) error {
	gateway := o.Namespace + "/" + o.Workload
	if address, port, one := strings.Cut(text, "="); one {
		return add("--gateway-listen", "gateway/"+address+"="+gateway+":"+port)
	}
	return add("--gateway-listen", "gateway/"+text+"="+gateway)
}

// id returns the node id.
func (o *Options) id() string {
	return naming.Node(string(o.Role), o.Namespace, o.Workload, o.Instance)
}

func (o *Options) bootstrap(secrets string) (*bootstrapv3.Bootstrap, error) {
	listeners, err := o.declarations()
	if err != nil {
		return nil, err
	}
	said := map[string]any{listenersField: listeners, internalField: true}
	if o.NodeName != "" {
		said[nodeNameField] = o.NodeName
	}
	metadata, err := structpb.NewStruct(said)
	if err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	service := o.Service
	if service == "" {
		service = o.Workload
	}
	xds, err := o.cluster(secrets)
	if err != nil {
		return nil, err
	}
	limits, err := overload()
	if err != nil {
		return nil, err
	}
	internal, err := internalListeners()
	if err != nil {
		return nil, err
	}
	ads := &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		ResourceApiVersion:    corev3.ApiVersion_V3,
		// A cold proxy waits for the control plane rather than answer 404 for
		// what it has not been told yet.
		InitialFetchTimeout: durationpb.New(0),
	}
	b := &bootstrapv3.Bootstrap{
		Node: &corev3.Node{
			Id:       o.id(),
			Cluster:  o.Namespace + "/" + service,
			Locality: &corev3.Locality{Region: o.Region, Zone: o.Zone},
			Metadata: metadata,
		},
		DynamicResources: &bootstrapv3.Bootstrap_DynamicResources{
			AdsConfig: api(corev3.ApiConfigSource_DELTA_GRPC), CdsConfig: ads, LdsConfig: ads,
		},
		StaticResources: &bootstrapv3.Bootstrap_StaticResources{
			Clusters: []*clusterv3.Cluster{xds}, Secrets: systemCAs(o.SystemCAs),
		},
		ClusterManager:      &bootstrapv3.ClusterManager{LoadStatsConfig: api(corev3.ApiConfigSource_GRPC)},
		StatsConfig:         statsConfig(),
		OverloadManager:     limits,
		BootstrapExtensions: []*corev3.TypedExtensionConfig{internal},
	}
	if o.HealthListen != "" {
		health, err := o.healthListener()
		if err != nil {
			return nil, err
		}
		b.StaticResources.Listeners = []*listenerv3.Listener{health}
	}
	if o.AdminListen != "" {
		a := netip.MustParseAddrPort(o.AdminListen) // checked
		b.Admin = &bootstrapv3.Admin{Address: address(a.Addr().String(), a.Port())}
	}
	return b, nil
}

func overload() (*overloadv3.OverloadManager, error) {
	connections, err := anypb.New(&connectionsv3.DownstreamConnectionsConfig{MaxActiveDownstreamConnections: maxConnections})
	if err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	return &overloadv3.OverloadManager{ResourceMonitors: []*overloadv3.ResourceMonitor{{
		Name:       "envoy.resource_monitors.global_downstream_max_connections",
		ConfigType: &overloadv3.ResourceMonitor_TypedConfig{TypedConfig: connections},
	}}}, nil
}

// internalListeners lets the proxy have listeners without an address, through
// which copies of requests pass.
func internalListeners() (*corev3.TypedExtensionConfig, error) {
	config, err := anypb.New(&internallistenerv3.InternalListener{})
	if err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	return &corev3.TypedExtensionConfig{Name: "envoy.bootstrap.internal_listener", TypedConfig: config}, nil
}

// statsConfig makes labels of what the alt_stat_name of Causeway's clusters says (naming.Statistic).
func statsConfig() *metricsv3.StatsConfig {
	out := &metricsv3.StatsConfig{}
	for _, t := range naming.StatisticTags() {
		out.StatsTags = append(out.StatsTags, &metricsv3.TagSpecifier{TagName: t.Name, TagValue: &metricsv3.TagSpecifier_Regex{Regex: t.Regex}})
	}
	return out
}

func toYAML(m proto.Message) ([]byte, error) {
	raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	out, err := yaml.JSONToYAML(raw)
	if err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	return out, nil
}
