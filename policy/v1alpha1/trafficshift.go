package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TrafficShift moves the traffic of one Service from one of its backings to the
// other, step by step, as long as its guard is content. A Service has one.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=shift,categories=causeway
// +kubebuilder:validation:XValidation:rule="self.spec.direction == oldSelf.spec.direction || !has(self.status) || !has(self.status.phase) || self.status.phase in ['Pending', 'Shadowing', 'Completed', 'RolledBack']",fieldPath=".spec.direction",message="the direction cannot change while traffic is divided: take the traffic back first, with causeway shift rollback"
// +kubebuilder:printcolumn:name="Service",type=string,JSONPath=`.spec.serviceRef.name`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Percent",type=string,JSONPath=`.status.percent`
// +kubebuilder:printcolumn:name="Step",type=integer,JSONPath=`.status.step`
// +kubebuilder:printcolumn:name="Verdict",type=string,JSONPath=`.status.analysis.verdict`
// +kubebuilder:printcolumn:name="Budget",type=string,JSONPath=`.status.budget.remaining`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type TrafficShift struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   TrafficShiftSpec   `json:"spec"`
	Status TrafficShiftStatus `json:"status,omitempty"`
}

// TrafficShiftList is a list of TrafficShifts.
//
// +kubebuilder:object:root=true
type TrafficShiftList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []TrafficShift `json:"items"`
}

// TrafficShiftSpec says what moves where, in which steps, and what must hold meanwhile.
type TrafficShiftSpec struct {
	// ServiceRef names the Service, in the same namespace, whose traffic moves.
	// It cannot change.
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="it cannot change, because the status says how far the traffic of that Service has moved: create another TrafficShift"
	ServiceRef ServiceReference `json:"serviceRef"`
	// Direction in which the traffic moves. It can change while all traffic is on
	// one side. Default: InstancesToPods.
	// +optional
	// +kubebuilder:default=InstancesToPods
	Direction ShiftDirection `json:"direction,omitempty"`
	// Cohort says which requests move together. Without it every request is on its own.
	// +optional
	Cohort *ShiftCohort `json:"cohort,omitempty"`
	// Steps of the shift in their order: those with a shadow first, then those
	// with a percent, each with more than the one before. The last must state
	// 100, unless the shift is meant to stay where it ends.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	// +kubebuilder:validation:XValidation:rule="self.exists(s, has(s.percent) && !s.percent.matches('^[0-9]+([.][0-9]+)?$')) || self.map(s, has(s.percent) ? double(s.percent) : 0.0).isSorted()",message="the steps do not rise, or a shadow follows a percent: put shadows first, then each percent after a smaller one; the way back is the guard's, or causeway shift rollback"
	// +kubebuilder:validation:XValidation:rule="self.exists(s, has(s.percent) && !s.percent.matches('^[0-9]+([.][0-9]+)?$')) || self.all(s, !has(s.percent) || self.exists_one(t, has(t.percent) && double(t.percent) == double(s.percent)))",message="two steps have the same percent: join them, or give one of them more"
	Steps []ShiftStep `json:"steps"`
	// Guard is what must hold for the shift to go on. Without any bound it still
	// compares the target with the source, and wants requests to judge by.
	// +optional
	// +kubebuilder:default={}
	Guard ShiftGuard `json:"guard,omitempty"`
	// Capacity of the backing that the traffic moves to, and what must stay of the other.
	// +optional
	Capacity *ShiftCapacity `json:"capacity,omitempty"`
	// OnFailure says what happens when the guard fails: RollBack takes all
	// traffic back at once, PreviousStep takes it to the step before, HoldStep
	// leaves it where it is. Default: RollBack.
	// +optional
	// +kubebuilder:default=RollBack
	OnFailure ShiftFailureAction `json:"onFailure,omitempty"`
	// Failover says what happens while a backing that has a share of the traffic
	// has no usable endpoint: OtherBacking lets the other one answer, None
	// refuses. It counts for as long as the TrafficShift is there, before the
	// Service's annotation mesh.causeway.dev/failover. Default: the annotation's,
	// else None for TCP ports, whose other side may have other data, and
	// OtherBacking for HTTP.
	// +optional
	Failover FailoverMode `json:"failover,omitempty"`
	// Paused holds the shift at the share that it has. The guard goes on.
	// +optional
	Paused bool `json:"paused,omitempty"`
	// Pin is a share in percent that holds at once and whatever the steps and
	// the guard say, for emergencies. The shift stands still while it is stated.
	// +optional
	Pin Percent `json:"pin,omitempty"`
	// Notifications are sent when something happens to the shift.
	// +optional
	// +kubebuilder:validation:MaxItems=8
	// +listType=map
	// +listMapKey=name
	Notifications []ShiftNotification `json:"notifications,omitempty"`
}

