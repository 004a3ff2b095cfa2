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

const (
	// idleInterval is the pause between checks of an endpoint that has passed, while nothing is sent to the cluster.
	idleInterval = time.Minute
	// checkJitter in percent spreads the checks of callers that start together.
	checkJitter = 10
	// ringSize bounds the entries of a hash ring. Zones that a caller prefers
	// little have endpoints of tiny weight, for each of which Envoy would
	// otherwise grow the ring until it has a whole entry.
	ringSize = 1 << 16
)

// applySettings writes into a cluster what policies say of its endpoints. host is
// the Host header of health checks that state none.
func applySettings(c *clusterv3.Cluster, protocol policy.Protocol, s *policy.Settings, tls *policy.TLS, host string) {
	if h := healthCheck(protocol, s.HealthCheck(), host); h != nil {
		c.HealthChecks = []*corev3.HealthCheck{h}
	}
	applyLoadBalancer(c, s.LoadBalancer())
	c.TransportSocket = transportSocket(protocol, tls, s.ProxyProtocol())
}

func durationOr(d *metav1.Duration, otherwise time.Duration) *durationpb.Duration {
	if d == nil {
		return durationpb.New(otherwise)
	}
	return durationpb.New(d.Duration)
}

// healthCheck returns the check that a policy asks of every caller, nil for
// none. It does not find out which version of HTTP an endpoint chooses, so it offers the one that it speaks. Callers that never call hardly probe: an endpoint that has passed is
// left alone for idleInterval while the cluster has had no request. One that
// has failed is not, or it would be missed for as long when traffic begins.
func healthCheck(protocol policy.Protocol, h *policy.HealthCheck, host string) *corev3.HealthCheck {
	if h == nil {
		return nil
	}
	out := &corev3.HealthCheck{
		Interval: durationpb.New(h.Interval), Timeout: durationpb.New(h.Timeout),
		UnhealthyThreshold: wrapperspb.UInt32(h.UnhealthyThreshold), HealthyThreshold: wrapperspb.UInt32(h.HealthyThreshold),
		IntervalJitterPercent: checkJitter,
	}
	out.NoTrafficInterval = out.GetInterval()
	out.NoTrafficHealthyInterval = durationpb.New(max(idleInterval, out.GetInterval().AsDuration()))
	switch {
	case h.GRPC != nil:
		// Envoy refuses a cluster that checks so what does not speak HTTP/2.
		if !protocol.CarriesGRPC() {
			return nil
		}
		out.HealthChecker = &corev3.HealthCheck_GrpcHealthCheck_{GrpcHealthCheck: &corev3.HealthCheck_GrpcHealthCheck{ServiceName: h.GRPC.Service}}
		if protocol == policy.Negotiated {
			out.TlsOptions = &corev3.HealthCheck_TlsOptions{AlpnProtocols: []string{alpnHTTP2}}
		}
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
		if protocol == policy.Negotiated {
			out.TlsOptions = &corev3.HealthCheck_TlsOptions{AlpnProtocols: []string{alpnHTTP1}}
		}
		out.HealthChecker = &corev3.HealthCheck_HttpHealthCheck_{HttpHealthCheck: check}
	default:
		out.HealthChecker = &corev3.HealthCheck_TcpHealthCheck_{TcpHealthCheck: &corev3.HealthCheck_TcpHealthCheck{}}
	}
	return out
}

func applyLoadBalancer(c *clusterv3.Cluster, l policy.LoadBalancer) {
	var slow *clusterv3.Cluster_SlowStartConfig
	if l.SlowStart > 0 {
		slow = &clusterv3.Cluster_SlowStartConfig{SlowStartWindow: durationpb.New(l.SlowStart)}
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
	case v1alpha1.LeastRequest:
		c.LbPolicy = clusterv3.Cluster_LEAST_REQUEST
		if slow != nil {
			c.LbConfig = &clusterv3.Cluster_LeastRequestLbConfig_{LeastRequestLbConfig: &clusterv3.Cluster_LeastRequestLbConfig{SlowStartConfig: slow}}
		}
	}
}
