package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// TrafficPolicy says how callers treat a target: timeouts, retries, pools,
// ejection, checks, balancing.
//
// Sections are effective one by one. For each, the most specific target wins
// (a rule of a route, the route, then for what comes in at a Gateway its
// listener and the Gateway, for callers in the mesh the InstanceGroup and the
// Service, and at last the Mesh's defaults), then the oldest policy, then the
// first by name; a policy that lost a section says so in its condition
// Accepted. What a section says of
// requests and what it says of clusters are effective independently: the
// timeout.request of a rule does not take away the timeout.connect of its Service.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=trafficpolicies,shortName=tp,categories=causeway
// +kubebuilder:metadata:labels="gateway.networking.k8s.io/policy=Inherited"
// +kubebuilder:printcolumn:name="Kind",type=string,JSONPath=`.spec.targetRefs[0].kind`
// +kubebuilder:printcolumn:name="Target",type=string,JSONPath=`.spec.targetRefs[0].name`
// +kubebuilder:printcolumn:name="Section",type=string,JSONPath=`.spec.targetRefs[0].sectionName`,priority=1
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].reason`,priority=1
// +kubebuilder:printcolumn:name="Programmed",type=string,JSONPath=`.status.conditions[?(@.type=="Programmed")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type TrafficPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   TrafficPolicySpec `json:"spec"`
	Status PolicyStatus      `json:"status,omitempty"`
}

// TrafficPolicyList is a list of TrafficPolicies.
//
// +kubebuilder:object:root=true
type TrafficPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []TrafficPolicy `json:"items"`
}

// TrafficPolicySpec names the targets and says how callers treat them.
//
// +kubebuilder:validation:XValidation:rule="!has(self.tls) || has(self.tls.sni) || self.targetRefs.all(t, t.kind == 'ExternalService')",message="tls.sni is missing: write the name that the target's certificate has"
type TrafficPolicySpec struct {
	// TargetRefs name what the policy is about, in its own namespace.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +listType=map
	// +listMapKey=group
	// +listMapKey=kind
	// +listMapKey=name
	// +listMapKey=sectionName
	TargetRefs []TargetReference `json:"targetRefs"`

	TrafficSettings `json:",inline"`
}