// FailoverMode says whether a Service's backings stand in for each other.
//
// +kubebuilder:validation:Enum=OtherBacking;None
type FailoverMode string

// The modes of failover.
const (
	FailoverOtherBacking FailoverMode = "OtherBacking"
	FailoverNone         FailoverMode = "None"
)

// ShiftDirection says from where to where traffic moves.
//
// +kubebuilder:validation:Enum=InstancesToPods;PodsToInstances
type ShiftDirection string

// The directions of a shift.
const (
	InstancesToPods ShiftDirection = "InstancesToPods"
	PodsToInstances ShiftDirection = "PodsToInstances"
)

// ShiftCohort says which requests move together: those with the same value of
// a cookie or of a header. Exactly one is given.
//
// +kubebuilder:validation:XValidation:rule="has(self.cookie) != has(self.header)",message="it needs one key: give exactly one of cookie and header"
type ShiftCohort struct {
	// Cookie whose value tells users apart.
	// +optional
	Cookie *ShiftCookie `json:"cookie,omitempty"`
	// Header whose value tells users apart, for example a user's id.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="!(self.lowerAscii() in ['cookie', 'x-request-id', 'traceparent', 'date'])",message="it differs between requests of one user: name a header with the user's id, or give cookie instead"
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9!#$%&'*+.^_|~-]+$`
	Header string `json:"header,omitempty"`
}

// ShiftCookie is a cookie that tells users apart.
//
// +kubebuilder:validation:XValidation:rule="!has(self.ttl) || !self.name.lowerAscii().startsWith('__host-') && !self.name.lowerAscii().startsWith('__secure-')",message="browsers take a cookie with such a name only with the attribute Secure, which the mesh does not set: choose another name, for example causeway"
type ShiftCookie struct {
	// Name of the cookie.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9!#$%&'*+.^_|~-]+$`
	Name string `json:"name"`
	// TTL makes the mesh set the cookie, with this lifetime, on the first answer
	// to a user who has none. Without it the cookie is the application's: a
	// request that does not have it is on its own. At most 9600h, the 400 days
	// that browsers keep a cookie.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ns|us|ms|s|m|h))+$') && duration(self) >= duration('1s') && duration(self) <= duration('9600h')",message="it is out of bounds: write 1s to 9600h, in the units h, m, s and ms"
	TTL *metav1.Duration `json:"ttl,omitempty"`
}

// ShiftStep is a step of a shift: a shadow or a percent.
//
// +kubebuilder:validation:XValidation:rule="has(self.shadow) != has(self.percent)",message="a step is one of two things: give exactly one of shadow and percent"
// +kubebuilder:validation:XValidation:rule="has(self.hold) || has(self.approval)",message="nothing keeps the step from ending at once: give hold, approval, or both"
type ShiftStep struct {
	// Shadow copies requests to the target and drops its answers; no traffic moves.
	// +optional
	Shadow *ShiftShadow `json:"shadow,omitempty"`
	// Percent of the traffic that the target has from this step on.
	// +optional
	// +kubebuilder:validation:XValidation:rule="!self.matches('^[0.]*$')",message="it is where every shift begins: write more than 0"
	Percent Percent `json:"percent,omitempty"`
	// Hold is how long the step lasts at least, up to 2160h (90 days). It lasts
	// longer while the guard has seen less than MinRequests.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ns|us|ms|s|m|h))+$') && duration(self) >= duration('1s') && duration(self) <= duration('2160h')",message="it is out of bounds: write 1s to 2160h, in the units h, m, s and ms"
	Hold *metav1.Duration `json:"hold,omitempty"`
	// Approval Required makes the step last until somebody promotes it (causeway shift promote).
	// +optional
	Approval ShiftApproval `json:"approval,omitempty"`
}

// ShiftShadow says which requests are copied.
type ShiftShadow struct {
	// Percent of the requests that are copied.
	// +kubebuilder:validation:XValidation:rule="!self.matches('^[0.]*$')",message="it copies nothing: write more than 0"
	Percent Percent `json:"percent"`
	// Methods of requests that are copied. Default: GET and HEAD, which change
	// nothing. With another one the target acts twice on what users sent once.
	// +optional
	// +kubebuilder:default={GET,HEAD}
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=9
	// +listType=set
	Methods []ShiftMethod `json:"methods,omitempty"`
}

// ShiftMethod is an HTTP method.
//
// +kubebuilder:validation:Enum=GET;HEAD;OPTIONS;POST;PUT;PATCH;DELETE
type ShiftMethod string

// ShiftApproval says whether somebody must promote a step.
//
// +kubebuilder:validation:Enum=Required
type ShiftApproval string

// ApprovalRequired is the value of a step that somebody must promote.
const ApprovalRequired ShiftApproval = "Required"

