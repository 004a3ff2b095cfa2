package compile

import (
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Defaults of sections that are off unless stated.
const (
	checkInterval  = 5 * time.Second
	checkTimeout   = time.Second
	checkThreshold = 2
	idleInterval   = time.Minute
	// checkJitter in percent spreads the checks of callers that start together.
	checkJitter = 10
	// ringSize bounds the entries of a hash ring. Zones that a caller prefers
	// little have endpoints of tiny weight, for each of which Envoy would
	// otherwise grow the ring until it has a whole entry.
	ringSize = 1 << 16
)

// applySettings writes what policies say into a cluster of a protocol. host is
// the Host header of health checks that state none.
func applySettings(c *clusterv3.Cluster, protocol policy.Protocol, s *policy.Settings, tls *policy.TLS, host string) {
	if s.Timeout != nil {
		c.ConnectTimeout = durationOr(s.Timeout.Connect, connectTimeout)
	}
	c.CircuitBreakers.Thresholds[0].RetryBudget = retryBudget(s.Retry)
	applyHTTP(c, protocol, s)
	if s.OutlierDetection != nil {
		applyOutlierDetection(c.GetOutlierDetection(), s.OutlierDetection)
	}
	if h := healthCheck(protocol, s.HealthCheck, host); h != nil {
		c.HealthChecks = []*corev3.HealthCheck{h}
	}
	if s.LoadBalancer != nil {
		applyLoadBalancer(c, s.LoadBalancer)
	}
	c.TransportSocket = transportSocket(protocol, tls, s.ProxyProtocol)
}

func durationOr(d *metav1.Duration, otherwise time.Duration) *durationpb.Duration {
	if d == nil {
		return durationpb.New(otherwise)
	}
	return durationpb.New(d.Duration)
}

// setNumber replaces a default by what is stated.
func setNumber(to **wrapperspb.UInt32Value, n *int32) {
	if n != nil {
		*to = wrapperspb.UInt32(uint32(*n))
	}
}

// applyHTTP writes what settings say of connections, and of requests in them.
func applyHTTP(c *clusterv3.Cluster, protocol policy.Protocol, s *policy.Settings) {
	o := httpOptions(protocol)
	if s.ConnectionPool != nil {
		applyPool(c, o.GetCommonHttpProtocolOptions(), s.ConnectionPool)
	}
	aged := s.Timeout != nil && s.Timeout.StreamAge != nil && s.Timeout.StreamAge.Duration > 0
	if o == nil || s.ConnectionPool == nil && !aged {
		return
	}
	if aged {
		// Of all that Envoy has, this alone ends websockets. A route's max_stream_duration does too,
		// but has the route's own timeout ignored, and does not differ between backings.
		o.GetCommonHttpProtocolOptions().MaxStreamDuration = durationpb.New(s.Timeout.StreamAge.Duration)
	}
	setHTTPOptions(c, o)
}

// applyPool writes a pool's limits into a cluster and its options of HTTP, nil for a TCP port's.
func applyPool(c *clusterv3.Cluster, common *corev3.HttpProtocolOptions, p *v1alpha1.ConnectionPool) {
	limits := c.GetCircuitBreakers().GetThresholds()[0]
	setNumber(&limits.MaxConnections, p.MaxConnections)
	setNumber(&limits.MaxPendingRequests, p.MaxPendingRequests)
	setNumber(&limits.MaxRequests, p.MaxRequests)
	if common == nil {
		return // a TCP connection lasts as long as its caller's; the rest is about requests
	}
	setNumber(&common.MaxRequestsPerConnection, p.MaxRequestsPerConnection)
	if p.IdleTimeout != nil {
		common.IdleTimeout = durationpb.New(p.IdleTimeout.Duration)
	}
	if p.MaxConnectionAge != nil && p.MaxConnectionAge.Duration > 0 {
		common.MaxConnectionDuration = durationpb.New(p.MaxConnectionAge.Duration)
	}
}

func applyOutlierDetection(to *clusterv3.OutlierDetection, o *v1alpha1.OutlierDetection) {
	setNumber(&to.ConsecutiveLocalOriginFailure, o.ConsecutiveConnectFailures)
	setNumber(&to.MaxEjectionPercent, o.MaxEjectionPercent)
	if o.Consecutive5xx != nil {
		setNumber(&to.Consecutive_5Xx, o.Consecutive5xx)
		to.EnforcingConsecutive_5Xx = wrapperspb.UInt32(100)
	}
	if o.ConsecutiveGatewayErrors != nil {
		setNumber(&to.ConsecutiveGatewayFailure, o.ConsecutiveGatewayErrors)
		to.EnforcingConsecutiveGatewayFailure = wrapperspb.UInt32(100)
	}
	if o.Interval != nil {
		to.Interval = durationpb.New(o.Interval.Duration)
	}
	if o.BaseEjectionTime != nil {
		to.BaseEjectionTime = durationpb.New(o.BaseEjectionTime.Duration)
	}
}

// healthCheck returns the check that a policy asks of every caller, nil for
// none. Callers that never call hardly probe: an endpoint that has passed is
// left alone for idleInterval while the cluster has had no request. One that
// has failed is not, or it would be missed for as long when traffic begins.
func healthCheck(protocol policy.Protocol, h *v1alpha1.ActiveHealthCheck, host string) *corev3.HealthCheck {
	if h == nil {
		return nil
	}
	out := &corev3.HealthCheck{
		Interval: durationOr(h.Interval, checkInterval), Timeout: durationOr(h.Timeout, checkTimeout),
		UnhealthyThreshold: wrapperspb.UInt32(checkThreshold), HealthyThreshold: wrapperspb.UInt32(checkThreshold),
		IntervalJitterPercent: checkJitter,
	}
	out.NoTrafficInterval = out.GetInterval()
	out.NoTrafficHealthyInterval = durationpb.New(max(idleInterval, out.GetInterval().AsDuration()))
	setNumber(&out.UnhealthyThreshold, h.UnhealthyThreshold)
	setNumber(&out.HealthyThreshold, h.HealthyThreshold)
	switch {
	case h.GRPC != nil:
		// Envoy refuses a cluster that checks so what does not speak HTTP/2.
		if protocol != policy.HTTP2 {
			return nil
		}
		out.HealthChecker = &corev3.HealthCheck_GrpcHealthCheck_{GrpcHealthCheck: &corev3.HealthCheck_GrpcHealthCheck{ServiceName: h.GRPC.Service}}
	case h.HTTP != nil:
		check := &corev3.HealthCheck_HttpHealthCheck{
			Path: h.HTTP.Path, Host: h.HTTP.Host, ExpectedStatuses: []*typev3.Int64Range{{Start: 200, End: 400}},
		}
		if check.GetHost() == "" {
			check.Host = host
		}
		if protocol == policy.HTTP2 {
			check.CodecClientType = typev3.CodecClientType_HTTP2
		}
		out.HealthChecker = &corev3.HealthCheck_HttpHealthCheck_{HttpHealthCheck: check}
	default:
		out.HealthChecker = &corev3.HealthCheck_TcpHealthCheck_{TcpHealthCheck: &corev3.HealthCheck_TcpHealthCheck{}}
	}
	return out
}

func applyLoadBalancer(c *clusterv3.Cluster, l *v1alpha1.LoadBalancer) {
	var slow *clusterv3.Cluster_SlowStartConfig
	if l.SlowStart != nil && l.SlowStart.Duration > 0 {
		slow = &clusterv3.Cluster_SlowStartConfig{SlowStartWindow: durationpb.New(l.SlowStart.Duration)}
	}
	switch l.Algorithm {
	case v1alpha1.RoundRobin:
		c.LbPolicy = clusterv3.Cluster_ROUND_ROBIN
		if slow != nil {
			c.LbConfig = &clusterv3.Cluster_RoundRobinLbConfig_{RoundRobinLbConfig: &clusterv3.Cluster_RoundRobinLbConfig{SlowStartConfig: slow}}
		}
	case v1alpha1.Random:
		c.LbPolicy = clusterv3.Cluster_RANDOM
	case v1alpha1.RingHash:
		c.LbPolicy = clusterv3.Cluster_RING_HASH
		c.LbConfig = &clusterv3.Cluster_RingHashLbConfig_{RingHashLbConfig: &clusterv3.Cluster_RingHashLbConfig{
			MaximumRingSize: wrapperspb.UInt64(ringSize),
		}}
	case v1alpha1.Maglev:
		c.LbPolicy = clusterv3.Cluster_MAGLEV
	case v1alpha1.LeastRequest, "":
		c.LbPolicy = clusterv3.Cluster_LEAST_REQUEST
		if slow != nil {
			c.LbConfig = &clusterv3.Cluster_LeastRequestLbConfig_{LeastRequestLbConfig: &clusterv3.Cluster_LeastRequestLbConfig{SlowStartConfig: slow}}
		}
	}
}