// TargetReference names an object of the policy's namespace, or a part of it.
//
// +kubebuilder:validation:XValidation:rule="self.kind == 'Service' ? size(self.group) == 0 : self.kind in ['InstanceGroup', 'ExternalService'] ? self.group == 'mesh.causeway.dev' : !(self.kind in ['HTTPRoute', 'GRPCRoute', 'Gateway']) || self.group == 'gateway.networking.k8s.io'",message="this is not the group of the kind: write none for a Service, mesh.causeway.dev for an InstanceGroup or ExternalService, gateway.networking.k8s.io for the rest"
type TargetReference struct {
	// Group of the target: "" for a Service, mesh.causeway.dev for an
	// InstanceGroup or ExternalService, gateway.networking.k8s.io for a route or a Gateway.
	// +optional
	// +kubebuilder:default=""
	// +kubebuilder:validation:MaxLength=253
	Group string `json:"group"`
	// Kind of the target: Service, InstanceGroup, ExternalService, HTTPRoute,
	// GRPCRoute or Gateway. About a Gateway, what is said of requests holds for
	// all that routes take there; what is said of clusters has no effect, since
	// callers in the mesh share them.
	// +kubebuilder:validation:Enum=Service;InstanceGroup;ExternalService;HTTPRoute;GRPCRoute;Gateway
	Kind string `json:"kind"`
	// Name of the target.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// SectionName is a part of the target: a route's rule by its name, a
	// port by its name, a Gateway's listener. Default: all of it.
	// +optional
	// +kubebuilder:default=""
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)?$`
	SectionName string `json:"sectionName"`
}

// TrafficSettings are the sections of a TrafficPolicy. An absent section says
// nothing; an absent field of a section has the default that it states.
//
// Sections of the request (timeout.request and .idle, retry, fault,
// sessionPersistence, loadBalancer.hash) belong to the route that a request
// takes; the others to the target's clusters.
//
// +kubebuilder:validation:XValidation:rule="!has(self.retry) || !has(self.retry.perTry) || !has(self.timeout) || !has(self.timeout.request) || duration(self.timeout.request) == duration('0s') || duration(self.retry.perTry) <= duration(self.timeout.request)",message="retry.perTry is longer than timeout.request, which holds for all attempts together: shorten it"
type TrafficSettings struct {
	// Timeout bounds what callers wait for.
	// +optional
	Timeout *Timeout `json:"timeout,omitempty"`
	// Retry says when a request is sent again.
	// +optional
	Retry *Retry `json:"retry,omitempty"`
	// ConnectionPool limits what a caller keeps open to the target.
	// +optional
	ConnectionPool *ConnectionPool `json:"connectionPool,omitempty"`
	// OutlierDetection has a caller stop using an endpoint that fails it.
	// +optional
	OutlierDetection *OutlierDetection `json:"outlierDetection,omitempty"`
	// HealthCheck has callers probe the endpoints themselves. For instances
	// prefer the InstanceGroup's own, whose verdict all callers share. A caller
	// that has sent no request yet probes once a minute what has passed.
	// +optional
	HealthCheck *ActiveHealthCheck `json:"healthCheck,omitempty"`
	// LoadBalancer says how an endpoint is chosen.
	// +optional
	LoadBalancer *LoadBalancer `json:"loadBalancer,omitempty"`
	// Locality says how callers prefer endpoints of their own availability
	// zone: PreferZone as far as its capacity goes, Strict always while it
	// has a usable one, None never. Default: PreferZone.
	// +optional
	Locality LocalityMode `json:"locality,omitempty"`
	// SessionPersistence keeps a client at the endpoint that answered it
	// first, as the Gateway API defines it (GEP-1619).
	// +optional
	SessionPersistence *gatewayv1.SessionPersistence `json:"sessionPersistence,omitempty"`
	// Fault makes requests fail on purpose, for a rehearsal.
	// +optional
	Fault *Fault `json:"fault,omitempty"`
	// ProxyProtocol sends the caller's address ahead of the connection.
	// +optional
	ProxyProtocol ProxyProtocolVersion `json:"proxyProtocol,omitempty"`
	// TLS to targets that have no identity of the mesh. A BackendTLSPolicy about
	// the Service comes before it, and an ExternalService's own tls does. What
	// cannot be verified is answered 503, never sent in the clear.
	// +optional
	TLS *UpstreamTLS `json:"tls,omitempty"`
}

// Timeout bounds what callers wait for.
type Timeout struct {
	// Connect bounds the establishing of a connection. Default: 2s.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1ms') && duration(self) <= duration('1h')",message="it is out of bounds: write 1ms to 1h"
	Connect *metav1.Duration `json:"connect,omitempty"`
	// Request bounds a whole request with all its retries, from its first byte to
	// the answer's last one, uploads included and websockets not; 0s is no bound, the default.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) == duration('0s') || (duration(self) >= duration('1ms') && duration(self) <= duration('8784h'))",message="it is out of bounds: write 1ms to 8784h, or 0s for none"
	Request *metav1.Duration `json:"request,omitempty"`
	// Idle ends a request on which nothing has happened for so long; 0s is no bound. Default: 1h.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) == duration('0s') || (duration(self) >= duration('1ms') && duration(self) <= duration('8784h'))",message="it is out of bounds: write 1ms to 8784h, or 0s for none"
	Idle *metav1.Duration `json:"idle,omitempty"`
	// ConnectionAge closes TCP connections that have been open for so long, give or take a
	// tenth, whatever they are doing: clients connect anew, and go where the
	// share of a TrafficShift sends new connections. 0s is no bound, the default. It has no effect on HTTP.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) == duration('0s') || (duration(self) >= duration('1s') && duration(self) <= duration('8784h'))",message="it is out of bounds: write 1s to 8784h, or 0s for none"
	ConnectionAge *metav1.Duration `json:"connectionAge,omitempty"`
	// StreamAge ends HTTP requests that have been open at an endpoint for so long, whatever they are doing:
	// websockets, server-sent events, gRPC streams. Clients open them anew, and go where the share of
	// a TrafficShift sends new requests. It ends downloads that take longer too. 0s is no bound, the default.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) == duration('0s') || (duration(self) >= duration('1s') && duration(self) <= duration('8784h'))",message="it is out of bounds: write 1s to 8784h, or 0s for none"
	StreamAge *metav1.Duration `json:"streamAge,omitempty"`
}

// RetryCondition is a failure after which a request is sent again.
//
// +kubebuilder:validation:Enum=ConnectFailure;RefusedStream;ResetBeforeRequest;Reset;GatewayError;ServerError;RetriableStatusCodes;GRPCCancelled;GRPCDeadlineExceeded;GRPCInternal;GRPCResourceExhausted;GRPCUnavailable
type RetryCondition string

// Retry says when a request is sent again.
//
// +kubebuilder:validation:XValidation:rule="!has(self.statusCodes) || !has(self.retryOn) || 'RetriableStatusCodes' in self.retryOn",message="statusCodes have no effect without RetriableStatusCodes: add it to retryOn"
type Retry struct {
	// Attempts is how often a request is sent again at most; 0 is never. Default: 4.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10
	Attempts *int32 `json:"attempts,omitempty"`
	// PerTry bounds each attempt, from the connection on to the answer's last byte,
	// websockets not included; 0s is no bound, the default.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) == duration('0s') || (duration(self) >= duration('1ms') && duration(self) <= duration('8784h'))",message="it is out of bounds: write 1ms to 8784h, or 0s for none"
	PerTry *metav1.Duration `json:"perTry,omitempty"`
	// Backoff is the base of the exponential pause between attempts. Default: 25ms, growing to ten times as much.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1ms') && duration(self) <= duration('1h')",message="it is out of bounds: write 1ms to 1h"
	Backoff *metav1.Duration `json:"backoff,omitempty"`
	// RetryOn lists the failures after which a request whose method Methods names is
	// sent again. Other methods are sent again only where nothing reached
	// the target (ConnectFailure, RefusedStream, ResetBeforeRequest), as far
	// as RetryOn names those. Default: those three, Reset, and RetriableStatusCodes with 503.
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +listType=set
	RetryOn []RetryCondition `json:"retryOn,omitempty"`
	// StatusCodes that RetriableStatusCodes means. Default: 503.
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +listType=set
	// +kubebuilder:validation:items:Minimum=400
	// +kubebuilder:validation:items:Maximum=599
	StatusCodes []int32 `json:"statusCodes,omitempty"`
	// Methods that may be sent again although the target may have begun to
	// act on them. Default: GET, HEAD, OPTIONS, which are safe by definition (RFC 9110, section 9.2.1).
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +listType=set
	// +kubebuilder:validation:items:Pattern=`^[A-Z]{1,32}$`
	Methods []string `json:"methods,omitempty"`
	// BudgetPercent is how many of a caller's active requests to the target
	// may be retries. Default: 50, and always 200 of them.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	BudgetPercent *int32 `json:"budgetPercent,omitempty"`
	// AvoidPreviousHosts has a retry go to another endpoint. Default: true.
	// +optional
	AvoidPreviousHosts *bool `json:"avoidPreviousHosts,omitempty"`
}

// ConnectionPool limits what one caller's proxy keeps open to a target. An
// absent limit is 100,000.
type ConnectionPool struct {
	// MaxConnections that are open at a time.
	// +optional
	// +kubebuilder:validation:Minimum=1
	MaxConnections *int32 `json:"maxConnections,omitempty"`
	// MaxPendingRequests wait for a connection.
	// +optional
	// +kubebuilder:validation:Minimum=1
	MaxPendingRequests *int32 `json:"maxPendingRequests,omitempty"`
	// MaxRequests are under way at a time.
	// +optional
	// +kubebuilder:validation:Minimum=1
	MaxRequests *int32 `json:"maxRequests,omitempty"`
	// MaxRequestsPerConnection after which a connection is closed. Default: no limit.
	// +optional
	// +kubebuilder:validation:Minimum=1
	MaxRequestsPerConnection *int32 `json:"maxRequestsPerConnection,omitempty"`
	// IdleTimeout closes an idle connection. It must be below what the target
	// waits (nginx: keepalive_timeout), or a request meets a connection that
	// is just being closed; 0s keeps it. Default: 4s for HTTP/1.1, 10m for HTTP/2.
	// For TCP it is timeout.idle that says so.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) == duration('0s') || (duration(self) >= duration('1ms') && duration(self) <= duration('8784h'))",message="it is out of bounds: write 1ms to 8784h, or 0s for none"
	IdleTimeout *metav1.Duration `json:"idleTimeout,omitempty"`
	// MaxConnectionAge closes a connection that is older, once its requests are done; 0s is no bound, the default.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) == duration('0s') || (duration(self) >= duration('1ms') && duration(self) <= duration('8784h'))",message="it is out of bounds: write 1ms to 8784h, or 0s for none"
	MaxConnectionAge *metav1.Duration `json:"maxConnectionAge,omitempty"`
}

// OutlierDetection has a caller stop using an endpoint that fails it. An
// endpoint that does not even take connections is ejected without it too.
type OutlierDetection struct {
	// Consecutive5xx answers in a row that eject. Failed connections are counted
	// apart (consecutiveConnectFailures). Default: off.
	// +optional
	// +kubebuilder:validation:Minimum=1
	Consecutive5xx *int32 `json:"consecutive5xx,omitempty"`
	// ConsecutiveGatewayErrors (502, 503, 504) in a row that eject. Default: off.
	// +optional
	// +kubebuilder:validation:Minimum=1
	ConsecutiveGatewayErrors *int32 `json:"consecutiveGatewayErrors,omitempty"`
	// ConsecutiveConnectFailures in a row that eject. Default: 3.
	// +optional
	// +kubebuilder:validation:Minimum=1
	ConsecutiveConnectFailures *int32 `json:"consecutiveConnectFailures,omitempty"`
	// Interval between two evaluations. Default: 1s.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('10ms') && duration(self) <= duration('1h')",message="it is out of bounds: write 10ms to 1h"
	Interval *metav1.Duration `json:"interval,omitempty"`
	// BaseEjectionTime, which grows with each ejection in a row. Default: 10s.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1ms') && duration(self) <= duration('24h')",message="it is out of bounds: write 1ms to 24h"
	BaseEjectionTime *metav1.Duration `json:"baseEjectionTime,omitempty"`
	// MaxEjectionPercent of the endpoints that may be ejected at a time. Default: 100.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	MaxEjectionPercent *int32 `json:"maxEjectionPercent,omitempty"`
}

// ActiveHealthCheck is a check that every caller makes of every endpoint.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.http) && has(self.grpc))",message="it has both http and grpc: give one of them, or neither for a TCP connect"
type ActiveHealthCheck struct {
	// HTTP asks for a path and takes any 2xx or 3xx as healthy.
	// +optional
	HTTP *HTTPHealthCheck `json:"http,omitempty"`
	// GRPC asks grpc.health.v1.Health.
	// +optional
	GRPC *GRPCHealthCheck `json:"grpc,omitempty"`
	// Interval between two checks of an endpoint. Default: 5s.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('5m')",message="it is out of bounds: write 1s to 5m"
	Interval *metav1.Duration `json:"interval,omitempty"`
	// Timeout of one check. Default: 1s.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('10ms') && duration(self) <= duration('1m')",message="it is out of bounds: write 10ms to 1m"
	Timeout *metav1.Duration `json:"timeout,omitempty"`
	// UnhealthyThreshold is how many failed checks in a row make an endpoint unhealthy. Default: 2.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10
	UnhealthyThreshold *int32 `json:"unhealthyThreshold,omitempty"`
	// HealthyThreshold is how many passed checks in a row make an unhealthy endpoint healthy again. Default: 2.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10
	HealthyThreshold *int32 `json:"healthyThreshold,omitempty"`
}

// GRPCHealthCheck names what a gRPC health check asks about.
type GRPCHealthCheck struct {
	// Service name in the health check's request. Default: "", the server as a whole.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Service string `json:"service,omitempty"`
}

// LoadBalancerAlgorithm chooses an endpoint.
//
// +kubebuilder:validation:Enum=RoundRobin;LeastRequest;Random;RingHash;Maglev
type LoadBalancerAlgorithm string

// The algorithms, in Envoy's words.
const (
	RoundRobin   LoadBalancerAlgorithm = "RoundRobin"
	LeastRequest LoadBalancerAlgorithm = "LeastRequest"
	Random       LoadBalancerAlgorithm = "Random"
	RingHash     LoadBalancerAlgorithm = "RingHash"
	Maglev       LoadBalancerAlgorithm = "Maglev"
)

// LoadBalancer says how an endpoint is chosen.
//
// +kubebuilder:validation:XValidation:rule="!has(self.hash) || (has(self.algorithm) && self.algorithm in ['RingHash', 'Maglev'])",message="only RingHash and Maglev hash: set algorithm to one of them"
// +kubebuilder:validation:XValidation:rule="!has(self.algorithm) || !(self.algorithm in ['RingHash', 'Maglev']) || has(self.hash)",message="RingHash and Maglev choose at random without a key: give hash"
// +kubebuilder:validation:XValidation:rule="!has(self.slowStart) || !has(self.algorithm) || self.algorithm in ['RoundRobin', 'LeastRequest']",message="the algorithm has no slowStart: use RoundRobin or LeastRequest"
type LoadBalancer struct {
	// Algorithm that chooses, in Envoy's words.
	// +optional
	// +kubebuilder:default=LeastRequest
	Algorithm LoadBalancerAlgorithm `json:"algorithm,omitempty"`
	// Hash is what RingHash and Maglev hash.
	// +optional
	Hash *HashKey `json:"hash,omitempty"`
	// SlowStart lets a new endpoint's part grow over so long; 0s is off, the default.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) == duration('0s') || (duration(self) >= duration('1ms') && duration(self) <= duration('24h'))",message="it is out of bounds: write 1ms to 24h, or 0s for none"
	SlowStart *metav1.Duration `json:"slowStart,omitempty"`
}

// HashKey is what requests of one client have in common.
//
// +kubebuilder:validation:XValidation:rule="[has(self.header), has(self.cookie), has(self.source)].exists_one(x, x)",message="it needs one key: give exactly one of header, cookie and source"
type HashKey struct {
	// Header is a request header's name.
	// +optional
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9!#$%&'*+\-.^_|~]+$`
	// +kubebuilder:validation:MaxLength=256
	Header string `json:"header,omitempty"`
	// Cookie is made on the first answer where the client has none.
	// +optional
	Cookie *HashCookie `json:"cookie,omitempty"`
	// Source hashes who calls: the host of a caller behind a sidecar, the client's IP address at an
	// edge. It acts on TCP ports too. Only true means something.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self",message="false says nothing: write true or leave it out"
	Source *bool `json:"source,omitempty"`
}

