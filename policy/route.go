package policy

import (
	"cmp"
	"slices"
	"time"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
)

// HTTPRoutes is what the HTTPRoutes and GRPCRoutes that are attached to a port
// make of it.
type HTTPRoutes struct {
	// Rules in the order of precedence: the first that matches a request is the
	// one. Each has one match: a rule of a route with several matches stands
	// here several times. A request that none matches is answered 404.
	Rules []Rule
	// Provenance lists the objects that the rules come from: routes, grants, policies, backends.
	Provenance []discovery.ObjectRef
}

// Rule is one match of one rule of a route, and what happens to requests that it matches.
type Rule struct {
	// Route is the HTTPRoute or GRPCRoute, and Index and MatchIndex the
	// positions in its spec.rules and in that rule's matches; MatchIndex is 0 where the
	// rule states none.
	Route             discovery.ObjectRef
	Index, MatchIndex int
	// Name of the rule, "" if it has none.
	Name string
	// GRPC is true for a rule of a GRPCRoute: errors are answered in gRPC's way.
	GRPC bool
	// Preflight is true for what the rule adds for the sake of its CORS filter:
	// browsers' requests for leave, which its own match does not take.
	Preflight bool
	Match     Match
	// Filters of the rule; those of a backend stand with it.
	Filters Filters
	// Backends in the order of the rule's backendRefs, those with weight 0 left out. With none, and no
	// redirect, requests are answered 500 (spec of HTTPRouteRule.backendRefs).
	Backends []Backend
	// Own has the settings of the rule itself. Timeouts, Retry and Session return those in
	// force.
	Own RuleSettings
	// Settings of the TrafficPolicies that are effective for the rule.
	Settings Settings
}

// RuleSettings are what a rule of a route states itself, nil for nothing.
type RuleSettings struct {
	Request, BackendRequest *time.Duration
	Retry                   *RouteRetry
	Session                 *gatewayv1.SessionPersistence
}

// PathKind is how a path is compared.
type PathKind uint8

// Prefixes are compared by whole elements: /a matches /a and /a/b but not /ab.
const (
	PathPrefix PathKind = iota
	PathExact
	PathRegex
)

// Match is what a request must be like. All of it must hold.
type Match struct {
	Path PathMatch
	// Method, "" for any.
	Method string
	// Headers and Query sorted by name; header names in lower case, each once.
	Headers, Query []ValueMatch
}

// PathMatch compares a path without its query string. The zero value must not be used: the
// path that everything matches is the prefix "/".
type PathMatch struct {
	Kind PathKind
	// Value of a prefix has no slash at its end, except for "/".
	Value string
}

// ValueMatch compares the value of a header or of a query parameter.
type ValueMatch struct {
	Name string
	// Regex is true for RE2, of the whole value; else it is the value itself.
	Regex bool
	Value string
}

// Header is a header's name and value.
type Header struct{ Name, Value string }

// HeaderEdits change headers: Set overwrites, Add appends, Remove removes.
type HeaderEdits struct {
	Set, Add []Header
	Remove   []string
}

// Empty reports whether nothing is changed.
func (e *HeaderEdits) Empty() bool { return len(e.Set)+len(e.Add)+len(e.Remove) == 0 }

// PathEdit replaces a path, or that part of it that a prefix match matched.
type PathEdit struct {
	// Prefix is true to replace the matched prefix only.
	Prefix bool
	Value  string
}

// PathEdit returns what becomes of the path of a request that the rule sends to a backend, nil for nothing. A backend's own
// edit counts instead of the rule's.
func (r *Rule) PathEdit(b *Backend) *PathEdit { return cmp.Or(b.Filters.Path, r.Filters.Path) }

// OnePath reports whether all backends of the rule want the same path. If they do not, a proxy has a route for each path. It
// draws the route for each request, before it looks at the key of a cohort.
func (r *Rule) OnePath() bool {
	for i := range r.Backends {
		if !r.PathEdit(&r.Backends[0]).Same(r.PathEdit(&r.Backends[i])) {
			return false
		}
	}
	return true
}

// Same reports whether two edits, nil for none, make the same of each path.
func (e *PathEdit) Same(other *PathEdit) bool {
	return e == other || e != nil && other != nil && *e == *other
}

// Redirect answers with another location. Empty fields are as in the request.
type Redirect struct {
	Scheme, Host string
	Path         *PathEdit
	// Port is 0 where none is stated: the well-known one of Scheme if that
	// is stated, else the request's own.
	Port uint16
	// Status is 301, 302, 303, 307 or 308.
	Status uint16
}

