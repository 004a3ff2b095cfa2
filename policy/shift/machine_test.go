package shift

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// lab is a shift under conditions that a test chooses.
type lab struct {
	t   *testing.T
	in  Input
	now time.Time
	// said are all notices.
	said []Notice
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, now: time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)}
	o := &v1alpha1.TrafficShift{ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "php-web", Generation: 1}, Spec: *documented()}
	l.in = Input{
		Object: o, Accepted: true, From: discovery.Instances, To: discovery.Pods, Verdict: Verdict{Result: Pass, Reason: "all is well"}, Seen: time.Hour, InstancesInService: 12,
		Room: func(v1alpha1.Percent) Room { return Room{OK: true, Reason: "20 ready pods"} },
	}
	return l
}

// status is what is stored.
func (l *lab) status() *v1alpha1.TrafficShiftStatus { return &l.in.Object.Status }

// after lets time pass, decides, and stores what comes of it.
func (l *lab) after(d time.Duration) Output {
	l.t.Helper()
	l.now = l.now.Add(d)
	out := Next(l.in, l.now)
	l.in.Object.Status = stored(&out.Status)
	l.said = append(l.said, out.Notices...)
	return out
}

// at expects where the shift stands.
func (l *lab) at(phase v1alpha1.ShiftPhase, step int32, percent v1alpha1.Percent) {
	l.t.Helper()
	s := l.status()
	require.Equal(l.t, []any{phase, step, percent}, []any{s.Phase, s.Step, s.Percent}, "waits for: %s", s.Waiting)
}

// command says something, and the machine hears it.
func (l *lab) command(id string, action v1alpha1.ShiftAction, step *int32) Output {
	l.t.Helper()
	text, err := json.Marshal(v1alpha1.ShiftCommand{ID: id, Action: action, Step: step, Actor: "ada", Reason: "INC-7", Time: metav1.NewTime(l.now)})
	require.NoError(l.t, err)
	l.in.Object.Annotations = map[string]string{v1alpha1.CommandAnnotation: string(text)}
	return l.after(time.Second)
}

// reach goes on until a step is under way.
func (l *lab) reach(step int32) {
	l.t.Helper()
	for range 20 {
		if l.status().Step == step && l.status().Phase != "" {
			return
		}
		l.after(31 * time.Minute)
		if l.status().Phase == v1alpha1.ShiftAwaitingApproval {
			l.command(l.now.String(), v1alpha1.ActionPromote, nil)
		}
	}
	l.t.Fatalf("step %d was never reached: %s", step, l.status().Waiting)
}

func (l *lab) edit(change func(*v1alpha1.TrafficShiftSpec)) {
	l.in.Object.Generation++
	change(&l.in.Object.Spec)
}

// TestWholeShift is the documented shift from end to end.
func TestWholeShift(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.after(0)
	l.at(v1alpha1.ShiftShadowing, 0, "0")
	require.EqualValues(t, "5", l.status().ShadowPercent)
	require.Equal(t, []v1alpha1.ShiftMethod{"GET", "HEAD"}, l.status().ShadowMethods)
	require.EqualValues(t, 12, l.status().SourceInstances)
	l.after(29*time.Minute + 59*time.Second)
	l.at(v1alpha1.ShiftShadowing, 0, "0")
	require.Equal(t, "step 1 holds until 2026-11-23T09:30:00Z", l.status().Waiting)
	l.after(time.Second)
	l.at(v1alpha1.ShiftShifting, 1, "0.1")
	require.Empty(t, l.status().ShadowPercent)
	l.after(10 * time.Minute)
	l.at(v1alpha1.ShiftShifting, 2, "1")
	l.after(10 * time.Minute)
	l.after(30 * time.Minute)
	l.at(v1alpha1.ShiftShifting, 4, "50")
	l.after(2 * time.Minute)
	l.at(v1alpha1.ShiftAwaitingApproval, 4, "50")
	require.Equal(t, "step 5 needs an approval: causeway shift promote web/php-web", l.status().Waiting)
	step := int32(4)
	l.command("1", v1alpha1.ActionPromote, &step)
	l.at(v1alpha1.ShiftSoaking, 5, "100")
	out := l.after(24 * time.Hour)
	require.True(t, out.Home)
	require.False(t, out.Release, "not before Completed is stored")
	l.at(v1alpha1.ShiftCompleted, 5, "100")
	l.in.TargetIsHome = true
	require.True(t, l.after(time.Second).Release)

	var events []v1alpha1.ShiftEvent
	for _, n := range l.said {
		events = append(events, n.Event)
	}
	step1 := v1alpha1.EventStep
	require.Equal(t, []v1alpha1.ShiftEvent{
		step1, step1, step1, step1, step1, v1alpha1.EventAwaitingApproval, v1alpha1.EventCommand, step1, v1alpha1.EventCompleted,
	}, events)
	require.Equal(t, v1alpha1.ShiftHistory{
		Time: l.status().History[1].Time, Event: step1, From: "50", To: "100", Step: 5, Actor: actorSteps, Reason: "step 6 of 6 begins",
	}, l.status().History[1])
	require.Equal(t, "promote: INC-7", l.status().History[2].Reason)
}

