package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/policy/resolve"
	"github.com/causeway-mesh/causeway/policy/upstream"
)

// hostFound is who a host means, with the model's part of it.
type hostFound struct {
	VirtualHost

	service discovery.Key
	port    *policy.Port
	// routes that hold for the caller, nil for none.
	routes *policy.HTTPRoutes

	external     *policy.External
	externalPort *policy.ExternalServicePort

	any bool
	// onward is where a captured connection goes on to that is for no Service, "" for the host of the request.
	onward    string
	envoyName string
}

// host finds the object that the request's host names. Names are compared
// without regard to case (RFC 9110, section 4.2.3), ports as they are written.
func (e *evaluation) host() hostFound {
	name, port := splitHost(strings.ToLower(e.req.Host))
	if a, err := netip.ParseAddr(name); err == nil {
		if found, ok := e.byAddress(a, name, port); ok {
			return found
		}
		return e.unknown(fmt.Sprintf("no Service has the address %s", name))
	}
	key, short := e.named(name)
	if key.Name != "" {
		if _, ok := catalog.Services.Get(e.reader, key.String()); ok {
			why := fmt.Sprintf("%s names Service %s", name, key)
			if short {
				why = fmt.Sprintf("%s names the Service of the caller's own namespace", name)
			}
			return e.servicePortNamed(key, port, short, why)
		}
	}
	for o := range catalog.Objects.By(e.reader, catalog.ByHost, name) {
		if x := upstream.BuildExternal(e.reader, o.Key); x != nil && slices.Contains(x.Hosts, name) {
			return e.externalPortNamed(x, name, port)
		}
	}
	if short {
		return e.unknown(fmt.Sprintf("namespace %s has no Service %s: a name without a namespace means the caller's own", e.req.From.Namespace, name) + e.hostMeant(name, key))
	}
	return e.unknown(fmt.Sprintf("no Service and no ExternalService answers to %s", name) + e.hostMeant(name, key))
}

// named returns the Service that a name can be one of, and whether it is a short name of the caller's own namespace.
func (e *evaluation) named(name string) (key discovery.Key, short bool) {
	labels := strings.Split(name, ".")
	switch {
	case len(labels) == 1:
		return discovery.Key{Namespace: e.req.From.Namespace, Name: name}, true
	case len(labels) == 2, strings.Join(labels[2:], ".") == "svc", strings.Join(labels[2:], ".") == policy.ClusterDomain:
		return discovery.Key{Namespace: labels[1], Name: labels[0]}, false
	}
	return discovery.Key{}, false
}

// hostMeant asks whether another host was meant by a name that nobody answers to: one of a
// Service, which key is if the name can be a Service's, or else one of an ExternalService.
func (e *evaluation) hostMeant(name string, key discovery.Key) string {
	near := ""
	if key.Name != "" {
		if k := discovery.Meant(key, catalog.Keys(e.reader, discovery.KindService)); k.Name != "" {
			near = k.Name + "." + k.Namespace
		}
	}
	if near == "" {
		var hosts []string
		for _, k := range catalog.Keys(e.reader, discovery.KindExternalService) {
			if x := upstream.BuildExternal(e.reader, k); x != nil {
				hosts = append(hosts, x.Hosts...)
			}
		}
		slices.Sort(hosts)
		near = discovery.Misspelt(name, hosts)
	}
	if near == "" {
		return ""
	}
	return ": did you mean " + near + "?"
}

// splitHost takes a Host header apart: the name, without the brackets of an
// IPv6 address, and the port with its colon, "" for none.
func splitHost(host string) (name, port string) {
	name = host
	if i := strings.LastIndexByte(host, ':'); i >= 0 && i > strings.LastIndexByte(host, ']') {
		name, port = host[:i], host[i:]
	}
	if strings.HasPrefix(name, "[") && strings.HasSuffix(name, "]") {
		name = name[1 : len(name)-1]
	}
	return name, port
}

// withoutDot returns a host without the dot at the end of its name. Envoy looks at the
// last dot alone, and takes it away at the end or before a colon: of several
// hosts that were joined only the last one loses its dot.
func withoutDot(host string) string {
	i := strings.LastIndexByte(host, '.')
	if i >= 0 && (i == len(host)-1 || host[i+1] == ':') {
		return host[:i] + host[i+1:]
	}
	return host
}

// portMeant reports whether a Host header's port, with its colon, means a port.
func portMeant(text string, number uint16, isDefault bool) bool {
	return text == ":"+strconv.Itoa(int(number)) || (text == "" && isDefault)
}

