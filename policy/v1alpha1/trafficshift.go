package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TrafficShift moves the traffic of one Service from one of its backings to the
// other, step by step, as long as its guard is content.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=shift,categories=causeway
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
	ServiceRef ServiceReference `json:"serviceRef"`
	// Direction in which the traffic moves.
	// +optional
	// +kubebuilder:default=InstancesToPods
	Direction ShiftDirection `json:"direction,omitempty"`
	// Cohort says which requests move together. Without it every request is on its own.
	// +optional
	Cohort *ShiftCohort `json:"cohort,omitempty"`
	// Steps of the shift in their order. The last one that states a percent
	// must state 100, unless the shift is meant to stay where it ends.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	Steps []ShiftStep `json:"steps"`
	// Guard is what must hold for the shift to go on.
	// +optional
	// +kubebuilder:default={}
	Guard ShiftGuard `json:"guard,omitempty"`
	// Capacity of the backing that the traffic moves to, and what must stay of the other.
	// +optional
	Capacity *ShiftCapacity `json:"capacity,omitempty"`
	// OnFailure says what happens when the guard fails.
	// +optional
	// +kubebuilder:default=RollBack
	OnFailure ShiftFailureAction `json:"onFailure,omitempty"`
	// Paused holds the shift at the share that it has. The guard goes on.
	// +optional
	Paused bool `json:"paused,omitempty"`
	// Pin is a share in percent that holds at once and whatever the steps and
	// the guard say, for emergencies. The shift stands still while it is stated.
	// +optional
	Pin Percent `json:"pin,omitempty"`
	// Notifications are sent when the shift starts a step, holds, rolls back or completes.
	// +optional
	// +kubebuilder:validation:MaxItems=8
	// +listType=map
	// +listMapKey=name
	Notifications []ShiftNotification `json:"notifications,omitempty"`
}

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
type ShiftCohort struct {
	// Cookie whose value tells users apart.
	// +optional
	Cookie *ShiftCookie `json:"cookie,omitempty"`
	// Header whose value tells users apart, for example a user's id.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9!#$%&'*+.^_|~-]+$`
	Header string `json:"header,omitempty"`
}

// ShiftCookie is a cookie that tells users apart.
type ShiftCookie struct {
	// Name of the cookie.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9!#$%&'*+.^_|~-]+$`
	Name string `json:"name"`
	// TTL makes the mesh set the cookie, with this lifetime, on the first answer
	// to a user who has none. Without it the cookie is the application's: a
	// request that does not have it is on its own.
	// +optional
	TTL *metav1.Duration `json:"ttl,omitempty"`
}

// ShiftStep is a step of a shift: a shadow or a percent.
type ShiftStep struct {
	// Shadow copies requests to the target and drops its answers; no traffic moves.
	// +optional
	Shadow *ShiftShadow `json:"shadow,omitempty"`
	// Percent of the traffic that the target has from this step on.
	// +optional
	Percent Percent `json:"percent,omitempty"`
	// Hold is how long the step lasts at least.
	// +optional
	Hold *metav1.Duration `json:"hold,omitempty"`
	// Approval Required makes the step last until somebody promotes it (causeway shift promote).
	// +optional
	Approval ShiftApproval `json:"approval,omitempty"`
}

// ShiftShadow says which requests are copied.
type ShiftShadow struct {
	// Percent of the requests that are copied.
	Percent Percent `json:"percent"`
	// Methods of requests that are copied. Default: GET and HEAD, which change nothing.
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
	// ErrorBudget of the whole Service.
	// +optional
	ErrorBudget *ShiftErrorBudget `json:"errorBudget,omitempty"`
	// Latency of the target.
	// +optional
	Latency *ShiftLatency `json:"latency,omitempty"`
	// MinRequests that the target must have answered in the window for a
	// verdict; fewer hold the step. Default: 500.
	// +optional
	// +kubebuilder:default=500
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100000000
	MinRequests int64 `json:"minRequests,omitempty"`
	// Window over which the guard judges. Default: 2m.
	// +optional
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
	AtLeast Percent `json:"atLeast"`
}

// ShiftErrorBudget bounds how fast the Service uses up the failures that its
// objective allows.
type ShiftErrorBudget struct {
	// Objective is the success rate in percent that is owed over the period; less than 100.
	Objective Percent `json:"objective"`
	// Period over which it is owed. Default: 30d, written 720h.
	// +optional
	// +kubebuilder:default="720h"
	Period metav1.Duration `json:"period,omitempty"`
	// MaxBurnRate is how many times faster than the objective allows failures may
	// come, a decimal number. Default: 2.
	// +optional
	// +kubebuilder:default="2"
	MaxBurnRate Decimal `json:"maxBurnRate,omitempty"`
}

// Decimal is a decimal number, at least 0, for example "14.4".
//
// +kubebuilder:validation:Pattern=`^[0-9]{1,9}(\.[0-9]{1,6})?$`
// +kubebuilder:validation:XIntOrString
type Decimal string

// ShiftLatency bounds how long answers take.
type ShiftLatency struct {
	// Quantile that is judged, a decimal number between 0 and 1. Default: 0.99.
	// +optional
	// +kubebuilder:default="0.99"
	Quantile Decimal `json:"quantile,omitempty"`
	// AtMost is the longest that the quantile may be.
	// +optional
	AtMost *metav1.Duration `json:"atMost,omitempty"`
	// MaxIncrease is by how many percent the quantile may be longer than that
	// of the source at the same time.
	// +optional
	MaxIncrease Decimal `json:"maxIncrease,omitempty"`
}