// ShiftGuard is what must hold for the shift to go on, judged by what callers
// got over a window that ends now.
type ShiftGuard struct {
	// SuccessRate of the target.
	// +optional
	SuccessRate *ShiftSuccessRate `json:"successRate,omitempty"`
	// StatusCodes says which statuses count as failures and which are fine, and how the
	// statuses of both sides are compared. Without it they are compared, and those of 500 to
	// 599 are failures.
	// +optional
	StatusCodes *ShiftStatusCodes `json:"statusCodes,omitempty"`
	// Paths says how single paths are judged. Without it each path that callers ask for
	// often is compared with the same path of the source.
	// +optional
	Paths *ShiftPaths `json:"paths,omitempty"`
	// ErrorBudget of the whole Service.
	// +optional
	ErrorBudget *ShiftErrorBudget `json:"errorBudget,omitempty"`
	// Latency of the target.
	// +optional
	Latency *ShiftLatency `json:"latency,omitempty"`
	// MinRequests that callers must have sent to the target in the window for a
	// verdict; fewer hold the step. Default: 500.
	// +optional
	// +kubebuilder:default=500
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100000000
	MinRequests int64 `json:"minRequests,omitempty"`
	// Window over which the guard judges, from 1s to 1h. In a short one a
	// single slow answer counts much: below 10s is for demos. Default: 2m.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ns|us|ms|s|m|h))+$') && duration(self) >= duration('1s') && duration(self) <= duration('1h')",message="it is out of bounds: write 1s to 1h, in the units h, m, s and ms"
	// +kubebuilder:default="2m"
	Window metav1.Duration `json:"window,omitempty"`
	// Metrics of other systems that must hold too.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	// +listType=map
	// +listMapKey=name
	Metrics []ShiftMetric `json:"metrics,omitempty"`
}

// ShiftSuccessRate bounds the part of requests that are answered, and not with a 5xx.
type ShiftSuccessRate struct {
	// AtLeast is the bound in percent.
	// +kubebuilder:validation:XValidation:rule="!self.matches('^[0.]*$')",message="it bounds nothing: write more than 0, for example 99.9"
	AtLeast Percent `json:"atLeast"`
}

// ShiftStatusCodes says what the statuses of answers mean.
//
// +kubebuilder:validation:XValidation:rule="!has(self.failures) || !has(self.fine) || !self.failures.exists(c, c in self.fine)",message="a status cannot be a failure and fine: leave it out of one of the two"
type ShiftStatusCodes struct {
	// Failures are statuses that count as failures besides those of 500 to 599, for the success
	// rate and the error budget: "404", "4xx", or a gRPC status as "NOT_FOUND".
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=32
	Failures []ShiftStatusCode `json:"failures,omitempty"`
	// Fine are statuses that are no failures, and that are not compared. A single status goes
	// before its class.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=32
	Fine []ShiftStatusCode `json:"fine,omitempty"`
	// Comparison Disabled does not compare how often the two sides answer with each status.
	// Default: Enabled.
	// +optional
	// +kubebuilder:default=Enabled
	Comparison ShiftComparisonMode `json:"comparison,omitempty"`
	// MaxIncrease is by how many percent of all requests a status may be more frequent
	// on the target than on the source at the same time. Default: 1.
	// +optional
	// +kubebuilder:validation:XValidation:rule="!self.matches('^100')",message="it allows everything: write less than 100, or comparison: Disabled"
	MaxIncrease Percent `json:"maxIncrease,omitempty"`
}

// ShiftStatusCode is an HTTP status, a class of them, or a gRPC status.
//
// +kubebuilder:validation:MaxLength=32
// +kubebuilder:validation:XValidation:rule="self.matches('^[1-5]([0-9][0-9]|xx)$') || self in ['CANCELLED', 'UNKNOWN', 'INVALID_ARGUMENT', 'DEADLINE_EXCEEDED', 'NOT_FOUND', 'ALREADY_EXISTS', 'PERMISSION_DENIED', 'RESOURCE_EXHAUSTED', 'FAILED_PRECONDITION', 'ABORTED', 'OUT_OF_RANGE', 'UNIMPLEMENTED', 'INTERNAL', 'UNAVAILABLE', 'DATA_LOSS', 'UNAUTHENTICATED']",message="it is no status: write one as 404, a class as 4xx, or a status of gRPC as NOT_FOUND"
type ShiftStatusCode string

// ShiftComparisonMode says whether both sides are compared.
//
// +kubebuilder:validation:Enum=Enabled;Disabled
type ShiftComparisonMode string

// Whether both sides are compared.
const (
	ComparisonEnabled  ShiftComparisonMode = "Enabled"
	ComparisonDisabled ShiftComparisonMode = "Disabled"
)

