package compile

import (
	"slices"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	aggregatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/aggregate/v3"
	preservecasev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/header_formatters/preserve_case/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// Defaults that SREs get without saying anything.
const (
	// responseHeaders is how many headers an answer may have. Their size is what
	// is bounded; one too many is a broken answer to Envoy, and applications
	// that set a hundred cookies and headers for debugging work without a proxy.
	responseHeaders = 1000
	// lastResort is the panic threshold in percent. With overprovisioning as
	// high as it is here, Envoy panics only when no endpoint of either backing
	// is usable, and then tries those that are there: trying beats refusing,
	// which is what 0 would do.
	lastResort = 1
)

// clusterBase is an EDS cluster of a protocol with what settings say of connections and requests.
func clusterBase(p policy.Protocol, s *policy.Settings) *clusterv3.Cluster {
	pool, outliers := s.ConnectionPool(p), s.OutlierDetection()
	c := &clusterv3.Cluster{
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig:     &clusterv3.Cluster_EdsClusterConfig{EdsConfig: edsSource()},
		ConnectTimeout:       durationpb.New(s.Connect().Value),
		// PHP requests differ a hundredfold in length, so the queue at a host says
		// more than its turn. Weights count for less the busier hosts are: 4:1
		// is 4:1 for requests one by one and about 2:1 for eight at a time.
		LbPolicy: clusterv3.Cluster_LEAST_REQUEST,
		CommonLbConfig: &clusterv3.Cluster_CommonLbConfig{
			HealthyPanicThreshold: &typev3.Percent{Value: lastResort},
			// Without merging, an ejection reaches the workers at once; with
			// Envoy's default they keep using a dead endpoint for a second.
			UpdateMergeWindow: durationpb.New(0),
			LocalityConfigSpecifier: &clusterv3.Cluster_CommonLbConfig_LocalityWeightedLbConfig_{
				LocalityWeightedLbConfig: &clusterv3.Cluster_CommonLbConfig_LocalityWeightedLbConfig{},
			},
		},
		CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
			MaxConnections:     wrapperspb.UInt32(pool.MaxConnections),
			MaxPendingRequests: wrapperspb.UInt32(pool.MaxPendingRequests),
			MaxRequests:        wrapperspb.UInt32(pool.MaxRequests),
			RetryBudget:        retryBudget(s),
		}}},
		OutlierDetection:          outlierDetection(&outliers),
		IgnoreHealthOnHostRemoval: true,
		UpstreamConnectionOptions: &clusterv3.UpstreamConnectionOptions{
			TcpKeepalive: &corev3.TcpKeepalive{
				KeepaliveTime: wrapperspb.UInt32(60), KeepaliveInterval: wrapperspb.UInt32(10), KeepaliveProbes: wrapperspb.UInt32(3),
			},
		},
	}
	if o := httpOptions(p, pool.IdleTimeout); o != nil {
		common := o.GetCommonHttpProtocolOptions()
		if pool.MaxRequestsPerConnection > 0 {
			common.MaxRequestsPerConnection = wrapperspb.UInt32(pool.MaxRequestsPerConnection)
		}
		if pool.MaxConnectionAge > 0 {
			common.MaxConnectionDuration = durationpb.New(pool.MaxConnectionAge)
		}
		if age := s.StreamAge().Value; age > 0 {
			// Of all that Envoy has, this alone ends websockets. A route's max_stream_duration does too,
			// but has the route's own timeout ignored, and does not differ between backings.
			common.MaxStreamDuration = durationpb.New(age)
		}
		setHTTPOptions(c, o)
	}
	return c
}

func outlierDetection(o *policy.OutlierDetection) *clusterv3.OutlierDetection {
	out := &clusterv3.OutlierDetection{
		Interval:                               durationpb.New(o.Interval),
		BaseEjectionTime:                       durationpb.New(o.BaseEjectionTime),
		MaxEjectionPercent:                     wrapperspb.UInt32(o.MaxEjectionPercent),
		SplitExternalLocalOriginErrors:         true,
		ConsecutiveLocalOriginFailure:          wrapperspb.UInt32(o.ConsecutiveConnectFailures),
		EnforcingConsecutiveLocalOriginFailure: wrapperspb.UInt32(100),
		EnforcingConsecutive_5Xx:               wrapperspb.UInt32(0),
		EnforcingConsecutiveGatewayFailure:     wrapperspb.UInt32(0),
		EnforcingSuccessRate:                   wrapperspb.UInt32(0),
		EnforcingLocalOriginSuccessRate:        wrapperspb.UInt32(0),
		EnforcingFailurePercentage:             wrapperspb.UInt32(0),
	}
	if n := o.Consecutive5xx; n > 0 {
		out.Consecutive_5Xx, out.EnforcingConsecutive_5Xx = wrapperspb.UInt32(n), wrapperspb.UInt32(100)
	}
	if n := o.ConsecutiveGatewayErrors; n > 0 {
		out.ConsecutiveGatewayFailure, out.EnforcingConsecutiveGatewayFailure = wrapperspb.UInt32(n), wrapperspb.UInt32(100)
	}
	return out
}

