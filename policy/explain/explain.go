// Package explain answers what the mesh does with a request and why. It reads
// the mesh model by the rules of the Gateway API, independently of the compiler
// that turns the same model into Envoy's configuration. A property test
// (test/equivalence) compares the two with a real Envoy, so that the answers
// are true.
//
// It is pure: no clock, no context, no logging, no I/O.
package explain

import (
	"fmt"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/policy/resolve"
)

// Evaluate explains the handling of a request. Every result is one that a
// caller can meet, so there is no error: an unknown host is answered with 404.
func Evaluate(r catalog.Reader, req Request) *Explanation {
	req.oneHost()
	e := &evaluation{
		reader: r, req: req, services: make(map[discovery.Key]*policy.Service),
		out: &Explanation{
			From:    req.From,
			Request: Message{Method: req.Method, Host: req.Host, Path: req.Path, Headers: req.Headers},
			Envoy:   Envoy{Listener: req.From.Listener, RouteConfig: naming.RouteConfig},
		},
	}
	e.evaluate()
	return e.out
}

// evaluation is the reading of one request.
type evaluation struct {
	reader   catalog.Reader
	req      Request
	services map[discovery.Key]*policy.Service
	// secure is true for a client of a Gateway that makes TLS.
	secure bool
	// early is true for a request that is refused before the proxy has added headers of its own.
	early bool
	// found is whom a captured connection is for, nil for a request that its host decides.
	found *hostFound
	out   *Explanation
}

func (e *evaluation) evaluate() {
	if e.req.Destination != "" {
		e.out.Envoy.RouteConfig = naming.CapturedRoutes
		h, looked := e.captured()
		if !looked {
			return
		}
		e.found = &h
	}
	var read bool
	if e.out.Answer, read = e.head(true); e.out.Answer != nil {
		// The destination of a captured connection is not written down yet, so no rule is found by it.
		if read && e.found == nil && e.findsRoute() {
			e.dressAtSidecar()
		}
		return
	}
	// From here on it is the request that a proxy has received, which takes the
	// dot off that a fully qualified name may end with.
	e.req.Host = withoutDot(e.req.Host)
	h := e.found
	if h == nil {
		host := e.host()
		h = &host
	}
	e.out.VirtualHost = &h.VirtualHost
	switch {
	case e.req.Method == methodConnect && (h.port != nil || h.external != nil):
		e.out.Envoy.VirtualHost = h.envoyName
		e.out.Answer = e.answer(404, noTunnel)
	case h.port != nil:
		e.out.Envoy.VirtualHost = h.envoyName
		e.servicePort(h)
	case h.external != nil:
		e.out.Envoy.VirtualHost = h.envoyName
		e.apply(externalRule(h))
	case h.onward != "":
		e.out.Envoy.VirtualHost = h.envoyName
		e.out.Envoy.Routes, e.out.Envoy.Clusters = []string{naming.AnyRoute}, []string{naming.OriginalDestination}
		e.out.Backends = []Backend{{
			Kind: "Host", Name: h.onward, Percent: 100, Interval: Interval{0, policy.ShareTotal}, Forwarded: e.message(),
			Note: "the proxy connects to the address that the program has called, where no Service of the mesh is",
		}}
	case h.any:
		e.out.Envoy.VirtualHost = h.envoyName
		e.out.Envoy.Routes, e.out.Envoy.Clusters = []string{naming.AnyRoute}, []string{naming.AnyCluster}
		e.out.Backends = []Backend{{
			Kind: "Host", Name: e.req.Host, Percent: 100, Interval: Interval{0, policy.ShareTotal},
			Forwarded: e.message(),
			Note:      "the proxy asks the workload's own DNS resolver for the host, because the Mesh says spec.egress.mode: AllowAny",
		}}
	default:
		e.out.Answer = e.answer(404, h.Because)
	}
}

// message is the request as filters find it.
func (e *evaluation) message() Message {
	return Message{Method: e.req.Method, Host: e.req.Host, Path: e.req.Path, Headers: e.req.Headers}
}

// service returns what a Service means, read once per evaluation.
func (e *evaluation) service(k discovery.Key) *policy.Service {
	m, ok := e.services[k]
	if !ok {
		m = resolve.BuildService(e.reader, k)
		e.services[k] = m
	}
	return m
}

// servicePort evaluates a request to an HTTP port of a Service.
func (e *evaluation) servicePort(h *hostFound) {
	if h.routes == nil {
		e.apply(e.defaultRule(h))
		return
	}
	e.rules(h.routes, fmt.Sprintf("attached to port %d of Service %s", h.port.Number, h.Service))
}

