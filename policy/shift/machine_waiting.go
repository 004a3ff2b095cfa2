package shift

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Reasons of the condition Progressing: True while a step goes its way, False
// where something stands in it.
const (
	reasonHolding     = "Holding"
	reasonObserving   = "Observing"
	reasonNotAccepted = "NotAccepted"
	reasonTurned      = "DirectionTurned"
	reasonPinned      = "Pinned"
	reasonPaused      = "Paused"
	reasonFrozen      = "Frozen"
	reasonRolledBack  = "RolledBack"
	reasonFailedOver  = "FailedOver"
	// ReasonGuardFailed is that of a shift that goes on neither way although its guard fails.
	ReasonGuardFailed      = "GuardFailed"
	reasonAwaitingApproval = "AwaitingApproval"
	reasonLastStep         = "LastStep"
	reasonGuardHolds       = "GuardHolds"
	reasonCapacity         = "CapacityShort"
	reasonCompleted        = "Completed"
)

// block notes all that keeps the shift from going on, the most important thing first.
func (m *machine) block() {
	if m.s.RolledBack {
		m.wait(reasonRolledBack, m.rolledBackText())
	}
	switch {
	case !m.in.Accepted:
		m.wait(reasonNotAccepted, "it is not accepted: "+cmp.Or(m.in.Problem, "no reason is known"))
	case m.stepsError != "":
		m.wait(reasonNotAccepted, "it is not accepted: "+m.stepsError)
	case len(m.steps) == 0:
		m.wait(reasonNotAccepted, "it is not accepted: spec.steps is empty: add steps with a percent, up to 100")
	case m.adopted:
		m.wait(reasonObserving, "the direction was turned round: what was seen is about the other one")
	}
	if m.turned {
		m.wait(reasonTurned, fmt.Sprintf("spec.direction was turned round while the %s have %s: take that back first with `causeway shift rollback %s`, or state %s again",
			m.in.To, m.share, m.name(), m.s.Direction))
	}
	m.stops()
	if m.in.Unread != "" {
		m.wait(reasonObserving, m.in.Unread)
	}
	if m.in.FailedOver {
		m.wait(reasonFailedOver, m.in.FailedOverReason)
	}
	if m.s.RolledBack || m.pinned || len(m.steps) == 0 {
		return
	}
	m.time()
	last := int(m.s.Step) == len(m.steps)-1
	if last && m.share < Whole {
		m.wait(reasonLastStep, fmt.Sprintf("nothing: the last step has begun, and the shift stays at %s", m.share))
		return
	}
	m.look()
	if last {
		return
	}
	if room := m.in.Room(m.steps[m.s.Step+1].load().Percent()); !room.OK {
		m.waitFor(reasonCapacity, fmt.Sprintf("step %d needs room", m.s.Step+2), room.Reason)
	}
}

// stops lists the objects and people that make the shift wait.
func (m *machine) stops() {
	if m.pinned {
		m.wait(reasonPinned, fmt.Sprintf("spec.pin holds the share at %s %%: remove it, and the shift goes on from what it had, at most %s %%",
			m.spec.Pin, cmp.Or(m.s.PinnedFrom, m.s.Percent)))
	}
	if m.spec.Paused {
		m.wait(reasonPaused, "spec.paused holds it")
	}
	if m.s.Paused {
		m.wait(reasonPaused, fmt.Sprintf("somebody paused it: `causeway shift resume %s` lets it go on", m.name()))
	}
	if m.in.Frozen || m.in.Locked {
		m.wait(reasonFrozen, m.frozenText()+": `causeway unfreeze` lets it go on")
	}
}

// time notes what must have passed of the step, and what must be said.
func (m *machine) time() {
	if m.s.Step < 0 && m.s.StepStarted == nil {
		return
	}
	if m.now.Before(m.holdEnds()) {
		m.wait(reasonHolding, m.holdText())
	}
	if m.s.Step >= 0 && m.steps[m.s.Step].approval && !m.promoted() {
		m.wait(reasonAwaitingApproval, fmt.Sprintf("step %d needs an approval: causeway shift promote %s", m.s.Step+1, m.name()))
	}
}

// look notes what must have been seen.
func (m *machine) look() {
	switch said := slices.ContainsFunc(m.blockers, func(b blocker) bool { return b.reason == ReasonGuardFailed }); {
	case m.in.Verdict.Result == Pass || said:
	case m.in.Verdict.Result == Fail:
		m.waitFor(reasonGuardHolds, "the guard fails", m.verdictText())
	default:
		m.waitFor(reasonGuardHolds, "the guard", m.verdictText())
	}
	if m.in.Seen < m.window {
		m.wait(reasonObserving, fmt.Sprintf("the leader has not seen a whole window of %s yet", m.window))
	}
}

