package explain

import (
	"slices"
	"strconv"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/phrase"
)

// Explanation is the handling of a request. A field that does not apply is left
// out.
type Explanation struct {
	From    Workload `json:"from"`
	Request Message  `json:"request"`
	// Gateway that the request comes in at, nil for a request of a workload.
	Gateway *Gateway `json:"gateway,omitempty"`
	// VirtualHost is who the request's host means.
	VirtualHost *VirtualHost `json:"virtualHost,omitempty"`
	// Rule is the match of the rule that the request takes; absent for the
	// default of a target without routes.
	Rule *Rule `json:"rule,omitempty"`
	// Lost are the matches that hold too but come after Rule, and Unmatched those that do not hold, with the
	// first reason; both in the order of precedence.
	Lost      []OtherRule `json:"lost,omitempty"`
	Unmatched []OtherRule `json:"unmatched,omitempty"`
	// Answer is the mesh's own: no backend sees the request.
	Answer *Answer `json:"answer,omitempty"`
	// Fault is the effect of the fault section in force on a part of the
	// requests.
	Fault *Fault `json:"fault,omitempty"`
	// Backends that the request may go to, in the order of their intervals.
	Backends []Backend `json:"backends,omitempty"`
	// Cohort has the side of the request while the traffic of a backend is shifted.
	Cohort *Cohort `json:"cohort,omitempty"`
	// Mirrors get copies of the request.
	Mirrors []Mirror `json:"mirrors,omitempty"`
	// ResponseHeaders are the rule's changes of answers; those of a backend's own filters are with the
	// backend.
	ResponseHeaders *HeaderEdits `json:"responseHeaders,omitempty"`
	CORS            *CORS        `json:"cors,omitempty"`
	// Timeouts and Retry that are effective for the request.
	Timeouts           []Setting `json:"timeouts,omitempty"`
	Retry              *Retry    `json:"retry,omitempty"`
	SessionPersistence *Setting  `json:"sessionPersistence,omitempty"`
	// Policies are the sections that are effective for the rule, by name. Those of clusters stand with the targets.
	Policies []Policy `json:"policies,omitempty"`
	// Envoy names what the proxy has for all this.
	Envoy Envoy `json:"envoy"`
}

// Message is a request's head.
type Message struct {
	Method  string   `json:"method"`
	Host    string   `json:"host"`
	Path    string   `json:"path"`
	Headers []Header `json:"headers,omitempty"`
}

// VirtualHost is who a host means.
type VirtualHost struct {
	// Service or ExternalService is "namespace/name"; both are empty for a host that nobody has.
	Service         string `json:"service,omitempty"`
	ExternalService string `json:"externalService,omitempty"`
	// Host is the name that a listener of a Gateway has routes for, with a wildcard where they have one; "*" for any.
	Host     string `json:"host,omitempty"`
	Port     uint16 `json:"port,omitempty"`
	Protocol string `json:"protocol,omitempty"`
	// Routes tells whose routes are in force: producer (of the Service's namespace),
	// consumer (of the caller's), gateway for those at a listener, or default for none.
	Routes string `json:"routes,omitempty"`
	// Because says why it is this one, or none.
	Because string `json:"because"`
}

// Rule names one match of one rule of a route.
type Rule struct {
	Route      discovery.ObjectRef `json:"-"`
	Kind       string              `json:"kind"`
	Namespace  string              `json:"namespace"`
	Object     string              `json:"object"`
	Generation int64               `json:"generation"`
	// Index of the rule in spec.rules, and Match in its matches.
	Index int `json:"index"`
	Match int `json:"match"`
	// Name of the rule, "" if it has none.
	Name string `json:"name,omitempty"`
	// Text says in words what the match demands.
	Text string `json:"text"`
}

// String returns the rule as a path into its object: "HTTPRoute web/shop rules[1].matches[0]".
func (r *Rule) String() string {
	s := r.Kind + " " + r.Namespace + "/" + r.Object + " rules[" + strconv.Itoa(r.Index) + "].matches[" + strconv.Itoa(r.Match) + "]"
	if r.Name != "" {
		s += " (" + r.Name + ")"
	}
	return s
}

// OtherRule is a match that is not the one.
type OtherRule struct {
	Rule
	Because string `json:"because"`
}