// ShiftMetric is a figure of another system. Exactly one provider and at least
// one bound are given.
type ShiftMetric struct {
	// Name of the figure in verdicts and notices.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`
	// Prometheus is asked for an instant vector with one element or a scalar.
	// +optional
	Prometheus *PrometheusMetric `json:"prometheus,omitempty"`
	// Datadog is asked for a timeseries, of which the newest point counts.
	// +optional
	Datadog *DatadogMetric `json:"datadog,omitempty"`
	// NewRelic is asked for a NRQL query with one figure.
	// +optional
	NewRelic *NewRelicMetric `json:"newRelic,omitempty"`
	// AtLeast and AtMost are the bounds of the figure.
	// +optional
	AtLeast SignedDecimal `json:"atLeast,omitempty"`
	// +optional
	AtMost SignedDecimal `json:"atMost,omitempty"`
	// Timeout of a query. Default: 10s.
	// +optional
	// +kubebuilder:default="10s"
	Timeout metav1.Duration `json:"timeout,omitempty"`
}

// SignedDecimal is a decimal number, for example "-0.5".
//
// +kubebuilder:validation:Pattern=`^-?[0-9]{1,15}(\.[0-9]{1,9})?$`
type SignedDecimal string

// PrometheusMetric is a PromQL query.
type PrometheusMetric struct {
	// Address of the server, for example http://prometheus.monitoring:9090.
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:Pattern=`^https?://.+$`
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
type CredentialsReference struct {
	// SecretName is a Secret's name in the namespace of the shift.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	SecretName string `json:"secretName,omitempty"`
	// Directory with files named as the keys, on the control plane's host.
	// It is read only without Kubernetes.
	// +optional
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
	// while it is at its maximum. Default: that of the Service's name, if there is one.
	// +optional
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
type ShiftNotification struct {
	// Name of the notification in logs and metrics.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`
	// URL that takes a POST with JSON. One that is itself a secret, as Slack's
	// are, belongs in Credentials under the key url.
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:Pattern=`^https?://.+$`
	URL string `json:"url,omitempty"`
	// Credentials: key url for the URL, key token for a bearer token.
	// +optional
	Credentials *CredentialsReference `json:"credentials,omitempty"`
	// Format of the body. Default: Generic.
	// +optional
	// +kubebuilder:default=Generic
	Format NotificationFormat `json:"format,omitempty"`
	// On lists the events to be sent. Default: all.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=8
	On []ShiftEvent `json:"on,omitempty"`
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
	// SourceInstances is how many instances were in service when the shift began.
	// +optional
	SourceInstances int32 `json:"sourceInstances,omitempty"`
	// Command is the id of the last command that was carried out.
	// +optional
	Command string `json:"command,omitempty"`
	// Paused by a command, unlike spec.paused.
	// +optional
	Paused bool `json:"paused,omitempty"`
	// +optional
	Analysis *ShiftAnalysis `json:"analysis,omitempty"`
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
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// ShiftAnalysis is what the guard saw over its last window.
type ShiftAnalysis struct {
	// +optional
	Time *metav1.Time `json:"time,omitempty"`
	// +optional
	Instances *ShiftFigures `json:"instances,omitempty"`
	// +optional
	Pods *ShiftFigures `json:"pods,omitempty"`
	// Shadow is the comparison of answers with mirrored ones.
	// +optional
	Shadow *ShiftComparison `json:"shadow,omitempty"`
	// Verdict is Pass, Hold or Fail.
	// +optional
	Verdict string `json:"verdict,omitempty"`
	// Reason says which figure against which bound.
	// +optional
	Reason string `json:"reason,omitempty"`
}

// ShiftFigures are what callers got of one backing.
type ShiftFigures struct {
	Requests int64 `json:"requests"`
	// SuccessRate in percent.
	// +optional
	SuccessRate string `json:"successRate,omitempty"`
	// +optional
	P50 string `json:"p50,omitempty"`
	// +optional
	P99 string `json:"p99,omitempty"`
}

// ShiftComparison is how mirrored answers compare with those that callers got.
type ShiftComparison struct {
	// Compared is how many pairs of answers were seen.
	Compared int64 `json:"compared"`
	// StatusDiffers and SizeDiffers count the pairs that differ.
	StatusDiffers int64 `json:"statusDiffers"`
	SizeDiffers   int64 `json:"sizeDiffers"`
	// +optional
	P99 string `json:"p99,omitempty"`
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
	Time metav1.Time `json:"time"`
	// Event that it was.
	Event ShiftEvent `json:"event"`
	// From and To are the target's percent before and after.
	From Percent `json:"from"`
	To   Percent `json:"to"`
	// +optional
	Step int32 `json:"step"`
	// Actor is who made it so: "guard", "steps", "spec" or a person.
	// +optional
	Actor string `json:"actor,omitempty"`
	// +optional
	Reason string `json:"reason,omitempty"`
}

// ShiftCommand is what a person wants of a shift, in the annotation
// CommandAnnotation. It is carried out once.
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
