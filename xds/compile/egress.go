package compile

import (
	"net/netip"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	forwardclusterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dynamic_forward_proxy/v3"
	forwardcachev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/dynamic_forward_proxy/v3"
	forwardfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/dynamic_forward_proxy/v3"
	rbacfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	upstreamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/rbac/matchers/upstream_ip_port/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// connectUpgrade is what Envoy calls a request for a tunnel.
const connectUpgrade = "CONNECT"

// maxEgressHosts bounds how many undeclared hosts a proxy remembers.
const maxEgressHosts = 4096

// egressCache is the cache of names that the filter and the cluster share: their
// configurations must be the same. A name resolves as the proxy's host resolves it.
func egressCache() *forwardcachev3.DnsCacheConfig {
	return &forwardcachev3.DnsCacheConfig{
		Name:            naming.AnyCluster,
		DnsLookupFamily: clusterv3.Cluster_V4_PREFERRED,
		DnsRefreshRate:  durationpb.New(dnsDefault),
		DnsFailureRefreshRate: &clusterv3.Cluster_RefreshRate{
			BaseInterval: durationpb.New(dnsFailedFirst), MaxInterval: durationpb.New(dnsFailedMost),
		},
		MaxHosts: wrapperspb.UInt32(maxEgressHosts),
	}
}

// egressFilter acts on requests for the cluster of undeclared hosts only. It
// leaves the address that it found for what decides whether it may be called.
func egressFilter() *forwardfilterv3.FilterConfig {
	return &forwardfilterv3.FilterConfig{
		ImplementationSpecifier: &forwardfilterv3.FilterConfig_DnsCacheConfig{DnsCacheConfig: egressCache()},
		SaveUpstreamAddress:     true,
	}
}

// ownHost are the addresses that lead back to the proxy's own host: its admin
// interface, its own listeners in a circle, and what other processes serve to
// their host alone. A name is whatever its owner says, so what counts is the
// address that it resolves to.
func ownHost() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("::ffff:127.0.0.0/104"),
		// To connect to the unspecified address is to connect to loopback.
		netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("::/128"), netip.MustParsePrefix("::ffff:0.0.0.0/104"),
	}
}

// egressGuard answers requests for the proxy's own host 403.
func egressGuard() *rbacfilterv3.RBACPerRoute {
	var own []*rbacv3.Permission
	for _, prefix := range ownHost() {
		own = append(own, &rbacv3.Permission{Rule: &rbacv3.Permission_Matcher{Matcher: &corev3.TypedExtensionConfig{
			Name: "envoy.rbac.matchers.upstream_ip_port",
			TypedConfig: toAny(&upstreamv3.UpstreamIpPortMatcher{UpstreamIp: &corev3.CidrRange{
				AddressPrefix: prefix.Addr().String(), PrefixLen: wrapperspb.UInt32(uint32(prefix.Bits())), //nolint:gosec // 0 to 128
			}}),
		}}})
	}
	return &rbacfilterv3.RBACPerRoute{Rbac: &rbacfilterv3.RBAC{
		RulesStatPrefix: "egress_",
		Rules: &rbacv3.RBAC{
			Action: rbacv3.RBAC_DENY,
			Policies: map[string]*rbacv3.Policy{"own-host": {
				Permissions: own, Principals: []*rbacv3.Principal{{Identifier: &rbacv3.Principal_Any{Any: true}}},
			}},
		},
	}}
}

// anyHost returns the virtual host of all hosts that nobody has declared, and
// the cluster that finds them.
func (c *Compiler) anyHost(m *policy.Mesh) []resource.Resource {
	cluster := clusterBase(policy.HTTP1, &policy.Settings{})
	cluster.Name, cluster.AltStatName = naming.AnyCluster, naming.AnyCluster
	cluster.LbPolicy = clusterv3.Cluster_CLUSTER_PROVIDED
	cluster.EdsClusterConfig, cluster.OutlierDetection = nil, nil
	cluster.CommonLbConfig.LocalityConfigSpecifier = nil
	cluster.ClusterDiscoveryType = &clusterv3.Cluster_ClusterType{ClusterType: &clusterv3.Cluster_CustomClusterType{
		Name: "envoy.clusters.dynamic_forward_proxy",
		TypedConfig: toAny(&forwardclusterv3.ClusterConfig{
			ClusterImplementationSpecifier: &forwardclusterv3.ClusterConfig_DnsCacheConfig{DnsCacheConfig: egressCache()},
			// There is no TLS here whose names could be checked: callers speak it through a tunnel.
			AllowInsecureClusterOptions: true,
		}),
	}}
	rule := policy.Rule{Match: policy.Match{Path: policy.PathMatch{Kind: policy.PathPrefix, Value: "/"}}}
	action := func() *routev3.RouteAction {
		out := c.action(&rule, &variant{})
		out.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: naming.AnyCluster}
		return out
	}
	// What http_proxy= sends as requests, https_proxy= asks for as a tunnel.
	tunnel := action()
	tunnel.RetryPolicy = nil
	tunnel.UpgradeConfigs = []*routev3.RouteAction_UpgradeConfig{{
		UpgradeType: connectUpgrade, ConnectConfig: &routev3.RouteAction_UpgradeConfig_ConnectConfig{},
	}}
	host := marshal(&routev3.VirtualHost{
		Name: naming.AnyHost, Domains: []string{"*"},
		Routes: []*routev3.Route{
			{
				Name:   naming.AnyTunnel,
				Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_ConnectMatcher_{ConnectMatcher: &routev3.RouteMatch_ConnectMatcher{}}},
				Action: &routev3.Route_Route{Route: tunnel},
			},
			{Name: naming.AnyRoute, Match: routeMatch(&rule.Match, nil), Action: &routev3.Route_Route{Route: action()}},
		},
		TypedPerFilterConfig: map[string]*anypb.Any{egressGuardFilter: toAny(egressGuard())},
	})
	visible := resource.Visibility{Role: resource.Sidecar}
	return []resource.Resource{
		{Type: resource.Cluster, Name: naming.AnyCluster, Body: resource.Parts{marshal(cluster)}, Visible: visible, Provenance: m.Provenance},
		{Type: resource.VirtualHost, Name: naming.AnyHost, Body: resource.Parts{host}, Visible: visible, Needs: []string{naming.AnyCluster}, Provenance: m.Provenance},
	}
}
