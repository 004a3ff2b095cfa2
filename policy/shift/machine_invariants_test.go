package shift

import (
	"encoding/json"
	"fmt"
	"reflect"
	"time"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// transition is one decision: the state that was stored, and what came of it.
type transition struct {
	in  Input
	now time.Time
	out Output
	// What the world knows and the machine may not.
	//
	// since is for how long, by a clock that does not jump, the stored step has been under way, and
	// leapt by how much the wall clock has jumped forward meanwhile. quiet is for how long
	// neither the clock has jumped nor the leader changed.
	since, leapt, quiet time.Duration
	// promoted is true if somebody promoted the stored step.
	promoted bool
	// unnoticed is true if Seen did not begin anew at the last jump, as it should.
	unnoticed bool
	// quick leaves out what takes long.
	quick bool
}

func (t *transition) was() *v1alpha1.TrafficShiftStatus { return &t.in.Object.Status }

// shares returns the target's share before and after, both in the direction of the status
// before. The share of a shift that begins in the other direction is that of the other side.
func (t *transition) shares() (before, after Hundredths) {
	before, _ = ParsePercent(t.was().Percent)
	after, err := ParsePercent(t.out.Status.Percent)
	if err != nil {
		panic(err)
	}
	if d := t.was().Direction; d != "" && d != t.out.Status.Direction && t.was().Phase == v1alpha1.ShiftCompleted {
		after = Whole - after
	}
	return before, after
}

func (t *transition) pinned() bool { return t.in.Object.Spec.Pin != "" && !t.in.Deleting }

// raisedBySteps reports whether the share rose without a pin. Home is where a completed shift
// returns to when its pin goes, and any shift when it is deleted.
func (t *transition) raisedBySteps() bool {
	before, after := t.shares()
	return after > before && !t.pinned() && t.was().Phase != v1alpha1.ShiftCompleted && !(t.in.Deleting && t.home() == Whole)
}

// home returns the share of the target once there is no shift.
func (t *transition) home() Hundredths {
	if t.in.TargetIsHome || t.was().Phase == v1alpha1.ShiftCompleted {
		return Whole
	}
	return 0
}

// stepEnded reports whether the stored step was ended to go on.
func (t *transition) stepEnded() bool {
	if t.was().Phase == "" || t.was().Phase == v1alpha1.ShiftCompleted || t.was().RolledBack {
		return false
	}
	if t.out.Home {
		return !t.in.TargetIsHome
	}
	return t.was().Step >= 0 && (t.raisedBySteps() || t.out.Status.Step == t.was().Step+1 && t.out.Status.StepStarted.After(t.now.Add(-time.Second)) &&
		t.out.Status.ShadowPercent != "")
}

// invariants must hold for every decision, whatever the world does.
var invariants = []struct {
	name  string
	check func(*transition) error
}{
	{"NeverSkipsHold", neverSkipsHold},
	{"NeverSkipsApproval", neverSkipsApproval},
	{"NeverRaisesWithoutPass", neverRaisesWithoutPass},
	{"RaisesOneStepAtATime", raisesOneStepAtATime},
	{"RollbackInOneWrite", rollbackInOneWrite},
	{"ShareIsWhatStatusSays", shareIsWhatStatusSays},
	{"HistoryTruthful", historyTruthful},
	{"CommandOnce", commandOnce},
	{"HomeBeforeCompleted", homeBeforeCompleted},
	{"ReleaseOnlyAtHome", releaseOnlyAtHome},
	{"FrozenNeverRaises", frozenNeverRaises},
	{"StatusIsFixpoint", statusIsFixpoint},
}

// neverSkipsHold: no step ends before its hold has passed, unless somebody promoted it, and
// none before a whole window. A jump of the clock can stand for a part of the hold, never for the window. Where Seen does not tell of
// the jump, a promotion right after it cannot know: by the wall clock the step has lasted long enough.
func neverSkipsHold(t *transition) error {
	if !t.stepEnded() {
		return nil
	}
	window := windowOf(&t.in.Object.Spec.Guard)
	lasted, quiet := t.since, t.quiet
	if t.unnoticed && t.promoted {
		lasted, quiet = t.since+t.leapt, window
	}
	if lasted < window || quiet < window {
		return fmt.Errorf("a step of %s ended, %s after the last disturbance, before a window of %s", t.since, t.quiet, window)
	}
	if i := int(t.was().Step); i >= 0 && i < len(t.in.Object.Spec.Steps) && !t.promoted {
		if hold := t.in.Object.Spec.Steps[i].Hold; hold != nil && t.since+t.leapt < hold.Duration {
			return fmt.Errorf("step %d ended after %s (and %s leapt) of its hold of %s", i, t.since, t.leapt, hold.Duration)
		}
	}
	return nil
}

// neverSkipsApproval: no step that wants an approval ends without one.
func neverSkipsApproval(t *transition) error {
	i := int(t.was().Step)
	if t.stepEnded() && i >= 0 && i < len(t.in.Object.Spec.Steps) && t.in.Object.Spec.Steps[i].Approval != "" && !t.promoted {
		return fmt.Errorf("step %d ended without an approval", i)
	}
	return nil
}

// neverRaisesWithoutPass: no share rises, and no step ends, but with a verdict that is Pass, a window that this leader
// has seen, room for it, and nothing that stands in the way.
func neverRaisesWithoutPass(t *transition) error {
	if !t.raisedBySteps() && !t.stepEnded() {
		return nil
	}
	spec := &t.in.Object.Spec
	switch {
	case t.in.Verdict.Result != Pass:
		return fmt.Errorf("the verdict is %q", t.in.Verdict.Result)
	case t.in.Seen < windowOf(&spec.Guard):
		return fmt.Errorf("the leader has seen %s", t.in.Seen)
	case !t.in.Accepted, spec.Paused, t.in.FailedOver, t.in.Deleting, t.pinned(), t.out.Status.Paused:
		return fmt.Errorf("something stands in the way")
	}
	if !t.out.Home && !t.in.Room(t.out.Status.Percent).OK {
		return fmt.Errorf("there is no room for %s %%", t.out.Status.Percent)
	}
	return nil
}

// raisesOneStepAtATime: a share rises to that of the next step, and there is none between.
func raisesOneStepAtATime(t *transition) error {
	if !t.raisedBySteps() {
		return nil
	}
	before, after := t.shares()
	steps, err := readSteps(t.in.Object.Spec.Steps)
	if err != nil {
		return err
	}
	if at := steps[t.out.Status.Step].share; at != after {
		return fmt.Errorf("the share rose to %s in a step of %s", after, at)
	}
	for _, s := range steps {
		if s.share > before && s.share < after {
			return fmt.Errorf("the share rose from %s to %s over a step of %s", before, after, s.share)
		}
	}
	return nil
}

// rollbackInOneWrite: from any state a guard that fails brings the share to 0 with a single status. One
// that begins in the other direction then has another target, which nothing was seen of.
func rollbackInOneWrite(t *transition) error {
	before, after := t.shares()
	if t.in.Verdict.Result != Fail || t.in.Locked || t.pinned() || t.in.Deleting || t.was().Phase == v1alpha1.ShiftCompleted ||
		t.in.Object.Spec.OnFailure != v1alpha1.RollBack || before == 0 && t.was().ShadowPercent == "" || t.in.TargetIsHome && before == Whole ||
		t.out.Status.Direction != t.was().Direction {
		return nil
	}
	if s := &t.out.Status; after != 0 || !s.RolledBack && t.was().PinnedFrom == "" || s.ShadowPercent != "" || s.Step != -1 {
		return fmt.Errorf("the guard failed at %s, and the share is %s, rolled back %t, shadow %q, step %d", before, after, s.RolledBack, s.ShadowPercent, s.Step)
	}
	return nil
}

// shareIsWhatStatusSays: what the mesh reads of the status, by itself, is a share that somebody meant.
func shareIsWhatStatusSays(t *transition) error {
	s := &t.out.Status
	share, err := ParsePercent(s.Percent)
	if err != nil || share.Percent() != s.Percent {
		return fmt.Errorf("the percent is %q: %w", s.Percent, err)
	}
	completed := s.Phase == v1alpha1.ShiftCompleted
	// A completed shift that is deleted with its pin keeps the pin's share while configuration is frozen, and
	// for good where its Service goes too.
	stays := t.in.Deleting && (t.in.Locked || t.in.NamespaceTerminating) && s.Percent == t.was().Percent
	switch {
	case t.pinned():
		pin, _ := ParsePercent(t.in.Object.Spec.Pin)
		if s.Direction != t.in.Object.Spec.Direction {
			pin = Whole - pin
		}
		if share != pin || s.ShadowPercent != "" {
			return fmt.Errorf("the pin is %s, and the percent %s", pin, share)
		}
	case completed && (share != Whole && !stays || s.ShadowPercent != ""):
		return fmt.Errorf("completed at %s", share)
	case s.RolledBack && !t.in.Deleting && (share != 0 || s.ShadowPercent != ""):
		return fmt.Errorf("rolled back at %s", share)
	case s.Phase == v1alpha1.ShiftPending && share != 0:
		return fmt.Errorf("pending at %s", share)
	case t.in.Deleting || completed || s.Step < 0:
	default:
		steps, err := readSteps(t.in.Object.Spec.Steps)
		if err == nil && (int(s.Step) >= len(steps) || steps[s.Step].share > share) {
			return fmt.Errorf("step %d at %s", s.Step, share)
		}
	}
	return nil
}

// historyTruthful: each entry begins where the one before it ended, and the newest
// ends at the share that there is.
func historyTruthful(t *transition) error {
	s := &t.out.Status
	if len(s.History) > maxHistory {
		return fmt.Errorf("%d entries", len(s.History))
	}
	at := s.Percent
	for i, h := range s.History {
		if h.To != at {
			return fmt.Errorf("entry %d ends at %s, and the next state has %s", i, h.To, at)
		}
		if h.Actor == "" || h.Reason == "" || h.Time.IsZero() {
			return fmt.Errorf("entry %d does not say when, who and why", i)
		}
		at = h.From
	}
	if len(s.History) < maxHistory && at != "0" {
		return fmt.Errorf("the history begins at %s", at)
	}
	return nil
}

// commandOnce: a command whose id is in the status does nothing, and one that is new is in the status afterwards.
func commandOnce(t *transition) error {
	c, _ := readCommand(t.in.Object)
	if c == nil || c.ID != t.was().Command {
		return nil
	}
	without := t.in
	without.Object = t.in.Object.DeepCopy()
	without.Object.Annotations = nil
	if out := Next(without, t.now); !reflect.DeepEqual(out, t.out) {
		return fmt.Errorf("command %s was carried out again", c.ID)
	}
	return nil
}

// homeBeforeCompleted: no status says Completed before the home was recorded.
func homeBeforeCompleted(t *transition) error {
	if t.out.Status.Phase == v1alpha1.ShiftCompleted && t.was().Phase != v1alpha1.ShiftCompleted && !t.out.Home {
		return fmt.Errorf("completed without a home")
	}
	if t.was().Phase == v1alpha1.ShiftCompleted && !t.in.TargetIsHome && t.was().Direction == t.out.Status.Direction {
		return fmt.Errorf("the stored status is Completed, and the target is not the home")
	}
	if share, _ := ParsePercent(t.out.Status.Percent); t.out.Home && share != Whole {
		return fmt.Errorf("the home moves at %s", share)
	}
	return nil
}

// releaseOnlyAtHome: the object goes only once its going moves no traffic, or its Service goes with it.
// A shift that has not begun divides nothing.
func releaseOnlyAtHome(t *transition) error {
	was := t.was()
	share, _ := ParsePercent(was.Percent)
	begun := share > 0 || was.Step >= 0 && was.Phase != "" || was.RolledBack || was.PinnedFrom != ""
	if !t.out.Release || t.in.NamespaceTerminating || !begun {
		return nil
	}
	if share != t.home() || was.ShadowPercent != "" {
		return fmt.Errorf("released at %s", share)
	}
	return nil
}

// frozenNeverRaises: while shifts are frozen no share rises but by a pin.
func frozenNeverRaises(t *transition) error {
	before, after := t.shares()
	if (t.in.Frozen || t.in.Locked) && (t.raisedBySteps() || t.out.Home && !t.in.TargetIsHome) {
		return fmt.Errorf("the share rose from %s to %s", before, after)
	}
	return nil
}

// statusIsFixpoint: what was decided is decided once: looked at again with the same observations,
// the status stops to change after a few looks, and says nothing more. It does not change with
// the time either: stored times are whole seconds, and those of the world whole halves.
func statusIsFixpoint(t *transition) error {
	if t.quick {
		return nil
	}
	in, out := t.in, t.out
	for range 5 {
		in.Object = in.Object.DeepCopy()
		in.Object.Status = stored(&out.Status)
		in.TargetIsHome = in.TargetIsHome || out.Home
		next := Next(in, t.now)
		if a, b := stored(&out.Status), stored(&next.Status); reflect.DeepEqual(a, b) {
			if len(next.Notices) > 0 {
				return fmt.Errorf("nothing changes, and it says %+v", next.Notices)
			}
			later := Next(in, t.now.Add(400*time.Millisecond))
			if b := stored(&later.Status); !reflect.DeepEqual(a, b) {
				return fmt.Errorf("the status changes with the time: %+v and then %+v", a, b)
			}
			return nil
		}
		out = next
	}
	return fmt.Errorf("the status never comes to rest: %+v", out.Status)
}

// stored returns a status as it comes back from where it was written.
func stored(s *v1alpha1.TrafficShiftStatus) v1alpha1.TrafficShiftStatus {
	data, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	var out v1alpha1.TrafficShiftStatus
	if err := json.Unmarshal(data, &out); err != nil {
		panic(err)
	}
	return out
}
