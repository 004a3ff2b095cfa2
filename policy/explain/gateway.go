package explain

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/policy/resolve"
)

// Gateway is the part of an explanation that is about a Gateway's listeners.
type Gateway struct {
	// Name is "namespace/name".
	Name string `json:"name"`
	Port uint16 `json:"port"`
	// Scheme is http or https: what the client speaks to the Gateway.
	Scheme string `json:"scheme"`
	// ServerName is the name that the client asks for in TLS (SNI), "" for none.
	ServerName string `json:"serverName,omitempty"`
	// Listener that takes the request; nil where none does.
	Listener *Listener `json:"listener,omitempty"`
	// Others are the other listeners of the Gateway, with why they do not take it.
	Others []OtherListener `json:"others,omitempty"`
	// Client has the trusted claims about the client; nil where no request is looked
	// at.
	Client *Client `json:"client,omitempty"`
	// Policies are the sections of GatewayPolicies that are effective for the port.
	Policies []Policy `json:"policies,omitempty"`
}

// Listener is one listener of a Gateway.
type Listener struct {
	Name string `json:"name"`
	Port uint16 `json:"port"`
	// Protocol is HTTP, HTTPS, TLS or TCP.
	Protocol string `json:"protocol"`
	// Hostname is "" for any.
	Hostname string `json:"hostname,omitempty"`
	// Clients says what certificate clients have to show, "" for none.
	Clients string `json:"clients,omitempty"`
	Because string `json:"because"`
}

// OtherListener is a listener that is not the one.
type OtherListener struct {
	Listener
	// Matches is true for one that would take the request if there were no better one.
	Matches bool `json:"matches"`
}

// Client is what the backend hears of who asks.
type Client struct {
	// Peer is the address that the Gateway is called from, or what the PROXY protocol says it is.
	Peer string `json:"peer"`
	// TrustedHops is how many entries of X-Forwarded-For were written by what stands in front.
	TrustedHops uint32 `json:"trustedHops"`
	// Address is taken for the client's, in the access log and wherever addresses count.
	Address string `json:"address"`
	// ForwardedFor and ForwardedProto are what the backend gets as X-Forwarded-For and X-Forwarded-Proto.
	ForwardedFor   string `json:"forwardedFor"`
	ForwardedProto string `json:"forwardedProto"`
	Because        string `json:"because"`
}

// EvaluateGateway explains the handling of a request from outside at a Gateway.
// It returns nil if there is no such Gateway; the caller reports that.
func EvaluateGateway(r catalog.Reader, req GatewayRequest) *Explanation {
	m := resolve.BuildGateway(r, req.Gateway)
	if m == nil {
		return nil
	}
	return evaluateGateway(r, m, req)
}

func evaluateGateway(r catalog.Reader, m *policy.Gateway, req GatewayRequest) *Explanation {
	req.oneHost()
	e := &evaluation{
		reader: r, req: req.Request, services: make(map[discovery.Key]*policy.Service), secure: req.Secure,
		out: &Explanation{
			From:    req.From,
			Request: Message{Method: req.Method, Host: req.Host, Path: req.Path, Headers: req.Headers},
			Gateway: &Gateway{Name: m.Key.String(), Port: req.Port, Scheme: schemeOf(req.Secure), ServerName: req.ServerName},
		},
	}
	e.gateway(m, &req)
	return e.out
}

func schemeOf(secure bool) string {
	if secure {
		return "https"
	}
	return "http"
}

