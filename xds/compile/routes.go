package compile

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	previoushostsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	prioritiesv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/priority/previous_priorities/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// Retries. Where nothing of the request reached a host, sending it again is
// safe for every method. A 503, or a connection that ends before the answer
// begins, may come from a host that did begin, so only methods that are safe by
// definition (RFC 9110, section 9.2.1) are sent again; nginx does the same
// (proxy_next_upstream). A 502 or 504 says that the application failed or was
// too slow, which a second time makes worse.
//
// The first retry goes to another host of the same backing, the others may go
// to the other backing: a backing that dies all at once loses no request until
// callers have noticed.
const (
	retries         = 3
	retryUnsent     = "connect-failure,refused-stream,reset-before-request"
	retrySafe       = retryUnsent + ",reset,retriable-status-codes"
	backingAttempts = 2
	// hostReselections is how often Envoy draws again when it drew a host that
	// has just failed. With two hosts, 5 draws still gave it back in 1 of 60.
	hostReselections = 16
)

// retryBody is the size of a request body in bytes up to which a request can be
// sent again: Envoy keeps that much of it. Beyond it a body streams, and if its
// endpoint turns out to be dead the request fails. It is PHP's default
// post_max_size; Envoy's default of 1 MiB loses uploads.
const retryBody = 8 << 20

// virtualHosts returns the virtual hosts of an HTTP port: one for the names
// that everyone may use, one for the name that means the caller's namespace.
func (c *Compiler) virtualHosts(m *policy.Service, p *policy.Port) []resource.Resource {
	name := hostName(m.Key, p.Number)
	to := targets(m.Key, p)
	routes := c.routes(to)
	needs := make([]string, len(to))
	for i := range to {
		needs[i] = to[i].cluster
	}
	slices.Sort(needs)
	host := func(name string, hosts []string, v resource.Visibility) resource.Resource {
		body := marshal(&routev3.VirtualHost{
			Name: name, Domains: domains(hosts, p), Routes: routes,
			RequestBodyBufferLimit: wrapperspb.UInt64(retryBody),
		})
		return resource.Resource{
			Type: resource.VirtualHost, Name: name, Body: resource.Parts{body},
			Visible: v, Needs: needs, Provenance: m.Provenance,
		}
	}
	short := m.Name + "." + m.Namespace
	full := append([]string{short, short + ".svc", short + "." + policy.ClusterDomain}, m.ClusterIPs...)
	return []resource.Resource{
		host(name, full, resource.Visibility{Role: resource.Sidecar}),
		host(name+"+short", []string{m.Name}, resource.Visibility{Role: resource.Sidecar, Namespace: m.Namespace}),
	}
}

// domains returns the Host headers that mean a port, each once: Envoy rejects
// all virtual hosts if one domain stands twice.
func domains(hosts []string, p *policy.Port) []string {
	number := strconv.Itoa(int(p.Number))
	out := make([]string, 0, 2*len(hosts))
	for _, h := range hosts {
		if a, err := netip.ParseAddr(h); err == nil {
			h = a.String()
		}
		if slices.Contains(out, net.JoinHostPort(h, number)) {
			continue
		}
		out = append(out, net.JoinHostPort(h, number))
		if !p.DefaultHTTP {
			continue
		}
		if strings.Contains(h, ":") {
			h = "[" + h + "]"
		}
		out = append(out, h)
	}
	return out
}

// routes returns the default routes of a port: safe methods and all others.
func (c *Compiler) routes(to []target) []*routev3.Route {
	route := func(name string, match *routev3.RouteMatch, retryOn string, statuses ...uint32) *routev3.Route {
		action := &routev3.RouteAction{
			// A PHP request may take as long as it takes: no timeout unless asked for.
			Timeout: durationpb.New(0),
			MaxStreamDuration: &routev3.RouteAction_MaxStreamDuration{
				GrpcTimeoutHeaderMax: durationpb.New(0), // honour grpc-timeout as it is
			},
			RetryPolicy: &routev3.RetryPolicy{
				RetryOn: retryOn, NumRetries: wrapperspb.UInt32(retries), RetriableStatusCodes: statuses,
				HostSelectionRetryMaxAttempts: hostReselections,
				RetryHostPredicate:            c.otherHost,
			},
		}
		if len(to) > 1 {
			action.RetryPolicy.RetryPriority = c.otherBacking
			clusters := &routev3.WeightedCluster{}
			for _, t := range to {
				clusters.Clusters = append(clusters.Clusters, &routev3.WeightedCluster_ClusterWeight{
					Name: t.cluster, Weight: wrapperspb.UInt32(t.weight),
				})
			}
			action.ClusterSpecifier = &routev3.RouteAction_WeightedClusters{WeightedClusters: clusters}
		} else {
			action.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: to[0].cluster}
		}
		return &routev3.Route{Name: name, Match: match, Action: &routev3.Route_Route{Route: action}}
	}
	all := &routev3.RouteMatch_Prefix{Prefix: "/"}
	safe := &routev3.RouteMatch{PathSpecifier: all, Headers: []*routev3.HeaderMatcher{{
		Name: ":method",
		HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: &matcherv3.StringMatcher{
			MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: "GET|HEAD|OPTIONS"}},
		}},
	}}}
	return []*routev3.Route{
		route("default-safe", safe, retrySafe, 503),
		route("default", &routev3.RouteMatch{PathSpecifier: all}, retryUnsent),
	}
}

func otherHost() []*routev3.RetryPolicy_RetryHostPredicate {
	return []*routev3.RetryPolicy_RetryHostPredicate{{
		Name:       "envoy.retry_host_predicates.previous_hosts",
		ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{TypedConfig: toAny(&previoushostsv3.PreviousHostsPredicate{})},
	}}
}

func otherBacking() *routev3.RetryPolicy_RetryPriority {
	return &routev3.RetryPolicy_RetryPriority{
		Name: "envoy.retry_priorities.previous_priorities",
		ConfigType: &routev3.RetryPolicy_RetryPriority_TypedConfig{
			TypedConfig: toAny(&prioritiesv3.PreviousPrioritiesConfig{UpdateFrequency: backingAttempts}),
		},
	}
}

// Mesh returns what does not belong to any Service: the route configuration
// that HTTP listeners name. Its virtual hosts come one by one (VHDS), so that a
// Service's change sends that Service's.
func (c *Compiler) Mesh(m *policy.Mesh) []resource.Resource {
	body := marshal(&routev3.RouteConfiguration{
		Name: RouteName,
		Vhds: &routev3.Vhds{ConfigSource: adsSource()},
		// A route may name a cluster that is on its way; the push keeps the order.
		ValidateClusters: wrapperspb.Bool(false),
	})
	return []resource.Resource{{
		Type: resource.Route, Name: RouteName, Body: resource.Parts{body},
		Visible:    resource.Visibility{Role: resource.Sidecar},
		Provenance: m.Provenance,
	}}
}