func setHTTPOptions(c *clusterv3.Cluster, o *httpv3.HttpProtocolOptions) {
	c.TypedExtensionProtocolOptions = map[string]*anypb.Any{
		"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": toAny(o),
	}
}

// httpOptions are how requests are sent over connections of a protocol that are closed when they
// have been idle for a time; nil for a port that is not HTTP.
func httpOptions(p policy.Protocol, idle time.Duration) *httpv3.HttpProtocolOptions {
	o := &httpv3.HttpProtocolOptions{CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{
		MaxHeadersCount: wrapperspb.UInt32(responseHeaders), IdleTimeout: durationpb.New(idle),
	}}
	explicit := &httpv3.HttpProtocolOptions_ExplicitHttpConfig{}
	switch p {
	case policy.HTTP1:
		explicit.ProtocolConfig = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{HttpProtocolOptions: toHTTP1()}
	case policy.HTTP2:
		explicit.ProtocolConfig = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: toHTTP2()}
	case policy.Negotiated:
		o.UpstreamProtocolOptions = &httpv3.HttpProtocolOptions_AutoConfig{AutoConfig: &httpv3.HttpProtocolOptions_AutoHttpConfig{
			HttpProtocolOptions: toHTTP1(), Http2ProtocolOptions: toHTTP2(),
		}}
		return o
	case policy.TCP:
		return nil
	}
	o.UpstreamProtocolOptions = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: explicit}
	return o
}

func toHTTP1() *corev3.Http1ProtocolOptions {
	return &corev3.Http1ProtocolOptions{
		HeaderKeyFormat: asWritten(),
		// An answer with a length and chunks is read by its chunks (RFC 9112,
		// section 6.3). Refusing it has Envoy ask again for what has been answered.
		AllowChunkedLength: true,
	}
}

func toHTTP2() *corev3.Http2ProtocolOptions {
	return &corev3.Http2ProtocolOptions{ConnectionKeepalive: &corev3.KeepaliveSettings{
		Interval: durationpb.New(30 * time.Second), Timeout: durationpb.New(5 * time.Second),
	}}
}

// asWritten keeps the case of header names and the reason phrase of what is
// received. Neither means anything in HTTP, but PHP code that has talked to nginx
// for years looks for "Location:" and "Content-Type:" in $http_response_header,
// and for "Authorization" in what getallheaders() returns. What Envoy adds to a
// message, such as a session's Set-Cookie, is capitalized as programs write it.
func asWritten() *corev3.Http1ProtocolOptions_HeaderKeyFormat {
	return &corev3.Http1ProtocolOptions_HeaderKeyFormat{
		HeaderFormat: &corev3.Http1ProtocolOptions_HeaderKeyFormat_StatefulFormatter{
			StatefulFormatter: &corev3.TypedExtensionConfig{
				Name: "preserve_case",
				TypedConfig: toAny(&preservecasev3.PreserveCaseFormatterConfig{
					ForwardReasonPhrase: true, FormatterTypeOnEnvoyHeaders: preservecasev3.PreserveCaseFormatterConfig_PROPER_CASE,
				}),
			},
		},
	}
}

// capitalized writes the names of headers that a listener's own answers have as
// "Location". Backends' answers bring the case of theirs along (asWritten). Envoy can
// have only one of both: the names of requests are passed on in lower case then,
// as those of HTTP/2 always are. That fits an edge, most of whose clients
// speak HTTP/2, and not the listener whose clients are the mesh's own programs.
func capitalized() *corev3.Http1ProtocolOptions_HeaderKeyFormat {
	return &corev3.Http1ProtocolOptions_HeaderKeyFormat{
		HeaderFormat: &corev3.Http1ProtocolOptions_HeaderKeyFormat_ProperCaseWords_{
			ProperCaseWords: &corev3.Http1ProtocolOptions_HeaderKeyFormat_ProperCaseWords{},
		},
	}
}

// cluster returns the cluster of a backing.
func (c *Compiler) cluster(m *policy.Service, p *policy.Port, b *policy.Backing) resource.Resource {
	name := naming.Cluster(m.Key, p.Number, b.Platform)
	return c.edsCluster(m, p, name, naming.Statistic(m.Key, p.Number, b.Platform.String()), &b.Settings, b.TLS)
}

// groupCluster returns the cluster of an InstanceGroup that a route names.
func (c *Compiler) groupCluster(m *policy.Service, p *policy.Port, g *policy.Group) resource.Resource {
	name := naming.Group(m.Key, p.Number, g.Name)
	return c.edsCluster(m, p, name, naming.Statistic(m.Key, p.Number, discovery.Instances.String()+"-"+g.Name), &g.Settings, g.TLS)
}

