package bootstrap

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// ClusterName is the name of the static cluster that leads to the control plane.
const ClusterName = "causeway_xds"

// How a proxy keeps its connection to the control plane, by itself or through an agent.
// A connection that is not there after ConnectTimeout is tried elsewhere, and a dead one is noticed after
// KeepaliveInterval + KeepaliveTimeout; the proxy serves its last
// configuration meanwhile. It then tries again and again, with pauses that
// grow from ReconnectBase to ReconnectMax (Envoy's own maximum is 30 s) and
// are drawn at random, so that a control plane that comes back is neither
// left alone nor run over.
const (
	ConnectTimeout    = 2 * time.Second
	KeepaliveInterval = 10 * time.Second
	KeepaliveTimeout  = 5 * time.Second
	ReconnectBase     = 200 * time.Millisecond
	ReconnectMax      = 5 * time.Second
)

// api is the control plane as a source of configuration or sink of reports.
func api(t corev3.ApiConfigSource_ApiType) *corev3.ApiConfigSource {
	return &corev3.ApiConfigSource{
		ApiType: t, TransportApiVersion: corev3.ApiVersion_V3, SetNodeOnFirstMessageOnly: true,
		GrpcServices: []*corev3.GrpcService{{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
			EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{
				ClusterName: ClusterName,
				RetryPolicy: &corev3.RetryPolicy{RetryBackOff: &corev3.BackoffStrategy{
					BaseInterval: durationpb.New(ReconnectBase), MaxInterval: durationpb.New(ReconnectMax),
				}},
			},
		}}},
	}
}

// cluster returns the cluster of the control plane's servers.
func (o *Options) cluster(secrets string) (*clusterv3.Cluster, error) {
	options, err := anypb.New(&httpv3.HttpProtocolOptions{
		UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
			ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
				ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
					Http2ProtocolOptions: &corev3.Http2ProtocolOptions{ConnectionKeepalive: &corev3.KeepaliveSettings{
						Interval: durationpb.New(KeepaliveInterval), Timeout: durationpb.New(KeepaliveTimeout),
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
		ConnectTimeout:       durationpb.New(ConnectTimeout),
		LoadAssignment:       &endpointv3.ClusterLoadAssignment{ClusterName: ClusterName},
		TypedExtensionProtocolOptions: map[string]*anypb.Any{
			"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options,
		},
		UpstreamConnectionOptions: &clusterv3.UpstreamConnectionOptions{TcpKeepalive: &corev3.TcpKeepalive{
			KeepaliveTime: wrapperspb.UInt32(30), KeepaliveInterval: wrapperspb.UInt32(5), KeepaliveProbes: wrapperspb.UInt32(3),
		}},
	}
	locality := &endpointv3.LocalityLbEndpoints{}
	if o.Relay != "" {
		locality.LbEndpoints = []*endpointv3.LbEndpoint{{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
			Address: &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: o.Relay}}},
		}}}}
		c.LoadAssignment.Endpoints = []*endpointv3.LocalityLbEndpoints{locality}
		c.UpstreamConnectionOptions = nil
		return c, nil
	}
	for _, s := range o.Servers {
		host, port, _ := net.SplitHostPort(s) // checked
		number, _ := strconv.ParseUint(port, 10, 16)
		if _, err := netip.ParseAddr(host); err != nil {
			c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STRICT_DNS}
			// Left to itself, Envoy takes IPv6 addresses alone where there are any.
			c.DnsLookupFamily = clusterv3.Cluster_V4_PREFERRED
		}
		locality.LbEndpoints = append(locality.LbEndpoints, &endpointv3.LbEndpoint{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: address(host, uint16(number))}},
		})
	}
	c.LoadAssignment.Endpoints = []*endpointv3.LocalityLbEndpoints{locality}
	if o.TLS != nil {
		if c.TransportSocket, err = o.TLS.socket(secrets); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func address(host string, port uint16) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)},
	}}}
}