// gateway finds the port, then the listener, and goes on with what it does.
func (e *evaluation) gateway(m *policy.Gateway, req *GatewayRequest) {
	var port *policy.GatewayPort
	var numbers []string
	for i := range m.Ports {
		if p := &m.Ports[i]; p.Number == req.Port {
			port = p
		} else {
			e.otherPort(p)
		}
		numbers = append(numbers, fmt.Sprint(m.Ports[i].Number))
	}
	if port == nil {
		ports := strings.Join(numbers, ", ")
		if ports == "" {
			ports = "none"
		}
		e.out.Answer = closed("Gateway %s has no valid listener on port %d (its ports: %s)", m.Key, req.Port, ports)
		return
	}
	e.out.Gateway.Policies = gatewayPolicies(&port.Settings)
	if from := port.Settings.AllowedFrom(); len(from) > 0 && req.Client.IsValid() && !port.Settings.PROXY() &&
		!slices.ContainsFunc(from, func(p netip.Prefix) bool { return p.Contains(req.Client.Unmap()) }) {
		e.out.Answer = closed("%s is in none of the ranges that the last hop of spec.inFront connects from", req.Client)
		return
	}
	switch port.Protocol {
	case policy.ListenHTTP:
		if req.Secure {
			e.out.Answer = closed("port %d speaks HTTP without TLS: ask for http://", req.Port)
			return
		}
		e.requestAt(m, port, nil, req)
	case policy.ListenTLS:
		if !req.Secure {
			e.out.Answer = closed("port %d speaks TLS: ask for https://", req.Port)
			return
		}
		if l := e.listener(port, req.ServerName, "the server name"); l == nil {
			e.out.Answer = closed("no listener of port %d has the server name %q", req.Port, req.ServerName)
		} else if l.IsHTTP {
			e.requestAt(m, port, l, req)
		} else {
			e.connection(m, l)
		}
	case policy.ListenTCP:
		e.connection(m, e.listener(port, "", "the port"))
	}
}

// closed is the end of a connection without any answer.
func closed(format string, args ...any) *Answer {
	return &Answer{Because: fmt.Sprintf(format, args...)}
}

func gatewayPolicies(s *policy.GatewaySettings) []Policy {
	sections := map[string]any{
		"inFront": s.InFront, "timeout": s.Timeout, "limits": s.Limits, "tls": s.TLS, "healthCheck": s.HealthCheck,
	}
	var out []Policy
	for _, name := range slices.Sorted(maps.Keys(s.From)) {
		out = append(out, Policy{Section: name, From: s.From[name].String(), Value: sections[name]})
	}
	return out
}

func listenerProtocol(p *policy.GatewayPort, l *policy.GatewayListener) string {
	switch {
	case p.Protocol == policy.ListenHTTP:
		return "HTTP"
	case p.Protocol == policy.ListenTCP:
		return "TCP"
	case l.IsHTTP:
		return "HTTPS"
	}
	return "TLS"
}

func listenerOf(p *policy.GatewayPort, l *policy.GatewayListener, because string) Listener {
	out := Listener{Name: l.Name, Port: p.Number, Protocol: listenerProtocol(p, l), Hostname: l.Hostname, Because: because}
	switch {
	case l.Clients == nil:
	case l.Clients.Optional:
		out.Clients = "clients are asked for a certificate, and let in whatever they show"
	default:
		out.Clients = "clients without a valid certificate are refused"
	}
	return out
}

func (e *evaluation) otherPort(p *policy.GatewayPort) {
	for i := range p.Listeners {
		because := fmt.Sprintf("it is on port %d", p.Number)
		e.out.Gateway.Others = append(e.out.Gateway.Others, OtherListener{Listener: listenerOf(p, &p.Listeners[i], because)})
	}
}

// listener chooses among those of a port by a name, which what says the kind
// of: the most specific host name that the name fits, nil for none.
func (e *evaluation) listener(p *policy.GatewayPort, name, what string) *policy.GatewayListener {
	chosen := bestListener(p, name)
	for i := range p.Listeners {
		l := &p.Listeners[i]
		switch {
		case l == chosen:
			v := listenerOf(p, l, what+" chooses it")
			if l.Hostname != "" {
				v.Because = fmt.Sprintf("%s %s fits its host name %s", what, name, l.Hostname)
			} else if p.Protocol != policy.ListenTCP {
				v.Because = "it takes any name that no more specific listener takes"
			}
			e.out.Gateway.Listener = &v
		case fits(l.Hostname, name):
			e.out.Gateway.Others = append(e.out.Gateway.Others, OtherListener{Matches: true, Listener: listenerOf(p, l,
				fmt.Sprintf("%s is more specific than %s", hostnameText(chosen.Hostname), hostnameText(l.Hostname)))})
		default:
			e.out.Gateway.Others = append(e.out.Gateway.Others, OtherListener{Listener: listenerOf(p, l,
				fmt.Sprintf("%s %q does not fit %s", what, name, l.Hostname))})
		}
	}
	return chosen
}