// Answer is what the mesh itself answers.
type Answer struct {
	// Status is 0 where the connection is closed without an answer.
	Status int `json:"status"`
	// GRPCStatus is the code that a caller who speaks gRPC gets.
	GRPCStatus *int   `json:"grpcStatus,omitempty"`
	Location   string `json:"location,omitempty"`
	Because    string `json:"because"`
	// HeadersOf names the rule whose filters change the answer's headers although it does not take
	// the request: "namespace/route rule 0". It is "" for the rule that does.
	HeadersOf string `json:"headersOf,omitempty"`
	// BackendHeaders are the changes of the answer by the filters of that rule's backends, empty
	// for a backend without any. One of them counts, by chance.
	BackendHeaders []HeaderEdits `json:"backendHeaders,omitempty"`
}

// Error reports whether the answer is a failure to the caller.
func (a *Answer) Error() bool {
	return a.Status == 0 || a.Status >= 400 || (a.GRPCStatus != nil && *a.GRPCStatus != 0)
}

// Fails reports whether the mesh answers the request with an error, whichever
// backend it falls to.
func (e *Explanation) Fails() bool {
	if e.Answer != nil {
		return e.Answer.Error()
	}
	for i := range e.Backends {
		b := &e.Backends[i]
		if b.Answer == nil && (len(b.Targets) == 0 || slices.ContainsFunc(b.Targets, func(t Target) bool { return t.Percent > 0 && t.Answer == nil })) {
			return false
		}
	}
	return true
}

// Interval is a part of ShareTotal, the end not included.
type Interval struct {
	Begin uint32 `json:"begin"`
	End   uint32 `json:"end"`
}

// Backend is where a part of the requests goes.
type Backend struct {
	// Index in the rule's backendRefs, -1 for the target of a host without routes.
	Index int `json:"index"`
	// Kind is Service, InstanceGroup or ExternalService; Invalid for what
	// cannot be a backend, and Host for a host that nobody declared.
	Kind string `json:"kind"`
	Name string `json:"name"`
	Port uint16 `json:"port,omitempty"`
	// Weight as in the backendRef, Percent of the requests that it makes, and the part of ShareTotal
	// that is the backend's for as long as the weights stay.
	Weight   uint32   `json:"weight,omitempty"`
	Percent  float64  `json:"percent"`
	Interval Interval `json:"interval"`
	// Shift is the TrafficShift that is under way for a Service, as "namespace/name".
	Shift string `json:"shift,omitempty"`
	// Answer of an Invalid backend.
	Answer *Answer `json:"answer,omitempty"`
	// Forwarded is the request as the backend gets it, and ResponseHeaders what the backend's own filters change in its answers.
	Forwarded       Message      `json:"forwarded"`
	ResponseHeaders *HeaderEdits `json:"responseHeaders,omitempty"`
	Targets         []Target     `json:"targets,omitempty"`
	Note            string       `json:"note,omitempty"`
}

// Target is a backing, or a group of one, that gets a part of the requests.
type Target struct {
	// Platform is pods or instances, "" for other than Services.
	Platform string   `json:"platform,omitempty"`
	Percent  float64  `json:"percent"`
	Interval Interval `json:"interval"`
	// Cluster that the route names. AnsweredBy is the cluster whose endpoints answer now: another one
	// where the target has no usable endpoint and the other backing stands in.
	Cluster    string `json:"cluster"`
	AnsweredBy string `json:"answeredBy,omitempty"`
	// Standby is the cluster that stands in when the target has no usable endpoint.
	Standby string `json:"standby,omitempty"`
	// Answer is what callers get as long as there is no endpoint at all.
	Answer *Answer `json:"answer,omitempty"`
	// Nodes tells which pods answer because of the caller's own Kubernetes node, "" if it makes no
	// difference.
	Nodes string `json:"nodes,omitempty"`
	// Zones of AnsweredBy, the caller's own node's first, then its own, then by name.
	Zones    []Zone   `json:"zones,omitempty"`
	Resolves string   `json:"resolves,omitempty"`
	Policies []Policy `json:"policies,omitempty"`
	// Timeouts of connections to the target.
	Timeouts []Setting `json:"timeouts,omitempty"`
	TLS      string    `json:"tls,omitempty"`
}

