package compile

import (
	"maps"
	"path"
	"slices"
	"strconv"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	bufferv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/buffer/v3"
	healthv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/health_check/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	proxyprotocolv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/proxy_protocol/v3"
	tlsinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	connectionlimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/connection_limit/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	networkrbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	earlymutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// Certificates returns the secrets of a Gateway, which only its proxies see, and
// those with a key only if they have proven who they are.
func (c *Compiler) Certificates(m *policy.Gateway) []resource.Resource {
	var out []resource.Resource
	for i := range m.Certificates {
		cert := &m.Certificates[i]
		name := certificateName(m.Key, cert.Name)
		visible := ofGateway(m)
		secret := &tlsv3.TlsCertificate{}
		if cert.ChainFile != "" {
			secret.CertificateChain, secret.PrivateKey = fileSource(cert.ChainFile), fileSource(cert.KeyFile)
			secret.WatchedDirectory = &corev3.WatchedDirectory{Path: path.Dir(cert.ChainFile)}
		} else {
			visible.Authenticated = true
			secret.CertificateChain, secret.PrivateKey = inlineSource(cert.Chain), inlineSource(cert.Key)
		}
		out = append(out, resource.Resource{
			Type: resource.Secret, Name: name, Visible: visible, Provenance: []discovery.ObjectRef{cert.Object},
			Body: resource.Parts{marshal(&tlsv3.Secret{Name: name, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: secret}})},
		})
	}
	return out
}

// GatewayListeners returns the listeners of a declaration: one for every port
// of the Gateway that it is about and that there is.
func (c *Compiler) GatewayListeners(d Declaration, m *policy.Gateway) []resource.Resource {
	var out []resource.Resource
	for i := range m.Ports {
		p := &m.Ports[i]
		if d.Port == 0 || d.Port == p.Number {
			out = append(out, c.gatewayListener(d, m, p))
		}
	}
	return out
}

func (c *Compiler) gatewayListener(d Declaration, m *policy.Gateway, p *policy.GatewayPort) resource.Resource {
	name, port := d.String(), d.Address.Port()
	if d.Port == 0 {
		name, port = name+":"+portText(p.Number), p.Number
	}
	needs := make(map[string]struct{})
	l := &listenerv3.Listener{
		Name: name,
		Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address: d.Address.Addr().String(), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)},
		}}},
		TrafficDirection:              corev3.TrafficDirection_INBOUND,
		PerConnectionBufferLimitBytes: wrapperspb.UInt32(connectionBuffer),
	}
	if p.Settings.PROXY() {
		l.ListenerFilters = append(l.ListenerFilters, listenerFilterOf("envoy.filters.listener.proxy_protocol", &proxyprotocolv3.ProxyProtocol{}))
	}
	if p.Protocol == policy.ListenTLS {
		l.ListenerFilters = append(l.ListenerFilters, listenerFilterOf("envoy.filters.listener.tls_inspector", &tlsinspectorv3.TlsInspector{}))
	}
	if p.Protocol == policy.ListenHTTP {
		l.FilterChains = append(l.FilterChains, &listenerv3.FilterChain{Name: "http", Filters: edgeHTTP(m, p, &p.Listeners[0])})
	} else {
		for i := range p.Listeners {
			l.FilterChains = append(l.FilterChains, edgeChains(m, p, &p.Listeners[i], needs)...)
		}
	}
	r := resource.Resource{
		Type: resource.Listener, Name: name, Visible: ofGateway(m), Needs: slices.Sorted(maps.Keys(needs)),
		Body: resource.Parts{marshal(l)}, Provenance: m.Provenance,
	}
	for i := range p.Listeners {
		r.Provenance = union(r.Provenance, p.Listeners[i].Provenance)
	}
	r.Visible.Declared = d.String()
	return r
}

func listenerFilterOf(name string, config proto.Message) *listenerv3.ListenerFilter {
	return &listenerv3.ListenerFilter{Name: name, ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: toAny(config)}}
}

// edgeChains returns the filter chains of a listener on a port where connections
// are told apart by the name that the client asks for, or not at all.
func edgeChains(m *policy.Gateway, p *policy.GatewayPort, l *policy.GatewayListener, needs map[string]struct{}) []*listenerv3.FilterChain {
	if l.IsHTTP {
		return []*listenerv3.FilterChain{{
			Name: l.Name, FilterChainMatch: serverNames(l.Hostname), TransportSocket: edgeTLS(m, p, l, "h2", "http/1.1"), Filters: edgeHTTP(m, p, l),
		}}
	}
	_, chains := filterChains(l.TCP, needs)
	for i, chain := range chains {
		chain.Name = l.Name + "/" + strconv.Itoa(i)
		if chain.FilterChainMatch == nil && p.Protocol == policy.ListenTLS {
			chain.FilterChainMatch = serverNames(l.Hostname)
		}
		if l.Terminates {
			chain.TransportSocket = edgeTLS(m, p, l)
		}
		chain.Filters = append(edgeGuards(p), chain.Filters...)
	}
	return chains
}

