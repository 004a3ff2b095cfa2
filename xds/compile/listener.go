package compile

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	headermutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	rbacfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	sessionv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/stateful_session/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// Listener returns the listener of a declaration. m is the model of a TCP
// listener's Service; while there is none, or no such port, there is no
// listener and callers are refused at once.
func (c *Compiler) Listener(d naming.Declaration, m *policy.Service) []resource.Resource {
	if d.Internal {
		return nil
	}
	if !d.IsTCP() {
		return []resource.Resource{httpListener(d)}
	}
	if m == nil {
		return nil
	}
	for i := range m.Ports {
		if m.Ports[i].Number == d.Port {
			return []resource.Resource{tcpListener(d, m, &m.Ports[i])}
		}
	}
	return nil
}

// streamIdle ends a request on which nothing at all has happened for so long.
// It is far above what a PHP request may take and keeps forgotten ones from
// staying for ever.
const streamIdle = time.Hour

func httpListener(d naming.Declaration) resource.Resource {
	hcm := callersHTTP("egress_http", naming.RouteConfig)
	// Tunnels lead nowhere but where the mesh lets callers go to any host.
	hcm.UpgradeConfigs = append(hcm.UpgradeConfigs, &hcmv3.HttpConnectionManager_UpgradeConfig{UpgradeType: connectUpgrade})
	hcm.LocalReplyConfig = &hcmv3.LocalReplyConfig{Mappers: []*hcmv3.ResponseMapper{noRoute("no Service of the mesh answers to the host \"%REQ(:AUTHORITY)%\"")}}
	r := declared(d)
	r.Body = resource.Parts{listenerBody(d, nil, []*listenerv3.FilterChain{callersHTTPChain(hcm)})}
	r.Provenance = []discovery.ObjectRef{{Kind: discovery.KindMesh, Key: discovery.Key{Name: v1alpha1.MeshName}}}
	return r
}

// callersHTTP is how requests of the host's own processes are read.
func callersHTTP(statPrefix, routes string) *hcmv3.HttpConnectionManager {
	return &hcmv3.HttpConnectionManager{
		CodecType:  hcmv3.HttpConnectionManager_AUTO,
		StatPrefix: statPrefix,
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{
			RouteConfigName: routes, ConfigSource: adsSource(),
		}},
		HttpFilters:          httpFilters(&routerv3.Router{}),
		HttpProtocolOptions:  serverHTTP1(true, asWritten()),
		Http2ProtocolOptions: serverHTTP2(),
		// The callers are the host's own processes: what they say of a client's
		// address is passed on, not added to.
		UseRemoteAddress:           wrapperspb.Bool(false),
		ServerHeaderTransformation: hcmv3.HttpConnectionManager_PASS_THROUGH,
		PreserveExternalRequestId:  true,
		StripTrailingHostDot:       true,
		StreamIdleTimeout:          durationpb.New(streamIdle),
		UpgradeConfigs:             []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: websocket}},
		AccessLog:                  []*accesslogv3.AccessLog{outcomesLog()},
	}
}

func callersHTTPChain(hcm *hcmv3.HttpConnectionManager) *listenerv3.FilterChain {
	return &listenerv3.FilterChain{Filters: []*listenerv3.Filter{
		callerFilter(), {Name: "envoy.filters.network.http_connection_manager", ConfigType: listenerFilter(hcm)},
	}}
}

// serverHTTP1 is a listener's HTTP/1. A request with an unknown upgrade, which
// some clients send with every request (Upgrade: TLS/1.2), is answered without it
// (RFC 9110, section 7.8); Envoy's own answer would be 403.
func serverHTTP1(http10 bool, names *corev3.Http1ProtocolOptions_HeaderKeyFormat) *corev3.Http1ProtocolOptions {
	return &corev3.Http1ProtocolOptions{
		AcceptHttp_10: http10, HeaderKeyFormat: names, IgnoreHttp_11Upgrade: unlike(websocket),
		// PHP purges caches by BAN; over HTTP/2 any method is taken too.
		AllowCustomMethods: true,
	}
}