// HashCookie is a cookie to hash.
type HashCookie struct {
	// Name of the cookie.
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9!#$%&'*+\-.^_|~]+$`
	// +kubebuilder:validation:MaxLength=256
	Name string `json:"name"`
	// TTL of a cookie that the mesh makes; 0s is a session cookie; absent: the mesh makes none.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) == duration('0s') || (duration(self) >= duration('1s') && duration(self) <= duration('87840h'))",message="it is out of bounds: write 1s to 87840h, or 0s for none"
	TTL *metav1.Duration `json:"ttl,omitempty"`
	// Path of a cookie that the mesh makes. Default: /.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:Pattern=`^/[!-:<-~]*$`
	Path string `json:"path,omitempty"`
}

// LocalityMode says how callers prefer their own availability zone.
//
// +kubebuilder:validation:Enum=PreferZone;Strict;None
type LocalityMode string

// PreferZone stays in the caller's zone as far as its capacity goes, Strict
// always while the zone has a usable endpoint, None never.
const (
	PreferZone     LocalityMode = "PreferZone"
	StrictLocality LocalityMode = "Strict"
	NoLocality     LocalityMode = "None"
)

// Fault makes requests fail on purpose.
//
// +kubebuilder:validation:XValidation:rule="has(self.delay) || has(self.abort)",message="it has neither: give delay, abort or both"
type Fault struct {
	// Delay holds requests up.
	// +optional
	Delay *FaultDelay `json:"delay,omitempty"`
	// Abort answers requests without asking the target.
	// +optional
	Abort *FaultAbort `json:"abort,omitempty"`
}