// ShiftPaths says how single paths are judged.
type ShiftPaths struct {
	// Comparison Disabled judges all requests together only. Default: Enabled.
	// +optional
	// +kubebuilder:default=Enabled
	Comparison ShiftComparisonMode `json:"comparison,omitempty"`
	// Ignored are paths that are not judged on their own, as status.analysis.paths names them:
	// a "*" for each variable part. A "*" at the end of a longer one stands for all that
	// follows: "/legacy/*".
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=32
	Ignored []ShiftPath `json:"ignored,omitempty"`
}

// ShiftPath is a path, with "*" for its variable parts.
//
// +kubebuilder:validation:MaxLength=256
// +kubebuilder:validation:XValidation:rule="self.startsWith('/') && !self.contains('?')",message="it is no path: write it from its first slash on, without a query, for example /health"
type ShiftPath string

// ShiftErrorBudget bounds how fast the Service uses up the failures that its
// objective allows.
type ShiftErrorBudget struct {
	// Objective is the success rate in percent that is owed over the period; less than 100.
	// +kubebuilder:validation:XValidation:rule="!self.matches('^[0.]*$') && !self.matches('^100')",message="it leaves no budget, or owes nothing: write more than 0 and less than 100, for example 99.9"
	Objective Percent `json:"objective"`
	// Period over which it is owed, at most 2160h (90 days). Default: 720h (30 days).
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ns|us|ms|s|m|h))+$') && duration(self) >= duration('1m') && duration(self) <= duration('2160h')",message="it is out of bounds: write 1m to 2160h, in the units h, m, s and ms"
	// +kubebuilder:default="720h"
	Period metav1.Duration `json:"period,omitempty"`
	// MaxBurnRate is how many times faster than the objective allows failures may
	// come, a decimal number. Default: 2.
	// +optional
	// +kubebuilder:validation:XValidation:rule="!self.matches('^[0.]*$')",message="it allows no failure at all: write more than 0, for example 2 or 14.4"
	// +kubebuilder:default="2"
	MaxBurnRate Decimal `json:"maxBurnRate,omitempty"`
}

// Decimal is a decimal number, at least 0, for example "14.4".
//
// +kubebuilder:validation:MaxLength=16
// +kubebuilder:validation:Pattern=`^[0-9]{1,9}(\.[0-9]{1,6})?$`
type Decimal string

// ShiftLatency bounds how long answers take.
//
// +kubebuilder:validation:XValidation:rule="has(self.atMost) || has(self.maxIncrease)",message="it bounds nothing: give atMost, maxIncrease, or both"
type ShiftLatency struct {
	// Quantile that is judged, a decimal number between 0 and 1. Default: 0.99.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self.matches('^0+[.][0-9]*[1-9]')",message="it is no quantile: write a number between 0 and 1, for example 0.99"
	// +kubebuilder:default="0.99"
	Quantile Decimal `json:"quantile,omitempty"`
	// AtMost is the longest that the quantile may be.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ns|us|ms|s|m|h))+$') && duration(self) >= duration('1ms') && duration(self) <= duration('1h')",message="it is out of bounds: write 1ms to 1h, in the units h, m, s and ms"
	AtMost *metav1.Duration `json:"atMost,omitempty"`
	// MaxIncrease is by how many percent the quantile may be longer than that
	// of the source at the same time.
	// +optional
	// +kubebuilder:validation:XValidation:rule="!self.matches('^[0.]*$')",message="it leaves no room for chance: write more than 0, for example 20"
	MaxIncrease Decimal `json:"maxIncrease,omitempty"`
}

// ShiftMetric is a figure of another system. Exactly one provider and at least
// one bound are given.
//
// +kubebuilder:validation:XValidation:rule="[has(self.prometheus), has(self.datadog), has(self.newRelic)].exists_one(given, given)",message="it is asked of one system: give exactly one of prometheus, datadog and newRelic"
// +kubebuilder:validation:XValidation:rule="has(self.atLeast) || has(self.atMost)",message="it has no bound: give atLeast, atMost, or both"
// +kubebuilder:validation:XValidation:rule="!has(self.atLeast) || !has(self.atMost) || !self.atLeast.matches('^-?[0-9]+([.][0-9]+)?$') || !self.atMost.matches('^-?[0-9]+([.][0-9]+)?$') || double(self.atLeast) <= double(self.atMost)",message="no figure is both at least atLeast and at most atMost: let atLeast be the smaller one"
type ShiftMetric struct {
	// Name of the figure in verdicts and notices.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`
	// Prometheus is asked for an instant vector with one element or a scalar.
	// +optional
	Prometheus *PrometheusMetric `json:"prometheus,omitempty"`
	// Datadog is asked for a timeseries, of which the newest finished point counts.
	// +optional
	Datadog *DatadogMetric `json:"datadog,omitempty"`
	// NewRelic is asked for a NRQL query with one figure.
	// +optional
	NewRelic *NewRelicMetric `json:"newRelic,omitempty"`
	// AtLeast is how small the figure may be, a decimal number.
	// +optional
	AtLeast SignedDecimal `json:"atLeast,omitempty"`
	// AtMost is how great the figure may be, a decimal number.
	// +optional
	AtMost SignedDecimal `json:"atMost,omitempty"`
	// FailureThreshold is how many samples in a row must be out of bounds before the guard fails; fewer
	// hold. A sample is taken every half window, at most every 15s. Default: 2.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10
	FailureThreshold int32 `json:"failureThreshold,omitempty"`
	// Timeout of a query, from 100ms to 1m. Default: 10s.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ns|us|ms|s|m|h))+$') && duration(self) >= duration('100ms') && duration(self) <= duration('1m')",message="it is out of bounds: write 100ms to 1m, in the units h, m, s and ms"
	// +kubebuilder:default="10s"
	Timeout metav1.Duration `json:"timeout,omitempty"`
}

