package compile

import (
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// retryBody is the size of a request body in bytes up to which a request can be
// sent again: Envoy keeps that much of it. Beyond it a body streams, and if its
// endpoint turns out to be dead the request fails. It is PHP's default
// post_max_size; Envoy's default of 1 MiB loses uploads.
const retryBody = 8 << 20

// virtualHosts returns the virtual hosts of an HTTP port: one for the names
// that everyone may use, with a variant for each namespace that has routes of
// its own for the Service, and one for the name that means the caller's namespace.
func (c *Compiler) virtualHosts(m *policy.Service, p *policy.Port) []resource.Resource {
	short := m.Name + "." + m.Namespace
	full := append([]string{short, short + ".svc", short + "." + policy.ClusterDomain}, m.ClusterIPs...)
	general := c.serviceHost(m, p, naming.Host(m.Key, p.Number), full)
	own := general.of(c, p.HTTP)
	own.Visible = resource.Visibility{Role: resource.Sidecar}
	for _, namespace := range slices.Sorted(maps.Keys(p.ConsumerHTTP)) {
		general.variant(c, &own, namespace, p.ConsumerHTTP[namespace])
	}
	near := c.serviceHost(m, p, naming.ShortHost(m.Key, p.Number), []string{m.Name}).of(c, p.HTTP)
	near.Visible = resource.Visibility{Role: resource.Sidecar, Namespace: m.Namespace}
	return []resource.Resource{own, near}
}

// host is a virtual host to be.
type host struct {
	name       string
	at         parent
	domains    []string
	fallback   policy.Rule // where no route is attached
	provenance []discovery.ObjectRef
}

func (c *Compiler) serviceHost(m *policy.Service, p *policy.Port, name string, hosts []string) *host {
	return &host{name, servicePort(p.Number), domains(hosts, p.Number, p.DefaultHTTP), m.DefaultRule(p), m.Provenance}
}

// of returns the virtual host with what routes make of it.
func (h *host) of(c *Compiler, routes *policy.HTTPRoutes) resource.Resource {
	body, shape := h.body(c, routes)
	out := resource.Resource{Type: resource.VirtualHost, Name: h.name, Body: resource.Parts{body}, Shape: shape}
	h.refer(&out, routes)
	return out
}

// variant adds what callers of a namespace get instead.
func (h *host) variant(c *Compiler, to *resource.Resource, namespace string, routes *policy.HTTPRoutes) {
	body, shape := h.body(c, routes)
	if to.ByNamespace == nil {
		to.ByNamespace = make(map[string]resource.Parts)
	}
	to.ByNamespace[namespace] = resource.Parts{body}
	// Order matters: two variants that change places are not what they were.
	to.Shape = xxhash.Sum64String(strconv.FormatUint(to.Shape, 36) + " " + namespace + " " + strconv.FormatUint(shape, 36))
	h.refer(to, routes)
}

func (h *host) rules(routes *policy.HTTPRoutes) []policy.Rule {
	if routes == nil {
		return []policy.Rule{h.fallback}
	}
	return routes.Rules
}

func (h *host) body(c *Compiler, routes *policy.HTTPRoutes) (body []byte, shape uint64) {
	rules := h.rules(routes)
	v := h.virtualHost(c, rules)
	body = marshal(v)
	// The way back from a shadow step must be as short as from any other, so
	// what is copied is no part of the shape.
	if plain := withoutShadow(rules); plain != nil {
		v = h.virtualHost(c, plain)
		return body, shapeOf(v, marshal(v))
	}
	return body, shapeOf(v, body)
}

func (h *host) virtualHost(c *Compiler, rules []policy.Rule) *routev3.VirtualHost {
	v := &routev3.VirtualHost{
		Name: h.name, Domains: h.domains, Routes: c.ruleRoutes(rules, h.at),
		RequestBodyBufferLimit: wrapperspb.UInt64(retryBody),
	}
	if h.at.bodyBytes != nil {
		v.TypedPerFilterConfig = buffered(*h.at.bodyBytes)
	}
	return v
}

// shapeOf hashes a virtual host without its weights and the parts of mirrored
// requests: what a shift of traffic changes.
func shapeOf(v *routev3.VirtualHost, body []byte) uint64 {
	weights := false
	for _, r := range v.GetRoutes() {
		for _, w := range r.GetRoute().GetWeightedClusters().GetClusters() {
			w.Weight, weights = nil, true
		}
		for _, m := range r.GetRoute().GetRequestMirrorPolicies() {
			m.RuntimeFraction, weights = nil, true
		}
	}
	if !weights {
		return xxhash.Sum64(body)
	}
	return xxhash.Sum64(marshal(v))
}

// refer notes what the virtual host needs and comes from.
func (h *host) refer(r *resource.Resource, routes *policy.HTTPRoutes) {
	needs := make(map[string]struct{})
	for _, n := range r.Needs {
		needs[n] = struct{}{}
	}
	ruleClusters(needs, h.rules(routes))
	r.Needs = slices.Sorted(maps.Keys(needs))
	r.StandIn = r.StandIn || standsIn(h.rules(routes))
	var from []discovery.ObjectRef
	if routes != nil {
		from = routes.Provenance
	}
	r.Provenance = union(r.Provenance, from, h.provenance)
}

// union joins lists of objects, each object once, in the order of its first mention.
func union(lists ...[]discovery.ObjectRef) []discovery.ObjectRef {
	var out []discovery.ObjectRef
	for _, list := range lists {
		for _, ref := range list {
			if !slices.Contains(out, ref) {
				out = append(out, ref)
			}
		}
	}
	return out
}

// domains returns the Host headers that mean a port, each once: Envoy rejects
// all virtual hosts if one domain stands twice. isDefault is true for the port
// that a host without a port means.
func domains(hosts []string, port uint16, isDefault bool) []string {
	number := strconv.Itoa(int(port))
	out := make([]string, 0, 2*len(hosts))
	for _, h := range hosts {
		if a, err := netip.ParseAddr(h); err == nil {
			h = a.String()
		}
		if slices.Contains(out, net.JoinHostPort(h, number)) {
			continue
		}
		out = append(out, net.JoinHostPort(h, number))
		if !isDefault {
			continue
		}
		if strings.Contains(h, ":") {
			h = "[" + h + "]"
		}
		out = append(out, h)
	}
	return out
}

// externalHosts returns the virtual hosts of an ExternalService's HTTP ports.
// The Host header goes out as it came in: it is the name of the host.
func (c *Compiler) externalHosts(m *policy.External) []resource.Resource {
	var out []resource.Resource
	for i := range m.Ports {
		p := &m.Ports[i]
		if p.Protocol == policy.TCP || len(m.Hosts) == 0 {
			continue
		}
		h := &host{
			name: naming.ExternalHost(m.Key, p.Number), at: servicePort(p.Number), domains: domains(m.Hosts, p.Number, p.DefaultHTTP), provenance: m.Provenance,
			fallback: m.DefaultRule(p),
		}
		r := h.of(c, nil)
		r.Visible = resource.Visibility{Role: resource.Sidecar}
		out = append(out, r)
	}
	return out
}

// Mesh returns the resources that belong to no Service: the route configuration of
// HTTP listeners, whose virtual hosts come one by one (VHDS), so that a changed
// Service sends only its own; and, if the mesh allows it, the way to hosts that nobody
// has declared.
func (c *Compiler) Mesh(m *policy.Mesh) []resource.Resource {
	body := marshal(&routev3.RouteConfiguration{
		Name: naming.RouteConfig,
		Vhds: &routev3.Vhds{ConfigSource: adsSource()},
		// A route may name a cluster that is on its way; the push keeps the order.
		ValidateClusters: wrapperspb.Bool(false),
	})
	out := []resource.Resource{{
		Type: resource.Route, Name: naming.RouteConfig, Body: resource.Parts{body},
		Visible:    resource.Visibility{Role: resource.Sidecar},
		Provenance: m.Provenance,
	}}
	if m.AllowAny {
		out = append(c.anyHost(m), out...)
	}
	return out
}
