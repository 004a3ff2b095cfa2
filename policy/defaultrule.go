package policy

// everyRequest matches every request.
func everyRequest() Match { return Match{Path: PathMatch{Kind: PathPrefix, Value: "/"}} }

// itself is a Service as the only backend of a port of its own.
func (s *Service) itself(p *Port) []Backend {
	b := Backend{
		Index: -1, Kind: ServiceBackend, Key: s.Key, Port: p.Number, Protocol: p.Protocol,
		Weight: 1, Share: ShareTotal, Shift: s.Shift, Reported: s.Reported,
		ClientIP: s.ClientIP, Unknown: s.Unknown, Targets: p.Targets(),
	}
	if p.Settings.Session().Value != nil {
		b = b.WithoutFailover()
	}
	return []Backend{b}
}

// DefaultRule is what holds for requests to a port where no route is attached: all of them go to the Service itself.
// It is of no route.
func (s *Service) DefaultRule(p *Port) Rule {
	return Rule{Match: everyRequest(), Backends: s.itself(p), Settings: p.Settings}
}

// DefaultTCPRule is DefaultRule for connections.
func (s *Service) DefaultTCPRule(p *Port) TCPRule {
	return TCPRule{Backends: s.itself(p), Settings: p.Settings}
}

// DefaultRule is what holds for requests to an HTTP port of an ExternalService.
func (e *External) DefaultRule(p *ExternalServicePort) Rule {
	return Rule{
		Match: everyRequest(), Settings: p.Settings,
		Backends: []Backend{{
			Index: -1, Kind: ExternalBackend, Key: e.Key, Port: p.Number, Protocol: p.Protocol,
			Weight: 1, Share: ShareTotal, Targets: []Target{{Share: ShareTotal}},
		}},
	}
}

// RoutesOf returns the listener that has a route configuration of its own on the port, "" where those of the
// port share one: only with TLS the listener is known before the host is.
func (p *GatewayPort) RoutesOf(l *GatewayListener) string {
	if p.Protocol == ListenTLS {
		return l.Name
	}
	return ""
}
