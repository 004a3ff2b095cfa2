package outcomes

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/outcome"
)

// stats is a load report's entry of a cluster, whose only locality is of a backing if one is named.
func stats(cluster, backing string, issued, success, failed uint64) *endpointv3.ClusterStats {
	return &endpointv3.ClusterStats{ClusterName: cluster, UpstreamLocalityStats: list(&endpointv3.UpstreamLocalityStats{
		Locality:            &corev3.Locality{Zone: "az1", SubZone: backing},
		TotalIssuedRequests: issued, TotalSuccessfulRequests: success, TotalErrorRequests: failed,
	})}
}

// Requests to every Service are counted by backing and result, whether it is shifted or not.
func TestTraffic(t *testing.T) {
	t.Parallel()
	r, _ := newRecorder()
	gone := false
	r.opts.Exists = func(k discovery.Key) bool { return !gone || k.Name != "cart" }
	r.Load("n", 10*time.Second, list(
		stats("shop/cart:80/pods", "pods", 12, 9, 1),
		stats("shop/cart:8080/pods", "pods", 2, 2, 0),
		stats("shop/cart:80/instances/old", "instances", 5, 5, 0),
		stats("data/cache:6379/shared", "instances", 3, 0, 0),
		stats("web/php:80/pods", "pods", 4, 3, 1),
		// No Service's: copies, clusters of several backings, made up backings, others' clusters.
		stats("shadow/shop/cart:80/pods", "pods", 100, 100, 0),
		stats("shop/cart:80/pods+instances", "pods", 100, 100, 0),
		stats("data/cache:6379/shared", "made-up", 100, 0, 0),
		stats("shop/cart:80/made-up", "", 100, 100, 0),
		stats("shop/cart:80/pods/more", "", 100, 100, 0),
		stats("external/shop/pay:443", "", 100, 100, 0),
		stats("causeway_xds", "", 100, 100, 0),
	))
	r.Load("m", 10*time.Second, list(stats("shop/cart:80/pods", "pods", 1, 1, 0)))
	require.NoError(t, testutil.CollectAndCompare(r, strings.NewReader(`
# HELP causeway_service_requests_total Requests to a Service's backing that ended, by result (success, error), by the proxies' load reports to this replica.
# TYPE causeway_service_requests_total counter
causeway_service_requests_total{backing="instances",namespace="shop",result="error",service="cart"} 0
causeway_service_requests_total{backing="instances",namespace="shop",result="success",service="cart"} 5
causeway_service_requests_total{backing="pods",namespace="shop",result="error",service="cart"} 1
causeway_service_requests_total{backing="pods",namespace="shop",result="success",service="cart"} 12
causeway_service_requests_total{backing="pods",namespace="web",result="error",service="php"} 1
causeway_service_requests_total{backing="pods",namespace="web",result="success",service="php"} 3
# HELP causeway_service_sent_total Requests, or TCP connections, that proxies have sent to a Service's backing, by their load reports to this replica.
# TYPE causeway_service_sent_total counter
causeway_service_sent_total{backing="instances",namespace="data",service="cache"} 3
causeway_service_sent_total{backing="instances",namespace="shop",service="cart"} 5
causeway_service_sent_total{backing="pods",namespace="shop",service="cart"} 15
causeway_service_sent_total{backing="pods",namespace="web",service="php"} 4
`)))

	gone = true
	require.Equal(t, 4, testutil.CollectAndCount(r), "what was counted of a Service goes with it")
	require.Len(t, r.traffic, 2)
}

// However many Services proxies name, the series are bounded.
func TestTrafficIsBounded(t *testing.T) {
	t.Parallel()
	r, _ := newRecorder()
	for i := range maxTraffic + 100 {
		r.Load("n", time.Second, list(stats(fmt.Sprintf("shop/s%d:80/pods", i), "pods", 1, 1, 0)))
	}
	require.Len(t, r.traffic, maxTraffic)
}

// Who calls whom is told of the last two minutes, by workload, and no more of it is kept than of so many.
func TestCalls(t *testing.T) {
	t.Parallel()
	r, clock := newRecorder()
	report := func(node string, issued, success, failed uint64) {
		r.Load(node, 10*time.Second, list(stats("shop/cart:80/pods", "pods", issued, success, failed)))
	}
	told := func() map[string]outcome.Call {
		out := make(map[string]outcome.Call)
		for _, c := range r.Calls().Calls {
			out[c.Caller.String()] = c
		}
		return out
	}
	require.Equal(t, outcome.Calls{}, r.Calls())
	report("sidecar~web~php~i-1", 10, 9, 1)
	report("sidecar~web~php~i-2", 5, 5, 0)
	report("gateway~edge~public~a", 3, 3, 0)
	report("no node id", 3, 3, 0)
	report("sidecar~web~idle~a", 0, 0, 0)
	clock.now = clock.now.Add(50 * time.Second)
	cart := discovery.Key{Namespace: "shop", Name: "cart"}
	php := outcome.Call{Caller: discovery.Key{Namespace: "web", Name: "php"}, Service: cart, Backing: discovery.Pods, Issued: 15, Success: 14, Failed: 1}
	edge := outcome.Call{Caller: discovery.Key{Namespace: "edge", Name: "public"}, Gateway: true, Service: cart, Backing: discovery.Pods, Issued: 3, Success: 3}
	require.Equal(t, map[string]outcome.Call{"web/php": php, "edge/public": edge}, told())
	require.Equal(t, 50*time.Second, r.Calls().Over)
	clock.now = clock.now.Add(20 * time.Second)
	report("sidecar~web~php~i-1", 1, 1, 0)
	php.Issued, php.Success = 16, 15
	require.Equal(t, map[string]outcome.Call{"web/php": php, "edge/public": edge}, told(), "the minute before counts")
	require.Equal(t, 70*time.Second, r.Calls().Over)
	clock.now = clock.now.Add(time.Minute)
	php.Issued, php.Success, php.Failed = 1, 1, 0
	require.Equal(t, map[string]outcome.Call{"web/php": php}, told(), "the one before that does not")
	clock.now = clock.now.Add(time.Hour)
	require.Empty(t, told())

	for i := range maxCalls + 10 {
		report(fmt.Sprintf("sidecar~web~w%d~a", i), 1, 1, 0)
	}
	v := r.Calls()
	require.Len(t, v.Calls, maxCalls)
	require.True(t, v.Dropped)
}
