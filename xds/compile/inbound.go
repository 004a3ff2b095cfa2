package compile

import (
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	httpinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/http_inspector/v3"
	originaldstv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	earlyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// Inbound traffic is what others send to a pod's applications, and the pod redirects to its proxy. The application is
// to see what it would see without the mesh: no header is added, no request is sent again, and nothing that takes long is
// ended. Whoever called reports how it went and has the retries; here nothing is counted a second time.

const (
	// inboundSniff is how long a client may be silent on a port without a declared protocol. Then the bytes are
	// passed on as they are, which is right for HTTP too. So it may be short, for the sake of servers that speak first.
	inboundSniff = 50 * time.Millisecond
	// applicationIdle is much shorter than the time for which servers wait for the next request (gunicorn has 2 s,
	// Apache and Node.js have 5 s): a request must not meet a connection that the application is just closing. A
	// connection within the pod costs next to nothing. It is not shorter because each that Envoy closes keeps its
	// port for a minute (TIME_WAIT), and a pod has 28,000.
	applicationIdle = 500 * time.Millisecond
	// inboundHeaders and inboundHeaderKilobytes are what a request may have. The application's own limits are lower.
	inboundHeaders         = 1000
	inboundHeaderKilobytes = 1024
	// oldHost is the host of HTTP/1.0 requests that name none, which Envoy does not take.
	oldHost = "localhost"
)

// forwardedProto is a header that Envoy adds where there is none; markHeader remembers that there was one.
const (
	forwardedProto = "x-forwarded-proto"
	markHeader     = "x-causeway-forwarded-proto"
)

// unreachedHeader is in the answers of a proxy whose application did not take a connection: of the request it has seen
// nothing. To callers in the mesh that is a failure to connect, as it would be without that proxy, and they
// ask somebody else, whatever the method.
const unreachedHeader = "x-causeway-unreached"

// unreachedAnswers has the answers of which that is true say so.
func unreachedAnswers() *hcmv3.LocalReplyConfig {
	return &hcmv3.LocalReplyConfig{Mappers: []*hcmv3.ResponseMapper{{
		Filter: &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ResponseFlagFilter{
			ResponseFlagFilter: &accesslogv3.ResponseFlagFilter{Flags: []string{"UF", "UO"}},
		}},
		HeadersToAdd: []*corev3.HeaderValueOption{{
			Header:       &corev3.HeaderValue{Key: unreachedHeader, Value: "%RESPONSE_FLAGS%"},
			AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		}},
		BodyFormatOverride: bodyFormat("causeway: the application does not take connections to port %DOWNSTREAM_LOCAL_PORT%\n"),
	}}}
}

// unreached matches these answers.
func unreached() []*routev3.HeaderMatcher {
	return []*routev3.HeaderMatcher{{Name: unreachedHeader, HeaderMatchSpecifier: &routev3.HeaderMatcher_PresentMatch{PresentMatch: true}}}
}

// seenInbound is who sees what is for inbound traffic.
func seenInbound() resource.Visibility {
	return resource.Visibility{Role: resource.Sidecar, Declared: naming.InboundTraffic}
}