// Percent is a decimal number from 0 to 100 with up to two places.
//
// +kubebuilder:validation:MaxLength=6
// +kubebuilder:validation:Pattern=`^(100(\.0{1,2})?|[0-9]{1,2}(\.[0-9]{1,2})?)$`
type Percent string

// FaultDelay holds requests up.
type FaultDelay struct {
	// Duration that they are held up for.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1ms') && duration(self) <= duration('1h')",message="it is out of bounds: write 1ms to 1h"
	Duration metav1.Duration `json:"duration"`
	// Percent of the requests that are held up.
	Percent Percent `json:"percent"`
}

// FaultAbort answers requests without asking the target.
//
// +kubebuilder:validation:XValidation:rule="has(self.status) != has(self.grpcStatus)",message="it needs one status: give either status or grpcStatus"
type FaultAbort struct {
	// Status is the HTTP status of the answer.
	// +optional
	// +kubebuilder:validation:Minimum=200
	// +kubebuilder:validation:Maximum=599
	Status *int32 `json:"status,omitempty"`
	// GRPCStatus is the gRPC status code of the answer. The whole fault, with
	// its delay, then concerns gRPC requests only.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=16
	GRPCStatus *int32 `json:"grpcStatus,omitempty"`
	// Percent of the requests that are answered so.
	Percent Percent `json:"percent"`
}

