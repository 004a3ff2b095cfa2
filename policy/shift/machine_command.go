package shift

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// readCommand returns the command in the annotation of a TrafficShift, nil for
// none. A command that cannot be read has an id too, so that it is answered
// once.
func readCommand(o *v1alpha1.TrafficShift) (*v1alpha1.ShiftCommand, error) {
	text := o.Annotations[v1alpha1.CommandAnnotation]
	if text == "" {
		return nil, nil //nolint:nilnil // no command is no error
	}
	c := &v1alpha1.ShiftCommand{}
	err := json.Unmarshal([]byte(text), c)
	if err == nil && c.ID == "" {
		err = fmt.Errorf("it has no id")
	}
	if err != nil {
		sum := sha256.Sum256([]byte(text))
		return &v1alpha1.ShiftCommand{ID: "unreadable-" + hex.EncodeToString(sum[:6]), Action: "command"},
			fmt.Errorf("the annotation %s is not a command: %w: write it with `causeway shift`", v1alpha1.CommandAnnotation, err)
	}
	return c, nil
}

// CommandLife is how long a command may be carried out after it was given. An older command
// answers a state that is gone.
const CommandLife = 2 * time.Minute

// obey carries out a command that was not carried out yet, or says why not: there is no
// phase in which one stands. Its id is written together with what it has changed.
func (m *machine) obey() {
	c, err := readCommand(m.in.Object)
	if c == nil || c.ID == m.s.Command {
		return
	}
	m.s.Command = c.ID
	actor := cmp.Or(c.Actor, "somebody")
	refusal := ""
	if err != nil {
		refusal = err.Error()
	} else {
		refusal = cmp.Or(m.outdated(c), m.refusal(c))
	}
	m.s.CommandResult = &v1alpha1.ShiftCommandResult{
		Action: c.Action, Actor: actor, Time: metav1.Time{Time: m.now.UTC().Truncate(time.Second)}, Result: v1alpha1.CommandDone,
	}
	if refusal != "" {
		m.s.CommandResult.Result, m.s.CommandResult.Message = v1alpha1.CommandRefused, refusal
		m.move(m.share, v1alpha1.EventCommand, actor, fmt.Sprintf("%s refused: %s", c.Action, refusal), true)
		return
	}
	reason := string(c.Action)
	if c.Reason != "" {
		reason += ": " + c.Reason
	}
	switch c.Action {
	case v1alpha1.ActionPause:
		m.s.Paused = true
	case v1alpha1.ActionResume:
		m.s.Paused = false
	case v1alpha1.ActionRollback:
		m.takeBack(actor, reason)
		return
	case v1alpha1.ActionPromote:
		if m.s.RolledBack {
			m.restart(m.share, actor, reason+": the shift begins at its first step again")
			m.notices = append(m.notices, Notice{
				Event: v1alpha1.EventCommand, From: m.s.Percent, To: m.s.Percent, Step: m.s.Step, Actor: actor, Reason: reason,
			})
			return
		}
		step := m.s.Step
		m.s.Approved, m.promotion = &step, &promotion{actor, reason}
		return
	}
	m.move(m.share, v1alpha1.EventCommand, actor, reason, false)
}

// promotion is one that was just given: what it waits for is known later.
type promotion struct{ actor, reason string }

// answerPromotion says of a promotion that was just given whether the next step begins, or
// what it waits for.
func (m *machine) answerPromotion() {
	if m.promotion == nil {
		return
	}
	reason := m.promotion.reason
	if len(m.blockers) > 0 {
		waits := m.waiting()
		m.s.CommandResult.Result, m.s.CommandResult.Message = v1alpha1.CommandWaits, waits
		reason += "; it waits for this: " + waits
	}
	m.move(m.share, v1alpha1.EventCommand, m.promotion.actor, reason, false)
}

// void takes back an approval that was given for what is no longer so, and says it: who gave it
// must look again.
func (m *machine) void(why string) {
	if m.s.Approved == nil {
		return
	}
	step := *m.s.Approved
	m.s.Approved = nil
	if r := m.s.CommandResult; r != nil && r.Result == v1alpha1.CommandWaits {
		next := *r
		next.Result, next.Message = v1alpha1.CommandVoid, why
		m.s.CommandResult = &next
	}
	m.move(m.share, v1alpha1.EventCommand, actorSpec,
		fmt.Sprintf("the promotion of %s is void: %s; look again, and promote it anew: causeway shift promote %s", stepText(step), why, m.name()), true)
}