// byAddress finds the Service with an address as its cluster IP. If two
// Services have it, the older one wins.
func (e *evaluation) byAddress(a netip.Addr, text, port string) (hostFound, bool) {
	if a.String() != text {
		return hostFound{}, false // another spelling than the one that proxies know
	}
	for s := range catalog.Services.By(e.reader, catalog.ByAddress, text) {
		if m := e.service(s.Key); m != nil && slices.Contains(m.ClusterIPs, text) {
			return e.servicePortNamed(s.Key, port, false, fmt.Sprintf("%s is a cluster IP of Service %s", text, s.Key)), true
		}
	}
	return hostFound{}, false
}

func (e *evaluation) servicePortNamed(key discovery.Key, port string, short bool, why string) hostFound {
	m := e.service(key)
	if m == nil {
		return e.unknown(fmt.Sprintf("%s, which has no TCP port that the mesh could carry", why))
	}
	var others []string
	for i := range m.Ports {
		p := &m.Ports[i]
		if !portMeant(port, p.Number, p.DefaultHTTP) {
			others = append(others, strconv.Itoa(int(p.Number)))
			continue
		}
		if p.Protocol == policy.TCP {
			return e.unknown(fmt.Sprintf("%s, whose port %d is not HTTP: callers reach it by a TCP listener of their proxy", why, p.Number))
		}
		out := hostFound{
			VirtualHost: VirtualHost{Service: key.String(), Port: p.Number, Protocol: ProtocolText(p.Protocol), Because: why},
			service:     key, port: p,
			envoyName: naming.Host(key, p.Number),
		}
		if short {
			out.envoyName = naming.ShortHost(key, p.Number)
		}
		if port == "" {
			out.Because += fmt.Sprintf("; without a port it means port %d", p.Number)
		}
		out.routes, out.Routes = p.HTTP, "producer"
		if consumer, ok := p.ConsumerHTTP[e.req.From.Namespace]; ok && e.req.From.Namespace != key.Namespace {
			out.routes, out.Routes = consumer, "consumer"
			out.Because += fmt.Sprintf("; namespace %s has routes of its own for it, which hold there instead of those of namespace %s",
				e.req.From.Namespace, key.Namespace)
		}
		if out.routes == nil {
			out.Routes = "default"
		}
		return out
	}
	if port == "" {
		return e.unknown(fmt.Sprintf("%s, which has no HTTP port (its ports: %s)", why, strings.Join(others, ", ")))
	}
	return e.unknown(fmt.Sprintf("%s, which has no port %s (its ports: %s)", why, port[1:], strings.Join(others, ", ")))
}

func (e *evaluation) externalPortNamed(x *policy.External, name, port string) hostFound {
	why := fmt.Sprintf("%s is a host of ExternalService %s", name, x.Key)
	var others []string
	for i := range x.Ports {
		p := &x.Ports[i]
		if !portMeant(port, p.Number, p.DefaultHTTP) {
			others = append(others, strconv.Itoa(int(p.Number)))
			continue
		}
		if p.Protocol == policy.TCP {
			return e.unknown(fmt.Sprintf("%s, whose port %d is not HTTP: callers reach it by a TCP listener of their proxy", why, p.Number))
		}
		return hostFound{
			VirtualHost: VirtualHost{
				ExternalService: x.Key.String(), Port: p.Number, Protocol: ProtocolText(p.Protocol), Routes: "default", Because: why,
			},
			external: x, externalPort: p,
			envoyName: naming.ExternalHost(x.Key, p.Number),
		}
	}
	return e.unknown(fmt.Sprintf("%s, which has no HTTP port for it (its ports: %s)", why, strings.Join(others, ", ")))
}

// unknown is a host that nobody has, which is let out only where the Mesh says so.
func (e *evaluation) unknown(why string) hostFound {
	if resolve.BuildMesh(e.reader).AllowAny {
		return hostFound{
			VirtualHost: VirtualHost{Routes: "default", Because: why + "; the Mesh lets requests to unknown hosts out (spec.egress.mode: AllowAny)"},
			any:         true, envoyName: naming.AnyHost,
		}
	}
	return hostFound{VirtualHost: VirtualHost{Because: why}}
}

// ProtocolText is a protocol as it is told.
func ProtocolText(p policy.Protocol) string {
	switch p {
	case policy.HTTP1:
		return "HTTP/1.1"
	case policy.HTTP2:
		return "HTTP/2"
	case policy.Negotiated:
		return "HTTP/2 or HTTP/1.1 in TLS"
	case policy.TCP:
	}
	return "TCP"
}
