package compile

import (
	"maps"
	"slices"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tlsinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// connectAttempts of a TCP connection, each to an endpoint that the load
// balancer picks anew. Envoy does not avoid the one that just failed here, so
// there must be enough of them for it to be ejected meanwhile.
const connectAttempts = 10

// ageJitter is by how many percent the ages differ at which connections are
// closed, so that those of a pool do not all come back at once.
const ageJitter = 10

// tcpListener returns the listener of a declared port of a Service, with a
// variant for each namespace that has routes of its own for it.
func tcpListener(d naming.Declaration, m *policy.Service, p *policy.Port) resource.Resource {
	return connections(declared(d), m, p, func(inspectors []*listenerv3.ListenerFilter, chains []*listenerv3.FilterChain) []byte {
		return listenerBody(d, inspectors, chains)
	})
}

// connections completes a listener of a Service's port. body makes its message.
func connections(r resource.Resource, m *policy.Service, p *policy.Port, body func([]*listenerv3.ListenerFilter, []*listenerv3.FilterChain) []byte) resource.Resource {
	needs := make(map[string]struct{})
	of := func(routes *policy.TCPRoutes) resource.Parts {
		rules := []policy.TCPRule{m.DefaultTCPRule(p)}
		var from []discovery.ObjectRef
		if routes != nil {
			rules, from = routes.Rules, routes.Provenance
		}
		r.Provenance = union(r.Provenance, from, m.Provenance)
		r.StandIn = r.StandIn || connectionsStandIn(rules)
		return resource.Parts{body(filterChains(rules, callersTCP(), needs))}
	}
	r.Body = of(p.TCP)
	for _, namespace := range slices.Sorted(maps.Keys(p.ConsumerTCP)) {
		if r.ByNamespace == nil {
			r.ByNamespace = make(map[string]resource.Parts)
		}
		r.ByNamespace[namespace] = of(p.ConsumerTCP[namespace])
	}
	r.Needs = slices.Sorted(maps.Keys(needs))
	return r
}

// connectionsStandIn is standsIn of rules about connections. The shares of a TCP port are not in them.
func connectionsStandIn(rules []policy.TCPRule) bool {
	return slices.ContainsFunc(rules, func(r policy.TCPRule) bool {
		return slices.ContainsFunc(r.Backends, func(b policy.Backend) bool { return b.Unknown != "" && b.Protocol != policy.TCP })
	})
}

// filterChains returns the chains of connections. A connection that no rule
// takes is closed: it has no filter chain. Envoy itself takes the most specific
// name that fits.
func filterChains(rules []policy.TCPRule, from tcpClients, needs map[string]struct{}) (inspectors []*listenerv3.ListenerFilter, chains []*listenerv3.FilterChain) {
	for i := range rules {
		r := &rules[i]
		var filters []*listenerv3.Filter
		if !from.outside {
			filters = append(filters, callerFilter())
		}
		chain := &listenerv3.FilterChain{Filters: append(filters, &listenerv3.Filter{
			Name: "envoy.filters.network.tcp_proxy", ConfigType: listenerFilter(tcpProxy(r, from, needs)),
		})}
		if len(r.ServerNames) > 0 {
			chain.FilterChainMatch = &listenerv3.FilterChainMatch{ServerNames: r.ServerNames}
			if inspectors == nil {
				inspectors = []*listenerv3.ListenerFilter{tlsInspector()}
			}
		}
		chains = append(chains, chain)
	}
	if len(chains) == 0 {
		// A listener must have a chain; this one leads nowhere.
		return nil, []*listenerv3.FilterChain{nowhere(from)}
	}
	return inspectors, chains
}

// nowhere is a chain whose connections are closed.
func nowhere(from tcpClients) *listenerv3.FilterChain {
	return &listenerv3.FilterChain{Filters: []*listenerv3.Filter{{
		Name: "envoy.filters.network.tcp_proxy", ConfigType: listenerFilter(tcpProxy(&policy.TCPRule{}, from, nil)),
	}}}
}

func tlsInspector() *listenerv3.ListenerFilter {
	return listenerFilterOf("envoy.filters.listener.tls_inspector", &tlsinspectorv3.TlsInspector{})
}

// tcpClients is what differs between those whose connections are passed on.
type tcpClients struct {
	statPrefix string
	// idle is how long a connection may stand still, 0 for ever.
	idle *durationpb.Duration
	// outside is true for clients of an edge, whose addresses tell them apart.
	outside bool
}

// callersTCP are the host's own processes: database connections of a pool may
// be idle for hours.
func callersTCP() tcpClients { return tcpClients{"egress_tcp", durationpb.New(0), false} }

// tcpProxy returns the filter that forwards the connections of a rule. Envoy
// refuses a weight of 0 here: a backing without a share is left out. The part of
// an invalid backend goes to a cluster that does not exist, which closes the
// connection.
func tcpProxy(r *policy.TCPRule, from tcpClients, needs map[string]struct{}) *tcpv3.TcpProxy {
	out := &tcpv3.TcpProxy{
		StatPrefix:  from.statPrefix,
		IdleTimeout: from.idle,
		// Nothing was sent while there is no connection, so another endpoint may be tried.
		MaxConnectAttempts: wrapperspb.UInt32(connectAttempts),
	}
	// Always there, for clusters that hash, so that no edit of a policy closes connections.
	out.HashPolicy = byCallerTCP(from)
	logConnections(out)
	t := r.Settings.Timeouts()
	if !t.Idle.From.Default() {
		out.IdleTimeout = durationpb.New(t.Idle.Value)
	}
	if age := t.ConnectionAge.Value; age > 0 {
		out.MaxDownstreamConnectionDuration = durationpb.New(age)
		out.MaxDownstreamConnectionDurationJitterPercentage = &typev3.Percent{Value: ageJitter}
	}
	var to []target
	for i := range r.Backends {
		for _, t := range backendTargets(&r.Backends[i]) {
			if t.weight == 0 {
				continue
			}
			to = append(to, t)
			if t.cluster != naming.InvalidCluster && t.cluster != naming.UnknownCluster {
				needs[t.cluster] = struct{}{}
			}
		}
	}
	switch len(to) {
	case 0:
		out.ClusterSpecifier = &tcpv3.TcpProxy_Cluster{Cluster: naming.InvalidCluster}
	case 1:
		out.ClusterSpecifier = &tcpv3.TcpProxy_Cluster{Cluster: to[0].cluster}
	default:
		weighted := &tcpv3.TcpProxy_WeightedCluster{}
		for _, t := range to {
			weighted.Clusters = append(weighted.Clusters, &tcpv3.TcpProxy_WeightedCluster_ClusterWeight{Name: t.cluster, Weight: t.weight})
		}
		out.ClusterSpecifier = &tcpv3.TcpProxy_WeightedClusters{WeightedClusters: weighted}
	}
	return out
}
