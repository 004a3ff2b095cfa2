package bootstrap

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/config/metrics/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	"sigs.k8s.io/yaml"

	"github.com/causeway-mesh/causeway/xds/compile"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// ClusterName is the name of the static cluster that leads to the control plane.
const ClusterName = "causeway_xds"

// Options of a bootstrap, in the order of `causeway bootstrap`'s flags.
type Options struct {
	Role                          resource.Role
	Namespace, Workload, Instance string
	// Service that the workload belongs to; the workload's name if empty.
	Service      string
	Region, Zone string
	// Servers are the control plane's addresses, "host:port".
	Servers []string
	// HTTPListen is where the host's processes reach the mesh over HTTP; "" for nowhere.
	HTTPListen string
	// TCPListen are TCP listeners, "address:port=namespace/service:port".
	TCPListen []string
	// AdminListen is Envoy's admin address, loopback only; "" for none.
	AdminListen string
	TLS         *TLS
}

// TLS of the connection to the control plane. Envoy reads the files when it starts.
type TLS struct {
	// CA verifies the control plane's certificate, which must name ServerName.
	CA, ServerName string
	// Cert and Key are the proxy's own.
	Cert, Key string
}

// A dead connection to the control plane is noticed after
// keepaliveInterval + keepaliveTimeout; the proxy serves its last
// configuration meanwhile.
const (
	keepaliveInterval = 10 * time.Second
	keepaliveTimeout  = 5 * time.Second
)

// Generate returns the bootstrap as YAML. Errors name the flag at fault.
func Generate(o Options) ([]byte, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	message, err := o.bootstrap()
	if err != nil {
		return nil, err
	}
	raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(message)
	if err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	out, err := yaml.JSONToYAML(raw)
	if err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	return out, nil
}

func (o *Options) check() error {
	var errs []error
	for _, p := range []struct{ flag, value string }{
		{"--namespace", o.Namespace}, {"--workload", o.Workload}, {"--id", o.Instance},
	} {
		if err := checkPart(p.value); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", p.flag, err))
		}
	}
	if o.Role != resource.Sidecar && o.Role != resource.Gateway {
		errs = append(errs, fmt.Errorf("--role: %q is neither %s nor %s", o.Role, resource.Sidecar, resource.Gateway))
	}
	if len(o.Servers) == 0 {
		errs = append(errs, errors.New("--server: give at least one HOST:PORT of the control plane"))
	}
	for _, s := range o.Servers {
		host, port, err := net.SplitHostPort(s)
		if n, perr := strconv.ParseUint(port, 10, 16); err != nil || host == "" || perr != nil || n == 0 {
			errs = append(errs, fmt.Errorf("--server: %q is not HOST:PORT", s))
		}
	}
	if o.AdminListen != "" {
		a, err := netip.ParseAddrPort(o.AdminListen)
		if err != nil || !a.Addr().IsLoopback() {
			errs = append(errs, fmt.Errorf("--admin-listen: %q is not a loopback ADDRESS:PORT; Envoy's admin interface can stop the proxy and has no authentication", o.AdminListen))
		}
	}
	if _, err := o.declarations(); err != nil {
		errs = append(errs, err)
	}
	if t := o.TLS; t != nil && (t.CA == "" || t.ServerName == "" || t.Cert == "" || t.Key == "") {
		errs = append(errs, errors.New("--tls-ca, --tls-server-name, --tls-cert and --tls-key go together"))
	}
	return errors.Join(errs...)
}

func (o *Options) declarations() ([]any, error) {
	var out []any
	add := func(flag, text string) error {
		d, err := compile.ParseDeclaration(text)
		if err != nil {
			return fmt.Errorf("%s: %w", flag, err)
		}
		out = append(out, d.String())
		return nil
	}
	if o.HTTPListen != "" {
		if err := add("--http-listen", "http/"+o.HTTPListen); err != nil {
			return nil, err
		}
	}
	for _, l := range o.TCPListen {
		if err := add("--tcp-listen", "tcp/"+l); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (o *Options) bootstrap() (*bootstrapv3.Bootstrap, error) {
	listeners, err := o.declarations()
	if err != nil {
		return nil, err
	}
	metadata, err := structpb.NewStruct(map[string]any{listenersField: listeners})
	if err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	service := o.Service
	if service == "" {
		service = o.Workload
	}
	xds, err := o.cluster()
	if err != nil {
		return nil, err
	}
	api := func(t corev3.ApiConfigSource_ApiType) *corev3.ApiConfigSource {
		return &corev3.ApiConfigSource{
			ApiType: t, TransportApiVersion: corev3.ApiVersion_V3, SetNodeOnFirstMessageOnly: true,
			GrpcServices: []*corev3.GrpcService{{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
				EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: ClusterName},
			}}},
		}
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
			Id:       fmt.Sprintf("%s~%s~%s~%s", o.Role, o.Namespace, o.Workload, o.Instance),
			Cluster:  o.Namespace + "/" + service,
			Locality: &corev3.Locality{Region: o.Region, Zone: o.Zone},
			Metadata: metadata,
		},
		DynamicResources: &bootstrapv3.Bootstrap_DynamicResources{
			AdsConfig: api(corev3.ApiConfigSource_DELTA_GRPC), CdsConfig: ads, LdsConfig: ads,
		},
		StaticResources: &bootstrapv3.Bootstrap_StaticResources{Clusters: []*clusterv3.Cluster{xds}},
		ClusterManager:  &bootstrapv3.ClusterManager{LoadStatsConfig: api(corev3.ApiConfigSource_GRPC)},
		StatsConfig:     statsConfig(),
	}
	if o.AdminListen != "" {
		a := netip.MustParseAddrPort(o.AdminListen) // checked
		b.Admin = &bootstrapv3.Admin{Address: socket(a.Addr().String(), a.Port())}
	}
	return b, nil
}

