package compile

import (
	"slices"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	celv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"
	grpclogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/grpc/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	tracingv3 "github.com/envoyproxy/go-control-plane/envoy/type/tracing/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// Names of the access logs that proxies send to the control plane.
const (
	// OutcomesLog is the access log of requests to Services with a
	// TrafficShift.
	OutcomesLog = "causeway.outcomes"
	// ShadowLog says how their mirrored copies did.
	ShadowLog = "causeway.shadow"
)

// ControlPlane is the name of the cluster that leads to the control plane,
// which stands in every bootstrap.
const ControlPlane = "causeway_xds"

const (
	// logInterval is how long an entry waits for others to be sent with, and
	// logBuffer the size in bytes at which they are sent at once. A worker that
	// cannot send keeps no more than that and drops what follows
	// (Envoy: access_logs.grpc_access_log.logs_dropped).
	logInterval = time.Second
	logBuffer   = 64 << 10
)

// Tags of the logs' entries.
const (
	// ClusterTag is the cluster that the route or the listener chose. The entry's own
	// upstream_cluster is that of the endpoint which answered: of an aggregate
	// cluster a member, and none where there is no endpoint.
	ClusterTag = "cluster"
	// PortTag is the Service and port that the route leads to, as
	// "<ns>/<svc>:<port>": all that is known where the cluster is not there.
	PortTag = "port"
)

// grpcStatus is where a gRPC answer says how it ended: in a trailer, or in a
// header of an answer that has nothing else.
const grpcStatus = "grpc-status"

// shiftedRoutes is true of requests whose route leads to a Service that is
// being shifted. It is evaluated on every proxy for every request, which is
// what it costs that no listener changes when a shift begins or ends.
const shiftedRoutes = `"` + shiftMetadata + `" in xds.route_metadata.filter_metadata`

// shiftedClusters is true of connections to a Service that is being shifted. A
// TCP listener has no routes; its cluster says it (shiftedCluster).
const shiftedClusters = `"` + shiftMetadata + `" in xds.cluster_metadata.filter_metadata`

// outcomesLog is the access log of HTTP requests to Services that are being shifted.
func outcomesLog() *accesslogv3.AccessLog {
	out := httpLog(OutcomesLog)
	out.Filter = expressionFilter(shiftedRoutes)
	return out
}

// httpLog is an access log of HTTP requests that the control plane gets.
func httpLog(name string) *accesslogv3.AccessLog {
	return &accesslogv3.AccessLog{
		Name: "envoy.access_loggers.http_grpc",
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: toAny(&grpclogv3.HttpGrpcAccessLogConfig{
			CommonConfig:                    logTo(name),
			AdditionalResponseHeadersToLog:  []string{grpcStatus},
			AdditionalResponseTrailersToLog: []string{grpcStatus},
		})},
	}
}

// logConnections has the control plane know of the connections to a Service that is being
// shifted: of one that is made when it is made, because it may last for months,
// and of one that is not.
func logConnections(p *tcpv3.TcpProxy) {
	p.AccessLogOptions = &tcpv3.TcpProxy_TcpAccessLogOptions{FlushAccessLogOnConnected: true}
	p.AccessLog = []*accesslogv3.AccessLog{{
		Name: "envoy.access_loggers.tcp_grpc",
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: toAny(&grpclogv3.TcpGrpcAccessLogConfig{
			CommonConfig: logTo(OutcomesLog),
		})},
		Filter: expressionFilter(shiftedClusters),
	}}
}

// shiftedCluster marks the cluster of a TCP port while its Service has a TrafficShift. A
// change of a cluster closes no connection, as one of a listener does.
func shiftedCluster(m *policy.Service, p *policy.Port, cluster resource.Resource) resource.Resource {
	if !m.Reported {
		return cluster
	}
	mark := marshal(&clusterv3.Cluster{Metadata: shiftMark(&policy.Backend{Key: m.Key, Port: p.Number})})
	cluster.Body = append(slices.Clone(cluster.Body), mark)
	return cluster
}

func logTo(name string) *grpclogv3.CommonGrpcAccessLogConfig {
	return &grpclogv3.CommonGrpcAccessLogConfig{
		LogName:             name,
		TransportApiVersion: corev3.ApiVersion_V3,
		GrpcService: &corev3.GrpcService{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
			EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: ControlPlane},
		}},
		BufferFlushInterval: durationpb.New(logInterval),
		BufferSizeBytes:     wrapperspb.UInt32(logBuffer),
		CustomTags: []*tracingv3.CustomTag{
			{Tag: ClusterTag, Type: &tracingv3.CustomTag_Value{Value: "%UPSTREAM_CLUSTER_RAW%"}},
			{Tag: PortTag, Type: &tracingv3.CustomTag_Value{
				Value: "%METADATA(ROUTE:" + shiftMetadata + ":service)%:%METADATA(ROUTE:" + shiftMetadata + ":port)%",
			}},
		},
	}
}

func expressionFilter(expression string) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ExtensionFilter{
		ExtensionFilter: &accesslogv3.ExtensionFilter{
			Name:       "envoy.access_loggers.extension_filters.cel",
			ConfigType: &accesslogv3.ExtensionFilter_TypedConfig{TypedConfig: toAny(&celv3.ExpressionFilter{Expression: expression})},
		},
	}}
}