// SignedDecimal is a decimal number, for example "-0.5".
//
// +kubebuilder:validation:MaxLength=26
// +kubebuilder:validation:Pattern=`^-?[0-9]{1,15}(\.[0-9]{1,9})?$`
type SignedDecimal string

// PrometheusMetric is a PromQL query.
type PrometheusMetric struct {
	// Address of the server, for example http://prometheus.monitoring:9090.
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:XValidation:rule="isURL(self) && url(self).getScheme() in ['http', 'https'] && size(url(self).getHost()) > 0",message="it is no address: write http:// or https://, a host, and a port if need be"
	Address string `json:"address"`
	// Query in PromQL.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=8192
	Query string `json:"query"`
	// Credentials: key token for a bearer token, or username and password.
	// +optional
	Credentials *CredentialsReference `json:"credentials,omitempty"`
}

// DatadogMetric is a metrics query of Datadog.
type DatadogMetric struct {
	// Site is Datadog's, for example datadoghq.com or ap1.datadoghq.com.
	// +optional
	// +kubebuilder:default=datadoghq.com
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)+$')",message="it is no name of a site: write that of the web address after app., for example datadoghq.eu"
	Site string `json:"site,omitempty"`
	// Query as in a dashboard.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=8192
	Query string `json:"query"`
	// Credentials: keys api-key and application-key.
	Credentials CredentialsReference `json:"credentials"`
}

// NewRelicMetric is a NRQL query.
type NewRelicMetric struct {
	// Region of the account: US or EU.
	// +optional
	// +kubebuilder:default=US
	// +kubebuilder:validation:Enum=US;EU
	Region string `json:"region,omitempty"`
	// AccountID of the account that has the data.
	// +kubebuilder:validation:Minimum=1
	AccountID int64 `json:"accountID"`
	// Query in NRQL, with one figure as its result.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=8192
	Query string `json:"query"`
	// Credentials: key api-key.
	Credentials CredentialsReference `json:"credentials"`
}

// CredentialsReference says where credentials are: a Secret in the shift's
// namespace, or, without Kubernetes, a directory with one file for each key.
//
// +kubebuilder:validation:XValidation:rule="has(self.secretName) != has(self.directory)",message="they are in one place: give exactly one of secretName and directory"
type CredentialsReference struct {
	// SecretName is a Secret's name in the namespace of the shift. The control
	// plane may read it only where a Role says so.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	SecretName string `json:"secretName,omitempty"`
	// Directory with files named as the keys, on the control plane's host.
	// It is read only without Kubernetes.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self.startsWith('/')",message="it depends on where the control plane was started: write an absolute path"
	// +kubebuilder:validation:MaxLength=4096
	Directory string `json:"directory,omitempty"`
}

// ShiftCapacity says what the target must be able to carry and what must stay of the source.
type ShiftCapacity struct {
	// MinReadyPods that the Service must have before any traffic moves to pods.
	// +optional
	// +kubebuilder:validation:Minimum=0
	MinReadyPods int32 `json:"minReadyPods,omitempty"`
	// MaxRequestsPerSecondPerPod that a pod can carry: a step that would give
	// pods more waits.
	// +optional
	// +kubebuilder:validation:Minimum=1
	MaxRequestsPerSecondPerPod int32 `json:"maxRequestsPerSecondPerPod,omitempty"`
	// KeepSourcePercent of the instances that there were when the shift began must still be there
	// for a step up: the way back. 0 asks for none. Default: 100.
	// +optional
	// +kubebuilder:default=100
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	KeepSourcePercent *int32 `json:"keepSourcePercent,omitempty"`
	// HorizontalPodAutoscaler names the one that scales the pods. A step waits
	// while it is at its maximum, unless the ready pods suffice by
	// MaxRequestsPerSecondPerPod or its number is fixed. Default: that of the Service's name, if there is one.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	HorizontalPodAutoscaler string `json:"horizontalPodAutoscaler,omitempty"`
}

