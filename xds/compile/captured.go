package compile

import (
	"net/netip"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	httpinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/http_inspector/v3"
	originaldstv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	earlyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// Captured traffic is what a host or a pod redirects to its proxy, without the application's doing. The address that
// a connection was going to says which port of which Service is meant, and no name in the request does (GEP-1324:
// the cluster IP and the port decide whose routes hold).
//
// All connections arrive at one listener that never changes (capturedListener). It takes HTTP itself: the
// destination picks the virtual host. A port that is not HTTP, or of which nobody has said that it is, has a listener of its own at the
// Service's address, which is bound to nothing; the first one hands over to it. So no Service's coming or
// going touches a listener that others have connections of. What is for no Service goes on to where it was
// going, byte by byte, unless the mesh lets callers go nowhere else.

// destinationHeader carries the destination from the listener to the choice of the virtual host. It is overwritten
// before anything reads it and removed before the request goes on: nobody outside writes or sees it.
const destinationHeader = "x-causeway-destination"

// sniffTimeout is how long a client may be silent before its connection counts as one where the server speaks
// first. Only ports without a declared protocol wait for it.
const sniffTimeout = 200 * time.Millisecond

// seenCaptured is who sees what is for captured traffic.
func seenCaptured() resource.Visibility {
	return resource.Visibility{Role: resource.Sidecar, Declared: naming.CapturedTraffic}
}

// capturedListener returns the listener of all redirected connections to a declared address.
func capturedListener(d naming.Declaration, m *policy.Mesh) []resource.Resource {
	if m == nil {
		return nil
	}
	http := callersHTTPChain(capturedHTTP())
	http.FilterChainMatch = &listenerv3.FilterChainMatch{}
	for _, p := range d.Ranges {
		http.FilterChainMatch.PrefixRanges = append(http.FilterChainMatch.PrefixRanges, &corev3.CidrRange{
			AddressPrefix: p.Addr().String(), PrefixLen: wrapperspb.UInt32(uint32(p.Bits())), //nolint:gosec // 0 to 128
		})
	}
	l := outbound(d.String(), d.Address, []*listenerv3.ListenerFilter{
		listenerFilterOf("envoy.filters.listener.original_dst", &originaldstv3.OriginalDst{}),
	}, []*listenerv3.FilterChain{http})
	l.UseOriginalDst = wrapperspb.Bool(true)
	l.DefaultFilterChain = nowhere(callersTCP())
	if m.CapturedAny {
		l.DefaultFilterChain = onward()
	}
	r := declared(d)
	r.Provenance = m.Provenance
	r.Body = resource.Parts{marshal(l)}
	if m.CapturedAny {
		r.Needs = []string{naming.OriginalDestination}
	}
	return []resource.Resource{r}
}

// onward is a chain whose connections go to where they were going. One attempt is made: the application sees what it
// would see without the mesh.
func onward() *listenerv3.FilterChain {
	return &listenerv3.FilterChain{Filters: []*listenerv3.Filter{{
		Name: "envoy.filters.network.tcp_proxy", ConfigType: listenerFilter(&tcpv3.TcpProxy{
			StatPrefix: "captured_onward", IdleTimeout: durationpb.New(0),
			ClusterSpecifier: &tcpv3.TcpProxy_Cluster{Cluster: naming.OriginalDestination},
		}),
	}}}
}

// capturedHTTP is how redirected requests are read.
func capturedHTTP() *hcmv3.HttpConnectionManager {
	hcm := callersHTTP("captured_http", naming.CapturedRoutes)
	hcm.EarlyHeaderMutationExtensions = []*corev3.TypedExtensionConfig{{
		Name: "envoy.http.early_header_mutation.header_mutation",
		TypedConfig: toAny(&earlyv3.HeaderMutation{Mutations: []*mutationv3.HeaderMutation{{
			Action: &mutationv3.HeaderMutation_Append{Append: &corev3.HeaderValueOption{
				Header:       &corev3.HeaderValue{Key: destinationHeader, Value: "%DOWNSTREAM_LOCAL_ADDRESS%"},
				AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
			}},
		}}}),
	}}
	hcm.LocalReplyConfig = &hcmv3.LocalReplyConfig{Mappers: []*hcmv3.ResponseMapper{
		noRoute("no Service of the mesh has the address %DOWNSTREAM_LOCAL_ADDRESS%"),
	}}
	return hcm
}

// capturedMesh returns what captured traffic needs besides Services: the route configuration, and the way on.
func (c *Compiler) capturedMesh(m *policy.Mesh) []resource.Resource {
	out := []resource.Resource{{
		Type: resource.Route, Name: naming.CapturedRoutes, Visible: seenCaptured(), Provenance: m.Provenance,
		Body: resource.Parts{marshal(&routev3.RouteConfiguration{
			Name:        naming.CapturedRoutes,
			Vhds:        &routev3.Vhds{ConfigSource: adsSource()},
			VhostHeader: destinationHeader, RequestHeadersToRemove: []string{destinationHeader},
			ValidateClusters: wrapperspb.Bool(false),
		})},
	}}
	if !m.CapturedAny {
		return out
	}
	cluster := clusterBase(policy.HTTP1, &policy.Settings{})
	cluster.Name, cluster.AltStatName = naming.OriginalDestination, naming.OriginalDestination
	cluster.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_ORIGINAL_DST}
	cluster.LbPolicy = clusterv3.Cluster_CLUSTER_PROVIDED
	cluster.EdsClusterConfig, cluster.OutlierDetection = nil, nil
	cluster.CommonLbConfig.LocalityConfigSpecifier = nil
	rule := policy.Rule{Match: policy.Match{Path: policy.PathMatch{Kind: policy.PathPrefix, Value: "/"}}}
	action := c.action(&rule, &variant{})
	action.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: naming.OriginalDestination}
	host := marshal(&routev3.VirtualHost{
		Name: naming.CapturedAny, Domains: []string{"*"},
		Routes: []*routev3.Route{{Name: naming.AnyRoute, Match: routeMatch(&rule.Match, nil), Action: &routev3.Route_Route{Route: action}}},
	})
	return append(
		out,
		resource.Resource{
			Type: resource.Cluster, Name: naming.OriginalDestination, Body: resource.Parts{marshal(cluster)}, Visible: seenCaptured(), Provenance: m.Provenance,
		},
		resource.Resource{
			Type: resource.VirtualHost, Name: naming.CapturedAny, Body: resource.Parts{host}, Visible: seenCaptured(),
			Needs: []string{naming.OriginalDestination}, Provenance: m.Provenance,
		},
	)
}