// serverHTTP2 is a listener's HTTP/2. A request that cannot be read ends alone. By
// default Envoy ends its connection, and with it the requests of everybody else on it,
// such as all clients of a load balancer in front.
func serverHTTP2() *corev3.Http2ProtocolOptions {
	return &corev3.Http2ProtocolOptions{OverrideStreamErrorOnInvalidHttpMessage: wrapperspb.Bool(true)}
}

// websocket is the upgrade that is known.
const websocket = "websocket"

// unlike returns matchers of which one at least takes every string but a word in
// any case. RE2 cannot negate, so each says one way to differ; they are
// many because Envoy limits the program of one.
func unlike(word string) []*matcherv3.StringMatcher {
	patterns := []string{fmt.Sprintf(".{0,%d}", len(word)-1), fmt.Sprintf(".{%d,}", len(word)+1)}
	for i := range len(word) {
		letter := word[i : i+1]
		patterns = append(patterns, strings.Repeat(".", i)+"[^"+letter+strings.ToUpper(letter)+"].*")
	}
	var out []*matcherv3.StringMatcher
	for _, p := range patterns {
		out = append(out, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: regex(p)}})
	}
	return out
}

// noRoute makes the answer to a host, or a path of it, that nothing answers to say so.
func noRoute(nothing string) *hcmv3.ResponseMapper {
	return &hcmv3.ResponseMapper{
		Filter: &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ResponseFlagFilter{
			ResponseFlagFilter: &accesslogv3.ResponseFlagFilter{Flags: []string{"NR"}},
		}},
		BodyFormatOverride: bodyFormat("causeway: " + nothing + ", or no rule of its routes matches the request\n"),
	}
}

// bodyFormat is a body in Envoy's format of access logs.
func bodyFormat(text string) *corev3.SubstitutionFormatString {
	return &corev3.SubstitutionFormatString{Format: &corev3.SubstitutionFormatString_TextFormatSource{
		TextFormatSource: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: text}},
	}}
}

const (
	corsFilter    = "envoy.filters.http.cors"
	sessionFilter = "envoy.filters.http.stateful_session"
	// egressGuardFilter is an RBAC filter of its own.
	egressGuardFilter = "causeway.egress_guard"
	// attemptFilter tells the router how long an attempt may take.
	attemptFilter = "causeway.attempt_timeout"
)

// httpFilters is the chain that every request passes. All that routes may ask
// for stands there from the start and does nothing by itself, so that no edit
// of a policy changes a listener, which would drain its connections.
func httpFilters(router *routerv3.Router) []*hcmv3.HttpFilter {
	return []*hcmv3.HttpFilter{
		httpFilter(corsFilter, &corsv3.Cors{}),
		httpFilter(faultFilter, &faultv3.HTTPFault{}),
		httpFilter(sessionFilter, &sessionv3.StatefulSession{}),
		httpFilter("envoy.filters.http.dynamic_forward_proxy", egressFilter()),
		httpFilter(egressGuardFilter, &rbacfilterv3.RBAC{}),
		httpFilter(attemptFilter, &headermutationv3.HeaderMutation{}),
		httpFilter("envoy.filters.http.router", router),
	}
}

func httpFilter(name string, config proto.Message) *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{Name: name, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: toAny(config)}}
}

// declared is the listener of a declaration, without its message.
func declared(d naming.Declaration) resource.Resource {
	return resource.Resource{
		Type: resource.Listener, Name: d.String(),
		Visible: resource.Visibility{Role: resource.Sidecar, Declared: d.String()},
	}
}

func listenerBody(d naming.Declaration, inspectors []*listenerv3.ListenerFilter, chains []*listenerv3.FilterChain) []byte {
	return marshal(outbound(d.String(), d.Address, inspectors, chains))
}

// outbound returns a listener of connections that the host's own processes make.
func outbound(name string, at netip.AddrPort, inspectors []*listenerv3.ListenerFilter, chains []*listenerv3.FilterChain) *listenerv3.Listener {
	return &listenerv3.Listener{
		Name: name,
		Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address:       at.Addr().String(),
			PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(at.Port())},
		}}},
		ListenerFilters:  inspectors,
		FilterChains:     chains,
		TrafficDirection: corev3.TrafficDirection_OUTBOUND,
	}
}

func listenerFilter(m proto.Message) *listenerv3.Filter_TypedConfig {
	return &listenerv3.Filter_TypedConfig{TypedConfig: toAny(m)}
}