// rules evaluates a request that routes are to take, which where says the place of.
func (e *evaluation) rules(routes *policy.HTTPRoutes, where string) {
	var chosen *policy.Rule
	for i := range routes.Rules {
		rule := &routes.Rules[i]
		why := mismatch(rule, &e.req)
		switch {
		case why != "":
			e.out.Unmatched = append(e.out.Unmatched, OtherRule{ruleOf(rule), why})
		case chosen == nil:
			chosen = rule
		default:
			e.out.Lost = append(e.out.Lost, OtherRule{ruleOf(rule), e.precedence(chosen, rule)})
		}
	}
	if chosen == nil {
		e.out.Answer = e.answer(404, fmt.Sprintf("none of the %d matches of the routes %s matches the request", len(routes.Rules), where))
		if len(routes.Rules) == 0 {
			e.out.Answer.Because = "there is no rule " + where
		}
		return
	}
	rule := ruleOf(chosen)
	e.out.Rule = &rule
	e.apply(chosen)
}

// defaultRule is the rule for requests to a Service without routes.
func (e *evaluation) defaultRule(h *hostFound) *policy.Rule {
	rule := e.service(h.service).DefaultRule(h.port)
	return &rule
}

// externalRule is the rule for requests to an HTTP port of an ExternalService.
func externalRule(h *hostFound) *policy.Rule {
	rule := h.external.DefaultRule(h.externalPort)
	return &rule
}

// apply says what a rule does with the request that it matches.
func (e *evaluation) apply(rule *policy.Rule) {
	out := e.out
	out.Envoy.Routes = []string{e.routeName(rule)}
	if e.refuseUpgrade() {
		e.headersOf(rule)
		return
	}
	out.Policies = policiesOfRule(rule)
	out.Timeouts = timeoutsOf(rule)
	out.Retry = e.retryOf(rule)
	out.SessionPersistence = e.persistence(rule)
	f := &rule.Filters
	// Answers that need no backend come in the order of the proxy's filters. CORS
	// is about what backends answer: it is left out where none is asked.
	if f.CORS != nil && f.Failed == "" && f.Redirect == nil && len(rule.Backends) > 0 {
		if answer := e.cors(f.CORS); answer != nil {
			out.Answer = answer
			return
		}
	}
	if answer := e.fault(rule); answer != nil {
		out.Answer = answer
		return
	}
	if f.Failed != "" {
		out.Answer = e.failed(rule, "the rule cannot be applied and must not be skipped: "+f.Failed)
		e.decorate(&f.Response)
		return
	}
	if f.Redirect != nil {
		out.Timeouts, out.Retry, out.SessionPersistence = nil, nil, nil
		status, location := e.redirect(rule, e.out.VirtualHost.Port)
		out.Answer = e.answer(status, "the rule's RequestRedirect filter")
		out.Answer.Location = location
		e.decorate(&f.Response)
		return
	}
	if len(rule.Backends) == 0 {
		out.Answer = e.failed(rule, "the rule names no backend with a weight above 0")
		e.decorate(&f.Response)
		return
	}
	e.forward(rule)
	e.decorate(&f.Response)
}

// decorate takes note of what is changed in answers.
func (e *evaluation) decorate(edits *policy.HeaderEdits) {
	if !edits.Empty() {
		v := editsOf(edits)
		e.out.ResponseHeaders = &v
	}
}

// answer is an answer of the mesh itself, in gRPC's way to those who speak it.
func (e *evaluation) answer(status int, because string) *Answer {
	a := &Answer{Status: status, Because: because}
	if isGRPC(&e.req) {
		code := grpcStatus(status)
		a.Status, a.GRPCStatus = 200, &code
	}
	return a
}

// failed answers a request whose rule cannot be followed: 500, or UNAVAILABLE
// for a rule of a GRPCRoute (spec of GRPCRouteRule.backendRefs).
func (e *evaluation) failed(rule *policy.Rule, because string) *Answer {
	if rule.GRPC {
		return e.answer(503, because)
	}
	return e.answer(500, because)
}

// grpcStatus is the status code of gRPC for an HTTP status, by gRPC's own
// table for answers that have none (doc/http-grpc-status-mapping.md).
func grpcStatus(http int) int {
	switch http {
	case 400:
		return 13 // INTERNAL
	case 401:
		return 16 // UNAUTHENTICATED
	case 403:
		return 7 // PERMISSION_DENIED
	case 404:
		return 12 // UNIMPLEMENTED
	case 429, 502, 503, 504:
		return 14 // UNAVAILABLE
	}
	return 2 // UNKNOWN
}