// Mirror sends a copy of requests to another backend and drops the answer.
type Mirror struct {
	To Backend
	// Numerator of Denominator requests are copied.
	Numerator, Denominator uint32
}

// CORS answers preflight requests and marks answers (Fetch standard). Lists are
// as in the route; "*" stands for any.
type CORS struct {
	AllowOrigins, AllowMethods, AllowHeaders, ExposeHeaders []string
	AllowCredentials                                        bool
	// MaxAge in seconds.
	MaxAge int32
}

// Filters change requests and answers.
type Filters struct {
	Request, Response HeaderEdits
	Redirect          *Redirect
	// Host replaces the Host header, "" leaves it.
	Host string
	// Path is what becomes of the path, nil for nothing. A backend's own counts instead of its rule's.
	Path    *PathEdit
	Mirrors []Mirror
	CORS    *CORS
	// Failed is why requests of the rule must be answered 500: what cannot be
	// applied must not be skipped (spec of HTTPRouteFilter).
	Failed string
}

// BackendKind is what a backendRef names.
type BackendKind uint8

// The kinds of backends. A reference to a missing object, without a grant, or to an object that
// cannot be a backend is an InvalidBackend: its part of the requests is answered with 500.
const (
	InvalidBackend BackendKind = iota
	ServiceBackend
	InstanceGroupBackend
	ExternalBackend
)

// Backend is where a part of the requests goes.
type Backend struct {
	// Index in the rule's backendRefs, -1 for the default backend of a Service without routes.
	Index int
	Kind  BackendKind
	// Key and Port of the Service or ExternalService; for an InstanceGroup those of the
	// Service that it backs, whose port it is, and Group its name.
	discovery.Key
	Port     uint16
	Group    string
	Protocol Protocol
	// Weight as in the backendRef, at least 1.
	Weight uint32
	// Share is the backend's fixed part of the requests in millionths: the
	// backends of a rule own consecutive intervals of ShareTotal, computed from
	// their weights before any TrafficShift.
	Share uint32
	// Targets are the Service's backings, in their order, with their parts of Share: they sum to it. For
	// other kinds there is one, whose name means nothing.
	Targets []Target
	// Shift of the Service, nil for other kinds and where none is under way.
	Shift *Shift
	// Reported is Service.Reported, false for other kinds.
	Reported bool
	// ClientIP is Service.ClientIP, of an InstanceGroup's Service too.
	ClientIP bool
	// Unknown is Service.Unknown: the parts of Targets are a guess. "" for other kinds.
	Unknown string
	// Filters of the backendRef: header edits, and what else its kind allows.
	Filters Filters
	// Reason says why an InvalidBackend is one.
	Reason string
}

// FailsOver reports whether a backing of the backend hands its requests to others while it has no usable endpoint.
func (b *Backend) FailsOver() bool {
	return slices.ContainsFunc(b.Targets, func(t Target) bool { return len(t.Failover) > 0 })
}

// WithoutFailover returns the backend with each of its backings on its own.
func (b Backend) WithoutFailover() Backend { //nolint:gocritic // it is a copy that is wanted
	b.Targets = slices.Clone(b.Targets)
	for i := range b.Targets {
		b.Targets[i].Failover = nil
	}
	return b
}

// Targets returns the backings of a port with all of its requests.
func (p *Port) Targets() []Target {
	out := make([]Target, len(p.Backings))
	for i := range p.Backings {
		b := &p.Backings[i]
		out[i] = Target{Platform: b.Platform, Share: p.Shares[i], Failover: b.Failover}
	}
	return out
}

// Target is a backing that gets a part of the requests.
type Target struct {
	Platform discovery.BackingName
	// Share in millionths of the rule's requests; 0 is legal.
	Share uint32
	// Failover is Backing.Failover. It is empty where a rule keeps sessions, which are at endpoints of one backing.
	Failover []discovery.BackingName
}

// TCPRoutes is what the TCPRoutes or TLSRoutes that are attached to a port make of it.
type TCPRoutes struct {
	// Rules in the order of precedence. A rule with no names takes every
	// connection. A connection that no rule takes is closed.
	Rules      []TCPRule
	Provenance []discovery.ObjectRef
}

// TCPRule says where connections go.
type TCPRule struct {
	Route discovery.ObjectRef
	Index int
	Name  string
	// ServerNames are what the client must ask for (TLS SNI), for a TLSRoute:
	// exact names, or "*.example.com" for one or more labels before it. Empty for a TCPRoute.
	ServerNames []string
	// Backends in order, those with weight 0 left out. A connection that falls to an invalid one, or to none, is closed.
	Backends []Backend
	Settings Settings
}