// withCaptured adds to the resources of a Service those for captured traffic to its addresses.
func (c *Compiler) withCaptured(m *policy.Service, resources []resource.Resource) []resource.Resource {
	addresses := addressesOf(m)
	if len(addresses) == 0 {
		return resources
	}
	hosts := make(map[string]*resource.Resource, len(m.Ports))
	for i := range resources {
		if r := &resources[i]; r.Type == resource.VirtualHost {
			hosts[r.Name] = r
		}
	}
	var out []resource.Resource
	for i := range m.Ports {
		p := &m.Ports[i]
		if p.Protocol == policy.TCP {
			for _, a := range addresses {
				out = append(out, capturedConnections(m, p, netip.AddrPortFrom(a, p.Number), nil, nil))
			}
			continue
		}
		if own := hosts[naming.Host(m.Key, p.Number)]; own != nil {
			out = append(out, capturedHost(own, m, p, addresses))
		}
		if mayBeTCP(p) {
			out = append(out, c.capturedEither(m, p, addresses)...)
		}
	}
	return append(resources, out...)
}

// addressesOf returns the addresses that mean a Service, each once.
func addressesOf(m *policy.Service) []netip.Addr {
	return parsed(parsed(make([]netip.Addr, 0, len(m.ClusterIPs)+len(m.Virtual)), m.ClusterIPs), m.Virtual)
}

// parsed adds to addresses those of texts that are not there yet.
func parsed(addresses []netip.Addr, texts []string) []netip.Addr {
	for _, text := range texts {
		if a, err := netip.ParseAddr(text); err == nil && !slices.Contains(addresses, a) {
			addresses = append(addresses, a)
		}
	}
	return addresses
}

