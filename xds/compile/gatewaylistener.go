package compile

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	proxyprotocolv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/proxy_protocol/v3"
	connectionlimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/connection_limit/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/xds/resource"
)

const (
	// connectionBuffer is how much a connection may have waiting in bytes (Envoy:
	// "Configuring Envoy as an edge proxy").
	connectionBuffer = 32 << 10
	// handshakeTimeout ends connections that begin TLS and do not finish it.
	handshakeTimeout = 10 * time.Second
)

// GatewayListeners returns the listeners of a declaration: one for every port
// of the Gateway that it is about and that something can be served on.
func (c *Compiler) GatewayListeners(d naming.Declaration, m *policy.Gateway) []resource.Resource {
	var out []resource.Resource
	for i := range m.Ports {
		p := &m.Ports[i]
		if d.Port != 0 && d.Port != p.Number {
			continue
		}
		e := edge{gateway: m, port: p, needs: make(map[string]struct{})}
		if chains := e.chains(); len(chains) > 0 {
			out = append(out, e.listener(d, chains))
		}
	}
	return out
}

// edge makes the listener of a port of a Gateway.
type edge struct {
	gateway *policy.Gateway
	port    *policy.GatewayPort
	needs   map[string]struct{}
}

func (e *edge) listener(d naming.Declaration, chains []*listenerv3.FilterChain) resource.Resource {
	name, number := d.String(), d.Address.Port()
	if d.Port == 0 {
		name, number = name+":"+strconv.Itoa(int(e.port.Number)), e.port.Number
	}
	l := &listenerv3.Listener{
		Name: name,
		Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address: d.Address.Addr().String(), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(number)},
		}}},
		FilterChains:                  chains,
		TrafficDirection:              corev3.TrafficDirection_INBOUND,
		PerConnectionBufferLimitBytes: wrapperspb.UInt32(connectionBuffer),
	}
	if e.port.Settings.PROXY() {
		// It comes before TLS. Who does not send it is closed.
		l.ListenerFilters = append(l.ListenerFilters, listenerFilterOf("envoy.filters.listener.proxy_protocol", &proxyprotocolv3.ProxyProtocol{}))
	}
	if e.port.Protocol == policy.ListenTLS {
		l.ListenerFilters = append(l.ListenerFilters, tlsInspector())
	}
	r := resource.Resource{
		Type: resource.Listener, Name: name, Visible: ofGateway(e.gateway), Needs: slices.Sorted(maps.Keys(e.needs)),
		Body: resource.Parts{marshal(l)}, Provenance: e.gateway.Provenance,
	}
	for i := range e.port.Listeners {
		r.Provenance = union(r.Provenance, e.port.Listeners[i].Provenance)
		r.StandIn = r.StandIn || connectionsStandIn(e.port.Listeners[i].TCP)
	}
	r.Visible.Declared = d.String()
	return r
}

func listenerFilterOf(name string, config proto.Message) *listenerv3.ListenerFilter {
	return &listenerv3.ListenerFilter{Name: name, ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: toAny(config)}}
}

// chains returns the filter chains of the port, none if nothing can be served
// on it. A connection that none of them takes is closed before anything is said.
func (e *edge) chains() []*listenerv3.FilterChain {
	var out []*listenerv3.FilterChain
	if e.port.Protocol == policy.ListenHTTP {
		out = []*listenerv3.FilterChain{{Name: "http", Filters: e.http(&e.port.Listeners[0])}}
	} else {
		served := false
		for i := range e.port.Listeners {
			chains, ok := e.listenerChains(&e.port.Listeners[i])
			out, served = append(out, chains...), served || ok
		}
		if !served {
			return nil
		}
	}
	for _, chain := range out {
		e.guard(chain)
	}
	return out
}

// listenerChains returns the filter chains of a listener on a port where
// connections are told apart by the name that the client asks for, or not at
// all, and whether they lead anywhere.
func (e *edge) listenerChains(l *policy.GatewayListener) (chains []*listenerv3.FilterChain, ok bool) {
	from := e.clientsTCP()
	closed := func() *listenerv3.FilterChain {
		chain := nowhere(from)
		chain.Name, chain.FilterChainMatch = l.Name+"/closed", serverNames(l.Hostname)
		return chain
	}
	var socket *corev3.TransportSocket
	if l.Terminates {
		if socket = e.tls(l); socket == nil {
			// Its names must not fall to a listener that is less specific.
			if l.Hostname == "" {
				return nil, false
			}
			return []*listenerv3.FilterChain{closed()}, false
		}
	}
	if l.IsHTTP {
		chains = []*listenerv3.FilterChain{{Name: l.Name, FilterChainMatch: serverNames(l.Hostname), Filters: e.http(l)}}
	} else {
		_, chains = filterChains(l.TCP, from, e.needs)
		own := false
		for i, chain := range chains {
			chain.Name = l.Name + "/" + strconv.Itoa(i)
			if chain.GetFilterChainMatch() == nil && e.port.Protocol == policy.ListenTLS {
				chain.FilterChainMatch = serverNames(l.Hostname)
			}
			own = own || chain.GetFilterChainMatch() == nil || slices.Contains(chain.GetFilterChainMatch().GetServerNames(), l.Hostname)
		}
		if !own && l.Hostname != "" {
			// As above: what no route takes of the listener's names is nobody's.
			chains = append(chains, closed())
		}
	}
	for _, chain := range chains {
		if socket != nil && chain.GetName() != l.Name+"/closed" {
			chain.TransportSocket, chain.TransportSocketConnectTimeout = socket, durationpb.New(handshakeTimeout)
		}
	}
	return chains, true
}

func serverNames(host string) *listenerv3.FilterChainMatch {
	if host == "" {
		return nil
	}
	return &listenerv3.FilterChainMatch{ServerNames: []string{host}}
}

// clientsTCP are clients from outside: who forgets a connection does not hold it for ever.
func (e *edge) clientsTCP() tcpClients {
	timeout := v1alpha1.ClientTimeout{}
	if t := e.port.Settings.Timeout; t != nil {
		timeout = *t
	}
	return tcpClients{"gateway_tcp", durationOr(timeout.StreamIdle, streamIdle), true}
}

// guard makes a chain accept only connections from allowed addresses, and only
// so many at a time. It looks at the address of the connection, before TLS, and
// not at the PROXY protocol.
func (e *edge) guard(chain *listenerv3.FilterChain) {
	match := chain.GetFilterChainMatch()
	known := make(map[netip.Prefix]bool)
	for _, prefix := range e.port.Settings.AllowedFrom() {
		if known[prefix] { // for Envoy a chain that overlaps with itself
			continue
		}
		known[prefix] = true
		if match == nil {
			match = &listenerv3.FilterChainMatch{}
			chain.FilterChainMatch = match
		}
		match.DirectSourcePrefixRanges = append(match.DirectSourcePrefixRanges, &corev3.CidrRange{
			AddressPrefix: prefix.Addr().String(), PrefixLen: wrapperspb.UInt32(uint32(prefix.Bits())), //nolint:gosec // 0 to 128
		})
	}
	if l := e.port.Settings.Limits; l != nil && l.Connections != nil {
		// Envoy counts them for each filter chain.
		limit := &connectionlimitv3.ConnectionLimit{
			StatPrefix: "gateway", MaxConnections: wrapperspb.UInt64(uint64(*l.Connections)), //nolint:gosec // at least 1
		}
		chain.Filters = slices.Insert(chain.GetFilters(), 0, &listenerv3.Filter{
			Name: "envoy.filters.network.connection_limit", ConfigType: listenerFilter(limit),
		})
	}
}
