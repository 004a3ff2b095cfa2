package compile

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	forwardclusterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dynamic_forward_proxy/v3"
	forwardcachev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/dynamic_forward_proxy/v3"
	forwardfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/dynamic_forward_proxy/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// Names of what leads to hosts that nobody has declared.
const (
	anyHostName    = RouteName + "/any"
	anyRouteName   = "any"
	anyClusterName = "egress"
)

// maxEgressHosts bounds how many undeclared hosts a proxy remembers.
const maxEgressHosts = 4096

// egressCache is the cache of names that the filter and the cluster share: their
// configurations must be the same. A name resolves as the proxy's host resolves it.
func egressCache() *forwardcachev3.DnsCacheConfig {
	return &forwardcachev3.DnsCacheConfig{
		Name:            anyClusterName,
		DnsLookupFamily: clusterv3.Cluster_V4_PREFERRED,
		DnsRefreshRate:  durationpb.New(dnsDefault),
		DnsFailureRefreshRate: &clusterv3.Cluster_RefreshRate{
			BaseInterval: durationpb.New(dnsFailedFirst), MaxInterval: durationpb.New(dnsFailedMost),
		},
		MaxHosts: wrapperspb.UInt32(maxEgressHosts),
	}
}

// egressFilter acts on requests for the cluster of undeclared hosts only.
func egressFilter() *forwardfilterv3.FilterConfig {
	return &forwardfilterv3.FilterConfig{
		ImplementationSpecifier: &forwardfilterv3.FilterConfig_DnsCacheConfig{DnsCacheConfig: egressCache()},
	}
}

// anyHost returns the virtual host of all hosts that nobody has declared, and
// the cluster that finds them.
func (c *Compiler) anyHost(m *policy.Mesh) []resource.Resource {
	cluster := clusterBase(policy.HTTP1)
	cluster.Name, cluster.AltStatName = anyClusterName, anyClusterName
	cluster.LbPolicy = clusterv3.Cluster_CLUSTER_PROVIDED
	cluster.EdsClusterConfig, cluster.OutlierDetection = nil, nil
	cluster.CommonLbConfig.LocalityConfigSpecifier = nil
	cluster.ClusterDiscoveryType = &clusterv3.Cluster_ClusterType{ClusterType: &clusterv3.Cluster_CustomClusterType{
		Name: "envoy.clusters.dynamic_forward_proxy",
		TypedConfig: toAny(&forwardclusterv3.ClusterConfig{
			ClusterImplementationSpecifier: &forwardclusterv3.ClusterConfig_DnsCacheConfig{DnsCacheConfig: egressCache()},
		}),
	}}
	rule := policy.Rule{Match: policy.Match{Path: policy.PathMatch{Kind: policy.PathPrefix, Value: "/"}}}
	action := c.action(&rule, false)
	action.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: anyClusterName}
	host := marshal(&routev3.VirtualHost{
		Name: anyHostName, Domains: []string{"*"},
		Routes: []*routev3.Route{{
			Name: anyRouteName, Match: routeMatch(&rule.Match, nil), Action: &routev3.Route_Route{Route: action},
		}},
	})
	visible := resource.Visibility{Role: resource.Sidecar}
	return []resource.Resource{
		{Type: resource.Cluster, Name: anyClusterName, Body: resource.Parts{marshal(cluster)}, Visible: visible, Provenance: m.Provenance},
		{Type: resource.VirtualHost, Name: anyHostName, Body: resource.Parts{host}, Visible: visible, Needs: []string{anyClusterName}, Provenance: m.Provenance},
	}
}
