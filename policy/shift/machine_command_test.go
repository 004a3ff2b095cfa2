package shift

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// A command to a shift that is over is refused where it stands: it must not be carried out
// once an edit lets the shift begin again.
func TestCommandsAfterTheEnd(t *testing.T) {
	t.Parallel()
	for _, action := range []v1alpha1.ShiftAction{v1alpha1.ActionRollback, v1alpha1.ActionPromote, v1alpha1.ActionPause, v1alpha1.ActionResume} {
		t.Run(string(action), func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.reach(5)
			l.after(24 * time.Hour)
			l.in.TargetIsHome = true
			l.after(time.Second)
			l.at(v1alpha1.ShiftCompleted, 5, "100")
			l.command("late", action, nil)
			l.at(v1alpha1.ShiftCompleted, 5, "100")
			require.Equal(t, "late", l.status().Command)
			require.Equal(t, v1alpha1.CommandRefused, l.status().CommandResult.Result)
			require.Equal(t, "the shift is complete, and the pods are the home of the Service: to go back, set spec.direction to PodsToInstances",
				l.status().CommandResult.Message)
			require.Equal(t, string(action)+" refused: "+l.status().CommandResult.Message, l.status().History[0].Reason)
			l.edit(func(s *v1alpha1.TrafficShiftSpec) { s.Direction = v1alpha1.PodsToInstances })
			l.after(time.Second)
			require.False(t, l.status().RolledBack)
			require.False(t, l.status().Paused)
			require.Nil(t, l.status().Approved)
		})
	}
	t.Run("deleted", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		l.reach(2)
		l.in.Deleting = true
		l.command("late", v1alpha1.ActionPromote, nil)
		require.Equal(t, "the TrafficShift is being deleted", l.status().CommandResult.Message)
	})
}

// A command counts for a while: what nobody was there to carry out is refused, not done later.
func TestCommandsExpire(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		age  time.Duration
		none bool
		want string
	}{
		"old":     {age: CommandLife + time.Second, want: "it was given at 2026-11-23T"},
		"to come": {age: -CommandLife - time.Second, want: "it says that it was given at 2026-11-23T"},
		"no time": {none: true, want: "it does not say when it was given: send it with `causeway shift`"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.reach(2)
			given := v1alpha1.ShiftCommand{ID: "1", Action: v1alpha1.ActionRollback, Actor: "ada"}
			if !c.none {
				given.Time = metav1.NewTime(l.now.Add(-c.age))
			}
			text, err := json.Marshal(given)
			require.NoError(t, err)
			l.in.Object.Annotations = map[string]string{v1alpha1.CommandAnnotation: string(text)}
			l.after(0)
			l.at(v1alpha1.ShiftShifting, 2, "1")
			require.Equal(t, v1alpha1.CommandRefused, l.status().CommandResult.Result)
			require.Contains(t, l.status().CommandResult.Message, c.want)
			require.Empty(t, l.after(time.Second).Notices, "it is answered once")
		})
	}
}

// A promotion that the guard does not let through says what it waits for, and an edit that makes
// it void says that.
func TestPromotionWaits(t *testing.T) {
	t.Parallel()
	waiting := func(t *testing.T) *lab {
		t.Helper()
		l := newLab(t)
		l.reach(4)
		l.after(2 * time.Minute)
		l.at(v1alpha1.ShiftAwaitingApproval, 4, "50")
		l.in.Verdict = Verdict{Hold, "minRequests", "pods answered 12 of the 500 requests that a verdict needs"}
		out := l.command("1", v1alpha1.ActionPromote, nil)
		l.at(v1alpha1.ShiftShifting, 4, "50")
		const why = "the guard: pods answered 12 of the 500 requests that a verdict needs"
		require.Equal(t, v1alpha1.CommandWaits, l.status().CommandResult.Result)
		require.Equal(t, why, l.status().CommandResult.Message)
		require.Equal(t, "promote: INC-7; it waits for this: "+why, l.status().History[0].Reason)
		require.Equal(t, l.status().History[0].Reason, out.Notices[0].Reason)
		return l
	}
	t.Run("until the guard is content", func(t *testing.T) {
		t.Parallel()
		l := waiting(t)
		l.in.Verdict = Verdict{Result: Pass}
		l.after(time.Second)
		l.at(v1alpha1.ShiftSoaking, 5, "100")
		require.Equal(t, v1alpha1.CommandDone, l.status().CommandResult.Result)
	})
	t.Run("until an edit", func(t *testing.T) {
		t.Parallel()
		l := waiting(t)
		l.edit(func(s *v1alpha1.TrafficShiftSpec) { s.Guard.MinRequests++ })
		out := l.after(time.Second)
		require.Equal(t, v1alpha1.CommandVoid, l.status().CommandResult.Result)
		const void = "the promotion of step 5 is void: the spec was edited; look again, and promote it anew: causeway shift promote web/php-web"
		require.Equal(t, void, l.status().History[0].Reason)
		require.Equal(t, void, out.Notices[0].Reason)
		require.True(t, out.Notices[0].Warning)
		l.in.Verdict = Verdict{Result: Pass}
		l.after(time.Hour)
		l.at(v1alpha1.ShiftAwaitingApproval, 4, "50")
	})
}
