package shift

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// maxHistory is how many changes a status remembers.
const maxHistory = 32

// The names of those who change a shift, apart from people.
const (
	actorGuard = "guard"
	actorSteps = "steps"
	actorSpec  = "spec"
)

// Next says how a TrafficShift goes on. It is pure: all state is in
// Object.Status, so a decision that was never written is simply made again.
//
//   - A step begins when the guard's verdict is Pass, this leader has seen a whole
//     window, there is room for its share, and nothing stands in the way (blocker).
//   - It ends when its hold, and at least a window, has passed and, if it
//     wants one, an approval was given. A promotion stands for both.
//   - A failed guard takes the shift back as onFailure says, paused or frozen
//     or not. Only a pin and a frozen configuration hold that back.
//   - After a way back the shift stays at 0 until somebody promotes it or edits what
//     digest covers; then it begins at its first step.
//   - An edit of the spec moves no share, but for a pin. The step that is under
//     way is found by the share that there is, and its hold begins anew if it is another
//     one. A pin that goes leaves the lesser of its share and the one before it.
//   - A spec that turns round waits until the traffic is back, or all over.
//   - Deletion returns the traffic, and only then lets the object go.
//
// Texts say at what time something ends, never how long it still takes: a status must
// not change because it was looked at.
func Next(in Input, now time.Time) Output {
	m := newMachine(in, now)
	switch {
	case in.Deleting:
		m.leave()
	case m.s.Phase == v1alpha1.ShiftCompleted:
		m.stayCompleted()
	case in.TargetIsHome && m.share == Whole && !m.pinned && m.s.PinnedFrom == "":
		// The home was recorded, the status that says so was not written.
		m.complete()
	default:
		m.goOn()
	}
	m.conclude()
	return Output{Status: m.s, Notices: m.notices, Home: m.home, Release: m.release}
}

// DirectionOf returns the direction that a TrafficShift's status is about, which
// is the spec's unless that was turned round while traffic was divided.
func DirectionOf(o *v1alpha1.TrafficShift) v1alpha1.ShiftDirection {
	return cmp.Or(o.Status.Direction, o.Spec.Direction, v1alpha1.InstancesToPods)
}

// machine is a decision that is being made.
type machine struct {
	in   Input
	now  time.Time
	spec *v1alpha1.TrafficShiftSpec
	// steps of the spec; none if they cannot be read, which stepsError says.
	steps      []step
	stepsError string
	window     time.Duration

	s v1alpha1.TrafficShiftStatus
	// share is what s.Percent says.
	share Hundredths
	// pinned is true while spec.pin is stated, and pin its share in the direction of the status.
	pinned bool
	pin    Hundredths
	// turned is true while the spec's direction is not the one that the status is about, and
	// adopted once it has just become that: what was seen is about the other one.
	turned, adopted bool
	// anew is true if an edit has just let the step that is under way begin: a promotion that comes with
	// it was meant for what was there before.
	anew bool

	// promotion is what was just promoted, nil for nothing.
	promotion *promotion

	// blockers keep the shift from going on; the first is the most important one.
	blockers []blocker
	notices  []Notice
	home     bool
	release  bool
}

// blocker is what a shift waits for.
type blocker struct {
	// reason of the condition Progressing.
	reason string
	// text is the whole, and brief what is said of it where it is not the first, "" for the text.
	text, brief string
}

func newMachine(in Input, now time.Time) *machine {
	o := in.Object
	m := &machine{in: in, now: now, spec: &o.Spec, window: windowOf(&o.Spec.Guard), s: *o.Status.DeepCopy()}
	steps, err := readSteps(o.Spec.Steps)
	if err != nil {
		m.stepsError = err.Error()
	} else {
		m.steps = steps
	}
	m.share, _ = ParsePercent(m.s.Percent)
	m.s.Percent = m.share.Percent()
	if m.s.Phase == "" {
		m.s.Phase, m.s.Step = v1alpha1.ShiftPending, -1
	}
	m.clock()
	m.edits()
	if in.Analysis != nil {
		m.s.Analysis = in.Analysis
	}
	switch {
	case o.Spec.Guard.ErrorBudget == nil:
		m.s.Budget = nil
	case in.Budget != nil:
		m.s.Budget = in.Budget
	}
	return m
}