// inboundListener returns the listener of connections that a pod redirects to a declared address.
func inboundListener(d naming.Declaration) []resource.Resource {
	var sniffed []*listenerv3.ListenerFilterChainMatchPredicate
	// Who connects to the listener itself would be sent in a circle.
	own := &listenerv3.FilterChain{
		FilterChainMatch: &listenerv3.FilterChainMatch{DestinationPort: wrapperspb.UInt32(uint32(d.Address.Port()))},
		Filters:          []*listenerv3.Filter{inboundTCP(naming.InvalidCluster)},
	}
	chains := []*listenerv3.FilterChain{own}
	for _, p := range d.Ports {
		port := wrapperspb.UInt32(uint32(p.Number))
		raw := &listenerv3.FilterChain{
			FilterChainMatch: &listenerv3.FilterChainMatch{DestinationPort: port}, Filters: []*listenerv3.Filter{inboundTCP(naming.InboundCluster)},
		}
		web := &listenerv3.FilterChain{
			FilterChainMatch: &listenerv3.FilterChainMatch{DestinationPort: port}, Filters: []*listenerv3.Filter{inboundHTTP()},
		}
		switch {
		case p.Protocol == naming.InboundHTTP:
			chains = append(chains, web)
		case p.Protocol == naming.InboundTCP, policy.OtherThanHTTP(discovery.ServicePort{Port: p.Number}) != "":
			chains = append(chains, raw)
		default:
			web.FilterChainMatch.ApplicationProtocols = []string{"http/1.0", "http/1.1", "h2c"}
			chains = append(chains, web, raw)
			sniffed = append(sniffed, atPort(p.Number))
		}
	}
	l := &listenerv3.Listener{
		Name: d.String(),
		Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address: d.Address.Addr().String(), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(d.Address.Port())},
		}}},
		ListenerFilters:    []*listenerv3.ListenerFilter{listenerFilterOf("envoy.filters.listener.original_dst", &originaldstv3.OriginalDst{})},
		FilterChains:       chains,
		DefaultFilterChain: &listenerv3.FilterChain{Filters: []*listenerv3.Filter{inboundTCP(naming.InboundCluster)}},
		TrafficDirection:   corev3.TrafficDirection_INBOUND,
	}
	if len(sniffed) > 0 {
		inspector := listenerFilterOf("envoy.filters.listener.http_inspector", &httpinspectorv3.HttpInspector{})
		inspector.FilterDisabled = &listenerv3.ListenerFilterChainMatchPredicate{
			Rule: &listenerv3.ListenerFilterChainMatchPredicate_NotMatch{NotMatch: anyOf(sniffed)},
		}
		l.ListenerFilters = append(l.ListenerFilters, inspector)
		l.ListenerFiltersTimeout, l.ContinueOnListenerFiltersTimeout = durationpb.New(inboundSniff), true
	}
	r := declared(d)
	r.Body, r.Needs = resource.Parts{marshal(l)}, []string{naming.InboundCluster}
	return []resource.Resource{r}
}

// atPort is true of connections to a port.
func atPort(n uint16) *listenerv3.ListenerFilterChainMatchPredicate {
	return &listenerv3.ListenerFilterChainMatchPredicate{Rule: &listenerv3.ListenerFilterChainMatchPredicate_DestinationPortRange{
		DestinationPortRange: &typev3.Int32Range{Start: int32(n), End: int32(n) + 1},
	}}
}

// anyOf is true if one of the rules is. Envoy wants two at least for an "or".
func anyOf(rules []*listenerv3.ListenerFilterChainMatchPredicate) *listenerv3.ListenerFilterChainMatchPredicate {
	if len(rules) == 1 {
		return rules[0]
	}
	return &listenerv3.ListenerFilterChainMatchPredicate{Rule: &listenerv3.ListenerFilterChainMatchPredicate_OrMatch{
		OrMatch: &listenerv3.ListenerFilterChainMatchPredicate_MatchSet{Rules: rules},
	}}
}

// inboundTCP passes connections on, byte by byte.
func inboundTCP(cluster string) *listenerv3.Filter {
	return &listenerv3.Filter{Name: "envoy.filters.network.tcp_proxy", ConfigType: listenerFilter(&tcpv3.TcpProxy{
		StatPrefix: "inbound_tcp", IdleTimeout: durationpb.New(0),
		ClusterSpecifier: &tcpv3.TcpProxy_Cluster{Cluster: cluster},
	})}
}

// inboundHTTP passes requests on, HTTP/1.1 and HTTP/2 each as it came.
func inboundHTTP() *listenerv3.Filter {
	http1 := serverHTTP1(true, asWritten())
	http1.DefaultHostForHttp_10, http1.EnableTrailers = oldHost, true
	return &listenerv3.Filter{Name: "envoy.filters.network.http_connection_manager", ConfigType: listenerFilter(&hcmv3.HttpConnectionManager{
		CodecType:      hcmv3.HttpConnectionManager_AUTO,
		StatPrefix:     "inbound_http",
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: inboundRoutes()},
		HttpFilters:    []*hcmv3.HttpFilter{httpFilter("envoy.filters.http.router", &routerv3.Router{SuppressEnvoyHeaders: true})},
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{
			MaxHeadersCount: wrapperspb.UInt32(inboundHeaders),
		},
		HttpProtocolOptions:  http1,
		Http2ProtocolOptions: serverHTTP2(),
		MaxRequestHeadersKb:  wrapperspb.UInt32(inboundHeaderKilobytes),
		StreamIdleTimeout:    durationpb.New(0),

		// What the caller says of a client, of its certificate and of the request's id is the application's to judge, as
		// without the mesh. Envoy itself believes nothing of it: nobody's x-envoy-retry-on or -timeout-ms holds.
		UseRemoteAddress:           wrapperspb.Bool(false),
		SkipXffAppend:              true,
		InternalAddressConfig:      nobodyInternal(),
		ForwardClientCertDetails:   hcmv3.HttpConnectionManager_ALWAYS_FORWARD_ONLY,
		GenerateRequestId:          wrapperspb.Bool(false),
		PreserveExternalRequestId:  true,
		ServerHeaderTransformation: hcmv3.HttpConnectionManager_PASS_THROUGH,
		// The application itself says whether it wants a body (Expect: 100-continue).
		Proxy_100Continue: true,
		UpgradeConfigs:    []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: websocket}},
		LocalReplyConfig:  unreachedAnswers(),
		EarlyHeaderMutationExtensions: []*corev3.TypedExtensionConfig{{
			Name: "envoy.http.early_header_mutation.header_mutation",
			TypedConfig: toAny(&earlyv3.HeaderMutation{Mutations: []*mutationv3.HeaderMutation{
				{Action: &mutationv3.HeaderMutation_Remove{Remove: markHeader}},
				{Action: &mutationv3.HeaderMutation_Append{Append: &corev3.HeaderValueOption{
					Header:       &corev3.HeaderValue{Key: markHeader, Value: "%REQ(X-FORWARDED-PROTO)%"},
					AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
				}}},
			}}),
		}},
	})}
}