// ProxyProtocolVersion is a version of the PROXY protocol.
//
// +kubebuilder:validation:Enum=V1;V2
type ProxyProtocolVersion string

// The versions of the PROXY protocol.
const (
	ProxyProtocolV1 ProxyProtocolVersion = "V1"
	ProxyProtocolV2 ProxyProtocolVersion = "V2"
)

// UpstreamTLS is TLS to a target. Its certificate is checked against the CAs
// and the name.
type UpstreamTLS struct {
	// SNI is the name that is asked for and that the certificate must have. Default: for an
	// ExternalService the host; otherwise it must be given.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9_]([-A-Za-z0-9_]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([-A-Za-z0-9_]*[A-Za-z0-9_])?)*$`
	SNI string `json:"sni,omitempty"`
	// SubjectAltNames that the certificate may have instead of SNI: host
	// names, or URIs like spiffe://example.com/api.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	// +listType=set
	// +kubebuilder:validation:items:MaxLength=1024
	// +kubebuilder:validation:items:XValidation:rule="size(self) <= 253 || self.contains('://')",message="it is longer than a host name can be: write at most 253 characters"
	// +kubebuilder:validation:items:Pattern=`^((\*\.)?[A-Za-z0-9_]([-A-Za-z0-9_]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([-A-Za-z0-9_]*[A-Za-z0-9_])?)*|[A-Za-z][-+.A-Za-z0-9]*://[!-~]+)$`
	SubjectAltNames []string `json:"subjectAltNames,omitempty"`
	// CACertificateRef names a ConfigMap of the policy's namespace with PEM
	// certificates in its key ca.crt. Default: the CAs of the proxies' hosts.
	// +optional
	CACertificateRef *LocalName `json:"caCertificateRef,omitempty"`
}

// LocalName names an object of the same namespace.
type LocalName struct {
	// Name of the object.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// PolicyStatus is the status of a kind that has nothing but conditions.
type PolicyStatus struct {
	// Conditions are Accepted, ResolvedRefs and Programmed.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// ConditionProgrammed is True when every proxy that was connected when the
// object's generation went out has acknowledged it.
const ConditionProgrammed = "Programmed"

var _ = kind(&TrafficPolicy{}, &TrafficPolicyList{})

// StatusConditions implements Conditioned.
func (t *TrafficPolicy) StatusConditions() []metav1.Condition { return t.Status.Conditions }
