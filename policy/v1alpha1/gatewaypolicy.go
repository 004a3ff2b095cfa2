package v1alpha1

import (
	"cmp"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// GatewayPolicy says how the proxies of a Gateway treat its clients: what
// stands in front of them and is trusted, time limits, sizes, TLS.
//
// Sections are effective one by one. For each, a policy about a listener comes
// before one about the whole Gateway, then the oldest wins, then the first by
// name; a policy that lost a section says so in its condition Accepted. What is
// said of a listener holds for all listeners of its port: a connection comes
// in before anything tells them apart.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=gatewaypolicies,shortName=gwp,categories=causeway
// +kubebuilder:metadata:labels="gateway.networking.k8s.io/policy=Direct"
// +kubebuilder:printcolumn:name="Gateway",type=string,JSONPath=`.spec.targetRefs[0].name`
// +kubebuilder:printcolumn:name="Listener",type=string,JSONPath=`.spec.targetRefs[0].sectionName`,priority=1
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].reason`,priority=1
// +kubebuilder:printcolumn:name="Programmed",type=string,JSONPath=`.status.conditions[?(@.type=="Programmed")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type GatewayPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   GatewayPolicySpec `json:"spec"`
	Status PolicyStatus      `json:"status,omitempty"`
}

// GatewayPolicyList is a list of GatewayPolicies.
//
// +kubebuilder:object:root=true
type GatewayPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []GatewayPolicy `json:"items"`
}

// GatewayPolicySpec names Gateways and says how their proxies treat clients.
type GatewayPolicySpec struct {
	// TargetRefs name Gateways of the policy's namespace, or listeners of them.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +listType=map
	// +listMapKey=name
	// +listMapKey=sectionName
	TargetRefs []GatewayTarget `json:"targetRefs"`

	GatewaySettings `json:",inline"`
}

// GatewayTarget names a Gateway, or a listener of it.
//
// +kubebuilder:validation:XValidation:rule="self.group == 'gateway.networking.k8s.io' && self.kind == 'Gateway'",message="a GatewayPolicy is about Gateways: write group gateway.networking.k8s.io and kind Gateway, or leave both out"
type GatewayTarget struct {
	// Group of the target.
	// +optional
	// +kubebuilder:default=gateway.networking.k8s.io
	// +kubebuilder:validation:MaxLength=253
	Group string `json:"group"`
	// Kind of the target.
	// +optional
	// +kubebuilder:default=Gateway
	// +kubebuilder:validation:MaxLength=63
	Kind string `json:"kind"`
	// Name of the Gateway.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// SectionName is the name of a listener. Default: all of them.
	// +optional
	// +kubebuilder:default=""
	// +kubebuilder:validation:MaxLength=253
	SectionName string `json:"sectionName"`
}

// GatewaySettings are the sections of a GatewayPolicy. An absent section says
// nothing; an absent field of a section has the default that it states.
type GatewaySettings struct {
	// InFront lists what clients' connections pass before they reach the
	// gateway, the one nearest to the client first: CloudFront, then an ALB, for
	// example. From it follows whose word is taken for a client's address
	// (X-Forwarded-For, X-Forwarded-Proto, the PROXY protocol). Default:
	// nothing, so that no such header is believed.
	// +optional
	// +kubebuilder:validation:MaxItems=8
	// +listType=atomic
	// +kubebuilder:validation:XValidation:rule="self.all(h, h.kind != 'NLB' || self.exists_one(n, n.kind == 'NLB'))",message="it has several NLBs: an NLB adds no header, so name only the last one"
	InFront []Hop `json:"inFront,omitzero"` // an empty list says that nothing stands in front
	// Timeout bounds what clients may keep the gateway waiting for.
	// +optional
	Timeout *ClientTimeout `json:"timeout,omitempty"`
	// Limits bound the size of what clients send and how much of it at once.
	// +optional
	Limits *ClientLimits `json:"limits,omitempty"`
	// TLS limits what clients may negotiate on HTTPS listeners and on TLS
	// listeners that terminate.
	// +optional
	TLS *ClientTLS `json:"tls,omitempty"`
	// HealthCheck answers a load balancer on the gateway's own HTTP and HTTPS listeners.
	// +optional
	HealthCheck *GatewayHealthCheck `json:"healthCheck,omitempty"`
}

// HopKind is a kind of thing that stands in front of a gateway.
//
// +kubebuilder:validation:Enum=CloudFront;ALB;NLB;Proxy
type HopKind string

// The kinds of hops. All but NLB are HTTP proxies that add the address that
// they were called from to X-Forwarded-For; NLB passes connections on.
const (
	HopCloudFront HopKind = "CloudFront"
	HopALB        HopKind = "ALB"
	HopNLB        HopKind = "NLB"
	HopProxy      HopKind = "Proxy"
)

