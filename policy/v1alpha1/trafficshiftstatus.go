package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	// Metrics are the last answers of guard.metrics, in its order.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	Metrics []ShiftMetricFigure `json:"metrics,omitempty"`
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

// ShiftMetricFigure is the last answer of another system.
type ShiftMetricFigure struct {
	// Name of the metric in guard.metrics.
	Name string `json:"name"`
	// Value is a number, with six figures; absent where there is none.
	// +optional
	Value string `json:"value,omitempty"`
	// Error is why there is no value.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Error string `json:"error,omitempty"`
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
	// Quantile is what the part guard.latency.quantile of the answers stayed within, as a duration; absent
	// where the guard has no such quantile, or P99 has it.
	// +optional
	Quantile string `json:"quantile,omitempty"`
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
