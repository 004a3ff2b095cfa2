package compile

import (
	"slices"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	bufferv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/buffer/v3"
	answermutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	healthv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/health_check/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	requestmutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// The limits of clients where no GatewayPolicy says otherwise (Envoy:
// "Configuring Envoy as an edge proxy").
const (
	requestHeadersTimeout = 10 * time.Second
	clientRequestTimeout  = 5 * time.Minute
	requestHeaderBytes    = 60 << 10
	// Over HTTP/2 browsers send each cookie as a header of its own, up to 180 of them for a host.
	requestHeaders    = 300
	concurrentStreams = 100
	// The windows are what a client may send ahead: a stream's lets an upload
	// run at 20 MB/s over 50 ms, a connection's bounds the memory that one client can fill.
	streamWindow     = 1 << 20
	connectionWindow = 2 << 20
)

// serverName is the name of the server in answers. It tells nothing about the backend, nor
// any version.
const serverName = "causeway"

// http returns the filters of a listener whose clients send requests.
func (e *edge) http(l *policy.GatewayListener) []*listenerv3.Filter {
	s := &e.port.Settings
	limits, timeout := v1alpha1.ClientLimits{}, v1alpha1.ClientTimeout{}
	if s.Limits != nil {
		limits = *s.Limits
	}
	if s.Timeout != nil {
		timeout = *s.Timeout
	}
	hops := s.TrustedHops()
	filters := edgeFilters(s)
	http2 := serverHTTP2()
	http2.MaxConcurrentStreams = limitOr(limits.ConcurrentStreams, concurrentStreams)
	http2.InitialStreamWindowSize = wrapperspb.UInt32(streamWindow)
	http2.InitialConnectionWindowSize = wrapperspb.UInt32(connectionWindow)
	hcm := &hcmv3.HttpConnectionManager{
		CodecType:  hcmv3.HttpConnectionManager_AUTO,
		StatPrefix: "gateway_http",
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{
			RouteConfigName: gatewayRoutes(e.gateway.Key, e.port, l), ConfigSource: adsSource(),
		}},
		HttpFilters: filters,
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{
			IdleTimeout:     durationpb.New(s.Idle()),
			MaxHeadersCount: limitOr(limits.Headers, requestHeaders),
			// PHP cannot tell X_User from X-User, so the former is taken out, as nginx
			// does. Refusing the request would be a reset over HTTP/2.
			HeadersWithUnderscoresAction: corev3.HttpProtocolOptions_DROP_HEADER,
		},
		HttpProtocolOptions:   serverHTTP1(s.SpeaksHTTP10(), capitalized()),
		Http2ProtocolOptions:  http2,
		MaxRequestHeadersKb:   wrapperspb.UInt32((limitOr(limits.HeaderBytes, requestHeaderBytes).GetValue() + 1023) / 1024),
		RequestHeadersTimeout: durationOr(timeout.RequestHeaders, requestHeadersTimeout),
		RequestTimeout:        durationOr(timeout.Request, clientRequestTimeout),
		StreamIdleTimeout:     durationOr(timeout.StreamIdle, streamIdle),

		// Whose word is taken for the client's address, scheme and request id.
		UseRemoteAddress:              wrapperspb.Bool(true),
		XffNumTrustedHops:             hops,
		ForwardProtoConfig:            forwardProto(s),
		PreserveExternalRequestId:     hops > 0,
		InternalAddressConfig:         nobodyInternal(),
		EarlyHeaderMutationExtensions: []*corev3.TypedExtensionConfig{forgedHeaders(s)},
		ServerHeaderTransformation:    hcmv3.HttpConnectionManager_OVERWRITE,
		ServerName:                    serverName,
		NormalizePath:                 wrapperspb.Bool(true),
		MergeSlashes:                  true,
		PathWithEscapedSlashesAction:  hcmv3.HttpConnectionManager_UNESCAPE_AND_REDIRECT,
		StripTrailingHostDot:          true,
		UpgradeConfigs:                []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: websocket, Filters: withoutBuffer(filters)}},
		LocalReplyConfig:              edgeReplies(),
		AccessLog:                     []*accesslogv3.AccessLog{outcomesLog()},
	}
	if l.Clients != nil && !l.Clients.Optional {
		// Backends are told who the client is. What is not checked they are not told: they would believe it.
		hcm.ForwardClientCertDetails = hcmv3.HttpConnectionManager_SANITIZE_SET
		hcm.SetCurrentClientCertDetails = &hcmv3.HttpConnectionManager_SetCurrentClientCertDetails{
			Subject: wrapperspb.Bool(true), Uri: true, Dns: true,
		}
	}
	return []*listenerv3.Filter{{Name: "envoy.filters.network.http_connection_manager", ConfigType: listenerFilter(hcm)}}
}

// forwardProto has the port that clients of an NLB have connected to, which the
// PROXY protocol tells, say whether the NLB has ended TLS. It is nil where
// nothing in front passes TLS on as plain text without a header that tells.
func forwardProto(s *policy.GatewaySettings) *hcmv3.ForwardProtoConfig {
	ports := s.TLSPorts()
	if len(ports) == 0 {
		return nil
	}
	return &hcmv3.ForwardProtoConfig{HttpsDestinationPorts: ports}
}