// statsConfig makes labels of what Causeway's cluster names say.
func statsConfig() *metricsv3.StatsConfig {
	tag := func(name, regex string) *metricsv3.TagSpecifier {
		return &metricsv3.TagSpecifier{TagName: name, TagValue: &metricsv3.TagSpecifier_Regex{Regex: regex}}
	}
	return &metricsv3.StatsConfig{StatsTags: []*metricsv3.TagSpecifier{
		tag("causeway.namespace", `^cluster\.(([^/.]+)/)[^/.]+/\d+/`),
		tag("causeway.service", `^cluster\.[^/.]+/(([^/.]+)/)\d+/`),
		tag("causeway.backing", `^cluster\.[^/.]+/[^/.]+/\d+/(([^/.]+))\.`),
	}}
}

func (o *Options) cluster() (*clusterv3.Cluster, error) {
	options, err := anypb.New(&httpv3.HttpProtocolOptions{
		UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
			ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
				ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
					Http2ProtocolOptions: &corev3.Http2ProtocolOptions{ConnectionKeepalive: &corev3.KeepaliveSettings{
						Interval: durationpb.New(keepaliveInterval), Timeout: durationpb.New(keepaliveTimeout),
					}},
				},
			},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	c := &clusterv3.Cluster{
		Name:                 ClusterName,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		ConnectTimeout:       durationpb.New(2 * time.Second),
		LoadAssignment:       &endpointv3.ClusterLoadAssignment{ClusterName: ClusterName},
		TypedExtensionProtocolOptions: map[string]*anypb.Any{
			"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options,
		},
		UpstreamConnectionOptions: &clusterv3.UpstreamConnectionOptions{TcpKeepalive: &corev3.TcpKeepalive{
			KeepaliveTime: wrapperspb.UInt32(30), KeepaliveInterval: wrapperspb.UInt32(5), KeepaliveProbes: wrapperspb.UInt32(3),
		}},
	}
	locality := &endpointv3.LocalityLbEndpoints{}
	for _, s := range o.Servers {
		host, port, _ := net.SplitHostPort(s) // checked
		number, _ := strconv.ParseUint(port, 10, 16)
		if _, err := netip.ParseAddr(host); err != nil {
			c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STRICT_DNS}
			c.RespectDnsTtl = true
		}
		locality.LbEndpoints = append(locality.LbEndpoints, &endpointv3.LbEndpoint{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: socket(host, uint16(number))}},
		})
	}
	c.LoadAssignment.Endpoints = []*endpointv3.LocalityLbEndpoints{locality}
	if o.TLS != nil {
		if c.TransportSocket, err = o.TLS.socket(); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// socket returns the TLS socket of the control plane's cluster.
func (t *TLS) socket() (*corev3.TransportSocket, error) {
	validation := &tlsv3.CertificateValidationContext{
		TrustedCa: &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: t.CA}},
		MatchTypedSubjectAltNames: []*tlsv3.SubjectAltNameMatcher{{
			SanType: tlsv3.SubjectAltNameMatcher_DNS,
			Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: t.ServerName}},
		}},
	}
	config, err := anypb.New(&tlsv3.UpstreamTlsContext{
		Sni: t.ServerName,
		CommonTlsContext: &tlsv3.CommonTlsContext{
			TlsParams: &tlsv3.TlsParameters{TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_3},
			TlsCertificates: []*tlsv3.TlsCertificate{{
				CertificateChain: &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: t.Cert}},
				PrivateKey:       &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: t.Key}},
			}},
			ValidationContextType: &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: validation},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	return &corev3.TransportSocket{
		Name: "envoy.transport_sockets.tls", ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: config},
	}, nil
}

func socket(host string, port uint16) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)},
	}}}
}