func TestWaiting(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		step   int32
		change func(*lab)
		phase  v1alpha1.ShiftPhase
		reason string
		want   string
	}{
		"capacity": {2, func(l *lab) {
			l.in.Room = func(p v1alpha1.Percent) Room {
				return Room{Reason: "needs 9 ready pods for " + string(p) + " %, has 4"}
			}
		}, v1alpha1.ShiftShifting, reasonCapacity, "step 4 needs room: needs 9 ready pods for 10 %, has 4"},
		"too little traffic": {
			2, func(l *lab) { l.in.Verdict = Verdict{Hold, "minRequests", "pods answered 12 of the 500 requests"} },
			v1alpha1.ShiftShifting, reasonGuardHolds, "the guard: pods answered 12 of the 500 requests",
		},
		"no verdict":   {2, func(l *lab) { l.in.Verdict = Verdict{} }, v1alpha1.ShiftShifting, reasonGuardHolds, "the guard: there is no verdict yet"},
		"a new leader": {2, func(l *lab) { l.in.Seen = time.Minute }, v1alpha1.ShiftShifting, reasonObserving, "the leader has not seen a whole window of 2m0s yet"},
		"failed over": {
			2, func(l *lab) {
				l.in.FailedOver, l.in.FailedOverReason = true, "the pods of port 80 have no usable endpoint"
			},
			v1alpha1.ShiftShifting, reasonFailedOver, "the pods of port 80 have no usable endpoint",
		},
		"failed over, and all that follows from it": {
			2, func(l *lab) {
				l.in.FailedOver, l.in.FailedOverReason = true, "the instances have no usable endpoint on port 80: the pods answer for them"
				l.in.Verdict = Verdict{Hold, "standIn", "221 requests left out: pods stood in for instances; pods stand in for instances now, which is no comparison"}
				l.in.Room = func(v1alpha1.Percent) Room { return Room{Reason: "needs 2 instances in service for the way back"} }
			},
			v1alpha1.ShiftShifting, reasonFailedOver, "the instances have no usable endpoint on port 80: the pods answer for them; the guard; step 4 needs room",
		},
		"a long story beside a hold": {
			2, func(l *lab) {
				l.in.FailedOver, l.in.FailedOverReason = false, ""
				l.in.Seen = time.Minute
				l.in.Verdict = Verdict{Hold, "statusCodes", strings.Repeat("404 is 3 % of the answers of pods, ", 20)}
				l.in.Room = func(v1alpha1.Percent) Room { return Room{Reason: strings.Repeat("needs 9 ready pods, ", 20)} }
			},
			v1alpha1.ShiftShifting, reasonGuardHolds,
			"the guard: " + strings.Repeat("404 is 3 % of the answers of pods, ", 20) + "; the leader has not seen a whole window of 2m0s yet; step 4 needs room",
		},
		"frozen": {
			2, func(l *lab) { l.in.Frozen, l.in.FrozenBy = true, "bob (INC-8)" }, v1alpha1.ShiftPaused, reasonFrozen,
			"all shifts are frozen by bob (INC-8): `causeway unfreeze` lets it go on",
		},
		"paused": {2, func(l *lab) { l.edit(func(s *v1alpha1.TrafficShiftSpec) { s.Paused = true }) }, v1alpha1.ShiftPaused, reasonPaused, "spec.paused holds it"},
		"not accepted": {
			2, func(l *lab) { l.in.Accepted, l.in.Problem = false, "TrafficShift web/old is older" },
			v1alpha1.ShiftShifting, reasonNotAccepted, "it is not accepted: TrafficShift web/old is older",
		},
		"the last step": {
			3, func(l *lab) { l.edit(func(s *v1alpha1.TrafficShiftSpec) { s.Steps = s.Steps[:4] }) },
			v1alpha1.ShiftShifting, reasonLastStep, "nothing: the last step has begun, and the shift stays at 10 %",
		},
		"HoldStep": {2, func(l *lab) {
			l.in.Object.Spec.OnFailure = v1alpha1.HoldStep
			l.in.Verdict = Verdict{Fail, "successRate", "97 % of 99.9 %"}
		}, v1alpha1.ShiftShifting, ReasonGuardFailed, "the guard fails and onFailure is HoldStep: 97 % of 99.9 %"},
		"a source without endpoints is nothing to go back to": {2, func(l *lab) {
			l.in.FailedOver, l.in.FailedOverReason = true, "the instances have no usable endpoint on port 80: the pods answer for them"
			l.in.SourceGone = "the instances have no usable endpoint"
			l.in.Verdict = Verdict{Fail, "successRate", "97 % of 99.9 %"}
		}, v1alpha1.ShiftShifting, ReasonGuardFailed, "the guard fails, but there is nothing to go back to: the instances have no usable endpoint; " +
			"the guard says: 97 % of 99.9 %; the instances have no usable endpoint on port 80: the pods answer for them"},
		"nor is it a step down": {2, func(l *lab) {
			l.in.Object.Spec.OnFailure, l.in.SourceGone = v1alpha1.PreviousStep, "the instances have no usable endpoint"
			l.in.Verdict = Verdict{Fail, "successRate", "97 % of 99.9 %"}
		}, v1alpha1.ShiftShifting, ReasonGuardFailed, "the guard fails, but there is nothing to go back to: the instances have no usable endpoint; " +
			"the guard says: 97 % of 99.9 %"},
		"not read yet": {
			2, func(l *lab) { l.in.Unread = "the instances of the Service are not read yet" },
			v1alpha1.ShiftShifting, reasonObserving, "the instances of the Service are not read yet",
		},
		"the way back is locked": {
			2, func(l *lab) {
				l.in.Locked = true
				l.in.Verdict = Verdict{Fail, "successRate", "97 % of 99.9 %"}
			}, v1alpha1.ShiftPaused, ReasonGuardFailed,
			"the guard fails, but the way back is held back because all configuration is frozen: 97 % of 99.9 %; " +
				"all configuration is frozen: `causeway unfreeze` lets it go on",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.reach(c.step)
			percent := l.status().Percent
			c.change(l)
			l.after(time.Hour)
			l.at(c.phase, c.step, percent)
			require.Equal(t, c.want, l.status().Waiting)
			progressing := meta.FindStatusCondition(l.status().Conditions, v1alpha1.ConditionProgressing)
			require.Equal(t, c.reason, progressing.Reason)
			said := len(l.said)
			l.after(time.Second)
			require.Len(t, l.said, said, "it is said once")
		})
	}
}

