package compile

import (
	"cmp"
	"net/http"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// gatewayRoutes returns the name of the route configuration of a port, or of a listener of a port with TLS.
func gatewayRoutes(gateway discovery.Key, p *policy.GatewayPort, l *policy.GatewayListener) string {
	return naming.GatewayRoutes(gateway, p.Number, p.RoutesOf(l))
}

// ofGateway limits a resource to a Gateway's proxies.
func ofGateway(m *policy.Gateway) resource.Visibility {
	return resource.Visibility{Role: resource.Gateway, Gateway: m.Key.String()}
}

// Gateway returns the route configurations and virtual hosts of a Gateway,
// which only its proxies see, sorted by type and name.
func (c *Compiler) Gateway(m *policy.Gateway) []resource.Resource {
	var out []resource.Resource
	known := make(map[string]bool)
	for i := range m.Ports {
		p := &m.Ports[i]
		for j := range p.Listeners {
			l := &p.Listeners[j]
			if !l.IsHTTP {
				continue
			}
			name := gatewayRoutes(m.Key, p, l)
			if !known[name] {
				known[name] = true
				out = append(out, routeConfiguration(m, name))
			}
			for k := range l.Hosts {
				out = append(out, c.gatewayHost(m, p, name, &l.Hosts[k]))
			}
		}
	}
	slices.SortFunc(out, func(a, b resource.Resource) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name))
	})
	return out
}

func routeConfiguration(m *policy.Gateway, name string) resource.Resource {
	return resource.Resource{
		Type: resource.Route, Name: name, Visible: ofGateway(m), Provenance: m.Provenance,
		Body: resource.Parts{marshal(&routev3.RouteConfiguration{
			Name: name, Vhds: &routev3.Vhds{ConfigSource: adsSource()}, ValidateClusters: wrapperspb.Bool(false),
			// A request's Host may name the port; whether it does makes no difference.
			IgnorePortInHostMatching: true,
		})},
	}
}

// gatewayHost returns the virtual host of a domain.
func (c *Compiler) gatewayHost(m *policy.Gateway, p *policy.GatewayPort, route string, in *policy.GatewayHost) resource.Resource {
	at := parent{port: p.Number, scheme: "http"}
	if l := p.Settings.Limits; l != nil {
		at.bodyBytes = l.BodyBytes
	}
	if p.Protocol == policy.ListenTLS {
		at.scheme = "https"
	}
	h := &host{name: naming.GatewayHost(route, in.Domain), at: at, domains: []string{in.Domain}, provenance: m.Provenance}
	if in.Misdirected {
		return resource.Resource{
			Type: resource.VirtualHost, Name: h.name, Visible: ofGateway(m), Provenance: m.Provenance,
			Body: resource.Parts{marshal(misdirected(h))},
		}
	}
	r := h.of(c, &in.HTTPRoutes)
	r.Visible = ofGateway(m)
	return r
}

// misdirected tells a client that reuses a connection for another listener's
// name to open one for it.
func misdirected(h *host) *routev3.VirtualHost {
	return &routev3.VirtualHost{Name: h.name, Domains: h.domains, Routes: []*routev3.Route{{
		Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
		Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{
			Status: http.StatusMisdirectedRequest,
			Body: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{
				InlineString: "causeway: this connection is for another host\n",
			}},
		}},
	}}}
}