// edsCluster returns a cluster whose endpoints come over the stream. Where no
// policy says anything, all but its names are bytes that it shares with every
// other of its protocol: a protobuf message is the concatenation of its parts.
func (c *Compiler) edsCluster(m *policy.Service, p *policy.Port, name, stat string, s *policy.Settings, tls *policy.TLS) resource.Resource {
	if tls != nil && tls.Unknown {
		return unknownCluster(name, stat, m.Provenance)
	}
	r := resource.Resource{Type: resource.Cluster, Name: name, EDS: true, Provenance: m.Provenance}
	protocol := sendable(p.Protocol, tls)
	if len(s.From) == 0 && tls == nil {
		own := marshal(&clusterv3.Cluster{Name: name, AltStatName: stat})
		r.Body = resource.Parts{append(own, c.clusters[protocol]...)}
		return r
	}
	own := clusterBase(protocol, s)
	own.Name, own.AltStatName = name, stat
	applySettings(own, protocol, s, tls, m.Name)
	r.Body = resource.Parts{marshal(own)}
	return r
}

// sendable returns the protocol of a cluster. Envoy refuses one whose endpoints choose the version of HTTP
// while no TLS is spoken to them; where TLS fails there are no endpoints.
func sendable(p policy.Protocol, tls *policy.TLS) policy.Protocol {
	if p == policy.Negotiated && (tls == nil || tls.Failed != "") {
		return policy.HTTP1
	}
	return p
}

// unknownCluster stands in for a cluster of which it is not known whether TLS is to be
// spoken with its endpoints: it has none, so that requests are answered 503. Proxies
// that have the cluster keep it, and are told its endpoints as ever.
func unknownCluster(name, stat string, from []discovery.ObjectRef) resource.Resource {
	body := marshal(&clusterv3.Cluster{
		Name: name, AltStatName: stat,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		ConnectTimeout:       durationpb.New(policy.DefaultConnect),
	})
	return resource.Resource{Type: resource.Cluster, Name: name, Body: resource.Parts{body}, StandIn: true, Provenance: from}
}

// failover returns the aggregate cluster that prefers a backing and hands
// everything to the next one in its order while that has no usable endpoint. The proxy does
// it by itself, at once, and statistics stay those of the members.
func failover(m *policy.Service, p *policy.Port, first *policy.Backing) resource.Resource {
	name := naming.Failover(m.Key, p.Number, first.Platform, first.Failover)
	members := []string{naming.Cluster(m.Key, p.Number, first.Platform)}
	for _, next := range first.Failover {
		members = append(members, naming.Cluster(m.Key, p.Number, next))
	}
	body := marshal(&clusterv3.Cluster{
		Name:           name,
		AltStatName:    naming.FailoverStatistic(m.Key, p.Number, first.Platform, first.Failover),
		ConnectTimeout: durationpb.New(policy.DefaultConnect),
		LbPolicy:       clusterv3.Cluster_CLUSTER_PROVIDED,
		ClusterDiscoveryType: &clusterv3.Cluster_ClusterType{ClusterType: &clusterv3.Cluster_CustomClusterType{
			Name:        "envoy.clusters.aggregate",
			TypedConfig: toAny(&aggregatev3.ClusterConfig{Clusters: members}),
		}},
		CommonLbConfig: &clusterv3.Cluster_CommonLbConfig{HealthyPanicThreshold: &typev3.Percent{Value: lastResort}},
		// Connections and requests are counted and limited at the members,
		// whose hosts they go to. Retries are at the cluster that the route names.
		CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
			MaxRequests: wrapperspb.UInt32(policy.Unlimited), MaxPendingRequests: wrapperspb.UInt32(policy.Unlimited),
			RetryBudget: retryBudget(&first.Settings),
		}}},
	})
	needs := slices.Clone(members)
	slices.Sort(needs)
	return resource.Resource{
		Type: resource.Cluster, Name: name, Body: resource.Parts{body}, Needs: needs, Provenance: m.Provenance,
	}
}

// adsSource is the stream that the resource's user came over. It waits for its
// answer for ever: a control plane that is slow to answer must not make Envoy
// take "not yet known" for "empty".
func adsSource() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		ResourceApiVersion:    corev3.ApiVersion_V3,
		InitialFetchTimeout:   durationpb.New(0),
	}
}

// edsSource differs in that a cluster does not wait for ever: a proxy whose
// stream breaks while a cluster warms does not ask for clusters until it ends,
// and with the default of 15 s it goes on with the endpoints that it had.
func edsSource() *corev3.ConfigSource {
	s := adsSource()
	s.InitialFetchTimeout = nil
	return s
}

// marshal encodes a message that is built here; it cannot fail.
func marshal(m proto.Message) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic("compile: " + err.Error())
	}
	return b
}

func toAny(m proto.Message) *anypb.Any {
	return &anypb.Any{TypeUrl: "type.googleapis.com/" + string(m.ProtoReflect().Descriptor().FullName()), Value: marshal(m)}
}