// ShiftFailureAction says what happens when the guard fails.
//
// +kubebuilder:validation:Enum=RollBack;HoldStep;PreviousStep
type ShiftFailureAction string

// What happens when the guard fails.
const (
	RollBack     ShiftFailureAction = "RollBack"
	HoldStep     ShiftFailureAction = "HoldStep"
	PreviousStep ShiftFailureAction = "PreviousStep"
)

// ShiftNotification is where notices of a shift are sent.
//
// +kubebuilder:validation:XValidation:rule="has(self.url) || has(self.credentials)",message="it goes nowhere: give url, or credentials with the key url"
type ShiftNotification struct {
	// Name of the notification in logs and metrics.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`
	// URL that takes a POST with JSON. One that is itself a secret, as Slack's
	// are, belongs in Credentials under the key url.
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:XValidation:rule="isURL(self) && url(self).getScheme() in ['http', 'https'] && size(url(self).getHost()) > 0",message="it is no web address: write http:// or https:// and a host"
	URL string `json:"url,omitempty"`
	// Credentials: key url for the URL, key token for a bearer token.
	// +optional
	Credentials *CredentialsReference `json:"credentials,omitempty"`
	// Format of the body: Generic is an object with a field for each fact, Slack
	// is a text as Slack and those compatible with it take it. Default: Generic.
	// +optional
	// +kubebuilder:default=Generic
	Format NotificationFormat `json:"format,omitempty"`
	// Events to be sent. Default: all.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	Events []ShiftEvent `json:"events,omitempty"`
}

// NotificationFormat is the format of a webhook's body.
//
// +kubebuilder:validation:Enum=Generic;Slack
type NotificationFormat string

// The formats of a webhook's body.
const (
	FormatGeneric NotificationFormat = "Generic"
	FormatSlack   NotificationFormat = "Slack"
)

// ShiftEvent is something that happens to a shift.
//
// +kubebuilder:validation:Enum=Step;Hold;AwaitingApproval;RollBack;Completed;Command;FailedOver
type ShiftEvent string

// What happens to shifts.
const (
	EventStep             ShiftEvent = "Step"
	EventHold             ShiftEvent = "Hold"
	EventAwaitingApproval ShiftEvent = "AwaitingApproval"
	EventRollBack         ShiftEvent = "RollBack"
	EventCompleted        ShiftEvent = "Completed"
	EventCommand          ShiftEvent = "Command"
	EventFailedOver       ShiftEvent = "FailedOver"
)

// ShiftPhase is where a shift stands.
type ShiftPhase string

// The phases of a shift.
const (
	ShiftPending          ShiftPhase = "Pending"
	ShiftShadowing        ShiftPhase = "Shadowing"
	ShiftShifting         ShiftPhase = "Shifting"
	ShiftAwaitingApproval ShiftPhase = "AwaitingApproval"
	ShiftSoaking          ShiftPhase = "Soaking"
	ShiftCompleted        ShiftPhase = "Completed"
	ShiftRollingBack      ShiftPhase = "RollingBack"
	ShiftRolledBack       ShiftPhase = "RolledBack"
	ShiftPaused           ShiftPhase = "Paused"
)