// nobodyInternal keeps Envoy from trusting clients with private addresses, which
// whoever reaches the gateway from within the VPC has. Without a range Envoy
// takes its own; nobody connects from the one that is for broadcasts.
func nobodyInternal() *hcmv3.HttpConnectionManager_InternalAddressConfig {
	return &hcmv3.HttpConnectionManager_InternalAddressConfig{
		CidrRanges: []*corev3.CidrRange{{AddressPrefix: "255.255.255.255", PrefixLen: wrapperspb.UInt32(32)}},
	}
}

func limitOr(limit *int32, otherwise uint32) *wrapperspb.UInt32Value {
	if limit != nil {
		otherwise = uint32(*limit) //nolint:gosec // at least 1
	}
	return wrapperspb.UInt32(otherwise)
}

// forgedHeaders takes out of requests, before anything reads them, what no
// client may say and nothing in front has written.
func forgedHeaders(s *policy.GatewaySettings) *corev3.TypedExtensionConfig {
	mutations := []*mutationv3.HeaderMutation{removeEnvoys()}
	for _, name := range s.ForgedHeaders() {
		mutations = append(mutations, &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Remove{Remove: name}})
	}
	return &corev3.TypedExtensionConfig{
		Name: "envoy.http.early_header_mutation.header_mutation", TypedConfig: toAny(&requestmutationv3.HeaderMutation{Mutations: mutations}),
	}
}

// removeEnvoys removes the headers by which Envoys talk to each other.
func removeEnvoys() *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_RemoveOnMatch_{
		RemoveOnMatch: &mutationv3.HeaderMutation_RemoveOnMatch{KeyMatcher: &matcherv3.StringMatcher{
			MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: "x-envoy-"},
		}},
	}}
}

// edgeReplies are the bodies of answers that the proxy gives itself. Envoy's own
// tell of addresses and clusters; the request's id leads who may know to the log.
func edgeReplies() *hcmv3.LocalReplyConfig {
	return &hcmv3.LocalReplyConfig{Mappers: []*hcmv3.ResponseMapper{
		noRoute("no route of the Gateway answers to the host \"%REQ(:AUTHORITY)%\""),
		{
			Filter: &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_StatusCodeFilter{
				StatusCodeFilter: &accesslogv3.StatusCodeFilter{Comparison: &accesslogv3.ComparisonFilter{
					Op: accesslogv3.ComparisonFilter_GE, Value: &corev3.RuntimeUInt32{DefaultValue: 500, RuntimeKey: "causeway.failed_status"},
				}},
			}},
			BodyFormatOverride: bodyFormat("causeway: request %REQ(X-REQUEST-ID)% could not be answered\n"),
		},
	}}
}

// bufferFilter holds requests until they are whole.
const bufferFilter = "envoy.filters.http.buffer"

// idleBuffer is the filter as it stands in every chain: routes turn it on and say
// how much it holds, so that an edit of the limit replaces no listener. The size
// here is one that Envoy asks for, and is never used.
func idleBuffer() *hcmv3.HttpFilter {
	f := httpFilter(bufferFilter, &bufferv3.Buffer{MaxRequestBytes: wrapperspb.UInt32(1)})
	f.Disabled = true
	return f
}

// buffered has requests of a virtual host held until they are whole.
func buffered(most int32) map[string]*anypb.Any {
	return map[string]*anypb.Any{bufferFilter: toAny(&bufferv3.BufferPerRoute{Override: &bufferv3.BufferPerRoute_Buffer{
		Buffer: &bufferv3.Buffer{MaxRequestBytes: limitOr(&most, 0)},
	}})}
}

// edgeFilters is the chain that every request at the edge passes.
func edgeFilters(s *policy.GatewaySettings) []*hcmv3.HttpFilter {
	// Answers pass the filters from the last to the first: what any of them, or a
	// proxy behind, has added for other Envoys goes no further.
	out := []*hcmv3.HttpFilter{httpFilter("envoy.filters.http.header_mutation", &answermutationv3.HeaderMutation{
		Mutations: &answermutationv3.Mutations{ResponseMutations: []*mutationv3.HeaderMutation{removeEnvoys()}},
	})}
	if h := s.HealthCheck; h != nil {
		out = append(out, httpFilter("envoy.filters.http.health_check", &healthv3.HealthCheck{
			PassThroughMode: wrapperspb.Bool(false), Headers: []*routev3.HeaderMatcher{headerMatcher(":path", exactly(h.Path))},
		}))
	}
	return append(append(out, idleBuffer()), httpFilters(&routerv3.Router{SuppressEnvoyHeaders: true})...)
}

// withoutBuffer returns the chain for what is never whole.
func withoutBuffer(filters []*hcmv3.HttpFilter) []*hcmv3.HttpFilter {
	return slices.DeleteFunc(slices.Clone(filters), func(f *hcmv3.HttpFilter) bool { return f.GetName() == bufferFilter })
}

// unbuffered lets the requests of a route stream: those of gRPC are messages,
// which may go on for as long as the connection, and whose size both ends limit.
func unbuffered(r *routev3.Route) {
	if r.TypedPerFilterConfig == nil {
		r.TypedPerFilterConfig = make(map[string]*anypb.Any)
	}
	r.TypedPerFilterConfig[bufferFilter] = toAny(&bufferv3.BufferPerRoute{Override: &bufferv3.BufferPerRoute_Disabled{Disabled: true}})
}
