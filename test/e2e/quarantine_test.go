package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// refused is a fixed corpus of configurations that are valid protobuf and that
// the real Envoy refuses. Validation keeps all of them out of the product, so
// they reach Envoy by this test's own hand: as a unit of the snapshot.
func refused(t *testing.T) map[string]resource.Resource {
	t.Helper()
	host := func(change func(*routev3.VirtualHost, *routev3.RouteAction, *routev3.RouteMatch)) resource.Resource {
		action := &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: "web/good:80/pods"}}
		match := &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}}
		h := &routev3.VirtualHost{
			Name: "http/odd.web:80", Domains: []string{"odd.web"},
			Routes: []*routev3.Route{{Match: match, Action: &routev3.Route_Route{Route: action}}},
		}
		change(h, action, match)
		return message(t, resource.VirtualHost, "http/odd.web:80", h)
	}
	regex := func(text string) *matcherv3.RegexMatcher { return &matcherv3.RegexMatcher{Regex: text} }
	return map[string]resource.Resource{
		"a regular expression that is none": host(func(_ *routev3.VirtualHost, _ *routev3.RouteAction, m *routev3.RouteMatch) {
			m.PathSpecifier = &routev3.RouteMatch_SafeRegex{SafeRegex: regex("(a")}
		}),
		"a regular expression with a back reference": host(func(_ *routev3.VirtualHost, _ *routev3.RouteAction, m *routev3.RouteMatch) {
			m.Headers = []*routev3.HeaderMatcher{{Name: "x", HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{
				StringMatch: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: regex(`(a)\1`)}},
			}}}
		}),
		"a domain that another virtual host has": host(func(h *routev3.VirtualHost, _ *routev3.RouteAction, _ *routev3.RouteMatch) {
			h.Domains = append(h.Domains, "good.web")
		}),
		"the same domain twice": host(func(h *routev3.VirtualHost, _ *routev3.RouteAction, _ *routev3.RouteMatch) {
			h.Domains = append(h.Domains, "odd.web")
		}),
		"a prefix and its rewrite by a pattern at once": host(func(_ *routev3.VirtualHost, a *routev3.RouteAction, _ *routev3.RouteMatch) {
			a.PrefixRewrite = "/x"
			a.RegexRewrite = &matcherv3.RegexMatchAndSubstitute{Pattern: regex("/a"), Substitution: "/b"}
		}),
		"weights that sum up to nothing": host(func(_ *routev3.VirtualHost, a *routev3.RouteAction, _ *routev3.RouteMatch) {
			a.ClusterSpecifier = &routev3.RouteAction_WeightedClusters{WeightedClusters: &routev3.WeightedCluster{
				Clusters: []*routev3.WeightedCluster_ClusterWeight{{Name: "web/good:80/pods", Weight: wrapperspb.UInt32(0)}},
			}}
		}),
		"a header that no request may change": host(func(h *routev3.VirtualHost, _ *routev3.RouteAction, _ *routev3.RouteMatch) {
			h.RequestHeadersToRemove = []string{":path"}
		}),
		"a header value with an unknown command": host(func(h *routev3.VirtualHost, _ *routev3.RouteAction, _ *routev3.RouteMatch) {
			h.RequestHeadersToAdd = []*corev3.HeaderValueOption{{Header: &corev3.HeaderValue{Key: "x", Value: "%NO_SUCH_COMMAND%"}}}
		}),
		"a cluster without any endpoints' source": message(t, resource.Cluster, "odd", &clusterv3.Cluster{
			Name: "odd", ConnectTimeout: durationpb.New(time.Second),
			ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		}),
		"a cluster whose balancer needs another type": message(t, resource.Cluster, "odd", &clusterv3.Cluster{
			Name: "odd", ConnectTimeout: durationpb.New(time.Second), LbPolicy: clusterv3.Cluster_CLUSTER_PROVIDED,
			ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		}),
	}
}

func message(t *testing.T, rt resource.Type, name string, m proto.Message) resource.Resource {
	t.Helper()
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	require.NoError(t, err)
	return resource.Resource{
		Type: rt, Name: name, Body: resource.Parts{body}, Visible: resource.Visibility{Role: resource.Sidecar},
		Provenance: []discovery.ObjectRef{{Kind: "HTTPRoute", Key: discovery.Key{Namespace: "web", Name: "odd"}, Generation: 7}},
	}
}