// TrafficShiftStatus is where a shift stands. It is all the state that a shift has.
type TrafficShiftStatus struct {
	// ObservedGeneration of the spec that the rest of the status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Phase is where the shift stands.
	// +optional
	Phase ShiftPhase `json:"phase,omitempty"`
	// Direction that the rest of the status is about: that of the spec when the
	// shift began. Until it is said anew, a spec that turns round turns no share.
	// +optional
	Direction ShiftDirection `json:"direction,omitempty"`
	// Percent of the traffic that the target has. It is what the mesh routes by.
	// +optional
	Percent Percent `json:"percent,omitempty"`
	// Step is the position in spec.steps of the step that is under way, from 0;
	// -1 before the first and after a rollback.
	// +optional
	Step int32 `json:"step"`
	// StepStarted is when it began, or began anew because the spec changed or another leader took over.
	// +optional
	StepStarted *metav1.Time `json:"stepStarted,omitempty"`
	// ShadowPercent of the requests with ShadowMethods are copied to the target.
	// +optional
	ShadowPercent Percent `json:"shadowPercent,omitempty"`
	// ShadowMethods of requests that are copied.
	// +optional
	// +listType=set
	ShadowMethods []ShiftMethod `json:"shadowMethods,omitempty"`
	// Approved is the step that somebody has promoted, -1 for none.
	// +optional
	Approved *int32 `json:"approved,omitempty"`
	// RolledBack says that the guard or a person took the shift back; it stays at 0 until
	// it is promoted or its spec changes.
	// +optional
	RolledBack bool `json:"rolledBack,omitempty"`
	// PinnedFrom is the percent that the shift had when spec.pin was stated, absent
	// while none is. Once the pin is gone the shift goes on from the lesser of the two.
	// +optional
	PinnedFrom Percent `json:"pinnedFrom,omitempty"`
	// SpecDigest tells apart what a shift that was rolled back starts anew for: the
	// steps, the guard, the cohort, the capacity and the direction of the spec.
	// +optional
	SpecDigest string `json:"specDigest,omitempty"`
	// SourceInstances is how many instances were in service when the shift began.
	// +optional
	SourceInstances int32 `json:"sourceInstances,omitempty"`
	// Command is the id of the last command that was carried out or refused.
	// +optional
	Command string `json:"command,omitempty"`
	// CommandResult says what came of it.
	// +optional
	CommandResult *ShiftCommandResult `json:"commandResult,omitempty"`
	// Paused by a command, unlike spec.paused.
	// +optional
	Paused bool `json:"paused,omitempty"`
	// Analysis is what the guard saw last.
	// +optional
	Analysis *ShiftAnalysis `json:"analysis,omitempty"`
	// Budget is the error budget of the Service, if the guard keeps one.
	// +optional
	Budget *ShiftBudget `json:"budget,omitempty"`
	// Waiting says what the shift waits for, "" for nothing.
	// +optional
	Waiting string `json:"waiting,omitempty"`
	// History of changes, newest first.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	History []ShiftHistory `json:"history,omitempty"`
	// Advice says how far each auto scaling group could be scaled in. Nothing scales by itself.
	// +optional
	// +listType=atomic
	Advice []string `json:"advice,omitempty"`
	// Preflight lists what should be known before traffic moves.
	// +optional
	// +listType=atomic
	Preflight []string `json:"preflight,omitempty"`
	// Conditions: Accepted and ResolvedRefs say whether the shift is in charge,
	// Programmed whether proxies have what it says, Progressing whether it goes
	// on, GuardHealthy and CapacityReady what would keep it from doing so.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// The conditions of a TrafficShift besides those of every kind.
const (
	// ConditionProgressing is False while something stands in the way of the
	// next step, with the first such thing as its reason.
	ConditionProgressing = "Progressing"
	// ConditionGuardHealthy is True while the guard's verdict is Pass, False while
	// it is Fail, and else Unknown.
	ConditionGuardHealthy = "GuardHealthy"
	// ConditionCapacityReady is False while the target could not carry the next step.
	ConditionCapacityReady = "CapacityReady"
)

// ShiftAnalysis is what the guard saw over its last window.
type ShiftAnalysis struct {
	// Time at which the window ended.
	// +optional
	Time *metav1.Time `json:"time,omitempty"`
	// Instances' figures.
	// +optional
	Instances *ShiftFigures `json:"instances,omitempty"`
	// Pods' figures.
	// +optional
	Pods *ShiftFigures `json:"pods,omitempty"`
	// Paths that differ most between the two sides, and then those that callers ask for most.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=8
	Paths []ShiftPathFigures `json:"paths,omitempty"`
	// Shadow is the comparison of answers with mirrored ones.
	// +optional
	Shadow *ShiftComparison `json:"shadow,omitempty"`
	// LeftOut says how many requests of the window are in no comparison because one backing stood in for
	// the other.
	// +optional
	LeftOut string `json:"leftOut,omitempty"`
	// Verdict is Pass, Hold or Fail.
	// +optional
	Verdict string `json:"verdict,omitempty"`
	// Reason says which figure against which bound.
	// +optional
	Reason string `json:"reason,omitempty"`
}

// ShiftFigures are what callers got of one backing.
type ShiftFigures struct {
	// Requests that were meant for it and that it answered; connections where no port is HTTP.
	Requests int64 `json:"requests"`
	// StoodIn is how many requests it answered instead of the other backing. They are in no other figure.
	// +optional
	StoodIn int64 `json:"stoodIn,omitempty"`
	// SuccessRate in percent.
	// +optional
	SuccessRate string `json:"successRate,omitempty"`
	// Statuses of the answers, the most frequent first.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=8
	Statuses []ShiftStatusPart `json:"statuses,omitempty"`
	// P50 is the median of how long answers took, as a duration.
	// +optional
	P50 string `json:"p50,omitempty"`
	// P99 is what 99 of 100 answers stayed within, as a duration.
	// +optional
	P99 string `json:"p99,omitempty"`
	// Open is how many requests are under way, websockets and streams as long as they last;
	// connections where no port is HTTP. They end where they began, whatever the share is.
	// +optional
	Open int64 `json:"open,omitempty"`
}

// ShiftStatusPart says which part of the answers had a status.
type ShiftStatusPart struct {
	// Code is an HTTP status, the name of a gRPC status, or "no answer" of the application.
	Code string `json:"code"`
	// Percent of the requests.
	Percent string `json:"percent"`
}

// ShiftPathFigures are what callers got of both sides for a group of paths.
type ShiftPathFigures struct {
	// Path with "*" for its variable parts; "other" for all that have no group of their own.
	Path string `json:"path"`
	// Rule is the rule of the route, as proxies name it.
	// +optional
	Rule string `json:"rule,omitempty"`
	// Instances' figures.
	// +optional
	Instances *ShiftFigures `json:"instances,omitempty"`
	// Pods' figures.
	// +optional
	Pods *ShiftFigures `json:"pods,omitempty"`
}

// ShiftComparison is how mirrored answers compare with those that callers got.
type ShiftComparison struct {
	// Compared is how many pairs of answers were seen.
	Compared int64 `json:"compared"`
	// StatusDiffers counts the pairs with different status codes.
	StatusDiffers int64 `json:"statusDiffers"`
	// SizeDiffers counts the pairs with bodies of different sizes.
	SizeDiffers int64 `json:"sizeDiffers"`
	// P99 of the answers that callers got.
	// +optional
	P99 string `json:"p99,omitempty"`
	// ShadowP99 is that of the mirrored answers.
	// +optional
	ShadowP99 string `json:"shadowP99,omitempty"`
}

// ShiftBudget is the error budget of the Service.
type ShiftBudget struct {
	// Objective is the spec's.
	Objective Percent `json:"objective"`
	// Remaining part of the budget of the period in percent; below 0 it is overdrawn.
	// +optional
	Remaining string `json:"remaining,omitempty"`
	// BurnRate is how many times faster than the objective allows failures come now.
	// +optional
	BurnRate string `json:"burnRate,omitempty"`
	// Record is the counters behind it, in a form of its own.
	// +optional
	Record string `json:"record,omitempty"`
}

// ShiftHistory is a change of a shift.
type ShiftHistory struct {
	// Time at which it changed.
	Time metav1.Time `json:"time"`
	// Event that it was.
	Event ShiftEvent `json:"event"`
	// From is the target's percent before.
	From Percent `json:"from"`
	// To is the target's percent after.
	To Percent `json:"to"`
	// Step that was under way after it.
	// +optional
	Step int32 `json:"step"`
	// Actor is who made it so: "guard", "steps", "spec" or a person.
	// +optional
	Actor string `json:"actor,omitempty"`
	// Reason in a sentence.
	// +optional
	Reason string `json:"reason,omitempty"`
}

// ShiftCommandResult says what came of a command.
type ShiftCommandResult struct {
	// Action is the command's: promote, pause, resume or rollback.
	// +optional
	Action ShiftAction `json:"action,omitempty"`
	// Actor is who gave it.
	// +optional
	Actor string `json:"actor,omitempty"`
	// Time at which it was answered.
	// +optional
	Time metav1.Time `json:"time,omitempty"`
	// Result is Done, Refused, Waits for a promotion whose step does not end yet, or Void for
	// one that waited until an edit or a way back took away what it was given for.
	Result ShiftCommandOutcome `json:"result"`
	// Message says why it was refused, what it waits for, or what made it void.
	// +optional
	Message string `json:"message,omitempty"`
}

// ShiftCommandOutcome is what came of a command.
type ShiftCommandOutcome string

// What came of a command.
const (
	CommandDone    ShiftCommandOutcome = "Done"
	CommandRefused ShiftCommandOutcome = "Refused"
	CommandWaits   ShiftCommandOutcome = "Waits"
	CommandVoid    ShiftCommandOutcome = "Void"
)

// ShiftCommand is what a person wants of a shift, in the annotation
// CommandAnnotation. It is carried out or refused once, and within two minutes of Time.
//
// +kubebuilder:object:generate=false
type ShiftCommand struct {
	// ID tells commands apart.
	ID string `json:"id"`
	// Action is one of the ShiftAction constants.
	Action ShiftAction `json:"action"`
	// Step that a promotion is about: status.step as the person saw it, so that a
	// command that comes late does not promote another one. Nil for the current one.
	Step   *int32      `json:"step,omitempty"`
	Actor  string      `json:"actor"`
	Reason string      `json:"reason,omitempty"`
	Time   metav1.Time `json:"time"`
}

// ShiftAction is what a person can do with a shift.
type ShiftAction string

// What a person can do with a shift.
const (
	// ActionPromote ends the hold or the wait for approval of the current step, or starts
	// a shift anew that was rolled back. The guard must still be content.
	ActionPromote ShiftAction = "promote"
	ActionPause   ShiftAction = "pause"
	ActionResume  ShiftAction = "resume"
	// ActionRollback takes the share back to 0 at once.
	ActionRollback ShiftAction = "rollback"
)