func TestWaysBack(t *testing.T) {
	t.Parallel()
	failed := Verdict{Fail, "successRate", "97 % of 99.9 %"}

	l := newLab(t)
	l.reach(4)
	l.in.Verdict, l.in.Unsettled = failed, "envoy web-1 has not acknowledged it"
	l.after(time.Second)
	l.at(v1alpha1.ShiftRollingBack, -1, "0")
	l.after(time.Second)
	l.at(v1alpha1.ShiftRollingBack, -1, "0")
	l.in.Unsettled = ""
	l.after(time.Second)
	l.at(v1alpha1.ShiftRolledBack, -1, "0")
	require.Equal(t, "97 % of 99.9 %", l.status().History[0].Reason)
	l.in.Verdict = Verdict{Result: Pass}
	l.after(24 * time.Hour)
	l.at(v1alpha1.ShiftRolledBack, -1, "0")
	l.edit(func(s *v1alpha1.TrafficShiftSpec) { s.OnFailure = v1alpha1.PreviousStep })
	l.after(time.Second)
	l.at(v1alpha1.ShiftRolledBack, -1, "0")
	l.command("again", v1alpha1.ActionPromote, nil)
	l.at(v1alpha1.ShiftShadowing, 0, "0")

	l.reach(4)
	l.in.Verdict = failed
	l.after(time.Second)
	l.at(v1alpha1.ShiftShifting, 3, "10")
	l.after(time.Minute)
	l.at(v1alpha1.ShiftShifting, 3, "10")
	l.after(time.Minute)
	l.at(v1alpha1.ShiftShifting, 2, "1")
	l.after(2 * time.Minute)
	l.after(2 * time.Minute)
	l.at(v1alpha1.ShiftRollingBack, -1, "0")
	l.edit(func(s *v1alpha1.TrafficShiftSpec) { s.Guard.MinRequests = 100 })
	l.in.Verdict = Verdict{Result: Pass}
	l.after(time.Second)
	l.at(v1alpha1.ShiftShadowing, 0, "0")
}

