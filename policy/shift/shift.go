// Package shift decides how a TrafficShift goes on. It is pure: measurements,
// commands and the time come in, and the next status comes out.
//
//   - Evaluate tells whether the answers to callers are good enough (guard.go).
//   - Spend keeps the error budget (budget.go).
//   - Room tells whether the target can carry a step (capacity.go).
//   - Next is the state machine (machine.go).
//   - PlanOf returns the meaning of the steps (plan.go).
package shift

import (
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/outcome"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Side is what callers got of one backing over the guard's window, all ports together.
type Side struct {
	// Counts of requests that count for the verdict: none of the time of StandIn. FailedOver, which is
	// what the other side answered instead of this one, is of the whole window.
	outcome.Counts
	// Meant is how many requests were meant for this side in the whole window, whichever
	// side answered them; 0 if nothing is left out.
	Meant uint64
	// Paths is how the requests of single groups of paths ended.
	Paths map[outcome.Path]*outcome.PathCounts
	// Load is the number of requests by load reports.
	Load uint64
	// Issuers is the part of the proxies in Load that sent most.
	Issuers outcome.Names
	// Recent is the part of Counts that came in Observation.Recent.
	Recent outcome.Counts
	// Usable is how many endpoints get new requests, Known how many there are.
	Usable, Known int
	// Open is how many requests are under way, by the last load reports.
	Open uint64
}

// meant returns how many requests were meant for this side in the whole window.
func (s *Side) meant() uint64 { return max(s.Meant, s.Counts.Meant()) }

// Observation is what was seen of a Service over a window that ends now.
type Observation struct {
	// Window is its length.
	Window time.Duration
	// Covered is for how long this leader has seen outcomes without a gap, at
	// most Window: shorter than Window right after a change of leader.
	Covered time.Duration
	// Recent is the end of the window that Side.Recent covers, a quarter of the
	// window: it tells failures that go on from those that are over. 0 if it
	// was not measured.
	Recent time.Duration
	// From and To are the backings that traffic moves between, Source and Target what callers got of them.
	From, To       discovery.BackingName
	Source, Target Side
	// Share is the part of the traffic that the target has now, in millionths, and
	// Stable is for how long it has had it, at most Window.
	Share  uint32
	Stable time.Duration
	// Shadow compares mirrored answers, nil while nothing is to be mirrored: it
	// is empty while something is and no pair was seen.
	Shadow *outcome.Pairs
	// Proxies is how many proxies are connected that may call the Service; Silent names those
	// (at most five) whose load reports count requests while their outcomes do not arrive.
	Proxies int
	Silent  []string
	// StandIn is there while one side stands in for the other, and until that is no longer a
	// part of the window; then Covered ends where it did.
	StandIn *StandIn
	// CohortKey is the key by which users move together, "" where each request is on its own. How many
	// values it has is known to nobody: of few, a share may have none at all.
	CohortKey string
	// Attempts is how many times a request is sent at most: load reports count each.
	Attempts uint32
	// LeftOut is how many requests of the window are left out of all comparison.
	LeftOut uint64
	// TCP is true if the Service has no HTTP port: then requests are
	// connections and there is no latency.
	TCP bool
	// Cohort is true if requests of one user stay on one side: then they are not
	// independent of each other.
	Cohort bool
	// Metrics are the answers of the spec's metrics, in its order.
	Metrics []Metric
}

// Side returns what callers got of a backing, nil for one that the shift is not about.
func (o *Observation) Side(of discovery.BackingName) *Side {
	switch of {
	case o.From:
		return &o.Source
	case o.To:
		return &o.Target
	}
	return nil
}

// SourceShare is the part of the traffic that the source has now, in millionths.
func (o *Observation) SourceShare() uint32 {
	return policy.ShareTotal - min(o.Share, policy.ShareTotal)
}

// StandIn says that one side answers, or has answered, most requests meant for the other.
type StandIn struct {
	// By is the side that answers, For the one whose requests they are.
	By, For discovery.BackingName
	// Now is true while it goes on.
	Now bool
}

// Metric is an answer of another system.
type Metric struct {
	Name  string
	Value float64
	// Before are the samples before Value, the newest first.
	Before []float64
	// Error is why there is no value, "" if there is one.
	Error string
}

// Result is what a verdict comes to.
type Result string

// The results. Hold neither goes on nor back.
const (
	Pass Result = "Pass"
	Hold Result = "Hold"
	Fail Result = "Fail"
)

// Verdict is what the guard says.
type Verdict struct {
	Result Result
	// Figure is what decided it, for example "successRate", "latency", "errorBudget",
	// "minRequests", "silence", "metrics/checkout-errors".
	Figure string
	// Reason in a sentence with the figure and its bound.
	Reason string
}

// Room says whether the target can carry a share.
type Room struct {
	OK bool
	// Reason in a sentence, with how far off it is.
	Reason string
}

// Fleet is what stands behind a Service, for capacity and advice.
type Fleet struct {
	// ReadyPods and InstancesInService get new requests.
	ReadyPods, InstancesInService int
	// Autoscaler is the HorizontalPodAutoscaler of the pods, nil for none.
	Autoscaler *Autoscaler
	// Groups are the auto scaling groups behind the Service's InstanceGroups, by name.
	Groups []ScalingGroup
	// Error is why some of this is not known, "" if all is: capacity then holds.
	Error string
}

// Autoscaler is a HorizontalPodAutoscaler.
type Autoscaler struct {
	Name                      string
	Current, Minimum, Maximum int
	// Limited is true if it wants more replicas than it may have (condition
	// ScalingLimited, reason TooManyReplicas).
	Limited bool
}

// ScalingGroup is an auto scaling group.
type ScalingGroup struct {
	Name string
	// Minimum, Desired and Maximum sizes, in Unit, and how many instances are in service.
	Minimum, Desired, Maximum, InService int
	// Unit of the sizes where instances count by their weights, for example "capacity units",
	// "" where each counts for one. Units is what those in service count for together, and
	// Largest the most that one of them does.
	Unit           string
	Units, Largest int
	// Zones is how many availability zones it spans, 0 if that is not known.
	Zones int
}

// Input is all that a decision is made of.
type Input struct {
	// Object is the TrafficShift with its status.
	Object *v1alpha1.TrafficShift
	// Accepted is false if another object or a mistake keeps the shift from being
	// in charge; Problem says why.
	Accepted bool
	Problem  string
	// From and To are the backings that traffic moves between, in the direction of DirectionOf.
	From, To discovery.BackingName
	// Verdict about the share that the status has; its zero value is one that is missing, which holds.
	Verdict Verdict
	// Room is asked for a percent of the target.
	Room func(v1alpha1.Percent) Room
	// FailedOver is true while a backing that has a share has no usable endpoint, and FailedOverReason says which.
	FailedOver       bool
	FailedOverReason string
	// Unread says what of the Service's endpoints has not been read yet, "" for nothing: the shift waits
	// for it, and nobody need hear of that.
	Unread string
	// SourceGone says that the side that traffic comes from has no usable endpoint, "" if it has: then
	// nothing is gained by going back.
	SourceGone string
	// Seen is for how long this leader has led and seen, by a clock that does not jump and from the
	// last jump of the wall clock on: a step is not ended before a whole window.
	Seen time.Duration
	// Unsettled says why the share of the status is not yet in force everywhere, "" if it is: which
	// proxies have not acknowledged it, or what they still send.
	Unsettled string
	// Frozen stops all steps, and Locked the way back too, because all configuration is frozen.
	Frozen, Locked bool
	FrozenBy       string
	// Instances in service, for the record of where the shift began.
	InstancesInService int
	// Figures for the status.
	Analysis *v1alpha1.ShiftAnalysis
	Budget   *v1alpha1.ShiftBudget
	// TargetIsHome is true if the Service's home is To, as right after the home was recorded.
	TargetIsHome bool
	// Deleting is true once the object is being deleted, and NamespaceTerminating once its namespace is too.
	Deleting, NamespaceTerminating bool
}

// Notice is something that happened, for Events, metrics and webhooks.
type Notice struct {
	Event v1alpha1.ShiftEvent
	// From and To are the target's percent before and after.
	From, To v1alpha1.Percent
	Step     int32
	Actor    string
	Reason   string
	// Warning is true for what somebody should look at.
	Warning bool
}

// Output is a decision.
type Output struct {
	Status v1alpha1.TrafficShiftStatus
	// Notices of what changed, in order.
	Notices []Notice
	// Home is set when the Service's home must be recorded as the target before Status is
	// written: the shift is complete. It may be recorded again.
	Home bool
	// Release is true when the finalizer may go, by what Object.Status says. Otherwise it must be there before
	// Status is written.
	Release bool
}