// Hop is one thing that stands in front of a gateway.
//
// +kubebuilder:validation:XValidation:rule="!has(self.proxyProtocol) || !self.proxyProtocol || self.kind in ['NLB', 'Proxy']",message="CloudFront and an ALB do not speak the PROXY protocol: remove proxyProtocol, or correct kind"
type Hop struct {
	// Kind says what the hop adds to a request: all but an NLB add the address
	// that they were called from to X-Forwarded-For.
	Kind HopKind `json:"kind"`
	// IdleTimeout is how long the hop keeps an idle connection to what is
	// behind it, as it is configured there. Default: what AWS sets (CloudFront
	// 5s, ALB 60s, NLB 350s), 60s for a Proxy. The gateway, and whatever comes nearer to
	// it, must keep connections for longer: `causeway validate` checks that.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('24h')",message="it is not from 1s to 24h: write, for example, 60s"
	IdleTimeout *metav1.Duration `json:"idleTimeout,omitempty"`
	// ProxyProtocol is true if the hop begins every connection with a PROXY
	// protocol header (version 1 or 2). A connection without one is then closed.
	// +optional
	ProxyProtocol bool `json:"proxyProtocol,omitempty"`
	// Addresses are the ranges (CIDR) that the hop connects from. For the last hop, connections from
	// elsewhere are closed, so that nobody goes round what stands in front. Default: any.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	// +listType=set
	// +kubebuilder:validation:items:MaxLength=43
	// +kubebuilder:validation:items:XValidation:rule="isCIDR(self)",message="it is not a CIDR range: write, for example, 10.0.0.0/16"
	Addresses []string `json:"addresses,omitempty"`
}

// ClientTimeout bounds what clients may keep the gateway waiting for. 0s
// switches a limit off.
type ClientTimeout struct {
	// RequestHeaders is how long a client may take to send a request's headers. Default: 10s.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('24h')",message="it is not from 0s to 24h: write, for example, 10s"
	RequestHeaders *metav1.Duration `json:"requestHeaders,omitempty"`
	// Request is how long a client may take to send a whole request. Default: 5m.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('24h')",message="it is not from 0s to 24h: write, for example, 5m"
	Request *metav1.Duration `json:"request,omitempty"`
	// Idle is how long a connection without any request stays open. It must be
	// longer than the idle timeout of what stands in front, or that sends
	// requests into closing connections. Default: 1h with anything in front, else 75s.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('24h')",message="it is not from 0s to 24h: write, for example, 75s"
	Idle *metav1.Duration `json:"idle,omitempty"`
	// StreamIdle is how long a request or an answer may stand still, websockets
	// included. Default: 1h.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('24h')",message="it is not from 0s to 24h: write, for example, 5m"
	StreamIdle *metav1.Duration `json:"streamIdle,omitempty"`
}

// ClientLimits bound what clients send. What exceeds them is answered 431
// (headers) or 413 (body), or waits (streams), or is closed (connections).
type ClientLimits struct {
	// HeaderBytes is the size of all headers of a request together, in bytes,
	// rounded up to 1024. Default: 60 KiB.
	// +optional
	// +kubebuilder:validation:Minimum=1024
	// +kubebuilder:validation:Maximum=8388608
	HeaderBytes *int32 `json:"headerBytes,omitempty"`
	// Headers is how many headers a request may have. Over HTTP/2 browsers send
	// each cookie as one. Default: 300.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000
	Headers *int32 `json:"headers,omitempty"`
	// BodyBytes is the size of a request's body in bytes. With it the gateway
	// holds a body in memory until it is whole, then sends it on: uploads do
	// not stream any more. Default: no limit, and bodies stream.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1073741824
	BodyBytes *int32 `json:"bodyBytes,omitempty"`
	// ConcurrentStreams is how many requests of one HTTP/2 connection are served at once. Default: 100.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000
	ConcurrentStreams *int32 `json:"concurrentStreams,omitempty"`
	// Connections is how many connections each proxy of the gateway has open on
	// a port, with TLS for each of the port's listeners; further ones are closed
	// at once. Default: no limit but the proxy's own.
	// +optional
	// +kubebuilder:validation:Minimum=1
	Connections *int32 `json:"connections,omitempty"`
}

// TLSVersion is a version of TLS.
//
// +kubebuilder:validation:Enum="1.2";"1.3"
type TLSVersion string

// The versions of TLS that are spoken. RFC 8996 deprecates the older ones.
const (
	TLS12 TLSVersion = "1.2"
	TLS13 TLSVersion = "1.3"
)

// ClientTLS limits what clients may negotiate.
type ClientTLS struct {
	// MinVersion of TLS. Default: 1.2.
	// +optional
	MinVersion TLSVersion `json:"minVersion,omitempty"`
	// CipherSuites for TLS 1.2, by BoringSSL's names, in the order of
	// preference. Default: the proxy's own.
	// +optional
	// +kubebuilder:validation:MaxItems=32
	// +listType=atomic
	// +kubebuilder:validation:items:Enum=ECDHE-ECDSA-AES128-GCM-SHA256;ECDHE-RSA-AES128-GCM-SHA256;ECDHE-ECDSA-AES256-GCM-SHA384;ECDHE-RSA-AES256-GCM-SHA384;ECDHE-ECDSA-CHACHA20-POLY1305;ECDHE-RSA-CHACHA20-POLY1305
	CipherSuites []string `json:"cipherSuites,omitempty"`
}

// GatewayHealthCheck answers a load balancer itself: 200, and 503 from the
// moment on that the proxy is told to drain. Nothing behind the gateway sees the request.
type GatewayHealthCheck struct {
	// Path of the check, whatever the Host. It hides that path of every route.
	// +kubebuilder:validation:MinLength=2
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^/[A-Za-z0-9/_.~-]+$`
	Path string `json:"path"`
}

var _ = kind(&GatewayPolicy{}, &GatewayPolicyList{})

// StatusConditions implements Conditioned.
func (g *GatewayPolicy) StatusConditions() []metav1.Condition { return g.Status.Conditions }

// Refer implements Referrer.
func (g *GatewayPolicy) Refer(to func(kind, name string)) {
	for _, t := range g.Spec.TargetRefs {
		to(cmp.Or(t.Kind, "Gateway"), t.Name)
	}
}