// outdated says that a command is not of now, "" if it is.
func (m *machine) outdated(c *v1alpha1.ShiftCommand) string {
	if c.Time.IsZero() {
		return "it does not say when it was given: send it with `causeway shift`"
	}
	switch age := m.now.Sub(c.Time.Time); {
	case age > CommandLife:
		return fmt.Sprintf("it was given at %s and counted until %s, and nobody could carry it out by then: look again and send it anew",
			clockText(c.Time.Time), clockText(c.Time.Add(CommandLife)))
	case age < -CommandLife:
		return fmt.Sprintf("it says that it was given at %s, and now it is %s: set the clock right where it comes from, and send it again",
			clockText(c.Time.Time), clockText(m.now))
	}
	return ""
}

// refusal says why a command cannot be carried out, "" if it can.
func (m *machine) refusal(c *v1alpha1.ShiftCommand) string {
	switch {
	case m.in.Deleting:
		return "the TrafficShift is being deleted"
	case m.s.Phase == v1alpha1.ShiftCompleted:
		return fmt.Sprintf("the shift is complete, and the %s are the home of the Service: to go back, set spec.direction to %s",
			m.in.To, policy.Opposite(m.s.Direction))
	}
	switch c.Action {
	case v1alpha1.ActionPause:
		if m.s.Paused {
			return "it is paused already"
		}
	case v1alpha1.ActionResume:
		switch {
		case m.spec.Paused:
			return "spec.paused holds the shift: set it to false"
		case !m.s.Paused:
			return "it is not paused"
		}
	case v1alpha1.ActionRollback:
		switch {
		case m.s.RolledBack:
			return "it is at 0 % already"
		case m.pinned:
			return fmt.Sprintf("spec.pin holds the share at %s %%: set spec.pin to \"0\", or remove it and send the command again", m.spec.Pin)
		case m.in.Locked:
			return m.frozenText() + ": `causeway unfreeze` first, and send the command again"
		}
	case v1alpha1.ActionPromote:
		return m.promotionRefusal(c)
	default:
		return fmt.Sprintf("there is no action %q: it is one of promote, pause, resume and rollback", c.Action)
	}
	return ""
}

// promotionRefusal says why a step cannot be promoted, "" if it can. Where the guard merely holds
// the promotion stands, and the next step begins once the guard is content.
func (m *machine) promotionRefusal(c *v1alpha1.ShiftCommand) string {
	switch {
	case c.Step != nil && *c.Step != m.s.Step:
		return fmt.Sprintf("it is about %s, but now it is %s: look again and send it anew", stepText(*c.Step), stepText(m.s.Step))
	case !m.in.Accepted:
		return "the TrafficShift is not accepted: " + m.in.Problem
	case m.stepsError != "":
		return m.stepsError
	case m.turned:
		return "spec.direction was turned round: take the traffic back first"
	case m.pinned:
		return fmt.Sprintf("spec.pin holds the share at %s %%: remove it first", m.spec.Pin)
	case m.spec.Paused:
		return "spec.paused holds the shift: set it to false first"
	case m.s.Paused:
		return "the shift is paused: `causeway shift resume` first"
	case m.in.Frozen || m.in.Locked:
		return m.frozenText() + ": `causeway unfreeze` first"
	case m.in.FailedOver:
		return m.in.FailedOverReason
	case m.in.Verdict.Result == Fail:
		return "the guard fails: " + m.verdictText()
	case m.s.RolledBack:
		return ""
	case m.s.Step < 0:
		return "no step is under way that could end: status.waiting says what the first one needs"
	case m.anew:
		return fmt.Sprintf("the spec was edited at the same time, and %s begins anew: look again and send it again", stepText(m.s.Step))
	case int(m.s.Step) == len(m.steps)-1 && m.share < Whole:
		return "the last step is under way, and the shift stays there"
	}
	return ""
}

func stepText(position int32) string {
	if position < 0 {
		return "before the first step"
	}
	return fmt.Sprintf("step %d", position+1)
}