// promoted reports whether somebody promoted the step that is under way.
func (m *machine) promoted() bool {
	return m.s.Approved != nil && m.s.Step >= 0 && *m.s.Approved == m.s.Step
}

// holdEnds returns when the step's hold is over. A step lasts a window at least:
// without that nothing was seen of its share.
func (m *machine) holdEnds() time.Time {
	if m.s.StepStarted == nil {
		return m.now.Add(m.window)
	}
	hold := m.window
	if i := int(m.s.Step); i >= 0 && i < len(m.steps) && !m.promoted() {
		hold = max(hold, m.steps[i].hold)
	}
	return m.s.StepStarted.Add(hold)
}

func (m *machine) holdText() string {
	if m.s.Step < 0 {
		return "the share holds until " + clockText(m.holdEnds())
	}
	return fmt.Sprintf("step %d holds until %s", m.s.Step+1, clockText(m.holdEnds()))
}

func (m *machine) frozenText() string {
	what := "all shifts are frozen"
	if m.in.Locked {
		what = "all configuration is frozen"
	}
	if m.in.FrozenBy != "" {
		what += " by " + m.in.FrozenBy
	}
	return what
}

func (m *machine) rolledBackText() string {
	text := "it was taken back"
	for _, h := range m.s.History {
		if h.Event == v1alpha1.EventRollBack {
			text = fmt.Sprintf("it was taken back by %s at %s: %s", h.Actor, clockText(h.Time.Time), h.Reason)
			break
		}
	}
	if m.in.Unsettled != "" {
		text += "; not everywhere yet: " + m.in.Unsettled
	}
	return text + fmt.Sprintf("; `causeway shift promote %s`, or an edit of its steps, guard, cohort, capacity or direction, lets it begin anew", m.name())
}

// verdictText says what the guard says. The figures are those of the status,
// which do not change at every look.
func (m *machine) verdictText() string {
	v := m.in.Verdict
	if a := m.s.Analysis; a != nil && a.Verdict == string(v.Result) && a.Reason != "" {
		return a.Reason
	}
	return cmp.Or(v.Reason, "there is no verdict yet")
}

func (m *machine) name() string {
	return m.in.Object.Namespace + "/" + m.in.Object.Name
}

// clockText writes a time in whole seconds.
func clockText(t time.Time) string { return stamp(t).Format(time.RFC3339) }

// progressing returns the condition that says what the shift waits for.
func (m *machine) progressing() metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.ConditionProgressing, Status: metav1.ConditionFalse}
	switch {
	case m.s.Phase == v1alpha1.ShiftCompleted:
		c.Reason, c.Message = reasonCompleted, fmt.Sprintf("the %s are the home of the Service", m.in.To)
	case m.in.Deleting && len(m.blockers) == 0:
		c.Reason, c.Message = reasonRolledBack, "the TrafficShift is being deleted"
	case len(m.blockers) == 0:
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, reasonHolding, "the next step begins"
	default:
		c.Reason, c.Message = m.blockers[0].reason, m.blockers[0].text
		if c.Reason == reasonHolding || c.Reason == reasonObserving {
			c.Status = metav1.ConditionTrue
		}
	}
	return c
}

// guardHealthy returns the condition that says what the guard says.
func (m *machine) guardHealthy() metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.ConditionGuardHealthy, Message: m.verdictText()}
	switch m.in.Verdict.Result {
	case Pass:
		c.Status, c.Reason = metav1.ConditionTrue, "Pass"
	case Fail:
		c.Status, c.Reason = metav1.ConditionFalse, "Fail"
	case Hold:
		c.Status, c.Reason = metav1.ConditionUnknown, "Hold"
	default:
		c.Status, c.Reason = metav1.ConditionUnknown, "NoVerdict"
	}
	return c
}

// capacityReady returns the condition that says whether there is room for the
// next step, or for the last one while that is under way; nil where there are no steps.
func (m *machine) capacityReady() *metav1.Condition {
	if len(m.steps) == 0 || m.in.Deleting || m.s.Phase == v1alpha1.ShiftCompleted {
		return nil
	}
	next := min(max(int(m.s.Step)+1, 0), len(m.steps)-1)
	room := m.in.Room(m.steps[next].load().Percent())
	c := &metav1.Condition{Type: v1alpha1.ConditionCapacityReady, Status: metav1.ConditionTrue, Reason: "Ready", Message: room.Reason}
	if !room.OK {
		c.Status, c.Reason = metav1.ConditionFalse, reasonCapacity
	}
	return c
}

// condition states a condition; its time is now if it has changed.
func (m *machine) condition(c metav1.Condition) {
	c.ObservedGeneration = m.in.Object.Generation
	c.LastTransitionTime = metav1.Time{Time: m.now.UTC().Truncate(time.Second)}
	meta.SetStatusCondition(&m.s.Conditions, c)
}
