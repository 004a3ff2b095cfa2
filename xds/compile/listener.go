package compile

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// Declaration is a listener that a proxy asks for in its node metadata,
// because which ports are free is known on its host only. Its text is
// "http/<address>:<port>" for the HTTP listener of explicit egress, or
// "tcp/<address>:<port>=<namespace>/<service>:<port>" for a TCP Service's port.
type Declaration struct {
	Address netip.AddrPort
	// Service and Port are set for a TCP listener.
	Service discovery.Key
	Port    uint16
}

// ParseDeclaration reads a declaration. Only loopback addresses are taken:
// what listens there is reachable by the host's own processes alone, and
// nothing else was configured to be trusted.
func ParseDeclaration(s string) (Declaration, error) {
	var d Declaration
	kind, rest, _ := strings.Cut(s, "/")
	address, service, isTCP := strings.Cut(rest, "=")
	if (kind == "tcp") != isTCP || (kind != "tcp" && kind != "http") {
		return d, fmt.Errorf("listener %q: write http/ADDRESS:PORT or tcp/ADDRESS:PORT=NAMESPACE/SERVICE:PORT", s)
	}
	var err error
	if d.Address, err = netip.ParseAddrPort(address); err != nil {
		return d, fmt.Errorf("listener %q: %w", s, err)
	}
	if a := d.Address.Addr(); !a.IsLoopback() || a.Zone() != "" || d.Address.Port() == 0 {
		return d, fmt.Errorf("listener %q: %s is not a loopback address with a port", s, address)
	}
	d.Address = netip.AddrPortFrom(d.Address.Addr().Unmap(), d.Address.Port())
	if !isTCP {
		return d, nil
	}
	name, port, ok := strings.Cut(service, ":")
	number, err := strconv.ParseUint(port, 10, 16)
	d.Service.Namespace, d.Service.Name, _ = strings.Cut(name, "/")
	if !ok || err != nil || number == 0 || !isLabel(d.Service.Namespace) || !isLabel(d.Service.Name) {
		return d, fmt.Errorf("listener %q: %q is not NAMESPACE/SERVICE:PORT", s, service)
	}
	d.Port = uint16(number)
	return d, nil
}

// isLabel reports whether s can be the name of a namespace or a Service, which
// are DNS labels (RFC 1123).
func isLabel(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && (c != '-' || i == 0 || i == len(s)-1) {
			return false
		}
	}
	return 0 < len(s) && len(s) <= 63
}

// String returns the canonical text of the declaration, the name of its listener.
func (d Declaration) String() string {
	if d.Service.Name == "" {
		return "http/" + d.Address.String()
	}
	return "tcp/" + d.Address.String() + "=" + portName(d.Service, d.Port)
}

// IsTCP reports whether the declaration is of a TCP listener.
func (d Declaration) IsTCP() bool { return d.Service.Name != "" }

// Listener returns the listener of a declaration. m is the model of a TCP
// listener's Service; while there is none, or no such port, there is no
// listener and callers are refused at once.
func (c *Compiler) Listener(d Declaration, m *policy.Service) []resource.Resource {
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

// connectAttempts of a TCP connection, each to an endpoint that the load
// balancer picks anew. Envoy does not avoid the one that just failed here, so
// there must be enough of them for it to be ejected meanwhile.
const connectAttempts = 10

// streamIdle ends a request on which nothing at all has happened for so long.
// It is far above what a PHP request may take and keeps forgotten ones from
// staying for ever.
const streamIdle = time.Hour

func httpListener(d Declaration) resource.Resource {
	hcm := &hcmv3.HttpConnectionManager{
		CodecType:  hcmv3.HttpConnectionManager_AUTO,
		StatPrefix: "egress_http",
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{
			RouteConfigName: RouteName, ConfigSource: adsSource(),
		}},
		HttpFilters: []*hcmv3.HttpFilter{{
			Name:       "envoy.filters.http.router",
			ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: toAny(&routerv3.Router{})},
		}},
		HttpProtocolOptions: &corev3.Http1ProtocolOptions{AcceptHttp_10: true, HeaderKeyFormat: asWritten()},
		// The callers are the host's own processes: what they say of a client's
		// address is passed on, not added to.
		UseRemoteAddress:           wrapperspb.Bool(false),
		ServerHeaderTransformation: hcmv3.HttpConnectionManager_PASS_THROUGH,
		PreserveExternalRequestId:  true,
		StripTrailingHostDot:       true,
		StreamIdleTimeout:          durationpb.New(streamIdle),
		UpgradeConfigs:             []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket"}},
		LocalReplyConfig:           localReplies(),
	}
	return listener(d, "envoy.filters.network.http_connection_manager", listenerFilter(hcm), nil,
		[]discovery.ObjectRef{{Kind: "Mesh", Key: discovery.Key{Name: "default"}}})
}