func bestListener(p *policy.GatewayPort, name string) *policy.GatewayListener {
	var chosen *policy.GatewayListener
	for i := range p.Listeners {
		if l := &p.Listeners[i]; fits(l.Hostname, name) && (chosen == nil || moreSpecific(l.Hostname, chosen.Hostname)) {
			chosen = l
		}
	}
	return chosen
}

func hostnameText(s string) string {
	if s == "" {
		return "any name"
	}
	return s
}

// fits reports whether a name in lower case is what a host name of the Gateway
// API stands for: a wildcard is for one or more labels.
func fits(hostname, name string) bool {
	if hostname == "" || hostname == "*" {
		return true
	}
	if suffix, ok := strings.CutPrefix(hostname, "*"); ok {
		return len(name) > len(suffix) && strings.HasSuffix(name, suffix)
	}
	return hostname == name
}

// moreSpecific reports whether host name a comes before b if both match a name:
// exact names first, then wildcards by length, then any.
func moreSpecific(a, b string) bool {
	rank := func(s string) int {
		switch {
		case s == "" || s == "*":
			return 0
		case strings.HasPrefix(s, "*"):
			return 1
		}
		return 2
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(len(a), len(b))) > 0
}

// requestAt evaluates an HTTP request at a port, or at the listener that its
// server name has chosen.
func (e *evaluation) requestAt(m *policy.Gateway, p *policy.GatewayPort, l *policy.GatewayListener, req *GatewayRequest) {
	var read bool
	if e.out.Answer, read = e.head(p.Settings.SpeaksHTTP10()); e.out.Answer != nil || !e.admit() {
		if read && e.findsRoute() {
			e.dress(p, l)
		}
		return
	}
	e.req.Host = withoutDot(e.req.Host)
	name, _ := splitHost(strings.ToLower(e.req.Host))
	e.client(&p.Settings, req)
	if l == nil {
		if l = e.listener(p, name, "the host"); l == nil {
			e.out.Envoy.RouteConfig = naming.GatewayRoutes(m.Key, p.Number, "")
			e.out.Answer = e.answer(404, fmt.Sprintf("no listener of port %d has the host %q", p.Number, name))
			return
		}
	}
	e.out.Envoy.RouteConfig = naming.GatewayRoutes(m.Key, p.Number, p.RoutesOf(l))
	for _, c := range l.Certificates {
		e.out.Envoy.Certificates = append(e.out.Envoy.Certificates, naming.Certificate(m.Key, c))
	}
	if h := p.Settings.HealthCheck; h != nil && e.req.Path == h.Path {
		e.out.Answer = e.answer(200, "the gateway answers health checks at "+h.Path+" itself (503 while it drains)")
		return
	}
	host := hostOf(l, name)
	if host == nil {
		e.out.Answer = e.answer(404, fmt.Sprintf("listener %s has nothing for the host %q", l.Name, name))
		return
	}
	e.out.VirtualHost = &VirtualHost{
		Host: host.Domain, Port: p.Number, Routes: "gateway",
		Because: fmt.Sprintf("%s is the most specific name of listener %s for %s", hostnameText(host.Domain), l.Name, name),
	}
	if host.Domain == "*" {
		e.out.VirtualHost.Because = fmt.Sprintf("listener %s takes any host", l.Name)
	}
	e.out.Envoy.VirtualHost = naming.GatewayHost(e.out.Envoy.RouteConfig, host.Domain)
	if e.req.Method == methodConnect {
		e.out.Answer = e.answer(404, noTunnel)
		return
	}
	if host.Misdirected {
		if e.refuseUpgrade() {
			return
		}
		e.out.Answer = e.answer(421, fmt.Sprintf(
			"%s is a name of another listener of the port, and the connection was made with the server name %q: the client is told to open another one",
			name, req.ServerName))
		return
	}
	e.rules(&host.HTTPRoutes, fmt.Sprintf("for %s at listener %s of Gateway %s", host.Domain, l.Name, m.Key))
}