// mayBeTCP reports whether what is spoken on a port may be something else than HTTP: nobody has said
// so, and there are no routes of it.
func mayBeTCP(p *policy.Port) bool { return p.Assumed && p.HTTP == nil && len(p.ConsumerHTTP) == 0 }

// capturedHost returns the virtual host of a port for captured traffic: that of its names, with the addresses
// as domains too. Its bytes follow those of the other one, so that a name that stands twice is the later one (protobuf: last
// one wins) and routes are encoded once. The other's domains do no harm: no destination equals one of them but
// the addresses.
func capturedHost(own *resource.Resource, m *policy.Service, p *policy.Port, addresses []netip.Addr) resource.Resource {
	v := &routev3.VirtualHost{Name: naming.CapturedHost(m.Key, p.Number)}
	for _, a := range addresses[len(parsed(nil, m.ClusterIPs)):] {
		v.Domains = append(v.Domains, netip.AddrPortFrom(a, p.Number).String())
	}
	more := marshal(v)
	r := *own
	r.Name, r.Visible = v.GetName(), seenCaptured()
	r.Body = append(slices.Clone(own.Body), more)
	if own.ByNamespace != nil {
		r.ByNamespace = make(map[string]resource.Parts, len(own.ByNamespace))
		for namespace, body := range own.ByNamespace {
			r.ByNamespace[namespace] = append(slices.Clone(body), more)
		}
	}
	if own.Shape != 0 {
		r.Shape = own.Shape ^ xxhash.Sum64(more)
	}
	return r
}

// capturedEither returns what a port needs that may speak HTTP or something else: a listener at each address that
// finds out, and a cluster of all backings for connections.
func (c *Compiler) capturedEither(m *policy.Service, p *policy.Port, addresses []netip.Addr) []resource.Resource {
	raw := *p
	raw.Protocol, raw.TCP, raw.ConsumerTCP = policy.TCP, nil, nil
	cluster := shiftedCluster(m, &raw, c.sharedCluster(m, &raw))
	cluster.Visible = seenCaptured()
	out := []resource.Resource{cluster}
	if m.Unknown == "" && !sharedUnknown(&raw) {
		out = append(out, sharedEndpoints(m, &raw))
	}
	var inspector *listenerv3.ListenerFilter
	var http *listenerv3.FilterChain
	// A well-known port of something else is not kept waiting.
	if policy.OtherThanHTTP(discovery.ServicePort{Name: p.Name, Port: p.Number}) == "" {
		inspector = listenerFilterOf("envoy.filters.listener.http_inspector", &httpinspectorv3.HttpInspector{})
		http = callersHTTPChain(capturedHTTP())
		http.FilterChainMatch = &listenerv3.FilterChainMatch{ApplicationProtocols: []string{"http/1.0", "http/1.1", "h2c"}}
	}
	for _, a := range addresses {
		out = append(out, capturedConnections(m, &raw, netip.AddrPortFrom(a, p.Number), inspector, http))
	}
	return out
}

// capturedConnections returns the listener of captured connections to an address of a port. With an inspector, http
// takes those that speak HTTP.
func capturedConnections(m *policy.Service, p *policy.Port, at netip.AddrPort, inspector *listenerv3.ListenerFilter, http *listenerv3.FilterChain) resource.Resource {
	r := resource.Resource{Type: resource.Listener, Name: naming.CapturedAt(at), Visible: seenCaptured()}
	return connections(r, m, p, func(inspectors []*listenerv3.ListenerFilter, chains []*listenerv3.FilterChain) []byte {
		l := outbound(r.Name, at, inspectors, chains)
		l.BindToPort = wrapperspb.Bool(false)
		if inspector != nil {
			l.ListenerFilters = append(l.ListenerFilters, inspector)
			l.ListenerFiltersTimeout, l.ContinueOnListenerFiltersTimeout = durationpb.New(sniffTimeout), true
			l.FilterChains = append([]*listenerv3.FilterChain{http}, l.GetFilterChains()...)
		}
		return marshal(l)
	})
}