// localReplies makes the answer to a host that no Service has say so.
func localReplies() *hcmv3.LocalReplyConfig {
	return &hcmv3.LocalReplyConfig{Mappers: []*hcmv3.ResponseMapper{{
		Filter: &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ResponseFlagFilter{
			ResponseFlagFilter: &accesslogv3.ResponseFlagFilter{Flags: []string{"NR"}},
		}},
		BodyFormatOverride: &corev3.SubstitutionFormatString{
			Format: &corev3.SubstitutionFormatString_TextFormatSource{TextFormatSource: &corev3.DataSource{
				Specifier: &corev3.DataSource_InlineString{
					InlineString: "causeway: no Service of the mesh answers to the host \"%REQ(:AUTHORITY)%\"\n",
				},
			}},
		},
	}}}
}

func tcpListener(d Declaration, m *policy.Service, p *policy.Port) resource.Resource {
	proxy := &tcpv3.TcpProxy{
		StatPrefix: "egress_tcp",
		// Database connections of a pool may be idle for hours.
		IdleTimeout: durationpb.New(0),
		// Nothing was sent while there is no connection, so another endpoint may be tried.
		MaxConnectAttempts: wrapperspb.UInt32(connectAttempts),
	}
	// Envoy refuses a weight of 0 here: a backing without a share is left out.
	var to []target
	for _, t := range targets(m.Key, p) {
		if t.weight > 0 {
			to = append(to, t)
		}
	}
	var needs []string
	if len(to) == 1 {
		proxy.ClusterSpecifier = &tcpv3.TcpProxy_Cluster{Cluster: to[0].cluster}
	} else {
		weighted := &tcpv3.TcpProxy_WeightedCluster{}
		for _, t := range to {
			weighted.Clusters = append(weighted.Clusters, &tcpv3.TcpProxy_WeightedCluster_ClusterWeight{
				Name: t.cluster, Weight: t.weight,
			})
		}
		proxy.ClusterSpecifier = &tcpv3.TcpProxy_WeightedClusters{WeightedClusters: weighted}
	}
	for _, t := range to {
		needs = append(needs, t.cluster)
	}
	slices.Sort(needs)
	return listener(d, "envoy.filters.network.tcp_proxy", listenerFilter(proxy), needs, m.Provenance)
}

func listener(d Declaration, filter string, config *listenerv3.Filter_TypedConfig, needs []string,
	from []discovery.ObjectRef,
) resource.Resource {
	body := marshal(&listenerv3.Listener{
		Name: d.String(),
		Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address:       d.Address.Addr().String(),
			PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(d.Address.Port())},
		}}},
		FilterChains: []*listenerv3.FilterChain{{
			Filters: []*listenerv3.Filter{{Name: filter, ConfigType: config}},
		}},
		TrafficDirection: corev3.TrafficDirection_OUTBOUND,
	})
	return resource.Resource{
		Type: resource.Listener, Name: d.String(), Body: resource.Parts{body},
		Visible: resource.Visibility{Role: resource.Sidecar, Declared: d.String()}, Needs: needs, Provenance: from,
	}
}

func listenerFilter(m proto.Message) *listenerv3.Filter_TypedConfig {
	return &listenerv3.Filter_TypedConfig{TypedConfig: toAny(m)}
}
