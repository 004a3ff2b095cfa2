package compile

import (
	"cmp"
	"slices"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	commondnsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/common/dns/v3"
	dnsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dns/v3"
	caresv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/network/dns_resolver/cares/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// How proxies ask for the addresses of external hosts. They follow the records'
// lifetimes, which is how AWS moves names (RDS 5 s, ELB 60 s), and ask again
// soon after a failure while they go on with what they have.
const (
	dnsLeast       = 2 * time.Second
	dnsDefault     = 5 * time.Second // after an answer with no record, or from the host's own file
	dnsFailedFirst = time.Second
	dnsFailedMost  = 10 * time.Second
	// A cluster is not in use, nor does its proxy acknowledge anything, before
	// the first answer: a name server that is silent must not hold that up for long.
	dnsTimeout  = 2 // seconds
	dnsAttempts = 2
)

// External returns the resources of an ExternalService, sorted by type and name.
func (c *Compiler) External(m *policy.External) []resource.Resource {
	out := make([]resource.Resource, 0, 4*len(m.Ports))
	for i := range m.Ports {
		p := &m.Ports[i]
		if p.TLS != nil && p.TLS.Unknown {
			out = append(out, unknownCluster(naming.External(m.Key, p.Number), naming.Statistic(m.Key, p.Number, "external"), m.Provenance))
			if m.DNS == "" {
				out = append(out, loadAssignment(naming.External(m.Key, p.Number), staticZones(m, p), policy.AnyNode, &p.Settings, p.TLS, m.Provenance))
			}
			continue
		}
		if m.DNS != "" && (p.TLS == nil || p.TLS.Failed == "") {
			out = append(out, dnsCluster(m, p))
			continue
		}
		out = append(out, staticCluster(m, p), loadAssignment(naming.External(m.Key, p.Number), staticZones(m, p), policy.AnyNode, &p.Settings, p.TLS, m.Provenance))
	}
	out = append(out, c.externalHosts(m)...)
	slices.SortFunc(out, func(a, b resource.Resource) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name))
	})
	return out
}

func externalCluster(m *policy.External, p *policy.ExternalServicePort) *clusterv3.Cluster {
	protocol := sendable(p.Protocol, p.TLS)
	c := clusterBase(protocol, &p.Settings)
	c.Name = naming.External(m.Key, p.Number)
	c.AltStatName = naming.Statistic(m.Key, p.Number, "external")
	host := m.DNS
	if host == "" && len(m.Hosts) > 0 {
		host = m.Hosts[0]
	}
	applySettings(c, protocol, &p.Settings, p.TLS, host)
	return c
}

// staticCluster returns the cluster of a port whose endpoints are given: they
// come over the stream like a Service's, so that zones mean the same.
func staticCluster(m *policy.External, p *policy.ExternalServicePort) resource.Resource {
	c := externalCluster(m, p)
	return resource.Resource{Type: resource.Cluster, Name: c.GetName(), Body: resource.Parts{marshal(c)}, EDS: true, Provenance: m.Provenance}
}

func staticZones(m *policy.External, p *policy.ExternalServicePort) []policy.Zone {
	var out []policy.Zone
	for _, e := range m.Endpoints {
		if len(out) == 0 || out[len(out)-1].Name != e.Zone {
			out = append(out, policy.Zone{Name: e.Zone})
		}
		z := &out[len(out)-1]
		z.Endpoints = append(z.Endpoints, policy.Endpoint{ID: e.Address, Address: e.Address, Port: p.TargetPort, Weight: 1})
	}
	return out
}

// dnsCluster returns the cluster of a port whose host is asked for.
//
// All addresses are one endpoint, of which each connection takes the first that
// answers (Envoy's logical DNS): large services give out other addresses at
// every turn, and connections to those of before must go on. Nor does an empty
// answer, as name servers give in an outage, leave the cluster with nothing.
// Where a policy is about single endpoints each address is one (strict DNS).
func dnsCluster(m *policy.External, p *policy.ExternalServicePort) resource.Resource {
	c := externalCluster(m, p)
	each := p.Settings.AboutEndpoints()
	c.EdsClusterConfig = nil
	c.ClusterDiscoveryType = &clusterv3.Cluster_ClusterType{ClusterType: &clusterv3.Cluster_CustomClusterType{
		Name: "envoy.clusters.dns",
		TypedConfig: toAny(&dnsv3.DnsCluster{
			RespectDnsTtl: true, DnsRefreshRate: durationpb.New(dnsDefault), DnsMinRefreshRate: durationpb.New(dnsLeast),
			DnsFailureRefreshRate: &dnsv3.DnsCluster_RefreshRate{
				BaseInterval: durationpb.New(dnsFailedFirst), MaxInterval: durationpb.New(dnsFailedMost),
			},
			DnsLookupFamily:              commondnsv3.DnsLookupFamily_V4_PREFERRED,
			AllAddressesInSingleEndpoint: !each,
			TypedDnsResolverConfig: &corev3.TypedExtensionConfig{
				Name: "envoy.network.dns_resolver.cares",
				TypedConfig: toAny(&caresv3.CaresDnsResolverConfig{
					QueryTimeoutSeconds: wrapperspb.UInt64(dnsTimeout), QueryTries: wrapperspb.UInt32(dnsAttempts),
					// A host is a whole name: a pod's search list would be asked five times first.
					DnsResolverOptions: &corev3.DnsResolverOptions{NoDefaultSearchDomain: true},
				}),
			},
		}),
	}}
	if !each {
		c.OutlierDetection = nil // there is nowhere else to go
	}
	// There is one locality, and it has no weight.
	c.CommonLbConfig.LocalityConfigSpecifier = nil
	c.LoadAssignment = &endpointv3.ClusterLoadAssignment{
		ClusterName: c.GetName(),
		Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
				Hostname: m.DNS,
				Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
					Address: m.DNS, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(p.TargetPort)},
				}}},
			}},
		}}}},
	}
	return resource.Resource{Type: resource.Cluster, Name: c.GetName(), Body: resource.Parts{marshal(c)}, Provenance: m.Provenance}
}