// goOn decides about a shift that is under way or is to begin.
func (m *machine) goOn() {
	m.followPin()
	m.locate()
	m.obey()
	m.followVerdict()
	m.block()
	m.answerPromotion()
	if len(m.blockers) > 0 {
		return
	}
	if int(m.s.Step) == len(m.steps)-1 {
		m.complete()
		return
	}
	m.begin(m.s.Step + 1)
}

// followPin sets the share to the pin's, or to the allowed one once there is no pin.
func (m *machine) followPin() {
	switch {
	case m.pinned:
		if m.s.PinnedFrom == "" {
			m.s.PinnedFrom = m.share.Percent()
		}
		m.mirror(nil)
		if m.share != m.pin {
			m.move(m.pin, v1alpha1.EventStep, actorSpec, "pinned by spec.pin", true)
		}
	case m.s.PinnedFrom != "":
		from, _ := ParsePercent(m.s.PinnedFrom)
		m.s.PinnedFrom = ""
		// The step begins anew, and an approval is of what its hold has shown.
		m.void("a pin held the share meanwhile, and the step begins anew")
		m.s.StepStarted, m.anew = stamp(m.now), true
		m.move(min(m.share, from), v1alpha1.EventStep, actorSpec, "the pin is gone", false)
	}
}

// followVerdict takes the shift back if the guard fails. The verdict is about the stored status: an edit that
// ends the copies in the same instant must not hide that they failed.
func (m *machine) followVerdict() {
	copied := m.s.ShadowPercent != "" || m.in.Object.Status.ShadowPercent != ""
	if m.in.Verdict.Result != Fail || m.pinned || m.s.RolledBack || m.adopted || m.share == 0 && !copied {
		return
	}
	reason := m.verdictText()
	switch {
	case m.in.SourceGone != "":
		m.wait(ReasonGuardFailed, fmt.Sprintf("the guard fails, but there is nothing to go back to: %s; the guard says: %s", m.in.SourceGone, reason))
	case m.in.Locked:
		m.wait(ReasonGuardFailed, fmt.Sprintf("the guard fails, but the way back is held back because %s: %s", m.frozenText(), reason))
	case m.spec.OnFailure == v1alpha1.HoldStep:
		m.wait(ReasonGuardFailed, "the guard fails and onFailure is HoldStep: "+reason)
	case m.spec.OnFailure == v1alpha1.PreviousStep:
		m.stepBack(reason)
	default:
		m.takeBack(actorGuard, reason)
	}
}

// takeBack returns all traffic at once.
func (m *machine) takeBack(actor, reason string) {
	m.void("the traffic was taken back")
	m.s.Step, m.s.Approved, m.s.RolledBack, m.s.StepStarted = -1, nil, true, stamp(m.now)
	m.mirror(nil)
	m.move(0, v1alpha1.EventRollBack, actor, reason, true)
}

// stepBack goes to the step with the next smaller share; before the first step it rolls
// back. The guard's window still covers the larger share, so the shift goes no further
// back before a window has passed.
func (m *machine) stepBack(reason string) {
	to := -1
	for i := range m.steps {
		if m.steps[i].share < m.share {
			to = i
		}
	}
	switch {
	case to < 0 || m.steps[to].share == 0:
		m.takeBack(actorGuard, reason)
	case m.justSteppedBack():
		m.wait(ReasonGuardFailed, fmt.Sprintf("the guard fails; it is asked again at %s, a window after the step down: %s", clockText(m.s.StepStarted.Add(m.window)), reason))
	default:
		m.void("the guard failed, and it was taken a step back")
		m.s.Step, m.s.StepStarted = int32(to), stamp(m.now)
		m.mirror(m.steps[to].shadow)
		m.move(m.steps[to].share, v1alpha1.EventRollBack, actorGuard, reason, true)
		m.wait(ReasonGuardFailed, "the guard failed: "+reason)
	}
}

// justSteppedBack reports whether the step that is under way was gone back to less than a
// window ago.
func (m *machine) justSteppedBack() bool {
	if m.s.StepStarted == nil || m.now.Sub(m.s.StepStarted.Time) >= m.window {
		return false
	}
	for _, h := range m.s.History {
		if h.From != h.To {
			return h.Event == v1alpha1.EventRollBack
		}
	}
	return false
}