func serverNames(host string) *listenerv3.FilterChainMatch {
	if host == "" {
		return nil
	}
	return &listenerv3.FilterChainMatch{ServerNames: []string{host}}
}

// edgeTLS returns the context in which a listener ends TLS.
func edgeTLS(m *policy.Gateway, p *policy.GatewayPort, l *policy.GatewayListener, alpn ...string) *corev3.TransportSocket {
	common := &tlsv3.CommonTlsContext{AlpnProtocols: alpn, TlsParams: &tlsv3.TlsParameters{
		TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2, TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
	}}
	if t := p.Settings.TLS; t != nil {
		if t.MinVersion == v1alpha1.TLS13 {
			common.TlsParams.TlsMinimumProtocolVersion = tlsv3.TlsParameters_TLSv1_3
		}
		common.TlsParams.CipherSuites = t.CipherSuites
	}
	for _, name := range l.Certificates {
		common.TlsCertificateSdsSecretConfigs = append(common.TlsCertificateSdsSecretConfigs, &tlsv3.SdsSecretConfig{
			Name: certificateName(m.Key, name), SdsConfig: adsSource(),
		})
	}
	return namedSocket("envoy.transport_sockets.tls", &tlsv3.DownstreamTlsContext{
		CommonTlsContext: common,
		// Tickets are encrypted with a key of each proxy's own: at another proxy they are of no use.
		SessionTicketKeysType: &tlsv3.DownstreamTlsContext_DisableStatelessSessionResumption{DisableStatelessSessionResumption: true},
	})
}

// edgeGuards are the filters before all others: who may connect, and how many.
func edgeGuards(p *policy.GatewayPort) []*listenerv3.Filter {
	var out []*listenerv3.Filter
	add := func(name string, config proto.Message) {
		out = append(out, &listenerv3.Filter{Name: name, ConfigType: listenerFilter(config)})
	}
	if from := p.Settings.AllowedFrom(); len(from) > 0 {
		var ids []*rbacv3.Principal
		for _, prefix := range from {
			ids = append(ids, &rbacv3.Principal{Identifier: &rbacv3.Principal_DirectRemoteIp{DirectRemoteIp: &corev3.CidrRange{
				AddressPrefix: prefix.Addr().String(), PrefixLen: wrapperspb.UInt32(uint32(prefix.Bits())), //nolint:gosec // 0 to 128
			}}})
		}
		add("envoy.filters.network.rbac", &networkrbacv3.RBAC{StatPrefix: "in_front_", Rules: &rbacv3.RBAC{
			Action: rbacv3.RBAC_ALLOW,
			Policies: map[string]*rbacv3.Policy{"in-front": {
				Permissions: []*rbacv3.Permission{{Rule: &rbacv3.Permission_Any{Any: true}}}, Principals: ids,
			}},
		}})
	}
	if l := p.Settings.Limits; l != nil && l.Connections != nil {
		add("envoy.filters.network.connection_limit", &connectionlimitv3.ConnectionLimit{
			StatPrefix: "gateway", MaxConnections: wrapperspb.UInt64(uint64(*l.Connections)), //nolint:gosec // at least 1
		})
	}
	return out
}

// bufferFilter is on where a virtual host says so.
const bufferFilter = "envoy.filters.http.buffer"