// Zone is the endpoints of a target in one availability zone. Those on the caller's own
// node stand apart from the others of their zone where the Service tells them apart.
type Zone struct {
	Name string `json:"name"`
	// Own is true for the caller's zone.
	Own bool `json:"own,omitempty"`
	// OwnNode is true for what is on the caller's node.
	OwnNode bool `json:"ownNode,omitempty"`
	// Percent of the target's requests that the caller sends there.
	Percent   float64    `json:"percent"`
	Endpoints []Endpoint `json:"endpoints"`
}

// Endpoint is one pod or instance.
type Endpoint struct {
	ID      string `json:"id"`
	Address string `json:"address"`
	Node    string `json:"node,omitempty"`
	Health  string `json:"health"`
	Reason  string `json:"reason,omitempty"`
	Weight  uint32 `json:"weight"`
	Spot    bool   `json:"spot,omitempty"`
	// Inbound has the ports that its own sidecar takes what comes in at, "" for none.
	Inbound string `json:"inbound,omitempty"`
}

// Mirror is a backend that gets copies.
type Mirror struct {
	Backend Backend `json:"backend"`
	Percent float64 `json:"percent"`
}

// HeaderEdits is what is changed in a head.
type HeaderEdits struct {
	Set    []Header `json:"set,omitempty"`
	Add    []Header `json:"add,omitempty"`
	Remove []string `json:"remove,omitempty"`
}

// CORS says which origins may read answers.
type CORS struct {
	AllowOrigins []string `json:"allowOrigins"`
	// Allowed is true if the request's own origin is one of them.
	Allowed bool `json:"allowed"`
}

// Setting is the effective value of something and where it comes from.
type Setting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	// From names the object, with the field if that is not clear, or is "default".
	From string `json:"from"`
}

// Policy is an effective section and the object that it comes from.
type Policy struct {
	Section string `json:"section"`
	From    string `json:"from"`
	// Value is the section as it stands in the object.
	Value any `json:"value,omitempty"`
	// Replaced are the fields of Value that do not hold, because the rule states them itself, and Void
	// is true if that is all of it.
	Replaced []Replaced `json:"replaced,omitempty"`
	Void     bool       `json:"void,omitempty"`
}

// Replaced is a field of a section in whose place something else holds.
type Replaced struct {
	Field string `json:"field"`
	By    string `json:"by"`
}

// Envoy names resources and parts of them.
type Envoy struct {
	// Listener is "" where the caller's proxy is not known. Listeners are those of
	// a Gateway's proxies, each once.
	Listener  string   `json:"listener,omitempty"`
	Listeners []string `json:"listeners,omitempty"`
	// Certificates that the listener offers to clients, by name.
	Certificates []string `json:"certificates,omitempty"`
	// RouteConfig is "" where no request is looked at.
	RouteConfig string `json:"routeConfig,omitempty"`
	VirtualHost string `json:"virtualHost,omitempty"`
	// Routes of the virtual host that the request takes: one.
	Routes []string `json:"routes,omitempty"`
	// Clusters that the request may go to, with those that stand in for them, sorted.
	Clusters []string `json:"clusters,omitempty"`
}

func ruleOf(r *policy.Rule) Rule {
	return Rule{
		Route: r.Route, Kind: r.Route.Kind, Namespace: r.Route.Namespace, Object: r.Route.Name, Generation: r.Route.Generation,
		Index: r.Index, Match: r.MatchIndex, Name: r.Name, Text: matchText(r),
	}
}

func editsOf(e *policy.HeaderEdits) HeaderEdits {
	return HeaderEdits{Set: headersOf(e.Set), Add: headersOf(e.Add), Remove: e.Remove}
}

func headersOf(in []policy.Header) []Header {
	var out []Header
	for _, h := range in {
		out = append(out, Header(h))
	}
	return out
}

// Percent is a part in percent as it is printed.
func Percent(p float64) string { return strconv.FormatFloat(p, 'g', 6, 64) + "%" }

func percentOf(share uint32) float64 { return float64(share) / policy.ShareTotal * 100 }

// bound writes a bound of time, of which 0 is none.
func bound(d time.Duration) string {
	if d == 0 {
		return "none"
	}
	return phrase.Duration(d)
}