// TestGuardFailsAtAnEdit has the guard fail while requests are copied, at the very moment at which
// something else ends the copies.
func TestGuardFailsAtAnEdit(t *testing.T) {
	t.Parallel()
	more := func(s *v1alpha1.TrafficShiftSpec) {
		s.Steps[0].Shadow = &v1alpha1.ShiftShadow{Percent: "6", Methods: s.Steps[0].Shadow.Methods}
	}
	for name, c := range map[string]struct {
		onFailure v1alpha1.ShiftFailureAction
		command   v1alpha1.ShiftAction
		change    func(*v1alpha1.TrafficShiftSpec)
		phase     v1alpha1.ShiftPhase
		back      bool
		by, why   string
	}{
		"RollBack":     {v1alpha1.RollBack, "", more, v1alpha1.ShiftRollingBack, true, actorGuard, "97 % of 99.9 %"},
		"PreviousStep": {v1alpha1.PreviousStep, "", more, v1alpha1.ShiftRollingBack, true, actorGuard, "97 % of 99.9 %"},
		"HoldStep":     {v1alpha1.HoldStep, "", more, v1alpha1.ShiftPending, false, actorSteps, "step 1 of 6 begins: 5 % of GET and HEAD requests are copied"},
		"a person is faster": {
			v1alpha1.RollBack, v1alpha1.ActionRollback, more, v1alpha1.ShiftRollingBack, true, "ada", "rollback: INC-7",
		},
		"another target": {
			v1alpha1.RollBack, "", func(s *v1alpha1.TrafficShiftSpec) { s.Direction = v1alpha1.PodsToInstances },
			v1alpha1.ShiftPending, false, actorSpec, "the direction was turned round",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.in.Object.Spec.OnFailure = c.onFailure
			l.reach(0)
			l.in.Verdict = Verdict{Fail, "successRate", "97 % of 99.9 %"}
			l.edit(c.change)
			if c.command != "" {
				l.command("1", c.command, nil)
			} else {
				l.after(time.Second)
			}
			l.at(c.phase, -1, "0")
			require.Equal(t, c.back, l.status().RolledBack)
			require.Empty(t, l.status().ShadowPercent)
			newest := l.status().History[0]
			require.Equal(t, []string{c.by, c.why}, []string{newest.Actor, newest.Reason})
			l.after(time.Hour)
			require.Equal(t, c.back, l.status().RolledBack, "it is decided once")
			require.Equal(t, newest, l.status().History[0])
		})
	}
}

