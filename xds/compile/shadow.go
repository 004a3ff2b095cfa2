package compile

import (
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	aggregatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/aggregate/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// Envoy writes no access log of the copies of requests that a route mirrors.
// So they take a way round: the cluster that the route names leads to a
// listener inside the proxy, which sends them on and logs how they ended.
//
// A proxy whose bootstrap knows no internal listeners would refuse both. It
// does not see them, and its copies go to the endpoints at once, because the cluster that
// the route names is an aggregate of the two ways and skips the one that is not there.

const (
	// shadowTimeout ends a copy that is not answered. Nobody waits for it, but
	// it keeps a worker of its target and a connection.
	shadowTimeout = 30 * time.Second
	// shadowRequests is how many copies of a port's requests a proxy has under way at
	// a time; beyond it requests are not copied. What is mirrored to is slow then, which
	// must cost the proxy neither memory nor connections.
	shadowRequests = 512
)

// shadow returns what copies of requests to a port need, nothing if there are none.
func (c *Compiler) shadow(m *policy.Service, p *policy.Port) []resource.Resource {
	if m.Shift == nil || m.Shift.Shadow == nil || p.Protocol == policy.TCP {
		return nil
	}
	to := m.Shift.Shadow.To
	for i := range p.Backings {
		if p.Backings[i].Platform == to {
			return []resource.Resource{shadowCluster(m, p, to), shadowWay(m, p, to), shadowListener(m, p, to)}
		}
	}
	return nil
}

// shadowCluster returns the cluster that routes mirror to.
func shadowCluster(m *policy.Service, p *policy.Port, to discovery.BackingName) resource.Resource {
	name, direct := naming.Shadow(m.Key, p.Number, to), naming.Cluster(m.Key, p.Number, to)
	body := marshal(&clusterv3.Cluster{
		Name:           name,
		AltStatName:    naming.Statistic(m.Key, p.Number, "shadow-"+to.String()),
		ConnectTimeout: durationpb.New(policy.DefaultConnect),
		LbPolicy:       clusterv3.Cluster_CLUSTER_PROVIDED,
		ClusterDiscoveryType: &clusterv3.Cluster_ClusterType{ClusterType: &clusterv3.Cluster_CustomClusterType{
			Name:        "envoy.clusters.aggregate",
			TypedConfig: toAny(&aggregatev3.ClusterConfig{Clusters: []string{naming.ShadowWay(m.Key, p.Number, to), direct}}),
		}},
		CircuitBreakers: shadowLimits(),
	})
	return resource.Resource{
		Type: resource.Cluster, Name: name, Body: resource.Parts{body}, Needs: []string{direct}, Provenance: m.Provenance,
	}
}

// shadowWay returns the cluster that leads to the listener of copies.
func shadowWay(m *policy.Service, p *policy.Port, to discovery.BackingName) resource.Resource {
	name := naming.ShadowWay(m.Key, p.Number, to)
	c := &clusterv3.Cluster{
		Name:                 name,
		AltStatName:          naming.Statistic(m.Key, p.Number, "shadow-"+to.String()+"-listener"),
		ConnectTimeout:       durationpb.New(policy.DefaultConnect),
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		LoadAssignment: &endpointv3.ClusterLoadAssignment{
			ClusterName: name,
			Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
				HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: &corev3.Address{
					Address: &corev3.Address_EnvoyInternalAddress{EnvoyInternalAddress: &corev3.EnvoyInternalAddress{
						AddressNameSpecifier: &corev3.EnvoyInternalAddress_ServerListenerName{
							ServerListenerName: naming.Shadow(m.Key, p.Number, to),
						},
					}},
				}}},
			}}}},
		},
		CircuitBreakers: shadowLimits(),
	}
	setHTTPOptions(c, httpOptions(policy.HTTP2, (&policy.Settings{}).ConnectionPool(policy.HTTP2).IdleTimeout))
	return resource.Resource{
		Type: resource.Cluster, Name: name, Body: resource.Parts{marshal(c)}, Provenance: m.Provenance,
		Visible: resource.Visibility{Declared: naming.InternalListeners},
	}
}

func shadowLimits() *clusterv3.CircuitBreakers {
	return &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
		MaxRequests: wrapperspb.UInt32(shadowRequests), MaxPendingRequests: wrapperspb.UInt32(shadowRequests),
		MaxRetries: wrapperspb.UInt32(0),
	}}}
}

// shadowListener returns the listener through which copies pass. Their request id
// is that of the request that they are copies of.
func shadowListener(m *policy.Service, p *policy.Port, to discovery.BackingName) resource.Resource {
	name, direct := naming.Shadow(m.Key, p.Number, to), naming.Cluster(m.Key, p.Number, to)
	hcm := &hcmv3.HttpConnectionManager{
		CodecType:  hcmv3.HttpConnectionManager_HTTP2,
		StatPrefix: "shadow",
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{
			Name:             name,
			ValidateClusters: wrapperspb.Bool(false),
			VirtualHosts: []*routev3.VirtualHost{{
				Name: "copies", Domains: []string{"*"},
				Routes: []*routev3.Route{{
					Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
					Action: &routev3.Route_Route{Route: &routev3.RouteAction{
						ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: direct},
						Timeout:          durationpb.New(shadowTimeout),
					}},
				}},
			}},
		}},
		HttpFilters: []*hcmv3.HttpFilter{{
			Name:       "envoy.filters.http.router",
			ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: toAny(&routerv3.Router{SuppressEnvoyHeaders: true})},
		}},
		UseRemoteAddress:          wrapperspb.Bool(false),
		SkipXffAppend:             true,
		PreserveExternalRequestId: true,
		StreamIdleTimeout:         durationpb.New(shadowTimeout),
		AccessLog:                 []*accesslogv3.AccessLog{httpLog(ShadowLog)},
	}
	body := marshal(&listenerv3.Listener{
		Name: name,
		ListenerSpecifier: &listenerv3.Listener_InternalListener{
			InternalListener: &listenerv3.Listener_InternalListenerConfig{},
		},
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name: "envoy.filters.network.http_connection_manager", ConfigType: listenerFilter(hcm),
		}}}},
		TrafficDirection: corev3.TrafficDirection_OUTBOUND,
	})
	return resource.Resource{
		Type: resource.Listener, Name: name, Body: resource.Parts{body}, Needs: []string{direct}, Provenance: m.Provenance,
		Visible: resource.Visibility{Declared: naming.InternalListeners},
	}
}
