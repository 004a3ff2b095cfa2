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
	// Credentials: key url for the URL, key token for a bearer token, or for the key of Datadog or New Relic.
	// +optional
	Credentials *CredentialsReference `json:"credentials,omitempty"`
	// Format of the body: Generic is an object with a field for each fact, Slack
	// is a text as Slack and those compatible with it take it. Datadog is an event
	// (Events API v1), NewRelic a change at the entity that is called as the
	// Service is (NerdGraph), NewRelicEvent a custom event CausewayShift (Event
	// API). Default: Generic.
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
// +kubebuilder:validation:Enum=Generic;Slack;Datadog;NewRelic;NewRelicEvent
type NotificationFormat string

// The formats of a webhook's body.
const (
	FormatGeneric       NotificationFormat = "Generic"
	FormatSlack         NotificationFormat = "Slack"
	FormatDatadog       NotificationFormat = "Datadog"
	FormatNewRelic      NotificationFormat = "NewRelic"
	FormatNewRelicEvent NotificationFormat = "NewRelicEvent"
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

var _ = kind(&TrafficShift{}, &TrafficShiftList{})

// StatusConditions implements Conditioned.
func (t *TrafficShift) StatusConditions() []metav1.Condition { return t.Status.Conditions }