func TestCommandsAreRefused(t *testing.T) {
	t.Parallel()
	early := int32(1)
	for name, c := range map[string]struct {
		action v1alpha1.ShiftAction
		step   *int32
		change func(*lab)
		want   string
	}{
		"late":      {v1alpha1.ActionPromote, &early, func(*lab) {}, "promote refused: it is about step 2, but now it is step 3: look again and send it anew"},
		"HoldStep":  {v1alpha1.ActionPromote, nil, func(l *lab) { l.in.Object.Spec.OnFailure, l.in.Verdict = v1alpha1.HoldStep, Verdict{Fail, "", "97 %"} }, "promote refused: the guard fails: 97 %"},
		"frozen":    {v1alpha1.ActionPromote, nil, func(l *lab) { l.in.Frozen = true }, "promote refused: all shifts are frozen: `causeway unfreeze` first"},
		"paused":    {v1alpha1.ActionPromote, nil, func(l *lab) { l.in.Object.Spec.Paused = true }, "promote refused: spec.paused holds the shift: set it to false first"},
		"resume":    {v1alpha1.ActionResume, nil, func(*lab) {}, "resume refused: it is not paused"},
		"pinned":    {v1alpha1.ActionRollback, nil, func(l *lab) { l.in.Object.Spec.Pin = "1" }, "rollback refused: spec.pin holds the share at 1 %: set spec.pin to \"0\", or remove it and send the command again"},
		"no action": {"dance", nil, func(*lab) {}, "dance refused: there is no action \"dance\": it is one of promote, pause, resume and rollback"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.reach(2)
			c.change(l)
			out := l.command("1", c.action, c.step)
			l.at(l.status().Phase, 2, "1")
			require.Equal(t, c.want, l.status().History[0].Reason)
			require.Equal(t, "1", out.Status.Command)
			require.True(t, out.Notices[0].Warning)
			require.Empty(t, l.after(time.Second).Notices)
		})
	}
}

// TestPromotionMeetsAnEdit has a promotion and an edit come in the same instant.
func TestPromotionMeetsAnEdit(t *testing.T) {
	t.Parallel()
	third, fourth := int32(2), int32(3)
	insert := func(s *v1alpha1.TrafficShiftSpec) {
		s.Steps = slices.Insert(s.Steps, 2, v1alpha1.ShiftStep{Percent: "0.5", Approval: v1alpha1.ApprovalRequired})
	}
	unpin := func(s *v1alpha1.TrafficShiftSpec) { s.Pin = "" }
	for name, c := range map[string]struct {
		pin    v1alpha1.Percent
		step   *int32
		change func(*v1alpha1.TrafficShiftSpec)
		at     int32
		want   string
	}{
		"the step has moved":                {"", nil, insert, 3, "promote refused: the spec was edited at the same time, and step 4 begins anew: look again and send it again"},
		"it bears the number that was said": {"", &fourth, insert, 3, "promote refused: the spec was edited at the same time, and step 4 begins anew: look again and send it again"},
		"it bears another number":           {"", &third, insert, 3, "promote refused: it is about step 3, but now it is step 4: look again and send it anew"},
		"the pin is gone":                   {"80", &third, unpin, 2, "promote refused: the spec was edited at the same time, and step 3 begins anew: look again and send it again"},
		"the step is the same":              {"", nil, func(s *v1alpha1.TrafficShiftSpec) { s.Guard.MinRequests++ }, 2, "promote: INC-7"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.reach(2)
			l.edit(func(s *v1alpha1.TrafficShiftSpec) { s.Pin = c.pin })
			l.after(time.Second)
			l.edit(c.change)
			l.command("1", v1alpha1.ActionPromote, c.step)
			l.at(v1alpha1.ShiftShifting, c.at, "1")
			require.Contains(t, l.status().History[0].Reason, c.want)
		})
	}
}

func TestPinAndWhatFollows(t *testing.T) {
	t.Parallel()
	pin := func(p v1alpha1.Percent) func(*v1alpha1.TrafficShiftSpec) {
		return func(s *v1alpha1.TrafficShiftSpec) { s.Pin = p }
	}
	l := newLab(t)
	l.reach(3)
	l.edit(pin("80"))
	l.in.Verdict = Verdict{Result: Fail}
	l.after(time.Second)
	l.at(v1alpha1.ShiftPaused, 3, "80")
	l.in.Verdict = Verdict{Result: Pass}
	l.edit(pin(""))
	l.after(time.Second)
	l.at(v1alpha1.ShiftShifting, 3, "10")
	l.edit(pin("5"))
	l.after(time.Second)
	l.edit(pin(""))
	l.after(time.Second)
	l.at(v1alpha1.ShiftShifting, 2, "5")
	l.after(9 * time.Minute)
	l.at(v1alpha1.ShiftShifting, 2, "5")
	l.after(2 * time.Minute)
	l.at(v1alpha1.ShiftShifting, 3, "10")
}