func edgeHTTP(m *policy.Gateway, p *policy.GatewayPort, l *policy.GatewayListener) []*listenerv3.Filter {
	s := &p.Settings
	limits, timeout := v1alpha1.ClientLimits{}, v1alpha1.ClientTimeout{}
	if s.Limits != nil {
		limits = *s.Limits
	}
	if s.Timeout != nil {
		timeout = *s.Timeout
	}
	hops := s.TrustedHops()
	filters := edgeFilters(s)
	hcm := &hcmv3.HttpConnectionManager{
		CodecType: hcmv3.HttpConnectionManager_AUTO, StatPrefix: "gateway_http",
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{RouteConfigName: gatewayRouteName(m.Key, p, l), ConfigSource: adsSource()}},
		HttpFilters:    filters,
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{
			IdleTimeout: durationpb.New(s.Idle()), MaxHeadersCount: wrapperspb.UInt32(uint32(or(limits.Headers, 100))), //nolint:gosec // at least 1
			HeadersWithUnderscoresAction: corev3.HttpProtocolOptions_REJECT_REQUEST,
		},
		HttpProtocolOptions: &corev3.Http1ProtocolOptions{AcceptHttp_10: hops == 0, HeaderKeyFormat: asWritten()},
		Http2ProtocolOptions: &corev3.Http2ProtocolOptions{
			MaxConcurrentStreams:    wrapperspb.UInt32(uint32(or(limits.ConcurrentStreams, 100))), //nolint:gosec // at least 1
			InitialStreamWindowSize: wrapperspb.UInt32(64 << 10), InitialConnectionWindowSize: wrapperspb.UInt32(1 << 20),
		},
		MaxRequestHeadersKb:          wrapperspb.UInt32(uint32((or(limits.HeaderBytes, 60<<10) + 1023) / 1024)), //nolint:gosec // at least 1024
		RequestHeadersTimeout:        durationOr(timeout.RequestHeaders, 10*time.Second),
		RequestTimeout:               durationOr(timeout.Request, 5*time.Minute),
		StreamIdleTimeout:            durationOr(timeout.StreamIdle, streamIdle),
		UseRemoteAddress:             wrapperspb.Bool(true),
		XffNumTrustedHops:            hops,
		NormalizePath:                wrapperspb.Bool(true),
		MergeSlashes:                 true,
		PathWithEscapedSlashesAction: hcmv3.HttpConnectionManager_UNESCAPE_AND_REDIRECT,
		PreserveExternalRequestId:    hops > 0,
		// No address is Envoy's "internal" one, whose x-envoy-* headers it would obey.
		InternalAddressConfig:         &hcmv3.HttpConnectionManager_InternalAddressConfig{},
		EarlyHeaderMutationExtensions: []*corev3.TypedExtensionConfig{distrust(hops > 0)},
		StripTrailingHostDot:          true,
		UpgradeConfigs:                []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket", Filters: withoutBuffer(filters)}},
		LocalReplyConfig:              localReplies(),
		AccessLog:                     []*accesslogv3.AccessLog{outcomesLog()},
	}
	return append(edgeGuards(p), &listenerv3.Filter{Name: "envoy.filters.network.http_connection_manager", ConfigType: listenerFilter(hcm)})
}

// distrust takes out of a request, before anything reads it, what clients may not
// say: Envoy's own headers and, where nothing in front is trusted to have written them, those
// that tell of the way that the request came.
func distrust(trusted bool) *corev3.TypedExtensionConfig {
	mutations := []*mutationv3.HeaderMutation{{Action: &mutationv3.HeaderMutation_RemoveOnMatch_{
		RemoveOnMatch: &mutationv3.HeaderMutation_RemoveOnMatch{KeyMatcher: &matcherv3.StringMatcher{
			MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: "x-envoy-"},
		}},
	}}}
	if !trusted {
		for _, name := range []string{"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "x-real-ip", "forwarded", "x-request-id"} {
			mutations = append(mutations, &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Remove{Remove: name}})
		}
	}
	return &corev3.TypedExtensionConfig{
		Name:        "envoy.http.early_header_mutation.header_mutation",
		TypedConfig: toAny(&earlymutationv3.HeaderMutation{Mutations: mutations}),
	}
}

func or[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

// edgeFilters is the chain of every request at the edge.
func edgeFilters(s *policy.GatewaySettings) []*hcmv3.HttpFilter {
	var out []*hcmv3.HttpFilter
	if h := s.HealthCheck; h != nil {
		out = append(out, httpFilter("envoy.filters.http.health_check", &healthv3.HealthCheck{
			PassThroughMode: wrapperspb.Bool(false), Headers: []*routev3.HeaderMatcher{headerMatcher(":path", exactly(h.Path))},
		}))
	}
	if l := s.Limits; l != nil && l.BodyBytes != nil {
		out = append(out, httpFilter(bufferFilter, &bufferv3.Buffer{MaxRequestBytes: wrapperspb.UInt32(uint32(*l.BodyBytes))})) //nolint:gosec // at least 1
	}
	own := httpFilters()
	for _, f := range own {
		if f.GetName() == "envoy.filters.http.router" {
			f = httpFilter(f.GetName(), &routerv3.Router{SuppressEnvoyHeaders: true})
		}
		out = append(out, f)
	}
	return out
}

func httpFilter(name string, config proto.Message) *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{Name: name, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: toAny(config)}}
}

// withoutBuffer returns a chain for what has no body to wait for.
func withoutBuffer(filters []*hcmv3.HttpFilter) []*hcmv3.HttpFilter {
	return slices.DeleteFunc(slices.Clone(filters), func(f *hcmv3.HttpFilter) bool { return f.GetName() == bufferFilter })
}

func certificateName(gateway discovery.Key, certificate string) string {
	return "certificate/" + gateway.String() + "/" + certificate
}

func inlineSource(data []byte) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: data}}
}

func fileSource(path string) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: path}}
}

// connectionBuffer is Envoy's advice for edges (docs: edge best practices).
const connectionBuffer = 32 << 10