// begin starts a step.
func (m *machine) begin(number int32) {
	if m.s.Step < 0 {
		m.s.SourceInstances = int32(m.in.InstancesInService)
	}
	if r := m.s.CommandResult; r != nil && r.Result == v1alpha1.CommandWaits {
		done := *r
		done.Result, done.Message = v1alpha1.CommandDone, ""
		m.s.CommandResult = &done
	}
	st := &m.steps[number]
	m.s.Step, m.s.Approved, m.s.StepStarted = number, nil, stamp(m.now)
	m.mirror(st.shadow)
	reason := fmt.Sprintf("step %d of %d begins", number+1, len(m.steps))
	if st.shadow != nil {
		reason += fmt.Sprintf(": %s %% of %s requests are copied", st.shadow.Percent, methodsText(m.s.ShadowMethods))
	}
	m.move(max(m.share, st.share), v1alpha1.EventStep, actorSteps, reason, false)
	m.wait(reasonHolding, m.holdText())
}

// complete ends the shift where the traffic is now.
func (m *machine) complete() {
	m.s.Phase, m.s.Approved, m.home = v1alpha1.ShiftCompleted, nil, true
	m.mirror(nil)
	m.move(m.share, v1alpha1.EventCompleted, actorSteps, fmt.Sprintf("all steps are over: the %s are the home of the Service now", m.in.To), false)
}

// stayCompleted keeps what is over as it is. A pin still counts, and while it keeps traffic from home
// the object is not let go: its deletion ends the pin, which leave has to tell of.
func (m *machine) stayCompleted() {
	m.obey()
	atHome := m.share == Whole
	switch {
	case m.pinned && m.share != m.pin:
		m.move(m.pin, v1alpha1.EventStep, actorSpec, "pinned by spec.pin", true)
	case !m.pinned && m.share != Whole:
		m.move(Whole, v1alpha1.EventStep, actorSpec, "the pin is gone, and the traffic is at home again", false)
	}
	m.release = atHome && m.share == Whole
}

// leave returns the traffic of a shift that is being deleted to its home, and then lets it go. A
// Service that goes with its namespace has no traffic to return.
func (m *machine) leave() {
	home, backing := Hundredths(0), m.in.From
	if m.s.Phase == v1alpha1.ShiftCompleted || m.in.TargetIsHome {
		home, backing = Whole, m.in.To
	}
	m.obey()
	// A shift that has not begun has 0 % of nothing: all traffic is at home, wherever that is.
	begun := m.share > 0 || m.s.Step >= 0 || m.s.RolledBack || m.s.PinnedFrom != ""
	switch {
	case m.in.NamespaceTerminating, !begun, m.share == home && m.s.ShadowPercent == "":
		m.release = true
	case m.in.Locked:
		m.wait(reasonFrozen, "the TrafficShift is being deleted, but the traffic cannot return because "+m.frozenText())
	case home == Whole:
		m.s.PinnedFrom, m.s.RolledBack = "", false
		m.mirror(nil)
		m.move(Whole, v1alpha1.EventStep, actorSpec, fmt.Sprintf("the TrafficShift was deleted: all traffic returns to the %s", backing), true)
	default:
		m.s.PinnedFrom = ""
		m.takeBack(actorSpec, fmt.Sprintf("the TrafficShift was deleted before it was complete: all traffic returns to the %s", backing))
	}
}

// mirror lets requests be copied as a step says, nil for none.
func (m *machine) mirror(shadow *v1alpha1.ShiftShadow) {
	m.s.ShadowPercent, m.s.ShadowMethods = "", nil
	if shadow != nil {
		m.s.ShadowPercent, m.s.ShadowMethods = shadow.Percent, shadowMethods(shadow)
	}
}

// move gives the target a share and tells of it.
func (m *machine) move(to Hundredths, event v1alpha1.ShiftEvent, actor, reason string, warning bool) {
	from := m.share
	m.share, m.s.Percent = to, to.Percent()
	m.record(event, from, actor, reason)
	m.notices = append(m.notices, Notice{
		Event: event, From: from.Percent(), To: to.Percent(), Step: m.s.Step, Actor: actor, Reason: reason, Warning: warning,
	})
}