func TestClockJumps(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.reach(3)
	look := func(d time.Duration) {
		l.in.Analysis = Analyze(&v1alpha1.ShiftGuard{}, &Observation{}, l.in.Verdict, l.now.Add(d), l.status().Analysis)
		l.after(d)
	}
	look(time.Second)
	look(-3 * time.Hour)
	require.Equal(t, l.now, l.status().StepStarted.UTC(), "the hold begins anew")
	look(12 * time.Hour)
	l.at(v1alpha1.ShiftShifting, 3, "10")
	for range 11 {
		look(10 * time.Second)
		l.at(v1alpha1.ShiftShifting, 3, "10")
	}
	look(10 * time.Second)
	l.at(v1alpha1.ShiftShifting, 4, "50")
}

func TestDeletion(t *testing.T) {
	t.Parallel()
	completed := func(l *lab) {
		l.reach(5)
		l.after(24 * time.Hour)
		l.in.TargetIsHome = true
		l.after(time.Second)
		l.at(v1alpha1.ShiftCompleted, 5, "100")
	}
	pin := func(p v1alpha1.Percent) func(*lab) {
		return func(l *lab) {
			l.edit(func(s *v1alpha1.TrafficShiftSpec) { s.Pin = p })
			require.Equal(l.t, p == "100", l.after(time.Second).Release, "what goes with its pin stays until it can say so")
		}
	}
	for name, c := range map[string]struct {
		before []func(*lab)
		// percent of what is released, and what is said of how it got there, "" for nothing.
		percent v1alpha1.Percent
		said    string
	}{
		"not begun":  {nil, "0", ""},
		"unfinished": {[]func(*lab){func(l *lab) { l.reach(3) }}, "0", "the TrafficShift was deleted before it was complete: all traffic returns to the instances"},
		"copied":     {[]func(*lab){func(l *lab) { l.reach(0) }}, "0", "the TrafficShift was deleted before it was complete: all traffic returns to the instances"},
		"terminating": {
			[]func(*lab){func(l *lab) { l.reach(3) }, func(l *lab) { l.in.NamespaceTerminating = true }}, "10", "",
		},
		"refused: it is at home": {[]func(*lab){func(l *lab) { l.in.Accepted, l.in.TargetIsHome = false, true; l.after(time.Second) }}, "0", ""},
		"the home is recorded, the status was lost": {
			[]func(*lab){func(l *lab) { l.reach(5) }, func(l *lab) { l.in.TargetIsHome = true }}, "100", "",
		},
		"the home was changed": {
			[]func(*lab){func(l *lab) { l.reach(3) }, func(l *lab) { l.in.TargetIsHome = true }},
			"100",
			"the TrafficShift was deleted: all traffic returns to the pods",
		},
		"completed":          {[]func(*lab){completed}, "100", ""},
		"completed and full": {[]func(*lab){completed, pin("100")}, "100", ""},
		"completed and pinned": {
			[]func(*lab){completed, pin("7")}, "100", "the TrafficShift was deleted: all traffic returns to the pods",
		},
		"completed, pinned and terminating": {
			[]func(*lab){completed, pin("7"), func(l *lab) { l.in.NamespaceTerminating = true }}, "7", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			for _, do := range c.before {
				do(l)
			}
			l.in.Deleting = true
			if c.said != "" {
				percent := l.status().Percent
				l.in.Locked = true
				out := l.after(time.Second)
				require.False(t, out.Release)
				require.Equal(t, percent, l.status().Percent)
				require.Equal(t, "the TrafficShift is being deleted, but the traffic cannot return because all configuration is frozen", l.status().Waiting)
				l.in.Locked = false
				out = l.after(time.Second)
				require.False(t, out.Release)
				require.Equal(t, c.said, out.Notices[0].Reason)
				require.True(t, out.Notices[0].Warning)
			}
			out := l.after(time.Second)
			require.True(t, out.Release)
			require.Equal(t, c.percent, l.status().Percent)
			require.Empty(t, out.Notices)
		})
	}
}