// inboundRoutes lead to the application. What Envoy has added goes out again.
func inboundRoutes() *routev3.RouteConfiguration {
	to := func() *routev3.Route_Route {
		return &routev3.Route_Route{Route: &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: naming.InboundCluster}, Timeout: durationpb.New(0),
		}}
	}
	all := func(headers ...*routev3.HeaderMatcher) *routev3.RouteMatch {
		return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: ""}, Headers: headers}
	}
	said := &routev3.HeaderMatcher{Name: markHeader, HeaderMatchSpecifier: &routev3.HeaderMatcher_PresentMatch{PresentMatch: true}}
	return &routev3.RouteConfiguration{
		Name: naming.InboundTraffic, ValidateClusters: wrapperspb.Bool(false),
		VirtualHosts: []*routev3.VirtualHost{{
			Name: naming.InboundTraffic, Domains: []string{"*"},
			Routes: []*routev3.Route{
				{Match: all(said), Action: to(), RequestHeadersToRemove: []string{markHeader}},
				{Match: all(), Action: to(), RequestHeadersToRemove: []string{forwardedProto}},
			},
		}},
	}
}

// inboundCluster is the application beside the proxy, at the address that a connection was going to. Requests of
// different clients share connections, of which the newest is used first, so that few come and go.
func inboundCluster(m *policy.Mesh) resource.Resource {
	unlimited := wrapperspb.UInt32(policy.Unlimited)
	c := &clusterv3.Cluster{
		Name:                 naming.InboundCluster,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_ORIGINAL_DST},
		LbPolicy:             clusterv3.Cluster_CLUSTER_PROVIDED,
		ConnectTimeout:       durationpb.New(policy.DefaultConnect),
		CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
			MaxConnections: unlimited, MaxPendingRequests: unlimited, MaxRequests: unlimited,
		}}},
		UpstreamBindConfig: &corev3.BindConfig{SocketOptions: []*corev3.SocketOption{{
			Description: "tells them from the application's calls to itself",
			Level:       solSocket, Name: soPriority, Value: &corev3.SocketOption_IntValue{IntValue: naming.ApplicationPriority},
			State: corev3.SocketOption_STATE_PREBIND,
		}}},
	}
	setHTTPOptions(c, &httpv3.HttpProtocolOptions{
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{
			MaxHeadersCount: wrapperspb.UInt32(responseHeaders), IdleTimeout: durationpb.New(applicationIdle),
		},
		UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_UseDownstreamProtocolConfig{
			UseDownstreamProtocolConfig: &httpv3.HttpProtocolOptions_UseDownstreamHttpConfig{
				HttpProtocolOptions: &corev3.Http1ProtocolOptions{
					HeaderKeyFormat: asWritten(), AllowChunkedLength: true, EnableTrailers: true,
				},
				Http2ProtocolOptions: &corev3.Http2ProtocolOptions{},
			},
		},
	})
	return resource.Resource{
		Type: resource.Cluster, Name: naming.InboundCluster, Body: resource.Parts{marshal(c)}, Visible: seenInbound(), Provenance: m.Provenance,
	}
}

// SOL_SOCKET and SO_PRIORITY (socket(7)) as Linux numbers them.
const (
	solSocket  = 1
	soPriority = 12
)