// record remembers what happened.
func (m *machine) record(event v1alpha1.ShiftEvent, from Hundredths, actor, reason string) {
	entry := v1alpha1.ShiftHistory{
		Time: metav1.Time{Time: m.now.UTC().Truncate(time.Second)}, Event: event, From: from.Percent(), To: m.share.Percent(),
		Step: m.s.Step, Actor: actor, Reason: reason,
	}
	m.s.History = append([]v1alpha1.ShiftHistory{entry}, m.s.History[:min(len(m.s.History), maxHistory-1)]...)
}

// wait notes what the shift waits for.
func (m *machine) wait(reason, text string) {
	m.blockers = append(m.blockers, blocker{reason: reason, text: text})
}

// briefest is how many bytes of a detail stand beside something more important.
const briefest = 100

// waitFor is wait for what has details that a condition of its own tells, too: they are left out
// where they are long or where a side that does not answer is their cause.
func (m *machine) waitFor(reason, what, detail string) {
	b := blocker{reason: reason, text: what + ": " + detail}
	if m.in.FailedOver || len(detail) > briefest {
		b.brief = what
	}
	m.blockers = append(m.blockers, b)
}

// waiting says all that the shift waits for in a line that people read: the first thing whole,
// because it is to be mended first, and the others in brief. The conditions have every text.
func (m *machine) waiting() string {
	texts := make([]string, len(m.blockers))
	for i, b := range m.blockers {
		texts[i] = b.text
		if i > 0 {
			texts[i] = cmp.Or(b.brief, b.text)
		}
	}
	return strings.Join(texts, "; ")
}

// conclude states phase, waiting and conditions, and tells of what the shift has begun to wait for.
func (m *machine) conclude() {
	m.s.ObservedGeneration = m.in.Object.Generation
	m.s.Phase = m.phase()
	c := m.progressing()
	m.s.Waiting = m.waiting()
	before := meta.FindStatusCondition(m.in.Object.Status.Conditions, v1alpha1.ConditionProgressing)
	if before == nil || before.Reason != c.Reason {
		m.tell(c.Reason)
	}
	m.condition(c)
	m.condition(m.guardHealthy())
	if room := m.capacityReady(); room != nil {
		m.condition(*room)
	}
}

// tell makes a notice of what the shift has begun to wait for, if somebody should know.
func (m *machine) tell(reason string) {
	n := Notice{From: m.s.Percent, To: m.s.Percent, Step: m.s.Step, Actor: actorSteps, Reason: m.s.Waiting}
	switch reason {
	case reasonAwaitingApproval:
		n.Event = v1alpha1.EventAwaitingApproval
	case reasonFailedOver:
		n.Event, n.Warning = v1alpha1.EventFailedOver, true
	case ReasonGuardFailed:
		n.Event, n.Actor, n.Warning = v1alpha1.EventHold, actorGuard, true
	case reasonGuardHolds, reasonCapacity, reasonTurned, reasonFrozen, reasonPaused, reasonLastStep:
		n.Event = v1alpha1.EventHold
	default:
		return
	}
	m.notices = append(m.notices, n)
}

func (m *machine) phase() v1alpha1.ShiftPhase {
	paused := m.pinned || m.spec.Paused || m.s.Paused || m.in.Frozen || m.in.Locked
	switch {
	case m.s.Phase == v1alpha1.ShiftCompleted:
		return v1alpha1.ShiftCompleted
	case m.s.RolledBack && !m.pinned:
		if m.in.Unsettled != "" || !m.in.Object.Status.RolledBack {
			return v1alpha1.ShiftRollingBack
		}
		return v1alpha1.ShiftRolledBack
	case paused && !m.in.Deleting:
		return v1alpha1.ShiftPaused
	case m.s.Step < 0 && m.share == 0:
		return v1alpha1.ShiftPending
	case len(m.blockers) > 0 && m.blockers[0].reason == reasonAwaitingApproval:
		return v1alpha1.ShiftAwaitingApproval
	case m.s.ShadowPercent != "":
		return v1alpha1.ShiftShadowing
	case m.share == Whole:
		return v1alpha1.ShiftSoaking
	}
	return v1alpha1.ShiftShifting
}

// stamp returns a time as the status stores it: in whole seconds, and not before
// the time itself, so that no hold is shortened by writing down when it began.
func stamp(t time.Time) *metav1.Time {
	s := t.UTC().Truncate(time.Second)
	if s.Before(t) {
		s = s.Add(time.Second)
	}
	return &metav1.Time{Time: s}
}