// Two real Envoys are given configurations that they refuse, one after the
// other: the first to answer is one of them, the last good one stays in force
// for both, Envoy's own words name the object, everything else goes on, and
// what is right is taken again.
func TestRefusedByEnvoy(t *testing.T) {
	beside(t, 0.4, 15*time.Second)
	p := startPlane(t)
	p.engine.Stage(snapshot.Silence, func() {})
	address := harness.Addresses(t, 1)[0]
	harness.StartWorkload(t, harness.WorkloadOptions{Kind: harness.Go, Address: address, Port: instancePort, ID: "b"})
	key := discovery.Key{Namespace: "web", Name: "good"}
	put := func(ports ...discovery.ServicePort) {
		p.write(t, func(tx *catalog.Tx) {
			catalog.Services.Put(tx, &discovery.Service{Scope: "test", Key: key, Ports: ports})
			catalog.Endpoints.Put(tx, &discovery.EndpointSet{
				Scope: "test", Key: key, Service: key, Platform: discovery.Pods, Ports: []discovery.EndpointPort{{Name: "http", Port: instancePort}},
				Endpoints: []discovery.Endpoint{{ID: "b", Address: address.String()}},
			})
		})
	}
	web := discovery.ServicePort{Name: "http", Port: 80}
	put(web)
	one := startCaller(t, "i-1", "web", "a", []string{p.address}, "")
	two := startCaller(t, "i-2", "web", "a", []string{p.address}, "")
	loads := make([]*harness.Load, 0, 2)
	for _, c := range []*caller{one, two} {
		l := harness.StartLoad(t, harness.LoadOptions{URL: "http://" + c.http + "/", Rate: 100, Host: "good.web"})
		l.WaitAnswers(t, 20, 10*time.Second)
		loads = append(loads, l)
	}
	good := message(t, resource.VirtualHost, "http/odd.web:80", &routev3.VirtualHost{
		Name: "http/odd.web:80", Domains: []string{"odd.web"}, Routes: []*routev3.Route{{
			Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
			Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: 299}},
		}},
	})
	answers := func(want int) {
		t.Helper()
		for _, c := range []*caller{one, two} {
			harness.Eventually(t, 10*time.Second, fmt.Sprintf("%d for odd.web", want), func() error {
				if got := askOnce(t, c.http, "odd.web"); got != want {
					return fmt.Errorf("it is %d", got)
				}
				return nil
			})
		}
	}
	apply := func(resources ...resource.Resource) {
		p.store.Apply(time.Now(), []snapshot.Update{{Unit: "odd", Resources: resources}})
	}
	corpus := refused(t)
	names := make([]string, 0, len(corpus))
	for name := range corpus {
		names = append(names, name)
	}
	slices.Sort(names)
	refusals := 0
	for i, name := range names {
		apply(good)
		answers(299)
		rejected := func() float64 { return nacks(p) }
		before := rejected()
		apply(good, corpus[name])
		if bad := corpus[name]; bad.Type == good.Type {
			apply(bad)
		}
		var found []snapshot.Rejection
		harness.Eventually(t, 10*time.Second, "Envoy refuses "+name, func() error {
			if found = p.store.Rejections(); len(found) == 0 {
				return fmt.Errorf("nobody has refused it")
			}
			return nil
		})
		require.NotEmpty(t, found[0].Error)
		require.Equal(t, "odd", found[0].Provenance[0].Name)
		require.Equal(t, int64(7), found[0].Provenance[0].Generation)
		require.True(t, found[0].Pinned)
		t.Logf("%s: %s", name, found[0].Error)
		answers(299)
		refusals++
		require.InDelta(t, before+1, rejected(), 0.1, "one proxy must be asked, once")
		// Everything else goes on.
		put(web, discovery.ServicePort{Name: "more", Port: uint16(8000 + i)}) //nolint:gosec // small
	}
	require.GreaterOrEqual(t, refusals, 5)
	apply(good)
	require.Empty(t, p.store.Rejections())
	for _, l := range loads {
		l.Stop().RequireNoFailures(t)
	}
}

// askOnce sends one request through a caller's Envoy and returns the status.
func askOnce(t *testing.T, through, host string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+through+"/", http.NoBody)
	require.NoError(t, err)
	r.Host = host
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	return answer.StatusCode
}

// nacks counts the rejections that the server has seen.
func nacks(p *plane) float64 {
	sum := 0.0
	families, err := p.registry.Gather()
	if err != nil {
		return -1
	}
	for _, f := range families {
		if f.GetName() == "causeway_xds_nacks_total" {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}