// hostsBeside returns how many hosts the route configuration of a listener knows.
func hostsBeside(p *policy.GatewayPort, l *policy.GatewayListener) int {
	if p.Protocol != policy.ListenHTTP {
		return len(l.Hosts)
	}
	hosts := 0
	for i := range p.Listeners { // they share it
		hosts += len(p.Listeners[i].Hosts)
	}
	return hosts
}

// hostOf returns the host of a listener for a name in lower case, nil if no route has
// it.
func hostOf(l *policy.GatewayListener, name string) *policy.GatewayHost {
	var host *policy.GatewayHost
	for i := range l.Hosts {
		if h := &l.Hosts[i]; fits(h.Domain, name) && (host == nil || moreSpecific(h.Domain, host.Domain)) {
			host = h
		}
	}
	return host
}

// dress is dressBy for what an edge proxy refuses.
func (e *evaluation) dress(p *policy.GatewayPort, l *policy.GatewayListener) {
	name, _ := splitHost(strings.ToLower(e.req.Host))
	if l == nil {
		l = bestListener(p, name)
	}
	if l == nil {
		return
	}
	host := hostOf(l, name)
	if e.req.NoHost && hostsBeside(p, l) > 1 {
		return // the proxy looks for none where it knows of any other host than all of them
	}
	if host == nil || host.Misdirected {
		return
	}
	e.dressBy(host.Rules)
}

// connection evaluates a connection whose bytes are passed on.
func (e *evaluation) connection(m *policy.Gateway, l *policy.GatewayListener) {
	name := e.out.Gateway.ServerName
	var chosen *policy.TCPRule
	domain := ""
	for i := range l.TCP {
		rule := &l.TCP[i]
		if len(rule.ServerNames) == 0 && chosen == nil {
			chosen = rule
		}
		for _, s := range rule.ServerNames {
			if fits(s, name) && (chosen == nil || moreSpecific(s, domain)) {
				chosen, domain = rule, s
			}
		}
	}
	if chosen == nil {
		e.out.Answer = closed("no rule of a route at listener %s of Gateway %s takes the connection", l.Name, m.Key)
		return
	}
	for _, c := range l.Certificates {
		e.out.Envoy.Certificates = append(e.out.Envoy.Certificates, naming.Certificate(m.Key, c))
	}
	text := "every connection"
	if len(chosen.ServerNames) > 0 {
		text = "server name " + strings.Join(chosen.ServerNames, ", ")
	}
	e.out.Rule = &Rule{
		Route: chosen.Route, Kind: chosen.Route.Kind, Namespace: chosen.Route.Namespace, Object: chosen.Route.Name,
		Generation: chosen.Route.Generation, Index: chosen.Index, Name: chosen.Name, Text: text,
	}
	e.out.Policies = policiesOf(&chosen.Settings)
	e.forward(&policy.Rule{
		Route: chosen.Route, Index: chosen.Index, Name: chosen.Name, Settings: chosen.Settings, Backends: chosen.Backends,
		Match: policy.Match{Path: policy.PathMatch{Kind: policy.PathPrefix, Value: "/"}},
	})
	if len(chosen.Backends) == 0 {
		e.out.Answer = closed("the rule names no backend with a weight above 0")
	}
	// Nobody can answer with a status in the middle of a connection.
	end := func(a *Answer) {
		if a != nil {
			a.Status, a.GRPCStatus = 0, nil
		}
	}
	end(e.out.Answer)
	for i := range e.out.Backends {
		end(e.out.Backends[i].Answer)
		for j := range e.out.Backends[i].Targets {
			end(e.out.Backends[i].Targets[j].Answer)
		}
	}
}
